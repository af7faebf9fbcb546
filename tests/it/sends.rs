//! Sends that outlive their call: to one, to many, to a topic, now and later; stopped,
//! doubled and cut short on purpose. On SQLite both nodes are one, on Postgres two.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    inbox::Inboxes,
    model::{Content, InboxKey, OrganizationId, PartOf, TopicId, UserId, View},
    preferences::Preferences,
    sends::{NotCancelled, Sends},
    store::{
        Database, Named, PageLimit, Preferences as _, RecentQuery, Sends as _, Store as _,
        Topics as _,
        sends::{NewSend, Send, SendState, Target},
    },
};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    engines,
    history::Check,
    hooked::{Call, Hooked},
    process::PATIENCE,
    races::{Gate, inboxes},
    support::{self, at, on_both},
};

/// How long notifications are kept.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const WEEK: i64 = 7 * 24 * 60 * 60 * 1_000_000;

/// One who delivers.
pub struct Node {
    pub inboxes: Arc<Inboxes>,
    pub sends: Arc<Sends>,
}

impl Node {
    fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>) -> Self {
        let preferences = Arc::new(Preferences::new(store.clone()));
        let clock = Arc::new(SystemClock);
        let sends = Sends::new(store, inboxes.clone(), preferences, clock, YEAR);
        let sends = Arc::new(sends);
        Self { inboxes, sends }
    }
}

/// Two who deliver: what the first reads can be held back.
pub struct House {
    pub gate: Arc<Hooked<dyn Database, Gate>>,
    pub first: Node,
    pub second: Node,
    _directory: Option<TempDir>,
}

pub fn acme() -> OrganizationId {
    OrganizationId::parse("acme").unwrap()
}

fn news() -> TopicId {
    TopicId::parse("news").unwrap()
}

fn users(count: usize) -> Vec<UserId> {
    let user = |number| UserId::parse(&format!("user-{number:05}")).unwrap();
    (0..count).map(user).collect()
}

impl House {
    pub async fn on_sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Database> = Arc::new(support::sqlite(&directory).await);
        let gate = Hooked::new(store, Gate::default());
        let inboxes = inboxes(gate.clone(), 1);
        Self {
            first: Node::new(gate.clone(), inboxes.clone()),
            second: Node::new(gate.clone(), inboxes),
            gate,
            _directory: Some(directory),
        }
    }

    pub async fn on_postgres() -> Self {
        Self::at(&engines::Postgres::shared().create_database().await).await
    }

    pub async fn at(url: &str) -> Self {
        let store: Arc<dyn Database> = Arc::new(support::postgres(url).await);
        let gate = Hooked::new(store, Gate::default());
        let second: Arc<dyn Database> = Arc::new(support::postgres(url).await);
        Self {
            first: Node::new(gate.clone(), inboxes(gate.clone(), 1)),
            second: Node::new(second.clone(), inboxes(second, 2)),
            gate,
            _directory: None,
        }
    }

    pub fn new_send(&self, target: Target) -> NewSend {
        let id = self.first.sends.new_id();
        NewSend {
            organization_id: acme(),
            id,
            target,
            content: Arc::new(Content::new("test", "to all")),
            idempotency_key: Some(id.to_string()),
            sender: "backend".into(),
            expire_time: None,
            collapse_key: None,
            is_silent: false,
            follow_up: None,
            deliver_time: at(0),
        }
    }

    pub async fn accept(&self, new: &NewSend) -> Send {
        let accepted = self.first.sends.accept(new).await.unwrap().unwrap();
        assert!(!accepted.duplicate);
        accepted.send
    }

    /// A topic of so many, and a send to it.
    async fn to_topic(&self, count: usize) -> Send {
        for users in users(count).chunks(1000) {
            let added = self.gate.add_members(&acme(), &news(), users).await;
            assert_eq!(added.unwrap(), users.len());
        }
        self.accept(&self.new_send(Target::Topic(news()))).await
    }

    pub async fn send(&self, id: Uuid) -> Send {
        let send = self.second.sends.get(&acme(), &Named::Id(id)).await;
        send.unwrap().expect("it is kept")
    }

    /// All looks until nothing is due any more.
    pub async fn deliver(&self, node: &Node) {
        while node.sends.work(SystemClock.now()).await.unwrap() {}
    }

    /// How many rows each of so many people has, where it is not one each.
    async fn not_one_each(&self, count: usize) -> BTreeMap<String, u64> {
        let mut others = BTreeMap::new();
        for chunk in users(count).chunks(100) {
            let keys: Vec<_> = chunk.iter().map(inbox).collect();
            let heads = self.gate.heads(&keys).await.unwrap();
            for (key, snapshot) in keys.iter().zip(heads) {
                let revision = snapshot.head.revision.get();
                assert_eq!(u64::from(snapshot.head.unread_count), revision);
                if revision != 1 {
                    others.insert(key.user_id.as_str().to_owned(), revision);
                }
            }
        }
        others
    }

    async fn count(&self, user: &str) -> usize {
        let limit = PageLimit {
            rows: 100,
            bytes: usize::MAX,
        };
        let query = RecentQuery {
            view: View::All,
            ..RecentQuery::new(limit)
        };
        let inbox = InboxKey::parse("acme", user).unwrap();
        let page = self.second.inboxes.recent(&inbox, query).await.unwrap();
        page.rows.len()
    }
}

fn inbox(user: &UserId) -> InboxKey {
    InboxKey {
        organization_id: acme(),
        user_id: user.clone(),
    }
}

/// All members have it once, and nobody of another topic or organization.
async fn a_topic_is_delivered_in_pieces(house: House) {
    let other = OrganizationId::parse("globex").unwrap();
    let stranger = [UserId::parse("user-00001").unwrap()];
    house
        .gate
        .add_members(&other, &news(), &stranger)
        .await
        .unwrap();
    let elsewhere = TopicId::parse("elsewhere").unwrap();
    let zoe = [UserId::parse("zoe").unwrap()];
    house
        .gate
        .add_members(&acme(), &elsewhere, &zoe)
        .await
        .unwrap();

    let send = house.to_topic(1203).await;
    assert_eq!((send.state, send.total), (SendState::Waiting, 0));
    assert!(house.first.sends.work(SystemClock.now()).await.unwrap());
    let under_way = house.send(send.id).await;
    assert_eq!(
        (under_way.state, under_way.total),
        (SendState::UnderWay, 1203)
    );
    assert_eq!(under_way.tally.delivered, 500, "a piece a look");
    // The other goes on with it.
    house.deliver(&house.second).await;
    let done = house.send(send.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 1203));
    assert!(done.ended_at.is_some() && done.started_at.is_some());
    assert_eq!(house.not_one_each(1203).await, BTreeMap::new());
    assert_eq!(house.count("zoe").await, 0);
    let strange = InboxKey::parse("globex", "user-00001").unwrap();
    let head = house.gate.head(&strange).await.unwrap().head;
    assert_eq!(head.revision.get(), 0);
}

/// Who becomes a member before their piece is made gets it, who is one no more does not.
async fn who_is_a_member_when_the_piece_is_made_gets_it(house: House) {
    let send = house.to_topic(700).await;
    assert!(house.first.sends.work(SystemClock.now()).await.unwrap());
    let late = UserId::parse("user-99999").unwrap();
    let (early, gone) = (UserId::parse("aaa").unwrap(), users(700).pop().unwrap());
    house
        .gate
        .add_members(&acme(), &news(), &[late, early])
        .await
        .unwrap();
    let removed = house.gate.remove_members(&acme(), &news(), &[gone]).await;
    assert_eq!(removed.unwrap(), 1);
    house.deliver(&house.first).await;
    assert_eq!(house.send(send.id).await.tally.delivered, 700);
    let counts = [
        house.count("user-99999").await,
        house.count("aaa").await,
        house.count("user-00699").await,
    ];
    assert_eq!(counts, [1, 0, 0]);
}

async fn a_piece_that_is_done_twice_is_done_once(house: House) {
    delivers_a_piece_once(house).await.unwrap();
}

/// A node that was taken for dead delivers its piece after all.
async fn delivers_a_piece_once(house: House) -> Check {
    let send = house.to_topic(600).await;
    let gate = house.gate.clone();
    gate.hook.arm(Call::Recipients);
    let first = house.first.sends.clone();
    let delivering = tokio::spawn(async move { first.work(SystemClock.now()).await });
    gate.hook.reached().await;
    // The same piece, and the send goes on after it.
    house.second.sends.work(SystemClock.now()).await.unwrap();
    assert_eq!(house.send(send.id).await.tally.delivered, 500);
    gate.hook.go.notify_one();
    timeout(PATIENCE, delivering)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    house.deliver(&house.second).await;
    let others = house.not_one_each(600).await;
    if !others.is_empty() {
        let first = others.first_key_value();
        return Err(format!("{} have it not once: {first:?} …", others.len()));
    }
    let done = house.send(send.id).await;
    assert_eq!(
        (done.state, done.tally.delivered),
        (SendState::Done, 600),
        "counted once"
    );
    Ok(())
}

/// A node dies between a piece and the note of it.
async fn a_piece_that_was_not_noted_is_noted_by_who_follows(house: House) {
    let send = house.to_topic(600).await;
    let gate = house.gate.clone();
    let first = house.first.sends.clone();
    gate.hook.arm(Call::Recipients);
    let delivering = tokio::spawn(async move { first.work(SystemClock.now()).await });
    gate.hook.reached().await;
    delivering.abort();
    let _ = delivering.await;
    assert_eq!(house.send(send.id).await.state, SendState::UnderWay);
    house.deliver(&house.second).await;
    let done = house.send(send.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 600));
    assert_eq!(house.not_one_each(600).await, BTreeMap::new());
}

async fn nobody_gets_what_was_cancelled(house: House) {
    delivers_nothing_cancelled(house).await.unwrap();
}

/// Nobody gets it after the cancellation was answered, not even of a piece under way.
async fn delivers_nothing_cancelled(house: House) -> Check {
    let send = house.to_topic(800).await;
    assert!(house.first.sends.work(SystemClock.now()).await.unwrap());
    let gate = house.gate.clone();
    gate.hook.arm(Call::Recipients);
    let first = house.first.sends.clone();
    let delivering = tokio::spawn(async move { first.work(SystemClock.now()).await });
    gate.hook.reached().await;
    let cancelled = house.second.sends.cancel(&acme(), send.id).await.unwrap();
    let cancelled = cancelled.unwrap();
    assert_eq!(cancelled.state, SendState::Cancelled);
    assert_eq!(cancelled.tally.delivered, 500);
    gate.hook.go.notify_one();
    timeout(PATIENCE, delivering)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    house.deliver(&house.second).await;
    let others = house.not_one_each(800).await;
    if others.len() != 300 || others.values().any(|count| *count > 0) {
        return Err(format!("{} lack what was cancelled", others.len()));
    }
    // Again is as well, and what it is stays.
    let again = house.second.sends.cancel(&acme(), send.id).await.unwrap();
    let again = again.unwrap();
    assert_eq!(
        (again.ended_at, again.tally.delivered),
        (cancelled.ended_at, 500)
    );
    let unknown = house.second.sends.cancel(&acme(), Uuid::nil()).await;
    assert_eq!(unknown.unwrap(), Err(NotCancelled::NotFound));
    Ok(())
}

/// A piece that two nodes deliver, on SQLite.
#[cfg(feature = "sabotage")]
pub async fn delivers_once() -> Check {
    delivers_a_piece_once(House::on_sqlite().await).await
}

/// A cancellation in the midst of a piece, on Postgres.
#[cfg(feature = "sabotage")]
pub async fn cancels() -> Check {
    delivers_nothing_cancelled(House::on_postgres().await).await
}

async fn what_all_have_is_not_cancelled(house: House) {
    let send = house.to_topic(3).await;
    house.deliver(&house.first).await;
    let cancelled = house.first.sends.cancel(&acme(), send.id).await;
    assert_eq!(cancelled.unwrap(), Err(NotCancelled::Done));
    assert_eq!(house.send(send.id).await.state, SendState::Done);
}

/// What is sent with a key is accepted once, and again is the same only if it says so.
async fn a_key_is_of_the_whole_organization(house: House) {
    let new = NewSend {
        deliver_time: Timestamp::from_micros(SystemClock.now().as_micros() + WEEK),
        ..house.new_send(Target::Users(users(3)))
    };
    let send = house.accept(&new).await;
    assert_eq!((send.state, send.total), (SendState::Waiting, 3));
    let again = |target, title| NewSend {
        id: house.first.sends.new_id(),
        content: Arc::new(Content::new("test", title)),
        target,
        deliver_time: at(0),
        ..new.clone()
    };
    let mut reversed = users(3);
    reversed.reverse();
    let same = again(Target::Users(reversed), "to all");
    let same = house.second.sends.accept(&same).await.unwrap().unwrap();
    assert!(same.duplicate && same.send == send, "{same:?}");
    for other in [
        again(Target::Users(users(4)), "to all"),
        again(Target::Users(users(3)), "to others"),
        again(Target::Topic(news()), "to all"),
    ] {
        house
            .second
            .sends
            .accept(&other)
            .await
            .unwrap()
            .unwrap_err();
    }
    // Nor did those leave anybody to deliver to.
    let other = NewSend {
        organization_id: OrganizationId::parse("globex").unwrap(),
        ..again(Target::Users(users(2)), "of others")
    };
    let accepted = house.second.sends.accept(&other).await.unwrap().unwrap();
    assert!(!accepted.duplicate, "another tenant's keys are its own");
    let named = house.gate.recipients(&send, 10).await.unwrap();
    assert_eq!(named, users(3));
}

/// A million that wait are nothing to who looks for what is due, and what is due late
/// begins once.
async fn what_waits_is_delivered_when_its_time_has_come(house: House) {
    let soon = SystemClock.now().as_micros() + WEEK;
    let new = NewSend {
        deliver_time: Timestamp::from_micros(soon),
        ..house.new_send(Target::Users(users(2)))
    };
    let send = house.accept(&new).await;
    assert!(
        !house
            .first
            .sends
            .work(Timestamp::from_micros(soon - 1))
            .await
            .unwrap()
    );
    assert_eq!(house.count("user-00000").await, 0);
    // It slept through the time, and both wake at once.
    let now = Timestamp::from_micros(soon + WEEK);
    let (one, other) = tokio::join!(house.first.sends.work(now), house.second.sends.work(now));
    assert!(one.unwrap() | other.unwrap());
    while house.first.sends.work(now).await.unwrap() {}
    assert_eq!(house.count("user-00000").await, 1);
    let done = house.send(send.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 2));
    // It is kept for a week after its end, and its key with it.
    let later = |micros| Timestamp::from_micros(done.ended_at.unwrap().as_micros() + micros);
    house.first.sends.work(later(WEEK - 1)).await.unwrap();
    assert_eq!(house.send(send.id).await.state, SendState::Done);
    house.first.sends.work(later(WEEK)).await.unwrap();
    assert_eq!(
        house
            .first
            .sends
            .get(&acme(), &Named::Id(send.id))
            .await
            .unwrap(),
        None
    );
    assert_eq!(house.gate.recipients(&send, 10).await.unwrap(), []);
    assert_eq!(house.count("user-00000").await, 1);
}

/// What was over before it came is made for nobody, and said.
async fn what_is_over_when_it_comes_is_suppressed(house: House) {
    let new = NewSend {
        expire_time: Some(at(1)),
        ..house.new_send(Target::Users(users(3)))
    };
    let send = house.accept(&new).await;
    house.deliver(&house.first).await;
    let done = house.send(send.id).await;
    assert_eq!((done.state, done.tally.suppressed), (SendState::Done, 3));
    assert_eq!(house.count("user-00000").await, 0);
}

async fn who_does_not_want_its_type_is_passed_over(house: House) {
    judges_each(house).await.unwrap();
}

/// Of a piece, who does not want its type has nothing of it.
async fn judges_each(house: House) -> Check {
    let (all, no) = (users(3), [("test".to_owned(), Some(false))]);
    house.gate.choose(&inbox(&all[1]), &no).await.unwrap();
    let send = house.accept(&house.new_send(Target::Users(all))).await;
    house.deliver(&house.first).await;
    let count = house.count("user-00001").await;
    if count > 0 {
        return Err(format!("who does not want it has it: {count}"));
    }
    let tally = house.send(send.id).await.tally;
    assert_eq!((tally.delivered, tally.suppressed), (2, 1));
    Ok(())
}

/// What some do not want, on Postgres.
#[cfg(feature = "sabotage")]
pub async fn judges() -> Check {
    judges_each(House::on_postgres().await).await
}

async fn sends_are_listed_newest_first_by_their_state(house: House) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        let new = house.new_send(Target::Users(users(1)));
        ids.push(house.accept(&new).await.id);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    house
        .first
        .sends
        .cancel(&acme(), ids[1])
        .await
        .unwrap()
        .unwrap();
    ids.reverse();
    let list = async |state, before, at_most| {
        let sends = house
            .second
            .sends
            .list(&acme(), state, before, at_most)
            .await;
        let sends = sends.unwrap().into_iter();
        sends.map(|send| send.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 10).await, ids);
    assert_eq!(list(None, None, 2).await, ids[..2]);
    assert_eq!(list(None, Some(ids[1]), 2).await, ids[2..4]);
    assert_eq!(list(Some(SendState::Cancelled), None, 10).await, [ids[3]]);
    assert_eq!(list(Some(SendState::Waiting), None, 10).await.len(), 4);
    let other = OrganizationId::parse("globex").unwrap();
    let others = house.second.sends.list(&other, None, None, 10).await;
    assert_eq!(others.unwrap(), []);
}

/// A page of members, and of the topics of one; who is erased is a member of nothing.
async fn members_and_topics_are_listed_in_pages(house: House) {
    let store = &house.gate;
    let all = users(7);
    assert_eq!(store.add_members(&acme(), &news(), &all).await.unwrap(), 7);
    assert_eq!(
        store
            .add_members(&acme(), &news(), &all[..3])
            .await
            .unwrap(),
        0
    );
    let other = TopicId::parse("other").unwrap();
    store.add_members(&acme(), &other, &all[..1]).await.unwrap();
    let page = store.members(&acme(), &news(), None, 4).await.unwrap();
    assert_eq!(page, all[..4]);
    let page = store
        .members(&acme(), &news(), page.last(), 4)
        .await
        .unwrap();
    assert_eq!(page, all[4..]);
    let first = inbox(&all[0]);
    assert_eq!(store.topics_of(&first, None, 1).await.unwrap(), [news()]);
    let after = store.topics_of(&first, Some(&news()), 9).await.unwrap();
    assert_eq!(after, std::slice::from_ref(&other));
    store.forget_member(&first).await.unwrap();
    assert_eq!(store.topics_of(&first, None, 9).await.unwrap(), []);
    assert_eq!(store.empty_topic(&acme(), &news(), 4).await.unwrap(), 4);
    assert_eq!(store.empty_topic(&acme(), &news(), 4).await.unwrap(), 2);
    store.add_members(&acme(), &other, &all).await.unwrap();
    let strange = OrganizationId::parse("globex").unwrap();
    store.add_members(&strange, &other, &all).await.unwrap();
    assert_eq!(store.forget_members(&acme(), 5).await.unwrap(), 5);
    assert_eq!(store.forget_members(&acme(), 5).await.unwrap(), 2);
    assert_eq!(store.members(&strange, &other, None, 9).await.unwrap(), all);
}

/// Who is erased gets nothing of what was to come.
async fn what_was_to_come_goes_with_who_is_erased(house: House) {
    let alone = house.accept(&house.new_send(Target::Users(users(1)))).await;
    let send = house.accept(&house.new_send(Target::Users(users(3)))).await;
    house
        .gate
        .forget_recipient(&inbox(&users(1)[0]))
        .await
        .unwrap();
    house.deliver(&house.first).await;
    assert_eq!(house.send(send.id).await.tally.delivered, 2);
    let gone = house.first.sends.get(&acme(), &Named::Id(alone.id)).await;
    assert_eq!(
        gone.unwrap(),
        None,
        "nothing of what was for them alone is kept"
    );
    assert_eq!(house.count("user-00000").await, 0);
    house.accept(&house.new_send(Target::Users(users(3)))).await;
    assert_eq!(house.gate.delete_sends(&acme(), 5).await.unwrap(), 2);
    house.deliver(&house.first).await;
    assert_eq!(house.count("user-00001").await, 1);
}

/// Whose inbox somebody holds for longer than any piece is tried has it in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_held_for_long_is_not_passed_over() {
    let url = engines::Postgres::shared().create_database().await;
    let store: Arc<dyn Database> = Arc::new(support::postgres(&url).await);
    let node = Node::new(store.clone(), inboxes(store.clone(), 1));
    let house = House {
        gate: Hooked::new(store.clone(), Gate::default()),
        first: Node::new(store.clone(), node.inboxes.clone()),
        second: node,
        _directory: None,
    };
    let first = house.accept(&house.new_send(Target::Users(users(3)))).await;
    house.deliver(&house.first).await;
    assert_eq!(house.send(first.id).await.state, SendState::Done);
    let mut holder = sqlx::PgConnection::connect(&url).await.unwrap();
    let hold = "BEGIN; SELECT * FROM inboxes WHERE user_id = 'user-00001' FOR UPDATE";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let send = house.accept(&house.new_send(Target::Users(users(3)))).await;
    let mut now = SystemClock.now().as_micros();
    for _ in 0..7 {
        house
            .first
            .sends
            .work(Timestamp::from_micros(now))
            .await
            .unwrap();
        now += 6_000_000;
    }
    let held = house.send(send.id).await;
    assert_eq!((held.state, held.tally.errors), (SendState::UnderWay, 0));
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut holder)
        .await
        .unwrap();
    while house
        .first
        .sends
        .work(Timestamp::from_micros(now))
        .await
        .unwrap()
    {}
    let done = house.send(send.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 3));
    assert_eq!(house.count("user-00001").await, 2);
}

/// Whose row is damaged is an error of the send after some tries, and holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_is_passed_over_in_the_end() {
    let url = engines::Postgres::shared().create_database().await;
    let store: Arc<dyn Database> = Arc::new(support::postgres(&url).await);
    let node = || Node::new(store.clone(), inboxes(store.clone(), 1));
    let house = House {
        gate: Hooked::new(store.clone(), Gate::default()),
        first: node(),
        second: node(),
        _directory: None,
    };
    let send = house.accept(&house.new_send(Target::Users(users(3)))).await;
    // A row of its key without the fingerprint that such a row has.
    let key = PartOf::key_of(send.id);
    let damage = format!(
        "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, \
         title, sender, created_at, idempotency_key) \
         VALUES ('acme', 'user-00001', 1, gen_random_uuid(), 1, 't', 't', 's', 1, '{key}')"
    );
    engines::execute(&url, &damage).await;
    let mut now = SystemClock.now().as_micros();
    for _ in 0..6 {
        house
            .first
            .sends
            .work(Timestamp::from_micros(now))
            .await
            .unwrap();
        now += 6_000_000;
    }
    let done = house.send(send.id).await;
    assert_eq!(done.state, SendState::Done);
    assert_eq!((done.tally.delivered, done.tally.errors), (2, 1));
}

/// What Postgres cannot begin with in time waits, and nobody with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_holds_up_no_other() {
    let url = engines::Postgres::shared().create_database().await;
    let house = House::at(&url).await;
    let broken = house.accept(&house.new_send(Target::Users(users(2)))).await;
    let well = NewSend {
        deliver_time: at(1),
        ..house.new_send(Target::Users(users(3)))
    };
    let well = house.accept(&well).await;
    let too_slow = format!(
        "CREATE FUNCTION too_slow() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'too slow' USING ERRCODE = '57014'; END $$; \
         CREATE TRIGGER too_slow BEFORE UPDATE ON sends FOR EACH ROW \
         WHEN (OLD.id = '{}' AND NEW.state = 1) EXECUTE FUNCTION too_slow()",
        broken.id
    );
    engines::execute(&url, &too_slow).await;
    let now = SystemClock.now();
    while house.first.sends.work(now).await.unwrap() {}
    let done = house.send(well.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 3));
    let waiting = house.send(broken.id).await;
    assert_eq!(waiting.state, SendState::Waiting);
    engines::execute(&url, "DROP TRIGGER too_slow ON sends").await;
    let later = now.after(Duration::from_secs(6));
    while house.first.sends.work(later).await.unwrap() {}
    let done = house.send(broken.id).await;
    assert_eq!((done.state, done.tally.delivered), (SendState::Done, 2));
}

on_both!(
    House:
    a_topic_is_delivered_in_pieces,
    who_is_a_member_when_the_piece_is_made_gets_it,
    a_piece_that_is_done_twice_is_done_once,
    a_piece_that_was_not_noted_is_noted_by_who_follows,
    nobody_gets_what_was_cancelled,
    what_all_have_is_not_cancelled,
    a_key_is_of_the_whole_organization,
    what_waits_is_delivered_when_its_time_has_come,
    what_is_over_when_it_comes_is_suppressed,
    who_does_not_want_its_type_is_passed_over,
    sends_are_listed_newest_first_by_their_state,
    members_and_topics_are_listed_in_pages,
    what_was_to_come_goes_with_who_is_erased,
);
