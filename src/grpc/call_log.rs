//! What is seen of a call from outside: a span, a request id, its lines and one
//! count.
//!
//! Every call gets a span `call` with its method, its request id, its peer and the
//! `traceparent` it came with; the service fills `organization` and `user`. A stream
//! is a line when it is opened and one when it is closed; a call that fails for the
//! service's sake is one. What many have in common is said seldom, with how often it
//! was. No line holds metadata, a message or what a status says: its code and its
//! reason are enough.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, Span, field::Empty};

use crate::{metrics, model::InboxKey, proto::Method, random::Random, telemetry::Seldom};

#[cfg(test)]
mod tests;

/// Names a call: taken from the request where it has one, and sent back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most bytes of a header that stands in a log.
const MAX_LOGGED_BYTES: usize = 64;
/// A user may open so many streams in ten seconds and have a line for each: all that
/// it may have come back at once. Who opens more is said to have.
const STREAMS_SAID: u32 = 64;
/// Users are told apart by a hash as small as this.
const USERS: usize = 256;
/// So many errors of ours are worth a line each in ten seconds.
const ERRORS_SAID: u32 = 10;

/// What keeps the log from growing with what callers do.
struct Bounds {
    streams: [Seldom; USERS],
    errors: Seldom,
    /// A store that is away fails all calls alike.
    unavailable: Seldom,
}

impl Bounds {
    fn of(&self, user: Option<&InboxKey>) -> &Seldom {
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        let [first, ..] = hasher.finish().to_le_bytes();
        &self.streams[usize::from(first)]
    }
}

/// Logs calls; clones are the same. To be laid outside of what refuses calls, inside of
/// what translates gRPC-web and Connect.
#[derive(Clone)]
pub struct CallLog {
    random: Arc<dyn Random>,
    peer: fn(&Extensions) -> Option<SocketAddr>,
    bounds: Arc<Bounds>,
}

impl CallLog {
    /// Request ids are made with `random`; `peer` finds the caller's address in
    /// a request's extensions.
    pub fn new(random: Arc<dyn Random>, peer: fn(&Extensions) -> Option<SocketAddr>) -> Self {
        let bounds = Bounds {
            streams: std::array::from_fn(|_| Seldom::new(STREAMS_SAID)),
            errors: Seldom::new(ERRORS_SAID),
            unavailable: Seldom::new(1),
        };
        Self {
            random,
            peer,
            bounds: Arc::new(bounds),
        }
    }
}

/// Lets a call through, and sees what becomes of it.
pub async fn log(State(log): State<CallLog>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let request_id = loggable(headers, REQUEST_ID.as_str())
        .cloned()
        .unwrap_or_else(|| new_request_id(&*log.random));
    let method = Method::of(request.uri().path());
    let traceparent = loggable(headers, "traceparent").and_then(|text| text.to_str().ok());
    let peer = (log.peer)(request.extensions()).map(tracing::field::display);
    // At the level of errors, so that a filter that lets only those through
    // does not take their context away.
    let span = tracing::error_span!(
        "call",
        method = method.name(),
        request_id = request_id.to_str().unwrap_or_default(),
        peer,
        traceparent,
        organization = Empty,
        user = Empty,
    );
    let mut call = Call {
        span: span.clone(),
        bounds: log.bounds,
        method,
        began: Instant::now(),
        is_open_stream: false,
        is_said: false,
        is_ended: false,
    };
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, request_id);
    if call.end_by(response.headers()) {
        return response;
    }
    call.answered(response.extensions());
    let call = Some(call);
    response.map(|inner| Body::new(LoggedBody { inner, call }))
}

/// A header of a request, where it can stand in a log as it is.
fn loggable<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    headers.get(name).filter(|text| {
        (1..=MAX_LOGGED_BYTES).contains(&text.len()) && text.as_bytes().iter().all(is_plain)
    })
}

fn new_request_id(random: &dyn Random) -> HeaderValue {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    let text = format!("{:016x}", u64::from_be_bytes(bytes));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// A call until its status is known. Dropped before, it was cancelled.
struct Call {
    span: Span,
    bounds: Arc<Bounds>,
    began: Instant,
    method: Method,
    is_open_stream: bool,
    /// Whether the log has the stream's beginning, and so will have its end.
    is_said: bool,
    is_ended: bool,
}

impl Call {
    /// The response began without a status: its body will have it. The service says
    /// whose stream it is.
    fn answered(&mut self, extensions: &Extensions) {
        if !self.method.is_stream() {
            return;
        }
        self.is_open_stream = true;
        match self.bounds.of(extensions.get()).now() {
            Some(streams) => {
                self.is_said = true;
                // More than one: this one and those that were left out before it.
                let streams = (streams > 1).then_some(streams);
                self.span
                    .in_scope(|| tracing::info!(streams, "stream opened"));
            }
            // Its beginning and its end.
            None => metrics::log_lines_left_out("streams", 2),
        }
    }

    /// Ends with the status in these headers or trailers, where they have one.
    fn end_by(&mut self, headers: &HeaderMap) -> bool {
        let Some(code) = headers.get(Status::GRPC_STATUS) else {
            return false;
        };
        match Code::from_bytes(code.as_bytes()) {
            Code::Ok => self.end(Code::Ok, None),
            code => {
                let status = Status::from_header_map(headers);
                let details = status.map(|status| status.get_error_details());
                let info = details.as_ref().and_then(|details| details.error_info());
                self.end(code, info.map(|info| info.reason.as_str()));
            }
        }
        true
    }

    /// What a caller can bring about at will is no line by default: metrics count
    /// it. A server that drains, or has no keys, says so elsewhere.
    fn end(&mut self, code: Code, reason: Option<&str>) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let took = self.began.elapsed();
        metrics::rpc(self.method, code as usize);
        if self.is_open_stream {
            metrics::stream_lasted(took);
        } else if !self.method.is_endless() {
            metrics::answered_after(self.method, took);
        }
        let seconds = took.as_secs_f64();
        let name = metrics::CODES[code as usize];
        let _entered = self.span.enter();
        if self.is_said {
            tracing::info!(code = name, reason, seconds, "stream closed");
        }
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                if let Some(times) = self.bounds.errors.now() {
                    tracing::error!(code = name, reason, seconds, times, "call failed");
                }
            }
            Code::Unavailable if !matches!(reason, Some("DRAINING" | "KEYS_UNAVAILABLE")) => {
                if let Some(times) = self.bounds.unavailable.now() {
                    tracing::warn!(code = name, reason, seconds, times, "call failed");
                }
            }
            Code::Ok => {}
            _ if self.is_open_stream => {}
            _ => tracing::debug!(code = name, reason, seconds, "call failed"),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled, None);
    }
}

/// A response's body that is watched for the status in its trailers.
struct LoggedBody {
    inner: Body,
    /// Until the status is known. A stream keeps this for hours, so it holds no more
    /// than the span and what the last line needs.
    call: Option<Call>,
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        let Some(call) = &mut this.call else {
            return inner.poll_frame(cx);
        };
        let polled = call.span.in_scope(|| inner.poll_frame(cx));
        let trailers = match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) if !frame.is_trailers() => return polled,
            Poll::Ready(Some(Ok(frame))) => frame.trailers_ref(),
            Poll::Ready(Some(Err(_)) | None) => None,
        };
        // gRPC knows no end without a status.
        if !trailers.is_some_and(|trailers| call.end_by(trailers)) {
            call.end(Code::Unknown, None);
        }
        this.call = None;
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
