//! The shared store: one Postgres for any number of nodes.
//!
//! A batch is one transaction of set-based statements. It locks the heads of its
//! inboxes first, in the order of their keys, so that transactions of several
//! nodes wait for one another and never in a circle; a head row that is missing
//! is made before, in a transaction that holds nothing else. READ COMMITTED is
//! enough: what a batch reads after the locks is what it will change.
//!
//! `synchronous_commit = on` is set in each transaction that writes: it holds
//! through a pooler as well.

mod lock;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    str::FromStr as _,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres as Engine, Row as _, Transaction,
    migrate::{MigrateError, Migrator},
    pool::PoolOptions,
    postgres::{PgArguments, PgConnectOptions, PgPool},
    query::Query,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Sharing, Snapshot,
    Store,
    plan::{self, Before, Plan},
    rows::{self, Columns, columns, integer},
};
use crate::{
    clock::Timestamp,
    config::StoreSettings,
    model::{Data, Epoch, InboxKey, Notification, Revision},
    random::Random,
    sabotage::{self, Sabotage},
};
use lock::{Mode, NodeLock};

/// As `server_version_num` says it.
const OLDEST_POSTGRES: u32 = 150_000;
/// A client waits this much longer than the server may take, for the answer.
const GRACE: Duration = Duration::from_secs(1);
/// Another node that migrates may take this long.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);
/// A connection that was idle for longer is asked whether it lives.
const IDLE_UNASKED: Duration = Duration::from_secs(1);
/// Between two attempts to learn what became of a commit.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);

type PgQuery = Query<'static, Engine, PgArguments>;

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
const WRITE: &str = "WITH made AS (INSERT INTO notifications (organization_id, user_id, \
     sequence, id, revision, type, title, body, entity_type, entity_id, action_url, data, \
     sender, idempotency_key, fingerprint, created_at) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::bigint[], \
     $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], \
     $13::text[], $14::text[], $15::bytea[], $16::bigint[])) \
     UPDATE inboxes AS i SET revision = h.revision, unread_count = h.unread_count, \
     last_created_at = h.last_created_at \
     FROM unnest($17::text[], $18::text[], $19::bigint[], $20::bigint[], $21::bigint[]) \
     AS h (organization_id, user_id, revision, unread_count, last_created_at) \
     WHERE i.organization_id = h.organization_id AND i.user_id = h.user_id";

/// Whether a row has a change of a doubtful commit.
const IS_WRITTEN: &str = "SELECT count(*) FROM notifications WHERE organization_id = $1 \
     AND user_id = $2 AND id = $3 AND revision >= $4 AND ($5::bigint IS NULL OR read_at = $5)";

const SNAPSHOTS: &str = "SELECT d.epoch, i.revision AS head_revision, i.unread_count, i.floor, \
     i.last_created_at FROM unnest($1::text[], $2::text[]) WITH ORDINALITY \
     AS w (organization_id, user_id, place) JOIN doorbell AS d ON d.id = 1 \
     LEFT JOIN inboxes AS i \
     ON i.organization_id = w.organization_id AND i.user_id = w.user_id ORDER BY w.place";

/// A page with its head and epoch in one statement, so in one snapshot. An inbox
/// without a head row, and a page without rows, are nulls.
macro_rules! page {
    ($filter:literal, $order:literal, $limit:literal) => {
        concat!(
            "SELECT d.epoch, i.revision AS head_revision, i.unread_count, i.floor, \
             i.last_created_at, ",
            columns!(),
            " FROM doorbell AS d LEFT JOIN inboxes AS i \
             ON i.organization_id = $1 AND i.user_id = $2 \
             LEFT JOIN (SELECT * FROM notifications AS n \
             WHERE organization_id = $1 AND user_id = $2 AND ",
            $filter,
            " ORDER BY ",
            $order,
            " LIMIT ",
            $limit,
            ") AS n ON TRUE WHERE d.id = 1 ORDER BY ",
            $order
        )
    };
}

const CHANGES: &str = page!(
    "(revision, sequence) > ($3, $4)",
    "n.revision, n.sequence",
    "$5"
);
const RECENT: &str = page!(
    "sequence < $3 AND archived_at IS NULL",
    "n.sequence DESC",
    "$4"
);
const RECENT_UNREAD: &str = page!(
    "sequence < $3 AND archived_at IS NULL AND read_at IS NULL",
    "n.sequence DESC",
    "$4"
);
const COUNT_CHANGES: &str = "SELECT count(*) FROM (SELECT 1 FROM notifications \
     WHERE organization_id = $1 AND user_id = $2 AND revision > $3 LIMIT $4) AS n";

const CHECK: &str = "SELECT pg_is_in_recovery() \
     OR current_setting('default_transaction_read_only')::boolean AS is_read_only \
     FROM doorbell WHERE id = 1";

/// The store in one Postgres.
pub struct Postgres {
    writers: PgPool,
    readers: PgPool,
    lanes: usize,
    is_pooled: bool,
    begin: String,
    begin_making_heads: String,
    begin_reading: String,
    /// The most that a statement may take, seen from here.
    patience: Duration,
    /// The most that it may take to learn what became of a commit.
    resolve_within: Duration,
    lock: Option<NodeLock>,
}

impl Postgres {
    /// Connects to the Postgres that `settings` name and brings its schema up to
    /// date; refused where other processes do not allow `sharing`.
    pub async fn open(
        settings: &StoreSettings,
        sharing: Sharing,
        random: &dyn Random,
    ) -> Result<Self, Error> {
        let connect_timeout: Duration = settings.database_connect_timeout.into();
        let options = parse("DOORBELL_DATABASE_URL", &settings.database_url())?;
        let direct = match settings.database_direct_url() {
            Some(url) => parse("DOORBELL_DATABASE_DIRECT_URL", url)?,
            None => options.clone(),
        };
        let place = format!(
            "{}:{}/{}",
            direct.get_host(),
            direct.get_port(),
            direct.get_database().unwrap_or_default()
        );
        let cannot_use =
            |problem: String| Error::Open(format!("cannot use the Postgres at {place}: {problem}"));

        let mut connection = connect(&direct, connect_timeout)
            .await
            .map_err(cannot_use)?;
        refuse_unsafe(&mut connection).await.map_err(cannot_use)?;
        drop(connection);
        let take = |mode| NodeLock::take(mode, direct.clone(), connect_timeout);
        let lock = match sharing {
            Sharing::Alone => Some(take(Mode::Exclusive).await.map_err(cannot_use)?),
            Sharing::Shared => Some(take(Mode::Shared).await.map_err(cannot_use)?),
            Sharing::Beside => None,
        };
        let database = pool(&direct, 1, connect_timeout)
            .await
            .map_err(cannot_use)?;
        timeout(MIGRATE_TIMEOUT, prepare(&database, random))
            .await
            .unwrap_or_else(|_| Err("another process holds the lock of the migrations".into()))
            .map_err(cannot_use)?;
        database.close().await;

        let statement_timeout: Duration = settings.database_statement_timeout.into();
        let is_pooled = settings.database_pooler;
        let millis = statement_timeout.as_millis();
        let options = if is_pooled {
            // Its statements are planned anew, and settings would not last.
            options.statement_cache_capacity(0)
        } else {
            // Each statement finds its rows by its key: a plan that was made
            // while a table was small must not read it whole when it is large.
            options.options([
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("plan_cache_mode", "force_generic_plan"),
                ("jit", "off"),
                ("statement_timeout", &format!("{millis}ms")),
            ])
        };
        let writers = pool(&options, settings.database_writers, connect_timeout).await;
        let readers = pool(&options, settings.database_readers, connect_timeout).await;
        Ok(Self {
            writers: writers.map_err(cannot_use)?,
            readers: readers.map_err(cannot_use)?,
            lanes: settings.database_writers,
            is_pooled,
            begin: begin("on", millis),
            // Nothing was promised of a head that is empty; what commits behind
            // it with `on` takes it along.
            begin_making_heads: begin("off", millis),
            begin_reading: format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {millis}"),
            patience: statement_timeout + GRACE,
            resolve_within: connect_timeout + statement_timeout,
            lock,
        })
    }

    fn query(&self, text: &'static str) -> PgQuery {
        sqlx::query(text).persistent(!self.is_pooled)
    }

    /// Reads on a connection of its own; on another where that was dead. Cancel
    /// safe.
    async fn read<T>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Sync,
    ) -> Result<T, Error> {
        let mut dead = 0;
        loop {
            let mut connection = self.readers.acquire().await.map_err(unavailable)?;
            let answer = timeout(self.patience, async {
                if !self.is_pooled {
                    return work(&mut connection).await;
                }
                let begin = AssertSqlSafe(self.begin_reading.clone());
                let mut transaction = connection.begin_with(begin).await.map_err(unavailable)?;
                let answer = work(&mut transaction).await?;
                transaction.commit().await.map_err(unavailable)?;
                Ok(answer)
            });
            match answer.await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    drop(connection.detach());
                    dead += 1;
                    if !is_dead(&error) || dead > self.readers.options().get_max_connections() {
                        return Err(error);
                    }
                }
                Err(_) => {
                    drop(connection.detach());
                    return Err(too_late());
                }
            }
        }
    }

    /// Reads a page, see [`rows::page`].
    async fn page(
        &self,
        query: impl Fn() -> PgQuery + Sync,
        limit: PageLimit,
        since: Option<Timestamp>,
    ) -> Result<(Snapshot, Vec<Notification>, Option<Notification>), Error> {
        self.read(|connection| {
            let rows = query().fetch(connection).map_err(failed);
            rows::page(rows, limit, since).boxed()
        })
        .await
    }
}

fn begin(synchronous_commit: &str, timeout_millis: u128) -> String {
    format!(
        "BEGIN; SET LOCAL synchronous_commit = {synchronous_commit}; \
         SET LOCAL statement_timeout = {timeout_millis}"
    )
}

fn parse(variable: &str, url: &str) -> Result<PgConnectOptions, Error> {
    // The URL may hold a password: it is not repeated.
    PgConnectOptions::from_str(url)
        .map(|options| {
            options
                .application_name("doorbell")
                .extra_float_digits(None)
        })
        .map_err(|error| Error::Open(format!("{variable} is no URL of a Postgres: {error}")))
}

async fn connect(options: &PgConnectOptions, within: Duration) -> Result<PgConnection, String> {
    match timeout(within, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "no answer within {}",
            humantime::format_duration(within)
        )),
    }
}

async fn pool(
    options: &PgConnectOptions,
    connections: usize,
    connect_timeout: Duration,
) -> Result<PgPool, String> {
    let pool = PoolOptions::<Engine>::new()
        .max_connections(u32::try_from(connections).unwrap_or(u32::MAX))
        .acquire_timeout(connect_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, idle| {
            async move {
                if idle.idle_for > IDLE_UNASKED {
                    connection.ping().await?;
                }
                Ok(true)
            }
            .boxed()
        })
        .connect_with(options.clone());
    pool.await.map_err(|error| error.to_string())
}

/// Refuses a server that is too old, or that would lose what was acknowledged.
async fn refuse_unsafe(connection: &mut PgConnection) -> Result<(), String> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::bigint AS version, \
         current_setting('server_version') AS version_text, current_setting('fsync') AS fsync, \
         current_setting('full_page_writes') AS full_page_writes, \
         current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| error.to_string())?;
    let text = |column| row.try_get::<String, _>(column).unwrap_or_default();
    let version: i64 = row.try_get("version").unwrap_or_default();
    if version < i64::from(OLDEST_POSTGRES) {
        return Err(format!(
            "it is version {}; 15 or newer is needed",
            text("version_text")
        ));
    }
    for setting in ["fsync", "full_page_writes"] {
        if text(setting) != "on" {
            return Err(format!(
                "{setting} is {}: it would lose what was acknowledged",
                text(setting)
            ));
        }
    }
    if text("encoding") != "UTF8" {
        return Err(format!(
            "the database has the encoding {}, and UTF8 is needed",
            text("encoding")
        ));
    }
    if row.try_get("is_standby").unwrap_or(false) {
        return Err("it is a standby, and the primary is needed".into());
    }
    Ok(())
}

fn migrator() -> Migrator {
    let mut migrator = super::migrator(&[(
        "inboxes",
        include_str!("../../migrations/postgres/0001_inboxes.sql"),
    )]);
    // A newer version may have migrated already, see `oldest_schema`.
    migrator.set_ignore_missing(true);
    migrator
}

/// Migrates under the lock of the migrations, refuses a schema that is too new,
/// and makes the epoch of a new database.
async fn prepare(database: &PgPool, random: &dyn Random) -> Result<(), String> {
    let migrator = migrator();
    migrator
        .run(database)
        .await
        .map_err(|error: MigrateError| error.to_string())?;
    sqlx::query("INSERT INTO doorbell (id, epoch) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
        .bind(super::new_epoch(random).as_str())
        .execute(database)
        .await
        .map_err(|error| error.to_string())?;
    let oldest: i64 = sqlx::query_scalar("SELECT oldest_schema FROM doorbell WHERE id = 1")
        .fetch_one(database)
        .await
        .map_err(|error| error.to_string())?;
    let newest = migrator.iter().map(|migration| migration.version).max();
    if newest < Some(oldest) {
        return Err(format!(
            "its schema needs migration {oldest}, which this doorbell does not know: \
             use the newer doorbell that made it"
        ));
    }
    Ok(())
}

fn unavailable(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::PoolTimedOut => Error::Unavailable(
            "no connection to Postgres in time; either it is away, or all connections are busy"
                .into(),
        ),
        error => Error::Unavailable(error.into()),
    }
}

/// Whether the connection was dead: what was asked of it did not happen, or was
/// undone with it.
fn is_dead(error: &Error) -> bool {
    let Error::Unavailable(source) = error else {
        return false;
    };
    match source.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) => true,
        // Its server ends, or somebody ended it.
        Some(sqlx::Error::Database(error)) => {
            error.code().is_some_and(|code| code.starts_with("57P"))
        }
        _ => false,
    }
}

fn too_late() -> Error {
    Error::Unavailable("Postgres does not answer in time".into())
}

/// What a failed statement means. Classes 22 and 23 are broken by one member of
/// a batch (<https://www.postgresql.org/docs/current/errcodes-appendix.html>);
/// all else is the server or the connection.
fn failed(error: sqlx::Error) -> Error {
    match class(&error) {
        Some("22" | "23") => Error::Refused(error.into()),
        _ => unavailable(error),
    }
}

/// The class of the server's error; `None` where it is not the server's.
fn class(error: &sqlx::Error) -> Option<&str> {
    // The code is borrowed from the error, whatever its type says.
    match error {
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?
            .code()
            .get(..2),
        _ => None,
    }
}

/// What is not known of a commit whose answer never came.
struct Doubt {
    /// What it did, if it did.
    committed: Committed,
    /// A change that the database has exactly if it did.
    inbox: InboxKey,
    id: Uuid,
    revision: Revision,
    read_at: Option<Timestamp>,
}

impl Doubt {
    /// `None`: the plan changes nothing, and nothing can be in doubt.
    fn of(plan: Plan) -> Result<Self, Committed> {
        let committed = plan.committed;
        if let Some(insert) = plan.inserts.into_iter().next() {
            return Ok(Self {
                committed,
                inbox: insert.inbox,
                id: insert.notification.id,
                revision: insert.notification.revision,
                read_at: None,
            });
        }
        match plan.marks.into_iter().next() {
            Some(mark) => Ok(Self {
                committed,
                inbox: mark.inbox,
                id: mark.id,
                revision: mark.revision,
                read_at: Some(mark.read_at),
            }),
            None => Err(committed),
        }
    }
}

/// How far a batch came before its COMMIT.
enum Step<'c> {
    /// These inboxes have no head to lock yet.
    Headless(BTreeSet<InboxKey>),
    /// A doubtful commit did happen: there is nothing left to do.
    Settled,
    /// All is written that the plan says.
    Written(Plan, Transaction<'c, Engine>),
}

/// What became of a batch.
enum Attempt {
    /// To be made, then to be tried again.
    Headless(BTreeSet<InboxKey>),
    Committed(Committed),
}

impl Postgres {
    /// Locks the heads of a batch.
    async fn lock(
        &self,
        connection: &mut PgConnection,
        batch: &[Mutation],
    ) -> Result<Before, Error> {
        let (organizations, users) = halves(plan::inboxes(batch).into_iter());
        let heads = self
            .query(LOCK_HEADS)
            .bind(organizations)
            .bind(users)
            .fetch_all(connection)
            .await
            .map_err(failed)?;
        let mut before = Before::default();
        for row in &heads {
            let inbox = Columns::of(row, "inboxes").inbox()?;
            before.heads.insert(inbox, rows::head(row, "revision")?);
        }
        Ok(before)
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

    /// Locks, plans and writes. Once the heads are locked, a commit that was in
    /// doubt has ended.
    async fn step<'c>(
        &self,
        mut transaction: Transaction<'c, Engine>,
        batch: &[Mutation],
        now: Timestamp,
        doubt: Option<&Doubt>,
    ) -> Result<Step<'c>, Error> {
        let mut before = self.lock(&mut transaction, batch).await?;
        let headless: BTreeSet<InboxKey> = batch
            .iter()
            .filter_map(|mutation| match mutation {
                Mutation::Send(new) => Some(&new.inbox),
                // An inbox without a head has nothing to mark.
                Mutation::MarkRead { .. } => None,
            })
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
            transaction.rollback().await.map_err(unavailable)?;
            return Ok(Step::Settled);
        }
        self.load(&mut transaction, batch, &mut before).await?;
        let plan = plan::plan(batch, before, now);
        self.write(&mut transaction, &plan).await?;
        Ok(Step::Written(plan, transaction))
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
        let rows = &plan.inserts;
        let (organizations, users) = halves(rows.iter().map(|row| &row.inbox));
        let key = |row: &plan::Insert| row.keyed.as_ref().map(|(key, _)| key.clone());
        let fingerprint = |row: &plan::Insert| row.keyed.as_ref().map(|(_, print)| print.to_vec());
        macro_rules! of {
            ($row:ident => $value:expr) => {
                rows.iter()
                    .map(|insert| {
                        let $row = &insert.notification;
                        $value
                    })
                    .collect::<Vec<_>>()
            };
        }
        let query = self
            .query(WRITE)
            .bind(organizations)
            .bind(users)
            .bind(of!(row => integer(row.sequence)))
            .bind(of!(row => row.id))
            .bind(of!(row => integer(row.revision)))
            .bind(of!(row => row.content.kind.as_str()))
            .bind(of!(row => row.content.title.as_str()))
            .bind(of!(row => row.content.body.as_deref()))
            .bind(of!(row => row.content.entity_type.as_deref()))
            .bind(of!(row => row.content.entity_id.as_deref()))
            .bind(of!(row => row.content.action_url.as_deref()))
            .bind(of!(row => row.content.data.as_ref().map(Data::as_str)))
            .bind(of!(row => &*row.sender))
            .bind(column(rows, key))
            .bind(column(rows, fingerprint))
            .bind(of!(row => row.created_at.as_micros()));
        let (organizations, users) = halves(plan.heads.keys());
        let heads: Vec<_> = plan.heads.values().collect();
        query
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
            .bind(integer(doubt.revision))
            .bind(doubt.read_at.map(Timestamp::as_micros))
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        let count: i64 = row.try_get(0).map_err(failed)?;
        Ok(count > 0)
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
        let step = timeout(self.patience, async {
            let begin = AssertSqlSafe(self.begin.clone());
            let transaction = connection.begin_with(begin).await.map_err(unavailable)?;
            self.step(transaction, batch, now, doubt.as_ref()).await
        });
        let (plan, transaction) = match step.await.unwrap_or_else(|_| Err(too_late()))? {
            Step::Headless(inboxes) => return Ok(Attempt::Headless(inboxes)),
            Step::Settled => {
                let settled = doubt.take().ok_or_else(too_late)?;
                return Ok(Attempt::Committed(settled.committed));
            }
            Step::Written(plan, transaction) => (plan, transaction),
        };
        let unsettled = match Doubt::of(plan) {
            Ok(unsettled) => unsettled,
            Err(committed) => {
                transaction.rollback().await.map_err(unavailable)?;
                return Ok(Attempt::Committed(committed));
            }
        };
        let error = match timeout(self.patience, transaction.commit()).await {
            Ok(Ok(())) => {
                *doubt = None;
                return Ok(Attempt::Committed(unsettled.committed));
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
}

/// A column of values, for an array.
fn column<T, V>(rows: &[T], value: impl Fn(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// The two columns of keys.
fn halves<'k>(keys: impl Iterator<Item = &'k InboxKey>) -> (Vec<&'k str>, Vec<&'k str>) {
    keys.map(|key| (key.organization_id.as_str(), key.user_id.as_str()))
        .unzip()
}

#[async_trait]
impl Store for Postgres {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        if sabotage::is(Sabotage::AckBeforeCommit) || sabotage::is(Sabotage::PublishBeforeCommit) {
            return self.commit_later(batch, now).await;
        }
        let mut batch = Cow::Borrowed(batch);
        let (mut doubt, mut give_up, mut dead) = (None, None, 0);
        loop {
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
                    if doubt.is_none() && is_dead(&error) && dead <= self.lanes {
                        continue;
                    }
                    error
                }
            };
            if doubt.is_none() {
                return Err(error);
            }
            if sabotage::is(Sabotage::RetryWithFreshIds) {
                doubt = None;
                batch = Cow::Owned(with_fresh_ids(&batch));
            }
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.resolve_within);
            if Instant::now() >= give_up {
                return Err(Error::InDoubt(error.into()));
            }
            tracing::warn!(%error, "it is not known whether a commit happened; asking");
            sleep(RESOLVE_PAUSE).await;
        }
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        let heads: Vec<Snapshot> = self
            .read(|connection| {
                let (organizations, users) = halves(inboxes.iter());
                let query = self.query(SNAPSHOTS).bind(organizations).bind(users);
                async move {
                    let rows = query.fetch_all(connection).await.map_err(failed)?;
                    rows.iter().map(|row| rows::snapshot(row)).collect()
                }
                .boxed()
            })
            .await?;
        if heads.len() != inboxes.len() {
            return Err(rows::no_epoch());
        }
        Ok(heads)
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        let query = || {
            self.query(CHANGES)
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(integer(cursor.revision))
                .bind(integer(cursor.sequence))
                .bind(rows::one_more(limit.rows))
        };
        let (snapshot, rows, next) = self.page(query, limit, None).await?;
        Ok(Changes {
            snapshot,
            rows,
            next: next.map(|row| row.revision),
        })
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.read(|connection| {
            let query = self
                .query(COUNT_CHANGES)
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(integer(position))
                .bind(i64::try_from(at_most).unwrap_or(i64::MAX));
            async move {
                let row = query.fetch_one(connection).await.map_err(failed)?;
                let count: i64 = row.try_get(0).map_err(failed)?;
                Ok(usize::try_from(count).unwrap_or(0))
            }
            .boxed()
        })
        .await
    }

    async fn recent(&self, inbox: &InboxKey, wanted: RecentQuery) -> Result<Recent, Error> {
        let statement = if wanted.unread_only {
            RECENT_UNREAD
        } else {
            RECENT
        };
        let query = || {
            self.query(statement)
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(wanted.before.map_or(i64::MAX, integer))
                .bind(rows::one_more(wanted.limit.rows))
        };
        let (snapshot, rows, next) = self.page(query, wanted.limit, wanted.since).await?;
        Ok(Recent {
            snapshot,
            rows,
            more: next.is_some(),
        })
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        let mut connection = self.writers.acquire().await.map_err(unavailable)?;
        let begin = AssertSqlSafe(self.begin.clone());
        let mut transaction = connection.begin_with(begin).await.map_err(unavailable)?;
        self.query("UPDATE doorbell SET epoch = $1 WHERE id = 1")
            .bind(epoch.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn check(&self) -> Result<(), Error> {
        if let Some(lock) = &self.lock {
            lock.check()?;
        }
        let is_read_only = self.read(|connection| {
            let query = self.query(CHECK);
            async move {
                let row = query.fetch_one(connection).await.map_err(failed)?;
                row.try_get("is_read_only").map_err(failed)
            }
            .boxed()
        });
        if is_read_only.await? {
            return Err(Error::Unavailable(
                "Postgres takes no writes: it is a standby, or set to be read only".into(),
            ));
        }
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
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
                Step::Settled => return Err(too_late()),
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
