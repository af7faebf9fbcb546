//! Every setting and every limit, with its default.
//!
//! A group of settings is one struct: the part of the program that obeys it
//! takes it. A field is a flag, and [`settable`] makes its `DOORBELL_…` variable
//! of its name; its default and its bounds stand beside it and nowhere else. What
//! is marked `skip` is no setting: a limit that no operator has a reason to
//! change, and that tests do.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{Arg, ArgAction, Args, ValueEnum, builder::BoolishValueParser};
use http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};
use url::{Position, Url};

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
/// The most recipients of one `SendToMany`.
pub const MAX_RECIPIENTS: usize = 1000;
/// The most bytes of a whole request for many.
pub const MAX_REQUEST_FOR_MANY_BYTES: usize = 256 * 1024;
/// The most actions of a notification.
pub const MAX_ACTIONS: usize = 3;
/// The most bytes of an action's label.
pub const MAX_LABEL_BYTES: usize = 128;
/// The most levels of `data`: an object of plain values has one.
pub const MAX_DATA_DEPTH: usize = 16;
/// The most ids of one `MarkRead`.
pub const MAX_MARK_READ_IDS: usize = 500;
/// How far ahead a `deliver_time` may be.
pub const MAX_DELIVER_AHEAD: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// For how long a broadcast is there to be taken, where nothing is said.
pub const DEFAULT_AVAILABLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// For how long it may be.
pub const MAX_AVAILABLE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How soon after it came a notification can be followed up.
pub const MIN_FOLLOW_UP_AFTER: Duration = Duration::from_secs(1);
/// How late.
pub const MAX_FOLLOW_UP_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a call may wait for follow-ups.
pub const MAX_FOLLOW_UPS_WAIT: Duration = Duration::from_secs(30);
/// The page of a list of members or topics where none is asked for.
pub const DEFAULT_MEMBERS_LIMIT: usize = 100;
/// The largest page of a list of members or topics.
pub const MAX_MEMBERS_LIMIT: usize = 1000;
/// The most types that a selection names.
pub const MAX_TYPES: usize = 20;
/// The page of `GetRecent` where none is asked for.
pub const DEFAULT_RECENT_LIMIT: usize = 20;
/// The largest page of `GetRecent`.
pub const MAX_RECENT_LIMIT: usize = 100;

/// What one request may hold.
#[derive(Args, Clone, Debug)]
pub struct ContentLimits {
    /// The most bytes of a notification's body
    #[arg(long, default_value_t = 8 * 1024)]
    pub max_body_bytes: usize,
    /// The most bytes of a notification's data, as JSON
    #[arg(long, default_value_t = 16 * 1024)]
    pub max_data_bytes: usize,
    /// The most bytes of a whole request
    #[arg(long, default_value_t = 32 * 1024, value_parser = number(1024_usize..=1 << 20))]
    pub max_request_bytes: usize,
}

/// How writes are gathered.
#[derive(Args, Clone, Debug)]
pub struct WriterSettings {
    /// The most writes that wait; one more is refused with RESOURCE_EXHAUSTED
    #[arg(long, default_value_t = 4096, value_parser = number(1_usize..=1_000_000))]
    pub write_queue: usize,
    /// The most sends of one transaction, and about the most notifications that it marks
    #[arg(long, default_value_t = 256, value_parser = number(1_usize..=10_000))]
    pub write_batch: usize,
    /// The most bytes of content of one transaction.
    #[arg(skip = 1_usize << 20)]
    pub write_batch_bytes: usize,
}

/// How streams behave.
#[derive(Args, Clone, Debug)]
pub struct FeedSettings {
    /// A sign of life goes out after this long without a message
    #[arg(long, default_value = "25s", value_parser = time(SECOND..=HOUR))]
    pub heartbeat_interval: humantime::Duration,
    /// The most changed notifications a stream replays; beyond it is told to load anew
    #[arg(long, default_value_t = 5000, value_parser = number(1_usize..=1_000_000))]
    pub replay_limit: usize,
    /// The most notifications that one read of a replay takes
    #[arg(long, default_value_t = 100, value_parser = number(1_usize..=10_000))]
    pub replay_page: usize,
    /// The most bytes of notifications in one page. It holds one at least, and
    /// clients take 4 MiB.
    #[arg(skip = 1_usize << 20)]
    pub page_bytes: usize,
    /// How many commits a stream may lag behind before it is healed from the store
    #[arg(long, default_value_t = 16, value_parser = number(1_usize..=65_536))]
    pub room_capacity: usize,
    /// The most streams of one user
    #[arg(long, default_value_t = 64, value_parser = number(1_usize..=10_000_000))]
    pub max_streams_per_user: usize,
    /// The most streams of one organization
    #[arg(long, default_value_t = 100_000, value_parser = number(1_usize..=10_000_000))]
    pub max_streams_per_organization: usize,
    /// A draining server spreads the return of its streams over this long
    #[arg(long, default_value = "5s", value_parser = time(Duration::ZERO..=HOUR))]
    pub reconnect_spread: humantime::Duration,
}

/// How connections are accepted, bounded and ended.
#[derive(Args, Clone, Debug)]
pub struct ServerSettings {
    /// The address and port of gRPC, gRPC-web and Connect
    #[arg(long, default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// The most connections; one more takes the place of one without a call, or is closed at once
    #[arg(long, default_value_t = 20_000, value_parser = number(1..=u32::MAX))]
    pub max_connections: u32,
    /// The most calls and streams at once on one HTTP/2 connection
    #[arg(long, default_value_t = 1000, value_parser = number(1..=u32::MAX))]
    pub max_streams_per_connection: u32,
    /// The most calls of one user at once, streams apart
    #[arg(long, default_value_t = 64, value_parser = number(1..=u32::MAX))]
    pub max_calls_per_user: u32,
    /// The most bytes of the headers of one request, its token among them
    #[arg(long, default_value_t = 16 * 1024, value_parser = number(1024_u32..=1 << 20))]
    pub max_header_bytes: u32,
    /// How long a new connection has for the TLS handshake and the headers of its
    /// first request.
    #[arg(skip = Duration::from_secs(10))]
    pub handshake_timeout: humantime::Duration,
    /// A connection without a request is closed after this long
    #[arg(long, default_value = "5m", value_parser = time(MILLISECOND..=YEAR))]
    pub idle_timeout: humantime::Duration,
    /// The other side is asked for a sign of life this often
    #[arg(long, default_value = "20s", value_parser = time(SECOND..=HOUR))]
    pub keepalive_interval: humantime::Duration,
    /// A connection without that sign of life for this long is closed.
    #[arg(skip = Duration::from_secs(10))]
    pub keepalive_timeout: humantime::Duration,
    /// A server that was told to stop takes calls for this long, so that balancers notice first
    #[arg(long, default_value = "3s", value_parser = time(Duration::ZERO..=HOUR))]
    pub drain_delay: humantime::Duration,
    /// A draining server drops what is still connected after this long
    #[arg(long, default_value = "20s", value_parser = time(Duration::ZERO..=HOUR))]
    pub drain_timeout: humantime::Duration,
    /// The certificate and its chain, in PEM; with it the port speaks TLS alone
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long)]
    pub tls_key_file: Option<PathBuf>,
}

/// Whose tokens are accepted, and what their claims are called.
#[derive(Args, Clone, Debug)]
pub struct AuthSettings {
    /// The secret that signs HS256 tokens: at least 32 bytes. Prefer the file: other users of the
    /// machine can see flags
    #[arg(long, hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// The file that holds the secret; a line end at its end does not count
    #[arg(long)]
    pub jwt_secret_file: Option<PathBuf>,
    /// The file that holds the public key of RS256, ES256 or EdDSA tokens, as PEM
    #[arg(long)]
    pub jwt_public_key_file: Option<PathBuf>,
    /// Where the JWKS is: a file, an https URL, or an http URL of this machine
    #[arg(long, value_name = "FILE|URL")]
    pub jwks: Option<String>,
    /// The `iss` that tokens must have; any where it is not set
    #[arg(long)]
    pub jwt_issuer: Option<String>,
    /// The `aud` that tokens must have, among others; any where it is not set
    #[arg(long)]
    pub jwt_audience: Option<String>,
    /// The organization of every caller, senders too, whatever tokens say: for a service of one
    /// tenant
    #[arg(long)]
    pub single_organization: Option<String>,
    /// The claim that names the organization, or the path to it: `organizationId`, `o.id`
    #[arg(long, default_value = "organizationId")]
    pub jwt_organization_claim: String,
    /// The claim that names the user; `sub` stands in where a token lacks it
    #[arg(long, default_value = "userId")]
    pub jwt_user_claim: String,
    /// The claim that names the role, or has it in a list: `userRole`, `realm_access.roles`
    #[arg(long, default_value = "userRole")]
    pub jwt_role_claim: String,
    /// The role that may send, and reads no inbox
    #[arg(long, default_value = "service")]
    pub sender_role: String,
    /// The role of operators, who look into inboxes, erase them and broadcast; none where it is
    /// not set
    #[arg(long)]
    pub operator_role: Option<String>,
    /// A JWKS from a URL is fetched anew about this often
    #[arg(long, default_value = "5m", value_parser = time(SECOND..=24 * HOUR))]
    pub jwks_refresh_interval: humantime::Duration,
    /// The most verified tokens that are remembered; 0 verifies each signature
    /// every time.
    #[arg(skip = 16_384_u64)]
    pub token_cache_size: u64,
}

/// Where the data is.
#[derive(Args, Clone, Debug)]
pub struct StoreSettings {
    /// The directory of everything Doorbell keeps
    #[arg(long, default_value = "doorbell-data")]
    pub data_dir: PathBuf,
    /// The database [default: a sqlite:// file `doorbell.db` in the data directory]
    #[arg(long, hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// How many connections read from the database at once
    #[arg(long, default_value_t = 4, value_parser = number(1_usize..=256))]
    pub database_readers: usize,
    /// How many connections write to Postgres at once; each inbox keeps to one of them
    #[arg(long, default_value_t = 4, value_parser = number(1_usize..=64))]
    pub database_writers: usize,
    /// The way to Postgres past a pooler, for migrations [default: the database URL]
    #[arg(long, hide_env_values = true)]
    pub database_direct_url: Option<SecretString>,
    /// The database URL leads to a pooler in transaction mode, such as PgBouncer
    #[arg(long)]
    pub database_pooler: bool,
    /// A connection to Postgres must be there after this long
    #[arg(long, default_value = "5s", value_parser = time(100 * MILLISECOND..=10 * MINUTE))]
    pub database_connect_timeout: humantime::Duration,
    /// Postgres ends a statement after this long
    #[arg(long, default_value = "10s", value_parser = time(100 * MILLISECOND..=10 * MINUTE))]
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

    /// Whether it is a file of one node; else nodes share it.
    pub fn is_file(&self) -> bool {
        self.database_url().starts_with("sqlite:")
    }

    /// The way past a pooler, if it is another. Not for a log.
    pub fn database_direct_url(&self) -> Option<&str> {
        self.database_direct_url
            .as_ref()
            .map(|url| url.expose_secret())
    }

    /// Refuses what parses but cannot work.
    pub fn check(&self) -> Result<(), Error> {
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

/// How long notifications are kept. Each is removed within seconds of its time.
#[derive(Args, Clone, Debug)]
pub struct RetentionSettings {
    /// A notification is removed so long after it came
    #[arg(long, default_value = "365d", value_parser = time(SECOND..=100 * YEAR))]
    pub retention: humantime::Duration,
    /// An archived one is removed so long after it was archived
    #[arg(long, default_value = "90d", value_parser = time(SECOND..=100 * YEAR))]
    pub retention_archived: humantime::Duration,
    /// What is left of a removed one, its key and its place in the order, goes so long after:
    /// who was away for longer loads anew
    #[arg(long, default_value = "7d", value_parser = time(SECOND..=100 * YEAR))]
    pub retention_removed: humantime::Duration,
    /// The most notifications of an inbox; about a thousand above it, the oldest that are read or
    /// archived are removed, then the oldest
    #[arg(long, default_value_t = 10_000, value_parser = number(1000_u32..=10_000_000))]
    pub retention_rows: u32,
}

/// How a node reaches the others.
#[derive(Args, Clone, Debug)]
pub struct BusSettings {
    /// The NATS servers that carry events between nodes: `nats://host:4222` or `tls://…`,
    /// separated by commas; with it, several nodes may work on one Postgres
    #[arg(long, hide_env_values = true)]
    pub nats_url: Option<SecretString>,
    /// The file with the credentials for NATS, as `nsc` makes it
    #[arg(long, requires = "nats_url")]
    pub nats_creds_file: Option<PathBuf>,
    /// The certificates to trust NATS by, in PEM, besides the system's
    #[arg(long, requires = "nats_url")]
    pub nats_ca_file: Option<PathBuf>,
    /// What the subjects begin with; nodes of one database must agree on it, others differ
    #[arg(long, default_value = "doorbell")]
    pub nats_prefix: String,
    /// The most commits whose events wait for NATS; beyond it the oldest is dropped.
    #[arg(skip = 4096_usize)]
    pub nats_queue: usize,
    /// The most bytes of events that wait for NATS; of what is beyond only the
    /// inboxes are told.
    #[arg(skip = 64_usize << 20)]
    pub nats_queue_bytes: usize,
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
        if self.nats_url.is_some() && store.is_file() {
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
    #[arg(long, value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,
    /// Headers that those pages may send besides ours and those of tracing, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = header_name)]
    pub cors_headers: Vec<HeaderName>,
    /// Serves /metrics, /livez and /readyz on this address, in the clear
    #[arg(long, value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Serves the operators' page at /operator on this address, and the calls that it makes
    #[arg(long, value_name = "ADDRESS")]
    pub operator_listen: Option<SocketAddr>,
    /// Tells anyone who asks what calls there are (gRPC reflection)
    #[arg(long)]
    pub reflection: bool,
    /// Serves the live page at / to anyone who asks: `doorbell dev` does.
    #[arg(skip)]
    pub live_page: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise
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
    #[arg(long, value_name = "FILTER", default_value = "info,async_nats=warn")]
    pub log: String,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
}

/// All settings of a server.
#[derive(Args, Clone, Debug)]
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
    /// How long notifications are kept.
    #[command(flatten, next_help_heading = "Retention")]
    pub retention: RetentionSettings,
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
        let ContentLimits {
            max_body_bytes,
            max_data_bytes,
            max_request_bytes,
        } = self.content;
        for (flag, value) in [
            ("max-body-bytes", max_body_bytes),
            ("max-data-bytes", max_data_bytes),
        ] {
            if !(1..=max_request_bytes).contains(&value) {
                let problem = format!("must be from 1 to {max_request_bytes}, is {value}");
                return Err(Error::new(flag, problem));
            }
        }
        if self.server.tls_cert_file.is_some() != self.server.tls_key_file.is_some() {
            return Err(Error::new(
                "tls-cert-file",
                "and --tls-key-file (DOORBELL_TLS_KEY_FILE) belong together: set both, or neither",
            ));
        }
        self.check_operators()?;
        self.store.check()?;
        self.bus.check(&self.store)
    }

    /// The page takes tokens that erase: they never go in the clear beyond this machine.
    fn check_operators(&self) -> Result<(), Error> {
        let Some(address) = self.http.operator_listen else {
            return Ok(());
        };
        if self.auth.operator_role.is_none() {
            return Err(Error::new(
                "operator-listen",
                "needs --operator-role (DOORBELL_OPERATOR_ROLE) beside it: without one nobody \
                 can use the page",
            ));
        }
        if !address.ip().to_canonical().is_loopback() && self.server.tls_cert_file.is_none() {
            return Err(Error::new(
                "operator-listen",
                "must be an address of this machine, as 127.0.0.1:50052, where there is no \
                 certificate (DOORBELL_TLS_CERT_FILE): operators' tokens would go in the clear. \
                 Set one, or reach it by an SSH tunnel or by a proxy on this machine",
            ));
        }
        Ok(())
    }
}

/// What a group is where nothing is set.
#[expect(
    clippy::expect_used,
    reason = "no setting is required; a test makes them all"
)]
fn unset<Group: Args>() -> Group {
    let command = Group::augment_args(clap::Command::new("doorbell").no_binary_name(true));
    let matches = command.try_get_matches_from([""; 0]);
    let group = matches.and_then(|matches| Group::from_arg_matches(&matches));
    group.expect("defaults that are accepted")
}

impl Default for ContentLimits {
    fn default() -> Self {
        unset()
    }
}

impl Default for WriterSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for FeedSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for RetentionSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for BusSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        unset()
    }
}

impl Default for Config {
    fn default() -> Self {
        unset()
    }
}

/// Makes of each argument of `command` that is a setting one that the variable of
/// its name sets too.
pub fn settable(command: clap::Command) -> clap::Command {
    let all = Config::augment_args(clap::Command::new("doorbell"));
    let is_setting = |arg: &Arg| {
        all.get_arguments()
            .any(|setting| setting.get_id() == arg.get_id())
    };
    command
        .mut_args(|arg| match arg.get_long().map(str::to_owned) {
            Some(flag) if is_setting(&arg) => as_setting(arg, &flag),
            _ => arg,
        })
        .mut_subcommands(settable)
}

fn as_setting(arg: Arg, flag: &str) -> Arg {
    let arg = arg.env(variable(flag));
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg
            .action(ArgAction::Set)
            .value_parser(BoolishValueParser::new())
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true");
    }
    // Clap's own name of a value is the whole flag: its last word says as much.
    let is_own_name = |name: &str| name.eq_ignore_ascii_case(&flag.replace('-', "_"));
    match arg.get_value_names() {
        Some([name]) if is_own_name(name) => {
            let word = flag.rsplit('-').next().unwrap_or(flag).to_uppercase();
            arg.value_name(word)
        }
        _ => arg,
    }
}

/// The variable of a flag: every setting follows this rule.
pub fn variable(flag: &str) -> String {
    format!("DOORBELL_{}", flag.replace('-', "_").to_uppercase())
}

/// What is wrong with a text that [`has_blank_ends`].
pub const BLANK_ENDS: &str =
    "begins or ends with a blank, a line end or a byte order mark: take that away";

/// Whether a text has at an end what eyes do not see.
pub fn has_blank_ends(text: &str) -> bool {
    let is_blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    text.starts_with(is_blank) || text.ends_with(is_blank)
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads a number within these bounds. Beyond them a setting does not do what it
/// says, or takes memory that nobody meant to give.
fn number<N>(allowed: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + fmt::Display + Clone,
{
    move |text| match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (allowed.start(), allowed.end());
            Err(format!("must be a whole number from {least} to {most}"))
        }
    }
}

/// Reads a time within these bounds.
fn time(
    allowed: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<humantime::Duration, String> + Clone {
    move |text| match text.parse::<humantime::Duration>() {
        Ok(time) if allowed.contains(&*time) => Ok(time),
        read => {
            let [least, most] =
                [allowed.start(), allowed.end()].map(|d| humantime::format_duration(*d));
            let problem = read
                .err()
                .map(|error| format!("{error}; "))
                .unwrap_or_default();
            Err(format!(
                "{problem}must be from {least} to {most}, written as in `10s`"
            ))
        }
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = text.trim().parse();
    name.map_err(|_| "must be names of headers, as in `x-team,x-build`".into())
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

/// Where a page comes from, exactly as a browser says it: scheme, host and,
/// where it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// Why a text is no [`Origin`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// It allows more than one.
    #[error("name each origin: `*` is not accepted")]
    Wildcard,
    /// It is not even a URL.
    #[error("write scheme://host[:port], as https://app.example.com")]
    NoUrl,
    /// Browsers write it otherwise.
    #[error("write it as browsers send it: {0}")]
    Otherwise(String),
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let text = text.trim();
        if text.contains('*') {
            return Err(InvalidOrigin::Wildcard);
        }
        let url = Url::parse(text).map_err(|_| InvalidOrigin::NoUrl)?;
        if !url.has_host() {
            return Err(InvalidOrigin::NoUrl);
        }
        let host_and_port = &url[Position::BeforeHost..Position::AfterPort];
        let origin = format!("{}://{host_and_port}", url.scheme());
        if origin == text {
            Ok(Self(origin))
        } else {
            Err(InvalidOrigin::Otherwise(origin))
        }
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
    fn a_limit_that_depends_on_another_names_flag_variable_and_range() {
        assert_eq!(
            refusal(|config| config.content.max_data_bytes = 32 * 1024 + 1),
            "--max-data-bytes (DOORBELL_MAX_DATA_BYTES) must be from 1 to 32768, is 32769"
        );
        let mut config = Config::default();
        config.content.max_data_bytes = 32 * 1024;
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn a_certificate_and_its_key_belong_together() {
        let cert = refusal(|config| config.server.tls_cert_file = Some("cert.pem".into()));
        let key = refusal(|config| config.server.tls_key_file = Some("key.pem".into()));
        for refused in [cert, key] {
            assert!(refused.starts_with("--tls-cert-file "), "{refused}");
            assert!(refused.contains("--tls-key-file"), "{refused}");
        }
    }

    #[test]
    fn the_operators_page_is_for_this_machine_or_behind_a_certificate() {
        let check = |address: &str, role: Option<&str>, with_tls: bool| {
            let mut config = Config::default();
            config.http.operator_listen = Some(address.parse().unwrap());
            config.auth.operator_role = role.map(str::to_owned);
            if with_tls {
                config.server.tls_cert_file = Some("cert.pem".into());
                config.server.tls_key_file = Some("key.pem".into());
            }
            config.check().map_err(|error| error.to_string())
        };
        for loopback in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(check(loopback, Some("operator"), false), Ok(()));
        }
        for beyond in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[::ffff:10.0.0.1]:1"] {
            let refused = check(beyond, Some("operator"), false).unwrap_err();
            assert!(refused.starts_with("--operator-listen (DOORBELL_OPERATOR_LISTEN) "));
            assert!(refused.contains("DOORBELL_TLS_CERT_FILE"), "{refused}");
            assert_eq!(check(beyond, Some("operator"), true), Ok(()));
        }
        let refused = check("127.0.0.1:1", None, true).unwrap_err();
        assert!(refused.contains("DOORBELL_OPERATOR_ROLE"), "{refused}");
    }

    #[test]
    fn bounds_hold_at_n_and_n_plus_1() {
        let small = number(1..=10_u32);
        assert_eq!((small("1"), small("10")), (Ok(1), Ok(10)));
        for text in ["0", "11", "", "-1", "1.5", "many"] {
            let refused = "must be a whole number from 1 to 10";
            assert_eq!(small(text), Err(refused.into()), "{text}");
        }
        let short = time(SECOND..=HOUR);
        assert_eq!((short("1s").is_ok(), short("1h").is_ok()), (true, true));
        let refused = "must be from 1s to 1h, written as in `10s`";
        for text in ["999ms", "1h 1ns", "0s", "10", ""] {
            assert!(short(text).unwrap_err().ends_with(refused), "{text}");
        }
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
    #[case("*", "`*` is not accepted")]
    #[case("https://*.example.com", "`*` is not accepted")]
    #[case("", "scheme://host")]
    #[case("null", "scheme://host")]
    #[case("app.example.com", "scheme://host")]
    #[case("localhost:3000", "scheme://host")]
    #[case("https://", "scheme://host")]
    #[case("https://a b", "scheme://host")]
    #[case("http://[::1", "scheme://host")]
    #[case("http://a:65536", "scheme://host")]
    #[case("https://app.example.com/", "send it: https://app.example.com")]
    #[case("https://app.example.com/a?b#c", "send it: https://app.example.com")]
    #[case("https://App.example.com", "send it: https://app.example.com")]
    #[case("https://ann@example.com", "send it: https://example.com")]
    #[case("http://a:", "send it: http://a")]
    #[case("https://a:443", "send it: https://a")]
    #[case("http://a:080", "send it: http://a")]
    fn what_no_browser_sends_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<Origin>().unwrap_err().to_string();
        assert!(error.ends_with(why) || error.contains(why), "{error}");
    }
}
