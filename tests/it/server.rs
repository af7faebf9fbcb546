//! The real binary as a child process, and clients for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use doorbell::{
    auth::{
        Rules, Secret,
        mint::{Grant, Minter},
    },
    clock::{Clock as _, SystemClock},
    config::AuthSettings,
    proto::{
        notification_service_client::NotificationServiceClient,
        operator_service_client::OperatorServiceClient,
    },
};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::process::{PATIENCE, Running};

/// The binary under test.
pub const DOORBELL: &str = env!("CARGO_BIN_EXE_doorbell");
/// What signs the tokens of a server under test.
pub const SECRET: &str = "a secret of the tests, which is long enough";

/// A server to be started. Its settings are variables, as an operator sets them.
#[derive(Clone)]
pub struct Setup {
    pub directory: Arc<TempDir>,
    pub listen: SocketAddr,
    pub variables: BTreeMap<String, String>,
    /// Put before the binary: `strace -f …`.
    pub wrapper: Vec<String>,
}

impl Setup {
    /// A data directory of its own, and a port that is free now and stays the
    /// same over restarts.
    pub fn new() -> Self {
        Self {
            directory: Arc::new(tempfile::tempdir().unwrap()),
            listen: free_port(),
            variables: BTreeMap::new(),
            wrapper: Vec::new(),
        }
    }

    /// Sets `DOORBELL_` + `name`.
    #[expect(clippy::needless_pass_by_value, reason = "a value is written as it is")]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.variables
            .insert(format!("DOORBELL_{name}"), value.to_string());
        self
    }

    /// Starts it, and waits until it listens.
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        let deadline = Instant::now() + PATIENCE;
        while !server.log().contains("\"message\":\"listening\"") {
            if let Some(status) = server.running.ended() {
                panic!("the server ended with {status}: {}", server.log());
            }
            assert!(
                Instant::now() < deadline,
                "the server does not listen: {}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&self) -> Server {
        let mut words = self
            .wrapper
            .iter()
            .map(String::as_str)
            .chain([DOORBELL, "serve"]);
        let running = Running::start(
            Command::new(words.next().unwrap())
                .args(words)
                .env("DOORBELL_DATA_DIR", self.directory.path())
                .env("DOORBELL_LISTEN", self.listen.to_string())
                .env("DOORBELL_JWT_SECRET", SECRET)
                .env("DOORBELL_DRAIN_DELAY", "0s")
                .envs(&self.variables),
        );
        Server {
            running,
            setup: self.clone(),
        }
    }
}

/// A loopback address that is free now and given out once, below the ephemeral
/// range: nothing takes it before the server listens, or while it is away.
pub fn free_port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut bytes = [0; 2];
    loop {
        use doorbell::random::{Random as _, SystemRandom};
        SystemRandom.fill(&mut bytes);
        let port = 10_000 + u16::from_le_bytes(bytes) % 22_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if GIVEN.lock().unwrap().insert(port) && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A running server; dropping it kills it.
pub struct Server {
    running: Running,
    pub setup: Setup,
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://{}", self.setup.listen)
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn data_dir(&self) -> &Path {
        self.setup.directory.path()
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir().join("doorbell.db")
    }

    /// All that it logged until now.
    pub fn log(&self) -> String {
        self.running.err()
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Setup {
        self.running.kill();
        self.setup
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        self.running.wait(patience)
    }

    /// A client with this token, on a connection of its own.
    pub async fn client(&self, token: &str) -> Client {
        NotificationServiceClient::new(self.authorized(token).await)
    }

    /// A connection of its own whose calls carry this token, for the client of any service.
    pub async fn authorized(&self, token: &str) -> Authorized {
        let endpoint = Endpoint::from_shared(self.url()).unwrap();
        let channel = endpoint.connect().await.unwrap();
        InterceptedService::new(channel, Bearer::new(token))
    }

    /// A client of operators with this token, on a connection of its own.
    pub async fn operator(&self, token: &str) -> OperatorClient {
        OperatorServiceClient::new(self.authorized(token).await)
    }

    /// A client of a user.
    pub async fn user(&self, organization: &str, user: &str) -> Client {
        self.client(&user_token(organization, user)).await
    }

    /// A client that may send into any organization.
    pub async fn sender(&self) -> Client {
        self.client(&sender_token("*")).await
    }
}

/// A connection whose calls carry a token.
pub type Authorized = InterceptedService<Channel, Bearer>;
/// A client whose calls carry a token.
pub type Client = NotificationServiceClient<Authorized>;
/// The same of operators.
pub type OperatorClient = OperatorServiceClient<Authorized>;

/// Puts a token on each call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<tonic::metadata::Ascii>);

impl Bearer {
    pub fn new(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().unwrap())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A token of any claims that a service under test accepts.
pub fn token(organization: &str, user: Option<&str>, role: Option<&str>, life: Duration) -> String {
    let settings = AuthSettings {
        operator_role: Some("operator".into()),
        ..AuthSettings::default()
    };
    let secret = Secret::parse(SECRET.as_bytes()).unwrap();
    let minter = Minter::from_secret(&secret, Rules::new(&settings).unwrap());
    let grant = Grant {
        organization: organization.into(),
        user: user.map(str::to_owned),
        role: role.map(str::to_owned),
        subject: None,
        lifetime: life,
    };
    minter.mint(&grant, SystemClock.now()).unwrap()
}

pub fn user_token(organization: &str, user: &str) -> String {
    token(organization, Some(user), None, Duration::from_secs(3600))
}

pub fn operator_token(organization: &str) -> String {
    let hour = Duration::from_secs(3600);
    token(organization, None, Some("operator"), hour)
}

pub fn sender_token(organization: &str) -> String {
    token(
        organization,
        None,
        Some("service"),
        Duration::from_secs(3600),
    )
}
