//! The accept loop: HTTP/1.1 and HTTP/2 on one port, plain or TLS.
//!
//! What a client can take is bounded: connections, streams of a connection,
//! header bytes, the time for a handshake and for headers, the time without a
//! request. Who is not there any more is found out within about half a minute,
//! by PING (HTTP/2) and by TCP. A response, however long, keeps its connection;
//! a request body that takes longer than headers may is given up. Who asks for more
//! than was begun is not read on, and who cancels most of what it asks is closed.
//!
//! [`Shutdown`] has two stages. At the first nothing new is accepted, clients
//! are told to go (GOAWAY, `connection: close`), who has no request goes at
//! once, and requests in flight are served; endless ones must be ended by the
//! service. At the second, which comes by itself after the drain timeout,
//! everything left is dropped. [`serve`] returns then, whatever clients do.
//!
//! An idle connection holds no buffer of ours: the memory is that of HTTP/2.

mod idle;
mod socket;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error as _,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{Router, response::IntoResponse as _};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header::HOST};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

use self::{
    idle::{Activity, InFlight, Patience, UploadError, Verdict},
    socket::{Protocol, Socket, Transport},
};
use crate::{config::ServerSettings, telemetry::Seldom};

/// The pause after an accept that failed for want of something (file
/// descriptors, memory): others must give it back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After the second stage the tasks have this long to be dropped.
const LAST_WAIT: Duration = Duration::from_millis(250);

/// The most bytes of a response that wait in a stream; a message that was begun
/// is taken whole.
const SEND_BUFFER_BYTES: usize = 16 * 1024;
/// The most bytes of a request body that a client may send ahead: on a stream,
/// and on all streams of a connection.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
/// What the connection's window has for each stream that it may have. h2 closes a
/// connection on which small DATA frames wait: each counts as 256 bytes, against
/// half of the window. So each stream may have two, and a client that opens all
/// its streams at once is no attack.
const WINDOW_BYTES_PER_STREAM: u32 = 1024;
/// The largest window that HTTP/2 has.
const MAX_WINDOW_BYTES: u32 = (1 << 31) - 1;
const FRAME_BYTES: u32 = 16 * 1024;
/// Streams that were reset before the service saw them; more is an attack
/// ("rapid reset"). A page that closes may cancel some dozens at once.
const PENDING_RESETS: usize = 50;
/// Calls of a connection that were cancelled and whose tasks have not ended yet: with
/// more of them it is not read on.
const CANCELLED: usize = 100;
/// The connections that made room for others and still have a descriptor.
const CLOSING: usize = 8;
/// Streams that the server itself reset for an error of the client's.
const LOCAL_RESETS: usize = 1024;
/// The most headers of an HTTP/1 request.
const HTTP1_HEADERS: usize = 100;
/// The least that hyper takes.
const HTTP1_BUFFER_BYTES: usize = 8192;

/// The other end of the connection that a request came by, in its extensions.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    connection: Arc<Activity>,
}

impl Peer {
    /// Closes the connection with all its calls, of a client that does what none should.
    pub fn close(&self) {
        self.connection.close();
    }
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It was accepted.
    Opened,
    /// It was accepted before and has ended.
    Closed,
    /// It was closed at once, since there are too many.
    Refused,
}

/// Is told of every [`ConnectionEvent`], and must return at once.
pub type Observer = Arc<dyn Fn(ConnectionEvent) + Send + Sync>;

/// The end of a server, in two stages. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    /// Neither stage was reached.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first stage: accept nothing new, finish what was begun.
    pub fn drain(&self) {
        self.soft.cancel();
    }

    /// The second stage: drop what is left.
    pub fn cut(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }
}

/// Serves `router` on `listener` until `shutdown`; with `tls`, encrypted alone.
///
/// The time that requests have after [`Shutdown::drain`] is the setting
/// `drain_timeout`. Dropping the future drops all connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &ServerSettings,
    tls: Option<Arc<tls::Acceptor>>,
    observer: Observer,
    shutdown: Shutdown,
) {
    let hard = shutdown.hard.child_token();
    let _cut_when_dropped = hard.clone().drop_guard();
    let tasks = TaskTracker::new();
    let server = Arc::new(Server {
        router,
        http1: http1_builder(settings),
        http2: http2_builder(settings, tasks.clone()),
        patience: Patience {
            headers: *settings.handshake_timeout,
            idle: *settings.idle_timeout,
        },
        keepalive: (*settings.keepalive_interval, *settings.keepalive_timeout),
        max_connections: settings.max_connections as usize,
        most_in_flight: settings.max_streams_per_connection as usize + CANCELLED,
        connections: Mutex::default(),
        tls,
        observer,
        soft: shutdown.soft,
        hard,
        tasks,
    });
    let watch_tls = async {
        match &server.tls {
            Some(tls) => tls.watch().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = server.soft.cancelled() => {}
        never = watch_tls => match never {},
        never = server.accept(&listener) => match never {},
    }
    drop(listener);
    server.tasks.close();
    let open = server.connections.lock().open.len();
    tracing::info!(connections = open, "draining connections");
    tokio::select! {
        biased;
        () = server.tasks.wait() => return,
        () = server.hard.cancelled() => {}
        () = tokio::time::sleep(*settings.drain_timeout) => {}
    }
    let open = server.connections.lock().open.len();
    tracing::warn!(connections = open, "dropping the connections that are left");
    server.hard.cancel();
    // Tasks go at their next poll; a handler that blocks its thread is not
    // waited for.
    let _ = tokio::time::timeout(LAST_WAIT, server.tasks.wait()).await;
}

struct Server {
    router: Router,
    http1: http1::Builder,
    http2: http2::Builder<Spawner>,
    patience: Patience,
    /// Between two signs of life, and until one that is missing tells.
    keepalive: (Duration, Duration),
    max_connections: usize,
    most_in_flight: usize,
    /// Held for a look-up, or for a look at each when all places are taken.
    connections: Mutex<Connections>,
    tls: Option<Arc<tls::Acceptor>>,
    observer: Observer,
    soft: CancellationToken,
    hard: CancellationToken,
    /// Every connection and every HTTP/2 stream.
    tasks: TaskTracker,
}

/// Those that are open, the oldest first.
#[derive(Default)]
struct Connections {
    open: BTreeMap<u64, Arc<Activity>>,
    last: u64,
    /// Those that made room and have not ended yet.
    closing: usize,
    /// When all had a request, and that is not looked at again before a moment.
    all_busy: Option<Instant>,
}

impl Connections {
    /// Closes the oldest that has no request: rather one that never had any.
    fn make_room(&mut self, now: Instant) {
        if self.all_busy.is_some_and(|then| now < then + ACCEPT_PAUSE) {
            return;
        }
        let silent = self.open.iter().find(|(_, open)| !open.requested());
        let idle = silent.or_else(|| self.open.iter().find(|(_, open)| open.is_idle()));
        match idle.map(|(&number, _)| number) {
            Some(number) => {
                if let Some(closed) = self.open.remove(&number) {
                    closed.close();
                    self.closing += 1;
                }
            }
            None => self.all_busy = Some(now),
        }
    }
}

fn http1_builder(settings: &ServerSettings) -> http1::Builder {
    let header_bytes = settings.max_header_bytes as usize;
    let mut builder = http1::Builder::new();
    builder
        // hyper's counts the idle time as well; the connection's own timer
        // tells the two apart.
        .header_read_timeout(None)
        .max_header_size(header_bytes)
        .max_headers(HTTP1_HEADERS)
        .max_buf_size(header_bytes.max(HTTP1_BUFFER_BYTES))
        .timer(TokioTimer::new());
    builder
}

fn http2_builder(settings: &ServerSettings, tasks: TaskTracker) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(tasks));
    let window = settings
        .max_streams_per_connection
        .saturating_mul(WINDOW_BYTES_PER_STREAM)
        .clamp(CONNECTION_WINDOW_BYTES, MAX_WINDOW_BYTES);
    builder
        .max_concurrent_streams(settings.max_streams_per_connection)
        // h2 takes less than this, not at most.
        .max_header_list_size(settings.max_header_bytes.saturating_add(1))
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(window)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .keep_alive_interval(*settings.keepalive_interval)
        .keep_alive_timeout(*settings.keepalive_timeout)
        .timer(TokioTimer::new());
    builder
}

impl Server {
    async fn accept(self: &Arc<Self>, listener: &TcpListener) -> Infallible {
        let (refused, failed) = (Seldom::new(1), Seldom::new(1));
        loop {
            // Each has a descriptor until its task was polled.
            while self.connections.lock().closing > CLOSING {
                tokio::task::yield_now().await;
            }
            match listener.accept().await {
                Ok((stream, peer)) => match Slot::take(self) {
                    Some(slot) => {
                        self.tasks.spawn(connection(slot, stream, peer));
                    }
                    None => {
                        (self.observer)(ConnectionEvent::Refused);
                        if let Some(times) = refused.now() {
                            let limit = self.max_connections;
                            tracing::warn!(limit, times, "connection refused: too many are open");
                        }
                    }
                },
                // That connection is gone already.
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    if let Some(times) = failed.now() {
                        tracing::error!(%error, times, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// From a TCP connection to a protocol; `None` when it closes before that.
    async fn open(
        &self,
        stream: TcpStream,
        activity: Arc<Activity>,
    ) -> io::Result<Option<(Protocol, Socket)>> {
        prepare(&stream, self.keepalive.0, self.keepalive.1)?;
        let transport = match &self.tls {
            Some(tls) => Transport::Right(Box::new(tls.accept(stream).await?)),
            None => Transport::Left(stream),
        };
        Socket::sniff(transport, activity).await
    }

    /// Polls `connection` to its end, which is by itself, by its timer, or by
    /// shutdown. `say_goodbye` tells the client to end it.
    async fn drive<C>(
        &self,
        mut connection: Pin<Box<C>>,
        say_goodbye: fn(Pin<&mut C>),
        protocol: Protocol,
        activity: &Activity,
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut leaving = false;
        let timer = tokio::time::sleep_until(activity.first_look(self.patience));
        tokio::pin!(timer);
        loop {
            let turn = poll_fn(|cx| {
                activity.begin_turn();
                connection.as_mut().poll(cx)
            });
            let leave = tokio::select! {
                biased;
                () = self.hard.cancelled() => return Ok(()),
                () = activity.closed() => return Ok(()),
                ended = turn => return ended,
                () = self.soft.cancelled(), if !leaving => {
                    if protocol == Protocol::Http1 && !activity.requested() {
                        return Ok(());
                    }
                    true
                }
                () = timer.as_mut() => {
                    match activity.judge(Instant::now(), protocol, self.patience) {
                        Verdict::Wait(until) => {
                            timer.as_mut().reset(until);
                            false
                        }
                        Verdict::Leave => true,
                        Verdict::Drop => return Ok(()),
                    }
                }
            };
            if leave {
                leaving = true;
                let now = Instant::now();
                activity.leave(now);
                say_goodbye(connection.as_mut());
                timer.as_mut().reset(now + idle::QUIET);
            }
        }
    }
}

async fn connection(slot: Slot, stream: TcpStream, peer: SocketAddr) {
    let server = &*slot.server;
    let deadline = Instant::now() + server.patience.headers;
    let activity = slot.activity.clone();
    // Boxed, like the connection below: the task would otherwise keep room for
    // the larger of the two all its life.
    let opened = tokio::select! {
        biased;
        () = server.soft.cancelled() => return,
        () = server.hard.cancelled() => return,
        () = slot.activity.closed() => return,
        opened = Box::pin(server.open(stream, Arc::clone(&activity))) => opened,
        () = tokio::time::sleep_until(deadline) => return,
    };
    let (protocol, socket) = match opened {
        Ok(Some(opened)) => opened,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection not opened");
            return;
        }
    };
    let handler = {
        let (router, activity) = (server.router.clone(), Arc::clone(&activity));
        let upload = server.patience.headers;
        service_fn(move |request: Request<Incoming>| {
            let in_flight = activity.begin();
            let mut request = request.map(|body| idle::upload(body, upload));
            request.extensions_mut().insert(Peer {
                address: peer,
                connection: Arc::clone(&activity),
            });
            // Boxed: a stream would otherwise keep room for it as long as it lasts.
            Box::pin(answer(router.clone(), request, in_flight))
        })
    };
    let socket = TokioIo::new(socket);
    let ended = match protocol {
        Protocol::Http1 => {
            let connection = Box::pin(server.http1.serve_connection(socket, handler));
            let goodbye = http1::Connection::graceful_shutdown;
            let driven = server.drive(connection, goodbye, protocol, &activity);
            Box::pin(driven).await
        }
        Protocol::Http2 => {
            let connection = Box::pin(server.http2.serve_connection(socket, handler));
            let goodbye = http2::Connection::graceful_shutdown;
            let driven = server.drive(connection, goodbye, protocol, &activity);
            Box::pin(driven).await
        }
    };
    if let Err(error) = ended {
        let cause = error.source().map(ToString::to_string);
        tracing::debug!(%peer, %error, cause, "connection ended");
    }
}

/// A connection's place among those that are allowed.
struct Slot {
    server: Arc<Server>,
    number: u64,
    activity: Arc<Activity>,
}

impl Slot {
    fn take(server: &Arc<Server>) -> Option<Self> {
        let now = Instant::now();
        let mut connections = server.connections.lock();
        if connections.open.len() >= server.max_connections {
            connections.make_room(now);
            if connections.open.len() >= server.max_connections {
                return None;
            }
        }
        let activity = Arc::new(Activity::accepted_at(now, server.most_in_flight));
        connections.last += 1;
        let number = connections.last;
        connections.open.insert(number, activity.clone());
        drop(connections);
        (server.observer)(ConnectionEvent::Opened);
        Some(Self {
            server: server.clone(),
            number,
            activity,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut connections = self.server.connections.lock();
        if connections.open.remove(&self.number).is_none() {
            connections.closing -= 1;
        }
        drop(connections);
        (self.server.observer)(ConnectionEvent::Closed);
    }
}

/// Small messages leave at once, and a peer that vanished is noticed: by
/// probes when nothing is under way, by missing acknowledgements otherwise.
fn prepare(stream: &TcpStream, interval: Duration, timeout: Duration) -> io::Result<()> {
    /// The system counts in whole seconds.
    const LEAST: Duration = Duration::from_secs(1);
    const PROBES: u32 = 2;
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(interval.max(LEAST))
            .with_interval((timeout / PROBES).max(LEAST))
            .with_retries(PROBES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(interval + timeout))?;
    Ok(())
}

/// Errors of `accept` that tell of one connection and not of the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Spawns the streams of HTTP/2, each a task.
#[derive(Clone)]
struct Spawner(TaskTracker);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// Answers a request of a connection. The connection is bounded by `activity`, and the
/// request is in flight until its response was handed over.
async fn answer(
    mut router: Router,
    request: Request<impl http_body::Body<Data = Bytes, Error = UploadError> + Send + 'static>,
    mut in_flight: InFlight,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = axum::Error>>, Infallible> {
    // After the first poll hyper looks whether the stream was reset: one that
    // was is dropped here, before it costs more.
    tokio::task::yield_now().await;
    let is_hostless =
        request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST);
    let mut answer = pin!(async move {
        if is_hostless {
            let refused = "a request of HTTP/1.1 must have a host";
            return (StatusCode::BAD_REQUEST, refused).into_response();
        }
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    });
    let begun = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
    in_flight.started();
    let response = match begun {
        Poll::Ready(response) => response,
        Poll::Pending => answer.await,
    };
    Ok(response.map(|body| {
        // In flight until the body is dropped.
        body.map_frame(move |frame| {
            let _ = &in_flight;
            frame
        })
    }))
}
