//! Gives tonic's own statuses what every status of this API has: a fitting
//! code, a reason, and a message that says nothing of the inside.
//!
//! Ours carry details; one without was made by a layer below us before the call
//! reached the service: the message was too long or was none, or the method is
//! unknown. Such statuses come in the headers of a response without a body.
//!
//! tonic serves whatever a request says that it is; gRPC asks for HTTP's 415 where
//! that is not gRPC, and it is given here.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures_util::{
    TryFutureExt as _,
    future::{Either, MapOk},
};
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status;
use crate::proto::ErrorReason;

/// Repairs the statuses of the service it is laid on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepairLayer;

impl<S> Layer<S> for RepairLayer {
    type Service = Repair<S>;

    fn layer(&self, inner: S) -> Repair<S> {
        Repair { inner }
    }
}

/// Made by [`RepairLayer`].
#[derive(Clone, Debug)]
pub struct Repair<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Repair<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<
        Ready<Result<Response<R>, S::Error>>,
        MapOk<S::Future, fn(Response<R>) -> Response<R>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_grpc(request.headers()) {
            Either::Right(self.inner.call(request).map_ok(repair))
        } else {
            Either::Left(ready(Ok(not_grpc())))
        }
    }
}

/// Whether a request says that it is gRPC. gRPC-web was translated before.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    content_type.is_some_and(|text| {
        text.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

fn not_grpc<R: Default>() -> Response<R> {
    let status = status::new(
        Code::InvalidArgument,
        ErrorReason::MalformedRequest,
        "content-type: must be that of gRPC or of gRPC-web",
    );
    let mut response = status.into_http();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

fn repair<R>(mut response: Response<R>) -> Response<R> {
    let headers = response.headers_mut();
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    let Some(repaired) = Status::from_header_map(headers).and_then(|found| replacement(&found))
    else {
        return response;
    };
    headers.remove(Status::GRPC_MESSAGE);
    // Fails only for details that are no header, and ours are base64.
    let _ = repaired.add_header(headers);
    response
}

/// How tonic and prost begin to say that a request cannot be read. Their codes
/// do not tell: a message that is none is `INTERNAL`, like a bug of ours.
const MALFORMED: &[&str] = &[
    "failed to decode Protobuf message",
    "protocol error: received message",
    "Unexpected EOF decoding stream",
    "Missing request message",
    "Error decompressing",
    "h2 protocol error",
    "error reading a body",
    "tonic-web:",
];

fn replacement(found: &Status) -> Option<Status> {
    let is_malformed = || {
        MALFORMED
            .iter()
            .any(|begin| found.message().starts_with(begin))
    };
    Some(match found.code() {
        // The client is gone, or it is no error.
        Code::Ok | Code::Cancelled => return None,
        // The word of the health protocol for a service that it does not know;
        // nothing else here says it.
        Code::NotFound => return None,
        Code::OutOfRange => too_large(),
        Code::ResourceExhausted if is_malformed() => too_large(),
        Code::Internal | Code::Unknown | Code::DataLoss if is_malformed() => status::new(
            Code::InvalidArgument,
            ErrorReason::MalformedRequest,
            "the request is not a well-formed message of this call",
        ),
        // A compression we do not know is the other way to get this code, which
        // gRPC prescribes; `grpc-accept-encoding` then says what we do.
        Code::Unimplemented if !found.message().is_empty() => status::new(
            Code::Unimplemented,
            ErrorReason::UnknownMethod,
            "there is no such call here that takes this compression",
        ),
        Code::Unimplemented => status::new(
            Code::Unimplemented,
            ErrorReason::UnknownMethod,
            "there is no such call here",
        ),
        code => {
            tracing::error!(?code, message = found.message(), "a status without details");
            status::new(
                Code::Internal,
                ErrorReason::Internal,
                "internal error; the log names it by this call's request id",
            )
        }
    })
}

pub(super) fn too_large() -> Status {
    status::new(
        Code::InvalidArgument,
        ErrorReason::RequestTooLarge,
        "the request is above the limit of a whole request",
    )
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use bytes::{BufMut as _, Bytes};
    use futures_util::Stream;
    use http_body_util::{BodyExt as _, Full};
    use prost::Message as _;
    use rstest::rstest;
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
        type SubscribeStream =
            Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

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
            Err(Status::internal("disk /dev/sda1 failed"))
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
        ) -> Answer<Self::SubscribeStream> {
            Err(Status::deadline_exceeded("at line 7"))
        }
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
        let server = NotificationServiceServer::new(Stub).max_decoding_message_size(64);
        let routes = tonic::service::Routes::new(server).into_axum_router();
        let mut request = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(tonic::body::Body::new(Full::new(body)))
            .unwrap();
        let response = RepairLayer.layer(routes).oneshot(request).await.unwrap();
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
    #[case("/doorbell.v1.NotificationService/GetUnreadCount")]
    #[case("/doorbell.v1.NotificationService/Subscribe")]
    #[tokio::test]
    async fn the_inside_stays_inside(#[case] path: &str) {
        let status = call(path, &[], whole(b"")).await;
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(reason(&status).as_deref(), Some("INTERNAL"));
        assert!(!status.message().contains("disk") && !status.message().contains("line"));
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
        let response = RepairLayer.layer(routes).oneshot(request).await.unwrap();
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
}
