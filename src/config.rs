//! Every setting and every limit, with its default.
//!
//! A group of settings is one struct: the part of the program that obeys it
//! takes it, and the command line parses it, from flags and from `DOORBELL_…`
//! variables. The defaults stand here and nowhere else.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};
use http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};

/// The most bytes of `type`.
pub const MAX_TYPE_BYTES: usize = 128;
/// The most bytes of `title`.
pub const MAX_TITLE_BYTES: usize = 512;
/// The most bytes of `entity_type` and of `entity_id`.
pub const MAX_ENTITY_BYTES: usize = 128;
/// The most bytes of `idempotency_key`.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 128;
/// The most bytes of `action_url`.
pub const MAX_ACTION_URL_BYTES: usize = 2048;
/// The most levels of `data`: an object of plain values has one.
pub const MAX_DATA_DEPTH: usize = 16;
/// The most ids of one `MarkRead`.
pub const MAX_MARK_READ_IDS: usize = 500;
/// The page of `GetRecent` where none is asked for.
pub const DEFAULT_RECENT_LIMIT: usize = 20;
/// The largest page of `GetRecent`.
pub const MAX_RECENT_LIMIT: usize = 100;

/// What one request may hold.
#[derive(Args, Clone, Debug)]
pub struct ContentLimits {
    /// The most bytes of a notification's body
    #[arg(long, env = "DOORBELL_MAX_BODY_BYTES", value_name = "BYTES",
          default_value_t = Self::default().max_body_bytes)]
    pub max_body_bytes: usize,
    /// The most bytes of a notification's data, as JSON
    #[arg(long, env = "DOORBELL_MAX_DATA_BYTES", value_name = "BYTES",
          default_value_t = Self::default().max_data_bytes)]
    pub max_data_bytes: usize,
    /// The most bytes of a whole request
    #[arg(long, env = "DOORBELL_MAX_REQUEST_BYTES", value_name = "BYTES",
          default_value_t = Self::default().max_request_bytes)]
    pub max_request_bytes: usize,
}

impl Default for ContentLimits {
    fn default() -> Self {
        Self {
            max_body_bytes: 8 * 1024,
            max_data_bytes: 16 * 1024,
            max_request_bytes: 32 * 1024,
        }
    }
}

/// How writes are gathered.
#[derive(Args, Clone, Debug)]
pub struct WriterSettings {
    /// The most writes that wait; one more is refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "DOORBELL_WRITE_QUEUE", value_name = "WRITES",
          default_value_t = Self::default().write_queue)]
    pub write_queue: usize,
    /// The most writes of one transaction
    #[arg(long, env = "DOORBELL_WRITE_BATCH", value_name = "WRITES",
          default_value_t = Self::default().write_batch)]
    pub write_batch: usize,
    /// The most bytes of content of one transaction
    #[arg(long, env = "DOORBELL_WRITE_BATCH_BYTES", value_name = "BYTES",
          default_value_t = Self::default().write_batch_bytes)]
    pub write_batch_bytes: usize,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            write_queue: 4096,
            write_batch: 256,
            write_batch_bytes: 1 << 20,
        }
    }
}

/// How streams behave.
#[derive(Args, Clone, Debug)]
pub struct FeedSettings {
    /// A sign of life goes out after this long without a message
    #[arg(long, env = "DOORBELL_HEARTBEAT_INTERVAL", value_name = "DURATION",
          default_value_t = Self::default().heartbeat_interval)]
    pub heartbeat_interval: humantime::Duration,
    /// The most changed notifications a stream replays; beyond it is told to load anew
    #[arg(long, env = "DOORBELL_REPLAY_LIMIT", value_name = "ROWS",
          default_value_t = Self::default().replay_limit)]
    pub replay_limit: usize,
    /// The most notifications that one read of a replay takes
    #[arg(long, env = "DOORBELL_REPLAY_PAGE", value_name = "ROWS",
          default_value_t = Self::default().replay_page)]
    pub replay_page: usize,
    /// The most bytes of notifications in one page
    #[arg(long, env = "DOORBELL_PAGE_BYTES", value_name = "BYTES",
          default_value_t = Self::default().page_bytes)]
    pub page_bytes: usize,
    /// How many commits a stream may lag behind before it is healed from the store
    #[arg(long, env = "DOORBELL_ROOM_CAPACITY", value_name = "COMMITS",
          default_value_t = Self::default().room_capacity)]
    pub room_capacity: usize,
    /// The most streams of one user
    #[arg(long, env = "DOORBELL_MAX_STREAMS_PER_USER", value_name = "STREAMS",
          default_value_t = Self::default().max_streams_per_user)]
    pub max_streams_per_user: usize,
    /// The most streams of one organization
    #[arg(long, env = "DOORBELL_MAX_STREAMS_PER_ORGANIZATION", value_name = "STREAMS",
          default_value_t = Self::default().max_streams_per_organization)]
    pub max_streams_per_organization: usize,
    /// A draining server spreads the return of its streams over this long
    #[arg(long, env = "DOORBELL_RECONNECT_SPREAD", value_name = "DURATION",
          default_value_t = Self::default().reconnect_spread)]
    pub reconnect_spread: humantime::Duration,
}

impl Default for FeedSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(25).into(),
            replay_limit: 5000,
            replay_page: 100,
            page_bytes: 1 << 20,
            room_capacity: 16,
            max_streams_per_user: 64,
            max_streams_per_organization: 100_000,
            reconnect_spread: Duration::from_secs(5).into(),
        }
    }
}

/// How connections are accepted, bounded and ended.
#[derive(Args, Clone, Debug)]
pub struct ServerSettings {
    /// The address and port of gRPC and gRPC-web
    #[arg(long, env = "DOORBELL_LISTEN", value_name = "ADDRESS",
          default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// The most connections; one more is closed at once
    #[arg(long, env = "DOORBELL_MAX_CONNECTIONS", value_name = "CONNECTIONS",
          default_value_t = Self::default().max_connections,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// The most calls and streams at once on one HTTP/2 connection
    #[arg(long, env = "DOORBELL_MAX_STREAMS_PER_CONNECTION", value_name = "STREAMS",
          default_value_t = Self::default().max_streams_per_connection,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_streams_per_connection: u32,
    /// The most calls of one user at once, streams apart
    #[arg(long, env = "DOORBELL_MAX_CALLS_PER_USER", value_name = "CALLS",
          default_value_t = Self::default().max_calls_per_user,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_calls_per_user: u32,
    /// The most bytes of the headers of one request
    #[arg(long, env = "DOORBELL_MAX_HEADER_BYTES", value_name = "BYTES",
          default_value_t = Self::default().max_header_bytes,
          value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    pub max_header_bytes: u32,
    /// A new connection has this long for the TLS handshake and the headers of its first request
    #[arg(long, env = "DOORBELL_HANDSHAKE_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().handshake_timeout, value_parser = time_limit)]
    pub handshake_timeout: humantime::Duration,
    /// A connection without a request is closed after this long
    #[arg(long, env = "DOORBELL_IDLE_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().idle_timeout, value_parser = time_limit)]
    pub idle_timeout: humantime::Duration,
    /// The other side is asked for a sign of life this often
    #[arg(long, env = "DOORBELL_KEEPALIVE_INTERVAL", value_name = "DURATION",
          default_value_t = Self::default().keepalive_interval, value_parser = keepalive)]
    pub keepalive_interval: humantime::Duration,
    /// A connection without that sign of life for this long is closed
    #[arg(long, env = "DOORBELL_KEEPALIVE_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().keepalive_timeout, value_parser = keepalive)]
    pub keepalive_timeout: humantime::Duration,
    /// A server that was told to stop takes calls for this long, so that balancers notice first
    #[arg(long, env = "DOORBELL_DRAIN_DELAY", value_name = "DURATION",
          default_value_t = Self::default().drain_delay)]
    pub drain_delay: humantime::Duration,
    /// A draining server drops what is still connected after this long
    #[arg(long, env = "DOORBELL_DRAIN_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().drain_timeout)]
    pub drain_timeout: humantime::Duration,
    /// The certificate and its chain, in PEM; with it the port speaks TLS alone
    #[arg(
        long,
        env = "DOORBELL_TLS_CERT_FILE",
        value_name = "FILE",
        requires = "tls_key_file"
    )]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(
        long,
        env = "DOORBELL_TLS_KEY_FILE",
        value_name = "FILE",
        requires = "tls_cert_file"
    )]
    pub tls_key_file: Option<PathBuf>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            max_connections: 20_000,
            max_streams_per_connection: 1000,
            max_calls_per_user: 64,
            max_header_bytes: 16 * 1024,
            handshake_timeout: Duration::from_secs(10).into(),
            idle_timeout: Duration::from_secs(5 * 60).into(),
            keepalive_interval: Duration::from_secs(20).into(),
            keepalive_timeout: Duration::from_secs(10).into(),
            drain_delay: Duration::from_secs(3).into(),
            drain_timeout: Duration::from_secs(20).into(),
            tls_cert_file: None,
            tls_key_file: None,
        }
    }
}

/// A time limit: more than nothing, and no more than adds up to a moment.
fn time_limit(text: &str) -> Result<humantime::Duration, String> {
    const MOST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    match text.parse::<humantime::Duration>() {
        Ok(duration) if duration.is_zero() => Err("must be longer than zero, as in `10s`".into()),
        Ok(duration) if *duration > MOST => Err("must be at most 365 days, as in `10s`".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it as in `10s`")),
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = text.trim().parse();
    name.map_err(|_| "must be names of headers, as in `x-team,x-build`".into())
}

/// As [`time_limit`], and no more than the system takes for a connection.
fn keepalive(text: &str) -> Result<humantime::Duration, String> {
    const MOST: Duration = Duration::from_secs(60 * 60);
    match time_limit(text)? {
        duration if *duration > MOST => Err("must be at most 1h, as in `10s`".into()),
        duration => Ok(duration),
    }
}

/// Whose tokens are accepted, and what their claims are called.
#[derive(Args, Clone, Debug)]
pub struct AuthSettings {
    /// The secret that signs HS256 tokens: at least 32 bytes. Prefer the file: other users of the
    /// machine can see flags
    #[arg(
        long,
        env = "DOORBELL_JWT_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub jwt_secret: Option<SecretString>,
    /// The file that holds the secret; a line end at its end does not count
    #[arg(long, env = "DOORBELL_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,
    /// The file that holds the public key of RS256, ES256 or EdDSA tokens, as PEM
    #[arg(long, env = "DOORBELL_JWT_PUBLIC_KEY_FILE", value_name = "FILE")]
    pub jwt_public_key_file: Option<PathBuf>,
    /// Where the JWKS is: a file, an https URL, or an http URL of this machine
    #[arg(long, env = "DOORBELL_JWKS", value_name = "FILE|URL")]
    pub jwks: Option<String>,
    /// The `iss` that tokens must have; any where it is not set
    #[arg(long, env = "DOORBELL_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The `aud` that tokens must have, among others; any where it is not set
    #[arg(long, env = "DOORBELL_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The claim that names the organization
    #[arg(long, env = "DOORBELL_JWT_ORGANIZATION_CLAIM", value_name = "CLAIM",
          default_value_t = Self::default().jwt_organization_claim)]
    pub jwt_organization_claim: String,
    /// The claim that names the user; `sub` stands in where a token lacks it
    #[arg(long, env = "DOORBELL_JWT_USER_CLAIM", value_name = "CLAIM",
          default_value_t = Self::default().jwt_user_claim)]
    pub jwt_user_claim: String,
    /// The claim that names the role
    #[arg(long, env = "DOORBELL_JWT_ROLE_CLAIM", value_name = "CLAIM",
          default_value_t = Self::default().jwt_role_claim)]
    pub jwt_role_claim: String,
    /// The role that may send, and reads no inbox
    #[arg(long, env = "DOORBELL_SENDER_ROLE", value_name = "ROLE",
          default_value_t = Self::default().sender_role)]
    pub sender_role: String,
    /// A JWKS from a URL is fetched anew about this often
    #[arg(long, env = "DOORBELL_JWKS_REFRESH_INTERVAL", value_name = "DURATION",
          default_value_t = Self::default().jwks_refresh_interval)]
    pub jwks_refresh_interval: humantime::Duration,
    /// The most verified tokens that are remembered; 0 verifies each signature every time
    #[arg(long, env = "DOORBELL_TOKEN_CACHE_SIZE", value_name = "TOKENS",
          default_value_t = Self::default().token_cache_size)]
    pub token_cache_size: u64,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_secret_file: None,
            jwt_public_key_file: None,
            jwks: None,
            jwt_issuer: None,
            jwt_audience: None,
            jwt_organization_claim: "organizationId".into(),
            jwt_user_claim: "userId".into(),
            jwt_role_claim: "userRole".into(),
            sender_role: "service".into(),
            jwks_refresh_interval: Duration::from_secs(300).into(),
            token_cache_size: 16_384,
        }
    }
}

/// Where the data is.
#[derive(Args, Clone, Debug)]
pub struct StoreSettings {
    /// The directory of everything Doorbell keeps
    #[arg(long, env = "DOORBELL_DATA_DIR", value_name = "DIRECTORY",
          default_value_os_t = Self::default().data_dir)]
    pub data_dir: PathBuf,
    /// The database [default: a sqlite:// file `doorbell.db` in the data directory]
    #[arg(
        long,
        env = "DOORBELL_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_url: Option<SecretString>,
    /// How many connections read from the database at once
    #[arg(long, env = "DOORBELL_DATABASE_READERS", value_name = "CONNECTIONS",
          default_value_t = Self::default().database_readers)]
    pub database_readers: usize,
    /// How many connections write to Postgres at once; each inbox keeps to one of them
    #[arg(long, env = "DOORBELL_DATABASE_WRITERS", value_name = "CONNECTIONS",
          default_value_t = Self::default().database_writers)]
    pub database_writers: usize,
    /// The way to Postgres past a pooler, for migrations [default: the database URL]
    #[arg(
        long,
        env = "DOORBELL_DATABASE_DIRECT_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub database_direct_url: Option<SecretString>,
    /// The database URL leads to a pooler in transaction mode, such as PgBouncer
    #[arg(
        long,
        env = "DOORBELL_DATABASE_POOLER",
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub database_pooler: bool,
    /// A connection to Postgres must be there after this long
    #[arg(long, env = "DOORBELL_DATABASE_CONNECT_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().database_connect_timeout)]
    pub database_connect_timeout: humantime::Duration,
    /// Postgres ends a statement after this long
    #[arg(long, env = "DOORBELL_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION",
          default_value_t = Self::default().database_statement_timeout)]
    pub database_statement_timeout: humantime::Duration,
}

impl StoreSettings {
    /// The database's URL. It may hold a password: not for a log.
    pub fn database_url(&self) -> String {
        match &self.database_url {
            Some(url) => url.expose_secret().to_owned(),
            None => format!("sqlite://{}", self.data_dir.join("doorbell.db").display()),
        }
    }

    /// The way past a pooler, if it is another. Not for a log.
    pub fn database_direct_url(&self) -> Option<&str> {
        self.database_direct_url
            .as_ref()
            .map(|url| url.expose_secret())
    }

    /// Refuses what parses but cannot work.
    pub fn check(&self) -> Result<(), Error> {
        check_number("database-readers", self.database_readers, &(1..=256))?;
        check_number("database-writers", self.database_writers, &(1..=64))?;
        for (flag, value) in [
            ("database-connect-timeout", self.database_connect_timeout),
            (
                "database-statement-timeout",
                self.database_statement_timeout,
            ),
        ] {
            let allowed = Duration::from_millis(100)..=Duration::from_secs(600);
            check_duration(flag, value.into(), &allowed)?;
        }
        if self.database_pooler && self.database_direct_url.is_none() {
            return Err(Error::new(
                "database-pooler",
                "needs --database-direct-url (DOORBELL_DATABASE_DIRECT_URL) beside it: \
                 migrations do not work through a pooler",
            ));
        }
        Ok(())
    }

    /// The file that keeps the signing secret of `doorbell dev`.
    pub fn dev_secret_file(&self) -> PathBuf {
        dev_secret_file(&self.data_dir)
    }
}

/// The file in `data_dir` that keeps the signing secret of `doorbell dev`.
pub fn dev_secret_file(data_dir: &Path) -> PathBuf {
    data_dir.join("jwt-secret")
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            data_dir: "doorbell-data".into(),
            database_url: None,
            database_readers: 4,
            database_writers: 4,
            database_direct_url: None,
            database_pooler: false,
            database_connect_timeout: Duration::from_secs(5).into(),
            database_statement_timeout: Duration::from_secs(10).into(),
        }
    }
}

/// How a node reaches the others.
#[derive(Args, Clone, Debug)]
pub struct BusSettings {
    /// The NATS servers that carry events between nodes: `nats://host:4222` or `tls://…`,
    /// separated by commas; with it, several nodes may work on one Postgres
    #[arg(
        long,
        env = "DOORBELL_NATS_URL",
        value_name = "URLS",
        hide_env_values = true
    )]
    pub nats_url: Option<SecretString>,
    /// The file with the credentials for NATS, as `nsc` makes it
    #[arg(
        long,
        env = "DOORBELL_NATS_CREDS_FILE",
        value_name = "FILE",
        requires = "nats_url"
    )]
    pub nats_creds_file: Option<PathBuf>,
    /// The certificates to trust NATS by, in PEM, besides the system's
    #[arg(
        long,
        env = "DOORBELL_NATS_CA_FILE",
        value_name = "FILE",
        requires = "nats_url"
    )]
    pub nats_ca_file: Option<PathBuf>,
    /// What the subjects begin with; nodes of one database must agree on it, others differ
    #[arg(long, env = "DOORBELL_NATS_PREFIX", value_name = "PREFIX",
          default_value_t = Self::default().nats_prefix)]
    pub nats_prefix: String,
    /// The most commits whose events wait for NATS; beyond it the oldest is dropped
    #[arg(long, env = "DOORBELL_NATS_QUEUE", value_name = "COMMITS",
          default_value_t = Self::default().nats_queue)]
    pub nats_queue: usize,
    /// The most bytes of events that wait for NATS; of what is beyond only the inboxes are told
    #[arg(long, env = "DOORBELL_NATS_QUEUE_BYTES", value_name = "BYTES",
          default_value_t = Self::default().nats_queue_bytes)]
    pub nats_queue_bytes: usize,
}

impl Default for BusSettings {
    fn default() -> Self {
        Self {
            nats_url: None,
            nats_creds_file: None,
            nats_ca_file: None,
            nats_prefix: "doorbell".into(),
            nats_queue: 4096,
            nats_queue_bytes: 64 << 20,
        }
    }
}

impl BusSettings {
    /// The URLs of the servers. They may hold a password: not for a log.
    pub fn nats_servers(&self) -> impl Iterator<Item = &str> {
        let urls = self
            .nats_url
            .as_ref()
            .map_or("", |urls| urls.expose_secret());
        urls.split(',').map(str::trim)
    }

    fn check(&self, store: &StoreSettings) -> Result<(), Error> {
        check_number("nats-queue", self.nats_queue, &(1..=1_000_000))?;
        check_number("nats-queue-bytes", self.nats_queue_bytes, &(0..=4 << 30))?;
        let is_token = |token: &str| {
            let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !token.is_empty() && token.bytes().all(is_plain)
        };
        if self.nats_prefix.len() > 128 || !self.nats_prefix.split('.').all(is_token) {
            return Err(Error::new(
                "nats-prefix",
                "must be words of letters, digits, `-` and `_`, with dots between them",
            ));
        }
        if self.nats_url.is_some() && store.database_url().starts_with("sqlite:") {
            return Err(Error::new(
                "nats-url",
                "is for several nodes on one Postgres, and the database is an SQLite file: \
                 set DOORBELL_DATABASE_URL to postgres://…, or leave it out",
            ));
        }
        Ok(())
    }
}

/// What is served besides the calls, and to whom.
#[derive(Args, Clone, Debug, Default)]
pub struct HttpSettings {
    /// The origins whose pages may call, separated by commas: `https://app.example.com`
    #[arg(
        long,
        env = "DOORBELL_CORS_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    pub cors_origins: Vec<Origin>,
    /// Headers that those pages may send besides ours and those of tracing, separated by commas
    #[arg(
        long,
        env = "DOORBELL_CORS_HEADERS",
        value_name = "NAMES",
        value_delimiter = ',',
        value_parser = header_name
    )]
    pub cors_headers: Vec<HeaderName>,
    /// Serves /metrics, /livez and /readyz on this address, in the clear
    #[arg(long, env = "DOORBELL_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Tells anyone who asks what calls there are (gRPC reflection)
    #[arg(
        long,
        env = "DOORBELL_REFLECTION",
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub reflection: bool,
    /// Serves the live page at / to anyone who asks; `doorbell dev` does
    #[arg(
        long,
        env = "DOORBELL_LIVE_PAGE",
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub live_page: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise
    #[default]
    Auto,
    /// For eyes
    Human,
    /// One JSON object a line
    Json,
}

/// What is logged.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// What is logged, as tracing filter directives: `debug`, `info,doorbell::inbox=trace`
    #[arg(long, env = "DOORBELL_LOG", value_name = "FILTER",
          default_value_t = Self::default().log)]
    pub log: String,
    /// How log lines look
    #[arg(long, env = "DOORBELL_LOG_FORMAT", value_name = "FORMAT", value_enum,
          default_value_t = Self::default().log_format)]
    pub log_format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            log: "info,async_nats=warn".to_owned(),
            log_format: LogFormat::Auto,
        }
    }
}

/// All settings of a server.
#[derive(Args, Clone, Debug, Default)]
pub struct Config {
    /// What one request may hold.
    #[command(flatten, next_help_heading = "Limits of a request")]
    pub content: ContentLimits,
    /// How writes are gathered.
    #[command(flatten, next_help_heading = "Writing")]
    pub writer: WriterSettings,
    /// How streams behave.
    #[command(flatten, next_help_heading = "Streams")]
    pub feed: FeedSettings,
    /// Whose tokens are accepted, and what their claims are called.
    #[command(flatten, next_help_heading = "Tokens")]
    pub auth: AuthSettings,
    /// How connections are accepted, bounded and ended.
    #[command(flatten, next_help_heading = "Connections")]
    pub server: ServerSettings,
    /// Where the data is.
    #[command(flatten, next_help_heading = "Store")]
    pub store: StoreSettings,
    /// How a node reaches the others.
    #[command(flatten, next_help_heading = "Several nodes")]
    pub bus: BusSettings,
    /// What is served besides the calls, and to whom.
    #[command(flatten, next_help_heading = "Browsers and operations")]
    pub http: HttpSettings,
    /// What is logged.
    #[command(flatten, next_help_heading = "Log")]
    pub log: LogSettings,
}

impl Config {
    /// Refuses what parses but cannot work.
    pub fn check(&self) -> Result<(), Error> {
        let Self {
            content,
            writer,
            feed,
            auth: _,
            server,
            store,
            bus,
            http: _,
            log: _,
        } = self;
        if server.tls_cert_file.is_some() != server.tls_key_file.is_some() {
            return Err(Error::new(
                "tls-cert-file",
                "and --tls-key-file (DOORBELL_TLS_KEY_FILE) belong together: set both, or neither",
            ));
        }
        // Beyond these bounds a setting does not do what it says, or takes
        // memory that nobody meant to give.
        for (flag, value, allowed) in [
            (
                "max-request-bytes",
                content.max_request_bytes,
                1024..=1 << 20,
            ),
            (
                "max-body-bytes",
                content.max_body_bytes,
                1..=content.max_request_bytes,
            ),
            (
                "max-data-bytes",
                content.max_data_bytes,
                1..=content.max_request_bytes,
            ),
            ("write-queue", writer.write_queue, 1..=1_000_000),
            ("write-batch", writer.write_batch, 1..=10_000),
            ("write-batch-bytes", writer.write_batch_bytes, 1..=256 << 20),
            ("replay-limit", feed.replay_limit, 1..=1_000_000),
            ("replay-page", feed.replay_page, 1..=10_000),
            // A page holds one notification at least; clients take 4 MiB.
            (
                "page-bytes",
                feed.page_bytes,
                2 * content.max_request_bytes..=4 << 20,
            ),
            ("room-capacity", feed.room_capacity, 1..=65_536),
            (
                "max-streams-per-user",
                feed.max_streams_per_user,
                1..=10_000_000,
            ),
            (
                "max-streams-per-organization",
                feed.max_streams_per_organization,
                1..=10_000_000,
            ),
        ] {
            check_number(flag, value, &allowed)?;
        }
        let second = Duration::from_secs(1);
        check_duration(
            "heartbeat-interval",
            feed.heartbeat_interval.into(),
            &(second..=3600 * second),
        )?;
        check_duration(
            "reconnect-spread",
            feed.reconnect_spread.into(),
            &(Duration::ZERO..=600 * second),
        )?;
        store.check()?;
        bus.check(store)?;
        Ok(())
    }
}

/// A setting that is refused: its flag, its variable, what is wrong and what
/// to do, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} ({}) {problem}", variable(.flag))]
pub struct Error {
    flag: String,
    problem: String,
}

impl Error {
    /// Refuses the setting of this flag, given without its dashes.
    pub fn new(flag: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            flag: flag.into(),
            problem: problem.into(),
        }
    }
}

/// The variable of a flag: every setting follows this rule.
pub fn variable(flag: &str) -> String {
    format!("DOORBELL_{}", flag.replace('-', "_").to_uppercase())
}

/// Refuses a number out of its range.
pub fn check_number(
    flag: &'static str,
    value: usize,
    allowed: &RangeInclusive<usize>,
) -> Result<(), Error> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(Error::new(
        flag,
        format!("must be from {least} to {most}, is {value}"),
    ))
}

/// Refuses a duration out of its range.
pub fn check_duration(
    flag: &'static str,
    value: Duration,
    allowed: &RangeInclusive<Duration>,
) -> Result<(), Error> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let human = humantime::format_duration;
    let (least, most) = (human(*allowed.start()), human(*allowed.end()));
    Err(Error::new(
        flag,
        format!("must be from {least} to {most}, is {}", human(value)),
    ))
}

/// Where a page comes from, exactly as a browser says it: scheme, host and,
/// where it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// It allows more than one.
    #[error("name each origin: `*` is not accepted")]
    Wildcard,
    /// It has no `scheme://`.
    #[error("write scheme://host[:port], as https://app.example.com")]
    NoScheme,
    /// It has something behind the host.
    #[error("an origin ends after its host and port: no path, no `/` at the end")]
    Path,
    /// Browsers send lower case.
    #[error("write it in lower case, as browsers send it")]
    UpperCase,
    /// The host cannot be one.
    #[error("the host is missing or has characters that no host has")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// Browsers leave the scheme's own port out.
    #[error("leave out the scheme's own port, as browsers do")]
    OwnPort,
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.trim();
        if text.contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        if text.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(InvalidOrigin::UpperCase);
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidOrigin::NoScheme)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if !is_scheme {
            return Err(InvalidOrigin::NoScheme);
        }
        if rest.contains(['/', '?', '#']) {
            return Err(InvalidOrigin::Path);
        }
        // The colons of an IPv6 address stand within brackets.
        let host_end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
        let (host, port) = match rest[host_end..].rfind(':') {
            Some(colon) => (
                &rest[..host_end + colon],
                Some(&rest[host_end + colon + 1..]),
            ),
            None => (rest, None),
        };
        let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        if !is_host {
            return Err(InvalidOrigin::Host);
        }
        if let Some(port) = port {
            let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
            let number: u16 = match port.parse() {
                Ok(number) if plain => number,
                _ => return Err(InvalidOrigin::Port),
            };
            if matches!((scheme, number), ("http", 80) | ("https", 443)) {
                return Err(InvalidOrigin::OwnPort);
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl Origin {
    /// The text a browser sends.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of the machine the browser runs on, on whatever port.
    pub fn is_local(&self) -> bool {
        self.0.strip_prefix("http://").is_some_and(|host| {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            matches!(name, "localhost" | "127.0.0.1")
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_flag_variable_and_range() {
        assert_eq!(
            refusal(|config| config.feed.heartbeat_interval = Duration::ZERO.into()),
            "--heartbeat-interval (DOORBELL_HEARTBEAT_INTERVAL) must be from 1s to 1h, is 0s"
        );
        assert_eq!(
            refusal(|config| config.writer.write_batch = 0),
            "--write-batch (DOORBELL_WRITE_BATCH) must be from 1 to 10000, is 0"
        );
    }

    #[test]
    fn bounds_hold_at_n_and_n_plus_1() {
        let mut config = Config::default();
        config.feed.heartbeat_interval = Duration::from_secs(3600).into();
        config.feed.room_capacity = 1;
        config.content.max_body_bytes = config.content.max_request_bytes;
        assert_eq!(config.check(), Ok(()));

        let hour = Duration::from_secs(3600);
        let above = hour + Duration::from_nanos(1);
        assert!(
            refusal(|config| config.feed.heartbeat_interval = above.into())
                .starts_with("--heartbeat-interval ")
        );
        assert!(refusal(|config| config.feed.room_capacity = 0).starts_with("--room-capacity "));
        assert!(
            refusal(|config| config.content.max_body_bytes = config.content.max_request_bytes + 1)
                .starts_with("--max-body-bytes ")
        );
        assert!(
            refusal(|config| config.feed.page_bytes = 2 * config.content.max_request_bytes - 1)
                .starts_with("--page-bytes ")
        );
    }

    #[test]
    fn the_database_is_a_file_in_the_data_directory_or_what_is_set() {
        let mut store = StoreSettings::default();
        assert_eq!(store.database_url(), "sqlite://doorbell-data/doorbell.db");
        store.database_url = Some("postgres://ann:hunter2@db/doorbell".into());
        assert_eq!(store.database_url(), "postgres://ann:hunter2@db/doorbell");
        assert!(!format!("{store:?}").contains("hunter2"));
    }

    #[rstest]
    #[case("https://app.example.com")]
    #[case("http://localhost:5173")]
    #[case("http://[::1]:8080")]
    #[case("http://[::1]")]
    #[case("https://app.example.com:8443")]
    #[case("capacitor://localhost")]
    fn an_origin_is_kept_as_written(#[case] text: &str) {
        assert_eq!(text.parse::<Origin>().map(|o| o.0), Ok(text.to_owned()));
    }

    #[rstest]
    #[case("*", InvalidOrigin::Wildcard)]
    #[case("https://*.example.com", InvalidOrigin::Wildcard)]
    #[case("", InvalidOrigin::NoScheme)]
    #[case("null", InvalidOrigin::NoScheme)]
    #[case("app.example.com", InvalidOrigin::NoScheme)]
    #[case("https://app.example.com/", InvalidOrigin::Path)]
    #[case("https://app.example.com/a", InvalidOrigin::Path)]
    #[case("https://App.example.com", InvalidOrigin::UpperCase)]
    #[case("https://", InvalidOrigin::Host)]
    #[case("https://a b", InvalidOrigin::Host)]
    #[case("https://ann@example.com", InvalidOrigin::Host)]
    #[case("http://[::1", InvalidOrigin::Host)]
    #[case("http://a:0", InvalidOrigin::Port)]
    #[case("http://a:", InvalidOrigin::Port)]
    #[case("http://a:65536", InvalidOrigin::Port)]
    #[case("http://a:+80", InvalidOrigin::Port)]
    #[case("https://a:443", InvalidOrigin::OwnPort)]
    #[case("http://a:80", InvalidOrigin::OwnPort)]
    fn what_no_browser_sends_is_refused(#[case] text: &str, #[case] why: InvalidOrigin) {
        assert_eq!(text.parse::<Origin>(), Err(why));
    }
}
