//! `ListFollowUps` on real servers: who waits is told, and let go.

use std::time::Duration;

use doorbell::{
    client::{FollowUp, FollowUpOptions, FollowUpUnless, ListFollowUpsRequest},
    proto::{
        self, GetTimelineRequest, SendInAppRequest, TimelineEvent,
        send_service_client::SendServiceClient,
    },
};
use tokio::{
    task::{JoinHandle, block_in_place},
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use crate::{
    calls::{assert_invalid, assert_refused, epoch, mark, send},
    engines::Postgres,
    follow_ups::{after, seconds_of},
    process::PATIENCE,
    server::{Authorized, Server, Setup, operator_token, sender_token, user_token},
    support::on_both,
};

/// A backend and its service.
struct Desk {
    server: Server,
    sends: SendServiceClient<Authorized>,
}

impl Desk {
    async fn of(server: Server) -> Self {
        let channel = server.authorized(&sender_token("acme")).await;
        let sends = SendServiceClient::new(channel);
        Self { server, sends }
    }

    async fn on_sqlite() -> Self {
        Self::of(block_in_place(|| Setup::new().start())).await
    }

    async fn on_postgres() -> Self {
        let url = Postgres::shared().create_database().await;
        let setup = Setup::new().with("DATABASE_URL", &url);
        Self::of(block_in_place(|| setup.start())).await
    }

    /// Waits for what comes after an answer.
    fn waits(&self, after: &proto::ListFollowUpsResponse, seconds: i64) -> JoinHandle<Answer> {
        let request = ListFollowUpsRequest {
            organization_id: "acme".into(),
            after_position: after.position,
            epoch: after.epoch.clone(),
            limit: 0,
            wait: Some(seconds_of(seconds)),
        };
        let mut sends = self.sends.clone();
        tokio::spawn(async move { Ok(sends.list_follow_ups(request).await?.into_inner()) })
    }
}

type Answer = Result<proto::ListFollowUpsResponse, tonic::Status>;

/// The answer comes when there is something to tell, and says where to go on.
async fn who_waits_is_told(desk: Desk) {
    let mut sender = desk.server.sender().await;
    let mut reader = desk.server.user("acme", "ann").await;
    let nothing = desk.waits(&proto::ListFollowUpsResponse::default(), 0);
    let nothing = nothing.await.unwrap().unwrap();
    assert_eq!((nothing.follow_ups.len(), nothing.position), (0, 0));
    assert_eq!(nothing.epoch, epoch(&mut reader).await);

    let waiting = desk.waits(&nothing, 30);
    let mut ids = Vec::new();
    for (title, unless) in [
        ("read it", FollowUpUnless::Unspecified),
        ("look at it", FollowUpUnless::Seen),
        ("is read", FollowUpUnless::Read),
    ] {
        let request = SendInAppRequest {
            follow_up: after(2, unless),
            ..send("acme", "ann", title)
        };
        let sent = sender.send_in_app(request).await.unwrap().into_inner();
        ids.push(sent.notification.unwrap().id);
    }
    reader.mark_read(mark([ids[2].clone()])).await.unwrap();
    let began = Instant::now();
    let mut answer = waiting.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    while answer.follow_ups.len() < 2 {
        let next = desk.waits(&answer, 30).await.unwrap().unwrap();
        answer.follow_ups.extend(next.follow_ups);
        answer.position = next.position;
    }
    assert_eq!((answer.follow_ups.len(), answer.position), (2, 2));
    for (index, follow_up) in answer.follow_ups.iter().enumerate() {
        let FollowUp {
            position,
            user_id,
            notification,
            due_time,
            ..
        } = follow_up;
        assert_eq!((*position, user_id.as_str()), (index as u64 + 1, "ann"));
        let of = notification.as_ref().unwrap();
        assert_eq!((&of.id, of.read_at.is_some()), (&ids[index], false));
        let created = of.created_at.unwrap().seconds;
        assert!((1..=3).contains(&(due_time.unwrap().seconds - created)));
    }
    let unless = answer.follow_ups.iter().map(FollowUp::unless);
    let said = [FollowUpUnless::Read, FollowUpUnless::Seen];
    assert!(unless.eq(said));
    // There are no more, and an operator sees that it was told.
    let rest = desk.waits(&answer, 1).await.unwrap().unwrap();
    assert_eq!((rest.follow_ups.len(), rest.position), (0, 2));
}

/// A server that drains lets nobody wait.
async fn who_waits_is_let_go(desk: Desk) {
    let waiting = desk.waits(&proto::ListFollowUpsResponse::default(), 30);
    sleep(Duration::from_secs(1)).await;
    desk.server.signal("TERM");
    let answer = timeout(Duration::from_secs(10), waiting).await;
    let answer = answer.expect("it answers before its wait is over");
    assert_eq!(answer.unwrap().unwrap().follow_ups, []);
}

/// Each bound, and one beyond it.
async fn what_cannot_be_is_refused(mut desk: Desk) {
    let mut sender = desk.server.sender().await;
    let month = 30 * 24 * 60 * 60;
    for (options, field) in [
        (after(1, FollowUpUnless::Seen), None),
        (after(month, FollowUpUnless::Seen), None),
        (after(0, FollowUpUnless::Seen), Some("follow_up.after")),
        (
            after(month + 1, FollowUpUnless::Seen),
            Some("follow_up.after"),
        ),
        (Some(FollowUpOptions::default()), Some("follow_up.after")),
        (
            Some(FollowUpOptions {
                after: Some(seconds_of(60)),
                unless: 3,
            }),
            Some("follow_up.unless"),
        ),
    ] {
        let request = SendInAppRequest {
            follow_up: options,
            ..send("acme", "ann", "bounds")
        };
        let sent = sender.send_in_app(request).await;
        match field {
            None => drop(sent.unwrap()),
            Some(field) => assert_invalid(sent, &[field]),
        }
    }
    let list = ListFollowUpsRequest {
        organization_id: "acme".into(),
        ..ListFollowUpsRequest::default()
    };
    for (request, field) in [
        (
            ListFollowUpsRequest {
                wait: Some(seconds_of(31)),
                ..list.clone()
            },
            "wait",
        ),
        (
            ListFollowUpsRequest {
                wait: Some(seconds_of(-1)),
                ..list.clone()
            },
            "wait",
        ),
        (
            ListFollowUpsRequest {
                after_position: 1,
                ..list.clone()
            },
            "epoch",
        ),
        (
            ListFollowUpsRequest {
                limit: -1,
                ..list.clone()
            },
            "limit",
        ),
        (
            ListFollowUpsRequest {
                organization_id: String::new(),
                ..list.clone()
            },
            "organization_id",
        ),
    ] {
        let answer = desk.sends.list_follow_ups(request).await;
        assert_invalid(answer, &[field]);
    }
    let user = desk.server.authorized(&user_token("acme", "ann")).await;
    let refused = SendServiceClient::new(user).list_follow_ups(list).await;
    assert_refused(refused, Code::PermissionDenied, "NOT_A_SENDER");
}

on_both!(Desk: who_waits_is_told, who_waits_is_let_go, what_cannot_be_is_refused);

/// An operator sees in the timeline that it was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeline_says_when_it_was_followed_up() {
    let server = block_in_place(|| Setup::new().with("OPERATOR_ROLE", "operator").start());
    let mut sender = server.sender().await;
    let request = SendInAppRequest {
        follow_up: after(1, FollowUpUnless::Read),
        ..send("acme", "ann", "look at me")
    };
    let sent = sender.send_in_app(request).await.unwrap().into_inner();
    let mut operator = server.operator(&operator_token("acme")).await;
    let request = GetTimelineRequest {
        organization_id: "acme".into(),
        user_id: "ann".into(),
        notification_id: Some(sent.notification.unwrap().id),
        idempotency_key: None,
    };
    let mut operator = async || {
        let answer = operator.get_timeline(request.clone()).await;
        let entries = answer.unwrap().into_inner().entries;
        let events = entries.iter().map(proto::TimelineEntry::event);
        events.collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = operator().await;
        if events.contains(&TimelineEvent::FollowedUp) {
            assert_eq!(events.last(), Some(&TimelineEvent::FollowedUp));
            return;
        }
        assert!(Instant::now() < deadline, "{events:?}");
        sleep(Duration::from_millis(200)).await;
    }
}
