use std::{convert::Infallible, time::Duration};

use axum::{Router, middleware::from_fn_with_state};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use rstest::rstest;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::LogFormat,
    grpc::status,
    metrics::tests::{alone, value},
    proto::ErrorReason,
    random::SeededRandom,
    telemetry::tests::captured,
};

type Frames = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

const SEND: &str = "/doorbell.v1.NotificationService/SendInApp";
const SUBSCRIBE: &str = "/doorbell.v1.NotificationService/Subscribe";

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    Frame::trailers(trailers)
}

fn frames(frames: Vec<Frame<Bytes>>) -> Frames {
    StreamBody::new(stream::iter(frames.into_iter().map(Ok)).boxed())
}

/// A body that never ends.
fn endless() -> Frames {
    let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
    StreamBody::new(first.chain(stream::pending()).boxed())
}

fn with_headers(status: &Status) -> Response<Frames> {
    let mut response = Response::new(frames(vec![]));
    status.add_header(response.headers_mut()).unwrap();
    response
}

fn log() -> CallLog {
    CallLog::new(Arc::new(SeededRandom::new(7)), |extensions| {
        extensions.get::<SocketAddr>().copied()
    })
}

fn logged(answer: impl Fn() -> Response<Frames> + Clone + Send + Sync + 'static) -> Router {
    let answer = move || {
        Span::current().record("organization", "acme");
        Span::current().record("user", "alice");
        let response = answer();
        async move { response }
    };
    Router::new()
        .fallback(answer)
        .layer(from_fn_with_state(log(), super::log))
}

async fn asked(service: &Router, path: &str, headers: &[(&str, &str)]) -> Response {
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let mut request = Request::post(path).extension(peer);
    for (name, text) in headers {
        request = request.header(*name, *text);
    }
    let request = request.body(Body::empty()).unwrap();
    service.clone().oneshot(request).await.unwrap()
}

async fn call(
    path: &str,
    headers: &[(&str, &str)],
    answer: impl Fn() -> Response<Frames> + Clone + Send + Sync + 'static,
) -> Response {
    asked(&logged(answer), path, headers).await
}

fn count(handle: &metrics::Handle, method: &str, code: &str) -> Option<f64> {
    let series = format!(r#"doorbell_rpcs_total{{method="{method}",code="{code}"}}"#);
    value(handle, &series)
}

#[tokio::test]
async fn a_good_call_is_counted_once_and_is_no_line() {
    let metrics = alone();
    let (lines, _guard) = captured("info", LogFormat::Json);
    let answer = || {
        let data = Frame::data(Bytes::from_static(b"data"));
        Response::new(frames(vec![data, trailers(&Status::ok(""))]))
    };
    let response = call(SEND, &[], answer).await;
    assert_eq!(count(&metrics, "SendInApp", "OK"), None);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "data");
    assert_eq!(count(&metrics, "SendInApp", "OK"), Some(1.0));
    assert_eq!(count(&metrics, "SendInApp", "CANCELLED"), None);
    assert_eq!(lines.text(), "");
}

#[tokio::test]
async fn a_failed_call_is_one_line_with_its_context() {
    let metrics = alone();
    let (lines, _guard) = captured("error", LogFormat::Json);
    let headers = [
        ("x-request-id", "req-1"),
        ("authorization", "Bearer very.secret.token"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    let answer = || with_headers(&status::new(Code::Internal, ErrorReason::Internal, "x"));
    let response = call(SEND, &headers, answer).await;
    assert_eq!(response.headers()[REQUEST_ID], "req-1");
    drop(response);
    assert_eq!(count(&metrics, "SendInApp", "INTERNAL"), Some(1.0));
    assert_eq!(count(&metrics, "SendInApp", "CANCELLED"), None);
    let text = lines.text();
    assert!(!text.contains("secret"), "{text}");
    let lines = lines.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"], "ERROR");
    assert_eq!(lines[0]["message"], "call failed");
    assert_eq!(lines[0]["code"], "INTERNAL");
    assert_eq!(lines[0]["reason"], "INTERNAL");
    let span = &lines[0]["span"];
    for (field, expected) in [
        ("method", "SendInApp"),
        ("request_id", "req-1"),
        ("peer", "192.0.2.7:4711"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("organization", "acme"),
        ("user", "alice"),
    ] {
        assert_eq!(span[field], expected, "{field}");
    }
}

#[rstest]
#[case(Code::Unavailable, ErrorReason::StoreUnavailable, Some("WARN"))]
#[case(Code::Unavailable, ErrorReason::Draining, Some("DEBUG"))]
#[case(Code::Unavailable, ErrorReason::KeysUnavailable, Some("DEBUG"))]
#[case(Code::PermissionDenied, ErrorReason::NotASender, Some("DEBUG"))]
#[case(Code::InvalidArgument, ErrorReason::InvalidRequest, Some("DEBUG"))]
#[case(Code::Unauthenticated, ErrorReason::TokenExpired, Some("DEBUG"))]
#[tokio::test]
async fn a_line_is_as_loud_as_its_cause(
    #[case] code: Code,
    #[case] reason: ErrorReason,
    #[case] level: Option<&str>,
) {
    let (lines, _guard) = captured("debug", LogFormat::Json);
    call(SEND, &[], move || {
        with_headers(&status::new(code, reason, "a title"))
    })
    .await;
    assert!(!lines.text().contains("a title"));
    let lines = lines.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["level"].as_str(), level);
    assert_eq!(lines[0]["reason"], reason.text());
}

fn messages(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_a_line_when_opened_and_one_when_closed() {
    let metrics = alone();
    let (lines, _guard) = captured("info", LogFormat::Json);
    let mut body = call(SUBSCRIBE, &[], || Response::new(endless()))
        .await
        .into_body();
    assert_eq!(messages(&lines.json()), ["stream opened"]);
    assert_eq!(lines.json()[0]["span"]["user"], "alice");
    body.frame().await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(90)).await;
    assert_eq!(lines.json().len(), 1);
    drop(body);
    let lines = lines.json();
    assert_eq!(messages(&lines), ["stream opened", "stream closed"]);
    assert_eq!(lines[1]["level"], "INFO");
    assert_eq!(lines[1]["code"], "CANCELLED");
    assert_eq!(lines[1]["seconds"], 90.0);
    assert_eq!(lines[1]["span"]["organization"], "acme");
    assert_eq!(count(&metrics, "Subscribe", "CANCELLED"), Some(1.0));
}

#[tokio::test]
async fn a_stream_ends_with_the_status_of_its_trailers() {
    let metrics = alone();
    let (lines, _guard) = captured("info", LogFormat::Json);
    let answer = || {
        let status = status::passing(Code::Unavailable, ErrorReason::Draining, "draining");
        Response::new(frames(vec![trailers(&status)]))
    };
    let response = call(SUBSCRIBE, &[], answer).await;
    response.into_body().collect().await.unwrap();
    let lines = lines.json();
    assert_eq!(messages(&lines), ["stream opened", "stream closed"]);
    assert_eq!(lines[1]["level"], "INFO");
    assert_eq!(lines[1]["code"], "UNAVAILABLE");
    assert_eq!(lines[1]["reason"], "DRAINING");
    assert_eq!(count(&metrics, "Subscribe", "UNAVAILABLE"), Some(1.0));
}

#[tokio::test]
async fn a_stream_that_is_refused_was_never_open() {
    let (lines, _guard) = captured("info", LogFormat::Json);
    let answer = || {
        let reason = ErrorReason::StoreUnavailable;
        with_headers(&status::new(Code::Unavailable, reason, "no"))
    };
    call(SUBSCRIBE, &[], answer).await;
    assert_eq!(messages(&lines.json()), ["call failed"]);
}

#[tokio::test]
async fn an_end_without_a_status_is_unknown() {
    let metrics = alone();
    let response = call(SEND, &[], || Response::new(frames(vec![]))).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(count(&metrics, "SendInApp", "UNKNOWN"), Some(1.0));
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_answer_is_counted() {
    let metrics = alone();
    let service = Router::new()
        .fallback(std::future::pending::<Response>)
        .layer(from_fn_with_state(log(), super::log));
    let mut answer = Box::pin(asked(&service, SEND, &[]));
    assert!(futures_util::poll!(&mut answer).is_pending());
    drop(answer);
    assert_eq!(count(&metrics, "SendInApp", "CANCELLED"), Some(1.0));
}

#[rstest]
#[case("req-1", true)]
#[case("0af7651916cd43dd.A_b", true)]
#[case("", false)]
#[case("two words", false)]
#[case("a/b", false)]
#[case("a\"b", false)]
#[tokio::test]
async fn only_a_safe_request_id_is_taken(#[case] id: &str, #[case] taken: bool) {
    let response = call(SEND, &[("x-request-id", id)], || {
        with_headers(&Status::ok(""))
    })
    .await;
    let sent_back = response.headers()[REQUEST_ID].to_str().unwrap();
    assert_eq!(sent_back == id, taken);
    assert!(!sent_back.is_empty());
}

#[tokio::test]
async fn a_request_id_is_bounded_and_made_where_missing() {
    let answer = || with_headers(&Status::ok(""));
    for (length, taken) in [(64, true), (65, false)] {
        let id = "a".repeat(length);
        let response = call(SEND, &[("x-request-id", &id)], answer).await;
        assert_eq!(response.headers()[REQUEST_ID] == *id, taken, "{length}");
    }
    let response = call(SEND, &[], answer).await;
    let made = response.headers()[REQUEST_ID].to_str().unwrap().to_owned();
    assert_eq!(made.len(), 16);
    assert!(made.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn a_stream_keeps_little() {
    assert!(size_of::<Call>() <= 96, "{}", size_of::<Call>());
}

fn opened_by(user: &'static str) -> impl Fn() -> Response<Frames> + Clone + Send + Sync + 'static {
    move || {
        let mut response = Response::new(endless());
        let inbox = InboxKey::parse("acme", user).unwrap();
        response.extensions_mut().insert(inbox);
        response
    }
}

#[tokio::test(start_paused = true)]
async fn who_opens_and_closes_in_a_loop_is_not_a_line_each() {
    let metrics = alone();
    let (lines, _guard) = captured("info", LogFormat::Json);
    let service = logged(opened_by("alice"));
    for _ in 0..1000 {
        drop(asked(&service, SUBSCRIBE, &[]).await);
    }
    // As many as it may have open at once, each with its end.
    assert_eq!(lines.json().len(), 128);
    let left_out = r#"doorbell_log_lines_left_out_total{reason="streams"}"#;
    assert_eq!(value(&metrics, left_out), Some(2.0 * (1000.0 - 64.0)));
    tokio::time::advance(Duration::from_secs(10)).await;
    drop(asked(&service, SUBSCRIBE, &[]).await);
    let lines = lines.json();
    assert_eq!(lines.len(), 130);
    assert_eq!(lines[128]["message"], "stream opened");
    assert_eq!(lines[128]["streams"], 1000 - 64 + 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_all_alike_is_said_once_in_a_while() {
    let metrics = alone();
    let (lines, _guard) = captured("info", LogFormat::Json);
    let service = logged(|| {
        let reason = ErrorReason::StoreUnavailable;
        with_headers(&status::new(Code::Unavailable, reason, "no"))
    });
    for _ in 0..109 {
        asked(&service, SEND, &[]).await;
    }
    assert_eq!(lines.json().len(), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    asked(&service, SEND, &[]).await;
    assert_eq!(lines.json().len(), 2);
    assert_eq!(lines.json()[1]["times"], 109);
    assert_eq!(count(&metrics, "SendInApp", "UNAVAILABLE"), Some(110.0));
}
