//! The workers of `docs/examples`, as they stand there, against the real binary and a mail
//! server that only collects.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use doorbell::proto::{
    FollowUpUnless, ListFollowUpsRequest, RemoveRequest, SendInAppRequest,
    send_service_client::SendServiceClient,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::block_in_place,
    time::sleep,
};

use crate::{
    calls::{mark, send},
    follow_ups::{after, seconds_of},
    process::{PATIENCE, Running, run},
    programs::{of_npm, of_the_checkout, python},
    server::{Server, Setup, sender_token},
};

/// A mail as it came.
#[derive(Clone, Debug, Default)]
struct Mail {
    /// What `RCPT TO` named.
    recipients: Vec<String>,
    lines: Vec<String>,
}

impl Mail {
    /// The value of a header that is on one line.
    fn header(&self, name: &str) -> &str {
        let start = format!("{name}: ");
        let head = self.lines.iter().take_while(|line| !line.is_empty());
        let mut values = head.filter_map(|line| line.strip_prefix(&start));
        values.next().unwrap_or_else(|| panic!("{name}: {self:?}"))
    }
}

/// A mail server that takes all and hands on nothing.
struct Sink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
}

impl Sink {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mails = Arc::default();
        let taken = Arc::clone(&mails);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&taken)));
            }
        });
        Self { address, mails }
    }

    fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    fn recipients(&self) -> Vec<String> {
        let mails = self.mails().into_iter();
        mails.flat_map(|mail| mail.recipients).collect()
    }
}

/// Speaks as much of SMTP as a sender needs.
async fn converse(stream: TcpStream, mails: Arc<Mutex<Vec<Mail>>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await?;
    let mut mail = Mail::default();
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let upper = line.to_ascii_uppercase();
        let answer = match upper.get(..4) {
            Some("EHLO" | "HELO") => "250 sink\r\n",
            Some("RCPT") => {
                let (_, address) = line.split_once('<').unwrap();
                let (address, _) = address.split_once('>').unwrap();
                mail.recipients.push(address.to_owned());
                "250 ok\r\n"
            }
            Some("MAIL" | "RSET" | "NOOP") => {
                mail = Mail::default();
                "250 ok\r\n"
            }
            Some("DATA") => {
                stream.write_all(b"354 go on\r\n").await?;
                loop {
                    line.clear();
                    if stream.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                    let text = line.trim_end_matches(['\r', '\n']);
                    if text == "." {
                        break;
                    }
                    // A dot at the start of a line was doubled.
                    mail.lines
                        .push(text.strip_prefix('.').unwrap_or(text).to_owned());
                }
                mails.lock().unwrap().push(std::mem::take(&mut mail));
                "250 taken\r\n"
            }
            Some("QUIT") => "221 bye\r\n",
            _ => "502 what?\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// Waits until it is so.
async fn until(what: &str, worker: &Running, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        let (out, err) = (worker.out(), worker.err());
        assert!(Instant::now() < deadline, "not {what}: {out}{err}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// An organization whose worker runs and stops.
struct Desk {
    server: Server,
    sink: Sink,
    position_file: PathBuf,
}

impl Desk {
    /// Starts the worker, or starts it again.
    fn start(&self, mut worker: Command) -> Running {
        let smtp = self.sink.address;
        worker
            .env("DOORBELL_URL", self.server.url())
            .env("DOORBELL_TOKEN", sender_token("acme"))
            .env("ORGANIZATION", "acme")
            .env("SMTP_HOST", smtp.ip().to_string())
            .env("SMTP_PORT", smtp.port().to_string())
            .env("POSITION_FILE", &self.position_file);
        Running::start(&mut worker)
    }

    /// The position that the worker noted.
    fn noted(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.position_file).ok()?;
        let (position, _) = text.split_once(' ').unwrap();
        Some(position.parse().unwrap())
    }

    /// Sends to a user, and answers with the notification's id.
    async fn send(&self, user: &str, seconds: i64) -> String {
        let request = SendInAppRequest {
            body: Some("It waits for you.".into()),
            action_url: Some("/orders/7".into()),
            follow_up: after(seconds, FollowUpUnless::Read),
            ..send("acme", user, &format!("An order\nfor {user}"))
        };
        let sent = self.server.sender().await.send_in_app(request).await;
        sent.unwrap().into_inner().notification.unwrap().id
    }

    async fn read(&self, user: &str, id: String) {
        let mut reader = self.server.user("acme", user).await;
        reader.mark_read(mark([id])).await.unwrap();
    }

    /// Waits until so many were told in all.
    async fn told(&self, count: usize) {
        let channel = self.server.authorized(&sender_token("acme")).await;
        let mut sends = SendServiceClient::new(channel);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = ListFollowUpsRequest {
                organization_id: "acme".into(),
                wait: Some(seconds_of(1)),
                ..ListFollowUpsRequest::default()
            };
            let told = sends.list_follow_ups(request).await.unwrap().into_inner();
            if told.follow_ups.len() == count {
                return;
            }
            assert!(Instant::now() < deadline, "{told:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Each is mailed once who has not read, whatever stops meanwhile.
async fn mails_who_has_not_read(directory: &TempDir, worker: impl Fn() -> Command) {
    let mut desk = Desk {
        server: block_in_place(|| Setup::new().start()),
        sink: Sink::open().await,
        position_file: directory.path().join("position"),
    };
    let mut running = desk.start(worker());
    let bobs = desk.send("bob", 2).await;
    desk.read("bob", bobs).await;
    let anns = desk.send("ann", 2).await;
    until("ann's is noted", &running, || desk.noted() == Some(1)).await;
    let [mail] = &desk.sink.mails()[..] else {
        panic!("{:?}", desk.sink.mails())
    };
    assert_eq!(mail.recipients, ["ann@example.com"]);
    assert_eq!(mail.header("To"), "ann@example.com");
    assert_eq!(mail.header("Subject"), "An order for ann");
    let id = format!("<{anns}@doorbell.example.com>");
    assert_eq!(mail.header("Message-ID"), id);
    for text in ["It waits for you.", "https://app.example.com/orders/7"] {
        assert!(mail.lines.iter().any(|line| line == text), "{mail:?}");
    }

    // Its server dies while it waits, and is away when it asks again.
    sleep(Duration::from_millis(500)).await;
    desk.server.signal("KILL");
    desk.server.wait(PATIENCE);
    let complained = || running.err().lines().count() >= 2;
    until("it asks in vain", &running, complained).await;
    assert!(running.ended().is_none(), "{}", running.err());
    desk.server = block_in_place(|| desk.server.setup.start());
    running.kill();

    // What was read or removed after it was told, and before the worker is there again, is
    // not mailed.
    let dans = desk.send("dan", 1).await;
    let eves = desk.send("eve", 1).await;
    desk.told(3).await;
    desk.read("dan", dans).await;
    let remove = RemoveRequest {
        notification_ids: vec![eves],
        ..RemoveRequest::default()
    };
    let mut eve = desk.server.user("acme", "eve").await;
    eve.remove(remove).await.unwrap();
    let cats = desk.send("cat", 1).await;
    let mut running = desk.start(worker());
    until("cat's is noted", &running, || desk.noted() == Some(4)).await;
    let recipients = desk.sink.recipients();
    assert_eq!(recipients, ["ann@example.com", "cat@example.com"]);
    let id = format!("<{cats}@doorbell.example.com>");
    assert_eq!(desk.sink.mails()[1].header("Message-ID"), id);
    assert!(running.ended().is_none(), "{}", running.err());
}

/// A copy of an example in a directory of its own.
fn copied(name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join(name);
    let example = Path::new("docs/examples").join(name);
    fs::copy(of_the_checkout(example.to_str().unwrap()), &copy).unwrap();
    (directory, copy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_python_mails_who_has_not_read() {
    let (directory, script) = copied("follow_up.py");
    mails_who_has_not_read(&directory, || {
        let mut worker = python();
        worker.arg(&script);
        worker
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_in_typescript_mails_who_has_not_read() {
    let (directory, script) = copied("follow_up.ts");
    let path = directory.path();
    let client = of_the_checkout("clients/node");
    for script in ["generate", "build"] {
        let mut npm = Command::new("npm");
        npm.args(["run", "--silent", script]).current_dir(&client);
        npm.env("BUF_CACHE_DIR", of_the_checkout("target/tools/buf"));
        block_in_place(|| run(&mut npm).ok());
    }
    // What its README installs.
    let modules = path.join("node_modules");
    fs::create_dir_all(modules.join("@doorbell")).unwrap();
    fs::create_dir_all(modules.join("@types")).unwrap();
    symlink(client, modules.join("@doorbell/node")).unwrap();
    for name in ["nodemailer", "@types/node"] {
        let there = of_the_checkout("tests/foreign/web/node_modules").join(name);
        symlink(there, modules.join(name)).unwrap();
    }
    fs::write(path.join("package.json"), r#"{"type": "module"}"#).unwrap();
    let mut compile = Command::new(of_npm("tsc"));
    compile
        .args(["--strict", "--module", "nodenext", "--target", "es2022"])
        .args(["--types", "node", "--outDir", "."])
        .arg(&script);
    block_in_place(|| run(compile.current_dir(path)).ok());
    mails_who_has_not_read(&directory, || {
        let mut worker = Command::new("node");
        worker.arg(script.with_extension("js"));
        worker
    })
    .await;
}

/// Who follows the README installs what the tests run with.
#[test]
fn the_versions_of_the_readme_are_those_of_the_tests() {
    let read = |path| fs::read_to_string(of_the_checkout(path)).unwrap();
    let readme = read("docs/examples/README.md");
    let mut pins = Vec::new();
    let package: Value = serde_json::from_str(&read("tests/foreign/web/package.json")).unwrap();
    for kind in ["dependencies", "devDependencies"] {
        let packages = package[kind].as_object().unwrap().iter();
        let names = ["nodemailer", "typescript", "@types/node"];
        let needed = packages.filter(|(name, _)| names.contains(&name.as_str()));
        pins.extend(needed.map(|(name, version)| format!("{name}@{}", version.as_str().unwrap())));
    }
    assert!(pins.len() >= 3, "{pins:?}");
    let words: Vec<_> = readme.split_whitespace().collect();
    for pin in pins {
        assert!(words.contains(&pin.as_str()), "{pin}");
    }
}
