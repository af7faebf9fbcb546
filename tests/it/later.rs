//! What is sent later, and to topics, on real servers: from the call to the screen.

use std::collections::BTreeSet;

use doorbell::{
    clock::{Clock as _, SystemClock},
    proto::{
        AddTopicMembersRequest, BroadcastRequest, CancelSendRequest, Content, GetRecentRequest,
        GetSendRequest, ListSendsRequest, ListTopicMembersRequest, Notification,
        RetractBroadcastRequest, RetractInAppRequest, Send, SendInAppRequest, SendState,
        SendToManyRequest, SendToTopicRequest, SubscribeRequest,
        send_service_client::SendServiceClient, subscribe_response::Event,
        topic_service_client::TopicServiceClient,
    },
};
use prost::Message as _;
use tokio::task::block_in_place;
use tonic::{Code, Status};

use crate::{
    calls::{assert_invalid, assert_refused, counts, eventually, next, send},
    engines::Postgres,
    server::{Authorized, Client, Server, Setup, sender_token},
    support::on_both,
};

struct Desk {
    server: Server,
    sender: Client,
    sends: SendServiceClient<Authorized>,
    topics: TopicServiceClient<Authorized>,
}

impl Desk {
    async fn of(server: Server) -> Self {
        let channel = server.authorized(&sender_token("acme")).await;
        Self {
            sender: server.client(&sender_token("acme")).await,
            sends: SendServiceClient::new(channel.clone()),
            topics: TopicServiceClient::new(channel),
            server,
        }
    }

    async fn on_sqlite() -> Self {
        Self::of(block_in_place(|| Setup::new().start())).await
    }

    async fn on_postgres() -> Self {
        let url = Postgres::shared().create_database().await;
        let setup = Setup::new().with("DATABASE_URL", &url);
        Self::of(block_in_place(|| setup.start())).await
    }

    /// Sends to Ann so many seconds from now.
    async fn send_in(&mut self, seconds: i64, key: Option<&str>) -> Result<Option<Send>, Status> {
        let request = SendInAppRequest {
            deliver_time: Some(in_seconds(seconds)),
            idempotency_key: key.map(str::to_owned),
            ..send("acme", "ann", "later")
        };
        let answer = self.sender.send_in_app(request).await?.into_inner();
        assert_ne!(answer.send.is_some(), answer.notification.is_some());
        assert_eq!(answer.head.is_some(), answer.notification.is_some());
        Ok(answer.send)
    }

    async fn get(&mut self, id: &str) -> Send {
        let request = GetSendRequest {
            organization_id: "acme".into(),
            send_id: Some(id.into()),
            ..GetSendRequest::default()
        };
        let answer = self.sends.get_send(request).await.unwrap();
        answer.into_inner().send.unwrap()
    }

    async fn cancel(&mut self, id: &str) -> Result<Send, Status> {
        let request = CancelSendRequest {
            organization_id: "acme".into(),
            send_id: id.into(),
            ..CancelSendRequest::default()
        };
        let answer = self.sends.cancel_send(request).await?;
        Ok(answer.into_inner().send.unwrap())
    }

    /// Sends to a topic that is new, of so many; the id of the send.
    async fn send_to_new_topic(&mut self, user_ids: Vec<String>) -> String {
        let count = user_ids.len();
        let members = AddTopicMembersRequest {
            organization_id: "acme".into(),
            topic_id: "all".into(),
            user_ids,
        };
        let added = self.topics.add_topic_members(members).await.unwrap();
        assert_eq!(added.into_inner().added_count as usize, count);
        let to_topic = SendToTopicRequest {
            organization_id: "acme".into(),
            topic_id: "all".into(),
            content: content("to a topic"),
            idempotency_key: "topic".into(),
            ..SendToTopicRequest::default()
        };
        let sent = self.sends.send_to_topic(to_topic).await.unwrap();
        sent.into_inner().send.unwrap().id
    }

    async fn until_done(&mut self, id: &str) -> Send {
        eventually("it is done", async || {
            self.get(id).await.state() == SendState::Done
        })
        .await;
        self.get(id).await
    }

    async fn rows(&self, user: &str) -> Vec<Notification> {
        let mut reader = self.server.user("acme", user).await;
        let page = reader.get_recent(GetRecentRequest::default()).await;
        page.unwrap().into_inner().notifications
    }
}

fn in_seconds(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: SystemClock.now().as_micros() / 1_000_000 + seconds,
        nanos: 0,
    }
}

fn content(title: &str) -> Option<Content> {
    Some(Content {
        r#type: "news".into(),
        title: title.into(),
        ..Content::default()
    })
}

/// It is nowhere until its time, then on the open screen, and it says when it was sent.
async fn what_is_for_later_rings_when_its_time_has_come(mut desk: Desk) {
    let mut reader = desk.server.user("acme", "ann").await;
    let stream = reader.subscribe(SubscribeRequest::default()).await;
    let mut stream = stream.unwrap().into_inner();
    next(&mut stream).await;
    let waits = desk.send_in(4, Some("key")).await.unwrap().unwrap();
    assert_eq!((waits.state(), waits.total_count), (SendState::Waiting, 1));
    assert_eq!(desk.rows("ann").await, []);
    let message = next(&mut stream).await;
    let Some(Event::Notification(row)) = &message.event else {
        panic!("{message:?}");
    };
    assert!(message.ring);
    assert_eq!(counts(message.head), (1, 1));
    assert_eq!(row.sent_at, waits.accepted_at);
    let due = waits.deliver_time.unwrap();
    assert!(row.created_at.unwrap().seconds >= due.seconds);
    let done = desk.until_done(&waits.id).await;
    assert_eq!((done.delivered_count, done.error_count), (1, 0));
    // The same again is known, though its time is past.
    let again = desk.send_in(-5, Some("key")).await.unwrap().unwrap();
    assert_eq!(again, done);
    assert_eq!(desk.rows("ann").await.len(), 1);
    // It is taken back by the name that its sender has for it.
    let retract = RetractInAppRequest {
        organization_id: "acme".into(),
        recipient_user_id: "ann".into(),
        send_id: Some(waits.id.clone()),
        ..RetractInAppRequest::default()
    };
    let taken = desk.sender.retract_in_app(retract).await.unwrap();
    assert_eq!(taken.into_inner().changed_count, 1);
    assert_refused(
        desk.cancel(&waits.id).await,
        Code::FailedPrecondition,
        "SEND_DONE",
    );
}

/// What is past is sent at once, with a key that is of the inbox as ever.
async fn what_is_past_is_sent_at_once(mut desk: Desk) {
    assert_eq!(desk.send_in(-1, None).await.unwrap(), None);
    assert_eq!(desk.send_in(-1, Some("key")).await.unwrap(), None);
    assert_eq!(desk.send_in(-1, Some("key")).await.unwrap(), None);
    assert_eq!(desk.rows("ann").await.len(), 2);
}

/// Who cancels it keeps it from everybody, and again is as well.
async fn what_is_cancelled_comes_to_nobody(mut desk: Desk) {
    let waits = desk.send_in(6, None).await.unwrap().unwrap();
    let cancelled = desk.cancel(&waits.id).await.unwrap();
    assert_eq!(cancelled.state(), SendState::Cancelled);
    assert_eq!(desk.cancel(&waits.id).await.unwrap(), cancelled);
    // One that is due after it came.
    let after = desk.send_in(8, None).await.unwrap().unwrap();
    desk.until_done(&after.id).await;
    assert_eq!(desk.rows("ann").await.len(), 1);
    let unknown = desk.cancel("01a219a3-af81-7c64-89ef-ea87a70254b8").await;
    assert_refused(unknown, Code::NotFound, "SEND_NOT_FOUND");
    let states = |sends: Vec<Send>| {
        let states = sends.into_iter().map(|send| send.state());
        states.collect::<Vec<_>>()
    };
    let mut list = ListSendsRequest {
        organization_id: "acme".into(),
        limit: 1,
        ..ListSendsRequest::default()
    };
    let page = desk
        .sends
        .list_sends(list.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(states(page.sends), [SendState::Done]);
    list.page_token = page.next_page_token;
    let page = desk.sends.list_sends(list).await.unwrap().into_inner();
    assert_eq!(states(page.sends), [SendState::Cancelled]);
}

/// Many are one send, and a topic is who is in it.
async fn many_and_a_topic_are_one_send(mut desk: Desk) {
    let users: Vec<String> = ["ann", "bob"].map(str::to_owned).into();
    let many = SendToManyRequest {
        organization_id: "acme".into(),
        recipient_user_ids: users.clone(),
        content: content("to many"),
        idempotency_key: "many".into(),
        deliver_time: Some(in_seconds(2)),
        ..SendToManyRequest::default()
    };
    let answer = desk.sender.send_to_many(many.clone()).await.unwrap();
    let answer = answer.into_inner();
    assert!(answer.results.is_empty() && !answer.duplicate);
    let waits = answer.send.unwrap();
    let again = desk.sender.send_to_many(many.clone()).await.unwrap();
    assert!(again.into_inner().duplicate);
    let others = SendToManyRequest {
        recipient_user_ids: vec!["cid".into()],
        ..many
    };
    let mismatch = desk.sender.send_to_many(others).await;
    assert_refused(mismatch, Code::AlreadyExists, "IDEMPOTENCY_MISMATCH");
    let id = desk.send_to_new_topic(users).await;
    assert_eq!(desk.until_done(&id).await.delivered_count, 2);
    assert_eq!(desk.until_done(&waits.id).await.delivered_count, 2);
    for user in ["ann", "bob"] {
        let rows = desk.rows(user).await;
        let mut titles: Vec<_> = rows.iter().map(|row| row.title.as_str()).collect();
        titles.sort_unstable();
        assert_eq!(titles, ["to a topic", "to many"]);
    }
    assert_eq!(desk.rows("cid").await, []);
}

/// Each limit, at it and above it, by the name of its field.
async fn what_is_wrong_is_named(mut desk: Desk) {
    let days = |days: i64| Some(in_seconds(days * 24 * 60 * 60));
    let ahead = |deliver_time| SendInAppRequest {
        deliver_time,
        ..send("acme", "ann", "later")
    };
    desk.sender.send_in_app(ahead(days(90))).await.unwrap();
    assert_invalid(
        desk.sender.send_in_app(ahead(days(91))).await,
        &["deliver_time"],
    );
    let own = SendInAppRequest {
        idempotency_key: Some("\u{1}send x".into()),
        ..send("acme", "ann", "a key of the service's own")
    };
    assert_invalid(desk.sender.send_in_app(own).await, &["idempotency_key"]);
    let to_topic = |topic: &str, key: &str| SendToTopicRequest {
        organization_id: "acme".into(),
        topic_id: topic.into(),
        content: content("to a topic"),
        idempotency_key: key.into(),
        ..SendToTopicRequest::default()
    };
    let longest = "t".repeat(128);
    desk.sends
        .send_to_topic(to_topic(&longest, "key"))
        .await
        .unwrap();
    let longer = "t".repeat(129);
    for (topic, key, fields) in [
        (longer.as_str(), "other", &["topic_id"][..]),
        ("", "other", &["topic_id"]),
        ("a\nb", "other", &["topic_id"]),
        ("all", "", &["idempotency_key"]),
        ("all", longer.as_str(), &["idempotency_key"]),
    ] {
        assert_invalid(desk.sends.send_to_topic(to_topic(topic, key)).await, fields);
    }
    assert_invalid(
        desk.sends
            .send_to_topic(SendToTopicRequest::default())
            .await,
        &[
            "organization_id",
            "topic_id",
            "content.type",
            "content.title",
            "idempotency_key",
        ],
    );
    let members = |count: usize| AddTopicMembersRequest {
        organization_id: "acme".into(),
        topic_id: "all".into(),
        user_ids: (0..count).map(|number| format!("user-{number}")).collect(),
    };
    let added = desk.topics.add_topic_members(members(1000)).await.unwrap();
    assert_eq!(added.into_inner().added_count, 1000);
    for count in [0, 1001] {
        assert_invalid(
            desk.topics.add_topic_members(members(count)).await,
            &["user_ids"],
        );
    }
    let list = |limit, token: &str| ListTopicMembersRequest {
        organization_id: "acme".into(),
        topic_id: "all".into(),
        limit,
        page_token: token.into(),
    };
    let page = desk
        .topics
        .list_topic_members(list(5000, ""))
        .await
        .unwrap();
    assert_eq!(page.into_inner().user_ids.len(), 1000);
    assert_invalid(
        desk.topics.list_topic_members(list(-1, "a\nb")).await,
        &["limit", "page_token"],
    );
    let sends = ListSendsRequest {
        organization_id: "acme".into(),
        state: 9,
        limit: -1,
        page_token: "x".into(),
        ..ListSendsRequest::default()
    };
    assert_invalid(
        desk.sends.list_sends(sends).await,
        &["state", "limit", "page_token"],
    );
    let neither = GetSendRequest {
        organization_id: "acme".into(),
        ..GetSendRequest::default()
    };
    assert_invalid(desk.sends.get_send(neither).await, &["send_id"]);
    let request = CancelSendRequest {
        organization_id: "acme".into(),
        send_id: "x".into(),
        ..CancelSendRequest::default()
    };
    assert_invalid(desk.sends.cancel_send(request).await, &["send_id"]);
}

/// It rings on the open screen and waits for who comes later; taken back, it is gone from
/// both.
async fn a_broadcast_rings_and_waits(mut desk: Desk) {
    let mut reader = desk.server.user("acme", "ann").await;
    let stream = reader.subscribe(SubscribeRequest::default()).await;
    let mut stream = stream.unwrap().into_inner();
    next(&mut stream).await;
    let request = BroadcastRequest {
        organization_id: "acme".into(),
        content: content("to everybody"),
        idempotency_key: "once".into(),
        ..BroadcastRequest::default()
    };
    let answer = desk.sends.broadcast(request.clone()).await.unwrap();
    let send = answer.into_inner().send.unwrap();
    let (from, until) = (send.deliver_time.unwrap(), send.available_until.unwrap());
    assert_eq!(until.seconds - from.seconds, 7 * 24 * 60 * 60);
    let message = next(&mut stream).await;
    assert!(message.ring);
    assert_eq!(counts(message.head), (1, 1));
    let rows = desk.rows("bob").await;
    assert_eq!((rows.len(), rows[0].sent_at), (1, send.accepted_at));
    eventually("who has it is counted", async || {
        let send = desk.get(&send.id).await;
        send.state() == SendState::UnderWay && send.delivered_count == 2
    })
    .await;
    let again = desk.sends.broadcast(request.clone()).await.unwrap();
    let again = again.into_inner();
    assert!(again.duplicate && again.send.unwrap().id == send.id);

    let to_all = BroadcastRequest {
        organization_id: String::new(),
        all_organizations: true,
        ..request.clone()
    };
    assert_refused(
        desk.sends.broadcast(to_all.clone()).await,
        Code::PermissionDenied,
        "WRONG_ORGANIZATION",
    );
    let channel = desk.server.authorized(&sender_token("*")).await;
    let mut of_all = SendServiceClient::new(channel);
    let answer = of_all.broadcast(to_all).await.unwrap().into_inner();
    let id = answer.send.unwrap().id;
    assert_eq!(counts(next(&mut stream).await.head), (2, 2));
    let list = ListSendsRequest {
        all_organizations: true,
        ..ListSendsRequest::default()
    };
    let listed = of_all.list_sends(list).await.unwrap().into_inner().sends;
    assert_eq!(listed.len(), 1);
    let cancel = CancelSendRequest {
        all_organizations: true,
        send_id: id.clone(),
        ..CancelSendRequest::default()
    };
    of_all.cancel_send(cancel).await.unwrap();
    assert_eq!(desk.rows("carl").await.len(), 1);
    assert_refused(desk.cancel(&id).await, Code::NotFound, "SEND_NOT_FOUND");

    let retract = RetractBroadcastRequest {
        organization_id: "acme".into(),
        send_id: send.id.clone(),
        ..RetractBroadcastRequest::default()
    };
    let retracted = desk.sends.retract_broadcast(retract).await.unwrap();
    let retracted = retracted.into_inner().send.unwrap();
    assert_eq!(retracted.state(), SendState::Cancelled);
    let message = next(&mut stream).await;
    assert!(matches!(message.event, Some(Event::Changed(_))));
    assert_eq!(counts(message.head), (3, 1));
    for user in ["bob", "carl"] {
        assert_eq!(desk.rows(user).await, [], "{user}");
    }
    assert_eq!(desk.rows("ann").await.len(), 1);
    let unknown = RetractBroadcastRequest {
        organization_id: "acme".into(),
        send_id: id,
        ..RetractBroadcastRequest::default()
    };
    assert_refused(
        desk.sends.retract_broadcast(unknown).await,
        Code::NotFound,
        "SEND_NOT_FOUND",
    );
}

/// What is wrong with a broadcast is named, and its limits are what they are.
async fn what_is_wrong_with_a_broadcast_is_named(mut desk: Desk) {
    let broadcast = |from, until| BroadcastRequest {
        organization_id: "acme".into(),
        content: content("to everybody"),
        idempotency_key: format!("{from} {until}"),
        deliver_time: Some(in_seconds(from)),
        available_until: Some(in_seconds(until)),
        ..BroadcastRequest::default()
    };
    const DAY: i64 = 24 * 60 * 60;
    for (from, until) in [(DAY, DAY + 1), (DAY, 91 * DAY)] {
        desk.sends.broadcast(broadcast(from, until)).await.unwrap();
    }
    for (from, until) in [(DAY, DAY), (DAY, 91 * DAY + 1), (0, -1)] {
        assert_invalid(
            desk.sends.broadcast(broadcast(from, until)).await,
            &["available_until"],
        );
    }
    assert_invalid(
        desk.sends.broadcast(broadcast(91 * DAY, 92 * DAY)).await,
        &["deliver_time"],
    );
    assert_invalid(
        desk.sends.broadcast(BroadcastRequest::default()).await,
        &[
            "organization_id",
            "content.type",
            "content.title",
            "idempotency_key",
        ],
    );
    let both = BroadcastRequest {
        all_organizations: true,
        ..broadcast(DAY, 2 * DAY)
    };
    assert_invalid(desk.sends.broadcast(both).await, &["organization_id"]);
    let nothing = RetractBroadcastRequest::default();
    assert_invalid(
        desk.sends.retract_broadcast(nothing).await,
        &["organization_id", "send_id"],
    );
}

/// A page has as many sends as it may have bytes, and the pages have all of them.
async fn a_page_of_sends_is_below_1_mib(mut desk: Desk) {
    let large = Content {
        body: Some("b".repeat(8 * 1024)),
        data: Some(prost_types::Struct {
            fields: [("a".to_owned(), text(15 * 1024))].into(),
        }),
        ..content("large").unwrap()
    };
    let mut made = BTreeSet::new();
    for number in 0..60 {
        let request = SendToTopicRequest {
            organization_id: "acme".into(),
            topic_id: "all".into(),
            content: Some(large.clone()),
            idempotency_key: number.to_string(),
            deliver_time: Some(in_seconds(24 * 60 * 60)),
            ..SendToTopicRequest::default()
        };
        let sent = desk.sends.send_to_topic(request).await.unwrap();
        made.insert(sent.into_inner().send.unwrap().id);
    }
    let mut list = ListSendsRequest {
        organization_id: "acme".into(),
        limit: 100,
        ..ListSendsRequest::default()
    };
    let mut listed = BTreeSet::new();
    loop {
        let page = desk.sends.list_sends(list.clone()).await.unwrap();
        let page = page.into_inner();
        assert!(page.encoded_len() <= 1 << 20, "{}", page.encoded_len());
        assert!(!page.sends.is_empty());
        listed.extend(page.sends.into_iter().map(|send| send.id));
        if page.next_page_token.is_empty() {
            break;
        }
        list.page_token = page.next_page_token;
    }
    assert_eq!(listed, made);
}

fn text(bytes: usize) -> prost_types::Value {
    let kind = prost_types::value::Kind::StringValue("d".repeat(bytes));
    prost_types::Value { kind: Some(kind) }
}

/// A piece of more people than an organization may have in the line comes to all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_line_makes_a_send_slow_and_no_more() {
    let server = block_in_place(|| Setup::new().with("WRITE_QUEUE", 8).start());
    let mut desk = Desk::of(server).await;
    let users = (0..40).map(|user| format!("user-{user:02}")).collect();
    let id = desk.send_to_new_topic(users).await;
    let done = desk.until_done(&id).await;
    assert_eq!((done.delivered_count, done.error_count), (40, 0));
    assert_eq!(desk.rows("user-39").await.len(), 1);
}

on_both!(
    Desk:
    what_is_for_later_rings_when_its_time_has_come,
    what_is_past_is_sent_at_once,
    what_is_cancelled_comes_to_nobody,
    many_and_a_topic_are_one_send,
    what_is_wrong_is_named,
    a_broadcast_rings_and_waits,
    what_is_wrong_with_a_broadcast_is_named,
    a_page_of_sends_is_below_1_mib,
);
