//! What is known of the servers of NATS before a node goes by them.
//!
//! Each is connected to by itself, with what a node shows it. A message to a subject of
//! its own, such as a node sends itself, says whether what is published comes back; the
//! same from one server to the next, whether they know one another.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::{SETTLED, options, probe_subject};
use crate::{
    config::{BusSettings, Error},
    random::Random,
};

/// A server must be there after so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A message must be back after so long, through servers of a cluster too.
const PASS_TIMEOUT: Duration = Duration::from_secs(2);

/// What was found of one server.
#[derive(Clone, Debug)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// What it is like, or why it cannot be connected to.
    pub found: Result<Found, String>,
}

/// A server that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its version.
    pub version: String,
    /// The most bytes of a message that it takes.
    pub max_payload_bytes: usize,
    /// What the server said when a message of ours did not come back; empty where it
    /// said nothing.
    pub mute: Option<String>,
    /// Whether a message that is given to it comes out of the first server that is there.
    pub reaches_first: bool,
}

/// Looks at each server that `settings` name; none where they name none.
///
/// # Errors
///
/// The setting that cannot be.
pub async fn inspect(settings: &BusSettings, random: &dyn Random) -> Result<Vec<Server>, Error> {
    if settings.nats_url.is_none() {
        return Ok(Vec::new());
    }
    let (servers, options) = options(settings).await?;
    let subject = probe_subject(&settings.nats_prefix, random.uuid_v4());
    let mut first: Option<Visit> = None;
    let mut found = Vec::new();
    for (server, number) in servers.into_iter().zip((0..).step_by(2)) {
        let address = format!("{}:{}", server.host(), server.port());
        let visited = Visit::begin(server, options.clone(), &subject).await;
        let outcome = match visited {
            Err(problem) => Err(problem),
            Ok(visit) => {
                let is_mute = !visit.passes(&visit.client, &subject, number).await;
                let reaches_first = match &first {
                    Some(first) => first.passes(&visit.client, &subject, number + 1).await,
                    None => true,
                };
                let info = visit.client.server_info();
                let found = Found {
                    version: info.version,
                    max_payload_bytes: info.max_payload,
                    mute: is_mute.then(|| visit.complaint.lock().clone()),
                    reaches_first,
                };
                first.get_or_insert(visit);
                Ok(found)
            }
        };
        found.push(Server {
            address,
            found: outcome,
        });
    }
    Ok(found)
}

/// A connection that listens to its own subject.
struct Visit {
    client: Client,
    messages: tokio::sync::Mutex<async_nats::Subscriber>,
    /// What the server said last that it does not like.
    complaint: Arc<Mutex<String>>,
}

impl Visit {
    async fn begin(
        server: ServerAddr,
        options: ConnectOptions,
        subject: &str,
    ) -> Result<Self, String> {
        let complaint = Arc::<Mutex<String>>::default();
        let options = options
            .connection_timeout(CONNECT_TIMEOUT)
            .max_reconnects(1)
            .ignore_discovered_servers()
            .event_callback({
                let complaint = complaint.clone();
                move |event| {
                    if let Event::ServerError(error) = event {
                        *complaint.lock() = error.to_string();
                    }
                    std::future::ready(())
                }
            });
        let connected = timeout(CONNECT_TIMEOUT, options.connect(server)).await;
        let client = connected
            .map_err(|_| {
                let within = humantime::format_duration(CONNECT_TIMEOUT);
                format!("no answer within {within}")
            })?
            .map_err(|error| error.to_string())?;
        let messages = client.subscribe(subject.to_owned()).await;
        let messages = messages.map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            messages: tokio::sync::Mutex::new(messages),
            complaint,
        })
    }

    /// Whether the message `number`, given to the server of `client`, comes here. Servers of
    /// a cluster learn of a subscription a moment later, so it is sent again.
    async fn passes(&self, client: &Client, subject: &str, number: u64) -> bool {
        let mut messages = self.messages.lock().await;
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        let deadline = Instant::now() + PASS_TIMEOUT;
        while Instant::now() < deadline {
            if client
                .publish(subject.to_owned(), number.clone())
                .await
                .is_err()
            {
                return false;
            }
            let again = deadline.min(Instant::now() + SETTLED / 4);
            let came = async {
                while let Some(message) = messages.next().await {
                    if message.payload == number {
                        return true;
                    }
                }
                false
            };
            if let Ok(came) = timeout_at(again, came).await {
                return came;
            }
        }
        false
    }
}
