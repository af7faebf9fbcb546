//! Promise 1 and what hangs on it, by killing real processes.
//!
//! The binary is killed with SIGKILL under load, again and again, and restarted
//! on the same directory. The SQLite shell, which is not ours, looks at the file
//! after every kill.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use doorbell::proto::{
    GetRecentRequest, SendInAppRequest, SubscribeRequest, subscribe_response::Event,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    calls::{assert_refused, eventually, metric, page},
    history::{Check, Row},
    load::{INBOXES, Load, Phase, Survived},
    process::PATIENCE,
    server::{Client, Server, Setup, free_port},
};

/// How often the ordinary run kills. For a long night, raise it.
const KILLS: usize = 20;

/// What the server itself had to complain of.
fn complaints(server: &Server) -> String {
    let log = server.log();
    let is_complaint = |line: &&str| line.contains("\"ERROR\"") || line.contains("\"WARN\"");
    let complaints: Vec<_> = log.lines().filter(is_complaint).collect();
    complaints.join("\n")
}

/// Kills a server under load `kills` times. Answers what was found wrong with the
/// service; `variables` are for its processes.
pub async fn survive(kills: usize, variables: &[(&str, &str)]) -> Check {
    let mut seed = [0; 8];
    use doorbell::random::{Random as _, SystemRandom};
    SystemRandom.fill(&mut seed);
    let seed = u64::from_le_bytes(seed);
    let mut setup = Setup::new()
        .with("HEARTBEAT_INTERVAL", "1s")
        .with("ROOM_CAPACITY", 2)
        .with("REPLAY_PAGE", 7)
        .with("REPLAY_LIMIT", 1_000_000)
        .with("WRITE_BATCH", 8);
    for (name, value) in variables {
        setup.variables.insert((*name).into(), (*value).into());
    }
    kill_under_load(kills, seed, &setup)
        .await
        .map_err(|finding| format!("{finding}\n(seed {seed})"))
}

async fn kill_under_load(kills: usize, seed: u64, setup: &Setup) -> Check {
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = block_in_place(|| setup.start());
    let mut load = Load::start(vec![server.url()], &[], &mut random);
    for kill in 1..=kills {
        let enough = load.answered() + random.random_range(100..800);
        let deadline = Instant::now() + PATIENCE;
        while load.answered() < enough {
            load.look()
                .map_err(|finding| format!("{finding}\n{}", complaints(&server)))?;
            assert!(
                Instant::now() < deadline,
                "no load before kill {kill}: {}",
                server.log()
            );
            sleep(Duration::from_millis(2)).await;
        }
        sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        server.kill();
        load.tell(Phase::Down);
        let database = setup.directory.path().join("doorbell.db");
        block_in_place(|| foreign::check(&database))
            .map_err(|finding| format!("after kill {kill}: {finding}"))?;
        server = block_in_place(|| setup.start());
        load.tell(Phase::Up);
    }
    let Survived { listed, cuts } = load.finish().await?;
    let setup = server.kill();
    let database = setup.directory.path().join("doorbell.db");
    block_in_place(|| foreign::check(&database))?;
    for ((organization, user), listed) in INBOXES.iter().zip(&listed) {
        let rows = block_in_place(|| foreign::rows(&database, organization, user));
        if rows != *listed {
            return Err(format!(
                "{user} of {organization}: the file has other rows than the service listed"
            ));
        }
    }
    for (cut, times) in cuts {
        assert!(
            times > 0,
            "no stream was cut so: {cut:?}; this proves too little"
        );
    }
    Ok(())
}

fn request(title: &str) -> SendInAppRequest {
    SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: title.into(),
        idempotency_key: Some(title.into()),
        ..SendInAppRequest::default()
    }
}

/// What the SQLite shell says of the file, which it opens to read only.
mod foreign {
    use super::*;

    fn ask(database: &Path, sql: &str) -> String {
        let mut shell = Command::new("sqlite3");
        shell.args([
            "-batch",
            "-readonly",
            "-init",
            "/dev/null",
            "-cmd",
            ".timeout 5000",
        ]);
        let asked = shell.arg(database).arg(sql).output();
        let asked = asked.unwrap_or_else(|error| {
            panic!("this test needs the SQLite shell: apt-get install sqlite3 ({error})")
        });
        let problem = String::from_utf8_lossy(&asked.stderr);
        assert!(
            asked.status.success() && problem.is_empty(),
            "sqlite3: {problem}"
        );
        String::from_utf8(asked.stdout).unwrap()
    }

    /// Promise 4 and the order of the revisions, each in SQL of its own.
    pub(super) fn check(database: &Path) -> Check {
        for (what, sql, expected) in [
            ("the file is whole", "PRAGMA integrity_check", "ok\n"),
            (
                "each unread count is a count of the rows",
                "SELECT * FROM inboxes AS i WHERE unread_count <> (SELECT count(*) \
                 FROM notifications AS n WHERE (n.organization_id, n.user_id) = \
                 (i.organization_id, i.user_id) AND read_at IS NULL AND archived_at IS NULL)",
                "",
            ),
            (
                "each unseen count is a count of the unread rows that came after the last look",
                "SELECT * FROM inboxes AS i WHERE unseen_count <> (SELECT count(*) \
                 FROM notifications AS n WHERE (n.organization_id, n.user_id) = \
                 (i.organization_id, i.user_id) AND read_at IS NULL AND archived_at IS NULL \
                 AND sequence > i.seen_through)",
                "",
            ),
            (
                "the first revision makes a row, and none is above the head",
                "SELECT organization_id, user_id, i.revision, min(n.sequence), max(n.revision) \
                 FROM inboxes AS i JOIN notifications AS n USING (organization_id, user_id) \
                 GROUP BY organization_id, user_id \
                 HAVING min(n.sequence) <> 1 OR max(n.revision) > i.revision",
                "",
            ),
            (
                "each row has a head, and each head has rows",
                "SELECT organization_id, user_id FROM notifications \
                 EXCEPT SELECT organization_id, user_id FROM inboxes \
                 UNION ALL SELECT * FROM (SELECT organization_id, user_id FROM inboxes \
                 EXCEPT SELECT organization_id, user_id FROM notifications)",
                "",
            ),
            (
                "created_at strictly increases, up to that of the head",
                "SELECT organization_id, user_id, sequence FROM (SELECT *, lead(created_at, 1, \
                 1 + (SELECT last_created_at FROM inboxes AS i WHERE (i.organization_id, \
                 i.user_id) = (n.organization_id, n.user_id))) OVER (PARTITION BY \
                 organization_id, user_id ORDER BY sequence) AS later FROM notifications AS n) \
                 WHERE later <= created_at",
                "",
            ),
        ] {
            let found = ask(database, sql);
            if found != expected {
                return Err(format!("not true of the file: {what}: {found}"));
            }
        }
        Ok(())
    }

    /// `None` where there is none yet. A journal is left where the kill came
    /// before the file had its log: who only reads cannot roll that back.
    pub(super) fn epoch(database: &Path) -> Option<String> {
        if database.with_extension("db-journal").exists() {
            return None;
        }
        let table = "SELECT count(*) FROM sqlite_master WHERE name = 'doorbell'";
        if !database.exists() || ask(database, table) != "1\n" {
            return None;
        }
        let epoch = ask(database, "SELECT epoch FROM doorbell");
        (!epoch.is_empty()).then_some(epoch)
    }

    /// Where in the file a table or an index begins.
    pub(super) fn page_of(database: &Path, name: &str) -> u64 {
        let sql = format!(
            "SELECT (rootpage - 1) * (SELECT page_size FROM pragma_page_size) \
             FROM sqlite_schema WHERE name = '{name}'"
        );
        ask(database, &sql).trim().parse().unwrap()
    }

    pub(super) fn rows(database: &Path, organization: &str, user: &str) -> Vec<Row> {
        let sql = format!(
            "SELECT hex(id), sequence, revision, ring_revision, read_at IS NOT NULL, title \
             FROM notifications WHERE organization_id = '{organization}' AND user_id = '{user}' \
             AND archived_at IS NULL ORDER BY sequence"
        );
        let row = |line: &str| {
            let mut columns = line.splitn(6, '|');
            let mut next = || columns.next().unwrap();
            Row {
                id: Uuid::parse_str(next()).unwrap(),
                sequence: next().parse().unwrap(),
                revision: next().parse().unwrap(),
                ring_revision: next().parse().unwrap(),
                read: next() == "1",
                title: next().to_owned(),
            }
        };
        ask(database, &sql).lines().map(row).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kills_under_load() {
    let survived = survive(KILLS, &[]).await;
    survived.unwrap_or_else(|finding| panic!("{finding}"));
}

/// A new database is made in steps; a kill between any two is mended by the next
/// start, and an epoch that was once there stays.
#[tokio::test]
async fn a_server_that_is_killed_while_it_starts_starts_again() {
    let began = Instant::now();
    drop(Setup::new().start());
    let whole_start = began.elapsed();
    for tenth in 0..20 {
        let setup = Setup::new();
        let database = setup.directory.path().join("doorbell.db");
        let mut epoch = None;
        for _ in 0..2 {
            let server = setup.spawn();
            // Not a wait for anything: the kill comes somewhere in the start.
            std::thread::sleep(whole_start * tenth / 20);
            server.kill();
            epoch = epoch.or_else(|| foreign::epoch(&database));
        }
        let server = setup.start();
        let mut sender = server.sender().await;
        sender.send_in_app(request("after all")).await.unwrap();
        server.kill();
        foreign::check(&database).unwrap();
        let last = foreign::epoch(&database);
        assert!(last.is_some());
        assert!(
            epoch.is_none() || epoch == last,
            "{epoch:?} became {last:?}"
        );
    }
}

/// A crash of the machine cannot be had here; that the disk is told in time can
/// be seen: the row goes to the log of the database, the log is synced, and then
/// the answer and the event go out.
#[tokio::test]
async fn the_disk_is_synced_before_the_answer_and_the_event_go_out() {
    const TITLE: &str = "a title that is looked for in the trace";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg,pwrite64,pwritev";
    let server = under_strace(Setup::new(), calls, &file).start();
    let mut ann = server.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap();
    let mut sender = server.sender().await;
    sender.send_in_app(request(TITLE)).await.unwrap();
    let rung = stream.message().await.unwrap().unwrap();
    assert!(matches!(rung.event, Some(Event::Notification(_))));
    server.kill();
    let calls = traced(&whole_trace(&file).await);
    let is_log = |call: &&Traced| call.text.contains("/doorbell.db-wal>");
    let is_sync =
        |call: &&Traced| call.text.starts_with("fsync(") || call.text.starts_with("fdatasync(");
    let out: Vec<_> = calls
        .iter()
        .filter(|call| call.text.contains(TITLE) && call.text.contains("<TCP:"))
        .collect();
    assert_eq!(out.len(), 2, "an answer and an event: {out:#?}");
    let first_out = out.iter().map(|call| call.began).min().unwrap();
    let written = calls
        .iter()
        .filter(is_log)
        .find(|call| call.text.contains(TITLE))
        .expect("the row is written to the log");
    // The commit frame is the last of the transaction.
    let last_write = calls
        .iter()
        .filter(is_log)
        .filter(|call| !is_sync(call) && call.began < first_out)
        .map(|call| call.ended)
        .max()
        .unwrap();
    let synced = calls.iter().filter(is_log).filter(is_sync).find(|call| {
        call.began >= last_write && call.ended <= first_out && call.text.ends_with("= 0")
    });
    assert!(
        written.ended <= last_write && last_write < first_out && synced.is_some(),
        "written {written:?}, last write {last_write}, synced {synced:?}, out {out:?}"
    );
}

/// The first start on an empty disk: what was made is there after a crash, down to
/// the names of directories.
#[tokio::test]
async fn a_first_start_syncs_the_directories_that_hold_what_it_made() {
    let directory = tempfile::tempdir().unwrap();
    let above = fs::canonicalize(directory.path()).unwrap();
    let file = above.join("trace");
    let data = above.join("a/b");
    let setup = Setup::new().with("DATA_DIR", data.display());
    let server = under_strace(setup, "trace=fsync", &file).start();
    server.kill();
    let calls = traced(&whole_trace(&file).await);
    for directory in [&above, &above.join("a"), &data] {
        let path = format!("<{}>)", directory.display());
        let is_synced =
            |call: &Traced| call.text.contains(&path) && call.text.trim_end().ends_with("= 0");
        assert!(calls.iter().any(is_synced), "{path}: {calls:#?}");
    }
}

/// Puts `strace` before a server, which stays our own child.
fn under_strace(mut setup: Setup, calls: &str, file: &Path) -> Setup {
    let there = Command::new("strace").arg("-V").output();
    assert!(
        there.is_ok(),
        "this test needs strace: apt-get install strace"
    );
    let strace = [
        "strace", "-D", "-f", "-yy", "-s", "20000", "-e", calls, "-o",
    ];
    setup.wrapper = strace.map(str::to_owned).to_vec();
    setup.wrapper.push(file.display().to_string());
    setup
}

/// What was traced of a server that was killed.
async fn whole_trace(file: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let trace = fs::read_to_string(file).unwrap();
        if trace
            .lines()
            .last()
            .is_some_and(|line| line.contains("+++ killed by SIGKILL +++"))
        {
            return trace;
        }
        assert!(Instant::now() < deadline, "the trace does not end");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A system call of a trace, with the lines at which it began and ended.
#[derive(Debug)]
struct Traced {
    began: usize,
    ended: usize,
    text: String,
}

fn traced(trace: &str) -> Vec<Traced> {
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let (pid, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        let (began, text) = if let Some(begun) = text.strip_suffix("<unfinished ...>") {
            open.insert(pid, (at, begun));
            continue;
        } else if text.starts_with("<... ") {
            let (began, begun) = open.remove(pid).unwrap();
            let rest = text.split_once("resumed>").unwrap().1;
            (began, format!("{begun}{rest}"))
        } else {
            (at, text.to_owned())
        };
        calls.push(Traced {
            began,
            ended: at,
            text,
        });
    }
    calls
}

/// A server on a disk that fails when it is told to.
struct FaultyDisk {
    fault: PathBuf,
    pages: SocketAddr,
    server: Server,
}

impl FaultyDisk {
    fn start() -> Self {
        let mut setup = Setup::new();
        let pages = free_port();
        setup = setup.with("METRICS_LISTEN", pages);
        let directory = setup.directory.path();
        let (library, fault) = (directory.join("faulty_disk.so"), directory.join("fault"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faulty_disk.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]);
        let compiled = compiler.arg(&library).arg(source).status().unwrap();
        assert!(compiled.success());
        for (name, path) in [("LD_PRELOAD", &library), ("FAULT", &fault)] {
            let path = path.display().to_string();
            setup.variables.insert(name.into(), path);
        }
        let server = setup.start();
        Self {
            fault,
            pages,
            server,
        }
    }

    fn set(&self, fault: &str) {
        fs::write(&self.fault, fault).unwrap();
    }

    async fn is_ready(&self) -> bool {
        page(self.pages, "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    }

    async fn failed(&self, reason: &str) -> f64 {
        let series = format!("doorbell_commits_failed_total{{reason=\"{reason}\"}}");
        metric(self.pages, &series).await
    }
}

async fn send(sender: &mut Client, title: &str) -> Result<bool, Status> {
    let answer = sender.send_in_app(request(title)).await?;
    Ok(answer.into_inner().duplicate)
}

async fn titles(server: &Server) -> Vec<String> {
    let mut ann = server.user("acme", "ann").await;
    let page = ann.get_recent(GetRecentRequest::default()).await.unwrap();
    let rows = page.into_inner().notifications.into_iter();
    rows.map(|row| row.title).collect()
}

/// The frames were written, and nobody knows whether they are on the disk.
#[tokio::test]
async fn a_commit_whose_sync_fails_is_in_doubt() {
    let disk = FaultyDisk::start();
    let mut sender = disk.server.sender().await;
    send(&mut sender, "before").await.unwrap();
    disk.set("sync");
    let answer = send(&mut sender, "in doubt").await;
    let refused = answer.clone().unwrap_err();
    assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(refused.message().contains("may or may not"), "{refused:?}");
    assert_eq!(disk.failed("in_doubt").await, 1.0);
    // It crashes before it could write again, and this disk did keep the frames.
    let setup = disk.server.kill();
    fs::remove_file(disk.fault).unwrap();
    let server = setup.start();
    assert_eq!(titles(&server).await, ["in doubt", "before"]);
    let mut sender = server.sender().await;
    assert!(send(&mut sender, "in doubt").await.unwrap(), "a duplicate");
}

#[tokio::test]
async fn a_full_disk_takes_readiness_away_until_there_is_room() {
    let disk = FaultyDisk::start();
    let mut sender = disk.server.sender().await;
    send(&mut sender, "before").await.unwrap();
    assert!(disk.is_ready().await);
    disk.set("full");
    let answer = send(&mut sender, "no room").await;
    let refused = answer.clone().unwrap_err();
    assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(!refused.message().contains("may or may not"), "{refused:?}");
    assert_eq!(disk.failed("unavailable").await, 1.0);
    eventually("it is not ready", async || !disk.is_ready().await).await;
    assert_eq!(titles(&disk.server).await, ["before"], "it reads");
    // By itself: nobody sends.
    disk.set("");
    eventually("it is ready", async || disk.is_ready().await).await;
    assert!(
        !send(&mut sender, "no room").await.unwrap(),
        "none was kept"
    );
    let log = disk.server.log();
    let said = log.matches("\"target\":\"doorbell::app\"").count();
    assert_eq!(said, 1, "{log}");
}

#[tokio::test]
async fn damage_is_corrupt_and_internal() {
    let pages = free_port();
    let mut server = Setup::new().with("METRICS_LISTEN", pages).start();
    let mut sender = server.sender().await;
    send(&mut sender, "before").await.unwrap();
    server.signal("TERM");
    server.wait(PATIENCE);
    let damaged = foreign::page_of(&server.database(), "notifications_by_id");
    let file = OpenOptions::new().write(true).open(server.database());
    file.unwrap().write_all_at(&[0xa5; 512], damaged).unwrap();
    let server = server.setup.clone().start();
    let mut sender = server.sender().await;
    assert_refused(send(&mut sender, "after").await, Code::Internal, "INTERNAL");
    let series = "doorbell_commits_failed_total{reason=\"corrupt\"}";
    assert_eq!(metric(pages, series).await, 1.0);
}
