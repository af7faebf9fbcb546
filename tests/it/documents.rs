//! The documents against the program: what they name exists, what they say of
//! defaults, errors, metrics and limits is so, and their examples answer as they
//! show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use doorbell::{
    cli::command::commands,
    clock::{Clock as _, SystemClock},
    config,
    proto::FILE_DESCRIPTOR_SET,
};
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    field_descriptor_proto,
};
use serde_json::Value;

use crate::{
    process::{PATIENCE, Running, objects},
    programs::paste,
    server::{DOORBELL, Setup, operator_token, sender_token, user_token},
};

/// Where the examples reach the service.
const ADDRESS: &str = "127.0.0.1:50051";

/// What the examples send later is sent then: it is to come whenever they are tried.
const TO_COME: &str = "2026-12-01T08:50:00Z";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
pub fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// Every Markdown file of the repository.
fn documents() -> Vec<String> {
    fn visit(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    visit(&path, found);
                }
            } else if name.ends_with(".md") {
                let relative = path.strip_prefix(root()).unwrap();
                found.push(relative.to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    visit(root(), &mut found);
    for expected in ["README.md", "docs/api.md", "docs/operations.md"] {
        assert!(found.iter().any(|name| name == expected), "{found:?}");
    }
    found
}

/// A fenced block: what it is written in, and its text.
#[derive(Debug)]
pub struct Block {
    pub language: String,
    pub text: String,
}

/// The fenced blocks of a document.
pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in read(document).lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document} ends within a block");
    blocks
}

/// The text outside of fenced blocks.
fn prose(document: &str) -> String {
    let mut is_fenced = false;
    let text = read(document);
    let lines = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The rows of the tables whose first column is headed so.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches('|').trim_end_matches('|');
        line.split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let text = prose(document);
    let mut lines = text.lines();
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with(&format!("| {heading} |")) {
            let body = lines
                .by_ref()
                .skip(1)
                .take_while(|line| line.starts_with('|'));
            rows.extend(body.map(cells));
        }
    }
    assert!(!rows.is_empty(), "{document} has no table of {heading}");
    rows
}

fn plain(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// The settings as a table for each group, made from the command line itself.
fn settings() -> String {
    let command = commands();
    let serve = command.find_subcommand("serve").unwrap();
    let mut text = String::new();
    let mut group = None;
    for arg in serve.get_arguments() {
        let Some(variable) = arg.get_env() else {
            continue;
        };
        let heading = arg.get_help_heading().unwrap();
        if group != Some(heading) {
            group = Some(heading);
            text.push_str(&format!(
                "\n### {heading}\n\n| variable | default | what it does |\n| --- | --- | --- |\n"
            ));
        }
        let mut help = arg.get_help().unwrap().to_string();
        let mut defaults = arg.get_default_values().iter();
        let mut default = match defaults.next() {
            Some(default) => format!("`{}`", default.to_str().unwrap()),
            None => String::new(),
        };
        if let Some((before, inside)) = help.clone().split_once(" [default: ") {
            default = inside.trim_end_matches(']').to_owned();
            help = before.to_owned();
        }
        let variable = variable.to_str().unwrap();
        text.push_str(&format!("| `{variable}` | {default} | {help} |\n"));
    }
    text.push('\n');
    text
}

#[test]
fn the_settings_of_the_readme_are_those_of_the_program() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("<!-- settings: ").unwrap();
    let (_, rest) = rest.split_once("-->\n").unwrap();
    let (written, _) = rest.split_once("<!-- end of settings -->").unwrap();
    let settings = settings();
    assert!(
        written == settings,
        "README.md must have between its marks:\n{settings}"
    );
}

/// The anchors that a rendered document has.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = prose(document);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            text.chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut checked = 0;
    for document in documents() {
        let text = prose(&document).replace('\n', " ");
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let from = Path::new(&document).parent().unwrap();
            let file: PathBuf = match path {
                "" => document.clone().into(),
                path => from.join(path),
            };
            let there = root().join(&file);
            assert!(there.exists(), "{document}: {target} leads nowhere");
            if !anchor.is_empty() {
                let anchors = anchors(file.to_str().unwrap());
                assert!(
                    anchors.contains(anchor),
                    "{document}: {target}: there are {anchors:?}"
                );
            }
        }
    }
    assert!(checked > 5, "{checked}");
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

/// The files of our package.
fn ours(set: &FileDescriptorSet) -> Vec<&FileDescriptorProto> {
    let files = set.file.iter();
    files
        .filter(|file| file.package() == "doorbell.v1")
        .collect()
}

/// A message of ours, by its name as fields and methods have it; None where it is not.
fn message<'s>(set: &'s FileDescriptorSet, name: &str) -> Option<&'s DescriptorProto> {
    let name = name.strip_prefix(".doorbell.v1.")?;
    let mut messages = ours(set).into_iter().flat_map(|file| &file.message_type);
    messages.find(|message| message.name() == name)
}

/// Fails unless each field of `value` is one of the message.
fn check_fields(set: &FileDescriptorSet, of: &DescriptorProto, value: &Value) {
    for (name, value) in value.as_object().unwrap() {
        let field = of
            .field
            .iter()
            .find(|field| field.name() == name)
            .unwrap_or_else(|| panic!("{} has no field {name}", of.name()));
        if field.r#type() == field_descriptor_proto::Type::Message
            && let Some(of) = message(set, field.type_name())
        {
            let values = value.as_array().map(Vec::as_slice);
            for value in values.unwrap_or(std::slice::from_ref(value)) {
                check_fields(set, of, value);
            }
        }
    }
}

/// The words of a line of the shell, quotes taken away.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Every line of the documents that begins so, without what leads to it.
fn shell_lines(program: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for document in documents() {
        for block in blocks(&document) {
            if block.language != "sh" {
                continue;
            }
            for line in block.text.replace("\\\n", "").lines() {
                // `ID=$(grpcurl … | grep …)`
                let line = line.strip_prefix("ID=$(").unwrap_or(line);
                let line = line.split(" | ").next().unwrap();
                if line.split(' ').next().unwrap().ends_with(program) {
                    lines.push((document.clone(), line.to_owned()));
                }
            }
        }
    }
    lines
}

#[test]
fn the_grpcurl_lines_name_methods_and_fields_that_exist() {
    let set = descriptors();
    let services = ours(&set).into_iter().flat_map(|file| &file.service);
    let methods: BTreeMap<String, &MethodDescriptorProto> = services
        .flat_map(|service| {
            let path = |method: &MethodDescriptorProto| {
                format!("doorbell.v1.{}/{}", service.name(), method.name())
            };
            service
                .method
                .iter()
                .map(move |method| (path(method), method))
        })
        .collect();
    let mut shown = BTreeSet::new();
    for (document, line) in shell_lines("grpcurl") {
        let words = words(&line);
        let path = words.last().unwrap();
        let method = methods.get(path);
        let method = method.unwrap_or_else(|| panic!("{document}: there is no {path}"));
        shown.insert(path.clone());
        if let Some(at) = words.iter().position(|word| word == "-d") {
            let message_text = words[at + 1].replace("$ID", "id");
            let value: Value = serde_json::from_str(&message_text)
                .unwrap_or_else(|error| panic!("{document}: {error}: {message_text}"));
            check_fields(&set, message(&set, method.input_type()).unwrap(), &value);
        }
    }
    let all = methods.into_keys();
    assert_eq!(shown, all.collect(), "each call has an example");
}

#[test]
fn the_lines_of_the_own_command_are_understood() {
    let lines = shell_lines("doorbell");
    assert!(lines.len() >= 4, "{lines:?}");
    for (document, line) in lines {
        let words = words(&line);
        if let Err(error) = commands().try_get_matches_from(&words) {
            panic!("{document}: {line}: {error}");
        }
    }
    // Variables in all text, in units and tables too.
    let command = commands();
    let known: BTreeSet<_> = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|arg| arg.get_env()?.to_str())
        .collect();
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
    for document in documents() {
        let text = read(&document);
        for (at, _) in text.match_indices("DOORBELL_") {
            let name: String = text[at..].chars().take_while(|c| is_name(*c)).collect();
            // `DOORBELL_…` and `DOORBELL_` stand for all of them.
            assert!(
                name == "DOORBELL_" || known.contains(name.as_str()),
                "{document}: there is no {name}"
            );
        }
    }
}

#[test]
fn every_metric_is_explained_and_no_other() {
    let source = include_str!("../../src/metrics.rs");
    let (source, _) = source
        .split_once("#[cfg(test)]\npub(crate) mod tests")
        .unwrap();
    let names = source.match_indices("\"doorbell_").map(|(at, _)| {
        let name = &source[at + 1..];
        name[..name.find('"').unwrap()].to_owned()
    });
    let names: BTreeSet<_> = names.collect();
    let rows = table("docs/operations.md", "metric");
    let explained: Vec<_> = rows.iter().map(|row| plain(&row[0])).collect();
    assert_eq!(explained.len(), rows.len());
    assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), names);
}

/// The reasons and codes as the comments in the proto have them:
/// `CODE: what it is`.
fn reasons() -> BTreeMap<String, String> {
    let set = descriptors();
    let position = |file: &FileDescriptorProto| {
        let mut enums = file.enum_type.iter();
        enums.position(|found| found.name() == "ErrorReason")
    };
    let files = ours(&set).into_iter();
    let mut found = files.filter_map(|file| Some((file, position(file)?)));
    let (file, at) = found.next().unwrap();
    let values = &file.enum_type[at].value;
    let comments = &file.source_code_info.as_ref().unwrap().location;
    let comment = |value: usize| {
        // The path of a value of an enum: see descriptor.proto.
        let path = [5, at, 2, value].map(|part| i32::try_from(part).unwrap());
        let found = comments.iter().find(|location| location.path == path);
        found.unwrap().leading_comments().trim().to_owned()
    };
    (1..values.len())
        .map(|index| {
            let name = values[index].name().trim_start_matches("ERROR_REASON_");
            let comment = comment(index);
            let (code, _) = comment.split_once(':').unwrap();
            (name.to_owned(), code.to_owned())
        })
        .collect()
}

#[test]
fn every_reason_of_an_error_is_explained_with_its_code() {
    let rows = table("docs/api.md", "reason");
    let written = rows.iter().map(|row| (plain(&row[0]), plain(&row[1])));
    assert_eq!(written.collect::<BTreeMap<_, _>>(), reasons());
}

#[test]
fn the_limits_are_those_of_the_program() {
    let rows = table("docs/api.md", "what");
    let text: String = rows.iter().map(|row| row.join(" ") + "\n").collect();
    let defaults = config::Config::default();
    for (what, limit) in [
        ("`type`", config::MAX_TYPE_BYTES),
        ("`entity_type`", config::MAX_ENTITY_BYTES),
        ("`idempotency_key`", config::MAX_IDEMPOTENCY_KEY_BYTES),
        ("`title`", config::MAX_TITLE_BYTES),
        ("`action_url`", config::MAX_ACTION_URL_BYTES),
        ("`image_url`", config::MAX_ACTION_URL_BYTES),
        ("`collapse_key`", config::MAX_IDEMPOTENCY_KEY_BYTES),
        ("`label`", config::MAX_LABEL_BYTES),
        ("`actions`", config::MAX_ACTIONS),
        ("`types`", config::MAX_TYPES),
        ("`body`", defaults.content.max_body_bytes),
        ("`data`", defaults.content.max_data_bytes),
        ("levels deep", config::MAX_DATA_DEPTH),
        ("a whole request", defaults.content.max_request_bytes),
        ("a whole `SendToMany`", config::MAX_REQUEST_FOR_MANY_BYTES),
        ("recipients of one", config::MAX_RECIPIENTS),
        ("`MarkRead`", config::MAX_MARK_READ_IDS),
        ("`through`", config::MAX_TYPES),
        ("on a page", config::MAX_RECENT_LIMIT),
        ("replays", defaults.feed.replay_limit),
        ("streams of one user", defaults.feed.max_streams_per_user),
    ] {
        let row = text.lines().find(|line| line.contains(what));
        let row = row.unwrap_or_else(|| panic!("{what} is missing: {text}"));
        let numbers: Vec<_> = row.split(|c: char| !c.is_ascii_digit()).collect();
        assert!(
            numbers.contains(&limit.to_string().as_str()),
            "{row}: {limit}"
        );
    }
}

/// Text with all that differs from run to run made the same.
pub fn same(text: &str) -> String {
    let mut out = String::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        if word.is_empty() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let bytes = word.as_bytes();
        let is_id = word.len() == 36 && uuid::Uuid::try_parse(word).is_ok();
        let is_epoch = word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let is_date = word.len() >= 10 && word.starts_with("20") && bytes[4] == b'-';
        let is_time = word.len() == 8 && bytes[2] == b':' && bytes[5] == b':';
        out.push_str(match (is_id, is_epoch, is_date, is_time) {
            (true, ..) => "<id>",
            (_, true, ..) => "<epoch>",
            (_, _, true, _) => "<date>",
            (.., true) => "<time>",
            _ => word,
        });
        rest = &rest[word.len()..];
    }
    out
}

/// Waits until a program has printed this, beginning where it was left off.
fn expect(program: &Running, from: &mut usize, answer: &Block, what: &str) {
    let expected = same(&answer.text);
    let has = |printed: &str| {
        let printed = same(printed.get(*from..).unwrap_or_default());
        match answer.language.as_str() {
            "json" => objects(&printed).len() >= objects(&expected).len(),
            _ => printed.len() >= expected.len(),
        }
    };
    let all = program.wait_for(what, has);
    let printed = same(&all[*from..]);
    if answer.language == "json" {
        assert_eq!(objects(&printed), objects(&expected), "{what}");
    } else {
        assert_eq!(printed, expected, "{what}");
    }
    *from = all.len();
}

/// Pastes each block of the shell that is followed by an answer, and compares. An
/// answer that follows an answer is what the first program that is still open
/// prints next.
fn follow(document: &str, from: &str, to: &str) {
    let setup = Setup::new().with("REFLECTION", true);
    let server = setup.with("OPERATOR_ROLE", "operator").start();
    let address = server.setup.listen.to_string();
    let program = format!("{DOORBELL} ");
    let day = Duration::from_secs(24 * 60 * 60);
    let tomorrow = SystemClock.now().after(day).as_micros().unsigned_abs();
    let tomorrow = SystemTime::UNIX_EPOCH + Duration::from_micros(tomorrow);
    let tomorrow = humantime::format_rfc3339_seconds(tomorrow).to_string();
    let tokens = format!(
        "SENDER='{}'\nALICE='{}'\nOPERATOR='{}'\nDOORBELL_URL='http://{address}'\nexport DOORBELL_URL\n",
        sender_token("*"),
        user_token("acme", "alice"),
        operator_token("acme"),
    );
    let text = read(document);
    let (_, part) = text.split_once(from).unwrap_or_else(|| panic!("{from}"));
    let part = &part[..part.find(to).unwrap_or(part.len())];
    let is_of_part = |block: &&Block| part.contains(&block.text);
    let blocks = blocks(document);
    let blocks: Vec<&Block> = blocks.iter().filter(is_of_part).collect();
    let is_answer = |block: &Block| matches!(block.language.as_str(), "json" | "text");
    let mut open: Vec<(Running, usize)> = Vec::new();
    let mut followed = 0;
    for (index, block) in blocks.iter().enumerate() {
        if !is_answer(block) {
            continue;
        }
        followed += 1;
        let before = blocks[index - 1];
        if before.language == "sh" {
            let mut lines = before
                .text
                .replace(ADDRESS, &address)
                .replace("target/release/doorbell ", &program)
                .replace(TO_COME, &tomorrow);
            // One line is the program itself, and ends with the test.
            if lines.lines().count() == 1 {
                lines.insert_str(0, "exec ");
            }
            let running = Running::start(&mut paste(&tokens, &format!("{{ {lines} }} 2>&1")));
            open.push((running, 0));
        } else {
            open.retain_mut(|(running, _)| running.ended().is_none());
        }
        let at = if before.language == "sh" {
            open.len() - 1
        } else {
            0
        };
        let (running, from) = &mut open[at];
        expect(
            running,
            from,
            block,
            &format!("{document}: {}", before.text),
        );
    }
    assert!(followed >= 4, "{document}: {followed} answers");
}

#[test]
fn the_first_notification_of_the_readme_is_as_shown() {
    follow("README.md", "## A first notification", "## How it works");
}

#[test]
fn the_examples_of_the_api_answer_as_shown() {
    follow("docs/api.md", "## SendInApp", "## Limits");
}

#[test]
fn an_inbox_is_brought_along_as_shown() {
    follow("docs/import.md", "## One notification", "## In a program");
}

#[tokio::test]
async fn a_store_is_backed_up_and_restored_as_the_guide_says() {
    use doorbell::proto::{SendInAppRequest, SubscribeRequest, subscribe_response::Event};

    let guide: Vec<_> = blocks("docs/operations.md")
        .into_iter()
        .filter(|block| block.language == "sh" && block.text.contains("backup.db"))
        .collect();
    let [backup, restore] = &guide[..] else {
        panic!("{guide:?}")
    };
    let run = |block: &Block, server: &Setup| {
        let tokens = format!(
            "cd '{0}'\nDOORBELL_DATA_DIR='{0}'\n",
            server.directory.path().display()
        );
        let status = paste(&tokens, &block.text).status().unwrap();
        assert!(status.success(), "{}", block.text);
    };
    let request = |title: &str| SendInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "alice".into(),
        r#type: "greeting".into(),
        title: title.into(),
        ..SendInAppRequest::default()
    };

    let server = Setup::new().start();
    server
        .sender()
        .await
        .send_in_app(request("kept"))
        .await
        .unwrap();
    run(backup, &server.setup);
    server
        .sender()
        .await
        .send_in_app(request("lost"))
        .await
        .unwrap();
    let mut alice = server.user("acme", "alice").await;
    let seen = alice.get_recent(doorbell::proto::GetRecentRequest::default());
    let seen = seen.await.unwrap().into_inner();
    let revision = seen.head.unwrap().revision;
    assert_eq!((revision, seen.notifications.len()), (2, 2));
    // The store was lost, and its process with it.
    let setup = server.kill();
    run(restore, &setup);

    let mut server = setup.start();
    assert!(server.database().exists());
    server
        .sender()
        .await
        .send_in_app(request("new"))
        .await
        .unwrap();
    let mut alice = server.user("acme", "alice").await;
    let resume = SubscribeRequest {
        after_revision: Some(revision),
        epoch: Some(seen.epoch.clone()),
    };
    let mut stream = alice.subscribe(resume).await.unwrap().into_inner();
    let connected = stream.message().await.unwrap().unwrap().event;
    assert!(
        matches!(connected, Some(Event::Connected(_))),
        "{connected:?}"
    );
    let reset = stream.message().await.unwrap().unwrap().event;
    let Some(Event::Reset(reset)) = reset else {
        panic!("{reset:?}")
    };
    assert_ne!(reset.epoch, seen.epoch);
    let now = alice.get_recent(doorbell::proto::GetRecentRequest::default());
    let now = now.await.unwrap().into_inner();
    let titles: Vec<_> = now
        .notifications
        .iter()
        .map(|row| row.title.as_str())
        .collect();
    assert_eq!(titles, ["new", "kept"]);
    assert_eq!(now.epoch, reset.epoch);

    server.signal("TERM");
    let status = server.wait(PATIENCE);
    assert!(status.success(), "{status}");
    // What a clean end leaves can be copied as one file.
    assert!(!server.data_dir().join("doorbell.db-wal").exists());
}
