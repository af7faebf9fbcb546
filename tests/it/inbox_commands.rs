//! What the command line does with an inbox: each command as it is typed, and what it
//! answers.

use std::fs;

use serde_json::{Value, json};

use crate::{
    commands::{against, done, doorbell, failed},
    process::{Running, run},
    server::{Server, Setup, operator_token, sender_token, user_token},
};

/// A server, and who calls it.
struct Desk {
    server: Server,
}

impl Desk {
    fn open() -> Self {
        let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
        Self { server }
    }

    fn of(token: &str, server: &Server, line: &str) -> std::process::Command {
        let words: Vec<&str> = line.split_whitespace().collect();
        against(server, token, &words)
    }

    /// What Ann's command answers.
    fn ann(&self, line: &str) -> String {
        done(Self::of(&user_token("acme", "ann"), &self.server, line))
    }

    /// Why Ann's command was refused.
    fn refused(&self, line: &str, code: i32) -> String {
        failed(
            Self::of(&user_token("acme", "ann"), &self.server, line),
            code,
        )
    }

    /// What the backend's command about Ann answers.
    fn backend(&self, line: &str) -> String {
        let line = format!("{line} --organization acme --user ann");
        done(Self::of(&sender_token("acme"), &self.server, &line))
    }

    fn operator(&self, line: &str) -> String {
        done(Self::of(&operator_token("acme"), &self.server, line))
    }

    /// Sends, and answers the notification.
    fn send(&self, title: &str, more: &str) -> Value {
        let line = format!("send --json --type test --title {title} {more}");
        let answer: Value = serde_json::from_str(&self.backend(&line)).unwrap();
        answer["notification"].clone()
    }

    fn send_id(&self, title: &str, more: &str) -> String {
        id(&self.send(title, more))
    }

    /// The titles of what `recent` lists.
    fn titles(&self, options: &str) -> Vec<String> {
        let page = self.ann(&format!("recent --json {options}"));
        titles(&serde_json::from_str(&page).unwrap())
    }
}

fn id(notification: &Value) -> String {
    notification["id"].as_str().unwrap().into()
}

fn titles(page: &Value) -> Vec<String> {
    let rows = page["notifications"].as_array().unwrap().iter();
    rows.map(|row| row["title"].as_str().unwrap().into())
        .collect()
}

#[test]
fn each_verb_takes_ids_a_thing_or_all() {
    let desk = Desk::open();
    let one = desk.send_id("one", "");
    desk.send("two", "--entity-type post --entity-id 7");
    desk.send("three", "--body hello");
    assert_eq!(
        desk.ann(&format!("read {one}")),
        "1 marked as read; 2 unread\n"
    );
    assert_eq!(
        desk.ann("read --entity-type post --entity-id 7"),
        "1 marked as read; 1 unread\n"
    );
    assert_eq!(desk.ann("read --all"), "1 marked as read; 0 unread\n");
    assert_eq!(
        desk.ann(&format!("unread {one}")),
        "1 marked as unread; 1 unread\n"
    );
    assert_eq!(
        desk.ann("archive --entity-type post --entity-id 7"),
        "1 archived; 1 unread\n"
    );
    assert_eq!(desk.titles("--view archived"), ["two"]);
    assert_eq!(desk.titles(""), ["three", "one"]);
    assert_eq!(desk.titles("--unread-only"), ["one"]);
    assert_eq!(desk.ann("archive --all"), "2 archived; 0 unread\n");
    assert_eq!(
        desk.ann("unarchive --all --type test"),
        "3 brought back from the archive; 1 unread\n"
    );
    assert_eq!(desk.ann(&format!("remove {one}")), "1 removed; 0 unread\n");
    let json = desk.ann("remove --all --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["changed_count"], 2);
    assert_eq!(json["head"]["unread_count"], 0);
    assert_eq!(desk.titles("--view all"), [""; 0]);
}

#[test]
fn what_came_after_a_revision_is_left_as_it_is() {
    let desk = Desk::open();
    desk.send("one", "");
    let then: Value = serde_json::from_str(&desk.ann("recent --json")).unwrap();
    desk.send("two", "");
    let (revision, epoch) = (&then["head"]["revision"], then["epoch"].as_str().unwrap());
    let through = format!("read --through {revision} --epoch {epoch}");
    assert_eq!(desk.ann(&through), "1 marked as read; 1 unread\n");
    assert_eq!(desk.titles("--unread-only"), ["two"]);
    assert_eq!(desk.ann("read --through 3"), "1 marked as read; 0 unread\n");
    let problem = desk.refused("read --through 3 --epoch other", 1);
    assert!(problem.contains("POSITION_INVALID"), "{problem}");
}

#[test]
fn counts_and_lists_are_told_by_type_and_by_thing() {
    let desk = Desk::open();
    desk.send("one", "--entity-type post --entity-id 7");
    desk.send("two", "");
    assert_eq!(desk.ann("count"), "2 unread\n");
    assert_eq!(
        desk.ann("count --type test --type other"),
        "2 unread\ntest: 2 unread\nother: 0 unread\n"
    );
    let json: Value = serde_json::from_str(&desk.ann("count --type test --json")).unwrap();
    let types = json!([{"type": "test", "unread_count": 2, "more": false}]);
    assert_eq!(json["types"], types);
    assert_eq!(desk.titles("--type test"), ["two", "one"]);
    assert_eq!(desk.titles("--type other"), [""; 0]);
    assert_eq!(desk.titles("--entity-type post --entity-id 7"), ["one"]);
    assert_eq!(desk.ann("seen"), "0 unseen; 2 unread\n");
}

#[test]
fn a_send_has_every_field() {
    let desk = Desk::open();
    let sent = desk.send(
        "one",
        "--body more --image-url /ann.png --action-url /posts/7 --action No=/no?a=b \
         --primary-action Yes=/yes --data {\"n\":1} --expire-time 2h",
    );
    assert_eq!(sent["image_url"], "/ann.png");
    let actions = json!([
        {"label": "Yes", "url": "/yes", "is_primary": true},
        {"label": "No", "url": "/no?a=b", "is_primary": false},
    ]);
    assert_eq!(sent["actions"], actions);
    assert_eq!(sent["data"], json!({"n": 1}));
    assert!(sent["expire_time"].is_string(), "{sent}");

    desk.send("two", "--collapse-key likes");
    let third = desk.send("three", "--collapse-key likes --silent");
    assert_eq!(third["collapsed_count"], 1);
    assert_eq!(desk.titles(""), ["three", "one"]);
    let late = desk.backend("send --type test --title late --expire-time 2020-01-01T00:00:00Z");
    assert_eq!(late, "not sent to ann of acme: its time is over already\n");
}

#[test]
fn a_file_names_those_who_are_sent_to() {
    let desk = Desk::open();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    let users: Vec<String> = (0..1500).map(|number| format!("user-{number}")).collect();
    fs::write(&file, format!("ann\n\n{}\n", users.join("\n"))).unwrap();
    let sender = sender_token("acme");
    let file = file.display();
    let line = format!("send --organization acme --type test --title one --to-many {file}");
    let keyed = format!("{line} --idempotency-key k");
    let of = |line: &str| Desk::of(&sender, &desk.server, line);
    assert_eq!(done(of(&keyed)), "sent to 1501\n");
    assert_eq!(done(of(&keyed)), "sent to 0; 1501 had it already\n");
    assert_eq!(desk.titles(""), ["one"]);
    // Without a key it is another one; as JSON, a line each.
    let lines = done(of(&format!("{line} --json")));
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(
        (lines.lines().count(), &first["recipient_user_id"]),
        (1501, &json!("ann"))
    );
    assert_eq!(desk.titles(""), ["one", "one"]);
    // What fails for one is said, and is the exit code.
    let other = keyed.replace("--title one", "--title another");
    fs::write(directory.path().join("users"), "ann\nbob\n").unwrap();
    let ended = run(&mut of(&other));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.out.starts_with("ann: IDEMPOTENCY_MISMATCH: "),
        "{ended:?}"
    );
    assert!(ended.out.ends_with("\nsent to 1; 1 failed\n"), "{ended:?}");
    let again =
        "1 of 2 failed; the same again with --idempotency-key k sends to those who are left";
    assert_eq!(ended.err, format!("doorbell: {again}\n"));
}

#[test]
fn what_was_sent_is_corrected_and_taken_back() {
    let desk = Desk::open();
    let one = desk.send_id("one", "--body more --idempotency-key k");
    let answer = desk.backend(&format!("update {one} --title first --clear body"));
    assert_eq!(answer, format!("{one}: corrected; revision 2, 1 unread\n"));
    let again = desk.backend("update --idempotency-key k --title first");
    assert!(again.contains("nothing changed"), "{again}");
    let page: Value = serde_json::from_str(&desk.ann("recent --json")).unwrap();
    let row = &page["notifications"][0];
    assert_eq!(
        (&row["title"], &row["body"]),
        (&json!("first"), &Value::Null)
    );

    desk.send("two", "--entity-type post --entity-id 7");
    desk.send("three", "--collapse-key likes");
    for (selection, left) in [
        (one.as_str(), 2),
        ("--entity-type post --entity-id 7", 1),
        ("--collapse-key likes", 0),
        ("--idempotency-key k", 0),
    ] {
        let taken = u32::from(!selection.starts_with("--idem"));
        let answer = desk.backend(&format!("retract {selection}"));
        assert_eq!(answer, format!("{taken} taken back; {left} unread\n"));
    }
}

#[test]
fn operators_look_and_erase() {
    let desk = Desk::open();
    desk.send("one", "");
    desk.send("two", "");
    let look = "recent --json --organization acme --user ann";
    let page: Value = serde_json::from_str(&desk.operator(look)).unwrap();
    assert_eq!(titles(&page), ["two", "one"]);
    let problem = desk.refused(look, 1);
    assert!(problem.contains("NOT_AN_OPERATOR"), "{problem}");

    let one = page["notifications"][1]["id"].as_str().unwrap();
    let of = format!("timeline --organization acme --user ann {one}");
    let lines = desk.operator(&of);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[0].contains("  one  [test]"), "{lines:?}");
    assert!(lines[1].ends_with("Z  sent by service"), "{lines:?}");
    assert!(
        lines[2].ends_with("Z  came into the inbox; not seen yet"),
        "{lines:?}"
    );
    let json: Value = serde_json::from_str(&desk.operator(&format!("{of} --json"))).unwrap();
    assert_eq!(json["entries"][0]["event"], "sent");
    assert_eq!(
        (json["entries"].as_array().unwrap().len(), &json["seen"]),
        (2, &json!(false))
    );

    let erased = desk.operator("erase --organization acme --user ann");
    assert_eq!(erased, "ann of acme: 2 erased\n");
    assert_eq!(desk.titles("--view all"), [""; 0]);
    desk.send("three", "");
    let erased = desk.operator("erase --organization acme --whole-organization");
    assert_eq!(erased, "acme: 1 of 1 inbox erased\n");
    let problem = desk.refused("erase --organization acme --user ann", 1);
    assert!(problem.contains("NOT_AN_OPERATOR"), "{problem}");
}

#[test]
fn a_watch_tells_what_became_of_each() {
    let desk = Desk::open();
    let watch = |words: &[&str]| {
        Running::start(&mut against(
            &desk.server,
            &user_token("acme", "ann"),
            words,
        ))
    };
    let (human, json) = (watch(&["watch"]), watch(&["watch", "--json"]));
    for watch in [&human, &json] {
        watch.wait_for("connection", |out| out.contains("connected"));
    }
    let one = desk.send_id("one", "--body more");
    desk.send("two", "--collapse-key likes");
    desk.send("three", "--collapse-key likes");
    desk.backend(&format!("update {one} --title first"));
    for line in ["read", "unread", "archive", "unarchive"] {
        desk.ann(&format!("{line} {one}"));
    }
    desk.backend(&format!("retract {one}"));
    desk.send("four", "--expire-time 1s");
    human.wait_for("all of it", |out| out.contains("- expired: four"));
    let out = human.out();
    let told: Vec<&str> = out
        .lines()
        .filter(|line| line.starts_with("- ") && line.contains(": "))
        .collect();
    assert_eq!(
        told,
        [
            "- replaced by a later one: two",
            "- read: first",
            "- unread: first",
            "- archived: first",
            "- taken back: first",
            "- expired: four",
        ]
    );
    json.wait_for("all of it", |out| {
        out.contains(r#""removal_cause":"expired""#)
    });
    let out = json.out();
    for cause in ["replaced", "sender"] {
        let cause = format!(r#""removal_cause":"{cause}""#);
        assert_eq!(out.matches(&cause).count(), 1, "{cause}: {out}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_called() {
    for (line, expected) in [
        ("read", "<ID"),
        ("archive --entity-type post", "--entity-id"),
        ("remove x --all", "cannot be used with"),
        ("unread --all --through 3", "cannot be used with"),
        ("unarchive --epoch e", "--through"),
        ("read x --type t", "cannot be used with"),
        ("recent --organization acme", "--user"),
        ("recent --view attic", "inbox, archived, all"),
        ("erase --organization acme", "--user"),
        (
            "erase --organization acme --user ann --whole-organization",
            "cannot be used with",
        ),
        (
            "update x --organization acme --user ann",
            "nothing to correct",
        ),
        (
            "update x --organization acme --user ann --body b --clear body",
            "given and cleared",
        ),
        ("update --organization acme --user ann --title t", "<ID"),
        ("retract --organization acme --user ann", "<ID"),
        (
            "send --organization acme --user ann --type t --title T --action Yes",
            "LABEL=URL",
        ),
        (
            "send --organization acme --user ann --type t --title T --expire-time soon",
            "such as 2h",
        ),
        (
            "send --organization acme --user ann --type t --title T --data [1]",
            "JSON object",
        ),
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = doorbell(&words);
        command
            .env("DOORBELL_TOKEN", "none")
            .env("DOORBELL_URL", "http://127.0.0.1:1");
        let problem = failed(command, 2);
        assert!(problem.contains(expected), "{line}: {problem}");
    }
}

/// Each is what its own shell takes, and the pages are there for each command.
#[test]
fn completions_and_man_pages_are_made() {
    let script = done(doorbell(&["completions", "bash"]));
    let checked =
        run(std::process::Command::new("bash")
            .args(["-c", &format!("{script}\ncomplete -p doorbell")]));
    assert!(checked.out.contains("_doorbell"), "{checked:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = done(doorbell(&["completions", shell]));
        assert!(script.contains("unarchive"), "{shell}");
    }
    let problem = failed(doorbell(&["completions", "dos"]), 2);
    assert!(problem.contains("bash"), "{problem}");

    assert!(done(doorbell(&["man"])).contains("doorbell\\-archive(1)"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(done(doorbell(&["man", path])), "");
    let page = fs::read_to_string(directory.path().join("doorbell-archive.1")).unwrap();
    assert!(page.contains("through"), "{page}");
    let problem = failed(doorbell(&["man", "/nowhere/at/all"]), 1);
    assert!(problem.contains("cannot write"), "{problem}");
    let help = done(doorbell(&["--help"]));
    assert!(!help.contains("completions"), "{help}");
}

#[test]
fn what_is_sent_later_or_to_a_topic_is_followed_and_cancelled() {
    let desk = Desk::open();
    let backend = |line: &str| {
        let line = format!("{line} --organization acme");
        done(Desk::of(&sender_token("acme"), &desk.server, &line))
    };
    let object = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    assert_eq!(
        backend("topic add --topic all ann bob"),
        "2 are members now and were not before\n"
    );
    assert_eq!(backend("topic list --topic all"), "ann\nbob\n");
    assert_eq!(backend("topic of --user ann"), "all\n");
    let sent = backend("send --json --topic all --type news --title hello --idempotency-key k");
    let id = id(&object(&sent)["send"]);
    let followed = object(&backend(&format!("sends --json --follow {id}")));
    assert_eq!(followed["state"], "done");
    assert_eq!(
        (&followed["delivered_count"], &followed["topic_id"]),
        (&json!(2), &json!("all"))
    );
    assert_eq!(desk.titles(""), ["hello"]);
    let again = backend("send --topic all --type news --title hello --idempotency-key k");
    assert!(
        again.starts_with("was sent before, with the same key"),
        "{again}"
    );
    let taken = desk.backend(&format!("retract --send-id {id}"));
    assert_eq!(taken, "1 taken back; 0 unread\n");

    let waits = backend("schedule 1h --json --user ann --type news --title soon");
    let waits = self::id(&object(&waits)["send"]);
    let listed = backend("sends --state waiting");
    assert!(
        listed.starts_with(&waits) && listed.contains("to 1 person; waits until"),
        "{listed}"
    );
    let cancelled = object(&backend(&format!("cancel --json {waits}")));
    assert_eq!(cancelled["state"], "cancelled");
    let refused = failed(
        Desk::of(
            &sender_token("acme"),
            &desk.server,
            &format!("cancel --organization acme {id}"),
        ),
        1,
    );
    assert!(refused.contains("all have it already"), "{refused}");
    assert_eq!(
        backend("topic remove --topic all bob cid"),
        "1 were members and are none now\n"
    );
    assert_eq!(
        object(&backend("topic delete --json --topic all"))["removed_count"],
        1
    );
}

#[test]
fn a_broadcast_that_is_over_is_taken_back_in_its_own_way() {
    let desk = Desk::open();
    let of = |line: &str| {
        let line = format!("{line} --organization acme");
        Desk::of(&sender_token("acme"), &desk.server, &line)
    };
    let said = done(of(
        "broadcast --json --type news --title hello --available-until 3s",
    ));
    let said: Value = serde_json::from_str(&said).unwrap();
    let id = id(&said["send"]);
    done(of(&format!("sends --follow {id}")));
    let refused = failed(of(&format!("cancel {id}")), 1);
    assert!(refused.contains("SEND_DONE"), "{refused}");
    assert!(refused.contains("RetractBroadcast"), "{refused}");
}

/// As `head` does, when it has what it wants.
#[test]
fn who_reads_the_output_may_leave() {
    let desk = Desk::open();
    desk.send("one", "");
    desk.backend("schedule 1h --type news --title soon");
    let backend = sender_token("acme");
    let ann = user_token("acme", "ann");
    let add = "topic add --organization acme --topic all ann";
    done(Desk::of(&backend, &desk.server, add));
    for (token, line) in [
        (&backend, "sends --organization acme"),
        (&backend, "topic list --organization acme --topic all"),
        (&ann, "count"),
        (&ann, "recent"),
        (&ann, "watch"),
        (&ann, "completions bash"),
        (&ann, "man"),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Desk::of(token, &desk.server, line);
        let output = command.stdout(writer).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.success() && errors.is_empty(),
            "{line}: {errors}"
        );
    }
}

#[test]
fn a_person_says_what_they_want_and_a_tenant_what_holds_by_default() {
    let desk = Desk::open();
    let defaults = |line: &str| {
        let line = format!("type-defaults --organization acme {line}");
        done(Desk::of(&sender_token("acme"), &desk.server, &line))
    };
    assert_eq!(desk.ann("preferences"), "");
    assert_eq!(desk.ann("preferences --off test"), "off  test  (chosen)\n");
    let muted = desk.backend("send --type test --title hello");
    assert_eq!(
        muted,
        "not sent to ann of acme: they do not want this type\n"
    );
    assert_eq!(
        defaults("--required test --off tips"),
        "required  test\noff       tips\n"
    );
    assert_eq!(
        desk.ann("preferences"),
        "on   test  (required)\noff  tips  (by default)\n"
    );
    assert!(
        desk.refused("preferences --off test", 1)
            .contains("required")
    );
    desk.send("made", "");
    assert_eq!(desk.titles(""), ["made"]);
    assert_eq!(defaults("--forget test --forget tips"), "");
    assert_eq!(desk.ann("preferences --default test"), "");
}

/// To many as well: each result is counted, and what failed is the end of it.
#[test]
fn a_time_that_is_past_is_at_once() {
    let desk = Desk::open();
    let past = "--deliver-time 2020-01-01T00:00:00Z";
    let one = desk.send("one", &format!("{past} --idempotency-key k"));
    assert_eq!(one["title"], "one");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, "ann\nbob\n").unwrap();
    let file = file.display();
    let to_many = format!("send --organization acme --type test --to-many {file} {past}");
    let sent = done(Desk::of(
        &sender_token("acme"),
        &desk.server,
        &format!("{to_many} --title many"),
    ));
    assert_eq!(sent, "sent to 2\n");
    assert_eq!(desk.titles(""), ["many", "one"]);
    let line = format!("{to_many} --title other --idempotency-key k");
    let ended = run(&mut Desk::of(&sender_token("acme"), &desk.server, &line));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.out.starts_with("ann: IDEMPOTENCY_MISMATCH: "),
        "{ended:?}"
    );
    assert!(ended.out.ends_with("\nsent to 1; 1 failed\n"), "{ended:?}");
    assert!(ended.err.contains("--idempotency-key k sends"), "{ended:?}");
}

/// Who does not want it is told from those whose time is over.
#[test]
fn of_many_it_is_said_why_some_have_nothing() {
    let desk = Desk::open();
    desk.ann("preferences --off test");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users");
    fs::write(&file, "ann\nbob\n").unwrap();
    let line = format!(
        "send --organization acme --type test --title many --to-many {}",
        file.display()
    );
    let sent = done(Desk::of(&sender_token("acme"), &desk.server, &line));
    assert_eq!(sent, "sent to 1; 1 not sent: they do not want this type\n");
}
