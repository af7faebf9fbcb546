//! One content for many, on real servers.

use std::collections::BTreeSet;

use doorbell::proto::{
    Content, ErrorReason, GetRecentRequest, SendResult, SendToManyRequest, SendToManyResponse,
    Suppressed,
};
use tonic::{Code, Status};

use crate::{
    calls::{after, assert_invalid, assert_refused, counts, next, refusal, send, until_caught_up},
    server::{Client, Server, Setup, sender_token},
};

fn users(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

fn to_many(users: Vec<String>, key: &str) -> SendToManyRequest {
    SendToManyRequest {
        organization_id: "acme".into(),
        recipient_user_ids: users,
        content: Some(Content {
            r#type: "greeting".into(),
            title: "Hello".into(),
            ..Content::default()
        }),
        idempotency_key: key.into(),
        ..SendToManyRequest::default()
    }
}

async fn answer(sender: &mut Client, request: SendToManyRequest) -> SendToManyResponse {
    sender.send_to_many(request).await.unwrap().into_inner()
}

/// What each of these users has, newest first.
async fn titles(server: &Server, user: &str) -> Vec<String> {
    let mut reader = server.user("acme", user).await;
    let page = reader.get_recent(GetRecentRequest::default()).await;
    let rows = page.unwrap().into_inner().notifications;
    rows.into_iter().map(|row| row.title).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_thousand_has_it_and_a_retry_doubles_nothing() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut ann = server.user("acme", "user-0").await;
    let stream = ann.subscribe(after(0)).await;
    let mut stream = stream.unwrap().into_inner();
    until_caught_up(&mut stream).await;
    let first = answer(&mut sender, to_many(users(1000), "all")).await;
    assert_eq!((first.sent_count, first.error_count), (1000, 0));
    let told: Vec<_> = first
        .results
        .iter()
        .map(|to| &*to.recipient_user_id)
        .collect();
    assert_eq!(
        told,
        users(1000),
        "one result each, in the order of the request"
    );
    let ids: BTreeSet<_> = first.results.iter().map(|to| &to.notification_id).collect();
    assert_eq!(ids.len(), 1000);
    let rung = next(&mut stream).await;
    assert!(rung.ring);
    for user in ["user-0", "user-500", "user-999"] {
        assert_eq!(titles(&server, user).await, ["Hello"]);
    }
    // Half of them again, and a new one.
    let mut again = users(500);
    again.push("zoe".into());
    let second = answer(&mut sender, to_many(again, "all")).await;
    assert_eq!((second.sent_count, second.error_count), (1, 0));
    let known = |(one, other): (&SendResult, &SendResult)| {
        other.duplicate && one.notification_id == other.notification_id
    };
    assert!(
        first
            .results
            .iter()
            .zip(&second.results)
            .take(500)
            .all(known)
    );
    assert!(!second.results[500].duplicate);
    assert_eq!(titles(&server, "user-0").await, ["Hello"]);
}

#[tokio::test]
async fn one_that_fails_or_is_not_sent_is_no_harm_to_the_others() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut taken = send("acme", "user-1", "Another");
    taken.idempotency_key = Some("key".into());
    sender.send_in_app(taken).await.unwrap();
    let answer_of = answer(&mut sender, to_many(users(3), "key")).await;
    assert_eq!((answer_of.sent_count, answer_of.error_count), (2, 1));
    let error = answer_of.results[1].error.as_ref().unwrap();
    assert_eq!(error.reason(), ErrorReason::IdempotencyMismatch);
    assert!(!error.passing && error.message.contains("idempotency_key"));
    assert_eq!(titles(&server, "user-1").await, ["Another"]);
    assert_eq!(titles(&server, "user-2").await, ["Hello"]);
    // What is over already is sent to nobody.
    let over = SendToManyRequest {
        expire_time: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        }),
        ..to_many(users(2), "late")
    };
    let over = answer(&mut sender, over).await;
    assert_eq!((over.sent_count, over.error_count), (0, 0));
    let is_expired = |to: &SendResult| to.suppressed() == Suppressed::Expired;
    assert!(over.results.iter().all(is_expired));
}

#[tokio::test]
async fn what_is_said_to_many_collapses_and_is_silent_as_what_is_said_to_one() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    for key in ["one", "two"] {
        let request = SendToManyRequest {
            collapse_key: Some("likes".into()),
            silent: true,
            ..to_many(users(2), key)
        };
        answer(&mut sender, request).await;
    }
    let mut reader = server.user("acme", "user-1").await;
    let page = reader.get_recent(GetRecentRequest::default()).await;
    let page = page.unwrap().into_inner();
    assert_eq!(counts(page.head), (2, 1));
    let row = &page.notifications[0];
    assert_eq!((row.collapsed_count, row.ring_revision), (1, 0));
}

#[tokio::test]
async fn all_that_is_wrong_with_it_is_named_and_nobody_is_sent_to() {
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut refused = async |request: SendToManyRequest, fields: &[&str]| {
        assert_invalid(sender.send_to_many(request).await, fields);
    };
    refused(
        SendToManyRequest::default(),
        &[
            "organization_id",
            "recipient_user_ids",
            "content.type",
            "content.title",
            "idempotency_key",
        ],
    )
    .await;
    refused(to_many(users(1001), "key"), &["recipient_user_ids"]).await;
    let twice = ["ann", "bob", "ann", ""].map(String::from).into();
    let fields = ["recipient_user_ids[2]", "recipient_user_ids[3]"];
    refused(to_many(twice, "key"), &fields).await;
    refused(to_many(users(2), &"k".repeat(129)), &["idempotency_key"]).await;
    let mut long = to_many(users(2), "key");
    long.content.as_mut().unwrap().title = "t".repeat(513);
    refused(long, &["content.title"]).await;
    assert_eq!(titles(&server, "user-0").await, [""; 0]);
}

#[tokio::test]
async fn a_request_for_many_has_256_kib_and_not_a_byte_more() {
    use prost::Message as _;
    let server = Setup::new().start();
    let mut sender = server.sender().await;
    let mut of_bytes = async |bytes: usize| {
        let wide = (0..1000).map(|number| format!("{number:0>128}")).collect();
        let mut request = to_many(wide, "key");
        // The length of a long key takes two bytes more than that of a short one.
        let rest = bytes - request.encoded_len() - 2;
        request.idempotency_key += &"k".repeat(rest);
        assert_eq!(request.encoded_len(), bytes);
        sender.send_to_many(request).await.map(drop)
    };
    let refused = |answer: Result<(), Status>| refusal(&answer.unwrap_err()).reason;
    assert_eq!(refused(of_bytes(256 * 1024).await), "INVALID_REQUEST");
    assert_eq!(refused(of_bytes(256 * 1024 + 1).await), "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn who_may_not_send_to_one_may_not_send_to_many() {
    let server = Setup::new().start();
    let mut reader = server.user("acme", "ann").await;
    let answer = reader.send_to_many(to_many(users(2), "key")).await;
    assert_refused(answer, Code::PermissionDenied, "NOT_A_SENDER");
    let mut other = server.client(&sender_token("globex")).await;
    let answer = other.send_to_many(to_many(users(2), "key")).await;
    assert_refused(answer, Code::PermissionDenied, "WRONG_ORGANIZATION");
}
