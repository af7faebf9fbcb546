//! The embedded store: one SQLite file.
//!
//! WAL with `synchronous=FULL`: a commit returns after its frames were synced
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>). One connection
//! writes, several read; each read is one statement, and so one snapshot. Other
//! programs may read the file meanwhile; a second Doorbell is refused by a lock
//! on a file beside it. Where the files are taken away under it, it writes no more.
//!
//! A connection works in a thread of its own, and each call of it is a way there
//! and back. So statements go there together: a batch of sends is two calls, one
//! that begins and reads the heads, one that writes and commits.

mod files;
mod inspection;
mod sql;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use serde_json::json;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Encode, Row as _, SqliteConnection, Type,
    migrate::{MigrateError, Migrator},
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteRow, SqliteSynchronous,
    },
};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard};
use uuid::Uuid;

use super::{
    About, Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Selected,
    Snapshot, Store, Tally, TypeCounts, Untaken, Verb, Which, broadcasts,
    plan::{self, Before, Changed, DueFollowUp, Made, Plan, Rewritten, StoredHead},
    rows::{
        self, Columns, Page, bound, columns, head_columns, integer, of_source, row_columns,
        snapshot_columns, walk_columns,
    },
    selection::{MOST_COUNTED, MOST_LOOKED_AT, Source, Walk},
};
use crate::{
    clock::Timestamp,
    model::{Data, Epoch, InboxKey, Notification, OrganizationId, Revision, RowState},
    random::Random,
    sabotage::{self, Sabotage},
};
use files::Files;
pub(super) use inspection::{free_bytes, inspect};

/// Before it, a WAL reset could lose a commit
/// (<https://www.sqlite.org/releaselog/3_51_3.html>).
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// How long to wait for another program that holds the file's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The WAL file is cut back to this size once it was checkpointed.
const WAL_BYTES: &str = "67108864";

/// The largest number of rows that one statement takes. Smaller numbers are filled
/// up with nulls to a power of two, so that few statements serve all and stay
/// prepared.
const CHUNK: usize = 64;
/// Statements that take a number of rows come in so many sizes.
const SIZES: usize = CHUNK.ilog2() as usize + 1;

/// Writes as much as a large batch does, and leaves nothing. Less might find room in
/// the log where a send finds none.
const TRY_WRITING: &str = "BEGIN IMMEDIATE; DROP TABLE IF EXISTS probe; \
     CREATE TABLE probe (filler BLOB); INSERT INTO probe VALUES (zeroblob(131072)); COMMIT; \
     DROP TABLE probe";

type SqliteQuery = Query<'static, sqlx::Sqlite, SqliteArguments>;

/// The store in one SQLite file.
pub struct Sqlite {
    /// No pool: it would ask the connection whether it lives after each batch. None
    /// once it is closed.
    writer: Arc<Mutex<Option<SqliteConnection>>>,
    readers: SqlitePool,
    statements: Statements,
    files: Files,
}

impl Sqlite {
    /// Opens or makes the file at `url` (`sqlite://path`), and brings its schema
    /// up to date.
    pub async fn open(url: &str, readers: u32, random: &dyn Random) -> Result<Self, Error> {
        let (options, path) = options(url)?;
        let files = Files::take(&path)?;
        let cannot_open = |error: sqlx::Error| {
            Error::Open(format!(
                "cannot open the database {}: {error}",
                path.display()
            ))
        };

        let options = options
            .filename(files.database())
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("fullfsync", "1")
            .pragma("journal_size_limit", WAL_BYTES)
            .pragma("cache_size", "-16384")
            .pragma("temp_store", "memory")
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(256);
        let mut writer = options.connect().await.map_err(cannot_open)?;
        assert_durable(&mut writer).await.map_err(cannot_open)?;
        prepare(&mut writer, random).await.map_err(|problem| {
            Error::Open(format!(
                "cannot use the database {}: {problem}",
                path.display()
            ))
        })?;
        // All at once: one that is opened later could be of another file.
        let readers = SqlitePoolOptions::new()
            .min_connections(readers)
            .test_before_acquire(false)
            .acquire_timeout(BUSY_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .max_connections(readers)
            .connect_with(options.read_only(true))
            .await
            .map_err(cannot_open)?;
        Ok(Self {
            writer: Arc::new(Mutex::new(Some(writer))),
            readers,
            statements: Statements::new(),
            files: files.watched()?,
        })
    }

    /// The connection that writes, when it is free.
    async fn writer(&self) -> Result<Writer, Error> {
        let writer = self.writer.clone().lock_owned().await;
        OwnedMutexGuard::try_map(writer, Option::as_mut)
            .map_err(|_| Error::Unavailable("the store is closed".into()))
    }
}

/// How the file of `url` is opened, and where it is.
fn options(url: &str) -> Result<(SqliteConnectOptions, PathBuf), Error> {
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|error| Error::Open(format!("the database URL `{url}`: {error}")))?;
    let path = options.get_filename().to_owned();
    if url.contains(":memory:") || path.as_os_str().is_empty() {
        return Err(Error::Open(format!(
            "the database URL `{url}` names no file: what is kept in memory is not durable"
        )));
    }
    Ok((options, path))
}

type Writer = OwnedMappedMutexGuard<Option<SqliteConnection>, SqliteConnection>;

/// Fails unless the connection syncs every commit: a setting that was not taken
/// would lose what was acknowledged.
async fn assert_durable(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let journal_mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await?;
    if journal_mode != "wal" || synchronous != 2 {
        let problem = format!(
            "journal_mode is {journal_mode} and synchronous {synchronous}, not wal and 2: \
             does its file system have shared memory?"
        );
        return Err(sqlx::Error::Configuration(problem.into()));
    }
    Ok(())
}

/// Refuses an unsafe SQLite and a schema of the future, migrates, and makes the
/// ids of a new database.
async fn prepare(writer: &mut SqliteConnection, random: &dyn Random) -> Result<(), String> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(&mut *writer)
        .await
        .map_err(|error| error.to_string())?;
    if parse_version(&version).is_none_or(|version| version < OLDEST_SQLITE) {
        return Err(format!(
            "SQLite {version} may lose commits; 3.51.3 or newer is needed"
        ));
    }
    // What `run` does; with that the compiler does not see that this is `Send`.
    let migrated = migrator().run_direct(None, &mut *writer, false).await;
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) => format!(
            "its schema has migration {version}, which this doorbell does not know: \
             use the newer doorbell that made it"
        ),
        error => error.to_string(),
    })?;
    sqlx::query(super::NAMES)
        .bind(super::new_epoch(random).as_str())
        .bind(random.uuid_v4())
        .execute(&mut *writer)
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn parse_version(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

fn migrator() -> Migrator {
    super::migrator(MIGRATIONS)
}

/// Names and texts, in their order.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "inboxes",
        include_str!("../../migrations/sqlite/0001_inboxes.sql"),
    ),
    (
        "database id",
        include_str!("../../migrations/sqlite/0002_database_id.sql"),
    ),
    (
        "state and heads",
        include_str!("../../migrations/sqlite/0003_state_and_heads.sql"),
    ),
    (
        "whole inbox",
        include_str!("../../migrations/sqlite/0004_whole_inbox.sql"),
    ),
    (
        "sends and topics",
        include_str!("../../migrations/sqlite/0005_sends_and_topics.sql"),
    ),
    (
        "preferences",
        include_str!("../../migrations/sqlite/0006_preferences.sql"),
    ),
    (
        "broadcasts",
        include_str!("../../migrations/sqlite/0007_broadcasts.sql"),
    ),
    (
        "follow-ups",
        include_str!("../../migrations/sqlite/0008_follow_ups.sql"),
    ),
    (
        "retractions",
        include_str!("../../migrations/sqlite/0009_retractions.sql"),
    ),
];

/// The columns of a row's state.
const STATE: [&str; 8] = [
    "revision",
    "ring_revision",
    "read_at",
    "archived_at",
    "removed_at",
    "removal_cause",
    "follow_up_at",
    "follow_up_unless",
];
/// The columns of its content.
const CONTENT: [&str; 9] = [
    "type",
    "title",
    "body",
    "entity_type",
    "entity_id",
    "action_url",
    "data",
    "image_url",
    "actions",
];

/// Takes the next position of an organization, and puts a follow-up there.
const COUNT_FOLLOW_UP: &str = "INSERT INTO follow_up_logs (organization_id, last_position) \
     VALUES ($1, 1) ON CONFLICT (organization_id) DO UPDATE SET last_position = last_position + 1";
const FOLLOW_UP: &str = "INSERT INTO follow_ups (organization_id, position, user_id, sequence, \
     due_at, follow_up_unless, told_at) SELECT organization_id, last_position, $2, $3, $4, $5, $6 \
     FROM follow_up_logs WHERE organization_id = $1";

/// The texts of all statements. Those that take a number of rows have one for
/// each power of two up to [`CHUNK`].
struct Statements {
    snapshots: Vec<Arc<str>>,
    changes: Arc<str>,
    count_changes: Arc<str>,
    /// Pages of a source, and what a query asks for of one.
    listed: HashMap<(Source, bool), Arc<str>>,
    count_types: Arc<str>,
    /// Begins a transaction and reads heads.
    begin: Vec<Arc<str>>,
    heads: Vec<Arc<str>>,
    keyed: Vec<Arc<str>>,
    collapsible: Vec<Arc<str>>,
    /// What people said of types.
    chosen: Vec<Arc<str>>,
    rows: Vec<Arc<str>>,
    whole: Vec<Arc<str>>,
    unread_above: Arc<str>,
    /// A send, if it is under way.
    under_way: Arc<str>,
    /// Rows of a source without their contents, by their sequence.
    walked: HashMap<Source, Arc<str>>,
    delete: Vec<Arc<str>>,
    insert: Vec<Arc<str>>,
    update: Vec<Arc<str>>,
    /// Also their contents.
    rewrite: Vec<Arc<str>>,
    write_heads: Vec<Arc<str>>,
    /// Writes heads and commits.
    commit: Vec<Arc<str>>,
    /// Inserts rows, by their size, then writes heads, by theirs, and commits.
    insert_and_commit: Vec<Vec<Arc<str>>>,
}

/// The index that a source is, and what of it is meant. SQLite is told which: it knows
/// nothing of how many rows there are of each, and would take any that has the columns.
fn indexed(source: Source) -> (&'static str, &'static str) {
    match source {
        Source::Ids => (
            "notifications_by_id",
            "id IN (SELECT unhex(value) FROM json_each($5))",
        ),
        Source::About => ("notifications_about", of_source!(about)),
        Source::Key => ("notifications_by_idempotency_key", of_source!(key)),
        Source::Collapse => ("notifications_by_collapse_key", of_source!(collapse)),
        Source::Unread => ("notifications_unread", of_source!(unread)),
        Source::Inbox => ("notifications_inbox", of_source!(inbox)),
        Source::Archived => ("notifications_archived", of_source!(archived)),
        Source::All => ("sqlite_autoindex_notifications_1", of_source!(all)),
    }
}

impl Statements {
    fn new() -> Self {
        let each_size = |before: &str, row: &str, after: &str| -> Vec<Arc<str>> {
            (0..SIZES)
                .map(|power| {
                    let rows = vec![row; 1 << power].join(", ");
                    Arc::from(format!("{before}{rows}{after}"))
                })
                .collect()
        };
        let around = |before: &str, sizes: &[Arc<str>], after: &str| -> Vec<Arc<str>> {
            let around = |text: &Arc<str>| Arc::from(format!("{before}{text}{after}"));
            sizes.iter().map(around).collect()
        };
        // A page with its head and epoch in one statement, so in one snapshot. An
        // inbox without a head row, and a page without rows, are nulls.
        let page_of = |columns: &str, index: &str, filter: &str, order: &str, limit: &str| {
            Arc::from(format!(
                "SELECT {}, {columns} FROM doorbell AS d \
                 LEFT JOIN inboxes AS i ON i.organization_id = $1 AND i.user_id = $2 \
                 LEFT JOIN (SELECT * FROM notifications AS n INDEXED BY {index} \
                 WHERE organization_id = $1 AND user_id = $2 AND {filter} \
                 ORDER BY {order} LIMIT {limit}) AS n ON TRUE ORDER BY {order}",
                snapshot_columns!("$1")
            ))
        };
        let walk = |source: Source| {
            let (index, filter) = indexed(source);
            let filter = format!("sequence > $3 AND {filter}");
            page_of(walk_columns!(), index, &filter, "n.sequence", "$4")
        };
        // No row is read where none is newer than `since`: that is asked of the head,
        // once, and leaves no sequence to look for.
        let newer = "sequence < (SELECT CASE WHEN last_created_at > $4 THEN $3 END \
                     FROM inboxes WHERE organization_id = $1 AND user_id = $2)";
        let recent = |source: Source| {
            let (index, filter) = indexed(source);
            let filter = format!("{newer} AND {filter}");
            page_of(columns!(), index, &filter, "n.sequence DESC", "$5")
        };
        let filtered = |source: Source| -> Arc<str> {
            let (index, filter) = indexed(source);
            Arc::from(format!(
                "WITH walked AS MATERIALIZED (SELECT * FROM notifications AS n INDEXED BY {index} \
                 WHERE organization_id = $1 AND user_id = $2 AND {newer} AND {filter} \
                 ORDER BY n.sequence DESC LIMIT $8) \
                 SELECT {}, e.walked_to, {} FROM doorbell AS d \
                 LEFT JOIN inboxes AS i ON i.organization_id = $1 AND i.user_id = $2 \
                 CROSS JOIN (SELECT CASE WHEN count(*) = $8 THEN min(sequence) END AS walked_to \
                 FROM walked) AS e LEFT JOIN (SELECT * FROM walked AS w \
                 WHERE w.removed_at IS NULL AND ($9 = 2 OR ($9 = 1) = (w.archived_at IS NOT NULL)) \
                 AND (w.read_at IS NULL OR NOT $10) \
                 AND ($11 = '[]' OR w.type IN (SELECT value FROM json_each($11))) \
                 ORDER BY w.sequence DESC LIMIT $7) AS n ON TRUE ORDER BY n.sequence DESC",
                snapshot_columns!("$1"),
                columns!()
            ))
        };
        let all = Source::LISTED.map(|source| ((source, true), filtered(source)));
        let exact = Source::EXACT.map(|source| ((source, false), recent(source)));
        let listed = all.into_iter().chain(exact);
        let (unread_index, unread) = indexed(Source::Unread);
        let heads = each_size(
            "WITH wanted (organization_id, user_id) AS (VALUES ",
            "(?, ?)",
            concat!(
                ") SELECT i.organization_id, i.user_id, ",
                head_columns!(),
                ", EXISTS (SELECT 1 FROM preferences AS p \
                 WHERE p.organization_id = i.organization_id AND p.user_id = i.user_id) \
                 AS has_preferences \
                 FROM wanted CROSS JOIN inboxes AS i USING (organization_id, user_id)"
            ),
        );
        let of_ids = |columns: &str| {
            each_size(
                "WITH wanted (organization_id, user_id, id) AS (VALUES ",
                "(?, ?, ?)",
                &format!(
                    ") SELECT {columns} FROM wanted CROSS JOIN notifications AS n \
                     USING (organization_id, user_id, id)"
                ),
            )
        };
        // Writes states, and what else is named.
        let update = |also: &[&str]| {
            let columns: Vec<&str> = STATE.iter().chain(also).copied().collect();
            let set = |column: &&str| format!("{column} = image.{column}");
            let set: Vec<String> = columns.iter().map(set).collect();
            each_size(
                &format!(
                    "WITH image (organization_id, user_id, sequence, {}) AS (VALUES ",
                    columns.join(", ")
                ),
                &format!("({})", vec!["?"; 3 + columns.len()].join(", ")),
                &format!(
                    ") UPDATE notifications AS n SET {} FROM image \
                     WHERE n.organization_id = image.organization_id \
                     AND n.user_id = image.user_id AND n.sequence = image.sequence",
                    set.join(", ")
                ),
            )
        };
        let insert = each_size(
            "WITH made (organization_id, user_id, sequence, id, revision, type, title, body, \
             entity_type, entity_id, action_url, data, sender, idempotency_key, fingerprint, \
             created_at, ring_revision, image_url, actions, sent_at, expire_time, collapse_key, \
             collapsed_count) AS (VALUES ",
            "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ") INSERT INTO notifications (organization_id, user_id, sequence, id, revision, \
             type, title, body, entity_type, entity_id, action_url, data, sender, \
             idempotency_key, fingerprint, created_at, ring_revision, image_url, actions, \
             sent_at, expire_time, collapse_key, collapsed_count) \
             SELECT * FROM made WHERE organization_id IS NOT NULL",
        );
        let write_heads = each_size(
            "WITH head (organization_id, user_id, revision, unread_count, unseen_count, \
             seen_through, last_created_at, row_count, floor, taken_through) AS (VALUES ",
            "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            // One that is new is no older than what it was made for.
            ") INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
             unseen_count, seen_through, last_created_at, row_count, floor, taken_through, \
             oldest_at) \
             SELECT *, last_created_at - row_count + 1 FROM head WHERE organization_id IS NOT NULL \
             ON CONFLICT (organization_id, user_id) DO UPDATE SET \
             revision = excluded.revision, unread_count = excluded.unread_count, \
             unseen_count = excluded.unseen_count, seen_through = excluded.seen_through, \
             last_created_at = excluded.last_created_at, row_count = excluded.row_count, \
             floor = excluded.floor, taken_through = excluded.taken_through",
        );
        let commit = around("", &write_heads, "; COMMIT");
        let insert_and_commit = insert
            .iter()
            .map(|insert| around(&format!("{insert}; "), &commit, ""))
            .collect();
        Self {
            begin: around("BEGIN IMMEDIATE; ", &heads, ""),
            heads,
            insert,
            write_heads,
            commit,
            insert_and_commit,
            snapshots: each_size(
                "WITH wanted (place, organization_id, user_id) AS (VALUES ",
                "(?, ?, ?)",
                concat!(
                    ") SELECT w.place, ",
                    snapshot_columns!("w.organization_id"),
                    " FROM wanted AS w CROSS JOIN doorbell AS d LEFT JOIN inboxes AS i \
                     ON i.organization_id = w.organization_id AND i.user_id = w.user_id \
                     WHERE w.place IS NOT NULL"
                ),
            ),
            changes: page_of(
                columns!(),
                "notifications_by_revision",
                "(revision, sequence) > ($3, $4)",
                "n.revision, n.sequence",
                "$5",
            ),
            count_changes: "SELECT count(*) FROM (SELECT 1 FROM notifications \
                            WHERE organization_id = $1 AND user_id = $2 AND revision > $3 \
                            LIMIT $4)"
                .into(),
            listed: listed.collect(),
            count_types: Arc::from(format!(
                "SELECT {}, n.type, n.unread FROM doorbell AS d \
                 LEFT JOIN inboxes AS i ON i.organization_id = $1 AND i.user_id = $2 \
                 LEFT JOIN (SELECT w.type, count(*) AS unread FROM (SELECT n.type \
                 FROM notifications AS n INDEXED BY {unread_index} \
                 WHERE organization_id = $1 AND user_id = $2 AND {unread} \
                 ORDER BY n.sequence DESC LIMIT $3) AS w \
                 WHERE w.type IN (SELECT value FROM json_each($4)) GROUP BY w.type) AS n ON TRUE",
                snapshot_columns!("$1")
            )),
            keyed: each_size(
                "WITH wanted (organization_id, user_id, idempotency_key) AS (VALUES ",
                "(?, ?, ?)",
                concat!(
                    ") SELECT ",
                    columns!(),
                    " FROM wanted CROSS JOIN notifications AS n \
                     USING (organization_id, user_id, idempotency_key)"
                ),
            ),
            collapsible: each_size(
                "WITH wanted (organization_id, user_id, collapse_key) AS (VALUES ",
                "(?, ?, ?)",
                concat!(
                    ") SELECT ",
                    row_columns!(),
                    " FROM wanted CROSS JOIN notifications AS n \
                     USING (organization_id, user_id, collapse_key) WHERE ",
                    of_source!(unread)
                ),
            ),
            chosen: each_size(
                "WITH wanted (organization_id, user_id, type) AS (VALUES ",
                "(?, ?, ?)",
                ") SELECT p.organization_id, p.user_id, p.type, p.is_on \
                 FROM wanted CROSS JOIN preferences AS p USING (organization_id, user_id, type)",
            ),
            rows: of_ids(row_columns!()),
            whole: of_ids(columns!()),
            unread_above: "SELECT count(*) FROM notifications \
                           WHERE organization_id = $1 AND user_id = $2 AND sequence > $3 \
                           AND read_at IS NULL AND archived_at IS NULL AND removed_at IS NULL"
                .into(),
            under_way: "SELECT id FROM sends WHERE organization_id = $1 AND id = $2 AND state = 1"
                .into(),
            walked: Source::EACH.map(|source| (source, walk(source))).into(),
            delete: each_size(
                "WITH gone (organization_id, user_id, sequence) AS (VALUES ",
                "(?, ?, ?)",
                ") DELETE FROM notifications WHERE (organization_id, user_id, sequence) IN \
                 (SELECT organization_id, user_id, sequence FROM gone)",
            ),
            update: update(&[]),
            rewrite: update(&CONTENT),
        }
    }
}

/// Rows for one statement, at most [`CHUNK`] of them.
struct Chunk<'r, T> {
    rows: &'r [T],
    columns: usize,
}

impl<T> Chunk<'_, T> {
    /// Of the statements of all sizes, the one that takes these rows.
    fn size(&self) -> usize {
        self.rows.len().next_power_of_two().ilog2() as usize
    }

    /// Binds the rows, and nulls in place of those that lack to the size.
    fn bind(
        &self,
        query: SqliteQuery,
        bind: impl Fn(SqliteQuery, &T) -> SqliteQuery,
    ) -> SqliteQuery {
        let lacking = (1 << self.size()) - self.rows.len();
        let query = self.rows.iter().fold(query, bind);
        (0..lacking * self.columns).fold(query, |query, _| query.bind(None::<i64>))
    }
}

/// Splits `rows` of so many `columns`.
fn chunks<T>(rows: &[T], columns: usize) -> impl Iterator<Item = Chunk<'_, T>> {
    let chunk = move |rows| Chunk { rows, columns };
    rows.chunks(CHUNK).map(chunk)
}

/// The statements that take `rows` of so many `columns`.
fn chunked<T>(
    statements: &[Arc<str>],
    columns: usize,
    rows: &[T],
    bind: impl Fn(SqliteQuery, &T) -> SqliteQuery,
) -> impl Iterator<Item = SqliteQuery> {
    chunks(rows, columns).map(move |chunk| chunk.bind(query(&statements[chunk.size()]), &bind))
}

/// All texts are made of constants, in [`Statements::new`].
fn query(text: &Arc<str>) -> SqliteQuery {
    sqlx::query(AssertSqlSafe(text.clone()))
}

fn bind_inbox(query: SqliteQuery, inbox: &InboxKey) -> SqliteQuery {
    query
        .bind(inbox.organization_id.as_str())
        .bind(inbox.user_id.as_str())
}

/// The rows of names, each of its inbox.
async fn named<N>(
    connection: &mut SqliteConnection,
    statements: &[Arc<str>],
    names: &[(&InboxKey, N)],
) -> Result<Vec<SqliteRow>, Error>
where
    N: Copy + Encode<'static, sqlx::Sqlite> + Type<sqlx::Sqlite>,
{
    let bind = |query, (inbox, name): &(&InboxKey, N)| bind_inbox(query, inbox).bind(*name);
    let mut found = Vec::new();
    for query in chunked(statements, 3, names, bind) {
        found.extend(query.fetch_all(&mut *connection).await.map_err(failed)?);
    }
    Ok(found)
}

impl Statements {
    /// Begins a transaction, and loads what `batch` touches.
    async fn begin(
        &self,
        connection: &mut SqliteConnection,
        batch: &[Mutation],
    ) -> Result<Before, Error> {
        let mut before = Before::default();
        let mut indifferent = HashSet::new();

        let inboxes: Vec<&InboxKey> = plan::inboxes(batch).into_iter().collect();
        for (number, chunk) in chunks(&inboxes, 2).enumerate() {
            // IMMEDIATE takes the write lock at once: a transaction that reads first
            // and then writes could not wait for another program.
            let statements = if number == 0 {
                &self.begin
            } else {
                &self.heads
            };
            let query = chunk.bind(query(&statements[chunk.size()]), |query, inbox| {
                bind_inbox(query, inbox)
            });
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let columns = Columns::of(&row, "inboxes");
                let inbox = columns.inbox()?;
                if columns.number("has_preferences")? == 0 {
                    indifferent.insert(inbox.clone());
                }
                before.heads.insert(inbox, rows::head(&row)?);
            }
        }

        // Few people say anything, and to look for nothing takes a call as well.
        let mut choices: Vec<_> = plan::choices(batch).into_iter().collect();
        choices.retain(|(inbox, _)| !indifferent.contains(*inbox));
        for row in named(connection, &self.chosen, &choices).await? {
            rows::add_chosen(&mut before, &row)?;
        }
        let keys = plan::keys(batch);
        for row in named(connection, &self.keyed, &keys).await? {
            rows::add_keyed(&mut before, &row)?;
        }
        let collapse_keys = plan::collapse_keys(batch);
        for row in named(connection, &self.collapsible, &collapse_keys).await? {
            rows::add_row(&mut before, &row)?;
        }
        let [ids, whole] = plan::ids(batch);
        for row in named(connection, &self.rows, &ids).await? {
            rows::add_row(&mut before, &row)?;
        }
        for row in named(connection, &self.whole, &whole).await? {
            rows::add_whole(&mut before, &row)?;
        }

        for (inbox, through) in plan::seen(batch) {
            let count: i64 = bind_inbox(query(&self.unread_above), inbox)
                .bind(integer(through))
                .fetch_one(&mut *connection)
                .await
                .and_then(|row| row.try_get(0))
                .map_err(failed)?;
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            before.unread_above.insert((inbox.clone(), through), count);
        }

        for (organization, send_id) in plan::parts(batch) {
            let found = query(&self.under_way)
                .bind(organization.as_str())
                .bind(send_id)
                .fetch_optional(&mut *connection)
                .await;
            if found.map_err(failed)?.is_some() {
                before.under_way.insert((organization.clone(), send_id));
            }
        }
        Ok(before)
    }

    /// Writes what the plan says, but for the last rows and heads: what does that and
    /// commits is answered. `None` where there is nothing to write.
    async fn write(
        &self,
        connection: &mut SqliteConnection,
        plan: &Plan,
    ) -> Result<Option<SqliteQuery>, Error> {
        let heads: Vec<_> = plan.heads.iter().collect();
        let mut heads: Vec<_> = chunks(&heads, 10).collect();
        let writes = plan.writes();
        let mut inserts: Vec<_> = chunks(&writes.made, 23).collect();
        // What is changed may be made by this batch: then it is made before.
        let is_changed = !(writes.changed.is_empty() && writes.rewritten.is_empty());
        let last_insert = if is_changed { None } else { inserts.pop() };
        let last_heads = heads.pop();
        let bind = |query, (inbox, sequence): &(&InboxKey, Revision)| {
            bind_inbox(query, inbox).bind(integer(*sequence))
        };
        for query in chunked(&self.delete, 3, &writes.deleted, bind) {
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        for chunk in inserts {
            let query = chunk.bind(query(&self.insert[chunk.size()]), bind_insert);
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        let updates = chunked(&self.update, 11, &writes.changed, bind_update);
        let rewrites = chunked(&self.rewrite, 20, &writes.rewritten, bind_rewrite);
        for query in updates.chain(rewrites) {
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        for DueFollowUp {
            inbox,
            sequence,
            was,
        } in &plan.follow_ups
        {
            let organization = inbox.organization_id.as_str();
            let count_on = sqlx::query(COUNT_FOLLOW_UP).bind(organization);
            count_on.execute(&mut *connection).await.map_err(failed)?;
            let tell = sqlx::query(FOLLOW_UP)
                .bind(organization)
                .bind(inbox.user_id.as_str())
                .bind(integer(*sequence))
                .bind(was.at.as_micros())
                .bind(rows::unless_number(was.unless))
                .bind(plan.now.as_micros());
            tell.execute(&mut *connection).await.map_err(failed)?;
        }
        for chunk in heads {
            let query = chunk.bind(query(&self.write_heads[chunk.size()]), bind_head);
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        let Some(heads) = last_heads else {
            return Ok(None);
        };
        let last = match last_insert {
            Some(rows) => {
                let text = &self.insert_and_commit[rows.size()][heads.size()];
                rows.bind(query(text), bind_insert)
            }
            None => query(&self.commit[heads.size()]),
        };
        Ok(Some(heads.bind(last, bind_head)))
    }
}

fn bind_insert(query: SqliteQuery, (inbox, notification, keyed): &Made<'_>) -> SqliteQuery {
    let Notification { row, content, .. } = notification;
    let (key, fingerprint) = keyed.as_ref().map(|(key, print)| (key, print)).unzip();
    bind_inbox(query, inbox)
        .bind(integer(row.sequence))
        .bind(row.id)
        .bind(integer(row.revision))
        .bind(content.kind.as_str())
        .bind(content.title.as_str())
        .bind(content.body.as_deref())
        .bind(content.entity_type.as_deref())
        .bind(content.entity_id.as_deref())
        .bind(content.action_url.as_deref())
        .bind(content.data.as_ref().map(Data::as_str))
        .bind(&*notification.sender)
        .bind(key.map(String::as_str))
        .bind(fingerprint.map(|print| print.to_vec()))
        .bind(notification.created_at.as_micros())
        .bind(integer(row.ring_revision))
        .bind(content.image_url.as_deref())
        .bind(rows::actions_text(&content.actions))
        .bind(notification.sent_at.as_micros())
        .bind(notification.expire_time.map(Timestamp::as_micros))
        .bind(notification.collapse_key.as_deref())
        .bind(notification.collapsed_count)
}

fn bind_rewrite(query: SqliteQuery, (inbox, row, content): &Rewritten<'_>) -> SqliteQuery {
    bind_update(query, &(*inbox, *row))
        .bind(content.kind.as_str())
        .bind(content.title.as_str())
        .bind(content.body.as_deref())
        .bind(content.entity_type.as_deref())
        .bind(content.entity_id.as_deref())
        .bind(content.action_url.as_deref())
        .bind(content.data.as_ref().map(Data::as_str))
        .bind(content.image_url.as_deref())
        .bind(rows::actions_text(&content.actions))
}

fn bind_update(query: SqliteQuery, (inbox, row): &Changed<'_>) -> SqliteQuery {
    let RowState {
        read_at,
        archived_at,
        removed,
        follow_up,
    } = row.state;
    bind_inbox(query, inbox)
        .bind(integer(row.sequence))
        .bind(integer(row.revision))
        .bind(integer(row.ring_revision))
        .bind(read_at.map(Timestamp::as_micros))
        .bind(archived_at.map(Timestamp::as_micros))
        .bind(removed.map(|(at, _)| at.as_micros()))
        .bind(removed.map(|(_, cause)| rows::cause_number(cause)))
        .bind(follow_up.map(|due| due.at.as_micros()))
        .bind(follow_up.map(|due| rows::unless_number(due.unless)))
}

fn bind_head(query: SqliteQuery, (inbox, stored): &(&InboxKey, &StoredHead)) -> SqliteQuery {
    let head = &stored.head;
    bind_inbox(query, inbox)
        .bind(integer(head.revision))
        .bind(head.unread_count)
        .bind(head.unseen_count)
        .bind(integer(head.seen_through))
        .bind(stored.last_created_at.as_micros())
        .bind(stored.row_count)
        .bind(integer(stored.floor))
        .bind(stored.taken_through.cast_signed())
}

/// What a failed statement means. A constraint is broken by one member of a
/// batch; all else is the file, the disk or the connection.
fn failed(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database)
            if !matches!(database.kind(), sqlx::error::ErrorKind::Other) =>
        {
            Error::Refused(error.into())
        }
        _ if matches!(code(&error), Some(SQLITE_CORRUPT | SQLITE_NOTADB)) => {
            Error::Corrupt(error.into())
        }
        _ => Error::Unavailable(error.into()),
    }
}

/// What a failed COMMIT means. Where it was the disk, or the connection's thread,
/// the frames may be whole in the log: the next transaction overwrites them, and a
/// crash before that keeps them.
fn commit_failed(error: sqlx::Error) -> Error {
    match code(&error) {
        None | Some(SQLITE_IOERR) => Error::InDoubt(error.into()),
        Some(_) => failed(error),
    }
}

const SQLITE_IOERR: i32 = 10;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

/// SQLite's own word, without the details in its upper bits
/// (<https://www.sqlite.org/rescode.html>).
fn code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

/// Reads a page, see [`rows::page`].
async fn page(
    pool: &SqlitePool,
    query: SqliteQuery,
    limit: PageLimit,
    since: Option<Timestamp>,
) -> Result<Page, Error> {
    let mut connection = pool.acquire().await.map_err(failed)?;
    rows::page(query.fetch(&mut *connection).map_err(failed), limit, since).await
}

impl Sqlite {
    /// Begins, plans and writes. What is still to be run commits; without it there was
    /// nothing to write, and there is a transaction to undo.
    async fn write_batch(
        &self,
        writer: &mut SqliteConnection,
        batch: &[Mutation],
        now: Timestamp,
    ) -> Result<(Committed, Option<SqliteQuery>), Error> {
        let before = self.statements.begin(writer, batch).await?;
        let plan = plan::plan(batch, before, now);
        let last = self.statements.write(writer, &plan).await?;
        Ok((plan.committed, last))
    }
}

/// Ends a transaction that is not to be, if there is one.
async fn undo(writer: &mut SqliteConnection) {
    if let Err(error) = sqlx::raw_sql("ROLLBACK").execute(writer).await {
        tracing::debug!(%error, "there was no transaction to undo");
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        self.files.check()?;
        let mut writer = self.writer().await?;
        let committed = self.write_batch(&mut writer, batch, now).await;
        let (committed, last) = match committed {
            Ok((committed, Some(last))) => (committed, last),
            Ok((committed, None)) => {
                undo(&mut writer).await;
                return Ok(committed);
            }
            Err(error) => {
                undo(&mut writer).await;
                return Err(error);
            }
        };
        if sabotage::is(Sabotage::AckBeforeCommit) || sabotage::is(Sabotage::PublishBeforeCommit) {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                last.execute(&mut *writer).await
            });
            return Ok(committed);
        }
        if let Err(error) = last.execute(&mut *writer).await {
            undo(&mut writer).await;
            return Err(commit_failed(error));
        }
        // What is in a file that nobody will open is not kept.
        self.files
            .check()
            .map_err(|error| Error::InDoubt(error.into()))?;
        Ok(committed)
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        let places: Vec<(i64, &InboxKey)> = (0..).zip(inboxes).collect();
        let bind = |query: SqliteQuery, (place, inbox): &(i64, &InboxKey)| {
            bind_inbox(query.bind(*place), inbox)
        };
        let mut heads = Vec::with_capacity(inboxes.len());
        for query in chunked(&self.statements.snapshots, 3, &places, bind) {
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let place = Columns::of(&row, "inboxes").number("place")?;
                heads.push((place, rows::snapshot(&row)?));
            }
        }
        heads.sort_unstable_by_key(|(place, _)| *place);
        Ok(heads.into_iter().map(|(_, head)| head).collect())
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        let query = bind_inbox(query(&self.statements.changes), inbox)
            .bind(integer(cursor.revision))
            .bind(integer(cursor.sequence));
        let query = query.bind(rows::one_more(limit.rows));
        Ok(page(&self.readers, query, limit, None).await?.changes())
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        let query = bind_inbox(query(&self.statements.count_changes), inbox)
            .bind(integer(position))
            .bind(rows::bound(at_most));
        let row = query.fetch_one(&self.readers).await.map_err(failed)?;
        let count: i64 = row.try_get(0).map_err(failed)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    async fn recent(&self, inbox: &InboxKey, wanted: RecentQuery) -> Result<Recent, Error> {
        let listed = Source::of_query(&wanted);
        let mut query = bind_inbox(query(&self.statements.listed[&listed]), inbox)
            .bind(wanted.before.map_or(i64::MAX, integer))
            .bind(wanted.since.map_or(i64::MIN, Timestamp::as_micros));
        let rows = rows::one_more(wanted.limit.rows);
        let (_, is_filtered) = listed;
        query = if is_filtered {
            let about = wanted
                .about
                .map(|about| (about.entity_type, about.entity_id));
            let (entity_type, entity_id) = about.unzip();
            query
                .bind(entity_type)
                .bind(entity_id)
                .bind(rows)
                .bind(bound(MOST_LOOKED_AT))
                .bind(rows::view_number(wanted.view))
                .bind(wanted.unread_only)
                .bind(json!(wanted.types).to_string())
        } else {
            query.bind(rows)
        };
        let page = page(&self.readers, query, wanted.limit, wanted.since).await?;
        Ok(page.recent())
    }

    async fn count_types(&self, inbox: &InboxKey, types: &[String]) -> Result<TypeCounts, Error> {
        let query = bind_inbox(query(&self.statements.count_types), inbox)
            .bind(bound(MOST_COUNTED))
            .bind(json!(types).to_string());
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        rows::type_counts(query.fetch(&mut *connection).map_err(failed)).await
    }

    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error> {
        let source = Source::of_verb(verb);
        let query = bind_inbox(query(&self.statements.walked[&source]), inbox)
            .bind(integer(after))
            .bind(bound(Walk::most(verb)));
        let query = match verb.which.clone() {
            Which::Ids(ids) => {
                let ids: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
                query.bind(json!(ids).to_string())
            }
            Which::About(About {
                entity_type,
                entity_id,
            }) => query.bind(entity_type).bind(entity_id),
            Which::Key(key) | Which::Collapse(key) => query.bind(key),
            Which::Through { .. } => query,
        };
        let mut connection = self.readers.acquire().await.map_err(failed)?;
        let rows = query.fetch(&mut *connection).map_err(failed);
        rows::walk(rows, Walk::new(verb)).await
    }

    async fn check(&self, by_writing: bool) -> Result<(), Error> {
        self.files.check()?;
        sqlx::query("SELECT epoch FROM doorbell WHERE id = 1")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        // In a task: who asks may not wait for it, and no transaction must stay.
        let mut writer = self.writer().await?;
        let checked = tokio::spawn(async move {
            let statements = if by_writing {
                TRY_WRITING
            } else {
                "BEGIN IMMEDIATE; ROLLBACK"
            };
            let checked = sqlx::raw_sql(statements).execute(&mut *writer).await;
            if checked.is_err() {
                undo(&mut writer).await;
            }
            checked.map(drop).map_err(failed)
        });
        checked
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.into())))
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
        sqlx::query_scalar("SELECT database_id FROM doorbell WHERE id = 1")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        sqlx::query("UPDATE doorbell SET epoch = ? WHERE id = 1")
            .bind(epoch.as_str())
            .execute(&mut *self.writer().await?)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "the database was not closed well; what was committed is kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        follow_ups, retractions,
        sweeping::{self, Kept},
    };

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(parse_version("3.51.3"), Some([3, 51, 3]));
        assert!(parse_version("3.9.0").is_some_and(|version| version < OLDEST_SQLITE));
        assert!(parse_version("3.51.2").is_some_and(|version| version < OLDEST_SQLITE));
        assert_eq!(parse_version("3"), None);
    }

    #[test]
    fn rows_are_split_and_filled_up_to_a_size() {
        for rows in [1, 2, 3, 7, 64, 65, 127, 200] {
            let rows = vec![(); rows];
            let sizes: Vec<_> = chunks(&rows, 2).map(|chunk| 1 << chunk.size()).collect();
            assert_eq!(sizes.len(), rows.len().div_ceil(CHUNK));
            let most = rows.len().next_multiple_of(CHUNK);
            let room: usize = sizes.iter().sum();
            assert!((rows.len()..=most).contains(&room), "{rows:?}: {sizes:?}");
        }
    }

    /// A poll for what is new, where nothing is, takes no more steps in a large inbox.
    #[tokio::test]
    async fn a_poll_that_finds_nothing_reads_the_head_alone() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let mut connection = migrated().await;
        sqlx::raw_sql(
            "INSERT INTO doorbell (id, epoch) VALUES (1, 'e'); \
             INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
             last_created_at) VALUES ('acme', 'ann', 200, 200, 200); \
             WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 200) \
             INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, \
             title, sender, created_at) SELECT 'acme', 'ann', n, \
             CAST(printf('%016d', n) AS BLOB), n, 't', 't', 's', n FROM n",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let statements = Statements::new();
        let inbox = InboxKey::parse("acme", "ann").unwrap();
        for source in [Source::Inbox, Source::Unread] {
            let text = &statements.listed[&(source, false)];
            let mut poll = async |since: i64| {
                let steps = Arc::new(AtomicUsize::new(0));
                let counted = steps.clone();
                let mut handle = connection.lock_handle().await.unwrap();
                handle.set_progress_handler(1, move || {
                    counted.fetch_add(1, Ordering::Relaxed);
                    true
                });
                drop(handle);
                let query = bind_inbox(query(text), &inbox).bind(i64::MAX);
                let query = query.bind(since).bind(101);
                let rows = query.fetch_all(&mut connection).await.unwrap();
                let row = &rows[0];
                let snapshot = rows::snapshot(row).unwrap();
                assert_eq!(snapshot.head.revision, Revision::new(200));
                let is_empty = row.get::<Option<i64>, _>("sequence").is_none();
                (steps.load(Ordering::Relaxed), rows.len(), is_empty)
            };
            assert!(matches!(poll(i64::MIN).await, (1000.., 101, false)));
            assert!(matches!(poll(199).await, (1000.., 101, false)));
            let idle = poll(200).await;
            assert!(matches!(idle, (..300, 1, true)), "{idle:?}");
        }
    }

    async fn migrated() -> SqliteConnection {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for (_, migration) in MIGRATIONS {
            let migrated = sqlx::raw_sql(*migration).execute(&mut connection).await;
            migrated.unwrap();
        }
        connection
    }

    /// What falls due is found by its time, and nothing else is looked at.
    #[tokio::test]
    async fn what_is_due_is_found_by_its_time() {
        let mut connection = migrated().await;
        for (sql, index) in sweeping::texts::<Sqlite>() {
            let steps = steps(&mut connection, &sql).await;
            let is_found = steps
                .iter()
                .any(|step| step.contains(index) && step.ends_with("<?)"));
            assert!(is_found, "{sql}: {steps:#?}");
            assert!(
                !steps.iter().any(|step| step.contains("ORDER BY")),
                "{sql}: {steps:#?}"
            );
        }
    }

    /// What is taken back from all is found by what it is about, in the order of the inboxes;
    /// what is told, and what was long ago, likewise by an index, in its order.
    #[tokio::test]
    async fn what_is_of_an_organization_is_found_in_its_order() {
        let mut connection = migrated().await;
        for (sql, index) in [
            (
                retractions::ROWS,
                "notifications_about (organization_id=? AND entity_type=? AND entity_id=?",
            ),
            (
                follow_ups::LIST,
                "PRIMARY KEY (organization_id=? AND position>?)",
            ),
            (sweeping::INBOXES, "(organization_id=? AND user_id>?)"),
        ] {
            let steps = steps(&mut connection, sql).await;
            assert!(steps.iter().any(|step| step.contains(index)), "{steps:#?}");
            let is_sorted = |step: &String| step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(is_sorted), "{sql}: {steps:#?}");
        }
    }

    /// What a verb or a view is about is found by the index that is made for it, and by all
    /// of its columns.
    #[tokio::test]
    async fn each_source_is_found_by_its_index() {
        let mut connection = migrated().await;
        let statements = Statements::new();
        let listed = statements
            .listed
            .iter()
            .map(|((source, _), sql)| (source, sql));
        for (source, sql) in listed.chain(&statements.walked) {
            let steps = steps(&mut connection, sql).await;
            let (index, _) = indexed(*source);
            let by = match source {
                Source::Ids => "user_id=? AND id=?",
                Source::About => "entity_type=? AND entity_id=? AND user_id=? AND sequence",
                Source::Key => "user_id=? AND idempotency_key=?",
                Source::Collapse => "user_id=? AND collapse_key=?",
                _ => "user_id=? AND sequence",
            };
            let by = format!("INDEX {index} (organization_id=? AND {by}");
            let is_found = steps.iter().any(|step| step.contains(&by));
            assert!(is_found, "{source:?}: {sql}: {steps:#?}");
        }
    }

    async fn steps(connection: &mut SqliteConnection, sql: &str) -> Vec<String> {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let steps: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(connection).await.unwrap();
        steps.into_iter().map(|step| step.3).collect()
    }

    /// No statement scans a table: each finds its rows by the whole inbox key.
    #[tokio::test]
    async fn every_statement_searches_by_organization_first() {
        let mut connection = migrated().await;
        let statements = Statements::new();
        let mut all = vec![
            &statements.changes,
            &statements.count_changes,
            &statements.count_types,
            &statements.unread_above,
        ];
        let old: Vec<Arc<str>> = [Kept::All, Kept::Live, Kept::Done]
            .map(|kept| sweeping::oldest_text(kept).into())
            .into();
        all.extend(&old);
        all.extend(statements.listed.values());
        all.extend(statements.walked.values());
        for sized in [
            &statements.snapshots,
            &statements.heads,
            &statements.keyed,
            &statements.collapsible,
            &statements.chosen,
            &statements.rows,
            &statements.whole,
            &statements.delete,
            &statements.update,
            &statements.rewrite,
        ] {
            all.extend(sized);
        }
        for sql in all {
            let steps = steps(&mut connection, sql).await;
            let searched = steps.iter().filter(|step| {
                step.starts_with("SEARCH") && step.contains("(organization_id=? AND user_id=?")
            });
            assert!(searched.count() >= 1, "{sql}: {steps:#?}");
            for step in &steps {
                let scans_table = ["SCAN notifications", "SCAN inboxes", "SCAN i", "SCAN n"]
                    .iter()
                    .any(|scan| step.split(' ').take(2).eq(scan.split(' ')));
                // What a page materialized is scanned.
                let scans = scans_table && *step != "SCAN n LEFT-JOIN";
                assert!(!scans, "{sql}: {steps:#?}");
            }
        }
    }
}
