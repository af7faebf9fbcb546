//! What can go wrong, and whether waiting mends it.

use std::{error::Error as StdError, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::proto::ErrorReason;

/// Any error, of a token source.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a call failed or a watch was cut.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made like this.
    #[error("{0}")]
    Options(String),
    /// What the token source gave is no token.
    #[error("the token is empty or has characters that no token has: check where it comes from")]
    Token,
    /// The token source failed.
    #[error("no token was to be had: {0}")]
    TokenSource(#[source] BoxError),
    /// The service said no, or could not be reached.
    #[error("{}", describe(.0))]
    Status(Box<Status>),
    /// The service did not answer in time.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// Heartbeats stayed away.
    #[error("nothing was heard for {}: the connection is taken for dead", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The service ended the stream without saying why.
    #[error("the service ended the stream")]
    Ended,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// A server may ask for a long pause, but not to stay away for good.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

impl Error {
    /// The status code, where the service answered or could not be reached.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Status(status) => Some(status.code()),
            _ => None,
        }
    }

    /// `google.rpc.ErrorInfo.reason`, one of `doorbell.v1.ErrorReason`.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Status(status) => reason(status),
            _ => None,
        }
    }

    /// Whether the service gave this reason.
    pub fn has_reason(&self, reason: ErrorReason) -> bool {
        let name = reason.as_str_name().strip_prefix("ERROR_REASON_");
        self.reason().as_deref() == name
    }

    /// Whether the same call would fail in the same way for ever. A refused
    /// token is not: another one may be accepted.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Options(_) | Self::Token => true,
            Self::Status(status) => matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::PermissionDenied
                    | Code::Unimplemented
                    | Code::AlreadyExists
            ),
            Self::TokenSource(_) | Self::NoAnswer(_) | Self::Silent(_) | Self::Ended => false,
        }
    }

    /// Whether waiting may mend it by itself. A refused token was asked for anew already;
    /// what is not there, or not as it must be, does not change by asking.
    pub fn may_pass(&self) -> bool {
        let is_answer = matches!(
            self.code(),
            Some(Code::Unauthenticated | Code::NotFound | Code::FailedPrecondition)
        );
        !self.is_terminal() && !is_answer
    }

    /// How long the service asks to wait, five minutes at most.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Status(status) => status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
                .map(|delay| delay.min(MAX_RETRY_DELAY)),
            _ => None,
        }
    }
}

fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// One line: the code, the reason, what happened.
fn describe(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    let name = match reason(status) {
        Some(reason) => format!("{code} ({reason})"),
        None => code,
    };
    let cause = match StdError::source(status) {
        Some(source) => format!(": {}", root(source)),
        None => String::new(),
    };
    format!("{name}: {}{cause}", status.message())
}

/// The innermost cause, which says most.
pub(super) fn root(error: &(dyn StdError + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
