//! What operators do, on real servers.

use std::time::Duration;

use doorbell::proto::{
    EraseInboxRequest, EraseOrganizationRequest, GetRecentRequest, GetTimelineRequest,
    MarkSeenRequest, ReadInboxRequest, RemovalCause, RemoveRequest, SubscribeRequest,
    TimelineEntry, TimelineEvent, View, subscribe_response::Event,
};
use serde_json::Value;
use tokio::task::block_in_place;
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{
        Inbox, after, assert_invalid, assert_refused, counts, epoch, in_seconds, mark, next, rest,
        send, signed,
    },
    engines::{self, Nats},
    server::{Client, OperatorClient, Server, Setup, operator_token, token},
};

fn setup() -> Setup {
    Setup::new().with("OPERATOR_ROLE", "operator")
}

async fn send_all(sender: &mut Client, organization: &str, user: &str, titles: &[&str]) {
    for title in titles {
        let sent = sender.send_in_app(send(organization, user, title)).await;
        sent.unwrap();
    }
}

fn inbox(organization: &str, user: &str) -> EraseInboxRequest {
    EraseInboxRequest {
        organization_id: organization.into(),
        user_id: user.into(),
    }
}

async fn read(operator: &mut OperatorClient, user: &str, query: GetRecentRequest) -> Vec<String> {
    let request = ReadInboxRequest {
        organization_id: "acme".into(),
        user_id: user.into(),
        query: Some(query),
    };
    let page = operator
        .read_inbox(request)
        .await
        .unwrap()
        .into_inner()
        .page;
    let rows = page.unwrap().notifications;
    rows.into_iter().map(|row| row.title).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_what_its_owner_sees_and_changes_nothing() {
    let server = setup().start();
    let mut sender = server.sender().await;
    let mut reader = server.user("acme", "ann").await;
    let mut operator = server.operator(&operator_token("acme")).await;
    send_all(&mut sender, "acme", "ann", &["one", "two", "three"]).await;
    let whole = GetRecentRequest::default;
    let before = reader.get_recent(whole()).await.unwrap().into_inner();
    let request = ReadInboxRequest {
        organization_id: "acme".into(),
        user_id: "ann".into(),
        query: None,
    };
    let seen = operator.read_inbox(request).await.unwrap().into_inner();
    assert_eq!(seen.page.as_ref(), Some(&before));
    assert_eq!(counts(before.head), (3, 3));
    // In pages, which are bound to the inbox.
    let limit = |page_token: String| GetRecentRequest {
        limit: 2,
        page_token,
        ..whole()
    };
    let request = |user: &str, page_token: String| ReadInboxRequest {
        organization_id: "acme".into(),
        user_id: user.into(),
        query: Some(limit(page_token)),
    };
    let page = operator.read_inbox(request("ann", String::new())).await;
    let token = page.unwrap().into_inner().page.unwrap().next_page_token;
    let rest = operator.read_inbox(request("ann", token.clone())).await;
    let rest = rest.unwrap().into_inner().page.unwrap();
    assert_eq!(
        (rest.notifications.len(), &*rest.notifications[0].title),
        (1, "one")
    );
    let other = operator.read_inbox(request("bob", token)).await;
    assert_invalid(other, &["page_token"]);
    let archived = GetRecentRequest {
        view: View::Archived.into(),
        ..whole()
    };
    assert!(read(&mut operator, "ann", archived).await.is_empty());
    assert_eq!(
        reader.get_recent(whole()).await.unwrap().into_inner(),
        before
    );
    assert_invalid(
        operator.read_inbox(ReadInboxRequest::default()).await,
        &["organization_id", "user_id"],
    );
}

#[tokio::test]
async fn a_timeline_says_what_became_of_a_notification() {
    let server = setup().start();
    let mut ann = Inbox::new(&server, "acme", "ann").await;
    let mut operator = server.operator(&operator_token("acme")).await;
    let hour = Duration::from_secs(3600);
    let billing = token("acme", Some("billing"), Some("service"), hour);
    ann.sender = server.client(&billing).await;
    let sent = ann.send("Hello").await;
    let request = |notification_id: &str| GetTimelineRequest {
        organization_id: "acme".into(),
        user_id: "ann".into(),
        notification_id: Some(notification_id.into()),
        idempotency_key: None,
    };
    let mut timeline = async || {
        let answer = operator.get_timeline(request(&sent.id)).await.unwrap();
        let answer = answer.into_inner();
        let events: Vec<_> = answer.entries.iter().map(TimelineEntry::event).collect();
        (answer, events)
    };
    let (answer, events) = timeline().await;
    assert_eq!(events, [TimelineEvent::Sent, TimelineEvent::Created]);
    assert_eq!(answer.notification.as_ref(), Some(&sent));
    assert_eq!(answer.entries[1].time, sent.created_at);
    assert!(!answer.seen && answer.sender == "billing", "{answer:?}");
    let epoch = epoch(&mut ann.reader).await;
    let look = MarkSeenRequest {
        through_sequence: sent.sequence,
        epoch,
    };
    ann.reader.mark_seen(look).await.unwrap();
    ann.reader.mark_read(mark([sent.id.clone()])).await.unwrap();
    let remove = RemoveRequest {
        notification_ids: vec![sent.id.clone()],
        ..RemoveRequest::default()
    };
    ann.reader.remove(remove).await.unwrap();
    let (answer, events) = timeline().await;
    assert_eq!(events[2..], [TimelineEvent::Read, TimelineEvent::Removed]);
    assert_eq!(answer.entries[3].cause(), RemovalCause::User);
    assert_eq!(answer.entries[2].cause(), RemovalCause::Unspecified);
    assert!(answer.seen && answer.notification.unwrap().title.is_empty());
    assert_eq!(counts(answer.head), (4, 0));

    let unknown = Uuid::new_v4().to_string();
    let answer = operator.get_timeline(request(&unknown)).await;
    assert_refused(answer, Code::NotFound, "NOTIFICATION_NOT_FOUND");
    let nothing = GetTimelineRequest::default();
    let fields = ["organization_id", "user_id", "notification_id"];
    assert_invalid(operator.get_timeline(nothing).await, &fields);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_leaves_nothing_and_streams_load_anew() {
    let server = setup().start();
    let mut sender = server.sender().await;
    let (mut ann, mut bob) = (
        server.user("acme", "ann").await,
        server.user("acme", "bob").await,
    );
    let mut operator = server.operator(&operator_token("acme")).await;
    let mut keyed = send("acme", "ann", "a secret word");
    keyed.idempotency_key = Some("k".into());
    let first = sender
        .send_in_app(keyed.clone())
        .await
        .unwrap()
        .into_inner();
    let many: Vec<String> = (0..600).map(|number| format!("number {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    send_all(&mut sender, "acme", "ann", &many).await;
    send_all(&mut sender, "acme", "bob", &["his own"]).await;
    let remove = RemoveRequest {
        notification_ids: vec![first.notification.unwrap().id],
        ..RemoveRequest::default()
    };
    ann.remove(remove).await.unwrap();
    let epoch = epoch(&mut ann).await;
    let mut stream = ann
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await;

    let erased = operator
        .erase_inbox(inbox("acme", "ann"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((erased.erased_count, erased.more), (601, false));
    let (revision, unread) = counts(erased.head);
    assert_eq!(unread, 0);
    let (messages, end) = rest(&mut stream).await;
    end.unwrap();
    assert!(
        matches!(messages.last().unwrap().event, Some(Event::Reset(_))),
        "{messages:?}"
    );
    let page = ann
        .get_recent(GetRecentRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(counts(page.head), (revision, 0));
    assert!(page.notifications.is_empty());
    // Who was away is told as well, and who loads now goes on from there.
    for (position, is_reset) in [(602, true), (revision, false)] {
        let resume = SubscribeRequest {
            epoch: Some(epoch.clone()),
            ..after(position)
        };
        let mut stream = ann.subscribe(resume).await.unwrap().into_inner();
        next(&mut stream).await;
        let event = next(&mut stream).await.event;
        assert_eq!(
            matches!(event, Some(Event::Reset(_))),
            is_reset,
            "{event:?}"
        );
    }
    // The key is free, and the revisions go on.
    let again = sender.send_in_app(keyed).await.unwrap().into_inner();
    assert!(!again.duplicate);
    assert_eq!(again.notification.unwrap().sequence, revision + 1);
    // Nothing of it is in the file, once the log is written back; and no other inbox lost any.
    let count = bob
        .get_unread_count(doorbell::proto::GetUnreadCountRequest::default())
        .await;
    assert_eq!(counts(count.unwrap().into_inner().head), (1, 1));
    let erased = operator
        .erase_inbox(inbox("acme", "nobody"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((erased.erased_count, counts(erased.head)), (0, (0, 0)));
    // Each call is in the log, by who asked for what.
    let is_told = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["message"] == "an operator's call"
            && line["what"] == "EraseInbox"
            && line["subject"] == "operator"
            && line["of_organization"] == "acme"
            && line["of_user"] == "ann"
    };
    assert_eq!(server.log().lines().filter(|line| is_told(line)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organization_is_erased_and_its_neighbours_are_not() {
    let server = setup().start();
    let mut sender = server.sender().await;
    let users: Vec<String> = (0..120).map(|number| format!("user{number}")).collect();
    for user in &users {
        send_all(&mut sender, "acme", user, &["one", "two"]).await;
    }
    send_all(&mut sender, "acmf", "user1", &["kept"]).await;
    let mut operator = server.operator(&operator_token("*")).await;
    let request = || EraseOrganizationRequest {
        organization_id: "acme".into(),
    };
    let erased = operator
        .erase_organization(request())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (erased.erased_count, erased.inbox_count, erased.more),
        (240, 120, false)
    );
    let erased = operator
        .erase_organization(request())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((erased.erased_count, erased.inbox_count), (0, 0));
    for (organization, unread) in [("acme", 0), ("acmf", 1)] {
        let mut reader = server.user(organization, "user1").await;
        let page = reader.get_recent(GetRecentRequest::default()).await;
        assert_eq!(page.unwrap().into_inner().notifications.len(), unread);
    }
    let missing = operator.erase_organization(EraseOrganizationRequest::default());
    assert_invalid(missing.await, &["organization_id"]);
    let mut other = server.operator(&operator_token("globex")).await;
    let refused = other.erase_organization(request()).await;
    assert_refused(refused, Code::PermissionDenied, "WRONG_ORGANIZATION");
}

/// A screen on another node learns of it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_resets_the_streams_of_other_nodes() {
    let url = engines::Postgres::shared().create_database().await;
    let nats = block_in_place(Nats::start);
    let nodes: Vec<Server> = (0..2)
        .map(|_| {
            let setup = setup()
                .with("DATABASE_URL", &url)
                .with("NATS_URL", nats.url());
            block_in_place(|| setup.start())
        })
        .collect();
    let mut sender = nodes[0].sender().await;
    send_all(&mut sender, "acme", "ann", &["one"]).await;
    let mut ann = nodes[1].user("acme", "ann").await;
    let mut stream = ann
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await;
    let token = signed(&serde_json::json!({
        "organizationId": "acme", "userRole": ["admin", "operator"], "sub": "olga",
        "exp": in_seconds(100),
    }));
    let mut operator = nodes[0].operator(&token).await;
    operator.erase_inbox(inbox("acme", "ann")).await.unwrap();
    let erased_at = std::time::Instant::now();
    let (messages, end) = rest(&mut stream).await;
    end.unwrap();
    assert!(matches!(
        messages.last().unwrap().event,
        Some(Event::Reset(_))
    ));
    let waited = erased_at.elapsed();
    assert!(waited.as_secs() < 5, "not with the heartbeat: {waited:?}");
}
