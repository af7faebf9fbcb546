use uuid::Uuid;

use super::*;
use crate::{
    bus::Bus,
    clock::Clock,
    config::{FeedSettings, WriterSettings},
    hub::Hub,
    model::{Content, NewNotification, View},
    proto::{SubscribeResponse, subscribe_response},
    random::SeededRandom,
    store::{Edit, Mutation, Store as _, memory::Memory},
};

const SECOND: Duration = Duration::from_secs(1);
/// Of the settings below.
const HEARTBEAT: Duration = Duration::from_secs(25);

/// Goes with tokio's time, which stands still but for who waits.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let micros = 1_000_000_000 + self.0.elapsed().as_micros();
        Timestamp::from_micros(i64::try_from(micros).unwrap())
    }
}

/// One inbox, and what it stands on.
struct House {
    store: Arc<Memory>,
    clock: Arc<PausedClock>,
    hub: Arc<Hub>,
    inbox: Arc<Inboxes>,
    key: InboxKey,
}

fn settings() -> FeedSettings {
    FeedSettings {
        heartbeat_interval: HEARTBEAT.into(),
        ..FeedSettings::default()
    }
}

impl House {
    fn new(feeds: FeedSettings) -> Self {
        let store = Arc::new(Memory::new());
        let clock = Arc::new(PausedClock(Instant::now()));
        let bus = Bus::local(&feeds);
        let hub = bus.hub().clone();
        let inbox = Inboxes::new(
            store.clone(),
            bus,
            clock.clone(),
            Arc::new(SeededRandom::new(1)),
            feeds,
            &WriterSettings::default(),
        );
        let key = InboxKey::parse("acme", "ann").unwrap();
        Self {
            store,
            clock,
            hub,
            inbox,
            key,
        }
    }

    /// A feed that is connected, with a token of so long.
    async fn subscribe_for(&self, life: Duration, after: Option<u64>) -> Feed {
        let resume = Resume {
            after_revision: after.map(Revision::new),
            epoch: None,
        };
        let micros = i64::try_from(life.as_micros()).unwrap();
        let end = Timestamp::from_micros(self.clock.now().as_micros() + micros);
        let mut feed = self.inbox.subscribe(&self.key, resume, end).await.unwrap();
        let position = match after {
            None => self.head().await,
            Some(after) => Revision::new(after),
        };
        assert_eq!(next(&mut feed).await, format!("connected @{position}"));
        feed
    }

    async fn head(&self) -> Revision {
        self.store.head(&self.key).await.unwrap().head.revision
    }

    async fn live(&self) -> Feed {
        self.subscribe_for(3600 * SECOND, None).await
    }

    async fn replay(&self, after: u64) -> Feed {
        self.subscribe_for(3600 * SECOND, Some(after)).await
    }

    /// Commits, and tells nobody.
    async fn lose(&self, mutation: Mutation) -> Arc<LiveRun> {
        let now = self.clock.now();
        let mut committed = self.store.commit(&[mutation], now).await.unwrap();
        let run = committed.runs.remove(0).1;
        Arc::new(run.iter().map(wire::live).collect())
    }

    fn notification(&self, id: u128) -> NewNotification {
        let content = Content::new("test", "a title");
        NewNotification::new(
            self.key.clone(),
            Uuid::from_u128(id),
            Arc::new(content),
            "backend".into(),
        )
    }

    async fn lose_send(&self, id: u128) -> Arc<LiveRun> {
        self.lose(Mutation::Send(self.notification(id))).await
    }

    async fn lose_mark(&self, ids: &[u128]) -> Arc<LiveRun> {
        self.lose(Mutation::Edit {
            inbox: self.key.clone(),
            ids: ids.iter().map(|id| Uuid::from_u128(*id)).collect(),
            edit: Edit::Read,
            view: View::Inbox,
            through: None,
        })
        .await
    }

    /// In the ordinary way.
    async fn send(&self, id: u128) {
        self.inbox.send(self.notification(id)).await.unwrap();
    }

    fn publish(&self, run: &Arc<LiveRun>) {
        self.hub.publish(&self.key, run);
    }
}

/// What a message says, and where its client is then.
fn told(message: &Message) -> String {
    let ring = if message.ring { " rings" } else { "" };
    let what = match &message.event {
        Event::Connected { .. } => "connected".into(),
        Event::Notification(row) => format!("row {}{ring}", row.row.id.as_u128()),
        Event::Removed(row) => format!("removed {}", row.id.as_u128()),
        Event::Live(live) => {
            let bytes = live.event().message.clone();
            let wire = <SubscribeResponse as prost::Message>::decode(bytes).unwrap();
            assert_eq!(
                (wire.ring, wire.position),
                (message.ring, message.position.get())
            );
            match wire.event {
                Some(subscribe_response::Event::Notification(row)) => {
                    let id = Uuid::parse_str(&row.id).unwrap();
                    format!("live {}{ring}", id.as_u128())
                }
                Some(subscribe_response::Event::Changed(_)) => "marked".into(),
                other => format!("{other:?}"),
            }
        }
        Event::CaughtUp => "caught up".into(),
        Event::Heartbeat => "heartbeat".into(),
        Event::Reset { .. } => "reset".into(),
        Event::Reconnect { .. } => "reconnect".into(),
    };
    format!("{what} @{}", message.position)
}

async fn next(feed: &mut Feed) -> String {
    match feed.next().await {
        Some(Ok(message)) => told(&message),
        Some(Err(end)) => format!("{end:?}"),
        None => "nothing".into(),
    }
}

async fn take(feed: &mut Feed, messages: usize) -> Vec<String> {
    let mut taken = Vec::new();
    for _ in 0..messages {
        taken.push(next(feed).await);
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_comes_live_and_silence_is_broken_by_heartbeats() {
    let house = House::new(settings());
    let mut feed = house.live().await;
    house.send(1).await;
    house.send(2).await;
    assert_eq!(
        take(&mut feed, 2).await,
        ["live 1 rings @1", "live 2 rings @2"]
    );
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(next(&mut feed).await, "heartbeat @2");
        assert!(began.elapsed() <= HEARTBEAT, "{:?}", began.elapsed());
        assert!(
            began.elapsed() >= HEARTBEAT * 3 / 4,
            "{:?}",
            began.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_at_the_head_reads_the_head_alone() {
    let house = House::new(settings());
    house.send(1).await;
    let before = house.store.reads();
    let mut feed = house.replay(1).await;
    assert_eq!(next(&mut feed).await, "caught up @1");
    assert_eq!(house.store.reads(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_over_pages_and_rows_of_one_revision_carry_the_position_before() {
    let house = House::new(FeedSettings {
        replay_page: 2,
        ..settings()
    });
    for id in 1..=4 {
        house.send(id).await;
    }
    house.lose_mark(&[1, 2, 4]).await;
    let mut feed = house.replay(0).await;
    assert_eq!(
        take(&mut feed, 5).await,
        [
            "row 3 @3",
            "row 1 @3",
            "row 2 @3",
            "row 4 @5",
            "caught up @5"
        ]
    );
    house.send(5).await;
    assert_eq!(next(&mut feed).await, "live 5 rings @6");
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_as_long_as_it_may_be_and_not_longer() {
    for (replay_page, rows) in [(2, 4), (2, 5), (10, 4), (10, 5)] {
        let house = House::new(FeedSettings {
            replay_page,
            replay_limit: 4,
            ..settings()
        });
        for id in 1..=rows {
            house.send(id).await;
        }
        let mut feed = house.replay(0).await;
        if rows > 4 {
            assert_eq!(take(&mut feed, 2).await, ["reset @0", "nothing"]);
        } else {
            assert_eq!(take(&mut feed, 5).await[4], "caught up @4");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_that_means_nothing_here_is_a_reset() {
    let house = House::new(settings());
    house.send(1).await;
    let mut feed = house.replay(7).await;
    assert_eq!(take(&mut feed, 2).await, ["reset @7", "nothing"]);
    // A database that was restored tells by itself.
    let mut feed = house.live().await;
    house
        .store
        .renew_epoch(&Epoch::new("another"))
        .await
        .unwrap();
    assert_eq!(take(&mut feed, 2).await, ["reset @1", "nothing"]);
}

#[tokio::test(start_paused = true)]
async fn runs_that_crossed_are_put_in_order_and_nothing_is_read() {
    let house = House::new(settings());
    let mut feed = house.live().await;
    let before = house.store.reads();
    let (first, second) = (house.lose_send(1).await, house.lose_send(2).await);
    house.publish(&second);
    let nothing = timeout_at(Instant::now() + REORDER_WAIT / 2, feed.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    house.publish(&first);
    assert_eq!(
        take(&mut feed, 2).await,
        ["live 1 rings @1", "live 2 rings @2"]
    );
    assert_eq!(house.store.reads(), before);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_healed_after_a_moment() {
    let house = House::new(settings());
    let mut feed = house.live().await;
    house.lose_send(1).await;
    house.send(2).await;
    let began = Instant::now();
    let healed = ["row 1 rings @1", "row 2 rings @2", "caught up @2"];
    assert_eq!(take(&mut feed, 3).await, healed);
    assert!(began.elapsed() < 2 * REORDER_WAIT, "{:?}", began.elapsed());
}

/// Nobody knows of it, and nothing else happens: the heartbeat finds it.
#[tokio::test(start_paused = true)]
async fn an_event_that_is_lost_is_late_by_a_heartbeat_at_most() {
    for chatter in 0..6 {
        let house = House::new(settings());
        let mut feed = house.live().await;
        for id in 0..chatter {
            house.send(id).await;
            assert!(next(&mut feed).await.starts_with("live"));
            tokio::time::sleep(7 * SECOND).await;
        }
        house.lose_send(100).await;
        let lost = Instant::now();
        let head = chatter + 1;
        assert_eq!(next(&mut feed).await, format!("row 100 rings @{head}"));
        assert!(lost.elapsed() <= HEARTBEAT, "{:?}", lost.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lags_is_healed() {
    let house = House::new(FeedSettings {
        room_capacity: 2,
        ..settings()
    });
    let mut feed = house.live().await;
    for id in 1..=5 {
        house.send(id).await;
    }
    let healed = take(&mut feed, 6).await;
    assert_eq!(healed[0], "row 1 rings @1");
    assert_eq!(healed[4..], ["row 5 rings @5", "caught up @5"]);
    // What is left in its room is behind it.
    assert_eq!(next(&mut feed).await, "heartbeat @5");
    house.send(6).await;
    assert_eq!(next(&mut feed).await, "live 6 rings @6");
}

/// What is new and was read meanwhile comes on a later page than what is newer, and is
/// not to be heard any more.
#[tokio::test(start_paused = true)]
async fn in_a_heal_of_several_pages_all_that_is_unseen_rings() {
    let house = House::new(FeedSettings {
        replay_page: 3,
        ..settings()
    });
    house.send(1).await;
    let mut feed = house.live().await;
    for id in 2..=7 {
        house.lose_send(id).await;
    }
    house.lose_mark(&[1, 3]).await;
    assert_eq!(
        take(&mut feed, 8).await,
        [
            "row 2 rings @2",
            "row 4 rings @4",
            "row 5 rings @5",
            "row 6 rings @6",
            "row 7 rings @7",
            // The stream had it.
            "row 1 @7",
            "row 3 @8",
            "caught up @8"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_the_pages_of_a_heal_rings_once() {
    let house = House::new(FeedSettings {
        replay_page: 2,
        ..settings()
    });
    let mut feed = house.live().await;
    for id in 1..=5 {
        house.lose_send(id).await;
    }
    assert_eq!(
        take(&mut feed, 2).await,
        ["row 1 rings @1", "row 2 rings @2"]
    );
    house.lose_mark(&[1]).await;
    assert_eq!(
        take(&mut feed, 2).await,
        ["row 3 rings @3", "row 4 rings @4"]
    );
    house.lose_send(6).await;
    assert_eq!(
        take(&mut feed, 4).await,
        [
            "row 5 rings @5",
            "row 1 @6",
            "row 6 rings @7",
            "caught up @7"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let house = House::new(settings());
    let began = Instant::now();
    let mut feed = house.subscribe_for(60 * SECOND, None).await;
    loop {
        match next(&mut feed).await.as_str() {
            "heartbeat @0" => assert!(began.elapsed() < 60 * SECOND),
            end => break assert_eq!(end, "Expired"),
        }
    }
    let late = began.elapsed() - 60 * SECOND;
    assert!(late < Duration::from_millis(5), "{late:?}");
    assert_eq!(next(&mut feed).await, "nothing");
    // A store that is away, or stands still, does not change that.
    for slowness in [Duration::ZERO, 3600 * SECOND] {
        let mut feed = house.subscribe_for(30 * SECOND, None).await;
        let began = Instant::now();
        house.store.set_away(true);
        house.store.set_slow(slowness);
        assert_eq!(next(&mut feed).await, "Expired");
        assert!(began.elapsed() < 31 * SECOND, "{:?}", began.elapsed());
        house.store.set_away(false);
        house.store.set_slow(Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_sent_away_comes_back_when_the_node_refuses_nobody_any_more() {
    const DELAY: Duration = Duration::from_secs(3);
    let house = House::new(settings());
    let spread: Duration = settings().reconnect_spread.into();
    let mut feeds = Vec::new();
    for _ in 0..20 {
        feeds.push(house.live().await);
    }
    house.inbox.drain(DELAY);
    for mut feed in feeds {
        let message = feed.next().await.unwrap().unwrap();
        let Event::Reconnect { after } = message.event else {
            panic!("{message:?}");
        };
        assert!(after >= DELAY && after <= DELAY + spread, "{after:?}");
        assert_eq!(take(&mut feed, 2).await, ["Draining", "nothing"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_while_ends_no_stream() {
    for away in [5, 20, 40] {
        let house = House::new(settings());
        let (mut quiet, began) = (house.live().await, Instant::now());
        house.lose_send(1).await;
        house.store.set_away(true);
        let store = house.store.clone();
        tokio::spawn(async move {
            tokio::time::sleep(away * SECOND).await;
            store.set_away(false);
        });
        let found = take(&mut quiet, 2).await;
        assert_eq!(found, ["row 1 rings @1", "caught up @1"], "{away} s");
        let silence = began.elapsed();
        assert!(
            silence < (away * SECOND).max(HEARTBEAT) + 3 * SECOND,
            "{silence:?}"
        );
        assert_eq!(next(&mut quiet).await, "heartbeat @1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_long_ends_a_stream_before_its_client_gives_up() {
    let house = House::new(settings());
    let (mut feed, began) = (house.live().await, Instant::now());
    house.store.set_away(true);
    let before = house.store.reads();
    let end = next(&mut feed).await;
    assert!(end.starts_with("Store(Unavailable("), "{end}");
    let silence = began.elapsed();
    assert!(silence > HEARTBEAT * 3 / 2, "{silence:?}");
    assert!(silence < 2 * HEARTBEAT - SECOND, "{silence:?}");
    let reads = house.store.reads() - before;
    assert!(reads < 40, "{reads} reads");
    assert_eq!(next(&mut feed).await, "nothing");
}

#[tokio::test(start_paused = true)]
async fn a_heal_goes_on_when_the_store_comes_back() {
    let house = House::new(FeedSettings {
        replay_page: 2,
        ..settings()
    });
    let mut feed = house.live().await;
    for id in 1..=3 {
        house.lose_send(id).await;
    }
    assert_eq!(
        take(&mut feed, 2).await,
        ["row 1 rings @1", "row 2 rings @2"]
    );
    house.store.set_away(true);
    let store = house.store.clone();
    tokio::spawn(async move {
        tokio::time::sleep(30 * SECOND).await;
        store.set_away(false);
    });
    assert_eq!(take(&mut feed, 2).await, ["row 3 rings @3", "caught up @3"]);
}

/// What other nodes commit still comes.
#[tokio::test(start_paused = true)]
async fn what_comes_by_the_room_is_shown_while_the_store_is_away() {
    let house = House::new(settings());
    let mut feed = house.live().await;
    let run = house.lose_send(1).await;
    house.store.set_away(true);
    let hub = (house.hub.clone(), house.key.clone());
    let began = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(30 * SECOND).await;
        hub.0.publish(&hub.1, &run);
    });
    assert_eq!(next(&mut feed).await, "live 1 rings @1");
    // It may be in the midst of asking.
    assert!(began.elapsed() < 31 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_store_that_is_away() {
    for slowness in [Duration::ZERO, 3600 * SECOND] {
        let house = House::new(settings());
        let mut feed = house.live().await;
        house.store.set_away(true);
        house.store.set_slow(slowness);
        let inbox = house.inbox.clone();
        let began = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(30 * SECOND).await;
            inbox.drain(SECOND);
        });
        assert_eq!(take(&mut feed, 2).await, ["reconnect @0", "Draining"]);
        let took = began.elapsed();
        assert!(took < 30 * SECOND + Duration::from_millis(5), "{took:?}");
    }
}

/// While its client gives no window nobody polls a feed.
#[tokio::test(start_paused = true)]
async fn a_feed_that_nobody_polled_for_long_goes_on() {
    let house = House::new(settings());
    let mut feed = house.live().await;
    house.store.set_slow(SECOND);
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(next(&mut feed).await, "heartbeat @0");
    house.lose_send(1).await;
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(take(&mut feed, 2).await, ["row 1 rings @1", "caught up @1"]);
}
