//! The use cases: send, mark as read, count, list, follow.
//!
//! Writes go through the [`writer`]'s queue into the store and from there to the
//! streams; reads go to the store; a [`feed`] is both, in order.

pub mod feed;
mod head_reader;
mod readers;
mod room_check;
mod shared_read;
mod taking;
mod verbs;
pub mod writer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    bus::Bus,
    clock::Clock,
    config::{FeedSettings, WriterSettings},
    hub,
    model::{InboxKey, NewNotification, Notification},
    random::Random,
    sabotage::{self, Sabotage},
    store::{
        self, Edited, Mutation, NotSent, PageLimit, Recent, RecentQuery, Sent, Snapshot, Store,
        TypeCounts,
    },
};
use feed::{Feed, Resume};
use head_reader::HeadReader;
use readers::Readers;
use shared_read::SharedReads;
use taking::Taking;
pub use verbs::Done;
use writer::Writer;

/// Of one call to many, so many sends wait at a time: enough for full batches on each
/// lane, and a small part of their queues.
const SENT_AT_ONCE: usize = 512;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many writes wait as may; nothing was changed.
    #[error("too many writes are waiting; try again in a moment")]
    QueueFull,
    /// As many edits of this inbox wait as may; nothing was changed.
    #[error("too many calls of this inbox wait to change notifications; try again in a moment")]
    TooManyEdits,
    /// The server is stopping; nothing was changed.
    #[error("the server is stopping")]
    Closed,
    /// No notification was made; nothing was changed.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// The notification was not corrected; nothing was changed.
    #[error(transparent)]
    NotUpdated(#[from] store::NotUpdated),
    /// The revision is of another epoch, or above the head; nothing was changed.
    #[error("the position is of another epoch, or above the head")]
    PositionInvalid,
    /// The room could not be joined.
    #[error(transparent)]
    Join(#[from] hub::JoinError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Arc<store::Error>),
}

impl Error {
    /// Whether the store refuses this one, whenever it is tried.
    pub fn is_refused(&self) -> bool {
        let Self::Store(error) = self else {
            return false;
        };
        error.may_be_of_a_member() && !matches!(**error, store::Error::Held(_))
    }

    /// Whether the store takes nothing at the moment, this or another.
    pub fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(error) if !error.may_be_of_a_member())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// All inboxes of the service.
pub struct Inboxes {
    store: Arc<dyn Store>,
    bus: Arc<Bus>,
    writer: Writer,
    heads: HeadReader,
    heals: SharedReads,
    readers: Readers,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    feeds: FeedSettings,
    drain_delay: OnceLock<Duration>,
    taking: Taking,
    _room_check: AbortOnDropHandle<()>,
}

impl Inboxes {
    /// Starts the writer, the room check and the look for what is broadcast on the present
    /// tokio runtime.
    pub fn new(
        store: Arc<dyn Store>,
        bus: Bus,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        feeds: FeedSettings,
        writer: &WriterSettings,
    ) -> Arc<Self> {
        let bus = Arc::new(bus);
        let writer = Writer::start(&store, &bus, &clock, writer);
        let heads = HeadReader::start(store.clone());
        let readers = Readers::default();
        let heals = SharedReads::new(store.clone(), readers.clone());
        let check = room_check::run(store.clone(), bus.hub().clone());
        let inboxes = Arc::new(Self {
            store,
            bus,
            writer,
            heads,
            heals,
            readers,
            clock,
            random,
            feeds,
            drain_delay: OnceLock::new(),
            taking: Taking::default(),
            _room_check: AbortOnDropHandle::new(tokio::spawn(check)),
        });
        tokio::spawn(taking::run(Arc::downgrade(&inboxes)));
        inboxes
    }

    /// An id for a notification that is to be sent.
    pub fn new_id(&self) -> Uuid {
        self.random.uuid_v7(self.clock.now())
    }

    /// Puts a notification into its inbox and rings its streams; answers after the
    /// commit.
    ///
    /// Cancel safe: what is queued is committed even if the caller goes away.
    pub async fn send(&self, new: NewNotification) -> Result<Sent, Error> {
        self.writer.send(new).await
    }

    /// Sends one of many, see [`Writer::send_in_bulk`]; what became of each, in their
    /// order. Some hundred of them wait at a time.
    ///
    /// Cancel safe: what is queued is committed, the rest is not sent.
    pub async fn send_to_many(&self, new: Vec<NewNotification>) -> Vec<Result<Sent, Error>> {
        stream::iter(new)
            .map(|new| self.writer.send_in_bulk(new))
            .buffered(SENT_AT_ONCE)
            .collect()
            .await
    }

    /// As [`send_to_many`](Self::send_to_many), where no caller waits: none is refused for
    /// want of room, see [`Writer::send_in_bulk_patiently`].
    ///
    /// Cancel safe: what is queued is committed, the rest is not sent.
    pub async fn send_to_many_patiently(
        &self,
        new: Vec<NewNotification>,
    ) -> Vec<Result<Sent, Error>> {
        stream::iter(new)
            .map(|new| self.writer.send_in_bulk_patiently(new))
            .buffered(SENT_AT_ONCE)
            .collect()
            .await
    }

    /// Changes what is there where it is one of many, see [`Writer::edit_in_bulk`].
    /// Cancel safe.
    pub async fn edit_in_bulk(&self, mutation: Mutation) -> Result<Edited, Error> {
        self.writer.edit_in_bulk(mutation).await
    }

    /// Reads the head of an inbox, as it is.
    pub async fn head(&self, inbox: &InboxKey) -> Result<Snapshot, Error> {
        Ok(self.heads.read(inbox).await?)
    }

    /// The most bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.feeds.page_bytes
    }

    /// Lists an inbox as it is, newest first. `query.limit.bytes` is lowered to the
    /// setting's. Cancel safe.
    pub async fn recent(&self, inbox: &InboxKey, mut query: RecentQuery) -> Result<Recent, Error> {
        query.limit.bytes = query.limit.bytes.min(self.feeds.page_bytes);
        let store = self.store.clone();
        let expire_at = sabotage::is(Sabotage::ExpireAtRead).then(|| self.clock.now());
        let read = |inbox| async move {
            let mut page = store.recent(&inbox, query).await?;
            if let Some(now) = expire_at {
                let is_over = |row: &Notification| row.expire_time.is_some_and(|at| at <= now);
                page.rows.retain(|row| !is_over(row));
            }
            Ok(page)
        };
        self.read(inbox, read).await
    }

    /// Counts the unread notifications of each of these types, as they are. Cancel safe.
    pub async fn count_types(
        &self,
        inbox: &InboxKey,
        types: Vec<String>,
    ) -> Result<TypeCounts, Error> {
        let store = self.store.clone();
        let count = |inbox| async move { store.count_types(&inbox, &types).await };
        self.read(inbox, count).await
    }

    /// Reads as one of its person's few, and to the end when its caller goes away: what
    /// ends in the midst of a statement takes its connection along.
    async fn read<T: Send + 'static, F>(
        &self,
        inbox: &InboxKey,
        read: impl FnOnce(InboxKey) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, store::Error>> + Send + 'static,
    {
        let place = self.readers.place(inbox).await;
        let read = read(inbox.clone());
        let read = tokio::spawn(async move {
            let answer = read.await;
            drop(place);
            answer
        });
        let failed = |error: JoinError| store::Error::Unavailable(error.into());
        Ok(read.await.map_err(failed)??)
    }

    /// Follows an inbox until `expires_at`. Cancel safe.
    pub async fn subscribe(
        self: &Arc<Self>,
        inbox: &InboxKey,
        resume: Resume,
        expires_at: crate::clock::Timestamp,
    ) -> Result<Feed, Error> {
        Feed::open(self.clone(), inbox, resume, expires_at).await
    }

    /// Whether it can write and read at the moment.
    pub async fn check(&self) -> Result<(), Error> {
        if self.writer.is_closed() {
            return Err(Error::Closed);
        }
        let is_failing = self.writer.is_failing();
        self.store.check(is_failing).await?;
        if is_failing {
            self.writer.recovered();
        }
        Ok(())
    }

    /// Tells all feeds to send their clients elsewhere, and refuses new ones for
    /// `delay`; then nobody comes here any more. Writes and reads go on.
    pub fn drain(&self, delay: Duration) {
        // Once: who is told twice keeps to the first.
        let _ = self.drain_delay.set(delay);
        self.bus.hub().close();
    }

    /// Whether it was told to [`drain`](Self::drain).
    pub fn is_draining(&self) -> bool {
        self.bus.hub().is_closed()
    }

    /// What is wrong with the way to other nodes, though this one serves; for
    /// who watches it.
    pub fn trouble(&self) -> Option<&'static str> {
        self.bus.trouble()
    }

    /// How many inboxes have a stream on this node.
    pub fn room_count(&self) -> usize {
        self.bus.hub().room_count()
    }

    /// Commits and answers what is queued, refuses what comes later, tells the
    /// other nodes, and closes the store.
    pub async fn close(&self) {
        self.writer.close().await;
        self.bus.close().await;
        self.note_taken().await;
        self.store.close().await;
    }

    fn page_limit(&self) -> PageLimit {
        PageLimit {
            rows: self.feeds.replay_page.max(1),
            bytes: self.feeds.page_bytes,
        }
    }
}
