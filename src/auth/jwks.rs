//! Where a JWKS comes from, and when it is read again.
//!
//! A file is read again when it changed; a URL is fetched every few minutes. A
//! token whose key is not known asks for one more reading, at most one in ten
//! seconds whoever asks and however often. A reading that fails leaves the keys
//! as they are. Nothing in a token says where to read: the setting does.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{StatusCode, Uri, uri::Scheme};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    SettingsError,
    keys::{MAX_KEY_BYTES, Published, read_file},
};
use crate::random::Random;

/// When a JWKS is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Between two fetches of a URL.
    pub(super) refresh: Duration,
    /// Between a failed fetch and the next.
    pub(super) retry: Duration,
    /// Between two looks at a file.
    pub(super) poll: Duration,
    /// Between two readings that unknown keys ask for.
    pub(super) ask: Duration,
    /// The longest that a fetch takes.
    pub(super) time_out: Duration,
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
        }
    }
}

/// A JWKS that is read again and again.
pub(super) struct Jwks {
    source: Source,
    timing: Timing,
    /// A std mutex: held for a few comparisons, never across an `.await`.
    asking: Mutex<Asking>,
    /// Wakes the task that reads; set and taken back with `asking` locked.
    wake: Notify,
    /// How many readings are over, well or badly.
    pub(super) finished: watch::Sender<u64>,
}

enum Source {
    File {
        path: PathBuf,
        seen: Mutex<Option<Stamp>>,
    },
    Url {
        uri: Uri,
        client: Box<HttpClient>,
    },
}

/// Tells a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
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
    ) -> Result<(Self, Option<Published>), SettingsError> {
        let (source, published) = match place.split_once("://") {
            None if place.is_empty() => return Err(SettingsError::Empty("DOORBELL_JWKS")),
            None => {
                let path = PathBuf::from(place);
                // The stamp first: a change between the two shows at the next look.
                let stamp = stamp(&path);
                let published = read_jwks_file(&path)?;
                let seen = Mutex::new(stamp);
                (Source::File { path, seen }, Some(published))
            }
            Some(_) => {
                let (uri, client) = open_url(place)?;
                (
                    Source::Url {
                        uri,
                        client: Box::new(client),
                    },
                    None,
                )
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

    /// Waits for a reading that may know more, where one may be asked for.
    pub(super) async fn ask(&self) {
        let reading = self.reading_to_wait_for(Instant::now());
        let mut finished = self.finished.subscribe();
        // One may be under way; a little longer, for where nobody reads.
        let limit = self.timing.time_out * 2 + Duration::from_secs(1);
        let over = finished.wait_for(|count| *count >= reading);
        let _: Result<_, tokio::time::error::Elapsed> = tokio::time::timeout(limit, over).await;
    }

    /// Which reading answers an unknown key at `now`. It may be over already.
    fn reading_to_wait_for(&self, now: Instant) -> u64 {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.begun += 1;
        let _: Option<()> = self.wake.notified().now_or_never();
    }

    /// Waits until it is time for a reading: a URL's first is due at once. `last`
    /// says whether the one before went well.
    pub(super) async fn due(&self, last: Option<bool>, random: &dyn Random) {
        let pause = match (&self.source, last) {
            (Source::File { .. }, _) => self.timing.poll,
            (Source::Url { .. }, None) => Duration::ZERO,
            (Source::Url { .. }, Some(true)) => jittered(self.timing.refresh, random),
            (Source::Url { .. }, Some(false)) => jittered(self.timing.retry, random),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.wake.notified() => {}
        }
    }

    /// Reads it; `None` when a file is as it was.
    pub(super) async fn read(&self) -> Result<Option<Published>, String> {
        self.begin();
        match &self.source {
            Source::File { path, seen } => {
                let before = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                let path = path.clone();
                let look = move || {
                    let now = stamp(&path);
                    (now, (now != before).then(|| read_jwks_file(&path)))
                };
                let (now, published) = tokio::task::spawn_blocking(look)
                    .await
                    .map_err(|error| error.to_string())?;
                // Also when it cannot be read: one failure is one log line.
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
                published.transpose().map_err(|error| error.to_string())
            }
            Source::Url { uri, client } => {
                let text = tokio::time::timeout(self.timing.time_out, fetch(client, uri))
                    .await
                    .map_err(|_| format!("no answer within {:?}", self.timing.time_out))??;
                Published::parse(&text)
                    .map(Some)
                    .map_err(|problem| format!("the answer {problem}"))
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
            Source::File { path, .. } => path.display().to_string(),
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

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

fn read_jwks_file(path: &std::path::Path) -> Result<Published, SettingsError> {
    Published::parse(&read_file(path)?).map_err(|problem| SettingsError::File {
        path: path.to_owned(),
        problem,
    })
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

fn open_url(url: &str) -> Result<(Uri, HttpClient), SettingsError> {
    let uri: Uri = url
        .parse()
        .map_err(|_| SettingsError::Jwks("is not a valid URL"))?;
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return Err(SettingsError::Jwks("has no host"));
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(SettingsError::Jwks("must not contain a user or a password"));
    }
    let is_https = uri.scheme() == Some(&Scheme::HTTPS);
    if !is_https && uri.scheme() != Some(&Scheme::HTTP) {
        return Err(SettingsError::Jwks("must be a path or start with https://"));
    }
    if !is_https && !is_loopback(host) {
        return Err(SettingsError::Jwks(
            "must start with https://: whoever can change what plain http brings could make \
             tokens (http is for this machine alone)",
        ));
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|_| SettingsError::Jwks("needs TLS, which could not be set up"))?;
    let config = if is_https {
        config.with_native_roots().map_err(|_| {
            SettingsError::Jwks("needs root certificates, and this machine has none")
        })?
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

/// One GET: no redirects, at most [`MAX_KEY_BYTES`].
async fn fetch(client: &HttpClient, uri: &Uri) -> Result<Bytes, String> {
    let response = client.get(uri.clone()).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!(
            "{error}{}",
            cause.map(|cause| format!(": {cause}")).unwrap_or_default()
        )
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
    Limited::new(response.into_body(), MAX_KEY_BYTES)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| format!("the answer could not be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    fn timing() -> Timing {
        Timing::new(Duration::from_secs(300))
    }

    fn refusal(place: &str) -> String {
        match Jwks::open(place, timing()) {
            Ok(_) => panic!("{place} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for place in [
            "http://127.0.0.1:8080/jwks",
            "http://localhost/jwks",
            "http://[::1]:80/",
            "HTTP://LOCALHOST/",
        ] {
            assert!(Jwks::open(place, timing()).is_ok(), "{place}");
        }
        for place in [
            "http://id.example.com/jwks",
            "http://10.0.0.1/jwks",
            "http://127.0.0.1.example.com/",
            "http://localhost.example.com/",
        ] {
            assert!(refusal(place).contains("https://"), "{place}");
        }
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        assert!(refusal("").contains("DOORBELL_JWKS"));
        assert!(refusal("ftp://id.example.com/jwks").contains("path or start with https"));
        assert!(refusal("https://").contains("valid URL"));
        assert!(refusal("http://user:hunter2@127.0.0.1/").contains("user or a password"));
        assert!(!refusal("http://user:hunter2@127.0.0.1/").contains("hunter2"));
        assert!(refusal("/no/such/file").contains("/no/such/file"));
    }

    #[test]
    fn the_pause_is_jittered_by_a_tenth() {
        let random = SeededRandom::new(1);
        let pauses: Vec<_> = (0..100)
            .map(|_| jittered(Duration::from_secs(100), &random))
            .collect();
        assert!(
            pauses
                .iter()
                .all(|pause| (90..=110).contains(&pause.as_secs()))
        );
        assert!(pauses.iter().any(|pause| pause.as_secs() < 95));
        assert!(pauses.iter().any(|pause| pause.as_secs() > 105));
    }

    #[test]
    fn unknown_keys_share_one_reading_in_ten_seconds() {
        let (jwks, _) = Jwks::open("http://127.0.0.1:1/", timing()).unwrap();
        let start = Instant::now();
        let almost = start + Duration::from_millis(9_999);
        let later = start + Duration::from_secs(10);
        assert_eq!(jwks.reading_to_wait_for(start), 1);
        assert_eq!(jwks.reading_to_wait_for(start), 1);
        jwks.begin();
        assert!(jwks.wake.notified().now_or_never().is_none());
        assert_eq!(jwks.reading_to_wait_for(almost), 1);
        // The one under way may have missed what is asked for now.
        assert_eq!(jwks.reading_to_wait_for(later), 2);
        assert_eq!(jwks.reading_to_wait_for(later), 2);
        assert!(jwks.wake.notified().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_waits_is_let_go_at_the_end() {
        let (jwks, _) = Jwks::open("http://127.0.0.1:1/", timing()).unwrap();
        let waiting = jwks.ask();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        jwks.close();
        assert!(waiting.now_or_never().is_some());
        assert!(jwks.ask().now_or_never().is_some());
    }

    #[test]
    fn the_query_is_not_shown() {
        let (jwks, _) = Jwks::open("http://127.0.0.1:1/jwks?key=hunter2", timing()).unwrap();
        assert_eq!(jwks.place(), "http://127.0.0.1:1/jwks");
    }
}
