//! Calls by curl, against the real binary: the Connect protocol as a person has it.

use std::{io::Write as _, process::Command};

use doorbell::proto::{FILE_DESCRIPTOR_SET, SendInAppResponse};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tonic::Code;

use crate::{
    calls::{SERVICE, Way, exchange, frame, metric, send},
    process::Running,
    server::{Server, Setup, free_port, operator_token, sender_token, user_token},
};

const JSON: &str = "content-type: application/json";

/// What curl was answered.
#[derive(Debug)]
struct Said {
    http: u16,
    /// Their names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Said {
    fn read(mut answer: &[u8]) -> Self {
        loop {
            let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            let end = end.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(answer)));
            let head = String::from_utf8(answer[..end].to_vec()).unwrap();
            answer = &answer[end + 4..];
            let mut lines = head.lines();
            let http = lines.next().unwrap().split(' ').nth(1).unwrap();
            if http == "100" {
                continue;
            }
            let headers = lines.map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            });
            return Self {
                http: http.parse().unwrap(),
                headers: headers.collect(),
                body: answer.to_vec(),
            };
        }
    }

    fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found == name);
        &found.unwrap_or_else(|| panic!("no {name}: {self:?}")).1
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    fn assert_ok(&self) -> Value {
        assert_eq!(self.http, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The message of an error with this status, code and reason.
    #[track_caller]
    fn assert_failed(&self, http: u16, code: &str, reason: &str) -> String {
        let json = self.json();
        let info = &json["details"][0]["debug"];
        assert_eq!(
            (self.http, json["code"].as_str(), info["reason"].as_str()),
            (http, Some(code), Some(reason)),
            "{json}"
        );
        assert_eq!(info["domain"], "doorbell.v1");
        assert!(!self.header("x-request-id").is_empty());
        json["message"].as_str().unwrap().to_owned()
    }
}

fn curl(server: &Server, token: &str, path: &str, arguments: &[&str]) -> Command {
    curl_of(&format!("{}{path}", server.url()), token, arguments)
}

fn curl_of(url: &str, token: &str, arguments: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    // No settings of who runs the tests.
    curl.args(["-q", "-sS", "-i", "--noproxy", "*", "--max-time", "60"]);
    if !token.is_empty() {
        curl.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    curl.args(arguments).arg(url);
    curl
}

fn call(server: &Server, token: &str, path: &str, arguments: &[&str]) -> Said {
    said(curl(server, token, path, arguments))
}

fn said(mut curl: Command) -> Said {
    let output = curl.output();
    let output = output.unwrap_or_else(|error| panic!("{error}; ./test --prepare installs curl"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{curl:?}: {errors}");
    Said::read(&output.stdout)
}

fn ask(server: &Server, token: &str, method: &str, message: &str) -> Said {
    let path = format!("{SERVICE}{method}");
    call(server, token, &path, &["-H", JSON, "-d", message])
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// As an argument of curl.
fn body(file: &tempfile::NamedTempFile) -> String {
    format!("@{}", file.path().display())
}

fn hello() -> Value {
    json!({
        "organizationId": "acme", "recipient_user_id": "alice", "type": "greeting",
        "title": "Grüß Gott", "data": {"likes": [1, 2.5, null, true, {"deep": "ä"}]},
        "idempotencyKey": "greeting-1",
    })
}

#[rstest]
#[case("--http1.1")]
#[case("--http2-prior-knowledge")]
fn curl_sends_counts_and_marks(#[case] version: &str) {
    let server = Setup::new().start();
    let (sender, alice) = (sender_token("acme"), user_token("acme", "alice"));
    let ask = |token: &str, method: &str, message: &Value| {
        let path = format!("{SERVICE}{method}");
        let message = message.to_string();
        call(
            &server,
            token,
            &path,
            &[version, "-H", JSON, "-d", &message],
        )
        .assert_ok()
    };
    let sent = ask(&sender, "SendInApp", &hello());
    let head = json!({"revision": "1", "unreadCount": 1, "unseenCount": 1});
    assert_eq!(sent["head"], head);
    let notification = &sent["notification"];
    for name in ["type", "title", "data"] {
        assert_eq!(notification[name], hello()[name]);
    }
    assert_eq!(ask(&sender, "SendInApp", &hello())["duplicate"], true);
    assert_eq!(
        ask(&alice, "GetUnreadCount", &json!({})),
        json!({"head": head})
    );
    let page = ask(&alice, "GetRecent", &json!({"limit": 10}));
    assert_eq!(page["notifications"], json!([notification]));
    let ids = json!({"notificationIds": [notification["id"]]});
    let marked = ask(&alice, "MarkRead", &ids);
    assert_eq!(
        marked,
        json!({"changedCount": 1, "head": {"revision": "2"}})
    );

    let message = file(&send("acme", "bob", "Hello").encode_to_vec());
    let arguments = [
        version,
        "-H",
        "content-type: application/proto",
        "--data-binary",
        &body(&message),
    ];
    let said = call(&server, &sender, &format!("{SERVICE}SendInApp"), &arguments);
    assert_eq!(
        (said.http, said.header("content-type")),
        (200, "application/proto")
    );
    let sent = SendInAppResponse::decode(&*said.body).unwrap();
    assert_eq!(sent.notification.unwrap().title, "Hello");
}

#[test]
fn an_error_can_be_read() {
    let server = Setup::new().start();
    let (sender, alice) = (sender_token("acme"), user_token("acme", "alice"));
    let said = ask(
        &server,
        &sender,
        "SendInApp",
        r#"{"organization_id": "acme", "type": "x"}"#,
    );
    let message = said.assert_failed(400, "invalid_argument", "INVALID_REQUEST");
    assert_eq!(
        message,
        "recipient_user_id: is required; title: is required"
    );
    let violations = &said.json()["details"][1]["debug"]["fieldViolations"];
    assert_eq!(
        violations,
        &json!([
            {"field": "recipient_user_id", "description": "is required"},
            {"field": "title", "description": "is required"},
        ])
    );
    let said = ask(&server, &sender, "SendInApp", r#"{"titel": "Hello"}"#);
    let message = said.assert_failed(400, "invalid_argument", "INVALID_REQUEST");
    assert_eq!(
        message,
        "titel: unrecognized field name 'titel' at line 1 column 8"
    );
    let said = ask(&server, &sender, "SendInApp", "{'title': 'Hello'}");
    let message = said.assert_failed(400, "invalid_argument", "MALFORMED_REQUEST");
    assert!(message.ends_with("at line 1 column 2"), "{message}");

    ask(&server, &sender, "SendInApp", &hello().to_string()).assert_ok();
    let mut other = hello();
    other["title"] = "Other".into();
    let said = ask(&server, &sender, "SendInApp", &other.to_string());
    said.assert_failed(409, "already_exists", "IDEMPOTENCY_MISMATCH");
    let said = ask(&server, &alice, "SendInApp", &hello().to_string());
    said.assert_failed(403, "permission_denied", "NOT_A_SENDER");
    let said = ask(
        &server,
        &alice,
        "MarkSeen",
        r#"{"throughSequence": "1", "epoch": "x"}"#,
    );
    said.assert_failed(400, "failed_precondition", "POSITION_INVALID");
}

/// Whatever the body is: it is not looked at.
#[test]
fn without_a_good_token_nothing_is_said_of_the_body() {
    let server = Setup::new().start();
    for message in ["{}", "no JSON", ""] {
        let said = ask(&server, "", "SendInApp", message);
        said.assert_failed(401, "unauthenticated", "TOKEN_MISSING");
        let said = ask(&server, "a.b.c", "SendInApp", message);
        said.assert_failed(401, "unauthenticated", "TOKEN_INVALID");
    }
}

/// Larger than is read, also where curl does not ask beforehand: what it sent by then
/// does not keep the answer from it.
#[test]
fn what_is_too_large_is_refused() {
    let server = Setup::new().start();
    let sender = sender_token("acme");
    let path = format!("{SERVICE}SendInApp");
    for (version, sizes) in [
        ("--http1.1", &[40, 520, 900, 4096][..]),
        ("--http2-prior-knowledge", &[40, 520, 900]),
    ] {
        for kib in sizes {
            let mut large = hello();
            large["body"] = "x".repeat(kib << 10).into();
            let large = file(large.to_string().as_bytes());
            let arguments = [version, "-H", JSON, "--data-binary", &body(&large)];
            let said = call(&server, &sender, &path, &arguments);
            said.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
        }
    }
}

#[test]
fn gzip_is_taken_and_others_are_named() {
    let server = Setup::new().start();
    let sender = sender_token("acme");
    let path = format!("{SERVICE}SendInApp");
    let zipped = |bytes: &[u8]| {
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        zip.write_all(bytes).unwrap();
        file(&zip.finish().unwrap())
    };
    let post = |encoding: &str, file: &tempfile::NamedTempFile| {
        let encoding = format!("content-encoding: {encoding}");
        let arguments = ["-H", JSON, "-H", &encoding, "--data-binary", &body(file)];
        call(&server, &sender, &path, &arguments)
    };
    let good = zipped(hello().to_string().as_bytes());
    assert_eq!(post("gzip", &good).assert_ok()["head"]["revision"], "1");
    let bomb = zipped(&vec![b' '; 64 << 20]);
    let said = post("gzip", &bomb);
    said.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
    let said = post("br", &good);
    let message = said.assert_failed(501, "unimplemented", "UNKNOWN_METHOD");
    assert!(message.contains("gzip and identity"), "{message}");
}

#[test]
fn a_call_ends_with_its_own_deadline() {
    let server = Setup::new().start();
    let sender = sender_token("acme");
    let path = "/doorbell.v1.SendService/ListFollowUps";
    let message = r#"{"organizationId": "acme", "wait": "30s"}"#;
    let arguments = ["-H", JSON, "-H", "connect-timeout-ms: 200", "-d", message];
    let said = call(&server, &sender, path, &arguments);
    said.assert_failed(504, "deadline_exceeded", "DEADLINE_EXCEEDED");
}

/// With the same words as elsewhere, where it is none.
#[test]
fn operators_call_on_their_own_port() {
    let address = free_port();
    let setup = Setup::new().with("OPERATOR_ROLE", "operator");
    let _server = setup.with("OPERATOR_LISTEN", address).start();
    let call = |method: &str, arguments: &[&str]| {
        let url = format!("http://{address}/doorbell.v1.OperatorService/{method}");
        said(curl_of(&url, &operator_token("acme"), arguments))
    };
    let ann = r#"{"organizationId": "acme", "userId": "ann"}"#;
    let erased = call("EraseInbox", &["-H", JSON, "-d", ann]).assert_ok();
    assert_eq!(erased["head"], json!({}));
    let refused = call("EraseInbox", &["-H", JSON, "-d", "{}"]);
    refused.assert_failed(400, "invalid_argument", "INVALID_REQUEST");
    let refused = call("EraseInbox", &["-d", ann]);
    refused.assert_failed(415, "invalid_argument", "MALFORMED_REQUEST");
    assert!(refused.header("accept-post").contains("application/json"));
    let refused = call("Nothing", &["-H", JSON, "-d", "{}"]);
    refused.assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
}

#[test]
fn what_is_no_call_is_told_what_is() {
    let server = Setup::new().with("REFLECTION", true).start();
    let sender = sender_token("acme");
    let path = format!("{SERVICE}SendInApp");
    let call = |path: &str, arguments: &[&str]| call(&server, &sender, path, arguments);
    let said = call(&format!("{SERVICE}Nothing"), &["-H", JSON, "-d", "{}"]);
    said.assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
    call("/", &[]).assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
    // It is for gRPC alone.
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for arguments in [&["-H", JSON, "-d", "{}"][..], &["-d", "{}"]] {
        let said = call(reflection, arguments);
        said.assert_failed(404, "unimplemented", "UNKNOWN_METHOD");
    }
    let said = call(&path, &[]);
    said.assert_failed(405, "invalid_argument", "MALFORMED_REQUEST");
    assert_eq!(said.header("allow"), "POST");
    // What curl says by itself.
    let said = call(&path, &["-d", "{}"]);
    let message = said.assert_failed(415, "invalid_argument", "MALFORMED_REQUEST");
    assert!(message.contains("application/json"), "{message}");
    assert!(said.header("accept-post").contains("application/json"));
    let said = call(&format!("{SERVICE}Subscribe"), &["-H", JSON, "-d", "{}"]);
    let message = said.assert_failed(415, "unimplemented", "UNKNOWN_METHOD");
    assert!(message.contains("is a stream"), "{message}");
    let said = call("/grpc.health.v1.Health/Check", &["-H", JSON, "-d", "{}"]);
    assert_eq!(said.assert_ok(), json!({"status": "SERVING"}));
    // Who shows no token may not say much.
    let long = format!(r#"{{"service": "{}"}}"#, "x".repeat(1024));
    let said = call("/grpc.health.v1.Health/Check", &["-H", JSON, "-d", &long]);
    said.assert_failed(400, "invalid_argument", "REQUEST_TOO_LARGE");
}

/// The calls of the contract, by their paths; whether each is a stream.
fn calls() -> Vec<(String, bool)> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let ours = set
        .file
        .iter()
        .filter(|file| file.package() == "doorbell.v1");
    let services = ours.flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(move |method| {
            let path = format!("/doorbell.v1.{}/{}", service.name(), method.name());
            (path, method.server_streaming())
        })
    });
    calls.collect()
}

/// `InvalidArgument` as `invalid_argument`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_answers_curl_as_it_answers_grpc() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    let mut codes = std::collections::BTreeSet::new();
    for token in [
        sender_token("acme"),
        user_token("acme", "ann"),
        operator_token("acme"),
    ] {
        let bearer = format!("Bearer {token}");
        for (path, is_stream) in calls() {
            if is_stream {
                continue;
            }
            let headers = [("authorization", bearer.as_str())];
            let grpc = exchange(&server, Way::Grpc, &path, &headers, frame(&[])).await;
            let expected = grpc.unwrap().status().unwrap();
            let said = block_in_place(|| call(&server, &token, &path, &["-H", JSON, "-d", "{}"]));
            let json = said.json();
            if expected.code() == Code::Ok {
                assert_eq!(said.http, 200, "{path}: {json}");
            } else {
                assert_eq!(json["code"], name(expected.code()), "{path}");
                assert_eq!(json["message"], expected.message(), "{path}");
            }
            codes.insert(name(expected.code()));
        }
    }
    let met = ["invalid_argument", "ok", "permission_denied"];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), met);
}

/// A stream for who reads envelopes.
#[test]
fn curl_holds_a_stream() {
    let server = Setup::new().start();
    let request = file(b"\0\0\0\0\x02{}");
    let path = format!("{SERVICE}Subscribe");
    let arguments = [
        "-N",
        "-H",
        "content-type: application/connect+json",
        "--data-binary",
        &body(&request),
    ];
    let live = Running::start(&mut curl(
        &server,
        &user_token("acme", "alice"),
        &path,
        &arguments,
    ));
    live.wait_for("a connection", |text| {
        text.contains(r#""connected":{"epoch":"#)
    });
    ask(
        &server,
        &sender_token("acme"),
        "SendInApp",
        &hello().to_string(),
    )
    .assert_ok();
    live.wait_for("a ring", |text| text.contains(r#""title":"Grüß Gott""#));
    // The server says how it ended.
    server.signal("TERM");
    let ended = live.end().ok();
    assert!(ended.contains(r#""reconnect":{"#), "{ended}");
    assert!(
        ended.contains(r#"{"error":{"code":"unavailable""#),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_by_curl_are_counted_as_any_other() {
    let pages = free_port();
    let server = Setup::new().with("METRICS_LISTEN", pages).start();
    let sender = sender_token("acme");
    block_in_place(|| {
        ask(&server, &sender, "SendInApp", &hello().to_string()).assert_ok();
        ask(&server, &sender, "SendInApp", "{}");
        ask(&server, &sender, "SendInApp", "no JSON");
        ask(&server, "", "SendInApp", "{}");
    });
    for (code, count) in [
        ("OK", 1.0),
        ("INVALID_ARGUMENT", 2.0),
        ("UNAUTHENTICATED", 1.0),
    ] {
        let series = format!(r#"doorbell_rpcs_total{{method="SendInApp",code="{code}"}}"#);
        assert_eq!(metric(pages, &series).await, count, "{code}");
    }
    // What nobody looked at: the body of who showed no token.
    let series = r#"doorbell_rejected_total{reason="MALFORMED_REQUEST"}"#;
    assert_eq!(metric(pages, series).await, 1.0);
}
