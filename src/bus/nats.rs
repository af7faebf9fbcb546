//! NATS carries events between nodes.
//!
//! Core NATS: at most once, no queue on the server, and so no truth. An
//! organization has one subject, made from a hash of its id, so that no id can
//! widen a subscription. A node follows it while it has a stream of that
//! organization.
//!
//! To follow means: SUB, then a message to itself and back through the server,
//! which the server therefore handled after SUB; only then may a head be read that
//! the stream goes on from. The same message tells now and then whether the bus
//! works: a server can be there and let nothing pass. Servers of a cluster learn of
//! a subscription a little later: the rooms are checked once more after a second.
//!
//! Nothing here is retried: what is lost is found by the feeds, and sooner by the
//! room check where this module knows of it.

pub mod inspection;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt::Write as _,
    mem,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::payload::{self, Heard, Sender};
use crate::{
    config::{BusSettings, Error},
    hub::{Hub, Suspect},
    metrics,
    model::{InboxKey, OrganizationId},
    random::Random,
    sabotage::{self, Sabotage},
    wire::{LiveEvent, LiveRun},
};

/// A stream that opens waits no longer for the bus: its room is checked later.
const FOLLOW_TIMEOUT: Duration = Duration::from_millis(500);
/// One round trip through the server.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks whether messages pass, where they did: so late may
/// `doorbell_bus_connected` be where nothing breaks the connection.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A connection on which nothing passes is made anew after this long: what its
/// server refused at SUB it would not give later, though it may by then.
const STUCK: Duration = Duration::from_secs(10);
/// A node that starts waits so long for the bus, and serves without it.
const START_TIMEOUT: Duration = Duration::from_secs(1);
/// Servers of a cluster have told one another of a subscription by then.
const SETTLED: Duration = Duration::from_secs(1);
/// An organization is followed for so long after its last stream: who reloads a
/// page comes back.
const LINGER: Duration = Duration::from_secs(30);
/// What a subscription holds that was not read yet; beyond it the client drops.
const SUBSCRIPTION: usize = 4096;
/// The first pause before a connection is tried again, and the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(4));
/// At the end, what waits is given so long to go out.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The bus of one of several nodes.
pub struct Nats {
    shared: Arc<Shared>,
    /// Ends all tasks.
    _stop: DropGuard,
}

struct Shared {
    hub: Arc<Hub>,
    client: Client,
    prefix: String,
    /// What this node says of itself.
    sender: Sender,
    link: Arc<Link>,
    outbox: Outbox,
    /// Held for a look-up and never across an await.
    followed: Mutex<HashMap<OrganizationId, Followed>>,
    /// The number of the last message to itself, and the highest that came back.
    probed: AtomicU64,
    came_back: watch::Sender<u64>,
    foreign: Once,
    unreadable: Once,
    stop: CancellationToken,
}

/// What is known of the way to the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// There is no connection.
    Away,
    /// There is one, and what this node publishes does not come back on it.
    Mute,
    /// What this node publishes comes back to it.
    Open,
}

impl Way {
    fn trouble(self) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::Away => Some("NATS is away: events of other nodes come with the next heartbeat"),
            Self::Mute => Some(
                "NATS does not pass on what this node publishes (has it the permissions?): \
                 events of other nodes come with the next heartbeat",
            ),
        }
    }
}

struct Link {
    way: watch::Sender<Way>,
    /// There is a connection, perhaps a new one.
    connected: Notify,
    /// What the server said last that it does not like.
    complaint: Mutex<String>,
}

impl Link {
    /// Tells of a change, once; whether it was one.
    fn set(&self, way: Way) -> bool {
        let is_new = self.way.send_replace(way) != way;
        if is_new {
            metrics::bus_connected(way == Way::Open);
            match way.trouble() {
                None => tracing::info!("NATS is there"),
                Some(trouble) => self.warn(trouble),
            }
        }
        is_new
    }

    fn warn(&self, trouble: &str) {
        let complaint = mem::take(&mut *self.complaint.lock());
        tracing::warn!(complaint, "{trouble}");
    }
}

/// An organization whose subject is subscribed to, or about to be.
struct Followed {
    is_ready: watch::Receiver<bool>,
    _stop: DropGuard,
}

/// What waits to go out.
struct Outbox {
    waiting: Mutex<Waiting>,
    most: usize,
    most_bytes: usize,
    /// Something waits, or the connection is there.
    changed: Notify,
    emptied: Notify,
}

/// Bounded: the oldest goes first, and of what is too large only the inbox is kept.
#[derive(Default)]
struct Waiting {
    words: VecDeque<(InboxKey, Word)>,
    /// Of the runs among them.
    bytes: usize,
    /// Whether one was taken out and is not with the client yet.
    is_sending: bool,
}

/// What one commit says of an inbox.
enum Word {
    /// These events.
    Run(Arc<LiveRun>),
    /// Compare your rooms with the store.
    Recheck,
}

impl Word {
    fn events(&self) -> &[LiveEvent] {
        match self {
            Self::Run(run) => run,
            Self::Recheck => &[],
        }
    }

    fn len_bytes(&self) -> usize {
        self.events().iter().map(LiveEvent::len_bytes).sum()
    }
}

impl Waiting {
    /// Puts a word behind the others; tells how many had to go.
    fn push(&mut self, inbox: InboxKey, mut word: Word, most: usize, most_bytes: usize) -> usize {
        let mut dropped = 0;
        while self.words.len() >= most
            && let Some((_, oldest)) = self.words.pop_front()
        {
            self.bytes -= oldest.len_bytes();
            dropped += 1;
        }
        if self.bytes + word.len_bytes() > most_bytes {
            word = Word::Recheck;
        }
        self.bytes += word.len_bytes();
        self.words.push_back((inbox, word));
        dropped
    }

    fn take(&mut self) -> Option<(InboxKey, Word)> {
        let (inbox, word) = self.words.pop_front()?;
        self.bytes -= word.len_bytes();
        self.is_sending = true;
        Some((inbox, word))
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && !self.is_sending
    }
}

impl Nats {
    /// Begins to connect to the servers that `settings` name, waits for them a
    /// moment, and goes on until it succeeds: a node starts without NATS.
    /// `database` is the one whose events it brings.
    pub async fn open(
        settings: &BusSettings,
        database: Uuid,
        hub: Arc<Hub>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Error> {
        let link = Arc::new(Link {
            way: watch::Sender::new(Way::Away),
            connected: Notify::new(),
            complaint: Mutex::default(),
        });
        let events = {
            let (hub, link) = (hub.clone(), link.clone());
            move |event| {
                heard(&event, &hub, &link);
                std::future::ready(())
            }
        };
        let (servers, options) = options(settings).await?;
        let options = options
            .retry_on_initial_connect()
            .event_callback(events)
            .reconnect_delay_callback({
                let random = random.clone();
                move |attempts| {
                    let failures = u32::try_from(attempts).unwrap_or(u32::MAX);
                    random.backoff(failures, RECONNECT.0, RECONNECT.1)
                }
            });
        let client = options
            .connect(servers)
            .await
            .map_err(|error| Error::new("nats-url", format!("cannot be used: {error}")))?;

        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            hub,
            client,
            prefix: settings.nats_prefix.clone(),
            sender: Sender {
                node: random.uuid_v4(),
                database,
            },
            link: link.clone(),
            outbox: Outbox {
                waiting: Mutex::default(),
                most: settings.nats_queue,
                most_bytes: settings.nats_queue_bytes,
                changed: Notify::new(),
                emptied: Notify::new(),
            },
            followed: Mutex::default(),
            probed: AtomicU64::new(0),
            came_back: watch::Sender::new(0),
            foreign: Once::new(),
            unreadable: Once::new(),
            stop: stop.clone(),
        });
        shared.spawn(Shared::answer_probes(shared.clone()));
        shared.spawn(Shared::send(shared.clone()));
        shared.spawn(Shared::forget(shared.clone()));
        shared.spawn(Shared::look(shared.clone()));
        let mut way = link.way.subscribe();
        let opened = timeout(START_TIMEOUT, way.wait_for(|way| *way == Way::Open));
        if opened.await.is_err() && !shared.is_connected() {
            link.warn("NATS is not there yet: the node starts without it");
        }
        Ok(Self {
            shared,
            _stop: stop.drop_guard(),
        })
    }

    /// The rooms of this node.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// Puts `run` on its way to the other nodes. Never waits.
    pub fn publish(&self, inbox: &InboxKey, run: Arc<LiveRun>) {
        if sabotage::is(Sabotage::NoPublish) {
            return;
        }
        self.say(inbox, Word::Run(run));
    }

    fn say(&self, inbox: &InboxKey, word: Word) {
        let outbox = &self.shared.outbox;
        let dropped =
            outbox
                .waiting
                .lock()
                .push(inbox.clone(), word, outbox.most, outbox.most_bytes);
        metrics::bus_dropped(dropped);
        outbox.changed.notify_one();
    }

    /// Has the other nodes compare their rooms of `inbox` with the store. Never
    /// waits.
    pub fn recheck(&self, inbox: &InboxKey) {
        self.say(inbox, Word::Recheck);
    }

    /// Sees that events of an organization come, and returns when they do, or
    /// after a moment: then the rooms are checked when they do.
    ///
    /// For who has joined a room of that organization. Cancel safe.
    pub async fn follow(&self, organization: &OrganizationId) {
        let mut is_ready = {
            let mut followed = self.shared.followed.lock();
            match followed.entry(organization.clone()) {
                Entry::Occupied(entry) => entry.get().is_ready.clone(),
                Entry::Vacant(entry) => {
                    let (ready, is_ready) = watch::channel(false);
                    let stop = self.shared.stop.child_token();
                    let receive = self.shared.clone().receive(organization.clone(), ready);
                    tokio::spawn(stop.clone().run_until_cancelled_owned(receive));
                    entry.insert(Followed {
                        is_ready: is_ready.clone(),
                        _stop: stop.drop_guard(),
                    });
                    is_ready
                }
            }
        };
        if *is_ready.borrow() || self.trouble().is_some() {
            return;
        }
        let _ = timeout(FOLLOW_TIMEOUT, is_ready.wait_for(|ready| *ready)).await;
    }

    /// What is wrong, if something is.
    pub fn trouble(&self) -> Option<&'static str> {
        self.shared.link.way.borrow().trouble()
    }

    /// Gives what waits to the server, within a moment.
    pub async fn close(&self) {
        let emptied = async {
            loop {
                let emptied = self.shared.outbox.emptied.notified();
                if self.shared.outbox.waiting.lock().is_empty() {
                    break;
                }
                emptied.await;
            }
            self.shared.client.flush().await
        };
        if timeout(CLOSE_TIMEOUT, emptied).await.is_err() {
            tracing::warn!("events could not be given to NATS in time: heartbeats find them");
        }
    }
}

/// The servers of `settings`, and how to connect to each of them.
async fn options(settings: &BusSettings) -> Result<(Vec<ServerAddr>, ConnectOptions), Error> {
    let (mut servers, mut login) = (Vec::<ServerAddr>::new(), None);
    for url in settings.nats_servers() {
        let (address, user) = without_login(url);
        // The URL may hold a password: it is not repeated.
        servers.push(
            address
                .parse()
                .map_err(|error| Error::new("nats-url", format!("is no URL of NATS: {error}")))?,
        );
        login = login.or(user);
    }
    let mut options = ConnectOptions::new()
        .name("doorbell")
        .subscription_capacity(SUBSCRIPTION)
        .require_tls(servers.iter().any(ServerAddr::tls_required));
    if let Some((user, password)) = login {
        options = options.user_and_password(user, password);
    }
    if let Some(file) = &settings.nats_ca_file {
        readable("nats-ca-file", file).await?;
        options = options.add_root_certificates(file.clone());
    }
    if let Some(file) = &settings.nats_creds_file {
        options = options.credentials_file(file).await.map_err(|error| {
            Error::new("nats-creds-file", format!("{}: {error}", file.display()))
        })?;
    }
    Ok((servers, options))
}

/// A URL without its user and password, and those. The client would write them
/// into its log.
fn without_login(url: &str) -> (String, Option<(String, String)>) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    match rest.rsplit_once('@') {
        None => (url.to_owned(), None),
        Some((login, host)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let login = (user.to_owned(), password.to_owned());
            (format!("{scheme}://{host}"), Some(login))
        }
    }
}

/// What the client reports.
fn heard(event: &Event, hub: &Hub, link: &Link) {
    match event {
        // Whether anything passes has to show.
        Event::Connected => link.connected.notify_one(),
        Event::Disconnected => {
            // One on which nothing passed is no loss, and may be made anew.
            if *link.way.borrow() == Way::Open {
                link.set(Way::Away);
            }
        }
        Event::SlowConsumer(_) => {
            // For each that was dropped: a line each would only slow it further.
            tracing::debug!("events came faster than they were read, and were dropped");
            metrics::bus_gaps(1);
            hub.suspect(Suspect::All);
        }
        Event::ServerError(error) => {
            // It can say so of each message: a line comes when it changes something.
            tracing::debug!(%error, "NATS reports an error");
            *link.complaint.lock() = error.to_string();
        }
        Event::ClientError(error) => tracing::debug!(%error, "NATS cannot be reached"),
        Event::LameDuckMode | Event::Draining | Event::Closed => {}
    }
}

async fn readable(flag: &'static str, file: &std::path::Path) -> Result<(), Error> {
    match tokio::fs::read(file).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(flag, format!("{}: {error}", file.display()))),
    }
}

/// The subject on which a node sends messages to itself. Shaped as an organization's:
/// what is allowed of these is allowed of it.
fn probe_subject(prefix: &str, node: Uuid) -> String {
    format!("{prefix}.organization.{}", node.simple())
}

/// The subject of an organization: its id does not appear in it.
fn subject(prefix: &str, organization: &OrganizationId) -> String {
    let hash = Sha256::digest(organization.as_str());
    let mut subject = format!("{prefix}.organization.");
    for byte in &hash[..16] {
        // Writing to a string does not fail.
        let _ = write!(subject, "{byte:02x}");
    }
    subject
}

impl Shared {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Subscribes, however long it takes.
    async fn subscribe(&self, subject: &str) -> Subscriber {
        loop {
            match self.client.subscribe(subject.to_owned()).await {
                Ok(subscriber) => return subscriber,
                Err(error) => {
                    tracing::error!(%error, "NATS refuses a subscription");
                    sleep(SETTLED).await;
                }
            }
        }
    }

    /// Gives out the outbox.
    async fn send(self: Arc<Self>) {
        loop {
            let changed = self.outbox.changed.notified();
            let next = if self.is_connected() {
                self.outbox.waiting.lock().take()
            } else {
                None
            };
            let Some((inbox, word)) = next else {
                self.outbox.emptied.notify_waiters();
                changed.await;
                continue;
            };
            let payload = Bytes::from(payload::encode(self.sender, &inbox, word.events()));
            let subject = subject(&self.prefix, &inbox.organization_id);
            match self.client.publish(subject, payload).await {
                Ok(()) => metrics::bus_sent(1),
                Err(error) => {
                    tracing::warn!(%error, "events could not be given to NATS");
                    metrics::bus_dropped(1);
                }
            }
            self.outbox.waiting.lock().is_sending = false;
        }
    }

    /// Subscribes to an organization, and takes what comes.
    async fn receive(self: Arc<Self>, organization: OrganizationId, ready: watch::Sender<bool>) {
        let mut subscriber = self.subscribe(&subject(&self.prefix, &organization)).await;
        let mut way = self.link.way.subscribe();
        loop {
            // It does not end before this does.
            let _ = way.wait_for(|way| *way == Way::Open).await;
            if self.probe().await {
                break;
            }
        }
        ready.send_replace(true);
        // For those who did not wait.
        self.suspect(Suspect::Organization(organization.clone()));
        while let Some(message) = subscriber.next().await {
            match payload::decode(self.sender, &organization, &message.payload) {
                Ok(Heard::Echo) => {}
                Ok(Heard::Run(inbox, run)) => {
                    metrics::bus_received(1);
                    self.hub.publish(&inbox, &Arc::new(run));
                }
                Ok(Heard::Gap(inbox)) => {
                    metrics::bus_gaps(1);
                    self.hub.suspect(Suspect::Inbox(inbox));
                }
                Ok(Heard::Foreign) => {
                    metrics::bus_foreign(1);
                    // Counted from then on: a line each would let others fill the log.
                    self.foreign.call_once(|| {
                        tracing::warn!(
                            "somebody publishes events of another database, or of another \
                             organization than the subject's: they are ignored. Deployments \
                             that share a NATS need different prefixes (--nats-prefix)"
                        );
                    });
                }
                Err(error) => {
                    self.unreadable.call_once(|| {
                        tracing::warn!(%error, "a message on the bus cannot be read");
                    });
                    metrics::bus_gaps(1);
                    self.hub
                        .suspect(Suspect::Organization(organization.clone()));
                }
            }
        }
    }

    /// Leaves the organizations that have no stream any more.
    async fn forget(self: Arc<Self>) {
        let mut idle = Vec::<OrganizationId>::new();
        loop {
            sleep(LINGER).await;
            let mut followed = self.followed.lock();
            // Who joins has its place in the hub before it looks here.
            let is_idle = |organization: &OrganizationId| self.hub.streams_of(organization) == 0;
            for organization in idle.drain(..) {
                if is_idle(&organization) {
                    // Its task ends, and the subscription with it.
                    followed.remove(&organization);
                }
            }
            idle.extend(followed.keys().filter(|key| is_idle(key)).cloned());
        }
    }

    fn probe_subject(&self) -> String {
        probe_subject(&self.prefix, self.sender.node)
    }

    /// Sends a message to this node through the server; whether it came back.
    async fn probe(&self) -> bool {
        let number = self.probed.fetch_add(1, Ordering::AcqRel) + 1;
        let mut came_back = self.came_back.subscribe();
        let round_trip = async {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            let published = self.client.publish(self.probe_subject(), payload).await;
            // A later one proves as much: it was sent after this number was taken.
            published.is_ok() && came_back.wait_for(|last| *last >= number).await.is_ok()
        };
        timeout(PROBE_TIMEOUT, round_trip).await.unwrap_or(false)
    }

    async fn answer_probes(self: Arc<Self>) {
        let mut probes = self.subscribe(&self.probe_subject()).await;
        while let Some(message) = probes.next().await {
            if let Ok(number) = message.payload.as_ref().try_into() {
                let number = u64::from_be_bytes(number);
                self.came_back.send_modify(|last| *last = number.max(*last));
            }
        }
    }

    /// Has rooms checked, and again when the servers of a cluster have told one
    /// another of what was subscribed to.
    fn suspect(&self, what: Suspect) {
        self.hub.suspect(what.clone());
        let hub = self.hub.clone();
        self.spawn(async move {
            sleep(SETTLED).await;
            hub.suspect(what);
        });
    }

    /// Sees whether messages pass, after each connection and now and then. When they
    /// do again, the subscriptions are there again, and whatever was missed meanwhile
    /// is found.
    async fn look(self: Arc<Self>) {
        let mut mute_since = None;
        loop {
            let pause = if *self.link.way.borrow() == Way::Open {
                LOOK_EVERY
            } else {
                PROBE_TIMEOUT
            };
            let is_new = timeout(pause, self.link.connected.notified()).await.is_ok();
            // The client says so just before it is so.
            let is_so = async {
                while is_new && !self.is_connected() {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            if timeout(SETTLED, is_so).await.is_err() || !self.is_connected() {
                self.link.set(Way::Away);
                continue;
            }
            // Twice: a node or a server that is busy for a moment is no trouble.
            if self.probe().await || self.probe().await {
                mute_since = None;
                if self.link.set(Way::Open) || is_new {
                    self.outbox.changed.notify_one();
                    self.suspect(Suspect::All);
                }
            } else if self.is_connected() {
                self.link.set(Way::Mute);
                if mute_since.get_or_insert_with(Instant::now).elapsed() > STUCK {
                    mute_since = None;
                    let reconnect = self.client.force_reconnect();
                    // Where it cannot even be asked, the client is about to find out.
                    let _ = timeout(PROBE_TIMEOUT, reconnect).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Head;

    fn organization(id: &str) -> OrganizationId {
        OrganizationId::parse(id).unwrap()
    }

    /// A run of one event of so many bytes.
    fn run(bytes: usize) -> Word {
        Word::Run(Arc::new(vec![LiveEvent {
            head: Head::default(),
            kind: "seen",
            created_at: None,
            message: vec![0; bytes].into(),
        }]))
    }

    #[test]
    fn what_waits_is_bounded_in_words_and_in_bytes() {
        let key = InboxKey::parse("acme", "ann").unwrap();
        let one = run(100).len_bytes();
        let mut waiting = Waiting::default();
        let mut push = |word| waiting.push(key.clone(), word, 3, 2 * one);
        assert_eq!((push(run(100)), push(run(100))), (0, 0));
        // One byte too many: the inbox alone.
        assert_eq!(push(run(1)), 0);
        // One word too many: the oldest goes, and its bytes are free.
        assert_eq!(push(run(100)), 1);
        let sizes: Vec<_> = waiting
            .words
            .iter()
            .map(|(_, word)| word.len_bytes())
            .collect();
        assert_eq!(sizes, [one, 0, one]);
        assert_eq!(waiting.bytes, 2 * one);
        while waiting.take().is_some() {}
        assert_eq!(waiting.bytes, 0);
        assert!(
            !waiting.is_empty(),
            "the last one is not with the client yet"
        );
        waiting.is_sending = false;
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_subject_holds_nothing_of_the_organization() {
        for id in ["acme", ">", "a.b", "a *", &"x".repeat(128)] {
            let subject = subject("doorbell", &organization(id));
            let (start, hash) = subject.rsplit_once('.').unwrap();
            assert_eq!(start, "doorbell.organization");
            assert_eq!(hash.len(), 32);
            assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{hash}");
        }
        // Pinned: nodes of two versions must meet.
        assert_eq!(
            subject("doorbell", &organization("acme")),
            "doorbell.organization.822b33ad87c148a0a20a5ba7cd5ebcaa"
        );
    }

    #[test]
    fn a_login_is_taken_out_of_the_url() {
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (url, address, taken) in [
            ("nats://a:4222", "nats://a:4222", None),
            ("tls://bell:x@a:4222", "tls://a:4222", login("bell", "x")),
            ("bell:p@ss@a", "nats://a", login("bell", "p@ss")),
            ("nats://bell@a", "nats://a", login("bell", "")),
        ] {
            assert_eq!(without_login(url), (address.to_owned(), taken));
        }
    }
}
