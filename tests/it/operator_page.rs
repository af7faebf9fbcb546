//! The operators' page and the port that it is served on, on real servers.

use std::{net::SocketAddr, time::Duration};

use doorbell::proto::{
    AddTopicMembersRequest, BroadcastRequest, BusState, CancelSendRequest, Content, GetNodeRequest,
    GetNodeResponse, ListSendsRequest, ListTopicsOfUserRequest, ReadInboxRequest,
    RemoveTopicMembersRequest, StoreKind, SubscribeRequest, send_service_client::SendServiceClient,
    topic_service_client::TopicServiceClient,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{
        Way, assert_refused, eventually, exchange, exchange_at, frame, in_seconds, next, send,
        signed,
    },
    process::PATIENCE,
    server::{Server, Setup, free_port, operator_token, sender_token, user_token},
};

const OPERATORS: &str = "/doorbell.v1.OperatorService/";

/// A server with the page, and where that is.
fn start() -> (Server, SocketAddr) {
    let address = free_port();
    let setup = Setup::new()
        .with("OPERATOR_ROLE", "operator")
        .with("OPERATOR_LISTEN", address);
    (setup.start(), address)
}

/// What comes back of a request without a body: its head in lower case, and its body.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer));
    read.await.expect("an answer").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn is_status(head: &str, status: u16) -> bool {
    head.starts_with(&format!("http/1.1 {status} "))
}

#[tokio::test]
async fn the_page_is_on_its_own_port_and_guarded() {
    let (server, address) = start();
    for (path, kind) in [
        ("/operator", "text/html; charset=utf-8"),
        ("/operator/page.js", "text/javascript; charset=utf-8"),
        ("/operator/page.css", "text/css; charset=utf-8"),
        ("/operator/icon.svg", "image/svg+xml"),
    ] {
        let (head, body) = ask(address, "GET", path, "").await;
        assert!(is_status(&head, 200), "{path}: {head}");
        assert!(
            head.contains(&format!("content-type: {kind}")),
            "{path}: {head}"
        );
        assert!(body.len() > 100, "{path}: {body}");
        assert_guarded(&head);
        let (head, body) = ask(address, "HEAD", path, "").await;
        assert!(is_status(&head, 200) && body.is_empty(), "{path}: {head}");
        let (head, _) = ask(address, "POST", path, "content-length: 0\r\n").await;
        assert!(is_status(&head, 405), "{path}: {head}");
    }
    for path in ["/", "/operator/"] {
        let (head, _) = ask(address, "GET", path, "").await;
        assert!(
            is_status(&head, 307) && head.contains("location: /operator\r\n"),
            "{head}"
        );
    }
    for path in ["/operator/x", "/operators", "/metrics", "/operator/%2e%2e"] {
        let (head, body) = ask(address, "GET", path, "").await;
        assert!(
            is_status(&head, 404) && body.is_empty(),
            "{path}: {head} {body}"
        );
        assert_guarded(&head);
    }
    // All the others' port has none of it.
    for path in ["/operator", "/operator/page.js"] {
        let (head, body) = ask(server.setup.listen, "GET", path, "").await;
        let is_page = is_status(&head, 200) || body.contains("<html") || body.len() > 500;
        assert!(!is_page, "{head} {body}");
    }
}

/// What keeps the page from being framed, kept, or made to run what is not its own.
fn assert_guarded(head: &str) {
    for header in [
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(header), "no {header}: {head}");
    }
    let policy = head
        .lines()
        .find_map(|line| line.strip_prefix("content-security-policy: "))
        .unwrap_or_else(|| panic!("no policy: {head}"));
    let parts: Vec<_> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(parts.contains(&part), "no {part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn without_the_setting_there_is_none() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    assert!(!server.log().contains("listening for operators"));
    let (head, _) = ask(server.setup.listen, "GET", "/operator", "").await;
    assert!(!is_status(&head, 200), "{head}");
}

#[tokio::test]
async fn the_port_is_for_operators_alone_and_for_its_own_page() {
    let address = free_port();
    let server = Setup::new()
        .with("OPERATOR_ROLE", "operator")
        .with("OPERATOR_LISTEN", address)
        .with("CORS_ORIGINS", "https://app.example.com")
        .start();
    let inbox = ReadInboxRequest {
        organization_id: "acme".into(),
        user_id: "ann".into(),
        query: None,
    };
    let read = (
        format!("{OPERATORS}ReadInbox"),
        frame(&inbox.encode_to_vec()),
    );
    let hello = send("acme", "ann", "Hello").encode_to_vec();
    let write = (
        "/doorbell.v1.NotificationService/SendInApp".to_owned(),
        frame(&hello),
    );
    let count = (
        "/doorbell.v1.NotificationService/GetUnreadCount".to_owned(),
        frame(&[]),
    );
    for way in Way::ALL {
        let call = async |(path, body): &(String, _), token: &str| {
            let bearer = format!("Bearer {token}");
            let headers: &[(&str, &str)] = match token {
                "" => &[],
                _ => &[("authorization", &bearer)],
            };
            let answer = exchange_at(address, way, path, headers, Clone::clone(body)).await;
            let status = answer.unwrap().status().expect("a status");
            match status.code() {
                Code::Ok => Ok(()),
                _ => Err(status),
            }
        };
        for what in [&read, &write, &count] {
            for token in [
                sender_token("*"),
                sender_token("acme"),
                user_token("acme", "ann"),
            ] {
                let refused = call(what, &token).await;
                assert_refused(refused, Code::PermissionDenied, "NOT_AN_OPERATOR");
            }
            let refused = call(what, "").await;
            assert_refused(refused, Code::Unauthenticated, "TOKEN_MISSING");
        }
        call(&read, &operator_token("acme")).await.unwrap();
        let refused = call(&read, &operator_token("globex")).await;
        assert_refused(refused, Code::PermissionDenied, "WRONG_ORGANIZATION");
        // Nor does an operator get here what they have not elsewhere.
        let refused = call(&write, &operator_token("*")).await;
        assert_refused(refused, Code::PermissionDenied, "NOT_A_SENDER");
        let refused = call(&count, &operator_token("*")).await;
        assert_refused(refused, Code::PermissionDenied, "NOT_A_READER");
    }
    // The main port lets in the pages of an origin, and this one does not.
    let preflight = "origin: https://app.example.com\r\naccess-control-request-method: POST\r\n";
    let path = &read.0;
    let (head, _) = ask(server.setup.listen, "OPTIONS", path, preflight).await;
    assert!(head.contains("access-control-allow-origin"), "{head}");
    let (head, _) = ask(address, "OPTIONS", path, preflight).await;
    assert!(!head.contains("access-control-allow"), "{head}");
    // There is no reflection and no health to be asked for.
    let health = "/grpc.health.v1.Health/Check";
    let answer = exchange_at(address, Way::Grpc, health, &[], frame(&[])).await;
    assert_eq!(answer.unwrap().http.as_u16(), 404);
    let answer = exchange(&server, Way::Grpc, health, &[], frame(&[])).await;
    assert_eq!(answer.unwrap().http.as_u16(), 200);
}

/// The lines of operators, without their span.
fn lines(server: &Server) -> Vec<Value> {
    let log = server.log();
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let is_it = |line: &Value| line["message"] == "an operator's call";
    lines.filter(is_it).collect()
}

#[tokio::test]
async fn what_operators_do_with_sends_and_topics_is_in_the_log() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    let organization_id = || "acme".to_owned();
    let token = signed(&json!({
        "organizationId": "acme", "userRole": "operator", "sub": "olga", "exp": in_seconds(100),
    }));
    let sender = server.authorized(&sender_token("acme")).await;
    let add = AddTopicMembersRequest {
        organization_id: organization_id(),
        topic_id: "news".into(),
        user_ids: vec!["ann".into()],
    };
    TopicServiceClient::new(sender.clone())
        .add_topic_members(add)
        .await
        .unwrap();
    let operator = server.authorized(&token).await;
    let (mut sends, mut topics) = (
        SendServiceClient::new(operator.clone()),
        TopicServiceClient::new(operator),
    );
    let broadcast = BroadcastRequest {
        organization_id: organization_id(),
        content: Some(Content {
            r#type: "notice".into(),
            title: "We are back".into(),
            ..Content::default()
        }),
        idempotency_key: Uuid::new_v4().to_string(),
        ..BroadcastRequest::default()
    };
    let said = sends.broadcast(broadcast).await.unwrap().into_inner();
    let said = said.send.unwrap();
    assert_eq!(said.sender, "olga");
    let list = ListSendsRequest {
        organization_id: organization_id(),
        ..ListSendsRequest::default()
    };
    let listed = sends.list_sends(list.clone()).await.unwrap().into_inner();
    assert_eq!(listed.sends.len(), 1);
    let cancel = CancelSendRequest {
        organization_id: organization_id(),
        send_id: said.id.clone(),
        ..CancelSendRequest::default()
    };
    sends.cancel_send(cancel).await.unwrap();
    let of_user = ListTopicsOfUserRequest {
        organization_id: organization_id(),
        user_id: "ann".into(),
        ..ListTopicsOfUserRequest::default()
    };
    let of_ann = topics.list_topics_of_user(of_user).await.unwrap();
    assert_eq!(of_ann.into_inner().topic_ids, ["news"]);
    let remove = RemoveTopicMembersRequest {
        organization_id: organization_id(),
        topic_id: "news".into(),
        user_ids: vec!["ann".into()],
    };
    topics.remove_topic_members(remove).await.unwrap();
    // What a sender does is no operator's call, and what is refused was not done.
    let mut by_sender = SendServiceClient::new(sender);
    by_sender.list_sends(list).await.unwrap();
    let elsewhere = ListSendsRequest {
        organization_id: "globex".into(),
        ..ListSendsRequest::default()
    };
    let refused = sends.list_sends(elsewhere).await;
    assert_refused(refused, Code::PermissionDenied, "WRONG_ORGANIZATION");

    let all = || lines(&server);
    eventually("they are logged", async || all().len() >= 5).await;
    let told: Vec<_> = all()
        .into_iter()
        .map(|line| {
            assert_eq!(line["subject"], "olga", "{line}");
            assert_eq!(line["of_organization"], "acme", "{line}");
            (line["what"].clone(), line["of"].clone())
        })
        .collect();
    assert_eq!(
        told,
        [
            (json!("Broadcast"), Value::Null),
            (json!("ListSends"), Value::Null),
            (json!("CancelSend"), json!(said.id)),
            (json!("ListTopicsOfUser"), json!("ann")),
            (json!("RemoveTopicMembers"), json!("news")),
        ]
    );
}

async fn node(server: &Server, token: &str) -> Result<GetNodeResponse, tonic::Status> {
    let mut operator = server.operator(token).await;
    let answer = operator.get_node(GetNodeRequest {}).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn a_node_says_how_it_is_to_operators_of_all() {
    let server = Setup::new().with("OPERATOR_ROLE", "operator").start();
    let all = operator_token("*");
    let before = node(&server, &all).await.unwrap();
    assert_eq!(before.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (before.store(), before.bus()),
        (StoreKind::Sqlite, BusState::None)
    );
    assert_eq!((before.stream_count, before.write_count), (0, 0));
    assert!(before.started_at.unwrap().seconds <= before.time.unwrap().seconds);

    let reader = server.user("acme", "ann").await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let stream = reader.clone().subscribe(SubscribeRequest::default()).await;
        let mut stream = stream.unwrap().into_inner();
        next(&mut stream).await;
        streams.push(stream);
    }
    let mut sender = server.sender().await;
    for title in ["one", "two", "three"] {
        sender
            .send_in_app(send("acme", "ann", title))
            .await
            .unwrap();
    }
    for stream in &mut streams {
        for _ in 0..3 {
            next(stream).await;
        }
    }
    let mut after = before.clone();
    eventually("the figures are there", async || {
        after = node(&server, &all).await.unwrap();
        after.delivery_count == 6 && after.ready && after.sweeps
    })
    .await;
    assert_eq!((after.stream_count, after.room_count), (2, 1));
    assert_eq!((after.send_call_count, after.write_count), (3, 3));
    assert!((1..=3).contains(&after.commit_count), "{after:?}");
    assert!(after.commit_time.unwrap() != before.commit_time.unwrap());
    assert!(
        after.connection_count >= 3 && after.queued_count == 0,
        "{after:?}"
    );
    assert_eq!(after.started_at, before.started_at);

    for token in [operator_token("acme"), operator_token("globex")] {
        let refused = node(&server, &token).await;
        assert_refused(refused, Code::PermissionDenied, "WRONG_ORGANIZATION");
    }
    // Nothing of it is of anybody: it is no line.
    assert!(lines(&server).is_empty());
}

/// Where there is one organization, its operators are those of all.
#[tokio::test]
async fn a_node_of_one_organization_says_it_to_its_operators() {
    let server = Setup::new()
        .with("OPERATOR_ROLE", "operator")
        .with("SINGLE_ORGANIZATION", "acme")
        .start();
    assert!(node(&server, &operator_token("acme")).await.is_ok());
    let refused = node(&server, &sender_token("acme")).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_AN_OPERATOR");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_open_does_not_hold_up_the_end() {
    let (mut server, address) = start();
    let idle = TcpStream::connect(address).await.unwrap();
    let (head, _) = ask(address, "GET", "/operator", "").await;
    assert!(is_status(&head, 200), "{head}");
    server.signal("TERM");
    let ended = tokio::task::block_in_place(|| server.wait(Duration::from_secs(15)));
    assert!(ended.success(), "{ended}: {}", server.log());
    drop(idle);
    assert!(TcpStream::connect(address).await.is_err());
}
