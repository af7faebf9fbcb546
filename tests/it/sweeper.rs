//! What happens later: on real servers, and where clocks and nodes disagree.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use doorbell::{
    bus::Bus,
    clock::{Clock as _, SystemClock, Timestamp},
    config::{FeedSettings, RetentionSettings, WriterSettings},
    inbox::Inboxes,
    model::{Head, InboxKey, NewNotification, Revision},
    proto::{
        self, GetRecentRequest, RemovalCause, RemoveRequest, SubscribeRequest,
        subscribe_response::Event,
    },
    random::SeededRandom,
    store::{Store as _, postgres::Postgres},
    sweeper::Sweeper,
};
use futures_util::future::join_all;
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::{
    calls::{after, counts, epoch, eventually, metric, next, send, until_caught_up},
    engines::{self, Nats},
    process::PATIENCE,
    server::{Client, Server, Setup, free_port},
    support::{self, WildClock, ann, content, neighbour},
};

fn in_millis(millis: i64) -> prost_types::Timestamp {
    let micros = SystemClock.now().as_micros() + millis * 1000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap(),
    }
}

async fn send_for(sender: &mut Client, title: &str, millis: i64) -> proto::Notification {
    let request = proto::SendInAppRequest {
        expire_time: Some(in_millis(millis)),
        ..send("acme", "ann", title)
    };
    let answer = sender.send_in_app(request).await.unwrap().into_inner();
    answer.notification.unwrap()
}

async fn titles(reader: &mut Client) -> Vec<String> {
    let page = reader.get_recent(GetRecentRequest::default()).await;
    let rows = page.unwrap().into_inner().notifications;
    rows.into_iter().map(|row| row.title).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_leaves_every_screen() {
    let server = Setup::new().start();
    let (mut sender, mut reader) = (server.sender().await, server.user("acme", "ann").await);
    let stream = reader.subscribe(SubscribeRequest::default()).await;
    let mut stream = stream.unwrap().into_inner();
    next(&mut stream).await;
    send_for(&mut sender, "here for an hour", 3_600_000).await;
    let gone = send_for(&mut sender, "gone in two seconds", 2000).await;
    for _ in 0..2 {
        assert!(matches!(
            next(&mut stream).await.event,
            Some(Event::Notification(_))
        ));
    }
    let message = next(&mut stream).await;
    let Some(Event::Changed(changed)) = &message.event else {
        panic!("{message:?}");
    };
    let row = &changed.notifications[0];
    assert_eq!(row.id, gone.id);
    assert_eq!(row.removal_cause(), RemovalCause::Expired);
    assert_eq!((counts(message.head), message.ring), ((3, 1), false));
    assert!(SystemClock.now() >= expiry(&gone), "not before its time");
    assert_eq!(titles(&mut reader).await, ["here for an hour"]);
    // Who was away learns of it as well.
    let stream = reader.subscribe(after(2)).await.unwrap();
    let messages = until_caught_up(&mut stream.into_inner()).await;
    let removed = messages.iter().filter(|message| match &message.event {
        Some(Event::Changed(changed)) => changed.notifications[0].id == gone.id,
        _ => false,
    });
    assert_eq!(removed.count(), 1);
}

fn expiry(notification: &proto::Notification) -> Timestamp {
    crate::calls::moment(notification.expire_time.as_ref().unwrap())
}

/// Resumption knows of what was purged: below the floor there is a reset, and at it none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_below_what_was_purged_is_reset() {
    let setup = Setup::new()
        .with("RETENTION_REMOVED", "3s")
        .with("METRICS_LISTEN", free_port());
    let server = setup.start();
    let metrics = server.setup.variables["DOORBELL_METRICS_LISTEN"]
        .parse()
        .unwrap();
    let (mut sender, mut reader) = (server.sender().await, server.user("acme", "ann").await);
    let epoch = epoch(&mut reader).await;
    let resume = |position| SubscribeRequest {
        epoch: Some(epoch.clone()),
        ..after(position)
    };
    for title in ["one", "two", "three"] {
        sender
            .send_in_app(send("acme", "ann", title))
            .await
            .unwrap();
    }
    let page = reader
        .get_recent(GetRecentRequest::default())
        .await
        .unwrap();
    let two = page.into_inner().notifications[1].id.clone();
    let remove = RemoveRequest {
        notification_ids: vec![two],
        ..RemoveRequest::default()
    };
    reader.remove(remove).await.unwrap();
    let stream = reader.subscribe(resume(3)).await.unwrap();
    let messages = until_caught_up(&mut stream.into_inner()).await;
    assert!(
        matches!(messages[1].event, Some(Event::Changed(_))),
        "it is not purged yet"
    );
    let purged = async || metric(metrics, "doorbell_sweeper_done_total{what=\"purged\"}").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while purged().await < 1.0 {
        assert!(tokio::time::Instant::now() < deadline, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (position, is_reset) in [(3, true), (4, false)] {
        let mut stream = reader
            .subscribe(resume(position))
            .await
            .unwrap()
            .into_inner();
        assert!(matches!(
            next(&mut stream).await.event,
            Some(Event::Connected(_))
        ));
        let event = next(&mut stream).await.event;
        let found = matches!(event, Some(Event::Reset(_)));
        assert_eq!(found, is_reset, "after {position}: {event:?}");
    }
    assert_eq!(titles(&mut reader).await, ["three", "one"]);
}

struct House {
    store: Arc<Postgres>,
    inboxes: Arc<Inboxes>,
}

impl House {
    /// Its clock is an hour behind: what it sends may be due by the database's.
    async fn new(url: &str) -> Self {
        let store = Arc::new(support::postgres(url).await);
        let feeds = FeedSettings::default();
        let inboxes = Inboxes::new(
            store.clone(),
            Bus::local(&feeds),
            Arc::new(WildClock::behind(Duration::from_secs(3600))),
            Arc::new(SeededRandom::new(1)),
            feeds,
            &WriterSettings::default(),
        );
        Self { store, inboxes }
    }

    /// A sweeper whose clock is off by so many seconds.
    fn sweeper(&self, off: i64, seed: u64) -> Sweeper {
        let clock = WildClock::default();
        clock.0.store(off * 1_000_000, Ordering::SeqCst);
        Sweeper::new(
            self.store.clone(),
            self.inboxes.clone(),
            Arc::new(clock),
            &SeededRandom::new(seed),
            RetentionSettings::default(),
        )
    }

    async fn send(&self, inbox: &InboxKey, number: u128, expire_time: Timestamp) {
        let new = NewNotification {
            expire_time: Some(expire_time),
            ..NewNotification::new(
                inbox.clone(),
                Uuid::from_u128(number),
                Arc::new(content("it expires")),
                "backend".into(),
            )
        };
        self.inboxes.send(new).await.unwrap();
    }

    async fn head(&self, inbox: &InboxKey) -> Head {
        self.store.head(inbox).await.unwrap().head
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_expires_nothing_too_soon() {
    let url = engines::Postgres::shared().create_database().await;
    let house = House::new(&url).await;
    let now = SystemClock.now();
    let in_half_an_hour = Timestamp::from_micros(now.as_micros() + 1_800_000_000);
    house.send(&ann(), 1, in_half_an_hour).await;
    house.send(&neighbour(), 2, now).await;
    for (seed, off) in [(1, 3600), (2, -3600)] {
        // Each has the lease of one that is gone.
        engines::execute(&url, "DELETE FROM sweeper").await;
        assert!(house.sweeper(off, seed).look().await.unwrap());
        assert_eq!(house.head(&ann()).await.unread_count, 1, "off by {off} s");
        let head = house.head(&neighbour()).await;
        // By the clock of the database it was due, whatever this one says.
        assert_eq!((head.revision, head.unread_count), (Revision::new(2), 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_has_the_lease_and_two_do_nothing_twice() {
    let url = engines::Postgres::shared().create_database().await;
    let house = House::new(&url).await;
    let (mut first, mut second) = (house.sweeper(0, 1), house.sweeper(0, 2));
    assert!(first.look().await.unwrap());
    assert!(!second.look().await.unwrap());
    // At once: the first believes to have the lease for some seconds.
    let now = SystemClock.now();
    let sends = (0..300).map(|number| {
        let inbox = InboxKey::parse("acme", &format!("user{}", number % 30)).unwrap();
        let house = &house;
        async move { house.send(&inbox, number, now).await }
    });
    join_all(sends).await;
    // Both believe to be the one: the first had it, and the second has it.
    engines::execute(&url, "DELETE FROM sweeper").await;
    let (one, other) = tokio::join!(first.look(), second.look());
    assert!(one.unwrap() && other.unwrap());
    for user in 0..30 {
        let inbox = InboxKey::parse("acme", &format!("user{user}")).unwrap();
        let head = house.head(&inbox).await;
        let changes = format!(
            "SELECT count(DISTINCT revision) FROM notifications \
                 WHERE organization_id = 'acme' AND user_id = 'user{user}'"
        );
        let changes = u64::try_from(engines::number(&url, &changes).await).unwrap();
        assert_eq!(head.unread_count, 0);
        assert_eq!(
            head.revision.get(),
            10 + changes,
            "a change each, and no other"
        );
    }
}

/// A node that dies is followed within its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_follows_one_that_was_killed() {
    let url = engines::Postgres::shared().create_database().await;
    let nats = block_in_place(Nats::start);
    let mut nodes: Vec<Server> = (0..2)
        .map(|_| {
            let setup = Setup::new()
                .with("DATABASE_URL", &url)
                .with("NATS_URL", nats.url())
                .with("METRICS_LISTEN", free_port());
            block_in_place(|| setup.start())
        })
        .collect();
    let leads = async |node: &Server| {
        let metrics = node.setup.variables["DOORBELL_METRICS_LISTEN"]
            .parse()
            .unwrap();
        metric(metrics, "doorbell_sweeper_leads").await
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let leader = loop {
        let found = [leads(&nodes[0]).await, leads(&nodes[1]).await];
        if let Some(leader) = found.iter().position(|leads| *leads == 1.0) {
            break leader;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    nodes.remove(leader).kill();
    let other = &nodes[0];
    let (mut sender, mut reader) = (other.sender().await, other.user("acme", "ann").await);
    send_for(&mut sender, "soon over", 2000).await;
    let killed = tokio::time::Instant::now();
    while !titles(&mut reader).await.is_empty() {
        let waited = killed.elapsed();
        assert!(waited < Duration::from_secs(20), "{}", other.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It says so when it is through with what it found.
    eventually("the other leads", async || leads(other).await == 1.0).await;
}
