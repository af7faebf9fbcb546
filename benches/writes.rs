//! What a durable write costs: group commit beside one transaction a send, and
//! beside the barest batch insert that SQLite can do.
//!
//! The three are measured in turn, round by round, each on a new file on the same
//! disk, and the median of the rounds' ratios counts.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Failure, median, report};
use doorbell::{
    clock::{Clock as _, SystemClock},
    model::{InboxKey, NewNotification},
    store::{Mutation, Store as _},
};
use sqlx::{
    AssertSqlSafe, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

const ROUNDS: usize = 5;
const AT_ONCE: usize = 64;
const USERS: usize = 1000;
const ROUND: Duration = Duration::from_secs(3);

fn main() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run())
}

async fn run() -> Result<(), Failure> {
    let (mut to_single, mut to_bare, mut many_to_bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut with_preferences = Vec::new();
    for _ in 0..ROUNDS {
        let (grouped, batch) = grouped().await?;
        let single = single().await?;
        let bare_of_sends = bare(batch, new).await?;
        println!(
            "  sends a second: {grouped:.0} in groups of {batch} on average, {single:.0} one a \
             transaction, {bare_of_sends:.0} rows by a bare insert of as many"
        );
        to_single.push(grouped / single);
        to_bare.push(grouped / bare_of_sends);
        let directory = tempfile::tempdir()?;
        let store = common::open(&directory, 1).await?;
        common::turn_off(&store, USERS, new).await?;
        let (chosen, _) = common::grouped(store, AT_ONCE, ROUND, new).await?;
        println!("  {chosen:.0} sends a second to people who turned other types off");
        with_preferences.push(chosen / grouped);
        let directory = tempfile::tempdir()?;
        let store = common::open(&directory, 1).await?;
        let (many, batch) = common::to_many(store, ROUND, new).await?;
        let bare = bare(batch, |number| common::keyed(new, number)).await?;
        println!(
            "  to many: {many:.0} rows a second in groups of {batch}, {bare:.0} by a bare insert \
             of as many"
        );
        many_to_bare.push(many / bare);
    }
    let what = "durable sends, 64 at once, to one transaction a send";
    report(what, median(&mut to_single), 4.0, "x", true);
    let what = "durable sends, 64 at once, to a bare batch insert";
    report(what, median(&mut to_bare), 0.7, "x", true);
    let what = "durable sends to people who turned 20 other types off, to those who said nothing";
    report(what, median(&mut with_preferences), 0.9, "x", true);
    let what = "rows of SendToMany, to a bare batch insert";
    report(what, median(&mut many_to_bare), 0.6, "x", true);
    Ok(())
}

fn new(number: usize) -> Result<NewNotification, Failure> {
    let inbox = InboxKey::parse("acme", &format!("user-{}", number % USERS))?;
    Ok(common::new_notification(inbox))
}

/// Sends a second at `Inboxes::send`, and how many a transaction took on average.
async fn grouped() -> Result<(f64, usize), Failure> {
    let directory = tempfile::tempdir()?;
    common::grouped(common::open(&directory, 1).await?, AT_ONCE, ROUND, new).await
}

/// The same statements, a transaction for each send. SQLite has one writer, so
/// one caller is as fast as many.
async fn single() -> Result<f64, Failure> {
    let directory = tempfile::tempdir()?;
    let store = common::open(&directory, 1).await?;
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < ROUND {
        store
            .commit(&[Mutation::Send(new(sent)?)], SystemClock.now())
            .await?;
        sent += 1;
    }
    let took = began.elapsed().as_secs_f64();
    store.close().await;
    Ok(sent as f64 / took)
}

/// Rows a second by one prepared statement of `batch` rows a transaction: the
/// same table and indexes, the same syncs, and nothing else.
async fn bare(batch: usize, new: common::New) -> Result<f64, Failure> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("doorbell.db");
    common::open(&directory, 1).await?.close().await;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-16384");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let statement: Arc<str> = format!(
        "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, \
         title, body, entity_type, entity_id, action_url, data, sender, created_at, \
         idempotency_key, fingerprint) VALUES {}",
        vec![row; batch].join(", ")
    )
    .into();
    let began = Instant::now();
    let mut inserted = 0;
    while began.elapsed() < ROUND {
        let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
        for _ in 0..batch {
            let new = new(inserted)?;
            let key = new.idempotency_key.as_deref();
            let sequence = i64::try_from(inserted / USERS + 1)?;
            query = query
                .bind(new.inbox.organization_id.as_str())
                .bind(new.inbox.user_id.as_str())
                .bind(sequence)
                .bind(new.id.as_bytes().to_vec())
                .bind(sequence)
                .bind(new.content.kind.as_str())
                .bind(new.content.title.as_str())
                .bind(new.content.body.as_deref())
                .bind(new.content.entity_type.as_deref())
                .bind(new.content.entity_id.as_deref())
                .bind(new.content.action_url.as_deref())
                .bind(None::<&str>)
                .bind(&*new.sender)
                .bind(SystemClock.now().as_micros())
                .bind(key.map(ToOwned::to_owned))
                .bind(key.map(|_| new.content.fingerprint().to_vec()));
            inserted += 1;
        }
        // One statement is one transaction.
        query.execute(&mut connection).await?;
    }
    let took = began.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(inserted as f64 / took)
}
