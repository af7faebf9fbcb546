use std::{
    convert::Infallible,
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, middleware::from_fn_with_state};
use proptest::prelude::*;
use rstest::rstest;
use tonic::{codec::CompressionEncoding, codegen::BoxStream};
use tonic_web::GrpcWebLayer;
use tower::ServiceExt as _;

use super::*;
use crate::grpc::{
    encoded::SubscribeResponse,
    protocol,
    server::notification_service_server::{NotificationService, NotificationServiceServer},
};

/// The most bytes of a message of the stub.
const MOST: usize = 200;
const SEND: &str = "/doorbell.v1.NotificationService/SendInApp";
const COUNT: &str = "/doorbell.v1.NotificationService/GetUnreadCount";
const SUBSCRIBE: &str = "/doorbell.v1.NotificationService/Subscribe";
const UPDATE: &str = "/doorbell.v1.NotificationService/UpdateInApp";

/// Answers a send with what was sent, and others in ways of their own.
struct Stub;

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl NotificationService for Stub {
    async fn send_in_app(
        &self,
        request: tonic::Request<proto::SendInAppRequest>,
    ) -> Answer<proto::SendInAppResponse> {
        let request = request.into_inner();
        if request.title.is_empty() {
            let violation = FieldViolation::new("title", "is required");
            return Err(status::invalid(vec![violation]));
        }
        Ok(tonic::Response::new(proto::SendInAppResponse {
            notification: Some(proto::Notification {
                title: request.title,
                data: request.data,
                sequence: u64::MAX,
                ..Default::default()
            }),
            ..Default::default()
        }))
    }

    async fn get_unread_count(
        &self,
        _: tonic::Request<proto::GetUnreadCountRequest>,
    ) -> Answer<proto::GetUnreadCountResponse> {
        std::future::pending().await
    }

    async fn subscribe(
        &self,
        request: tonic::Request<proto::SubscribeRequest>,
    ) -> Answer<BoxStream<SubscribeResponse>> {
        let Some(after) = request.into_inner().after_revision else {
            return Err(status::exhausted(ErrorReason::TooManyStreams, "too many"));
        };
        let message = |position| {
            SubscribeResponse::new(&proto::SubscribeResponse {
                position,
                ..Default::default()
            })
        };
        let end = Err(status::of_end(&crate::inbox::feed::End::Draining));
        let messages = [Ok(message(after)), Ok(message(after + 1)), end];
        Ok(tonic::Response::new(Box::pin(stream::iter(messages))))
    }
}

/// The most lists, objects and commas of a message of the stub.
const PARTS: usize = 1000;

fn schema() -> Schema {
    Schema::new(MOST, 64, PARTS).unwrap()
}

fn service() -> Router {
    let server = NotificationServiceServer::new(Stub)
        .max_decoding_message_size(MOST)
        .accept_compressed(CompressionEncoding::Gzip);
    let schema = Arc::new(schema());
    tonic::service::Routes::new(server)
        .into_axum_router()
        .layer(from_fn_with_state(schema.clone(), protocol::keep))
        .layer((Layer::new(schema), GrpcWebLayer::new()))
}

fn request(path: &str, headers: &[(&str, &str)], body: Body) -> Request {
    let mut request = http::Request::post(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// What came back: the status of HTTP, the headers and the body.
struct Answered {
    http: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Fails unless it is an error as Connect has it, with its reason readable.
    fn assert_failed(&self, http: u16, code: &str, reason: &str) -> String {
        let json = self.json();
        assert_eq!(
            (self.http, json["code"].as_str()),
            (http, Some(code)),
            "{json}"
        );
        assert_eq!(self.headers["content-type"], "application/json");
        assert_eq!(reason_of(&json), reason, "{json}");
        json["message"].as_str().unwrap().to_owned()
    }
}

/// The reason of an error, where a person reads it.
fn reason_of(error: &Value) -> &Value {
    let mut details = error["details"].as_array().unwrap().iter();
    let info = details.find(|detail| detail["type"] == "google.rpc.ErrorInfo");
    &info.unwrap_or_else(|| panic!("no ErrorInfo: {error}"))["debug"]["reason"]
}

async fn ask(request: Request) -> Answered {
    let (head, body) = service().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    assert!(body.trailers().is_none());
    Answered {
        http: head.status.as_u16(),
        headers: head.headers,
        body: body.to_bytes(),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const PROTO: (&str, &str) = ("content-type", "application/proto");

async fn post(path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answered {
    ask(request(path, headers, Body::from(body.into()))).await
}

async fn post_json(path: &str, body: &str) -> Answered {
    post(path, &[JSON], body.to_owned()).await
}

#[tokio::test]
async fn json_goes_in_and_comes_out() {
    let data = r#""data":{"b":false,"half":-0.5,"list":[1,"2",null],"n":3}"#;
    for name in ["application/json", "Application/JSON; charset=utf-8"] {
        let sent = format!(r#"{{"title":"Grüß Gott",{data}}}"#);
        let answer = post(SEND, &[("content-type", name)], sent).await;
        assert_eq!(answer.http, 200, "{}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/json");
        // 3 is not 3.0.
        assert!(answer.text().contains(data), "{}", answer.text());
        let json = answer.json();
        assert_eq!(json["notification"]["title"], "Grüß Gott");
        assert_eq!(json["notification"]["sequence"], "18446744073709551615");
        let mut names = answer.headers.keys();
        assert!(!names.any(|name| name.as_str().starts_with("grpc-")));
    }
}

fn titled(title: &str) -> Vec<u8> {
    let request = proto::SendInAppRequest {
        title: title.into(),
        ..Default::default()
    };
    request.encode_to_vec()
}

#[tokio::test]
async fn protobuf_goes_in_and_comes_out() {
    let answer = post(SEND, &[PROTO], titled("Hello")).await;
    assert_eq!(answer.http, 200);
    assert_eq!(answer.headers["content-type"], "application/proto");
    let message = proto::SendInAppResponse::decode(answer.body).unwrap();
    assert_eq!(message.notification.unwrap().title, "Hello");
    // No bytes are a message without fields; no text is no JSON.
    let answer = post(SEND, &[PROTO], "").await;
    answer.assert_failed(400, "invalid_argument", "INVALID_REQUEST");
    let answer = post(SEND, &[PROTO], vec![0xff; 9]).await;
    answer.assert_failed(400, "invalid_argument", "MALFORMED_REQUEST");
}

#[tokio::test]
async fn an_error_says_what_a_person_and_a_client_need() {
    let answer = post_json(SEND, "{}").await;
    assert_eq!(answer.http, 400);
    let text = answer.text();
    assert!(
        text.starts_with(r#"{"code":"invalid_argument","message":"title: is required","#),
        "{text}"
    );
    let json = answer.json();
    let details = json["details"].as_array().unwrap();
    let [info, bad] = &details[..] else {
        panic!("{json}")
    };
    assert_eq!(
        info["debug"],
        json!({"domain": "doorbell.v1", "reason": "INVALID_REQUEST"})
    );
    assert_eq!(bad["type"], "google.rpc.BadRequest");
    assert_eq!(
        bad["debug"],
        json!({"fieldViolations": [{"field": "title", "description": "is required"}]})
    );
    // Clients read the value.
    let value = BASE64_STANDARD_NO_PAD
        .decode(bad["value"].as_str().unwrap())
        .unwrap();
    let bad = tonic_types::pb::BadRequest::decode(&*value).unwrap();
    assert_eq!(bad.field_violations[0].field, "title");
}

#[rstest]
#[case::no_json("{\"title\": ", None, "line 1 column 10")]
#[case::text("hello", None, "line 1 column 1")]
#[case::more_behind(r#"{"title":"x"} {}"#, None, "trailing characters at line 1 column 15")]
#[case::not_utf8("\"\\ud800\"", None, "line 1")]
#[case::empty(" \n", None, "{}")]
#[case::a_list("[]", None, "expected a map")]
#[case::unknown(
    r#"{"titel":"x"}"#,
    Some("titel"),
    "unrecognized field name 'titel' at line 1 column 8"
)]
#[case::unknown_within(
    r#"{"actions":[{},{"lable":"x"}]}"#,
    Some("actions[1].lable"),
    "line 1 column 23"
)]
#[case::another_type(
    r#"{"title":7}"#,
    Some("title"),
    "invalid type: integer `7`, expected a string"
)]
#[case::of_a_list(r#"{"actions":{}}"#, Some("actions"), "expected a list")]
#[case::of_an_item(
    r#"{"actions":[{"isPrimary":"yes"}]}"#,
    Some("actions[0].isPrimary"),
    "expected a boolean"
)]
#[case::no_time(
    r#"{"deliverTime":"soon"}"#,
    Some("deliverTime"),
    "invalid rfc3339 timestamp"
)]
#[case::no_duration(r#"{"followUp":{"after":"1h"}}"#, Some("followUp.after"), "line 1")]
#[case::no_choice(
    r#"{"followUp":{"unless":"NEVER"}}"#,
    Some("followUp.unless"),
    "unrecognized enum value 'NEVER'"
)]
#[case::given_twice(
    r#"{"body":"a","body":"b"}"#,
    None,
    "multiple fields provided for oneof '_body'"
)]
#[tokio::test]
async fn what_is_wrong_with_json_is_named(
    #[case] body: &str,
    #[case] field: Option<&str>,
    #[case] text: &str,
) {
    let answer = post_json(SEND, body).await;
    let reason = match field {
        None => "MALFORMED_REQUEST",
        Some(_) => "INVALID_REQUEST",
    };
    let message = answer.assert_failed(400, "invalid_argument", reason);
    assert!(message.contains(text), "{message}");
    let named = &answer.json()["details"][1]["debug"]["fieldViolations"][0]["field"];
    assert_eq!(named.as_str(), field, "{message}");
}

#[tokio::test]
async fn what_an_error_repeats_of_a_request_is_bounded() {
    let schema = Schema::new(1 << 20, 64, PARTS).unwrap();
    for wrong in [
        format!(r#"{{"{}":1}}"#, "ä".repeat(10_000)),
        format!(r#"{{"deliverTime":"{}"}}"#, "2".repeat(10_000)),
        format!(r#"{{"data":{{"{}":}}}}"#, "x".repeat(10_000)),
    ] {
        let status = schema.encoded(SEND, wrong.as_bytes()).unwrap_err();
        assert!(status.message().len() < 3 * status::SHOWN_BYTES, "{status}");
    }
}

#[test]
fn what_is_too_deep_is_no_json() {
    let schema = Schema::new(1 << 20, 64, PARTS).unwrap();
    let of = |levels| {
        let (open, close) = (r#"{"a":"#.repeat(levels), "}".repeat(levels));
        schema.encoded(SEND, format!(r#"{{"data":{open}1{close}}}"#).as_bytes())
    };
    assert!(of(30).is_ok());
    let refused = of(150).unwrap_err();
    assert!(refused.message().contains("recursion limit"), "{refused}");
}

/// What means the most for its length is refused before it is read.
#[rstest]
#[case("0,")]
#[case("[],")]
#[case("{},")]
fn parts_are_counted(#[case] part: &str) {
    let schema = Schema::new(1 << 20, 64, PARTS).unwrap();
    let each = part.bytes().filter(|byte| b"[{,".contains(byte)).count();
    let of = |parts: usize| {
        let parts = part.repeat(parts / each);
        let json = format!(r#"{{"data":{{"a":[{}]}}}}"#, parts.trim_end_matches(','));
        schema.encoded(SEND, json.as_bytes())
    };
    assert!(of(PARTS - 3).is_ok());
    let refused = of(PARTS + each).unwrap_err();
    assert!(refused.message().contains("1000 lists"), "{refused}");
}

#[test]
fn what_a_text_has_is_no_part() {
    assert!(has_more_parts(br#"{"a":[1,"b"]}"#, 2));
    assert!(!has_more_parts(br#"{"a":[1,"b"]}"#, 3));
    assert!(!has_more_parts(br#"{"a,[":"\"{,\\"}"#, 1));
    assert!(has_more_parts(br#"{"a":"\\",}"#, 1));
}

#[tokio::test]
async fn names_are_those_of_the_proto_or_of_its_json() {
    for name in ["update_mask", "updateMask"] {
        let json = format!(r#"{{"{name}":"title,entityId","content":null}}"#);
        let encoded = schema().encoded(UPDATE, json.as_bytes()).unwrap();
        let request = proto::UpdateInAppRequest::decode(&*encoded).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["title", "entity_id"]);
        assert_eq!(request.content, None);
    }
}

/// A body of so many bytes, which are a title alone.
fn of_bytes(bytes: usize) -> String {
    let title = "x".repeat(bytes - r#"{"title":""}"#.len());
    format!(r#"{{"title":"{title}"}}"#)
}

fn zipped(body: &[u8]) -> Vec<u8> {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zip.write_all(body).unwrap();
    zip.finish().unwrap()
}

#[tokio::test]
async fn a_body_is_bounded_at_n_and_n_plus_1() {
    const GZIP: (&str, &str) = ("content-encoding", "gzip");
    let too_large = |answer: &Answered| {
        answer.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
    };
    assert_eq!(post_json(SEND, &of_bytes(MOST)).await.http, 200);
    too_large(&post_json(SEND, &of_bytes(MOST + 1)).await);
    let at_the_limit = titled(&"x".repeat(MOST - 3));
    assert_eq!(at_the_limit.len(), MOST);
    assert_eq!(post(SEND, &[PROTO], at_the_limit).await.http, 200);
    too_large(&post(SEND, &[PROTO], vec![0; MOST + 1]).await);
    // Unpacked, too, however small it came.
    for (bytes, is_taken) in [(MOST, true), (MOST + 1, false)] {
        let answer = post(SEND, &[JSON, GZIP], zipped(of_bytes(bytes).as_bytes())).await;
        assert_eq!(answer.http == 200, is_taken, "{bytes}");
    }
    too_large(&post(SEND, &[PROTO, GZIP], zipped(&vec![0; 1 << 20])).await);
    let answer = post(SEND, &[JSON, GZIP], "{}").await;
    answer.assert_failed(400, "invalid_argument", "MALFORMED_REQUEST");
    // Nothing is not unpacked.
    let answer = post(SEND, &[PROTO, GZIP], "").await;
    answer.assert_failed(400, "invalid_argument", "INVALID_REQUEST");
}

/// A body that must not be read.
fn untouchable() -> Body {
    let frames =
        stream::poll_fn(|_| -> Poll<Option<Result<Bytes, Infallible>>> { panic!("it was read") });
    Body::from_stream(frames)
}

#[tokio::test]
async fn what_is_refused_without_its_body_is_refused_before_it_is_read() {
    let length = (UNASKED_BYTES + 1).to_string();
    for header in [("content-length", &*length), ("expect", "100-continue")] {
        let nothing = "/nothing.v1.Nothing/Nothing";
        let answer = ask(request(nothing, &[JSON, header], untouchable())).await;
        answer.assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
    }
    let headers = [JSON, ("content-length", &*length)];
    let answer = ask(request(SEND, &headers, untouchable())).await;
    answer.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
}

/// What nobody wants is taken off a client that is sending it, up to a limit.
#[tokio::test]
async fn what_is_left_of_a_body_is_thrown_away() {
    const PIECE: usize = 64 * 1024;
    for (pieces, most) in [(3, 3), (1000, UNASKED_BYTES / PIECE + 1)] {
        for (path, http) in [(SEND, 400), ("/nothing.v1.Nothing/Nothing", 404)] {
            let read = Arc::new(AtomicUsize::new(0));
            let counted = read.clone();
            let frames = stream::iter(0..pieces).map(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from_static(&[b' '; PIECE]))
            });
            let answer = ask(request(path, &[JSON], Body::from_stream(frames))).await;
            assert_eq!(answer.http, http);
            // One more was read where it was wanted.
            let read = read.load(Ordering::Relaxed);
            assert!((most..=most + 1).contains(&read), "{read} of {pieces}");
        }
    }
}

#[rstest]
#[case::no_version(&[], 200)]
#[case::this_version(&[("connect-protocol-version", "1")], 200)]
#[case::another_version(&[("connect-protocol-version", "2")], 400)]
#[case::a_timeout(&[("connect-timeout-ms", "5000")], 200)]
#[case::no_timeout(&[("connect-timeout-ms", "5s")], 400)]
#[case::identity(&[("content-encoding", "identity")], 200)]
#[case::no_encoding(&[("content-encoding", "br")], 501)]
#[case::of_grpc(&[("grpc-encoding", "br"), ("grpc-timeout", "0n")], 200)]
#[case::of_streams(&[("connect-content-encoding", "br")], 200)]
#[tokio::test]
async fn headers_are_read_as_connect_has_them(#[case] more: &[(&str, &str)], #[case] http: u16) {
    let headers = [&[JSON], more].concat();
    let answer = post(SEND, &headers, r#"{"title":"x"}"#).await;
    assert_eq!(answer.http, http);
    if http == 501 {
        let message = answer.assert_failed(501, "unimplemented", "UNKNOWN_METHOD");
        assert!(message.contains("gzip and identity"), "{message}");
    } else if http == 400 {
        let message = answer.assert_failed(400, "invalid_argument", "MALFORMED_REQUEST");
        assert!(message.starts_with(more[0].0), "{message}");
    }
}

#[rstest]
#[case("0", Some("0m"))]
#[case("1500", Some("1500m"))]
#[case("99999999", Some("99999999m"))]
#[case("100000000", Some("100000S"))]
#[case("9999999999", Some("9999999S"))]
#[case("10000000000", None)]
#[case("-1", None)]
#[case("1.5", None)]
#[case("", None)]
fn timeouts_are_grpcs(#[case] millis: &str, #[case] expected: Option<&str>) {
    let timeout = timeout(&HeaderValue::from_str(millis).unwrap());
    assert_eq!(
        timeout.as_ref().map(|text| text.to_str().unwrap()),
        expected
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_own_deadline() {
    let began = tokio::time::Instant::now();
    let answer = post(COUNT, &[JSON, ("connect-timeout-ms", "1500")], "{}").await;
    assert_eq!(began.elapsed().as_millis(), 1500);
    answer.assert_failed(504, "deadline_exceeded", "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn what_is_no_call_is_told_what_is() {
    for name in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
    ] {
        let answer = post(SEND, &[("content-type", name)], "{}").await;
        let message = answer.assert_failed(415, "invalid_argument", "MALFORMED_REQUEST");
        assert!(message.contains("application/json"), "{message}");
        let accepted = answer.headers["accept-post"].to_str().unwrap();
        assert!(accepted.starts_with("application/json, application/proto, application/grpc"));
    }
    for method in ["GET", "PUT", "DELETE"] {
        for headers in [&[][..], &[JSON]] {
            let mut request = request(SEND, headers, Body::empty());
            *request.method_mut() = method.parse().unwrap();
            let answer = ask(request).await;
            answer.assert_failed(405, "invalid_argument", "MALFORMED_REQUEST");
            assert_eq!(answer.headers["allow"], "POST");
        }
    }
    for path in ["/", "/doorbell.v1.NotificationService/Nothing", "/nothing"] {
        for (method, headers) in [("POST", &[JSON][..]), ("GET", &[]), ("POST", &[])] {
            let mut request = request(path, headers, Body::empty());
            *request.method_mut() = method.parse().unwrap();
            ask(request)
                .await
                .assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
        }
    }
    // Known to the proto, and not served here.
    let answer = post_json("/doorbell.v1.SendService/GetSend", "{}").await;
    answer.assert_failed(501, "unimplemented", "UNKNOWN_METHOD");
}

#[rstest]
#[case(SUBSCRIBE, JSON, "connect+json")]
#[case(SUBSCRIBE, PROTO, "connect+json")]
#[case(SEND, ("content-type", "application/connect+json"), "application/json")]
#[case(SEND, ("content-type", "application/connect+proto"), "application/json")]
#[tokio::test]
async fn a_stream_and_a_call_are_not_asked_for_alike(
    #[case] path: &str,
    #[case] header: (&str, &str),
    #[case] instead: &str,
) {
    let answer = post(path, &[header], enveloped(0, b"{}")).await;
    let message = answer.assert_failed(415, "unimplemented", "UNKNOWN_METHOD");
    assert!(message.contains(instead), "{message}");
    let accepted = answer.headers["accept-post"].to_str().unwrap();
    assert!(accepted.contains(instead), "{accepted}");
    assert!(!accepted.contains(header.1), "{accepted}");
}

/// The messages of a stream, and its end.
fn messages(answer: &Answered) -> (Vec<Bytes>, Value) {
    let mut rest = BytesMut::from(&answer.body[..]);
    let mut messages = Vec::new();
    loop {
        let flags = *rest.first().expect("an end");
        let message = next_message(&mut rest).unwrap();
        match flags {
            0 => messages.push(message),
            END_OF_STREAM => {
                assert!(rest.is_empty());
                return (messages, serde_json::from_slice(&message).unwrap());
            }
            other => panic!("flags of {other}"),
        }
    }
}

#[tokio::test]
async fn a_stream_has_its_messages_and_says_how_it_ended() {
    let asked = proto::SubscribeRequest {
        after_revision: Some(7),
        epoch: None,
    };
    let positions = |messages: Vec<Bytes>, is_json: bool| -> Vec<u64> {
        let position = |message: Bytes| match is_json {
            false => proto::SubscribeResponse::decode(message).unwrap().position,
            true => {
                let json: Value = serde_json::from_slice(&message).unwrap();
                json["position"].as_str().unwrap().parse().unwrap()
            }
        };
        messages.into_iter().map(position).collect()
    };
    for (name, body) in [
        ("application/connect+proto", asked.encode_to_vec()),
        (
            "application/connect+json",
            br#"{"afterRevision":7}"#.to_vec(),
        ),
    ] {
        for is_gzip in [false, true] {
            let body = match is_gzip {
                false => enveloped(0, &body),
                true => enveloped(COMPRESSED, &zipped(&body)),
            };
            let headers = [("content-type", name), ("connect-content-encoding", "gzip")];
            let answer = post(SUBSCRIBE, &headers, body).await;
            assert_eq!(
                (answer.http, &answer.headers["content-type"]),
                (200, &name.parse().unwrap())
            );
            let (messages, end) = messages(&answer);
            assert_eq!(positions(messages, name.ends_with("json")), [7, 8]);
            assert_eq!(end["error"]["code"], "unavailable");
            assert_eq!(*reason_of(&end["error"]), "DRAINING");
        }
    }
}

#[rstest]
#[case::refused(enveloped(0, b"{}"), &[], "resource_exhausted", "TOO_MANY_STREAMS")]
#[case::nothing(Bytes::new(), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::no_envelope(Bytes::from_static(b"{\"a\":1}"), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::cut(enveloped(0, b"{}").slice(..6), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::two([enveloped(0, b"{}"), enveloped(0, b"{}")].concat().into(), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::another_flag(enveloped(2, b"{}"), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::compressed_without_a_word(enveloped(1, &zipped(b"{}")), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::another_encoding(enveloped(1, b"{}"), &[("connect-content-encoding", "br")], "unimplemented", "UNKNOWN_METHOD")]
#[case::no_json(enveloped(0, b"{"), &[], "invalid_argument", "MALFORMED_REQUEST")]
#[case::too_large(enveloped(0, &[b' '; 65]), &[], "invalid_argument", "REQUEST_TOO_LARGE")]
#[tokio::test]
async fn a_stream_that_is_refused_ends_with_the_error(
    #[case] body: Bytes,
    #[case] more: &[(&str, &str)],
    #[case] code: &str,
    #[case] reason: &str,
) {
    let headers = [&[("content-type", "application/connect+json")], more].concat();
    let answer = post(SUBSCRIBE, &headers, body).await;
    assert_eq!(answer.http, 200);
    let (messages, end) = messages(&answer);
    assert!(messages.is_empty());
    assert_eq!(end["error"]["code"], code, "{end}");
    assert_eq!(*reason_of(&end["error"]), reason, "{end}");
}

/// Answers with these frames, whatever is asked.
async fn answered(path: &str, content_type: &str, frames: Vec<Frame<Bytes>>) -> Answered {
    let schema = Arc::new(schema());
    let asked = request(path, &[("content-type", content_type)], Body::empty());
    let (asked, _) = schema.turn(asked);
    let frames = stream::iter(frames.into_iter().map(Ok::<_, Status>));
    let body = tonic::body::Body::new(StreamBody::new(frames));
    let (head, body) = asked.answer(Response::new(body)).await.into_parts();
    Answered {
        http: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    trailers.append("cost", HeaderValue::from_static("1"));
    trailers.append("cost", HeaderValue::from_static("2"));
    Frame::trailers(trailers)
}

#[tokio::test]
async fn trailers_are_headers_of_a_call_and_metadata_of_a_stream() {
    let whole = enveloped(0, &[]);
    // However it is cut.
    let ended = |status: &Status| {
        let (start, rest) = (whole.slice(..3), whole.slice(3..));
        vec![Frame::data(start), Frame::data(rest), trailers(status)]
    };
    let ok = || ended(&Status::ok(""));
    let answer = answered(SEND, "application/json", ok()).await;
    assert_eq!((answer.http, answer.text()), (200, "{}"));
    let costs: Vec<_> = answer.headers.get_all("trailer-cost").iter().collect();
    assert_eq!(costs, ["1", "2"]);
    let failed = ended(&status::too_large());
    let answer = answered(SEND, "application/json", failed).await;
    answer.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
    assert_eq!(answer.headers["trailer-cost"], "1");

    let answer = answered(SUBSCRIBE, "application/connect+json", ok()).await;
    let (messages, end) = messages(&answer);
    assert_eq!(messages, ["{}"]);
    assert_eq!(end, json!({"metadata": {"cost": ["1", "2"]}}));
}

/// What no service of ours says is a bug, and never a good answer.
#[tokio::test]
async fn an_answer_without_a_message_or_a_status_is_an_error() {
    let no_message = || {
        vec![
            Frame::data(enveloped(0, &[0xff; 9])),
            trailers(&Status::ok("")),
        ]
    };
    let no_status = || vec![Frame::data(enveloped(0, &[]))];
    for frames in [
        no_message(),
        no_status(),
        vec![],
        vec![trailers(&Status::ok(""))],
    ] {
        let answer = answered(SEND, "application/json", frames).await;
        answer.assert_failed(500, "internal", "INTERNAL");
    }
    for frames in [no_message(), no_status(), vec![]] {
        let answer = answered(SUBSCRIBE, "application/connect+json", frames).await;
        let (_, end) = messages(&answer);
        assert_eq!(end["error"]["code"], "internal");
    }
}

/// A call has its places until its answer was taken: what it holds goes with its body.
#[tokio::test]
async fn an_answer_holds_what_its_call_holds_until_it_was_taken() {
    let held = Arc::new(());
    let of_call = held.clone();
    let frames = [Frame::data(enveloped(0, &[])), trailers(&Status::ok(""))];
    let frames = stream::iter(frames.map(Ok::<_, Status>)).map(move |frame| {
        let _ = &of_call;
        frame
    });
    let (asked, _) = Arc::new(schema()).turn(request(SEND, &[JSON], Body::empty()));
    let body = tonic::body::Body::new(StreamBody::new(frames));
    let mut body = asked.answer(Response::new(body)).await.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    // As hyper asks: it lets go of a body that has ended.
    assert!(!http_body::Body::is_end_stream(&body));
    assert_eq!(Arc::strong_count(&held), 2);
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn grpc_and_grpc_web_pass_as_they_are() {
    for name in ["application/grpc", "application/grpc-web+proto"] {
        let mut request = request(
            SEND,
            &[("content-type", name)],
            Body::from(enveloped(0, &titled("x"))),
        );
        *request.version_mut() = Version::HTTP_2;
        let response = service().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], name);
        let body = response.into_body().collect().await.unwrap();
        let message = next_message(&mut BytesMut::from(&body.to_bytes()[..])).unwrap();
        let message = proto::SendInAppResponse::decode(message).unwrap();
        assert_eq!(message.notification.unwrap().title, "x");
    }
}

/// Names and statuses as the protocol's own table has them.
#[test]
fn codes_are_those_of_the_protocol() {
    const NAMES: &str = "
        canceled 499 unknown 500 invalid_argument 400 deadline_exceeded 504 not_found 404
        already_exists 409 permission_denied 403 resource_exhausted 429 failed_precondition 400
        aborted 409 out_of_range 400 unimplemented 501 internal 500 unavailable 503
        data_loss 500 unauthenticated 401";
    let words: Vec<_> = NAMES.split_whitespace().collect();
    for (number, pair) in (1..).zip(words.chunks(2)) {
        let (name, http) = of_code(Code::from_i32(number));
        assert_eq!([name, &http.to_string()], [pair[0], pair[1]]);
        assert!(StatusCode::from_u16(http).is_ok());
    }
    assert_eq!(words.len(), 32);
}

#[test]
fn every_call_is_known_with_its_limit() {
    let schema = schema();
    assert!(schema.calls.len() > 30);
    for (path, call) in &schema.calls {
        let is_open = path.starts_with("/grpc.health.v1.Health/");
        assert!(is_open || path.starts_with("/doorbell.v1."), "{path}");
        let most = if is_open || path == SUBSCRIBE {
            64
        } else {
            MOST
        };
        assert_eq!(call.most_bytes, most, "{path}");
    }
}

proptest! {
    /// What is taken as JSON is the same when it is written and read again.
    #[test]
    fn what_is_sent_survives_json(
        title in any::<String>(),
        numbers in proptest::collection::vec(any::<f64>().prop_filter("finite", |n| n.is_finite()), 0..8),
        seconds in -62_135_596_800_i64..253_402_300_800,
        nanos in 0..1_000_000_000,
    ) {
        use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
        let number = |number| Value { kind: Some(Kind::NumberValue(number)) };
        let values = numbers.into_iter().map(number).collect();
        let list = Value { kind: Some(Kind::ListValue(ListValue { values })) };
        let request = proto::SendInAppRequest {
            title: title.clone(),
            body: Some(title.clone()),
            data: Some(Struct { fields: [(title, list)].into() }),
            deliver_time: Some(Timestamp { seconds, nanos }),
            ..Default::default()
        };
        let schema = schema();
        let json = schema.json(SEND, &request.encode_to_vec()).unwrap();
        let again = schema.encoded(SEND, &json).unwrap();
        prop_assert_eq!(proto::SendInAppRequest::decode(&*again).unwrap(), request);
    }
}
