//! What gRPC asks for and tonic does in another way, or not at all.
//!
//! - What asks for a call and is no POST, or does not say that it is gRPC, is answered with
//!   HTTP's 405 and 415. Of what Connect does not know there is nothing but gRPC.
//! - A call that is answered once ends with its own deadline, `grpc-timeout`. What it
//!   has queued is carried out all the same.
//! - Each status of ours carries details. One without was made by tonic before the
//!   call reached the service: there is no such call, or the request could not be
//!   read, which is its caller's fault whatever tonic calls it. It gets a fitting code
//!   and a reason.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{connect::Schema, status};
use crate::proto::{ErrorReason, Method};

#[cfg(test)]
mod tests;

/// Lets a request through to the services, as gRPC asks for it.
pub async fn keep(State(schema): State<Arc<Schema>>, request: Request, next: Next) -> Response {
    let method = Method::of(request.uri().path());
    if schema.has(request.uri().path()) {
        if request.method() != http::Method::POST {
            let mut response = status::malformed("a call is a POST").into_http();
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            let post = HeaderValue::from_static("POST");
            response.headers_mut().insert(ALLOW, post);
            return response;
        }
        if !is_grpc(request.headers()) {
            let what = "content-type: must be application/json, or another of Connect, \
                        gRPC or gRPC-web";
            let mut response = status::malformed(what).into_http();
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
    } else if !is_grpc(request.headers()) {
        return status::no_call().into_http();
    }
    let deadline = deadline(request.headers()).filter(|_| !method.is_stream());
    let answer = next.run(request);
    let mut response = match deadline {
        None => answer.await,
        Some(deadline) => match timeout(deadline, answer).await {
            Ok(response) => response,
            Err(_) => return status::deadline_exceeded().into_http(),
        },
    };
    let headers = response.headers_mut();
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    if let Some(ours) = Status::from_header_map(headers).and_then(|of_tonic| ours(&of_tonic)) {
        headers.remove(Status::GRPC_MESSAGE);
        // Fails only for details that are no header, and ours are base64.
        let _ = ours.add_header(headers);
    }
    response
}

/// Whether a request says that it is gRPC. gRPC-web and Connect were translated before.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = content_type.and_then(|text| text.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the caller waits; what cannot be read is none.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// What a status that tonic made is to this API.
fn ours(of_tonic: &Status) -> Option<Status> {
    Some(match of_tonic.code() {
        // The client is gone, or it is no error.
        Code::Ok | Code::Cancelled => return None,
        // The word of the health protocol for a service that it does not know;
        // nothing else here says it.
        Code::NotFound => return None,
        // As it came, or when it was decompressed.
        Code::OutOfRange | Code::ResourceExhausted => status::too_large(),
        // What asks for a stream: the word of `http_body_util::Limited`.
        _ if of_tonic.message().starts_with("length limit exceeded") => status::too_large(),
        Code::Unimplemented if of_tonic.message().is_empty() => status::no_call(),
        // A compression we do not know is the other way to get this code, which
        // gRPC prescribes; `grpc-accept-encoding` then says what we do.
        Code::Unimplemented => status::new(
            Code::Unimplemented,
            ErrorReason::UnknownMethod,
            "there is no such call here that takes this compression",
        ),
        _ => status::malformed("the request is not a well-formed message of this call"),
    })
}
