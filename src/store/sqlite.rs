//! The embedded store: one SQLite file.
//!
//! WAL with `synchronous=FULL`: a commit returns after its frames were synced
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>). One connection
//! writes, several read; each read is one statement, and so one snapshot. Other
//! programs may read the file meanwhile; a second Doorbell is refused by a lock
//! on a file beside it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Row as _, SqliteConnection,
    migrate::{MigrateError, Migrator},
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
        SqliteSynchronous,
    },
};
use uuid::Uuid;

use super::{
    Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Snapshot, Store,
    plan::{self, Before, Insert, Mark},
    rows::{self, COLUMNS, Columns, integer},
};
use crate::{
    clock::Timestamp,
    model::{Data, Epoch, Head, InboxKey, Notification, Revision},
    random::Random,
    sabotage::{self, Sabotage},
};

/// Before it, a WAL reset could lose a commit
/// (<https://www.sqlite.org/releaselog/3_51_3.html>).
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// How long to wait for another program that holds the file's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The WAL file is cut back to this size once it was checkpointed.
const WAL_BYTES: &str = "67108864";

/// The largest number of rows that one statement takes. Smaller numbers are
/// made of powers of two, so that few statements serve all and stay prepared.
const CHUNK: usize = 64;

type SqliteQuery = Query<'static, sqlx::Sqlite, SqliteArguments>;

/// The store in one SQLite file.
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    statements: Statements,
    /// Held as long as the store is: another process cannot take it.
    _lock: File,
}

impl Sqlite {
    /// Opens or makes the file at `url` (`sqlite://path`), and brings its schema
    /// up to date.
    pub async fn open(url: &str, readers: u32, random: &dyn Random) -> Result<Self, Error> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| Error::Open(format!("the database URL `{url}`: {error}")))?;
        let path = options.get_filename().to_owned();
        if url.contains(":memory:") || path.as_os_str().is_empty() {
            return Err(Error::Open(format!(
                "the database URL `{url}` names no file: what is kept in memory is not durable"
            )));
        }
        let lock = lock(&path)?;
        let cannot_open = |error: sqlx::Error| {
            Error::Open(format!(
                "cannot open the database {}: {error}",
                path.display()
            ))
        };

        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("fullfsync", "1")
            .pragma("journal_size_limit", WAL_BYTES)
            .pragma("cache_size", "-16384")
            .pragma("temp_store", "memory")
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(128);
        let pool = || {
            SqlitePoolOptions::new()
                .test_before_acquire(false)
                .acquire_timeout(BUSY_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool()
            .max_connections(1)
            .after_connect(|connection, _| Box::pin(assert_durable(connection)))
            .connect_with(options.clone())
            .await
            .map_err(cannot_open)?;
        prepare(&writer, random).await.map_err(|problem| {
            Error::Open(format!(
                "cannot use the database {}: {problem}",
                path.display()
            ))
        })?;
        let readers = pool()
            .max_connections(readers)
            .connect_with(options.read_only(true))
            .await
            .map_err(cannot_open)?;
        Ok(Self {
            writer,
            readers,
            statements: Statements::new(),
            _lock: lock,
        })
    }
}

/// Takes the lock that keeps a second process away from the database.
fn lock(database: &Path) -> Result<File, Error> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| {
            Error::Open(format!(
                "cannot open the database {}: no lock file can be made at {}: {error}",
                database.display(),
                path.display()
            ))
        })?;
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => Error::Open(format!(
            "the database {} is in use by another doorbell process (it holds {})",
            database.display(),
            path.display()
        )),
        std::fs::TryLockError::Error(error) => {
            Error::Open(format!("cannot lock {}: {error}", path.display()))
        }
    })?;
    Ok(file)
}

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
/// epoch of a new database.
async fn prepare(writer: &SqlitePool, random: &dyn Random) -> Result<(), String> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(writer)
        .await
        .map_err(|error| error.to_string())?;
    if parse_version(&version).is_none_or(|version| version < OLDEST_SQLITE) {
        return Err(format!(
            "SQLite {version} may lose commits; 3.51.3 or newer is needed"
        ));
    }
    migrator().run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => format!(
            "its schema has migration {version}, which this doorbell does not know: \
             use the newer doorbell that made it"
        ),
        error => error.to_string(),
    })?;
    sqlx::query("INSERT INTO doorbell (id, epoch) VALUES (1, ?) ON CONFLICT (id) DO NOTHING")
        .bind(super::new_epoch(random).as_str())
        .execute(writer)
        .await
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn parse_version(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next()??])
}

fn migrator() -> Migrator {
    super::migrator(&[(
        "inboxes",
        include_str!("../../migrations/sqlite/0001_inboxes.sql"),
    )])
}

/// The texts of all statements. Those that take a number of rows have one for
/// each power of two up to [`CHUNK`].
struct Statements {
    snapshots: Vec<Arc<str>>,
    changes: Arc<str>,
    count_changes: Arc<str>,
    recent: Arc<str>,
    recent_unread: Arc<str>,
    heads: Vec<Arc<str>>,
    keyed: Vec<Arc<str>>,
    unread: Vec<Arc<str>>,
    insert: Vec<Arc<str>>,
    mark: Vec<Arc<str>>,
    write_heads: Vec<Arc<str>>,
}

impl Statements {
    fn new() -> Self {
        let each_size = |before: &str, row: &str, after: &str| {
            (0..=CHUNK.ilog2())
                .map(|power| {
                    let rows = vec![row; 1 << power].join(", ");
                    Arc::from(format!("{before}{rows}{after}"))
                })
                .collect()
        };
        // A page with its head and epoch in one statement, so in one snapshot. An
        // inbox without a head row, and a page without rows, are nulls.
        let page = |filter: &str, order: &str, limit: &str| {
            Arc::from(format!(
                "SELECT d.epoch, i.revision AS head_revision, i.unread_count, i.floor, \
                 i.last_created_at, {COLUMNS} FROM doorbell AS d \
                 LEFT JOIN inboxes AS i ON i.organization_id = ?1 AND i.user_id = ?2 \
                 LEFT JOIN (SELECT * FROM notifications AS n \
                 WHERE organization_id = ?1 AND user_id = ?2 AND {filter} \
                 ORDER BY {order} LIMIT {limit}) AS n ON TRUE ORDER BY {order}"
            ))
        };
        Self {
            snapshots: each_size(
                "WITH wanted (place, organization_id, user_id) AS (VALUES ",
                "(?, ?, ?)",
                ") SELECT w.place, d.epoch, i.revision AS head_revision, i.unread_count, \
                 i.floor, i.last_created_at FROM wanted AS w CROSS JOIN doorbell AS d \
                 LEFT JOIN inboxes AS i \
                 ON i.organization_id = w.organization_id AND i.user_id = w.user_id",
            ),
            changes: page(
                "(revision, sequence) > (?3, ?4)",
                "n.revision, n.sequence",
                "?5",
            ),
            count_changes: "SELECT count(*) FROM (SELECT 1 FROM notifications \
                            WHERE organization_id = ?1 AND user_id = ?2 AND revision > ?3 \
                            LIMIT ?4)"
                .into(),
            recent: page(
                "sequence < ?3 AND archived_at IS NULL",
                "n.sequence DESC",
                "?4",
            ),
            recent_unread: page(
                "sequence < ?3 AND archived_at IS NULL AND read_at IS NULL",
                "n.sequence DESC",
                "?4",
            ),
            heads: each_size(
                "WITH wanted (organization_id, user_id) AS (VALUES ",
                "(?, ?)",
                ") SELECT organization_id, user_id, revision, unread_count, floor, \
                 last_created_at FROM wanted CROSS JOIN inboxes USING (organization_id, user_id)",
            ),
            keyed: each_size(
                "WITH wanted (organization_id, user_id, idempotency_key) AS (VALUES ",
                "(?, ?, ?)",
                &format!(
                    ") SELECT {COLUMNS} FROM wanted CROSS JOIN notifications AS n \
                     USING (organization_id, user_id, idempotency_key)"
                ),
            ),
            unread: each_size(
                "WITH wanted (organization_id, user_id, id) AS (VALUES ",
                "(?, ?, ?)",
                ") SELECT organization_id, user_id, id FROM wanted \
                 CROSS JOIN notifications USING (organization_id, user_id, id) \
                 WHERE read_at IS NULL AND archived_at IS NULL",
            ),
            insert: each_size(
                "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, \
                 type, title, body, entity_type, entity_id, action_url, data, sender, \
                 idempotency_key, fingerprint, created_at) VALUES ",
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                "",
            ),
            mark: each_size(
                "WITH marked (organization_id, user_id, id, revision, read_at) AS (VALUES ",
                "(?, ?, ?, ?, ?)",
                ") UPDATE notifications AS n \
                 SET revision = marked.revision, read_at = marked.read_at FROM marked \
                 WHERE n.organization_id = marked.organization_id \
                 AND n.user_id = marked.user_id AND n.id = marked.id",
            ),
            write_heads: each_size(
                "INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
                 last_created_at) VALUES ",
                "(?, ?, ?, ?, ?)",
                " ON CONFLICT (organization_id, user_id) DO UPDATE SET \
                 revision = excluded.revision, unread_count = excluded.unread_count, \
                 last_created_at = excluded.last_created_at",
            ),
        }
    }
}

/// Splits `rows` into runs whose lengths are powers of two, and prepares the
/// statement of each.
fn chunked<T>(
    statements: &[Arc<str>],
    rows: &[T],
    bind: impl Fn(SqliteQuery, &T) -> SqliteQuery,
) -> impl Iterator<Item = SqliteQuery> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let power = rest.len().min(CHUNK).checked_ilog2()?;
        let (chunk, after) = rest.split_at(1 << power);
        rest = after;
        Some(chunk.iter().fold(query(&statements[power as usize]), &bind))
    })
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

impl Statements {
    /// Loads what `batch` touches.
    async fn load(
        &self,
        connection: &mut SqliteConnection,
        batch: &[Mutation],
    ) -> Result<Before, Error> {
        let mut before = Before::default();

        let inboxes: Vec<&InboxKey> = plan::inboxes(batch).into_iter().collect();
        for query in chunked(&self.heads, &inboxes, |query, inbox| {
            bind_inbox(query, inbox)
        }) {
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let inbox = Columns::of(&row, "inboxes").inbox()?;
                before.heads.insert(inbox, rows::head(&row, "revision")?);
            }
        }

        let keys = plan::keys(batch);
        let bind = |query, (inbox, key): &(&InboxKey, &str)| bind_inbox(query, inbox).bind(*key);
        for query in chunked(&self.keyed, &keys, bind) {
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let (inbox, key, keyed) = rows::keyed(&row)?;
                before.keyed.entry(inbox).or_default().insert(key, keyed);
            }
        }

        let ids = plan::ids(batch);
        let bind = |query, (inbox, id): &(&InboxKey, Uuid)| bind_inbox(query, inbox).bind(*id);
        for query in chunked(&self.unread, &ids, bind) {
            for row in query.fetch_all(&mut *connection).await.map_err(failed)? {
                let columns = Columns::of(&row, "notifications");
                before
                    .unread
                    .entry(columns.inbox()?)
                    .or_default()
                    .insert(columns.id()?);
            }
        }
        Ok(before)
    }

    /// Writes what the plan says.
    async fn write(
        &self,
        connection: &mut SqliteConnection,
        inserts: &[Insert],
        marks: &[Mark],
        heads: &[(InboxKey, Head)],
    ) -> Result<(), Error> {
        for query in chunked(&self.insert, inserts, bind_insert) {
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        let bind = |query, mark: &Mark| {
            bind_inbox(query, &mark.inbox)
                .bind(mark.id)
                .bind(integer(mark.revision))
                .bind(mark.read_at.as_micros())
        };
        for query in chunked(&self.mark, marks, bind) {
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        let bind = |query, (inbox, head): &(InboxKey, Head)| {
            bind_inbox(query, inbox)
                .bind(integer(head.revision))
                .bind(head.unread_count)
                .bind(head.last_created_at.as_micros())
        };
        for query in chunked(&self.write_heads, heads, bind) {
            query.execute(&mut *connection).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn bind_insert(query: SqliteQuery, insert: &Insert) -> SqliteQuery {
    let notification = &insert.notification;
    let content = &notification.content;
    let (key, fingerprint) = insert
        .keyed
        .as_ref()
        .map(|(key, print)| (key, print))
        .unzip();
    bind_inbox(query, &insert.inbox)
        .bind(integer(notification.sequence))
        .bind(notification.id)
        .bind(integer(notification.revision))
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
}

fn unavailable(error: sqlx::Error) -> Error {
    Error::Unavailable(error.into())
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
        _ => unavailable(error),
    }
}

/// Reads a page, see [`rows::page`].
async fn page(
    pool: &SqlitePool,
    query: SqliteQuery,
    limit: PageLimit,
    since: Option<Timestamp>,
) -> Result<(Snapshot, Vec<Notification>, Option<Notification>), Error> {
    let mut connection = pool.acquire().await.map_err(unavailable)?;
    rows::page(query.fetch(&mut *connection).map_err(failed), limit, since).await
}

#[async_trait]
impl Store for Sqlite {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        // IMMEDIATE takes the write lock at once: a transaction that reads first
        // and then writes could not wait for another program.
        let mut transaction = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(unavailable)?;
        let before = self.statements.load(&mut transaction, batch).await?;
        let plan = plan::plan(batch, before, now);
        let heads: Vec<_> = plan.heads.into_iter().collect();
        self.statements
            .write(&mut transaction, &plan.inserts, &plan.marks, &heads)
            .await?;
        if sabotage::is(Sabotage::AckBeforeCommit) || sabotage::is(Sabotage::PublishBeforeCommit) {
            tokio::spawn(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                transaction.commit().await
            });
            return Ok(plan.committed);
        }
        // A failed COMMIT is undone before the connection is used again: what it
        // wrote to the WAL is overwritten by the next transaction.
        transaction.commit().await.map_err(failed)?;
        Ok(plan.committed)
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        let mut connection = self.readers.acquire().await.map_err(unavailable)?;
        let places: Vec<(i64, &InboxKey)> = (0..).zip(inboxes).collect();
        let bind = |query: SqliteQuery, (place, inbox): &(i64, &InboxKey)| {
            bind_inbox(query.bind(*place), inbox)
        };
        let mut heads = Vec::with_capacity(inboxes.len());
        for query in chunked(&self.statements.snapshots, &places, bind) {
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
        let (snapshot, rows, next) = page(&self.readers, query, limit, None).await?;
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
        let query = bind_inbox(query(&self.statements.count_changes), inbox)
            .bind(integer(position))
            .bind(i64::try_from(at_most).unwrap_or(i64::MAX));
        let row = query.fetch_one(&self.readers).await.map_err(failed)?;
        let count: i64 = row.try_get(0).map_err(failed)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    async fn recent(&self, inbox: &InboxKey, wanted: RecentQuery) -> Result<Recent, Error> {
        let Statements {
            recent,
            recent_unread,
            ..
        } = &self.statements;
        let statement = if wanted.unread_only {
            recent_unread
        } else {
            recent
        };
        let query =
            bind_inbox(query(statement), inbox).bind(wanted.before.map_or(i64::MAX, integer));
        let query = query.bind(rows::one_more(wanted.limit.rows));
        let (snapshot, rows, next) = page(&self.readers, query, wanted.limit, wanted.since).await?;
        Ok(Recent {
            snapshot,
            rows,
            more: next.is_some(),
        })
    }

    async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT epoch FROM doorbell WHERE id = 1")
            .fetch_one(&self.readers)
            .await
            .map_err(failed)?;
        let writer = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(unavailable)?;
        writer.rollback().await.map_err(failed)
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        sqlx::query("UPDATE doorbell SET epoch = ? WHERE id = 1")
            .bind(epoch.as_str())
            .execute(&self.writer)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(parse_version("3.51.3"), Some([3, 51, 3]));
        assert!(parse_version("3.9.0").is_some_and(|version| version < OLDEST_SQLITE));
        assert!(parse_version("3.51.2").is_some_and(|version| version < OLDEST_SQLITE));
        assert_eq!(parse_version("3"), None);
    }

    #[test]
    fn rows_are_split_into_powers_of_two() {
        let statements = Statements::new();
        for rows in [1, 2, 3, 7, 64, 65, 127, 200] {
            let rows = vec![(); rows];
            let total = std::cell::Cell::new(0);
            let count = chunked(&statements.heads, &rows, |query, ()| {
                total.set(total.get() + 1);
                query
            })
            .count();
            assert_eq!(total.get(), rows.len());
            assert!(
                count <= rows.len() / CHUNK + 6,
                "{} rows: {count}",
                rows.len()
            );
        }
    }

    /// No statement scans a table: each finds its rows by the whole inbox key.
    #[tokio::test]
    async fn every_statement_searches_by_organization_first() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(include_str!("../../migrations/sqlite/0001_inboxes.sql"))
            .execute(&mut connection)
            .await
            .unwrap();
        let statements = Statements::new();
        let Statements {
            changes,
            count_changes,
            recent,
            recent_unread,
            ..
        } = &statements;
        let mut all = vec![changes, count_changes, recent, recent_unread];
        for sized in [
            &statements.snapshots,
            &statements.heads,
            &statements.keyed,
            &statements.unread,
            &statements.mark,
        ] {
            all.extend(sized);
        }
        for sql in all {
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            let steps: Vec<&str> = plan.iter().map(|step| step.3.as_str()).collect();
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
