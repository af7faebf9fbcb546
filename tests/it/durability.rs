//! Promise 1 and what hangs on it, by killing real processes.
//!
//! The binary is killed with SIGKILL under load, again and again, and restarted
//! on the same directory. The SQLite shell, which is not ours, looks at the file
//! after every kill.

use std::{collections::HashMap, path::Path, process::Command, time::Duration};

use doorbell::proto::{SendInAppRequest, SubscribeRequest, subscribe_response::Event};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use uuid::Uuid;

use crate::{
    history::{Check, Row},
    load::{INBOXES, Load, Phase, Survived},
    process::PATIENCE,
    server::{Server, Setup},
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
                "each revision from 1 to the head is the making or the reading of a row",
                "SELECT organization_id, user_id, i.revision, count(*), min(c.revision), \
                 max(c.revision) FROM inboxes AS i JOIN (SELECT organization_id, user_id, revision \
                 FROM notifications UNION SELECT organization_id, user_id, sequence \
                 FROM notifications) AS c USING (organization_id, user_id) \
                 GROUP BY organization_id, user_id \
                 HAVING count(*) <> i.revision OR min(c.revision) <> 1 \
                 OR max(c.revision) <> i.revision",
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

    pub(super) fn rows(database: &Path, organization: &str, user: &str) -> Vec<Row> {
        let sql = format!(
            "SELECT hex(id), sequence, revision, read_at IS NOT NULL, title FROM notifications \
             WHERE organization_id = '{organization}' AND user_id = '{user}' \
             AND archived_at IS NULL ORDER BY sequence"
        );
        let row = |line: &str| {
            let mut columns = line.splitn(5, '|');
            let mut next = || columns.next().unwrap();
            Row {
                id: Uuid::parse_str(next()).unwrap(),
                sequence: next().parse().unwrap(),
                revision: next().parse().unwrap(),
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
        let request = SendInAppRequest {
            organization_id: "acme".into(),
            recipient_user_id: "ann".into(),
            r#type: "test".into(),
            title: "after all".into(),
            ..SendInAppRequest::default()
        };
        server.sender().await.send_in_app(request).await.unwrap();
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
    let there = Command::new("strace").arg("-V").output();
    assert!(
        there.is_ok(),
        "this test needs strace: apt-get install strace"
    );
    const TITLE: &str = "a title that is looked for in the trace";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let mut setup = Setup::new();
    // -D leaves the server our own child.
    let calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg,pwrite64,pwritev";
    let strace = [
        "strace", "-D", "-f", "-yy", "-s", "20000", "-e", calls, "-o",
    ];
    setup.wrapper = strace.map(str::to_owned).to_vec();
    setup.wrapper.push(file.display().to_string());
    let server = setup.start();
    let mut ann = server.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap();
    let request = SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        r#type: "test".into(),
        title: TITLE.into(),
        ..SendInAppRequest::default()
    };
    server.sender().await.send_in_app(request).await.unwrap();
    let rung = stream.message().await.unwrap().unwrap();
    assert!(matches!(rung.event, Some(Event::Notification(_))));
    server.kill();
    let deadline = Instant::now() + PATIENCE;
    let trace = loop {
        let trace = std::fs::read_to_string(&file).unwrap();
        if trace
            .lines()
            .last()
            .is_some_and(|line| line.contains("+++ killed by SIGKILL +++"))
        {
            break trace;
        }
        assert!(Instant::now() < deadline, "the trace does not end");
        sleep(Duration::from_millis(5)).await;
    };

    let calls = traced(&trace);
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
