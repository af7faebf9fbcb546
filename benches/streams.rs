//! What streams cost: memory while they are idle, and a storm of them coming
//! back.
//!
//! Memory is the resident memory of the server process alone, per stream, beside
//! a bare tonic stream in the same run: a server that does nothing but hold a
//! stream, tuned as ours is.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::time::{Duration, Instant};

use common::{
    Client, Failure, Other, Others, Server, median, percentile, report, send_for_ever, token,
    with_token,
};
use doorbell::proto::{SubscribeRequest, SubscribeResponse, subscribe_response::Event};
use futures_util::{StreamExt as _, stream};
use tonic::Streaming;

/// As the binary has it: the bare server shall differ in what it does alone.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Failure> {
    if let Some(at) = std::env::args().position(|word| word == "bare") {
        let address = std::env::args().nth(at + 1).ok_or("an address")?;
        return runtime()?.block_on(bare::serve(address.parse()?));
    }
    if let Some(at) = std::env::args().position(|word| word == "sends") {
        let address = std::env::args().nth(at + 1).ok_or("an address")?;
        return runtime()?.block_on(send_for_ever(address.parse()?));
    }
    runtime()?.block_on(async {
        memory().await?;
        storm().await
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// Opens a stream and takes its first message.
async fn open(
    client: &Client,
    user: &str,
    after_revision: Option<u64>,
) -> Result<Streaming<SubscribeResponse>, Failure> {
    let request = SubscribeRequest {
        after_revision,
        epoch: None,
    };
    let request = with_token(request, &token(Some(user))?);
    let mut stream = client.clone().subscribe(request).await?.into_inner();
    let first = stream.message().await?.ok_or("no first message")?;
    match first.event {
        Some(Event::Connected(_)) => Ok(stream),
        other => Err(format!("the first message is {other:?}").into()),
    }
}

const OWN_CONNECTIONS: usize = 2000;
const SHARED: usize = 1000;

async fn memory() -> Result<(), Failure> {
    for (what, connections, streams, limit) in [
        (
            "idle stream on a connection of its own",
            OWN_CONNECTIONS,
            1,
            20.0,
        ),
        ("idle stream, 1,000 on one connection", 1, SHARED, 5.0),
    ] {
        let bare = Other::start(&["bare"])?;
        let floor = grown(bare.address, bare.pid(), connections, streams).await?;
        drop(bare);
        let server = Server::start(&[])?;
        let ours = grown(server.address, server.pid(), connections, streams).await?;
        report(what, ours, limit, " KiB", false);
        println!("  a bare tonic stream in the same run: {floor:.2} KiB");
    }
    Ok(())
}

/// How much memory a server takes per stream, in KiB: the difference between
/// half of the streams and all of them, so that what it takes once is not
/// counted.
async fn grown(
    address: std::net::SocketAddr,
    pid: u32,
    connections: usize,
    streams: usize,
) -> Result<f64, Failure> {
    let mut held = Vec::new();
    let mut sizes = Vec::new();
    let total = connections * streams;
    let mut shared: Option<Client> = None;
    for number in 0..total {
        if connections > 1 || shared.is_none() {
            shared = Some(common::connect(address).await?);
        }
        let client = shared.clone().ok_or("a client")?;
        held.push((
            open(&client, &format!("user-{number}"), None).await?,
            client,
        ));
        if number + 1 == total / 2 || number + 1 == total {
            tokio::time::sleep(Duration::from_secs(2)).await;
            sizes.push(common::resident_of(pid)?);
        }
    }
    Ok((sizes[1] - sizes[0]) / (total - total / 2) as f64 / 1024.0)
}

const STORM: usize = 10_000;
const STORM_CONNECTIONS: usize = 20;

/// 10,000 streams come back at once, each where it was: at the head. Meanwhile
/// others send; how much longer does the slowest hundredth of their sends take?
///
/// They send from a process of their own: in this one they would wait behind the
/// storm before they reach the server.
async fn storm() -> Result<(), Failure> {
    let server = Server::start(&[("DOORBELL_MAX_STREAMS_PER_ORGANIZATION", "1000000")])?;
    let mut sends = Others::start(server.address)?;
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let connections = stream::iter(0..STORM_CONNECTIONS)
            .then(|_| server.connect())
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut before = sends.until_now();
        let began = Instant::now();
        let opened: Vec<_> = stream::iter(0..STORM)
            .map(|number| {
                let client = connections[number % STORM_CONNECTIONS].clone();
                async move { open(&client, &format!("user-{number}"), Some(0)).await }
            })
            .buffer_unordered(STORM)
            .collect()
            .await;
        let took = began.elapsed();
        let opened: Vec<_> = opened.into_iter().collect::<Result<_, _>>()?;
        let mut meanwhile = sends.until_now();
        let (calm, stormy) = (
            percentile(&mut before, 0.99),
            percentile(&mut meanwhile, 0.99),
        );
        println!(
            "  {} streams were back after {took:.2?}; a send's p99: {calm:.2} ms before ({} \
             sends), {stormy:.2} ms meanwhile ({})",
            opened.len(),
            before.len(),
            meanwhile.len()
        );
        ratios.push(stormy / calm);
    }
    let ratio = median(&mut ratios);
    report(
        "a send's p99 while 10,000 streams come back, to that before",
        ratio,
        2.0,
        "x",
        false,
    );
    Ok(())
}

/// A server whose streams say one thing and then nothing: what is left when all
/// that Doorbell does is taken away.
mod bare {
    use std::{net::SocketAddr, sync::Arc};

    use doorbell::{
        config::ServerSettings,
        grpc::{
            encoded,
            server::notification_service_server::{NotificationService, NotificationServiceServer},
        },
        proto::{self, subscribe_response::Event},
        server::{self, Shutdown},
    };
    use futures_util::{StreamExt as _, stream};
    use tonic::{Request, Response, Status, codegen::BoxStream, service::Routes};

    use super::Failure;

    pub async fn serve(address: SocketAddr) -> Result<(), Failure> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let router = Routes::new(NotificationServiceServer::new(Bare)).into_axum_router();
        let settings = ServerSettings::default();
        let observer: server::Observer = Arc::new(|_| {});
        server::serve(listener, router, &settings, None, observer, Shutdown::new()).await;
        Ok(())
    }

    struct Bare;

    #[tonic::async_trait]
    impl NotificationService for Bare {
        async fn subscribe(
            &self,
            _: Request<proto::SubscribeRequest>,
        ) -> Result<Response<BoxStream<encoded::SubscribeResponse>>, Status> {
            let first = encoded::SubscribeResponse::new(&proto::SubscribeResponse {
                event: Some(Event::Connected(proto::Connected::default())),
                ..proto::SubscribeResponse::default()
            });
            let stream = stream::once(async { Ok(first) }).chain(stream::pending());
            Ok(Response::new(Box::pin(stream)))
        }
    }
}
