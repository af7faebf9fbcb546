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
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres as Engine, Row as _, Transaction,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{PgQuery, Postgres, class, failed, halves, is_dead, too_late, unavailable};
use crate::{
    clock::Timestamp,
    model::{
        Change, Content, Data, InboxEvent, InboxKey, NewNotification, Notification, Revision, Run,
    },
    sabotage::{self, Sabotage},
    store::{
        Committed, Error, Mutation, Outcome,
        plan::{self, Before, Fingerprint, Plan},
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

/// Whether a row has a change of a doubtful commit.
const IS_WRITTEN: &str = "SELECT count(*) FROM notifications WHERE organization_id = $1 \
     AND user_id = $2 AND id = $3 AND ($4::bigint IS NULL OR sequence = $4) \
     AND ($5::bigint IS NULL OR read_at = $5)";

/// The rows of a doubtful commit.
const SENT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::text[], $2::text[], $3::uuid[]) AS w (organization_id, user_id, id) \
     JOIN notifications AS n ON n.organization_id = w.organization_id \
     AND n.user_id = w.user_id AND n.id = w.id"
);

/// What is not known of a commit whose answer never came.
struct Doubt {
    /// What it did, if it did. `None`: it was [`SEND`], and its rows will tell.
    committed: Option<Committed>,
    /// A change that the database has exactly if it did.
    inbox: InboxKey,
    id: Uuid,
    /// Where the plan put the row: a late [`SEND`] would have put it elsewhere.
    sequence: Option<Revision>,
    read_at: Option<Timestamp>,
}

impl Doubt {
    /// Of a plan's COMMIT; the plan's outcome where it changes nothing, and nothing
    /// can be in doubt.
    fn of_plan(plan: Plan) -> Result<Self, Committed> {
        let committed = plan.committed;
        if let Some(insert) = plan.inserts.into_iter().next() {
            return Ok(Self {
                committed: Some(committed),
                inbox: insert.inbox,
                id: insert.notification.id,
                sequence: Some(insert.notification.sequence),
                read_at: None,
            });
        }
        match plan.marks.into_iter().next() {
            Some(mark) => Ok(Self {
                committed: Some(committed),
                inbox: mark.inbox,
                id: mark.id,
                sequence: None,
                read_at: Some(mark.read_at),
            }),
            None => Err(committed),
        }
    }

    /// Of [`SEND`], by one of its members.
    fn of_send(new: &NewNotification) -> Self {
        Self {
            committed: None,
            inbox: new.inbox.clone(),
            id: new.id,
            sequence: None,
            read_at: None,
        }
    }
}

/// How far a transaction came before its COMMIT.
enum Step<'c> {
    /// These inboxes have no head to lock yet.
    Headless(BTreeSet<InboxKey>),
    /// A doubtful commit did happen: there is nothing left to do. What it did, if
    /// the doubt does not say so itself.
    Settled(Option<Committed>),
    /// All is written that the plan says.
    Written(Plan, Transaction<'c, Engine>),
}

/// What became of a batch.
enum Attempt {
    /// To be made, then to be tried again.
    Headless(BTreeSet<InboxKey>),
    Committed(Committed),
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
            let error = match self.writers.acquire().await {
                Err(error) => unavailable(error),
                Ok(mut connection) => {
                    let attempt = match self.attempt(&mut connection, &batch, now, &mut doubt).await
                    {
                        Ok(Attempt::Committed(committed)) => return Ok(committed),
                        Ok(Attempt::Headless(inboxes)) => {
                            self.make_heads(&mut connection, &inboxes).await
                        }
                        Err(error) => Err(error),
                    };
                    let Err(error) = attempt else { continue };
                    // Whatever it waits for, nobody waits for it any longer.
                    drop(connection.detach());
                    // As many as there are may have died in the pool.
                    dead += 1;
                    if is_dead(&error) && dead <= self.lanes {
                        continue;
                    }
                    error
                }
            };
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

    /// One attempt at a batch. While `doubt` holds something afterwards, it is
    /// not known whether that commit happened.
    async fn attempt(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
        now: Timestamp,
        doubt: &mut Option<Doubt>,
    ) -> Result<Attempt, Error> {
        // What is in doubt takes a look between the locks and the writing.
        if doubt.is_none()
            && !self.is_pooled
            && let Some(sends) = Sends::of(batch)
            && let Some(attempt) = self.send(connection, &sends, batch, now, doubt).await?
        {
            return Ok(attempt);
        }
        let step = timeout(self.patience, async {
            let begin = AssertSqlSafe(self.begin.clone());
            let transaction = connection.begin_with(begin).await.map_err(unavailable)?;
            self.step(transaction, batch, now, doubt.as_ref()).await
        });
        let (plan, transaction) = match step.await.unwrap_or_else(|_| Err(too_late()))? {
            Step::Headless(inboxes) => return Ok(Attempt::Headless(inboxes)),
            Step::Settled(found) => {
                let known = doubt.take().and_then(|doubt| doubt.committed);
                let committed = known.or(found).ok_or_else(too_late)?;
                return Ok(Attempt::Committed(committed));
            }
            Step::Written(plan, transaction) => (plan, transaction),
        };
        let unsettled = match Doubt::of_plan(plan) {
            Ok(unsettled) => unsettled,
            Err(committed) => {
                transaction.rollback().await.map_err(unavailable)?;
                return Ok(Attempt::Committed(committed));
            }
        };
        let error = match timeout(self.patience, transaction.commit()).await {
            Ok(Ok(())) => {
                *doubt = None;
                return Ok(Attempt::Committed(unsettled.committed.unwrap_or_default()));
            }
            // The server's word: serialization, or a constraint at the end.
            Ok(Err(error)) if matches!(class(&error), Some("23" | "40")) => {
                *doubt = None;
                return Err(failed(error));
            }
            Ok(Err(error)) => unavailable(error),
            Err(_) => too_late(),
        };
        *doubt = Some(unsettled);
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
    ) -> Result<Option<Attempt>, Error> {
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
                let plan = plan::plan(batch, before, now);
                return Ok(Some(Attempt::Committed(plan.committed)));
            }
            // A key that was used meanwhile, or a member at fault.
            Ok(Err(error)) if matches!(class(&error), Some("22" | "23")) => return Ok(None),
            Ok(Err(error)) if is_undone(&error) => return Err(unavailable(error)),
            Ok(Err(error)) => unavailable(error),
            Err(_) => too_late(),
        };
        *doubt = sends.rows.first().map(|new| Doubt::of_send(new));
        Err(error)
    }

    /// Locks, plans and writes. Once the heads are locked, a commit that was in
    /// doubt has ended, or will write nothing.
    async fn step<'c>(
        &self,
        mut transaction: Transaction<'c, Engine>,
        batch: &[Mutation],
        now: Timestamp,
        doubt: Option<&Doubt>,
    ) -> Result<Step<'c>, Error> {
        let mut before = self.lock(&mut transaction, batch).await?;
        // An inbox without a head has nothing to mark.
        let headless: BTreeSet<InboxKey> = sends(batch)
            .map(|new| &new.inbox)
            .filter(|inbox| !before.heads.contains_key(*inbox))
            .cloned()
            .collect();
        if !headless.is_empty() {
            transaction.rollback().await.map_err(unavailable)?;
            return Ok(Step::Headless(headless));
        }
        if let Some(doubt) = doubt
            && self.is_written(&mut transaction, doubt).await?
        {
            let found = match doubt.committed {
                Some(_) => None,
                None => Some(self.find(&mut transaction, batch, &before).await?),
            };
            transaction.rollback().await.map_err(unavailable)?;
            return Ok(Step::Settled(found));
        }
        self.load(&mut transaction, batch, &mut before).await?;
        let plan = plan::plan(batch, before, now);
        self.write(&mut transaction, &plan).await?;
        Ok(Step::Written(plan, transaction))
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
        let begin = AssertSqlSafe(self.begin_making_heads.clone());
        let mut transaction = connection.begin_with(begin).await.map_err(unavailable)?;
        let (organizations, users) = halves(inboxes.iter());
        self.query(MAKE_HEADS)
            .bind(organizations)
            .bind(users)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(unavailable)
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

    async fn is_written(
        &self,
        connection: &mut PgConnection,
        doubt: &Doubt,
    ) -> Result<bool, Error> {
        let row = self
            .query(IS_WRITTEN)
            .bind(doubt.inbox.organization_id.as_str())
            .bind(doubt.inbox.user_id.as_str())
            .bind(doubt.id)
            .bind(doubt.sequence.map(integer))
            .bind(doubt.read_at.map(Timestamp::as_micros))
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        let count: i64 = row.try_get(0).map_err(failed)?;
        Ok(count > 0)
    }

    /// What [`SEND`] did, by its rows, now that its heads are locked again. Where an
    /// inbox changed since, the unread counts of that moment are gone: its sends are
    /// answered with the present head, and its rooms have to look.
    async fn find(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
        before: &Before,
    ) -> Result<Committed, Error> {
        let (organizations, users) = halves(sends(batch).map(|new| &new.inbox));
        let ids: Vec<Uuid> = sends(batch).map(|new| new.id).collect();
        let query = self.query(SENT).bind(organizations).bind(users).bind(ids);
        let mut found: HashMap<(InboxKey, Uuid), Notification> = HashMap::new();
        for row in query.fetch_all(connection).await.map_err(failed)? {
            let inbox = Columns::of(&row, "notifications").inbox()?;
            let notification = rows::notification(&row)?;
            found.insert((inbox, notification.id), notification);
        }
        let mut rows = Vec::new();
        let mut last = HashMap::new();
        for new in sends(batch) {
            let notification = found.remove(&(new.inbox.clone(), new.id));
            let notification = notification.ok_or_else(|| Error::Inconsistent {
                table: "notifications",
                column: "id",
                row: new.id.to_string(),
                problem: "only a part of its transaction is there".into(),
            })?;
            last.insert(&new.inbox, notification.sequence);
            rows.push((&new.inbox, notification));
        }
        let mut committed = Committed::default();
        let mut runs: BTreeMap<&InboxKey, Run> = BTreeMap::new();
        for (inbox, notification) in rows {
            let mut head = before.heads.get(inbox).copied().unwrap_or_default();
            if last.get(inbox) == Some(&head.revision) {
                // What came after this row is of this batch, and unread.
                let since = head.revision.get() - notification.sequence.get();
                let since = u32::try_from(since).unwrap_or(u32::MAX);
                head.revision = notification.sequence;
                head.unread_count = head.unread_count.saturating_sub(since);
                head.last_created_at = notification.created_at;
                runs.entry(inbox).or_default().push(InboxEvent::new(
                    head.revision,
                    head.unread_count,
                    Change::Created(notification.clone()),
                ));
            } else if !committed.untold.contains(inbox) {
                committed.untold.push(inbox.clone());
            }
            committed.outcomes.push(Outcome::Sent {
                notification,
                duplicate: false,
                head,
            });
        }
        let runs = runs.into_iter().map(|(inbox, run)| (inbox.clone(), run));
        committed.runs = runs.collect();
        Ok(committed)
    }
}

/// The deliberate bugs, see [`sabotage`].
impl Postgres {
    async fn commit_later(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        loop {
            let begin = AssertSqlSafe(self.begin.clone());
            let transaction = self.writers.begin_with(begin).await.map_err(unavailable)?;
            match self.step(transaction, batch, now, None).await? {
                Step::Headless(inboxes) => {
                    let mut connection = self.writers.acquire().await.map_err(unavailable)?;
                    self.make_heads(&mut connection, &inboxes).await?;
                }
                Step::Settled(_) => return Err(too_late()),
                Step::Written(plan, transaction) => {
                    tokio::spawn(async {
                        sleep(Duration::from_millis(20)).await;
                        transaction.commit().await
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
