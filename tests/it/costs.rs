//! What streams may ask of the store, counted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    bus::Bus,
    clock::{SystemClock, Timestamp},
    config::{FeedSettings, WriterSettings},
    inbox::{
        Inboxes,
        feed::{Event, Feed, Resume},
    },
    model::{Content, NewNotification, Revision},
    random::SeededRandom,
    store::{Committed, Mutation, sqlite::Sqlite},
};
use tokio::sync::Semaphore;

use crate::{
    hooked::{Call, Hook, Hooked},
    support::{self, ann},
};

/// Counts reads, and lets pages of changes through when it is told.
struct Counts {
    heads: AtomicUsize,
    pages: AtomicUsize,
    /// The writes and the bytes of content of each batch.
    batches: Mutex<Vec<(usize, usize)>>,
    gate: Semaphore,
}

#[async_trait]
impl Hook for Counts {
    async fn before(&self, call: Call) {
        match call {
            Call::Heads => {
                self.heads.fetch_add(1, Ordering::SeqCst);
            }
            Call::Changes | Call::CountChanges | Call::Recent => {
                self.pages.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        if call == Call::Changes {
            drop(self.gate.acquire().await.unwrap());
        }
    }

    fn committed(&self, batch: &[Mutation], _: &Committed) {
        let bytes = batch.iter().map(|mutation| match mutation {
            Mutation::Send(new) => new.content.len_bytes(),
            _ => 0,
        });
        let counted = (batch.len(), bytes.sum());
        self.batches.lock().unwrap().push(counted);
    }
}

struct Harness {
    inbox: Arc<Inboxes>,
    store: Arc<Hooked<Sqlite, Counts>>,
    _directory: tempfile::TempDir,
}

impl Harness {
    async fn new() -> Self {
        Self::with(&WriterSettings::default()).await
    }

    async fn with(writer: &WriterSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let counts = Counts {
            heads: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            batches: Mutex::default(),
            gate: Semaphore::new(0),
        };
        let store = Hooked::new(Arc::new(support::sqlite(&directory).await), counts);
        let settings = FeedSettings {
            heartbeat_interval: Duration::from_secs(3600).into(),
            max_streams_per_user: 1000,
            room_capacity: 4,
            ..FeedSettings::default()
        };
        let inbox = Inboxes::new(
            store.clone(),
            Bus::local(&settings),
            Arc::new(SystemClock),
            Arc::new(SeededRandom::new(1)),
            settings,
            writer,
        );
        Self {
            inbox,
            store,
            _directory: directory,
        }
    }

    async fn send(&self) {
        let content = Content::new("test", "a title");
        let new = NewNotification::new(
            ann(),
            self.inbox.new_id(),
            Arc::new(content),
            "backend".into(),
        );
        self.inbox.send(new).await.unwrap();
    }

    async fn subscribe(&self, after: u64) -> Feed {
        let resume = Resume {
            after_revision: Some(Revision::new(after)),
            epoch: None,
        };
        let never = Timestamp::from_seconds(i64::MAX);
        self.inbox.subscribe(&ann(), resume, never).await.unwrap()
    }
}

async fn next(feed: &mut Feed) -> (u64, Event) {
    let message = feed.next().await.unwrap().unwrap();
    (message.position.get(), message.event)
}

#[tokio::test]
async fn a_stream_that_comes_back_at_the_head_reads_the_head_and_nothing_else() {
    let harness = Harness::new().await;
    harness.send().await;
    for number in 1..=50 {
        let mut feed = harness.subscribe(1).await;
        assert!(matches!(
            next(&mut feed).await,
            (1, Event::Connected { .. })
        ));
        assert!(matches!(next(&mut feed).await, (1, Event::CaughtUp)));
        assert_eq!(harness.store.hook.heads.load(Ordering::SeqCst), number);
    }
    assert_eq!(harness.store.hook.pages.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_live_event_reads_nothing() {
    let harness = Harness::new().await;
    let mut feed = harness.subscribe(0).await;
    next(&mut feed).await;
    next(&mut feed).await;
    for position in 1..=20 {
        harness.send().await;
        assert!(matches!(next(&mut feed).await, (at, Event::Live(_)) if at == position));
    }
    assert_eq!(harness.store.hook.heads.load(Ordering::SeqCst), 1);
    assert_eq!(harness.store.hook.pages.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn streams_that_lag_together_share_a_read() {
    const STREAMS: usize = 100;
    let harness = Harness::new().await;
    let mut feeds = Vec::new();
    for _ in 0..STREAMS {
        let mut feed = harness.subscribe(0).await;
        next(&mut feed).await;
        next(&mut feed).await;
        feeds.push(feed);
    }
    // More commits than a room holds, and nobody reads.
    for _ in 0..10 {
        harness.send().await;
    }
    let healing: Vec<_> = feeds
        .into_iter()
        .map(|mut feed| {
            tokio::spawn(async move {
                let mut positions = Vec::new();
                loop {
                    let (position, event) = next(&mut feed).await;
                    positions.push(position);
                    if matches!(event, Event::CaughtUp) {
                        return positions;
                    }
                }
            })
        })
        .collect();
    // The runtime has one thread and runs its tasks in the order they are spawned:
    // after the first of these every stream has begun a read, which is a task of
    // its own, and after the second every read waits for the store.
    for _ in 0..2 {
        tokio::spawn(async {}).await.unwrap();
    }
    harness.store.hook.gate.add_permits(STREAMS);
    for healed in healing {
        let positions = healed.await.unwrap();
        assert_eq!(positions, (1..=10).chain([10]).collect::<Vec<u64>>());
    }
    assert_eq!(harness.store.hook.pages.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_batch_is_bounded_in_rows_and_in_bytes() {
    const SENDS: usize = 60;
    // A content of this test has 11 bytes.
    for (write_batch, write_batch_bytes, most) in [(7, 1 << 20, 7), (256, 100, 10), (256, 1, 1)] {
        let writer = WriterSettings {
            write_batch,
            write_batch_bytes,
            ..WriterSettings::default()
        };
        let harness = Arc::new(Harness::with(&writer).await);
        let sends: Vec<_> = (0..SENDS)
            .map(|_| {
                let harness = harness.clone();
                tokio::spawn(async move { harness.send().await })
            })
            .collect();
        for send in sends {
            send.await.unwrap();
        }
        let batches = harness.store.hook.batches.lock().unwrap().clone();
        assert_eq!(
            batches.iter().map(|(writes, _)| writes).sum::<usize>(),
            SENDS
        );
        // They wait together, so one batch at least is as large as may be.
        assert_eq!(
            batches.iter().map(|(writes, _)| *writes).max(),
            Some(most),
            "{batches:?}"
        );
    }
}
