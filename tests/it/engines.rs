//! Postgres, NATS and PgBouncer as child processes, and a proxy that breaks the
//! way to them.
//!
//! All are real, listen on loopback, and end with what started them: each is the
//! child of a small shell that waits for the end of a pipe. What is missing fails
//! with the line that installs it.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, Row as _};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::TaskTracker;

use super::{process::PATIENCE, programs::nats_server, server::free_port};

const INSTALL: &str = "run `./test --prepare` first";

/// A program that ends when this is dropped, or when this process ends in
/// whatever way.
struct Guarded(Child);

impl Guarded {
    /// Runs `words`, which `signal` ends at once; after its end, `rubbish` is
    /// removed.
    fn start(words: &[&str], signal: &str, log: &Path, rubbish: Option<&Path>) -> Self {
        let script = r#""$@" & child=$!
            cat > /dev/null
            kill -s $SIGNAL $child 2> /dev/null
            kill -s CONT $child 2> /dev/null
            wait $child
            if [ -n "$RUBBISH" ]; then rm -rf "$RUBBISH"; fi"#;
        let log = fs::File::create(log).unwrap();
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(words)
            .env("SIGNAL", signal)
            .env("RUBBISH", rubbish.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "{what} does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    // One that has gone meanwhile needs no signal.
    let _ = Command::new("kill").args(["-s", name]).args(pids).output();
}

/// A process and those it started.
fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let child: Option<u32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything but ends with the last bracket.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(pid) {
            pids.extend(child);
        }
    }
    pids
}

/// The words that run a program as somebody who is not root, whom Postgres and
/// PgBouncer refuse.
fn unprivileged() -> Vec<&'static str> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt as _;
        me.uid() == 0
    });
    if is_root {
        let user = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
        ];
        user.to_vec()
    } else {
        vec![]
    }
}

/// A directory that an unprivileged program may write.
fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !unprivileged().is_empty() {
        let status = Command::new("chown")
            .arg("postgres")
            .arg(directory.path())
            .status();
        assert!(
            status.unwrap().success(),
            "there is no user postgres: {INSTALL}"
        );
    }
    directory
}

/// A cluster of its own.
pub struct Postgres {
    directory: TempDir,
    pub address: SocketAddr,
    running: Mutex<Option<Guarded>>,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    fn start_with(rubbish: Option<()>) -> Self {
        let postgres = Self {
            directory: open_directory(),
            address: free_port(),
            running: Mutex::default(),
        };
        let data = postgres.data();
        let initdb = Self::binary("initdb");
        let words = [
            unprivileged(),
            vec![
                &initdb, "-D", &data, "-A", "trust", "-U", "postgres", "-E", "UTF8",
            ],
            vec!["--no-locale", "--no-sync"],
        ]
        .concat();
        let made = Command::new(words[0]).args(&words[1..]).output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        postgres.run(rubbish.map(|()| postgres.directory.path()));
        postgres
    }

    /// One cluster for all tests of this process that break nothing.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        // Nobody drops it, so its directory goes with the process.
        SHARED.get_or_init(|| Self::start_with(Some(())))
    }

    /// Debian keeps them apart by version.
    pub fn binary(name: &str) -> String {
        let versions = fs::read_dir("/usr/lib/postgresql").ok();
        let newest = versions
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .max()
            .unwrap_or_else(|| panic!("Postgres is missing: {INSTALL}"));
        format!("/usr/lib/postgresql/{newest}/bin/{name}")
    }

    fn data(&self) -> String {
        self.directory
            .path()
            .join("data")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn run(&self, rubbish: Option<&Path>) {
        let (binary, data) = (Self::binary("postgres"), self.data());
        let port = self.address.port().to_string();
        let sockets = format!(
            "unix_socket_directories={}",
            self.directory.path().display()
        );
        let words = [
            unprivileged(),
            vec![
                &binary,
                "-D",
                &data,
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-c",
                &sockets,
            ],
            vec!["-c", "max_connections=200"],
        ]
        .concat();
        let log = self.directory.path().join("log");
        *self.running.lock().unwrap() = Some(Guarded::start(&words, "QUIT", &log, rubbish));
        self.wait();
    }

    /// Waits until it takes connections.
    fn wait(&self) {
        let (ready, port) = (Self::binary("pg_isready"), self.address.port().to_string());
        wait_for("Postgres", || {
            let asked = Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            asked.unwrap().success()
        });
    }

    /// A new database.
    pub async fn create_database(&self) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("doorbell_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        url(self.address, database)
    }

    /// Runs statements in a database, as an operator would.
    pub async fn execute(&self, database: &str, statements: &str) {
        execute(&self.url(database), statements).await;
    }

    /// What it has said after so many bytes.
    pub fn log_after(&self, bytes: usize) -> String {
        let mut log = fs::File::open(self.directory.path().join("log")).unwrap();
        log.seek(SeekFrom::Start(bytes as u64)).unwrap();
        let mut said = String::new();
        log.read_to_string(&mut said).unwrap();
        said
    }

    /// From now on it speaks TLS to who asks for it, with this certificate.
    pub async fn serve_tls(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = Path::new(&self.data()).join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if !unprivileged().is_empty() {
                let owned = Command::new("chown").arg("postgres").arg(&file).status();
                assert!(owned.unwrap().success());
            }
        }
        self.execute("postgres", "ALTER SYSTEM SET ssl = on").await;
        self.execute("postgres", "SELECT pg_reload_conf()").await;
        let is_off = "SELECT (current_setting('ssl') = 'off')::int::bigint";
        while number(&self.url("postgres"), is_off).await == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn postmaster(&self) -> u32 {
        let file = Path::new(&self.data()).join("postmaster.pid");
        let text = fs::read_to_string(file).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// SIGKILL to all of it, as a crash of the machine would look to a client.
    pub fn kill(&self) {
        // So that it starts no process that would outlive it.
        signal("STOP", &[self.postmaster()]);
        signal("KILL", &family(self.postmaster()));
        // What is left of its shared memory is its own business at the restart.
        *self.running.lock().unwrap() = None;
    }

    /// After [`Postgres::kill`].
    pub fn restart(&self) {
        self.run(None);
    }

    /// Holds all of it.
    pub fn pause(&self) {
        signal("STOP", &family(self.postmaster()));
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal("CONT", &family(self.postmaster()));
    }

    /// A dump of a database, and a new database from it.
    pub async fn copy_of(&self, database: &str) -> String {
        let dump = Command::new(Self::binary("pg_dump"))
            .arg(self.url(database))
            .output()
            .unwrap();
        assert!(
            dump.status.success(),
            "{}",
            String::from_utf8_lossy(&dump.stderr)
        );
        let url = self.create_database().await;
        let mut restore = Command::new(Self::binary("psql"))
            .args(["-q", "-v", "ON_ERROR_STOP=1", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = restore.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &dump.stdout).unwrap();
        drop(stdin);
        assert!(restore.wait().unwrap().success());
        url
    }
}

/// The name of the database of a URL.
pub fn database_of(url: &str) -> &str {
    let path = url.rsplit('/').next().unwrap();
    path.split('?').next().unwrap()
}

/// The URL of a database at an address: of a Postgres, or of a proxy before it.
pub fn url(address: SocketAddr, database: &str) -> String {
    format!("postgres://postgres@{address}/{database}?sslmode=disable")
}

/// Runs statements at a URL.
pub async fn execute(url: &str, statements: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// One number from a URL.
pub async fn number(url: &str, query: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let query = sqlx::query(sqlx::AssertSqlSafe(query.to_owned()));
    let row = query.fetch_one(&mut connection).await.unwrap();
    row.get(0)
}

/// The id of the database at a URL.
pub async fn id(url: &str) -> uuid::Uuid {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let query = sqlx::query("SELECT database_id FROM doorbell");
    query.fetch_one(&mut connection).await.unwrap().get(0)
}

/// A nats-server.
pub struct Nats {
    directory: TempDir,
    pub address: SocketAddr,
    options: Vec<String>,
    running: Mutex<Option<Guarded>>,
}

impl Nats {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these options of its command line besides.
    pub fn start_with(options: &[&str]) -> Self {
        let nats = Self {
            directory: tempfile::tempdir().unwrap(),
            address: free_port(),
            options: options.iter().map(ToString::to_string).collect(),
            running: Mutex::default(),
        };
        nats.restart();
        nats
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Has it read its configuration anew.
    pub fn reload(&self) {
        let running = self.running.lock().unwrap();
        let shell = running.as_ref().unwrap().0.id();
        let is_server = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.contains("nats"))
        };
        let server: Vec<u32> = family(shell).into_iter().filter(is_server).collect();
        signal("HUP", &server);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        *self.running.lock().unwrap() = None;
    }

    /// After [`Nats::kill`].
    pub fn restart(&self) {
        let (server, port) = (nats_server(), self.address.port().to_string());
        let mut words = vec![server.to_str().unwrap(), "-a", "127.0.0.1", "-p", &port];
        words.extend(self.options.iter().map(String::as_str));
        let log = self.directory.path().join("log");
        *self.running.lock().unwrap() = Some(Guarded::start(&words, "KILL", &log, None));
        wait_for("nats-server", || {
            let Ok(mut stream) = std::net::TcpStream::connect(self.address) else {
                return false;
            };
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).is_ok() && &greeting == b"INFO"
        });
    }
}

/// A PgBouncer in transaction mode, before all databases of a Postgres.
pub struct PgBouncer {
    _directory: TempDir,
    pub address: SocketAddr,
    _running: Guarded,
}

impl PgBouncer {
    pub fn start(postgres: &Postgres) -> Self {
        Self::start_with(postgres, "")
    }

    /// With this line of its configuration besides.
    pub fn start_with(postgres: &Postgres, line: &str) -> Self {
        assert!(
            Path::new("/usr/sbin/pgbouncer").exists(),
            "pgbouncer is missing: {INSTALL}"
        );
        let (directory, address) = (open_directory(), free_port());
        let config = directory.path().join("pgbouncer.ini");
        let users = directory.path().join("users.txt");
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let (host, port) = (postgres.address.ip(), postgres.address.port());
        let text = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 4\n{line}\n",
            address.port(),
            users.display()
        );
        fs::write(&config, text).unwrap();
        let words = [
            unprivileged(),
            vec!["/usr/sbin/pgbouncer", config.to_str().unwrap()],
        ];
        let running = Guarded::start(&words.concat(), "TERM", &directory.path().join("log"), None);
        wait_for("pgbouncer", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            _directory: directory,
            address,
            _running: running,
        }
    }
}

/// How a proxy breaks a commit: a COMMIT, or a statement that is one by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It does not reach the server.
    Before,
    /// It does, and its answer does not come back.
    After,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections stand, and nothing passes: what a machine that vanished looks
    /// like.
    Lost,
    Cut,
}

#[derive(Default)]
struct Commits {
    /// What becomes of the next ones.
    to_break: Mutex<Vec<Break>>,
    broken: AtomicUsize,
    /// Whether they wait.
    held: watch::Sender<bool>,
}

/// A TCP proxy whose way can be cut, and that breaks COMMITs of Postgres. Ends
/// with its runtime.
pub struct Proxy {
    pub address: SocketAddr,
    way: watch::Sender<Way>,
    connections: TaskTracker,
    commits: Arc<Commits>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let address = free_port();
        let listener = TcpListener::bind(address).await.unwrap();
        let (way, _) = watch::channel(Way::Open);
        let commits = Arc::<Commits>::default();
        let connections = TaskTracker::new();
        let proxy = Self {
            address,
            way: way.clone(),
            connections: connections.clone(),
            commits: commits.clone(),
        };
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (mut way, commits) = (way.subscribe(), commits.clone());
                if *way.borrow() == Way::Cut {
                    continue;
                }
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let (swallow, swallowing) = watch::channel(false);
                    let mut lost = way.clone();
                    let lost = async move { drop(lost.wait_for(|way| *way == Way::Lost).await) };
                    let cut = async move { drop(way.wait_for(|way| *way == Way::Cut).await) };
                    tokio::pin!(cut);
                    tokio::select! {
                        biased;
                        () = &mut cut => {}
                        // Once lost it stays so.
                        () = lost => cut.await,
                        () = requests(&mut from_client, &mut to_server, &commits, &swallow) => {}
                        () = answers(&mut from_server, &mut to_client, swallowing) => {}
                    }
                });
            }
        });
        proxy
    }

    /// Ends all connections and takes no new ones; nothing passes any more when
    /// this returns.
    pub async fn cut(&self) {
        self.way.send_replace(Way::Cut);
        self.connections.close();
        self.connections.wait().await;
        self.connections.reopen();
    }

    /// From now on all that there is and all that come stand, and nothing passes.
    pub fn lose(&self) {
        self.way.send_replace(Way::Lost);
    }

    /// Takes connections again; those that were lost stay so.
    pub fn mend(&self) {
        self.way.send_replace(Way::Open);
    }

    /// Breaks the next COMMITs, the last of `how` first.
    pub fn break_commits(&self, how: &[Break]) {
        self.commits.to_break.lock().unwrap().extend(how);
    }

    /// Lets COMMITs wait, or lets them go.
    pub fn hold_commits(&self, hold: bool) {
        self.commits.held.send_replace(hold);
    }

    /// How many COMMITs it broke.
    pub fn broken(&self) -> usize {
        self.commits.broken.load(Ordering::SeqCst)
    }
}

/// Passes on what the client asks, message by message
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html>);
/// what is not Postgres passes as it is, as long as no COMMIT is to be broken.
async fn requests(
    client: &mut OwnedReadHalf,
    server: &mut OwnedWriteHalf,
    commits: &Commits,
    swallow: &watch::Sender<bool>,
) {
    let mut waiting = Vec::new();
    let mut is_first = true;
    let mut sends = HashSet::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let Ok(count @ 1..) = client.read(&mut chunk).await else {
            return;
        };
        waiting.extend_from_slice(&chunk[..count]);
        // A message of Postgres begins with its length; of NATS with a letter.
        if is_first && waiting[0] != 0 {
            if server.write_all(&waiting).await.is_err() {
                return;
            }
            let _ = tokio::io::copy(client, server).await;
            return;
        }
        loop {
            let type_bytes = usize::from(!is_first);
            let Some(length) = waiting.get(type_bytes..type_bytes + 4) else {
                break;
            };
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + type_bytes;
            if waiting.len() < length {
                break;
            }
            let message: Vec<u8> = waiting.drain(..length).collect();
            let is_commit = !is_first && commits_by(&message, &mut sends);
            is_first = false;
            if is_commit {
                let _ = commits.held.subscribe().wait_for(|held| !held).await;
            }
            let how = is_commit
                .then(|| commits.to_break.lock().unwrap().pop())
                .flatten();
            if how.is_some() {
                commits.broken.fetch_add(1, Ordering::SeqCst);
            }
            if how == Some(Break::Before) {
                return;
            }
            if how == Some(Break::After) {
                swallow.send_replace(true);
            }
            if server.write_all(&message).await.is_err() {
                return;
            }
        }
    }
}

/// Whether a message commits: it is a COMMIT, or binds a prepared statement that
/// writes heads and rows at once, of which `sends` keeps the names.
fn commits_by(message: &[u8], sends: &mut HashSet<Vec<u8>>) -> bool {
    let mut texts = message[5..].split(|byte| *byte == 0);
    let (first, second) = (texts.next(), texts.next());
    match message[0] {
        b'Q' => message[5..].starts_with(b"COMMIT"),
        b'P' => {
            let statement = String::from_utf8_lossy(second.unwrap_or_default());
            let writes = |table| statement.contains(&format!("INSERT INTO {table}"));
            if writes("inboxes") && writes("notifications") {
                sends.insert(first.unwrap_or_default().to_vec());
            }
            false
        }
        // After the name of the portal.
        b'B' => sends.contains(second.unwrap_or_default()),
        _ => false,
    }
}

/// Passes on what the server answers, until it is to be swallowed: then what
/// comes next ends the connection.
async fn answers(
    server: &mut OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    swallowing: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = server.read(&mut chunk).await {
        if *swallowing.borrow() || client.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}
