//! What it costs to say something to everybody.
//!
//! - To publish it, in a store of 100,000 inboxes beside one of 100.
//! - To read the head of an inbox of an organization to which much was said, beside that
//!   of one where nothing ever was.
//! - 10,000 open streams take it: how long until the last has it, and how much longer the
//!   slowest hundredth of others' sends takes meanwhile. Those come from a process of their
//!   own; the server is the real binary, on SQLite and on Postgres.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    Client, Failure, Others, Server, engines, median, percentile, report, send_for_ever, token,
    with_token,
};
use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    model::{Content as Said, InboxKey, OrganizationId},
    proto::{
        BroadcastRequest, Content, SubscribeRequest, send_service_client::SendServiceClient,
        subscribe_response::Event,
    },
    random::{Random, SystemRandom},
    store::{
        Broadcasts as _, Mutation, Sends as _, Store, Take,
        sends::{NewSend, Target},
        sqlite::Sqlite,
    },
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::Endpoint;

const MANY: usize = 100_000;
const FEW: usize = 100;
const BATCH: usize = 1000;
/// The most that an organization may have at a time.
const SAID: usize = 100;
const READS: usize = 20_000;

const STREAMS: usize = 10_000;
const CONNECTIONS: usize = 20;
const ROUNDS: usize = 3;
const ALONE: Duration = Duration::from_secs(10);
/// All have it within this, or it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let Some(at) = words.iter().position(|word| word == "sends") {
        let address = words.get(at + 1).ok_or("an address")?;
        return runtime.block_on(send_for_ever(address.parse()?));
    }
    runtime.block_on(async {
        publish().await?;
        head().await?;
        to_streams("SQLite", &[]).await?;
        let postgres = engines::Postgres::start();
        let url = postgres.create_database().await;
        to_streams("Postgres", &[("DOORBELL_DATABASE_URL", &url)]).await
    })
}

fn new_send(organization_id: &OrganizationId, available_until: Timestamp) -> NewSend {
    let random: &dyn Random = &SystemRandom;
    let id = random.uuid_v7(SystemClock.now());
    NewSend {
        organization_id: organization_id.clone(),
        id,
        target: Target::Everybody { available_until },
        content: Arc::new(Said::new("notice", "Doorbell is down for an hour tonight")),
        idempotency_key: Some(id.to_string()),
        sender: "backend".into(),
        expire_time: None,
        collapse_key: None,
        is_silent: false,
        follow_up: None,
        deliver_time: SystemClock.now(),
    }
}

/// A store with so many inboxes, of one notification each.
async fn filled(directory: &tempfile::TempDir, inboxes: usize) -> Result<Sqlite, Failure> {
    let store = common::open(directory, 4).await?;
    for first in (0..inboxes).step_by(BATCH) {
        let user = |number| InboxKey::parse("acme", &format!("user-{number}"));
        let batch: Vec<_> = (first..inboxes.min(first + BATCH))
            .map(|number| Ok(Mutation::Send(common::new_notification(user(number)?))))
            .collect::<Result<_, Failure>>()?;
        store.commit(&batch, SystemClock.now()).await?;
    }
    Ok(store)
}

/// How long it takes to accept and publish one, in each in turn.
async fn publish() -> Result<(), Failure> {
    let directories = [tempfile::tempdir()?, tempfile::tempdir()?];
    let stores = [
        filled(&directories[0], MANY).await?,
        filled(&directories[1], FEW).await?,
    ];
    let acme = OrganizationId::parse("acme")?;
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..SAID {
        for (store, took) in stores.iter().zip(&mut took) {
            let new = new_send(&acme, SystemClock.now().after(PATIENCE));
            let began = Instant::now();
            let accepted = store.accept(&new, SystemClock.now()).await??;
            store.publish(&accepted.send, SystemClock.now()).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [many, few] = &mut took;
    let (many, few) = (median(many), median(few));
    println!("  published: {many:.2} ms beside {MANY} inboxes, {few:.2} ms beside {FEW}");
    let what = "a broadcast in a store of 100,000 inboxes, to one of 100";
    report(what, many / few, 1.2, "x", false);
    for store in stores {
        store.close().await;
    }
    Ok(())
}

/// The head of an inbox that has taken a hundred, and of one to whose organization nothing
/// was said, read in turn.
async fn head() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let store = filled(&directory, FEW).await?;
    let quiet = InboxKey::parse("globex", "user-1")?;
    let sent = Mutation::Send(common::new_notification(quiet.clone()));
    store.commit(&[sent], SystemClock.now()).await?;
    let busy = InboxKey::parse("acme", "user-1")?;
    for _ in 0..SAID {
        let new = new_send(&busy.organization_id, SystemClock.now().after(PATIENCE));
        let accepted = store.accept(&new, SystemClock.now()).await??;
        store.publish(&accepted.send, SystemClock.now()).await?;
    }
    let through = store.head(&busy).await?.announced;
    let take = Mutation::Take(Take {
        inbox: busy.clone(),
        after: 0,
        through,
        sends: Vec::new(),
        retracted: Vec::new(),
    });
    store.commit(&[take], SystemClock.now()).await?;
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..READS {
        for (inbox, took) in [&busy, &quiet].into_iter().zip(&mut took) {
            let began = Instant::now();
            store.head(inbox).await?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [busy, quiet] = &mut took;
    let (busy, quiet) = (median(busy), median(quiet));
    println!("  a head: {busy:.1} µs where {SAID} were said, {quiet:.1} µs where none");
    let what = "a head where 100 broadcasts are, to one where none is";
    report(what, busy / quiet, 1.2, "x", false);
    store.close().await;
    Ok(())
}

/// Until all streams have it, and what others' sends take meanwhile.
async fn to_streams(engine: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let more = ("DOORBELL_MAX_STREAMS_PER_ORGANIZATION", "1000000");
    let server = Server::start(&[settings, &[more]].concat())?;
    let connections: Vec<Client> = stream::iter(0..CONNECTIONS)
        .then(|_| server.connect())
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let (told, mut hears) = tokio::sync::mpsc::channel::<Instant>(STREAMS);
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        let token = token(Some(&format!("user-{number}")))?;
        let request = with_token(SubscribeRequest::default(), &token);
        let mut client = connections[number % CONNECTIONS].clone();
        let mut stream = client.subscribe(request).await?.into_inner();
        let told = told.clone();
        streams.spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                if matches!(message.event, Some(Event::Notification(_)))
                    && told.send(Instant::now()).await.is_err()
                {
                    break;
                }
            }
        });
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address))?;
    let mut others = Others::start(server.address)?;
    let (mut last, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        drop(others.until_now());
        sleep(ALONE).await;
        let mut alone = others.until_now();
        let request = BroadcastRequest {
            organization_id: "acme".into(),
            content: Some(Content {
                r#type: "notice".into(),
                title: "Doorbell is down for an hour tonight".into(),
                ..Content::default()
            }),
            idempotency_key: round.to_string(),
            ..BroadcastRequest::default()
        };
        // Made now: a connection without a request is ended after ten seconds.
        let mut sends = SendServiceClient::new(endpoint.connect().await?);
        let began = Instant::now();
        sends.broadcast(with_token(request, &token(None)?)).await?;
        let all = async {
            for _ in 1..STREAMS {
                hears.recv().await;
            }
            hears.recv().await
        };
        let ended = timeout(PATIENCE, all).await?.ok_or("the streams ended")?;
        let took = (ended - began).as_secs_f64();
        let mut beside = others.until_now();
        let (before, during) = (percentile(&mut alone, 0.99), percentile(&mut beside, 0.99));
        println!(
            "  {engine}: all {STREAMS} streams have it after {took:.1} s; others' p99 {before:.1} \
             ms before ({} sends), {during:.1} ms meanwhile ({})",
            alone.len(),
            beside.len()
        );
        last.push(took);
        ratios.push(during / before);
    }
    let what = format!("until 10,000 open streams have a broadcast, {engine}");
    report(&what, median(&mut last), 10.0, " s", false);
    let what = format!("p99 of others' sends meanwhile, to that before, {engine}");
    report(&what, median(&mut ratios), 2.0, "x", false);
    Ok(())
}
