//! Programs that are not ours, as child processes with limited time.
//!
//! `./test` installs them below `target/tools` and `tests/foreign/web`; where one
//! is missing, the test fails and says so.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::server::{DOORBELL, PATIENCE};

/// A path in the repository.
pub fn of_the_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A tool that `./test` installs.
fn tool(path: &str) -> PathBuf {
    let tool = of_the_checkout(path);
    assert!(
        tool.exists(),
        "{path} is missing; install it with: ./test --prepare"
    );
    tool
}

/// The real grpcurl.
pub fn grpcurl_binary() -> PathBuf {
    tool("target/tools/bin/grpcurl")
}

/// The real nats-server.
pub fn nats_server() -> PathBuf {
    tool("target/tools/bin/nats-server")
}

/// The real buf.
pub fn buf() -> Command {
    let mut buf = Command::new(tool("tests/foreign/web/node_modules/.bin/buf"));
    buf.env("BUF_CACHE_DIR", of_the_checkout("target/tools/buf"));
    buf
}

/// What a program printed, and whether it ended well. It has limited time.
pub struct Ran {
    pub out: String,
    pub err: String,
    pub ok: bool,
}

impl Ran {
    pub fn ok(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }

    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn failed(self) -> String {
        assert!(!self.ok, "it should have failed: {}", self.out);
        self.err
    }
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Ran {
    let mut running = Running::new(command);
    let deadline = Instant::now() + 3 * PATIENCE;
    let status = loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            break status;
        }
        assert!(
            Instant::now() < deadline,
            "{command:?} does not end: {}",
            running.text()
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    for reader in running.readers.drain(..) {
        reader.join().unwrap();
    }
    let err = running.err.lock().unwrap().clone();
    Ran {
        out: running.text(),
        err,
        ok: status.success(),
    }
}

/// A program that stays; dropping it kills it.
pub struct Running {
    child: Child,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Running {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; ./test --prepare installs it"));
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            follow(child.stdout.take().unwrap(), &out),
            follow(child.stderr.take().unwrap(), &err),
        ];
        Self {
            child,
            out,
            err,
            readers,
        }
    }

    pub fn is_open(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn text(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// Waits until what it printed is as asked.
    pub fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "this is all: {text}{}",
                self.err.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The first `count` JSON objects that it prints.
    pub fn messages(&self, count: usize) -> Vec<Value> {
        let parsed = |text: &str| -> Vec<Value> {
            serde_json::Deserializer::from_str(text)
                .into_iter()
                .map_while(Result::ok)
                .collect()
        };
        parsed(&self.until(|text| parsed(text).len() >= count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(
    from: impl std::io::Read + Send + 'static,
    into: &Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = String::new();
        while from.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            into.lock().unwrap().push_str(&line);
            line.clear();
        }
    })
}

/// A shell with grpcurl and our own binary at hand, in which first the tokens and then these lines
/// are pasted.
pub fn paste(tokens: &str, lines: &str) -> Command {
    let directory = grpcurl_binary().parent().unwrap().to_owned();
    let others = std::env::var_os("PATH").unwrap();
    let own = Path::new(DOORBELL).parent().unwrap().to_owned();
    let path = [directory, own].into_iter();
    let path = path.chain(std::env::split_paths(&others));
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", &format!("{tokens}\n{lines}")])
        .env("PATH", std::env::join_paths(path).unwrap());
    shell
}
