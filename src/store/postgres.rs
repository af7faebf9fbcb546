//! The shared store: one Postgres for any number of nodes.
//!
//! `commit` writes batches by `statements`, here is the rest: opening, with what a server must be
//! like, and reading. A page and its head are one statement, and so of one moment.

mod commit;
mod connections;
mod inspection;
mod sql;
mod statements;
mod url;

use std::{sync::atomic::AtomicUsize, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, Postgres as Engine, Row as _,
    migrate::{MigrateError, Migrator},
    postgres::{PgArguments, PgConnectOptions},
    query::Query,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    About, Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Selected,
    Sharing, Snapshot, Store, Tally, TypeCounts, Untaken, Verb, Which, broadcasts,
    rows::{self, Page, bound, columns, integer, of_source, snapshot_columns, walk_columns},
    selection::{MOST_COUNTED, MOST_LOOKED_AT, Source, Walk},
};
use crate::{
    clock::Timestamp,
    config::StoreSettings,
    model::{Epoch, InboxKey, OrganizationId, Revision},
    random::Random,
};
use connections::Connections;
pub(super) use inspection::inspect;

/// As `server_version_num` says it.
const OLDEST_POSTGRES: u32 = 150_000;
/// A client waits this much longer than the server may take, for the answer.
const GRACE: Duration = Duration::from_secs(1);
/// The longest wait for one lock, such as a head: who holds it longer has vanished, or is
/// no doorbell.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// A machine that vanished is noticed after 20 seconds, and not after hours.
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];
/// A transaction whose node says nothing for so long is ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// Another node that migrates may take this long.
const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);

type PgQuery = Query<'static, Engine, PgArguments>;

const SNAPSHOTS: &str = concat!(
    "SELECT ",
    snapshot_columns!("w.organization_id"),
    " FROM unnest($1::text[], $2::text[]) WITH ORDINALITY \
     AS w (organization_id, user_id, place) JOIN doorbell AS d ON d.id = 1 \
     LEFT JOIN inboxes AS i \
     ON i.organization_id = w.organization_id AND i.user_id = w.user_id ORDER BY w.place"
);

/// A page with its head and epoch in one statement, so in one snapshot. An inbox
/// without a head row, and a page without rows, are nulls.
macro_rules! page {
    ($filter:expr, $order:literal, $limit:literal) => {
        page!(columns!(), $filter, $order, $limit)
    };
    ($columns:expr, $filter:expr, $order:literal, $limit:literal) => {
        concat!(
            "SELECT ",
            snapshot_columns!("$1"),
            ", ",
            $columns,
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
/// No row is read where none is newer than `since`: that is asked of the head, once.
macro_rules! newer {
    () => {
        "sequence < $3 AND (SELECT last_created_at FROM inboxes \
         WHERE organization_id = $1 AND user_id = $2) > $4"
    };
}

/// Rows of a source, newest first.
macro_rules! recent {
    ($source:ident) => {
        page!(
            concat!(newer!(), " AND ", of_source!($source)),
            "n.sequence DESC",
            "$5"
        )
    };
}

/// What a query asks for of the next rows of a source, newest first, and where they end.
macro_rules! filtered {
    ($source:ident) => {
        concat!(
            "WITH walked AS (SELECT * FROM notifications AS n \
             WHERE organization_id = $1 AND user_id = $2 AND ",
            newer!(),
            " AND ",
            of_source!($source),
            " ORDER BY n.sequence DESC LIMIT $8) SELECT ",
            snapshot_columns!("$1"),
            ", e.walked_to, ",
            columns!(),
            " FROM doorbell AS d LEFT JOIN inboxes AS i \
             ON i.organization_id = $1 AND i.user_id = $2 CROSS JOIN \
             (SELECT CASE WHEN count(*) = $8 THEN min(sequence) END AS walked_to FROM walked) AS e \
             LEFT JOIN (SELECT * FROM walked AS w WHERE ",
            // Of the view, unread, of the types.
            "w.removed_at IS NULL AND ($9 = 2 OR ($9 = 1) = (w.archived_at IS NOT NULL)) \
             AND (w.read_at IS NULL OR NOT $10) \
             AND (cardinality($11::text[]) = 0 OR w.type = ANY($11)) \
             ORDER BY w.sequence DESC LIMIT $7) AS n ON TRUE WHERE d.id = 1 \
             ORDER BY n.sequence DESC"
        )
    };
}

const COUNT_CHANGES: &str = "SELECT count(*) FROM (SELECT 1 FROM notifications \
     WHERE organization_id = $1 AND user_id = $2 AND revision > $3 LIMIT $4) AS n";

/// How many rows of some types are unread, of those that are looked at.
const COUNT_TYPES: &str = concat!(
    "SELECT ",
    snapshot_columns!("$1"),
    ", n.type, n.unread FROM doorbell AS d LEFT JOIN inboxes AS i \
     ON i.organization_id = $1 AND i.user_id = $2 LEFT JOIN (SELECT w.type, count(*) AS unread \
     FROM (SELECT n.type FROM notifications AS n \
     WHERE organization_id = $1 AND user_id = $2 AND ",
    of_source!(unread),
    " ORDER BY n.sequence DESC LIMIT $3) AS w WHERE w.type = ANY($4) GROUP BY w.type) AS n \
     ON TRUE WHERE d.id = 1"
);

/// Rows of a source without their contents, by their sequence.
macro_rules! walk {
    ($filter:expr) => {
        page!(
            walk_columns!(),
            concat!("sequence > $3 AND ", $filter),
            "n.sequence",
            "$4"
        )
    };
}

/// Those of ids, each found by its id: `OFFSET 0` keeps the sequence out of that search,
/// or the whole inbox is read in its order.
const OF_IDS: &str = concat!(
    "SELECT ",
    snapshot_columns!("$1"),
    ", ",
    walk_columns!(),
    " FROM doorbell AS d LEFT JOIN inboxes AS i \
     ON i.organization_id = $1 AND i.user_id = $2 \
     LEFT JOIN (SELECT * FROM (SELECT n.* FROM unnest($5::uuid[]) AS w (id) \
     JOIN notifications AS n ON n.organization_id = $1 AND n.user_id = $2 AND n.id = w.id \
     OFFSET 0) AS n WHERE n.sequence > $3 ORDER BY n.sequence LIMIT $4) AS n ON TRUE \
     WHERE d.id = 1 ORDER BY n.sequence"
);

/// The statement that walks over a source.
fn walked(source: Source) -> &'static str {
    match source {
        Source::Ids => OF_IDS,
        Source::About => walk!(of_source!(about)),
        Source::Key => walk!(of_source!(key)),
        Source::Collapse => walk!(of_source!(collapse)),
        Source::Unread => walk!(of_source!(unread)),
        Source::Inbox => walk!(of_source!(inbox)),
        Source::Archived => walk!(of_source!(archived)),
        Source::All => walk!(of_source!(all)),
    }
}

/// The statement of a page of a source.
fn listed(source: Source, is_filtered: bool) -> &'static str {
    match (source, is_filtered) {
        (Source::Unread, false) => recent!(unread),
        (Source::Archived, false) => recent!(archived),
        (_, false) => recent!(inbox),
        (Source::About, true) => filtered!(about),
        (Source::Unread, true) => filtered!(unread),
        (Source::Inbox, true) => filtered!(inbox),
        (Source::Archived, true) => filtered!(archived),
        (_, true) => filtered!(all),
    }
}

const CHECK: &str = "SELECT pg_is_in_recovery() \
     OR current_setting('default_transaction_read_only')::boolean AS is_read_only \
     FROM doorbell WHERE id = 1";

/// Where a Postgres is, and the ways to it.
struct Ways {
    /// `host:port/database`.
    place: String,
    /// Past a pooler: for migrations.
    direct: PgConnectOptions,
    /// For all else.
    lanes: PgConnectOptions,
    /// Begins a transaction, where a session keeps no settings.
    begin: String,
}

impl Ways {
    /// The ways that `settings` name, for who calls itself so on the server.
    fn new(settings: &StoreSettings, name: &str) -> Result<Self, Error> {
        let is_pooled = settings.database_pooler;
        let parse = |variable, text: &str| {
            let options = url::parse(variable, text)?;
            // Behind a pooler it would be said of connections that others use.
            Ok(options.application_name(if is_pooled { BESIDE } else { name }))
        };
        let options = parse("DOORBELL_DATABASE_URL", &settings.database_url())?;
        let direct = match settings.database_direct_url() {
            Some(url) => parse("DOORBELL_DATABASE_DIRECT_URL", url)?,
            None => options.clone(),
        };
        let direct = direct.options(KEEPALIVES);
        let place = format!(
            "{}:{}/{}",
            direct.get_host(),
            direct.get_port(),
            direct.get_database().unwrap_or_default()
        );
        let statement_timeout: Duration = settings.database_statement_timeout.into();
        // A lock's is the shorter one: what is not to be had is told from what is slow.
        let millis = |time: Duration| time.as_millis().to_string();
        let timeouts = [
            ("statement_timeout", millis(statement_timeout)),
            (
                "lock_timeout",
                millis(LOCK_TIMEOUT.min(statement_timeout / 2)),
            ),
            ("idle_in_transaction_session_timeout", millis(IDLE_TIMEOUT)),
        ];
        let set: String = timeouts
            .iter()
            .map(|(name, value)| format!("; SET LOCAL {name} = {value}"))
            .collect();
        let lanes = if is_pooled {
            // Its statements are planned anew, and settings would not last.
            options.statement_cache_capacity(0)
        } else {
            // Each statement finds its rows by its key, in the order of an index: a plan
            // that was made while a table was small must not read it whole when it is
            // large, and none starts workers to look for the few rows that it will find.
            options
                .options([
                    ("enable_seqscan", "off"),
                    ("enable_hashjoin", "off"),
                    ("enable_mergejoin", "off"),
                    ("enable_bitmapscan", "off"),
                    ("max_parallel_workers_per_gather", "0"),
                    ("plan_cache_mode", "force_generic_plan"),
                    ("jit", "off"),
                    // What is written by one statement waits for its sync, too, and
                    // takes the latest head that it waited for.
                    ("synchronous_commit", "on"),
                    ("default_transaction_isolation", "read committed"),
                ])
                .options(KEEPALIVES)
                .options(timeouts)
        };
        Ok(Self {
            place,
            direct,
            lanes,
            begin: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on{set}"
            ),
        })
    }

    fn cannot_use(&self, problem: &str) -> Error {
        Error::Open(format!(
            "cannot use the Postgres at {}: {problem}",
            self.place
        ))
    }
}

/// The store in one Postgres.
pub struct Postgres {
    writers: Connections,
    readers: Connections,
    lanes: usize,
    most_readers: usize,
    is_pooled: bool,
    begin: String,
    /// How many there were.
    commits: AtomicUsize,
    /// The most that a statement may take, seen from here.
    patience: Duration,
    /// The most that it may take to learn what became of a commit.
    resolve_within: Duration,
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
        let is_pooled = settings.database_pooler;
        let ways = Ways::new(settings, name(sharing))?;
        let cannot_use = |problem: String| ways.cannot_use(&problem);

        let mut connection = connect(&ways.direct, connect_timeout)
            .await
            .map_err(cannot_use)?;
        refuse_unsafe(&mut connection).await.map_err(cannot_use)?;
        refuse_beside(&mut connection, sharing)
            .await
            .map_err(cannot_use)?;
        timeout(MIGRATE_TIMEOUT, prepare(&mut connection, random))
            .await
            .unwrap_or_else(|_| Err("another process holds the lock of the migrations".into()))
            .map_err(cannot_use)?;

        let statement_timeout: Duration = settings.database_statement_timeout.into();
        let connections = async |most| {
            let opened =
                Connections::open(ways.lanes.clone(), most, connect_timeout, !is_pooled).await;
            opened.map_err(|error| cannot_use(error.to_string()))
        };
        Ok(Self {
            writers: connections(settings.database_writers).await?,
            readers: connections(settings.database_readers).await?,
            lanes: settings.database_writers,
            most_readers: settings.database_readers,
            is_pooled,
            begin: ways.begin,
            commits: AtomicUsize::new(0),
            patience: statement_timeout + GRACE,
            resolve_within: connect_timeout + statement_timeout,
        })
    }

    fn query(&self, text: &'static str) -> PgQuery {
        sqlx::query(text).persistent(!self.is_pooled)
    }

    /// The outcome of `work`, which a way that swallows an answer does not hold up.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.patience, work)
            .await
            .unwrap_or_else(|_| Err(too_late()))
    }

    /// Reads on a connection of its own; on another where that was dead. Cancel
    /// safe.
    async fn read<T>(
        &self,
        work: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<T, Error>> + Sync,
    ) -> Result<T, Error> {
        let mut dead = 0;
        loop {
            let mut connection = self.readers.take().await?;
            let answer = self.in_time(async {
                if !self.is_pooled {
                    return work(&mut connection).await;
                }
                run(&mut connection, &self.begin).await?;
                let answer = work(&mut connection).await?;
                run(&mut connection, "COMMIT").await?;
                Ok(answer)
            });
            match answer.await {
                Ok(answer) => {
                    connection.keep();
                    return Ok(answer);
                }
                // As many as there are may have died while they were idle.
                Err(error) if is_dead(&error) && dead < self.most_readers => dead += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a new epoch, or the old one again, which is a commit all the same.
    async fn write_epoch(&self, epoch: Option<&Epoch>) -> Result<(), Error> {
        let mut connection = self.writers.take().await?;
        self.in_time(async {
            run(&mut connection, &self.begin).await?;
            self.query("UPDATE doorbell SET epoch = coalesce($1, epoch) WHERE id = 1")
                .bind(epoch.map(Epoch::as_str))
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
            run(&mut connection, "COMMIT").await
        })
        .await?;
        connection.keep();
        Ok(())
    }

    /// Reads a page, see [`rows::page`].
    async fn page(
        &self,
        query: impl Fn() -> PgQuery + Sync,
        limit: PageLimit,
        since: Option<Timestamp>,
    ) -> Result<Page, Error> {
        self.read(|connection| {
            let rows = query().fetch(connection).map_err(failed);
            rows::page(rows, limit, since).boxed()
        })
        .await
    }
}

/// Runs statements of ours without parameters: where a transaction begins and ends.
/// One that is not ended goes with its connection.
async fn run(connection: &mut PgConnection, statements: &str) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(connection)
        .await
        .map(drop)
        .map_err(failed)
}

async fn connect(options: &PgConnectOptions, within: Duration) -> Result<PgConnection, String> {
    match timeout(within, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err(format!(
            "no answer within {}",
            humantime::format_duration(within)
        )),
    }
}

/// What a node is called on the server, which tells others how it works.
const ALONE: &str = "doorbell without NATS";
const SHARED: &str = "doorbell with NATS";
const BESIDE: &str = "doorbell";

fn name(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Alone => ALONE,
        Sharing::Shared => SHARED,
        Sharing::Beside => BESIDE,
    }
}

/// Refuses to start beside a node that would not ring this one's streams, or the other
/// way round: most likely a setting was forgotten. A deterrent and no more: nothing is
/// wrong in the store if two write, and events come with the next heartbeat.
async fn refuse_beside(connection: &mut PgConnection, sharing: Sharing) -> Result<(), String> {
    let (others, without) = match sharing {
        Sharing::Alone => (vec![ALONE, SHARED], ""),
        Sharing::Shared => (vec![ALONE], " without DOORBELL_NATS_URL"),
        Sharing::Beside => return Ok(()),
    };
    // Of two that start at once, the older one goes on.
    let is_there = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_activity AS other JOIN pg_stat_activity AS this \
         ON this.pid = pg_backend_pid() AND other.datname = this.datname \
         AND (other.backend_start, other.pid) < (this.backend_start, this.pid) \
         WHERE other.application_name = ANY ($1))",
    );
    match is_there.bind(others).fetch_one(connection).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!(
            "another doorbell works on it{without}; several need DOORBELL_NATS_URL, on each of them"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// An error in words, with what helps.
fn words(error: &sqlx::Error) -> String {
    let text = error.to_string();
    match code(error) {
        Some("08P01") if text.contains("startup parameter") => {
            format!("{text}; a pooler needs DOORBELL_DATABASE_POOLER and a direct URL beside it")
        }
        Some("42501") => format!(
            "{text}; the user needs CREATE on the schema: GRANT CREATE ON SCHEMA public TO the user"
        ),
        _ => text,
    }
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
    let mut migrator = super::migrator(&[
        (
            "inboxes",
            include_str!("../../migrations/postgres/0001_inboxes.sql"),
        ),
        (
            "database id",
            include_str!("../../migrations/postgres/0002_database_id.sql"),
        ),
        (
            "commits",
            include_str!("../../migrations/postgres/0003_commits.sql"),
        ),
        (
            "state and heads",
            include_str!("../../migrations/postgres/0004_state_and_heads.sql"),
        ),
        (
            "whole inbox",
            include_str!("../../migrations/postgres/0005_whole_inbox.sql"),
        ),
        (
            "sends and topics",
            include_str!("../../migrations/postgres/0006_sends_and_topics.sql"),
        ),
        (
            "preferences",
            include_str!("../../migrations/postgres/0007_preferences.sql"),
        ),
        (
            "broadcasts",
            include_str!("../../migrations/postgres/0008_broadcasts.sql"),
        ),
        (
            "follow-ups",
            include_str!("../../migrations/postgres/0009_follow_ups.sql"),
        ),
        (
            "retractions",
            include_str!("../../migrations/postgres/0010_retractions.sql"),
        ),
    ]);
    // A newer version may have migrated already, see `oldest_schema`.
    migrator.set_ignore_missing(true);
    migrator
}

/// Migrates under the lock of the migrations, refuses a schema that is too new,
/// and makes the ids of a new database.
async fn prepare(database: &mut PgConnection, random: &dyn Random) -> Result<(), String> {
    let migrator = migrator();
    // What `run` does; with that the compiler does not see that this is `Send`.
    migrator
        .run_direct(None, &mut *database, false)
        .await
        .map_err(|error| match &error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                words(source)
            }
            _ => error.to_string(),
        })?;
    sqlx::query(super::NAMES)
        .bind(super::new_epoch(random).as_str())
        .bind(random.uuid_v4())
        .execute(&mut *database)
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
    Error::Unavailable(error.into())
}

/// Whether the connection was dead: what was asked of it did not happen, or was
/// undone with it.
fn is_dead(error: &Error) -> bool {
    let Error::Unavailable(source) = error else {
        return false;
    };
    match source.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) => true,
        // Its server ends, somebody ended it, or it was silent in a transaction.
        Some(error) => code(error).is_some_and(|code| code.starts_with("57P") || code == "25P03"),
        None => false,
    }
}

fn too_late() -> Error {
    Error::Unavailable("Postgres does not answer in time".into())
}

/// What a failed statement means. Classes 22 and 23 are broken by one member of
/// a batch, and one may need a head that is held
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>); all else is
/// the server or the connection.
fn failed(error: sqlx::Error) -> Error {
    match code(&error) {
        Some(code) if ["22", "23"].contains(&code.get(..2).unwrap_or_default()) => {
            Error::Refused(error.into())
        }
        // Not to be had in time, or two who wait in a circle.
        Some("55P03" | "40P01") => Error::Held(error.into()),
        _ => unavailable(error),
    }
}

/// The server's code of an error; `None` where it is not the server's.
fn code(error: &sqlx::Error) -> Option<&str> {
    // The code is borrowed from the error, whatever its type says.
    match error {
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
            .map(sqlx::postgres::PgDatabaseError::code),
        _ => None,
    }
}

/// The two columns of keys.
fn halves<'k>(keys: impl Iterator<Item = &'k InboxKey>) -> (Vec<&'k str>, Vec<&'k str>) {
    keys.map(|key| (key.organization_id.as_str(), key.user_id.as_str()))
        .unzip()
}

#[async_trait]
impl Store for Postgres {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        self.write_batch(batch, now).await
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
        Ok(self.page(query, limit, None).await?.changes())
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
                .bind(bound(at_most));
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
        let (source, is_filtered) = Source::of_query(&wanted);
        let about = wanted.about.as_ref();
        let query = || {
            let query = self
                .query(listed(source, is_filtered))
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(wanted.before.map_or(i64::MAX, integer))
                .bind(wanted.since.map_or(i64::MIN, Timestamp::as_micros));
            let rows = rows::one_more(wanted.limit.rows);
            if !is_filtered {
                return query.bind(rows);
            }
            query
                .bind(about.map(|about| about.entity_type.as_str()))
                .bind(about.map(|about| about.entity_id.as_str()))
                .bind(rows)
                .bind(bound(MOST_LOOKED_AT))
                .bind(rows::view_number(wanted.view))
                .bind(wanted.unread_only)
                .bind(&wanted.types)
        };
        let page = self.page(query, wanted.limit, wanted.since).await?;
        Ok(page.recent())
    }

    async fn count_types(&self, inbox: &InboxKey, types: &[String]) -> Result<TypeCounts, Error> {
        self.read(|connection| {
            let query = self
                .query(COUNT_TYPES)
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(bound(MOST_COUNTED))
                .bind(types);
            rows::type_counts(query.fetch(connection).map_err(failed)).boxed()
        })
        .await
    }

    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error> {
        self.read(|connection| {
            let query = self
                .query(walked(Source::of_verb(verb)))
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(integer(after))
                .bind(bound(Walk::most(verb)));
            let query = match &verb.which {
                Which::Ids(ids) => query.bind(ids.clone()),
                Which::About(About {
                    entity_type,
                    entity_id,
                }) => query.bind(entity_type.clone()).bind(entity_id.clone()),
                Which::Key(key) | Which::Collapse(key) => query.bind(key.clone()),
                Which::Through { .. } => query,
            };
            let rows = query.fetch(connection).map_err(failed);
            let verb = verb.clone();
            async move { rows::walk(rows, Walk::new(&verb)).await }.boxed()
        })
        .await
    }

    fn lanes(&self) -> usize {
        self.lanes
    }

    async fn untaken(
        &self,
        organization: &OrganizationId,
        after: u64,
        announced: u64,
    ) -> Result<Untaken, Error> {
        broadcasts::untaken(self, organization, after, announced).await
    }

    async fn announced(&self, after: Option<u64>) -> Result<(Vec<OrganizationId>, u64), Error> {
        broadcasts::announced(self, after).await
    }

    async fn note_taken(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        tally: Tally,
    ) -> Result<(), Error> {
        broadcasts::note_taken(self, organization, id, tally).await
    }

    async fn database_id(&self) -> Result<Uuid, Error> {
        self.read(|connection| {
            let query = self.query("SELECT database_id FROM doorbell WHERE id = 1");
            async move {
                let row = query.fetch_one(connection).await.map_err(failed)?;
                row.try_get("database_id").map_err(failed)
            }
            .boxed()
        })
        .await
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        self.write_epoch(Some(epoch)).await
    }

    async fn check(&self, by_writing: bool) -> Result<(), Error> {
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
        if by_writing {
            self.write_epoch(None).await?;
        }
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}
