//! What is seen of a call from outside: a span, a request id, one log line and
//! one count.
//!
//! Every call gets a span `call` with its method, its request id, its peer and
//! the W3C trace context it came with; the service fills `organization` and
//! `user`. A call that fails is one line; a stream is one when it is opened and
//! one when it is closed. None holds metadata, a message or what a status says:
//! its code and its reason are enough.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Instrument as _, Level, Span, field::Empty};

use crate::{metrics, random::Random};

/// Names a call: taken from the request where it has one, and sent back.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_REQUEST_ID_BYTES: usize = 64;

/// Observes the calls of the service it is laid on: outside of what refuses
/// calls, inside of what translates gRPC-web.
#[derive(Clone)]
pub struct ObserveLayer {
    random: Arc<dyn Random>,
    peer: fn(&Extensions) -> Option<SocketAddr>,
}

impl ObserveLayer {
    /// Request ids are made with `random`; `peer` finds the caller's address in
    /// a request's extensions.
    pub fn new(random: Arc<dyn Random>, peer: fn(&Extensions) -> Option<SocketAddr>) -> Self {
        Self { random, peer }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            layer: self.clone(),
        }
    }
}

/// Made by [`ObserveLayer`].
#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<ObservedBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let headers = request.headers();
        let request_id = safe_request_id(headers)
            .cloned()
            .unwrap_or_else(|| new_request_id(&*self.layer.random));
        let method = metrics::method(request.uri().path());
        // At the level of errors, so that a filter that lets only those through
        // does not take their context away.
        let span = tracing::error_span!(
            "call",
            method,
            request_id = request_id.to_str().unwrap_or_default(),
            peer = Empty,
            trace_id = Empty,
            parent_id = Empty,
            organization = Empty,
            user = Empty,
        );
        if let Some(peer) = (self.layer.peer)(request.extensions()) {
            span.record("peer", tracing::field::display(peer));
        }
        if let Some((trace_id, parent_id)) = trace_context(headers) {
            span.record("trace_id", trace_id);
            span.record("parent_id", parent_id);
        }
        let mut call = Call {
            span: span.clone(),
            method,
            began: Instant::now(),
            is_open_stream: false,
            is_ended: false,
        };
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(response) => response,
                Err(error) => {
                    call.end(Code::Unknown, None);
                    return Err(error);
                }
            };
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID, request_id);
            let call = if call.end_by(headers) {
                None
            } else {
                call.answered();
                Some(call)
            };
            Ok(response.map(|inner| ObservedBody { inner, call }))
        })
    }
}

/// The id of a request, where it can stand in a log as it is.
fn safe_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    headers.get(REQUEST_ID).filter(|id| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(is_safe)
    })
}

fn new_request_id(random: &dyn Random) -> HeaderValue {
    let mut bytes = [0; 8];
    random.fill(&mut bytes);
    let text = format!("{:016x}", u64::from_be_bytes(bytes));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// The trace and the caller's span: `traceparent` of W3C Trace Context, which
/// says to ignore one that is malformed.
fn trace_context(headers: &HeaderMap) -> Option<(&str, &str)> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace_id, parent_id, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|b| b != b'0');
    let is_well_formed = is_hex(version, 2)
        && version != "ff"
        && is_id(trace_id, 32)
        && is_id(parent_id, 16)
        && is_hex(flags, 2)
        // Later versions may say more behind.
        && (version != "00" || parts.next().is_none());
    is_well_formed.then_some((trace_id, parent_id))
}

/// A call until its status is known. Dropped before, it was cancelled.
struct Call {
    span: Span,
    method: &'static str,
    began: Instant,
    is_open_stream: bool,
    is_ended: bool,
}

impl Call {
    /// The response began without a status: its body will have it.
    fn answered(&mut self) {
        if self.method == metrics::STREAM {
            self.is_open_stream = true;
            self.span.in_scope(|| tracing::info!("stream opened"));
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

    fn end(&mut self, code: Code, reason: Option<&str>) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let took = self.began.elapsed();
        let name = code_name(code);
        metrics::rpc(self.method, name);
        if self.is_open_stream {
            metrics::stream_lasted(took);
        } else if !metrics::is_endless(self.method) {
            metrics::answered_after(self.method, took);
        }
        let Some(level) = self.level(code, reason) else {
            return;
        };
        let what = match self.is_open_stream {
            true => "stream closed",
            false => "call failed",
        };
        let seconds = took.as_secs_f64();
        let _entered = self.span.enter();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(code = name, reason, seconds, "{what}")
            };
        }
        match level {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            Level::INFO => line!(info),
            _ => line!(debug),
        }
    }

    /// What a caller can bring about at will is no line by default: metrics
    /// count it. A server that drains, or has no keys, says so elsewhere.
    fn level(&self, code: Code, reason: Option<&str>) -> Option<Level> {
        let is_said = matches!(reason, Some("DRAINING" | "KEYS_UNAVAILABLE"));
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => Some(Level::ERROR),
            Code::Unavailable if !is_said => Some(Level::WARN),
            _ if self.is_open_stream => Some(Level::INFO),
            Code::Ok => None,
            _ => Some(Level::DEBUG),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled, None);
    }
}

/// The name of a code, as gRPC's documents and our metrics write it.
pub fn code_name(code: Code) -> &'static str {
    usize::try_from(code as i32)
        .ok()
        .and_then(|number| metrics::CODES.get(number))
        .copied()
        .unwrap_or("UNKNOWN")
}

/// A response's body that is watched for the status in its trailers.
pub struct ObservedBody<B> {
    inner: B,
    /// None when the headers had the status. A stream keeps this for hours, so
    /// it holds no more than the span and what the last line needs.
    call: Option<Call>,
}

impl<B> Body for ObservedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let inner = Pin::new(&mut this.inner);
        let Some(call) = &mut this.call else {
            return inner.poll_frame(cx);
        };
        let polled = call.span.in_scope(|| inner.poll_frame(cx));
        match &polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
                None => return polled,
                Some(trailers) => {
                    if !call.end_by(trailers) {
                        call.end(Code::Unknown, None);
                    }
                }
            },
            // gRPC knows no end without a status.
            Poll::Ready(Some(Err(_)) | None) => call.end(Code::Unknown, None),
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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

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

    async fn call(
        path: &str,
        headers: &[(&str, &str)],
        answer: impl Fn() -> Response<Frames> + Clone + Send + 'static,
    ) -> Response<ObservedBody<Frames>> {
        let layer = ObserveLayer::new(Arc::new(SeededRandom::new(7)), |extensions| {
            extensions.get::<SocketAddr>().copied()
        });
        let service = layer.layer(tower::service_fn(move |_: Request<()>| {
            Span::current().record("organization", "acme");
            Span::current().record("user", "alice");
            let response = answer();
            async move { Ok::<_, Infallible>(response) }
        }));
        let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let mut request = Request::post(path).extension(peer);
        for (name, text) in headers {
            request = request.header(*name, *text);
        }
        service.oneshot(request.body(()).unwrap()).await.unwrap()
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
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("parent_id", "b7ad6b7169203331"),
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
        assert_eq!(lines[0]["reason"], status::reason_text(reason));
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
        let layer = ObserveLayer::new(Arc::new(SeededRandom::new(7)), |_| None);
        let mut service = layer.layer(tower::service_fn(|_: Request<()>| {
            std::future::pending::<Result<Response<Frames>, Infallible>>()
        }));
        let answer = service.call(Request::post(SEND).body(()).unwrap());
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

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[rstest]
    #[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true)]
    #[case("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true)]
    #[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false)]
    #[case("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false)]
    #[case("00-00000000000000000000000000000000-b7ad6b7169203331-01", false)]
    #[case("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false)]
    #[case("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false)]
    #[case("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", false)]
    #[case("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false)]
    #[case("", false)]
    fn a_trace_context_is_taken_when_well_formed(#[case] text: &str, #[case] taken: bool) {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", text.parse().unwrap());
        let found = trace_context(&headers);
        assert_eq!(found, taken.then_some((TRACE, "b7ad6b7169203331")));
    }

    #[test]
    fn codes_have_their_names() {
        assert_eq!(code_name(Code::Ok), "OK");
        assert_eq!(code_name(Code::Cancelled), "CANCELLED");
        assert_eq!(code_name(Code::Internal), "INTERNAL");
        assert_eq!(code_name(Code::Unauthenticated), "UNAUTHENTICATED");
    }

    #[test]
    fn a_stream_keeps_little() {
        assert!(size_of::<Call>() <= 96, "{}", size_of::<Call>());
    }
}
