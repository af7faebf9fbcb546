//! The writer on a store in memory, which does what a test says.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use rstest::rstest;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{queue::Batch, *};
use crate::{
    clock::{SystemClock, Timestamp},
    config::{FeedSettings, LogFormat},
    hub::Received,
    model::{
        Change, Content, Epoch, Head, InboxEvent, NewNotification, Notification, OrganizationId,
        Revision, Row, RowState, View,
    },
    store::{
        Changes, Cursor, Edit, Named, PageLimit, Recent, RecentQuery, Selected, Snapshot, Tally,
        TypeCounts, Untaken, Verb,
    },
    telemetry::tests::captured,
};

/// Says whether a batch fails.
type Fault = Box<dyn Fn(&[Mutation]) -> Option<store::Error> + Send + Sync>;

/// Keeps the revisions of inboxes, and remembers how it was called.
struct Memory {
    /// The batches that it was asked to commit, by the ids of what they send.
    batches: Mutex<Vec<Vec<u128>>>,
    revisions: Mutex<HashMap<InboxKey, Revision>>,
    fault: Fault,
    /// One is needed for each batch.
    permits: Semaphore,
    /// How far its inboxes are ahead of the clock.
    ahead: Duration,
}

impl Memory {
    fn new(permits: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            batches: Mutex::default(),
            revisions: Mutex::default(),
            fault,
            permits: Semaphore::new(permits),
            ahead: Duration::ZERO,
        })
    }

    /// Holds its first batch until there are permits.
    fn held() -> Arc<Self> {
        Self::new(0, Box::new(|_| None))
    }

    fn batches(&self) -> Vec<Vec<u128>> {
        self.batches.lock().clone()
    }
}

fn id_of(mutation: &Mutation) -> u128 {
    match mutation {
        Mutation::Send(new) => new.id.as_u128(),
        Mutation::Update(correction) => match correction.of {
            Named::Id(id) => id.as_u128(),
            Named::Key(_) => 0,
        },
        Mutation::Edit { ids, .. } => ids[0].as_u128(),
        Mutation::Delete { ids, .. } | Mutation::FollowUp { ids, .. } => ids[0].as_u128(),
        Mutation::Seen { through, .. } => u128::from(through.get()),
        Mutation::Take(take) => u128::from(take.through),
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, store::Error> {
        let ids = batch.iter().map(id_of).collect();
        self.batches.lock().push(ids);
        self.permits.acquire().await.unwrap().forget();
        if let Some(error) = (self.fault)(batch) {
            return Err(error);
        }
        let mut committed = Committed::default();
        for mutation in batch {
            let inbox = mutation.inbox();
            let mut revisions = self.revisions.lock();
            let revision = revisions.entry(inbox.clone()).or_default();
            *revision = revision.next();
            let ahead = i64::try_from(self.ahead.as_micros()).unwrap();
            let head = Head {
                revision: *revision,
                ..Head::default()
            };
            let (outcome, change) = match mutation {
                Mutation::Send(new) => {
                    let notification = Notification {
                        row: Row {
                            id: new.id,
                            sequence: *revision,
                            revision: *revision,
                            ring_revision: *revision,
                            state: RowState::default(),
                        },
                        content: new.content.clone(),
                        sender: new.sender.clone(),
                        created_at: Timestamp::from_micros(now.as_micros() + ahead),
                        sent_at: now,
                        expire_time: None,
                        collapse_key: None,
                        collapsed_count: 0,
                    };
                    let sent = Sent {
                        notification: notification.clone(),
                        duplicate: false,
                        head,
                    };
                    (Outcome::Sent(Ok(sent)), Change::Notification(notification))
                }
                _ => (Outcome::Edited(Edited { changed: 1, head }), Change::Seen),
            };
            committed.outcomes.push(outcome);
            let event = InboxEvent { head, change };
            committed.runs.push((inbox.clone(), vec![event]));
        }
        Ok(committed)
    }

    async fn heads(&self, _: &[InboxKey]) -> Result<Vec<Snapshot>, store::Error> {
        Ok(Vec::new())
    }

    async fn changes(
        &self,
        _: &InboxKey,
        _: Cursor,
        _: PageLimit,
    ) -> Result<Changes, store::Error> {
        Err(unavailable())
    }

    async fn count_changes(
        &self,
        _: &InboxKey,
        _: Revision,
        _: usize,
    ) -> Result<usize, store::Error> {
        Ok(0)
    }

    async fn recent(&self, _: &InboxKey, _: RecentQuery) -> Result<Recent, store::Error> {
        Err(unavailable())
    }

    async fn count_types(&self, _: &InboxKey, _: &[String]) -> Result<TypeCounts, store::Error> {
        Err(unavailable())
    }

    async fn select(&self, _: &InboxKey, _: &Verb, _: Revision) -> Result<Selected, store::Error> {
        Err(unavailable())
    }

    async fn untaken(&self, _: &OrganizationId, _: u64, _: u64) -> Result<Untaken, store::Error> {
        Err(unavailable())
    }

    async fn announced(&self, _: Option<u64>) -> Result<(Vec<OrganizationId>, u64), store::Error> {
        Err(unavailable())
    }

    async fn note_taken(&self, _: &OrganizationId, _: Uuid, _: Tally) -> Result<(), store::Error> {
        Err(unavailable())
    }

    async fn database_id(&self) -> Result<Uuid, store::Error> {
        Ok(Uuid::nil())
    }

    async fn renew_epoch(&self, _: &Epoch) -> Result<(), store::Error> {
        Ok(())
    }

    async fn check(&self, _: bool) -> Result<(), store::Error> {
        Ok(())
    }

    async fn close(&self) {}
}

fn unavailable() -> store::Error {
    store::Error::Unavailable("away".into())
}

fn inconsistent() -> store::Error {
    store::Error::Inconsistent {
        table: "notifications",
        column: "fingerprint",
        row: "1".into(),
        problem: "must not be NULL".into(),
    }
}

fn inbox(user: &str) -> InboxKey {
    InboxKey::parse("acme", user).unwrap()
}

/// Content of 11 bytes.
fn send_to(inbox: InboxKey, id: u128) -> Mutation {
    Mutation::Send(NewNotification::new(
        inbox,
        Uuid::from_u128(id),
        Arc::new(Content::new("test", "0123456")),
        "backend".into(),
    ))
}

fn send(id: u128) -> Mutation {
    send_to(inbox("ann"), id)
}

fn sends(ids: std::ops::Range<u128>) -> Vec<Mutation> {
    ids.map(send).collect()
}

/// Of so many rows, the first of them `id`.
fn mark(user: &str, id: u128, rows: u128) -> Mutation {
    Mutation::Edit {
        inbox: inbox(user),
        ids: (id..id + rows).map(Uuid::from_u128).collect(),
        edit: Edit::Read,
        view: View::Inbox,
        through: None,
    }
}

fn settings(write_queue: usize, write_batch: usize, write_batch_bytes: usize) -> WriterSettings {
    WriterSettings {
        write_queue,
        write_batch,
        write_batch_bytes,
    }
}

struct Harness {
    store: Arc<Memory>,
    bus: Arc<Bus>,
    writer: Arc<Writer>,
}

impl Harness {
    fn new(store: Arc<Memory>, settings: &WriterSettings) -> Self {
        let bus = Arc::new(Bus::local(&FeedSettings::default()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shared: Arc<dyn Store> = store.clone();
        let writer = Arc::new(Writer::start(&shared, &bus, &clock, settings));
        Self { store, bus, writer }
    }

    /// Begins to write, all at once and in this order.
    async fn write(&self, mutations: Vec<Mutation>) -> Vec<Writing> {
        let mut writing = Vec::new();
        for mutation in mutations {
            let writer = self.writer.clone();
            writing.push(tokio::spawn(async move { writer.write(mutation).await }));
        }
        // The tasks of one thread run in the order in which they were made.
        tokio::task::yield_now().await;
        writing
    }

    /// Begins to write while the store is busy with something else: with 999.
    async fn write_behind(&self, mutations: Vec<Mutation>) -> Vec<Writing> {
        let mut writing = self.write(vec![send(999)]).await;
        assert_eq!(self.store.batches(), [[999]]);
        writing.extend(self.write(mutations).await);
        writing
    }

    /// Lets the store work, and answers all but 999.
    async fn go(&self, writing: Vec<Writing>) -> Vec<Result<Outcome, Error>> {
        self.store.permits.add_permits(1000);
        let mut answers = Vec::new();
        for writing in writing {
            answers.push(writing.await.unwrap());
        }
        answers.split_off(1)
    }
}

type Writing = JoinHandle<Result<Outcome, Error>>;

#[rstest]
#[case::in_rows(settings(100, 3, 1000), &[1, 3, 3, 1])]
#[case::in_bytes(settings(100, 100, 22), &[1, 2, 2, 2, 1])]
#[case::in_bytes_once_it_is_above(settings(100, 100, 23), &[1, 3, 3, 1])]
#[case::not_at_all(settings(100, 100, 1000), &[1, 7])]
#[tokio::test]
async fn a_batch_is_bounded(#[case] settings: WriterSettings, #[case] sizes: &[usize]) {
    let harness = Harness::new(Memory::held(), &settings);
    let writing = harness.write_behind(sends(0..7)).await;
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    let batches = harness.store.batches();
    let found: Vec<_> = batches.iter().map(Vec::len).collect();
    assert_eq!(found, sizes);
    assert_eq!(batches[1..].concat(), (0..7).collect::<Vec<_>>());
}

/// Each mark fills a batch, and no send waits for more than one of them.
#[tokio::test]
async fn sends_do_not_wait_behind_marks_nor_marks_behind_sends() {
    let harness = Harness::new(Memory::held(), &settings(100, 4, 1000));
    let mut mutations: Vec<_> = (100..104).map(|id| mark("bob", id, 500)).collect();
    mutations.extend(sends(0..6));
    mutations.push(mark("cid", 104, 1));
    let writing = harness.write_behind(mutations).await;
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    // The large ones, each by itself, take turns with the others.
    let batches: [&[u128]; 7] = [
        &[999],
        &[100],
        &[0, 1, 2, 3, 104],
        &[101],
        &[4, 5],
        &[102],
        &[103],
    ];
    assert_eq!(harness.store.batches(), batches);
}

/// What is in bulk waits for callers, but not for ever.
#[tokio::test]
async fn what_nobody_waits_for_has_one_batch_in_eight() {
    let harness = Harness::new(Memory::held(), &settings(100, 1, 1000));
    let writing = harness.write(vec![send(999)]).await;
    let bulk: Vec<_> = (100..103)
        .map(|id| {
            let writer = harness.writer.clone();
            tokio::spawn(async move { writer.edit_in_bulk(mark("bob", id, 1)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let mut writing = writing;
    writing.extend(harness.write(sends(0..10)).await);
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    for edited in bulk {
        edited.await.unwrap().unwrap();
    }
    let batches = harness.store.batches().concat();
    let turns = |id: u128| batches.iter().position(|of| *of == id).unwrap();
    assert_eq!(batches.len(), 14);
    // 999 was the first of eight.
    assert_eq!(batches[7], 100, "{batches:?}");
    assert!(
        turns(101) > turns(9) && turns(102) > turns(9),
        "{batches:?}"
    );
}

/// Who may come again soon does not wait for a large batch of what is in bulk.
#[tokio::test(start_paused = true)]
async fn batches_in_bulk_are_small_while_callers_write() {
    let harness = Harness::new(Memory::held(), &settings(100, 100, 1000));
    let in_bulk = |ids: std::ops::Range<u128>| {
        let writers = ids.map(|id| (harness.writer.clone(), id));
        let bulk: Vec<_> = writers
            .map(|(writer, id)| {
                tokio::spawn(async move { writer.edit_in_bulk(mark("bob", id, 1)).await })
            })
            .collect();
        async {
            for edited in bulk {
                edited.await.unwrap().unwrap();
            }
        }
    };
    let writing = harness.write(vec![send(999)]).await;
    let bulk = in_bulk(100..140);
    tokio::task::yield_now().await;
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    bulk.await;
    tokio::time::advance(Duration::from_secs(1)).await;
    in_bulk(140..180).await;
    let sizes: Vec<_> = harness.store.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 8, 8, 8, 8, 8, 40]);
}

/// The queues of two lanes beside which callers write, each with so many in bulk.
async fn beside_callers(in_bulk: u128) -> [Queue; 2] {
    let settings = settings(1000, 100, 1_000_000);
    let common = Arc::new(Common::new(&settings, 2));
    let queues = [(); 2].map(|()| Queue::new(&settings, 2, &common));
    queues[0].put(send(999), oneshot::channel().0).unwrap();
    drop(queues[0].batch().await.unwrap());
    for queue in &queues {
        for id in 0..in_bulk {
            let bulk = mark("bob", 100 + id, 1);
            queue.put_in_bulk(bulk, oneshot::channel().0).unwrap();
        }
    }
    queues
}

fn ids(batch: &Batch) -> Vec<u128> {
    batch.mutations.iter().map(id_of).collect()
}

/// The callers of the other lanes have the store for themselves.
#[tokio::test(start_paused = true)]
async fn one_lane_at_a_time_writes_in_bulk_while_callers_write() {
    let [first, second] = beside_callers(17).await;
    let written = first.batch().await.unwrap();
    assert_eq!(ids(&written), (100..112).collect::<Vec<_>>());
    let mut waiting = Box::pin(second.batch());
    assert!((&mut waiting).now_or_never().is_none());
    // Its own callers do not wait with it.
    second.put(send(1), oneshot::channel().0).unwrap();
    assert_eq!(ids(&waiting.await.unwrap()), [1]);
    let mut waiting = Box::pin(second.batch());
    assert!((&mut waiting).now_or_never().is_none());
    drop(written);
    // Who waits comes before who has just written.
    assert!(first.batch().now_or_never().is_none());
    assert_eq!(ids(&waiting.await.unwrap()).len(), 12);
    assert_eq!(
        ids(&first.batch().await.unwrap()),
        [112, 113, 114, 115, 116]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lane_whose_callers_never_stop_writes_in_bulk_all_the_same() {
    let [first, second] = beside_callers(1).await;
    let _written = first.batch().await.unwrap();
    for id in 0..40 {
        second.put(send(id), oneshot::channel().0).unwrap();
        if ids(&second.batch().await.unwrap()) == [100] {
            assert_eq!(id, 32);
            return;
        }
    }
    panic!("it waits for ever");
}

#[tokio::test(start_paused = true)]
async fn lanes_write_in_bulk_at_once_while_no_caller_does() {
    let [first, second] = beside_callers(17).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let batches = [first.batch().await.unwrap(), second.batch().await.unwrap()];
    assert!(batches.iter().all(|batch| ids(batch).len() == 17));
}

#[tokio::test]
async fn an_inbox_has_few_marks_that_wait() {
    let harness = Harness::new(Memory::held(), &WriterSettings::default());
    let mut mutations: Vec<_> = (0..17).map(|id| mark("bob", id, 1)).collect();
    // Of a neighbour, and what others send to that inbox.
    mutations.push(mark("ann", 100, 1));
    mutations.push(send_to(inbox("bob"), 101));
    let writing = harness.write_behind(mutations).await;
    let refused: Vec<_> = (writing.iter().enumerate())
        .filter(|(_, writing)| writing.is_finished())
        .map(|(number, _)| number - 1)
        .collect();
    assert_eq!(refused, [16], "at once, while the store is busy");
    let answers = harness.go(writing).await;
    assert!(matches!(answers[16], Err(Error::TooManyEdits)));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 18);
    // What was taken has left its place.
    harness.writer.write(mark("bob", 200, 1)).await.unwrap();
}

#[tokio::test]
async fn an_organization_has_half_of_a_queue() {
    let harness = Harness::new(Memory::held(), &settings(8, 100, 1000));
    let of = |organization, id| send_to(InboxKey::parse(organization, "ann").unwrap(), id);
    let mut mutations: Vec<_> = (0..6).map(|id| of("acme", id)).collect();
    mutations.push(mark("bob", 6, 1));
    mutations.extend((10..14).map(|id| of("globex", id)));
    mutations.push(of("initech", 20));
    let writing = harness.write_behind(mutations).await;
    let answers = harness.go(writing).await;
    let refused: Vec<_> = (answers.iter().enumerate())
        .filter(|(_, answer)| matches!(answer, Err(Error::QueueFull)))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(refused, [4, 5, 6, 11], "of acme, and of all");
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 8);
    harness.writer.write(of("acme", 30)).await.unwrap();
}

/// Who sends to many leaves room for others who do.
#[tokio::test]
async fn an_organization_has_half_of_the_third_line() {
    let harness = Harness::new(Memory::held(), &settings(8, 100, 1000));
    let mut writing = harness.write(vec![send(999)]).await;
    let of = |organization, id| {
        let new = send_to(InboxKey::parse(organization, "ann").unwrap(), id);
        let writer = harness.writer.clone();
        tokio::spawn(async move { writer.write_in_bulk(new).await })
    };
    writing.extend((0..6).map(|id| of("acme", id)));
    writing.extend((10..15).map(|id| of("globex", id)));
    tokio::task::yield_now().await;
    let answers = harness.go(writing).await;
    let refused: Vec<_> = (answers.iter().enumerate())
        .filter(|(_, answer)| matches!(answer, Err(Error::QueueFull)))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(refused, [4, 5, 10], "half of it each");
    // What was taken has left its place.
    of("acme", 20).await.unwrap().unwrap();
}

/// What the service does of itself is refused for want of room by nobody: it waits.
#[tokio::test]
async fn what_is_done_for_nobody_waits_for_room() {
    let harness = Harness::new(Memory::held(), &settings(8, 2, 1000));
    let writing = harness.write(vec![send(999)]).await;
    let edits: Vec<_> = (100..120)
        .map(|id| {
            let writer = harness.writer.clone();
            tokio::spawn(async move { writer.edit_in_bulk(mark("bob", id, 1)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert!(edits.iter().all(|edit| !edit.is_finished()));
    harness.go(writing).await;
    for edited in edits {
        edited.await.unwrap().unwrap();
    }
    let batches = harness.store.batches().concat();
    assert_eq!(batches[1..], (100..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_waits_for_room_is_let_go_when_it_closes() {
    let harness = Harness::new(Memory::held(), &settings(2, 100, 1000));
    let writing = harness.write(vec![send(999)]).await;
    let edits = [100, 101].map(|id| {
        let writer = harness.writer.clone();
        tokio::spawn(async move { writer.edit_in_bulk(mark("bob", id, 1)).await })
    });
    tokio::task::yield_now().await;
    let writer = harness.writer.clone();
    let closing = tokio::spawn(async move { writer.close().await });
    let [first, second] = edits;
    let second = second.await.unwrap();
    assert!(matches!(second, Err(Error::Closed)), "{second:?}");
    harness.go(writing).await;
    first.await.unwrap().unwrap();
    closing.await.unwrap();
}

/// Where there is nothing to take an inbox notes how far it has taken: a row each.
#[tokio::test]
async fn what_is_taken_of_nothing_is_a_row_each() {
    let harness = Harness::new(Memory::held(), &settings(100, 3, 1000));
    let mut writing = harness.write(vec![send(999)]).await;
    writing.extend((0..7).map(|through| {
        let take = Mutation::Take(Take {
            inbox: inbox("ann"),
            after: 0,
            through,
            sends: Vec::new(),
            retracted: Vec::new(),
        });
        let writer = harness.writer.clone();
        tokio::spawn(async move { writer.write_in_bulk(take).await })
    }));
    tokio::task::yield_now().await;
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    let batches = harness.store.batches();
    let found: Vec<_> = batches.iter().map(Vec::len).collect();
    assert_eq!(found, [1, 3, 3, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_as_soon_as_it_is_put_was_counted_before() {
    let settings = settings(1000, 100, 1_000_000);
    let common = Arc::new(Common::new(&settings, 1));
    let queue = Arc::new(Queue::new(&settings, 1, &common));
    let lane = queue.clone();
    let taking = tokio::spawn(async move { while lane.batch().await.is_some() {} });
    let putting = tokio::task::spawn_blocking({
        let (queue, common) = (queue.clone(), common.clone());
        move || {
            for id in 0..100_000 {
                // It is full where the lane does not keep up.
                drop(queue.put(send_to(inbox("ann"), id), oneshot::channel().0));
                assert!(common.depth() <= 1000, "at {id}");
            }
        }
    });
    putting.await.unwrap();
    queue.close();
    taking.await.unwrap();
    assert_eq!(common.depth(), 0);
}

#[tokio::test]
async fn events_are_published_in_order_and_before_the_answers() {
    let harness = Harness::new(Memory::held(), &settings(100, 2, 1000));
    let mut room = harness.bus.hub().join(&inbox("ann")).unwrap();
    let writing = harness.write_behind(sends(0..5)).await;
    harness.go(writing).await;
    // All were answered: what is not there now comes too late.
    for revision in 1..=6 {
        let received = tokio::time::timeout(Duration::ZERO, room.receive()).await;
        let Ok(Received::Run(run)) = received else {
            panic!("{revision}: {received:?}");
        };
        assert_eq!(run[0].head.revision, Revision::new(revision));
    }
}

#[tokio::test]
async fn what_is_queued_when_it_closes_is_committed_and_what_comes_later_refused() {
    let harness = Harness::new(Memory::held(), &settings(100, 2, 1000));
    let writing = harness.write_behind(sends(0..5)).await;
    let closing = tokio::spawn({
        let writer = harness.writer.clone();
        async move { writer.close().await }
    });
    tokio::task::yield_now().await;
    let late = harness.writer.write(send(6)).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    assert!(harness.writer.is_closed() && !closing.is_finished());
    assert!(harness.go(writing).await.iter().all(Result::is_ok));
    closing.await.unwrap();
}

/// A bug in a store must not leave callers waiting for ever.
#[tokio::test]
async fn nobody_waits_for_a_lane_that_panicked() {
    let harness = Harness::new(
        Memory::new(0, Box::new(|_| panic!("a bug"))),
        &settings(100, 2, 1000),
    );
    let writing = harness.write_behind(sends(0..5)).await;
    for answer in harness.go(writing).await {
        assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    }
    assert!(harness.writer.is_closed());
}

#[tokio::test]
async fn it_is_failing_until_a_commit_succeeds() {
    let fault = |batch: &[Mutation]| match id_of(&batch[0]) {
        1 => Some(unavailable()),
        3 => Some(inconsistent()),
        _ => None,
    };
    let harness = Harness::new(
        Memory::new(100, Box::new(fault)),
        &WriterSettings::default(),
    );
    for (id, is_failing) in [(0, false), (1, true), (3, true), (4, false), (3, false)] {
        let _ = harness.writer.write(send(id)).await;
        assert_eq!(harness.writer.is_failing(), is_failing, "after {id}");
    }
}

#[rstest]
#[case::a_day(24 * 3600, 1)]
#[case::a_moment(60, 0)]
#[tokio::test]
async fn an_inbox_that_is_ahead_of_the_clock_is_said_once(
    #[case] ahead: u64,
    #[case] lines: usize,
) {
    let (log, _guard) = captured("warn", LogFormat::Json);
    let mut store = Memory::new(100, Box::new(|_| None));
    Arc::get_mut(&mut store).unwrap().ahead = Duration::from_secs(ahead);
    let harness = Harness::new(store, &WriterSettings::default());
    for id in 0..3 {
        harness.writer.write(send(id)).await.unwrap();
    }
    let said = log.json();
    assert_eq!(said.len(), lines, "{said:?}");
    assert!(said.iter().all(|line| line["seconds"] == ahead), "{said:?}");
}

#[tokio::test]
async fn a_member_at_fault_is_found_by_halving_and_fails_alone() {
    let fault = |batch: &[Mutation]| batch.iter().any(|m| id_of(m) == 6).then(inconsistent);
    let harness = Harness::new(Memory::new(0, Box::new(fault)), &WriterSettings::default());
    let writing = harness.write_behind(sends(0..8)).await;
    for (number, answer) in harness.go(writing).await.iter().enumerate() {
        match answer {
            Ok(Outcome::Sent(_)) => assert_ne!(number, 6),
            Err(Error::Store(error)) => assert_eq!((number, error.name()), (6, "corrupt")),
            other => panic!("{number}: {other:?}"),
        }
    }
    let batches: [&[u128]; 8] = [
        &[999],
        &[0, 1, 2, 3, 4, 5, 6, 7],
        &[0, 1, 2, 3],
        &[4, 5, 6, 7],
        &[4, 5],
        &[6, 7],
        &[6],
        &[7],
    ];
    assert_eq!(harness.store.batches(), batches);
}

#[tokio::test]
async fn what_is_nobodys_fault_fails_the_batch_as_a_whole() {
    let harness = Harness::new(
        Memory::new(0, Box::new(|_| Some(unavailable()))),
        &WriterSettings::default(),
    );
    let writing = harness.write_behind(sends(0..4)).await;
    for answer in harness.go(writing).await {
        assert!(matches!(answer, Err(Error::Store(_))), "{answer:?}");
    }
    assert_eq!(harness.store.batches(), [vec![999], vec![0, 1, 2, 3]]);
}
