//! What a row means, on every engine alike.
//!
//! Both schemas name and type their columns so that one reading serves them: text
//! is text, a number 64 bits wide, a time a number of microseconds.

use std::{collections::HashMap, fmt, ops::ControlFlow, sync::Arc};

use futures_util::{Stream, TryStreamExt as _};
use serde_json::{Value, json};
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use super::{
    Changes, Error, PageLimit, Recent, Selected, Snapshot, TypeCounts,
    plan::{Before, Fingerprint, Known, StoredHead},
    selection::Walk,
};
use crate::{
    clock::Timestamp,
    model::{
        Action, Content, Data, Epoch, Head, Image, InboxKey, Notification, PendingFollowUp,
        RemovalCause, Revision, Row as InboxRow, RowState, Unless, View,
    },
};

/// The columns of a row without its content, of the table `n`; for `concat!`.
macro_rules! row_columns {
    () => {
        "n.organization_id, n.user_id, n.sequence, n.id, n.revision, n.ring_revision, n.read_at, \
         n.archived_at, n.removed_at, n.removal_cause, n.follow_up_at, n.follow_up_unless, \
         n.collapse_key, n.collapsed_count"
    };
}
pub(super) use row_columns;

/// The columns of what is said, of the table `n`; for `concat!`.
macro_rules! content_columns {
    () => {
        "n.type, n.title, n.body, n.entity_type, n.entity_id, n.action_url, n.data, \
         n.image_url, n.actions"
    };
}
pub(super) use content_columns;

/// The columns of a notification, of the table `n`; for `concat!`.
macro_rules! columns {
    () => {
        concat!(
            $crate::store::rows::row_columns!(),
            ", ",
            $crate::store::rows::content_columns!(),
            ", n.sender, n.idempotency_key, n.fingerprint, n.created_at, n.sent_at, n.expire_time"
        )
    };
}
pub(super) use columns;

/// The columns of a head, of the table `i`; for `concat!`.
macro_rules! head_columns {
    () => {
        "i.revision AS head_revision, i.unread_count, i.unseen_count, i.seen_through, i.floor, \
         i.last_created_at, i.row_count, i.taken_through"
    };
}
pub(super) use head_columns;

/// The columns of a snapshot of an inbox of an organization, of the tables `d` and `i`; for
/// `concat!`.
macro_rules! snapshot_columns {
    ($organization:literal) => {
        concat!(
            "d.epoch, (SELECT max(a.last_number) FROM audiences AS a WHERE a.organization_id IN (",
            $organization,
            ", '*')) AS announced, ",
            $crate::store::rows::head_columns!()
        )
    };
}
pub(super) use snapshot_columns;

/// The columns of a row that is looked at by a walk, of the table `n`; for `concat!`.
macro_rules! walk_columns {
    () => {
        concat!(
            $crate::store::rows::row_columns!(),
            ", n.type, CAST(octet_length(n.title) + octet_length(coalesce(n.body, '')) \
             + octet_length(coalesce(n.data, '')) + octet_length(coalesce(n.actions, '')) \
             AS bigint) AS bytes"
        )
    };
}
pub(super) use walk_columns;

/// What a [`Source`](super::selection::Source) holds, of the table `n`, in the words of
/// its index; for `concat!`. The parameters 5 and 6 say of what.
macro_rules! of_source {
    (about) => {
        "n.entity_type = $5 AND n.entity_id = $6 AND n.removed_at IS NULL"
    };
    (key) => {
        "n.idempotency_key = $5"
    };
    (collapse) => {
        "n.collapse_key = $5 AND n.removed_at IS NULL"
    };
    (unread) => {
        "n.read_at IS NULL AND n.archived_at IS NULL AND n.removed_at IS NULL"
    };
    (inbox) => {
        "n.archived_at IS NULL AND n.removed_at IS NULL"
    };
    (archived) => {
        "n.archived_at IS NOT NULL AND n.removed_at IS NULL"
    };
    // All rows are in the primary key, those that are removed as well.
    (all) => {
        "TRUE"
    };
}
pub(super) use of_source;

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

    pub(super) fn inconsistent(&self, column: &'static str, problem: impl fmt::Display) -> Error {
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

    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<String>, Error> {
        self.row
            .text(column)
            .map(|text| text.map(str::to_owned))
            .map_err(|error| self.inconsistent(column, error))
    }

    pub(super) fn number(&self, column: &'static str) -> Result<i64, Error> {
        self.some(column, self.row.number(column))
    }

    pub(super) fn optional_number(&self, column: &'static str) -> Result<Option<i64>, Error> {
        let number = self.row.number(column);
        number.map_err(|error| self.inconsistent(column, error))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Option<Timestamp>, Error> {
        Ok(self.optional_number(column)?.map(Timestamp::from_micros))
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

    /// What makes a follow-up needless.
    pub(super) fn unless(&self, column: &'static str) -> Result<Unless, Error> {
        match self.number(column)? {
            1 => Ok(Unless::Seen),
            2 => Ok(Unless::Read),
            other => Err(self.inconsistent(column, format!("{other} is none"))),
        }
    }

    fn actions(&self) -> Result<Vec<Action>, Error> {
        let Some(text) = self.optional_text("actions")? else {
            return Ok(Vec::new());
        };
        let action = |value: &Value| {
            Some(Action {
                label: value["label"].as_str()?.to_owned(),
                url: value["url"].as_str()?.to_owned(),
                is_primary: value["is_primary"].as_bool()?,
            })
        };
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let actions = value.as_ref().and_then(Value::as_array);
        let actions = actions.map(|actions| actions.iter().map(action).collect());
        actions
            .flatten()
            .ok_or_else(|| self.inconsistent("actions", "is no JSON of actions"))
    }

    pub(super) fn content(&self) -> Result<Content, Error> {
        Ok(Content {
            kind: self.text("type")?.to_owned(),
            title: self.text("title")?.to_owned(),
            body: self.optional_text("body")?,
            entity_type: self.optional_text("entity_type")?,
            entity_id: self.optional_text("entity_id")?,
            action_url: self.optional_text("action_url")?,
            data: self.optional_text("data")?.map(Data::from_canonical),
            image_url: self.optional_text("image_url")?,
            actions: self.actions()?,
        })
    }

    pub(super) fn id(&self) -> Result<Uuid, Error> {
        self.some("id", self.row.uuid("id"))
    }

    pub(super) fn fingerprint(&self) -> Result<Fingerprint, Error> {
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
        row_count: columns.count("row_count")?,
        floor: columns.revision("floor")?,
        taken_through: columns.revision("taken_through")?.get(),
    })
}

/// The epoch and the head of a row; an inbox that never changed has no head row,
/// and so nulls.
pub(super) fn snapshot(row: &dyn Fields) -> Result<Snapshot, Error> {
    let columns = Columns::of(row, "doorbell");
    let stored = match columns.optional_number("head_revision")? {
        Some(_) => head(row)?,
        None => StoredHead::default(),
    };
    let announced = columns.optional_number("announced")?;
    Ok(Snapshot {
        epoch: Epoch::new(columns.text("epoch")?),
        head: stored.head,
        floor: stored.floor,
        taken_through: stored.taken_through,
        announced: announced.map_or(0, i64::unsigned_abs),
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
            follow_up: match columns.time("follow_up_at")? {
                Some(at) => Some(PendingFollowUp {
                    at,
                    unless: columns.unless("follow_up_unless")?,
                }),
                None => None,
            },
        },
    })
}

/// A row with its content.
pub(super) fn notification(fields: &dyn Fields) -> Result<Notification, Error> {
    let columns = Columns::of(fields, "notifications");
    let created_at = Timestamp::from_micros(columns.number("created_at")?);
    Ok(Notification {
        row: row(fields)?,
        content: Arc::new(columns.content()?),
        sender: columns.text("sender")?.into(),
        created_at,
        sent_at: columns.time("sent_at")?.unwrap_or(created_at),
        expire_time: columns.time("expire_time")?,
        collapse_key: columns.optional_text("collapse_key")?.map(Arc::from),
        collapsed_count: columns.count("collapsed_count")?,
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

/// As the schema numbers it.
pub(super) fn unless_number(unless: Unless) -> i64 {
    match unless {
        Unless::Seen => 1,
        Unless::Read => 2,
    }
}

/// As the statements number it.
pub(super) fn view_number(view: View) -> i64 {
    match view {
        View::Inbox => 0,
        View::Archived => 1,
        View::All => 2,
    }
}

/// Actions as they are kept: nothing where there are none.
pub(super) fn actions_text(actions: &[Action]) -> Option<String> {
    let value = |action: &Action| json!({"label": action.label, "url": action.url, "is_primary": action.is_primary});
    let values = || actions.iter().map(value).collect();
    (!actions.is_empty()).then(|| Value::Array(values()).to_string())
}

/// Notes a row that was sent with an idempotency key.
pub(super) fn add_keyed(before: &mut Before, row: &dyn Fields) -> Result<(), Error> {
    let columns = Columns::of(row, "notifications");
    let (inbox, notification) = (columns.inbox()?, notification(row)?);
    let key = columns.text("idempotency_key")?.to_owned();
    let first = (notification.row.id, columns.fingerprint()?);
    before
        .keyed
        .entry(inbox.clone())
        .or_default()
        .insert(key, first);
    before.add_whole(inbox, notification);
    Ok(())
}

/// Notes what a person said of a type.
pub(super) fn add_chosen(before: &mut Before, row: &dyn Fields) -> Result<(), Error> {
    let columns = Columns::of(row, "preferences");
    let of = before.chosen.entry(columns.inbox()?).or_default();
    of.insert(
        columns.text("type")?.to_owned(),
        columns.number("is_on")? != 0,
    );
    Ok(())
}

/// Notes a row with all of it.
pub(super) fn add_whole(before: &mut Before, row: &dyn Fields) -> Result<(), Error> {
    let inbox = Columns::of(row, "notifications").inbox()?;
    before.add_whole(inbox, notification(row)?);
    Ok(())
}

/// Notes a row without its content, but with what it collapses by.
pub(super) fn add_row(before: &mut Before, fields: &dyn Fields) -> Result<(), Error> {
    let columns = Columns::of(fields, "notifications");
    let key = columns.optional_text("collapse_key")?;
    let collapse = match key {
        Some(key) => Some((Arc::from(key), columns.count("collapsed_count")?)),
        None => None,
    };
    let known = Known {
        image: Image::State(row(fields)?),
        collapse,
    };
    before.add(columns.inbox()?, known);
    Ok(())
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

/// A page of notifications and its snapshot.
pub(super) struct Page {
    pub(super) snapshot: Snapshot,
    pub(super) rows: Vec<Notification>,
    /// The row after the last, if there is one.
    pub(super) successor: Option<Notification>,
    /// Where those that were looked at end, if that is not the end of all.
    walked_to: Option<Revision>,
}

impl Page {
    pub(super) fn changes(self) -> Changes {
        Changes {
            snapshot: self.snapshot,
            next: self.successor.map(|next| next.row.revision),
            rows: self.rows,
        }
    }

    pub(super) fn recent(self) -> Recent {
        let last = self.rows.last().map(|row| row.row.sequence);
        Recent {
            snapshot: self.snapshot,
            next: self.successor.and(last).or(self.walked_to),
            rows: self.rows,
        }
    }
}

/// Reads a page, each row with the snapshot beside it, until `limit` is reached or a row
/// is not newer than `since`.
///
/// `created_at` increases with the sequence: newest first, what is newer than
/// `since` is a prefix.
pub(super) async fn page<R: Fields>(
    mut rows: impl Stream<Item = Result<R, Error>> + Unpin,
    limit: PageLimit,
    since: Option<Timestamp>,
) -> Result<Page, Error> {
    let Some(mut row) = rows.try_next().await? else {
        return Err(no_epoch());
    };
    // A page that is no walk has no such column.
    let walked_to = row.number("walked_to").ok().flatten();
    let mut page = Page {
        snapshot: snapshot(&row)?,
        rows: Vec::new(),
        successor: None,
        walked_to: walked_to
            .and_then(|to| u64::try_from(to).ok())
            .map(Revision::new),
    };
    let mut bytes = 0;
    let is_empty = row.number("sequence").is_ok_and(|number| number.is_none());
    if is_empty {
        return Ok(page);
    }
    loop {
        let notification = notification(&row)?;
        if since.is_some_and(|since| notification.created_at <= since) {
            page.walked_to = None;
            return Ok(page);
        }
        bytes += notification.content.len_bytes();
        let full = page.rows.len() == limit.rows || bytes > limit.bytes;
        if full && !page.rows.is_empty() {
            page.successor = Some(notification);
            return Ok(page);
        }
        page.rows.push(notification);
        match rows.try_next().await? {
            Some(next) => row = next,
            None => return Ok(page),
        }
    }
}

/// Reads how many rows of some types are unread, each with the snapshot beside it.
pub(super) async fn type_counts<R: Fields>(
    mut rows: impl Stream<Item = Result<R, Error>> + Unpin,
) -> Result<TypeCounts, Error> {
    let Some(mut row) = rows.try_next().await? else {
        return Err(no_epoch());
    };
    let no_count = |error: sqlx::Error| Error::Unavailable(error.into());
    let snapshot = snapshot(&row)?;
    let mut unread = HashMap::new();
    loop {
        if let Some(kind) = row.text("type").map_err(no_count)? {
            let count = row.number("unread").map_err(no_count)?;
            let count = u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX);
            unread.insert(kind.to_owned(), count);
        }
        match rows.try_next().await? {
            Some(next) => row = next,
            None => return Ok(TypeCounts { snapshot, unread }),
        }
    }
}

fn look(walk: &mut Walk<'_>, fields: &dyn Fields) -> Result<ControlFlow<()>, Error> {
    let columns = Columns::of(fields, "notifications");
    let bytes = usize::try_from(columns.number("bytes")?).unwrap_or(0);
    Ok(walk.look(&row(fields)?, columns.text("type")?, bytes))
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
        if look(&mut walk, &fields)?.is_break() {
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
    bound(rows.saturating_add(1))
}

/// A number of rows, for a database.
pub(super) fn bound(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// Databases have no unsigned integers; no inbox changes 2^63 times.
pub(super) fn integer(revision: Revision) -> i64 {
    i64::try_from(revision.get()).unwrap_or(i64::MAX)
}
