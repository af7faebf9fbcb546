//! The sweeper over a store in memory, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;

use super::*;
use crate::{
    auth::test_support::ManualClock,
    bus::Bus,
    config::{FeedSettings, WriterSettings},
    inbox::feed::{Event, Resume},
    metrics::tests::{alone, value},
    model::{Content, NewNotification, Notification},
    random::SeededRandom,
    store::{PageLimit, RecentQuery, Store as _, memory::Memory},
};

const DAY: i64 = 86_400;
const NOW: i64 = 1000 * DAY;

struct House {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    inboxes: Arc<Inboxes>,
    random: SeededRandom,
}

fn ann() -> InboxKey {
    InboxKey::parse("acme", "ann").unwrap()
}

impl House {
    fn new() -> Self {
        Self::with(&WriterSettings::default())
    }

    fn with(writer: &WriterSettings) -> Self {
        let store = Arc::new(Memory::new());
        let clock = ManualClock::new(Timestamp::from_seconds(NOW));
        let feeds = FeedSettings::default();
        let inboxes = Inboxes::new(
            store.clone(),
            Bus::local(&feeds),
            clock.clone(),
            Arc::new(SeededRandom::new(1)),
            feeds,
            writer,
        );
        Self {
            store,
            clock,
            inboxes,
            random: SeededRandom::new(2),
        }
    }

    fn sweeper(&self, settings: RetentionSettings) -> Sweeper {
        Sweeper::new(
            self.store.clone(),
            self.inboxes.clone(),
            self.clock.clone(),
            &self.random,
            settings,
        )
    }

    async fn send(&self, inbox: &InboxKey, expire_after: Option<i64>) -> Uuid {
        let id = self.inboxes.new_id();
        let content = Arc::new(Content::new("test", "a title"));
        let expire_time = expire_after.map(|seconds| {
            Timestamp::from_micros(self.clock.now().as_micros() + seconds * 1_000_000)
        });
        let new = NewNotification {
            expire_time,
            ..NewNotification::new(inbox.clone(), id, content, "backend".into())
        };
        self.inboxes.send(new).await.unwrap();
        id
    }

    async fn edit(&self, ids: Vec<Uuid>, edit: Edit) {
        let mutation = Mutation::Edit {
            inbox: ann(),
            ids,
            edit,
            view: View::All,
            through: None,
        };
        self.inboxes.edit_in_bulk(mutation).await.unwrap();
    }

    fn wait(&self, seconds: i64) {
        let now = self.clock.now().as_micros() + seconds * 1_000_000;
        self.clock.set(Timestamp::from_micros(now));
    }

    async fn rows(&self) -> Vec<Notification> {
        let query = RecentQuery {
            view: View::All,
            ..RecentQuery::new(PageLimit {
                rows: 100_000,
                bytes: usize::MAX,
            })
        };
        self.store.recent(&ann(), query).await.unwrap().rows
    }

    async fn ids(&self) -> Vec<Uuid> {
        self.rows()
            .await
            .iter()
            .rev()
            .map(|row| row.row.id)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_a_change_of_its_inbox() {
    let house = House::new();
    let expires_at = Timestamp::from_seconds(NOW + 10 * DAY);
    let inboxes = &house.inboxes;
    let feed = inboxes
        .subscribe(&ann(), Resume::default(), expires_at)
        .await;
    let mut feed = feed.unwrap();
    let first = house.send(&ann(), Some(60)).await;
    let second = house.send(&ann(), None).await;
    let mut sweeper = house.sweeper(RetentionSettings::default());
    house.wait(59);
    sweeper.look().await.unwrap();
    assert_eq!(house.ids().await, [first, second]);
    house.wait(1);
    tokio::time::sleep(RENEW_AFTER).await;
    sweeper.look().await.unwrap();
    assert_eq!(house.ids().await, [second]);
    let head = house.store.head(&ann()).await.unwrap().head;
    assert_eq!((head.revision.get(), head.unread_count), (3, 1));
    let mut told = Vec::new();
    while told.last() != Some(&3) {
        let message = feed.next().await.unwrap().unwrap();
        if let Event::Live(_) = message.event {
            told.push(message.position.get());
        }
    }
    assert_eq!(told, [1, 2, 3]);
    // Again it finds nothing, and changes nothing.
    sweeper.look().await.unwrap();
    assert_eq!(house.store.head(&ann()).await.unwrap().head, head);
}

#[tokio::test(start_paused = true)]
async fn each_kind_is_kept_for_its_time() {
    let house = House::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(house.send(&ann(), None).await);
    }
    house.edit(vec![ids[0]], Edit::Archive).await;
    house
        .edit(vec![ids[1]], Edit::Remove(RemovalCause::User))
        .await;
    let mut sweeper = house.sweeper(RetentionSettings::default());
    for (days, live, floor) in [
        (6, &ids[..], 0),
        // The tombstone goes.
        (7, &ids[..], 5),
        (89, &ids[..], 5),
        // What is archived becomes a tombstone, which goes a week later.
        (90, &ids[2..], 5),
        (96, &ids[2..], 5),
        (97, &ids[2..], 6),
        (364, &ids[2..], 6),
        (365, &[], 6),
        (372, &[], 7),
    ] {
        let live: Vec<_> = live.iter().filter(|id| **id != ids[1]).copied().collect();
        house
            .clock
            .set(Timestamp::from_seconds(NOW + days * DAY + 1));
        tokio::time::sleep(RENEW_AFTER).await;
        sweeper.look().await.unwrap();
        let snapshot = house.store.head(&ann()).await.unwrap();
        assert_eq!(house.ids().await, live, "after {days} days");
        assert_eq!(snapshot.floor.get(), floor, "after {days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn of_too_many_the_oldest_that_are_done_go_first() {
    let house = House::new();
    let mut ids = Vec::new();
    for _ in 0..3000 {
        ids.push(house.send(&ann(), None).await);
    }
    house.edit(ids[1000..1500].to_vec(), Edit::Read).await;
    house.edit(ids[100..200].to_vec(), Edit::Archive).await;
    let mut sweeper = house.sweeper(RetentionSettings {
        retention_rows: 2500,
        ..RetentionSettings::default()
    });
    sweeper.look().await.unwrap();
    let kept: Vec<_> = [&ids[..100], &ids[200..1000], &ids[1400..]].concat();
    assert_eq!(
        house.ids().await,
        kept,
        "100 archived ones and 400 that were read"
    );
    // Up to the next thousand nothing is done; then it is 3,000 again.
    for _ in 0..500 {
        ids.push(house.send(&ann(), None).await);
    }
    sweeper.look().await.unwrap();
    let kept: Vec<_> = [&ids[500..1000], &ids[1500..]].concat();
    assert_eq!(
        house.ids().await,
        kept[..],
        "100 that were read, then the oldest 400"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_makes_it_late_and_no_more() {
    let house = House::new();
    house.send(&ann(), Some(60)).await;
    house.wait(60);
    house.store.set_away(true);
    let sweeper = tokio::spawn(house.sweeper(RetentionSettings::default()).run());
    tokio::time::sleep(Duration::from_secs(120)).await;
    house.store.set_away(false);
    assert_eq!(house.ids().await.len(), 1);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(house.ids().await.len(), 0);
    sweeper.abort();
}

/// Of the line an organization has half: what is due in more of its inboxes waits for room.
#[tokio::test(start_paused = true)]
async fn more_is_due_at_once_than_an_organization_may_have_in_the_line() {
    let house = House::with(&WriterSettings {
        write_queue: 4,
        ..WriterSettings::default()
    });
    let users: Vec<_> = (0..10).map(|user| format!("user{user}")).collect();
    let inboxes = users.iter().map(|user| InboxKey::parse("acme", user));
    let inboxes: Vec<_> = inboxes.map(Result::unwrap).collect();
    for inbox in &inboxes {
        house.send(inbox, Some(60)).await;
    }
    house.wait(60);
    let mut sweeper = house.sweeper(RetentionSettings::default());
    sweeper.look().await.unwrap();
    for inbox in &inboxes {
        let head = house.store.head(inbox).await.unwrap().head;
        assert_eq!(head.unread_count, 0, "{inbox:?}");
    }
}

/// Counts its turns.
#[derive(Default)]
struct Turns {
    count: AtomicUsize,
    fails: bool,
}

#[async_trait]
impl Duty for Turns {
    async fn step(&self, _: Timestamp) -> Result<bool, Error> {
        self.count.fetch_add(1, Ordering::Relaxed);
        match self.fails {
            true => Err(store::Error::unexpected_outcome().into()),
            false => Ok(false),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_holds_up_nothing_else() {
    let house = House::new();
    let broken = Arc::new(Turns {
        fails: true,
        ..Turns::default()
    });
    let well = Arc::new(Turns::default());
    let sweeper = house.sweeper(RetentionSettings::default());
    let mut sweeper = sweeper.with(broken.clone()).with(well.clone());
    let turns = || [&broken, &well].map(|duty| duty.count.load(Ordering::Relaxed));
    sweeper.look().await.unwrap_err();
    assert_eq!(turns(), [1, 1]);
    // Nor does what fails for the store's sake, while it has the lease.
    house.store.set_away(true);
    sweeper.look().await.unwrap_err();
    assert_eq!(turns(), [2, 2]);
    house.store.set_away(false);
    // It goes on at its pace.
    let sweeper = tokio::spawn(sweeper.run());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(turns()[1] > 50, "{:?}", turns());
    sweeper.abort();
}

/// Whether it has the lease of a store that is away nobody knows once that is over.
#[rstest]
#[case::at_once(1, 1.0)]
#[case::for_long(60, 0.0)]
#[tokio::test(start_paused = true)]
async fn who_fails_to_look_is_late(#[case] seconds: u64, #[case] leads: f64) {
    let metrics = alone();
    let of = |series| value(&metrics, series).unwrap();
    let late = || of("doorbell_sweeper_late_seconds");
    let house = House::new();
    let mut sweeper = house.sweeper(RetentionSettings::default());
    sweeper.look().await.unwrap();
    assert_eq!((late(), of("doorbell_sweeper_leads")), (0.0, 1.0));
    house.store.set_away(true);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    sweeper.look().await.unwrap_err();
    #[expect(clippy::cast_precision_loss, reason = "a minute")]
    let away = seconds as f64;
    assert!(late() >= away, "{}", late());
    assert_eq!(of("doorbell_sweeper_leads"), leads);
    assert_eq!(of(r#"doorbell_sweeper_failed_total{what="look"}"#), 1.0);
    house.store.set_away(false);
    sweeper.look().await.unwrap();
    assert_eq!((late(), of("doorbell_sweeper_leads")), (0.0, 1.0));
}
