//! The pages of `docs/start`, followed as they stand there: their code is that of a file, and
//! their commands are run one after the other, with the answers that they show.

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::symlink,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    documents::{blocks, read, same},
    process::{PATIENCE, Running, run},
    programs::of_the_checkout,
    server::{DOORBELL, SECRET, Setup, free_port, sender_token},
};

/// What is in a block that only installs or builds what `./test` has installed and built.
const PREPARED: [&str; 3] = ["cargo run ", "npm ci", "pip install "];

/// How the last line of a block begins that is a server, which goes on.
const SERVERS: [&str; 2] = ["RUBYLIB=lib puma ", "python "];

/// Follows a page whose site listens on `port`, in a folder of its own beside the checkout.
fn follow(page: &str, port: u16) {
    let server = Setup::new().start();
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    fs::create_dir(&site).unwrap();
    symlink(of_the_checkout(""), folder.path().join("doorbell")).unwrap();
    let address = free_port();
    let python = of_the_checkout("target/tools/python/bin");
    let tokens = format!(
        "SENDER='{}'\nexport DOORBELL_URL='{}'\nPATH='{}':\"$PATH\"\n",
        sender_token("*"),
        server.url(),
        python.display(),
    );
    // Nothing of Doorbell is on the path of who begins.
    let shell = |lines: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &format!("{tokens}{lines}")]);
        shell.current_dir(&site);
        shell
    };
    let here = |text: &str| {
        text.replace(&port.to_string(), &address.port().to_string())
            .replace("../doorbell/target/release/doorbell", DOORBELL)
            .replace(
                "$(cat ../doorbell/doorbell-data/jwt-secret)",
                &format!("'{SECRET}'"),
            )
    };

    let mut open: Vec<Running> = Vec::new();
    let mut answered = 0;
    let blocks = blocks(page);
    for (index, block) in blocks.iter().enumerate() {
        let is_prepared = PREPARED.iter().any(|line| block.text.contains(line));
        if block.language != "sh" || is_prepared {
            continue;
        }
        let last = block.text.lines().last().unwrap();
        if SERVERS.iter().any(|start| last.starts_with(start)) {
            // In place of the shell, so that it ends with the test.
            let lines = block.text.replace(last, &format!("exec env {last}"));
            let running = Running::start(&mut shell(&here(&lines)));
            open.push(running);
            let deadline = Instant::now() + PATIENCE;
            while TcpStream::connect(address).is_err() {
                let running = open.last_mut().unwrap();
                let said = running.out() + &running.err();
                assert!(running.ended().is_none(), "{page}: {last}: {said}");
                assert!(Instant::now() < deadline, "{page}: {last}: {said}");
                sleep(Duration::from_millis(20));
            }
            continue;
        }
        let out = run(&mut shell(&here(&block.text))).ok();
        if let Some(answer) = blocks.get(index + 1).filter(|next| next.language == "text") {
            let said = open.last().map(Running::err).unwrap_or_default();
            assert_eq!(
                same(&out),
                same(&answer.text),
                "{page}: {}{said}",
                block.text
            );
            answered += 1;
        }
    }
    assert!(answered >= 3 && open.len() == 1, "{page}: {answered}");
}

#[test]
fn the_start_with_rails_is_as_shown() {
    follow("docs/start/rails.md", 3000);
}

#[test]
fn the_start_with_django_is_as_shown() {
    follow("docs/start/django.md", 8000);
}

/// `From [file](link):` is above a block that is a part of the file.
#[test]
fn the_code_of_the_starts_is_that_of_the_files() {
    let mut compared = 0;
    for file in fs::read_dir(of_the_checkout("docs/start")).unwrap() {
        let page = format!("docs/start/{}", file.unwrap().file_name().display());
        let text = read(&page);
        for part in text.split("\nFrom [").skip(1) {
            let (file, rest) = part.split_once("](").unwrap();
            let (_, rest) = rest.split_once("):\n\n```").unwrap();
            let (_, rest) = rest.split_once('\n').unwrap();
            let (code, _) = rest.split_once("\n```\n").unwrap();
            let whole = format!("\n{}\n", read(file));
            assert!(
                whole.contains(&format!("\n{code}\n")),
                "{page}: this is not in {file}:\n{code}"
            );
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared}");
}
