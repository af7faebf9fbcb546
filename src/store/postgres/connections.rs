//! Connections to Postgres, each lent to one user at a time.
//!
//! Promises: a connection is lent again only if its user said that it ended well;
//! who goes away in the midst of a statement takes its connection along and gives
//! its place back. Nothing here waits without a limit, and giving a connection back
//! costs nothing: sqlx's own pool asks each one whether it lives when it comes back,
//! which is a round trip more for each batch, and waits for ever on a way that
//! swallows the answer.

use std::{
    mem,
    ops::{Deref, DerefMut},
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout_at},
};

use super::{Error, is_dead, unavailable, words};

/// A connection that was idle for longer is asked whether it lives.
const IDLE_UNASKED: Duration = Duration::from_secs(1);
/// Between two attempts to connect; doubled from one to the next.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// At most so many connections of one kind.
pub(super) struct Connections {
    options: PgConnectOptions,
    within: Duration,
    /// Whether each keeps its settings, so that what it writes can be trusted.
    keeps_settings: bool,
    places: Semaphore,
    /// The one used last is lent first. A std mutex, never held across an await.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
}

impl Connections {
    /// Connects once, to see that it can. A connection must be there `within` this
    /// long. `keeps_settings` is false behind a pooler.
    pub(super) async fn open(
        options: PgConnectOptions,
        most: usize,
        within: Duration,
        keeps_settings: bool,
    ) -> Result<Self, Error> {
        let connections = Self {
            options,
            within,
            keeps_settings,
            places: Semaphore::new(most),
            idle: Mutex::default(),
        };
        connections.take().await?.keep();
        Ok(connections)
    }

    /// Lends a connection, when one is free or can be made. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], within the time that a connection may take.
    pub(super) async fn take(&self) -> Result<Lease<'_>, Error> {
        let deadline = Instant::now() + self.within;
        let place = match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => place,
            // Nobody closes it but the store itself, at its end.
            Ok(Err(_)) => return Err(Error::Unavailable("the store is closed".into())),
            Err(_) => {
                return Err(Error::Unavailable(
                    "no connection to Postgres is free in time: all are busy".into(),
                ));
            }
        };
        let connection = loop {
            let Some(Idle {
                mut connection,
                since,
            }) = self.idle.lock().pop()
            else {
                break self.connect(deadline).await?;
            };
            if since.elapsed() <= IDLE_UNASKED
                || matches!(timeout_at(deadline, connection.ping()).await, Ok(Ok(())))
            {
                break connection;
            }
        };
        Ok(Lease {
            connections: self,
            connection,
            _place: place,
        })
    }

    /// Tries again until the deadline: a server that is started anew is there in a
    /// moment.
    async fn connect(&self, deadline: Instant) -> Result<PgConnection, Error> {
        let mut pause = PAUSE;
        loop {
            let error = match timeout_at(deadline, self.connect_once()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => {
                    let within = humantime::format_duration(self.within);
                    return Err(Error::Unavailable(
                        format!("Postgres takes no connection within {within}").into(),
                    ));
                }
            };
            if !is_dead(&error) || Instant::now() + pause >= deadline {
                // In words: that nobody takes it for one that died in use.
                let words = match &error {
                    Error::Unavailable(source) => source.downcast_ref().map(words),
                    _ => None,
                };
                let words = words.unwrap_or_else(|| error.to_string());
                return Err(Error::Unavailable(
                    format!("cannot connect to Postgres: {words}").into(),
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect_once(&self) -> Result<PgConnection, Error> {
        let mut connection = PgConnection::connect_with(&self.options)
            .await
            .map_err(unavailable)?;
        if self.keeps_settings {
            let kept: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
                .persistent(false)
                .fetch_one(&mut connection)
                .await
                .map_err(unavailable)?;
            if kept != "on" {
                return Err(Error::Unavailable(
                    format!(
                        "synchronous_commit is {kept} though it was asked to be on: it would lose \
                         what was acknowledged; behind a pooler set DOORBELL_DATABASE_POOLER"
                    )
                    .into(),
                ));
            }
        }
        Ok(connection)
    }

    /// Lends no more, and closes what is idle; what is lent is closed when it comes
    /// back.
    pub(super) async fn close(&self) {
        self.places.close();
        let idle = mem::take(&mut *self.idle.lock());
        for Idle { connection, .. } in idle {
            // A server that does not answer notices the end of the socket.
            let _ = timeout_at(Instant::now() + self.within, connection.close()).await;
        }
    }
}

/// A connection that is lent. Dropped, it is closed.
pub(super) struct Lease<'p> {
    connections: &'p Connections,
    connection: PgConnection,
    _place: SemaphorePermit<'p>,
}

impl Lease<'_> {
    /// Takes it for good; its place is free.
    pub(super) fn into_inner(self) -> PgConnection {
        self.connection
    }

    /// Gives it back: what was asked of it has ended, well or with the server's word.
    pub(super) fn keep(self) {
        if !self.connections.places.is_closed() {
            self.connections.idle.lock().push(Idle {
                connection: self.connection,
                since: Instant::now(),
            });
        }
    }
}

impl Deref for Lease<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
