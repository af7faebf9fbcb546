//! What a row means, on every engine alike.
//!
//! Both schemas name and type their columns so that one reading serves them: text
//! is text, a number 64 bits wide, a time a number of microseconds.

use std::{collections::HashSet, fmt, sync::Arc};

use futures_util::{Stream, TryStreamExt as _};
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use super::{
    Error, PageLimit, Snapshot,
    plan::{Fingerprint, Keyed},
};
use crate::{
    clock::Timestamp,
    model::{Content, Data, Epoch, Head, InboxKey, Notification, Revision},
};

/// The columns of a notification, of the table `n`; for `concat!`.
macro_rules! columns {
    () => {
        "n.organization_id, n.user_id, n.sequence, n.id, n.revision, n.type, n.title, n.body, \
         n.entity_type, n.entity_id, n.action_url, n.data, n.sender, n.idempotency_key, \
         n.fingerprint, n.created_at, n.read_at, n.archived_at"
    };
}
pub(super) use columns;

/// The columns of a notification, of the table `n`.
pub(super) const COLUMNS: &str = columns!();

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

    fn revision(&self, column: &'static str) -> Result<Revision, Error> {
        u64::try_from(self.number(column)?)
            .map(Revision::new)
            .map_err(|_| self.inconsistent(column, "must not be negative"))
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

/// The head of a row whose revision is in the column `revision`.
pub(super) fn head(row: &dyn Fields, revision: &'static str) -> Result<Head, Error> {
    let columns = Columns::of(row, "inboxes");
    let unread_count = u32::try_from(columns.number("unread_count")?)
        .map_err(|_| columns.inconsistent("unread_count", "must have 32 bits"))?;
    Ok(Head {
        revision: columns.revision(revision)?,
        unread_count,
        floor: columns.revision("floor")?,
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
    Ok(Snapshot {
        epoch: Epoch::new(columns.text("epoch")?),
        head: if has_head {
            head(row, "head_revision")?
        } else {
            Head::default()
        },
    })
}

/// The snapshot and the ids of rows, each with the snapshot beside it; an inbox
/// without such a row has one without an id.
pub(super) fn unread(rows: &[impl Fields]) -> Result<(Snapshot, HashSet<Uuid>), Error> {
    let snapshot = snapshot(rows.first().ok_or_else(no_epoch)?)?;
    let ids = rows.iter().map(|row| {
        let columns = Columns::of(row, "notifications");
        let id = row.uuid("id");
        id.map_err(|error| columns.inconsistent("id", error))
    });
    let ids = ids
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    Ok((snapshot, ids))
}

pub(super) fn notification(row: &dyn Fields) -> Result<Notification, Error> {
    let columns = Columns::of(row, "notifications");
    Ok(Notification {
        id: columns.id()?,
        sequence: columns.revision("sequence")?,
        revision: columns.revision("revision")?,
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
        read_at: columns.time("read_at")?,
        archived_at: columns.time("archived_at")?,
    })
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

/// How many rows to ask for: one more than fits tells whether the page ends
/// there.
pub(super) fn one_more(rows: usize) -> i64 {
    i64::try_from(rows.saturating_add(1)).unwrap_or(i64::MAX)
}

/// Databases have no unsigned integers; no inbox changes 2^63 times.
pub(super) fn integer(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}
