//! What a commit says to Postgres: each step a statement, and one round trip.
//!
//! All take the heads in the order of their keys, so that batches of several nodes
//! wait for one another and never in a circle. READ COMMITTED is enough: who takes a
//! head waits for its latest row, what a transaction reads after that is what it will
//! change, and two who use a key at once meet in its index.
//!
//! Each commit waits for its sync: `synchronous_commit = on` is set for a
//! connection, and in each transaction that writes, which holds through a pooler
//! as well. There a connection's settings do not last, so that all is transactions.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::atomic::Ordering,
    time::Duration,
};

use sqlx::postgres::PgRow;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    PgQuery, Postgres, code,
    commit::{Found, Link, Proof, Sends, Told},
    connections::Lease,
    failed, halves, run, too_late, unavailable,
};
use crate::{
    clock::Timestamp,
    model::{Content, Data, InboxKey, NewNotification, OrganizationId, Row},
    store::{
        Error, Mutation,
        plan::{self, Before, Changed, Fingerprint, Made, Plan, Rewritten},
        rows::{self, Columns, columns, head_columns, integer, row_columns},
        sends::organization_of,
    },
};

/// After so many commits, proofs that are no longer needed are deleted, at most so many:
/// more than came meanwhile.
const EMPTY_EVERY: usize = 256;
const EMPTIED: i64 = 1024;
/// A proof is kept for as long: nobody asks for what was in doubt so long ago.
const PROOF_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The columns of a new row that are known before its head is locked, after its
/// inbox, and their arrays.
macro_rules! new_columns {
    () => {
        "id, type, title, body, entity_type, entity_id, action_url, data, sender, \
         idempotency_key, fingerprint, image_url, actions, expire_time, collapse_key"
    };
}
macro_rules! new_arrays {
    () => {
        "$1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], \
         $14::text[], $15::text[], $16::bigint[], $17::text[]"
    };
}

/// A statement that counts the heads on in the order of their keys, makes those that are
/// missing, and writes the rows and the id of the batch; or writes nothing, where a key was
/// used, somebody does not want a type, or it says so itself. A row names its head by the
/// place in that order, from 1, and tells how many rows of its inbox come after it. An inbox
/// that grew by a thousand is one to look at for who lets old rows go.
macro_rules! send {
    ($first:literal, $only_if:literal) => {
        concat!(
            "WITH ",
            $first,
            "heads AS (INSERT INTO inboxes AS i (organization_id, user_id, revision, unread_count, \
             unseen_count, row_count, last_created_at, oldest_at) SELECT w.organization_id, \
             w.user_id, w.sends, w.sends, w.sends, w.sends, $25 + w.sends - 1, $25 \
             FROM unnest($22::text[], $23::text[], $24::bigint[]) \
             AS w (organization_id, user_id, sends) \
             WHERE NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $12::text[]) \
             AS w (organization_id, user_id, idempotency_key) JOIN notifications AS n \
             ON n.organization_id = w.organization_id AND n.user_id = w.user_id \
             AND n.idempotency_key = w.idempotency_key WHERE w.idempotency_key IS NOT NULL) \
             AND NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $4::text[]) \
             AS w (organization_id, user_id, type) JOIN preferences AS p \
             ON p.organization_id = w.organization_id AND p.user_id = w.user_id \
             AND p.type = w.type WHERE p.is_on = 0) ",
            $only_if,
            "ORDER BY w.organization_id COLLATE \"C\", w.user_id COLLATE \"C\" \
             ON CONFLICT (organization_id, user_id) DO UPDATE SET \
             revision = i.revision + excluded.revision, \
             unread_count = i.unread_count + excluded.revision, \
             unseen_count = i.unseen_count + excluded.revision, \
             row_count = i.row_count + excluded.revision, oldest_at = \
             CASE WHEN (i.row_count + excluded.revision) / 1000 > i.row_count / 1000 THEN 0 \
             ELSE i.oldest_at END, \
             last_created_at = greatest($25, i.last_created_at + 1) + excluded.revision - 1 \
             RETURNING i.*), \
             last AS MATERIALIZED (SELECT array_agg(revision ORDER BY organization_id, user_id) \
             AS revision, array_agg(last_created_at ORDER BY organization_id, user_id) \
             AS created_at FROM heads HAVING count(*) > 0), \
             made AS (INSERT INTO notifications (organization_id, user_id, sequence, revision, \
             ring_revision, created_at, sent_at, ",
            new_columns!(),
            ") SELECT w.organization_id, w.user_id, last.revision[w.head] - w.more, \
             last.revision[w.head] - w.more, \
             CASE WHEN w.is_silent THEN 0 ELSE last.revision[w.head] - w.more END, \
             last.created_at[w.head] - w.more, w.sent_at, ",
            new_columns!(),
            " FROM last, unnest(",
            new_arrays!(),
            ", $18::bigint[], $19::boolean[], $20::bigint[], $21::bigint[]) \
             AS w (organization_id, user_id, ",
            new_columns!(),
            ", sent_at, is_silent, head, more)), \
             proof AS (INSERT INTO commits (organization_id, id) SELECT $26, $27 FROM last) \
             SELECT i.organization_id, i.user_id, ",
            head_columns!(),
            " FROM heads AS i"
        )
    };
}

/// Of sends that end with their call.
const SEND: &str = send!("", "");

/// Of parts of sends, which are all to be under way: whoever cancels one waits. Counted before
/// the first head is locked, as all do that lock both.
const SEND_PARTS: &str = send!(
    "under_way AS (SELECT s.id FROM unnest($28::text[], $29::uuid[]) AS w (organization_id, id) \
     JOIN sends AS s ON s.organization_id = w.organization_id AND s.id = w.id \
     WHERE s.state = 1 ORDER BY s.organization_id, s.id FOR SHARE OF s), ",
    "AND (SELECT count(*) FROM under_way) = cardinality($29) "
);

/// What people said of types.
const CHOSEN: &str = "SELECT p.organization_id, p.user_id, p.type, p.is_on \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS w (organization_id, user_id, type) \
     JOIN preferences AS p ON p.organization_id = w.organization_id \
     AND p.user_id = w.user_id AND p.type = w.type";

/// Those of some sends that are under way, and whoever cancels one waits.
const UNDER_WAY: &str = "SELECT s.organization_id, s.id FROM unnest($1::text[], $2::uuid[]) \
     AS w (organization_id, id) JOIN sends AS s ON s.organization_id = w.organization_id \
     AND s.id = w.id WHERE s.state = 1 ORDER BY s.organization_id, s.id FOR SHARE OF s";

/// Locks the heads in the order of their keys, and makes those that are missing and
/// sent to: an inbox without a head has nothing to mark.
const LOCK_HEADS: &str = concat!(
    "INSERT INTO inboxes AS i (organization_id, user_id) \
     SELECT w.organization_id, w.user_id FROM unnest($1::text[], $2::text[], $3::boolean[]) \
     AS w (organization_id, user_id, is_sent_to) WHERE w.is_sent_to OR EXISTS \
     (SELECT FROM inboxes AS h WHERE h.organization_id = w.organization_id \
     AND h.user_id = w.user_id) \
     ORDER BY w.organization_id COLLATE \"C\", w.user_id COLLATE \"C\" \
     ON CONFLICT (organization_id, user_id) DO UPDATE SET revision = i.revision \
     RETURNING i.organization_id, i.user_id, ",
    head_columns!()
);

/// Waits for who inserts the same, and inserts nothing where that one committed.
const CLAIM: &str = "INSERT INTO commits (organization_id, id) VALUES ($1, $2) \
     ON CONFLICT DO NOTHING";

/// The rows that a batch sent, each with its present head.
const FIND: &str = concat!(
    "SELECT ",
    head_columns!(),
    ", ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id JOIN inboxes AS i \
     ON i.organization_id = w.organization_id AND i.user_id = w.user_id"
);

/// Deletes the oldest proofs, but those that another node is about to delete.
const EMPTY: &str = "DELETE FROM commits WHERE (id, organization_id) IN \
     (SELECT id, organization_id FROM commits WHERE id < $1 \
     ORDER BY id, organization_id LIMIT $2 FOR UPDATE SKIP LOCKED)";

const KEYED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::text[]) \
     AS w (organization_id, user_id, idempotency_key) JOIN notifications AS n \
     ON n.organization_id = w.organization_id AND n.user_id = w.user_id \
     AND n.idempotency_key = w.idempotency_key"
);

/// Rows by their ids, without their contents.
const ROWS: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id"
);

/// Rows by their ids, with their contents.
const WHOLE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id"
);

/// The rows that sends may take the place of, without their contents.
const COLLAPSIBLE: &str = concat!(
    "SELECT ",
    row_columns!(),
    " FROM unnest($1::text[], $2::text[], $3::text[]) \
     AS w (organization_id, user_id, collapse_key) JOIN notifications AS n \
     ON n.organization_id = w.organization_id AND n.user_id = w.user_id \
     AND n.collapse_key = w.collapse_key AND n.read_at IS NULL AND n.archived_at IS NULL \
     AND n.removed_at IS NULL"
);

/// How many rows of each inbox are unread above a sequence.
const UNREAD_ABOVE: &str = "SELECT w.organization_id, w.user_id, w.sequence, \
     (SELECT count(*) FROM notifications AS n WHERE n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.sequence > w.sequence AND n.read_at IS NULL \
     AND n.archived_at IS NULL AND n.removed_at IS NULL) AS count \
     FROM unnest($1::text[], $2::text[], $3::bigint[]) AS w (organization_id, user_id, sequence)";

/// Deletes rows for good.
const DELETE: &str = "DELETE FROM notifications AS n \
     USING unnest($1::text[], $2::text[], $3::bigint[]) AS w (organization_id, user_id, sequence) \
     WHERE n.organization_id = w.organization_id AND n.user_id = w.user_id \
     AND n.sequence = w.sequence";

/// Writes the states of rows that are there. When a follow-up of a new one is due is counted
/// from the database's time, whatever this node takes the time to be.
const UPDATE: &str = "UPDATE notifications AS n SET revision = m.revision, \
     ring_revision = m.ring_revision, read_at = m.read_at, archived_at = m.archived_at, \
     removed_at = m.removed_at, removal_cause = m.removal_cause, \
     follow_up_at = m.follow_up_at + CASE WHEN m.revision = m.sequence \
     THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $12 ELSE 0 END, \
     follow_up_unless = m.follow_up_unless \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[]) \
     AS m (organization_id, user_id, sequence, \
     revision, ring_revision, read_at, archived_at, removed_at, removal_cause, follow_up_at, \
     follow_up_unless) \
     WHERE n.organization_id = m.organization_id AND n.user_id = m.user_id \
     AND n.sequence = m.sequence";

/// Writes their states and contents.
const REWRITE: &str = "UPDATE notifications AS n SET revision = m.revision, \
     ring_revision = m.ring_revision, read_at = m.read_at, archived_at = m.archived_at, \
     removed_at = m.removed_at, removal_cause = m.removal_cause, \
     follow_up_at = m.follow_up_at, follow_up_unless = m.follow_up_unless, type = m.type, \
     title = m.title, body = m.body, entity_type = m.entity_type, entity_id = m.entity_id, \
     action_url = m.action_url, data = m.data, image_url = m.image_url, actions = m.actions \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], \
     $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], \
     $20::text[]) AS m (organization_id, user_id, sequence, revision, ring_revision, read_at, \
     archived_at, removed_at, removal_cause, follow_up_at, follow_up_unless, type, title, body, entity_type, entity_id, action_url, data, \
     image_url, actions) WHERE n.organization_id = m.organization_id AND n.user_id = m.user_id \
     AND n.sequence = m.sequence";

/// Takes the next positions of organizations, and puts some there. Who reads
/// them has all below the last that they see: a position is taken under its organization's row,
/// which is held until the end.
const FOLLOW_UP: &str = "WITH told AS (SELECT w.*, count(*) OVER (PARTITION BY w.organization_id) \
     AS total, row_number() OVER (PARTITION BY w.organization_id ORDER BY w.due_at, w.number) AS place \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) WITH ORDINALITY \
     AS w (organization_id, user_id, sequence, due_at, unless, number)), \
     log AS (INSERT INTO follow_up_logs AS l (organization_id, last_position) \
     SELECT DISTINCT organization_id COLLATE \"C\", total FROM told ORDER BY 1 \
     ON CONFLICT (organization_id) DO UPDATE SET \
     last_position = l.last_position + excluded.last_position RETURNING *) \
     INSERT INTO follow_ups (organization_id, position, user_id, sequence, due_at, \
     follow_up_unless, told_at) SELECT t.organization_id, l.last_position - t.total + t.place, \
     t.user_id, t.sequence, t.due_at, t.unless, $6 FROM told AS t \
     JOIN log AS l ON l.organization_id = t.organization_id";

/// The new rows, the new heads and the id of the batch, in one round trip. Who was in
/// doubt has inserted the id before.
const WRITE: &str = concat!(
    "WITH made AS (INSERT INTO notifications (organization_id, user_id, ",
    new_columns!(),
    ", sequence, revision, ring_revision, created_at, sent_at, collapsed_count) \
     SELECT * FROM unnest(",
    new_arrays!(),
    ", $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], \
     $23::bigint[])), \
     proof AS (INSERT INTO commits (organization_id, id) VALUES ($34, $35) \
     ON CONFLICT DO NOTHING) \
     UPDATE inboxes AS i SET revision = h.revision, unread_count = h.unread_count, \
     unseen_count = h.unseen_count, seen_through = h.seen_through, \
     last_created_at = h.last_created_at, row_count = h.row_count, floor = h.floor, \
     taken_through = h.taken_through, oldest_at = \
     CASE WHEN h.row_count / 1000 > i.row_count / 1000 THEN 0 \
     WHEN i.revision = 0 THEN h.last_created_at - h.row_count + 1 ELSE i.oldest_at END \
     FROM unnest($24::text[], $25::text[], $26::bigint[], $27::bigint[], $28::bigint[], \
     $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[], $33::bigint[]) \
     AS h (organization_id, user_id, revision, unread_count, unseen_count, seen_through, \
     last_created_at, row_count, floor, taken_through) \
     WHERE i.organization_id = h.organization_id AND i.user_id = h.user_id"
);

/// The columns of a new row that are known before its head is locked.
struct NewRow<'r> {
    inbox: &'r InboxKey,
    id: Uuid,
    content: &'r Content,
    sender: &'r str,
    keyed: Option<(&'r str, Fingerprint)>,
    expire_time: Option<Timestamp>,
    collapse_key: Option<&'r str>,
}

impl<'r> NewRow<'r> {
    fn of_send(new: &'r NewNotification) -> Self {
        let key = new.idempotency_key.as_deref();
        Self {
            inbox: &new.inbox,
            id: new.id,
            content: &new.content,
            sender: &new.sender,
            keyed: key.map(|key| (key, new.content.fingerprint())),
            expire_time: new.expire_time,
            collapse_key: new.collapse_key.as_deref(),
        }
    }

    fn of_made((inbox, notification, keyed): &Made<'r>) -> Self {
        let keyed = keyed.as_ref();
        Self {
            inbox,
            id: notification.row.id,
            content: &notification.content,
            sender: &notification.sender,
            keyed: keyed.map(|(key, fingerprint)| (key.as_str(), *fingerprint)),
            expire_time: notification.expire_time,
            collapse_key: notification.collapse_key.as_deref(),
        }
    }

    /// Binds them, as the first seventeen.
    fn bind(query: PgQuery, rows: &[Self]) -> PgQuery {
        let (organizations, users) = halves(rows.iter().map(|row| row.inbox));
        let fingerprint = |row: &Self| row.keyed.map(|(_, fingerprint)| fingerprint.to_vec());
        query
            .bind(organizations)
            .bind(users)
            .bind(column(rows, |row| row.id))
            .bind(column(rows, |row| row.content.kind.as_str()))
            .bind(column(rows, |row| row.content.title.as_str()))
            .bind(column(rows, |row| row.content.body.as_deref()))
            .bind(column(rows, |row| row.content.entity_type.as_deref()))
            .bind(column(rows, |row| row.content.entity_id.as_deref()))
            .bind(column(rows, |row| row.content.action_url.as_deref()))
            .bind(column(rows, |row| {
                row.content.data.as_ref().map(Data::as_str)
            }))
            .bind(column(rows, |row| row.sender))
            .bind(column(rows, |row| row.keyed.map(|(key, _)| key)))
            .bind(column(rows, fingerprint))
            .bind(column(rows, |row| row.content.image_url.as_deref()))
            .bind(column(rows, |row| rows::actions_text(&row.content.actions)))
            .bind(column(rows, |row| micros(row.expire_time)))
            .bind(column(rows, |row| row.collapse_key))
    }
}

/// The sends that rows are parts of, as two columns.
fn halves_of_parts<'p>(parts: &BTreeSet<(&'p OrganizationId, Uuid)>) -> (Vec<&'p str>, Vec<Uuid>) {
    parts.iter().map(|(of, id)| (of.as_str(), *id)).unzip()
}

fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_micros)
}

/// A column of values, for an array.
fn column<'r, T, V>(rows: &'r [T], value: impl Fn(&'r T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// Heads by their keys, of rows of an engine.
fn read_heads(rows: &[sqlx::postgres::PgRow]) -> Result<Before, Error> {
    let mut before = Before::default();
    for row in rows {
        let inbox = Columns::of(row, "inboxes").inbox()?;
        before.heads.insert(inbox, rows::head(row)?);
    }
    Ok(before)
}

/// Whether the server ended the statement, and so undid it, and not the connection,
/// which may have been after it.
fn is_undone(error: &sqlx::Error) -> bool {
    use sqlx::postgres::{PgDatabaseError, PgSeverity};
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let error = error.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| matches!(error.severity(), PgSeverity::Error))
}

/// Whether the server's error is of one of these classes.
fn is_of(error: &sqlx::Error, classes: &[&str]) -> bool {
    code(error).is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

/// A connection that writes, and whether it is in a transaction.
pub(super) struct Writing<'p> {
    store: &'p Postgres,
    connection: Lease<'p>,
    is_open: bool,
}

impl<'p> Writing<'p> {
    pub(super) async fn on(store: &'p Postgres) -> Result<Self, Error> {
        Ok(Self {
            store,
            connection: store.writers.take().await?,
            is_open: false,
        })
    }

    /// Gives the connection back, where what it was used for has an answer: a
    /// transaction that is still open was not to be. Now and then, deletes proofs that
    /// are no longer needed.
    pub(super) async fn end(mut self, now: Timestamp) {
        let commits = self.store.commits.fetch_add(1, Ordering::Relaxed);
        let ended = if self.is_open {
            let undone = run(&mut self.connection, "ROLLBACK");
            self.store.in_time(undone).await
        } else if commits.is_multiple_of(EMPTY_EVERY) {
            let millis = now.before(PROOF_KEPT).as_micros() / 1000;
            let millis = u64::try_from(millis).unwrap_or(0);
            let oldest = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
            let query = self.store.query(EMPTY).bind(oldest).bind(EMPTIED);
            self.fetch(query).await.map(drop)
        } else {
            Ok(())
        };
        match ended {
            Ok(()) => self.connection.keep(),
            Err(error) => tracing::debug!(%error, "a connection is not used again"),
        }
    }

    /// For a deliberate bug: commits later, and nobody waits for it.
    pub(super) fn commit_later(self) {
        let mut connection = self.connection.into_inner();
        tokio::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            run(&mut connection, "COMMIT").await
        });
    }

    /// The rows of names, each of its inbox; none are asked for by none.
    async fn named<N>(
        &mut self,
        statement: &'static str,
        names: &[(&InboxKey, N)],
    ) -> Result<Vec<PgRow>, Error>
    where
        N: Copy + Send + Sync,
        for<'q> Vec<N>: sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (organizations, users) = halves(names.iter().map(|(inbox, _)| *inbox));
        let query = self.store.query(statement);
        let query = query.bind(organizations).bind(users);
        self.fetch(query.bind(column(names, |(_, name)| *name)))
            .await
    }

    async fn under_way(
        &mut self,
        batch: &[Mutation],
    ) -> Result<HashSet<(OrganizationId, Uuid)>, Error> {
        let parts = plan::parts(batch);
        let mut under_way = HashSet::new();
        if parts.is_empty() {
            return Ok(under_way);
        }
        let (organizations, ids) = halves_of_parts(&parts);
        let query = self.store.query(UNDER_WAY).bind(organizations).bind(ids);
        for row in self.fetch(query).await? {
            let columns = Columns::of(&row, "sends");
            under_way.insert((organization_of(&columns)?, columns.id()?));
        }
        Ok(under_way)
    }

    async fn fetch(&mut self, query: PgQuery) -> Result<Vec<PgRow>, Error> {
        let rows = query.fetch_all(&mut *self.connection);
        self.store
            .in_time(async { rows.await.map_err(failed) })
            .await
    }
}

impl Link for Writing<'_> {
    async fn send(
        &mut self,
        sends: &Sends<'_>,
        proof: Proof<'_>,
        now: Timestamp,
    ) -> Told<Option<Before>> {
        if self.store.is_pooled {
            return Told::Done(None);
        }
        let rows = column(&sends.rows, |new| NewRow::of_send(new));
        let (organizations, users) = halves(sends.inboxes.iter().copied());
        let statement = if sends.parts.is_empty() {
            SEND
        } else {
            SEND_PARTS
        };
        let mut query = NewRow::bind(self.store.query(statement), &rows)
            .bind(column(&sends.rows, |new| new.sent_at(now).as_micros()))
            .bind(column(&sends.rows, |new| new.is_silent))
            .bind(column(&sends.places, |(head, _)| *head))
            .bind(column(&sends.places, |(_, more)| *more))
            .bind(organizations)
            .bind(users)
            .bind(&sends.counts)
            .bind(now.as_micros())
            .bind(proof.organization_id)
            .bind(proof.id);
        if !sends.parts.is_empty() {
            let (organizations, ids) = halves_of_parts(&sends.parts);
            query = query.bind(organizations).bind(ids);
        }
        let sent = timeout(self.store.patience, query.fetch_all(&mut *self.connection));
        match sent.await {
            Ok(Ok(heads)) if heads.is_empty() => Told::Done(None),
            Ok(Ok(heads)) => match read_heads(&heads) {
                Ok(before) => Told::Done(Some(before)),
                Err(error) => Told::Unknown(error),
            },
            // A key that was used meanwhile, or a member at fault.
            Ok(Err(error)) if is_of(&error, &["22", "23"]) => Told::Done(None),
            Ok(Err(error)) if is_undone(&error) => Told::Undone(failed(error)),
            Ok(Err(error)) => Told::Unknown(unavailable(error)),
            Err(_) => Told::Unknown(too_late()),
        }
    }

    async fn begin(&mut self) -> Result<(), Error> {
        self.is_open = true;
        let begun = run(&mut self.connection, &self.store.begin);
        self.store.in_time(begun).await
    }

    async fn claim(&mut self, proof: Proof<'_>) -> Result<bool, Error> {
        let query = self.store.query(CLAIM);
        let query = query.bind(proof.organization_id).bind(proof.id);
        let claimed = query.execute(&mut *self.connection);
        // Who is waited for is the commit in doubt, and no member.
        let claimed = async { claimed.await.map_err(unavailable) };
        Ok(self.store.in_time(claimed).await?.rows_affected() > 0)
    }

    async fn load(&mut self, batch: &[Mutation]) -> Result<Before, Error> {
        let mut inboxes = BTreeMap::new();
        for mutation in batch {
            *inboxes.entry(mutation.inbox()).or_default() |= plan::makes_head(mutation);
        }
        let (organizations, users) = halves(inboxes.keys().copied());
        let is_sent_to: Vec<bool> = inboxes.into_values().collect();
        // Before the heads: who cancels holds none of them.
        let under_way = self.under_way(batch).await?;
        let query = self.store.query(LOCK_HEADS);
        let query = query.bind(organizations).bind(users).bind(is_sent_to);
        let mut before = read_heads(&self.fetch(query).await?)?;
        before.under_way = under_way;

        let keys = plan::keys(batch);
        for row in self.named(KEYED, &keys).await? {
            rows::add_keyed(&mut before, &row)?;
        }
        let choices: Vec<_> = plan::choices(batch).into_iter().collect();
        for row in self.named(CHOSEN, &choices).await? {
            rows::add_chosen(&mut before, &row)?;
        }
        let collapse_keys = plan::collapse_keys(batch);
        for row in self.named(COLLAPSIBLE, &collapse_keys).await? {
            rows::add_row(&mut before, &row)?;
        }
        let [ids, whole] = plan::ids(batch);
        for row in self.named(ROWS, &ids).await? {
            rows::add_row(&mut before, &row)?;
        }
        for row in self.named(WHOLE, &whole).await? {
            rows::add_whole(&mut before, &row)?;
        }

        let seen = plan::seen(batch);
        if !seen.is_empty() {
            let (organizations, users) = halves(seen.iter().map(|(inbox, _)| *inbox));
            let through: Vec<i64> = seen.iter().map(|(_, through)| integer(*through)).collect();
            let query = self.store.query(UNREAD_ABOVE);
            let query = query.bind(organizations).bind(users).bind(through);
            for row in self.fetch(query).await? {
                let columns = Columns::of(&row, "notifications");
                let place = (columns.inbox()?, columns.revision("sequence")?);
                before.unread_above.insert(place, columns.count("count")?);
            }
        }
        Ok(before)
    }

    async fn write(&mut self, plan: &Plan, proof: Proof<'_>) -> Result<(), Error> {
        let writes = plan.writes();
        if !writes.deleted.is_empty() {
            let (organizations, users) = halves(writes.deleted.iter().map(|(inbox, _)| *inbox));
            let query = self.store.query(DELETE).bind(organizations).bind(users);
            let sequences = column(&writes.deleted, |(_, sequence)| integer(*sequence));
            self.fetch(query.bind(sequences)).await?;
        }
        let query = self.store.bind_write(plan, &writes.made, proof);
        self.fetch(query).await?;
        // What is changed may be made by this batch: then it is made by now.
        if !writes.changed.is_empty() {
            let query = self.store.query(UPDATE);
            let query = bind_states(query, &writes.changed);
            self.fetch(query.bind(plan.now.as_micros())).await?;
        }
        if !writes.rewritten.is_empty() {
            let query = self.store.query(REWRITE);
            self.fetch(bind_rewrite(query, &writes.rewritten)).await?;
        }
        // After the heads, which all take first: so nobody waits in a circle.
        if !plan.follow_ups.is_empty() {
            let query = bind_follow_up(self.store.query(FOLLOW_UP), plan);
            self.fetch(query).await?;
        }
        Ok(())
    }

    async fn commit(&mut self) -> Told<()> {
        let commit = sqlx::raw_sql("COMMIT").execute(&mut *self.connection);
        match timeout(self.store.patience, commit).await {
            Ok(Ok(_)) => {
                self.is_open = false;
                Told::Done(())
            }
            // The server's word: serialization, or a constraint at the end.
            Ok(Err(error)) if is_of(&error, &["23", "40"]) => Told::Undone(failed(error)),
            Ok(Err(error)) => Told::Unknown(unavailable(error)),
            Err(_) => Told::Unknown(too_late()),
        }
    }

    async fn find(&mut self, batch: &[Mutation]) -> Result<Found, Error> {
        let sends: Vec<_> = plan::sends(batch).collect();
        let (organizations, users) = halves(sends.iter().map(|new| &new.inbox));
        let ids = column(&sends, |new| new.id);
        let query = self.store.query(FIND);
        let query = query.bind(organizations).bind(users).bind(ids);
        let mut found = Found::new();
        for row in self.fetch(query).await? {
            let inbox = Columns::of(&row, "notifications").inbox()?;
            let notification = rows::notification(&row)?;
            let head = rows::head(&row)?.head;
            found.insert((inbox, notification.row.id), (notification, head));
        }
        Ok(found)
    }
}

impl Postgres {
    fn bind_write(&self, plan: &Plan, made: &[Made<'_>], proof: Proof<'_>) -> PgQuery {
        let (organizations, users) = halves(plan.heads.keys());
        let heads: Vec<_> = plan.heads.values().collect();
        NewRow::bind(self.query(WRITE), &column(made, NewRow::of_made))
            .bind(column(made, |(_, new, _)| integer(new.row.sequence)))
            .bind(column(made, |(_, new, _)| integer(new.row.revision)))
            .bind(column(made, |(_, new, _)| integer(new.row.ring_revision)))
            .bind(column(made, |(_, new, _)| new.created_at.as_micros()))
            .bind(column(made, |(_, new, _)| new.sent_at.as_micros()))
            .bind(column(made, |(_, new, _)| i64::from(new.collapsed_count)))
            .bind(organizations)
            .bind(users)
            .bind(column(&heads, |of| integer(of.head.revision)))
            .bind(column(&heads, |of| i64::from(of.head.unread_count)))
            .bind(column(&heads, |of| i64::from(of.head.unseen_count)))
            .bind(column(&heads, |of| integer(of.head.seen_through)))
            .bind(column(&heads, |of| of.last_created_at.as_micros()))
            .bind(column(&heads, |of| i64::from(of.row_count)))
            .bind(column(&heads, |of| integer(of.floor)))
            .bind(column(&heads, |of| of.taken_through.cast_signed()))
            .bind(proof.organization_id)
            .bind(proof.id)
    }
}

fn bind_follow_up(query: PgQuery, plan: &Plan) -> PgQuery {
    let told = &plan.follow_ups;
    let (organizations, users) = halves(told.iter().map(|of| &of.inbox));
    query
        .bind(organizations)
        .bind(users)
        .bind(column(told, |of| integer(of.sequence)))
        .bind(column(told, |of| of.was.at.as_micros()))
        .bind(column(told, |of| rows::unless_number(of.was.unless)))
        .bind(plan.now.as_micros())
}

/// Binds the states of rows, as the first eleven.
fn bind_states(query: PgQuery, changed: &[Changed<'_>]) -> PgQuery {
    let (organizations, users) = halves(changed.iter().map(|(inbox, _)| *inbox));
    let removed = |row: &Row| row.state.removed;
    query
        .bind(organizations)
        .bind(users)
        .bind(column(changed, |(_, row)| integer(row.sequence)))
        .bind(column(changed, |(_, row)| integer(row.revision)))
        .bind(column(changed, |(_, row)| integer(row.ring_revision)))
        .bind(column(changed, |(_, row)| micros(row.state.read_at)))
        .bind(column(changed, |(_, row)| micros(row.state.archived_at)))
        .bind(column(changed, |(_, row)| {
            micros(removed(row).map(|(at, _)| at))
        }))
        .bind(column(changed, |(_, row)| {
            removed(row).map(|(_, cause)| rows::cause_number(cause))
        }))
        .bind(column(changed, |(_, row)| {
            row.state.follow_up.map(|due| due.at.as_micros())
        }))
        .bind(column(changed, |(_, row)| {
            let due = row.state.follow_up;
            due.map(|due| rows::unless_number(due.unless))
        }))
}

fn bind_rewrite(query: PgQuery, rewritten: &[Rewritten<'_>]) -> PgQuery {
    let states = column(rewritten, |(inbox, row, _)| (*inbox, *row));
    let contents = column(rewritten, |(_, _, content)| *content);
    bind_states(query, &states)
        .bind(column(&contents, |of| of.kind.as_str()))
        .bind(column(&contents, |of| of.title.as_str()))
        .bind(column(&contents, |of| of.body.as_deref()))
        .bind(column(&contents, |of| of.entity_type.as_deref()))
        .bind(column(&contents, |of| of.entity_id.as_deref()))
        .bind(column(&contents, |of| of.action_url.as_deref()))
        .bind(column(&contents, |of| of.data.as_ref().map(Data::as_str)))
        .bind(column(&contents, |of| of.image_url.as_deref()))
        .bind(column(&contents, |of| rows::actions_text(&of.actions)))
}
