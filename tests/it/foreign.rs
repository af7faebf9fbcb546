//! Clients that are not ours against the real binary: grpcurl, buf's curl,
//! connect-web, connect-node, and raw HTTP as a browser's preflight has it.

use std::{io::Read as _, net::SocketAddr, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use doorbell::proto::{
    GetUnreadCountRequest, GetUnreadCountResponse, Head, SubscribeRequest,
    subscribe_response::Event,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::{
    calls::next,
    process::{Ended, Running, run},
    programs::{buf, grpcurl_binary, of_the_checkout, paste},
    server::{DOORBELL, SECRET, Server, Setup, free_port, sender_token, user_token},
};

const SERVICE: &str = "doorbell.v1.NotificationService";

fn reflecting() -> Server {
    Setup::new().with("REFLECTION", true).start()
}

fn grpcurl(server: &Server, token: &str, message: &Value, what: &str) -> Command {
    let mut command = Command::new(grpcurl_binary());
    command.args(["-plaintext", "-connect-timeout", "10"]);
    if !token.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    if !message.is_null() {
        command.args(["-d", &message.to_string()]);
    }
    command.arg(server.setup.listen.to_string());
    command.args(what.split(' '));
    command
}

fn call(server: &Server, token: &str, message: &Value, method: &str) -> Ended {
    run(&mut grpcurl(
        server,
        token,
        message,
        &format!("{SERVICE}/{method}"),
    ))
}

fn hello() -> Value {
    json!({
        "organization_id": "acme",
        "recipient_user_id": "alice",
        "type": "greeting",
        "title": "Hello",
        "body": "How are you?",
        "entity_type": "person",
        "entity_id": "7",
        "action_url": "https://example.com/greetings/1",
        "data": {"likes": [1, 2.5, null, true, {"deep": "ä"}]},
        "idempotency_key": "greeting-1",
    })
}

#[test]
fn grpcurl_lists_and_describes_by_reflection_with_the_comments() {
    let server = reflecting();
    let ask = |what: &str| run(&mut grpcurl(&server, "", &Value::Null, what)).ok();
    let services = ask("list");
    assert!(services.lines().any(|line| line == SERVICE), "{services}");
    assert!(services.contains("grpc.health.v1.Health"), "{services}");
    let methods = ask(&format!("list {SERVICE}"));
    let mut methods: Vec<_> = methods.lines().collect();
    methods.sort_unstable();
    assert_eq!(
        methods,
        [
            "doorbell.v1.NotificationService.Archive",
            "doorbell.v1.NotificationService.GetRecent",
            "doorbell.v1.NotificationService.GetUnreadCount",
            "doorbell.v1.NotificationService.MarkRead",
            "doorbell.v1.NotificationService.MarkSeen",
            "doorbell.v1.NotificationService.MarkUnread",
            "doorbell.v1.NotificationService.Remove",
            "doorbell.v1.NotificationService.RetractInApp",
            "doorbell.v1.NotificationService.SendInApp",
            "doorbell.v1.NotificationService.SendToMany",
            "doorbell.v1.NotificationService.Subscribe",
            "doorbell.v1.NotificationService.Unarchive",
            "doorbell.v1.NotificationService.UpdateInApp",
        ]
    );
    for method in methods {
        let text = ask(&format!("describe {method}"));
        assert!(text.contains("\n// "), "{text}");
        assert!(text.contains("// Errors: "), "{text}");
    }
    let text = ask("describe doorbell.v1.Notification");
    assert!(
        text.contains("  // UUIDv7 in its hyphenated lower-case form.\n  string id = 1;\n"),
        "{text}"
    );
    let text = ask("describe doorbell.v1.ErrorReason");
    assert!(text.contains("ERROR_REASON_TOKEN_EXPIRED = 6;"), "{text}");
}

#[test]
fn without_the_setting_nothing_is_reflected() {
    let server = Setup::new().start();
    let refused = run(&mut grpcurl(&server, "", &Value::Null, "list")).failed();
    assert!(refused.contains("reflection"), "{refused}");
}

#[test]
fn grpcurl_sends_counts_lists_and_marks() {
    let server = reflecting();
    let alice = user_token("acme", "alice");
    let sender = sender_token("acme");

    let sent = call(&server, &sender, &hello(), "SendInApp").json();
    let notification = sent["notification"].clone();
    let head = json!({"revision": "1", "unreadCount": 1, "unseenCount": 1});
    assert_eq!(sent["head"], head);
    for (field, name) in [
        ("type", "type"),
        ("title", "title"),
        ("body", "body"),
        ("entity_type", "entityType"),
        ("entity_id", "entityId"),
        ("action_url", "actionUrl"),
        ("data", "data"),
    ] {
        assert_eq!(notification[name], hello()[field], "{field}");
    }
    let again = call(&server, &sender, &hello(), "SendInApp").json();
    assert_eq!(again["duplicate"], true);
    assert_eq!(again["notification"], notification);

    let count = call(&server, &alice, &Value::Null, "GetUnreadCount").json();
    assert_eq!(count, json!({ "head": head }));

    let page = call(&server, &alice, &json!({"limit": 10}), "GetRecent").json();
    assert_eq!(page["notifications"], json!([notification]));
    let epoch = page["epoch"].as_str().unwrap();
    assert!(!epoch.is_empty());

    let ids = json!({"notification_ids": [notification["id"]]});
    let marked = call(&server, &alice, &ids, "MarkRead").json();
    assert_eq!(
        marked,
        json!({"changedCount": 1, "head": {"revision": "2"}})
    );
    let unread = call(&server, &alice, &json!({"unread_only": true}), "GetRecent").json();
    assert_eq!(unread, json!({"epoch": epoch, "head": {"revision": "2"}}));
    let seen = json!({"through_sequence": 1, "epoch": epoch});
    let seen = call(&server, &alice, &seen, "MarkSeen").json();
    assert_eq!(seen, json!({"head": {"revision": "3", "seenThrough": "1"}}));
}

#[test]
fn grpcurl_sees_a_live_event_and_resumes() {
    let server = reflecting();
    let alice = user_token("acme", "alice");
    let sender = sender_token("*");
    let method = format!("{SERVICE}/Subscribe");

    let live = Running::start(&mut grpcurl(&server, &alice, &Value::Null, &method));
    let connected = &live.messages(1)[0];
    let epoch = connected["connected"]["epoch"].clone();
    assert_eq!(connected["connected"]["heartbeatInterval"], "25s");

    let sent = call(&server, &sender, &hello(), "SendInApp").json();
    let rung = live.messages(2).remove(1);
    assert_eq!(
        rung,
        json!({
            "position": "1", "head": sent["head"], "ring": true,
            "notification": sent["notification"],
        })
    );
    drop(live);

    let mut second = hello();
    second["idempotency_key"] = "greeting-2".into();
    let second = call(&server, &sender, &second, "SendInApp").json();
    let resume = json!({"after_revision": 1, "epoch": epoch});
    let resumed = Running::start(&mut grpcurl(&server, &alice, &resume, &method));
    let messages = resumed.messages(3);
    assert_eq!(messages[0]["position"], "1");
    assert_eq!(messages[1]["notification"], second["notification"]);
    assert_eq!(
        (&messages[1]["position"], messages[1].get("ring")),
        (&json!("2"), None)
    );
    assert_eq!(messages[2]["caughtUp"], json!({}));
    assert_eq!(messages[2]["position"], "2");
}

#[test]
fn grpcurl_shows_the_details_of_an_error_decoded() {
    let server = reflecting();
    let sender = sender_token("acme");
    let refused = call(
        &server,
        &sender,
        &json!({"organization_id": "acme", "type": "x", "title": "x"}),
        "SendInApp",
    )
    .failed();
    for part in [
        "Code: InvalidArgument",
        "Message: recipient_user_id: is required",
        r#""reason":"INVALID_REQUEST""#,
        r#""fieldViolations":[{"field":"recipient_user_id","description":"is required"}]"#,
    ] {
        assert!(refused.contains(part), "{part} is missing: {refused}");
    }
    let refused = call(&server, &sender, &Value::Null, "Subscribe").failed();
    assert!(
        refused.contains(r#""domain":"doorbell.v1","reason":"NOT_A_READER""#),
        "{refused}"
    );
    let mut other = hello();
    other["title"] = "Other".into();
    call(&server, &sender, &hello(), "SendInApp").ok();
    let refused = call(&server, &sender, &other, "SendInApp").failed();
    assert!(refused.contains("Code: AlreadyExists"), "{refused}");
    assert!(refused.contains("IDEMPOTENCY_MISMATCH"), "{refused}");
}

/// It asks for reflection v1, where grpcurl 1.8.6 asks for v1alpha.
#[test]
fn buf_curl_finds_the_schema_and_calls_over_grpc_and_grpc_web() {
    let server = reflecting();
    let alice = user_token("acme", "alice");
    for protocol in [
        &["--protocol", "grpc", "--http2-prior-knowledge"][..],
        &["--protocol", "grpcweb"],
    ] {
        let mut command = buf();
        command
            .args(["curl", "--reflect", "--reflect-protocol", "grpc-v1"])
            .args(protocol)
            .args(["-H", &format!("authorization: Bearer {alice}")])
            .args(["-d", "{}"])
            .arg(format!("{}/{SERVICE}/GetRecent", server.url()));
        let page = run(&mut command).json();
        assert_eq!(page["epoch"].as_str().unwrap().len(), 32, "{protocol:?}");
    }
}

/// All at once: each mostly waits, and has a server of its own.
#[test]
fn connect_web_and_connect_node_call_all_and_stream() {
    let directory = of_the_checkout("tests/foreign/web");
    run(buf().arg("generate").current_dir(&directory)).ok();
    let started = [
        "grpc-web",
        "connect-web",
        "connect-web binary",
        "connect-node http/1.1",
        "connect-node http/1.1 binary",
        "connect-node http/2",
        "connect-node http/2 binary",
        "connect-node http/2 gzip",
    ]
    .map(|transport| {
        let server = Setup::new().with("HEARTBEAT_INTERVAL", "1s").start();
        let client = Running::start(
            Command::new("node")
                .args(["client.js", &server.url(), transport])
                .env("SENDER", sender_token("*"))
                .env("ALICE", user_token("acme", "alice"))
                .env("SECRET", SECRET)
                .current_dir(&directory),
        );
        (transport, server, client)
    });
    for (transport, _server, client) in started {
        let ended = client.end();
        assert_eq!(
            ended.out, "every step was taken\n",
            "{transport}: {}",
            ended.err
        );
    }
}

/// The backend of the guide, as it is written there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_of_the_guide_rings_once_and_takes_back() {
    let guide = std::fs::read_to_string(of_the_checkout("docs/from-a-gateway.md")).unwrap();
    let (_, code) = guide.split_once("// notify.mjs\n").unwrap();
    let (code, _) = code.split_once("```").unwrap();
    let web = of_the_checkout("tests/foreign/web");
    run(buf().arg("generate").current_dir(&web)).ok();
    let directory = tempfile::tempdir().unwrap();
    for name in ["gen", "node_modules", "package.json"] {
        std::os::unix::fs::symlink(web.join(name), directory.path().join(name)).unwrap();
    }
    std::fs::write(directory.path().join("notify.mjs"), code).unwrap();
    let calls = r#"
        import { forgetPost, notifyOfComment } from "./notify.mjs";
        const comment = { id: "c1", author: "Bob", postId: "7" };
        const first = await notifyOfComment("acme", "alice", comment);
        const again = await notifyOfComment("acme", "alice", comment);
        const gone = await forgetPost("acme", "alice", "7");
        console.log(first.unread, again.unread, first.id === again.id, gone);
    "#;
    std::fs::write(directory.path().join("calls.mjs"), calls).unwrap();
    let server = Setup::new().start();
    let mut alice = server.user("acme", "alice").await;
    let stream = alice.subscribe(SubscribeRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    let ran = block_in_place(|| {
        run(Command::new("node")
            .args([
                "--preserve-symlinks",
                "--preserve-symlinks-main",
                "calls.mjs",
            ])
            .env("DOORBELL_URL", server.url())
            .env("DOORBELL_TOKEN", sender_token("*"))
            .current_dir(directory.path()))
    });
    assert_eq!(ran.ok(), "1 1 true 1\n");
    let mut kinds = Vec::new();
    for _ in 0..3 {
        kinds.push(next(&mut stream).await.event.unwrap());
    }
    let [
        Event::Connected(_),
        Event::Notification(rang),
        Event::Changed(_),
    ] = &kinds[..]
    else {
        panic!("{kinds:?}");
    };
    assert_eq!(rang.title, "Bob commented");
}

/// What `doorbell dev` printed: the tokens, and for each step its lines.
struct Welcome {
    tokens: String,
    steps: Vec<(String, Vec<String>)>,
}

struct Dev {
    running: Running,
    welcome: Welcome,
}

fn dev(directory: &Path, listen: SocketAddr) -> Dev {
    let running = Running::start(
        Command::new(DOORBELL)
            .arg("dev")
            .env("DOORBELL_DATA_DIR", directory)
            .env("DOORBELL_LISTEN", listen.to_string()),
    );
    let last = "--token \"$BOB\"\n";
    let text = running.wait_for("last line", |text| text.ends_with(last));
    let blocks: Vec<_> = text.split("\n\n").collect();
    let lines = |block: &str| -> Vec<String> {
        let lines = block.lines().map(|line| {
            let line = line.strip_prefix("  ");
            line.unwrap_or_else(|| panic!("not to be pasted: {block}"))
                .to_owned()
        });
        lines.collect()
    };
    let first = blocks
        .iter()
        .position(|block| block.contains("SENDER='"))
        .unwrap();
    let steps = blocks[first + 1..]
        .chunks(2)
        .map(|step| (step[0].trim().to_owned(), lines(step[1])))
        .collect();
    Dev {
        running,
        welcome: Welcome {
            tokens: lines(blocks[first]).join("\n"),
            steps,
        },
    }
}

impl Welcome {
    /// A shell with the tokens pasted, and then these lines.
    fn paste(&self, lines: &str) -> Command {
        paste(&self.tokens, lines)
    }

    fn step(&self, title: &str) -> &[String] {
        let step = self.steps.iter().find(|(name, _)| name.contains(title));
        &step.unwrap_or_else(|| panic!("{title} is missing")).1
    }
}

#[test]
fn the_lines_that_dev_prints_can_be_pasted() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_port();
    let started = dev(directory.path(), listen);
    let welcome = &started.welcome;
    assert_eq!(welcome.steps.len(), 7);

    // `exec`, so that the shell is the program, and ends with the test.
    let screens: Vec<_> = welcome
        .step("Watch")
        .iter()
        .map(|line| Running::start(&mut welcome.paste(&format!("exec {line}"))))
        .collect();
    let [grpcurl, watch] = &screens[..] else {
        panic!("{} lines to watch", screens.len())
    };
    grpcurl.messages(1);
    watch.wait_for("connection", |text| text.contains("connected"));

    let each = |title: &str| -> Vec<String> {
        let lines = welcome.step(title).iter();
        lines
            .map(|line| run(&mut welcome.paste(line)).ok())
            .collect()
    };
    let sent = each("ring it");
    assert!(sent[0].contains("\"title\":\"Hello\""), "{}", sent[0]);
    assert!(
        sent[1].contains("sent; revision 2, 2 unread"),
        "{}",
        sent[1]
    );
    assert_eq!(grpcurl.messages(3)[2]["position"], "2");
    let rung = |text: &str| text.lines().filter(|line| line.starts_with("* ")).count();
    watch.wait_for("two rings", |text| rung(text) == 2);

    let unread = each("How many");
    assert!(unread[0].contains("\"unreadCount\": 2"), "{}", unread[0]);
    assert_eq!(unread[1], "2 unread\n");
    let newest = each("The newest");
    assert_eq!(newest[0].matches("\"title\": \"Hello\"").count(), 2);
    assert_eq!(newest[1].lines().count(), 3, "{}", newest[1]);

    // These lines are of one shell: the first says what ID is.
    let marked = run(&mut welcome.paste(&welcome.step("Mark").join("\n"))).ok();
    assert!(marked.contains("\"changedCount\": 1"), "{marked}");
    assert!(marked.ends_with("0 marked as read; 1 unread\n"), "{marked}");
    assert!(grpcurl.messages(4)[3].get("changed").is_some());

    let seen = run(&mut welcome.paste(&welcome.step("looked").join("\n"))).ok();
    assert!(seen.contains("\"seenThrough\": \"1\""), "{seen}");
    assert!(seen.ends_with("0 unseen; 1 unread\n"), "{seen}");
    assert!(grpcurl.messages(6)[5].get("seen").is_some());

    let bob = each("Bob");
    assert!(!bob[0].contains("Hello"), "{}", bob[0]);
    assert_eq!(bob[1], "0 unread\n");

    // The pasted tokens, and the watch, outlive a restart.
    let Dev { running, welcome } = started;
    drop(running);
    watch.wait_for("cut", |text| text.contains("disconnected"));
    let again = dev(directory.path(), listen);
    let count = run(&mut welcome.paste(&welcome.step("How many")[1])).ok();
    assert_eq!(count, "1 unread\n");
    let send = &welcome.step("ring it")[1];
    run(&mut welcome.paste(send)).ok();
    watch.wait_for("third ring", |text| rung(text) == 3);
    drop(again);
}

/// A request as a browser would make it, over one connection of its own.
async fn browse(
    server: SocketAddr,
    over_http2: bool,
    method: Method,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Response<Bytes> {
    let stream = tokio::net::TcpStream::connect(server).await.unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{server}/{SERVICE}/GetUnreadCount"))
        .header("host", server.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    let response = if over_http2 {
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Response::from_parts(head, body)
}

fn listed(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|value| value.trim().to_ascii_lowercase())
        .collect()
}

const PAGE: &str = "https://app.example.com";

fn preflight(origin: &str) -> [(&str, &str); 3] {
    [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,connect-protocol-version,connect-timeout-ms,content-type,\
             grpc-timeout,x-grpc-web,x-user-agent",
        ),
    ]
}

/// The frames of a gRPC-web body: its messages, and the trailers.
fn frames(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut messages = Vec::new();
    let mut trailers = String::new();
    while !body.is_empty() {
        let mut head = [0; 5];
        body.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut frame = vec![0; length as usize];
        body.read_exact(&mut frame).unwrap();
        match head[0] {
            0 => messages.push(frame),
            0x80 => trailers = String::from_utf8(frame).unwrap(),
            other => panic!("a frame of kind {other}"),
        }
    }
    (messages, trailers)
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_call_and_others_may_not() {
    let server = Setup::new()
        .with("CORS_ORIGINS", format!("{PAGE},http://localhost:5173"))
        .with("CORS_HEADERS", "X-Team, x-build")
        .start();
    let address = server.setup.listen;
    for over_http2 in [false, true] {
        let allowed = browse(
            address,
            over_http2,
            Method::OPTIONS,
            &preflight(PAGE),
            Bytes::new(),
        )
        .await;
        assert_eq!(allowed.status(), StatusCode::OK);
        let headers = allowed.headers();
        assert_eq!(headers["access-control-allow-origin"], PAGE);
        assert_eq!(listed(headers, "access-control-allow-methods"), ["post"]);
        let may_send = listed(headers, "access-control-allow-headers");
        for name in [
            "authorization",
            "content-type",
            "grpc-timeout",
            "x-grpc-web",
            "x-user-agent",
            "connect-protocol-version",
            "connect-timeout-ms",
            "tracestate",
            "baggage",
            "sentry-trace",
            "b3",
            "x-b3-traceid",
            "x-datadog-trace-id",
            "newrelic",
            "x-amzn-trace-id",
            "x-team",
            "x-build",
        ] {
            assert!(may_send.iter().any(|found| found == name), "{may_send:?}");
        }
        // A cache must not give one origin's answer to another.
        assert!(listed(headers, "vary").contains(&"origin".to_owned()));
        assert!(!headers.contains_key("access-control-allow-credentials"));

        for foreign in [
            "https://evil.example.com",
            "https://app.example.com.evil.com",
            "http://app.example.com",
            "http://localhost:8080",
            "null",
        ] {
            for method in [Method::OPTIONS, Method::POST] {
                let refused = browse(
                    address,
                    over_http2,
                    method,
                    &preflight(foreign),
                    Bytes::new(),
                )
                .await;
                for header in [
                    "access-control-allow-origin",
                    "access-control-allow-credentials",
                ] {
                    assert!(
                        !refused.headers().contains_key(header),
                        "{foreign}: {:?}",
                        refused.headers()
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_page_reads_the_answer_and_the_status_in_binary_and_in_text() {
    let server = Setup::new().with("CORS_ORIGINS", PAGE).start();
    let authorization = format!("Bearer {}", user_token("acme", "alice"));
    let message = GetUnreadCountRequest::default().encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    for over_http2 in [false, true] {
        for text in [false, true] {
            let kind = if text {
                "application/grpc-web-text+proto"
            } else {
                "application/grpc-web+proto"
            };
            let body = if text {
                Bytes::from(STANDARD.encode(&body))
            } else {
                Bytes::from(body.clone())
            };
            let mut headers = vec![
                ("origin", PAGE),
                ("content-type", kind),
                ("accept", kind),
                ("x-grpc-web", "1"),
            ];
            let unknown = browse(
                server.setup.listen,
                over_http2,
                Method::POST,
                &headers,
                body.clone(),
            )
            .await;
            headers.push(("authorization", &authorization));
            let known = browse(
                server.setup.listen,
                over_http2,
                Method::POST,
                &headers,
                body,
            )
            .await;

            for response in [&unknown, &known] {
                let headers = response.headers();
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(headers["access-control-allow-origin"], PAGE);
                assert!(!headers.contains_key("access-control-allow-credentials"));
                let exposed = listed(headers, "access-control-expose-headers");
                for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
                    assert!(exposed.iter().any(|found| found == name), "{exposed:?}");
                }
            }
            // What failed at once says so in its headers; else it is a frame.
            assert_eq!(unknown.headers()["grpc-status"], "16");
            assert!(unknown.headers().contains_key("grpc-status-details-bin"));
            assert_eq!(known.headers()["content-type"], kind);
            let body = if text {
                // Each piece of a text body is padded by itself.
                let quads = known.body().chunks(4);
                quads
                    .flat_map(|quad| STANDARD.decode(quad).unwrap())
                    .collect()
            } else {
                known.body().to_vec()
            };
            let (messages, trailers) = frames(&body);
            let [message] = &messages[..] else {
                panic!("{} messages", messages.len())
            };
            let answer = GetUnreadCountResponse::decode(&message[..]).unwrap();
            assert_eq!(answer.head, Some(Head::default()));
            assert!(trailers.contains("grpc-status:0"), "{trailers}");
        }
    }
}

#[test]
fn a_wildcard_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = run(Command::new(DOORBELL)
        .args(["serve", "--cors-origins", "*"])
        .env("DOORBELL_DATA_DIR", directory.path())
        .env("DOORBELL_JWT_SECRET", SECRET));
    assert_eq!(refused.code, Some(2));
    let text = refused.err;
    assert!(text.contains("`*` is not accepted"), "{text}");
}
