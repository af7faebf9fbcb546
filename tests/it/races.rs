//! Races that are made to happen: what one call has read is held back while another
//! changes it. On SQLite both go through one node, on Postgres through two.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    bus::Bus,
    clock::{Clock as _, SystemClock, Timestamp},
    config::{FeedSettings, RetentionSettings, WriterSettings},
    inbox::{
        Done, Inboxes,
        feed::{Event, Resume},
    },
    model::{Content, Field, Head, NewNotification, RemovalCause, Revision, Row, View},
    operators::Operators,
    random::SeededRandom,
    store::{
        Correction, Database, Edit, Mutation, Named, PageLimit, Recent, RecentQuery, Store, Verb,
        Which, sweeping::Due,
    },
    sweeper::Sweeper,
};
use tempfile::TempDir;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use uuid::Uuid;

use crate::{
    engines::{self, Break, Proxy},
    history::Check,
    hooked::{Call, Hook, Hooked},
    process::PATIENCE,
    support::{self, WildClock, ann, on_both},
};

/// Holds back the answer of one call.
#[derive(Default)]
pub struct Gate {
    armed: Mutex<Option<Call>>,
    reached: Notify,
    pub go: Notify,
}

impl Gate {
    pub fn arm(&self, call: Call) {
        *self.armed.lock().unwrap() = Some(call);
    }

    pub async fn reached(&self) {
        let reached = timeout(PATIENCE, self.reached.notified()).await;
        reached.expect("what is to be held back is read");
    }
}

#[async_trait]
impl Hook for Gate {
    async fn after(&self, call: Call) {
        let is_armed = self.armed.lock().unwrap().take_if(|armed| *armed == call);
        if is_armed.is_some() {
            self.reached.notify_one();
            self.go.notified().await;
        }
    }
}

/// Their clock is an hour behind: what they send may be due by the sweeper's.
pub fn inboxes(store: Arc<dyn Store>, seed: u64) -> Arc<Inboxes> {
    let feeds = FeedSettings {
        replay_page: 1,
        ..FeedSettings::default()
    };
    Inboxes::new(
        store,
        Bus::local(&feeds),
        Arc::new(WildClock::behind(Duration::from_secs(3600))),
        Arc::new(SeededRandom::new(seed)),
        feeds,
        &WriterSettings::default(),
    )
}

/// Two who work on ann's inbox: what the first reads can be held back.
struct Race {
    gate: Arc<Hooked<dyn Database, Gate>>,
    first: Arc<Inboxes>,
    second: Arc<Inboxes>,
    _directory: Option<TempDir>,
}

impl Race {
    async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let gate = Hooked::new(
            Arc::new(support::sqlite(&directory).await) as _,
            Gate::default(),
        );
        let first = inboxes(gate.clone(), 1);
        Self {
            gate,
            second: first.clone(),
            first,
            _directory: Some(directory),
        }
    }

    async fn on_postgres() -> Self {
        let url = engines::Postgres::shared().create_database().await;
        let gate = Hooked::new(
            Arc::new(support::postgres(&url).await) as _,
            Gate::default(),
        );
        Self {
            first: inboxes(gate.clone(), 1),
            gate,
            second: inboxes(Arc::new(support::postgres(&url).await), 2),
            _directory: None,
        }
    }

    async fn send(&self, title: &str) -> Uuid {
        self.send_with(title, |_| {}).await
    }

    async fn send_with(&self, title: &str, change: impl FnOnce(&mut NewNotification)) -> Uuid {
        let id = self.second.new_id();
        let content = Arc::new(Content::new("test", title));
        let mut new = NewNotification::new(ann(), id, content, "backend".into());
        change(&mut new);
        self.second.send(new).await.unwrap();
        id
    }

    /// The second does this at once; how many rows it changed.
    async fn does(&self, edit: Edit, ids: &[Uuid]) -> u32 {
        let done = self.second.edit(&ann(), of(edit, ids), None).await;
        done.unwrap().changed
    }

    /// The first begins with this, and what it selects is held back.
    async fn begins(&self, verb: Verb) -> JoinHandle<Done> {
        let epoch = match &verb.which {
            Which::Through { .. } => Some(self.first.head(&ann()).await.unwrap().epoch),
            _ => None,
        };
        self.gate.hook.arm(Call::Select);
        let first = self.first.clone();
        let begun = tokio::spawn(async move { first.edit(&ann(), verb, epoch).await.unwrap() });
        self.gate.hook.reached().await;
        begun
    }

    /// What was held back goes on; how many rows it changed.
    async fn goes_on(&self, begun: JoinHandle<Done>) -> u32 {
        self.gate.hook.go.notify_one();
        timeout(PATIENCE, begun).await.unwrap().unwrap().changed
    }

    async fn rows(&self, view: View) -> (Vec<Row>, Head) {
        let limit = PageLimit {
            rows: 100,
            bytes: usize::MAX,
        };
        let query = RecentQuery {
            view,
            ..RecentQuery::new(limit)
        };
        let page = self.second.recent(&ann(), query).await.unwrap();
        let rows = page.rows.iter().map(|found| found.row);
        (rows.collect(), page.snapshot.head)
    }

    /// The revision, and what is unread, which is what is counted.
    async fn unread(&self) -> (u64, Vec<Uuid>) {
        let (rows, head) = self.rows(View::Inbox).await;
        let unread = rows.iter().filter(|row| row.state.is_unread());
        let ids: Vec<_> = unread.map(|row| row.id).collect();
        let unseen = rows.iter().filter(|row| row.is_unseen(head.seen_through));
        let counted = (head.unread_count as usize, head.unseen_count as usize);
        assert_eq!(counted, (ids.len(), unseen.count()), "{rows:?}");
        (head.revision.get(), ids)
    }

    fn sweeper(&self, kept: Duration) -> Sweeper {
        let retention = RetentionSettings {
            retention_removed: kept.into(),
            ..RetentionSettings::default()
        };
        Sweeper::new(
            self.gate.clone(),
            self.first.clone(),
            Arc::new(SystemClock),
            &SeededRandom::new(1),
            retention,
        )
    }
}

fn of(edit: Edit, ids: &[Uuid]) -> Verb {
    Verb {
        edit,
        which: Which::Ids(ids.to_vec()),
        view: View::All,
    }
}

fn through(edit: Edit, revision: u64) -> Verb {
    let view = match edit {
        Edit::Unarchive => View::Archived,
        _ => View::Inbox,
    };
    let which = Which::Through {
        revision: Revision::new(revision),
        types: vec![],
    };
    Verb { edit, which, view }
}

const REMOVE: Edit = Edit::Remove(RemovalCause::User);
const RETRACT: Edit = Edit::Remove(RemovalCause::Sender);

/// What arrives while all is archived, read or removed was not shown: it stays.
async fn all_that_was_shown_is_not_what_arrives(race: Race) {
    for edit in [Edit::Read, Edit::Archive, REMOVE] {
        let (before, _) = race.unread().await;
        let shown = race.send("shown").await;
        let begun = race.begins(through(edit, before + 1)).await;
        let arrived = race.send("arrives").await;
        assert_eq!(race.goes_on(begun).await, 1, "{edit:?}");
        assert_eq!(race.unread().await, (before + 3, vec![arrived]), "{edit:?}");
        race.does(REMOVE, &[shown, arrived]).await;
    }
}

/// Marked as unread since all was shown: it is meant to be.
async fn what_is_unread_again_is_not_of_all_that_was_shown(race: Race) {
    let (one, two) = (race.send("one").await, race.send("two").await);
    race.does(Edit::Read, &[one]).await;
    let begun = race.begins(through(Edit::Archive, 3)).await;
    assert_eq!(race.does(Edit::Unread, &[one]).await, 1);
    assert_eq!(race.goes_on(begun).await, 1, "the other");
    assert_eq!(race.unread().await, (5, vec![one]));
    let begun = race.begins(through(Edit::Read, 5)).await;
    assert_eq!(race.does(Edit::Unarchive, &[two]).await, 1);
    assert_eq!(race.does(Edit::Read, &[one]).await, 1);
    assert_eq!(race.goes_on(begun).await, 0, "it was read already");
    assert_eq!(race.unread().await, (7, vec![two]));
}

/// Each replaces what the other sent: one is left.
async fn two_senders_with_one_key_leave_one(race: Race) {
    let send = |inbox: Arc<Inboxes>, title: &'static str| async move {
        let content = Arc::new(Content::new("test", title));
        let new = NewNotification::new(ann(), inbox.new_id(), content, "backend".into());
        let new = NewNotification {
            collapse_key: Some("key".into()),
            ..new
        };
        inbox.send(new).await.unwrap().notification
    };
    race.send_with("first", |new| new.collapse_key = Some("key".into()))
        .await;
    for round in 0..5_u32 {
        let (first, second) = tokio::join!(
            send(race.first.clone(), "of one"),
            send(race.second.clone(), "of the other")
        );
        let mut sent = [first, second];
        sent.sort_by_key(|sent| sent.row.sequence);
        let counts = sent.each_ref().map(|sent| sent.collapsed_count);
        assert_eq!(counts, [2 * round + 1, 2 * round + 2]);
        let revision = u64::from(3 + 2 * round);
        assert_eq!(race.unread().await, (revision, vec![sent[1].row.id]));
    }
}

/// What was replaced or taken back while somebody read it is gone, and not read.
async fn what_goes_while_it_is_read_is_gone(race: Race) {
    let key = |new: &mut NewNotification| new.collapse_key = Some("key".into());
    let old = race.send_with("old", key).await;
    let begun = race.begins(of(Edit::Read, &[old])).await;
    let new = race.send_with("new", key).await;
    assert_eq!(race.goes_on(begun).await, 0);
    assert_eq!(race.unread().await, (2, vec![new]));
    let begun = race.begins(of(Edit::Read, &[new])).await;
    assert_eq!(race.does(RETRACT, &[new]).await, 1);
    assert_eq!(race.goes_on(begun).await, 0);
    assert_eq!(race.unread().await, (3, vec![]));
    // And what was read is taken back, though it lights no badge.
    let read = race.send("read").await;
    let begun = race.begins(of(RETRACT, &[read])).await;
    assert_eq!(race.does(Edit::Read, &[read]).await, 1);
    assert_eq!(race.goes_on(begun).await, 1);
    assert_eq!(race.rows(View::All).await.0, []);
}

/// What is removed does not come back from the archive.
async fn what_is_removed_is_not_brought_back(race: Race) {
    for by_ids in [true, false] {
        let id = race.send("away").await;
        race.does(Edit::Archive, &[id]).await;
        let (revision, _) = race.unread().await;
        let begun = race.begins(match by_ids {
            true => of(Edit::Unarchive, &[id]),
            false => through(Edit::Unarchive, revision),
        });
        let begun = begun.await;
        assert_eq!(race.does(REMOVE, &[id]).await, 1);
        assert_eq!(race.goes_on(begun).await, 0);
        assert_eq!(race.rows(View::All).await.0, []);
        assert_eq!(race.unread().await, (revision + 1, vec![]));
    }
}

/// What changed since it was found to be due is left, and found again.
async fn what_changes_when_it_is_due_expires_once(race: Race) {
    let now = SystemClock.now();
    let due = |new: &mut NewNotification| new.expire_time = Some(now);
    let (read, better) = (
        race.send_with("read", due).await,
        race.send_with("better", due).await,
    );
    let mut sweeper = race.sweeper(Duration::from_secs(3600));
    race.gate.hook.arm(Call::Due(Due::Expiry));
    let sweeping = tokio::spawn(async move {
        assert!(sweeper.look().await.unwrap());
        sweeper
    });
    race.gate.hook.reached().await;
    race.does(Edit::Read, &[read]).await;
    let correction = Correction {
        inbox: ann(),
        of: Named::Id(better),
        content: Arc::new(Content::new("", "better now")),
        fields: vec![Field::Title],
        ring: false,
    };
    assert!(race.second.update(correction).await.unwrap().changed);
    race.gate.hook.go.notify_one();
    let mut sweeper = timeout(PATIENCE, sweeping).await.unwrap().unwrap();
    assert_eq!(race.unread().await, (4, vec![better]), "nothing expired");
    assert!(sweeper.look().await.unwrap());
    assert_eq!(race.unread().await, (5, vec![]), "both, in one change");
    assert!(sweeper.look().await.unwrap());
    assert_eq!(race.unread().await, (5, vec![]), "once");
}

/// A stream that replays below what is purged meanwhile loads anew.
async fn a_replay_that_a_purge_overtakes_is_reset(race: Race) {
    race.send("kept").await;
    let removed = race.send("removed").await;
    race.does(REMOVE, &[removed]).await;
    let never = Timestamp::from_seconds(i64::MAX);
    let resume = Resume {
        after_revision: Some(Revision::ZERO),
        epoch: None,
    };
    let mut feed = race.first.subscribe(&ann(), resume, never).await.unwrap();
    feed.next().await.unwrap().unwrap();
    race.gate.hook.arm(Call::Changes);
    let replaying = tokio::spawn(async move {
        let mut told = Vec::new();
        while let Some(message) = feed.next().await {
            let message = message.unwrap();
            let is_end = matches!(message.event, Event::CaughtUp | Event::Reset { .. });
            told.push(message);
            if is_end {
                break;
            }
        }
        told
    });
    race.gate.hook.reached().await;
    assert!(race.sweeper(Duration::ZERO).look().await.unwrap());
    race.gate.hook.go.notify_one();
    let told = timeout(PATIENCE, replaying).await.unwrap().unwrap();
    let [kept, end] = &told[..] else {
        panic!("{told:?}");
    };
    assert!(matches!(kept.event, Event::Notification(_)), "{kept:?}");
    assert!(matches!(end.event, Event::Reset { .. }), "{end:?}");
}

/// What is sent while an inbox is erased is somebody's new word.
async fn an_erasure_takes_what_there_was(race: Race) {
    for title in ["one", "two"] {
        race.send(title).await;
    }
    let operators = Operators::new(race.gate.clone(), race.first.clone());
    race.gate.hook.arm(Call::Oldest);
    let erasing = tokio::spawn(async move { operators.erase_inbox(&ann()).await.unwrap() });
    race.gate.hook.reached().await;
    let new = race.send("new").await;
    race.gate.hook.go.notify_one();
    let (erased, head) = timeout(PATIENCE, erasing).await.unwrap().unwrap();
    assert_eq!((erased.rows, erased.more), (2, false));
    assert_eq!((head.revision.get(), head.unread_count), (4, 1));
    assert_eq!(race.unread().await, (4, vec![new]));
}

on_both!(
    Race:
    all_that_was_shown_is_not_what_arrives,
    what_is_unread_again_is_not_of_all_that_was_shown,
    two_senders_with_one_key_leave_one,
    what_goes_while_it_is_read_is_gone,
    what_is_removed_is_not_brought_back,
    what_changes_when_it_is_due_expires_once,
    a_replay_that_a_purge_overtakes_is_reset,
    an_erasure_takes_what_there_was,
);

/// A read whose COMMIT was lost goes on when Postgres is back, and by then its row was
/// removed on another node.
pub async fn a_doubtful_read_brings_nothing_back() -> Check {
    let url = engines::Postgres::shared().create_database().await;
    let proxy = Proxy::start(engines::Postgres::shared().address).await;
    let near = support::postgres(&url).await;
    let far = engines::url(proxy.address, engines::database_of(&url));
    let far = Arc::new(support::postgres(&far).await);
    let now = SystemClock.now();
    let edit = |edit| Mutation::Edit {
        inbox: ann(),
        ids: vec![Uuid::from_u128(1)],
        edit,
        view: View::All,
        through: None,
    };
    let content = Arc::new(Content::new("test", "removed"));
    let new = NewNotification::new(ann(), Uuid::from_u128(1), content, "backend".into());
    near.commit(&[Mutation::Send(new)], now).await.unwrap();
    proxy.break_commits(&[Break::Before]);
    let read = [edit(Edit::Read)];
    let reading = tokio::spawn(async move { far.commit(&read, now).await });
    while proxy.broken() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    proxy.cut().await;
    near.commit(&[edit(REMOVE)], now).await.unwrap();
    proxy.mend();
    timeout(PATIENCE, reading).await.unwrap().unwrap().unwrap();
    let limit = PageLimit {
        rows: 1,
        bytes: usize::MAX,
    };
    let query = RecentQuery {
        view: View::All,
        ..RecentQuery::new(limit)
    };
    let page = near.recent(&ann(), query).await.unwrap();
    ensure_gone(&page)
}

fn ensure_gone(page: &Recent) -> Check {
    let head = page.snapshot.head;
    match page.rows.first() {
        Some(row) => Err(format!("what was removed is back: {:?}", row.row)),
        None if head.unread_count > 0 => Err(format!("nothing is unread, and {head:?}")),
        None => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_not_brought_back_by_a_doubtful_commit() {
    a_doubtful_read_brings_nothing_back().await.unwrap();
}
