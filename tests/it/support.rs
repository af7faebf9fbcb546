//! What several subjects need.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    clock::{Clock, SystemClock, Timestamp},
    config::StoreSettings,
    model::{Content, Epoch, InboxEvent, InboxKey, Revision},
    random::{Random, SeededRandom},
    store::{
        Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Selected,
        Sharing, Snapshot, Store, TypeCounts, Verb, postgres::Postgres, sqlite::Sqlite,
    },
};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

/// The system's clock, off by as much as the test says, and jumping about.
#[derive(Debug, Default)]
pub struct WildClock(pub AtomicI64);

impl Clock for WildClock {
    fn now(&self) -> Timestamp {
        let off = self.0.load(Ordering::SeqCst);
        Timestamp::from_micros(SystemClock.now().as_micros() + off)
    }
}

/// Whose inbox most cases are about.
pub fn ann() -> InboxKey {
    InboxKey::parse("acme", "ann").unwrap()
}

/// The same user in another organization.
pub fn neighbour() -> InboxKey {
    InboxKey::parse("globex", "ann").unwrap()
}

pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub fn rev(number: u64) -> Revision {
    Revision::new(number)
}

pub fn content(title: &str) -> Content {
    Content::new("comment", title)
}

/// Writes a file and answers with its path.
pub fn write(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    // At once: who reads meanwhile sees the old or the new.
    let draft = directory.path().join("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, &path).unwrap();
    path.display().to_string()
}

/// A new SQLite store in a directory of its own.
pub async fn sqlite(directory: &TempDir) -> Sqlite {
    let url = format!(
        "sqlite://{}",
        directory.path().join("doorbell.db").display()
    );
    Sqlite::open(&url, 4, &SeededRandom::new(1))
        .await
        .expect("the store opens")
}

/// A store in a Postgres database, beside whoever works on it.
pub async fn postgres(url: &str) -> Postgres {
    let settings = StoreSettings {
        database_url: Some(url.into()),
        ..StoreSettings::default()
    };
    postgres_with(&settings).await
}

/// The store that `settings` name.
pub async fn postgres_with(settings: &StoreSettings) -> Postgres {
    Postgres::open(settings, Sharing::Beside, &SeededRandom::new(1))
        .await
        .expect("the store opens")
}

/// Stops one read of heads, before it or between the database and who asked.
#[derive(Default)]
pub struct Hold {
    pub is_armed: AtomicBool,
    pub is_before: AtomicBool,
    pub reached: Notify,
    pub go: Notify,
}

impl Hold {
    async fn wait(&self) {
        if self.is_armed.swap(false, Ordering::SeqCst) {
            self.reached.notify_one();
            self.go.notified().await;
        }
    }
}

/// A store that takes its time before and after each call, as chance has it: the
/// windows in which things can happen between two steps become wide.
pub struct SlowStore {
    pub inner: Arc<dyn Store>,
    pub random: SeededRandom,
    pub most: Duration,
    pub hold: Arc<Hold>,
    pub events: Arc<Events>,
}

/// What was committed, by inbox, as the commit says it.
#[derive(Default)]
pub struct Events(Mutex<HashMap<InboxKey, Vec<InboxEvent>>>);

impl Events {
    pub fn of(&self, inbox: &InboxKey) -> Vec<InboxEvent> {
        let events = self.0.lock().unwrap();
        events.get(inbox).cloned().unwrap_or_default()
    }

    fn note(&self, committed: &Committed) {
        let mut events = self.0.lock().unwrap();
        for (inbox, run) in &committed.runs {
            let of_inbox = events.entry(inbox.clone()).or_default();
            of_inbox.extend(run.iter().cloned());
        }
    }
}

impl SlowStore {
    async fn pause(&self) {
        let random: &dyn Random = &self.random;
        let mut coin = [0];
        random.fill(&mut coin);
        if coin[0] % 2 == 0 {
            tokio::time::sleep(random.up_to(self.most)).await;
        }
    }

    async fn slowly<T>(&self, call: impl Future<Output = T>) -> T {
        self.pause().await;
        let answer = call.await;
        self.pause().await;
        answer
    }
}

#[async_trait]
impl Store for SlowStore {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        let commit = async {
            let committed = self.inner.commit(batch, now).await?;
            self.events.note(&committed);
            Ok(committed)
        };
        self.slowly(commit).await
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        let hold = &self.hold;
        let is_before = hold.is_before.load(Ordering::SeqCst);
        if is_before {
            hold.wait().await;
        }
        let heads = self.slowly(self.inner.heads(inboxes)).await;
        if !is_before {
            hold.wait().await;
        }
        heads
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        self.slowly(self.inner.changes(inbox, cursor, limit)).await
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.slowly(self.inner.count_changes(inbox, position, at_most))
            .await
    }

    async fn recent(&self, inbox: &InboxKey, query: RecentQuery) -> Result<Recent, Error> {
        self.slowly(self.inner.recent(inbox, query)).await
    }

    async fn count_types(&self, inbox: &InboxKey, types: &[String]) -> Result<TypeCounts, Error> {
        self.slowly(self.inner.count_types(inbox, types)).await
    }

    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error> {
        self.slowly(self.inner.select(inbox, verb, after)).await
    }

    fn lanes(&self) -> usize {
        self.inner.lanes()
    }

    async fn database_id(&self) -> Result<Uuid, Error> {
        self.inner.database_id().await
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        self.inner.renew_epoch(epoch).await
    }

    async fn check(&self, by_writing: bool) -> Result<(), Error> {
        self.inner.check(by_writing).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
