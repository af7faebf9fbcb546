//! Where a JWKS comes from, and when it is read again.
//!
//! A file is read every few seconds, since who mounts it (Kubernetes, for one)
//! changes it and tells nobody; a URL is fetched every few minutes. A
//! token whose key is not known asks for one more reading, at most one in ten
//! seconds whoever asks and however often. A reading that fails leaves the keys
//! as they are. Nothing in a token says where to read: the setting does.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{StatusCode, Uri, header::DATE, uri::Scheme};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::keys::{MAX_KEY_BYTES, Published, read_file};
use crate::{config, random::Random};

/// When a JWKS is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Between two fetches of a URL.
    pub(super) refresh: Duration,
    /// Between a failed fetch and the next.
    pub(super) retry: Duration,
    /// Between two readings of a file.
    pub(super) poll: Duration,
    /// Between two readings that unknown keys ask for.
    pub(super) ask: Duration,
    /// The longest that a fetch takes.
    pub(super) time_out: Duration,
    /// The longest that a call waits for a reading.
    pub(super) patience: Duration,
}

impl Timing {
    /// That of the setting `refresh`.
    pub(super) fn new(refresh: Duration) -> Self {
        Self {
            refresh,
            retry: refresh.min(Duration::from_secs(30)),
            poll: Duration::from_secs(5),
            ask: Duration::from_secs(10),
            time_out: Duration::from_secs(10),
            patience: Duration::from_secs(2),
        }
    }
}

/// A JWKS that is read again and again.
pub(super) struct Jwks {
    source: Source,
    timing: Timing,
    /// Held for a few comparisons, never across an `.await`.
    asking: Mutex<Asking>,
    /// Wakes the task that reads; set and taken back with `asking` locked.
    wake: Notify,
    /// How many readings are over, well or badly.
    pub(super) finished: watch::Sender<u64>,
}

enum Source {
    File(PathBuf),
    Url { uri: Uri, client: Box<HttpClient> },
}

/// What unknown keys asked for.
#[derive(Default)]
struct Asking {
    /// When a reading was last asked for.
    last: Option<Instant>,
    /// The reading that answers it: one that began after it was asked for, so
    /// that it cannot have missed what the asker waits for.
    reading: u64,
    /// How many readings have begun.
    begun: u64,
}

impl Jwks {
    /// A path, an https URL, or an http URL of this machine. A file is read at
    /// once, and must have a usable key.
    pub(super) fn open(
        place: &str,
        timing: Timing,
    ) -> Result<(Self, Option<Published>), config::Error> {
        let (source, published) = match place.split_once("://") {
            None if place.is_empty() => {
                return Err(config::Error::new("jwks", "is set, but empty"));
            }
            None => {
                let path = PathBuf::from(place);
                let published = read_jwks_file(&path)?;
                (Source::File(path), Some(published))
            }
            Some(_) => {
                let opened = open_url(place).map_err(|problem| config::Error::new("jwks", problem));
                let (uri, client) = opened?;
                let client = Box::new(client);
                (Source::Url { uri, client }, None)
            }
        };
        let jwks = Self {
            source,
            timing,
            asking: Mutex::default(),
            wake: Notify::new(),
            finished: watch::Sender::new(0),
        };
        Ok((jwks, published))
    }

    /// Waits a moment for a reading that may know more, where one may be asked for.
    pub(super) async fn ask(&self) {
        let reading = self.reading_to_wait_for(Instant::now());
        let mut finished = self.finished.subscribe();
        let over = finished.wait_for(|count| *count >= reading);
        let _: Result<_, tokio::time::error::Elapsed> =
            tokio::time::timeout(self.timing.patience, over).await;
    }

    /// Which reading answers an unknown key at `now`. It may be over already.
    fn reading_to_wait_for(&self, now: Instant) -> u64 {
        let mut asking = self.asking.lock();
        let is_early = asking
            .last
            .is_some_and(|last| now.duration_since(last) < self.timing.ask);
        if !is_early {
            asking.last = Some(now);
            asking.reading = asking.begun + 1;
            self.wake.notify_one();
        }
        asking.reading
    }

    /// Counts a reading that begins: it answers whoever asked before.
    fn begin(&self) {
        let mut asking = self.asking.lock();
        asking.begun += 1;
        let _: Option<()> = self.wake.notified().now_or_never();
    }

    /// Waits until it is time for a reading: a URL's first is due at once. `last`
    /// says whether the one before went well.
    pub(super) async fn due(&self, last: Option<bool>, random: &dyn Random) {
        let pause = match (&self.source, last) {
            (Source::File(_), _) => self.timing.poll,
            (Source::Url { .. }, None) => Duration::ZERO,
            (Source::Url { .. }, Some(true)) => jittered(self.timing.refresh, random),
            (Source::Url { .. }, Some(false)) => jittered(self.timing.retry, random),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.wake.notified() => {}
        }
    }

    /// Reads it.
    pub(super) async fn read(&self) -> Result<Published, String> {
        Ok(self.read_dated().await?.0)
    }

    /// Reads it, with the moment that the answer bears, as HTTP writes it.
    pub(super) async fn read_dated(&self) -> Result<(Published, Option<String>), String> {
        self.begin();
        match &self.source {
            Source::File(path) => {
                let path = path.clone();
                let published = tokio::task::spawn_blocking(move || read_jwks_file(&path))
                    .await
                    .map_err(|error| error.to_string())?
                    .map_err(|error| error.to_string())?;
                Ok((published, None))
            }
            Source::Url { uri, client } => {
                let fetched = tokio::time::timeout(self.timing.time_out, fetch(client, uri));
                let (text, date) = fetched
                    .await
                    .map_err(|_| format!("no answer within {:?}", self.timing.time_out))??;
                let published = Published::parse(&text);
                Ok((
                    published.map_err(|problem| format!("the answer {problem}"))?,
                    date,
                ))
            }
        }
    }

    /// Lets those who wait for a reading see that it is over.
    pub(super) fn finish(&self) {
        self.finished
            .send_modify(|count| *count = count.saturating_add(1));
    }

    /// Lets all who wait go: nothing is read any more.
    pub(super) fn close(&self) {
        self.finished.send_replace(u64::MAX);
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            // Without the query, which may hold a secret.
            Source::Url { uri, .. } => format!(
                "{}://{}{}",
                uri.scheme_str().unwrap_or_default(),
                uri.authority().map_or("", |authority| authority.as_str()),
                uri.path()
            ),
        }
    }
}

/// A tenth less to a tenth more, so that nodes do not fetch in step.
fn jittered(pause: Duration, random: &dyn Random) -> Duration {
    pause - pause / 10 + random.up_to(pause / 5)
}

fn read_jwks_file(path: &Path) -> Result<Published, config::Error> {
    read_file("jwks", path, Published::parse)
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

fn open_url(url: &str) -> Result<(Uri, HttpClient), &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not a valid URL")?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return Err("has no host");
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("must not contain a user or a password");
    }
    let is_https = uri.scheme() == Some(&Scheme::HTTPS);
    if !is_https && uri.scheme() != Some(&Scheme::HTTP) {
        return Err("must be a path or start with https://");
    }
    if !is_https && !is_loopback(host) {
        return Err(
            "must start with https://: whoever can change what plain http brings could make \
             tokens (http is for this machine alone)",
        );
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| "needs TLS, which could not be set up")?;
    let config = if is_https {
        let config = config.with_native_roots();
        config.map_err(|_| "needs root certificates, and this machine has none")?
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth());
    let connector = if is_https {
        connector.https_only()
    } else {
        connector.https_or_http()
    };
    // A fetch every few minutes is not worth an idle connection.
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(connector.enable_http1().build());
    Ok((uri, client))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// One GET: no redirects, at most [`MAX_KEY_BYTES`]. Answers the body and its `date`.
async fn fetch(client: &HttpClient, uri: &Uri) -> Result<(Bytes, Option<String>), String> {
    let response = client.get(uri.clone()).await.map_err(|error| {
        // What says why is not always the first of them.
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    })?;
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            return Err(format!(
                "the answer is a redirect ({status}), which is not followed"
            ));
        }
        status => return Err(format!("the answer is {status}")),
    }
    let date = response
        .headers()
        .get(DATE)
        .and_then(|date| date.to_str().ok());
    let date = date.map(str::to_owned);
    Limited::new(response.into_body(), MAX_KEY_BYTES)
        .collect()
        .await
        .map(|body| (body.to_bytes(), date))
        .map_err(|error| format!("the answer could not be read: {error}"))
}

#[cfg(test)]
mod tests;
