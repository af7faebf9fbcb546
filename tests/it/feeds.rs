//! Promises 2, 3 and 4 under chance: random sends and reads on several inboxes,
//! with streams that connect, lag, are cut and resume as it happens, over a store
//! that is slow as chance has it. The oracle says what each must have seen.
//!
//! The choices come from proptest, which prints and shrinks a failing case, and
//! the pauses from a seed that is part of it.

use std::{
    future::{Future as _, poll_fn},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use doorbell::{
    bus::Bus,
    clock::{Clock as _, Timestamp},
    config::{FeedSettings, WriterSettings},
    inbox::{
        Inboxes,
        feed::{End, Event, Feed, Resume},
    },
    model::{Content, Epoch, InboxKey, NewNotification, Notification, Revision, View},
    random::SeededRandom,
    store::{Edit, PageLimit, RecentQuery, Store, Verb, Which},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use uuid::Uuid;

use crate::{
    engines::{self, Postgres},
    history::{Entry, Head, History, Screen, Told, ToldEvent},
    support::{self, Hold, SlowStore, WildClock},
};

const INBOXES: usize = 3;
const STREAMS: usize = 4;

/// To mark as read what is in the inbox.
fn read(which: Which) -> Verb {
    Verb {
        edit: Edit::Read,
        which,
        view: View::Inbox,
    }
}

/// How a stream begins.
#[derive(Clone, Copy, Debug)]
enum Start {
    /// Live from the head.
    Head,
    /// From the first change on.
    Beginning,
    /// As the API says: load, then subscribe.
    Load,
    /// Where it was cut.
    Resume,
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        inbox: usize,
        count: usize,
    },
    /// The same key and content from two callers at once.
    SendTwice {
        inbox: usize,
        key: u8,
    },
    Mark {
        inbox: usize,
        picks: Vec<prop::sample::Index>,
    },
    /// Marks all that is there, or was a while ago.
    MarkAll {
        inbox: usize,
        back: u64,
    },
    /// Looks at what is there, or was a while ago.
    Look {
        inbox: usize,
        back: u64,
    },
    Connect {
        stream: usize,
        start: Start,
    },
    Read {
        stream: usize,
        most: usize,
    },
    Cut {
        stream: usize,
    },
    /// The clock jumps by so many seconds.
    Jump(i64),
    Wait,
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    /// An hour, so that nothing but the room makes a stream complete; or short,
    /// so that heartbeats heal what the room does not show yet.
    heartbeat: Duration,
    replay_limit: usize,
    replay_page: usize,
    steps: Vec<Step>,
}

fn case() -> impl Strategy<Value = Case> {
    let inbox = 0..INBOXES;
    let stream = 0..STREAMS;
    let start = prop_oneof![
        1 => Just(Start::Head),
        1 => Just(Start::Beginning),
        1 => Just(Start::Load),
        3 => Just(Start::Resume),
    ];
    let step = prop_oneof![
        6 => (inbox.clone(), prop_oneof![4 => 1..4usize, 1 => 20..40usize])
            .prop_map(|(inbox, count)| Step::Send { inbox, count }),
        1 => (inbox.clone(), any::<u8>())
            .prop_map(|(inbox, key)| Step::SendTwice { inbox, key: key % 4 }),
        3 => (inbox.clone(), prop::collection::vec(any::<prop::sample::Index>(), 1..8))
            .prop_map(|(inbox, picks)| Step::Mark { inbox, picks }),
        1 => (inbox.clone(), 0..6u64).prop_map(|(inbox, back)| Step::MarkAll { inbox, back }),
        2 => (inbox, 0..6u64).prop_map(|(inbox, back)| Step::Look { inbox, back }),
        5 => (stream.clone(), start).prop_map(|(stream, start)| Step::Connect { stream, start }),
        5 => (stream.clone(), 1..30usize).prop_map(|(stream, most)| Step::Read { stream, most }),
        2 => stream.prop_map(|stream| Step::Cut { stream }),
        1 => (-3600..3600i64).prop_map(Step::Jump),
        2 => Just(Step::Wait),
    ];
    (
        any::<u64>(),
        prop_oneof![
            Just(Duration::from_secs(3600)),
            Just(Duration::from_millis(4))
        ],
        prop_oneof![Just(5000usize), Just(25usize)],
        1..12usize,
        prop::collection::vec(step, 10..60),
    )
        .prop_map(|(seed, heartbeat, replay_limit, replay_page, steps)| Case {
            seed,
            heartbeat,
            replay_limit,
            replay_page,
            steps,
        })
}

fn key(inbox: usize) -> InboxKey {
    // Two tenants have the same user.
    let (organization, user) = [("acme", "ann"), ("globex", "ann"), ("acme", "bob")][inbox];
    InboxKey::parse(organization, user).unwrap()
}

/// An answered write.
#[derive(Clone, Debug)]
enum Write {
    Created(Uuid),
    /// Of these, those that were unread then.
    Marked(Vec<Uuid>),
    /// Of all up to this revision, those that were unread then.
    MarkedThrough(u64),
    Looked(u64),
}

/// What the answered writes were, by inbox.
#[derive(Default)]
struct Answers {
    writes: Vec<(Write, Head)>,
    ids: Vec<Uuid>,
}

struct Run {
    inbox: Arc<Inboxes>,
    case: Case,
    clock: Arc<WildClock>,
    answers: Arc<[Mutex<Answers>; INBOXES]>,
    writes: JoinSet<Result<(), String>>,
    streams: Vec<Stream>,
}

/// A client of one inbox.
struct Stream {
    inbox: usize,
    screen: Screen,
    feed: Option<Feed>,
    resumed: Option<u64>,
    epoch: Option<Epoch>,
}

impl Run {
    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Send { inbox, count } => {
                for _ in 0..count {
                    self.send(inbox, None);
                }
            }
            Step::SendTwice { inbox, key } => {
                self.send(inbox, Some(key));
                self.send(inbox, Some(key));
            }
            Step::Mark { inbox, picks } => self.mark(inbox, &picks),
            Step::MarkAll { inbox, back } => self.mark_all(inbox, back),
            Step::Look { inbox, back } => self.look(inbox, back),
            Step::Connect { stream, start } => self.connect(stream, start).await?,
            Step::Read { stream, most } => {
                for _ in 0..most {
                    let next = self.read(stream);
                    if !timeout(Duration::from_millis(2), next)
                        .await
                        .unwrap_or(Ok(false))?
                    {
                        break;
                    }
                }
            }
            Step::Cut { stream } => {
                self.streams[stream].feed = None;
                self.streams[stream].screen.cut();
            }
            Step::Jump(seconds) => self.clock.0.store(seconds * 1_000_000, Ordering::SeqCst),
            Step::Wait => tokio::time::sleep(Duration::from_millis(3)).await,
        }
        Ok(())
    }

    fn send(&mut self, at: usize, idempotency_key: Option<u8>) {
        let (inbox, answers) = (self.inbox.clone(), self.answers.clone());
        self.writes.spawn(async move {
            let title = idempotency_key.map_or("a title".to_owned(), |key| format!("of key {key}"));
            let content = Content::new("test", title);
            let new = NewNotification {
                idempotency_key: idempotency_key.map(|key| key.to_string()),
                ..NewNotification::new(key(at), inbox.new_id(), Arc::new(content), "backend".into())
            };
            let sent = inbox.send(new).await.map_err(|error| error.to_string())?;
            let id = sent.notification.row.id;
            let mut answers = answers[at].lock().unwrap();
            if sent.duplicate {
                return answers
                    .ids
                    .contains(&id)
                    .then_some(())
                    .or_else(|| idempotency_key.map(|_| ()))
                    .ok_or("a duplicate without a key".into());
            }
            answers.writes.push((Write::Created(id), sent.head.into()));
            answers.ids.push(id);
            Ok(())
        });
    }

    fn mark(&mut self, at: usize, picks: &[prop::sample::Index]) {
        let known = self.answers[at].lock().unwrap().ids.clone();
        if known.is_empty() {
            return;
        }
        // Half of the time with an id of a neighbour, which marks nothing.
        let neighbours = self.answers[(at + 1) % INBOXES].lock().unwrap().ids.clone();
        let ids: Vec<Uuid> = picks
            .iter()
            .map(|pick| *pick.get(&known))
            .chain(neighbours.first().copied())
            .collect();
        let (inbox, answers) = (self.inbox.clone(), self.answers.clone());
        self.writes.spawn(async move {
            let done = inbox
                .edit(&key(at), read(Which::Ids(ids.clone())), None)
                .await
                .map_err(|error| error.to_string())?;
            if done.changed > 0 {
                let write = (Write::Marked(ids), done.head.into());
                answers[at].lock().unwrap().writes.push(write);
            }
            Ok(())
        });
    }

    fn mark_all(&mut self, at: usize, back: u64) {
        let (inbox, answers) = (self.inbox.clone(), self.answers.clone());
        self.writes.spawn(async move {
            let failed = |error: doorbell::inbox::Error| error.to_string();
            let shown = inbox.head(&key(at)).await.map_err(failed)?;
            let revision = shown.head.revision.get().saturating_sub(back);
            let all = read(Which::Through {
                revision: Revision::new(revision),
                types: vec![],
            });
            let done = inbox
                .edit(&key(at), all, Some(shown.epoch))
                .await
                .map_err(failed)?;
            if done.changed > 0 {
                let write = (Write::MarkedThrough(revision), done.head.into());
                answers[at].lock().unwrap().writes.push(write);
            }
            Ok(())
        });
    }

    fn look(&mut self, at: usize, back: u64) {
        let (inbox, answers) = (self.inbox.clone(), self.answers.clone());
        self.writes.spawn(async move {
            let failed = |error: doorbell::inbox::Error| error.to_string();
            let shown = inbox.head(&key(at)).await.map_err(failed)?;
            let through = shown.head.revision.get().saturating_sub(back);
            let revision = Revision::new(through);
            let head = inbox.see(&key(at), revision, &shown.epoch).await;
            let head = Head::from(head.map_err(failed)?);
            // Where it changed nothing, the head is another write's.
            answers[at]
                .lock()
                .unwrap()
                .writes
                .push((Write::Looked(through), head));
            Ok(())
        });
    }

    async fn connect(&mut self, at: usize, start: Start) -> Result<(), String> {
        let start = match (start, self.streams[at].screen.position) {
            (Start::Resume, None) => Start::Load,
            (start, _) => start,
        };
        let stream = &mut self.streams[at];
        stream.feed = None;
        stream.screen.cut();
        let after = match start {
            Start::Head => None,
            Start::Beginning => {
                stream.screen = Screen::default();
                Some(0)
            }
            Start::Load => Some(self.load(at).await?),
            Start::Resume => self.streams[at].screen.position,
        };
        let stream = &mut self.streams[at];
        let resume = Resume {
            after_revision: after.map(Revision::new),
            epoch: stream.epoch.clone().filter(|_| after.is_some()),
        };
        let never = Timestamp::from_seconds(i64::MAX);
        let feed = self
            .inbox
            .subscribe(&key(stream.inbox), resume, never)
            .await;
        stream.feed = Some(feed.map_err(|error| error.to_string())?);
        stream.resumed = after;
        Ok(())
    }

    /// Loads all pages, and answers where to subscribe after: the first page's
    /// revision.
    async fn load(&mut self, at: usize) -> Result<u64, String> {
        let inbox = key(self.streams[at].inbox);
        let limit = PageLimit {
            rows: 7,
            bytes: usize::MAX,
        };
        let mut query = RecentQuery::new(limit);
        let first = self
            .inbox
            .recent(&inbox, query.clone())
            .await
            .map_err(|error| error.to_string())?;
        let (head, epoch) = (first.snapshot.head, first.snapshot.epoch.clone());
        let mut rows = Vec::new();
        let mut page = first;
        loop {
            rows.extend(page.rows.iter().map(|found| {
                (
                    found.row.id,
                    found.row.revision.get(),
                    found.row.state.read_at.is_some(),
                )
            }));
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
            page = self
                .inbox
                .recent(&inbox, query.clone())
                .await
                .map_err(|error| error.to_string())?;
        }
        let stream = &mut self.streams[at];
        stream.epoch = Some(epoch);
        stream.screen.load(rows, head.into());
        Ok(head.revision.get())
    }

    /// Takes a message; tells whether there was one.
    async fn read(&mut self, at: usize) -> Result<bool, String> {
        let stream = &mut self.streams[at];
        let Some(feed) = &mut stream.feed else {
            return Ok(false);
        };
        let message = match feed.next().await {
            Some(Ok(message)) => message,
            Some(Err(end)) => return Err(format!("the stream ended: {end}")),
            None => return Err("the stream ended without a word".into()),
        };
        if let Event::Connected { epoch, .. } = &message.event {
            stream.epoch = Some(epoch.clone());
        }
        let seen = Told::from(&message);
        stream.screen.see(&seen, stream.resumed)?;
        if seen.event == ToldEvent::Reset {
            if self.case.replay_limit == 5000 {
                return Err("a reset, and nothing made the position unservable".into());
            }
            Box::pin(self.connect(at, Start::Load)).await?;
        }
        Ok(true)
    }

    /// Ends the writes, and reads every stream up to its head.
    async fn finish(&mut self) -> Result<(), String> {
        // Each stream comes back once more beside a send that no later one can
        // reveal: what is lost between its read and its room stays lost.
        for at in 0..self.streams.len() {
            self.send(self.streams[at].inbox, None);
            self.connect(at, Start::Resume).await?;
        }
        while let Some(write) = self.writes.join_next().await {
            write.map_err(|error| error.to_string())??;
        }
        let mut histories = Vec::new();
        for answers in self.answers.iter() {
            histories.push(history(&answers.lock().unwrap().writes)?);
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        for at in 0..self.streams.len() {
            let history = &histories[self.streams[at].inbox];
            while self.streams[at].feed.is_some()
                && self.streams[at].screen.position != Some(history.head().revision)
            {
                let remaining = deadline.saturating_duration_since(Instant::now());
                let read = timeout(remaining.min(Duration::from_secs(2)), self.read(at)).await;
                read.map_err(|_| {
                    let (position, head) = (self.streams[at].screen.position, history.head());
                    format!("stream {at} stays at {position:?}, the head is {head:?}")
                })??;
            }
            self.streams[at].screen.check(history).map_err(|problem| {
                let transcript = self.streams[at].screen.transcript.join("\n");
                format!("stream {at}: {problem}\n{transcript}")
            })?;
        }
        for (at, history) in histories.iter().enumerate() {
            let snapshot = self
                .inbox
                .head(&key(at))
                .await
                .map_err(|error| error.to_string())?;
            let (head, expected) = (Head::from(snapshot.head), history.head());
            if head != expected {
                return Err(format!(
                    "inbox {at}: the head is {head:?}, not {expected:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The history of one inbox: which of the ids of a mark were unread is known
/// once all writes before it are.
fn history(writes: &[(Write, Head)]) -> Result<History, String> {
    let mut by_revision = writes.to_vec();
    by_revision.sort_by_key(|(_, head)| head.revision);
    let mut history = History::default();
    for (write, head) in by_revision {
        let entry = match write {
            Write::Created(id) => Entry::Created(id),
            Write::Marked(mut ids) => {
                let unread = history.unread();
                ids.sort_unstable();
                ids.dedup();
                ids.retain(|id| unread.contains(id));
                Entry::Marked(ids)
            }
            Write::MarkedThrough(revision) => {
                let mut ids: Vec<_> = history.unread().into_iter().collect();
                ids.retain(|id| history.last_change(id) <= revision);
                ids.sort_unstable();
                Entry::Marked(ids)
            }
            // Where it changed nothing, the head is another write's, or was there.
            Write::Looked(through)
                if head.seen_through != through || history.head().seen_through >= through =>
            {
                continue;
            }
            Write::Looked(through) => Entry::Looked(through),
        };
        history.add(entry, head)?;
    }
    history.check()?;
    Ok(history)
}

/// `postgres`: the database to run in, in place of an SQLite file.
async fn run(case: Case, settings: FeedSettings, postgres: Option<&str>) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let inner: Arc<dyn Store> = match postgres {
        None => Arc::new(support::sqlite(&directory).await),
        Some(url) => {
            let store = support::postgres(url).await;
            engines::execute(url, "TRUNCATE inboxes, notifications").await;
            Arc::new(store)
        }
    };
    let store = SlowStore {
        inner,
        random: SeededRandom::new(case.seed),
        most: Duration::from_millis(3),
        hold: Arc::default(),
    };
    let clock = Arc::new(WildClock(AtomicI64::new(0)));
    let settings = FeedSettings {
        heartbeat_interval: case.heartbeat.into(),
        replay_limit: case.replay_limit,
        replay_page: case.replay_page,
        room_capacity: 4,
        ..settings
    };
    let inbox = Inboxes::new(
        Arc::new(store),
        Bus::local(&settings),
        clock.clone(),
        Arc::new(SeededRandom::new(case.seed)),
        settings,
        &WriterSettings {
            write_batch: 5,
            ..WriterSettings::default()
        },
    );
    let streams = (0..STREAMS).map(|stream| Stream {
        inbox: stream % INBOXES,
        screen: Screen::default(),
        feed: None,
        resumed: None,
        epoch: None,
    });
    let mut run = Run {
        inbox,
        case: case.clone(),
        clock,
        answers: Arc::default(),
        writes: JoinSet::new(),
        streams: streams.collect(),
    };
    let mut result = Ok(());
    for step in case.steps {
        result = run.step(step).await;
        if result.is_err() {
            break;
        }
    }
    if result.is_ok() {
        result = run.finish().await;
    }
    run.writes.shutdown().await;
    run.inbox.close().await;
    result
}

/// The inboxes of a store, at a quiet pace.
fn inbox(store: Arc<dyn Store>, settings: FeedSettings) -> Arc<Inboxes> {
    inbox_at(Arc::default(), store, settings)
}

fn inbox_at(clock: Arc<WildClock>, store: Arc<dyn Store>, settings: FeedSettings) -> Arc<Inboxes> {
    Inboxes::new(
        store,
        Bus::local(&settings),
        clock,
        Arc::new(SeededRandom::new(1)),
        settings,
        &WriterSettings::default(),
    )
}

/// What is read between two pages of a heal comes a second time: for the badge.
#[tokio::test]
async fn a_row_that_changes_during_a_heal_rings_once() {
    let directory = tempfile::tempdir().unwrap();
    let settings = FeedSettings {
        room_capacity: 1,
        replay_page: 2,
        ..FeedSettings::default()
    };
    let inbox = inbox(Arc::new(support::sqlite(&directory).await), settings);
    let never = Timestamp::from_seconds(i64::MAX);
    let mut feed = inbox
        .subscribe(&key(0), Resume::default(), never)
        .await
        .unwrap();
    let mut ids = Vec::new();
    for title in ["a", "b", "c", "d", "e"] {
        ids.push(send(&inbox, title).await);
    }
    let mut rows = Vec::new();
    loop {
        let message = feed.next().await.unwrap().unwrap();
        let Event::Notification(Notification { row, .. }) = &message.event else {
            match message.event {
                Event::CaughtUp => break,
                _ => continue,
            }
        };
        let at = ids.iter().position(|id| *id == row.id).unwrap();
        rows.push((at, message.ring));
        if rows.len() == 2 {
            let marked = read(Which::Ids(vec![ids[0], ids[3]]));
            inbox.edit(&key(0), marked, None).await.unwrap();
        }
    }
    // The fourth is shown for the first time, and was read before.
    let expected = [
        (0, true),
        (1, true),
        (2, true),
        (4, true),
        (0, false),
        (3, false),
    ];
    assert_eq!(rows, expected);
}

/// A change that is committed just when a head was read, at the beginning of a
/// stream and at the end of its replay, is seen: live, since the room was joined
/// before, and the end of a replay is that of its last page.
pub async fn misses_nothing_beside_a_read() -> Result<(), String> {
    for replays in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let hold = Arc::<Hold>::default();
        let store = SlowStore {
            inner: Arc::new(support::sqlite(&directory).await),
            random: SeededRandom::new(1),
            most: Duration::ZERO,
            hold: hold.clone(),
        };
        let settings = FeedSettings {
            heartbeat_interval: Duration::from_secs(3600).into(),
            ..FeedSettings::default()
        };
        let inbox = inbox(Arc::new(store), settings);
        send(&inbox, "before").await;
        let resume = Resume {
            after_revision: replays.then_some(Revision::ZERO),
            epoch: None,
        };
        // At the beginning what was read is late; at the end it is read late.
        hold.is_before.store(replays, Ordering::SeqCst);
        hold.is_armed.store(!replays, Ordering::SeqCst);
        let seen = tokio::spawn({
            let (inbox, hold) = (inbox.clone(), hold.clone());
            async move {
                let never = Timestamp::from_seconds(i64::MAX);
                let mut feed = inbox.subscribe(&key(0), resume, never).await.unwrap();
                if replays {
                    hold.is_armed.store(true, Ordering::SeqCst);
                }
                loop {
                    match feed.next().await.unwrap().unwrap().event {
                        Event::Live(live) if live.event().head.revision.get() == 2 => return,
                        Event::Notification(found) if found.row.sequence.get() == 2 => return,
                        _ => {}
                    }
                }
            }
        });
        // A service that is right reads no head at the end of a replay.
        let _ = timeout(Duration::from_secs(1), hold.reached.notified()).await;
        hold.is_armed.store(false, Ordering::SeqCst);
        send(&inbox, "beside").await;
        hold.go.notify_one();
        timeout(Duration::from_secs(5), seen)
            .await
            .map_err(|_| format!("a change beside a read is lost (in a replay: {replays})"))?
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_beside_a_read_is_seen() {
    misses_nothing_beside_a_read().await.unwrap();
}

/// `connected` comes first, always: where it did not, nothing comes but the end.
#[tokio::test]
async fn a_feed_that_is_drained_before_its_first_message_only_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(support::sqlite(&directory).await);
    let inbox = inbox(store, FeedSettings::default());
    let never = Timestamp::from_seconds(i64::MAX);
    let mut feed = inbox
        .subscribe(&key(0), Resume::default(), never)
        .await
        .unwrap();
    inbox.drain(Duration::ZERO);
    let end = feed.next().await.unwrap();
    assert!(matches!(end, Err(End::Draining)), "{end:?}");
    assert!(feed.next().await.is_none());
}

/// What waits for its client when the token expires is not said any more, a reset
/// neither.
#[tokio::test]
async fn a_feed_that_is_read_after_its_token_only_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(support::sqlite(&directory).await);
    let clock = Arc::<WildClock>::default();
    let inbox = inbox_at(clock.clone(), store, FeedSettings::default());
    let above_the_head = Resume {
        after_revision: Some(Revision::new(7)),
        epoch: None,
    };
    let expires_at = Timestamp::from_micros(clock.now().as_micros() + 60_000_000);
    let mut feed = inbox
        .subscribe(&key(0), above_the_head, expires_at)
        .await
        .unwrap();
    let connected = feed.next().await.unwrap().unwrap();
    assert!(matches!(connected.event, Event::Connected { .. }));
    clock.0.store(60_000_000, Ordering::SeqCst);
    let end = feed.next().await.unwrap();
    assert!(matches!(end, Err(End::Expired)), "{end:?}");
    assert!(feed.next().await.is_none());
}

/// A client that gives no window is not polled, wherever its feed stands: it must
/// not keep a connection of the store.
#[tokio::test]
async fn a_feed_that_nobody_polls_keeps_no_reader_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(support::sqlite(&directory).await);
    let inbox = inbox(store, FeedSettings::default());
    send(&inbox, "a").await;
    let never = Timestamp::from_seconds(i64::MAX);
    let resume = Resume {
        after_revision: Some(Revision::ZERO),
        epoch: None,
    };
    // More than the store has readers, each left in the midst of its read.
    let mut feeds = Vec::new();
    for _ in 0..500 {
        let mut feed = inbox
            .subscribe(&key(0), resume.clone(), never)
            .await
            .unwrap();
        let connected = feed.next().await.unwrap().unwrap();
        assert!(matches!(connected.event, Event::Connected { .. }));
        let mut next = Box::pin(async move { feed.next().await });
        let polled = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx))).await;
        if polled.is_pending() {
            feeds.push(next);
        }
        if feeds.len() == 8 {
            break;
        }
    }
    assert_eq!(feeds.len(), 8, "every page was there at once");
    inbox.head(&key(0)).await.unwrap();
    for feed in feeds {
        let row = feed.await.unwrap().unwrap();
        assert!(matches!(row.event, Event::Notification(_)));
    }
}

async fn send(inbox: &Inboxes, title: &str) -> Uuid {
    let id = inbox.new_id();
    let content = Content::new("test", title);
    let new = NewNotification::new(key(0), id, Arc::new(content), "backend".into());
    inbox.send(new).await.unwrap();
    id
}

/// Runs the property, and answers what broke it.
pub fn explore(
    cases: u32,
    settings: &FeedSettings,
    postgres: Option<&Postgres>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let database = postgres.map(|postgres| runtime.block_on(postgres.create_database()));
    let config = Config {
        cases,
        // The pauses are real, so a smaller case need not fail again.
        max_shrink_iters: 20,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&case(), |case| {
            runtime
                .block_on(run(case, settings.clone(), database.as_deref()))
                .map_err(TestCaseError::fail)
        })
        .map_err(|error| error.to_string())
}

#[test]
fn every_stream_sees_every_change_in_order_with_true_counts() {
    explore(150, &FeedSettings::default(), None).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn on_postgres_too_every_stream_sees_every_change() {
    explore(60, &FeedSettings::default(), Some(Postgres::shared()))
        .unwrap_or_else(|problem| panic!("{problem}"));
}
