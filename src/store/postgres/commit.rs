//! A batch's commit.
//!
//! A batch that only sends is one statement and one round trip: it counts the heads
//! on, makes those that are missing, and writes the rows. It writes nothing where an
//! idempotency key was used before. What it cannot do is a transaction: lock the
//! heads, load what the plan needs, write what it says; a head that is missing there
//! is made before, in a transaction that holds nothing else.
//!
//! Both take the heads first, in the order of their keys, so that batches of
//! several nodes wait for one another and never in a circle. READ COMMITTED
//! is enough: who takes a head waits for its latest row, what a transaction reads
//! after the locks is what it will change, and two who use a key at once meet in its
//! index.
//!
//! Each commit waits for its sync: `synchronous_commit = on` is set for a
//! connection, and in each transaction that writes, which holds through a pooler
//! as well. There a connection's settings do not last, so that all is transactions.
//!
//! Where the answer to a commit is lost, another transaction waits for the same
//! heads and looks for what the commit would have written. A statement that comes
//! to the server later still writes nothing: its ids are there.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    mem,
    time::{Duration, Instant},
};

use sqlx::PgConnection;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{PgQuery, Postgres, class, failed, halves, is_dead, run, too_late, unavailable};
use crate::{
    clock::Timestamp,
    model::{
        Change, Content, Data, Head, InboxEvent, InboxKey, NewNotification, Notification, Revision,
        Run,
    },
    sabotage::{self, Sabotage},
    store::{
        Committed, Error, Mutation, Outcome,
        plan::{self, Before, Fingerprint, Mark, Plan},
        rows::{self, Columns, columns, integer},
    },
};

/// Between two attempts to learn what became of a commit.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);

/// The columns of a new row that are known before its head is locked, after its
/// inbox, and their arrays.
macro_rules! new_columns {
    () => {
        "id, type, title, body, entity_type, entity_id, action_url, data, sender, \
         idempotency_key, fingerprint"
    };
}
macro_rules! new_arrays {
    () => {
        "$1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[]"
    };
}

/// Counts the heads on in the order of their keys, makes those that are missing, and
/// writes the rows; or writes nothing, where a key was used. A row names its head by
/// the place in that order, from 1, and tells how many rows of its inbox come after
/// it.
const SEND: &str = concat!(
    "WITH heads AS (INSERT INTO inboxes AS i (organization_id, user_id, revision, unread_count, \
     last_created_at) SELECT w.organization_id, w.user_id, w.sends, w.sends, $19 + w.sends - 1 \
     FROM unnest($16::text[], $17::text[], $18::bigint[]) AS w (organization_id, user_id, sends) \
     WHERE NOT EXISTS (SELECT FROM unnest($1::text[], $2::text[], $12::text[]) \
     AS w (organization_id, user_id, idempotency_key) JOIN notifications AS n \
     ON n.organization_id = w.organization_id AND n.user_id = w.user_id \
     AND n.idempotency_key = w.idempotency_key WHERE w.idempotency_key IS NOT NULL) \
     ORDER BY w.organization_id COLLATE \"C\", w.user_id COLLATE \"C\" \
     ON CONFLICT (organization_id, user_id) DO UPDATE SET \
     revision = i.revision + excluded.revision, \
     unread_count = i.unread_count + excluded.revision, \
     last_created_at = greatest($19, i.last_created_at + 1) + excluded.revision - 1 \
     RETURNING i.organization_id, i.user_id, i.revision, i.unread_count, i.floor, \
     i.last_created_at), \
     last AS MATERIALIZED (SELECT array_agg(revision ORDER BY organization_id, user_id) \
     AS revision, array_agg(last_created_at ORDER BY organization_id, user_id) AS created_at \
     FROM heads HAVING count(*) > 0), \
     made AS (INSERT INTO notifications (organization_id, user_id, sequence, revision, \
     created_at, ",
    new_columns!(),
    ") SELECT w.organization_id, w.user_id, last.revision[w.head] - w.more, \
     last.revision[w.head] - w.more, last.created_at[w.head] - w.more, ",
    new_columns!(),
    " FROM last, unnest(",
    new_arrays!(),
    ", $14::bigint[], $15::bigint[]) AS w (organization_id, user_id, ",
    new_columns!(),
    ", head, more)) \
     SELECT organization_id, user_id, revision, unread_count, floor, last_created_at FROM heads"
);

/// Locks the heads in the order of their keys.
const LOCK_HEADS: &str = "SELECT i.organization_id, i.user_id, i.revision, i.unread_count, \
     i.floor, i.last_created_at FROM unnest($1::text[], $2::text[]) \
     AS w (organization_id, user_id) JOIN inboxes AS i \
     ON i.organization_id = w.organization_id AND i.user_id = w.user_id \
     ORDER BY i.organization_id, i.user_id FOR UPDATE OF i";

/// Makes heads in the order of their keys, but those that are there.
const MAKE_HEADS: &str = "INSERT INTO inboxes (organization_id, user_id) \
     SELECT w.organization_id, w.user_id FROM unnest($1::text[], $2::text[]) \
     AS w (organization_id, user_id) \
     ORDER BY w.organization_id COLLATE \"C\", w.user_id COLLATE \"C\" ON CONFLICT DO NOTHING";

const KEYED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::text[]) \
     AS w (organization_id, user_id, idempotency_key) JOIN notifications AS n \
     ON n.organization_id = w.organization_id AND n.user_id = w.user_id \
     AND n.idempotency_key = w.idempotency_key"
);

const UNREAD: &str = "SELECT n.organization_id, n.user_id, n.id \
     FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id \
     WHERE n.read_at IS NULL AND n.archived_at IS NULL";

const MARK: &str = "UPDATE notifications AS n SET revision = m.revision, read_at = m.read_at \
     FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[]) \
     AS m (organization_id, user_id, id, revision, read_at) \
     WHERE n.organization_id = m.organization_id AND n.user_id = m.user_id AND n.id = m.id";

/// The new rows and the new heads, in one round trip.
const WRITE: &str = concat!(
    "WITH made AS (INSERT INTO notifications (organization_id, user_id, ",
    new_columns!(),
    ", sequence, revision, created_at) SELECT * FROM unnest(",
    new_arrays!(),
    ", $14::bigint[], $15::bigint[], $16::bigint[])) \
     UPDATE inboxes AS i SET revision = h.revision, unread_count = h.unread_count, \
     last_created_at = h.last_created_at \
     FROM unnest($17::text[], $18::text[], $19::bigint[], $20::bigint[], $21::bigint[]) \
     AS h (organization_id, user_id, revision, unread_count, last_created_at) \
     WHERE i.organization_id = h.organization_id AND i.user_id = h.user_id"
);

/// What there is of the rows of a doubtful commit.
const DOUBTFUL: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id"
);

/// A commit of a batch whose answer never came.
enum Doubt {
    /// [`SEND`]. It may even be still to come.
    Send,
    /// The COMMIT of what this plan says; [`SEND`] may have been tried before it.
    Plan(Plan),
}

/// How far a transaction came before its COMMIT.
enum Step {
    /// These inboxes have no head to lock yet.
    Headless(BTreeSet<InboxKey>),
    /// There is nothing to write, or a doubtful commit did it.
    Settled(Committed),
    /// All is written that the plan says.
    Written(Plan),
}

/// A batch that [`SEND`] can write: it only sends, and each key once.
struct Sends<'b> {
    rows: Vec<&'b NewNotification>,
    /// Of each row: the place of its head, and how many rows of its inbox come after
    /// it.
    places: Vec<(i64, i64)>,
    /// In the order of their keys.
    inboxes: Vec<&'b InboxKey>,
    /// The rows of each inbox.
    counts: Vec<i64>,
}

impl<'b> Sends<'b> {
    fn of(batch: &'b [Mutation]) -> Option<Self> {
        let rows = sends(batch).collect::<Vec<_>>();
        let keys = plan::keys(batch);
        let is_repeated = keys.iter().collect::<HashSet<_>>().len() < keys.len();
        if rows.len() < batch.len() || is_repeated {
            return None;
        }
        let mut inboxes: Vec<_> = rows.iter().map(|row| &row.inbox).collect();
        inboxes.sort_unstable();
        inboxes.dedup();
        let mut counts = vec![0; inboxes.len()];
        let mut places: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| {
                let index = inboxes.partition_point(|inbox| *inbox < &row.inbox);
                let more = counts[index];
                counts[index] += 1;
                (index as i64 + 1, more)
            })
            .collect();
        places.reverse();
        Some(Self {
            rows,
            places,
            inboxes,
            counts,
        })
    }

    /// What there was before [`SEND`], from the heads that it answered with. What
    /// [`plan::plan`] then says is what it did.
    fn before(&self, mut after: Before) -> Before {
        for (inbox, count) in self.inboxes.iter().zip(&self.counts) {
            if let Some(head) = after.heads.get_mut(*inbox) {
                let count = u32::try_from(*count).unwrap_or(u32::MAX);
                head.revision = Revision::new(head.revision.get() - u64::from(count));
                head.unread_count -= count;
                head.last_created_at =
                    Timestamp::from_micros(head.last_created_at.as_micros() - i64::from(count));
            }
        }
        after
    }
}

/// What a batch sends.
fn sends(batch: &[Mutation]) -> impl Iterator<Item = &NewNotification> {
    batch.iter().filter_map(|mutation| match mutation {
        Mutation::Send(new) => Some(new),
        Mutation::MarkRead { .. } => None,
    })
}

/// The columns of a new row that are known before its head is locked.
struct NewRow<'r> {
    inbox: &'r InboxKey,
    id: Uuid,
    content: &'r Content,
    sender: &'r str,
    keyed: Option<(&'r str, Fingerprint)>,
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
        }
    }

    fn of_insert(insert: &'r plan::Insert) -> Self {
        let keyed = insert.keyed.as_ref();
        Self {
            inbox: &insert.inbox,
            id: insert.notification.id,
            content: &insert.notification.content,
            sender: &insert.notification.sender,
            keyed: keyed.map(|(key, fingerprint)| (key.as_str(), *fingerprint)),
        }
    }

    /// Binds them, as the first thirteen.
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
    }
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
        before.heads.insert(inbox, rows::head(row, "revision")?);
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

impl Postgres {
    /// See [`crate::store::Store::commit`].
    pub(super) async fn write_batch(
        &self,
        batch: &[Mutation],
        now: Timestamp,
    ) -> Result<Committed, Error> {
        if sabotage::is(Sabotage::AckBeforeCommit) || sabotage::is(Sabotage::PublishBeforeCommit) {
            return self.commit_later(batch, now).await;
        }
        let mut batch = Cow::Borrowed(batch);
        let (mut doubt, mut give_up, mut dead) = (None, None, 0);
        loop {
            if doubt.is_some() && sabotage::is(Sabotage::RetryWithFreshIds) {
                doubt = None;
                batch = Cow::Owned(with_fresh_ids(&batch));
            }
            let error = match self.attempt(&batch, now, &mut doubt).await {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => continue,
                Err(error) => error,
            };
            // As many as there are may have died while they were idle.
            dead += 1;
            if is_dead(&error) && dead <= self.lanes {
                continue;
            }
            if doubt.is_none() {
                return Err(error);
            }
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.resolve_within);
            if Instant::now() >= give_up {
                return Err(Error::InDoubt(error.into()));
            }
            tracing::warn!(%error, "it is not known whether a commit happened; asking");
            sleep(RESOLVE_PAUSE).await;
        }
    }

    /// One attempt at a batch; `None` where heads had to be made first. While
    /// `doubt` holds something afterwards, it is not known whether that commit
    /// happened.
    async fn attempt(
        &self,
        batch: &[Mutation],
        now: Timestamp,
        doubt: &mut Option<Doubt>,
    ) -> Result<Option<Committed>, Error> {
        let mut connection = self.writers.take().await?;
        // What is in doubt takes a look between the locks and the writing.
        if doubt.is_none()
            && !self.is_pooled
            && let Some(sends) = Sends::of(batch)
            && let Some(committed) = self
                .send(&mut connection, &sends, batch, now, doubt)
                .await?
        {
            connection.keep();
            return Ok(Some(committed));
        }
        let step = self.step(&mut connection, batch, now, doubt);
        let plan = match self.in_time(step).await? {
            Step::Headless(inboxes) => {
                let made = self.make_heads(&mut connection, &inboxes);
                self.in_time(made).await?;
                connection.keep();
                return Ok(None);
            }
            Step::Settled(committed) => {
                connection.keep();
                return Ok(Some(committed));
            }
            Step::Written(plan) => plan,
        };
        let commit = sqlx::raw_sql("COMMIT").execute(&mut *connection);
        let error = match timeout(self.patience, commit).await {
            Ok(Ok(_)) => {
                connection.keep();
                return Ok(Some(plan.committed));
            }
            // The server's word: serialization, or a constraint at the end.
            Ok(Err(error)) if matches!(class(&error), Some("23" | "40")) => {
                return Err(failed(error));
            }
            Ok(Err(error)) => unavailable(error),
            Err(_) => too_late(),
        };
        *doubt = Some(Doubt::Plan(plan));
        Err(error)
    }

    /// The batch in one statement; `None` where that writes nothing and a
    /// transaction has to say why. `doubt` as for [`Postgres::attempt`].
    async fn send(
        &self,
        connection: &mut PgConnection,
        sends: &Sends<'_>,
        batch: &[Mutation],
        now: Timestamp,
        doubt: &mut Option<Doubt>,
    ) -> Result<Option<Committed>, Error> {
        let rows = column(&sends.rows, |new| NewRow::of_send(new));
        let (organizations, users) = halves(sends.inboxes.iter().copied());
        let query = NewRow::bind(self.query(SEND), &rows)
            .bind(column(&sends.places, |(head, _)| *head))
            .bind(column(&sends.places, |(_, more)| *more))
            .bind(organizations)
            .bind(users)
            .bind(&sends.counts)
            .bind(now.as_micros());
        let error = match timeout(self.patience, query.fetch_all(connection)).await {
            Ok(Ok(heads)) if heads.is_empty() => return Ok(None),
            Ok(Ok(heads)) => {
                let before = sends.before(read_heads(&heads)?);
                return Ok(Some(plan::plan(batch, before, now).committed));
            }
            // A key that was used meanwhile, or a member at fault.
            Ok(Err(error)) if matches!(class(&error), Some("22" | "23")) => return Ok(None),
            Ok(Err(error)) if is_undone(&error) => return Err(unavailable(error)),
            Ok(Err(error)) => unavailable(error),
            Err(_) => too_late(),
        };
        *doubt = Some(Doubt::Send);
        Err(error)
    }

    /// Locks, plans and writes. Once the heads are locked, a COMMIT that was in
    /// doubt has ended, and [`SEND`] has, or will write nothing.
    async fn step(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
        now: Timestamp,
        doubt: &mut Option<Doubt>,
    ) -> Result<Step, Error> {
        run(connection, &self.begin).await?;
        let mut before = self.lock(connection, batch).await?;
        // An inbox without a head has nothing to mark.
        let headless: BTreeSet<InboxKey> = sends(batch)
            .map(|new| &new.inbox)
            .filter(|inbox| !before.heads.contains_key(*inbox))
            .cloned()
            .collect();
        let settled = if !headless.is_empty() {
            Step::Headless(headless)
        } else if let Some(doubtful) = doubt
            && let Some(committed) = self.settle(connection, batch, &before, doubtful).await?
        {
            *doubt = None;
            Step::Settled(committed)
        } else {
            self.load(connection, batch, &mut before).await?;
            let plan = plan::plan(batch, before, now);
            if !plan.inserts.is_empty() || !plan.marks.is_empty() {
                self.write(connection, &plan).await?;
                return Ok(Step::Written(plan));
            }
            Step::Settled(plan.committed)
        };
        run(connection, "ROLLBACK").await?;
        Ok(settled)
    }

    /// Locks the heads of a batch.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
    ) -> Result<Before, Error> {
        let (organizations, users) = halves(plan::inboxes(batch).into_iter());
        let locked = self
            .query(LOCK_HEADS)
            .bind(organizations)
            .bind(users)
            .fetch_all(connection)
            .await
            .map_err(failed)?;
        read_heads(&locked)
    }

    async fn make_heads(
        &self,
        connection: &mut PgConnection,
        inboxes: &BTreeSet<InboxKey>,
    ) -> Result<(), Error> {
        run(connection, &self.begin_making_heads).await?;
        let (organizations, users) = halves(inboxes.iter());
        self.query(MAKE_HEADS)
            .bind(organizations)
            .bind(users)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        run(connection, "COMMIT").await
    }

    /// Loads what else `batch` touches; its heads are locked.
    async fn load(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
        before: &mut Before,
    ) -> Result<(), Error> {
        let keys = plan::keys(batch);
        if !keys.is_empty() {
            let (organizations, users) = halves(keys.iter().map(|(inbox, _)| *inbox));
            let keys: Vec<&str> = keys.iter().map(|(_, key)| *key).collect();
            let query = self.query(KEYED).bind(organizations).bind(users).bind(keys);
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let (inbox, key, keyed) = rows::keyed(&row)?;
                before.keyed.entry(inbox).or_default().insert(key, keyed);
            }
        }

        let ids = plan::ids(batch);
        if !ids.is_empty() {
            let (organizations, users) = halves(ids.iter().map(|(inbox, _)| *inbox));
            let ids: Vec<Uuid> = ids.iter().map(|(_, id)| *id).collect();
            let query = self.query(UNREAD).bind(organizations).bind(users).bind(ids);
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let columns = Columns::of(&row, "notifications");
                let unread = before.unread.entry(columns.inbox()?).or_default();
                unread.insert(columns.id()?);
            }
        }
        Ok(())
    }

    /// Writes what the plan says.
    async fn write(&self, connection: &mut PgConnection, plan: &Plan) -> Result<(), Error> {
        if !plan.marks.is_empty() {
            let marks = &plan.marks;
            let (organizations, users) = halves(marks.iter().map(|mark| &mark.inbox));
            self.query(MARK)
                .bind(organizations)
                .bind(users)
                .bind(column(marks, |mark| mark.id))
                .bind(column(marks, |mark| integer(mark.revision)))
                .bind(column(marks, |mark| mark.read_at.as_micros()))
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        if !plan.heads.is_empty() {
            let written = self.bind_write(plan).execute(&mut *connection).await;
            let heads = written.map_err(failed)?.rows_affected();
            if heads != plan.heads.len() as u64 {
                return Err(Error::Inconsistent {
                    table: "inboxes",
                    column: "revision",
                    row: format!("{heads} of {}", plan.heads.len()),
                    problem: "a head that was locked is gone".into(),
                });
            }
        }
        Ok(())
    }

    fn bind_write(&self, plan: &Plan) -> PgQuery {
        let inserts = &plan.inserts;
        let (organizations, users) = halves(plan.heads.keys());
        let heads: Vec<_> = plan.heads.values().collect();
        NewRow::bind(self.query(WRITE), &column(inserts, NewRow::of_insert))
            .bind(column(inserts, |row| integer(row.notification.sequence)))
            .bind(column(inserts, |row| integer(row.notification.revision)))
            .bind(column(inserts, |row| {
                row.notification.created_at.as_micros()
            }))
            .bind(organizations)
            .bind(users)
            .bind(column(&heads, |head| integer(head.revision)))
            .bind(column(&heads, |head| i64::from(head.unread_count)))
            .bind(column(&heads, |head| head.last_created_at.as_micros()))
    }

    /// What a doubtful commit did, now that its heads are locked again; `None` where
    /// it did nothing.
    async fn settle(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
        before: &Before,
        doubt: &mut Doubt,
    ) -> Result<Option<Committed>, Error> {
        let marks: &[Mark] = match doubt {
            Doubt::Send => &[],
            Doubt::Plan(plan) => &plan.marks,
        };
        let sent = sends(batch).map(|new| (&new.inbox, new.id));
        let marked = marks.iter().map(|mark| (&mark.inbox, mark.id));
        let wanted: Vec<_> = sent.chain(marked).collect();
        let (organizations, users) = halves(wanted.iter().map(|(inbox, _)| *inbox));
        let query = self
            .query(DOUBTFUL)
            .bind(organizations)
            .bind(users)
            .bind(column(&wanted, |(_, id)| *id));
        let mut found = Found::new();
        for row in query.fetch_all(connection).await.map_err(failed)? {
            let inbox = Columns::of(&row, "notifications").inbox()?;
            let notification = rows::notification(&row)?;
            found.insert((inbox, notification.id), notification);
        }
        if let Doubt::Plan(plan) = doubt
            && is_written(plan, &found, before)
        {
            return Ok(Some(mem::take(&mut plan.committed)));
        }
        Ok(sent_by(batch, before, &found))
    }
}

/// Rows by their inboxes and ids.
type Found = HashMap<(InboxKey, Uuid), Notification>;

/// Whether all is there that a plan says.
fn is_written(plan: &Plan, found: &Found, now: &Before) -> bool {
    let row = |inbox: &InboxKey, id| found.get(&(inbox.clone(), id));
    let has_reached = |(inbox, head): (&InboxKey, &Head)| {
        let now = now.heads.get(inbox);
        now.is_some_and(|now| now.revision >= head.revision)
    };
    // A statement that came late would have put a row elsewhere, and another node's
    // mark may be of the same moment.
    plan.heads.iter().all(has_reached)
        && plan.inserts.iter().all(|insert| {
            let there = row(&insert.inbox, insert.notification.id);
            there.is_some_and(|there| there.sequence == insert.notification.sequence)
        })
        && plan.marks.iter().all(|mark| {
            let there = row(&mark.inbox, mark.id);
            there.is_some_and(|there| {
                there.read_at == Some(mark.read_at) && there.revision >= mark.revision
            })
        })
}

/// What [`SEND`] did, by its rows; `None` where it did nothing. Where an inbox changed
/// since, the unread counts of that moment are gone: its sends are answered with the
/// present head, and its rooms have to look.
fn sent_by(batch: &[Mutation], now: &Before, found: &Found) -> Option<Committed> {
    let mut last = HashMap::new();
    for mutation in batch {
        let Mutation::Send(new) = mutation else {
            return None;
        };
        let row = found.get(&(new.inbox.clone(), new.id))?;
        last.insert(&new.inbox, row.sequence);
    }
    let mut committed = Committed::default();
    let mut runs: BTreeMap<&InboxKey, Run> = BTreeMap::new();
    for new in sends(batch) {
        let notification = found.get(&(new.inbox.clone(), new.id))?.clone();
        let mut head = now.heads.get(&new.inbox).copied().unwrap_or_default();
        if last.get(&new.inbox) == Some(&head.revision) {
            // What came after this row is of this batch, and unread.
            let more = head.revision.get() - notification.sequence.get();
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            head.revision = notification.sequence;
            head.unread_count = head.unread_count.saturating_sub(more);
            head.last_created_at = notification.created_at;
            runs.entry(&new.inbox).or_default().push(InboxEvent::new(
                head.revision,
                head.unread_count,
                Change::Created(notification.clone()),
            ));
        } else if !committed.unknown_counts.contains(&new.inbox) {
            committed.unknown_counts.push(new.inbox.clone());
        }
        committed.outcomes.push(Outcome::Sent {
            notification,
            duplicate: false,
            head,
        });
    }
    let runs = runs.into_iter().map(|(inbox, run)| (inbox.clone(), run));
    committed.runs = runs.collect();
    Some(committed)
}

/// The deliberate bugs, see [`sabotage`].
impl Postgres {
    async fn commit_later(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        loop {
            let mut connection = self.writers.take().await?;
            match self.step(&mut connection, batch, now, &mut None).await? {
                Step::Headless(inboxes) => self.make_heads(&mut connection, &inboxes).await?,
                Step::Settled(_) => return Err(too_late()),
                Step::Written(plan) => {
                    let mut connection = connection.into_inner();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(20)).await;
                        run(&mut connection, "COMMIT").await
                    });
                    return Ok(plan.committed);
                }
            }
        }
    }
}

fn with_fresh_ids(batch: &[Mutation]) -> Vec<Mutation> {
    let mut batch = batch.to_vec();
    for mutation in &mut batch {
        if let Mutation::Send(new) = mutation {
            new.id = Uuid::from_u128(new.id.as_u128() ^ 1);
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn inbox(user: &str) -> InboxKey {
        InboxKey::parse("acme", user).unwrap()
    }

    fn send(user: &str, id: u128) -> Mutation {
        Mutation::Send(NewNotification {
            inbox: inbox(user),
            id: Uuid::from_u128(id),
            content: Arc::new(Content {
                kind: "test".into(),
                title: "a title".into(),
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

    fn mark(user: &str, id: u128) -> Mutation {
        Mutation::MarkRead {
            inbox: inbox(user),
            notification_ids: vec![Uuid::from_u128(id)],
        }
    }

    /// What batches wrote, one after the other.
    #[derive(Default)]
    struct Database {
        now: Before,
        found: Found,
    }

    impl Database {
        /// What a batch would do.
        fn plan(&self, batch: &[Mutation]) -> Plan {
            let mut before = Before::default();
            before.heads.clone_from(&self.now.heads);
            for ((inbox, id), row) in &self.found {
                if row.read_at.is_none() {
                    before.unread.entry(inbox.clone()).or_default().insert(*id);
                }
            }
            plan::plan(batch, before, NOW)
        }

        fn write(&mut self, plan: &Plan) {
            for insert in &plan.inserts {
                let row = insert.notification.clone();
                self.found.insert((insert.inbox.clone(), row.id), row);
            }
            for mark in &plan.marks {
                let row = self.found.get_mut(&(mark.inbox.clone(), mark.id)).unwrap();
                (row.read_at, row.revision) = (Some(mark.read_at), mark.revision);
            }
            for (inbox, head) in &plan.heads {
                self.now.heads.insert(inbox.clone(), *head);
            }
        }

        fn does(&mut self, batch: &[Mutation]) {
            self.write(&self.plan(batch));
        }
    }

    /// The plan's COMMIT was lost and undone; then another node wrote to the second
    /// inbox, and then the statement that was tried before it came late.
    #[test]
    fn what_a_late_statement_wrote_is_not_what_was_planned_after_it() {
        let mut database = Database::default();
        let batch = [send("ann", 1), send("bob", 2)];
        let planned = database.plan(&batch);
        database.does(&[send("bob", 3)]);
        database.does(&batch);
        assert!(!is_written(&planned, &database.found, &database.now));
        let committed = sent_by(&batch, &database.now, &database.found).unwrap();
        let told: Vec<_> = committed
            .runs
            .iter()
            .flat_map(|(inbox, run)| run.iter().map(|event| (inbox.clone(), event)))
            .map(|(inbox, event)| (inbox, event.revision.get(), event.unread_count))
            .collect();
        assert_eq!(told, [(inbox("ann"), 1, 1), (inbox("bob"), 2, 2)]);
        assert!(committed.unknown_counts.is_empty());
    }

    #[test]
    fn a_plan_is_written_when_all_of_it_is_there() {
        let mut database = Database::default();
        database.does(&[send("ann", 1), send("bob", 2)]);
        let planned = database.plan(&[mark("ann", 1), send("bob", 3)]);
        assert!(!is_written(&planned, &database.found, &database.now));
        database.write(&planned);
        assert!(is_written(&planned, &database.found, &database.now));
        // What comes after it takes nothing away.
        database.does(&[mark("bob", 3), send("ann", 4)]);
        assert!(is_written(&planned, &database.found, &database.now));
    }

    /// Two nodes mark one notification at the same moment.
    #[test]
    fn the_mark_of_another_is_not_taken_for_the_plan() {
        let mut database = Database::default();
        database.does(&[send("ann", 1), send("bob", 2)]);
        let planned = database.plan(&[mark("ann", 1), mark("bob", 2)]);
        database.does(&[mark("ann", 1)]);
        assert!(!is_written(&planned, &database.found, &database.now));
    }

    #[test]
    fn what_was_not_sent_whole_was_not_sent() {
        let mut database = Database::default();
        database.does(&[send("ann", 1)]);
        let batch = [send("ann", 1), send("ann", 2)];
        assert!(sent_by(&batch, &database.now, &database.found).is_none());
        assert!(sent_by(&[mark("ann", 1)], &database.now, &database.found).is_none());
    }
}
