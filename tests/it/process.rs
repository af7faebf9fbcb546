//! A program as a child process, and what it writes.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a server may take to listen, and a condition to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// What a program wrote until now.
///
/// An anonymous file and no pipe: nobody has to empty it, and all of it is there
/// as soon as the program has ended.
struct Output(File);

impl Output {
    fn new() -> Self {
        Self(tempfile::tempfile().unwrap())
    }

    fn stdio(&self) -> Stdio {
        self.0.try_clone().unwrap().into()
    }

    /// Reads from the start, and leaves the place where the program writes.
    fn text(&self) -> String {
        let mut bytes = vec![0; self.0.metadata().unwrap().len().try_into().unwrap()];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        // A character may be half written.
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A program that runs; dropping it kills it.
pub struct Running {
    child: Child,
    out: Output,
    err: Output,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let (out, err) = (Output::new(), Output::new());
        let child = command
            .stdin(Stdio::null())
            .stdout(out.stdio())
            .stderr(err.stdio())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; ./test --prepare installs it"));
        Self { child, out, err }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it wrote to its standard output until now.
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// What it wrote to its standard error until now.
    pub fn err(&self) -> String {
        self.err.text()
    }

    /// Waits until what it printed says so, and answers all of that.
    pub fn wait_for(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let out = self.out();
            if is_there(&out) {
                return out;
            }
            let err = self.err();
            assert!(Instant::now() < deadline, "no {what}: {out}{err}");
            std::thread::sleep(GLANCE);
        }
    }

    /// The first `count` JSON objects that it prints.
    pub fn messages(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} messages");
        objects(&self.wait_for(&what, |text| objects(text).len() >= count))
    }

    /// Sends a signal by its name: `TERM`, `HUP`, `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let (out, err) = (self.out(), self.err());
            assert!(Instant::now() < deadline, "it does not end: {out}{err}");
            std::thread::sleep(GLANCE);
        }
    }

    /// Waits for its end, and for all that it has to say.
    pub fn end(mut self) -> Ended {
        let status = self.wait(3 * PATIENCE);
        Ended {
            code: status.code(),
            out: self.out(),
            err: self.err(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The JSON objects of a text, up to one that is not whole.
pub fn objects(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .map_while(Result::ok)
        .collect()
}

/// How a program ended, and all that it wrote.
#[derive(Debug)]
pub struct Ended {
    /// None: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }

    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn failed(self) -> String {
        assert_ne!(self.code, Some(0), "it should have failed: {}", self.out);
        self.err
    }
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Ended {
    Running::start(command).end()
}
