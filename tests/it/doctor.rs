//! `doorbell doctor` with the real binary, beside what is well and beside what is not.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    time::SystemTime,
};

use doorbell::proto::SendInAppRequest;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::{
    commands::doorbell,
    engines::{Nats, Postgres, database_of, number},
    process::{Running, run},
    proxies::{Proxied, nginx, wait_until_it_listens},
    server::{DOORBELL, SECRET, Server, Setup, free_port, user_token},
    support::write,
};

/// One that nobody guesses, in contrast to that of other tests.
const RANDOM: &str = "pR7vX2mQ9kLdW4sYtB6nZ1cJ8hFgU3aE";

/// What it found, and how it ended.
#[derive(Debug)]
struct Examined {
    code: Option<i32>,
    out: Value,
    err: String,
}

impl Examined {
    fn by(command: &mut Command) -> Self {
        let ended = run(command);
        let out = serde_json::from_str(&ended.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ended.out, ended.err));
        Self {
            code: ended.code,
            out,
            err: ended.err,
        }
    }

    fn count(&self, level: &str) -> usize {
        let findings = self.out["findings"].as_array().unwrap();
        findings.iter().filter(|it| it["level"] == level).count()
    }

    /// Fails unless it says so; answers what to do.
    fn says(&self, level: &str, about: &str, words: &str) -> String {
        let mut findings = self.out["findings"].as_array().unwrap().iter();
        let found = findings.find(|it| {
            it["level"] == level
                && it["about"] == about
                && it["says"].as_str().unwrap().contains(words)
        });
        let found = found.unwrap_or_else(|| panic!("no {level} {about} {words}: {:#}", self.out));
        found["advice"].as_str().unwrap_or_default().to_owned()
    }

    fn is_well(&self) {
        assert_eq!(self.code, Some(0), "{:#}{}", self.out, self.err);
        assert_eq!(
            (self.out["faults"].clone(), self.count("fault")),
            (0.into(), 0)
        );
    }

    /// A fault of this part, with something to do about it.
    fn fault(&self, about: &str, words: &str) {
        let advice = self.says("fault", about, words);
        assert!(!advice.is_empty(), "{:#}", self.out);
        assert_eq!(self.code, Some(1), "{self:?}");
        let faults = self.count("fault");
        assert_eq!(self.out["faults"], faults, "{:#}", self.out);
        assert!(
            self.err.contains(&format!("{faults} fault")),
            "{}",
            self.err
        );
        for secret in [RANDOM, SECRET, "hunter2"] {
            assert!(!self.out.to_string().contains(secret), "{:#}", self.out);
        }
    }
}

/// A doctor of a service that would start.
fn doctor(directory: &Path) -> Command {
    let mut command = doorbell(&["doctor", "--json"]);
    command
        .env("DOORBELL_DATA_DIR", directory)
        .env("DOORBELL_JWT_SECRET", RANDOM);
    command
}

/// The doctor of a server that runs.
fn doctor_of(setup: &Setup) -> Command {
    let mut command = doctor(setup.directory.path());
    command.envs(&setup.variables);
    command
}

/// With these settings beside.
fn with(directory: &TempDir, variables: &[(&str, &str)]) -> Examined {
    let mut command = doctor(directory.path());
    for (name, value) in variables {
        match *value {
            "" => command.env_remove(format!("DOORBELL_{name}")),
            value => command.env(format!("DOORBELL_{name}"), value),
        };
    }
    Examined::by(&mut command)
}

/// The files of a directory, with their bytes and when they were last written.
fn files(directory: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let written = entry.metadata().unwrap().modified().unwrap();
            (name, (fs::read(entry.path()).unwrap(), written))
        })
        .collect()
}

async fn send(server: &Server) {
    let request = SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: "still here".into(),
        ..SendInAppRequest::default()
    };
    let token = crate::server::sender_token("*");
    server
        .client(&token)
        .await
        .send_in_app(request)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_file_is_well_before_there_is_one_beside_a_service_and_after_it() {
    let setup = Setup::new();
    let home = setup.directory.path().join("data");
    let before = Examined::by(&mut doctor(&home));
    before.is_well();
    before.says("ok", "database", "the first start makes it");
    assert!(!home.exists(), "it made the directory");

    let server = setup.start();
    send(&server).await;
    let at_work = files(setup.directory.path());
    assert!(
        at_work.contains_key("doorbell.db-wal"),
        "{:?}",
        at_work.keys()
    );
    let beside = Examined::by(&mut doctor_of(&setup));
    beside.is_well();
    beside.says("ok", "database", "its schema is up to date");
    beside.says("ok", "settings", "would take them");
    beside.says("ok", "keys", "HS256");
    beside.says("ok", "limits", "");
    // What SQLite shares between processes that read is a file of its own.
    let after: Vec<_> = files(setup.directory.path())
        .into_iter()
        .filter(|(name, _)| !name.ends_with("-shm"))
        .collect();
    for (name, (bytes, _)) in after {
        assert_eq!(bytes, at_work[&name].0, "{name}");
    }
    // Its lock is still its own, and it goes on.
    send(&server).await;
    let second = run(doorbell(&["serve"])
        .env("DOORBELL_DATA_DIR", setup.directory.path())
        .env("DOORBELL_JWT_SECRET", SECRET));
    assert!(second.failed().contains("in use by another doorbell"));

    // At rest nothing is made beside it, and nothing is written.
    server.signal("TERM");
    let mut server = server;
    assert!(server.wait(crate::process::PATIENCE).success());
    let at_rest = files(setup.directory.path());
    let examined = Examined::by(&mut doctor_of(&setup));
    examined.is_well();
    examined.says("ok", "database", "its schema is up to date");
    assert_eq!(files(setup.directory.path()), at_rest);
    // And where it was killed, it starts again afterwards.
    let server = setup.start();
    send(&server).await;
    let setup = server.kill();
    Examined::by(&mut doctor_of(&setup)).is_well();
    send(&setup.start()).await;
}

#[test]
fn what_is_found_is_text_for_people_too() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = doctor(directory.path());
    command.env("DOORBELL_JWT_SECRET", SECRET);
    let examined = Examined::by(&mut command);
    examined.is_well();
    let advice = examined.says("warning", "keys", "reads like words");
    assert!(advice.contains("openssl rand"), "{advice}");

    let mut text = doorbell(&["doctor"]);
    text.env("DOORBELL_DATA_DIR", directory.path())
        .env("DOORBELL_JWT_SECRET", SECRET);
    let text = run(&mut text).ok();
    let at = |words: &str| {
        text.find(words)
            .unwrap_or_else(|| panic!("no {words}: {text}"))
    };
    assert!(at("ok\n  settings") < at("warning\n"), "{text}");
    assert!(text.contains(&format!("-> {advice}\n")), "{text}");
    assert!(!text.contains("\nfault\n"), "{text}");
    assert!(
        text.lines().last().unwrap().starts_with("0 faults, "),
        "{text}"
    );
}

#[test]
fn what_a_start_would_refuse_is_a_fault_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let text = write(&directory, "text", "neither a key nor a certificate");
    let of_others = write(
        &directory,
        "other.db",
        "this is no database, and long enough for one",
    );
    let gone = directory.path().join("gone").display().to_string();
    let nobody = free_port();
    let of_nobody = format!("postgres://ann:hunter2@{nobody}/doorbell");
    let of_others = format!("sqlite://{of_others}");
    for (variables, about, words) in [
        (&[("JWT_SECRET", "hunter2hunter2")][..], "keys", "too weak"),
        (
            &[("JWT_SECRET", "")],
            "keys",
            "no key to verify tokens with",
        ),
        (
            &[("JWT_SECRET", ""), ("JWKS", &text)],
            "keys",
            "is not JSON",
        ),
        (&[("JWT_SECRET", ""), ("JWKS", &gone)], "keys", &gone),
        (&[("JWT_PUBLIC_KEY_FILE", &text)], "keys", "is not PEM"),
        (
            &[("TLS_CERT_FILE", &text), ("TLS_KEY_FILE", &text)],
            "tls",
            "in PEM",
        ),
        (&[("TLS_CERT_FILE", &text)], "settings", "belong together"),
        (
            &[("MAX_BODY_BYTES", "99999999")],
            "settings",
            "DOORBELL_MAX_BODY_BYTES",
        ),
        (
            &[("NATS_URL", "nats://127.0.0.1:1")],
            "settings",
            "is an SQLite file",
        ),
        (
            &[("DATABASE_URL", "mysql://x")],
            "database",
            "must begin with",
        ),
        (
            &[("DATABASE_URL", &of_others)],
            "database",
            "not a database",
        ),
        (&[("DATABASE_URL", &of_nobody)], "database", "refused"),
    ] {
        let examined = with(&directory, variables);
        examined.fault(about, words);
    }
    // What cannot even be read is refused as `serve` refuses it.
    let mut command = doctor(directory.path());
    let ended = run(command.env("DOORBELL_HEARTBEAT_INTERVAL", "soon"));
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

#[test]
fn files_that_others_can_read_are_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let secret = write(&directory, "secret", RANDOM);
    let mode = |mode| fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let variables = [("JWT_SECRET", ""), ("JWT_SECRET_FILE", secret.as_str())];
    mode(0o644);
    with(&directory, &variables).says("warning", "keys", "open to everybody");
    mode(0o640);
    assert_eq!(with(&directory, &variables).count("fault"), 0);
    let quiet = with(&directory, &variables).out.to_string();
    assert!(!quiet.contains("open to everybody"), "{quiet}");
}

/// The limits of a process are those of who starts it.
#[test]
fn too_few_open_files_are_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    for (files, level) in [(164, "ok"), (163, "warning")] {
        let mut command = Command::new("prlimit");
        command
            .args([&format!("--nofile={files}:{files}"), "--", DOORBELL])
            .args(["doctor", "--json", "--max-connections=100"])
            .env("DOORBELL_DATA_DIR", directory.path())
            .env("DOORBELL_JWT_SECRET", RANDOM);
        let examined = Examined::by(&mut command);
        examined.is_well();
        let advice = examined.says(level, "limits", &format!("{files} files may be open"));
        assert_eq!(
            advice.contains("LimitNOFILE=164"),
            level == "warning",
            "{advice}"
        );
    }
}

/// Answers each connection once with this, and the certainty of a fixed date.
fn web_server(body: &'static str, date: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process of the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            );
        }
    });
    address
}

#[test]
fn a_jwks_is_fetched_and_its_date_held_against_the_clock() {
    const KEYS: &str = r#"{"keys":[
        {"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty":"oct","kid":"two","k":"aGVsbG8"}]}"#;
    let directory = tempfile::tempdir().unwrap();
    let long_ago = web_server(KEYS, "Tue, 15 Nov 1994 08:12:31 GMT");
    let url = format!("http://{long_ago}/jwks");
    let examined = with(&directory, &[("JWT_SECRET", ""), ("JWKS", &url)]);
    examined.says("ok", "keys", "has 1 key to verify with: EdDSA");
    examined.says("warning", "keys", "symmetric");
    let advice = examined.says("warning", "keys", "neither an issuer nor an audience");
    assert!(advice.contains("DOORBELL_JWT_ISSUER"), "{advice}");
    examined.fault("clock", "behind ours");

    let garbage = web_server("<html>come back later</html>", "no date");
    let url = format!("http://{garbage}/jwks");
    let examined = with(&directory, &[("JWT_SECRET", ""), ("JWKS", &url)]);
    examined.fault("keys", "is not JSON");
    let nobody = format!("http://{}/jwks", free_port());
    let examined = with(&directory, &[("JWT_SECRET", ""), ("JWKS", &nobody)]);
    examined.fault("keys", "refused");
}

#[test]
fn a_certificate_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let made = |until: (i32, u8)| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until.0, until.1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let certificate = write(&directory, "certificate.pem", &certificate.pem());
        let key = write(&directory, "key.pem", &key.serialize_pem());
        with(
            &directory,
            &[("TLS_CERT_FILE", &certificate), ("TLS_KEY_FILE", &key)],
        )
    };
    made((4000, 2)).says("ok", "tls", "is valid until 4000-02-01");
    made((2020, 2)).fault("tls", "has ended on 2020-02-01");
}

#[tokio::test]
async fn a_postgres_and_a_nats_that_are_well_are_left_as_they_are() {
    let (postgres, nats) = (Postgres::shared(), Nats::start());
    let url = postgres.create_database().await;
    let setup = Setup::new()
        .with("DATABASE_URL", &url)
        .with("NATS_URL", nats.url());
    let examined = Examined::by(&mut doctor_of(&setup));
    examined.is_well();
    examined.says(
        "ok",
        "database",
        "it is empty: the first start makes the schema",
    );
    examined.says("ok", "database", "fsync and synchronous_commit are on");
    examined.says(
        "ok",
        "database",
        "a node needs 9 connections; there may be ",
    );
    examined.says("ok", "clock", "that of the database is as ours");
    examined.says("ok", "nats", "passes on what is published");
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(number(&url, tables).await, 0, "it made something");

    let server = setup.start();
    send(&server).await;
    let examined = Examined::by(&mut doctor_of(&setup));
    examined.is_well();
    examined.says("ok", "database", "its schema is up to date");
    send(&server).await;

    // One that a newer program left; it may still be used, or not any more.
    let database = database_of(&url);
    let newer = "INSERT INTO _sqlx_migrations \
                 (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of the future', true, 'x', 0)";
    postgres.execute(database, newer).await;
    let examined = Examined::by(&mut doctor_of(&setup));
    examined.is_well();
    examined.says("ok", "database", "is newer");
    postgres
        .execute(database, "UPDATE doorbell SET oldest_schema = 9999")
        .await;
    Examined::by(&mut doctor_of(&setup)).fault("database", "it has migration 9999");
}

#[tokio::test]
async fn what_is_wrong_with_a_postgres_is_told() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let database = database_of(&url);
    let directory = tempfile::tempdir().unwrap();
    let examined = |url: &str| with(&directory, &[("DATABASE_URL", url)]);

    // A wrong password, and a user who may make nothing.
    postgres
        .execute(
            database,
            "CREATE ROLE locked LOGIN PASSWORD 'right'; CREATE ROLE poor LOGIN CONNECTION LIMIT 8",
        )
        .await;
    let file = "SELECT current_setting('hba_file')";
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let file: String = sqlx::query_scalar(file)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let rules = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        format!("host all locked 127.0.0.1/32 scram-sha-256\n{rules}"),
    )
    .unwrap();
    postgres.execute(database, "SELECT pg_reload_conf()").await;
    let of = |user: &str| {
        let address = postgres.address;
        format!("postgres://{user}@{address}/{database}?sslmode=disable")
    };
    // The server reads its rules anew in its own time.
    let deadline = std::time::Instant::now() + crate::process::PATIENCE;
    let wrong = loop {
        let wrong = examined(&of("locked:hunter2"));
        if wrong.code == Some(1) || std::time::Instant::now() > deadline {
            break wrong;
        }
    };
    wrong.fault("database", "password authentication failed");
    let right = examined(&of("locked:right"));
    right.fault("database", "the user may create nothing");
    let poor = examined(&of("poor"));
    poor.fault("database", "a node needs 9 connections; there may be 8");
    examined(&url.replace(database, "nowhere")).fault("database", "does not exist");

    // Its clock: an hour ahead for who looks for functions in this schema first.
    postgres
        .execute(
            database,
            "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS \
             $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$",
        )
        .await;
    let ahead = format!("{url}&options=-c%20search_path%3Dpublic%2Cpg_catalog");
    examined(&ahead).fault("clock", "that of the database is 59m");
    examined(&url).says("ok", "clock", "that of the database");

    // Somebody set it so that nothing can be written.
    let read_only = "SET default_transaction_read_only = on";
    postgres
        .execute(database, &format!("ALTER DATABASE {database} {read_only}"))
        .await;
    examined(&url).fault("database", "set to be read only");
}

#[tokio::test]
async fn what_is_wrong_with_a_nats_is_told() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let directory = tempfile::tempdir().unwrap();
    let examined = |nats: &str| {
        with(
            &directory,
            &[("DATABASE_URL", url.as_str()), ("NATS_URL", nats)],
        )
    };
    let nobody = free_port();
    examined(&format!("nats://{nobody}")).fault("nats", "is not to be had");

    let rules = write(
        &directory,
        "nats.conf",
        r#"max_payload: 65535
        authorization { users = [
            { user: bell, password: right }
            { user: mute, password: right, permissions: { publish: "other", subscribe: ">" } }
        ] }"#,
    );
    let locked = Nats::start_with(&["-c", &rules]);
    let of = |login: &str| format!("nats://{login}@{}", locked.address);
    examined(&of("bell:hunter2")).fault("nats", "authorization violation");
    let small = examined(&of("bell:right"));
    small.says("ok", "nats", "passes on what is published");
    small.fault("nats", "takes messages of 65535 bytes");
    let mute = examined(&of("mute:right"));
    mute.fault("nats", "does not pass on what is published");
    let advice = mute.says("fault", "nats", "does not pass on");
    assert!(advice.contains("doorbell.organization.*"), "{advice}");

    // Two that do not know one another, and one of two that is away.
    let (one, other) = (Nats::start(), Nats::start());
    let apart = examined(&format!("{},{}", one.url(), other.url()));
    apart.fault("nats", "does not come out of");
    let half = examined(&format!("{},nats://{nobody}", one.url()));
    half.is_well();
    half.says("warning", "nats", "is not to be had");
}

/// An nginx in the clear before a server, with these lines in its location.
struct Before {
    /// It ends first.
    _proxy: Running,
    server: Server,
    address: SocketAddr,
    _directory: TempDir,
}

impl Before {
    fn start(heartbeat: &str, listen: &str, location: &str) -> Self {
        let server = Setup::new().with("HEARTBEAT_INTERVAL", heartbeat).start();
        let (address, directory) = (free_port(), tempfile::tempdir().unwrap());
        let target = server.setup.listen;
        let location = location.replace("TARGET", &target.to_string());
        let lines = format!("server {{ listen {address}{listen}; location / {{ {location} }} }}");
        let proxy = Running::start(&mut nginx(&directory, &lines));
        wait_until_it_listens(&proxy, address);
        Self {
            _proxy: proxy,
            server,
            address,
            _directory: directory,
        }
    }

    fn examined(&self, heartbeat: &str) -> Examined {
        let mut command = doctor_of(&self.server.setup);
        command
            .env("DOORBELL_JWT_SECRET", SECRET)
            .env("DOORBELL_HEARTBEAT_INTERVAL", heartbeat)
            .args(["--url", &format!("http://{}", self.address)]);
        Examined::by(&mut command)
    }
}

#[test]
fn a_service_and_proxies_that_are_set_up_well_pass() {
    let server = Setup::new().with("HEARTBEAT_INTERVAL", "1s").start();
    let mut command = doctor_of(&server.setup);
    command
        .env("DOORBELL_JWT_SECRET", SECRET)
        .args(["--url", &server.url()]);
    let direct = Examined::by(&mut command);
    direct.is_well();
    direct.says("ok", "way", "gRPC passes");
    direct.says("ok", "way", "gRPC-web passes");

    for proxied in [Proxied::nginx(), Proxied::haproxy()] {
        proxied.wait();
        let directory = tempfile::tempdir().unwrap();
        let mut command = doctor(directory.path());
        command
            .env("DOORBELL_JWT_SECRET", SECRET)
            .args(["--ca-file", &proxied.certificate])
            .args(["--url", &format!("https://{}", proxied.address)]);
        let examined = Examined::by(&mut command);
        examined.is_well();
        examined.says("ok", "way", "gRPC passes");
        examined.says("ok", "way", "gRPC-web passes");
        examined.says("ok", "tls", "is valid until");
        // Without the file its certificate is nobody's.
        let mut command = doctor(directory.path());
        command.args(["--url", &format!("https://{}", proxied.address)]);
        Examined::by(&mut command).fault("way", "TLS with");
    }
}

#[test]
fn a_proxy_that_gathers_answers_is_told_and_that_it_speaks_no_http2() {
    let before = Before::start(
        "1s",
        "",
        "proxy_pass http://TARGET; proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    );
    let examined = before.examined("1s");
    examined.fault("way", "gRPC-web: calls pass, and a stream says nothing");
    examined.fault("way", "speaks no HTTP/2");
    let advice = examined.says("fault", "way", "gRPC-web:");
    assert!(advice.contains("buffering"), "{advice}");
}

#[test]
fn a_proxy_of_http_1_alone_is_for_pages() {
    let before = Before::start(
        "1s",
        "",
        "proxy_pass http://TARGET; proxy_http_version 1.1; proxy_buffering off;",
    );
    let examined = before.examined("1s");
    examined.is_well();
    examined.says("ok", "way", "gRPC-web passes");
    let advice = examined.says("warning", "way", "speaks no HTTP/2");
    assert!(advice.contains("backends need HTTP/2"), "{advice}");
}

#[test]
fn a_proxy_that_cuts_streams_and_one_that_compresses_are_told() {
    // Without TLS this one speaks to backends, and the next one to pages.
    let before = Before::start(
        "5s",
        " http2",
        "grpc_pass grpc://TARGET; grpc_read_timeout 1s;",
    );
    let examined = before.examined("5s");
    examined.fault("way", "gRPC: a stream was cut after");
    let advice = examined.says("fault", "way", "gRPC: a stream was cut");
    assert!(advice.contains("15s"), "{advice}");
    drop(before);
    let before = Before::start(
        "5s",
        "",
        "proxy_pass http://TARGET; proxy_http_version 1.1; proxy_buffering off; \
         proxy_read_timeout 1s;",
    );
    let examined = before.examined("5s");
    examined.fault("way", "gRPC-web: a stream was cut after");
    drop(before);

    let before = Before::start(
        "1s",
        "",
        "proxy_pass http://TARGET; proxy_http_version 1.1; proxy_buffering off; \
         gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;",
    );
    let advice = before
        .examined("1s")
        .says("warning", "way", "compressed on the way (gzip)");
    assert!(advice.contains("gzip off"), "{advice}");
}

#[test]
fn what_is_no_doorbell_and_a_token_that_is_not_taken_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let page = web_server("<html></html>", "Tue, 15 Nov 1994 08:12:31 GMT");
    let ask = |url: &str, token: Option<&str>| {
        let mut command = doctor(directory.path());
        command
            .args(["--url", url])
            .env("DOORBELL_JWT_SECRET", SECRET);
        if let Some(token) = token {
            command.args(["--token", token]);
        }
        Examined::by(&mut command)
    };
    let examined = ask(&format!("http://{page}"), None);
    examined.fault("way", "gRPC-web does not pass: the answer is 200 OK");
    examined.fault("clock", "behind ours");
    ask(&format!("http://{}", free_port()), None).fault("way", "is not there");
    ask("https://ann:hunter2@127.0.0.1", None).fault("way", "must not contain a user");

    let server = Setup::new().with("HEARTBEAT_INTERVAL", "1s").start();
    ask(&server.url(), Some("hunter2")).fault("way", "the service says no (code 16)");
    let mine = user_token("acme", "ann");
    ask(&server.url(), Some(&mine)).is_well();
    // No token, and nothing to make one with.
    let key = crate::programs::of_the_checkout("tests/fixtures/auth/ed-a.public.pem");
    let mut command = doctor(directory.path());
    command
        .env_remove("DOORBELL_JWT_SECRET")
        .env("DOORBELL_JWT_PUBLIC_KEY_FILE", key)
        .args(["--url", &server.url()]);
    let examined = Examined::by(&mut command);
    examined.is_well();
    let advice = examined.says("warning", "way", "without a token");
    assert!(advice.contains("--token"), "{advice}");
}
