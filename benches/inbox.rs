//! What a person's large changes and the sweeper's work cost in a store of 1,000,000
//! rows, and what others who send meanwhile notice of it, on SQLite and on Postgres.
//!
//! One inbox has 100,000 unread rows, ten have 10,000; ten thousand others hold the
//! rest, nearly all of it read or archived. Before each kind of work others send alone
//! for a while, and then beside it: the ratio of the two is what counts. All goes
//! through the writer, the sweeper and the store of the service, in this process. No
//! kind of work takes longer than its time; what was done by then is counted.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Failure, engines, median, percentile, report};
use doorbell::{
    bus::Bus,
    clock::{Clock as _, SystemClock},
    config::{FeedSettings, RetentionSettings, StoreSettings, WriterSettings},
    inbox::Inboxes,
    model::{Content, Field, InboxKey, RemovalCause, View},
    operators::Operators,
    random::SystemRandom,
    store::{
        self, Correction, Edit, Named, Sharing, Verb, Which, postgres::Postgres as PostgresStore,
        sqlite::Sqlite,
    },
    sweeper::Sweeper,
};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

const ROWS: usize = 1_000_000;
/// Of the inboxes that have 10,000 rows.
const TEN: usize = 10_000;
/// Others who send all the time, each with a rest after its answer.
const SENDERS: usize = 4;
const REST: Duration = Duration::from_millis(5);
/// So long they send alone before each kind of work.
const ALONE: Duration = Duration::from_secs(3);
/// The longest that a kind of work may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A correction is a call each.
const CORRECTIONS: usize = 2000;

fn main() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            // One of them where it is named: `cargo bench --bench inbox -- postgres`.
            let named: Vec<String> = std::env::args().skip(1).collect();
            let is_named = |engine: &str| named.iter().any(|name| name == engine);
            if !is_named("postgres") {
                let directory = tempfile::tempdir()?;
                let path = directory.path().join("doorbell.db");
                run(&Database::Sqlite(path.display().to_string())).await?;
            }
            if !is_named("sqlite") {
                let postgres = engines::Postgres::start();
                run(&Database::Postgres(postgres.create_database().await)).await?;
            }
            Ok(())
        })
}

/// The database, as an operator reaches it.
enum Database {
    Sqlite(String),
    Postgres(String),
}

impl Database {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres(_) => "Postgres",
        }
    }

    async fn open(&self) -> Result<Arc<dyn store::Database>, Failure> {
        Ok(match self {
            Self::Sqlite(path) => {
                Arc::new(Sqlite::open(&format!("sqlite://{path}"), 4, &SystemRandom).await?)
            }
            Self::Postgres(url) => {
                let settings = StoreSettings {
                    database_url: Some(url.as_str().into()),
                    ..StoreSettings::default()
                };
                Arc::new(PostgresStore::open(&settings, Sharing::Shared, &SystemRandom).await?)
            }
        })
    }

    async fn execute(&self, statements: &str) -> Result<(), Failure> {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .pragma("cache_size", "-262144")
                    .pragma("temp_store", "memory")
                    .busy_timeout(PATIENCE);
                let mut connection = SqliteConnection::connect_with(&options).await?;
                statements.execute(&mut connection).await?;
                connection.close().await?;
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                statements.execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }

    async fn number(&self, query: &str) -> Result<i64, Failure> {
        let query = AssertSqlSafe(query.to_owned());
        Ok(match self {
            Self::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(path).await?;
                sqlx::query_scalar(query).fetch_one(&mut connection).await?
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::query_scalar(query).fetch_one(&mut connection).await?
            }
        })
    }

    /// The indexes of the notifications but the primary key, and what makes them.
    async fn indexes(&self) -> Result<Vec<(String, String)>, Failure> {
        Ok(match self {
            Self::Sqlite(path) => {
                let mut connection = SqliteConnection::connect(path).await?;
                let text = "SELECT name, sql FROM sqlite_master WHERE type = 'index' \
                            AND tbl_name = 'notifications' AND sql IS NOT NULL";
                sqlx::query_as(text).fetch_all(&mut connection).await?
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await?;
                let text = "SELECT indexname::text, indexdef FROM pg_indexes \
                            WHERE tablename = 'notifications' \
                            AND indexname <> 'notifications_pkey'";
                sqlx::query_as(text).fetch_all(&mut connection).await?
            }
        })
    }

    /// Fills it, and makes its indexes afterwards, which takes a third of the time.
    async fn fill(&self) -> Result<(), Failure> {
        let (numbers, id, after) = match self {
            Self::Sqlite(_) => (
                format!(
                    "(WITH RECURSIVE m (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM m \
                     WHERE n < {ROWS}) SELECT n FROM m)"
                ),
                "unhex('00000000000070008000' || printf('%012x', n))",
                "PRAGMA wal_checkpoint(TRUNCATE)",
            ),
            Self::Postgres(_) => (
                format!("(SELECT n FROM generate_series(1::bigint, {ROWS}) AS n)"),
                "('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid",
                "VACUUM ANALYZE",
            ),
        };
        let indexes = self.indexes().await?;
        for (name, _) in &indexes {
            self.execute(&format!("DROP INDEX {name}")).await?;
        }
        let yesterday = SystemClock.now().as_micros() - 24 * 3600 * 1_000_000;
        let many = 10 * TEN;
        let done = 2 * many;
        self.execute(&format!(
            "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, \
             ring_revision, type, title, body, entity_type, entity_id, action_url, sender, \
             created_at, sent_at, read_at, archived_at) \
             SELECT 'acme', CASE WHEN n <= {many} THEN 'hundred' \
             WHEN n <= {done} THEN 'ten-' || ((n - {many} - 1) / {TEN}) \
             ELSE 'user-' || (n % {TEN}) END, s, {id}, s, s, 'comment', \
             'Ann commented on your document', \
             'Could you have a look at the second paragraph? I think it is too long.', \
             'document', CAST(n % 1000 AS text), '/documents/7f1f6f0e#comment-12', 'backend', \
             {yesterday} + s, {yesterday} + s, \
             CASE WHEN n > {done} AND n % 100 <> 0 THEN {yesterday} + s END, \
             CASE WHEN n > {done} AND n % 4 <> 0 THEN {yesterday} + s END \
             FROM (SELECT n, CASE WHEN n <= {many} THEN n \
             WHEN n <= {done} THEN (n - {many} - 1) % {TEN} + 1 \
             ELSE (n - {done} - 1) / {TEN} + 1 END AS s FROM {numbers} AS n) AS n; \
             INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
             unseen_count, row_count, last_created_at, oldest_at) \
             SELECT organization_id, user_id, max(sequence), \
             count(*) FILTER (WHERE read_at IS NULL AND archived_at IS NULL), \
             count(*) FILTER (WHERE read_at IS NULL AND archived_at IS NULL), \
             count(*), max(created_at), min(created_at) FROM notifications \
             GROUP BY organization_id, user_id"
        ))
        .await?;
        for (_, made) in &indexes {
            self.execute(made).await?;
        }
        self.execute(after).await?;
        // What was filled in is not to be written back beside what is measured, and the log
        // has the room that docs/operations.md asks for.
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(_) => {
                for statement in [
                    "ALTER SYSTEM SET max_wal_size = '8GB'",
                    "ALTER SYSTEM SET min_wal_size = '1GB'",
                    "SELECT pg_reload_conf()",
                    "CHECKPOINT",
                ] {
                    self.execute(statement).await?;
                }
            }
        }
        Ok(())
    }
}

/// The service on a database, and others who send to it.
struct House<'d> {
    database: &'d Database,
    store: Arc<dyn store::Database>,
    inboxes: Arc<Inboxes>,
}

fn inbox(user: &str) -> Result<InboxKey, Failure> {
    Ok(InboxKey::parse("acme", user)?)
}

/// The id of the row of this number, as it was filled.
fn id(number: usize) -> Uuid {
    Uuid::from_u128((0x7000_8000 << 48) | number as u128)
}

impl House<'_> {
    /// How long each send of others took, in milliseconds, until `work` is through.
    async fn beside(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Vec<f64>, Failure> {
        let is_over = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (inboxes, is_over) = (self.inboxes.clone(), is_over.clone());
                tokio::spawn(async move {
                    let mut took = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let user = (took.len() * 97 + sender * 2500) % TEN;
                        let new = common::new_notification(inbox(&format!("user-{user}"))?);
                        let began = Instant::now();
                        inboxes.send(new).await?;
                        took.push(began.elapsed().as_secs_f64() * 1e3);
                        sleep(REST).await;
                    }
                    Ok::<_, Failure>(took)
                })
            })
            .collect();
        let done = work.await;
        is_over.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for sender in senders {
            took.extend(sender.await??);
        }
        done?;
        Ok(took)
    }

    /// Does a kind of work beside others who send. What it changed are rows of `user`
    /// that were `left` to do.
    async fn measure(
        &self,
        what: &str,
        (user, left): (&str, &str),
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let left = format!(
            "SELECT count(*) FROM notifications \
             WHERE organization_id = 'acme' AND user_id = '{user}' AND {left}"
        );
        let before = self.database.number(&left).await?;
        let alone = async {
            sleep(ALONE).await;
            Ok(())
        };
        let mut alone = self.beside(alone).await?;
        let began = Instant::now();
        // Cancel safe, all of it: what is left then is left.
        let work = async { timeout(PATIENCE, work).await.unwrap_or(Ok(())) };
        let mut beside = self.beside(work).await?;
        let took = began.elapsed().as_secs_f64();
        let rows = before - self.database.number(&left).await?;
        let (before, during) = (percentile(&mut alone, 0.99), percentile(&mut beside, 0.99));
        let engine = self.database.name();
        println!(
            "  {engine}, {what}: {:.0} rows a second ({rows} in {took:.1} s); {} sends meanwhile: \
             median {:.1} ms, p99 {during:.1} ms, longest {:.1} ms; alone {:.1}, {before:.1}, {:.1}",
            rows as f64 / took,
            beside.len(),
            median(&mut beside),
            percentile(&mut beside, 1.0),
            median(&mut alone),
            percentile(&mut alone, 1.0),
        );
        let what = format!("p99 of others' sends beside {what}, to that alone, {engine}");
        report(&what, during / before, 2.0, "x", false);
        Ok(())
    }

    /// A verb on all of an inbox, as its person sees it.
    async fn all(&self, user: &str, edit: Edit) -> Result<(), Failure> {
        let inbox = inbox(user)?;
        let snapshot = self.inboxes.head(&inbox).await?;
        let which = Which::Through {
            revision: snapshot.head.revision,
            types: Vec::new(),
        };
        let view = View::Inbox;
        let verb = Verb { edit, which, view };
        self.inboxes
            .edit(&inbox, verb, Some(snapshot.epoch))
            .await?;
        Ok(())
    }

    /// Takes back all of an inbox by ids.
    async fn retract(&self) -> Result<(), Failure> {
        let inbox = inbox("ten-1")?;
        for first in (11 * TEN + 1..=12 * TEN).step_by(500) {
            let verb = Verb {
                edit: Edit::Remove(RemovalCause::Sender),
                which: Which::Ids((first..first + 500).map(id).collect()),
                view: View::All,
            };
            self.inboxes.edit(&inbox, verb, None).await?;
        }
        Ok(())
    }

    /// Corrects one after the other.
    async fn correct(&self) -> Result<(), Failure> {
        let inbox = inbox("ten-2")?;
        for number in (12 * TEN + 1..).take(CORRECTIONS) {
            let correction = Correction {
                inbox: inbox.clone(),
                of: Named::Id(id(number)),
                content: Arc::new(Content::new("comment", "Bob commented on it as well")),
                fields: vec![Field::Title],
                ring: false,
            };
            self.inboxes.update(correction).await?;
        }
        Ok(())
    }

    /// Lets the sweeper do all that is due.
    async fn sweep(&self) -> Result<(), Failure> {
        let mut sweeper = Sweeper::new(
            self.store.clone(),
            self.inboxes.clone(),
            Arc::new(SystemClock),
            &SystemRandom,
            RetentionSettings::default(),
        );
        // The lease of the one before may have to end.
        while !sweeper.look().await? {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

async fn run(database: &Database) -> Result<(), Failure> {
    database.open().await?.close().await;
    let began = Instant::now();
    database.fill().await?;
    let engine = database.name();
    let took = began.elapsed().as_secs_f64();
    println!("  {engine}: filled with {ROWS} rows in {took:.0} s");
    let store = database.open().await?;
    let feeds = FeedSettings::default();
    let inboxes = Inboxes::new(
        store.clone(),
        Bus::local(&feeds),
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
        feeds,
        &WriterSettings::default(),
    );
    let house = House {
        database,
        store: store.clone(),
        inboxes: inboxes.clone(),
    };
    // What was filled in is known to be as it should, and the lease is had.
    house.sweep().await?;

    for (what, user, left, edit) in [
        ("read-all of 10,000", "ten-0", "read_at IS NULL", Edit::Read),
        (
            "read-all of 100,000",
            "hundred",
            "read_at IS NULL",
            Edit::Read,
        ),
        (
            "unread of 100,000",
            "hundred",
            "read_at IS NOT NULL",
            Edit::Unread,
        ),
        (
            "archive-all of 100,000",
            "hundred",
            "archived_at IS NULL",
            Edit::Archive,
        ),
        (
            "remove-all of 10,000",
            "ten-0",
            "removed_at IS NULL",
            Edit::Remove(RemovalCause::User),
        ),
    ] {
        let work = house.all(user, edit);
        house.measure(what, (user, left), work).await?;
    }
    let work = house.retract();
    house
        .measure("retraction", ("ten-1", "removed_at IS NULL"), work)
        .await?;
    let left = "title <> 'Bob commented on it as well'";
    house
        .measure("corrections", ("ten-2", left), house.correct())
        .await?;
    for (what, user, is_due, left) in [
        ("expiry", "ten-3", "expire_time = 1", "removed_at IS NULL"),
        (
            "retention",
            "ten-4",
            "created_at = sequence",
            "removed_at IS NULL",
        ),
        ("purge", "ten-1", "removed_at = 1", "TRUE"),
    ] {
        let of = format!("WHERE organization_id = 'acme' AND user_id = '{user}'");
        database
            .execute(&format!(
                "UPDATE notifications SET {is_due} {of}; UPDATE inboxes SET oldest_at = 0 {of}"
            ))
            .await?;
        house.measure(what, (user, left), house.sweep()).await?;
    }
    let operators = Operators::new(store, inboxes.clone());
    let erased = inbox("ten-5")?;
    let work = async {
        operators.erase_inbox(&erased).await?;
        Ok(())
    };
    house.measure("erasure", ("ten-5", "TRUE"), work).await?;
    inboxes.close().await;
    Ok(())
}
