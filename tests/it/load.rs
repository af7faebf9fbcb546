//! A load on a service, and what must hold of all that it answered and showed.
//!
//! Writers repeat with the same key what was not answered, readers resume where
//! they were cut, on whatever node, and in the end [`Ledger`], [`History`] and
//! [`Screen`] hold all that was asked, answered and shown against what is there.
//!
//! What is wrong with the service is returned as a finding; what is wrong with
//! the test itself panics. The choices come from a seed; how the processes then
//! meet is up to the machine.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use doorbell::{
    client,
    proto::{
        GetRecentRequest, GetUnreadCountRequest, MarkReadRequest, MarkSeenRequest, Notification,
        SendInAppRequest, SubscribeRequest, SubscribeResponse,
        notification_service_client::NotificationServiceClient, subscribe_response::Event,
    },
};
use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Status, Streaming, transport::Endpoint};
use uuid::Uuid;

use crate::{
    calls::mark_through,
    history::{Asked, Check, Head, History, Ledger, Row, Screen, Sent, Told, ToldEvent, ToldRow},
    process::PATIENCE,
    server::{Bearer, Client, sender_token, user_token},
};

/// Two tenants have a user of the same name.
pub const INBOXES: [(&str, &str); 4] = [
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
pub enum Phase {
    Up,
    Down,
    /// All is up for the last time: the writers finish what they have begun.
    Last,
    /// The writers are done: the readers read up to these heads.
    Goal([u64; INBOXES.len()]),
}

struct World {
    /// The nodes.
    urls: Vec<String>,
    /// Reasons that a call may be refused for, by what is done to the service.
    tolerated: &'static [&'static str],
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
pub enum Cut {
    Connected,
    Shared,
    Replay,
    Heal,
    Live,
    /// The server was killed.
    Killed,
}

impl Cut {
    pub const ALL: [Self; 6] = [
        Self::Connected,
        Self::Shared,
        Self::Replay,
        Self::Heal,
        Self::Live,
        Self::Killed,
    ];

    /// What a cut behind this message is; `live` is what the stream was before
    /// it, and `before` its position.
    fn behind(told: &Told, live: bool, before: u64) -> Self {
        let position = told.position;
        match told.event {
            ToldEvent::Connected => Self::Connected,
            // Its revision is not reached: another row shares it.
            ToldEvent::Notification(ToldRow { revision, .. }) if revision > position => {
                Self::Shared
            }
            ToldEvent::Notification(_) if !live => Self::Replay,
            // Not by its bell: a silent one has none live either.
            ToldEvent::Notification(_)
                if position < told.head.revision || position > before + 1 =>
            {
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

/// Waits for an answer, which comes or fails while the server lives.
async fn answered<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, call)
        .await
        .expect("a call is answered, or its connection ends")
}

/// A client of each node.
struct Nodes(Vec<Client>);

impl Nodes {
    fn any(&self, random: &mut StdRng) -> Client {
        self.0[random.random_range(0..self.0.len())].clone()
    }
}

impl World {
    /// What the service itself refused is a finding, unless what is done to it
    /// deserves it. All else is the connection, and whether the call was carried
    /// out is not known.
    fn refused(&self, status: &Status) -> Check {
        match client::Error::from(status.clone()).reason() {
            Some(reason) if !self.tolerated.contains(&reason.as_str()) => {
                Err(format!("a call was refused with {reason}: {status}"))
            }
            _ => Ok(()),
        }
    }

    fn nodes(&self, token: &str, window: Option<u32>) -> Nodes {
        let client = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone()).unwrap();
            let channel = endpoint.initial_stream_window_size(window).connect_lazy();
            NotificationServiceClient::with_interceptor(channel, Bearer::new(token))
        };
        Nodes(self.urls.iter().map(client).collect())
    }

    fn user(&self, at: usize, window: Option<u32>) -> Nodes {
        let (organization, user) = INBOXES[at];
        self.nodes(&user_token(organization, user), window)
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
        let nodes = self.nodes(&sender_token("*"), None);
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
                        silent: random.random_ratio(1, 4),
                        ..SendInAppRequest::default()
                    }
                }
            };
            let answers = self.send(at, &nodes, &request, &mut random).await?;
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
        nodes: &Nodes,
        request: &SendInAppRequest,
        random: &mut StdRng,
    ) -> Result<usize, String> {
        let place = &self.inboxes[at];
        let call = |random: &mut StdRng| {
            lock(&place.ledger).send(&request.title, request.silent);
            let (mut client, request) = (nodes.any(random), request.clone());
            async move { client.send_in_app(request).await }
        };
        let is_keyed = request.idempotency_key.is_some();
        let answers = if is_keyed && random.random_ratio(1, 16) {
            let (one, other) = answered(async { Ok(tokio::join!(call(random), call(random))) })
                .await
                .unwrap();
            vec![one, other]
        } else if random.random_ratio(1, 16) {
            let patience = Duration::from_micros(random.random_range(0..4000));
            timeout(patience, call(random)).await.into_iter().collect()
        } else {
            vec![answered(call(random)).await]
        };
        let mut answered = 0;
        for answer in answers {
            let response = match answer {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    self.refused(&status)?;
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
            let head = Head::from(response.head);
            lock(&place.ledger).sent(&request.title, sent, head)?;
            // Who writes alone is never in doubt about a commit.
            if self.urls.len() == 1 && !response.duplicate && head.revision != sent.sequence {
                return Err(format!("a new send is not the head: {sent:?}, {head:?}"));
            }
            if !response.duplicate {
                lock(&place.ids).push(id);
            }
            self.replied(at, head.revision);
        }
        Ok(answered)
    }

    /// Marks, a dozen at a time, and some of a neighbour, which marks nothing; looks,
    /// and marks all that was there at a moment.
    async fn mark(self: Arc<Self>, at: usize, mut random: StdRng) -> Check {
        let place = &self.inboxes[at];
        let nodes = self.user(at, None);
        loop {
            let mut client = nodes.any(&mut random);
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
                    ..MarkReadRequest::default()
                };
                self.mark_once(at, &mut client, request, Asked::Ids(ids))
                    .await?;
            }
            match answered(client.get_unread_count(GetUnreadCountRequest::default())).await {
                Ok(response) => lock(&place.ledger).head(response.into_inner().head.into()),
                Err(status) => self.refused(&status)?,
            }
            if random.random_ratio(1, 4) {
                self.look(at, &mut client, &mut random).await?;
            }
            sleep(3 * PACE.mul_f64(random.random_range(0.0..2.0))).await;
        }
    }

    /// Loads a page and looks at what it shows, or at some of it; now and then marks
    /// all of it as read.
    async fn look(&self, at: usize, client: &mut Client, random: &mut StdRng) -> Check {
        let place = &self.inboxes[at];
        let page = match answered(client.get_recent(GetRecentRequest::default())).await {
            Ok(response) => response.into_inner(),
            Err(status) => return self.refused(&status),
        };
        let head = Head::from(page.head);
        lock(&place.ledger).head(head);
        let through_sequence = match page.notifications.first() {
            Some(newest) => newest.sequence.saturating_sub(random.random_range(0..4)),
            None => return Ok(()),
        };
        let request = MarkSeenRequest {
            through_sequence,
            epoch: page.epoch.clone(),
        };
        match answered(client.mark_seen(request)).await {
            Ok(response) => {
                let head = Head::from(response.into_inner().head);
                lock(&place.ledger).head(head);
                self.replied(at, head.revision);
                if head.seen_through < through_sequence {
                    return Err(format!("looked up to {through_sequence}: {head:?}"));
                }
            }
            Err(status) => self.refused(&status)?,
        }
        if !random.random_ratio(1, 8) {
            return Ok(());
        }
        let request = mark_through(head.revision, &page.epoch, &[]);
        let asked = Asked::Through(head.revision);
        self.mark_once(at, client, request, asked).await
    }

    /// Notes what is asked and what is answered.
    async fn mark_once(
        &self,
        at: usize,
        client: &mut Client,
        request: MarkReadRequest,
        asked: Asked,
    ) -> Check {
        let answer = match answered(client.mark_read(request)).await {
            Ok(response) => {
                let response = response.into_inner();
                let head = Head::from(response.head);
                self.replied(at, head.revision);
                Some((head, response.changed_count))
            }
            Err(status) => {
                self.refused(&status)?;
                None
            }
        };
        lock(&self.inboxes[at].ledger).marked(asked, answer);
        Ok(())
    }

    /// Every row of an inbox and the head of the first page; `None` when the
    /// server went away in between.
    async fn load(&self, client: &mut Client) -> Result<Option<(Vec<Notification>, Head)>, String> {
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
                Err(status) => return self.refused(&status).map(|()| None),
            };
            let head = *head.get_or_insert(Head::from(page.head));
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
            nodes: self.user(at, is_slow.then_some(4096)),
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
        let mut watch = client::Client::new(&self.urls[at % self.urls.len()], token, options)
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
                return Ok(Watched {
                    at,
                    rows: rows.collect(),
                    head: Head::from(Some(*watch.inbox().head())),
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
                } if notification.ring_revision == 0 => {
                    return Err(format!("a client rang for a silent {}", notification.id));
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
    head: Head,
}

/// What a reader saw.
struct Read {
    at: usize,
    screens: Vec<Screen>,
    streams: usize,
}

struct Reader {
    at: usize,
    nodes: Nodes,
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
        let mut client = self.nodes.any(random);
        let elsewhere = self.screen.position.is_none() || random.random_ratio(1, 40);
        let after = match random.random_range(0..3) {
            _ if !elsewhere => self.screen.position,
            0 => None,
            1 => {
                self.screens.push(std::mem::take(&mut self.screen));
                Some(0)
            }
            _ => {
                let Some((rows, head)) = world.load(&mut client).await? else {
                    return Ok(None);
                };
                self.screen.load(rows.iter().map(ToldRow::from), head);
                Some(head.revision)
            }
        };
        let request = SubscribeRequest {
            after_revision: after,
            epoch: self.epoch.clone().filter(|_| after.is_some()),
        };
        match answered(client.subscribe(request)).await {
            Ok(response) => Ok(Some((after, response.into_inner()))),
            Err(status) => world.refused(&status).map(|()| None),
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
                    world.count(Cut::Killed);
                    return world.refused(&status);
                }
            };
            self.same_epoch(&message)?;
            let told = Told::from(&message);
            if told.event == ToldEvent::Reset {
                return Err(format!(
                    "resumed after {after:?}, which was shown, and was told to load anew: {told:?}"
                ));
            }
            let cut = Cut::behind(&told, self.screen.live, self.screen.position.unwrap_or(0));
            self.screen.see(&told, after)?;
            if self.screen.transcript.len() > 400 {
                self.screen.transcript.drain(..200);
            }
            if goal.is_none() && random.random_ratio(1, cut.rarity()) {
                world.count(cut);
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
    fn count(&self, cut: Cut) {
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
    async fn rows(&self, at: usize) -> Result<(Vec<Row>, Head), String> {
        let loaded = self.load(&mut self.user(at, None).0[0]).await?;
        let (rows, head) = loaded.expect("the server lives");
        let rows = rows.iter().rev().map(|row| Row {
            id: Uuid::parse_str(&row.id).unwrap(),
            sequence: row.sequence,
            revision: row.revision,
            ring_revision: row.ring_revision,
            title: row.title.clone(),
            read: row.read_at.is_some(),
        });
        Ok((rows.collect(), head))
    }
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

/// All who write and read.
pub struct Load {
    world: Arc<World>,
    writers: JoinSet<Check>,
    readers: JoinSet<Result<Read, String>>,
    watches: JoinSet<Result<Watched, String>>,
}

/// What there is in the end.
pub struct Survived {
    /// The rows of each of [`INBOXES`], oldest first.
    pub listed: Vec<Vec<Row>>,
    /// How often streams were cut, and where.
    pub cuts: [(Cut, usize); Cut::ALL.len()],
}

impl Load {
    /// Begins on the nodes at `urls`. A call may be refused for a reason of
    /// `tolerated`; then it is repeated.
    pub fn start(
        urls: Vec<String>,
        tolerated: &'static [&'static str],
        random: &mut StdRng,
    ) -> Self {
        let world = Arc::new(World {
            urls,
            tolerated,
            phase: watch::Sender::new(Phase::Up),
            inboxes: Default::default(),
            answered: AtomicUsize::new(0),
            repeated: AtomicUsize::new(0),
            cuts: Default::default(),
        });
        let mut load = Self {
            world,
            writers: JoinSet::new(),
            readers: JoinSet::new(),
            watches: JoinSet::new(),
        };
        for at in 0..INBOXES.len() {
            let world = || load.world.clone();
            load.watches.spawn(world().watch(at));
            let mut fork = || StdRng::seed_from_u64(random.next_u64());
            for number in 0..WRITERS {
                load.writers.spawn(world().write(at, number, fork()));
            }
            load.writers.spawn(world().mark(at, fork()));
            for number in 0..READERS {
                load.readers.spawn(world().read(at, number == 0, fork()));
            }
        }
        load
    }

    /// How many writes were answered.
    pub fn answered(&self) -> usize {
        self.world.answered.load(Ordering::SeqCst)
    }

    /// Tells whether the service is there.
    pub fn tell(&self, phase: Phase) {
        self.world.phase.send_replace(phase);
    }

    /// A finding that is there already.
    pub fn look(&mut self) -> Check {
        look(&mut self.writers)
            .and_then(|()| look(&mut self.readers))
            .and_then(|()| look(&mut self.watches))
    }

    /// Ends the writing, with all there; lets the readers come up to it; and
    /// holds everything against everything.
    #[expect(clippy::print_stdout, reason = "what the run has proved")]
    pub async fn finish(self) -> Result<Survived, String> {
        let Self {
            world,
            mut writers,
            mut readers,
            mut watches,
        } = self;
        world.phase.send_replace(Phase::Last);
        while let Some(written) = writers.join_next().await {
            written.unwrap()?;
        }
        let mut goal = [0; INBOXES.len()];
        let mut listed = Vec::new();
        let mut heads: Vec<Vec<Head>> = Vec::new();
        for (at, place) in world.inboxes.iter().enumerate() {
            let (rows, head) = world.rows(at).await?;
            goal[at] = head.revision;
            listed.push(rows);
            lock(&place.ledger).head(head);
            heads.push(lock(&place.ledger).heads().to_vec());
        }
        world.phase.send_replace(Phase::Goal(goal));
        let mut reads = Vec::new();
        while let Some(read) = readers.join_next().await {
            let read = read.unwrap()?;
            let told = read.screens.iter().flat_map(|screen| &screen.heads);
            heads[read.at].extend(told);
            reads.push(read);
        }
        let mut histories = Vec::new();
        let (mut sends, mut silent, mut unanswered) = (0, 0, 0);
        for (at, place) in world.inboxes.iter().enumerate() {
            let found = |finding| format!("inbox {at}: {finding}");
            let history = History::of_rows(&listed[at], &heads[at]).map_err(found)?;
            let ledger = lock(&place.ledger);
            ledger.check(&listed[at], &history).map_err(found)?;
            sends += ledger.sends().0;
            silent += ledger.silent_sends();
            unanswered += ledger.sends().1;
            histories.push(history);
        }
        for read in &reads {
            for screen in &read.screens {
                let checked = screen.check(&histories[read.at]);
                checked.map_err(|finding| format!("a stream of inbox {}: {finding}", read.at))?;
            }
        }
        let streams: usize = reads.iter().map(|read| read.streams).sum();
        while let Some(watched) = watches.join_next().await {
            let watched = watched.unwrap()?;
            let at = watched.at;
            let newest = listed[at].iter().rev().take(WINDOW);
            let newest: Vec<_> = newest.map(|row| (row.id.to_string(), row.read)).collect();
            if watched.rows != newest || watched.head != histories[at].head() {
                return Err(format!(
                    "a client of inbox {at} has another inbox in the end"
                ));
            }
        }
        let repeated = world.repeated.load(Ordering::SeqCst);
        let cuts = Cut::ALL.map(|cut| (cut, world.cuts[cut as usize].load(Ordering::SeqCst)));
        println!(
            "{sends} sends ({silent} silent, {unanswered} never answered, {repeated} repeats of unanswered ones), \
         revisions {goal:?}, {streams} streams, cut {cuts:?}"
        );
        Ok(Survived { listed, cuts })
    }
}
