//! What a row means, on every engine alike.
//!
//! Both schemas name and type their columns so that one reading serves them: text
//! is text, a number 64 bits wide, a time a number of microseconds.

use std::{fmt, sync::Arc};

use futures_util::{Stream, TryStreamExt as _};
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use super::{
    Error, PageLimit, Selected, Snapshot,
    plan::{Fingerprint, Keyed, StoredHead},
    selection::Walk,
};
use crate::{
    clock::Timestamp,
    model::{
        Content, Data, Epoch, Head, InboxKey, Notification, RemovalCause, Revision,
        Row as InboxRow, RowState,
    },
};

/// The columns of a row without its content, of the table `n`; for `concat!`.
macro_rules! row_columns {
    () => {
        "n.organization_id, n.user_id, n.sequence, n.id, n.revision, n.ring_revision, n.read_at, \
         n.archived_at, n.removed_at, n.removal_cause"
    };
}
pub(super) use row_columns;

/// The columns of a notification, of the table `n`; for `concat!`.
macro_rules! columns {
    () => {
        concat!(
            $crate::store::rows::row_columns!(),
            ", n.type, n.title, n.body, n.entity_type, n.entity_id, n.action_url, n.data, \
             n.sender, n.idempotency_key, n.fingerprint, n.created_at"
        )
    };
}
pub(super) use columns;

/// The columns of a head, of the table `i`; for `concat!`.
macro_rules! head_columns {
    () => {
        "i.revision AS head_revision, i.unread_count, i.unseen_count, i.seen_through, i.floor, \
         i.last_created_at"
    };
}
pub(super) use head_columns;

/// A row of an engine, by the names of its columns; `None` is SQL's NULL.
pub(super) trait Fields {
    fn text(&self, column: &'static str) -> Result<Option<&str>, sqlx::Error>;
    fn number(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error>;
    fn bytes(&self, column: &'static str) -> Result<Option<&[u8]>, sqlx::Error>;
    fn uuid(&self, column: &'static str) -> Result<Option<Uuid>, sqlx::Error>;
}

impl<R> Fields for R
where
    R: Row,
    for<'name> &'name str: ColumnIndex<R>,
    for<'row> &'row str: Decode<'row, R::Database> + Type<R::Database>,
    for<'row> i64: Decode<'row, R::Database> + Type<R::Database>,
    for<'row> &'row [u8]: Decode<'row, R::Database> + Type<R::Database>,
    for<'row> Uuid: Decode<'row, R::Database> + Type<R::Database>,
{
    fn text(&self, column: &'static str) -> Result<Option<&str>, sqlx::Error> {
        self.try_get(column)
    }

    fn number(&self, column: &'static str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: &'static str) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column)
    }

    fn uuid(&self, column: &'static str) -> Result<Option<Uuid>, sqlx::Error> {
        self.try_get(column)
    }
}

/// Reads the columns of a row, and says which one is inconsistent.
pub(super) struct Columns<'r> {
    row: &'r dyn Fields,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r dyn Fields, table: &'static str) -> Self {
        Self { row, table }
    }

    fn inconsistent(&self, column: &'static str, problem: impl fmt::Display) -> Error {
        let text = |column| self.row.text(column).ok().flatten().unwrap_or("?");
        let sequence = self.row.number("sequence").ok().flatten();
        Error::Inconsistent {
            table: self.table,
            column,
            row: format!(
                "({}, {}, {})",
                text("organization_id"),
                text("user_id"),
                sequence.unwrap_or_default()
            ),
            problem: problem.to_string(),
        }
    }

    /// The value, which must be there.
    fn some<T>(
        &self,
        column: &'static str,
        value: Result<Option<T>, sqlx::Error>,
    ) -> Result<T, Error> {
        value
            .map_err(|error| self.inconsistent(column, error))?
            .ok_or_else(|| self.inconsistent(column, "must not be NULL"))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'r str, Error> {
        self.some(column, self.row.text(column))
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<String>, Error> {
        self.row
            .text(column)
            .map(|text| text.map(str::to_owned))
            .map_err(|error| self.inconsistent(column, error))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<i64, Error> {
        self.some(column, self.row.number(column))
    }

    fn time(&self, column: &'static str) -> Result<Option<Timestamp>, Error> {
        self.row
            .number(column)
            .map(|micros| micros.map(Timestamp::from_micros))
            .map_err(|error| self.inconsistent(column, error))
    }

    pub(super) fn revision(&self, column: &'static str) -> Result<Revision, Error> {
        u64::try_from(self.number(column)?)
            .map(Revision::new)
            .map_err(|_| self.inconsistent(column, "must not be negative"))
    }

    pub(super) fn count(&self, column: &'static str) -> Result<u32, Error> {
        u32::try_from(self.number(column)?)
            .map_err(|_| self.inconsistent(column, "must have 32 bits"))
    }

    fn removal_cause(&self) -> Result<RemovalCause, Error> {
        match self.number("removal_cause")? {
            1 => Ok(RemovalCause::User),
            2 => Ok(RemovalCause::Sender),
            3 => Ok(RemovalCause::Expired),
            4 => Ok(RemovalCause::Replaced),
            other => Err(self.inconsistent("removal_cause", format!("{other} is none"))),
        }
    }

    pub(super) fn id(&self) -> Result<Uuid, Error> {
        self.some("id", self.row.uuid("id"))
    }

    fn fingerprint(&self) -> Result<Fingerprint, Error> {
        self.some("fingerprint", self.row.bytes("fingerprint"))?
            .try_into()
            .map_err(|_| self.inconsistent("fingerprint", "must have 32 bytes"))
    }

    pub(super) fn inbox(&self) -> Result<InboxKey, Error> {
        InboxKey::parse(self.text("organization_id")?, self.text("user_id")?)
            .map_err(|error| self.inconsistent("user_id", error))
    }
}

/// The head of a row.
pub(super) fn head(row: &dyn Fields) -> Result<StoredHead, Error> {
    let columns = Columns::of(row, "inboxes");
    Ok(StoredHead {
        head: Head {
            revision: columns.revision("head_revision")?,
            unread_count: columns.count("unread_count")?,
            unseen_count: columns.count("unseen_count")?,
            seen_through: columns.revision("seen_through")?,
        },
        last_created_at: columns.time("last_created_at")?.unwrap_or_default(),
    })
}

/// The epoch and the head of a row; an inbox that never changed has no head row,
/// and so nulls.
pub(super) fn snapshot(row: &dyn Fields) -> Result<Snapshot, Error> {
    let columns = Columns::of(row, "doorbell");
    let has_head = row
        .number("head_revision")
        .map_err(|error| columns.inconsistent("head_revision", error))?
        .is_some();
    let epoch = Epoch::new(columns.text("epoch")?);
    if !has_head {
        return Ok(Snapshot {
            epoch,
            head: Head::default(),
            floor: Revision::ZERO,
        });
    }
    Ok(Snapshot {
        epoch,
        head: head(row)?.head,
        floor: columns.revision("floor")?,
    })
}

/// A row without its content.
pub(super) fn row(row: &dyn Fields) -> Result<InboxRow, Error> {
    let columns = Columns::of(row, "notifications");
    let removed_at = columns.time("removed_at")?;
    let removed = match removed_at {
        Some(at) => Some((at, columns.removal_cause()?)),
        None => None,
    };
    Ok(InboxRow {
        id: columns.id()?,
        sequence: columns.revision("sequence")?,
        revision: columns.revision("revision")?,
        ring_revision: columns.revision("ring_revision")?,
        state: RowState {
            read_at: columns.time("read_at")?,
            archived_at: columns.time("archived_at")?,
            removed,
        },
    })
}

/// A row with its content.
pub(super) fn notification(fields: &dyn Fields) -> Result<Notification, Error> {
    let columns = Columns::of(fields, "notifications");
    Ok(Notification {
        row: row(fields)?,
        content: Arc::new(Content {
            kind: columns.text("type")?.to_owned(),
            title: columns.text("title")?.to_owned(),
            body: columns.optional_text("body")?,
            entity_type: columns.optional_text("entity_type")?,
            entity_id: columns.optional_text("entity_id")?,
            action_url: columns.optional_text("action_url")?,
            data: columns.optional_text("data")?.map(Data::from_canonical),
        }),
        sender: columns.text("sender")?.into(),
        created_at: Timestamp::from_micros(columns.number("created_at")?),
    })
}

/// As the schema numbers it.
pub(super) fn cause_number(cause: RemovalCause) -> i64 {
    match cause {
        RemovalCause::User => 1,
        RemovalCause::Sender => 2,
        RemovalCause::Expired => 3,
        RemovalCause::Replaced => 4,
    }
}

/// A row that was sent with an idempotency key: whose, the key, and the rest.
pub(super) fn keyed(row: &dyn Fields) -> Result<(InboxKey, String, Keyed), Error> {
    let columns = Columns::of(row, "notifications");
    let keyed = Keyed {
        notification: notification(row)?,
        fingerprint: columns.fingerprint()?,
    };
    let key = columns.text("idempotency_key")?.to_owned();
    Ok((columns.inbox()?, key, keyed))
}

/// The row of the whole database is always there.
pub(super) fn no_epoch() -> Error {
    Error::Inconsistent {
        table: "doorbell",
        column: "epoch",
        row: "1".into(),
        problem: "the row is missing".into(),
    }
}

/// A page of notifications, each row with the snapshot beside it, until `limit`
/// is reached or a row is not newer than `since`. Also the last row's successor,
/// if there is one.
///
/// `created_at` increases with the sequence: newest first, what is newer than
/// `since` is a prefix.
pub(super) async fn page<R: Fields>(
    mut rows: impl Stream<Item = Result<R, Error>> + Unpin,
    limit: PageLimit,
    since: Option<Timestamp>,
) -> Result<(Snapshot, Vec<Notification>, Option<Notification>), Error> {
    let Some(mut row) = rows.try_next().await? else {
        return Err(no_epoch());
    };
    let snapshot = snapshot(&row)?;
    let mut page = Vec::new();
    let mut bytes = 0;
    let is_empty = row.number("sequence").is_ok_and(|number| number.is_none());
    if is_empty {
        return Ok((snapshot, page, None));
    }
    loop {
        let notification = notification(&row)?;
        if since.is_some_and(|since| notification.created_at <= since) {
            return Ok((snapshot, page, None));
        }
        bytes += notification.content.len_bytes();
        let full = page.len() == limit.rows || bytes > limit.bytes;
        if full && !page.is_empty() {
            return Ok((snapshot, page, Some(notification)));
        }
        page.push(notification);
        match rows.try_next().await? {
            Some(next) => row = next,
            None => return Ok((snapshot, page, None)),
        }
    }
}

/// Walks over rows without their contents, each with its type and the snapshot
/// beside it.
pub(super) async fn walk<R: Fields>(
    mut rows: impl Stream<Item = Result<R, Error>> + Unpin,
    mut walk: Walk<'_>,
) -> Result<Selected, Error> {
    let Some(mut fields) = rows.try_next().await? else {
        return Err(no_epoch());
    };
    let snapshot = snapshot(&fields)?;
    let is_empty = fields
        .number("sequence")
        .is_ok_and(|number| number.is_none());
    if is_empty {
        return Ok(walk.selected(snapshot));
    }
    loop {
        let kind = Columns::of(&fields, "notifications").text("type")?;
        if walk.look(&row(&fields)?, kind).is_break() {
            break;
        }
        match rows.try_next().await? {
            Some(next) => fields = next,
            None => break,
        }
    }
    Ok(walk.selected(snapshot))
}

/// How many rows to ask for: one more than fits tells whether the page ends
/// there.
pub(super) fn one_more(rows: usize) -> i64 {
    i64::try_from(rows.saturating_add(1)).unwrap_or(i64::MAX)
}

/// Databases have no unsigned integers; no inbox changes 2^63 times.
pub(super) fn integer(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}
