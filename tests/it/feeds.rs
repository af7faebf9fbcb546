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
    config::{FeedSettings, RetentionSettings, WriterSettings},
    inbox::{
        self, Inboxes,
        feed::{End, Event, Feed, Resume},
    },
    model::{
        Change, Content, Epoch, Field, InboxEvent, InboxKey, NewNotification, Notification,
        RemovalCause, Revision, View,
    },
    random::SeededRandom,
    store::{
        About, Correction, Database, Edit, Named, NotSent, PageLimit, RecentQuery, Store, Verb,
        Which,
    },
    sweeper::Sweeper,
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
    history::{Answers, Ask, Facts, Head, History, Screen, Told, ToldEvent, ToldRow},
    hooked::Hooked,
    support::{self, Events, Hold, Slow, WildClock},
};

const INBOXES: usize = 3;
const STREAMS: usize = 4;
const KINDS: [&str; 2] = ["test", "rare"];

/// To mark as read what is in the inbox.
fn read(which: Which) -> Verb {
    verb(Edit::Read, which)
}

/// What the API makes of a verb of a person.
fn verb(edit: Edit, which: Which) -> Verb {
    let view = match (edit, &which) {
        (_, Which::Ids(_)) => View::All,
        (Edit::Unarchive, _) => View::Archived,
        _ => View::Inbox,
    };
    Verb { edit, which, view }
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
        facts: Facts,
    },
    /// The same key and content from two callers at once.
    SendTwice {
        inbox: usize,
        key: u8,
    },
    /// A person does something, or a sender takes back.
    Edit {
        inbox: usize,
        edit: Edit,
        meant: Meant,
    },
    /// A sender says it better.
    Correct {
        inbox: usize,
        pick: usize,
        ring: bool,
    },
    /// Looks at what is there, or was a while ago.
    Look {
        inbox: usize,
        back: u64,
    },
    /// Looks at what is not there.
    LookAhead {
        inbox: usize,
    },
    /// What is due is done: expiry, and the purge of what was removed.
    Sweep,
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
    /// Takes all there is.
    CatchUp {
        stream: usize,
    },
    /// The clock jumps by so many seconds.
    Jump(i64),
    /// All writes are answered.
    Settle,
    Wait,
}

/// Which notifications.
#[derive(Clone, Debug)]
enum Meant {
    /// These, and one of a neighbour.
    Picks(Vec<usize>),
    /// All about a thing.
    About(u8),
    /// All that is there, or was a while ago; or of one type of two.
    Through { back: u64, typed: bool },
    /// All with a collapse key.
    Collapse(u8),
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    /// An hour, so that nothing but the room makes a stream complete; or short,
    /// so that heartbeats heal what the room does not show yet.
    heartbeat: Duration,
    replay_limit: usize,
    replay_page: usize,
    /// Whether what was removed is purged at once.
    purges: bool,
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
    let facts = (0..2u8, 0..4u8, 0..6u8, any::<bool>(), 0..4u8).prop_map(
        |(kind, thing, key, is_silent, expires)| Facts {
            kind: KINDS[usize::from(kind)].into(),
            thing: (thing < 2).then(|| thing.to_string()),
            collapse_key: (key < 2).then(|| key.to_string()),
            is_silent,
            expires: expires == 0,
        },
    );
    let edit = prop_oneof![
        3 => Just(Edit::Read),
        2 => Just(Edit::Unread),
        3 => Just(Edit::Archive),
        3 => Just(Edit::Unarchive),
        1 => Just(Edit::Remove(RemovalCause::User)),
        1 => Just(Edit::Remove(RemovalCause::Sender)),
    ];
    let meant = prop_oneof![
        4 => prop::collection::vec(any::<usize>(), 1..8).prop_map(Meant::Picks),
        1 => (0..2u8).prop_map(Meant::About),
        2 => (0..6u64, any::<bool>()).prop_map(|(back, typed)| Meant::Through { back, typed }),
        1 => (0..2u8).prop_map(Meant::Collapse),
    ];
    let send = (
        inbox.clone(),
        prop_oneof![4 => 1..4usize, 1 => 20..40usize],
        facts,
    );
    let pick = any::<usize>();
    let step = prop_oneof![
        8 => send.prop_map(|(inbox, count, facts)| Step::Send { inbox, count, facts }),
        1 => (inbox.clone(), any::<u8>())
            .prop_map(|(inbox, key)| Step::SendTwice { inbox, key: key % 4 }),
        8 => (inbox.clone(), edit, meant)
            .prop_map(|(inbox, edit, meant)| Step::Edit { inbox, edit, meant }),
        2 => (inbox.clone(), pick, any::<bool>())
            .prop_map(|(inbox, pick, ring)| Step::Correct { inbox, pick, ring }),
        2 => (inbox.clone(), 0..6u64).prop_map(|(inbox, back)| Step::Look { inbox, back }),
        1 => inbox.prop_map(|inbox| Step::LookAhead { inbox }),
        2 => Just(Step::Sweep),
        8 => (stream.clone(), start).prop_map(|(stream, start)| Step::Connect { stream, start }),
        10 => (stream.clone(), 1..30usize).prop_map(|(stream, most)| Step::Read { stream, most }),
        2 => stream.prop_map(|stream| Step::Cut { stream }),
        1 => (-3600..3600i64).prop_map(Step::Jump),
        6 => Just(Step::Wait),
        1 => Just(Step::Settle),
    ];
    (
        any::<u64>(),
        prop_oneof![
            Just(Duration::from_secs(3600)),
            Just(Duration::from_millis(4))
        ],
        prop_oneof![Just(5000usize), Just(25usize)],
        1..12usize,
        any::<bool>(),
        prop::collection::vec(step, 10..60),
    )
        .prop_map(
            |(seed, heartbeat, replay_limit, replay_page, purges, steps)| Case {
                seed,
                heartbeat,
                replay_limit,
                replay_page,
                purges,
                steps,
            },
        )
}

fn key(inbox: usize) -> InboxKey {
    // Two tenants have the same user.
    let (organization, user) = [("acme", "ann"), ("globex", "ann"), ("acme", "bob")][inbox];
    InboxKey::parse(organization, user).unwrap()
}

/// What the answered writes of an inbox were.
#[derive(Default)]
struct Written {
    answers: Answers,
    ids: Vec<Uuid>,
}

struct Run {
    inbox: Arc<Inboxes>,
    case: Case,
    clock: Arc<WildClock>,
    store: Arc<dyn Database>,
    events: Arc<Events>,
    sweeper: Sweeper,
    written: Arc<[Mutex<Written>; INBOXES]>,
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
            Step::Send {
                inbox,
                count,
                facts,
            } => {
                for _ in 0..count {
                    self.send(inbox, None, facts.clone());
                }
            }
            Step::SendTwice { inbox, key } => {
                self.send(inbox, Some(key), Facts::default());
                self.send(inbox, Some(key), Facts::default());
            }
            Step::Edit { inbox, edit, meant } => self.edit(inbox, edit, meant),
            Step::Correct { inbox, pick, ring } => self.correct(inbox, pick, ring),
            Step::Look { inbox, back } => self.look(inbox, back),
            Step::LookAhead { inbox } => self.look_ahead(inbox).await?,
            Step::Sweep => {
                let swept = self.sweeper.look().await;
                swept.map_err(|error| format!("what is due was not done: {error}"))?;
            }
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
            Step::CatchUp { stream } => self.catch_up(stream).await?,
            Step::Settle => self.settle().await?,
            Step::Wait => tokio::time::sleep(Duration::from_millis(3)).await,
        }
        Ok(())
    }

    fn send(&mut self, at: usize, idempotency_key: Option<u8>, facts: Facts) {
        let (inbox, written) = (self.inbox.clone(), self.written.clone());
        let soon = self.clock.now().as_micros() + 10_000;
        self.writes.spawn(async move {
            let title = idempotency_key.map_or("a title".to_owned(), |key| format!("of key {key}"));
            let content = Content {
                entity_type: facts.thing.as_ref().map(|_| "thing".into()),
                entity_id: facts.thing.clone(),
                ..Content::new(facts.kind.as_str(), title)
            };
            let id = inbox.new_id();
            // Before it can be seen to expire.
            written[at].lock().unwrap().answers.know(id, facts.clone());
            let new = NewNotification {
                idempotency_key: idempotency_key.map(|key| key.to_string()),
                collapse_key: facts.collapse_key.as_deref().map(Arc::from),
                is_silent: facts.is_silent,
                expire_time: facts.expires.then(|| Timestamp::from_micros(soon)),
                ..NewNotification::new(key(at), id, Arc::new(content), "backend".into())
            };
            let sent = match inbox.send(new).await {
                Err(inbox::Error::NotSent(NotSent::Expired(_))) if facts.expires => return Ok(()),
                sent => sent.map_err(|error| error.to_string())?,
            };
            let id = sent.notification.row.id;
            let mut written = written[at].lock().unwrap();
            if sent.duplicate && idempotency_key.is_none() {
                return Err("a duplicate without a key".into());
            }
            let changed = u32::from(!sent.duplicate);
            if !sent.duplicate {
                written.ids.push(id);
            }
            written
                .answers
                .add(Ask::Send(facts), sent.head.into(), changed)
        });
    }

    fn edit(&mut self, at: usize, edit: Edit, meant: Meant) {
        let known = self.written[at].lock().unwrap().ids.clone();
        // Half of the time with an id of a neighbour, which changes nothing.
        let neighbours = self.written[(at + 1) % INBOXES].lock().unwrap();
        let neighbour = neighbours.ids.first().copied();
        drop(neighbours);
        let (inbox, written) = (self.inbox.clone(), self.written.clone());
        self.writes.spawn(async move {
            let failed = |error: inbox::Error| error.to_string();
            let mut epoch = None;
            let is_taken_back = edit == Edit::Remove(RemovalCause::Sender);
            let which = match meant {
                Meant::Picks(picks) if !known.is_empty() => {
                    let picked = picks.iter().map(|pick| known[pick % known.len()]);
                    Which::Ids(picked.chain(neighbour).collect())
                }
                Meant::About(thing) => Which::About(About {
                    entity_type: "thing".into(),
                    entity_id: thing.to_string(),
                }),
                Meant::Through { back, typed } if !is_taken_back => {
                    let shown = inbox.head(&key(at)).await.map_err(failed)?;
                    epoch = Some(shown.epoch);
                    let revision = shown.head.revision.get().saturating_sub(back);
                    let typed = typed.then(|| KINDS[0].to_owned());
                    Which::Through {
                        revision: Revision::new(revision),
                        types: typed.into_iter().collect(),
                    }
                }
                Meant::Collapse(key) if is_taken_back => Which::Collapse(key.to_string()),
                _ => return Ok(()),
            };
            let verb = if is_taken_back {
                let view = View::All;
                Verb { edit, which, view }
            } else {
                verb(edit, which)
            };
            let done = inbox.edit(&key(at), verb.clone(), epoch).await;
            let done = done.map_err(failed)?;
            let answers = &mut written[at].lock().unwrap().answers;
            answers.add(Ask::Verb(verb), done.head.into(), done.changed)
        });
    }

    fn correct(&mut self, at: usize, pick: usize, ring: bool) {
        let known = self.written[at].lock().unwrap().ids.clone();
        if known.is_empty() {
            return;
        }
        let id = known[pick % known.len()];
        let (inbox, written) = (self.inbox.clone(), self.written.clone());
        let title = format!("corrected {}", self.writes.len());
        self.writes.spawn(async move {
            let correction = Correction {
                inbox: key(at),
                of: Named::Id(id),
                content: Arc::new(Content::new("", title)),
                fields: vec![Field::Title],
                ring,
            };
            let updated = match inbox.update(correction).await {
                // It was removed, or is purged already.
                Err(inbox::Error::NotUpdated(_)) => return Ok(()),
                updated => updated.map_err(|error| error.to_string())?,
            };
            let answers = &mut written[at].lock().unwrap().answers;
            let changed = u32::from(updated.changed);
            answers.add(Ask::Correct { id, ring }, updated.head.into(), changed)
        });
    }

    fn look(&mut self, at: usize, back: u64) {
        let (inbox, written) = (self.inbox.clone(), self.written.clone());
        let events = self.events.clone();
        self.writes.spawn(async move {
            let failed = |error: inbox::Error| error.to_string();
            let shown = inbox.head(&key(at)).await.map_err(failed)?;
            let through = shown.head.revision.get().saturating_sub(back);
            let revision = Revision::new(through);
            let head = inbox.see(&key(at), revision, &shown.epoch).await;
            let head = Head::from(head.map_err(failed)?);
            // Where it changed nothing, the head is another write's.
            let is_look = |event: &InboxEvent| {
                event.head.revision.get() == head.revision && event.change == Change::Seen
            };
            let changed = head.seen_through == through && events.of(&key(at)).iter().any(is_look);
            let answers = &mut written[at].lock().unwrap().answers;
            if answers.is_known(head.revision) {
                return answers.add(Ask::Look(through), head, 0);
            }
            answers.add(Ask::Look(through), head, u32::from(changed))
        });
    }

    /// What is not there cannot have been seen.
    async fn look_ahead(&self, at: usize) -> Result<(), String> {
        let failed = |error: inbox::Error| error.to_string();
        let shown = self.inbox.head(&key(at)).await.map_err(failed)?;
        let ahead = Revision::new(shown.head.revision.get() + 1_000_000);
        match self.inbox.see(&key(at), ahead, &shown.epoch).await {
            Err(inbox::Error::PositionInvalid) => Ok(()),
            answer => Err(format!("what is above the head was seen: {answer:?}")),
        }
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
            rows.extend(page.rows.iter().map(|found| ToldRow::from(&found.row)));
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

    async fn settle(&mut self) -> Result<(), String> {
        while let Some(write) = self.writes.join_next().await {
            write.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// Reads a stream up to the head of its inbox.
    async fn catch_up(&mut self, at: usize) -> Result<(), String> {
        let head = self.store.head(&key(self.streams[at].inbox)).await;
        let head = head.map_err(|error| error.to_string())?.head.revision.get();
        while self.streams[at].screen.position < Some(head) || !self.streams[at].screen.live {
            let read = timeout(Duration::from_secs(2), self.read(at)).await;
            read.map_err(|_| format!("stream {at} stays below {head}"))??;
        }
        Ok(())
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
            // Whoever is interrupted here comes back later.
            stream.feed = None;
            let snapshot = self.store.head(&key(stream.inbox)).await;
            let floor = snapshot.map_err(|error| error.to_string())?.floor.get();
            if self.case.replay_limit == 5000 && seen.position >= floor {
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
            self.send(self.streams[at].inbox, None, Facts::default());
            self.connect(at, Start::Resume).await?;
        }
        self.settle().await?;
        let mut histories = Vec::new();
        for (at, written) in self.written.iter().enumerate() {
            let history = History::of_events(&self.events.of(&key(at)))?;
            written.lock().unwrap().answers.check(&history)?;
            histories.push(history);
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

/// `postgres`: the database to run in, in place of an SQLite file.
async fn run(case: Case, settings: FeedSettings, postgres: Option<&str>) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let inner: Arc<dyn Database> = match postgres {
        None => Arc::new(support::sqlite(&directory).await),
        Some(url) => {
            let store = support::postgres(url).await;
            engines::execute(url, "TRUNCATE inboxes, notifications, follow_ups, sweeper").await;
            Arc::new(store)
        }
    };
    let events = Arc::<Events>::default();
    let slow = Slow {
        random: SeededRandom::new(case.seed),
        most: Duration::from_millis(3),
        hold: Arc::default(),
        events: events.clone(),
    };
    let store = Hooked::new(inner.clone(), slow);
    let clock = Arc::new(WildClock(AtomicI64::new(0)));
    let settings = FeedSettings {
        heartbeat_interval: case.heartbeat.into(),
        replay_limit: case.replay_limit,
        replay_page: case.replay_page,
        room_capacity: 4,
        ..settings
    };
    let inbox = Inboxes::new(
        store,
        Bus::local(&settings),
        clock.clone(),
        Arc::new(SeededRandom::new(case.seed)),
        settings,
        &WriterSettings {
            write_batch: 5,
            ..WriterSettings::default()
        },
    );
    let retention = RetentionSettings {
        retention: Duration::from_secs(1_000_000).into(),
        retention_archived: Duration::from_secs(1_000_000).into(),
        retention_removed: Duration::from_secs(if case.purges { 0 } else { 1_000_000 }).into(),
        retention_rows: 10_000,
    };
    let sweeper = Sweeper::new(
        inner.clone(),
        inbox.clone(),
        clock.clone(),
        &SeededRandom::new(case.seed),
        retention,
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
        store: inner,
        events,
        sweeper,
        written: Arc::default(),
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

/// One inbox in which each verb meets what it must not touch, and two streams of it, one
/// of which is away at times and one of which lags.
pub async fn follows_every_verb() -> Result<(), String> {
    let inbox = 0;
    let (live, away) = (0, INBOXES);
    let plain = Facts {
        kind: KINDS[0].into(),
        ..Facts::default()
    };
    let send = |facts: &Facts| Step::Send {
        inbox,
        count: 1,
        facts: facts.clone(),
    };
    let collapsing = Facts {
        collapse_key: Some("0".into()),
        ..plain.clone()
    };
    let expiring = Facts {
        expires: true,
        ..plain.clone()
    };
    let edit = |edit, meant| Step::Edit { inbox, edit, meant };
    let picks = |pick| Meant::Picks(vec![pick]);
    let shown = |back| Meant::Through { back, typed: false };
    let (by_user, by_sender) = (RemovalCause::User, RemovalCause::Sender);
    let connect = |stream, start| Step::Connect { stream, start };
    let catch_up = |stream| Step::CatchUp { stream };
    let mut steps = vec![connect(live, Start::Head), catch_up(live)];
    // Brought back, it does not ring.
    steps.extend((0..3).map(|_| send(&plain)));
    steps.push(edit(Edit::Archive, picks(0)));
    steps.push(edit(Edit::Unarchive, picks(0)));
    steps.extend([connect(away, Start::Load), catch_up(away)]);
    steps.push(Step::Cut { stream: away });
    // All of the inbox goes, in one change; what is archived stays.
    steps.push(edit(Edit::Archive, picks(0)));
    steps.push(edit(Edit::Remove(by_user), shown(0)));
    steps.extend([connect(away, Start::Resume), catch_up(away)]);
    // What was not shown is not marked.
    steps.extend((0..2).map(|_| send(&plain)));
    steps.push(edit(Edit::Read, shown(1)));
    steps.extend((0..2).map(|_| send(&collapsing)));
    steps.push(edit(Edit::Remove(by_sender), Meant::Collapse(0)));
    // A correction that rings, in a heal.
    steps.push(catch_up(live));
    let (pick, ring) = (4, true);
    steps.push(Step::Correct { inbox, pick, ring });
    steps.extend((0..6).map(|_| send(&plain)));
    steps.extend([catch_up(live), Step::LookAhead { inbox }]);
    // Who was away when what was removed is purged loads anew.
    steps.extend([catch_up(away), Step::Cut { stream: away }]);
    steps.push(edit(Edit::Remove(by_user), picks(3)));
    steps.extend([Step::Settle, Step::Sweep]);
    steps.extend([connect(away, Start::Resume), catch_up(away)]);
    // What is over is there until it is removed.
    steps.push(send(&expiring));
    steps.extend((0..8).map(|_| Step::Wait));
    steps.extend([connect(away, Start::Load), catch_up(away)]);
    let settled = |step| [step, Step::Settle];
    let case = Case {
        seed: 1,
        heartbeat: Duration::from_secs(3600),
        replay_limit: 5000,
        replay_page: 12,
        purges: true,
        steps: steps.into_iter().flat_map(settled).collect(),
    };
    run(case, FeedSettings::default(), None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verb_is_told_as_it_was_done() {
    let followed = follows_every_verb().await;
    followed.unwrap_or_else(|problem| panic!("{problem}"));
}

/// What a verb means is more than one change has: it makes several, and all is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verb_of_several_changes_is_told_as_it_was_done() {
    let (inbox, stream) = (0, 0);
    let facts = Facts {
        kind: KINDS[0].into(),
        thing: Some("0".into()),
        ..Facts::default()
    };
    let send = Step::Send {
        inbox,
        count: 50,
        facts,
    };
    let archive = Step::Edit {
        inbox,
        edit: Edit::Archive,
        meant: Meant::About(0),
    };
    let (start, most) = (Start::Head, 200);
    let steps = [
        Step::Connect { stream, start },
        send.clone(),
        send.clone(),
        send,
        archive,
        Step::Read { stream, most },
    ];
    let case = Case {
        seed: 1,
        heartbeat: Duration::from_secs(3600),
        replay_limit: 5000,
        replay_page: 12,
        purges: false,
        steps: steps
            .into_iter()
            .flat_map(|step| [step, Step::Settle])
            .collect(),
    };
    let followed = run(case, FeedSettings::default(), None).await;
    followed.unwrap_or_else(|problem| panic!("{problem}"));
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
        let slow = Slow {
            random: SeededRandom::new(1),
            most: Duration::ZERO,
            hold: hold.clone(),
            events: Arc::default(),
        };
        let store = Hooked::new(Arc::new(support::sqlite(&directory).await), slow);
        let settings = FeedSettings {
            heartbeat_interval: Duration::from_secs(3600).into(),
            ..FeedSettings::default()
        };
        let inbox = inbox(store, settings);
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

/// A change that the room was not told of is found at the heartbeat, which says nothing
/// before.
pub async fn finds_at_a_heartbeat_what_nobody_told() -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(support::sqlite(&directory).await);
    let settings = FeedSettings {
        heartbeat_interval: Duration::from_millis(50).into(),
        ..FeedSettings::default()
    };
    let here = inbox(store.clone(), settings.clone());
    let elsewhere = inbox(store, settings);
    let never = Timestamp::from_seconds(i64::MAX);
    let mut feed = here
        .subscribe(&key(0), Resume::default(), never)
        .await
        .unwrap();
    feed.next().await.unwrap().unwrap();
    send(&elsewhere, "elsewhere").await;
    loop {
        let message = timeout(Duration::from_secs(5), feed.next()).await;
        let message = message.map_err(|_| "silence")?.unwrap().unwrap();
        match message.event {
            Event::Notification(_) => return Ok(()),
            Event::Heartbeat if message.position == Revision::ZERO => {}
            _ => return Err(format!("a change is passed over by {message:?}")),
        }
    }
}

#[tokio::test]
async fn what_nobody_told_is_found_at_a_heartbeat() {
    finds_at_a_heartbeat_what_nobody_told().await.unwrap();
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
    shrinks: u32,
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
        max_shrink_iters: shrinks,
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
    explore(150, 20, &FeedSettings::default(), None).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn on_postgres_too_every_stream_sees_every_change() {
    explore(60, 20, &FeedSettings::default(), Some(Postgres::shared()))
        .unwrap_or_else(|problem| panic!("{problem}"));
}
