//! What is said to everybody: each inbox takes it once, when it is looked into, and counts
//! it as any other. On SQLite both nodes are one, on Postgres two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    bus::Bus,
    client::{BroadcastRequest, Client, Options, RetractBroadcastRequest, TokenSource},
    clock::{Clock as _, SystemClock},
    config::{FeedSettings, WriterSettings},
    inbox::{
        Inboxes,
        feed::{Event, Resume},
    },
    model::{Content, Head, InboxKey, NewNotification, OrganizationId, RemovalCause, View},
    operators::Operators,
    random::SeededRandom,
    store::{
        self, Edit, Mutation, PageLimit, Preferences as _, RecentQuery, Sends as _, Store as _,
        Take, Verb, Which,
        preferences::TypeDefault,
        sends::{NewSend, NotAccepted, Send, SendState, Target},
    },
};
use tokio::{
    sync::Notify,
    task::{JoinHandle, JoinSet, block_in_place},
    time::{Instant, timeout},
};

use crate::{
    calls::eventually,
    cluster::Cluster,
    engines,
    fan_out::Backend,
    history::Check,
    hooked::{Call, Hook, Hooked},
    process::PATIENCE,
    sends::{House, Node, acme},
    server::{Server, user_token},
    support::{at, on_both},
};

fn of(organization: &str, user: &str) -> InboxKey {
    InboxKey::parse(organization, user).unwrap()
}

fn ann() -> InboxKey {
    of("acme", "ann")
}

/// A broadcast to acme of a type that can be taken for a day.
fn new(house: &House, kind: &str) -> NewSend {
    let available_until = SystemClock.now().after(Duration::from_secs(86_400));
    NewSend {
        content: Arc::new(Content::new(kind, "to everybody")),
        ..house.new_send(Target::Everybody { available_until })
    }
}

/// It can be taken from now on.
async fn broadcast(house: &House, new: &NewSend) -> Send {
    let send = house.accept(new).await;
    house.deliver(&house.first).await;
    send
}

async fn looks(node: &Node, inbox: &InboxKey) -> Head {
    node.inboxes.own_head(inbox).await.unwrap().head
}

async fn unread(node: &Node, inbox: &InboxKey) -> u32 {
    looks(node, inbox).await.unread_count
}

/// All rows of an inbox, of any state, as they are: nothing is taken for it.
async fn rows(house: &House, inbox: &InboxKey) -> Vec<doorbell::model::Notification> {
    let limit = PageLimit {
        rows: 1000,
        bytes: usize::MAX,
    };
    let query = RecentQuery {
        view: View::All,
        ..RecentQuery::new(limit)
    };
    house
        .second
        .inboxes
        .recent(inbox, query)
        .await
        .unwrap()
        .rows
}

/// Ann looks by the first node, which has read what she lacks and is held there.
async fn ann_looks(house: &House) -> JoinHandle<()> {
    house.gate.hook.arm(Call::Untaken);
    let first = house.first.inboxes.clone();
    let looking = tokio::spawn(async move { drop(first.own_head(&ann()).await.unwrap()) });
    house.gate.hook.reached().await;
    looking
}

async fn goes_on(house: &House, looking: JoinHandle<()>) {
    house.gate.hook.go.notify_one();
    looking.await.unwrap();
}

async fn send_to(node: &Node, inbox: &InboxKey) -> Head {
    let new = NewNotification::new(
        inbox.clone(),
        node.inboxes.new_id(),
        Arc::new(Content::new("test", "to one")),
        "backend".into(),
    );
    node.inboxes.send(new).await.unwrap().head
}

/// Who had something and who had nothing take it when they look, and nobody else's inbox
/// has it.
async fn everybody_takes_it_once(house: House) {
    send_to(&house.first, &ann()).await;
    let send = house.accept(&new(&house, "news")).await;
    assert_eq!(unread(&house.first, &ann()).await, 1, "it has not begun");
    house.deliver(&house.first).await;
    assert_eq!(house.send(send.id).await.state, SendState::UnderWay);

    let (zoe, globex) = (of("acme", "zoe"), of("globex", "ann"));
    assert_eq!(rows(&house, &zoe).await.len(), 0, "nobody looked");
    for node in [&house.first, &house.second] {
        let head = looks(node, &ann()).await;
        assert_eq!((head.unread_count, head.revision.get()), (2, 2));
        assert_eq!(unread(node, &zoe).await, 1);
        assert_eq!(unread(node, &globex).await, 0);
    }
    let limit = PageLimit {
        rows: 20,
        bytes: usize::MAX,
    };
    let bob = of("acme", "bob");
    let page = house
        .second
        .inboxes
        .own_recent(&bob, RecentQuery::new(limit));
    let page = page.await.unwrap();
    assert_eq!((page.rows.len(), page.snapshot.head.unread_count), (1, 1));
    let row = &page.rows[0];
    assert_eq!(row.content.title, "to everybody");
    assert_eq!(row.sent_at, send.accepted_at);
    let carl = of("acme", "carl");
    let counted = house
        .first
        .inboxes
        .own_count_types(&carl, vec!["news".into()]);
    assert_eq!(counted.await.unwrap().unread["news"], 1);

    eventually("who took it is counted", async || {
        house.send(send.id).await.tally.delivered == 4
    })
    .await;
}

/// What is said to all of all is in each, and is not their own to stop.
async fn all_organizations_take_it(house: House) {
    let to_all = NewSend {
        organization_id: OrganizationId::all(),
        ..new(&house, "news")
    };
    let send = broadcast(&house, &to_all).await;
    broadcast(&house, &new(&house, "news")).await;
    assert_eq!(unread(&house.second, &ann()).await, 2);
    assert_eq!(unread(&house.second, &of("globex", "ann")).await, 1);
    let sends = &house.second.sends;
    assert!(sends.cancel(&acme(), send.id).await.unwrap().is_err());
    let none = sends.retract_broadcast(&acme(), send.id).await.unwrap();
    assert_eq!(none, None);
    let cancelled = sends.cancel(&OrganizationId::all(), send.id).await.unwrap();
    assert_eq!(cancelled.unwrap().state, SendState::Cancelled);
    assert_eq!(unread(&house.first, &of("globex", "bob")).await, 0);
    assert_eq!(unread(&house.first, &of("acme", "bob")).await, 1);
}

/// More than fit into one change come one after the other, in their order.
async fn many_are_taken_in_pieces(house: House) {
    for organization_id in [acme(), OrganizationId::all()] {
        for _ in 0..70 {
            let organization_id = organization_id.clone();
            house
                .accept(&NewSend {
                    organization_id,
                    ..new(&house, "news")
                })
                .await;
        }
    }
    house.deliver(&house.first).await;
    eventually("who looks again has the rest", async || {
        unread(&house.second, &ann()).await >= 140
    })
    .await;
    let head = looks(&house.first, &ann()).await;
    assert_eq!((head.unread_count, head.revision.get()), (140, 140));
    let sequences: Vec<u64> = rows(&house, &ann())
        .await
        .iter()
        .map(|row| row.row.sequence.get())
        .collect();
    assert_eq!(sequences, (1..=140).rev().collect::<Vec<_>>());
}

/// Two of one person's screens, on two nodes, look at the same moment.
async fn who_looks_twice_at_once_takes_it_once(house: House) {
    broadcast(&house, &new(&house, "news")).await;
    let looking = ann_looks(&house).await;
    assert_eq!(
        unread(&house.second, &ann()).await,
        u32::from(is_two(&house))
    );
    goes_on(&house, looking).await;
    eventually("it is taken at last", async || {
        unread(&house.second, &ann()).await > 0
    })
    .await;
    let head = looks(&house.first, &ann()).await;
    assert_eq!((head.unread_count, head.revision.get()), (1, 1));
    assert_eq!(rows(&house, &ann()).await.len(), 1);
}

/// Another node took less of it meanwhile: the rest is taken all the same.
async fn who_came_second_takes_the_rest(house: House) {
    for _ in 0..2 {
        broadcast(&house, &new(&house, "news")).await;
    }
    let looking = ann_looks(&house).await;
    let first_alone = Mutation::Take(Take {
        inbox: ann(),
        after: 0,
        through: 1,
        sends: Vec::new(),
        retracted: Vec::new(),
    });
    let taken = house.gate.commit(&[first_alone], SystemClock.now()).await;
    assert_eq!(taken.unwrap().outcomes.len(), 1);
    goes_on(&house, looking).await;
    eventually(
        "the second is taken, and she did not look again",
        async || rows(&house, &ann()).await.len() == 1,
    )
    .await;
}

/// Who looked did not wait for it any more: it is counted all the same.
async fn who_takes_it_late_is_counted(house: House) {
    let send = broadcast(&house, &new(&house, "news")).await;
    house.gate.hook.arm(Call::Commit);
    let first = house.first.inboxes.clone();
    let looking = tokio::spawn(async move { drop(first.own_head(&ann()).await.unwrap()) });
    house.gate.hook.reached().await;
    looking.await.unwrap();
    house.gate.hook.go.notify_one();
    eventually("it is counted", async || {
        house.send(send.id).await.tally.delivered == 1
    })
    .await;
}

/// Whether the second node reads by itself.
fn is_two(house: &House) -> bool {
    !Arc::ptr_eq(&house.first.inboxes, &house.second.inboxes)
}

async fn what_is_taken_back_meanwhile_is_not_taken(house: House) {
    takes_nothing_back(house).await.unwrap();
}

/// It is taken back between the read of what there is and the commit; and from who has it.
async fn takes_nothing_back(house: House) -> Check {
    // Zoe has another one as well: so what she lacks is not what Ann does.
    let zoe = of("acme", "zoe");
    let old = broadcast(&house, &new(&house, "old")).await;
    assert_eq!(unread(&house.second, &zoe).await, 1);
    let sends = &house.second.sends;
    sends.cancel(&acme(), old.id).await.unwrap().unwrap();
    let send = broadcast(&house, &new(&house, "news")).await;
    assert_eq!(unread(&house.second, &zoe).await, 2);
    let looking = ann_looks(&house).await;
    for _ in 0..2 {
        let retracted = sends.retract_broadcast(&acme(), send.id).await.unwrap();
        assert_eq!(retracted.unwrap().state, SendState::Cancelled);
    }
    goes_on(&house, looking).await;
    for (user, revision) in [("ann", 0), ("zoe", 3), ("new", 0)] {
        let inbox = of("acme", user);
        eventually("what there is is taken", async || {
            looks(&house.second, &inbox).await;
            !house.gate.head(&inbox).await.unwrap().lacks()
        })
        .await;
        let head = looks(&house.second, &inbox).await;
        let rows = rows(&house, &inbox).await;
        let has = |kind: &str| rows.iter().filter(|row| row.content.kind == kind).count();
        if has("news") > 0 || head.unread_count as usize != has("old") {
            return Err(format!("{user} has what was taken back: {head:?}"));
        }
        assert_eq!(
            (head.revision.get(), rows.len()),
            (revision, usize::from(user == "zoe"))
        );
    }
    Ok(())
}

/// What is taken back, on SQLite.
#[cfg(feature = "sabotage")]
pub async fn retracts() -> Check {
    takes_nothing_back(House::on_sqlite().await).await
}

/// A send comes between the read of what there is and the commit.
async fn a_send_meanwhile_is_counted_as_well(house: House) {
    broadcast(&house, &new(&house, "news")).await;
    let looking = ann_looks(&house).await;
    let head = send_to(&house.second, &ann()).await;
    assert_eq!((head.unread_count, head.revision.get()), (1, 1));
    goes_on(&house, looking).await;
    eventually("it is taken", async || {
        unread(&house.second, &ann()).await >= 2
    })
    .await;
    assert_eq!(looks(&house.first, &ann()).await.revision.get(), 2);
    let rows = rows(&house, &ann()).await;
    assert!(rows[0].created_at > rows[1].created_at);
    assert_eq!(rows[0].content.title, "to everybody");
}

/// Who is not to have it has it not, and takes no revision.
async fn it_is_judged_as_any_send(house: House) {
    let is_off = [("news".to_owned(), Some(false))];
    house.gate.choose(&ann(), &is_off).await.unwrap();
    broadcast(&house, &new(&house, "news")).await;
    let over = NewSend {
        expire_time: Some(at(1)),
        ..new(&house, "other")
    };
    broadcast(&house, &over).await;
    assert_eq!(looks(&house.second, &ann()).await, Head::default());
    assert!(!house.gate.head(&ann()).await.unwrap().lacks());
    assert_eq!(unread(&house.second, &of("acme", "bob")).await, 1);

    let default = |is_on, is_required| {
        let default = TypeDefault { is_on, is_required };
        [("news".to_owned(), Some(default))]
    };
    let required = default(true, true);
    house
        .gate
        .set_type_defaults(&acme(), &required)
        .await
        .unwrap();
    broadcast(&house, &new(&house, "news")).await;
    assert_eq!(unread(&house.second, &ann()).await, 1);
    assert_eq!(unread(&house.second, &of("acme", "bob")).await, 2);
    let off = default(false, false);
    house.gate.set_type_defaults(&acme(), &off).await.unwrap();
    broadcast(&house, &new(&house, "news")).await;
    assert_eq!(unread(&house.second, &of("acme", "bob")).await, 2);
}

/// Later than its time nobody new has it, and who has it keeps it.
async fn it_can_be_taken_for_a_while(house: House) {
    let send = broadcast(&house, &new(&house, "news")).await;
    assert_eq!(unread(&house.second, &ann()).await, 1);
    let end = SystemClock.now().after(Duration::from_secs(2 * 86_400));
    while house.second.sends.work(end).await.unwrap() {}
    let done = house.send(send.id).await;
    assert_eq!(done.state, SendState::Done);
    assert!(done.ended_at.is_some());
    assert_eq!(unread(&house.first, &ann()).await, 1);
    assert_eq!(unread(&house.first, &of("acme", "bob")).await, 0);
    // It is still there to be taken back, for a week.
    house
        .second
        .sends
        .retract_broadcast(&acme(), send.id)
        .await
        .unwrap();
    assert_eq!(unread(&house.first, &ann()).await, 0);
    let later = end.after(Duration::from_secs(9 * 86_400));
    while house.second.sends.work(later).await.unwrap() {}
    let gone = house.second.sends.retract_broadcast(&acme(), send.id).await;
    assert_eq!(gone.unwrap(), None);
}

/// As many as may be; a retry of one of them is none more, and one that ends makes room.
async fn there_are_at_most_so_many(house: House) {
    let first = new(&house, "news");
    house.accept(&first).await;
    for _ in 1..100 {
        house.accept(&new(&house, "news")).await;
    }
    let sends = &house.first.sends;
    let more = new(&house, "news");
    let refused = sends.accept(&more).await.unwrap();
    assert_eq!(refused, Err(NotAccepted::TooManyBroadcasts));
    let again = NewSend {
        id: sends.new_id(),
        ..first.clone()
    };
    assert!(sends.accept(&again).await.unwrap().unwrap().duplicate);
    let other = NewSend {
        organization_id: OrganizationId::parse("globex").unwrap(),
        ..new(&house, "news")
    };
    assert!(sends.accept(&other).await.unwrap().is_ok());
    sends.cancel(&acme(), first.id).await.unwrap().unwrap();
    assert!(sends.accept(&more).await.unwrap().is_ok());
}

/// A stream that is open has it within moments; what is old is not heard.
async fn a_stream_that_is_open_rings(house: House) {
    let expires_at = SystemClock.now().after(Duration::from_secs(3600));
    let inboxes = &house.second.inboxes;
    let feed = inboxes
        .subscribe(&ann(), Resume::default(), expires_at)
        .await;
    let mut feed = feed.unwrap();
    feed.next().await.unwrap().unwrap();
    // The node has looked at what there was before.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let send = broadcast(&house, &new(&house, "news")).await;
    let message = timeout(PATIENCE, feed.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((message.head.unread_count, message.ring), (1, true));
    assert!(matches!(message.event, Event::Live(_)));
    house
        .first
        .sends
        .retract_broadcast(&acme(), send.id)
        .await
        .unwrap();
    let message = timeout(PATIENCE, feed.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!((message.head.unread_count, message.ring), (0, false));
}

/// Who comes back after a while has what they lack in their list, and hears nothing.
async fn what_is_old_is_not_heard(house: House) {
    let send = house.accept(&new(&house, "news")).await;
    // It began an hour ago, by the time of the one who begins.
    let long_ago = SystemClock.now().before(Duration::from_secs(2 * 3600));
    while house.first.sends.work(long_ago).await.unwrap() {}
    assert_eq!(house.send(send.id).await.state, SendState::UnderWay);
    assert_eq!(unread(&house.second, &ann()).await, 1);
    let row = &rows(&house, &ann()).await[0];
    assert_eq!(row.row.ring_revision.get(), 0);
}

/// What is archived or removed of it stays so, and what is erased does not come again.
async fn what_became_of_it_stays(house: House) {
    let send = broadcast(&house, &new(&house, "news")).await;
    let (bob, zoe) = (of("acme", "bob"), of("acme", "zoe"));
    for (inbox, edit) in [
        (&bob, Edit::Archive),
        (&zoe, Edit::Remove(RemovalCause::User)),
    ] {
        looks(&house.second, inbox).await;
        let ids = rows(&house, inbox)
            .await
            .iter()
            .map(|row| row.row.id)
            .collect();
        let verb = Verb {
            edit,
            which: Which::Ids(ids),
            view: View::Inbox,
        };
        let done = house.second.inboxes.edit(inbox, verb, None).await.unwrap();
        assert_eq!(done.changed, 1);
        assert_eq!(unread(&house.second, inbox).await, 0);
    }
    let operators = Operators::new(house.gate.clone(), house.first.inboxes.clone());
    looks(&house.second, &ann()).await;
    operators.erase_inbox(&ann()).await.unwrap();
    assert_eq!(unread(&house.second, &ann()).await, 0);
    assert_eq!(rows(&house, &bob).await.len(), 1);
    house
        .second
        .sends
        .retract_broadcast(&acme(), send.id)
        .await
        .unwrap();
    for inbox in [&ann(), &bob, &zoe] {
        looks(&house.second, inbox).await;
        assert_eq!(rows(&house, inbox).await.len(), 0, "{inbox:?}");
    }
    operators.erase_organization(&acme()).await.unwrap();
    let found = house.gate.sends(&acme(), None, None, 10).await.unwrap();
    assert!(found.is_empty());
}

/// Holds commits until it is told.
#[derive(Default)]
struct Held {
    is_held: AtomicBool,
    go: Notify,
}

#[async_trait]
impl Hook for Held {
    async fn before(&self, call: Call) {
        if call == Call::Commit && self.is_held.load(Ordering::SeqCst) {
            self.go.notified().await;
        }
    }
}

/// While nothing can be written, reads say what there is, a moment later.
async fn who_looks_is_not_held_up(house: House) {
    broadcast(&house, &new(&house, "news")).await;
    let held = Hooked::new(house.gate.clone(), Held::default());
    let settings = WriterSettings {
        write_queue: 1,
        ..WriterSettings::default()
    };
    let inboxes = Inboxes::new(
        held.clone(),
        Bus::local(&FeedSettings::default()),
        Arc::new(SystemClock),
        Arc::new(SeededRandom::new(9)),
        FeedSettings::default(),
        &settings,
    );
    held.hook.is_held.store(true, Ordering::SeqCst);
    // The first waits for its commit, the second in the queue, and the others are refused:
    // each is answered.
    for user in ["ann", "bob", "carl", "dora", "ann"] {
        let began = Instant::now();
        let head = inboxes.own_head(&of("acme", user)).await.unwrap().head;
        assert_eq!(head, Head::default(), "{user}");
        assert!(began.elapsed() < PATIENCE / 2, "{user}");
    }
    // Draining, too.
    inboxes.drain(Duration::ZERO);
    let head = inboxes.own_head(&of("acme", "eve")).await.unwrap().head;
    assert_eq!(head, Head::default());
    held.hook.is_held.store(false, Ordering::SeqCst);
    held.hook.go.notify_waiters();
    for user in ["ann", "bob", "carl", "dora", "eve"] {
        let inbox = of("acme", user);
        eventually(&format!("{user} has it late, and not never"), async || {
            inboxes.own_head(&inbox).await.unwrap().head.unread_count > 0
        })
        .await;
    }
}

/// Refuses what is written to some inboxes, as where somebody else holds their heads.
struct Locked(Vec<InboxKey>);

#[async_trait]
impl Hook for Locked {
    fn refused(&self, batch: &[Mutation]) -> Option<store::Error> {
        let is_locked = |mutation: &Mutation| self.0.contains(mutation.inbox());
        let held = || store::Error::Held("somebody else has it".into());
        batch.iter().any(is_locked).then(held)
    }
}

/// Where some inboxes cannot be written to, all others that are open take it all the same.
async fn who_cannot_take_it_stops_nobody(house: House) {
    let user = |number: usize| of("acme", &format!("user-{number}"));
    let locked: Vec<_> = (0..5).map(user).collect();
    let others = 5..200;
    let hooked = Hooked::new(house.gate.clone(), Locked(locked.clone()));
    let feeds = FeedSettings {
        heartbeat_interval: Duration::from_secs(3600).into(),
        ..FeedSettings::default()
    };
    let inboxes = Inboxes::new(
        hooked,
        Bus::local(&feeds),
        Arc::new(SystemClock),
        Arc::new(SeededRandom::new(7)),
        feeds,
        &WriterSettings::default(),
    );
    let expires_at = SystemClock.now().after(Duration::from_secs(3600));
    let mut open = Vec::new();
    for number in (0..5).chain(others.clone()) {
        let user = user(number);
        let feed = inboxes.subscribe(&user, Resume::default(), expires_at);
        open.push(feed.await.unwrap());
    }
    // The node has looked at what there was before.
    tokio::time::sleep(Duration::from_secs(2)).await;
    broadcast(&house, &new(&house, "news")).await;
    for number in others {
        eventually("who is open takes it", async || {
            rows(&house, &user(number)).await.len() == 1
        })
        .await;
    }
    for inbox in &locked {
        assert_eq!(rows(&house, inbox).await.len(), 0, "{inbox:?}");
    }
}

on_both!(
    House:
    everybody_takes_it_once,
    all_organizations_take_it,
    many_are_taken_in_pieces,
    who_looks_twice_at_once_takes_it_once,
    who_came_second_takes_the_rest,
    who_takes_it_late_is_counted,
    who_cannot_take_it_stops_nobody,
    what_is_taken_back_meanwhile_is_not_taken,
    a_send_meanwhile_is_counted_as_well,
    it_is_judged_as_any_send,
    it_can_be_taken_for_a_while,
    there_are_at_most_so_many,
    a_stream_that_is_open_rings,
    what_is_old_is_not_heard,
    what_became_of_it_stays,
    who_looks_is_not_held_up,
);

/// So many look again and again, each by whichever node answers.
const PEOPLE: usize = 120;

/// Reads the count of one after the other until it is told, whatever dies meanwhile.
async fn look_on(nodes: Vec<(String, Client)>, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::SeqCst) {
        for (_, client) in &nodes {
            // Who cannot be reached is asked again.
            let _ = client.get_unread_count(Vec::new()).await;
        }
    }
}

/// Three nodes, while each of them is killed, and Postgres is: nobody lacks what was
/// said, nobody has it twice, and nobody keeps what was taken back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_it_once_while_nodes_and_postgres_die() {
    let mut cluster = Cluster::start(3, &[]).await;
    let backend = Backend::of(&cluster.nodes);
    let urls: Vec<_> = cluster.nodes.iter().map(Server::url).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut looking = JoinSet::new();
    for node in 0..3 {
        let people = (0..PEOPLE)
            .filter(|person| person % 3 == node)
            .map(|person| {
                let user = format!("user-{person}");
                let tokens = TokenSource::fixed(&user_token("acme", &user));
                let client = Client::new(&urls[(person + 1) % 3], tokens, Options::default());
                (user, client.unwrap())
            });
        looking.spawn(look_on(people.collect(), is_over.clone()));
    }
    let say = async |key: &str| {
        let request = BroadcastRequest {
            organization_id: "acme".into(),
            content: Some(doorbell::client::Content {
                r#type: "news".into(),
                title: key.into(),
                ..doorbell::client::Content::default()
            }),
            idempotency_key: key.into(),
            ..BroadcastRequest::default()
        };
        let call = async |client: &Client| client.broadcast(request.clone()).await;
        backend.ask(call).await.send.unwrap().id
    };
    let first = say("first").await;
    for node in 0..3 {
        cluster.nodes[node].signal("KILL");
        block_in_place(|| cluster.start_again(node, false));
    }
    say("second").await;
    block_in_place(|| cluster.postgres.kill());
    tokio::time::sleep(Duration::from_millis(500)).await;
    block_in_place(|| cluster.postgres.restart());
    let request = RetractBroadcastRequest {
        organization_id: "acme".into(),
        send_id: first,
        ..RetractBroadcastRequest::default()
    };
    let call = async |client: &Client| client.retract_broadcast(request.clone()).await;
    backend.ask(call).await;
    say("third").await;
    for node in 0..3 {
        cluster.to_postgres[node].cut().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.to_postgres[node].mend();
    }

    let has = "SELECT count(*) FROM inboxes WHERE unread_count = 2 AND organization_id = 'acme'";
    let people = i64::try_from(PEOPLE).unwrap();
    let deadline = Instant::now() + 6 * PATIENCE;
    loop {
        let have = engines::number(&cluster.database, has).await;
        if have == people {
            break;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "{have} of {people} have both\n{}", cluster.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_over.store(true, Ordering::SeqCst);
    looking.join_all().await;
    for (title, each) in [("second", people), ("third", people), ("first", 0)] {
        let of = format!("FROM notifications WHERE title = '{title}'");
        for what in ["count(*)", "count(DISTINCT user_id)"] {
            let rows = engines::number(&cluster.database, &format!("SELECT {what} {of}")).await;
            assert_eq!(rows, each, "{what} of {title}");
        }
    }
    cluster
        .check()
        .await
        .unwrap_or_else(|finding| panic!("{finding}"));
}
