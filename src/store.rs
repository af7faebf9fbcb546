//! Where the inboxes are: the truth that streams replay and heal from.
//!
//! A [`Store`] promises, whatever engine is behind it:
//!
//! - **All or nothing, durable.** [`Store::commit`] applies a batch in one
//!   transaction, and answers after it is on disk.
//! - **In order.** Each change of an inbox takes the next revision inside that
//!   transaction, so who reads a head has every change up to it.
//! - **One snapshot.** A page, its head and its epoch are of one moment.
//! - **Isolated.** Every row is read and written by its whole [`InboxKey`].
//!
//! What the mutations mean is decided by `plan`, for all engines alike; an
//! engine only loads what the plan needs and writes what it says.

pub mod broadcasts;
pub mod follow_ups;
pub mod inspection;
pub mod lookup;
#[cfg(test)]
pub(crate) mod memory;
mod plan;
pub mod postgres;
pub mod preferences;
pub mod retractions;
mod rows;
pub mod selection;
pub mod sends;
mod sql;
pub mod sqlite;
pub mod sweeping;
pub mod topics;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use async_trait::async_trait;
use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    config::StoreSettings,
    model::{
        Content, Epoch, Field, Head, InboxKey, NewNotification, Notification, OrganizationId,
        RemovalCause, Revision, Run, View,
    },
    random::Random,
};
pub use broadcasts::{Broadcasts, Untaken};
pub use follow_ups::FollowUps;
pub use inspection::{Inspection, free_bytes, inspect};
pub use lookup::Lookup;
pub use preferences::Preferences;
pub use retractions::Retractions;
pub use sends::{Sends, Tally};
pub use sweeping::Sweeping;
pub use topics::Topics;

/// What an engine says of its failure.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer now; nothing was changed, later it may answer.
    #[error("the store does not answer: {0}")]
    Unavailable(#[source] Source),
    /// It went away in the midst of a commit and did not come back in time: the
    /// batch is applied as a whole or not at all, and nobody knows which.
    #[error("the store went away during a commit: {0}")]
    InDoubt(#[source] Source),
    /// It refused this batch for the sake of a member; nothing was changed.
    #[error("the store refused a write: {0}")]
    Refused(#[source] Source),
    /// The database is damaged; nothing was changed.
    #[error("the database is damaged: {0}")]
    Corrupt(#[source] Source),
    /// Somebody else holds an inbox of this batch for too long; nothing was changed.
    #[error("an inbox is held by another transaction: {0}")]
    Held(#[source] Source),
    /// A row holds what cannot be: somebody else wrote it, or a bug.
    #[error("{table}.{column} of row {row}: {problem}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// Its column.
        column: &'static str,
        /// What identifies the row.
        row: String,
        /// What is wrong with the value.
        problem: String,
    },
    /// It cannot be opened: one line for who starts the program.
    #[error("{0}")]
    Open(String),
}

impl Error {
    /// A mutation was answered with the outcome of another kind.
    pub fn unexpected_outcome() -> Self {
        Self::Inconsistent {
            table: "none",
            column: "outcome",
            row: "none".into(),
            problem: "is not that of the mutation".into(),
        }
    }

    /// Its kind, as a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::InDoubt(_) => "in_doubt",
            Self::Refused(_) => "constraint",
            Self::Corrupt(_) | Self::Inconsistent { .. } => "corrupt",
            Self::Held(_) => "held",
            Self::Open(_) => "unavailable",
        }
    }

    /// Whether it may be for the sake of one member of a batch alone: nothing was
    /// changed, and the others may well be committed without it.
    pub fn may_be_of_a_member(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Held(_) | Self::Corrupt(_) | Self::Inconsistent { .. }
        )
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Create a notification.
    Send(NewNotification),
    /// Correct a notification.
    Update(Correction),
    /// Change the state of notifications, in one revision.
    Edit {
        /// Whose they are.
        inbox: InboxKey,
        /// Which; those that are unknown or need no change are skipped.
        ids: Vec<Uuid>,
        /// What is done to them.
        edit: Edit,
        /// Those that are not in it are skipped.
        view: View,
        /// Those whose last change is above it are skipped.
        through: Option<Revision>,
    },
    /// Delete rows for good.
    Delete {
        /// Whose they are.
        inbox: InboxKey,
        /// Which; those that are unknown are skipped.
        ids: Vec<Uuid>,
        /// Why.
        why: Deletion,
    },
    /// The person has looked at all up to a sequence.
    Seen {
        /// Whose inbox it is.
        inbox: InboxKey,
        /// The sequence.
        through: Revision,
    },
    /// Take what was broadcast and is not in the inbox yet.
    Take(Take),
    /// Tell the organization of notifications that nobody looked at.
    FollowUp {
        /// Whose they are.
        inbox: InboxKey,
        /// Which; those of which nothing is due are skipped.
        ids: Vec<Uuid>,
        /// What is due by then, by the time of the database.
        until: Timestamp,
    },
}

/// Entries that an inbox is to take, see [`broadcasts`].
#[derive(Clone, Debug)]
pub struct Take {
    /// Whose inbox it is.
    pub inbox: InboxKey,
    /// It has taken those up to this number; if it has not, nothing is taken.
    pub after: u64,
    /// It has taken those up to this number then.
    pub through: u64,
    /// What is said.
    pub sends: Vec<NewNotification>,
    /// The keys of what is taken back.
    pub retracted: Vec<String>,
}

impl Mutation {
    /// The inbox that it changes.
    pub fn inbox(&self) -> &InboxKey {
        match self {
            Self::Send(new) => &new.inbox,
            Self::Update(correction) => &correction.inbox,
            Self::Edit { inbox, .. }
            | Self::Delete { inbox, .. }
            | Self::Seen { inbox, .. }
            | Self::FollowUp { inbox, .. }
            | Self::Take(Take { inbox, .. }) => inbox,
        }
    }
}

/// A notification by one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Its id.
    Id(Uuid),
    /// The idempotency key that it was sent with.
    Key(String),
}

/// Another content for a notification.
#[derive(Clone, Debug)]
pub struct Correction {
    /// Whose it is.
    pub inbox: InboxKey,
    /// Which.
    pub of: Named,
    /// What it says from now on, as far as `fields` name it.
    pub content: Arc<Content>,
    /// The parts to take.
    pub fields: Vec<Field>,
    /// Whether it is to be heard once more, where it is unread.
    pub ring: bool,
}

/// What is done to notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// Mark as read what is unread.
    Read,
    /// Mark as unread what is read and in the inbox.
    Unread,
    /// Put away what is in the inbox.
    Archive,
    /// Bring back what is archived, as it was.
    Unarchive,
    /// Remove for good.
    Remove(RemovalCause),
}

impl Edit {
    /// Whether its event has all of each row, since a screen may not have it.
    pub fn tells_all(self) -> bool {
        self == Self::Unarchive
    }
}

/// Why rows are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// They are tombstones of long ago; others are skipped. No revision: the floor rises
    /// to their last change.
    Purge,
    /// Nothing of them is to be kept, whatever their state. One revision, and the floor
    /// rises to it: streams load anew.
    Erasure,
}

/// The thing that notifications are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct About {
    /// Its kind.
    pub entity_type: String,
    /// Its id.
    pub entity_id: String,
}

/// Which notifications of an inbox a verb is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// These.
    Ids(Vec<Uuid>),
    /// Those that are about this thing.
    About(About),
    /// The one that was sent with this idempotency key.
    Key(String),
    /// Those that were sent with this collapse key.
    Collapse(String),
    /// Those whose last change is at or below a revision.
    Through {
        /// The revision.
        revision: Revision,
        /// Only of these types; none means all.
        types: Vec<String>,
    },
}

impl Which {
    /// The revision that it goes up to, where it names one.
    pub fn through(&self) -> Option<Revision> {
        match self {
            Self::Through { revision, .. } => Some(*revision),
            _ => None,
        }
    }
}

/// A verb times a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb {
    /// What is done.
    pub edit: Edit,
    /// To which.
    pub which: Which,
    /// Of these.
    pub view: View,
}

/// Notifications that a verb would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The inbox when they were selected.
    pub snapshot: Snapshot,
    /// They, at most [`selection::MOST_CHANGED`].
    pub ids: Vec<Uuid>,
    /// The sequence to go on after; `None`: there are no more.
    pub next: Option<Revision>,
}

/// What became of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of [`Mutation::Send`].
    Sent(Result<Sent, NotSent>),
    /// Of [`Mutation::Update`].
    Updated(Result<Updated, NotUpdated>),
    /// Of [`Mutation::Take`].
    Taken(Taken),
    /// Of any other.
    Edited(Edited),
}

/// The notification is in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// It; for a duplicate, the first one as it is now.
    pub notification: Notification,
    /// Whether its idempotency key had been used: nothing was changed.
    pub duplicate: bool,
    /// The head that it left.
    pub head: Head,
}

/// Why a send made no notification; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The idempotency key was used with another content.
    #[error("the idempotency key was used with another content")]
    Mismatch,
    /// Its time was over before it came; the head of its inbox.
    #[error("its time was over before it came")]
    Expired(Head),
    /// Its person does not want its type; the head of their inbox.
    #[error("its person does not want notifications of this type")]
    Muted(Head),
    /// The send that it is of is not under way.
    #[error("its send is not under way")]
    Cancelled,
}

/// The notification as it is after a correction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// It.
    pub notification: Notification,
    /// Whether it is another one.
    pub changed: bool,
    /// The head that it left.
    pub head: Head,
}

/// Why a notification was not corrected; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotUpdated {
    /// There is none of that name.
    #[error("there is no such notification in this inbox")]
    NotFound,
    /// It was removed.
    #[error("the notification was removed")]
    Removed,
}

/// The inbox was changed, or needed no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited {
    /// How many notifications were changed or deleted; for [`Mutation::Seen`], whether
    /// it changed the head.
    pub changed: u32,
    /// The head that it left.
    pub head: Head,
}

/// What an inbox took of what was broadcast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Of each that was said, whether it was there already, or why it was not made; of none
    /// where somebody else took of them meanwhile.
    pub sent: Vec<Result<bool, NotSent>>,
    /// It has taken those up to this number now.
    pub through: u64,
    /// The head that it left.
    pub head: Head,
}

/// What a commit did.
#[derive(Debug, Default)]
pub struct Committed {
    /// One for each mutation, in their order.
    pub outcomes: Vec<Outcome>,
    /// What is to be published, a run for each inbox that changed.
    pub runs: Vec<(InboxKey, Run)>,
    /// Inboxes that changed in a way that is not known any more: whoever shows them
    /// has to look.
    pub unknown_counts: Vec<InboxKey>,
}

/// The state of an inbox at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which life of the database.
    pub epoch: Epoch,
    /// The inbox's head.
    pub head: Head,
    /// The highest last-change revision that was purged: a position below it
    /// cannot be served.
    pub floor: Revision,
    /// Up to which entry the inbox has taken what was broadcast, and up to which there are.
    pub taken_through: u64,
    /// See `taken_through`.
    pub announced: u64,
}

impl Snapshot {
    /// Whether something was broadcast that is not in the inbox.
    pub fn lacks(&self) -> bool {
        self.announced > self.taken_through
    }
}

/// Where a page of changed rows begins: after the row of this sequence whose
/// last change had this revision. Several rows can share a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last change of the row before.
    pub revision: Revision,
    /// The sequence of the row before.
    pub sequence: Revision,
}

impl Cursor {
    /// After all rows of `revision`.
    pub fn after(revision: Revision) -> Self {
        // A row's sequence is at most its revision.
        Self {
            revision,
            sequence: revision,
        }
    }
}

/// How large a page may be. At least one row is in a page whatever its size.
#[derive(Clone, Copy, Debug)]
pub struct PageLimit {
    /// The most rows.
    pub rows: usize,
    /// The most bytes of content.
    pub bytes: usize,
}

/// Rows of one inbox that changed, in the order of their last change.
#[derive(Debug)]
pub struct Changes {
    /// The inbox when the page was read.
    pub snapshot: Snapshot,
    /// Archived ones too: a stream must say that they went.
    pub rows: Vec<Notification>,
    /// The last-change revision of the first row that did not fit; `None` when
    /// the page reaches the head.
    pub next: Option<Revision>,
}

/// Which rows of an inbox to list.
#[derive(Clone, Debug)]
pub struct RecentQuery {
    /// Those in the inbox, archived ones, or both.
    pub view: View,
    /// Only of these types; none means all.
    pub types: Vec<String>,
    /// Only those about this thing.
    pub about: Option<About>,
    /// Only those created after it.
    pub since: Option<Timestamp>,
    /// Only those of a lower sequence: where the page before ended.
    pub before: Option<Revision>,
    /// Only unread ones.
    pub unread_only: bool,
    /// How large the page may be.
    pub limit: PageLimit,
}

impl RecentQuery {
    /// All that is in the inbox.
    pub fn new(limit: PageLimit) -> Self {
        Self {
            view: View::Inbox,
            types: Vec::new(),
            about: None,
            since: None,
            before: None,
            unread_only: false,
            limit,
        }
    }
}

/// Rows of one inbox, newest first.
#[derive(Debug)]
pub struct Recent {
    /// The inbox when the page was read.
    pub snapshot: Snapshot,
    /// The page.
    pub rows: Vec<Notification>,
    /// The sequence below which the next page begins; `None`: there are no more.
    pub next: Option<Revision>,
}

/// How many rows of some types are unread.
#[derive(Debug)]
pub struct TypeCounts {
    /// The inbox when they were counted.
    pub snapshot: Snapshot,
    /// Those of which there are any, at most [`selection::MOST_COUNTED`] looked at in all.
    pub unread: HashMap<String, u32>,
}

/// Keeps the inboxes. See the module for what every implementation promises.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Applies `batch` in its order, in one transaction that is durable when
    /// this returns. On an error nothing was applied.
    ///
    /// Not cancel safe: a dropped call may or may not have committed, and who
    /// drops it can no longer publish in order. Run it to its end.
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error>;

    /// Reads the heads of inboxes, in their order; each costs the same whatever
    /// the inbox holds.
    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error>;

    /// Reads the head of an inbox.
    async fn head(&self, inbox: &InboxKey) -> Result<Snapshot, Error> {
        let heads = self.heads(std::slice::from_ref(inbox)).await?;
        heads.into_iter().next().ok_or_else(rows::no_epoch)
    }

    /// Reads the rows that changed after `cursor`.
    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error>;

    /// Counts the rows that changed after `position`, up to `at_most`.
    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error>;

    /// Reads a page, newest first.
    async fn recent(&self, inbox: &InboxKey, query: RecentQuery) -> Result<Recent, Error>;

    /// Counts the unread rows of each of these types.
    async fn count_types(&self, inbox: &InboxKey, types: &[String]) -> Result<TypeCounts, Error>;

    /// Selects notifications that `verb` would change, by their sequences, from
    /// after `after` on.
    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error>;

    /// What was broadcast to an organization, or to all, after this number and up to
    /// `announced`; of more than fits, as much as fits.
    async fn untaken(
        &self,
        organization: &OrganizationId,
        after: u64,
        announced: u64,
    ) -> Result<Untaken, Error>;

    /// The organizations to which something was broadcast after this number, or all, and
    /// the last number; without one, only that.
    async fn announced(&self, after: Option<u64>) -> Result<(Vec<OrganizationId>, u64), Error>;

    /// Notes how many took a broadcast, and how many it was not for.
    async fn note_taken(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        tally: Tally,
    ) -> Result<(), Error>;

    /// How many batches it can commit at once. An inbox must not be in two of
    /// them: who calls keeps each inbox in one lane.
    fn lanes(&self) -> usize {
        1
    }

    /// Which database this is; it stays so, through restores as well.
    async fn database_id(&self) -> Result<Uuid, Error>;

    /// From now on positions of the epoch before mean nothing: for a database
    /// that is older than what its clients saw.
    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error>;

    /// Whether it can write and read at the moment; `by_writing` tries with a
    /// durable commit that changes nothing.
    async fn check(&self, by_writing: bool) -> Result<(), Error>;

    /// Ends its connections. What was committed stays.
    async fn close(&self);
}

/// All that an engine is.
pub trait Database:
    Store + Sweeping + Lookup + Sends + Broadcasts + Retractions + Topics + Preferences + FollowUps
{
}

impl<Engine> Database for Engine where
    Engine: Store
        + Sweeping
        + Lookup
        + Sends
        + Broadcasts
        + Retractions
        + Topics
        + Preferences
        + FollowUps
{
}

/// Opens the store that `settings` name, brings its schema up to date, and makes
/// its ids if it has none.
///
/// A second process is refused where `sharing` says so, and on SQLite always.
pub async fn open(
    settings: &StoreSettings,
    sharing: Sharing,
    random: &dyn Random,
) -> Result<Arc<dyn Database>, Error> {
    let url = settings.database_url();
    match engine(&url)? {
        Engine::Sqlite => {
            let readers = u32::try_from(settings.database_readers).unwrap_or(u32::MAX);
            Ok(Arc::new(sqlite::Sqlite::open(&url, readers, random).await?))
        }
        Engine::Postgres => Ok(Arc::new(
            postgres::Postgres::open(settings, sharing, random).await?,
        )),
    }
}

/// What serves a URL.
enum Engine {
    Sqlite,
    Postgres,
}

fn engine(url: &str) -> Result<Engine, Error> {
    match url.split(':').next().unwrap_or_default() {
        "sqlite" => Ok(Engine::Sqlite),
        "postgres" | "postgresql" => Ok(Engine::Postgres),
        // What it begins with is not repeated: it may be a password.
        _ => Err(Error::Open(
            "the database URL must begin with `sqlite://` or `postgres://`".into(),
        )),
    }
}

/// An epoch that no store had.
pub fn new_epoch(random: &dyn Random) -> Epoch {
    Epoch::new(&random.uuid_v4().simple().to_string())
}

/// How a process works on a store that others may use as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A node without a bus: it does not start beside another, nor another beside it.
    Alone,
    /// One of several nodes, which have a bus.
    Shared,
    /// A tool: it works beside whoever there is.
    Beside,
}

/// Gives a new database its epoch and its id, and an old one the id that it lacks.
const NAMES: &str = "INSERT INTO doorbell (id, epoch, database_id) VALUES (1, $1, $2) \
     ON CONFLICT (id) DO UPDATE SET database_id = excluded.database_id \
     WHERE doorbell.database_id IS NULL";

/// The migrations that were made in a database, in their order.
const MIGRATIONS_MADE: &str =
    "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";

/// The migrations of an engine: names and texts, numbered from 1.
fn migrator(migrations: &[(&'static str, &'static str)]) -> Migrator {
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(
            version,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations((1..).zip(migrations).map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[tokio::test]
    async fn a_url_that_no_engine_serves_is_refused_in_one_line() {
        for url in [
            "mysql://localhost/x",
            "host=db password=hunter2",
            "hunter2://x",
            "",
        ] {
            let settings = StoreSettings {
                database_url: Some(url.into()),
                ..StoreSettings::default()
            };
            let opened = open(&settings, Sharing::Alone, &SeededRandom::new(1)).await;
            let error = opened.err().unwrap().to_string();
            assert!(error.contains("must begin with"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
