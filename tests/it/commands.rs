//! The command line, as a person and a script use it: the real binary, its exit
//! codes, and what it says.

use std::{
    collections::BTreeSet,
    env, fs,
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use doorbell::{
    client,
    proto::{GetUnreadCountRequest, SendInAppRequest},
};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::{
    calls::eventually,
    engines::{self, Postgres},
    process::{PATIENCE, Running, run},
    server::{DOORBELL, SECRET, Server, Setup, free_port, sender_token, user_token},
    support,
};

/// A command, without the settings of whoever runs the tests.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("DOORBELL_") {
            command.env_remove(name);
        }
    }
    command
}

pub fn doorbell(words: &[&str]) -> Command {
    let mut command = clean(Command::new(DOORBELL));
    command.args(words);
    command
}

/// Whole lines only: the last one may still be written.
fn events(out: &str) -> Vec<Value> {
    out.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs what must go well, and answers what it wrote.
pub fn done(mut command: Command) -> String {
    let ended = run(&mut command);
    assert!(ended.code == Some(0) && ended.err.is_empty(), "{ended:?}");
    ended.out
}

/// Runs what must not go well: it says why in one line.
pub fn failed(mut command: Command, code: i32) -> String {
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.out.is_empty(), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    let problem = ended.err.strip_prefix("doorbell: ");
    problem
        .unwrap_or_else(|| panic!("{ended:?}"))
        .trim_end()
        .to_owned()
}

/// A `serve` that would start.
fn serve(data_dir: &Path) -> Command {
    let mut command = doorbell(&["serve"]);
    command
        .env("DOORBELL_LISTEN", "127.0.0.1:0")
        .env("DOORBELL_DATA_DIR", data_dir)
        .env("DOORBELL_JWT_SECRET", SECRET);
    command
}

fn request(title: &str) -> SendInAppRequest {
    SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: title.into(),
        ..SendInAppRequest::default()
    }
}

/// A command against `server`, with this token.
pub fn against(server: &Server, token: &str, words: &[&str]) -> Command {
    let mut command = doorbell(words);
    command
        .env("DOORBELL_URL", server.url())
        .env("DOORBELL_TOKEN", token);
    command
}

#[test]
fn serve_refuses_settings_that_cannot_be_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fs::write(
        at("text"),
        "this is no certificate, no key and no database, but long enough",
    )
    .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let text = at("text");
    let missing = at("missing/file");
    let nested = format!("sqlite://{missing}");
    let no_database = format!("sqlite://{text}");
    type Change<'a> = (&'a str, Option<&'a str>);
    let cases: &[(&[Change], &[&str], &str)] = &[
        (&[("JWT_SECRET", None)], &[], "no key to verify tokens"),
        (
            &[("JWT_SECRET", Some("hunter2hunter2"))],
            &[],
            "at least 32",
        ),
        (
            &[(
                "JWT_SECRET",
                Some("abababababababababababababababababababab"),
            )],
            &[],
            "weak",
        ),
        (
            &[("JWT_SECRET", None), ("JWT_SECRET_FILE", Some(&missing))],
            &[],
            &missing,
        ),
        (
            &[("JWT_SECRET", None), ("JWT_PUBLIC_KEY_FILE", Some(&text))],
            &[],
            &text,
        ),
        (
            &[("JWT_SECRET", None), ("JWKS", Some(&missing))],
            &[],
            &missing,
        ),
        (&[], &["--heartbeat", "5s"], "--heartbeat"),
        (
            &[],
            &["--heartbeat-interval", "soon"],
            "--heartbeat-interval",
        ),
        (
            &[("HEARTBEAT_INTERVALL", Some("5s"))],
            &[],
            "did you mean DOORBELL_HEARTBEAT_INTERVAL?",
        ),
        (&[("COFFEE", Some("strong"))], &[], "DOORBELL_COFFEE"),
        (&[("TLS_CERT_FILE", Some(&text))], &[], "--tls-key-file"),
        (
            &[("OPERATOR_LISTEN", Some("127.0.0.1:0"))],
            &[],
            "DOORBELL_OPERATOR_ROLE",
        ),
        (
            &[
                ("OPERATOR_ROLE", Some("operator")),
                ("OPERATOR_LISTEN", Some("0.0.0.0:0")),
            ],
            &[],
            "DOORBELL_TLS_CERT_FILE",
        ),
        (
            &[
                ("OPERATOR_ROLE", Some("operator")),
                ("OPERATOR_LISTEN", Some(&taken)),
            ],
            &[],
            &taken,
        ),
        (
            &[
                ("TLS_CERT_FILE", Some(&missing)),
                ("TLS_KEY_FILE", Some(&text)),
            ],
            &[],
            &missing,
        ),
        (
            &[
                ("TLS_CERT_FILE", Some(&text)),
                ("TLS_KEY_FILE", Some(&text)),
            ],
            &[],
            "in PEM",
        ),
        (
            &[("DATABASE_URL", Some(&nested))],
            &[],
            "cannot open the database",
        ),
        (
            &[("DATABASE_URL", Some(&no_database))],
            &[],
            "not a database",
        ),
        (
            &[("DATABASE_URL", Some("mysql://root@localhost/x"))],
            &[],
            "must begin with `sqlite://` or `postgres://`",
        ),
        (
            &[("DATABASE_URL", Some("sqlite::memory:"))],
            &[],
            "not durable",
        ),
        (
            &[("DATA_DIR", Some(&format!("{text}/below")))],
            &[],
            "DOORBELL_DATA_DIR",
        ),
        (&[("LISTEN", Some(&taken))], &[], &taken),
        (&[("LISTEN", Some("localhost"))], &[], "DOORBELL_LISTEN"),
        (&[("CORS_ORIGINS", Some("*"))], &[], "DOORBELL_CORS_ORIGINS"),
    ];
    for (variables, flags, expected) in cases {
        let mut command = serve(&directory.path().join("data"));
        command.args(*flags);
        for (name, value) in *variables {
            let name = format!("DOORBELL_{name}");
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let problem = failed(command, 2);
        println!("{problem}");
        assert!(
            problem.contains(expected),
            "{variables:?} {flags:?}: {problem}"
        );
        for secret in [SECRET, "hunter2", "abababab"] {
            assert!(!problem.contains(secret), "it tells the secret: {problem}");
        }
    }
}

/// In a namespace with a Service named `doorbell` they are in every pod.
#[test]
fn the_service_links_of_kubernetes_are_no_settings() {
    let server = Setup::new()
        .with("SERVICE_HOST", "10.0.0.7")
        .with("SERVICE_PORT", 50051)
        .with("SERVICE_PORT_GRPC", 50051)
        .with("PORT", "tcp://10.0.0.7:50051")
        .with("PORT_50051_TCP", "tcp://10.0.0.7:50051")
        .with("PORT_50051_TCP_ADDR", "10.0.0.7")
        .with("PORT_50051_TCP_PORT", 50051)
        .with("PORT_50051_TCP_PROTO", "tcp")
        .start();
    done(against(&server, "none", &["healthcheck"]));
}

#[tokio::test]
async fn a_database_in_use_or_of_the_future_is_refused() {
    let server = Setup::new().start();
    let second = |mut command: Command| {
        let problem = failed(
            {
                command.env("DOORBELL_DATA_DIR", server.data_dir());
                command
            },
            2,
        );
        assert!(problem.contains("in use by another doorbell"), "{problem}");
    };
    second(serve(server.data_dir()));
    second(doorbell(&["migrate"]));
    // The first one is none the worse for it.
    let sent = server
        .sender()
        .await
        .send_in_app(request("still here"))
        .await;
    sent.unwrap();
    let database = server.database();
    let setup = server.kill();

    let url = format!("sqlite://{}", database.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of the future', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    for mut command in [serve(setup.directory.path()), doorbell(&["migrate"])] {
        command.env("DOORBELL_DATA_DIR", setup.directory.path());
        let problem = failed(command, 2);
        assert!(
            problem.contains("9999") && problem.contains("newer doorbell"),
            "{problem}"
        );
    }
}

#[test]
fn migrate_makes_what_serve_then_uses() {
    let setup = Setup::new();
    let below = setup.directory.path().join("a/b");
    let migrate = || {
        let mut command = doorbell(&["migrate"]);
        command.env("DOORBELL_DATA_DIR", &below);
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("the schema is up to date"), "{ended:?}");
    };
    migrate();
    assert!(below.join("doorbell.db").exists());
    migrate();
    let server = setup.with("DATA_DIR", below.display()).start();
    done(against(&server, "none", &["healthcheck"]));
}

#[test]
fn the_help_of_each_command_explains_each_option_and_names_its_variable() {
    let names = |help: &str| -> Vec<String> {
        let commands = help.split("Commands:\n").nth(1).unwrap();
        let lines = commands.lines().take_while(|line| !line.is_empty());
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .inspect(|words| assert!(words.len() > 2, "a command without a word on it: {words:?}"))
            .map(|words| words[0].to_owned())
            .collect()
    };
    let commands = names(&done(doorbell(&["--help"])));
    for command in [
        "dev",
        "serve",
        "migrate",
        "token",
        "send",
        "watch",
        "healthcheck",
    ] {
        assert!(
            commands.iter().any(|name| name == command),
            "{command}: {commands:?}"
        );
    }
    for command in commands.iter().filter(|name| *name != "help") {
        let mut help = doorbell(&[command, "--help"]);
        help.env("DOORBELL_JWT_SECRET", SECRET)
            .env("DOORBELL_TOKEN", "hunter2");
        let help = done(help);
        assert!(
            !help.contains(SECRET) && !help.contains("hunter2"),
            "{help}"
        );
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
        assert!(
            !help.lines().next().unwrap().is_empty(),
            "{command} does not say what it is"
        );
        let is_option = |line: &&str| {
            let line = line.trim_start();
            line.starts_with("--") || line.starts_with("-h, ")
        };
        let mut lines = help.lines().skip_while(|line| !is_option(line)).peekable();
        while let Some(option) = lines.next() {
            let mut text = option.to_owned();
            while let Some(line) = lines.next_if(|line| !is_option(line)) {
                text.push_str("  ");
                text.push_str(line.trim());
            }
            // The option, two spaces, then what it is.
            let (named, about) = text.trim().split_once("  ").unwrap_or((&text, ""));
            let explained = about.split('[').next().unwrap_or_default();
            assert!(
                explained.split_whitespace().count() > 1,
                "{command} {named} is not explained: {text}"
            );
            let is_setting = ["dev", "serve", "migrate"].contains(&command.as_str());
            // What is done once is no setting.
            let is_deed = named.contains("--new-epoch");
            if is_setting && !is_deed && !named.contains("--help") {
                assert!(about.contains("[env: DOORBELL_"), "{command}: {text}");
            }
        }
    }
}

/// `dev` as a newcomer starts it, called `doorbell`.
fn dev(data_dir: &Path, listen: SocketAddr) -> (Running, String) {
    let mut command = doorbell(&["dev"]);
    command
        .arg0("doorbell")
        .env("DOORBELL_DATA_DIR", data_dir)
        .env("DOORBELL_LISTEN", listen.to_string());
    let dev = Running::start(&mut command);
    let welcome = dev.wait_for("welcome", |out| out.ends_with("--token \"$BOB\"\n"));
    (dev, welcome)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A line of what `dev` said, in a shell that knows its tokens.
fn pasted(welcome: &str, line: &str) -> Command {
    let is_token = |line: &&str| {
        ["SENDER=", "ALICE=", "BOB=", "OPERATOR="]
            .iter()
            .any(|name| line.starts_with(name))
    };
    let tokens: Vec<_> = welcome.lines().map(str::trim).filter(is_token).collect();
    assert_eq!(tokens.len(), 4, "{welcome}");
    let directory = Path::new(DOORBELL).parent().unwrap().display();
    let path = env::var("PATH").unwrap_or_default();
    let mut shell = clean(Command::new("sh"));
    shell
        .args(["-c", &format!("{}\n{line}", tokens.join("\n"))])
        .env("PATH", format!("{directory}:{path}"));
    shell
}

#[test]
fn dev_says_what_to_paste_and_its_tokens_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("new/data");
    let listen = free_port();
    let (first, welcome) = dev(&data_dir, listen);
    assert_eq!(mode(&data_dir), 0o700);
    assert_eq!(mode(&data_dir.join("jwt-secret")), 0o600);
    let secret = fs::read_to_string(data_dir.join("jwt-secret")).unwrap();
    assert!(!welcome.contains(secret.trim()));

    let own = |command: &str| {
        let begin = format!("doorbell {command} ");
        let line = welcome
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(&begin));
        line.unwrap_or_else(|| panic!("no {command}: {welcome}"))
    };
    let mut watch = own("watch").to_owned();
    // So that the shell is the command, and the signal comes to it.
    watch.insert_str(0, "exec ");
    let watch = Running::start(&mut pasted(&welcome, &watch));
    let shown = |what: &str| {
        watch.wait_for(what, |out| out.contains(what));
    };
    shown("connected");
    let sent = done(pasted(&welcome, own("send")));
    assert!(sent.contains("1 unread"), "{sent}");
    shown("Hello");
    assert_eq!(done(pasted(&welcome, own("count"))), "1 unread\n");
    let recent = done(pasted(&welcome, own("recent")));
    assert!(
        recent.contains("Hello") && recent.contains("1 unread"),
        "{recent}"
    );
    let read = done(pasted(&welcome, own("read")));
    assert_eq!(read, "1 marked as read; 0 unread\n");
    shown("- read: Hello");
    // Bob is of another organization.
    let mut lines = welcome
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("doorbell recent "));
    let bob = lines.next_back().unwrap();
    assert!(bob.contains("$BOB"), "{bob}");
    assert_eq!(done(pasted(&welcome, bob)), "0 unread\n");
    watch.signal("INT");
    assert_eq!(watch.end().code, Some(0));

    first.signal("TERM");
    assert_eq!(first.end().code, Some(0));
    let (_second, _) = dev(&data_dir, listen);
    assert_eq!(
        fs::read_to_string(data_dir.join("jwt-secret")).unwrap(),
        secret
    );
    let recent = done(pasted(&welcome, own("recent")));
    assert!(
        recent.contains("Hello") && recent.contains("0 unread"),
        "{recent}"
    );
    let sent = done(pasted(&welcome, own("send")));
    assert!(sent.contains("1 unread"), "{sent}");
}

/// Runs `doorbell token` with the secret of the servers under test.
fn token(words: &[&str]) -> Command {
    let mut command = doorbell(&["token"]);
    command.args(words).env("DOORBELL_JWT_SECRET", SECRET);
    command
}

fn claims(token: &str) -> Value {
    let payload = token.trim().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Where the service verifies with a public key, the private one signs.
#[tokio::test]
async fn token_signs_with_a_private_key() {
    let key = |name: &str| format!("tests/fixtures/auth/{name}");
    let mut setup = Setup::new().with("JWT_PUBLIC_KEY_FILE", key("ed-a.public.pem"));
    setup
        .variables
        .insert("DOORBELL_JWT_SECRET".into(), String::new());
    let server = setup.start();
    let mint = |file: &str| {
        doorbell(&[
            "token",
            "--organization",
            "acme",
            "--user",
            "ann",
            "--private-key-file",
            &key(file),
        ])
    };
    let good = done(mint("ed-a.private.pem"));
    assert_eq!(
        done(against(&server, good.trim(), &["count"])),
        "0 unread\n"
    );
    let other = done(mint("ed-b.private.pem"));
    failed(against(&server, other.trim(), &["count"]), 1);
    for file in ["ed-a.public.pem", "missing.pem"] {
        let problem = failed(mint(file), 2);
        assert!(problem.contains(file), "{problem}");
    }
}

/// A server that waits for something at its start is told to stop, and does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_can_be_stopped_while_it_starts() {
    let url = Postgres::shared().create_database().await;
    drop(support::postgres(&url).await);
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let mut server = Setup::new().with("DATABASE_URL", &url).spawn();
    eventually("it waits", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                       AND datname = current_database()";
        engines::number(&url, waiting).await == 1
    })
    .await;
    server.signal("TERM");
    assert!(server.wait(PATIENCE).success(), "{}", server.log());
}

#[tokio::test]
async fn token_mints_what_the_service_accepts() {
    let server = Setup::new().start();
    let ann = done(token(&[
        "--organization",
        "acme",
        "--user",
        "ann",
        "--lifetime",
        "2h",
    ]));
    let said = claims(&ann);
    assert_eq!(
        (&said["organizationId"], &said["userId"]),
        (&"acme".into(), &"ann".into())
    );
    let (exp, iat) = (said["exp"].as_i64().unwrap(), said["iat"].as_i64().unwrap());
    assert_eq!(exp - iat, 2 * 3600);
    assert_eq!(done(against(&server, ann.trim(), &["count"])), "0 unread\n");

    let sender = done(token(&["--organization", "acme", "--role", "service"]));
    let send = [
        "send",
        "--user",
        "ann",
        "--type",
        "t",
        "--title",
        "T",
        "--organization",
    ];
    let to = |organization| [&send[..], &[organization]].concat();
    done(against(&server, sender.trim(), &to("acme")));
    let problem = failed(against(&server, sender.trim(), &to("globex")), 1);
    assert!(problem.contains("WRONG_ORGANIZATION"), "{problem}");
    let everywhere = done(token(&["--organization", "*", "--role", "service"]));
    done(against(&server, everywhere.trim(), &to("globex")));

    let short = done(token(&[
        "--organization",
        "acme",
        "--user",
        "ann",
        "--lifetime",
        "1s",
    ]));
    let mut client = server.client(short.trim()).await;
    let deadline = Instant::now() + PATIENCE;
    let reason = loop {
        if let Err(status) = client
            .get_unread_count(GetUnreadCountRequest::default())
            .await
        {
            break client::Error::from(status).reason();
        }
        assert!(Instant::now() < deadline, "it does not expire");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(reason.as_deref(), Some("TOKEN_EXPIRED"));
}

#[test]
fn token_refuses_what_no_service_would_accept() {
    for (words, expected) in [
        (&["--organization", "*", "--user", "ann"][..], "`*`"),
        (&["--organization", "acme"], "--user"),
        (&["--user", "ann"], "--organization"),
        (
            &[
                "--organization",
                "acme",
                "--user",
                "ann",
                "--lifetime",
                "0s",
            ],
            "1s",
        ),
        (&["--organization", "a\nb", "--user", "ann"], "control"),
    ] {
        let problem = failed(token(words), 2);
        assert!(problem.contains(expected), "{words:?}: {problem}");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut without = doorbell(&["token", "--organization", "acme", "--user", "ann"]);
    without.env("DOORBELL_DATA_DIR", directory.path());
    let problem = failed(without, 2);
    assert!(problem.contains("jwt-secret"), "{problem}");
}

/// The ids that `watch --json` has shown, and how often each rang.
fn shown(events: &[Value]) -> (BTreeSet<String>, Vec<String>) {
    let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
    let rows = events
        .iter()
        .filter(|event| event["event"] == "notification");
    let rang = rows.clone().filter(|event| event["ring"] == true);
    (
        rows.map(|event| id(&event["notification"])).collect(),
        rang.map(|event| id(&event["notification"])).collect(),
    )
}

#[tokio::test]
async fn watch_survives_a_kill_misses_nothing_and_ends_well() {
    let server = Setup::new().start();
    let watch = Running::start(&mut against(
        &server,
        &user_token("acme", "ann"),
        &["watch", "--json"],
    ));
    watch.wait_for("connection", |out| out.contains("\"connected\""));
    let mut sent = BTreeSet::new();
    let send = async |server: &Server, titles: &[&str]| {
        let mut ids = Vec::new();
        for title in titles {
            let answer = server
                .sender()
                .await
                .send_in_app(request(title))
                .await
                .unwrap();
            ids.push(answer.into_inner().notification.unwrap().id);
        }
        ids
    };
    let has = |sent: &BTreeSet<String>| {
        watch.wait_for("all that was sent", |out| shown(&events(out)).0 == *sent);
    };
    sent.extend(send(&server, &["one", "two"]).await);
    has(&sent);
    let setup = server.kill();
    watch.wait_for("cut", |out| out.contains("\"disconnected\""));
    // They come to the store while the watch is away, or just back.
    let server = setup.start();
    sent.extend(send(&server, &["three", "four", "five"]).await);
    has(&sent);
    let ids: Vec<_> = sent.iter().map(String::as_str).collect();
    let read = [&["read"], &ids[..2]].concat();
    done(against(&server, &user_token("acme", "ann"), &read));
    watch.wait_for("badge", |out| {
        let is_right =
            |last: Value| last["head"]["unread_count"] == 3 && last["head"]["revision"] == 6;
        events(out).pop().is_some_and(is_right)
    });

    let seen = events(&watch.out());
    let positions: Vec<_> = seen
        .iter()
        .filter_map(|event| event["position"].as_u64())
        .collect();
    assert!(positions.is_sorted(), "{positions:?}");
    let loads = seen
        .iter()
        .filter(|event| event["event"] == "loaded")
        .count();
    assert_eq!(loads, 1, "it resumed: {seen:#?}");
    let (_, rang) = shown(&seen);
    let once: BTreeSet<_> = rang.iter().collect();
    assert_eq!(once.len(), rang.len(), "one rang twice: {rang:?}");
    watch.signal("INT");
    let ended = watch.end();
    assert!(ended.code == Some(0) && ended.err.is_empty(), "{ended:?}");
}

#[test]
fn watch_ends_at_an_error_that_no_waiting_mends() {
    let server = Setup::new().start();
    let watch = |token: &str| against(&server, token, &["watch", "--json"]);
    for (token, expected) in [
        (sender_token("acme"), "NOT_A_READER"),
        ("not.a.token".into(), "TOKEN_INVALID"),
    ] {
        let problem = failed(watch(&token), 1);
        assert!(
            problem.contains(expected) && !problem.contains(&token),
            "{problem}"
        );
    }
    let mut without = watch("");
    without.env_remove("DOORBELL_TOKEN");
    assert!(failed(without, 2).contains("no token"));
}

#[test]
fn healthcheck_tells_whether_it_serves() {
    let mut server = Setup::new()
        .with("DRAIN_DELAY", "30s")
        .with("DRAIN_TIMEOUT", "1s")
        .start();
    let check = |url: String| {
        let mut command = doorbell(&["healthcheck"]);
        command.env("DOORBELL_URL", url);
        command
    };
    assert_eq!(done(check(server.url())), "");
    let problem = failed(check(format!("http://{}", free_port())), 1);
    assert!(problem.contains("is not there"), "{problem}");
    // Without a URL it is the one that its settings describe, as in a container.
    let mut own = doorbell(&["healthcheck"]);
    own.env("DOORBELL_LISTEN", server.setup.listen.to_string());
    assert_eq!(done(own), "");
    // It drains: calls are served, and health says that no more should come.
    server.signal("TERM");
    let deadline = Instant::now() + PATIENCE;
    while run(&mut check(server.url())).code == Some(0) {
        assert!(Instant::now() < deadline, "{}", server.log());
    }
    let problem = failed(check(server.url()), 1);
    assert!(problem.contains("NOT_SERVING"), "{problem}");
    // Told again, it does not wait.
    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(1), "{}", server.log());
}

/// A certificate of 127.0.0.1 that is its own authority, and its key.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    (
        certificate.self_signed(&key).unwrap().pem(),
        key.serialize_pem(),
    )
}

#[test]
fn healthcheck_asks_over_tls_where_the_settings_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let name = "doorbell.example.com";
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let certificate = support::write(&directory, "cert", &certificate);
    let server = Setup::new()
        .with("TLS_CERT_FILE", certificate.clone())
        .with("TLS_KEY_FILE", support::write(&directory, "key", &key))
        .start();
    let check = |name: &str| {
        let mut command = doorbell(&["healthcheck"]);
        command
            .env("DOORBELL_LISTEN", server.setup.listen.to_string())
            .env("DOORBELL_TLS_CERT_FILE", &certificate)
            .env("DOORBELL_CA_FILE", &certificate)
            .env("DOORBELL_SERVER_NAME", name);
        command
    };
    assert_eq!(done(check(name)), "");
    let problem = failed(check("another.example.com"), 1);
    assert!(problem.contains("is not there"), "{problem}");
}

#[test]
fn certificates_are_read_anew_at_a_hangup_and_watch_trusts_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let (old, old_key) = certificate();
    let server = Setup::new()
        .with("TLS_CERT_FILE", support::write(&directory, "cert", &old))
        .with("TLS_KEY_FILE", support::write(&directory, "key", &old_key))
        .start();
    let old_ca = support::write(&directory, "old-ca", &old);
    let url = server.url().replace("http://", "https://");
    let ann = user_token("acme", "ann");
    let over_tls = |ca: &str, words: &[&str]| {
        let mut command = against(&server, &ann, words);
        command
            .env("DOORBELL_URL", &url)
            .env("DOORBELL_CA_FILE", ca);
        command
    };
    let watch = Running::start(&mut over_tls(&old_ca, &["watch", "--json"]));
    watch.wait_for("connection", |out| out.contains("\"connected\""));
    done(over_tls(&old_ca, &["healthcheck"]));

    // What cannot serve is reported, at every hangup anew, and the old stays.
    let reports = || server.log().matches("TLS files not reloaded").count();
    let wait = |what: &str, is: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < deadline, "no {what}: {}", server.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    support::write(&directory, "key", "no key");
    for _ in 0..3 {
        let before = reports();
        server.signal("HUP");
        wait("report", &|| reports() > before);
    }
    assert_eq!(done(over_tls(&old_ca, &["count"])), "0 unread\n");

    let (new, new_key) = certificate();
    support::write(&directory, "cert", &new);
    support::write(&directory, "key", &new_key);
    server.signal("HUP");
    wait("reload", &|| {
        server.log().contains("TLS certificate reloaded")
    });
    let new_ca = support::write(&directory, "new-ca", &new);
    assert_eq!(done(over_tls(&new_ca, &["count"])), "0 unread\n");
    let problem = failed(over_tls(&old_ca, &["count"]), 1);
    assert!(problem.to_lowercase().contains("certificate"), "{problem}");

    // Who is connected stays so.
    let mut send = over_tls(
        &new_ca,
        &[
            "send",
            "--organization",
            "acme",
            "--user",
            "ann",
            "--type",
            "t",
            "--title",
            "T",
        ],
    );
    send.env("DOORBELL_TOKEN", sender_token("acme"));
    done(send);
    watch.wait_for("ring", |out| out.contains("\"ring\":true"));
    let seen = events(&watch.out());
    assert!(seen.iter().all(|event| event["event"] != "disconnected"));
}
