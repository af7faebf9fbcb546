//! The Connect protocol: calls as plain HTTP, from curl and from Connect's own clients.
//!
//! What is not gRPC is turned into gRPC before anything looks at it, and its answer is
//! turned back: tokens, limits, the log and the services know one kind of call.
//!
//! - A call that is answered once is `application/json` or `application/proto`; a stream is
//!   `application/connect+json` or `application/connect+proto`.
//! - JSON is protobuf's own mapping of it. A field that the message lacks is refused: it is
//!   a typing error, or was meant to do something.
//! - A body is read when a service asks for it, so not before its token was verified, and
//!   never above the limit of a message. What is wrong with it fails the reading.
//! - What is not read of a body is read and thrown away before the answer, up to a limit:
//!   a client that is still sending loses an answer that comes with the end of it.
//! - The call holds its places until its answer was taken, as it does in gRPC.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, Either},
    stream,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TE},
};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use prost::Message as _;
use prost_reflect::{
    DescriptorError, DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions,
};
use serde_json::{Value, error::Category, json};
use serde_path_to_error::Track;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use tonic_types::FieldViolation;

use super::status::{self, shown};
use crate::proto::{self, ErrorReason, json::whole};

#[cfg(test)]
mod tests;

type Request = http::Request<Body>;
type Response = http::Response<tonic::body::Body>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

const VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
/// Of a stream's messages; that of a body is `content-encoding`.
const ENVELOPE_ENCODING: HeaderName = HeaderName::from_static("connect-content-encoding");
const ENVELOPE_ACCEPT: HeaderName = HeaderName::from_static("connect-accept-encoding");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// What a message begins with on a stream of Connect's and of gRPC's alike: a byte of
/// flags, and its length.
const PREFIX_BYTES: usize = 5;
const COMPRESSED: u8 = 1;
/// The last of a stream, which is JSON and says how it ended.
const END_OF_STREAM: u8 = 2;

/// What curl sends over HTTP/1.1 without asking first, in bytes.
const UNASKED_BYTES: usize = 1024 * 1024;

/// A code as Connect has it: its name, and the status of HTTP that goes with it.
fn of_code(code: Code) -> (&'static str, u16) {
    match code {
        Code::Ok => ("ok", 200),
        Code::Cancelled => ("canceled", 499),
        Code::Unknown => ("unknown", 500),
        Code::InvalidArgument => ("invalid_argument", 400),
        Code::DeadlineExceeded => ("deadline_exceeded", 504),
        Code::NotFound => ("not_found", 404),
        Code::AlreadyExists => ("already_exists", 409),
        Code::PermissionDenied => ("permission_denied", 403),
        Code::ResourceExhausted => ("resource_exhausted", 429),
        Code::FailedPrecondition => ("failed_precondition", 400),
        Code::Aborted => ("aborted", 409),
        Code::OutOfRange => ("out_of_range", 400),
        Code::Unimplemented => ("unimplemented", 501),
        Code::Internal => ("internal", 500),
        Code::Unavailable => ("unavailable", 503),
        Code::DataLoss => ("data_loss", 500),
        Code::Unauthenticated => ("unauthenticated", 401),
    }
}

/// Turns what is not gRPC into gRPC, and its answers back. To be laid around what
/// translates gRPC-web, which lets nothing else through over HTTP/1.1.
#[derive(Clone)]
pub struct Layer(Arc<Schema>);

impl Layer {
    /// Serves the calls of `schema`.
    pub fn new(schema: Arc<Schema>) -> Self {
        Self(schema)
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Connect<S>;

    fn layer(&self, inner: S) -> Connect<S> {
        Connect {
            schema: self.0.clone(),
            inner,
        }
    }
}

/// What [`Layer`] makes of a service.
#[derive(Clone)]
pub struct Connect<S> {
    schema: Arc<Schema>,
    inner: S,
}

impl<S> tower::Service<Request> for Connect<S>
where
    S: tower::Service<Request, Response = Response>,
    S::Error: Send,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let content_type = request.headers().get(CONTENT_TYPE);
        // gRPC-web too.
        if content_type.is_some_and(|text| text.as_bytes().starts_with(b"application/grpc")) {
            return Either::Left(self.inner.call(request));
        }
        let (request, unread) = Unread::of(request, self.schema.discarded_bytes);
        let (asked, request) = self.schema.turn(request);
        let answer = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let answer = answer.await?;
            unread.discard().await;
            Ok(asked.answer(answer).await)
        }))
    }
}

/// What is left of a request's body when nobody wants it any more.
struct Unread {
    left: oneshot::Receiver<Body>,
    most_bytes: usize,
}

impl Unread {
    fn of(request: Request, most_bytes: usize) -> (Request, Self) {
        let (left_to, left) = oneshot::channel();
        let headers = request.headers();
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
        // Who asks first has not sent it, and who sends more would not be done.
        let is_worth_it =
            !headers.contains_key(EXPECT) && length.is_none_or(|length| length <= most_bytes);
        let left_to = is_worth_it.then_some(left_to);
        let request = request.map(|inner| Body::new(Leaving { inner, left_to }));
        (request, Self { left, most_bytes })
    }

    async fn discard(mut self) {
        let Ok(mut body) = self.left.try_recv() else {
            return;
        };
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > self.most_bytes {
                return;
            }
        }
    }
}

/// A body that is handed on when it is dropped.
struct Leaving {
    inner: Body,
    left_to: Option<oneshot::Sender<Body>>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(left_to) = self.left_to.take() {
            // Fails where the client is gone too.
            let _ = left_to.send(std::mem::take(&mut self.inner));
        }
    }
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
}

/// The calls there are, and what their messages look like.
pub struct Schema {
    /// By their paths.
    calls: HashMap<String, Call>,
    pool: DescriptorPool,
    /// The most bytes of a body that are thrown away.
    discarded_bytes: usize,
}

#[derive(Clone)]
struct Call {
    input: MessageDescriptor,
    output: MessageDescriptor,
    is_stream: bool,
    most_bytes: usize,
    most_parts: usize,
}

impl Schema {
    /// Our calls, and those of the health. `most_bytes` is the limit of a message of ours
    /// that is answered once, `most_open_bytes` that of streams and of what needs no token;
    /// `most_parts` that of the lists, objects and commas of one in JSON: what it means takes
    /// much more memory than its text, by each of these.
    pub fn new(
        most_bytes: usize,
        most_open_bytes: usize,
        most_parts: usize,
    ) -> Result<Self, DescriptorError> {
        let mut pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET)?;
        pool.decode_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)?;
        // The details of errors.
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        let mut calls = HashMap::new();
        for service in pool.services() {
            let is_ours = service.package_name() == status::DOMAIN;
            for method in service.methods() {
                let is_stream = method.is_server_streaming();
                let call = Call {
                    input: method.input(),
                    output: method.output(),
                    is_stream,
                    most_bytes: match is_ours && !is_stream {
                        true => most_bytes,
                        false => most_open_bytes,
                    },
                    most_parts,
                };
                calls.insert(format!("/{}/{}", service.full_name(), method.name()), call);
            }
        }
        Ok(Self {
            calls,
            pool,
            // Twice the largest, or what comes at once.
            discarded_bytes: most_bytes.saturating_mul(2).max(UNASKED_BYTES),
        })
    }

    /// Whether there is a call of this path.
    pub fn has(&self, path: &str) -> bool {
        self.calls.contains_key(path)
    }

    /// The message that JSON is to the call of this path, encoded.
    pub fn encoded(&self, path: &str, json: &[u8]) -> Result<Vec<u8>, Status> {
        let call = self.calls.get(path).ok_or_else(status::internal)?;
        from_json(call, json)
    }

    /// A request of the call of this path, as JSON.
    pub fn json(&self, path: &str, request: &[u8]) -> Option<Vec<u8>> {
        to_json(&self.calls.get(path)?.input, request)
    }

    /// The request as gRPC has it, and how to answer it.
    fn turn(self: &Arc<Self>, request: Request) -> (Asked, Request) {
        let (mut head, mut body) = request.into_parts();
        head.version = Version::HTTP_2;
        let asked = Asked {
            schema: self.clone(),
            call: self.calls.get(head.uri.path()).cloned(),
            kind: Kind::of(&head.headers),
        };
        // What is none of them is left as it is: it is not for Connect.
        if let (Some(call), Some(kind)) = (asked.call.clone(), asked.kind) {
            let reading = Reading::new(kind, &mut head.headers);
            let headers = &mut head.headers;
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
            body = Body::from_stream(stream::once(reading.message(call, body)));
        }
        (asked, Request::from_parts(head, body))
    }

    /// An error as Connect writes it.
    fn error(&self, status: &Status) -> String {
        let (code, _) = of_code(status.code());
        let details = tonic_types::Status::decode(status.details()).unwrap_or_default();
        let details = details.details.iter().map(|detail| {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            let value = BASE64_STANDARD_NO_PAD.encode(&detail.value);
            let readable = self.pool.get_message_by_name(name).and_then(|descriptor| {
                let message = DynamicMessage::decode(descriptor, &*detail.value).ok()?;
                serde_json::to_value(&message).ok()
            });
            match readable {
                None => json!({"type": name, "value": value}),
                Some(readable) => json!({"type": name, "value": value, "debug": readable}),
            }
        });
        let details: Vec<_> = details.collect();
        // What a person looks for comes first.
        let (code, message) = (json!(code), json!(status.message()));
        let details = json!(details);
        format!(r#"{{"code":{code},"message":{message},"details":{details}}}"#)
    }
}

/// How a request is written, and so its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    is_json: bool,
    is_stream: bool,
}

impl Kind {
    const ALL: [(&'static str, Self); 4] = [
        ("application/json", Self::new(true, false)),
        ("application/proto", Self::new(false, false)),
        ("application/connect+json", Self::new(true, true)),
        ("application/connect+proto", Self::new(false, true)),
    ];

    const fn new(is_json: bool, is_stream: bool) -> Self {
        Self { is_json, is_stream }
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let name = text.split(';').next().unwrap_or_default().trim();
        let mut all = Self::ALL.iter();
        let found = all.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(found.1)
    }

    fn content_type(self) -> HeaderValue {
        let mut all = Self::ALL.iter();
        let found = all.find(|(_, kind)| *kind == self);
        HeaderValue::from_static(found.map_or("", |(name, _)| name))
    }
}

/// What the headers of a request say of its body.
struct Reading {
    kind: Kind,
    encoding: Option<HeaderValue>,
    /// As it says itself, in bytes.
    length: Option<u64>,
    problem: Option<&'static str>,
}

impl Reading {
    /// Takes what is Connect's out of the headers, and leaves what gRPC has in its place.
    fn new(kind: Kind, headers: &mut HeaderMap) -> Self {
        let encoding = headers.remove(CONTENT_ENCODING);
        let of_envelopes = headers.remove(ENVELOPE_ENCODING);
        let length = headers.remove(CONTENT_LENGTH);
        for name in [
            ACCEPT_ENCODING,
            ENVELOPE_ACCEPT,
            GRPC_ENCODING,
            GRPC_TIMEOUT,
        ] {
            headers.remove(name);
        }
        let mut problem = None;
        if headers.remove(VERSION).is_some_and(|text| text != "1") {
            problem = Some("connect-protocol-version: must be 1");
        }
        if let Some(text) = headers.remove(TIMEOUT) {
            match timeout(&text) {
                Some(timeout) => {
                    headers.insert(GRPC_TIMEOUT, timeout);
                }
                None => {
                    problem = Some(
                        "connect-timeout-ms: must be a whole number of milliseconds, \
                         of at most 10 digits",
                    );
                }
            }
        }
        Self {
            kind,
            encoding: if kind.is_stream {
                of_envelopes
            } else {
                encoding
            },
            length: length.and_then(|text| text.to_str().ok()?.parse().ok()),
            problem,
        }
    }

    /// Reads the body to its end: the one message of a request, as gRPC has it.
    async fn message(self, call: Call, body: Body) -> Result<Bytes, BoxError> {
        if self.kind.is_stream != call.is_stream {
            return Err(of_another_kind(&call).into());
        }
        if let Some(problem) = self.problem {
            return Err(status::malformed(problem).into());
        }
        let is_gzip = self.is_gzip()?;
        let most = call.most_bytes;
        let body = self.read(body, most).await?;
        let (body, is_gzip) = match self.kind.is_stream {
            true => opened(body, is_gzip)?,
            false => (body, is_gzip),
        };
        let body = match is_gzip && !body.is_empty() {
            true => unzipped(&body, most)?,
            false => body,
        };
        let message = match self.kind.is_json {
            true => from_json(&call, &body)?.into(),
            false => body,
        };
        Ok(enveloped(0, &message))
    }

    fn is_gzip(&self) -> Result<bool, Status> {
        match self.encoding.as_ref().map(HeaderValue::as_bytes) {
            None | Some(b"identity" | b"") => Ok(false),
            Some(b"gzip") => Ok(true),
            Some(_) => {
                let message = "this content-encoding is not supported: gzip and identity are";
                let reason = ErrorReason::UnknownMethod;
                Err(status::new(Code::Unimplemented, reason, message))
            }
        }
    }

    async fn read(&self, body: Body, most: usize) -> Result<Bytes, BoxError> {
        let most = match self.kind.is_stream {
            true => most + PREFIX_BYTES,
            false => most,
        };
        if self.length.is_some_and(|length| length > most as u64) {
            return Err(status::too_large().into());
        }
        match Limited::new(body, most).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(status::too_large().into()),
            Err(error) => Err(error),
        }
    }
}

/// Milliseconds as gRPC writes them, in at most 8 digits.
fn timeout(text: &HeaderValue) -> Option<HeaderValue> {
    let text = text.to_str().ok()?;
    if text.len() > 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = text.parse().ok()?;
    let text = match millis < 100_000_000 {
        true => format!("{millis}m"),
        false => format!("{}S", millis / 1000),
    };
    text.try_into().ok()
}

/// A stream that is asked for as a call, or a call as a stream.
fn of_another_kind(call: &Call) -> Status {
    let message = match call.is_stream {
        true => {
            "this call is a stream: ask for it with a client of Connect, gRPC or gRPC-web \
             (content-type application/connect+json, application/connect+proto, \
             application/grpc or application/grpc-web)"
        }
        false => {
            "this call is no stream: its content-type must be application/json or \
             application/proto"
        }
    };
    status::new(Code::Unimplemented, ErrorReason::UnknownMethod, message)
}

/// The one message of a stream's request, and whether it is compressed.
fn opened(body: Bytes, may_be_gzip: bool) -> Result<(Bytes, bool), Status> {
    let mut rest = BytesMut::from(body);
    let flags = rest.first().copied();
    match (flags, next_message(&mut rest), rest.is_empty()) {
        (Some(0), Some(message), true) => Ok((message, false)),
        (Some(COMPRESSED), Some(message), true) if may_be_gzip => Ok((message, true)),
        _ => {
            let message = "the body must be one message in an envelope: a byte of flags, \
                           which is 1 where it is compressed as connect-content-encoding \
                           says, and 4 bytes of its length";
            Err(status::malformed(message))
        }
    }
}

/// A message as both protocols have it on a stream.
fn enveloped(flags: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(flags);
    // None comes near it: a message has a limit.
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Takes the next whole message out of its envelope.
fn next_message(bytes: &mut BytesMut) -> Option<Bytes> {
    let (prefix, rest) = bytes.split_at_checked(PREFIX_BYTES)?;
    let length = (&prefix[1..]).get_u32() as usize;
    if rest.len() < length {
        return None;
    }
    bytes.advance(PREFIX_BYTES);
    Some(bytes.split_to(length).freeze())
}

fn unzipped(bytes: &[u8], most: usize) -> Result<Bytes, Status> {
    let mut unzipped = Vec::new();
    let mut reader = MultiGzDecoder::new(bytes).take(most as u64 + 1);
    match reader.read_to_end(&mut unzipped) {
        Ok(length) if length > most => Err(status::too_large()),
        Ok(_) => Ok(unzipped.into()),
        Err(_) => Err(status::malformed("the body is not gzip, as it says it is")),
    }
}

/// Whether JSON has more lists, objects and commas than `most`; those of its texts are none.
fn has_more_parts(json: &[u8], most: usize) -> bool {
    let (mut is_text, mut is_escaped) = (false, false);
    let parts = json.iter().filter(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            _ => {}
        }
        !is_text && b",[{".contains(byte)
    });
    parts.take(most.saturating_add(1)).count() > most
}

/// A message of a call that is JSON, encoded.
fn from_json(call: &Call, json: &[u8]) -> Result<Vec<u8>, Status> {
    if json.trim_ascii().is_empty() {
        let message = "the body is empty: a request without fields is {}";
        return Err(status::malformed(message));
    }
    if has_more_parts(json, call.most_parts) {
        let most = call.most_parts;
        let message = format!("the request must have at most {most} lists, objects and commas");
        let reason = ErrorReason::RequestTooLarge;
        return Err(status::new(Code::InvalidArgument, reason, message));
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut track = Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
    let read = DynamicMessage::deserialize(call.input.clone(), tracked);
    let read = read.and_then(|message| reader.end().map(|()| message));
    match read {
        Ok(message) => Ok(message.encode_to_vec()),
        Err(error) => Err(refused(&error, &track.path().to_string())),
    }
}

/// What is wrong with JSON. `path` leads to it, from the message.
fn refused(error: &serde_json::Error, path: &str) -> Status {
    let text = error.to_string();
    if error.classify() != Category::Data {
        return status::malformed(&shown(&format!("the body is not JSON: {text}")));
    }
    // A name that is none stands in the text alone: the path ends at its object.
    let unknown = text.strip_prefix("unrecognized field name '");
    let unknown = unknown.and_then(|rest| rest.split('\'').next());
    let field = match (path, unknown) {
        (".", None) => return status::malformed(&shown(&format!("the body: {text}"))),
        (".", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    };
    status::invalid(vec![FieldViolation::new(shown(&field), shown(&text))])
}

/// A message as JSON; none where the bytes are no such message.
fn to_json(descriptor: &MessageDescriptor, message: &[u8]) -> Option<Vec<u8>> {
    let message = DynamicMessage::decode(descriptor.clone(), message).ok()?;
    let mut json = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut json, Plain);
    let options = SerializeOptions::new();
    message.serialize_with_options(&mut writer, &options).ok()?;
    Some(json)
}

/// Writes whole numbers of `data` as such: 3, not 3.0.
struct Plain;

impl serde_json::ser::Formatter for Plain {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        match whole(value) {
            Some(value) => write!(writer, "{value}"),
            None => serde_json::ser::CompactFormatter.write_f64(writer, value),
        }
    }
}

/// A request that was turned, until it is answered.
struct Asked {
    schema: Arc<Schema>,
    /// None: there is no such call.
    call: Option<Call>,
    /// None: its content-type is not one of Connect's.
    kind: Option<Kind>,
}

impl Asked {
    async fn answer(self, response: Response) -> Response {
        let (mut head, body) = response.into_parts();
        let status = Status::from_header_map(&head.headers);
        keep_metadata(&mut head.headers);
        let (Some(call), Some(kind)) = (&self.call, self.kind) else {
            let status = status.unwrap_or_else(status::internal);
            return self.failed(&status, head);
        };
        if kind.is_stream != call.is_stream || head.status != StatusCode::OK {
            let status = status.unwrap_or_else(status::internal);
            return self.failed(&status, head);
        }
        if kind.is_stream {
            return self.stream(kind, call.clone(), status, head, body);
        }
        match status {
            Some(status) => self.failed(&status, head),
            None => self.once(kind, call, head, body).await,
        }
    }

    /// Answers a call that is no stream, and has no status yet.
    async fn once(
        &self,
        kind: Kind,
        call: &Call,
        mut head: http::response::Parts,
        mut body: tonic::body::Body,
    ) -> Response {
        let mut bytes = BytesMut::new();
        let mut trailers = HeaderMap::new();
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => bytes.put(data),
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        let status = Status::from_header_map(&trailers).unwrap_or_else(status::internal);
        keep_metadata(&mut trailers);
        for (name, value) in &trailers {
            if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
                head.headers.append(name, value.clone());
            }
        }
        if status.code() != Code::Ok {
            return self.failed(&status, head);
        }
        let message = next_message(&mut bytes).and_then(|message| match kind.is_json {
            true => to_json(&call.output, &message).map(Bytes::from),
            false => Some(message),
        });
        let Some(message) = message else {
            return self.failed(&status::internal(), head);
        };
        head.headers.insert(CONTENT_TYPE, kind.content_type());
        // It has no length beforehand and does not end with its last bytes: so it is asked
        // once more when they were taken, and until then it has what the call holds.
        let frames = stream::iter([Ok::<_, Status>(Frame::data(message))]);
        let frames = frames.map(move |frame| {
            let _ = &body;
            frame
        });
        Response::from_parts(head, tonic::body::Body::new(StreamBody::new(frames)))
    }

    /// Answers a stream; with `status`, it has ended already.
    fn stream(
        &self,
        kind: Kind,
        call: Call,
        status: Option<Status>,
        mut head: http::response::Parts,
        body: tonic::body::Body,
    ) -> Response {
        head.headers.insert(CONTENT_TYPE, kind.content_type());
        let mut body = Enveloped {
            schema: self.schema.clone(),
            json: kind.is_json.then_some(call.output),
            inner: body,
            rest: BytesMut::new(),
            last: None,
            is_ended: false,
        };
        if let Some(status) = status {
            body.last = Some(body.end(&status, &HeaderMap::new()));
        }
        Response::from_parts(head, tonic::body::Body::new(body))
    }

    /// An answer that is an error.
    fn failed(&self, status: &Status, mut head: http::response::Parts) -> Response {
        let is_stream = self.call.as_ref().is_some_and(|call| call.is_stream);
        let is_of_its_kind = self.kind.is_none_or(|kind| kind.is_stream == is_stream);
        if head.status == StatusCode::OK {
            let (_, of_code) = of_code(status.code());
            head.status = match (status.code(), &self.call) {
                (Code::Unimplemented, None) => StatusCode::NOT_FOUND,
                (Code::Unimplemented, Some(_)) if !is_of_its_kind => {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE
                }
                _ => StatusCode::from_u16(of_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            };
        }
        let headers = &mut head.headers;
        if head.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(ACCEPT_POST, HeaderValue::from_static(accepted(is_stream)));
        }
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        let body = Full::new(Bytes::from(self.schema.error(status)));
        Response::from_parts(head, tonic::body::Body::new(body))
    }
}

/// The content types that a call takes.
fn accepted(is_stream: bool) -> &'static str {
    match is_stream {
        false => {
            "application/json, application/proto, application/grpc, application/grpc+proto, \
             application/grpc-web, application/grpc-web+proto, application/grpc-web-text"
        }
        true => {
            "application/connect+json, application/connect+proto, application/grpc, \
             application/grpc+proto, application/grpc-web, application/grpc-web+proto, \
             application/grpc-web-text"
        }
    }
}

/// Takes out of headers or trailers what is gRPC's own.
fn keep_metadata(headers: &mut HeaderMap) {
    let names = headers
        .keys()
        .filter(|name| name.as_str().starts_with("grpc-"));
    let names: Vec<_> = names.cloned().collect();
    for name in names.into_iter().chain([CONTENT_TYPE, CONTENT_LENGTH]) {
        headers.remove(name);
    }
}

/// The body of a stream: gRPC's messages, and at last how it ended.
struct Enveloped {
    schema: Arc<Schema>,
    /// Of the messages, where they are to be JSON.
    json: Option<MessageDescriptor>,
    inner: tonic::body::Body,
    /// What is no whole message yet.
    rest: BytesMut,
    last: Option<Bytes>,
    is_ended: bool,
}

impl Enveloped {
    /// The last message. What trailers say besides the status goes with it.
    fn end(&self, status: &Status, trailers: &HeaderMap) -> Bytes {
        let mut metadata = serde_json::Map::new();
        for name in trailers.keys() {
            let values = trailers.get_all(name).iter();
            let values = values.filter_map(|value| value.to_str().ok());
            metadata.insert(name.to_string(), values.collect::<Value>());
        }
        let mut parts = Vec::new();
        if status.code() != Code::Ok {
            parts.push(format!(r#""error":{}"#, self.schema.error(status)));
        }
        if !metadata.is_empty() {
            parts.push(format!(r#""metadata":{}"#, Value::Object(metadata)));
        }
        enveloped(END_OF_STREAM, format!("{{{}}}", parts.join(",")).as_bytes())
    }

    /// What goes on as these bytes of gRPC; none where they are no messages.
    fn messages(&mut self, data: Bytes) -> Option<Bytes> {
        let Some(descriptor) = &self.json else {
            return Some(data);
        };
        self.rest.put(data);
        let mut messages = BytesMut::new();
        while let Some(message) = next_message(&mut self.rest) {
            messages.put(enveloped(0, &to_json(descriptor, &message)?));
        }
        Some(messages.freeze())
    }
}

impl http_body::Body for Enveloped {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if this.is_ended {
                return Poll::Ready(None);
            }
            if let Some(last) = this.last.take() {
                this.is_ended = true;
                return Poll::Ready(Some(Ok(Frame::data(last))));
            }
            let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // gRPC knows no end without a status.
                None => Frame::trailers(HeaderMap::new()),
            };
            match frame.into_data() {
                Ok(data) => match this.messages(data) {
                    Some(data) if data.is_empty() => {}
                    Some(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    None => this.last = Some(this.end(&status::internal(), &HeaderMap::new())),
                },
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    let status = Status::from_header_map(&trailers);
                    keep_metadata(&mut trailers);
                    let status = status.unwrap_or_else(status::internal);
                    this.last = Some(this.end(&status, &trailers));
                }
            }
        }
    }
}
