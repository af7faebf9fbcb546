//! The one place that maps errors to gRPC statuses.
//!
//! Every status carries a `google.rpc.ErrorInfo` with a stable reason, so that a
//! client can tell a terminal error from a passing one.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    auth,
    hub::JoinError,
    inbox::{self, feed::End},
    metrics,
    proto::{ErrorReason, SendError},
    store::{self, NotSent, NotUpdated, sends::NotAccepted},
    telemetry::Seldom,
};

/// `google.rpc.ErrorInfo.domain` of all errors.
pub const DOMAIN: &str = "doorbell.v1";

/// The longest part of a request that an error shows, in bytes.
pub const SHOWN_BYTES: usize = 200;
/// The most bytes of what is wrong with a request that are told: twice, as headers, of which
/// many clients take 8 KiB.
const WRONG_BYTES: usize = 2048;

/// How long a client should wait before it tries again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A status with its reason.
pub fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    with_details(code, reason, message, ErrorDetails::new())
}

/// A status with its reason that asks to be tried again.
pub fn passing(code: Code, reason: ErrorReason, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
    with_details(code, reason, message, details)
}

/// `RESOURCE_EXHAUSTED`, which passes.
pub fn exhausted(reason: ErrorReason, message: impl Into<String>) -> Status {
    passing(Code::ResourceExhausted, reason, message)
}

/// `UNAVAILABLE`, which passes.
fn unavailable(reason: ErrorReason, message: impl Into<String>) -> Status {
    passing(Code::Unavailable, reason, message)
}

fn with_details(
    code: Code,
    reason: ErrorReason,
    message: impl Into<String>,
    mut details: ErrorDetails,
) -> Status {
    metrics::rejected(reason);
    details.set_error_info(reason.text(), DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// `INVALID_ARGUMENT` that names each field and what is wrong with it, as far as there is
/// room for it.
pub fn invalid(mut violations: Vec<FieldViolation>) -> Status {
    let line = |wrong: &FieldViolation| format!("{}: {}", wrong.field, wrong.description);
    let mut lines: Vec<_> = violations.iter().map(line).collect();
    let mut bytes = 0;
    let told = lines.iter().take_while(|line| {
        bytes += line.len();
        bytes <= WRONG_BYTES
    });
    let told = told.count();
    violations.truncate(told);
    let untold = lines.split_off(told).len();
    if untold > 0 {
        lines.push(format!("and {untold} more"));
    }
    let message = lines.join("; ");
    let details = ErrorDetails::with_bad_request(violations);
    let reason = ErrorReason::InvalidRequest;
    with_details(Code::InvalidArgument, reason, message, details)
}

/// Text of a request, shortened for an error.
pub fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(SHOWN_BYTES);
    match text.get(..end) {
        Some(start) if start.len() < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    }
}

/// There is no such call.
pub fn no_call() -> Status {
    let message = "there is no such call here";
    new(Code::Unimplemented, ErrorReason::UnknownMethod, message)
}

/// The bytes are no message of the call.
pub fn malformed(message: &str) -> Status {
    new(
        Code::InvalidArgument,
        ErrorReason::MalformedRequest,
        message,
    )
}

/// The request is above its limit.
pub fn too_large() -> Status {
    let message = "the request is above the limit of a whole request";
    new(Code::InvalidArgument, ErrorReason::RequestTooLarge, message)
}

/// The caller's own time is up.
pub fn deadline_exceeded() -> Status {
    let message = "the call's own deadline passed; what it asked for may have been done";
    new(
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
        message,
    )
}

/// `INTERNAL` that says nothing of the inside.
pub fn internal() -> Status {
    let message = "something went wrong inside; the log has it";
    new(Code::Internal, ErrorReason::Internal, message)
}

/// There is no notification of that name.
pub fn not_found() -> Status {
    let reason = ErrorReason::NotificationNotFound;
    new(Code::NotFound, reason, NotUpdated::NotFound.to_string())
}

/// There is no send of that name.
pub fn no_send() -> Status {
    let message = "there is no such send in this organization";
    new(Code::NotFound, ErrorReason::SendNotFound, message)
}

/// There is no retraction of that name.
pub fn no_retraction() -> Status {
    let message = "there is no such retraction in this organization";
    new(Code::NotFound, ErrorReason::RetractionNotFound, message)
}

/// The key is that of another retraction.
pub fn other_retraction() -> Status {
    let message = "idempotency_key: it was used to take back something else";
    new(
        Code::AlreadyExists,
        ErrorReason::IdempotencyMismatch,
        message,
    )
}

/// The send has ended, and nothing of it can be stopped.
pub fn send_done(is_broadcast: bool) -> Status {
    let message = match is_broadcast {
        true => "it has ended already: take it back with RetractBroadcast",
        false => "all have it already: take it back with RetractInApp and its send_id",
    };
    new(Code::FailedPrecondition, ErrorReason::SendDone, message)
}

/// A send was not accepted.
pub fn of_send(error: NotAccepted) -> Status {
    match error {
        NotAccepted::Mismatch => new(
            Code::AlreadyExists,
            ErrorReason::IdempotencyMismatch,
            format!("idempotency_key: {error}"),
        ),
        NotAccepted::TooManyBroadcasts => new(
            Code::FailedPrecondition,
            ErrorReason::TooManyBroadcasts,
            format!("{error}: cancel one, or wait until one has ended"),
        ),
    }
}

/// Too many streams are opening, each for too long.
pub fn busy() -> Status {
    unavailable(
        ErrorReason::StoreUnavailable,
        "the store or the bus takes too long; try again in a moment",
    )
}

fn draining() -> Status {
    unavailable(ErrorReason::Draining, "the server is draining; come back")
}

/// What a failed use case is to its caller. What a caller must not see is logged
/// here; that the store does not answer is said by who asks it now and then.
pub fn of(error: &inbox::Error) -> Status {
    let text = error.to_string();
    match error {
        inbox::Error::QueueFull => exhausted(ErrorReason::QueueFull, text),
        inbox::Error::TooManyEdits => exhausted(ErrorReason::TooManyCalls, text),
        inbox::Error::Closed | inbox::Error::Join(JoinError::Closed) => draining(),
        inbox::Error::Join(JoinError::UserFull(_) | JoinError::OrganizationFull(_)) => {
            exhausted(ErrorReason::TooManyStreams, text)
        }
        // What has expired or is muted is answered, and no error.
        inbox::Error::NotSent(NotSent::Mismatch | NotSent::Expired(_) | NotSent::Muted(_)) => new(
            Code::AlreadyExists,
            ErrorReason::IdempotencyMismatch,
            "idempotency_key: was used for this inbox with another content",
        ),
        // Only what is no caller's own is of a send.
        inbox::Error::NotSent(NotSent::Cancelled) => internal(),
        inbox::Error::NotUpdated(NotUpdated::NotFound) => not_found(),
        inbox::Error::NotUpdated(NotUpdated::Removed) => new(
            Code::FailedPrecondition,
            ErrorReason::NotificationRemoved,
            error.to_string(),
        ),
        inbox::Error::PositionInvalid => new(
            Code::FailedPrecondition,
            ErrorReason::PositionInvalid,
            "the position is of another epoch, or above the head: load anew",
        ),
        inbox::Error::Store(error) => of_store(error),
    }
}

/// The error of one of many.
pub fn of_one(error: &inbox::Error) -> SendError {
    let status = of(error);
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let reason = reason.and_then(ErrorReason::from_text);
    SendError {
        reason: reason.unwrap_or_default().into(),
        message: status.message().to_owned(),
        passing: details.retry_info().is_some(),
    }
}

fn of_store(error: &store::Error) -> Status {
    tracing::debug!(%error, "the store failed");
    match error {
        store::Error::Unavailable(_) | store::Error::Held(_) | store::Error::Open(_) => {
            unavailable(
                ErrorReason::StoreUnavailable,
                "the store does not answer; try again in a moment",
            )
        }
        store::Error::InDoubt(_) => unavailable(
            ErrorReason::StoreUnavailable,
            "the store went away before it answered: it may or may not have been done; \
             try again in a moment, with the same idempotency_key",
        ),
        store::Error::Refused(_) | store::Error::Corrupt(_) | store::Error::Inconsistent { .. } => {
            static SAID: LazyLock<Seldom> = LazyLock::new(|| Seldom::new(1));
            if let Some(times) = SAID.now() {
                let what = "the store holds what it cannot, or refuses what it should take";
                tracing::error!(%error, times, "{what}");
            }
            internal()
        }
    }
}

/// How a feed's end ends its stream.
pub fn of_end(end: &End) -> Status {
    match end {
        End::Expired => of_auth(&auth::Error::Expired),
        End::Draining => draining(),
        End::Store(error) => of_store(error),
    }
}

/// Why a token was not accepted.
pub fn of_auth(error: &auth::Error) -> Status {
    let text = error.to_string();
    let reason = match error {
        auth::Error::Missing => ErrorReason::TokenMissing,
        auth::Error::Invalid(_) => ErrorReason::TokenInvalid,
        auth::Error::Expired => ErrorReason::TokenExpired,
        auth::Error::KeysUnavailable => return unavailable(ErrorReason::KeysUnavailable, text),
    };
    new(Code::Unauthenticated, reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, grpc::convert, proto::UpdateInAppRequest};

    /// A client that takes 8 KiB of headers has the whole of it.
    #[test]
    fn what_is_wrong_is_told_in_few_bytes() {
        let of = |paths: Vec<String>| {
            let request = UpdateInAppRequest {
                update_mask: Some(prost_types::FieldMask { paths }),
                ..UpdateInAppRequest::default()
            };
            let status = convert::update(request, &Config::default().content).unwrap_err();
            // In base64.
            let bytes = status.message().len() + status.details().len() * 4 / 3;
            assert!(bytes < 8 * 1024, "{bytes}");
            status
        };
        let long = of(vec!["\u{1}".repeat(10_000)]);
        assert!(long.message().contains("update_mask"), "{long}");
        let many = of(vec!["x".repeat(1000); 30]);
        let violations = many.get_error_details();
        let told = violations.bad_request().unwrap().field_violations.len();
        assert!(told > 3, "{told}");
        let rest = many.message().rsplit_once("; and ").unwrap().1;
        let untold: usize = rest.strip_suffix(" more").unwrap().parse().unwrap();
        assert_eq!(told + untold, 20, "as many as are found");
    }
}
