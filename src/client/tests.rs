//! The client against a service whose every answer the test gives, over real
//! sockets.

use std::{net::SocketAddr, sync::atomic::AtomicU32, sync::atomic::Ordering::Relaxed};

use futures_util::FutureExt as _;
use tokio::{
    net::TcpListener,
    runtime::Runtime,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{
    codegen::BoxStream,
    transport::{Identity, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{
    clock::Timestamp,
    grpc::{
        encoded,
        server::notification_service_server::{NotificationService, NotificationServiceServer},
        status,
    },
    proto::{
        CaughtUp, Changed, ChangedNotification, Connected, ErrorReason, Head, Heartbeat,
        MarkReadRequest, MarkReadResponse, Reconnect, Reset, SubscribeRequest, SubscribeResponse,
        subscribe_response::Event as Wire,
    },
    random::SeededRandom,
};

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

type Messages = mpsc::UnboundedSender<Result<SubscribeResponse, Status>>;

/// One call that waits for the test's answer.
pub(crate) struct Call {
    token: String,
    from: Option<SocketAddr>,
    pub(crate) ask: Ask,
}

pub(crate) enum Ask {
    Send(Box<SendInAppRequest>, Reply<SendInAppResponse>),
    MarkRead(MarkReadRequest, Reply<MarkReadResponse>),
    Count(Reply<GetUnreadCountResponse>),
    Recent(GetRecentRequest, Reply<GetRecentResponse>),
    Subscribe(
        SubscribeRequest,
        Reply<mpsc::UnboundedReceiver<Result<SubscribeResponse, Status>>>,
    ),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Status>>;

struct Mock(mpsc::UnboundedSender<Call>);

impl Mock {
    async fn ask<Q, A>(
        &self,
        request: Request<Q>,
        ask: impl FnOnce(Q, Reply<A>) -> Ask,
    ) -> Result<A, Status> {
        let token = request.metadata().get("authorization");
        let token = token.map_or("", |token| token.to_str().unwrap()).to_owned();
        let from = request.remote_addr();
        let (reply, answer) = oneshot::channel();
        let ask = ask(request.into_inner(), reply);
        let gone = || Status::unavailable("the test is over");
        self.0.send(Call { token, from, ask }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[tonic::async_trait]
impl NotificationService for Mock {
    async fn send_in_app(
        &self,
        request: Request<SendInAppRequest>,
    ) -> Result<Response<SendInAppResponse>, Status> {
        let ask = |request, reply| Ask::Send(Box::new(request), reply);
        self.ask(request, ask).await.map(Response::new)
    }

    async fn mark_read(
        &self,
        request: Request<MarkReadRequest>,
    ) -> Result<Response<MarkReadResponse>, Status> {
        self.ask(request, Ask::MarkRead).await.map(Response::new)
    }

    async fn get_unread_count(
        &self,
        request: Request<GetUnreadCountRequest>,
    ) -> Result<Response<GetUnreadCountResponse>, Status> {
        let ask = |_, reply| Ask::Count(reply);
        self.ask(request, ask).await.map(Response::new)
    }

    async fn get_recent(
        &self,
        request: Request<GetRecentRequest>,
    ) -> Result<Response<GetRecentResponse>, Status> {
        self.ask(request, Ask::Recent).await.map(Response::new)
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<BoxStream<encoded::SubscribeResponse>>, Status> {
        use futures_util::StreamExt as _;
        let messages = self.ask(request, Ask::Subscribe).await?;
        let encode = |message: Result<_, _>| {
            message.map(|message| encoded::SubscribeResponse::new(&message))
        };
        Ok(Response::new(Box::pin(
            UnboundedReceiverStream::new(messages).map(encode),
        )))
    }
}

/// A service in a runtime of its own, so that it can be ended with all its
/// connections.
pub(crate) struct Server {
    address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start(address: &str) -> Self {
        Self::start_with(address, None)
    }

    fn start_with(address: &str, tls: Option<ServerTlsConfig>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            server
                .add_service(NotificationServiceServer::new(Mock(sender)))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            address,
            calls,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn call(&mut self) -> Call {
        let call = tokio::time::timeout(PATIENCE, self.calls.recv()).await;
        call.expect("no call came").unwrap()
    }

    /// Answers the load that must come next.
    pub(crate) async fn answer_recent(&mut self, page: GetRecentResponse) {
        let call = self.call().await;
        let Ask::Recent(request, reply) = call.ask else {
            panic!("not GetRecent");
        };
        assert_eq!((request.since, request.page_token.as_str()), (None, ""));
        reply.send(Ok(page)).unwrap();
    }

    /// Accepts the stream that must come next.
    pub(crate) async fn accept(&mut self) -> Accepted {
        let call = self.call().await;
        let Ask::Subscribe(request, reply) = call.ask else {
            panic!("not Subscribe");
        };
        let (messages, receiver) = mpsc::unbounded_channel();
        reply.send(Ok(receiver)).unwrap();
        Accepted {
            after: request.after_revision,
            epoch: request.epoch,
            token: call.token,
            from: call.from,
            messages,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) struct Accepted {
    after: Option<u64>,
    epoch: Option<String>,
    token: String,
    from: Option<SocketAddr>,
    messages: Messages,
}

impl Accepted {
    pub(crate) fn send(&self, message: SubscribeResponse) {
        self.messages.send(Ok(message)).unwrap();
    }

    pub(crate) fn fail(&self, status: Status) {
        self.messages.send(Err(status)).unwrap();
    }
}

/// A watch that runs beside the test.
struct Watching(mpsc::UnboundedReceiver<(Result<Update, Error>, Inbox)>);

impl Watching {
    fn start(mut watch: Watch) -> Self {
        let (sender, updates) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(update) = watch.next().await {
                if sender.send((update, watch.inbox().clone())).is_err() {
                    return;
                }
            }
        });
        Self(updates)
    }

    async fn item(&mut self) -> (Result<Update, Error>, Inbox) {
        let item = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        item.expect("no update came").expect("the watch ended")
    }

    async fn update(&mut self) -> (Update, Inbox) {
        let (update, inbox) = self.item().await;
        (update.unwrap(), inbox)
    }

    async fn event(&mut self) -> Event {
        self.update().await.0.event
    }

    /// The terminal error, and that nothing comes after it.
    async fn end(&mut self) -> Error {
        let error = self.item().await.0.unwrap_err();
        let after = tokio::time::timeout(PATIENCE, self.0.recv()).await;
        assert!(after.expect("it goes on").is_none());
        error
    }

    async fn disconnected(&mut self) -> (Error, Duration) {
        match self.event().await {
            Event::Disconnected { error, retry_in } => (error, retry_in),
            other => panic!("{other:?}"),
        }
    }
}

fn options() -> Options {
    Options {
        window: 10,
        call_timeout: PATIENCE,
        backoff_base: Duration::from_millis(2),
        backoff_cap: Duration::from_millis(20),
        random: Arc::new(SeededRandom::new(7)),
        ..Options::default()
    }
}

fn client(server: &Server, tokens: TokenSource) -> Client {
    Client::new(&server.url(), tokens, options()).unwrap()
}

/// Gives `token-1`, `token-2` … up to `last`, and then that one again.
fn numbered(last: u32) -> TokenSource {
    let asked = AtomicU32::new(0);
    TokenSource::asked(move || {
        let number = (asked.fetch_add(1, Relaxed) + 1).min(last);
        async move { Ok(format!("token-{number}")) }
    })
}

fn row(sequence: u64) -> Notification {
    Notification {
        id: format!("id-{sequence}"),
        sequence,
        revision: sequence,
        ..Notification::default()
    }
}

pub(crate) fn page(revision: u64, epoch: &str) -> GetRecentResponse {
    GetRecentResponse {
        notifications: (1..=revision.min(3)).rev().map(row).collect(),
        next_page_token: String::new(),
        epoch: epoch.into(),
        head: Some(head(revision, 3)),
    }
}

fn head(revision: u64, unread_count: u32) -> Head {
    Head {
        revision,
        unread_count,
        ..Head::default()
    }
}

fn message(position: u64, event: Wire) -> SubscribeResponse {
    SubscribeResponse {
        position,
        head: Some(head(position, u32::try_from(position).unwrap())),
        ring: matches!(event, Wire::Notification(_)),
        event: Some(event),
    }
}

fn connected_for(
    position: u64,
    heartbeat: Duration,
    expires_at: Option<Timestamp>,
) -> SubscribeResponse {
    let connected = Connected {
        epoch: "one".into(),
        heartbeat_interval: Some(heartbeat.try_into().unwrap()),
        token_expires_at: expires_at.map(|at| prost_types::Timestamp {
            seconds: at.as_micros() / 1_000_000,
            nanos: i32::try_from(at.as_micros() % 1_000_000).unwrap() * 1000,
        }),
    };
    message(position, Wire::Connected(connected))
}

pub(crate) fn connected(position: u64) -> SubscribeResponse {
    connected_for(position, PATIENCE, None)
}

pub(crate) fn notification(position: u64) -> SubscribeResponse {
    message(position, Wire::Notification(row(position)))
}

fn unavailable() -> Status {
    Status::unavailable("cut")
}

pub(crate) fn denied(message: &str) -> Status {
    Status::permission_denied(message)
}

fn unauthenticated(reason: ErrorReason) -> Status {
    status::new(Code::Unauthenticated, reason, "no")
}

/// Loads revision 3 of epoch `one` and stands at `connected`.
async fn begin(server: &mut Server, tokens: TokenSource) -> (Watching, Accepted) {
    let mut watching = Watching::start(client(server, tokens).watch());
    server.answer_recent(page(3, "one")).await;
    assert!(matches!(watching.event().await, Event::Loaded));
    let stream = server.accept().await;
    assert_eq!(
        (stream.after, stream.epoch.as_deref()),
        (Some(3), Some("one"))
    );
    stream.send(connected(3));
    assert!(matches!(watching.event().await, Event::Connected { .. }));
    (watching, stream)
}

#[tokio::test]
async fn a_cut_after_any_message_resumes_without_a_gap() {
    let replayed = |position, row: Notification| SubscribeResponse {
        head: Some(head(6, 4)),
        ring: false,
        ..message(position, Wire::Notification(row))
    };
    let changed = |sequence| Notification {
        revision: 6,
        read_at: Some(prost_types::Timestamp::default()),
        ..row(sequence)
    };
    let read = |sequence| ChangedNotification {
        id: format!("id-{sequence}"),
        sequence,
        revision: 8,
        read_at: Some(prost_types::Timestamp::default()),
        ..ChangedNotification::default()
    };
    let marked = Changed {
        notifications: vec![read(3), read(7)],
    };
    // Two rows share revision 6: the first of them carries the position before.
    let messages = [
        connected(3),
        replayed(4, row(4)),
        replayed(4, changed(1)),
        replayed(6, changed(2)),
        message(6, Wire::CaughtUp(CaughtUp {})),
        notification(7),
        message(8, Wire::Changed(marked)),
        message(8, Wire::Heartbeat(Heartbeat {})),
        notification(9),
    ];
    let mut whole = Inbox::new(10);
    whole.load(page(3, "one"));
    for message in &messages {
        whole.apply(message);
    }

    for cut in 0..=messages.len() {
        let mut server = Server::start("127.0.0.1:0");
        let mut watching = Watching::start(client(&server, TokenSource::fixed("t")).watch());
        server.answer_recent(page(3, "one")).await;
        watching.update().await;

        let stream = server.accept().await;
        for message in &messages[..cut] {
            stream.send(message.clone());
        }
        let mut position = 3;
        for _ in 0..cut {
            position = watching.update().await.0.position.unwrap();
        }
        stream.fail(unavailable());
        watching.disconnected().await;

        let stream = server.accept().await;
        assert_eq!(stream.after, Some(position), "cut after {cut}");
        let delivered = messages[..cut].last().map_or(3, |last| last.position);
        assert_eq!(position, delivered, "cut after {cut}");
        assert_eq!(stream.epoch.as_deref(), Some("one"));
        stream.send(connected(position));
        let rest: Vec<_> = messages
            .iter()
            .skip(1)
            .filter(|message| match &message.event {
                Some(Wire::Notification(row)) => row.revision > position,
                _ => message.position > position,
            })
            .collect();
        for message in &rest {
            stream.send((*message).clone());
        }
        let mut last = watching.update().await.1;
        for _ in &rest {
            last = watching.update().await.1;
        }
        assert_eq!(
            last.notifications(),
            whole.notifications(),
            "cut after {cut}"
        );
        assert_eq!(last.position(), whole.position());
        assert_eq!(last.head(), whole.head());
    }
}

#[tokio::test]
async fn a_reset_loads_anew_and_subscribes_after_that() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    let epoch = "one".into();
    stream.send(message(3, Wire::Reset(Reset { epoch })));
    let (update, inbox) = watching.update().await;
    assert!(matches!(update.event, Event::Reset));
    assert_eq!(update.position, None);
    assert_eq!(
        inbox.notifications().len(),
        3,
        "shown until the load is there"
    );
    server.answer_recent(page(2, "one")).await;
    let (update, inbox) = watching.update().await;
    assert!(matches!(update.event, Event::Loaded));
    assert_eq!((update.position, inbox.notifications().len()), (Some(2), 2));
    assert_eq!(server.accept().await.after, Some(2));
}

#[tokio::test]
async fn another_epoch_drops_everything_and_loads_anew() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    stream.fail(unavailable());
    watching.disconnected().await;
    let stream = server.accept().await;
    let other = Connected {
        epoch: "two".into(),
        ..Connected::default()
    };
    stream.send(message(3, Wire::Connected(other)));
    let (update, inbox) = watching.update().await;
    assert!(update.changed && matches!(update.event, Event::Connected { .. }));
    assert_eq!((update.position, inbox.notifications().len()), (None, 0));
    server.answer_recent(page(1, "two")).await;
    assert_eq!(watching.update().await.1.notifications().len(), 1);
    let stream = server.accept().await;
    assert_eq!(
        (stream.after, stream.epoch.as_deref()),
        (Some(1), Some("two"))
    );
}

#[tokio::test]
async fn an_unknown_event_above_the_position_loads_anew() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    let unknown = |position| SubscribeResponse {
        event: None,
        ..notification(position)
    };
    stream.send(unknown(3));
    assert!(matches!(watching.event().await, Event::Unknown));
    stream.send(notification(4));
    assert!(matches!(
        watching.event().await,
        Event::Notification { ring: true, .. }
    ));
    stream.send(unknown(5));
    assert!(matches!(watching.event().await, Event::Unknown));
    server.answer_recent(page(5, "one")).await;
    assert!(matches!(watching.event().await, Event::Loaded));
    assert_eq!(server.accept().await.after, Some(5));
}

#[tokio::test]
async fn an_expired_token_is_replaced() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, numbered(2)).await;
    assert_eq!(stream.token, "Bearer token-1");
    stream.fail(unauthenticated(ErrorReason::TokenExpired));
    assert_eq!(watching.disconnected().await.1, Duration::ZERO);
    let stream = server.accept().await;
    assert_eq!(stream.token, "Bearer token-2");
    assert_eq!(stream.after, Some(3));
    // The source has no third one yet: that is waited for.
    stream.send(connected(3));
    watching.update().await;
    stream.fail(unauthenticated(ErrorReason::TokenExpired));
    watching.disconnected().await;
    let (error, _) = watching.disconnected().await;
    assert_eq!(error.reason().as_deref(), Some("TOKEN_EXPIRED"));
}

#[tokio::test]
async fn a_refused_token_that_is_given_again_ends_it() {
    for reason in [ErrorReason::TokenInvalid, ErrorReason::TokenMissing] {
        let mut server = Server::start("127.0.0.1:0");
        let (mut watching, stream) = begin(&mut server, numbered(2)).await;
        stream.fail(unauthenticated(reason));
        watching.disconnected().await;
        let stream = server.accept().await;
        assert_eq!(stream.token, "Bearer token-2");
        stream.fail(unauthenticated(reason));
        watching.disconnected().await;
        assert!(watching.end().await.has_reason(reason));
    }
    // A fixed one cannot get better, expired or not.
    for reason in [ErrorReason::TokenInvalid, ErrorReason::TokenExpired] {
        let mut server = Server::start("127.0.0.1:0");
        let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
        stream.fail(unauthenticated(reason));
        assert!(watching.end().await.has_reason(reason));
    }
}

#[tokio::test]
async fn an_error_that_no_waiting_mends_ends_it_and_others_do_not() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    stream.fail(unavailable());
    watching.disconnected().await;
    for passing in [
        Code::Internal,
        Code::Unknown,
        Code::ResourceExhausted,
        Code::Cancelled,
    ] {
        let stream = server.accept().await;
        stream.fail(Status::new(passing, "passing"));
        assert_eq!(watching.disconnected().await.0.code(), Some(passing));
    }
    // Ended without an error is a cut too.
    drop(server.accept().await);
    assert!(matches!(watching.disconnected().await.0, Error::Ended));

    for terminal in [
        Code::PermissionDenied,
        Code::InvalidArgument,
        Code::Unimplemented,
    ] {
        let mut server = Server::start("127.0.0.1:0");
        let mut watching = Watching::start(client(&server, TokenSource::fixed("t")).watch());
        let Ask::Recent(_, reply) = server.call().await.ask else {
            panic!("not GetRecent");
        };
        reply.send(Err(Status::new(terminal, "terminal"))).unwrap();
        assert_eq!(watching.end().await.code(), Some(terminal));
    }
}

#[tokio::test]
async fn a_pause_that_the_service_asks_for_is_kept() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    let delay = Duration::from_millis(150);
    let details = ErrorDetails::with_retry_info(Some(delay));
    let busy = Status::with_error_details(Code::ResourceExhausted, "too many streams", details);
    let asked = Instant::now();
    stream.fail(busy);
    let (_, retry_in) = watching.disconnected().await;
    assert!(retry_in >= delay && retry_in <= delay + options().backoff_cap);
    server.accept().await;
    assert!(asked.elapsed() >= delay);
}

#[tokio::test]
async fn a_silent_connection_is_left_for_another_one() {
    let mut server = Server::start("127.0.0.1:0");
    let mut watching = Watching::start(client(&server, TokenSource::fixed("t")).watch());
    server.answer_recent(page(3, "one")).await;
    watching.update().await;
    let silent = server.accept().await;
    let heartbeat = Duration::from_millis(100);
    let since = Instant::now();
    silent.send(connected_for(3, heartbeat, None));
    watching.update().await;
    let (error, _) = watching.disconnected().await;
    assert!(matches!(error, Error::Silent(silence) if silence == heartbeat * 2));
    assert!(since.elapsed() >= heartbeat * 2);
    let next = server.accept().await;
    assert_ne!(next.from, silent.from, "the same connection again");
    assert_eq!(next.after, Some(3));
}

#[tokio::test]
async fn reconnect_is_obeyed_on_another_connection() {
    let mut server = Server::start("127.0.0.1:0");
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    let after = Duration::from_millis(120);
    let reconnect = Reconnect {
        after: Some(after.try_into().unwrap()),
    };
    let asked = Instant::now();
    stream.send(message(3, Wire::Reconnect(reconnect)));
    assert!(matches!(watching.event().await, Event::Reconnect { after: told } if told == after));
    let next = server.accept().await;
    assert!(asked.elapsed() >= after);
    assert_ne!(next.from, stream.from);
    assert_eq!((next.after, next.epoch.as_deref()), (Some(3), Some("one")));
}

#[tokio::test]
async fn a_service_that_went_away_is_found_again() {
    // Below the ports that connections are given, so that it is free again.
    let bind = |port| std::net::TcpListener::bind(("127.0.0.1", port));
    let port = (20_000..32_768).find(|port| bind(*port).is_ok()).unwrap();
    let mut server = Server::start(&format!("127.0.0.1:{port}"));
    let (mut watching, stream) = begin(&mut server, TokenSource::fixed("t")).await;
    stream.send(notification(4));
    watching.update().await;
    let address = server.address.to_string();
    drop(server);
    // More than one try fails while it is away.
    for _ in 0..3 {
        watching.disconnected().await;
    }
    let mut server = Server::start(&address);
    let stream = server.accept().await;
    assert_eq!(
        (stream.after, stream.epoch.as_deref()),
        (Some(4), Some("one"))
    );
    stream.send(connected(4));
    stream.send(notification(5));
    loop {
        let (update, inbox) = watching.update().await;
        match update.event {
            Event::Disconnected { .. } | Event::Connected { .. } => {}
            Event::Notification { ring: true, .. } => {
                assert_eq!(inbox.notifications().len(), 5);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn another_stream_takes_over_before_the_token_expires() {
    /// The same moment always.
    struct Stopped;
    impl Clock for Stopped {
        fn now(&self) -> Timestamp {
            Timestamp::from_seconds(1_000)
        }
    }
    let mut server = Server::start("127.0.0.1:0");
    let stopped = Options {
        clock: Arc::new(Stopped),
        ..options()
    };
    let client = Client::new(&server.url(), numbered(2), stopped).unwrap();
    let mut watching = Watching::start(client.watch());
    server.answer_recent(page(3, "one")).await;
    watching.update().await;
    let old = server.accept().await;
    let rest = Duration::from_millis(500);
    let expires_at = Timestamp::from_micros(1_000_500_000);
    let began = Instant::now();
    old.send(connected_for(3, PATIENCE, Some(expires_at)));
    watching.update().await;

    let new = server.accept().await;
    assert!(began.elapsed() >= rest.mul_f64(0.8));
    assert_eq!(new.token, "Bearer token-2");
    assert_eq!(new.after, Some(3));
    // The old one goes on until the new one stands.
    old.send(notification(4));
    assert!(matches!(
        watching.event().await,
        Event::Notification { ring: true, .. }
    ));
    new.send(connected(3));
    new.send(notification(4));
    new.send(notification(5));
    assert!(matches!(watching.event().await, Event::Connected { .. }));
    let (update, _) = watching.update().await;
    assert!(matches!(
        update.event,
        Event::Notification { ring: false, .. }
    ));
    assert!(!update.changed);
    let (update, inbox) = watching.update().await;
    assert!(matches!(
        update.event,
        Event::Notification { ring: true, .. }
    ));
    assert_eq!(
        (inbox.position(), inbox.notifications().len()),
        (Some(5), 5)
    );
    tokio::time::timeout(PATIENCE, old.messages.closed())
        .await
        .expect("the old stream is still open");
}

#[tokio::test]
async fn a_watch_goes_on_from_a_position_that_was_kept() {
    let mut server = Server::start("127.0.0.1:0");
    let position = Position {
        after_revision: 40,
        epoch: Some("one".into()),
    };
    let client = client(&server, TokenSource::fixed("t"));
    let mut watching = Watching::start(client.watch_from(position));
    let stream = server.accept().await;
    assert_eq!(
        (stream.after, stream.epoch.as_deref()),
        (Some(40), Some("one"))
    );
    stream.send(connected(40));
    stream.send(SubscribeResponse {
        ring: false,
        ..notification(41)
    });
    watching.update().await;
    let (update, inbox) = watching.update().await;
    assert!(matches!(
        update.event,
        Event::Notification { ring: false, .. }
    ));
    assert_eq!(
        (update.position, inbox.notifications().len()),
        (Some(41), 1)
    );
}

#[tokio::test]
async fn dropping_what_next_returns_loses_nothing() {
    let mut server = Server::start("127.0.0.1:0");
    let mut watch = client(&server, TokenSource::fixed("t")).watch();
    let service = tokio::spawn(async move {
        server.answer_recent(page(3, "one")).await;
        let stream = server.accept().await;
        stream.send(connected(3));
        for position in 4..=9 {
            stream.send(notification(position));
        }
        (server, stream)
    });
    let follow = async {
        while watch.inbox().position() != Some(9) {
            // Each `next` is polled once and dropped.
            match watch.next().now_or_never() {
                Some(update) => drop(update.unwrap().unwrap()),
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, follow).await.unwrap();
    assert_eq!(watch.inbox().notifications().len(), 9);
    drop(service.await.unwrap());
}

#[tokio::test]
async fn calls_show_a_fresh_token_once_where_one_was_refused() {
    let mut server = Server::start("127.0.0.1:0");
    let client = client(&server, numbered(2));
    let service = async {
        let call = server.call().await;
        assert_eq!(call.token, "Bearer token-1");
        let Ask::Count(reply) = call.ask else {
            panic!("not GetUnreadCount");
        };
        reply
            .send(Err(unauthenticated(ErrorReason::TokenExpired)))
            .unwrap();
        let call = server.call().await;
        assert_eq!(call.token, "Bearer token-2");
        let Ask::Count(reply) = call.ask else {
            panic!("not GetUnreadCount");
        };
        let answer = GetUnreadCountResponse {
            head: Some(head(9, 4)),
            types: Vec::new(),
        };
        reply.send(Ok(answer)).unwrap();
        // The same one again is not shown again.
        let call = server.call().await;
        let Ask::MarkRead(request, reply) = call.ask else {
            panic!("not MarkRead");
        };
        assert_eq!(request.notification_ids, ["a", "b"]);
        reply
            .send(Err(unauthenticated(ErrorReason::TokenInvalid)))
            .unwrap();
    };
    let calls = async {
        let answer = client.get_unread_count(Vec::new()).await.unwrap();
        assert_eq!(answer.head, Some(head(9, 4)));
        let refused = client.edit(Verb::Read, vec!["a".into(), "b".into()]).await;
        assert!(refused.unwrap_err().has_reason(ErrorReason::TokenInvalid));
    };
    tokio::join!(service, calls);
}

#[tokio::test]
async fn a_patient_send_tries_again_with_one_key() {
    let mut server = Server::start("127.0.0.1:0");
    let client = client(&server, TokenSource::fixed("t"));
    let request = SendInAppRequest {
        title: "Hello".into(),
        ..SendInAppRequest::default()
    };
    let service = async {
        let mut keys = Vec::new();
        for answer in [
            Err(unavailable()),
            Err(Status::unknown("the connection died")),
            Ok(SendInAppResponse::default()),
            Err(Status::permission_denied("no")),
        ] {
            let Ask::Send(request, reply) = server.call().await.ask else {
                panic!("not SendInApp");
            };
            assert_eq!(request.title, "Hello");
            keys.push(request.idempotency_key.unwrap());
            reply.send(answer).unwrap();
        }
        keys
    };
    let sends = async {
        let sent = client.send_in_app_patiently(request.clone(), PATIENCE);
        sent.await.unwrap();
        let refused = client.send_in_app_patiently(request.clone(), PATIENCE);
        refused.await.unwrap_err()
    };
    let (keys, error) = tokio::join!(service, sends);
    assert_eq!(error.code(), Some(Code::PermissionDenied));
    assert!(!keys[0].is_empty());
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3]);
}

#[tokio::test]
async fn an_error_names_its_code_its_reason_and_its_cause() {
    let error = Error::from(unauthenticated(ErrorReason::TokenInvalid));
    assert_eq!(error.to_string(), "Unauthenticated (TOKEN_INVALID): no");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let client = Client::new(&url, TokenSource::fixed("t"), options()).unwrap();
    let error = client.get_unread_count(Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(!error.is_terminal());
}

#[tokio::test]
async fn a_service_with_tls_is_trusted_by_its_ca_alone() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let identity = Identity::from_pem(&certificate, key.serialize_pem());
    let tls = ServerTlsConfig::new().identity(identity);
    let mut server = Server::start_with("127.0.0.1:0", Some(tls));
    let url = server.url().replace("http://", "https://");
    let client = |ca_pem: String| {
        let trusting = Options {
            ca_pem: Some(ca_pem.into_bytes()),
            ..options()
        };
        Client::new(&url, TokenSource::fixed("t"), trusting).unwrap()
    };

    let other = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap());
    let refused = client(other.unwrap().pem())
        .get_unread_count(Vec::new())
        .await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::Unavailable));

    let mut watching = Watching::start(client(certificate).watch());
    server.answer_recent(page(3, "one")).await;
    assert!(matches!(watching.event().await, Event::Loaded));
    assert_eq!(server.accept().await.after, Some(3));
}

#[test]
fn options_that_cannot_be_are_named() {
    let made = |url: &str, options| Client::new(url, TokenSource::fixed("t"), options);
    for (url, problem) in [
        ("127.0.0.1:50051", "url"),
        ("ftp://host", "http://"),
        ("http://host/path", "end after"),
        ("", "url"),
    ] {
        let error = made(url, options()).unwrap_err().to_string();
        assert!(error.contains(problem), "{url}: {error}");
    }
    for window in [0, 101] {
        let error = made(
            "http://h",
            Options {
                window,
                ..options()
            },
        )
        .unwrap_err();
        assert!(error.to_string().contains("window"), "{error}");
    }
    let no_certificate = Options {
        ca_pem: Some(b"nothing".to_vec()),
        ..options()
    };
    let error = made("https://h", no_certificate).unwrap_err();
    assert!(error.to_string().contains("ca_pem"), "{error}");
}

#[test]
fn the_backoff_doubles_its_bound_up_to_the_cap() {
    /// Always the most.
    struct Most;
    impl Random for Most {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0xff);
        }
    }
    let most = Options {
        backoff_base: Duration::from_millis(500),
        backoff_cap: Duration::from_secs(3),
        random: Arc::new(Most),
        ..Options::default()
    };
    let mut backoff = Backoff::default();
    let pauses: Vec<u128> = (0..5).map(|_| backoff.next(&most).as_millis()).collect();
    assert_eq!(pauses, [500, 1000, 2000, 3000, 3000]);
    let mut long = Backoff { failures: u32::MAX };
    assert_eq!(long.next(&most), most.backoff_cap);
}
