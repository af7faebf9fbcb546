//! What the benchmarks share: the real server as a child process, its CPU and
//! memory as the system counts them, and figures beside their limits.

#![allow(
    clippy::allow_attributes,
    dead_code,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "each benchmark uses a part, and the engines are shared with the tests"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use doorbell::{
    auth::{
        Rules, Secret,
        mint::{Grant, Minter},
    },
    bus::Bus,
    clock::{Clock as _, SystemClock, Timestamp},
    config::{AuthSettings, FeedSettings, WriterSettings},
    inbox::Inboxes,
    model::{Content, Epoch, InboxKey, NewNotification, OrganizationId, Revision},
    proto::{SendInAppRequest, notification_service_client::NotificationServiceClient},
    random::{Random, SystemRandom},
    store::{
        self, Changes, Committed, Cursor, Mutation, PageLimit, Recent, RecentQuery, Selected,
        Snapshot, Store, Tally, TypeCounts, Untaken, Verb, sqlite::Sqlite,
    },
};
use tempfile::TempDir;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

/// The engines as the tests start them.
#[path = "../../tests/it/engines.rs"]
pub mod engines;
#[path = "../../tests/it/process.rs"]
mod process;
#[path = "../../tests/it/programs.rs"]
mod programs;
#[path = "../../tests/it/server.rs"]
mod server;

pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Client = NotificationServiceClient<Channel>;

const SECRET: &str = "a secret of the benchmarks, which is long enough";

/// A figure beside its limit: the ratio is what counts on a machine of another
/// speed.
pub fn report(what: &str, measured: f64, limit: f64, unit: &str, at_least: bool) {
    let met = if at_least {
        measured >= limit
    } else {
        measured <= limit
    };
    let bound = if at_least { "at least" } else { "at most" };
    let ratio = measured / limit;
    let verdict = if met { "met" } else { "MISSED" };
    println!("{what}: {measured:.2}{unit} ({bound} {limit}{unit}; {ratio:.2} of it; {verdict})");
}

/// The median of a sample.
pub fn median(sample: &mut [f64]) -> f64 {
    percentile(sample, 0.5)
}

/// The value below which this part of the sample lies.
pub fn percentile(sample: &mut [f64], part: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let last = sample.len().saturating_sub(1) as f64;
    let at = sample
        .iter()
        .enumerate()
        .find(|(at, _)| *at as f64 >= last * part);
    at.map_or(f64::NAN, |(_, value)| *value)
}

/// A server under measurement; dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts the release binary on loopback with these settings.
    pub fn start(settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let address = free_port()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorbell"))
            .arg("serve")
            .env("DOORBELL_DATA_DIR", directory.path())
            .env("DOORBELL_LISTEN", address.to_string())
            .env("DOORBELL_JWT_SECRET", SECRET)
            .env("DOORBELL_LOG", "warn,doorbell::cli=info")
            .env("DOORBELL_LOG_FORMAT", "json")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or("no log")?;
        let mut lines = BufReader::new(log).lines();
        for line in lines.by_ref() {
            if line?.contains("\"listening\"") {
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self {
                    child,
                    address,
                    _directory: directory,
                });
            }
        }
        Err("the server did not start".into())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// User and system time of the process.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.pid())
    }

    /// A client on a connection of its own.
    pub async fn connect(&self) -> Result<Client, Failure> {
        connect(self.address).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This benchmark once more, as a server that others are held against: a process of
/// its own, so that what it takes is counted alone. Dropping it kills it.
pub struct Other {
    child: Child,
    pub address: SocketAddr,
}

impl Other {
    /// Starts it with these words, the last of which is the address to listen on.
    pub fn start(words: &[&str]) -> Result<Self, Failure> {
        let address = free_port()?;
        let child = Command::new(std::env::current_exe()?)
            .args(words)
            .arg(address.to_string())
            .spawn()?;
        let other = Self { child, address };
        for _ in 0..500 {
            if TcpStream::connect(address).is_ok() {
                return Ok(other);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the other server did not start".into())
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This benchmark once more, as a process that sends to others: in this one they would wait
/// behind what is measured before they reach the server. Dropping it kills it.
pub struct Others {
    child: Child,
    took: mpsc::Receiver<f64>,
}

impl Others {
    /// Starts it with the words `sends` and the address, for [`send_for_ever`].
    pub fn start(address: SocketAddr) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sends", &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let (sender, took) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = lines.map_while(Result::ok);
            for milliseconds in lines.filter_map(|line| line.parse().ok()) {
                if sender.send(milliseconds).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, took })
    }

    /// How long the sends took, in milliseconds, that ended since the last call.
    pub fn until_now(&mut self) -> Vec<f64> {
        self.took.try_iter().collect()
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Others who send all the time.
const OTHERS: usize = 8;

/// Sends, with a pause between two sends, until the process is killed, and prints how long
/// each took.
pub async fn send_for_ever(address: SocketAddr) -> Result<(), Failure> {
    let token = token(None)?;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..OTHERS {
        let (client, token) = (connect(address).await?, token.clone());
        senders.spawn(async move {
            loop {
                let began = Instant::now();
                let request = with_token(notification(&format!("other-{sender}")), &token);
                client.clone().send_in_app(request).await?;
                println!("{}", began.elapsed().as_secs_f64() * 1000.0);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(ended) = senders.join_next().await {
        let ended: Result<(), Failure> = ended?;
        ended?;
    }
    Ok(())
}

pub async fn connect(address: SocketAddr) -> Result<Client, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    Ok(NotificationServiceClient::new(endpoint.connect().await?))
}

/// User and system time of a process.
pub fn cpu_of(pid: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program is in parentheses and may hold anything.
    let after_name = stat.rsplit(')').next().ok_or("stat")?;
    let ticks = |at: usize| -> Result<u64, Failure> {
        Ok(after_name
            .split_whitespace()
            .nth(at)
            .ok_or("stat")?
            .parse()?)
    };
    // A tick is 10 ms on every Linux of today (`getconf CLK_TCK`).
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

/// How often the threads of a process gave up their core to wait.
pub fn switches_of(pid: u32) -> Result<u64, Failure> {
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let mut lines = status.lines();
        let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += count.map_or(Ok(0), |count| count.trim().parse::<u64>())?;
    }
    Ok(switches)
}

/// Resident memory of a process, in bytes.
pub fn resident_of(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("VmRSS")?.parse()?;
    Ok(kib * 1024.0)
}

/// An address that is free now, below the ports that the system gives out.
pub fn free_port() -> Result<SocketAddr, Failure> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let first = std::process::id() as usize * 31;
    for _ in 0..1000 {
        let port = 10_000 + (first + NEXT.fetch_add(7, Ordering::Relaxed)) % 22_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free".into())
}

/// A request with this token.
pub fn with_token<T>(message: T, token: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", token.clone());
    request
}

/// The token of a user of `acme`, or of a sender where there is none.
pub fn token(user: Option<&str>) -> Result<MetadataValue<Ascii>, Failure> {
    let rules = Rules::new(&AuthSettings::default())?;
    let minter = Minter::from_secret(&Secret::parse(SECRET.as_bytes())?, rules);
    let grant = Grant {
        organization: "acme".into(),
        user: user.map(str::to_owned),
        role: user.is_none().then(|| "service".to_owned()),
        subject: None,
        lifetime: Duration::from_secs(24 * 3600),
    };
    Ok(format!("Bearer {}", minter.mint(&grant, SystemClock.now())?).parse()?)
}

/// An ordinary notification.
pub fn notification(user: &str) -> SendInAppRequest {
    SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: user.into(),
        r#type: "comment".into(),
        title: "Ann commented on your document".into(),
        body: Some("Could you have a look at the second paragraph? I think it is too long.".into()),
        entity_type: Some("document".into()),
        entity_id: Some("7f1f6f0e-4c55-4a35-8d35-1a1ff7a3f3c1".into()),
        action_url: Some("/documents/7f1f6f0e#comment-12".into()),
        ..SendInAppRequest::default()
    }
}

/// A store that counts its calls.
pub struct Counting<S> {
    inner: S,
    pub commits: AtomicUsize,
}

impl<S> Counting<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            commits: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl<S: Store> Store for Counting<S> {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, store::Error> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(batch, now).await
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, store::Error> {
        self.inner.heads(inboxes).await
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, store::Error> {
        self.inner.changes(inbox, cursor, limit).await
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, store::Error> {
        self.inner.count_changes(inbox, position, at_most).await
    }

    async fn recent(&self, inbox: &InboxKey, query: RecentQuery) -> Result<Recent, store::Error> {
        self.inner.recent(inbox, query).await
    }

    fn lanes(&self) -> usize {
        self.inner.lanes()
    }

    async fn count_types(
        &self,
        inbox: &InboxKey,
        types: &[String],
    ) -> Result<TypeCounts, store::Error> {
        self.inner.count_types(inbox, types).await
    }

    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, store::Error> {
        self.inner.select(inbox, verb, after).await
    }

    async fn untaken(
        &self,
        organization: &OrganizationId,
        after: u64,
        announced: u64,
    ) -> Result<Untaken, store::Error> {
        self.inner.untaken(organization, after, announced).await
    }

    async fn announced(
        &self,
        after: Option<u64>,
    ) -> Result<(Vec<OrganizationId>, u64), store::Error> {
        self.inner.announced(after).await
    }

    async fn note_taken(
        &self,
        organization: &OrganizationId,
        id: uuid::Uuid,
        tally: Tally,
    ) -> Result<(), store::Error> {
        self.inner.note_taken(organization, id, tally).await
    }

    async fn database_id(&self) -> Result<uuid::Uuid, store::Error> {
        self.inner.database_id().await
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), store::Error> {
        self.inner.renew_epoch(epoch).await
    }

    async fn check(&self, by_writing: bool) -> Result<(), store::Error> {
        self.inner.check(by_writing).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A new SQLite store in `directory`.
pub async fn open(directory: &TempDir, readers: u32) -> Result<Sqlite, Failure> {
    let url = format!(
        "sqlite://{}",
        directory.path().join("doorbell.db").display()
    );
    Ok(Sqlite::open(&url, readers, &SystemRandom).await?)
}

/// [`notification`], as the store takes it.
pub fn new_notification(inbox: InboxKey) -> NewNotification {
    let request = notification("");
    let random: &dyn Random = &SystemRandom;
    let content = Content {
        body: request.body,
        entity_type: request.entity_type,
        entity_id: request.entity_id,
        action_url: request.action_url,
        ..Content::new(request.r#type, request.title)
    };
    let id = random.uuid_v7(SystemClock.now());
    NewNotification::new(inbox, id, Arc::new(content), "backend".into())
}

/// Makes a notification of this number.
pub type New = fn(usize) -> Result<NewNotification, Failure>;

/// Types that people have turned off; what is sent is of none of them.
const TURNED_OFF: usize = 20;

/// Lets each of so many of [`New`]'s people turn some types off.
pub async fn turn_off(
    store: &impl store::Preferences,
    users: usize,
    new: New,
) -> Result<(), Failure> {
    let off: Vec<_> = (0..TURNED_OFF)
        .map(|number| (format!("type-{number}"), Some(false)))
        .collect();
    for number in 0..users {
        store.choose(&new(number)?.inbox, &off).await?;
    }
    Ok(())
}

fn inboxes(store: Arc<dyn Store>) -> Arc<Inboxes> {
    Inboxes::new(
        store,
        Bus::local(&FeedSettings::default()),
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
        FeedSettings::default(),
        &WriterSettings::default(),
    )
}

/// As [`new_notification`], with a key of its own.
pub fn keyed(new: New, number: usize) -> Result<NewNotification, Failure> {
    Ok(NewNotification {
        idempotency_key: Some(format!("key-{number}")),
        ..new(number)?
    })
}

/// Rows a second at `Inboxes::send_to_many` on `store` by one caller, a thousand a call,
/// and how many a transaction took on average.
pub async fn to_many(
    store: impl Store,
    round: Duration,
    new: New,
) -> Result<(f64, usize), Failure> {
    let counting = Arc::new(Counting::new(store));
    let inbox = inboxes(counting.clone());
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < round {
        let many: Result<Vec<_>, _> = (sent..sent + 1000)
            .map(|number| keyed(new, number))
            .collect();
        for one in inbox.send_to_many(many?).await {
            one?;
            sent += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    inbox.close().await;
    let commits = counting.commits.load(Ordering::Relaxed).max(1);
    Ok((sent as f64 / took, sent / commits))
}

/// Sends a second at `Inboxes::send` on `store` by so many callers, and how many a
/// transaction took on average.
pub async fn grouped(
    store: impl Store,
    callers: usize,
    round: Duration,
    new: New,
) -> Result<(f64, usize), Failure> {
    let counting = Arc::new(Counting::new(store));
    let inbox = inboxes(counting.clone());
    let began = Instant::now();
    let sent = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (inbox, sent) = (inbox.clone(), sent.clone());
            tokio::spawn(async move {
                while began.elapsed() < round {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    inbox.send(new(number)?).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    let took = began.elapsed().as_secs_f64();
    inbox.close().await;
    let sent = sent.load(Ordering::Relaxed);
    let commits = counting.commits.load(Ordering::Relaxed).max(1);
    Ok((sent as f64 / took, sent / commits))
}
