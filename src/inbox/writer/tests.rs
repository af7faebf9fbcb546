//! The writer on a store in memory, which does what a test says.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::{
    clock::{SystemClock, Timestamp},
    config::FeedSettings,
    model::{Change, Content, Epoch, Head, InboxEvent, NewNotification, Notification, Revision},
    store::{Changes, Cursor, PageLimit, Recent, RecentQuery, Snapshot},
};

/// Says whether a batch fails.
type Fault = Box<dyn Fn(&[Mutation]) -> Option<store::Error> + Send + Sync>;

/// Keeps the revisions of inboxes, and remembers how it was called.
struct Memory {
    /// The batches that it was asked to commit, by the ids of what they send.
    batches: Mutex<Vec<Vec<u128>>>,
    revisions: Mutex<HashMap<InboxKey, Revision>>,
    fault: Fault,
    /// One is needed for each batch.
    permits: Semaphore,
}

impl Memory {
    fn new(permits: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            batches: Mutex::default(),
            revisions: Mutex::default(),
            fault,
            permits: Semaphore::new(permits),
        })
    }

    fn batches(&self) -> Vec<Vec<u128>> {
        self.batches.lock().unwrap().clone()
    }
}

fn id_of(mutation: &Mutation) -> u128 {
    match mutation {
        Mutation::Send(new) => new.id.as_u128(),
        Mutation::MarkRead {
            notification_ids, ..
        } => notification_ids[0].as_u128(),
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, store::Error> {
        let ids = batch.iter().map(id_of).collect();
        self.batches.lock().unwrap().push(ids);
        self.permits.acquire().await.unwrap().forget();
        if let Some(error) = (self.fault)(batch) {
            return Err(error);
        }
        let mut committed = Committed::default();
        for mutation in batch {
            let inbox = mutation.inbox();
            let mut revisions = self.revisions.lock().unwrap();
            let revision = revisions.entry(inbox.clone()).or_default();
            *revision = revision.next();
            let head = Head {
                revision: *revision,
                last_created_at: now,
                ..Head::default()
            };
            let (outcome, change) = match mutation {
                Mutation::Send(new) => {
                    let notification = Notification {
                        id: new.id,
                        sequence: *revision,
                        revision: *revision,
                        content: new.content.clone(),
                        sender: new.sender.clone(),
                        created_at: now,
                        read_at: None,
                        archived_at: None,
                    };
                    let sent = Outcome::Sent {
                        notification: notification.clone(),
                        duplicate: false,
                        head,
                    };
                    (sent, Change::Created(notification))
                }
                Mutation::MarkRead {
                    notification_ids, ..
                } => {
                    let marked = Outcome::MarkedRead {
                        marked_count: u32::try_from(notification_ids.len()).unwrap(),
                        head,
                    };
                    let change = Change::MarkedRead {
                        notification_ids: notification_ids.clone(),
                        read_at: now,
                    };
                    (marked, change)
                }
            };
            committed.outcomes.push(outcome);
            let event = InboxEvent::new(*revision, 0, change);
            committed.runs.push((inbox.clone(), vec![event]));
        }
        Ok(committed)
    }

    async fn heads(&self, _: &[InboxKey]) -> Result<Vec<Snapshot>, store::Error> {
        Ok(Vec::new())
    }

    async fn changes(
        &self,
        _: &InboxKey,
        _: Cursor,
        _: PageLimit,
    ) -> Result<Changes, store::Error> {
        Err(unavailable())
    }

    async fn count_changes(
        &self,
        _: &InboxKey,
        _: Revision,
        _: usize,
    ) -> Result<usize, store::Error> {
        Ok(0)
    }

    async fn recent(&self, _: &InboxKey, _: RecentQuery) -> Result<Recent, store::Error> {
        Err(unavailable())
    }

    async fn renew_epoch(&self, _: &Epoch) -> Result<(), store::Error> {
        Ok(())
    }

    async fn check(&self) -> Result<(), store::Error> {
        Ok(())
    }

    async fn close(&self) {}
}

fn unavailable() -> store::Error {
    store::Error::Unavailable("away".into())
}

fn inconsistent() -> store::Error {
    store::Error::Inconsistent {
        table: "notifications",
        column: "fingerprint",
        row: "1".into(),
        problem: "must not be NULL".into(),
    }
}

fn inbox(user: &str) -> InboxKey {
    InboxKey::parse("acme", user).unwrap()
}

fn send(user: &str, id: u128) -> Mutation {
    Mutation::Send(NewNotification {
        inbox: inbox(user),
        id: Uuid::from_u128(id),
        content: Arc::new(Content {
            kind: "test".into(),
            title: "0123456".into(),
            body: None,
            entity_type: None,
            entity_id: None,
            action_url: None,
            data: None,
        }),
        idempotency_key: None,
        sender: "backend".into(),
    })
}

fn start(store: &Arc<Memory>, settings: &WriterSettings) -> Arc<Writer> {
    let store: Arc<dyn Store> = store.clone();
    let bus = Arc::new(Bus::local(&FeedSettings::default()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Arc::new(Writer::start(&store, &bus, &clock, settings))
}

type Writing = JoinHandle<Result<Outcome, Error>>;

/// Begins to write, all at once and in this order.
async fn write(writer: &Arc<Writer>, mutations: Vec<Mutation>) -> Vec<Writing> {
    let mut writing = Vec::new();
    for mutation in mutations {
        let writer = writer.clone();
        writing.push(tokio::spawn(async move { writer.write(mutation).await }));
    }
    // The tasks of one thread run in the order in which they were made.
    tokio::task::yield_now().await;
    writing
}

async fn answers(writing: Vec<Writing>) -> Vec<Result<Outcome, Error>> {
    let mut answers = Vec::new();
    for writing in writing {
        answers.push(writing.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_member_at_fault_is_found_by_halving_and_fails_alone() {
    let fault = |batch: &[Mutation]| batch.iter().any(|m| id_of(m) == 6).then(inconsistent);
    let store = Memory::new(0, Box::new(fault));
    let writer = start(&store, &WriterSettings::default());
    let mut writing = write(&writer, vec![send("first", 100)]).await;
    writing.extend(write(&writer, (0..8).map(|id| send("ann", id)).collect()).await);
    store.permits.add_permits(1000);
    let answers = answers(writing).await;
    for (number, answer) in answers.iter().skip(1).enumerate() {
        match answer {
            Ok(Outcome::Sent { .. }) => assert_ne!(number, 6),
            Err(Error::Store(error)) => {
                assert_eq!((number, error.name()), (6, "corrupt"));
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    let ids = |ids: std::ops::Range<u128>| ids.collect::<Vec<_>>();
    assert_eq!(
        store.batches(),
        [
            vec![100],
            ids(0..8),
            ids(0..4),
            ids(4..8),
            ids(4..6),
            ids(6..8),
            vec![6],
            vec![7]
        ]
    );
}

#[tokio::test]
async fn what_is_nobodys_fault_fails_the_batch_as_a_whole() {
    let store = Memory::new(0, Box::new(|_| Some(unavailable())));
    let writer = start(&store, &WriterSettings::default());
    let mut writing = write(&writer, vec![send("first", 100)]).await;
    writing.extend(write(&writer, (0..4).map(|id| send("ann", id)).collect()).await);
    store.permits.add_permits(1000);
    for answer in answers(writing).await {
        assert!(matches!(answer, Err(Error::Store(_))), "{answer:?}");
    }
    assert_eq!(store.batches(), [vec![100], vec![0, 1, 2, 3]]);
}
