//! Follow-ups: who looked in time is not told of, all others are, in an order that nobody
//! can miss a part of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    client::{
        Client, FollowUp, FollowUpOptions, FollowUpUnless, ListFollowUpsRequest, Options,
        Selection, SendResult, SendToManyRequest, TokenSource, Verb as Call,
    },
    clock::{Clock as _, SystemClock},
    config::RetentionSettings,
    follow_ups::FollowUps,
    inbox::Inboxes,
    model::{
        self, Content, Head, InboxKey, NewNotification, RemovalCause, TopicId, Unless, UserId, View,
    },
    operators::Operators,
    proto::{self},
    random::SeededRandom,
    store::{
        Database, Edit, FollowUps as _, Store as _, Topics as _, Verb, Which,
        follow_ups::After,
        sends::{NewSend, Target},
        sweeping::Due,
    },
    sweeper::Sweeper,
};
use futures_util::future::join_all;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use uuid::Uuid;

use crate::{
    cluster::Cluster,
    engines,
    fan_out::Backend,
    history::Check,
    hooked::{Call as Held, Hook, Hooked},
    process::PATIENCE,
    races::inboxes,
    sends::{House, acme},
    server::user_token,
    support::{self, ann, on_both},
};

fn inbox(user: &str) -> InboxKey {
    InboxKey::parse("acme", user).unwrap()
}

/// Sends what is due at once.
async fn followed_up(inboxes: &Inboxes, to: &InboxKey, unless: Unless) -> Uuid {
    let new = NewNotification::new(
        to.clone(),
        inboxes.new_id(),
        Arc::new(Content::new("test", "look at me")),
        "backend".into(),
    );
    let follow_up = Some(model::FollowUpOptions {
        after: Duration::ZERO,
        unless,
    });
    let new = NewNotification { follow_up, ..new };
    inboxes.send(new).await.unwrap().notification.row.id
}

fn sweeper(house: &House, seed: u64) -> Sweeper {
    Sweeper::new(
        house.gate.clone(),
        house.first.inboxes.clone(),
        Arc::new(SystemClock),
        &SeededRandom::new(seed),
        RetentionSettings::default(),
    )
}

/// All that is due is told.
async fn sweep(house: &House) {
    assert!(sweeper(house, 1).look().await.unwrap());
}

async fn edit(inboxes: &Inboxes, of: &InboxKey, edit: Edit, ids: &[Uuid]) -> Head {
    let verb = Verb {
        edit,
        which: Which::Ids(ids.to_vec()),
        view: View::All,
    };
    let done = inboxes.edit(of, verb, None).await.unwrap();
    assert_eq!(done.changed as usize, ids.len());
    done.head
}

/// What acme was told of, read by so many at a time.
async fn told(house: &House, at_most: usize) -> Vec<(u64, Uuid)> {
    let mut after = After::default();
    let mut told = Vec::new();
    loop {
        let page = house.gate.follow_ups(&acme(), &after, at_most).await;
        let (epoch, page) = page.unwrap();
        let Some(last) = page.last() else {
            return told;
        };
        after = After {
            epoch: Some(epoch),
            position: last.position,
        };
        let one =
            |of: &doorbell::store::follow_ups::FollowUp| (of.position, of.notification.row.id);
        told.extend(page.iter().map(one));
    }
}

async fn told_of(house: &House) -> Vec<Uuid> {
    let told = told(house, 10).await;
    told.into_iter().map(|(_, id)| id).collect()
}

/// What meets it ends it: reading, archiving and any removal, and looking where that is
/// enough. What was undone since was done.
async fn what_meets_it_ends_it(house: House) {
    let inboxes = house.second.inboxes.clone();
    let mut left = Vec::new();
    for edits in [
        &[][..],
        &[Edit::Read],
        &[Edit::Archive],
        &[Edit::Remove(RemovalCause::User)],
        &[Edit::Remove(RemovalCause::Sender)],
        &[Edit::Remove(RemovalCause::Expired)],
        &[Edit::Read, Edit::Unread],
        &[Edit::Archive, Edit::Unarchive],
    ] {
        for unless in [Unless::Read, Unless::Seen] {
            let id = followed_up(&inboxes, &ann(), unless).await;
            for done in edits {
                edit(&inboxes, &ann(), *done, &[id]).await;
            }
            if edits.is_empty() {
                left.push(id);
            }
        }
    }
    // Of these two the second was sent after she looked.
    let snapshot = inboxes.head(&ann()).await.unwrap();
    inboxes
        .see(&ann(), snapshot.head.revision, &snapshot.epoch)
        .await
        .unwrap();
    left.remove(1);
    left.push(followed_up(&inboxes, &ann(), Unless::Seen).await);
    sweep(&house).await;
    assert_eq!(told_of(&house).await, left);
    // Nothing shows of it in the inbox, and it is told once.
    let head = inboxes.head(&ann()).await.unwrap().head;
    sweep(&house).await;
    assert_eq!(inboxes.head(&ann()).await.unwrap().head, head);
    assert_eq!(told_of(&house).await, left);
}

/// Another that takes its place has one of its own, or none.
async fn what_is_replaced_is_not_told(house: House) {
    let inboxes = house.second.inboxes.clone();
    let mut ids = Vec::new();
    for is_followed_up in [true, true, false] {
        let new = NewNotification::new(
            ann(),
            inboxes.new_id(),
            Arc::new(Content::new("test", "look at me")),
            "backend".into(),
        );
        let follow_up = is_followed_up.then_some(model::FollowUpOptions {
            after: Duration::ZERO,
            unless: Unless::Read,
        });
        let new = NewNotification {
            follow_up,
            collapse_key: Some("likes".into()),
            ..new
        };
        ids.push(inboxes.send(new).await.unwrap().notification.row.id);
        if ids.len() == 2 {
            sweep(&house).await;
            assert_eq!(told_of(&house).await, [ids[1]]);
        }
    }
    sweep(&house).await;
    // It is told, and gone since: its words are no more.
    let told = house.gate.follow_ups(&acme(), &After::default(), 10).await;
    let told = told.unwrap().1;
    assert_eq!(told.len(), 1);
    assert!(told[0].notification.row.state.removed.is_some());
}

/// The sweeper has found it and is held there; a read that is committed then comes first.
async fn a_read_between_the_search_and_the_word_comes_first(house: House) {
    let id = followed_up(&house.second.inboxes, &ann(), Unless::Read).await;
    let other = followed_up(&house.second.inboxes, &ann(), Unless::Read).await;
    house.gate.hook.arm(Held::Due(Due::FollowUp));
    let mut sweeper = sweeper(&house, 1);
    let sweeping = tokio::spawn(async move { sweeper.look().await.unwrap() });
    house.gate.hook.reached().await;
    edit(&house.second.inboxes, &ann(), Edit::Read, &[id]).await;
    house.gate.hook.go.notify_one();
    assert!(sweeping.await.unwrap());
    assert_eq!(told_of(&house).await, [other]);
}

/// Two that both believe to be the one tell once, without a gap in the positions.
async fn two_sweepers_tell_once(house: House) {
    let users: Vec<_> = (0..20).map(|number| format!("user-{number}")).collect();
    for user in &users {
        for _ in 0..4 {
            followed_up(&house.second.inboxes, &inbox(user), Unless::Seen).await;
        }
    }
    let mut first = sweeper(&house, 1);
    assert!(first.look().await.unwrap());
    let half = told(&house, 7).await.len();
    for user in &users {
        followed_up(&house.second.inboxes, &inbox(user), Unless::Read).await;
    }
    // The first has the lease for some seconds; what the second asks for is the same.
    let until = SystemClock.now().after(Duration::from_secs(60));
    let again = users.iter().map(|user| {
        let inboxes = house.second.inboxes.clone();
        async move {
            let page = house_rows(&inboxes, user).await;
            let mutation = doorbell::store::Mutation::FollowUp {
                inbox: inbox(user),
                ids: page,
                until,
            };
            inboxes.edit_in_bulk(mutation).await.unwrap().changed
        }
    });
    let both = tokio::join!(first.look(), join_all(again));
    assert!(both.0.unwrap());
    let told = told(&house, 7).await;
    assert_eq!((half, told.len()), (80, 100));
    let positions: Vec<_> = told.iter().map(|(position, _)| *position).collect();
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
    let ids: BTreeSet<_> = told.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), 100);
}

async fn house_rows(inboxes: &Inboxes, user: &str) -> Vec<Uuid> {
    let limit = doorbell::store::PageLimit {
        rows: 10,
        bytes: usize::MAX,
    };
    let query = doorbell::store::RecentQuery::new(limit);
    let page = inboxes.recent(&inbox(user), query).await.unwrap();
    page.rows.iter().map(|row| row.row.id).collect()
}

/// A position of another life of the database is before all, and an erasure takes along
/// what was told.
async fn another_life_is_told_anew_and_an_erased_inbox_is_not(house: House) {
    for user in ["ann", "bob"] {
        followed_up(&house.second.inboxes, &inbox(user), Unless::Read).await;
    }
    sweep(&house).await;
    let (epoch, all) = house
        .gate
        .follow_ups(&acme(), &After::default(), 10)
        .await
        .unwrap();
    assert_eq!(all.len(), 2);
    let at_the_end = After {
        epoch: Some(epoch),
        position: 2,
    };
    let list = async || {
        let page = house.gate.follow_ups(&acme(), &at_the_end, 10).await;
        page.unwrap().1
    };
    assert!(list().await.is_empty());
    let new = doorbell::model::Epoch::new("after a restore");
    house.gate.renew_epoch(&new).await.unwrap();
    assert_eq!(list().await, all);
    let operators = Operators::new(house.gate.clone(), house.first.inboxes.clone());
    operators.erase_inbox(&ann()).await.unwrap();
    let left = list().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].inbox, inbox("bob"));
}

/// Whatever comes of a send that outlives its call is followed up as that says.
async fn a_send_for_many_is_followed_up_for_each(house: House) {
    let topic = TopicId::parse("news").unwrap();
    let users: Vec<_> = (0..3)
        .map(|number| UserId::parse(&format!("user-{number}")).unwrap())
        .collect();
    house
        .gate
        .add_members(&acme(), &topic, &users)
        .await
        .unwrap();
    for target in [Target::Topic(topic), Target::Users(users)] {
        let follow_up = Some(model::FollowUpOptions {
            after: Duration::ZERO,
            unless: Unless::Seen,
        });
        let new = NewSend {
            follow_up,
            ..house.new_send(target)
        };
        let send = house.accept(&new).await;
        assert_eq!(send.follow_up, follow_up);
        house.deliver(&house.first).await;
    }
    sweep(&house).await;
    assert_eq!(told_of(&house).await.len(), 6);
}

on_both!(
    House: what_meets_it_ends_it,
    what_is_replaced_is_not_told,
    a_read_between_the_search_and_the_word_comes_first,
    two_sweepers_tell_once,
    another_life_is_told_anew_and_an_erased_inbox_is_not,
    a_send_for_many_is_followed_up_for_each,
);

/// How often somebody looked whether there is something to tell.
#[derive(Default)]
struct Looks(AtomicUsize);

#[async_trait]
impl Hook for Looks {
    async fn before(&self, call: Held) {
        if call == Held::FollowUps {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// However many wait, the store is asked once a second, and all are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_who_wait_look_together() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Database> = Arc::new(support::sqlite(&directory).await);
    let store = Hooked::new(store, Looks::default());
    let inboxes = inboxes(store.clone(), 1);
    let log = FollowUps::new(store.clone(), inboxes.clone());
    let (acme, after) = (acme(), After::default());
    let wait = |seconds| {
        let wait = Duration::from_secs(seconds);
        join_all((0..20).map(|_| log.list(&acme, &after, 10, wait)))
    };
    for told in wait(5).await {
        assert_eq!(told.unwrap().1, []);
    }
    // Each when it comes and before it goes, and all of them five times or six.
    let looks = store.hook.0.load(Ordering::Relaxed);
    assert!(looks <= 20 + 20 + 6, "{looks}");
    let mut sweeper = Sweeper::new(
        store.clone(),
        inboxes.clone(),
        Arc::new(SystemClock),
        &SeededRandom::new(1),
        RetentionSettings::default(),
    );
    let tell = async {
        sleep(Duration::from_secs(2)).await;
        followed_up(&inboxes, &ann(), Unless::Read).await;
        sweeper.look().await.unwrap()
    };
    let (told, _) = tokio::join!(wait(60), tell);
    for told in told {
        assert_eq!(told.unwrap().1.len(), 1);
    }
}

/// Who read or archived in time is not told of; for the deliberate bug.
pub async fn judges() -> Check {
    let house = House::on_sqlite().await;
    let inboxes = house.second.inboxes.clone();
    let read = followed_up(&inboxes, &ann(), Unless::Read).await;
    edit(&inboxes, &ann(), Edit::Read, &[read]).await;
    let left = followed_up(&inboxes, &ann(), Unless::Read).await;
    sweep(&house).await;
    match told_of(&house).await {
        told if told == [left] => Ok(()),
        told => Err(format!(
            "{read} was read, {left} was not, and it told of {told:?}"
        )),
    }
}

/// Who reads in pages has all, in the order of the positions; for the deliberate bug.
pub async fn lists() -> Check {
    let house = House::on_sqlite().await;
    for _ in 0..3 {
        followed_up(&house.second.inboxes, &ann(), Unless::Read).await;
        sweep(&house).await;
    }
    match told(&house, 1).await {
        told if told.iter().map(|(position, _)| *position).eq(1..=3) => Ok(()),
        told => Err(format!("of three it told {told:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn judges_and_lists_without_a_bug() {
    judges().await.unwrap();
    lists().await.unwrap();
}

pub fn seconds_of(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

pub fn after(seconds: i64, unless: FollowUpUnless) -> Option<FollowUpOptions> {
    Some(FollowUpOptions {
        after: Some(seconds_of(seconds)),
        unless: unless.into(),
    })
}

/// By the database's time, whatever the node that sent it takes the time to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_tells_nothing_too_soon() {
    // Its nodes' clocks are an hour behind.
    let house = House::on_postgres().await;
    let inboxes = &house.second.inboxes;
    let new = NewNotification::new(
        ann(),
        inboxes.new_id(),
        Arc::new(Content::new("test", "look at me")),
        "backend".into(),
    );
    let follow_up = Some(model::FollowUpOptions {
        after: Duration::from_secs(1800),
        unless: Unless::Read,
    });
    inboxes
        .send(NewNotification { follow_up, ..new })
        .await
        .unwrap();
    sweep(&house).await;
    assert!(told_of(&house).await.is_empty());
}

/// So many have a notification, and every second reads or archives it.
const PEOPLE: usize = 120;
/// So long they have for it.
const IN_TIME: i64 = 20;

/// Who reads the log by whichever node answers, and now and then forgets how far it was.
async fn consume(backend: &Backend, until: usize) -> Result<BTreeMap<u64, FollowUp>, String> {
    let mut told = BTreeMap::new();
    let mut request = ListFollowUpsRequest {
        organization_id: "acme".into(),
        limit: 7,
        wait: Some(seconds_of(2)),
        ..ListFollowUpsRequest::default()
    };
    let deadline = Instant::now() + 6 * PATIENCE;
    let mut pages = 0;
    // A look after the last one: nobody else is told of.
    let mut is_last = false;
    while !is_last {
        if Instant::now() > deadline {
            return Err(format!("{} of {until} were told of", told.len()));
        }
        is_last = told.len() >= until;
        let call = async |client: &Client| client.list_follow_ups(request.clone()).await;
        let answer = backend.ask(call).await;
        let mut last = request.after_position;
        for follow_up in answer.follow_ups {
            let position = follow_up.position;
            if position != last + 1 {
                return Err(format!("after position {last} came {position}"));
            }
            last = position;
            let id = follow_up.notification.clone().map(|of| of.id);
            let before = told.insert(position, follow_up);
            if before.is_some_and(|of: FollowUp| of.notification.map(|of| of.id) != id) {
                return Err(format!("position {position} is another one now"));
            }
        }
        pages += 1;
        // It died before it noted where it was.
        if pages % 3 != 0 {
            request.after_position = answer.position;
            request.epoch = answer.epoch;
        }
    }
    Ok(told)
}

/// On three nodes that are killed, and a Postgres that is: who did not look is told of,
/// who did is not, and who reads the log misses nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_missed_whatever_is_killed() {
    let mut cluster = Cluster::start(3, &[]).await;
    let backend = Backend::of(&cluster.nodes);
    let user = |number: usize| format!("user-{number:03}");
    let request = SendToManyRequest {
        organization_id: "acme".into(),
        recipient_user_ids: (0..PEOPLE).map(user).collect(),
        content: Some(proto::Content {
            r#type: "news".into(),
            title: "Look at me".into(),
            ..proto::Content::default()
        }),
        idempotency_key: "once".into(),
        follow_up: after(IN_TIME, FollowUpUnless::Read),
        ..SendToManyRequest::default()
    };
    let sent_at = Instant::now();
    let call = async |client: &Client| client.send_to_many(request.clone()).await;
    let sent = backend.ask(call).await;
    assert_eq!((sent.sent_count as usize, sent.error_count), (PEOPLE, 0));
    let look = async |number: usize, result: &SendResult| {
        let node = &cluster.nodes[number % 3];
        let tokens = TokenSource::fixed(&user_token("acme", &result.recipient_user_id));
        let reader = Client::new(&node.url(), tokens, Options::default()).unwrap();
        let verb = [Call::Read, Call::Archive][number / 2 % 2];
        let ids = Selection::Ids(vec![result.notification_id.clone()]);
        let edited = reader.edit(verb, ids).await.unwrap();
        assert_eq!(edited.changed_count, 1);
    };
    let results = sent.results.iter().enumerate().step_by(2);
    join_all(results.map(|(number, result)| look(number, result))).await;
    let in_time = Duration::from_secs(IN_TIME.unsigned_abs());
    assert!(sent_at.elapsed() < in_time, "they were not in time");

    let kills = async {
        tokio::time::sleep_until(sent_at + in_time - Duration::from_secs(2)).await;
        for node in 0..3 {
            cluster.nodes[node].signal("KILL");
            block_in_place(|| cluster.start_again(node, false));
            sleep(Duration::from_millis(500)).await;
        }
        block_in_place(|| cluster.postgres.kill());
        sleep(Duration::from_millis(500)).await;
        block_in_place(|| cluster.postgres.restart());
    };
    let (told, ()) = tokio::join!(consume(&backend, PEOPLE / 2), kills);
    let told = told.unwrap_or_else(|finding| panic!("{finding}\n{}", cluster.log()));
    let users: BTreeSet<_> = told.values().map(|of| of.user_id.clone()).collect();
    let expected: BTreeSet<_> = (1..PEOPLE).step_by(2).map(user).collect();
    assert_eq!(users, expected);
    assert_eq!(told.len(), PEOPLE / 2);
    let rows = engines::number(&cluster.database, "SELECT count(*) FROM follow_ups").await;
    assert_eq!(rows, 60);
}
