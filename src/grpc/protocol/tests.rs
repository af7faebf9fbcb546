use std::io::Write as _;

use bytes::{BufMut as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use rstest::rstest;
use tonic::{codec::CompressionEncoding, codegen::BoxStream};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    grpc::{
        encoded::SubscribeResponse,
        server::notification_service_server::{NotificationService, NotificationServiceServer},
    },
    proto,
};

/// Answers every send, and fails every other call in a way of its own.
struct Stub;

type Answer<T> = Result<tonic::Response<T>, Status>;

#[tonic::async_trait]
impl NotificationService for Stub {
    async fn send_in_app(
        &self,
        _: tonic::Request<proto::SendInAppRequest>,
    ) -> Answer<proto::SendInAppResponse> {
        Ok(tonic::Response::new(proto::SendInAppResponse::default()))
    }

    async fn mark_read(
        &self,
        _: tonic::Request<proto::MarkReadRequest>,
    ) -> Answer<proto::MarkReadResponse> {
        Err(status::passing(
            Code::Unavailable,
            ErrorReason::StoreUnavailable,
            "the store did not answer",
        ))
    }

    async fn get_unread_count(
        &self,
        _: tonic::Request<proto::GetUnreadCountRequest>,
    ) -> Answer<proto::GetUnreadCountResponse> {
        std::future::pending().await
    }

    async fn get_recent(
        &self,
        _: tonic::Request<proto::GetRecentRequest>,
    ) -> Answer<proto::GetRecentResponse> {
        Err(Status::cancelled("gone"))
    }

    async fn subscribe(
        &self,
        _: tonic::Request<proto::SubscribeRequest>,
    ) -> Answer<BoxStream<SubscribeResponse>> {
        std::future::pending().await
    }
}

fn layered(routes: axum::Router) -> axum::Router {
    let schema = Arc::new(Schema::new(64, 64, 64).unwrap());
    routes.layer(axum::middleware::from_fn_with_state(schema, keep))
}

fn frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.extend_from_slice(message);
    frame.into()
}

fn whole(message: &[u8]) -> Bytes {
    frame(0, u32::try_from(message.len()).unwrap(), message)
}

async fn call(path: &str, headers: &[(&str, &str)], body: Bytes) -> Status {
    let server = NotificationServiceServer::new(Stub)
        .max_decoding_message_size(64)
        .accept_compressed(CompressionEncoding::Gzip);
    let routes = tonic::service::Routes::new(server).into_axum_router();
    let mut request = Request::post(path).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(tonic::body::Body::new(Full::new(body)))
        .unwrap();
    let response = layered(routes).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    match Status::from_header_map(&parts.headers) {
        Some(status) => {
            assert!(body.collect().await.unwrap().to_bytes().is_empty());
            assert_eq!(parts.headers.get_all("grpc-status").iter().count(), 1);
            status
        }
        None => {
            let trailers = body.collect().await.unwrap().trailers().cloned();
            Status::from_header_map(&trailers.unwrap()).unwrap()
        }
    }
}

fn reason(status: &Status) -> Option<String> {
    Some(status.get_error_details().error_info()?.reason.clone())
}

const SEND: &str = "/doorbell.v1.NotificationService/SendInApp";

/// A send with a `title` of invalid UTF-8.
const NOT_UTF8: &[u8] = &[0x22, 0x02, 0xff, 0xfe];

#[rstest]
#[case::above_the_limit(whole(&[0; 65]), "REQUEST_TOO_LARGE")]
#[case::lying_length(frame(0, u32::MAX, b"x"), "REQUEST_TOO_LARGE")]
#[case::cut(frame(0, 10, b"x"), "MALFORMED_REQUEST")]
#[case::cut_in_its_prefix(Bytes::from_static(&[0, 0]), "MALFORMED_REQUEST")]
#[case::nothing(Bytes::new(), "MALFORMED_REQUEST")]
#[case::bad_flag(frame(7, 0, b""), "MALFORMED_REQUEST")]
#[case::compressed_without_a_word(frame(1, 1, b"x"), "MALFORMED_REQUEST")]
#[case::invalid_utf8(whole(NOT_UTF8), "MALFORMED_REQUEST")]
#[case::garbage(whole(&[0xff; 16]), "MALFORMED_REQUEST")]
#[tokio::test]
async fn what_cannot_be_read_is_the_callers_fault(#[case] body: Bytes, #[case] expected: &str) {
    let status = call(SEND, &[], body).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status).as_deref(), Some(expected));
}

#[tokio::test]
async fn a_good_call_is_left_alone() {
    let at_the_limit = proto::SendInAppRequest {
        title: "x".repeat(62),
        ..Default::default()
    };
    assert_eq!(at_the_limit.encoded_len(), 64);
    let status = call(SEND, &[], whole(&at_the_limit.encode_to_vec())).await;
    assert_eq!(status.code(), Code::Ok);
}

#[tokio::test]
async fn a_status_with_details_is_left_alone() {
    let status = call("/doorbell.v1.NotificationService/MarkRead", &[], whole(b"")).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "the store did not answer");
    assert_eq!(reason(&status).as_deref(), Some("STORE_UNAVAILABLE"));
    assert!(status.get_error_details().retry_info().is_some());
}

#[rstest]
#[case("/doorbell.v1.NotificationService/Nothing")]
#[case("/nothing.v1.Nothing/Nothing")]
#[case("/")]
#[tokio::test]
async fn an_unknown_method_has_its_reason(#[case] path: &str) {
    let status = call(path, &[], whole(b"")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(reason(&status).as_deref(), Some("UNKNOWN_METHOD"));
}

#[tokio::test]
async fn an_unknown_compression_is_named() {
    let status = call(SEND, &[("grpc-encoding", "br")], frame(1, 1, b"x")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("compression"), "{status:?}");
    assert_eq!(reason(&status).as_deref(), Some("UNKNOWN_METHOD"));
}

#[rstest]
#[case::a_second_message([whole(b""), whole(b"")].concat().into())]
#[case::a_second_that_is_cut([whole(b""), frame(0, 10, b"x")].concat().into())]
#[tokio::test]
async fn a_request_is_one_message(#[case] body: Bytes) {
    for call_name in ["SendInApp", "GetRecent", "Subscribe"] {
        let path = format!("/doorbell.v1.NotificationService/{call_name}");
        let status = call(&path, &[], body.clone()).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{call_name}");
        assert_eq!(reason(&status).as_deref(), Some("MALFORMED_REQUEST"));
    }
}

fn gzipped(message: &[u8]) -> Bytes {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zip.write_all(message).unwrap();
    let zip = zip.finish().unwrap();
    frame(1, u32::try_from(zip.len()).unwrap(), &zip)
}

fn titled(bytes: usize) -> Vec<u8> {
    let request = proto::SendInAppRequest {
        title: "x".repeat(bytes),
        ..Default::default()
    };
    request.encode_to_vec()
}

#[rstest]
#[case::within_the_limit(gzipped(&titled(62)), Code::Ok, None)]
#[case::above_it_when_unpacked(gzipped(&titled(63)), Code::InvalidArgument, Some("REQUEST_TOO_LARGE"))]
#[case::a_bomb(gzipped(&vec![0; 16 << 20]), Code::InvalidArgument, Some("REQUEST_TOO_LARGE"))]
#[case::no_gzip(frame(1, 3, b"abc"), Code::InvalidArgument, Some("MALFORMED_REQUEST"))]
#[case::none_after_all(whole(&titled(1)), Code::Ok, None)]
#[tokio::test]
async fn gzip_is_taken_within_the_limit(
    #[case] body: Bytes,
    #[case] code: Code,
    #[case] expected: Option<&str>,
) {
    let status = call(SEND, &[("grpc-encoding", "gzip")], body).await;
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(reason(&status).as_deref(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_with_its_own_deadline_and_a_stream_does_not() {
    let began = tokio::time::Instant::now();
    let headers = [("grpc-timeout", "1500m")];
    let path = "/doorbell.v1.NotificationService/GetUnreadCount";
    let status = call(path, &headers, whole(b"")).await;
    assert_eq!(began.elapsed(), Duration::from_millis(1500));
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status).as_deref(), Some("DEADLINE_EXCEEDED"));

    let path = "/doorbell.v1.NotificationService/Subscribe";
    let status = call(path, &headers, whole(b""));
    assert!(timeout(Duration::from_secs(60), status).await.is_err());
}

#[rstest]
#[case("1H", Some(Duration::from_secs(3600)))]
#[case("2M", Some(Duration::from_secs(120)))]
#[case("99999999S", Some(Duration::from_secs(99_999_999)))]
#[case("5m", Some(Duration::from_millis(5)))]
#[case("5u", Some(Duration::from_micros(5)))]
#[case("0n", Some(Duration::ZERO))]
#[case("999999999S", None)]
#[case("+5S", None)]
#[case("5", None)]
#[case("S", None)]
#[case("", None)]
#[case("5\u{e4}", None)]
fn deadlines_are_read_as_grpc_writes_them(#[case] text: &str, #[case] expected: Option<Duration>) {
    let mut headers = HeaderMap::new();
    headers.insert(
        "grpc-timeout",
        http::HeaderValue::from_bytes(text.as_bytes()).unwrap(),
    );
    assert_eq!(deadline(&headers), expected);
}

#[rstest]
#[case(Some("application/grpc"), true)]
#[case(Some("application/grpc+proto"), true)]
#[case(Some("application/grpc;charset=utf-8"), true)]
#[case(Some("application/grpcx"), false)]
#[case(Some("application/json"), false)]
#[case(Some("text/plain"), false)]
#[case(Some(""), false)]
#[case(None, false)]
#[tokio::test]
async fn what_is_not_grpc_is_not_served(#[case] kind: Option<&str>, #[case] is_served: bool) {
    let server = NotificationServiceServer::new(Stub);
    let routes = tonic::service::Routes::new(server).into_axum_router();
    let mut request = Request::post(SEND);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let request = request
        .body(tonic::body::Body::new(Full::new(whole(b""))))
        .unwrap();
    let response = layered(routes).oneshot(request).await.unwrap();
    if is_served {
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("grpc-status"));
    } else {
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(reason(&status).as_deref(), Some("MALFORMED_REQUEST"));
    }
}

#[tokio::test]
async fn who_is_gone_is_not_a_bug() {
    let status = call(
        "/doorbell.v1.NotificationService/GetRecent",
        &[],
        whole(b""),
    )
    .await;
    assert_eq!(status.code(), Code::Cancelled);
}
