//! What a send and its delivery cost beside the least that they can: three servers under
//! the same load, each a process of its own, one after the other.
//!
//! - **bare**: the two calls on plain tonic, as it is out of the box. A map of streams by
//!   user, and a notification of the same size; no token is looked at, nothing is stored.
//! - **floor**: the same, and before it rings the store commits. All sends that wait are a
//!   batch. SQLite: a thread that owns the file, with statements that stay prepared (by
//!   rusqlite, not sqlx), WAL and `synchronous=FULL`. Postgres: one prepared statement a
//!   batch, on as many connections as the service writes with. The tables, their indexes,
//!   the rows and the heads are the service's.
//! - **service**: the real binary with its default settings.
//!
//! What the floor leaves out: tokens and rights, limits of any kind (requests, queues,
//! connections), idempotency keys, the proof of a commit, replay, healing, heartbeats,
//! metrics and the log of calls. It is the one writer of its database and remembers the
//! heads, so it never reads them; and a commit that fails ends it.
//!
//! The load: a stream a user, each on a connection of its own, and senders that send on a
//! schedule whatever became of what they sent before, then in a closed loop, to users by
//! chance. CPU and switches are those of the server's process alone, without Postgres, for
//! each message that was delivered in the window; switches are those of a thread that had
//! to wait. A message's time is from just before its call to its event, in the process of
//! the load. The load, the server and Postgres share the machine's cores.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;
#[path = "floor/servers.rs"]
mod servers;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Client, Failure, Other, Server, engines, median, notification, percentile, report, token,
    with_token,
};
use doorbell::{
    config::StoreSettings,
    proto::{SendInAppRequest, SubscribeRequest, SubscribeResponse, subscribe_response::Event},
    random::SystemRandom,
    store::{self, Sharing},
};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tonic::metadata::{Ascii, MetadataValue};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Each server has all loads once a round; the median of the rounds' ratios counts.
const ROUNDS: usize = 3;
const USERS: u64 = 1000;
const SENDERS: u32 = 16;
/// Sends a second of all senders; `None`: each sends when it was answered.
const LOADS: [Option<u32>; 4] = [Some(200), Some(1000), Some(2000), None];
const WARM_UP: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(8);
/// Sends one after the other, with no other load.
const SINGLE: usize = 1000;
/// All that was sent is delivered within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// The metadata that tells a server without tokens whose stream it is.
const USER: &str = "user";

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_named = |engine: &str| words.iter().any(|word| word == engine);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let [serve, store, address] = words.as_slice()
        && serve == "serve"
    {
        return runtime.block_on(servers::serve(store, address.parse()?));
    }
    runtime.block_on(async {
        if !is_named("postgres") {
            compare(None).await?;
        }
        if !is_named("sqlite") {
            compare(Some(engines::Postgres::start())).await?;
        }
        Ok(())
    })
}

/// Measures all servers on SQLite, or on this Postgres.
async fn compare(postgres: Option<engines::Postgres>) -> Result<(), Failure> {
    let (mut bare, mut floor, mut service) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let directory = tempfile::tempdir()?;
        let database = async |name: &str| match &postgres {
            Some(postgres) => postgres.create_database().await,
            None => format!("sqlite://{}", directory.path().join(name).display()),
        };
        let other = Other::start(&["serve", servers::NOTHING])?;
        bare.push(Figures::of(other.address, other.pid(), "bare").await?);
        drop(other);
        let url = database("floor").await;
        let settings = StoreSettings {
            database_url: Some(url.as_str().into()),
            ..StoreSettings::default()
        };
        // The schema is the service's.
        let store = store::open(&settings, Sharing::Beside, &SystemRandom).await?;
        store.close().await;
        let other = Other::start(&["serve", &url])?;
        floor.push(Figures::of(other.address, other.pid(), "floor").await?);
        drop(other);
        let url = database("service").await;
        let server = Server::start(&[("DOORBELL_DATABASE_URL", &url)])?;
        service.push(Figures::of(server.address, server.pid(), "service").await?);
    }
    let ratio = |to: &[Figures], figure: &dyn Fn(&Figures) -> f64| {
        let pairs = service.iter().zip(to);
        let ratios = pairs.map(|(service, other)| figure(service) / figure(other));
        median(&mut ratios.collect::<Vec<_>>())
    };
    let on = match postgres {
        Some(_) => "Postgres",
        None => "SQLite",
    };
    let what = format!("a single send to its event on {on}, median, to the floor");
    report(&what, ratio(&floor, &|of| of.single), 1.5, "x", false);
    for (place, load) in LOADS.into_iter().enumerate() {
        let to_floor = ratio(&floor, &|of| of.cpu[place]);
        let to_bare = ratio(&bare, &|of| of.cpu[place]);
        let what = format!("CPU a message on {on}, {}", words(load));
        // Who is faster in a closed loop has larger batches, and so is cheaper.
        if load.is_none() {
            println!("{what}: {to_floor:.2} times the floor, {to_bare:.2} times bare tonic");
            continue;
        }
        report(&format!("{what}, to the floor"), to_floor, 1.3, "x", false);
        // SQLite commits in the process that is measured, and bare tonic nowhere.
        if postgres.is_some() {
            report(&format!("{what}, to bare tonic"), to_bare, 1.6, "x", false);
        }
    }
    Ok(())
}

fn words(load: Option<u32>) -> String {
    load.map_or("closed loop".into(), |rate| format!("{rate} a second"))
}

/// What was measured of one server in one round.
struct Figures {
    /// The median of single sends, in milliseconds.
    single: f64,
    /// A message, in microseconds, by load.
    cpu: Vec<f64>,
}

impl Figures {
    async fn of(address: SocketAddr, pid: u32, what: &str) -> Result<Self, Failure> {
        let load = Load::on(address).await?;
        let single = load.single().await?;
        println!("  {what}, single sends: p50 {single:.3} ms");
        let mut cpu = Vec::new();
        for rate in LOADS {
            cpu.push(load.measure(what, pid, rate).await?);
        }
        Ok(Self { single, cpu })
    }
}

/// All clients of one server. Each message tells when it was sent in its title.
struct Load {
    began: Instant,
    senders: Vec<Client>,
    token: MetadataValue<Ascii>,
    users: RandomState,
    sent: AtomicUsize,
    /// How long each message took, in milliseconds, in the order of their arrival.
    took: Mutex<Vec<f64>>,
    arrived: Notify,
}

impl Load {
    async fn on(address: SocketAddr) -> Result<Arc<Self>, Failure> {
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            senders.push(common::connect(address).await?);
        }
        let load = Arc::new(Self {
            began: Instant::now(),
            senders,
            token: token(None)?,
            users: RandomState::new(),
            sent: AtomicUsize::new(0),
            took: Mutex::default(),
            arrived: Notify::new(),
        });
        for user in 0..USERS {
            let user = format!("user-{user}");
            let mut client = common::connect(address).await?;
            let mut request = with_token(SubscribeRequest::default(), &token(Some(&user))?);
            request.metadata_mut().insert(USER, user.parse()?);
            let mut stream = client.subscribe(request).await?.into_inner();
            stream.message().await?.ok_or("no first message")?;
            let load = load.clone();
            tokio::spawn(async move {
                // The channel is kept for as long as its stream is read.
                let _client = client;
                while let Ok(Some(message)) = stream.message().await {
                    load.take(&message);
                }
            });
        }
        Ok(load)
    }

    fn take(&self, message: &SubscribeResponse) {
        let now = self.began.elapsed().as_secs_f64();
        if let Some(Event::Notification(notification)) = &message.event
            && let Some((_, sent)) = notification.title.rsplit_once(' ')
            && let Ok(sent) = sent.parse::<f64>()
        {
            self.took.lock().push((now - sent) * 1000.0);
            self.arrived.notify_one();
        }
    }

    async fn send(self: Arc<Self>, mut client: Client) -> Result<(), Failure> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let user = self.users.hash_one(number) % USERS;
        let request = SendInAppRequest {
            title: format!("Ann commented {:016.9}", self.began.elapsed().as_secs_f64()),
            ..notification(&format!("user-{user}"))
        };
        client.send_in_app(with_token(request, &self.token)).await?;
        Ok(())
    }

    /// The median of sends of which each waits for the answer and the event of the one
    /// before.
    async fn single(self: &Arc<Self>) -> Result<f64, Failure> {
        for _ in 0..SINGLE {
            self.clone().send(self.senders[0].clone()).await?;
            timeout(PATIENCE, self.arrived.notified()).await?;
        }
        // The first ones find nothing prepared.
        Ok(median(&mut self.took.lock()[SINGLE / 10..]))
    }

    /// Sends until `ends`.
    async fn sender(
        self: Arc<Self>,
        place: u32,
        rate: Option<u32>,
        ends: Instant,
    ) -> Result<(), Failure> {
        let client = &self.senders[place as usize];
        let Some(rate) = rate else {
            while Instant::now() < ends {
                self.clone().send(client.clone()).await?;
            }
            return Ok(());
        };
        let gap = Duration::from_secs(1) * SENDERS / rate;
        let mut due = Instant::now() + gap * place / SENDERS;
        let mut calls = JoinSet::new();
        while due < ends {
            sleep_until(due.into()).await;
            calls.spawn(self.clone().send(client.clone()));
            due += gap;
            while let Some(done) = calls.try_join_next() {
                done??;
            }
        }
        while let Some(done) = calls.join_next().await {
            done??;
        }
        Ok(())
    }

    /// CPU a message under a load, in microseconds.
    async fn measure(
        self: &Arc<Self>,
        what: &str,
        pid: u32,
        rate: Option<u32>,
    ) -> Result<f64, Failure> {
        let ends = Instant::now() + WARM_UP + WINDOW;
        let mut senders = JoinSet::new();
        for place in 0..SENDERS {
            senders.spawn(self.clone().sender(place, rate, ends));
        }
        let spent = || -> Result<_, Failure> {
            let (cpu, switches) = (common::cpu_of(pid)?, common::switches_of(pid)?);
            Ok((Instant::now(), cpu, switches, self.took.lock().len()))
        };
        sleep(WARM_UP).await;
        let (began, cpu_before, switches_before, first) = spent()?;
        sleep(WINDOW).await;
        let (ended, cpu, switches, last) = spent()?;
        while let Some(sender) = senders.join_next().await {
            sender??;
        }
        let sent = self.sent.load(Ordering::Relaxed);
        let deadline = Instant::now() + PATIENCE;
        while self.took.lock().len() < sent {
            if Instant::now() > deadline {
                return Err(format!("{what}: not all of {sent} messages came").into());
            }
            sleep(Duration::from_millis(10)).await;
        }

        let mut took = self.took.lock()[first..last].to_vec();
        let messages = took.len() as f64;
        let cpu = (cpu - cpu_before).as_secs_f64() * 1e6 / messages;
        println!(
            "  {what}, {}: {cpu:.0} µs of CPU a message, p50 {:.2} ms, p99 {:.2} ms, \
             {:.2} switches a message, {:.0} a second",
            words(rate),
            median(&mut took),
            percentile(&mut took, 0.99),
            switches.saturating_sub(switches_before) as f64 / messages,
            messages / (ended - began).as_secs_f64()
        );
        Ok(cpu)
    }
}
