//! Through real sockets. Time limits under test are short and their upper bounds
//! generous; all else waits for what it waits for.

use std::sync::atomic::{AtomicBool, Ordering};

use axum::{
    Extension,
    body::Body,
    routing::{get, post},
};
use clap::Parser;
use futures_util::{FutureExt as _, future::join_all, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn as client;
use hyper_util::rt::TokioExecutor;
use rcgen::generate_simple_self_signed;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::*;

/// Far more than anything here takes; a bound, not a measure.
const SOON: Duration = Duration::from_secs(20);
/// A limit that nobody tries to keep.
const SHORT: Duration = Duration::from_millis(200);
/// A limit that a healthy client keeps on a busy machine as well.
const BRISK: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3600);

async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} took too long"),
    }
}

/// Settings under which nothing times out.
fn patient() -> ServerSettings {
    ServerSettings {
        handshake_timeout: LONG.into(),
        idle_timeout: LONG.into(),
        keepalive_interval: LONG.into(),
        drain_timeout: LONG.into(),
        ..ServerSettings::default()
    }
}

struct Running {
    addr: SocketAddr,
    shutdown: Shutdown,
    served: JoinHandle<()>,
    events: mpsc::UnboundedReceiver<ConnectionEvent>,
    /// A call of `/gate` is entered, and waits for a permit.
    entered: mpsc::UnboundedReceiver<()>,
    gate: Arc<Semaphore>,
    /// Chunks of the responses of `/drip`.
    drip: tokio::sync::broadcast::Sender<&'static str>,
    /// Whether the body of `/endless` was dropped.
    endless_dropped: Arc<AtomicBool>,
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn start(settings: ServerSettings) -> Running {
    start_with(settings, None).await
}

async fn start_with(settings: ServerSettings, tls: Option<Arc<tls::Acceptor>>) -> Running {
    let gate = Arc::new(Semaphore::new(0));
    let (enter, entered) = mpsc::unbounded_channel();
    let (drip, _) = tokio::sync::broadcast::channel(16);
    let endless_dropped = Arc::new(AtomicBool::new(false));
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route(
            "/peer",
            get(|Extension(peer): Extension<Peer>| async move { peer.address.to_string() }),
        )
        .route(
            "/panic",
            get(async || -> &'static str { panic!("on purpose") }),
        )
        .route(
            "/echo",
            post(async |body: Body| match body.collect().await {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) => Err((StatusCode::BAD_REQUEST, error.to_string())),
            }),
        )
        .route("/gate", {
            let gate = Arc::clone(&gate);
            get(async move || {
                let _ = enter.send(());
                gate.acquire().await.unwrap().forget();
                "through"
            })
        })
        .route("/drip", {
            let drip = drip.clone();
            get(async move || {
                Body::from_stream(stream::unfold(drip.subscribe(), async |mut drip| {
                    let chunk = drip.recv().await.ok()?;
                    Some((Ok::<_, Infallible>(chunk), drip))
                }))
            })
        })
        .route("/endless", {
            let dropped = Arc::clone(&endless_dropped);
            get(async move || {
                let dropped = SetOnDrop(dropped);
                Body::from_stream(stream::unfold(dropped, async |dropped| {
                    let chunk = Bytes::from_static(&[b'x'; 16 * 1024]);
                    Some((Ok::<_, Infallible>(chunk), dropped))
                }))
            })
        });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (observe, events) = mpsc::unbounded_channel();
    let observer: Observer = Arc::new(move |event| {
        let _ = observe.send(event);
    });
    let shutdown = Shutdown::new();
    let served = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { serve(listener, router, &settings, tls, observer, shutdown).await }
    });
    Running {
        addr,
        shutdown,
        served,
        events,
        entered,
        gate,
        drip,
        endless_dropped,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn event(&mut self) -> ConnectionEvent {
        soon("a connection event", self.events.recv())
            .await
            .unwrap()
    }

    async fn entered(&mut self) {
        soon("entering the gate", self.entered.recv())
            .await
            .unwrap();
    }

    async fn returned(self) {
        soon("the end of serve", self.served).await.unwrap();
    }

    /// The server answers both protocols on new connections.
    async fn is_fine(&self) {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut client = Client::new(protocol, self.connect().await).await;
            assert_eq!(client.get("/hello").await, (StatusCode::OK, "hello".into()));
        }
    }
}

enum Client {
    Http1(client::http1::SendRequest<Empty<Bytes>>, JoinHandle<()>),
    Http2(client::http2::SendRequest<Empty<Bytes>>, JoinHandle<()>),
}

impl Client {
    async fn new<S>(protocol: Protocol, stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) = client::http1::handshake(io).await.unwrap();
                Self::Http1(sender, tokio::spawn(connection.map(drop)))
            }
            Protocol::Http2 => {
                let (sender, connection) = client::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
                Self::Http2(sender, tokio::spawn(connection.map(drop)))
            }
        }
    }

    async fn send(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        let request = |uri: String| {
            let request = Request::get(uri).header("host", "localhost");
            request.body(Empty::new()).unwrap()
        };
        let answer = async {
            match self {
                Self::Http1(sender, _) => {
                    sender.ready().await?;
                    sender.send_request(request(path.into())).await
                }
                Self::Http2(sender, _) => {
                    sender.ready().await?;
                    sender
                        .send_request(request(format!("http://localhost{path}")))
                        .await
                }
            }
        };
        soon("an answer", answer).await
    }

    async fn get(&mut self, path: &str) -> (StatusCode, String) {
        whole(self.send(path).await.unwrap()).await
    }

    /// Waits for the server to close the connection.
    async fn closed(self) {
        let (Self::Http1(_, connection) | Self::Http2(_, connection)) = self;
        soon("closing the connection", connection).await.unwrap();
    }
}

async fn whole(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = soon("a body", response.into_body().collect())
        .await
        .unwrap();
    (status, String::from_utf8(body.to_bytes().into()).unwrap())
}

/// What comes until the server closes the connection.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = soon("closing the connection", stream.read_to_end(&mut bytes)).await;
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![0, high, low, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}

/// A GET in HPACK without compression.
fn header_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(b"\x01\x09localhost");
    block
}

fn get_frame(stream: u8, path: &str) -> Vec<u8> {
    frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &header_block(path),
    )
}

fn greeting() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The next frame: kind, stream, payload.
async fn next_frame(stream: &mut TcpStream) -> (u8, u8, Vec<u8>) {
    let mut head = [0; 9];
    soon("a frame", stream.read_exact(&mut head)).await.unwrap();
    let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
    soon("a payload", stream.read_exact(&mut payload))
        .await
        .unwrap();
    (head[3], head[8], payload)
}

async fn frame_of(stream: &mut TcpStream, kind: u8, id: u8) -> Vec<u8> {
    loop {
        let (found, of, payload) = next_frame(stream).await;
        if (found, of) == (kind, id) {
            return payload;
        }
    }
}

/// What clients send that never finish a first request.
fn unfinished() -> Vec<(&'static str, Vec<u8>)> {
    let partial = frame(HEADERS, END_STREAM, 1, &header_block("/hello"));
    vec![
        ("nothing", vec![]),
        ("one byte", b"P".to_vec()),
        ("half a preface", PREFACE[..12].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("a greeting", greeting()),
        ("half of h2 headers", [greeting(), partial].concat()),
        (
            "half of h1 headers",
            b"GET /hello HTTP/1.1\r\nhost: loc".to_vec(),
        ),
    ]
}

/// Whether the server answers with its own greeting.
fn is_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(&PREFACE[..4])
}

#[tokio::test]
async fn both_protocols_share_a_port_and_know_the_peer() {
    let server = start(patient()).await;
    server.is_fine().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let stream = server.connect().await;
        let addr = stream.local_addr().unwrap().to_string();
        let mut client = Client::new(protocol, stream).await;
        assert_eq!(client.get("/peer").await, (StatusCode::OK, addr));
    }
}

#[tokio::test]
async fn a_first_request_split_into_bytes_is_served() {
    let server = start(patient()).await;
    for request in [
        b"PUT /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        [greeting(), get_frame(1, "/hello")].concat(),
    ] {
        let mut stream = server.connect().await;
        stream.set_nodelay(true).unwrap();
        for byte in &request {
            stream.write_u8(*byte).await.unwrap();
        }
        if request.starts_with(PREFACE) {
            assert_eq!(frame_of(&mut stream, DATA, 1).await, b"hello");
        } else {
            let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn who_sends_no_request_in_time_is_closed() {
    let server = start(ServerSettings {
        handshake_timeout: BRISK.into(),
        ..patient()
    })
    .await;
    join_all(unfinished().into_iter().map(async |(what, bytes)| {
        let mut stream = server.connect().await;
        stream.write_all(&bytes).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert_eq!(!answer.is_empty(), is_http2(&bytes), "{what}: {answer:?}");
    }))
    .await;
    server.is_fine().await;
}

#[tokio::test]
async fn a_client_that_never_asks_is_told_to_go() {
    let server = start(ServerSettings {
        handshake_timeout: BRISK.into(),
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    stream.write_all(&greeting()).await.unwrap();
    let goaway = frame_of(&mut stream, GOAWAY, 0).await;
    assert_eq!(goaway[4..8], [0; 4], "NO_ERROR");
}

#[tokio::test]
async fn dribbled_headers_are_cut_off() {
    let server = start(ServerSettings {
        handshake_timeout: BRISK.into(),
        ..patient()
    })
    .await;
    // The first request, and one after a good request.
    for first in ["", "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let (mut read, mut write) = server.connect().await.into_split();
        write.write_all(first.as_bytes()).await.unwrap();
        if !first.is_empty() {
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                soon("an answer", read.read_buf(&mut answer)).await.unwrap();
            }
        }
        write
            .write_all(b"GET /hello HTTP/1.1\r\nx-slow: ")
            .await
            .unwrap();
        let dribble = async {
            let mut pace = tokio::time::interval(BRISK / 10);
            loop {
                pace.tick().await;
                if write.write_all(b"y").await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut rest = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut rest) => {}
            () = dribble => {}
            () = tokio::time::sleep(SOON) => panic!("dribbling went on"),
        }
    }
    server.is_fine().await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_those_without_a_request() {
    join_all(unfinished().into_iter().map(async |(what, bytes)| {
        let mut server = start(patient()).await;
        let mut stream = server.connect().await;
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(server.event().await, ConnectionEvent::Opened, "{what}");
        if is_http2(&bytes) {
            frame_of(&mut stream, SETTINGS, 0).await;
        }
        server.shutdown.drain();
        assert_eq!(server.event().await, ConnectionEvent::Closed, "{what}");
        server.returned().await;
    }))
    .await;
}

#[tokio::test]
async fn a_drain_ends_idle_connections() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let server = start(patient()).await;
        let mut client = Client::new(protocol, server.connect().await).await;
        client.get("/hello").await;
        server.shutdown.drain();
        client.closed().await;
        server.returned().await;
    }
}

#[tokio::test]
async fn a_drain_tells_which_requests_were_served() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    let call = [greeting(), get_frame(1, "/hello")].concat();
    stream.write_all(&call).await.unwrap();
    frame_of(&mut stream, DATA, 1).await;
    server.shutdown.drain();
    // The first names no stream, since a request may be under way; it is served.
    let first = frame_of(&mut stream, GOAWAY, 0).await;
    assert_eq!(first, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let ping = frame_of(&mut stream, PING, 0).await;
    let late = [get_frame(3, "/hello"), frame(PING, ACK, 0, &ping)].concat();
    stream.write_all(&late).await.unwrap();
    let (mut served, mut last) = (false, false);
    while !(served && last) {
        let (kind, id, payload) = next_frame(&mut stream).await;
        served |= (kind, id) == (DATA, 3) && payload == b"hello";
        last |= kind == GOAWAY && payload[..4] == [0, 0, 0, 3];
    }
    server.returned().await;
}

#[tokio::test]
async fn a_drain_serves_what_is_in_flight() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut server = start(patient()).await;
        let mut client = Client::new(protocol, server.connect().await).await;
        let call = tokio::spawn(async move {
            let answer = client.get("/gate").await;
            client.closed().await;
            answer
        });
        server.entered().await;
        server.shutdown.drain();
        let refused = async {
            while TcpStream::connect(server.addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        soon("refusing connections", refused).await;
        assert!(!server.served.is_finished());
        server.gate.add_permits(1);
        assert_eq!(
            soon("the call", call).await.unwrap(),
            (StatusCode::OK, "through".into())
        );
        server.returned().await;
    }
}

#[tokio::test]
async fn the_deadline_drops_clients_that_never_read() {
    for greeting in [
        b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        [greeting(), get_frame(1, "/endless")].concat(),
    ] {
        let server = start(ServerSettings {
            drain_timeout: SHORT.into(),
            ..patient()
        })
        .await;
        let mut stream = server.connect().await;
        stream.write_all(&greeting).await.unwrap();
        stream.readable().await.unwrap();
        let dropped = Arc::clone(&server.endless_dropped);
        server.shutdown.drain();
        server.returned().await;
        assert!(dropped.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn the_second_stage_drops_calls_that_do_not_end() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        // By itself after the drain timeout, or by order.
        for drain_timeout in [SHORT, LONG] {
            let mut server = start(ServerSettings {
                drain_timeout: drain_timeout.into(),
                ..patient()
            })
            .await;
            let mut client = Client::new(protocol, server.connect().await).await;
            let call = tokio::spawn(async move { client.send("/gate").await.is_err() });
            server.entered().await;
            server.shutdown.drain();
            if drain_timeout == LONG {
                server.shutdown.cut();
            }
            assert!(soon("the call", call).await.unwrap());
            server.returned().await;
        }
    }
}

#[tokio::test]
async fn dropping_the_server_drops_its_connections() {
    let mut server = start(patient()).await;
    let mut silent = server.connect().await;
    let mut client = Client::new(Protocol::Http2, server.connect().await).await;
    client.get("/hello").await;
    assert_eq!(server.event().await, ConnectionEvent::Opened);
    assert_eq!(server.event().await, ConnectionEvent::Opened);
    server.served.abort();
    client.closed().await;
    until_closed(&mut silent).await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused() {
    let mut server = start(ServerSettings {
        max_connections: 2,
        ..patient()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::new(Protocol::Http2, server.connect().await).await;
        let drip = client.send("/drip").await.unwrap();
        assert_eq!(server.event().await, ConnectionEvent::Opened);
        clients.push((client, drip));
    }
    assert!(until_closed(&mut server.connect().await).await.is_empty());
    assert_eq!(server.event().await, ConnectionEvent::Refused);
    // Those that were there stay, and a place that becomes free is given again.
    for (client, _) in &mut clients {
        assert_eq!(client.get("/hello").await.0, StatusCode::OK);
    }
    drop(clients.pop());
    assert_eq!(server.event().await, ConnectionEvent::Closed);
    let mut client = Client::new(Protocol::Http1, server.connect().await).await;
    assert_eq!(client.get("/hello").await.0, StatusCode::OK);
}

#[tokio::test]
async fn who_asks_nothing_makes_room_for_others() {
    let server = start(ServerSettings {
        max_connections: 3,
        ..patient()
    })
    .await;
    let mut waiting = Client::new(Protocol::Http2, server.connect().await).await;
    let mut drip = waiting.send("/drip").await.unwrap().into_body();
    let mut idle = Client::new(Protocol::Http1, server.connect().await).await;
    idle.get("/hello").await;
    let mut silent = server.connect().await;
    // The one that never asked goes first, although it is the youngest.
    let mut third = Client::new(Protocol::Http1, server.connect().await).await;
    assert_eq!(third.get("/hello").await.0, StatusCode::OK);
    assert!(until_closed(&mut silent).await.is_empty());
    let mut fourth = Client::new(Protocol::Http1, server.connect().await).await;
    assert_eq!(fourth.get("/hello").await.0, StatusCode::OK);
    idle.closed().await;
    server.drip.send("still here").unwrap();
    let frame = soon("a drop", drip.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
}

/// A call that is reset at once.
fn reset_call(stream: u32, path: &str) -> Vec<u8> {
    let mut call = get_frame(0, path);
    call[5..9].copy_from_slice(&stream.to_be_bytes());
    let mut reset = frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]);
    reset[5..9].copy_from_slice(&stream.to_be_bytes());
    [call, reset].concat()
}

#[tokio::test]
async fn who_resets_what_it_asks_is_closed_and_costs_nothing() {
    let mut server = start(patient()).await;
    let mut stream = server.connect().await;
    let (mut from, mut to) = stream.split();
    to.write_all(&greeting()).await.unwrap();
    let flood = async {
        for call in 0..20_000 {
            if to
                .write_all(&reset_call(2 * call + 1, "/gate"))
                .await
                .is_err()
            {
                return;
            }
        }
        panic!("all of it was taken");
    };
    let mut bytes = Vec::new();
    let _ = soon("closing", async {
        tokio::join!(flood, from.read_to_end(&mut bytes))
    })
    .await;
    let mut begun = 0;
    while server.entered.try_recv().is_ok() {
        begun += 1;
    }
    assert!(begun <= 100, "{begun} calls were begun");
    server.is_fine().await;
}

#[tokio::test]
async fn who_cancels_some_calls_keeps_its_connection() {
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    let calls: Vec<u8> = (0..60)
        .flat_map(|call| reset_call(2 * call + 1, "/gate"))
        .collect();
    stream
        .write_all(&[greeting(), calls].concat())
        .await
        .unwrap();
    stream.write_all(&get_frame(201, "/hello")).await.unwrap();
    assert_eq!(frame_of(&mut stream, DATA, 201).await, b"hello");
}

#[tokio::test]
async fn a_request_of_http_1_1_names_its_host() {
    let server = start(patient()).await;
    for (request, status) in [
        ("GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        (
            "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "200",
        ),
        ("GET /hello HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8(until_closed(&mut stream).await).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_the_others_live() {
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let mut server = start(ServerSettings {
        max_streams_per_connection: 2,
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    let calls = [
        get_frame(1, "/gate"),
        get_frame(3, "/gate"),
        get_frame(5, "/hello"),
    ];
    stream
        .write_all(&[greeting(), calls.concat()].concat())
        .await
        .unwrap();
    let settings = frame_of(&mut stream, SETTINGS, 0).await;
    assert!(
        settings
            .chunks(6)
            .any(|setting| setting == [0, 3, 0, 0, 0, 2]),
        "{settings:?}"
    );
    assert_eq!(frame_of(&mut stream, RST_STREAM, 5).await, REFUSED_STREAM);
    server.entered().await;
    server.entered().await;
    server.gate.add_permits(1);
    let (_, id, payload) = loop {
        let frame = next_frame(&mut stream).await;
        if frame.0 == DATA && !frame.2.is_empty() {
            break frame;
        }
    };
    assert_eq!(payload, b"through");
    stream.write_all(&get_frame(7, "/hello")).await.unwrap();
    assert_eq!(frame_of(&mut stream, DATA, 7).await, b"hello");
    server.gate.add_permits(1);
    assert_eq!(frame_of(&mut stream, DATA, 4 - id).await, b"through");
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    const MOST: usize = 4096;
    let server = start(ServerSettings {
        max_header_bytes: u32::try_from(MOST).unwrap(),
        ..patient()
    })
    .await;
    for (size, answer) in [(MOST, "HTTP/1.1 200 "), (MOST + 1, "HTTP/1.1 431 ")] {
        const HEAD: &str = "GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: ";
        let filler = "x".repeat(size - HEAD.len() - 4);
        let mut stream = server.connect().await;
        let request = format!("{HEAD}{filler}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let got = String::from_utf8(until_closed(&mut stream).await).unwrap();
        assert!(got.starts_with(answer), "{size}: {got}");
    }
    // HTTP/2 counts names, values and 32 for each header (RFC 9113, 6.5.2).
    let others: usize = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/hello"),
        (":authority", "localhost"),
        ("x", ""),
    ]
    .map(|(name, value)| name.len() + value.len() + 32)
    .iter()
    .sum();
    let mut stream = server.connect().await;
    stream.write_all(&greeting()).await.unwrap();
    for (size, id) in [(MOST, 1), (MOST + 1, 3), (MOST, 5)] {
        let length = size - others;
        let mut block = header_block("/hello");
        block.extend_from_slice(b"\x00\x01x\x7f");
        let rest = u16::try_from(length - 127).unwrap();
        block.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
        block.push(u8::try_from(rest >> 7).unwrap());
        block.resize(block.len() + length, b'x');
        let request = frame(HEADERS, END_STREAM | END_HEADERS, id, &block);
        stream.write_all(&request).await.unwrap();
        if size == MOST {
            assert_eq!(frame_of(&mut stream, DATA, id).await, b"hello");
        } else {
            let answer = frame_of(&mut stream, HEADERS, id).await;
            // `431` in HPACK's Huffman code.
            let refused = answer.windows(3).any(|bytes| bytes == b"\x69\x90\xff");
            assert!(refused, "{answer:?}");
        }
    }
    server.is_fine().await;
}

#[tokio::test]
async fn a_panic_that_nobody_caught_ends_its_request_alone() {
    let server = start(patient()).await;
    let mut client = Client::new(Protocol::Http2, server.connect().await).await;
    assert!(client.send("/panic").await.is_err());
    assert_eq!(client.get("/hello").await.0, StatusCode::OK);
    // Of HTTP/1 it is the only one of its connection.
    let mut client = Client::new(Protocol::Http1, server.connect().await).await;
    assert!(client.send("/panic").await.is_err());
    client.closed().await;
    server.is_fine().await;
}

#[tokio::test]
async fn idle_connections_go_and_those_with_a_stream_stay() {
    let server = start(ServerSettings {
        idle_timeout: (2 * BRISK).into(),
        // Shorter than the idle time, which it must not cut.
        handshake_timeout: BRISK.into(),
        ..patient()
    })
    .await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut busy = Client::new(protocol, server.connect().await).await;
        let mut drip = busy.send("/drip").await.unwrap().into_body();
        let mut idle = Client::new(protocol, server.connect().await).await;
        let before = Instant::now();
        idle.get("/hello").await;
        idle.closed().await;
        assert!(before.elapsed() >= 2 * BRISK, "{protocol:?}");
        // The other one had no new request for as long and longer.
        server.drip.send("still here").unwrap();
        let frame = soon("a drop", drip.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "still here");
    }
}

#[tokio::test]
async fn a_request_body_that_does_not_end_is_given_up() {
    let server = start(ServerSettings {
        handshake_timeout: SHORT.into(),
        ..patient()
    })
    .await;
    // However often something of it comes.
    let mut stream = server.connect().await;
    let request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut from, mut to) = stream.split();
    let dribble = async {
        let mut pause = tokio::time::interval(SHORT / 20);
        loop {
            pause.tick().await;
            if to.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut answer = [0; 1024];
    let length = tokio::select! {
        () = dribble => 0,
        read = soon("an answer", from.read(&mut answer)) => read.unwrap(),
    };
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("did not come in time"), "{answer}");

    let mut stream = server.connect().await;
    let request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\
                    connection: close\r\n\r\nhalf";
    stream.write_all(request).await.unwrap();
    assert!(until_closed(&mut stream).await.ends_with(b"half"));
}

#[tokio::test]
async fn who_does_not_answer_a_ping_is_gone() {
    let server = start(ServerSettings {
        keepalive_interval: SHORT.into(),
        keepalive_timeout: BRISK.into(),
        ..patient()
    })
    .await;
    let mut mute = server.connect().await;
    mute.write_all(&[greeting(), get_frame(1, "/drip")].concat())
        .await
        .unwrap();
    // This one answers, and has as quiet a stream.
    let mut client = Client::new(Protocol::Http2, server.connect().await).await;
    let mut drip = client.send("/drip").await.unwrap().into_body();
    until_closed(&mut mute).await;
    server.drip.send("still here").unwrap();
    let frame = soon("a drop", drip.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "still here");
}

#[tokio::test]
async fn sockets_notice_a_peer_that_vanished() {
    let settings = ServerSettings::default();
    let (interval, timeout) = (*settings.keepalive_interval, *settings.keepalive_timeout);
    let server = start(settings).await;
    let stream = server.connect().await;
    prepare(&stream, interval, timeout).unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(
        socket.tcp_keepalive_time().unwrap(),
        Duration::from_secs(20)
    );
    assert_eq!(
        socket.tcp_keepalive_interval().unwrap(),
        Duration::from_secs(5)
    );
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
    #[cfg(target_os = "linux")]
    assert_eq!(
        socket.tcp_user_timeout().unwrap(),
        Some(Duration::from_secs(30))
    );
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    server: ServerSettings,
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let parse = |arguments: &[&str]| {
        Command::try_parse_from(["doorbell"].iter().chain(arguments))
            .map(|command| command.server)
            .map_err(|error| error.to_string())
    };
    let settings = parse(&["--idle-timeout", "2m", "--max-connections", "1"]).unwrap();
    assert_eq!(*settings.idle_timeout, Duration::from_secs(120));
    assert_eq!(settings.max_connections, 1);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:50051");
    for refused in [
        ["--max-connections", "0"],
        ["--max-streams-per-connection", "0"],
        ["--max-header-bytes", "1023"],
        ["--handshake-timeout", "0s"],
        ["--idle-timeout", "366d"],
        ["--keepalive-interval", "soon"],
        ["--listen", "localhost"],
    ] {
        let error = parse(&refused).unwrap_err();
        assert!(error.contains("--"), "{error}");
    }
}

/// A certificate and its key, on disk.
struct Pair {
    directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        pair.renew();
        pair
    }

    /// Replaces both files; gives the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        let made = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.key(), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn certificate(&self) -> std::path::PathBuf {
        self.directory.path().join("cert.pem")
    }

    fn key(&self) -> std::path::PathBuf {
        self.directory.path().join("key.pem")
    }

    fn load(&self) -> Result<Arc<tls::Acceptor>, tls::Error> {
        tls::Acceptor::load(&self.certificate(), &self.key())
    }

    fn on_disk(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.certificate()).unwrap()
    }
}

/// A TLS connection that trusts `certificate` and offers `alpn`.
async fn connect_tls(
    addr: SocketAddr,
    certificate: &CertificateDer<'static>,
    alpn: &[&str],
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().into()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(addr).await?;
    soon(
        "a handshake",
        TlsConnector::from(Arc::new(config)).connect(name, stream),
    )
    .await
}

#[tokio::test]
async fn tls_agrees_on_the_protocol() {
    let pair = Pair::new();
    let server = start_with(patient(), Some(pair.load().unwrap())).await;
    for (offered, agreed, protocol) in [
        (&["h2", "http/1.1"][..], Some("h2"), Protocol::Http2),
        (&["http/1.1"], Some("http/1.1"), Protocol::Http1),
        (&[], None, Protocol::Http1),
    ] {
        let stream = connect_tls(server.addr, &pair.on_disk(), offered)
            .await
            .unwrap();
        assert_eq!(
            stream.get_ref().1.alpn_protocol(),
            agreed.map(str::as_bytes)
        );
        let mut client = Client::new(protocol, stream).await;
        assert_eq!(client.get("/hello").await, (StatusCode::OK, "hello".into()));
    }
    assert!(
        connect_tls(server.addr, &pair.on_disk(), &["ftp"])
            .await
            .is_err()
    );
    let mut plain = server.connect().await;
    plain
        .write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(!until_closed(&mut plain).await.starts_with(b"HTTP"));
    server.shutdown.drain();
    server.returned().await;
}

#[tokio::test]
async fn half_a_tls_handshake_is_closed() {
    const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let pair = Pair::new();
    let server = start_with(
        ServerSettings {
            handshake_timeout: BRISK.into(),
            ..patient()
        },
        Some(pair.load().unwrap()),
    )
    .await;
    for bytes in [&[][..], HALF_A_HELLO] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        until_closed(&mut stream).await;
    }
    // A handshake alone is not a request.
    let mut stream = connect_tls(server.addr, &pair.on_disk(), &["h2"])
        .await
        .unwrap();
    let _ = soon("closing", stream.read_to_end(&mut Vec::new())).await;

    let mut server = start_with(patient(), Some(pair.load().unwrap())).await;
    let mut stream = server.connect().await;
    stream.write_all(HALF_A_HELLO).await.unwrap();
    assert_eq!(server.event().await, ConnectionEvent::Opened);
    server.shutdown.drain();
    server.returned().await;
}

#[tokio::test]
async fn new_files_serve_new_connections_and_bad_ones_do_not() {
    let pair = Pair::new();
    let old = pair.on_disk();
    let acceptor = pair.load().unwrap();
    let server = start_with(patient(), Some(acceptor.clone())).await;
    let mut earlier = Client::new(
        Protocol::Http2,
        connect_tls(server.addr, &old, &["h2"]).await.unwrap(),
    )
    .await;
    assert!(!acceptor.reload().unwrap());

    std::fs::write(pair.certificate(), "not a certificate").unwrap();
    let refused = acceptor.reload().unwrap_err().to_string();
    assert!(refused.contains("holds no certificate"), "{refused}");
    connect_tls(server.addr, &old, &["h2"]).await.unwrap();

    let new = pair.renew();
    assert!(acceptor.reload().unwrap());
    connect_tls(server.addr, &new, &["h2"]).await.unwrap();
    assert!(connect_tls(server.addr, &old, &["h2"]).await.is_err());
    assert_eq!(earlier.get("/hello").await.0, StatusCode::OK);
}

/// Connects until the server shows `certificate`, nudging it with `nudge`.
async fn until_shown(addr: SocketAddr, certificate: &CertificateDer<'static>, nudge: impl Fn()) {
    soon("the new certificate", async {
        while connect_tls(addr, certificate, &["h2"]).await.is_err() {
            nudge();
        }
    })
    .await;
}

#[tokio::test]
async fn changed_files_are_found() {
    let pair = Pair::new();
    let acceptor = pair.load().unwrap();
    let server = start_with(patient(), Some(acceptor.clone())).await;
    let watch = tokio::spawn(async move { acceptor.watch_every(SHORT / 10).await });
    // A broken pair on the way does not stop it.
    std::fs::remove_file(pair.key()).unwrap();
    let new = pair.renew();
    until_shown(server.addr, &new, || {}).await;
    watch.abort();
}

#[tokio::test]
async fn sighup_reloads() {
    // Caught from here on: it would end the process otherwise.
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let pair = Pair::new();
    let acceptor = pair.load().unwrap();
    let server = start_with(patient(), Some(acceptor.clone())).await;
    let watch = tokio::spawn(async move { acceptor.watch_every(LONG).await });
    let new = pair.renew();
    until_shown(server.addr, &new, || {
        let hangup = format!("kill -HUP {}", std::process::id());
        let status = std::process::Command::new("sh")
            .args(["-c", &hangup])
            .status();
        assert!(status.unwrap().success());
    })
    .await;
    watch.abort();
}

#[test]
fn files_that_cannot_serve_are_named() {
    let pair = Pair::new();
    let error = || pair.load().err().unwrap().to_string();
    std::fs::copy(Pair::new().certificate(), pair.certificate()).unwrap();
    assert!(error().contains("does not belong"), "{}", error());
    std::fs::write(pair.key(), "").unwrap();
    assert!(error().contains("holds no private key"), "{}", error());
    assert!(error().contains("key.pem"), "{}", error());
    std::fs::write(pair.certificate(), "").unwrap();
    assert!(error().contains("holds no certificate"), "{}", error());
    std::fs::remove_file(pair.certificate()).unwrap();
    assert!(error().contains("cert.pem cannot be read"), "{}", error());
    assert!(!error().contains('\n'));
}
