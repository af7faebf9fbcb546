//! What the tests of the calls share: requests, errors taken apart, streams that
//! cannot hang a test, calls made of bytes, and what an operator sees.

use std::{net::SocketAddr, time::Duration};

use bytes::{BufMut as _, Bytes};
use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    proto::{
        self, GetRecentRequest, MarkReadRequest, Notification, SendInAppRequest, SubscribeRequest,
        SubscribeResponse, Through, subscribe_response::Event,
    },
    store::Edit,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    history::{Change, Head, History},
    process::PATIENCE,
    server::{Client, SECRET, Server},
};

/// The path of a method is this and its name.
pub const SERVICE: &str = "/doorbell.v1.NotificationService/";

pub type Messages = Streaming<SubscribeResponse>;

/// The least that a send needs.
pub fn send(organization: &str, user: &str, title: &str) -> SendInAppRequest {
    SendInAppRequest {
        organization_id: organization.into(),
        recipient_user_id: user.into(),
        r#type: "greeting".into(),
        title: title.into(),
        ..SendInAppRequest::default()
    }
}

pub fn mark(ids: impl IntoIterator<Item = String>) -> MarkReadRequest {
    MarkReadRequest {
        notification_ids: ids.into_iter().collect(),
        ..MarkReadRequest::default()
    }
}

pub fn mark_through(revision: u64, epoch: &str, types: &[&str]) -> MarkReadRequest {
    MarkReadRequest {
        through: Some(Through {
            revision,
            epoch: epoch.into(),
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        }),
        ..MarkReadRequest::default()
    }
}

pub fn after(revision: u64) -> SubscribeRequest {
    SubscribeRequest {
        after_revision: Some(revision),
        epoch: None,
    }
}

/// The epoch of the store, as a reader learns it.
pub async fn epoch(reader: &mut Client) -> String {
    let page = reader.get_recent(GetRecentRequest::default()).await;
    page.unwrap().into_inner().epoch
}

/// A sender and a reader of one inbox, which note all that they change.
pub struct Inbox {
    pub organization: String,
    pub user: String,
    pub sender: Client,
    pub reader: Client,
    pub history: History,
    /// In the order in which they were made.
    pub ids: Vec<Uuid>,
}

impl Inbox {
    pub async fn new(server: &Server, organization: &str, user: &str) -> Self {
        Self {
            organization: organization.into(),
            user: user.into(),
            sender: server.sender().await,
            reader: server.user(organization, user).await,
            history: History::default(),
            ids: Vec::new(),
        }
    }

    pub async fn send(&mut self, title: &str) -> Notification {
        let request = send(&self.organization, &self.user, title);
        let answer = self.sender.send_in_app(request).await.unwrap().into_inner();
        self.sent(answer.notification.unwrap(), answer.head.into())
    }

    /// Notes a send that somebody else made.
    pub fn sent(&mut self, sent: Notification, head: Head) -> Notification {
        let id = Uuid::parse_str(&sent.id).unwrap();
        self.history.add(Change::sent(id), head).unwrap();
        self.ids.push(id);
        sent
    }

    /// Marks as read: these are unread.
    pub async fn mark(&mut self, ids: &[Uuid]) -> u64 {
        let request = mark(ids.iter().map(Uuid::to_string));
        let answer = self.reader.mark_read(request).await.unwrap().into_inner();
        assert_eq!(answer.changed_count as usize, ids.len());
        let head = Head::from(answer.head);
        let change = Change::Edited(Edit::Read, ids.to_vec());
        self.history.add(change, head).unwrap();
        head.revision
    }

    /// A stream whose first message is still to be taken.
    pub async fn subscribe(&mut self, request: SubscribeRequest) -> Messages {
        self.reader.subscribe(request).await.unwrap().into_inner()
    }
}

/// The next message; a stream that ends, or is silent for too long, fails.
pub async fn next(stream: &mut Messages) -> SubscribeResponse {
    timeout(PATIENCE, stream.message())
        .await
        .expect("a message comes")
        .expect("the stream goes on")
        .expect("the stream has not ended")
}

/// What is left of a stream, and how it ended.
pub async fn rest(stream: &mut Messages) -> (Vec<SubscribeResponse>, Result<(), Status>) {
    let mut messages = Vec::new();
    loop {
        match timeout(PATIENCE, stream.message())
            .await
            .expect("the stream ends")
        {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(status) => return (messages, Err(status)),
        }
    }
}

/// Takes messages up to the end of the replay.
pub async fn until_caught_up(stream: &mut Messages) -> Vec<SubscribeResponse> {
    let mut messages = Vec::new();
    loop {
        let message = next(stream).await;
        let done = matches!(message.event, Some(Event::CaughtUp(_)));
        messages.push(message);
        if done {
            return messages;
        }
    }
}

/// Revision and unread count.
pub fn counts(head: Option<proto::Head>) -> (u64, u32) {
    let head = Head::from(head);
    (head.revision, head.unread_count)
}

/// Position, revision, unread count and whether it rings.
pub fn head(message: &SubscribeResponse) -> (u64, u64, u32, bool) {
    let (revision, unread_count) = counts(message.head);
    (message.position, revision, unread_count, message.ring)
}

/// What a client learns of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub reason: String,
    /// The fields that a violation names.
    pub fields: Vec<String>,
    pub retry: Option<Duration>,
}

/// Takes a status apart; one that is not as all are to be fails.
pub fn refusal(status: &Status) -> Refusal {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "doorbell.v1", "{status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    let violations = details.bad_request().map(|bad| &bad.field_violations);
    for violation in violations.into_iter().flatten() {
        assert!(!violation.description.is_empty(), "{status:?}");
    }
    Refusal {
        code: status.code(),
        reason: info.reason.clone(),
        fields: violations
            .into_iter()
            .flatten()
            .map(|violation| violation.field.clone())
            .collect(),
        retry: details.retry_info().and_then(|retry| retry.retry_delay),
    }
}

#[track_caller]
pub fn assert_refused<T>(answer: Result<T, Status>, code: Code, reason: &str) -> Refusal {
    let status = answer.err().expect("it is refused");
    let refusal = refusal(&status);
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (code, reason),
        "{status:?}"
    );
    refusal
}

/// `INVALID_ARGUMENT` that names exactly these fields, each for one fault or more.
#[track_caller]
pub fn assert_invalid<T>(answer: Result<T, Status>, fields: &[&str]) {
    let mut refusal = assert_refused(answer, Code::InvalidArgument, "INVALID_REQUEST");
    refusal.fields.dedup();
    assert_eq!(refusal.fields, fields);
}

/// A token of any claims, well signed.
pub fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// The moment `life` from now, in whole seconds.
pub fn in_seconds(life: i64) -> i64 {
    SystemClock.now().as_micros().div_euclid(1_000_000) + life
}

pub fn moment(time: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos / 1000))
}

/// One message in the frame of gRPC.
pub fn frame(message: &[u8]) -> Bytes {
    lying_frame(0, u32::try_from(message.len()).unwrap(), message)
}

/// A frame with a flag and a length of one's own choice.
pub fn lying_frame(flag: u8, length: u32, message: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.extend_from_slice(message);
    frame.into()
}

/// The two ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// HTTP/2, `application/grpc`.
    Grpc,
    /// HTTP/1.1, `application/grpc-web+proto`.
    Web,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Web];

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web+proto",
        }
    }
}

/// What came back of a call of bytes.
#[derive(Debug)]
pub struct Answer {
    pub http: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    trailers: HeaderMap,
}

impl Answer {
    /// The status of the call: in the headers, in the trailers, or, in gRPC-web,
    /// in the last frame. `None`: whatever answered does not speak gRPC.
    pub fn status(&self) -> Option<Status> {
        Status::from_header_map(&self.headers)
            .or_else(|| Status::from_header_map(&self.trailers))
            .or_else(|| Status::from_header_map(&self.web_trailers()?))
    }

    fn web_trailers(&self) -> Option<HeaderMap> {
        let mut rest = &self.body[..];
        while let [flag, a, b, c, d, more @ ..] = rest {
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let (message, more) = more.split_at_checked(length)?;
            if *flag & 0x80 == 0 {
                rest = more;
                continue;
            }
            let mut trailers = HeaderMap::new();
            for line in std::str::from_utf8(message).ok()?.lines() {
                let (name, value) = line.split_once(':')?;
                let name = http::HeaderName::try_from(name.trim()).ok()?;
                trailers.append(name, value.trim().parse().ok()?);
            }
            return Some(trailers);
        }
        None
    }
}

/// A call made of bytes; an error is one of the connection.
pub async fn exchange(
    server: &Server,
    way: Way,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, hyper::Error> {
    exchange_at(server.setup.listen, way, path, headers, body).await
}

/// As [`exchange`], on another port.
pub async fn exchange_at(
    address: SocketAddr,
    way: Way,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, hyper::Error> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let mut request = Request::post(match way {
        Way::Grpc => format!("http://{address}{path}"),
        Way::Web => path.to_owned(),
    });
    if way == Way::Web {
        request = request.header("host", address.to_string());
    }
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", way.content_type());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    let answered = async {
        let response = match way {
            Way::Grpc => {
                let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
                let (mut sender, connection) = builder.handshake(stream).await?;
                tokio::spawn(connection);
                sender.send_request(request).await?
            }
            Way::Web => {
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(stream).await?;
                tokio::spawn(connection);
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        Ok(Answer {
            http: parts.status,
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            body: collected.to_bytes(),
        })
    };
    timeout(PATIENCE, answered)
        .await
        .expect("an answer or an end")
}

/// A page of the port for who runs the server: its status line and all else.
pub async fn page(address: SocketAddr, path: &str) -> String {
    // The pages come a moment after the server says that it listens.
    let connected = async {
        loop {
            match TcpStream::connect(address).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let mut stream = timeout(PATIENCE, connected).await.expect("a listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .expect("a page")
        .unwrap();
    answer
}

/// The value of one series of `/metrics`.
pub async fn metric(address: SocketAddr, series: &str) -> f64 {
    let page = page(address, "/metrics").await;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {page}"))
        .parse()
        .unwrap()
}

/// Resident memory of the server's process, in KiB.
pub fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches("kB").trim();
    kib.parse().unwrap()
}

/// Asks again and again until it is true.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("not so: {what}"));
}
