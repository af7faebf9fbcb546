//! The use cases: send, mark as read, count, list, follow.
//!
//! Writes go through the [`writer`]'s queue into the store and from there to the
//! streams; reads go to the store; a [`feed`] is both, in order.

pub mod feed;
mod head_reader;
mod readers;
mod room_check;
mod shared_read;
pub mod writer;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::{
    bus::Bus,
    clock::Clock,
    config::{FeedSettings, WriterSettings},
    hub,
    model::{InboxKey, NewNotification},
    random::Random,
    store::{self, Mutation, Outcome, PageLimit, Recent, RecentQuery, Snapshot, Store},
};
use feed::{Feed, Resume};
use head_reader::HeadReader;
use readers::Readers;
use shared_read::SharedReads;
use writer::Writer;

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// As many writes wait as may; nothing was changed.
    #[error("too many writes are waiting; try again in a moment")]
    QueueFull,
    /// As many marks of this inbox wait as may; nothing was changed.
    #[error("too many calls of this inbox wait to mark notifications; try again in a moment")]
    TooManyMarks,
    /// The server is stopping; nothing was changed.
    #[error("the server is stopping")]
    Closed,
    /// The room could not be joined.
    #[error(transparent)]
    Join(#[from] hub::JoinError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Arc<store::Error>),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// All inboxes of the service.
pub struct Inbox {
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
    _room_check: AbortOnDropHandle<()>,
}

impl Inbox {
    /// Starts the writer and the room check on the present tokio runtime.
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
        Arc::new(Self {
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
            _room_check: AbortOnDropHandle::new(tokio::spawn(check)),
        })
    }

    /// An id for a notification that is to be sent.
    pub fn new_id(&self) -> Uuid {
        self.random.uuid_v7(self.clock.now())
    }

    /// Puts a notification into its inbox and rings its streams. Answers
    /// [`Outcome::Sent`] or [`Outcome::Mismatch`], after the commit.
    ///
    /// Cancel safe: what is queued is committed even if the caller goes away.
    pub async fn send(&self, new: NewNotification) -> Result<Outcome, Error> {
        self.writer.write(Mutation::Send(new)).await
    }

    /// Marks notifications as read. Answers [`Outcome::MarkedRead`]. What changes
    /// nothing does not wait for the writer.
    ///
    /// Cancel safe, as [`Inbox::send`].
    pub async fn mark_read(
        &self,
        inbox: InboxKey,
        mut notification_ids: Vec<Uuid>,
    ) -> Result<Outcome, Error> {
        let (snapshot, unread) = self.store.unread_of(&inbox, &notification_ids).await?;
        if unread.is_empty() {
            return Ok(Outcome::MarkedRead {
                marked_count: 0,
                head: snapshot.head,
            });
        }
        notification_ids.retain(|id| unread.contains(id));
        self.writer
            .write(Mutation::MarkRead {
                inbox,
                notification_ids,
            })
            .await
    }

    /// Reads the head of an inbox.
    pub async fn head(&self, inbox: &InboxKey) -> Result<Snapshot, Error> {
        Ok(self.heads.read(inbox).await?)
    }

    /// The most bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.feeds.page_bytes
    }

    /// Lists an inbox, newest first. `query.limit.bytes` is lowered to the
    /// setting's. Cancel safe.
    pub async fn recent(&self, inbox: &InboxKey, mut query: RecentQuery) -> Result<Recent, Error> {
        query.limit.bytes = query.limit.bytes.min(self.feeds.page_bytes);
        let place = self.readers.place(inbox).await;
        let (store, inbox) = (self.store.clone(), inbox.clone());
        // It goes on when its caller goes away: what ends in the midst of a statement
        // takes its connection along.
        let read = tokio::spawn(async move {
            let page = store.recent(&inbox, query).await;
            drop(place);
            page
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

    /// What is wrong with the way to other nodes, though this one serves; for
    /// who watches it.
    pub fn trouble(&self) -> Option<&'static str> {
        self.bus.trouble()
    }

    /// Commits and answers what is queued, refuses what comes later, tells the
    /// other nodes, and closes the store.
    pub async fn close(&self) {
        self.writer.close().await;
        self.bus.close().await;
        self.store.close().await;
    }

    fn page_limit(&self) -> PageLimit {
        PageLimit {
            rows: self.feeds.replay_page.max(1),
            bytes: self.feeds.page_bytes,
        }
    }
}
