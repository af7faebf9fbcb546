//! What a million rooms cost one node, and what it shares with others.
//!
//! - **rooms**: streams of a million different users on the real hub and the real feeds, in
//!   this process. No sockets: a feed is opened as the service opens it, 64 at a time, and
//!   lives in a task of its own, which encodes what it says and drops it. The store is one in
//!   memory that keeps of each inbox how far it is, so what a database costs is not in it.
//!   Measured are the memory of a stream, what a send costs beside a thousand rooms, what
//!   others' sends notice of 100,000 streams that come back and of all that come to a node
//!   that was restarted, and a million streams' heartbeats.
//! - **heads**: what those heartbeats ask of a database: heads a second of 1,000,000 inboxes
//!   in Postgres, as many a statement as the service reads; how much room rows take; and
//!   sends a second to any of them.
//! - **events**: what NATS carries: events a second to one node and to three, which follow the
//!   organization and have none of the rooms.
//!
//! `cargo bench --bench rooms -- rooms` does one of them. What is measured shares the cores
//! with what loads it.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;
#[path = "rooms/shared.rs"]
mod shared;
#[path = "rooms/store.rs"]
mod store;

use std::{
    hint::black_box,
    mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Failure, cpu_of, median, new_notification, percentile, report, resident_of};
use doorbell::{
    bus::{self, Bus},
    clock::{Clock as _, SystemClock},
    config::{FeedSettings, WriterSettings},
    grpc::convert,
    hub::Hub,
    inbox::{
        Inboxes,
        feed::{Event, Feed, Resume},
    },
    random::SystemRandom,
};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::Mutex;
use store::{Memory, inbox};
use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const FEW: usize = 1000;
const MANY: usize = 1_000_000;
/// Where memory is looked at first.
const TENTH: usize = 100_000;

/// The streams that a connection opens, one after the other but for so many: the service
/// reads no more calls of one that are not begun.
const OF_A_CONNECTION: usize = 1000;
const AT_ONCE_OF_A_CONNECTION: usize = 16;
/// The streams that a node opens at a time, see `grpc.rs`.
const OPENING: usize = 64;

/// A send alone, so many times a round; then so many callers for a while.
const ALONE: usize = 2000;
const CALLERS: usize = 64;
const TOGETHER: Duration = Duration::from_millis(700);
const ROUNDS: usize = 7;
/// From one send to the next this many inboxes further: a prime, so all have their turn.
const STRIDE: usize = 611_953;

/// Others who send all the time, each with a rest after its answer.
const OTHERS: usize = 8;
const REST: Duration = Duration::from_millis(5);
const CALM: Duration = Duration::from_secs(3);
const STORMS: usize = 3;

/// No stream says anything by itself.
const SILENT: Duration = Duration::from_secs(3600);
/// As the service has it.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// What is waited for comes within this, or it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let parts = ["rooms", "heads", "events"];
    let is_any = parts.iter().any(|part| named.iter().any(|n| n == part));
    let is_named = |part: &str| !is_any || named.iter().any(|name| name == part);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            if is_named("rooms") {
                rooms().await?;
            }
            if is_named("heads") {
                shared::heads().await?;
            }
            if is_named("events") {
                shared::events().await?;
            }
            Ok(())
        })
}

async fn rooms() -> Result<(), Failure> {
    let content = new_notification(inbox(0)?).content;
    let store = Memory::new(MANY, content.clone());
    let mut many = Node::new(store.clone(), SILENT);
    memory(&mut many).await?;

    let mut few = Node::new(Memory::new(FEW, content), SILENT);
    few.open(0..FEW).await?;
    sends(&few, &many).await?;
    drop(few);

    for _ in 0..STORMS {
        many.leave(MANY - TENTH).await?;
        many.come(MANY - TENTH..MANY).await?;
    }
    drop(many);

    // The node was restarted: what all had is in the store.
    let mut beating = Node::new(store, HEARTBEAT);
    beating.open(0..FEW).await?;
    beating.come(FEW..MANY).await?;
    heartbeats(&beating).await
}

/// What all streams of a node tell of.
struct Heard {
    store: Arc<Memory>,
    /// Streams that have had their first message.
    open: AtomicUsize,
    /// From a commit to the event at its stream, in microseconds.
    took: Mutex<Vec<f64>>,
    came: Notify,
}

/// What a node does for who opens a stream.
#[derive(Clone)]
struct Service {
    inboxes: Arc<Inboxes>,
    heard: Arc<Heard>,
    opening: Arc<Semaphore>,
}

impl Service {
    /// Opens the stream of an inbox where its client was, at the head, and follows it in a
    /// task of its own.
    async fn open(self, number: usize) -> Result<AbortHandle, Failure> {
        let heard = self.heard;
        let resume = Resume {
            after_revision: Some(heard.store.revision(number)),
            epoch: None,
        };
        let expires_at = SystemClock.now().after(24 * SILENT);
        let mut feed = {
            let _place = self.opening.acquire().await?;
            let inbox = inbox(number)?;
            self.inboxes.subscribe(&inbox, resume, expires_at).await?
        };
        let first = feed.next().await.ok_or("the stream ended")??;
        if !matches!(first.event, Event::Connected { .. }) {
            return Err(format!("the first message is {:?}", first.event).into());
        }
        black_box(convert::message(&first));
        heard.open.fetch_add(1, Ordering::AcqRel);
        Ok(tokio::spawn(follow(feed, Open(heard), number)).abort_handle())
    }
}

/// Counts a stream as open.
struct Open(Arc<Heard>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn follow(mut feed: Feed, open: Open, number: usize) {
    let Open(heard) = &open;
    while let Some(Ok(message)) = feed.next().await {
        if matches!(message.event, Event::Live(_)) {
            let took = heard.store.since_commit(number);
            heard.took.lock().push(took);
            heard.came.notify_one();
        }
        black_box(convert::message(&message));
    }
}

/// One node, and the streams of its clients.
struct Node {
    service: Service,
    hub: Arc<Hub>,
    /// Each connection's, in the order of the numbers of their inboxes.
    streams: Vec<Vec<AbortHandle>>,
    /// How many sends there were by itself.
    sent: Arc<AtomicUsize>,
}

impl Node {
    fn new(store: Arc<Memory>, heartbeat_interval: Duration) -> Self {
        let feeds = FeedSettings {
            heartbeat_interval: heartbeat_interval.into(),
            ..FeedSettings::default()
        };
        let hub = bus::hub(&feeds);
        let inboxes = Inboxes::new(
            store.clone(),
            Bus::Local(hub.clone()),
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
            feeds,
            &WriterSettings::default(),
        );
        let heard = Heard {
            store,
            open: AtomicUsize::new(0),
            took: Mutex::default(),
            came: Notify::new(),
        };
        let service = Service {
            inboxes,
            heard: Arc::new(heard),
            opening: Arc::new(Semaphore::new(OPENING)),
        };
        Self {
            service,
            hub,
            streams: Vec::new(),
            sent: Arc::default(),
        }
    }

    /// Opens the streams of these inboxes at once. Returns when all have had their first
    /// message.
    async fn open(&mut self, numbers: Range<usize>) -> Result<(), Failure> {
        let starts = numbers.step_by(OF_A_CONNECTION);
        let connections: Vec<_> = starts
            .map(|first| {
                let service = self.service.clone();
                tokio::spawn(async move {
                    let streams = stream::iter(first..first + OF_A_CONNECTION)
                        .map(|number| service.clone().open(number))
                        .buffered(AT_ONCE_OF_A_CONNECTION);
                    streams.collect::<Vec<_>>().await
                })
            })
            .collect();
        for connection in connections {
            let streams: Result<Vec<_>, _> = connection.await?.into_iter().collect();
            self.streams.push(streams?);
        }
        Ok(())
    }

    /// Ends the streams from this inbox on.
    async fn leave(&mut self, first: usize) -> Result<(), Failure> {
        for stream in self.streams.drain(first / OF_A_CONNECTION..).flatten() {
            stream.abort();
        }
        let are_gone = async {
            while self.service.heard.open.load(Ordering::Acquire) > first {
                sleep(Duration::from_millis(5)).await;
            }
        };
        Ok(timeout(PATIENCE, are_gone).await?)
    }

    /// Opens these streams while others send to those before them, which are open. The
    /// store answers at once: what is added to a send's time is what counts, not how many
    /// times that is.
    async fn come(&mut self, numbers: Range<usize>) -> Result<(), Failure> {
        let count = numbers.len();
        self.service.heard.took.lock().clear();
        let others = Others::start(&self.service, numbers.start);
        sleep(CALM).await;
        let mut before = others.until_now()?;
        let began = Instant::now();
        self.open(numbers).await?;
        let back = began.elapsed();
        let mut meanwhile = others.until_now()?;
        let p99 = |took: &mut Vec<f64>| percentile(took, 0.99);
        println!(
            "  {count} streams were back after {back:.2?}; a send's p99: {:.2} ms before ({} \
             sends), {:.2} ms meanwhile ({}); from its commit to its event {:.2} ms and {:.2} ms",
            p99(&mut before.sends),
            before.sends.len(),
            p99(&mut meanwhile.sends),
            meanwhile.sends.len(),
            p99(&mut before.events) / 1e3,
            p99(&mut meanwhile.events) / 1e3,
        );
        Ok(())
    }

    /// The median from commit to event of sends one after the other, in microseconds.
    async fn alone(&self, rooms: usize) -> Result<f64, Failure> {
        for _ in 0..ALONE {
            send(&self.service.inboxes, &self.sent, rooms).await?;
            timeout(PATIENCE, self.service.heard.came.notified()).await?;
        }
        Ok(median(&mut mem::take(&mut *self.service.heard.took.lock())))
    }

    /// Sends a second by many callers, and the CPU of one in microseconds, its caller's
    /// included.
    async fn together(&self, rooms: usize) -> Result<(f64, f64), Failure> {
        let (began, cpu) = (Instant::now(), cpu_of(std::process::id())?);
        let before = self.sent.load(Ordering::Relaxed);
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (inboxes, sent) = (self.service.inboxes.clone(), self.sent.clone());
            callers.spawn(async move {
                while began.elapsed() < TOGETHER {
                    send(&inboxes, &sent, rooms).await?;
                }
                Ok::<_, Failure>(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        let took = began.elapsed().as_secs_f64();
        let sent = self.sent.load(Ordering::Relaxed) - before;
        let are_heard = async {
            while self.service.heard.took.lock().len() < sent {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, are_heard).await?;
        let cpu = cpu_of(std::process::id())? - cpu;
        self.service.heard.took.lock().clear();
        // The last of them left its word.
        let _ = self.service.heard.came.notified().now_or_never();
        Ok((sent as f64 / took, cpu.as_secs_f64() * 1e6 / sent as f64))
    }
}

/// Sends to the inbox whose turn it is, of the first `rooms`.
async fn send(inboxes: &Inboxes, sent: &AtomicUsize, rooms: usize) -> Result<(), Failure> {
    let turn = sent.fetch_add(1, Ordering::Relaxed);
    let new = new_notification(inbox(turn.wrapping_mul(STRIDE) % rooms)?);
    inboxes.send(new).await?;
    Ok(())
}

impl Drop for Node {
    fn drop(&mut self) {
        for stream in self.streams.drain(..).flatten() {
            stream.abort();
        }
    }
}

/// Others who send all the time, until they are dropped.
struct Others {
    heard: Arc<Heard>,
    took: Arc<Mutex<Vec<f64>>>,
    _senders: JoinSet<Result<(), Failure>>,
}

/// Of the sends that ended: how long they took, in milliseconds, and from commit to event,
/// in microseconds.
struct Took {
    sends: Vec<f64>,
    events: Vec<f64>,
}

impl Others {
    fn start(service: &Service, rooms: usize) -> Self {
        let took: Arc<Mutex<Vec<f64>>> = Arc::default();
        let mut senders = JoinSet::new();
        let sent = Arc::new(AtomicUsize::new(0));
        for _ in 0..OTHERS {
            let inboxes = service.inboxes.clone();
            let (sent, took) = (sent.clone(), took.clone());
            senders.spawn(async move {
                loop {
                    let began = Instant::now();
                    send(&inboxes, &sent, rooms).await?;
                    took.lock().push(began.elapsed().as_secs_f64() * 1e3);
                    sleep(REST).await;
                }
            });
        }
        Self {
            heard: service.heard.clone(),
            took,
            _senders: senders,
        }
    }

    /// Since the last call.
    fn until_now(&self) -> Result<Took, Failure> {
        let took = Took {
            sends: mem::take(&mut *self.took.lock()),
            events: mem::take(&mut *self.heard.took.lock()),
        };
        match took.sends.is_empty() || took.events.is_empty() {
            true => Err("the others do not send".into()),
            false => Ok(took),
        }
    }
}

/// Resident memory of a stream, its room and its task, of the first 100,000 and of all.
async fn memory(node: &mut Node) -> Result<(), Failure> {
    let mut sizes = vec![resident_of(std::process::id())?];
    let began = Instant::now();
    for numbers in [0..TENTH, TENTH..MANY] {
        node.open(numbers).await?;
        sleep(Duration::from_secs(1)).await;
        sizes.push(resident_of(std::process::id())?);
    }
    let took = began.elapsed();
    let a_stream = |at: usize, streams: usize| (sizes[at] - sizes[0]) / streams as f64;
    let (tenth, all) = (a_stream(1, TENTH), a_stream(2, MANY));
    println!(
        "  resident memory a stream: {tenth:.0} bytes of {TENTH}, {all:.0} of {MANY} ({:.2} GiB \
         in all, open after {took:.1?})",
        sizes[2] / f64::from(1 << 30)
    );
    let what = "memory of a stream of 1,000,000, to one of 100,000";
    report(what, all / tenth, 1.2, "x", false);
    let mut walks = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let rooms = node.hub.inboxes(|_| true).len();
        walks.push(began.elapsed().as_secs_f64() * 1e3);
        if rooms != MANY {
            return Err(format!("there are {rooms} rooms").into());
        }
    }
    println!("  a walk over all rooms: {:.0} ms", median(&mut walks));
    Ok(())
}

/// What a send costs with many rooms, to any of them and to as few as the other node has,
/// beside what it does with few, in turn.
async fn sends(few: &Node, many: &Node) -> Result<(), Failure> {
    const KINDS: usize = 3;
    let (mut to_few, mut to_few_cpu) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    for _ in 0..ROUNDS {
        let (mut alone, mut rates, mut cpu) = ([0.0; KINDS], [0.0; KINDS], [0.0; KINDS]);
        for (at, (node, rooms)) in [(many, MANY), (many, FEW), (few, FEW)]
            .into_iter()
            .enumerate()
        {
            alone[at] = node.alone(rooms).await?;
            (rates[at], cpu[at]) = node.together(rooms).await?;
        }
        println!(
            "  to any of 1,000,000 rooms, to 1,000 of them, to 1,000: from commit to event {:.1}, \
             {:.1} and {:.1} µs; {:.0}, {:.0} and {:.0} sends a second, of {:.1}, {:.1} and {:.1} \
             µs of CPU",
            alone[0], alone[1], alone[2], rates[0], rates[1], rates[2], cpu[0], cpu[1], cpu[2]
        );
        for at in 0..2 {
            to_few[at].push(alone[at] / alone[2]);
            to_few_cpu[at].push(cpu[at] / cpu[2]);
        }
    }
    for (at, which) in ["any", "1,000"].into_iter().enumerate() {
        let what = format!("from commit to event, to {which} of 1,000,000 rooms, to 1,000 rooms");
        report(&what, median(&mut to_few[at]), 1.2, "x", false);
        let what = format!("CPU of a send to {which} of 1,000,000 rooms, to 1,000 rooms");
        report(&what, median(&mut to_few_cpu[at]), 1.2, "x", false);
    }
    Ok(())
}

/// The CPU a second of the heartbeats of all streams of a node where nothing happens.
async fn heartbeats(node: &Node) -> Result<(), Failure> {
    // Each has had its first, and has its second in the time that is measured.
    sleep(HEARTBEAT).await;
    let (began, cpu) = (Instant::now(), cpu_of(std::process::id())?);
    let heads = node.service.heard.store.heads.load(Ordering::Relaxed);
    sleep(HEARTBEAT).await;
    let took = began.elapsed().as_secs_f64();
    let cpu = (cpu_of(std::process::id())? - cpu).as_secs_f64();
    let heads = (node.service.heard.store.heads.load(Ordering::Relaxed) - heads) as f64;
    println!(
        "  {:.0} heartbeats a second, {:.1} µs of CPU each",
        heads / took,
        cpu * 1e6 / heads
    );
    let what = "CPU a second of the heartbeats of 1,000,000 streams";
    report(what, cpu / took, 0.5, " s", false);
    Ok(())
}
