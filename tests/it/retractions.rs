//! What is taken back over an organization: from all who have it, and before it comes to
//! others; once, whatever stops meanwhile.

use std::{sync::Arc, time::Duration};

use doorbell::{
    client::{Client, SendToManyRequest},
    clock::{Clock as _, SystemClock, Timestamp},
    model::{Content, InboxKey, NewNotification, RemovalCause, TopicId, UserId, View},
    proto::{
        self, About as Thing, GetRetractionRequest, RetractFromAllRequest, SendInAppRequest,
        send_service_client::SendServiceClient,
    },
    retractions::Retractions,
    store::{
        About, Edit, Named, PageLimit, Retractions as _, Store as _, Topics as _, Verb, Which,
        retractions::{NewRetraction, Retraction},
        sends::{NewSend, SendState, Target},
    },
};
use sqlx::Connection as _;
use tokio::task::block_in_place;
use tonic::Code;
use uuid::Uuid;

use crate::{
    calls::{assert_invalid, assert_refused, eventually, send},
    cluster::Cluster,
    engines::{self, Postgres},
    fan_out::Backend,
    hooked::Call,
    process::PATIENCE,
    sends::{House, Node, acme},
    server::{Server, Setup, sender_token, user_token},
    support::{at, on_both},
};

fn project() -> About {
    About {
        entity_type: "project".into(),
        entity_id: "7".into(),
    }
}

fn about(of: &About) -> Arc<Content> {
    Arc::new(Content {
        entity_type: Some(of.entity_type.clone()),
        entity_id: Some(of.entity_id.clone()),
        ..Content::new("test", "about it")
    })
}

fn inbox(organization: &str, user: usize) -> InboxKey {
    InboxKey::parse(organization, &format!("user-{user:03}")).unwrap()
}

async fn sent(node: &Node, to: &InboxKey, content: &Arc<Content>) -> Uuid {
    let id = node.inboxes.new_id();
    let new = NewNotification::new(to.clone(), id, content.clone(), "backend".into());
    node.inboxes.send(new).await.unwrap().notification.row.id
}

/// The nodes' clocks are an hour behind: by theirs.
fn now() -> Timestamp {
    SystemClock.now().before(Duration::from_secs(3600))
}

fn new(house: &House) -> NewRetraction {
    NewRetraction {
        organization_id: acme(),
        id: house.first.sends.new_id(),
        about: project(),
        idempotency_key: "once".into(),
        sender: "backend".into(),
    }
}

fn retractions(house: &House, node: &Node) -> Retractions {
    let clock = Arc::new(SystemClock);
    Retractions::new(house.gate.clone(), node.inboxes.clone(), clock)
}

async fn done(house: &House, by: &Retractions) -> Retraction {
    while by.work(SystemClock.now()).await.unwrap() {}
    let of = Named::Key("once".into());
    let found = house.gate.retraction(&acme(), &of).await.unwrap().unwrap();
    assert!(found.ended_at.is_some(), "{found:?}");
    found
}

/// How many rows of an inbox are there, and how many were taken back.
async fn rows(house: &House, of: &InboxKey) -> (usize, usize) {
    let limit = PageLimit {
        rows: 1000,
        bytes: usize::MAX,
    };
    let changes = house.gate.changes(
        of,
        doorbell::store::Cursor::after(doorbell::model::Revision::ZERO),
        limit,
    );
    let rows = changes.await.unwrap().rows;
    let is_retracted = |row: &&doorbell::model::Notification| {
        let removed = row.row.state.removed;
        removed.is_some_and(|(_, cause)| cause == RemovalCause::Sender)
    };
    (rows.len(), rows.iter().filter(is_retracted).count())
}

/// From all who have it, archived or not, and from nobody else; what is sent later stays.
async fn all_lose_what_is_about_it(house: House) {
    let others = About {
        entity_id: "8".into(),
        ..project()
    };
    for user in 0..50 {
        for content in [about(&project()), about(&others), about(&project())] {
            sent(&house.second, &inbox("acme", user), &content).await;
        }
        sent(&house.second, &inbox("globex", user), &about(&project())).await;
    }
    let archived = inbox("acme", 3);
    let verb = Verb {
        edit: Edit::Archive,
        which: Which::About(project()),
        view: View::All,
    };
    let edited = house.second.inboxes.edit(&archived, verb, None).await;
    assert_eq!(edited.unwrap().changed, 2);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (accepted, is_duplicate) = house
        .gate
        .accept_retraction(&new(&house), now())
        .await
        .unwrap();
    assert!(!is_duplicate && accepted.ended_at.is_none());
    tokio::time::sleep(Duration::from_millis(5)).await;
    let later = inbox("acme", 7);
    sent(&house.second, &later, &about(&project())).await;

    let through = done(&house, &retractions(&house, &house.first)).await;
    assert_eq!((through.retracted, through.errors), (100, 0));
    for user in 0..50 {
        let of = inbox("acme", user);
        let later = usize::from(of == later);
        assert_eq!(rows(&house, &of).await, (3 + later, 2), "{of:?}");
        assert_eq!(rows(&house, &inbox("globex", user)).await, (1, 0));
        let head = house.second.inboxes.head(&of).await.unwrap().head;
        assert_eq!(head.unread_count as usize, 1 + later);
    }
    // The same again is known, and does nothing more.
    let again = house.gate.accept_retraction(&new(&house), now()).await;
    assert_eq!(again.unwrap(), (through.clone(), true));
    let end = through.ended_at.unwrap();
    let before = end.before(Duration::from_micros(1));
    let forget = async |until| house.gate.forget_ended_retractions(until, 8).await.unwrap();
    assert_eq!(forget(before).await, 0);
    assert_eq!(forget(end).await, 1);
    // An erasure of the organization takes them whatever they are at.
    for (at, key) in (1..).zip(["one", "two", "three"]) {
        let new = NewRetraction {
            id: Uuid::from_u128(at),
            idempotency_key: key.into(),
            ..new(&house)
        };
        let accepted = house.gate.accept_retraction(&new, now()).await;
        assert!(!accepted.unwrap().1);
    }
    let organization = |name| inbox(name, 0).organization_id;
    let (acme, globex) = (organization("acme"), organization("globex"));
    assert_eq!(house.gate.delete_retractions(&globex, 8).await.unwrap(), 0);
    assert_eq!(house.gate.delete_retractions(&acme, 2).await.unwrap(), 2);
    assert_eq!(house.gate.delete_retractions(&acme, 2).await.unwrap(), 1);
}

/// What was accepted before and is not delivered comes to nobody: to people that were
/// named, to a topic, to everybody. What is about something else does.
async fn what_was_to_come_does_not(house: House) {
    let users: Vec<_> = (0..700).map(|user| inbox("acme", user).user_id).collect();
    let topic = TopicId::parse("news").unwrap();
    for users in users.chunks(100) {
        house
            .gate
            .add_members(&acme(), &topic, users)
            .await
            .unwrap();
    }
    let later = SystemClock.now().after(Duration::from_secs(3600));
    let everybody = Target::Everybody {
        available_until: later,
    };
    let named = |users: &[UserId]| Target::Users(users.to_vec());
    let mut ids = Vec::new();
    for (target, of, deliver_time) in [
        (named(&users[..2]), project(), later),
        (Target::Topic(topic), project(), at(0)),
        (everybody.clone(), project(), at(0)),
        (
            named(&users[..2]),
            About {
                entity_id: "8".into(),
                ..project()
            },
            later,
        ),
    ] {
        let new = NewSend {
            content: about(&of),
            deliver_time,
            ..house.new_send(target)
        };
        ids.push(house.accept(&new).await.id);
    }
    // A piece of the topic was delivered, and somebody has what is for everybody.
    assert!(house.first.sends.work(SystemClock.now()).await.unwrap());
    let last = inbox("acme", 699);
    house.second.inboxes.own_head(&last).await.unwrap();
    assert_eq!(rows(&house, &last).await, (1, 0));
    let by = retractions(&house, &house.first);
    let (_, is_duplicate) = by.accept(&new(&house)).await.unwrap();
    assert!(!is_duplicate);
    while house.first.sends.work(SystemClock.now()).await.unwrap() {}
    let mut states = Vec::new();
    for id in ids {
        states.push(house.send(id).await.state);
    }
    let cancelled = SendState::Cancelled;
    assert_eq!(
        states,
        [cancelled, cancelled, cancelled, SendState::Waiting]
    );
    let through = done(&house, &by).await;
    // The piece of the topic; and of everybody who looked.
    assert!((500..=501).contains(&through.retracted), "{through:?}");
    for user in (0..700).step_by(50).chain([699]) {
        let of = inbox("acme", user);
        house.second.inboxes.own_head(&of).await.unwrap();
        let (there, retracted) = rows(&house, &of).await;
        assert_eq!(there, retracted, "{of:?}");
    }
}

/// One has read what comes next and is held there; another does all of it meanwhile.
async fn two_at_once_take_back_once(house: House) {
    for user in 0..40 {
        sent(&house.second, &inbox("acme", user), &about(&project())).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    house
        .gate
        .accept_retraction(&new(&house), now())
        .await
        .unwrap();
    house.gate.hook.arm(Call::RowsAbout);
    let slow = retractions(&house, &house.first);
    let held = tokio::spawn(async move { slow.work(SystemClock.now()).await });
    house.gate.hook.reached().await;
    let through = done(&house, &retractions(&house, &house.second)).await;
    assert_eq!(through.retracted, 40);
    house.gate.hook.go.notify_one();
    held.await.unwrap().unwrap();
    let after = done(&house, &retractions(&house, &house.second)).await;
    assert_eq!(after, through);
    for user in 0..40 {
        let of = inbox("acme", user);
        assert_eq!(rows(&house, &of).await, (1, 1));
        let head = house.second.inboxes.head(&of).await.unwrap().head;
        assert_eq!(head.revision.get(), 2, "one change, and no other");
    }
}

/// Of an inbox that somebody holds it is taken back later, and of the others at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_held_loses_it_later() {
    let url = Postgres::shared().create_database().await;
    let house = House::at(&url).await;
    for user in 0..3 {
        sent(&house.second, &inbox("acme", user), &about(&project())).await;
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    let accepted = house.gate.accept_retraction(&new(&house), now()).await;
    accepted.unwrap();
    let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
    let hold = "BEGIN; SELECT * FROM inboxes WHERE user_id = 'user-001' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let by = retractions(&house, &house.first);
    let at = SystemClock.now();
    by.work(at).await.unwrap();
    let of = Named::Key("once".into());
    let found = house.gate.retraction(&acme(), &of).await.unwrap().unwrap();
    let counted = (found.retracted, found.errors, found.ended_at);
    assert_eq!(counted, (2, 0, None));
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut holder)
        .await
        .unwrap();
    let later = at.after(Duration::from_secs(6));
    while by.work(later).await.unwrap() {}
    let found = house.gate.retraction(&acme(), &of).await.unwrap().unwrap();
    assert_eq!((found.retracted, found.errors), (3, 0));
    assert!(found.ended_at.is_some());
    for user in 0..3 {
        assert_eq!(rows(&house, &inbox("acme", user)).await, (1, 1));
    }
}

on_both!(House: all_lose_what_is_about_it, what_was_to_come_does_not, two_at_once_take_back_once);

async fn on_a_server(server: Server) {
    let mut sender = server.sender().await;
    let channel = server.authorized(&sender_token("acme")).await;
    let mut sends = SendServiceClient::new(channel);
    for user in ["ann", "bob"] {
        let request = SendInAppRequest {
            entity_type: Some("project".into()),
            entity_id: Some("7".into()),
            ..send("acme", user, "about it")
        };
        sender.send_in_app(request).await.unwrap();
    }
    let request = |id: &str, key: &str| RetractFromAllRequest {
        organization_id: "acme".into(),
        about: Some(Thing {
            entity_type: "project".into(),
            entity_id: id.into(),
        }),
        idempotency_key: key.into(),
    };
    let accepted = sends.retract_from_all(request("7", "once")).await.unwrap();
    let accepted = accepted.into_inner();
    assert!(!accepted.duplicate);
    let id = accepted.retraction.unwrap().id;
    let of = |id: Option<String>, key: Option<&str>| GetRetractionRequest {
        organization_id: "acme".into(),
        retraction_id: id,
        idempotency_key: key.map(str::to_owned),
    };
    let mut waiting = sends.clone();
    eventually("it is through", async || {
        let answer = waiting.get_retraction(of(Some(id.clone()), None)).await;
        let retraction = answer.unwrap().into_inner().retraction.unwrap();
        retraction.ended_at.is_some() && retraction.retracted_count == 2
    })
    .await;
    for user in ["ann", "bob"] {
        let mut reader = server.user("acme", user).await;
        let page = reader.get_recent(doorbell::proto::GetRecentRequest::default());
        assert_eq!(page.await.unwrap().into_inner().notifications, []);
    }
    let again = sends.retract_from_all(request("7", "once")).await.unwrap();
    assert!(again.into_inner().duplicate);
    let other = sends.retract_from_all(request("8", "once")).await;
    assert_refused(other, Code::AlreadyExists, "IDEMPOTENCY_MISMATCH");
    let unknown = sends.get_retraction(of(None, Some("never"))).await;
    assert_refused(unknown, Code::NotFound, "RETRACTION_NOT_FOUND");
    assert_invalid(
        sends.retract_from_all(request("", "once")).await,
        &["about.entity_id"],
    );
    assert_invalid(
        sends.retract_from_all(request("7", "")).await,
        &["idempotency_key"],
    );
    assert_invalid(
        sends.get_retraction(of(None, None)).await,
        &["retraction_id"],
    );
    let user = server.authorized(&user_token("acme", "ann")).await;
    let refused = SendServiceClient::new(user)
        .retract_from_all(request("7", "mine"))
        .await;
    assert_refused(refused, Code::PermissionDenied, "NOT_A_SENDER");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_takes_back_from_all_on_sqlite() {
    on_a_server(block_in_place(|| Setup::new().start())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_takes_back_from_all_on_postgres() {
    let url = Postgres::shared().create_database().await;
    let setup = Setup::new().with("DATABASE_URL", &url);
    on_a_server(block_in_place(|| setup.start())).await;
}

/// So many have what is taken back, and as many something else.
const PEOPLE: usize = 1000;

/// Three nodes, each killed while it goes on, and their Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_whatever_is_killed() {
    let mut cluster = Cluster::start(3, &[]).await;
    let backend = Backend::of(&cluster.nodes);
    for (key, entity_id) in [("gone", "7"), ("stays", "8")] {
        let request = SendToManyRequest {
            organization_id: "acme".into(),
            recipient_user_ids: (0..PEOPLE).map(|user| format!("user-{user:03}")).collect(),
            content: Some(proto::Content {
                r#type: "test".into(),
                title: "about it".into(),
                entity_type: Some("project".into()),
                entity_id: Some(entity_id.into()),
                ..proto::Content::default()
            }),
            idempotency_key: key.into(),
            ..SendToManyRequest::default()
        };
        let call = async |client: &Client| client.send_to_many(request.clone()).await;
        assert_eq!(backend.ask(call).await.error_count, 0);
    }
    let request = RetractFromAllRequest {
        organization_id: "acme".into(),
        about: Some(Thing {
            entity_type: "project".into(),
            entity_id: "7".into(),
        }),
        idempotency_key: "once".into(),
    };
    let call = async |client: &Client| client.retract_from_all(request.clone()).await;
    backend.ask(call).await;
    for node in 0..3 {
        cluster.nodes[node].signal("KILL");
        block_in_place(|| cluster.start_again(node, false));
    }
    block_in_place(|| cluster.postgres.kill());
    tokio::time::sleep(Duration::from_millis(500)).await;
    block_in_place(|| cluster.postgres.restart());
    let request = GetRetractionRequest {
        organization_id: "acme".into(),
        idempotency_key: Some("once".into()),
        ..GetRetractionRequest::default()
    };
    let call = async |client: &Client| client.get_retraction(request.clone()).await;
    let deadline = tokio::time::Instant::now() + 6 * PATIENCE;
    let through = loop {
        let retraction = backend.ask(call).await.retraction.unwrap();
        if retraction.ended_at.is_some() {
            break retraction;
        }
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "{retraction:?}\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(through.error_count, 0);
    let count = async |which: &str| {
        let query = format!("SELECT count(*) FROM notifications WHERE {which}");
        engines::number(&cluster.database, &query).await
    };
    assert_eq!(count("removal_cause = 2 AND revision = 3").await, 1000);
    assert_eq!(count("removed_at IS NULL AND entity_id = '8'").await, 1000);
    let once = "SELECT count(*) FROM inboxes WHERE revision = 3 AND unread_count = 1";
    assert_eq!(engines::number(&cluster.database, once).await, 1000);
}
