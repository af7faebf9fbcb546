//! A store in memory that keeps of each inbox how far it is, and no rows: what is above it
//! is measured. It makes up the rows that somebody reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    model::{
        Change, Content, Epoch, Head, InboxEvent, InboxKey, Notification, OrganizationId, Revision,
        Row, RowState, Run,
    },
    store::{
        Changes, Committed, Cursor, Error, Mutation, Outcome, PageLimit, Recent, RecentQuery,
        Selected, Sent, Snapshot, Store, Tally, TypeCounts, Untaken, Verb,
    },
};
use uuid::Uuid;

use super::Failure;

/// As many as share a million people.
pub const ORGANIZATIONS: usize = 1000;
const EPOCH: &str = "6f1ed002ab5595859014ebf0951522d9";

/// The inbox of this number: its person's id is as long as a UUID.
pub fn inbox(number: usize) -> Result<InboxKey, Failure> {
    let organization = format!("organization-{:04}", number % ORGANIZATIONS);
    let user = Uuid::from_u128(number as u128).to_string();
    Ok(InboxKey::parse(&organization, &user)?)
}

fn number(inbox: &InboxKey) -> Option<usize> {
    let id = Uuid::parse_str(inbox.user_id.as_str()).ok()?;
    usize::try_from(id.as_u128()).ok()
}

#[derive(Default)]
struct Inbox {
    revision: AtomicU64,
    /// When it was committed, in nanoseconds since `Memory::began`.
    committed: AtomicU64,
}

impl Inbox {
    fn head(&self) -> Head {
        let revision = self.revision.load(Ordering::Acquire);
        head(revision)
    }
}

/// All is unread.
fn head(revision: u64) -> Head {
    let unread = u32::try_from(revision).unwrap_or(u32::MAX);
    Head {
        revision: Revision::new(revision),
        unread_count: unread,
        unseen_count: unread,
        ..Head::default()
    }
}

/// The store.
pub struct Memory {
    began: Instant,
    content: Arc<Content>,
    sender: Arc<str>,
    inboxes: Vec<Inbox>,
    /// How many heads were read.
    pub heads: AtomicUsize,
}

impl Memory {
    /// So many inboxes, by their numbers.
    pub fn new(inboxes: usize, content: Arc<Content>) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            content,
            sender: "backend".into(),
            inboxes: (0..inboxes).map(|_| Inbox::default()).collect(),
            heads: AtomicUsize::new(0),
        })
    }

    /// How far an inbox is.
    pub fn revision(&self, number: usize) -> Revision {
        self.inboxes[number].head().revision
    }

    /// How long ago the last change of an inbox was committed, in microseconds.
    pub fn since_commit(&self, number: usize) -> f64 {
        let committed = self.inboxes[number].committed.load(Ordering::Acquire);
        self.now().saturating_sub(committed) as f64 / 1e3
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn of(&self, inbox: &InboxKey) -> Result<&Inbox, Error> {
        let found = number(inbox).and_then(|number| self.inboxes.get(number));
        found.ok_or_else(|| Error::Refused("there is no such inbox".into()))
    }

    fn row(&self, id: Uuid, revision: u64, now: Timestamp) -> Notification {
        let revision = Revision::new(revision);
        Notification {
            row: Row {
                id,
                sequence: revision,
                revision,
                ring_revision: revision,
                state: RowState::default(),
            },
            content: self.content.clone(),
            sender: self.sender.clone(),
            created_at: now,
            sent_at: now,
            expire_time: None,
            collapse_key: None,
            collapsed_count: 0,
        }
    }

    fn snapshot(head: Head) -> Snapshot {
        Snapshot {
            // A text of its own each time, as a database gives it.
            epoch: Epoch::new(EPOCH),
            head,
            floor: Revision::ZERO,
            taken_through: 0,
            announced: 0,
        }
    }
}

fn not_here<T>() -> Result<T, Error> {
    Err(Error::Unavailable("this store has no such rows".into()))
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        let mut committed = Committed::default();
        let mut runs: Vec<(InboxKey, Run)> = Vec::with_capacity(batch.len());
        for mutation in batch {
            let Mutation::Send(new) = mutation else {
                return not_here();
            };
            let revision = self.of(&new.inbox)?.revision.fetch_add(1, Ordering::AcqRel) + 1;
            let (head, row) = (head(revision), self.row(new.id, revision, now));
            committed.outcomes.push(Outcome::Sent(Ok(Sent {
                notification: row.clone(),
                duplicate: false,
                head,
            })));
            let event = InboxEvent {
                head,
                change: Change::Notification(row),
            };
            match runs.last_mut() {
                Some((last, run)) if *last == new.inbox => run.push(event),
                _ => runs.push((new.inbox.clone(), vec![event])),
            }
        }
        let now = self.now();
        for (inbox, _) in &runs {
            self.of(inbox)?.committed.store(now, Ordering::Release);
        }
        committed.runs = runs;
        Ok(committed)
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        self.heads.fetch_add(inboxes.len(), Ordering::Relaxed);
        let inboxes = inboxes.iter();
        inboxes
            .map(|inbox| Ok(Self::snapshot(self.of(inbox)?.head())))
            .collect()
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        let head = self.of(inbox)?.head();
        let mut revisions = cursor.revision.get() + 1..=head.revision.get();
        let row = |revision| {
            let id = Uuid::from_u128(u128::from(revision));
            self.row(id, revision, SystemClock.now())
        };
        let rows = revisions.by_ref().take(limit.rows).map(row).collect();
        Ok(Changes {
            snapshot: Self::snapshot(head),
            rows,
            next: revisions.next().map(Revision::new),
        })
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        let revision = self.of(inbox)?.head().revision.get();
        let changes = revision.saturating_sub(position.get());
        Ok(usize::try_from(changes).unwrap_or(at_most).min(at_most))
    }

    async fn recent(&self, _: &InboxKey, _: RecentQuery) -> Result<Recent, Error> {
        not_here()
    }

    async fn count_types(&self, _: &InboxKey, _: &[String]) -> Result<TypeCounts, Error> {
        not_here()
    }

    async fn select(&self, _: &InboxKey, _: &Verb, _: Revision) -> Result<Selected, Error> {
        not_here()
    }

    async fn untaken(&self, _: &OrganizationId, _: u64, _: u64) -> Result<Untaken, Error> {
        Ok(Untaken::default())
    }

    async fn announced(&self, _: Option<u64>) -> Result<(Vec<OrganizationId>, u64), Error> {
        Ok((Vec::new(), 0))
    }

    async fn note_taken(&self, _: &OrganizationId, _: Uuid, _: Tally) -> Result<(), Error> {
        Ok(())
    }

    async fn database_id(&self) -> Result<Uuid, Error> {
        Ok(Uuid::nil())
    }

    async fn renew_epoch(&self, _: &Epoch) -> Result<(), Error> {
        not_here()
    }

    async fn check(&self, _: bool) -> Result<(), Error> {
        Ok(())
    }

    async fn close(&self) {}
}
