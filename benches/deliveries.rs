//! What a send and its delivery cost over gRPC: the time from the send to the
//! event on an idle server, and the CPU of the server's process.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Failure, Server, engines::Postgres, median, notification, report, token, with_token};
use doorbell::{
    clock::{Clock as _, SystemClock},
    model::InboxKey,
    proto::SubscribeRequest,
    store::{Mutation, Store as _},
};

fn main() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            latency().await?;
            cpu("SQLite", &[]).await?;
            let postgres = Postgres::start();
            let url = postgres.create_database().await;
            cpu("Postgres", &[("DOORBELL_DATABASE_URL", &url)]).await
        })
}

const SENDS: usize = 2000;

/// One send after the other on a server that has nothing else to do, from just
/// before the call to the event on the recipient's stream; and in turn with it a
/// commit of the same notification alone, to a store in this process.
async fn latency() -> Result<(), Failure> {
    let server = Server::start(&[])?;
    let (sender, reader) = (server.connect().await?, server.connect().await?);
    let request = with_token(SubscribeRequest::default(), &token(Some("ann"))?);
    let mut stream = reader.clone().subscribe(request).await?.into_inner();
    stream.message().await?;
    let token = token(None)?;
    let directory = tempfile::tempdir()?;
    let store = common::open(&directory, 1).await?;
    let inbox = InboxKey::parse("acme", "ann")?;
    let (mut events, mut commits) = (Vec::new(), Vec::new());
    for _ in 0..SENDS {
        let began = Instant::now();
        let request = with_token(notification("ann"), &token);
        let sending = tokio::spawn({
            let mut sender = sender.clone();
            async move { sender.send_in_app(request).await }
        });
        stream.message().await?.ok_or("the stream ended")?;
        events.push(began.elapsed().as_secs_f64() * 1000.0);
        sending.await??;

        let new = Mutation::Send(common::new_notification(inbox.clone()));
        let began = Instant::now();
        store.commit(&[new], SystemClock.now()).await?;
        commits.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    store.close().await;
    let (event, commit) = (median(&mut events), median(&mut commits));
    println!("  medians: {event:.3} ms from send to event, {commit:.3} ms a commit alone");
    report(
        "send to event beyond the commit, median",
        event - commit,
        1.0,
        " ms",
        false,
    );
    Ok(())
}

const USERS: usize = 100;
const CALLERS: usize = 32;
const LOAD: Duration = Duration::from_secs(10);

/// Many senders and as many streams as users: each send is delivered once.
async fn cpu(store: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let server = Server::start(settings)?;
    let mut readers = Vec::new();
    for user in 0..USERS {
        let client = server.connect().await?;
        let token = token(Some(&format!("user-{user}")))?;
        let request = with_token(SubscribeRequest::default(), &token);
        let mut stream = client.clone().subscribe(request).await?.into_inner();
        stream.message().await?;
        readers.push(tokio::spawn(async move {
            // The channel is kept for as long as its stream is read.
            let _client = client;
            let mut seen = 0_usize;
            while let Ok(Ok(Some(_))) =
                tokio::time::timeout(Duration::from_secs(2), stream.message()).await
            {
                seen += 1;
            }
            seen
        }));
    }
    let before = server.cpu()?;
    let began = Instant::now();
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let client = server.connect().await?;
        let token = token(None)?;
        callers.push(tokio::spawn(async move {
            let mut sent = 0;
            while began.elapsed() < LOAD {
                let user = format!("user-{}", (sent * CALLERS + caller) % USERS);
                let request = with_token(notification(&user), &token);
                client.clone().send_in_app(request).await?;
                sent += 1;
            }
            Ok::<usize, Failure>(sent)
        }));
    }
    let mut sent = 0;
    for caller in callers {
        sent += caller.await??;
    }
    let took = began.elapsed().as_secs_f64();
    let mut delivered = 0;
    for reader in readers {
        delivered += reader.await?;
    }
    let cpu = (server.cpu()? - before).as_secs_f64() * 1e6;
    if delivered != sent {
        return Err(format!("{sent} were sent, and {delivered} delivered").into());
    }
    println!(
        "  {:.0} sends and deliveries a second by {CALLERS} callers",
        sent as f64 / took
    );
    let each = cpu / sent as f64;
    report(
        &format!("CPU of the server for a send and its delivery, {store}"),
        each,
        100.0,
        " µs",
        false,
    );
    Ok(())
}
