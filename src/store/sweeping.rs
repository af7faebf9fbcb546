//! What falls due: found by its time, in whichever inbox it lies.
//!
//! These, and that of retractions, are the only statements that look for rows without their
//! inbox; what they
//! find is changed by ordinary mutations, each under the whole key of its inbox.
//! Both engines run the same texts.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Error,
    rows::{Columns, Fields},
    sql::{Sql, Statement},
};
use crate::{
    clock::{Timestamp, micros},
    model::{InboxKey, OrganizationId, Revision, UserId},
};

/// What a row waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its `expire_time`.
    Expiry,
    /// The end of the time for which what is archived is kept.
    Archived,
    /// The end of the time for which a tombstone is kept.
    Removed,
    /// Its follow-up.
    FollowUp,
}

/// A row that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRow {
    /// Whose it is.
    pub inbox: InboxKey,
    /// Which.
    pub id: Uuid,
    /// The time by which it was found.
    pub at: Timestamp,
    /// The head's revision when it was found: a row that changed since has one above it.
    pub head: Revision,
}

/// Rows of an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All there are, tombstones too.
    All,
    /// Those that are not removed.
    Live,
    /// Those of them that are read or archived.
    Done,
}

/// A row by its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldRow {
    /// Its id.
    pub id: Uuid,
    /// Its sequence.
    pub sequence: Revision,
    /// When it came.
    pub created_at: Timestamp,
}

/// The oldest rows of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oldest {
    /// The head's revision when they were read.
    pub head: Revision,
    /// How many there are that are not removed.
    pub row_count: u32,
    /// `created_at` of the newest row ever made.
    pub last_created_at: Timestamp,
    /// They, oldest first.
    pub rows: Vec<OldRow>,
}

/// A store by what falls due in it.
#[async_trait]
pub trait Sweeping: Send + Sync + 'static {
    /// Takes or keeps the right to do what falls due, for `within` from now. The answer
    /// is the time of the database; `None`: another one has it. `now` is the time where
    /// the database has none of its own.
    async fn lease(
        &self,
        holder: Uuid,
        now: Timestamp,
        within: Duration,
    ) -> Result<Option<Timestamp>, Error>;

    /// At most so many rows whose time is `until` or before, but those of the inboxes
    /// `but`; the longest due first.
    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error>;

    /// At most so many inboxes that may have rows of `until` or before, or many more than
    /// when somebody looked; but for `but`.
    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error>;

    /// The oldest rows of an inbox, at most so many.
    async fn oldest(&self, inbox: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error>;

    /// Notes that no row of the inbox that is not removed is older than `oldest_at`, and
    /// that `row_count` of them are not too many.
    async fn looked_at(
        &self,
        inbox: &InboxKey,
        oldest_at: Timestamp,
        row_count: u32,
    ) -> Result<(), Error>;

    /// At most so many inboxes of an organization that have a row, those after a user first.
    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error>;
}

/// The text that finds what is due: the parameters are the time, how many, and what
/// [`Sql::BUT`] takes. Both ends are named, though no time is below 0: of a bound that it
/// does not know Postgres takes it that a third of the rows are beyond it, of two a
/// two-hundredth, and only then is it sure of the index.
fn due_text(what: Due, but: &str) -> String {
    let (time, is) = match what {
        Due::Expiry => (
            "expire_time",
            "n.expire_time IS NOT NULL AND n.removed_at IS NULL",
        ),
        Due::Archived => (
            "archived_at",
            "n.archived_at IS NOT NULL AND n.removed_at IS NULL",
        ),
        Due::Removed => ("removed_at", "n.removed_at IS NOT NULL"),
        Due::FollowUp => ("follow_up_at", "n.follow_up_at IS NOT NULL"),
    };
    format!(
        "SELECT n.organization_id, n.user_id, n.id, n.due_at, i.revision AS head_revision \
         FROM (SELECT n.organization_id, n.user_id, n.id, n.{time} AS due_at \
         FROM notifications AS n WHERE n.{time} BETWEEN 0 AND $1 AND {is} AND {but} \
         ORDER BY n.{time} LIMIT $2) AS n JOIN inboxes AS i \
         ON i.organization_id = n.organization_id AND i.user_id = n.user_id ORDER BY n.due_at"
    )
}

/// The text that finds inboxes by the age of their rows, with the same parameters.
fn aged_text(but: &str) -> String {
    format!(
        "SELECT n.organization_id, n.user_id FROM inboxes AS n WHERE n.oldest_at BETWEEN 0 AND $1 \
         AND {but} ORDER BY n.oldest_at LIMIT $2"
    )
}

/// The texts that look for rows without their inbox, each with the index that finds them.
#[cfg(test)]
pub(super) fn texts<Engine: Sql>() -> [(String, &'static str); 5] {
    let due = |what| due_text(what, Engine::BUT);
    [
        (due(Due::Expiry), "notifications_by_expiry"),
        (due(Due::Archived), "notifications_by_archival"),
        (due(Due::Removed), "notifications_by_removal"),
        (due(Due::FollowUp), "notifications_by_follow_up"),
        (aged_text(Engine::BUT), "inboxes_by_age"),
    ]
}

/// The oldest of some rows of an inbox, beside its head.
macro_rules! oldest {
    ($rows:expr) => {
        concat!(
            "SELECT i.revision AS head_revision, i.row_count, i.last_created_at, n.id, \
             n.sequence, n.created_at FROM inboxes AS i LEFT JOIN (SELECT * FROM (",
            $rows,
            ") AS oldest ORDER BY sequence LIMIT $3) AS n ON TRUE \
             WHERE i.organization_id = $1 AND i.user_id = $2 ORDER BY n.sequence"
        )
    };
}

/// The oldest rows that one index has.
macro_rules! first {
    ($is:literal) => {
        concat!(
            "SELECT * FROM (SELECT n.id, n.created_at, n.sequence FROM notifications AS n \
             WHERE n.organization_id = $1 AND n.user_id = $2 AND ",
            $is,
            " ORDER BY n.sequence LIMIT $3) AS first"
        )
    };
}

/// The text that reads the oldest rows.
pub(super) fn oldest_text(which: Kept) -> &'static str {
    match which {
        Kept::All => oldest!(first!("TRUE")),
        Kept::Live => oldest!(concat!(
            first!("n.archived_at IS NULL AND n.removed_at IS NULL"),
            " UNION ALL ",
            first!("n.archived_at IS NOT NULL AND n.removed_at IS NULL")
        )),
        Kept::Done => oldest!(concat!(
            // None is looked for where the head says that all are unread.
            first!(
                "n.archived_at IS NULL AND n.removed_at IS NULL AND n.read_at IS NOT NULL \
                 AND n.sequence > (SELECT CASE WHEN h.row_count > h.unread_count THEN 0 END \
                 FROM inboxes AS h WHERE h.organization_id = $1 AND h.user_id = $2)"
            ),
            " UNION ALL ",
            first!("n.archived_at IS NOT NULL AND n.removed_at IS NULL")
        )),
    }
}

/// One that grew by a thousand meanwhile is to be looked at again.
const LOOKED_AT: &str = "UPDATE inboxes SET oldest_at = $3 WHERE organization_id = $1 AND user_id = $2 \
     AND row_count / 1000 <= $4 / 1000";
/// From one to the next, each found by an index: heads are for ever, and of rows there may
/// be many to an inbox.
pub(super) const INBOXES: &str = "WITH RECURSIVE w (user_id) AS (SELECT min(n.user_id) \
     FROM notifications AS n WHERE n.organization_id = $1 AND n.user_id > $2 \
     UNION ALL SELECT (SELECT min(n.user_id) FROM notifications AS n \
     WHERE n.organization_id = $1 AND n.user_id > w.user_id) FROM w WHERE w.user_id IS NOT NULL) \
     SELECT CAST($1 AS TEXT) AS organization_id, w.user_id FROM w WHERE w.user_id IS NOT NULL \
     LIMIT $3";

fn due_row(row: &dyn Fields) -> Result<DueRow, Error> {
    let columns = Columns::of(row, "notifications");
    Ok(DueRow {
        inbox: columns.inbox()?,
        id: columns.id()?,
        at: Timestamp::from_micros(columns.number("due_at")?),
        head: columns.revision("head_revision")?,
    })
}

fn inboxes_of<R: Fields>(rows: &[R]) -> Result<Vec<InboxKey>, Error> {
    let inbox = |row: &R| Columns::of(row, "inboxes").inbox();
    rows.iter().map(inbox).collect()
}

/// The oldest rows, each with the head beside it; of no head nothing.
fn oldest_of<R: Fields>(found: &[R]) -> Result<Oldest, Error> {
    let mut oldest = Oldest::default();
    for row in found {
        let columns = Columns::of(row, "inboxes");
        oldest.head = columns.revision("head_revision")?;
        oldest.row_count = columns.count("row_count")?;
        oldest.last_created_at = Timestamp::from_micros(columns.number("last_created_at")?);
        let no_id = |error: sqlx::Error| Error::Unavailable(error.into());
        if let Some(id) = row.uuid("id").map_err(no_id)? {
            oldest.rows.push(OldRow {
                id,
                sequence: columns.revision("sequence")?,
                created_at: Timestamp::from_micros(columns.number("created_at")?),
            });
        }
    }
    Ok(oldest)
}

#[async_trait]
impl<Engine: Sql> Sweeping for Engine {
    async fn lease(
        &self,
        holder: Uuid,
        now: Timestamp,
        within: Duration,
    ) -> Result<Option<Timestamp>, Error> {
        let Some(text) = Self::LEASE else {
            return Ok(Some(now));
        };
        let statement = Statement::new(text).id(holder).number(micros(within));
        let rows = self.write_one(statement);
        let now = |row| Columns::of(row, "sweeper").number("now");
        let now = rows.await?.first().map(|row| now(row)).transpose()?;
        Ok(now.map(Timestamp::from_micros))
    }

    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error> {
        let statement = Statement::new(due_text(what, Self::BUT)).time(until);
        let rows = self.fetch(statement.bound(at_most).inboxes(but)).await?;
        rows.iter().map(|row| due_row(row)).collect()
    }

    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let statement = Statement::new(aged_text(Self::BUT)).time(until);
        inboxes_of(&self.fetch(statement.bound(at_most).inboxes(but)).await?)
    }

    async fn oldest(&self, inbox: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error> {
        let statement = Statement::of(oldest_text(which), inbox).bound(at_most);
        oldest_of(&self.fetch(statement).await?)
    }

    async fn looked_at(
        &self,
        inbox: &InboxKey,
        oldest_at: Timestamp,
        row_count: u32,
    ) -> Result<(), Error> {
        let statement = Statement::of(LOOKED_AT, inbox).time(oldest_at);
        self.write_one(statement.number(row_count)).await.map(drop)
    }

    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let statement = Statement::new(INBOXES)
            .text(organization.as_str())
            .text(after.map_or("", UserId::as_str))
            .bound(at_most);
        inboxes_of(&self.fetch(statement).await?)
    }
}
