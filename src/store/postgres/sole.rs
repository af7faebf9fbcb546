//! The lock of a node that works on its Postgres alone.
//!
//! Without a bus, two nodes on one database would ring each other's streams only
//! when their rooms are checked. Whoever starts a second one most likely forgot
//! the bus: an advisory lock refuses it. It is a deterrent and no more: nothing
//! is wrong in the store if two write.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, connect};

/// Any number that no other program uses in this database: `doorbell`.
const KEY: i64 = i64::from_be_bytes(*b"doorbell");
/// How often the connection that holds it is asked whether it lives.
const PERIOD: Duration = Duration::from_secs(1);

/// Held as long as its connection lives, and taken again when it is lost.
pub(super) struct SoleLock {
    is_held: Arc<AtomicBool>,
    _keeper: AbortOnDropHandle<()>,
}

impl SoleLock {
    /// Takes the lock; what is wrong in words where another process has it.
    pub(super) async fn take(options: PgConnectOptions, within: Duration) -> Result<Self, String> {
        // A machine that vanished must not keep it for hours.
        let options = options.options([
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let connection = lock(&options, within).await?.ok_or(
            "another doorbell works on it alone; several need DOORBELL_NATS_URL, on each of them",
        )?;
        let is_held = Arc::new(AtomicBool::new(true));
        let keeper = tokio::spawn(keep(connection, options, within, is_held.clone()));
        Ok(Self {
            is_held,
            _keeper: AbortOnDropHandle::new(keeper),
        })
    }

    /// Fails while it is lost.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_held.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the lock that keeps a second doorbell away is lost".into(),
            ))
        }
    }
}

/// `None`: another process holds it.
async fn lock(
    options: &PgConnectOptions,
    within: Duration,
) -> Result<Option<PgConnection>, String> {
    let mut connection = connect(options, within).await?;
    let locked = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(KEY)
        .fetch_one(&mut connection);
    match timeout(within, locked).await {
        Ok(Ok(true)) => Ok(Some(connection)),
        Ok(Ok(false)) => Ok(None),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer to the question for the lock".into()),
    }
}

async fn keep(
    mut connection: PgConnection,
    options: PgConnectOptions,
    within: Duration,
    is_held: Arc<AtomicBool>,
) {
    loop {
        sleep(PERIOD).await;
        let alive = sqlx::query("SELECT 1").execute(&mut connection);
        if matches!(timeout(within, alive).await, Ok(Ok(_))) {
            continue;
        }
        is_held.store(false, Ordering::Relaxed);
        tracing::error!("the lock that keeps a second doorbell away is lost");
        connection = loop {
            match lock(&options, within).await {
                Ok(Some(connection)) => break connection,
                Ok(None) => tracing::error!(
                    "another doorbell has taken the database; several need DOORBELL_NATS_URL"
                ),
                Err(error) => tracing::debug!(%error, "the lock cannot be taken yet"),
            }
            sleep(PERIOD).await;
        };
        is_held.store(true, Ordering::Relaxed);
        tracing::info!("the lock that keeps a second doorbell away is taken again");
    }
}
