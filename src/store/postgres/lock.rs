//! The lock that each node holds on its Postgres: alone, or shared with others.
//!
//! Without a bus, nodes on one database would ring each other's streams only when
//! their rooms are checked. Whoever starts a node without a bus beside another
//! most likely forgot the setting: an advisory lock refuses it. It is a deterrent
//! and no more: nothing is wrong in the store if two write.

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

/// How it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// By a node without a bus.
    Exclusive,
    /// By nodes that have one.
    Shared,
}

impl Mode {
    const fn statement(self) -> &'static str {
        match self {
            Self::Exclusive => "SELECT pg_try_advisory_lock($1)",
            Self::Shared => "SELECT pg_try_advisory_lock_shared($1)",
        }
    }

    /// Why it is not to be had.
    const fn refusal(self) -> &'static str {
        match self {
            Self::Exclusive => {
                "another doorbell works on it; several need DOORBELL_NATS_URL, on each of them"
            }
            Self::Shared => {
                "another doorbell works on it without DOORBELL_NATS_URL; \
                 several need it, on each of them"
            }
        }
    }
}

/// Held as long as its connection lives, and taken again when it is lost.
pub(super) struct NodeLock {
    mode: Mode,
    is_held: Arc<AtomicBool>,
    _keeper: AbortOnDropHandle<()>,
}

impl NodeLock {
    /// Takes the lock; what is wrong in words where others do not allow it.
    pub(super) async fn take(
        mode: Mode,
        options: PgConnectOptions,
        within: Duration,
    ) -> Result<Self, String> {
        // A machine that vanished must not keep it for hours.
        let options = options.options([
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ]);
        let connection = lock(mode, &options, within).await?.ok_or(mode.refusal())?;
        let is_held = Arc::new(AtomicBool::new(true));
        let keeper = tokio::spawn(keep(mode, connection, options, within, is_held.clone()));
        Ok(Self {
            mode,
            is_held,
            _keeper: AbortOnDropHandle::new(keeper),
        })
    }

    /// Fails while a node that works alone does not have it.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.mode == Mode::Shared || self.is_held.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the lock that keeps a second doorbell away is lost".into(),
            ))
        }
    }
}

/// `None`: another process does not allow it.
async fn lock(
    mode: Mode,
    options: &PgConnectOptions,
    within: Duration,
) -> Result<Option<PgConnection>, String> {
    let mut connection = connect(options, within).await?;
    let locked = sqlx::query_scalar(mode.statement())
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
    mode: Mode,
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
        match mode {
            Mode::Exclusive => {
                tracing::error!("the lock that keeps a second doorbell away is lost");
            }
            Mode::Shared => tracing::debug!("the lock of the nodes is lost, as its connection is"),
        }
        connection = loop {
            match lock(mode, &options, within).await {
                Ok(Some(connection)) => break connection,
                Ok(None) => tracing::error!("{}", mode.refusal()),
                Err(error) => tracing::debug!(%error, "the lock cannot be taken yet"),
            }
            sleep(PERIOD).await;
        };
        is_held.store(true, Ordering::Relaxed);
        tracing::info!("the lock of the nodes is taken again");
    }
}
