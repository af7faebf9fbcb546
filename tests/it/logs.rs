//! The log of the real binary: it holds up nothing, and stays bounded.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    process::Command,
};

use doorbell::proto::GetUnreadCountRequest;
use serde_json::Value;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::{
    calls::{after, eventually, metric},
    process::{PATIENCE, run},
    server::{Server, Setup, free_port},
};

/// Opens a stream of this user and closes it, so many times.
async fn come_and_go(server: &Server, times: usize) {
    let mut client = server.user("acme", "restless").await;
    for _ in 0..times {
        let stream = timeout(PATIENCE, client.subscribe(after(0))).await;
        drop(stream.expect("a stream stands").unwrap());
    }
}

/// Reads until this is there.
fn read_until(mut log: File, what: &'static str) -> oneshot::Receiver<File> {
    let (done, read) = oneshot::channel();
    std::thread::spawn(move || {
        let (mut text, mut piece) = (Vec::new(), [0; 64 * 1024]);
        while !String::from_utf8_lossy(&text).contains(what) {
            // The end of what was there, which a line may overlap.
            text.drain(..text.len().saturating_sub(what.len()));
            let read = log.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..read]);
        }
        let _ = done.send(log);
    });
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_nothing_and_is_counted() {
    let pages = free_port();
    let mut setup = Setup::new()
        .with("LOG", "trace,h2=trace,hyper=trace")
        .with("METRICS_LISTEN", pages);
    let pipe = setup.directory.path().join("log");
    run(Command::new("mkfifo").arg(&pipe)).ok();
    // Open at both ends, and read by nobody.
    let log = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let to_pipe = format!("exec \"$0\" \"$@\" 2>{}", pipe.display());
    setup.wrapper = ["sh", "-c", &to_pipe].map(str::to_owned).to_vec();
    let mut server = setup.spawn();
    eventually("it listens", async || {
        TcpStream::connect(setup.listen).await.is_ok()
    })
    .await;

    let dropped = r#"doorbell_log_lines_left_out_total{reason="unread"}"#;
    eventually("lines are dropped", async || {
        come_and_go(&server, 50).await;
        metric(pages, dropped).await > 0.0
    })
    .await;
    let mut client = server.user("acme", "ann").await;
    client
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();

    // Somebody reads at last, and is told.
    let told = read_until(log, "lines were dropped");
    let log = timeout(PATIENCE, told).await.expect("it is told").unwrap();

    // Nobody again: its end is not held up either.
    come_and_go(&server, 50).await;
    server.signal("TERM");
    assert!(server.wait(PATIENCE).success());
    drop(log);
}

#[tokio::test]
async fn streams_in_a_loop_are_not_a_line_each() {
    let server = Setup::new().start();
    come_and_go(&server, 300).await;
    let _stays = server.user("acme", "ann").await.subscribe(after(0)).await;
    let said = |user: &str| {
        let log = server.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["message"] == "stream opened")
            .filter(|line: &Value| line["span"]["user"] == user)
            .count()
    };
    eventually("a neighbour's line", async || said("ann") == 1).await;
    assert_eq!(said("restless"), 64);
}
