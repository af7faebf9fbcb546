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
    model::{Content, InboxEvent, InboxKey, Revision},
    random::{Random, SeededRandom},
    store::{Committed, Mutation, Sharing, postgres::Postgres, sqlite::Sqlite},
};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::hooked::{Call, Hook};

/// The system's clock, off by as much as the test says, and jumping about.
#[derive(Debug, Default)]
pub struct WildClock(pub AtomicI64);

impl WildClock {
    pub fn behind(by: Duration) -> Self {
        Self(AtomicI64::new(-i64::try_from(by.as_micros()).unwrap()))
    }
}

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

/// Takes its time before and after each call, as chance has it: the windows in which
/// things can happen between two steps become wide.
pub struct Slow {
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

impl Slow {
    async fn pause(&self) {
        let random: &dyn Random = &self.random;
        let mut coin = [0];
        random.fill(&mut coin);
        if coin[0] % 2 == 0 {
            tokio::time::sleep(random.up_to(self.most)).await;
        }
    }

    fn holds(&self, call: Call, is_before: bool) -> bool {
        call == Call::Heads && self.hold.is_before.load(Ordering::SeqCst) == is_before
    }
}

#[async_trait]
impl Hook for Slow {
    async fn before(&self, call: Call) {
        if self.holds(call, true) {
            self.hold.wait().await;
        }
        self.pause().await;
    }

    async fn after(&self, call: Call) {
        self.pause().await;
        if self.holds(call, false) {
            self.hold.wait().await;
        }
    }

    fn committed(&self, _: &[Mutation], committed: &Committed) {
        self.events.note(committed);
    }
}

/// Each case, on what it takes, on either engine.
macro_rules! on_both {
    ($on:ident: $($case:ident),+ $(,)?) => {
        crate::support::on_both!(sqlite, $on::on_sqlite, [$($case),+]);
        crate::support::on_both!(postgres, $on::on_postgres, [$($case),+]);
    };
    ($engine:ident, $on:ident::$new:ident, [$($case:ident),+]) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::$on::$new().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_both;
