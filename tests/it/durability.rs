//! Promise 1 and what hangs on it, by killing real processes.
//!
//! The binary is killed with SIGKILL under load, again and again, and restarted
//! on the same directory. Writers repeat with the same key what was not answered,
//! readers resume where they were cut, and in the end [`Ledger`], [`History`] and
//! [`Screen`] hold all that was asked, answered and shown against what is there.
//! The SQLite shell, which is not ours, looks at the file after every kill.
//!
//! What is wrong with the service is returned as a finding; what is wrong with
//! the test itself panics. The choices come from a seed that a finding names; how
//! the processes then meet is up to the machine.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorbell::{
    client,
    proto::{
        GetRecentRequest, GetUnreadCountRequest, MarkReadRequest, Notification, SendInAppRequest,
        SubscribeRequest, SubscribeResponse,
        notification_service_client::NotificationServiceClient, subscribe_response::Event,
    },
};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::{JoinSet, block_in_place},
    time::{Instant, sleep, timeout},
};
use tonic::{Status, Streaming, transport::Endpoint};
use uuid::Uuid;

use crate::{
    history::{Check, History, Ledger, Row, Screen, Seen, SeenEvent, Sent},
    server::{Bearer, Client, PATIENCE, Server, Setup, sender_token, user_token},
};

/// How often the ordinary run kills. For a long night, raise it.
const KILLS: usize = 20;

/// Two tenants have a user of the same name.
const INBOXES: [(&str, &str); 4] = [
    ("acme", "ann"),
    ("globex", "ann"),
    ("acme", "bob"),
    ("globex", "cat"),
];
const WRITERS: u64 = 3;
const READERS: u64 = 3;

/// How many notifications a resuming client holds.
const WINDOW: usize = 50;

/// The writers go slowly enough that a run stays small, and fast enough that
/// some are always under way.
const PACE: Duration = Duration::from_millis(6);
/// So many changes are more than the connection of a slow reader and the room
/// hold: its stream lags.
const LAG: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    Down,
    /// It is up for the last time: the writers finish what they have begun.
    Last,
    /// The writers are done: the readers read up to these heads.
    Goal([u64; INBOXES.len()]),
}

struct World {
    url: String,
    phase: watch::Sender<Phase>,
    inboxes: [Place; INBOXES.len()],
    answered: AtomicUsize,
    repeated: AtomicUsize,
    cuts: [AtomicUsize; Cut::ALL.len()],
}

/// One inbox, as its writers know it.
#[derive(Default)]
struct Place {
    ledger: Mutex<Ledger>,
    ids: Mutex<Vec<Uuid>>,
    /// The highest revision of a reply.
    head: AtomicU64,
}

/// Where a reader cut its stream.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Connected,
    Shared,
    Replay,
    Heal,
    Live,
    /// The server was killed.
    Killed,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::Connected,
        Self::Shared,
        Self::Replay,
        Self::Heal,
        Self::Live,
        Self::Killed,
    ];

    /// What a cut behind this message is; `live` is what the stream was before
    /// it.
    fn behind(seen: &Seen, live: bool) -> Self {
        match seen.event {
            SeenEvent::Connected => Self::Connected,
            // Its revision is not reached: another row shares it.
            SeenEvent::Notification { revision, .. } if revision > seen.position => Self::Shared,
            SeenEvent::Notification { .. } if !live => Self::Replay,
            SeenEvent::Notification { .. } if seen.replayed || seen.position < seen.revision => {
                Self::Heal
            }
            _ => Self::Live,
        }
    }

    /// One in so many streams is cut behind such a message.
    fn rarity(self) -> u32 {
        match self {
            Self::Connected => 8,
            Self::Heal => 8,
            Self::Shared | Self::Replay => 150,
            Self::Live | Self::Killed => 300,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// What the service itself refused is a finding: nothing here deserves it. All
/// else is the connection, and whether the call was carried out is not known.
fn refused(status: &Status) -> Check {
    match client::Error::from(status.clone()).reason() {
        Some(reason) => Err(format!("a call was refused with {reason}: {status}")),
        None => Ok(()),
    }
}

/// Waits for an answer, which comes or fails while the server lives.
async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, call)
        .await
        .expect("a call is answered, or its connection ends")
}

impl World {
    fn client(&self, token: &str, window: Option<u32>) -> Client {
        let endpoint = Endpoint::from_shared(self.url.clone()).unwrap();
        let channel = endpoint.initial_stream_window_size(window).connect_lazy();
        NotificationServiceClient::with_interceptor(channel, Bearer::new(token))
    }

    fn user(&self, at: usize, window: Option<u32>) -> Client {
        let (organization, user) = INBOXES[at];
        self.client(&user_token(organization, user), window)
    }

    /// Waits while the server is down.
    async fn up(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        *phase.wait_for(|phase| *phase != Phase::Down).await.unwrap()
    }

    fn replied(&self, at: usize, revision: u64) {
        self.inboxes[at].head.fetch_max(revision, Ordering::SeqCst);
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends, most with a key; what was not answered is sent again with its key,
    /// and some that were answered too.
    async fn write(self: Arc<Self>, at: usize, number: u64, mut random: StdRng) -> Check {
        let (organization, user) = INBOXES[at];
        let client = self.client(&sender_token("*"), None);
        let mut unanswered = Vec::new();
        let mut done: Vec<SendInAppRequest> = Vec::new();
        let mut count = 0;
        loop {
            let phase = self.up().await;
            if phase == Phase::Last && unanswered.is_empty() {
                return Ok(());
            }
            let request = match unanswered.pop() {
                Some(request) => request,
                None if !done.is_empty() && random.random_ratio(1, 8) => {
                    done[random.random_range(0..done.len())].clone()
                }
                None => {
                    count += 1;
                    let title =
                        format!("send {count} of writer {number} to {user} of {organization}");
                    SendInAppRequest {
                        organization_id: organization.into(),
                        recipient_user_id: user.into(),
                        r#type: "test".into(),
                        idempotency_key: random.random_ratio(3, 4).then(|| title.clone()),
                        title,
                        body: Some("x".repeat(random.random_range(1000..4000))),
                        ..SendInAppRequest::default()
                    }
                }
            };
            let answers = self.send(at, &client, &request, &mut random).await?;
            let is_keyed = request.idempotency_key.is_some();
            if answers > 0 && is_keyed {
                done.push(request);
            } else if answers == 0 && is_keyed {
                self.repeated.fetch_add(1, Ordering::SeqCst);
                unanswered.push(request);
            }
            if phase == Phase::Up {
                sleep(PACE.mul_f64(random.random_range(0.0..2.0))).await;
            }
        }
    }

    /// Sends once, or by chance twice at once, or goes away before the answer;
    /// tells how many answers there were.
    async fn send(
        &self,
        at: usize,
        client: &Client,
        request: &SendInAppRequest,
        random: &mut StdRng,
    ) -> Result<usize, String> {
        let place = &self.inboxes[at];
        lock(&place.ledger).send(&request.title);
        let call = || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.send_in_app(request).await }
        };
        let is_keyed = request.idempotency_key.is_some();
        let answers = if is_keyed && random.random_ratio(1, 16) {
            let (one, other) = answered(async { Ok(tokio::join!(call(), call())) })
                .await
                .unwrap();
            vec![one, other]
        } else if random.random_ratio(1, 16) {
            let patience = Duration::from_micros(random.random_range(0..4000));
            timeout(patience, call()).await.into_iter().collect()
        } else {
            vec![answered(call()).await]
        };
        let mut answered = 0;
        for answer in answers {
            let response = match answer {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    refused(&status)?;
                    continue;
                }
            };
            answered += 1;
            let Some(notification) = response.notification else {
                return Err("a send was answered without its notification".into());
            };
            let id = Uuid::parse_str(&notification.id).unwrap();
            let sent = Sent {
                id,
                sequence: notification.sequence,
                duplicate: response.duplicate,
            };
            let head = (response.revision, response.unread_count);
            lock(&place.ledger).sent(&request.title, sent, head)?;
            if !response.duplicate {
                lock(&place.ids).push(id);
            }
            self.replied(at, response.revision);
        }
        Ok(answered)
    }

    /// Marks, a dozen at a time, and some of a neighbour, which marks nothing.
    async fn mark(self: Arc<Self>, at: usize, mut random: StdRng) -> Check {
        let place = &self.inboxes[at];
        let mut client = self.user(at, None);
        loop {
            if self.up().await == Phase::Last {
                return Ok(());
            }
            let mut ids = Vec::new();
            {
                let known = lock(&place.ids);
                // The latest are the ones that may still be unread.
                let from = known.len().saturating_sub(40);
                for _ in 0..random.random_range(1..=12) {
                    let candidates = &known[from..];
                    if !candidates.is_empty() {
                        ids.push(candidates[random.random_range(0..candidates.len())]);
                    }
                }
            }
            let neighbour = lock(&self.inboxes[(at + 1) % INBOXES.len()].ids)
                .last()
                .copied();
            ids.extend(neighbour.filter(|_| random.random_ratio(1, 2)));
            if !ids.is_empty() {
                let request = MarkReadRequest {
                    notification_ids: ids.iter().map(Uuid::to_string).collect(),
                };
                let answer = match answered(client.mark_read(request)).await {
                    Ok(response) => {
                        let response = response.into_inner();
                        self.replied(at, response.revision);
                        let head = (response.revision, response.unread_count);
                        Some((head, response.marked_count))
                    }
                    Err(status) => {
                        refused(&status)?;
                        None
                    }
                };
                lock(&place.ledger).marked(ids, answer);
            }
            match answered(client.get_unread_count(GetUnreadCountRequest {})).await {
                Ok(response) => {
                    let head = response.into_inner();
                    lock(&place.ledger).head(head.revision, head.unread_count);
                }
                Err(status) => refused(&status)?,
            }
            sleep(3 * PACE.mul_f64(random.random_range(0.0..2.0))).await;
        }
    }

    /// Every row of an inbox and the head of the first page; `None` when the
    /// server went away in between.
    async fn load(
        &self,
        client: &mut Client,
    ) -> Result<Option<(Vec<Notification>, (u64, u32))>, String> {
        let mut rows = Vec::new();
        let mut head = None;
        let mut page_token = String::new();
        loop {
            let request = GetRecentRequest {
                limit: 100,
                page_token,
                ..GetRecentRequest::default()
            };
            let page = match answered(client.get_recent(request)).await {
                Ok(response) => response.into_inner(),
                Err(status) => return refused(&status).map(|()| None),
            };
            let head = *head.get_or_insert((page.revision, page.unread_count));
            rows.extend(page.notifications);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(Some((rows, head)));
            }
        }
    }

    /// Follows one inbox, is cut, comes back, and begins anew now and then.
    async fn read(
        self: Arc<Self>,
        at: usize,
        is_slow: bool,
        mut random: StdRng,
    ) -> Result<Read, String> {
        let mut streams = 0;
        let mut reader = Reader {
            at,
            client: self.user(at, is_slow.then_some(4096)),
            screens: vec![],
            screen: Screen::default(),
            epoch: None,
        };
        loop {
            if let Phase::Goal(goal) = self.up().await
                && reader.screen.position == Some(goal[at])
            {
                reader.screens.push(reader.screen);
                let screens = reader.screens;
                return Ok(Read {
                    at,
                    screens,
                    streams,
                });
            }
            let Some((after, stream)) = reader.open(&self, &mut random).await? else {
                continue;
            };
            streams += 1;
            let followed = reader
                .follow(&self, after, stream, is_slow, &mut random)
                .await;
            followed.map_err(|problem| {
                let seen = &reader.screen.transcript;
                let last = seen[seen.len().saturating_sub(30)..].join("\n");
                format!("a stream of inbox {at}: {problem}\n{last}")
            })?;
            reader.screen.cut();
        }
    }
}

impl World {
    /// The client that Rust services use: it comes back by itself, never loads
    /// anew, rings once for each, and has the inbox in the end.
    async fn watch(self: Arc<Self>, at: usize) -> Result<Watched, String> {
        let options = client::Options {
            window: WINDOW,
            backoff_base: Duration::from_millis(20),
            backoff_cap: Duration::from_millis(200),
            ..client::Options::default()
        };
        let (organization, user) = INBOXES[at];
        let token = client::TokenSource::fixed(&user_token(organization, user));
        let mut watch = client::Client::new(&self.url, token, options)
            .unwrap()
            .watch();
        let mut phase = self.phase.subscribe();
        let mut rang = HashSet::new();
        let mut loads = 0;
        loop {
            if let Phase::Goal(goal) = *phase.borrow_and_update()
                && watch.inbox().position() == Some(goal[at])
            {
                let rows = watch.inbox().notifications().iter();
                let rows = rows.map(|row| (row.id.clone(), row.read_at.is_some()));
                let unread_count = watch.inbox().unread_count();
                return Ok(Watched {
                    at,
                    rows: rows.collect(),
                    unread_count,
                });
            }
            let update = tokio::select! {
                update = timeout(PATIENCE, watch.next()) => update,
                _ = phase.changed() => continue,
            };
            let update = update.map_err(|_| format!("silence at a client of inbox {at}"))?;
            let update = update
                .unwrap()
                .map_err(|error| format!("a client ended: {error}"))?;
            match update.event {
                client::Event::Loaded => {
                    loads += 1;
                    if loads > 1 {
                        return Err(format!("a client of inbox {at} had to load anew"));
                    }
                }
                client::Event::Notification {
                    notification,
                    ring: true,
                } if !rang.insert(notification.id.clone()) => {
                    return Err(format!("a client rang twice for {}", notification.id));
                }
                _ => {}
            }
        }
    }
}

/// What a [`World::watch`] has in the end, the newest first.
struct Watched {
    at: usize,
    rows: Vec<(String, bool)>,
    unread_count: u32,
}

/// What a reader saw.
struct Read {
    at: usize,
    screens: Vec<Screen>,
    streams: usize,
}

struct Reader {
    at: usize,
    client: Client,
    /// Those before a new beginning.
    screens: Vec<Screen>,
    screen: Screen,
    epoch: Option<String>,
}

type Stream = Streaming<SubscribeResponse>;

impl Reader {
    /// Opens a stream where the last one was cut, or now and then elsewhere;
    /// `None` where the server is not there.
    async fn open(
        &mut self,
        world: &World,
        random: &mut StdRng,
    ) -> Result<Option<(Option<u64>, Stream)>, String> {
        let elsewhere = self.screen.position.is_none() || random.random_ratio(1, 40);
        let after = match random.random_range(0..3) {
            _ if !elsewhere => self.screen.position,
            0 => None,
            1 => {
                self.screens.push(std::mem::take(&mut self.screen));
                Some(0)
            }
            _ => {
                let Some((rows, (revision, unread_count))) = world.load(&mut self.client).await?
                else {
                    return Ok(None);
                };
                let rows = rows.iter().map(|row| {
                    let id = Uuid::parse_str(&row.id).unwrap();
                    (id, row.revision, row.read_at.is_some())
                });
                self.screen.load(rows, revision, unread_count);
                Some(revision)
            }
        };
        let request = SubscribeRequest {
            after_revision: after,
            epoch: self.epoch.clone().filter(|_| after.is_some()),
        };
        match answered(self.client.subscribe(request)).await {
            Ok(response) => Ok(Some((after, response.into_inner()))),
            Err(status) => refused(&status).map(|()| None),
        }
    }

    /// Reads until it is cut, by chance or by a kill, or until the goal.
    async fn follow(
        &mut self,
        world: &World,
        after: Option<u64>,
        mut stream: Stream,
        is_slow: bool,
        random: &mut StdRng,
    ) -> Check {
        let mut phase = world.phase.subscribe();
        loop {
            let goal = match *phase.borrow_and_update() {
                Phase::Goal(goal) => Some(goal[self.at]),
                _ => None,
            };
            if goal.is_some() && self.screen.position == goal {
                return Ok(());
            }
            let message = tokio::select! {
                message = timeout(PATIENCE, stream.message()) => message,
                _ = phase.changed() => continue,
            };
            let Ok(message) = message else {
                let (position, head) = (self.screen.position, &world.inboxes[self.at].head);
                return Err(format!("silence at {position:?}, and the head is {head:?}"));
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(status) => {
                    world.cut(Cut::Killed);
                    return refused(&status);
                }
            };
            self.same_epoch(&message)?;
            let seen = Seen::from(&message);
            if seen.event == SeenEvent::Reset {
                return Err(format!(
                    "resumed after {after:?}, which was shown, and was told to load anew: {seen:?}"
                ));
            }
            let cut = Cut::behind(&seen, self.screen.live);
            self.screen.see(&seen, after)?;
            if self.screen.transcript.len() > 400 {
                self.screen.transcript.drain(..200);
            }
            if goal.is_none() && random.random_ratio(1, cut.rarity()) {
                world.cut(cut);
                return Ok(());
            }
            if goal.is_none() && is_slow && self.screen.live && random.random_ratio(1, 4) {
                world.let_it_lag(self.at, self.screen.position).await;
            }
        }
    }

    /// A kill is no restore: the store keeps its epoch.
    fn same_epoch(&mut self, message: &SubscribeResponse) -> Check {
        let Some(Event::Connected(connected)) = &message.event else {
            return Ok(());
        };
        let epoch = self.epoch.get_or_insert_with(|| connected.epoch.clone());
        if *epoch == connected.epoch {
            return Ok(());
        }
        Err(format!("the epoch {epoch} became {}", connected.epoch))
    }
}

impl World {
    fn cut(&self, cut: Cut) {
        self.cuts[cut as usize].fetch_add(1, Ordering::SeqCst);
    }

    /// Does not read until the inbox is far ahead, or the server is about to end.
    async fn let_it_lag(&self, at: usize, position: Option<u64>) {
        let enough = position.unwrap_or(0) + LAG;
        let is_ahead = || self.inboxes[at].head.load(Ordering::SeqCst) >= enough;
        while *self.phase.borrow() == Phase::Up && !is_ahead() {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// The rows of an inbox as the service lists them, oldest first.
    async fn rows(&self, at: usize) -> Result<(Vec<Row>, (u64, u32)), String> {
        let loaded = self.load(&mut self.user(at, None)).await?;
        let (rows, head) = loaded.expect("the server lives");
        let rows = rows.iter().rev().map(|row| Row {
            id: Uuid::parse_str(&row.id).unwrap(),
            sequence: row.sequence,
            revision: row.revision,
            title: row.title.clone(),
            read: row.read_at.is_some(),
        });
        Ok((rows.collect(), head))
    }
}

/// What the server itself had to complain of.
fn complaints(server: &Server) -> String {
    let log = server.log();
    let is_complaint = |line: &&str| line.contains("\"ERROR\"") || line.contains("\"WARN\"");
    let complaints: Vec<_> = log.lines().filter(is_complaint).collect();
    complaints.join("\n")
}

/// Looks whether a task has a finding already.
fn look<T: 'static>(tasks: &mut JoinSet<Result<T, String>>) -> Result<(), String> {
    match tasks.try_join_next() {
        Some(ended) => match ended.unwrap() {
            Err(finding) => Err(finding),
            Ok(_) => panic!("a writer or a reader ended before it was told to"),
        },
        None => Ok(()),
    }
}

/// Kills a server under load `kills` times. Answers what was found wrong with the
/// service; `variables` are for its processes.
pub async fn survive(kills: usize, variables: &[(&str, &str)]) -> Check {
    let mut seed = [0; 8];
    use doorbell::random::{Random as _, SystemRandom};
    SystemRandom.fill(&mut seed);
    let seed = u64::from_le_bytes(seed);
    let mut setup = Setup::new()
        .with("HEARTBEAT_INTERVAL", "1s")
        .with("ROOM_CAPACITY", 2)
        .with("REPLAY_PAGE", 7)
        .with("REPLAY_LIMIT", 1_000_000)
        .with("WRITE_BATCH", 8);
    for (name, value) in variables {
        setup.variables.insert((*name).into(), (*value).into());
    }
    kill_under_load(kills, seed, &setup)
        .await
        .map_err(|finding| format!("{finding}\n(seed {seed})"))
}

async fn kill_under_load(kills: usize, seed: u64, setup: &Setup) -> Check {
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = block_in_place(|| setup.start());
    let world = Arc::new(World {
        url: server.url(),
        phase: watch::Sender::new(Phase::Up),
        inboxes: Default::default(),
        answered: AtomicUsize::new(0),
        repeated: AtomicUsize::new(0),
        cuts: Default::default(),
    });
    let mut writers = JoinSet::new();
    let mut readers = JoinSet::new();
    let mut watches = JoinSet::new();
    for at in 0..INBOXES.len() {
        watches.spawn(world.clone().watch(at));
        let mut fork = || StdRng::seed_from_u64(random.next_u64());
        for number in 0..WRITERS {
            writers.spawn(world.clone().write(at, number, fork()));
        }
        writers.spawn(world.clone().mark(at, fork()));
        for number in 0..READERS {
            readers.spawn(world.clone().read(at, number == 0, fork()));
        }
    }
    for kill in 1..=kills {
        let enough = world.answered.load(Ordering::SeqCst) + random.random_range(100..800);
        let deadline = Instant::now() + PATIENCE;
        while world.answered.load(Ordering::SeqCst) < enough {
            look(&mut writers)
                .and_then(|()| look(&mut readers))
                .and_then(|()| look(&mut watches))
                .map_err(|finding| format!("{finding}\n{}", complaints(&server)))?;
            assert!(
                Instant::now() < deadline,
                "no load before kill {kill}: {}",
                server.log()
            );
            sleep(Duration::from_millis(2)).await;
        }
        sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        server.kill();
        world.phase.send_replace(Phase::Down);
        let database = setup.directory.path().join("doorbell.db");
        block_in_place(|| foreign::check(&database))
            .map_err(|finding| format!("after kill {kill}: {finding}"))?;
        server = block_in_place(|| setup.start());
        world.phase.send_replace(Phase::Up);
    }
    finish(world, server, writers, readers, watches).await
}

#[expect(clippy::print_stdout, reason = "what the run has proved")]
async fn finish(
    world: Arc<World>,
    server: Server,
    mut writers: JoinSet<Check>,
    mut readers: JoinSet<Result<Read, String>>,
    mut watches: JoinSet<Result<Watched, String>>,
) -> Check {
    world.phase.send_replace(Phase::Last);
    while let Some(written) = writers.join_next().await {
        written.unwrap()?;
    }
    let mut goal = [0; INBOXES.len()];
    let mut listed = Vec::new();
    let mut histories = Vec::new();
    let (mut sends, mut unanswered) = (0, 0);
    for (at, place) in world.inboxes.iter().enumerate() {
        let (rows, head) = world.rows(at).await?;
        let found = |finding| format!("inbox {at}: {finding}");
        let history = History::of_rows(&rows).map_err(found)?;
        let ledger = lock(&place.ledger);
        ledger.check(&rows, &history).map_err(found)?;
        let expected = (history.head(), history.unread().len());
        if (head.0, head.1 as usize) != expected {
            return Err(found(format!("the head is {head:?}, not {expected:?}")));
        }
        goal[at] = history.head();
        sends += ledger.sends().0;
        unanswered += ledger.sends().1;
        histories.push(history);
        listed.push(rows);
    }
    world.phase.send_replace(Phase::Goal(goal));
    let mut streams = 0;
    while let Some(read) = readers.join_next().await {
        let read = read.unwrap()?;
        streams += read.streams;
        for screen in &read.screens {
            let checked = screen.check(&histories[read.at]);
            checked.map_err(|finding| format!("a stream of inbox {}: {finding}", read.at))?;
        }
    }
    while let Some(watched) = watches.join_next().await {
        let watched = watched.unwrap()?;
        let at = watched.at;
        let newest = listed[at].iter().rev().take(WINDOW);
        let newest: Vec<_> = newest.map(|row| (row.id.to_string(), row.read)).collect();
        let unread = histories[at].unread().len();
        if watched.rows != newest || watched.unread_count as usize != unread {
            return Err(format!(
                "a client of inbox {at} has another inbox in the end"
            ));
        }
    }
    let setup = server.kill();
    let database = setup.directory.path().join("doorbell.db");
    block_in_place(|| foreign::check(&database))?;
    for ((organization, user), listed) in INBOXES.iter().zip(&listed) {
        let rows = block_in_place(|| foreign::rows(&database, organization, user));
        if rows != *listed {
            return Err(format!(
                "{user} of {organization}: the file has other rows than the service listed"
            ));
        }
    }
    let repeated = world.repeated.load(Ordering::SeqCst);
    let cuts = Cut::ALL.map(|cut| (cut, world.cuts[cut as usize].load(Ordering::SeqCst)));
    println!(
        "{sends} sends ({unanswered} never answered, {repeated} repeats of unanswered ones), \
         revisions {goal:?}, {streams} streams, cut {cuts:?}"
    );
    for (cut, times) in cuts {
        assert!(
            times > 0,
            "no stream was cut so: {cut:?}; this proves too little"
        );
    }
    Ok(())
}

/// What the SQLite shell says of the file, which it opens to read only.
mod foreign {
    use super::*;

    fn ask(database: &Path, sql: &str) -> String {
        let mut shell = Command::new("sqlite3");
        shell.args([
            "-batch",
            "-readonly",
            "-init",
            "/dev/null",
            "-cmd",
            ".timeout 5000",
        ]);
        let asked = shell.arg(database).arg(sql).output();
        let asked = asked.unwrap_or_else(|error| {
            panic!("this test needs the SQLite shell: apt-get install sqlite3 ({error})")
        });
        let problem = String::from_utf8_lossy(&asked.stderr);
        assert!(
            asked.status.success() && problem.is_empty(),
            "sqlite3: {problem}"
        );
        String::from_utf8(asked.stdout).unwrap()
    }

    /// Promise 4 and the order of the revisions, each in SQL of its own.
    pub(super) fn check(database: &Path) -> Check {
        for (what, sql, expected) in [
            ("the file is whole", "PRAGMA integrity_check", "ok\n"),
            (
                "each unread count is a count of the rows",
                "SELECT * FROM inboxes AS i WHERE unread_count <> (SELECT count(*) \
                 FROM notifications AS n WHERE (n.organization_id, n.user_id) = \
                 (i.organization_id, i.user_id) AND read_at IS NULL AND archived_at IS NULL)",
                "",
            ),
            (
                "each revision from 1 to the head is the making or the reading of a row",
                "SELECT organization_id, user_id, i.revision, count(*), min(c.revision), \
                 max(c.revision) FROM inboxes AS i JOIN (SELECT organization_id, user_id, revision \
                 FROM notifications UNION SELECT organization_id, user_id, sequence \
                 FROM notifications) AS c USING (organization_id, user_id) \
                 GROUP BY organization_id, user_id \
                 HAVING count(*) <> i.revision OR min(c.revision) <> 1 \
                 OR max(c.revision) <> i.revision",
                "",
            ),
            (
                "each row has a head, and each head has rows",
                "SELECT organization_id, user_id FROM notifications \
                 EXCEPT SELECT organization_id, user_id FROM inboxes \
                 UNION ALL SELECT * FROM (SELECT organization_id, user_id FROM inboxes \
                 EXCEPT SELECT organization_id, user_id FROM notifications)",
                "",
            ),
            (
                "created_at strictly increases, up to that of the head",
                "SELECT organization_id, user_id, sequence FROM (SELECT *, lead(created_at, 1, \
                 1 + (SELECT last_created_at FROM inboxes AS i WHERE (i.organization_id, \
                 i.user_id) = (n.organization_id, n.user_id))) OVER (PARTITION BY \
                 organization_id, user_id ORDER BY sequence) AS later FROM notifications AS n) \
                 WHERE later <= created_at",
                "",
            ),
        ] {
            let found = ask(database, sql);
            if found != expected {
                return Err(format!("not true of the file: {what}: {found}"));
            }
        }
        Ok(())
    }

    /// `None` where there is none yet. A journal is left where the kill came
    /// before the file had its log: who only reads cannot roll that back.
    pub(super) fn epoch(database: &Path) -> Option<String> {
        if database.with_extension("db-journal").exists() {
            return None;
        }
        let table = "SELECT count(*) FROM sqlite_master WHERE name = 'doorbell'";
        if !database.exists() || ask(database, table) != "1\n" {
            return None;
        }
        let epoch = ask(database, "SELECT epoch FROM doorbell");
        (!epoch.is_empty()).then_some(epoch)
    }

    pub(super) fn rows(database: &Path, organization: &str, user: &str) -> Vec<Row> {
        let sql = format!(
            "SELECT hex(id), sequence, revision, read_at IS NOT NULL, title FROM notifications \
             WHERE organization_id = '{organization}' AND user_id = '{user}' \
             AND archived_at IS NULL ORDER BY sequence"
        );
        let row = |line: &str| {
            let mut columns = line.splitn(5, '|');
            let mut next = || columns.next().unwrap();
            Row {
                id: Uuid::parse_str(next()).unwrap(),
                sequence: next().parse().unwrap(),
                revision: next().parse().unwrap(),
                read: next() == "1",
                title: next().to_owned(),
            }
        };
        ask(database, &sql).lines().map(row).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kills_under_load() {
    let survived = survive(KILLS, &[]).await;
    survived.unwrap_or_else(|finding| panic!("{finding}"));
}

/// A new database is made in steps; a kill between any two is mended by the next
/// start, and an epoch that was once there stays.
#[tokio::test]
async fn a_server_that_is_killed_while_it_starts_starts_again() {
    let began = Instant::now();
    drop(Setup::new().start());
    let whole_start = began.elapsed();
    for tenth in 0..20 {
        let setup = Setup::new();
        let database = setup.directory.path().join("doorbell.db");
        let mut epoch = None;
        for _ in 0..2 {
            let server = setup.spawn();
            // Not a wait for anything: the kill comes somewhere in the start.
            std::thread::sleep(whole_start * tenth / 20);
            server.kill();
            epoch = epoch.or_else(|| foreign::epoch(&database));
        }
        let server = setup.start();
        let request = SendInAppRequest {
            organization_id: "acme".into(),
            recipient_user_id: "ann".into(),
            r#type: "test".into(),
            title: "after all".into(),
            ..SendInAppRequest::default()
        };
        server.sender().await.send_in_app(request).await.unwrap();
        server.kill();
        foreign::check(&database).unwrap();
        let last = foreign::epoch(&database);
        assert!(last.is_some());
        assert!(
            epoch.is_none() || epoch == last,
            "{epoch:?} became {last:?}"
        );
    }
}

/// A crash of the machine cannot be had here; that the disk is told in time can
/// be seen: the row goes to the log of the database, the log is synced, and then
/// the answer and the event go out.
#[tokio::test]
async fn the_disk_is_synced_before_the_answer_and_the_event_go_out() {
    let there = Command::new("strace").arg("-V").output();
    assert!(
        there.is_ok(),
        "this test needs strace: apt-get install strace"
    );
    const TITLE: &str = "a title that is looked for in the trace";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let mut setup = Setup::new();
    // -D leaves the server our own child.
    let calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg,pwrite64,pwritev";
    let strace = [
        "strace", "-D", "-f", "-yy", "-s", "20000", "-e", calls, "-o",
    ];
    setup.wrapper = strace.map(str::to_owned).to_vec();
    setup.wrapper.push(file.display().to_string());
    let server = setup.start();
    let mut ann = server.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap();
    let request = SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: TITLE.into(),
        ..SendInAppRequest::default()
    };
    server.sender().await.send_in_app(request).await.unwrap();
    let rung = stream.message().await.unwrap().unwrap();
    assert!(matches!(rung.event, Some(Event::Notification(_))));
    server.kill();
    let deadline = Instant::now() + PATIENCE;
    let trace = loop {
        let trace = std::fs::read_to_string(&file).unwrap();
        if trace
            .lines()
            .last()
            .is_some_and(|line| line.contains("+++ killed by SIGKILL +++"))
        {
            break trace;
        }
        assert!(Instant::now() < deadline, "the trace does not end");
        sleep(Duration::from_millis(5)).await;
    };

    let calls = traced(&trace);
    let is_log = |call: &&Traced| call.text.contains("/doorbell.db-wal>");
    let is_sync =
        |call: &&Traced| call.text.starts_with("fsync(") || call.text.starts_with("fdatasync(");
    let out: Vec<_> = calls
        .iter()
        .filter(|call| call.text.contains(TITLE) && call.text.contains("<TCP:"))
        .collect();
    assert_eq!(out.len(), 2, "an answer and an event: {out:#?}");
    let first_out = out.iter().map(|call| call.began).min().unwrap();
    let written = calls
        .iter()
        .filter(is_log)
        .find(|call| call.text.contains(TITLE))
        .expect("the row is written to the log");
    // The commit frame is the last of the transaction.
    let last_write = calls
        .iter()
        .filter(is_log)
        .filter(|call| !is_sync(call) && call.began < first_out)
        .map(|call| call.ended)
        .max()
        .unwrap();
    let synced = calls.iter().filter(is_log).filter(is_sync).find(|call| {
        call.began >= last_write && call.ended <= first_out && call.text.ends_with("= 0")
    });
    assert!(
        written.ended <= last_write && last_write < first_out && synced.is_some(),
        "written {written:?}, last write {last_write}, synced {synced:?}, out {out:?}"
    );
}

/// A system call of a trace, with the lines at which it began and ended.
#[derive(Debug)]
struct Traced {
    began: usize,
    ended: usize,
    text: String,
}

fn traced(trace: &str) -> Vec<Traced> {
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (pid, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        let (began, text) = if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            open.insert(pid, (at, begun));
            continue;
        } else if text.starts_with("<... ") {
            let (began, begun) = open.remove(pid).unwrap();
            let rest = text.split_once("resumed>").unwrap().1;
            (began, format!("{begun}{rest}"))
        } else {
            (at, text.to_owned())
        };
        calls.push(Traced {
            began,
            ended: at,
            text,
        });
    }
    calls
}
