//! The conformance suite of [`Store`]: what every engine must do alike.
//!
//! A case takes a [`Backend`] and knows nothing of the engine; another engine is
//! put under the suite by one line at the end of this file. Every inbox has a
//! neighbour: the same user in another organization, with rows of the same ids
//! and keys.

use std::{
    collections::HashMap, fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path,
    sync::Arc, time::Duration,
};

use async_trait::async_trait;
use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    config::StoreSettings,
    model::{
        Action, Change, Content, Data, Epoch, Field, FollowUpOptions, Head, Image, InboxKey,
        NewNotification, Notification, OrganizationId, RemovalCause, Revision, Row, Unless, View,
    },
    random::{Random, SeededRandom},
    store::{
        About, Committed, Correction, Cursor, Database, Deletion, Edit, Edited, Error, Mutation,
        Named, NotSent, NotUpdated, Outcome, PageLimit, RecentQuery, Selected, Sent, Store as _,
        Updated, Verb, Which,
        follow_ups::{After, FollowUp},
        selection,
        sqlite::Sqlite,
        sweeping::{Due, Kept},
    },
};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    engines::{self, PgBouncer, Postgres},
    support::{self, ann, at, content, neighbour, rev},
};

/// An engine under test, with the ways around the trait that a test needs.
#[async_trait]
trait Backend: Send + Sync {
    fn store(&self) -> Arc<dyn Database>;
    /// The same database, opened anew after the present store was closed.
    async fn reopen(&mut self);
    /// Runs statements as another program would.
    async fn sql(&self, statements: &str);
    /// How many rows of an inbox are unread and not archived.
    async fn count_unread(&self, inbox: &InboxKey) -> u32;
}

struct SqliteBackend {
    directory: TempDir,
    store: Arc<dyn Database>,
}

impl SqliteBackend {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(support::sqlite(&directory).await);
        Self { directory, store }
    }

    async fn connection(&self) -> SqliteConnection {
        let path = self.directory.path().join("doorbell.db");
        SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap()
    }
}

#[async_trait]
impl Backend for SqliteBackend {
    fn store(&self) -> Arc<dyn Database> {
        self.store.clone()
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        let elsewhere = tempfile::tempdir().unwrap();
        // The store holds its lock as long as it lives.
        self.store = Arc::new(support::sqlite(&elsewhere).await);
        self.store = Arc::new(support::sqlite(&self.directory).await);
    }

    async fn sql(&self, statements: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    async fn count_unread(&self, inbox: &InboxKey) -> u32 {
        let mut connection = self.connection().await;
        sqlx::query_scalar(
            "SELECT count(*) FROM notifications WHERE organization_id = ? AND user_id = ? \
             AND read_at IS NULL AND archived_at IS NULL",
        )
        .bind(inbox.organization_id.as_str())
        .bind(inbox.user_id.as_str())
        .fetch_one(&mut connection)
        .await
        .unwrap()
    }
}

/// A database of its own in the cluster that all tests share.
struct PostgresBackend {
    url: String,
    settings: StoreSettings,
    store: Arc<dyn Database>,
    _pooler: Option<PgBouncer>,
}

impl PostgresBackend {
    async fn new() -> Self {
        let url = Postgres::shared().create_database().await;
        let settings = StoreSettings {
            database_url: Some(url.as_str().into()),
            ..StoreSettings::default()
        };
        Self::open(url, settings, None).await
    }

    /// Behind a PgBouncer in transaction mode.
    async fn pooled() -> Self {
        let url = Postgres::shared().create_database().await;
        let pooler = PgBouncer::start(Postgres::shared());
        let pooled = engines::url(pooler.address, engines::database_of(&url));
        let settings = StoreSettings {
            database_url: Some(pooled.into()),
            database_direct_url: Some(url.as_str().into()),
            database_pooler: true,
            ..StoreSettings::default()
        };
        Self::open(url, settings, Some(pooler)).await
    }

    async fn open(url: String, settings: StoreSettings, pooler: Option<PgBouncer>) -> Self {
        let store = Arc::new(support::postgres_with(&settings).await);
        Self {
            url,
            settings,
            store,
            _pooler: pooler,
        }
    }
}

#[async_trait]
impl Backend for PostgresBackend {
    fn store(&self) -> Arc<dyn Database> {
        self.store.clone()
    }

    async fn reopen(&mut self) {
        self.store.close().await;
        self.store = Arc::new(support::postgres_with(&self.settings).await);
    }

    async fn sql(&self, statements: &str) {
        engines::execute(&self.url, statements).await;
    }

    async fn count_unread(&self, inbox: &InboxKey) -> u32 {
        let query = format!(
            "SELECT count(*) FROM notifications WHERE organization_id = '{}' \
             AND user_id = '{}' AND read_at IS NULL AND archived_at IS NULL",
            inbox.organization_id, inbox.user_id
        );
        u32::try_from(engines::number(&self.url, &query).await).unwrap()
    }
}

const NO_LIMIT: PageLimit = PageLimit {
    rows: 1000,
    bytes: usize::MAX,
};

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn new(inbox: InboxKey, number: u128) -> NewNotification {
    NewNotification::new(
        inbox,
        id(number),
        Arc::new(content(&format!("number {number}"))),
        "backend".into(),
    )
}

fn keyed(inbox: InboxKey, number: u128, key: &str, title: &str) -> Mutation {
    Mutation::Send(NewNotification {
        idempotency_key: Some(key.into()),
        content: Arc::new(content(title)),
        ..new(inbox, number)
    })
}

fn send(inbox: InboxKey, number: u128) -> Mutation {
    Mutation::Send(new(inbox, number))
}

fn mark(inbox: InboxKey, numbers: &[u128]) -> Mutation {
    Mutation::Edit {
        inbox,
        ids: numbers.iter().map(|number| id(*number)).collect(),
        edit: Edit::Read,
        view: View::Inbox,
        through: None,
    }
}

fn see(inbox: InboxKey, through: u64) -> Mutation {
    Mutation::Seen {
        inbox,
        through: rev(through),
    }
}

async fn commit(backend: &dyn Backend, batch: &[Mutation]) -> Committed {
    backend.store().commit(batch, at(1000)).await.unwrap()
}

async fn head(backend: &dyn Backend, inbox: &InboxKey) -> Head {
    backend.store().head(inbox).await.unwrap().head
}

/// (revision, unread count)
async fn counts(backend: &dyn Backend, inbox: &InboxKey) -> (u64, u32) {
    let head = head(backend, inbox).await;
    (head.revision.get(), head.unread_count)
}

fn sent(outcome: &Outcome) -> (&Notification, bool, Head) {
    match outcome {
        Outcome::Sent(Ok(Sent {
            notification,
            duplicate,
            head,
        })) => (notification, *duplicate, *head),
        other => panic!("{other:?}"),
    }
}

fn marked(outcome: &Outcome) -> (u32, Head) {
    match outcome {
        Outcome::Edited(Edited { changed, head }) => (*changed, *head),
        other => panic!("{other:?}"),
    }
}

async fn changes(backend: &dyn Backend, inbox: &InboxKey, after: u64) -> Vec<Notification> {
    let page = backend
        .store()
        .changes(inbox, Cursor::after(rev(after)), NO_LIMIT)
        .await
        .unwrap();
    assert_eq!(page.next, None);
    page.rows
}

fn recent_query() -> RecentQuery {
    RecentQuery::new(NO_LIMIT)
}

/// As a later version or an operator's tool archives: one change, one revision.
async fn archive(backend: &dyn Backend, inbox: &InboxKey, number: u128) {
    let archive = edit(inbox.clone(), Edit::Archive, &[number]);
    backend.store().commit(&[archive], at(2000)).await.unwrap();
}

fn delete(inbox: InboxKey, why: Deletion, numbers: &[u128]) -> Mutation {
    let ids = numbers.iter().map(|number| id(*number)).collect();
    Mutation::Delete { inbox, ids, why }
}

async fn an_inbox_that_never_changed_is_empty_and_has_the_epoch(backend: &mut dyn Backend) {
    let store = backend.store();
    let snapshot = store.head(&ann()).await.unwrap();
    assert_eq!(snapshot.head, Head::default());
    assert!(!snapshot.epoch.as_str().is_empty());
    let page = store.recent(&ann(), recent_query()).await.unwrap();
    assert_eq!(
        (page.snapshot, page.rows.len(), page.next.is_some()),
        (snapshot.clone(), 0, false)
    );
    let page = store
        .changes(&ann(), Cursor::after(Revision::ZERO), NO_LIMIT)
        .await
        .unwrap();
    assert_eq!(
        (page.snapshot, page.rows.len(), page.next),
        (snapshot, 0, None)
    );
    assert_eq!(
        store
            .count_changes(&ann(), Revision::ZERO, 10)
            .await
            .unwrap(),
        0
    );
    store.check(false).await.unwrap();
    store.check(true).await.unwrap();
}

async fn a_send_takes_the_next_revision_and_is_read_back(backend: &mut dyn Backend) {
    let committed = commit(backend, &[send(ann(), 1), send(ann(), 2)]).await;
    let (second, duplicate, head) = sent(&committed.outcomes[1]);
    assert!(!duplicate);
    let row = second.row;
    assert_eq!(
        (row.sequence, row.revision, row.ring_revision),
        (rev(2), rev(2), rev(2))
    );
    assert_eq!(
        (head.revision, head.unread_count, head.unseen_count),
        (rev(2), 2, 2)
    );
    let rows = changes(backend, &ann(), 0).await;
    assert_eq!(
        rows,
        [sent(&committed.outcomes[0]).0.clone(), second.clone()]
    );
    assert_eq!(counts(backend, &ann()).await, (2, 2));
    assert_eq!(counts(backend, &neighbour()).await, (0, 0));
}

async fn a_batch_counts_on_from_the_head_of_each_of_its_inboxes(backend: &mut dyn Backend) {
    let bob = InboxKey::parse("acme", "bob").unwrap();
    let inboxes = [ann(), bob, neighbour()];
    // Their heads, and their times, are not the same.
    for (count, inbox) in inboxes.iter().enumerate() {
        let batch: Vec<_> = (0..3 * count as u128)
            .map(|number| send(inbox.clone(), number))
            .collect();
        let now = at(1000 * (1 + count as i64));
        backend.store().commit(&batch, now).await.unwrap();
    }
    let to = [2, 0, 1, 0, 2, 2, 1];
    let batch: Vec<_> = (10..)
        .zip(to)
        .map(|(number, to)| send(inboxes[to].clone(), number))
        .collect();
    let committed = commit(backend, &batch).await;
    for (number, inbox) in inboxes.iter().enumerate() {
        let of_it = to.iter().zip(&committed.outcomes);
        let answered: Vec<_> = of_it
            .filter(|(to, _)| **to == number)
            .map(|(_, outcome)| sent(outcome).0.clone())
            .collect();
        let before = 3 * number as u64;
        let revisions: Vec<_> = answered
            .iter()
            .map(|found| found.row.revision.get())
            .collect();
        let expected: Vec<_> = (before + 1..).take(answered.len()).collect();
        assert_eq!(revisions, expected, "{inbox:?}");
        assert_eq!(changes(backend, inbox, before).await, answered, "{inbox:?}");
        let head = head(backend, inbox).await;
        let last = answered.last().unwrap();
        assert_eq!(head.revision, last.row.revision);
        assert_eq!(u64::from(head.unread_count), last.row.revision.get());
    }
}

async fn a_batch_tells_its_events_by_inbox_in_order(backend: &mut dyn Backend) {
    let batch = [
        send(ann(), 1),
        send(neighbour(), 1),
        mark(ann(), &[7]),
        send(ann(), 2),
    ];
    let committed = commit(backend, &batch).await;
    assert_eq!(committed.outcomes.len(), 4);
    let runs: Vec<(InboxKey, Vec<(u64, u32)>)> = committed
        .runs
        .iter()
        .map(|(inbox, run)| {
            let run = run
                .iter()
                .map(|event| (event.head.revision.get(), event.head.unread_count));
            (inbox.clone(), run.collect())
        })
        .collect();
    assert_eq!(
        runs,
        [(ann(), vec![(1, 1), (2, 2)]), (neighbour(), vec![(1, 1)])]
    );
}

async fn created_at_strictly_increases_whatever_the_clock_does(backend: &mut dyn Backend) {
    let store = backend.store();
    store
        .commit(&[send(ann(), 1), send(ann(), 2)], at(1000))
        .await
        .unwrap();
    store.commit(&[send(ann(), 3)], at(5)).await.unwrap();
    store.commit(&[send(ann(), 4)], at(9000)).await.unwrap();
    store.commit(&[send(neighbour(), 5)], at(5)).await.unwrap();
    let times = |rows: Vec<Notification>| -> Vec<i64> {
        rows.iter().map(|row| row.created_at.as_micros()).collect()
    };
    assert_eq!(
        times(changes(backend, &ann(), 0).await),
        [1000, 1001, 1002, 9000]
    );
    assert_eq!(times(changes(backend, &neighbour(), 0).await), [5]);
}

async fn all_of_a_content_is_read_back(backend: &mut dyn Backend) {
    let full = Content {
        kind: "ünï".into(),
        title: "\u{1f514} '; DROP TABLE notifications; --".into(),
        body: Some("line\nline\ttab \\ \" \u{7f}".into()),
        entity_type: Some(String::new()),
        entity_id: Some("e-1".into()),
        action_url: Some("/a?b=c".into()),
        data: Some(Data::from_canonical(
            r#"{"a":[1,2.5,null,true,"x"],"b":{}}"#.into(),
        )),
        image_url: Some("https://example.com/a.png".into()),
        actions: vec![
            Action {
                label: "Öpen \" '".into(),
                url: "/a".into(),
                is_primary: true,
            },
            Action {
                label: "Later".into(),
                url: "https://example.com/?b=[]".into(),
                is_primary: false,
            },
        ],
    };
    let new = NewNotification {
        content: Arc::new(full),
        ..new(ann(), 1)
    };
    let committed = commit(backend, &[Mutation::Send(new.clone())]).await;
    let page = backend
        .store()
        .recent(&ann(), recent_query())
        .await
        .unwrap();
    assert_eq!(page.rows[0], *sent(&committed.outcomes[0]).0);
    assert_eq!(page.rows[0].content, new.content);
    assert_eq!(page.rows[0].sender, new.sender);
}

async fn a_key_answers_with_the_first_notification_as_it_is_now(backend: &mut dyn Backend) {
    // In one batch, and in a later one.
    let batch = [keyed(ann(), 1, "k", "a"), keyed(ann(), 2, "k", "a")];
    let committed = commit(backend, &batch).await;
    let (first, duplicate, _) = sent(&committed.outcomes[1]);
    assert!(duplicate);
    assert_eq!(first.row.id, id(1));
    assert_eq!(
        committed
            .runs
            .iter()
            .map(|(_, run)| run.len())
            .sum::<usize>(),
        1
    );

    // A mark before it in the same batch is seen.
    let batch = [mark(ann(), &[1]), keyed(ann(), 3, "k", "a")];
    let committed = commit(backend, &batch).await;
    let (again, duplicate, head) = sent(&committed.outcomes[1]);
    assert!(duplicate && again.row.state.read_at.is_some());
    assert_eq!((again.row.id, again.row.revision), (id(1), rev(2)));
    assert_eq!((head.revision, head.unread_count), (rev(2), 0));
    let again = commit(backend, &[keyed(ann(), 4, "k", "a")]).await;
    assert_eq!(sent(&again.outcomes[0]), sent(&committed.outcomes[1]));
    assert!(again.runs.is_empty());
    assert_eq!(counts(backend, &ann()).await, (2, 0));
}

async fn a_key_with_another_content_is_a_mismatch_and_changes_nothing(backend: &mut dyn Backend) {
    let batch = [
        keyed(ann(), 1, "k", "a"),
        keyed(ann(), 2, "k", "b"),
        keyed(neighbour(), 3, "k", "b"),
    ];
    let committed = commit(backend, &batch).await;
    assert_eq!(committed.outcomes[1], Outcome::Sent(Err(NotSent::Mismatch)));
    // A neighbour's key is another key.
    assert!(!sent(&committed.outcomes[2]).1);
    let committed = commit(backend, &[keyed(ann(), 4, "k", "c")]).await;
    assert_eq!(committed.outcomes, [Outcome::Sent(Err(NotSent::Mismatch))]);
    assert!(committed.runs.is_empty());
    assert_eq!(counts(backend, &ann()).await, (1, 1));
}

async fn a_key_is_free_again_once_its_row_is_purged(backend: &mut dyn Backend) {
    commit(backend, &[keyed(ann(), 1, "k", "a")]).await;
    commit(backend, &[remove(ann(), &[1])]).await;
    let committed = commit(backend, &[keyed(ann(), 2, "k", "a")]).await;
    assert!(
        sent(&committed.outcomes[0]).1,
        "the key lives as long as what is left of the row"
    );
    // In one batch, where the new row comes after the old one went.
    let again = keyed(ann(), 3, "k", "other");
    let committed = commit(backend, &[delete(ann(), Deletion::Purge, &[1]), again]).await;
    assert!(!sent(&committed.outcomes[1]).1);
}

async fn a_mark_is_one_change_and_skips_what_it_must(backend: &mut dyn Backend) {
    let batch = [
        send(ann(), 1),
        send(ann(), 2),
        send(ann(), 3),
        send(ann(), 4),
        send(neighbour(), 5),
    ];
    commit(backend, &batch).await;
    archive(backend, &ann(), 4).await;
    // Unknown, archived, repeated, a neighbour's, and one of a neighbour by its id.
    let committed = commit(backend, &[mark(ann(), &[1, 2, 1, 4, 5, 99])]).await;
    let (count, head) = marked(&committed.outcomes[0]);
    assert_eq!((count, head.revision, head.unread_count), (2, rev(6), 1));
    let [(_, run)] = committed.runs.as_slice() else {
        panic!("{:?}", committed.runs)
    };
    let changed = rows_of(&run[0].change);
    assert_eq!(ids_of(&changed), [id(1), id(2)]);
    assert!(
        changed
            .iter()
            .all(|row| row.revision == rev(6) && row.state.read_at.is_some())
    );
    let rows: Vec<Row> = changes(backend, &ann(), 5)
        .await
        .iter()
        .map(|found| found.row)
        .collect();
    assert_eq!(rows, changed);
    // Again: nothing changes, and the head is the present one.
    let committed = commit(backend, &[mark(ann(), &[1, 2])]).await;
    assert_eq!(marked(&committed.outcomes[0]), (0, head));
    assert!(committed.runs.is_empty());
    assert_eq!(counts(backend, &neighbour()).await, (1, 1));
}

/// What a change of states says.
fn rows_of(change: &Change) -> Vec<Row> {
    let Change::Changed(images) = change else {
        panic!("{change:?}");
    };
    images.iter().map(|image| *image.row()).collect()
}

fn ids_of(rows: &[Row]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id).collect()
}

async fn select(backend: &dyn Backend, which: &Which, after: u64) -> Selected {
    let store = backend.store();
    let verb = verb(Edit::Read, which.clone(), View::Inbox);
    let selected = store.select(&ann(), &verb, rev(after)).await;
    selected.unwrap()
}

fn verb(edit: Edit, which: Which, view: View) -> Verb {
    Verb { edit, which, view }
}

fn through(revision: u64, types: &[&str]) -> Which {
    Which::Through {
        revision: rev(revision),
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
    }
}

fn edit(inbox: InboxKey, edit: Edit, numbers: &[u128]) -> Mutation {
    Mutation::Edit {
        inbox,
        ids: numbers.iter().map(|number| id(*number)).collect(),
        edit,
        view: View::All,
        through: None,
    }
}

/// (changed, revision, unread, unseen)
fn edited(outcome: &Outcome) -> (u32, u64, u32, u32) {
    let (changed, head) = marked(outcome);
    let revision = head.revision.get();
    (changed, revision, head.unread_count, head.unseen_count)
}

async fn each_verb_turns_what_it_says_and_the_counts_with_it(backend: &mut dyn Backend) {
    let sends: Vec<_> = (1..=4).map(|number| send(ann(), number)).collect();
    commit(backend, &sends).await;
    commit(backend, &[send(neighbour(), 1), see(ann(), 2)]).await;
    let removed = Edit::Remove(RemovalCause::User);
    let steps = [
        (Edit::Read, vec![1, 3], (2, 6, 2, 1)),
        (Edit::Unread, vec![1, 2, 3], (2, 7, 4, 2)),
        // Archiving does not read.
        (Edit::Read, vec![1], (1, 8, 3, 2)),
        (Edit::Archive, vec![1, 2, 4, 4, 9], (3, 9, 1, 1)),
        (Edit::Read, vec![1, 2], (0, 9, 1, 1)),
        (Edit::Unread, vec![1], (0, 9, 1, 1)),
        // What comes back is as it was.
        (Edit::Unarchive, vec![1, 2, 3, 4], (3, 10, 3, 2)),
        (removed, vec![2, 4], (2, 11, 1, 1)),
        // For good.
        (Edit::Archive, vec![2, 4], (0, 11, 1, 1)),
        (Edit::Unarchive, vec![2], (0, 11, 1, 1)),
        (removed, vec![2], (0, 11, 1, 1)),
    ];
    for (verb, numbers, expected) in steps {
        let committed = commit(backend, &[edit(ann(), verb, &numbers)]).await;
        assert_eq!(
            edited(&committed.outcomes[0]),
            expected,
            "{verb:?} {numbers:?}"
        );
        assert_eq!(committed.runs.len(), usize::from(expected.0 > 0));
    }
    assert_eq!(counts(backend, &neighbour()).await, (1, 1));
    let rows = changes(backend, &ann(), 0).await;
    let unread = rows.iter().filter(|found| found.row.state.is_unread());
    assert_eq!(unread.count(), 1);
}

async fn what_is_removed_is_blank_and_keeps_its_key(backend: &mut dyn Backend) {
    let first = commit(backend, &[keyed(ann(), 1, "k", "a title"), send(ann(), 2)]).await;
    let first = sent(&first.outcomes[0]).0.clone();
    let cause = RemovalCause::Sender;
    let removed = commit(backend, &[edit(ann(), Edit::Remove(cause), &[1])]).await;
    let rows = rows_of(&removed.runs[0].1[0].change);
    assert_eq!(rows[0].state.removed.map(|(_, cause)| cause), Some(cause));
    let changed = changes(backend, &ann(), 2).await;
    assert_eq!(
        (changed[0].row, &*changed[0].content),
        (rows[0], &Content::blank())
    );
    // It is in no list, and nobody sends it again.
    for view in [View::Inbox, View::Archived, View::All] {
        let query = RecentQuery {
            view,
            ..recent_query()
        };
        let page = backend.store().recent(&ann(), query).await.unwrap();
        assert!(
            page.rows.iter().all(|found| found.row.id != id(1)),
            "{view:?}"
        );
    }
    let again = commit(backend, &[keyed(ann(), 3, "k", "a title")]).await;
    let (again, is_duplicate, head) = sent(&again.outcomes[0]);
    assert_eq!((again.row.id, is_duplicate), (id(1), true));
    assert_eq!((again.created_at, again.row), (first.created_at, rows[0]));
    assert_eq!((head.revision, head.unread_count), (rev(3), 1));
}

async fn what_comes_back_is_told_whole_and_does_not_ring(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1), send(ann(), 2)]).await;
    commit(backend, &[edit(ann(), Edit::Archive, &[1, 2])]).await;
    let committed = commit(backend, &[edit(ann(), Edit::Unarchive, &[2, 1])]).await;
    let Change::Changed(images) = &committed.runs[0].1[0].change else {
        panic!("{committed:?}");
    };
    let titles = images.iter().map(|image| match image {
        Image::Whole(row) => row.content.title.clone(),
        Image::State(row) => panic!("{row:?} is not whole"),
    });
    assert_eq!(titles.collect::<Vec<_>>(), ["number 1", "number 2"]);
    let rang = images.iter().map(|image| image.row().ring_revision);
    assert_eq!(rang.collect::<Vec<_>>(), [rev(1), rev(2)]);
}

fn collapsing(number: u128, key: &str) -> Mutation {
    Mutation::Send(NewNotification {
        collapse_key: Some(key.into()),
        ..new(ann(), number)
    })
}

async fn a_collapse_takes_the_place_of_the_unread_one(backend: &mut dyn Backend) {
    commit(backend, &[collapsing(1, "likes"), see(ann(), 1)]).await;
    let committed = commit(backend, &[collapsing(2, "likes"), collapsing(3, "others")]).await;
    let (second, _, head) = sent(&committed.outcomes[0]);
    assert_eq!(second.collapsed_count, 1);
    // The one that was seen is gone, and one that is not is there.
    assert_eq!(
        (head.revision, head.unread_count, head.unseen_count),
        (rev(3), 1, 1)
    );
    let run = &committed.runs[0].1;
    let rows = rows_of(&run[0].change);
    assert_eq!(ids_of(&rows), [id(1), id(2)]);
    let cause = rows[0].state.removed.map(|(_, cause)| cause);
    assert_eq!(cause, Some(RemovalCause::Replaced));
    assert!(matches!(&run[1].change, Change::Notification(third) if third.collapsed_count == 0));
    // Twice in one batch, and not where it was read.
    let committed = commit(backend, &[collapsing(4, "likes"), collapsing(5, "likes")]).await;
    assert_eq!(sent(&committed.outcomes[1]).0.collapsed_count, 3);
    commit(backend, &[mark(ann(), &[5])]).await;
    let committed = commit(backend, &[collapsing(6, "likes")]).await;
    assert_eq!(sent(&committed.outcomes[0]).0.collapsed_count, 0);
    let page = backend
        .store()
        .recent(&ann(), recent_query())
        .await
        .unwrap();
    let listed = page.rows.iter().map(|found| found.row.id.as_u128());
    assert_eq!(listed.collect::<Vec<_>>(), [6, 5, 3]);
    assert_eq!(page.snapshot.head.unread_count, 2);
}

fn correction(of: Named, title: &str, ring: bool) -> Mutation {
    Mutation::Update(Correction {
        inbox: ann(),
        of,
        content: Arc::new(content(title)),
        fields: vec![Field::Title],
        ring,
    })
}

async fn a_correction_stays_in_its_place(backend: &mut dyn Backend) {
    let updated = |committed: &Committed| match &committed.outcomes[0] {
        Outcome::Updated(updated) => updated.clone(),
        other => panic!("{other:?}"),
    };
    commit(backend, &[keyed(ann(), 1, "k", "first"), send(ann(), 2)]).await;
    let by_key = correction(Named::Key("k".into()), "better", false);
    let Ok(Updated {
        notification,
        changed,
        head,
    }) = updated(&commit(backend, std::slice::from_ref(&by_key)).await)
    else {
        panic!("it is there")
    };
    let Row {
        sequence,
        revision,
        ring_revision,
        ..
    } = notification.row;
    assert_eq!(
        (sequence, revision, ring_revision),
        (rev(1), rev(3), rev(1))
    );
    assert_eq!(
        (changed, head.unread_count, head.unseen_count),
        (true, 2, 2)
    );
    assert_eq!(changes(backend, &ann(), 2).await, [notification]);
    // The same again changes nothing; a ring is heard where it is unread.
    let again = commit(backend, &[by_key]).await;
    assert!(again.runs.is_empty() && !updated(&again).unwrap().changed);
    let rings = commit(backend, &[correction(Named::Id(id(2)), "ring", true)]).await;
    assert_eq!(
        updated(&rings).unwrap().notification.row.ring_revision,
        rev(4)
    );
    commit(backend, &[mark(ann(), &[2])]).await;
    let read = commit(backend, &[correction(Named::Id(id(2)), "read", true)]).await;
    assert_eq!(
        updated(&read).unwrap().notification.row.ring_revision,
        rev(4)
    );
    // A retry of the send is answered with what it is now.
    let duplicate = commit(backend, &[keyed(ann(), 9, "k", "first")]).await;
    assert_eq!(sent(&duplicate.outcomes[0]).0.content.title, "better");

    commit(
        backend,
        &[edit(ann(), Edit::Remove(RemovalCause::User), &[1])],
    )
    .await;
    for (of, expected) in [
        (Named::Id(id(1)), NotUpdated::Removed),
        (Named::Id(id(77)), NotUpdated::NotFound),
        (Named::Key("other".into()), NotUpdated::NotFound),
    ] {
        let refused = commit(backend, &[correction(of, "x", false)]).await;
        assert_eq!(updated(&refused), Err(expected));
        assert!(refused.runs.is_empty());
    }
}

async fn what_is_over_before_it_comes_is_not_made(backend: &mut dyn Backend) {
    let expiring = |number, key: Option<&str>, micros| {
        Mutation::Send(NewNotification {
            idempotency_key: key.map(str::to_owned),
            expire_time: Some(at(micros)),
            is_silent: true,
            ..new(ann(), number)
        })
    };
    let committed = commit(backend, &[expiring(1, None, 1000)]).await;
    assert_eq!(
        committed.outcomes,
        [Outcome::Sent(Err(NotSent::Expired(Head::default())))]
    );
    assert!(committed.runs.is_empty());
    let committed = commit(backend, &[expiring(2, Some("k"), 1001)]).await;
    let (made, _, _) = sent(&committed.outcomes[0]);
    assert_eq!(made.expire_time, Some(at(1001)));
    assert_eq!(made.row.ring_revision, Revision::ZERO, "it is silent");
    // A known key is answered before any time is judged.
    let again = Mutation::Send(NewNotification {
        idempotency_key: Some("k".into()),
        expire_time: Some(at(1)),
        ..new(ann(), 3)
    });
    let again = match again {
        Mutation::Send(new) => Mutation::Send(NewNotification {
            content: made.content.clone(),
            ..new
        }),
        other => other,
    };
    assert!(sent(&commit(backend, &[again]).await.outcomes[0]).1);
}

async fn views_types_and_things_are_listed_in_pages(backend: &mut dyn Backend) {
    let kinds = ["a", "b", "c"];
    let of = |number: u128| {
        let content = Content {
            kind: kinds[(number % 3) as usize].into(),
            entity_type: number.is_multiple_of(2).then(|| "order".into()),
            entity_id: number.is_multiple_of(2).then(|| "7".into()),
            ..content("x")
        };
        Mutation::Send(NewNotification {
            content: Arc::new(content),
            ..new(ann(), number)
        })
    };
    commit(backend, &(1..=12).map(of).collect::<Vec<_>>()).await;
    commit(backend, &[send(neighbour(), 1), mark(ann(), &[1, 2, 5])]).await;
    commit(backend, &[edit(ann(), Edit::Archive, &[2, 3, 4])]).await;
    commit(
        backend,
        &[edit(ann(), Edit::Remove(RemovalCause::User), &[6, 3])],
    )
    .await;
    let list = async |query: RecentQuery| -> Vec<u128> {
        let (mut listed, mut query) = (Vec::new(), query);
        query.limit.rows = 2;
        loop {
            let page = backend.store().recent(&ann(), query.clone()).await.unwrap();
            listed.extend(page.rows.iter().map(|found| found.row.id.as_u128()));
            query.before = page.next;
            if page.next.is_none() {
                return listed;
            }
        }
    };
    let all = recent_query();
    let view = |view| RecentQuery {
        view,
        ..all.clone()
    };
    assert_eq!(list(view(View::Inbox)).await, [12, 11, 10, 9, 8, 7, 5, 1]);
    assert_eq!(list(view(View::Archived)).await, [4, 2]);
    assert_eq!(
        list(view(View::All)).await,
        [12, 11, 10, 9, 8, 7, 5, 4, 2, 1]
    );
    let types = |view: RecentQuery, types: &[&str]| RecentQuery {
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        ..view
    };
    assert_eq!(list(types(view(View::Inbox), &["a"])).await, [12, 9]);
    assert_eq!(
        list(types(view(View::All), &["b", "none"])).await,
        [10, 7, 4, 1]
    );
    let about = |view: RecentQuery| RecentQuery {
        about: Some(About {
            entity_type: "order".into(),
            entity_id: "7".into(),
        }),
        ..view
    };
    assert_eq!(list(about(view(View::Inbox))).await, [12, 10, 8]);
    assert_eq!(list(about(view(View::Archived))).await, [4, 2]);
    assert_eq!(
        list(about(types(view(View::All), &["c", "a"]))).await,
        [12, 8, 2]
    );
    let unread = |view: RecentQuery| RecentQuery {
        unread_only: true,
        ..view
    };
    assert_eq!(list(unread(view(View::Inbox))).await, [12, 11, 10, 9, 8, 7]);
    assert_eq!(list(unread(view(View::Archived))).await, [4]);
    assert_eq!(list(unread(about(view(View::All)))).await, [12, 10, 8, 4]);
    let since = RecentQuery {
        since: Some(at(1008)),
        ..types(view(View::Inbox), &["a", "b"])
    };
    assert_eq!(list(since).await, [12, 10]);

    let types = ["a", "b", "c", "none"].map(str::to_owned);
    let counts = backend.store().count_types(&ann(), &types).await.unwrap();
    assert_eq!(counts.snapshot.head.unread_count, 6);
    let expected = [("a", 2), ("b", 2), ("c", 2)].map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(counts.unread, HashMap::from(expected));
}

async fn a_page_looks_at_a_thousand_and_says_where_to_go_on(backend: &mut dyn Backend) {
    let rare = Mutation::Send(NewNotification {
        content: Arc::new(Content::new("rare", "x")),
        ..new(ann(), 1)
    });
    commit(backend, &[rare]).await;
    let many: Vec<_> = (2..=1200).map(|number| send(ann(), number)).collect();
    commit(backend, &many).await;
    let mut query = RecentQuery {
        types: vec!["rare".into()],
        ..recent_query()
    };
    let page = backend.store().recent(&ann(), query.clone()).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (0, Some(rev(201))));
    query.before = page.next;
    let page = backend.store().recent(&ann(), query).await.unwrap();
    assert_eq!((page.rows.len(), page.next), (1, None));
}

async fn each_way_to_select_finds_what_its_view_holds(backend: &mut dyn Backend) {
    let about = |number| {
        let content = Content {
            entity_type: Some("order".into()),
            entity_id: Some("7".into()),
            ..content("about")
        };
        Mutation::Send(NewNotification {
            content: Arc::new(content),
            ..new(ann(), number)
        })
    };
    let sends = [
        about(1),
        about(2),
        about(3),
        keyed(ann(), 4, "k", "x"),
        collapsing(5, "c"),
    ];
    commit(backend, &sends).await;
    commit(
        backend,
        &[edit(ann(), Edit::Archive, &[2]), mark(ann(), &[5])],
    )
    .await;
    commit(
        backend,
        &[edit(ann(), Edit::Remove(RemovalCause::User), &[3])],
    )
    .await;
    let store = backend.store();
    let picked = async |edit: Edit, which: Which, view: View| -> Vec<u128> {
        let verb = verb(edit, which, view);
        let selected = store.select(&ann(), &verb, rev(0)).await.unwrap();
        assert_eq!(selected.next, None);
        selected.ids.iter().map(Uuid::as_u128).collect()
    };
    let order = Which::About(About {
        entity_type: "order".into(),
        entity_id: "7".into(),
    });
    let (remove, all) = (Edit::Remove(RemovalCause::Sender), through(99, &[]));
    assert_eq!(picked(remove, order.clone(), View::All).await, [1, 2]);
    assert_eq!(picked(remove, order.clone(), View::Inbox).await, [1]);
    assert_eq!(picked(Edit::Unarchive, order, View::Archived).await, [2]);
    assert_eq!(picked(remove, Which::Key("k".into()), View::All).await, [4]);
    assert_eq!(
        picked(remove, Which::Key("c".into()), View::All).await,
        [] as [u128; 0]
    );
    assert_eq!(
        picked(remove, Which::Collapse("c".into()), View::All).await,
        [5]
    );
    // What empties the inbox leaves the archive as it is.
    assert_eq!(picked(remove, all.clone(), View::Inbox).await, [1, 4, 5]);
    assert_eq!(picked(Edit::Unread, all.clone(), View::Inbox).await, [5]);
    assert_eq!(
        picked(Edit::Archive, through(5, &[]), View::Inbox).await,
        [1, 4]
    );
    assert_eq!(picked(Edit::Unarchive, all, View::Archived).await, [2]);
}

async fn ids_select_what_is_unread_with_the_head_of_that_moment(backend: &mut dyn Backend) {
    let store = backend.store();
    let selected = select(backend, &Which::Ids(vec![id(1)]), 0).await;
    assert_eq!(
        (selected.snapshot.head, selected.ids.len()),
        (Head::default(), 0)
    );
    let batch: Vec<_> = (1..=5).map(|number| send(ann(), number)).collect();
    commit(backend, &batch).await;
    commit(backend, &[send(neighbour(), 6), mark(ann(), &[2])]).await;
    archive(backend, &ann(), 4).await;
    // Read, archived, a neighbour's, and many that nobody has.
    let asked: Vec<_> = (1..=6).chain(1000..1494).map(id).collect();
    let selected = select(backend, &Which::Ids(asked), 0).await;
    assert_eq!(selected.snapshot, store.head(&ann()).await.unwrap());
    assert_eq!(
        (selected.ids, selected.next),
        (vec![id(1), id(3), id(5)], None)
    );
    let selected = select(backend, &Which::Ids(vec![id(2), id(77)]), 0).await;
    assert_eq!(
        (selected.snapshot.head.unread_count, selected.ids.len()),
        (3, 0)
    );
}

async fn a_thing_selects_what_is_unread_about_it(backend: &mut dyn Backend) {
    let about = |inbox, number, entity_type: Option<&str>, entity_id: Option<&str>| {
        let content = Content {
            entity_type: entity_type.map(str::to_owned),
            entity_id: entity_id.map(str::to_owned),
            ..content("about")
        };
        Mutation::Send(NewNotification {
            content: Arc::new(content),
            ..new(inbox, number)
        })
    };
    let batch = [
        about(ann(), 1, Some("invoice"), Some("7")),
        about(ann(), 2, Some("invoice"), Some("8")),
        about(ann(), 3, Some("order"), Some("7")),
        about(ann(), 4, None, Some("7")),
        about(neighbour(), 5, Some("invoice"), Some("7")),
        about(ann(), 6, Some("invoice"), Some("7")),
        about(ann(), 7, Some("invoice"), Some("7")),
        about(ann(), 8, Some("invoice"), Some("7")),
    ];
    commit(backend, &batch).await;
    commit(backend, &[mark(ann(), &[6])]).await;
    archive(backend, &ann(), 7).await;
    let invoice = Which::About(About {
        entity_type: "invoice".into(),
        entity_id: "7".into(),
    });
    let selected = select(backend, &invoice, 0).await;
    assert_eq!((selected.ids, selected.next), (vec![id(1), id(8)], None));
    // From a place on.
    assert_eq!(select(backend, &invoice, 1).await.ids, [id(8)]);
}

async fn a_position_selects_what_did_not_change_since(backend: &mut dyn Backend) {
    let of_type = |number, kind: &str| {
        let content = Content {
            kind: kind.into(),
            ..content("of a type")
        };
        Mutation::Send(NewNotification {
            content: Arc::new(content),
            ..new(ann(), number)
        })
    };
    let batch = [
        of_type(1, "a"),
        of_type(2, "b"),
        of_type(3, "a"),
        of_type(4, "c"),
    ];
    commit(backend, &batch).await;
    commit(backend, &[mark(ann(), &[1]), send(neighbour(), 9)]).await;
    let ids = async |which: Which| select(backend, &which, 0).await.ids;
    assert_eq!(ids(through(3, &[])).await, [id(2), id(3)]);
    assert_eq!(ids(through(9, &["a", "c"])).await, [id(3), id(4)]);
    assert_eq!(ids(through(0, &[])).await, [] as [Uuid; 0]);
    // What changed since it was selected is left alone.
    let all = Mutation::Edit {
        inbox: ann(),
        ids: [1, 2, 3, 4].map(id).into(),
        edit: Edit::Read,
        view: View::Inbox,
        through: Some(rev(3)),
    };
    let committed = commit(backend, &[all]).await;
    let (changed, head) = marked(&committed.outcomes[0]);
    assert_eq!((changed, head.unread_count), (2, 1));
    assert_eq!(ids(through(9, &[])).await, [id(4)]);
}

async fn a_selection_is_walked_in_pieces(backend: &mut dyn Backend) {
    let most = selection::MOST_CHANGED as u128;
    let batch: Vec<_> = (1..=most + 2).map(|number| send(ann(), number)).collect();
    commit(backend, &batch).await;
    let all = through(u64::MAX >> 1, &[]);
    let first = select(backend, &all, 0).await;
    assert_eq!(first.ids.len(), selection::MOST_CHANGED);
    let next = first.next.unwrap();
    let second = select(backend, &all, next.get()).await;
    assert_eq!(
        (second.ids, second.next),
        (vec![id(most + 1), id(most + 2)], None)
    );
}

/// Whatever became of it; of somebody else's there is nothing.
async fn a_row_is_found_by_each_of_its_names(backend: &mut dyn Backend) {
    let first = keyed(ann(), 1, "key", "Hello");
    commit(backend, &[first, send(neighbour(), 2), see(ann(), 1)]).await;
    commit(backend, &[edit(ann(), Edit::Archive, &[1])]).await;
    let store = backend.store();
    let of_id = |number| Named::Id(id(number));
    for of in [of_id(1), Named::Key("key".into())] {
        let (snapshot, found) = store.find(&ann(), &of).await.unwrap();
        assert_eq!(snapshot, store.head(&ann()).await.unwrap());
        let found = found.unwrap();
        assert_eq!((found.row.id, &*found.content.title), (id(1), "Hello"));
        assert!(found.row.state.archived_at.is_some());
    }
    commit(backend, &[remove(ann(), &[1])]).await;
    for of in [of_id(1), Named::Key("key".into())] {
        let (_, found) = store.find(&ann(), &of).await.unwrap();
        let found = found.unwrap();
        assert_eq!((found.row.id, &*found.content.title), (id(1), ""));
        assert!(found.row.state.removed.is_some());
    }
    for of in [of_id(2), of_id(3), Named::Key("other".into())] {
        assert_eq!(store.find(&ann(), &of).await.unwrap().1, None);
    }
    let nobody = InboxKey::parse("acme", "nobody").unwrap();
    let (snapshot, found) = store.find(&nobody, &of_id(1)).await.unwrap();
    assert_eq!((snapshot.head, found), (Head::default(), None));
}

async fn what_was_seen_is_counted_from_the_rows(backend: &mut dyn Backend) {
    let batch: Vec<_> = (1..=4).map(|number| send(ann(), number)).collect();
    commit(backend, &batch).await;
    let heads = async || {
        let head = head(backend, &ann()).await;
        let counts = (head.unread_count, head.unseen_count);
        (head.revision.get(), counts, head.seen_through.get())
    };
    assert_eq!(heads().await, (4, (4, 4), 0));
    let committed = commit(backend, &[see(ann(), 2)]).await;
    assert_eq!(heads().await, (5, (4, 2), 2));
    assert_eq!(committed.runs[0].1[0].change, Change::Seen);
    // It never falls, and what it does not raise takes no revision.
    commit(backend, &[see(ann(), 2), see(ann(), 1)]).await;
    assert_eq!(heads().await, (5, (4, 2), 2));
    // Among others in one batch, before and after it.
    let batch = [
        mark(ann(), &[1, 3]),
        send(ann(), 5),
        see(ann(), 4),
        mark(ann(), &[5]),
        send(ann(), 6),
    ];
    let committed = commit(backend, &batch).await;
    let told: Vec<_> = committed.runs[0]
        .1
        .iter()
        .map(|event| (event.head.revision.get(), event.head.unseen_count))
        .collect();
    assert_eq!(told, [(6, 1), (7, 2), (8, 1), (9, 0), (10, 1)]);
    assert_eq!(heads().await, (10, (3, 1), 4));
    assert_eq!(counts(backend, &neighbour()).await, (0, 0));
}

async fn marks_of_one_batch_share_nothing(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1), send(ann(), 2), send(ann(), 3)]).await;
    let committed = commit(backend, &[mark(ann(), &[1, 2]), mark(ann(), &[2, 3])]).await;
    assert_eq!(marked(&committed.outcomes[0]).0, 2);
    assert_eq!(marked(&committed.outcomes[1]).0, 1);
    let rows: Vec<_> = changes(backend, &ann(), 3)
        .await
        .iter()
        .map(|found| (found.row.id, found.row.revision))
        .collect();
    assert_eq!(rows, [(id(1), rev(4)), (id(2), rev(4)), (id(3), rev(5))]);
}

async fn a_read_is_never_before_its_creation(backend: &mut dyn Backend) {
    let store = backend.store();
    store.commit(&[send(ann(), 1)], at(5000)).await.unwrap();
    store.commit(&[mark(ann(), &[1])], at(3)).await.unwrap();
    let rows = changes(backend, &ann(), 0).await;
    assert_eq!(rows[0].row.state.read_at, Some(at(5000)));
}

async fn a_batch_is_all_or_nothing(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1)]).await;
    // The id is taken: one member is at fault, and none is applied.
    let batch = [send(ann(), 2), send(neighbour(), 9), send(ann(), 1)];
    let error = backend.store().commit(&batch, at(1000)).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(counts(backend, &ann()).await, (1, 1));
    assert_eq!(counts(backend, &neighbour()).await, (0, 0));
    // The neighbour may have the same id, and the store goes on.
    commit(backend, &[send(neighbour(), 1), send(ann(), 3)]).await;
    assert_eq!(counts(backend, &ann()).await, (2, 2));
}

async fn changes_come_in_the_order_of_the_last_change(backend: &mut dyn Backend) {
    commit(
        backend,
        &[
            send(ann(), 1),
            send(ann(), 2),
            send(ann(), 3),
            send(ann(), 4),
        ],
    )
    .await;
    commit(backend, &[mark(ann(), &[3, 1])]).await;
    let order = |rows: Vec<Notification>| -> Vec<(Uuid, u64)> {
        rows.iter()
            .map(|found| (found.row.id, found.row.revision.get()))
            .collect()
    };
    let all = order(changes(backend, &ann(), 0).await);
    assert_eq!(all, [(id(2), 2), (id(4), 4), (id(1), 5), (id(3), 5)]);
    assert_eq!(order(changes(backend, &ann(), 4).await), all[2..]);
    assert!(changes(backend, &ann(), 5).await.is_empty());
    assert!(changes(backend, &ann(), u64::MAX).await.is_empty());
    assert!(changes(backend, &neighbour(), 0).await.is_empty());
    let store = backend.store();
    for (position, at_most, expected) in [(0, 10, 4), (0, 3, 3), (4, 10, 2), (5, 10, 0)] {
        let count = store
            .count_changes(&ann(), rev(position), at_most)
            .await
            .unwrap();
        assert_eq!(count, expected);
    }
    assert_eq!(
        store.count_changes(&neighbour(), rev(0), 10).await.unwrap(),
        0
    );
}

async fn pages_of_changes_meet_within_a_shared_revision(backend: &mut dyn Backend) {
    let sends: Vec<_> = (1..=9).map(|number| send(ann(), number)).collect();
    commit(backend, &sends).await;
    commit(backend, &[mark(ann(), &[2, 4, 6, 8])]).await;
    let everything = changes(backend, &ann(), 0).await;
    for rows in 1..=9 {
        let limit = PageLimit { rows, ..NO_LIMIT };
        let (mut paged, mut cursor) = (Vec::new(), Cursor::after(Revision::ZERO));
        loop {
            let page = backend
                .store()
                .changes(&ann(), cursor, limit)
                .await
                .unwrap();
            assert!(page.rows.len() <= rows);
            assert_eq!(page.snapshot.head.revision, rev(10));
            paged.extend(page.rows);
            let following = everything.get(paged.len()).map(|found| found.row.revision);
            assert_eq!(page.next, following);
            let Some(last) = paged.last().filter(|_| page.next.is_some()) else {
                break;
            };
            cursor = Cursor {
                revision: last.row.revision,
                sequence: last.row.sequence,
            };
        }
        assert_eq!(paged, everything);
    }
}

async fn a_page_is_bounded_in_bytes_and_never_empty(backend: &mut dyn Backend) {
    let large = |number| {
        let content = Content {
            body: Some("x".repeat(1000)),
            ..content("large")
        };
        Mutation::Send(NewNotification {
            content: Arc::new(content),
            ..new(ann(), number)
        })
    };
    commit(backend, &[large(1), large(2), large(3)]).await;
    let store = backend.store();
    for (bytes, expected) in [(1, 1), (1100, 1), (2100, 2), (4000, 3)] {
        let limit = PageLimit { rows: 10, bytes };
        let page = store
            .changes(&ann(), Cursor::after(rev(0)), limit)
            .await
            .unwrap();
        assert_eq!(
            (page.rows.len(), page.next.is_some()),
            (expected, expected < 3)
        );
        let query = RecentQuery {
            limit,
            ..recent_query()
        };
        let page = store.recent(&ann(), query).await.unwrap();
        assert_eq!(
            (page.rows.len(), page.next.is_some()),
            (expected, expected < 3)
        );
    }
}

async fn recent_lists_newest_first_in_pages(backend: &mut dyn Backend) {
    let sends: Vec<_> = (1..=7).map(|number| send(ann(), number)).collect();
    commit(backend, &sends).await;
    commit(backend, &[send(neighbour(), 1), mark(ann(), &[6, 3])]).await;
    archive(backend, &ann(), 5).await;
    let list = async |query: RecentQuery| -> Vec<u128> {
        let (mut listed, mut query) = (Vec::new(), query);
        loop {
            let page = backend.store().recent(&ann(), query.clone()).await.unwrap();
            assert_eq!(page.snapshot.head.revision, rev(9));
            assert_eq!(page.snapshot.head.unread_count, 4);
            listed.extend(page.rows.iter().map(|found| found.row.id.as_u128()));
            query.before = page.next;
            if page.next.is_none() {
                return listed;
            }
        }
    };
    let two = PageLimit {
        rows: 2,
        ..NO_LIMIT
    };
    let all = recent_query();
    assert_eq!(list(all.clone()).await, [7, 6, 4, 3, 2, 1]);
    assert_eq!(
        list(RecentQuery {
            limit: two,
            ..all.clone()
        })
        .await,
        [7, 6, 4, 3, 2, 1]
    );
    let unread = RecentQuery {
        unread_only: true,
        ..all.clone()
    };
    assert_eq!(list(unread.clone()).await, [7, 4, 2, 1]);
    assert_eq!(
        list(RecentQuery {
            limit: two,
            ..unread.clone()
        })
        .await,
        [7, 4, 2, 1]
    );
    // created_at is 1000 for the first, and one more for each after it.
    let since = |micros| RecentQuery {
        since: Some(at(micros)),
        ..all.clone()
    };
    assert_eq!(list(since(1002)).await, [7, 6, 4]);
    assert_eq!(list(since(999)).await, [7, 6, 4, 3, 2, 1]);
    assert_eq!(list(since(1006)).await, [] as [u128; 0]);
    assert_eq!(
        list(RecentQuery {
            limit: two,
            ..since(1002)
        })
        .await,
        [7, 6, 4]
    );
}

async fn archived_rows_are_in_no_list_and_in_every_replay(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1), send(ann(), 2)]).await;
    archive(backend, &ann(), 1).await;
    assert_eq!(counts(backend, &ann()).await, (3, 1));
    let rows = changes(backend, &ann(), 2).await;
    let row = rows[0].row;
    assert_eq!((row.id, row.state.archived_at), (id(1), Some(at(2000))));
    let page = backend
        .store()
        .recent(&ann(), recent_query())
        .await
        .unwrap();
    assert_eq!(page.rows.len(), 1);
}

fn remove(inbox: InboxKey, numbers: &[u128]) -> Mutation {
    edit(inbox, Edit::Remove(RemovalCause::Expired), numbers)
}

async fn a_purge_takes_tombstones_alone_and_raises_the_floor(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1), send(ann(), 2), send(ann(), 3)]).await;
    commit(backend, &[remove(ann(), &[1, 2]), mark(ann(), &[3])]).await;
    let before = backend.store().head(&ann()).await.unwrap();
    assert_eq!((before.floor, before.head.revision), (rev(0), rev(5)));
    let purge = delete(ann(), Deletion::Purge, &[1, 2, 3, 9]);
    let batch = [purge.clone(), delete(neighbour(), Deletion::Purge, &[1])];
    let committed = commit(backend, &batch).await;
    assert_eq!(edited(&committed.outcomes[0]), (2, 5, 0, 0));
    assert_eq!(edited(&committed.outcomes[1]), (0, 0, 0, 0));
    assert!(committed.runs.is_empty() && committed.unknown_counts.is_empty());
    let after = backend.store().head(&ann()).await.unwrap();
    assert_eq!((after.floor, after.head), (rev(4), before.head));
    let left = changes(backend, &ann(), 0).await;
    assert_eq!(
        left.iter().map(|row| row.row.id).collect::<Vec<_>>(),
        [id(3)]
    );
    // The floor stays when the inbox changes, and where nothing is purged.
    commit(backend, &[purge, send(ann(), 4)]).await;
    let later = backend.store().head(&ann()).await.unwrap();
    assert_eq!((later.floor, later.head.revision), (rev(4), rev(6)));
}

async fn an_erasure_leaves_a_head_that_nobody_can_resume_from(backend: &mut dyn Backend) {
    for inbox in [ann(), neighbour()] {
        commit(
            backend,
            &[send(inbox.clone(), 1), keyed(inbox.clone(), 2, "k", "a")],
        )
        .await;
        commit(backend, &[see(inbox.clone(), 1), remove(inbox, &[1])]).await;
    }
    let committed = commit(backend, &[delete(ann(), Deletion::Erasure, &[1, 2])]).await;
    assert_eq!(edited(&committed.outcomes[0]), (2, 5, 0, 0));
    assert!(committed.runs.is_empty());
    assert_eq!(
        committed.unknown_counts,
        [ann()],
        "who shows it has to look"
    );
    let after = backend.store().head(&ann()).await.unwrap();
    assert_eq!((after.floor, after.head.seen_through), (rev(5), rev(1)));
    assert!(changes(backend, &ann(), 0).await.is_empty());
    assert_eq!(counts(backend, &neighbour()).await, (4, 1));
    assert_eq!(changes(backend, &neighbour(), 0).await.len(), 2);
    // A later batch begins after it, and the key is free.
    let committed = commit(backend, &[keyed(ann(), 3, "k", "other")]).await;
    let (row, is_duplicate, head) = sent(&committed.outcomes[0]);
    assert!(!is_duplicate);
    assert_eq!((row.row.sequence, head.unread_count), (rev(6), 1));
    let nothing = commit(backend, &[delete(ann(), Deletion::Erasure, &[1, 2])]).await;
    assert_eq!(edited(&nothing.outcomes[0]), (0, 6, 1, 1));
}

async fn what_nobody_looked_at_is_told_once_and_in_order(backend: &mut dyn Backend) {
    let store = backend.store();
    let followed_up = |inbox, number, unless| {
        let after = Duration::ZERO;
        let follow_up = Some(FollowUpOptions { after, unless });
        Mutation::Send(NewNotification {
            follow_up,
            ..new(inbox, number)
        })
    };
    let batch: Vec<_> = [ann(), neighbour()]
        .into_iter()
        .flat_map(|inbox| {
            let read = (1..=4).map(|number| (number, Unless::Read));
            let all = read.chain([(5, Unless::Seen)]);
            let all = all.map(|(number, unless)| followed_up(inbox.clone(), number, unless));
            all.collect::<Vec<_>>()
        })
        .collect();
    commit(backend, &batch).await;
    // Read, and unread again, is read once; seen is not read.
    let verbs = [
        mark(ann(), &[1]),
        edit(ann(), Edit::Unread, &[1]),
        edit(ann(), Edit::Archive, &[2]),
        see(ann(), 10),
    ];
    store.commit(&verbs[..1], at(1000)).await.unwrap();
    let head = commit(backend, &verbs[1..]).await;
    let before = edited(&head.outcomes[2]);
    let until = SystemClock.now().after(Duration::from_secs(60));
    let due = store.due(Due::FollowUp, until, &[], 10).await.unwrap();
    assert_eq!(due.len(), 8, "what was read or archived waits for nothing");
    let of = |inbox: &InboxKey| {
        let of = due.iter().filter(|row| row.inbox == *inbox);
        Mutation::FollowUp {
            inbox: inbox.clone(),
            ids: of.map(|row| row.id).collect(),
            until,
        }
    };
    let told = [of(&ann()), of(&neighbour()), of(&ann())];
    let committed = commit(backend, &told).await;
    assert!(committed.runs.is_empty(), "no screen shows anything of it");
    // Three with the one that was seen, which is told no more; nothing is twice.
    assert_eq!(edited(&committed.outcomes[0]), (3, before.1, before.2, 0));
    assert_eq!(edited(&committed.outcomes[1]), (5, 5, 5, 5));
    assert_eq!(edited(&committed.outcomes[2]).0, 0);
    let acme = ann().organization_id;
    let list = async |organization: &OrganizationId, after: &After, at_most| {
        store
            .follow_ups(organization, after, at_most)
            .await
            .unwrap()
    };
    let (epoch, found) = list(&acme, &After::default(), 10).await;
    let told = |found: &[FollowUp]| -> Vec<(u64, Uuid)> {
        let one = |of: &FollowUp| (of.position, of.notification.row.id);
        found.iter().map(one).collect()
    };
    assert_eq!(told(&found), [(1, id(3)), (2, id(4))]);
    assert!(found.iter().all(|of| of.inbox == ann()));
    let (_, found) = list(&neighbour().organization_id, &After::default(), 2).await;
    assert_eq!(told(&found), [(1, id(1)), (2, id(2))]);
    let after = |position| After {
        epoch: Some(epoch.clone()),
        position,
    };
    assert_eq!(told(&list(&acme, &after(1), 10).await.1), [(2, id(4))]);
    assert!(list(&acme, &after(2), 10).await.1.is_empty());
    let other = After {
        epoch: Some(Epoch::new("another")),
        position: 2,
    };
    assert_eq!(list(&acme, &other, 10).await.1.len(), 2, "another life");
    // It is known of the notification, as it is now, and goes with it.
    let told_at = store.followed_up_at(&ann(), rev(3)).await.unwrap();
    assert_eq!(told_at, Some(at(1000)));
    assert_eq!(store.followed_up_at(&ann(), rev(1)).await.unwrap(), None);
    commit(backend, &[remove(ann(), &[3])]).await;
    let (_, found) = list(&acme, &After::default(), 1).await;
    assert_eq!(found[0].notification.content.title, "");
    commit(backend, &[delete(ann(), Deletion::Purge, &[3])]).await;
    assert_eq!(
        told(&list(&acme, &After::default(), 9).await.1),
        [(2, id(4))]
    );
    commit(backend, &[followed_up(ann(), 6, Unless::Seen)]).await;
    let six = Mutation::FollowUp {
        inbox: ann(),
        ids: vec![id(6)],
        until,
    };
    commit(backend, &[six]).await;
    // No position is given twice, and what is old is forgotten.
    let found = told(&list(&acme, &After::default(), 9).await.1);
    assert_eq!(found, [(2, id(4)), (3, id(6))]);
    assert_eq!(store.forget_follow_ups(at(999), 10).await.unwrap(), 0);
    assert_eq!(store.forget_follow_ups(at(1000), 2).await.unwrap(), 2);
    assert_eq!(store.forget_follow_ups(at(1000), 10).await.unwrap(), 5);
    assert!(list(&acme, &After::default(), 9).await.1.is_empty());
}

fn expiring(inbox: InboxKey, number: u128, expire_time: i64) -> Mutation {
    Mutation::Send(NewNotification {
        expire_time: Some(at(expire_time)),
        ..new(inbox, number)
    })
}

async fn due(
    backend: &dyn Backend,
    what: Due,
    until: i64,
    but: &[InboxKey],
) -> Vec<(InboxKey, Uuid, i64, u64)> {
    let due = backend.store().due(what, at(until), but, 10).await.unwrap();
    let row = |row: &doorbell::store::sweeping::DueRow| {
        (
            row.inbox.clone(),
            row.id,
            row.at.as_micros(),
            row.head.get(),
        )
    };
    due.iter().map(row).collect()
}

async fn what_is_due_is_found_longest_due_first(backend: &mut dyn Backend) {
    let store = backend.store();
    let batch = [
        expiring(ann(), 1, 9000),
        expiring(neighbour(), 1, 8000),
        send(ann(), 2),
        expiring(ann(), 3, 7000),
        expiring(ann(), 4, 9001),
    ];
    commit(backend, &batch).await;
    store
        .commit(&[remove(ann(), &[3])], at(6000))
        .await
        .unwrap();
    let both = [(neighbour(), id(1), 8000, 1), (ann(), id(1), 9000, 5)];
    assert_eq!(due(backend, Due::Expiry, 9000, &[]).await, both);
    assert_eq!(due(backend, Due::Expiry, 7999, &[]).await, []);
    assert_eq!(due(backend, Due::Expiry, 9000, &[ann()]).await, both[..1]);
    assert_eq!(
        due(backend, Due::Expiry, 9000, &[neighbour(), ann()]).await,
        []
    );
    let first = store.due(Due::Expiry, at(9000), &[], 1).await.unwrap();
    assert_eq!(first[0].inbox, neighbour());

    store
        .commit(&[edit(ann(), Edit::Archive, &[1, 2])], at(9500))
        .await
        .unwrap();
    store
        .commit(&[edit(ann(), Edit::Unarchive, &[2])], at(9600))
        .await
        .unwrap();
    assert_eq!(
        due(backend, Due::Archived, 9500, &[]).await,
        [(ann(), id(1), 9500, 7)]
    );
    assert_eq!(due(backend, Due::Archived, 9499, &[]).await, []);
    assert_eq!(
        due(backend, Due::Removed, 9999, &[]).await,
        [(ann(), id(3), 6000, 7)]
    );
    assert_eq!(due(backend, Due::Removed, 9999, &[ann()]).await, []);
}

async fn inboxes_are_listed_while_they_have_rows(backend: &mut dyn Backend) {
    let store = backend.store();
    let user = |user: &str| InboxKey::parse("acme", user).unwrap();
    let (ann, bob, carl) = (ann(), user("bob"), user("carl"));
    let batch = [
        send(carl.clone(), 1),
        send(ann.clone(), 2),
        send(ann.clone(), 3),
        send(bob.clone(), 4),
        send(neighbour(), 5),
    ];
    store.commit(&batch, at(5000)).await.unwrap();
    let list = async |after: Option<&InboxKey>, at_most| {
        let after = after.map(|inbox| &inbox.user_id);
        let inboxes = store.inboxes(&ann.organization_id, after, at_most).await;
        inboxes.unwrap()
    };
    let all = [ann.clone(), bob.clone(), carl.clone()];
    assert_eq!(list(None, 10).await, all);
    assert_eq!(list(None, 2).await, all[..2]);
    assert_eq!(list(Some(&ann), 1).await, all[1..2]);
    assert_eq!(list(Some(&carl), 10).await, []);
    // What was removed has left something, and what was erased has not.
    let erased = Mutation::Delete {
        inbox: bob.clone(),
        ids: vec![id(4)],
        why: Deletion::Erasure,
    };
    let batch = [remove(ann.clone(), &[2, 3]), erased];
    store.commit(&batch, at(6000)).await.unwrap();
    assert_eq!(list(None, 10).await, [ann.clone(), carl]);
}

async fn an_inbox_is_looked_at_when_it_is_old_and_when_it_has_grown(backend: &mut dyn Backend) {
    let store = backend.store();
    let aged = async |until: i64| store.aged(at(until), &[], 10).await.unwrap();
    store
        .commit(&[send(ann(), 1), send(ann(), 2)], at(5000))
        .await
        .unwrap();
    store
        .commit(&[send(neighbour(), 1)], at(6000))
        .await
        .unwrap();
    assert!(aged(4999).await.is_empty());
    assert_eq!(aged(5000).await, [ann()]);
    assert_eq!(aged(6000).await, [ann(), neighbour()]);
    assert_eq!(
        store.aged(at(6000), &[ann()], 10).await.unwrap(),
        [neighbour()]
    );
    store.looked_at(&ann(), at(5001), 2).await.unwrap();
    assert!(aged(5000).await.is_empty());
    // What comes and goes does not touch it.
    store
        .commit(&[remove(ann(), &[1]), send(ann(), 3)], at(7000))
        .await
        .unwrap();
    assert_eq!(aged(6000).await, [ann(), neighbour()]);
    let many: Vec<_> = (100..1097).map(|number| send(ann(), number)).collect();
    store.commit(&many, at(8000)).await.unwrap();
    assert!(aged(4999).await.is_empty(), "999 are not many");
    store.commit(&[send(ann(), 4)], at(8000)).await.unwrap();
    assert_eq!(
        aged(0).await,
        [ann()],
        "a thousand more than when it was looked at"
    );
    // Who looked before that was not there for it.
    store.looked_at(&ann(), at(5001), 999).await.unwrap();
    assert_eq!(aged(0).await, [ann()]);
    store.looked_at(&ann(), at(5001), 1000).await.unwrap();
    assert!(aged(0).await.is_empty());
    // By an edit as well.
    store
        .commit(&[remove(ann(), &[4])], at(9000))
        .await
        .unwrap();
    let last = [
        collapsing(7, "c"),
        collapsing(8, "c"),
        remove(ann(), &[100]),
    ];
    store.commit(&last, at(9000)).await.unwrap();
    assert!(aged(0).await.is_empty());
    store
        .commit(&[collapsing(9, "d"), send(ann(), 10)], at(9000))
        .await
        .unwrap();
    assert_eq!(aged(0).await, [ann()]);
}

async fn the_oldest_rows_are_found_by_their_state(backend: &mut dyn Backend) {
    let store = backend.store();
    let nothing = store.oldest(&ann(), Kept::All, 10).await.unwrap();
    assert_eq!((nothing.head, nothing.rows), (rev(0), vec![]));
    let sends: Vec<_> = (1..=6).map(|number| send(ann(), number)).collect();
    store.commit(&sends, at(5000)).await.unwrap();
    store.commit(&[send(neighbour(), 1)], at(1)).await.unwrap();
    let edits = [
        remove(ann(), &[1]),
        edit(ann(), Edit::Archive, &[3]),
        mark(ann(), &[5]),
    ];
    store.commit(&edits, at(6000)).await.unwrap();
    for (which, at_most, expected) in [
        (Kept::All, 10, vec![1, 2, 3, 4, 5, 6]),
        (Kept::All, 2, vec![1, 2]),
        (Kept::Live, 10, vec![2, 3, 4, 5, 6]),
        (Kept::Live, 2, vec![2, 3]),
        (Kept::Done, 10, vec![3, 5]),
        (Kept::Done, 1, vec![3]),
    ] {
        let oldest = store.oldest(&ann(), which, at_most).await.unwrap();
        assert_eq!((oldest.head, oldest.row_count), (rev(9), 5));
        assert_eq!(oldest.last_created_at, at(5005));
        let row = |number: &i64| (id(u128::try_from(*number).unwrap()), at(4999 + number));
        let expected: Vec<_> = expected.iter().map(row).collect();
        let rows = oldest.rows.iter().map(|row| (row.id, row.created_at));
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{which:?} {at_most}");
    }
}

async fn the_inboxes_of_an_organization_are_listed_in_pages(backend: &mut dyn Backend) {
    let store = backend.store();
    let user = |name: &str| InboxKey::parse("acme", name).unwrap();
    let batch = ["bob", "Zoe", "ann", "cid"].map(|name| send(user(name), 1));
    commit(backend, &batch).await;
    commit(backend, &[send(neighbour(), 1)]).await;
    let organization = ann().organization_id;
    let first = store.inboxes(&organization, None, 3).await.unwrap();
    assert_eq!(first, ["Zoe", "ann", "bob"].map(user), "by their bytes");
    let rest = store
        .inboxes(&organization, Some(&user("bob").user_id), 3)
        .await
        .unwrap();
    assert_eq!(rest, [user("cid")]);
}

async fn what_was_committed_is_there_when_it_is_opened_again(backend: &mut dyn Backend) {
    commit(
        backend,
        &[keyed(ann(), 1, "k", "a"), send(ann(), 2), mark(ann(), &[1])],
    )
    .await;
    commit(backend, &[mark(ann(), &[1])]).await;
    let before = backend.store().head(&ann()).await.unwrap();
    let rows = changes(backend, &ann(), 0).await;
    backend.reopen().await;
    assert_eq!(backend.store().head(&ann()).await.unwrap(), before);
    assert_eq!(changes(backend, &ann(), 0).await, rows);
    let committed = commit(backend, &[keyed(ann(), 9, "k", "a")]).await;
    assert!(sent(&committed.outcomes[0]).1);
}

/// Enough that statements of every size are used.
async fn large_batches_are_applied_whole(backend: &mut dyn Backend) {
    let users = 37;
    let user = |number: u128| InboxKey::parse("acme", &format!("u{}", number % users)).unwrap();
    let batch: Vec<_> = (0..300)
        .map(|number| keyed(user(number), number, &format!("k{number}"), "a"))
        .collect();
    let committed = commit(backend, &batch).await;
    assert_eq!(committed.outcomes.len(), 300);
    assert_eq!(committed.runs.len(), 37);
    let marks: Vec<_> = (0..300)
        .map(|number| mark(user(number), &[number]))
        .collect();
    let committed = commit(backend, &marks).await;
    assert!(
        committed
            .outcomes
            .iter()
            .all(|outcome| marked(outcome).0 == 1)
    );
    for number in 0..users {
        let sends = if number < 300 % users { 9 } else { 8 };
        assert_eq!(counts(backend, &user(number)).await, (2 * sends, 0));
        let rows = changes(backend, &user(number), 0).await;
        let order: Vec<_> = rows.iter().map(|found| found.row.revision).collect();
        assert!(order.is_sorted());
    }
}

/// A reader beside a busy writer never sees a page that is not of one moment.
async fn a_page_and_its_head_are_of_one_moment(backend: &mut dyn Backend) {
    let store = backend.store();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 0..150 {
                let batch = [send(ann(), number), send(ann(), 1000 + number)];
                store.commit(&batch, at(1000)).await.unwrap();
                store
                    .commit(&[mark(ann(), &[number])], at(1000))
                    .await
                    .unwrap();
            }
        }
    });
    let mut reads = 0;
    while !writer.is_finished() {
        let page = store
            .changes(&ann(), Cursor::after(rev(0)), NO_LIMIT)
            .await
            .unwrap();
        let head = page.snapshot.head;
        let unread = page
            .rows
            .iter()
            .filter(|found| found.row.state.is_unread())
            .count();
        assert_eq!(unread, head.unread_count as usize);
        let newest = page.rows.last().map_or(rev(0), |last| last.row.revision);
        assert_eq!(newest, head.revision);
        let page = store.recent(&ann(), recent_query()).await.unwrap();
        let unread = page
            .rows
            .iter()
            .filter(|found| found.row.state.is_unread())
            .count();
        assert_eq!(unread, page.snapshot.head.unread_count as usize);
        reads += 1;
    }
    writer.await.unwrap();
    assert!(reads > 0);
    assert_eq!(counts(backend, &ann()).await, (450, 150));
}

/// Promise 4: random mutations of three inboxes, against a model.
async fn counts_are_those_of_the_rows_whatever_happens(backend: &mut dyn Backend) {
    let random = SeededRandom::new(7);
    let below = |most: u8| {
        let mut byte = [0];
        random.fill(&mut byte);
        byte[0] % most
    };
    let inboxes = [ann(), neighbour(), InboxKey::parse("acme", "bob").unwrap()];
    let mut model: HashMap<usize, (u64, HashMap<Uuid, bool>)> = HashMap::new();
    let mut sent = 0;
    for step in 0..400 {
        let inbox = usize::from(below(3));
        let (revision, rows) = model.entry(inbox).or_default();
        let mutation = if below(5) < 2 {
            let numbers: Vec<u128> = (0..=below(5)).map(|_| u128::from(below(150))).collect();
            let mut changed = false;
            for number in &numbers {
                if let Some(read) = rows.get_mut(&id(*number)) {
                    changed |= !*read;
                    *read = true;
                }
            }
            *revision += u64::from(changed);
            mark(inboxes[inbox].clone(), &numbers)
        } else {
            sent += 1;
            *revision += 1;
            rows.insert(id(sent), false);
            send(inboxes[inbox].clone(), sent)
        };
        commit(backend, &[mutation]).await;
        let (revision, rows) = &model[&inbox];
        let unread = rows.values().filter(|read| !**read).count();
        let expected = (*revision, u32::try_from(unread).unwrap());
        assert_eq!(
            counts(backend, &inboxes[inbox]).await,
            expected,
            "step {step}"
        );
        assert_eq!(
            backend.count_unread(&inboxes[inbox]).await,
            expected.1,
            "step {step}"
        );
    }
}

/// Promise 6, by each method: the neighbour is the same user of another
/// organization, with rows of the same ids, keys and sequences.
async fn a_neighbour_is_neither_seen_nor_touched(backend: &mut dyn Backend) {
    let same = |inbox: &InboxKey| {
        [
            keyed(inbox.clone(), 1, "k", "the same"),
            send(inbox.clone(), 2),
            send(inbox.clone(), 3),
        ]
    };
    commit(backend, &same(&neighbour())).await;
    let theirs = changes(backend, &neighbour(), 0).await;

    // Nothing of theirs is here before anything of ours is.
    assert_eq!(counts(backend, &ann()).await, (0, 0));
    let committed = commit(backend, &[mark(ann(), &[1, 2, 3])]).await;
    assert_eq!(marked(&committed.outcomes[0]).0, 0);
    assert!(committed.runs.is_empty());
    let first = commit(backend, &[keyed(ann(), 1, "k", "ours")]).await;
    assert!(!sent(&first.outcomes[0]).1, "their key is not ours");

    commit(backend, &[send(ann(), 2), mark(ann(), &[1, 3])]).await;
    assert_eq!(counts(backend, &ann()).await, (3, 1));
    let ours = changes(backend, &ann(), 0).await;
    assert_eq!(ours.len(), 2);
    let page = backend
        .store()
        .recent(&ann(), recent_query())
        .await
        .unwrap();
    assert_eq!((page.rows.len(), page.next.is_some()), (2, false));
    let unread = RecentQuery {
        unread_only: true,
        ..recent_query()
    };
    let page = backend.store().recent(&ann(), unread).await.unwrap();
    assert_eq!(
        page.rows
            .iter()
            .map(|found| found.row.id)
            .collect::<Vec<_>>(),
        [id(2)]
    );
    let counted = backend.store().count_changes(&ann(), rev(0), 10).await;
    assert_eq!(counted.unwrap(), 2);
    let both = backend.store().heads(&[neighbour(), ann()]).await.unwrap();
    assert_eq!(
        both.iter()
            .map(|of| of.head.unread_count)
            .collect::<Vec<_>>(),
        [3, 1]
    );

    assert_eq!(changes(backend, &neighbour(), 0).await, theirs);
    assert_eq!(counts(backend, &neighbour()).await, (3, 3));
    assert_eq!(backend.count_unread(&neighbour()).await, 3);
}

async fn heads_are_answered_in_the_order_they_were_asked(backend: &mut dyn Backend) {
    let user = |number: u128| InboxKey::parse("acme", &format!("u{number}")).unwrap();
    let batch: Vec<_> = (0..50)
        .flat_map(|number| {
            (0..=number % 3).map(move |more| send(user(number), 100 * number + more))
        })
        .collect();
    commit(backend, &batch).await;
    let asked: Vec<u128> = (0..60).rev().chain([7, 7]).collect();
    let keys: Vec<_> = asked.iter().map(|number| user(*number)).collect();
    let heads = backend.store().heads(&keys).await.unwrap();
    let expected = |number: u128| if number < 50 { number % 3 + 1 } else { 0 };
    for (number, snapshot) in asked.iter().zip(&heads) {
        assert_eq!(
            u128::from(snapshot.head.revision.get()),
            expected(*number),
            "u{number}"
        );
    }
    assert_eq!(heads.len(), asked.len());
}

async fn a_new_epoch_stays_and_leaves_all_else(backend: &mut dyn Backend) {
    commit(backend, &[send(ann(), 1)]).await;
    let before = backend.store().head(&ann()).await.unwrap();
    let epoch = doorbell::store::new_epoch(&SeededRandom::new(9));
    backend.store().renew_epoch(&epoch).await.unwrap();
    backend.reopen().await;
    let after = backend.store().head(&ann()).await.unwrap();
    assert_ne!(before.epoch, after.epoch);
    assert_eq!((after.epoch, after.head), (epoch, before.head));
}

async fn a_database_stays_the_same_through_all_that_happens_to_it(backend: &mut dyn Backend) {
    let id = backend.store().database_id().await.unwrap();
    let epoch = doorbell::store::new_epoch(&SeededRandom::new(9));
    backend.store().renew_epoch(&epoch).await.unwrap();
    backend.reopen().await;
    assert_eq!(backend.store().database_id().await.unwrap(), id);
}

/// Puts an engine under the suite: a test for each case.
macro_rules! conformance {
    ($engine:ident, $new:expr, [$($case:ident),+ $(,)?]) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(&mut $new.await).await;
                }
            )+
        }
    };
}

macro_rules! all_cases {
    ($engine:ident, $new:expr) => {
        conformance!(
            $engine,
            $new,
            [
                an_inbox_that_never_changed_is_empty_and_has_the_epoch,
                a_send_takes_the_next_revision_and_is_read_back,
                a_batch_tells_its_events_by_inbox_in_order,
                created_at_strictly_increases_whatever_the_clock_does,
                all_of_a_content_is_read_back,
                a_key_answers_with_the_first_notification_as_it_is_now,
                a_key_with_another_content_is_a_mismatch_and_changes_nothing,
                a_key_is_free_again_once_its_row_is_purged,
                a_mark_is_one_change_and_skips_what_it_must,
                each_verb_turns_what_it_says_and_the_counts_with_it,
                what_is_removed_is_blank_and_keeps_its_key,
                what_comes_back_is_told_whole_and_does_not_ring,
                a_collapse_takes_the_place_of_the_unread_one,
                a_correction_stays_in_its_place,
                what_is_over_before_it_comes_is_not_made,
                views_types_and_things_are_listed_in_pages,
                a_page_looks_at_a_thousand_and_says_where_to_go_on,
                each_way_to_select_finds_what_its_view_holds,
                ids_select_what_is_unread_with_the_head_of_that_moment,
                a_thing_selects_what_is_unread_about_it,
                a_position_selects_what_did_not_change_since,
                a_selection_is_walked_in_pieces,
                a_row_is_found_by_each_of_its_names,
                what_was_seen_is_counted_from_the_rows,
                marks_of_one_batch_share_nothing,
                a_read_is_never_before_its_creation,
                a_batch_counts_on_from_the_head_of_each_of_its_inboxes,
                a_batch_is_all_or_nothing,
                changes_come_in_the_order_of_the_last_change,
                pages_of_changes_meet_within_a_shared_revision,
                a_page_is_bounded_in_bytes_and_never_empty,
                recent_lists_newest_first_in_pages,
                archived_rows_are_in_no_list_and_in_every_replay,
                a_purge_takes_tombstones_alone_and_raises_the_floor,
                an_erasure_leaves_a_head_that_nobody_can_resume_from,
                what_nobody_looked_at_is_told_once_and_in_order,
                what_is_due_is_found_longest_due_first,
                an_inbox_is_looked_at_when_it_is_old_and_when_it_has_grown,
                inboxes_are_listed_while_they_have_rows,
                the_oldest_rows_are_found_by_their_state,
                the_inboxes_of_an_organization_are_listed_in_pages,
                what_was_committed_is_there_when_it_is_opened_again,
                large_batches_are_applied_whole,
                a_page_and_its_head_are_of_one_moment,
                counts_are_those_of_the_rows_whatever_happens,
                a_neighbour_is_neither_seen_nor_touched,
                heads_are_answered_in_the_order_they_were_asked,
                a_new_epoch_stays_and_leaves_all_else,
                a_database_stays_the_same_through_all_that_happens_to_it,
            ]
        );
    };
}

all_cases!(sqlite, super::SqliteBackend::new());
all_cases!(postgres, super::PostgresBackend::new());
all_cases!(pooled_postgres, super::PostgresBackend::pooled());

async fn refused(url: &str) -> String {
    let random: &dyn Random = &SeededRandom::new(1);
    match Sqlite::open(url, 1, random).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = support::sqlite(&directory).await;
    let url = format!(
        "sqlite://{}",
        directory.path().join("doorbell.db").display()
    );
    let problem = refused(&url).await;
    assert!(
        problem.contains("in use by another doorbell process"),
        "{problem}"
    );
}

/// By whatever name it is opened, it is the same database.
#[tokio::test]
async fn a_second_process_is_refused_by_way_of_a_link_and_when_the_database_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let _first = support::sqlite(&directory).await;
    let (database, link) = (
        directory.path().join("doorbell.db"),
        directory.path().join("link.db"),
    );
    std::os::unix::fs::symlink(&database, &link).unwrap();
    for path in [&link, &database] {
        let problem = refused(&format!("sqlite://{}", path.display())).await;
        assert!(
            problem.contains("in use by another doorbell process"),
            "{problem}"
        );
        // The second time there is nothing at the path but the lock.
        std::fs::remove_file(&database).unwrap_or_default();
    }
}

#[derive(Clone, Copy, Debug)]
enum Loss {
    Deleted(&'static str),
    Replaced,
    NamedElsewhere,
}

#[rstest::rstest]
#[tokio::test]
async fn nothing_is_written_once_a_file_of_the_database_is_gone(
    #[values(
        Loss::Deleted(""),
        Loss::Deleted("-wal"),
        Loss::Deleted(".lock"),
        Loss::Replaced,
        Loss::NamedElsewhere
    )]
    loss: Loss,
) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let other = tempfile::tempdir().unwrap();
    support::sqlite(&other).await.close().await;
    let other = other.path().join("doorbell.db");
    std::os::unix::fs::symlink(at("doorbell.db"), at("link.db")).unwrap();
    let url = format!("sqlite://{}", at("link.db").display());
    let random: &dyn Random = &SeededRandom::new(1);
    let store = Sqlite::open(&url, 1, random).await.unwrap();
    store.commit(&[send(ann(), 1)], at_second(1)).await.unwrap();
    store.check(true).await.unwrap();
    match loss {
        Loss::Deleted(end) => std::fs::remove_file(at(&format!("doorbell.db{end}"))).unwrap(),
        Loss::Replaced => std::fs::rename(&other, at("doorbell.db")).unwrap(),
        Loss::NamedElsewhere => {
            std::fs::remove_file(at("link.db")).unwrap();
            std::os::unix::fs::symlink(&other, at("link.db")).unwrap();
        }
    }
    // Nor once a file is there again.
    for _ in 0..2 {
        let committed = store.commit(&[send(ann(), 2)], at_second(2)).await;
        let problem = committed.unwrap_err();
        assert!(matches!(problem, Error::Unavailable(_)), "{problem:?}");
        assert!(
            problem.to_string().contains("deleted or replaced"),
            "{problem}"
        );
        assert!(store.check(false).await.is_err());
        std::fs::write(at("doorbell.db.lock"), "").unwrap();
    }
    // What was there can still be read.
    let page = store.recent(&ann(), recent_query()).await.unwrap();
    assert_eq!(page.rows.len(), 1);
}

fn at_second(second: i64) -> Timestamp {
    Timestamp::from_seconds(second)
}

#[tokio::test]
async fn the_files_of_a_new_database_are_its_users_alone() {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = tempfile::tempdir().unwrap();
    let store = support::sqlite(&directory).await;
    store.commit(&[send(ann(), 1)], at_second(1)).await.unwrap();
    for end in ["", "-wal", "-shm", ".lock"] {
        let path = directory.path().join(format!("doorbell.db{end}"));
        assert_eq!(mode(&path), 0o600, "{end}");
    }
    store.close().await;
    drop(store);
    // What an operator made of it stays.
    let database = directory.path().join("doorbell.db");
    std::fs::set_permissions(&database, Permissions::from_mode(0o640)).unwrap();
    let _store = support::sqlite(&directory).await;
    assert_eq!(mode(&database), 0o640);
}

#[tokio::test]
async fn a_schema_of_the_future_is_refused() {
    let backend = SqliteBackend::new().await;
    backend
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
             execution_time) VALUES (9999, 'the future', TRUE, x'00', 0)",
        )
        .await;
    let SqliteBackend { directory, store } = backend;
    store.close().await;
    drop(store);
    let url = format!(
        "sqlite://{}",
        directory.path().join("doorbell.db").display()
    );
    let problem = refused(&url).await;
    assert!(problem.contains("migration 9999"), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
}

#[tokio::test]
async fn what_is_no_database_or_no_file_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notes.txt");
    std::fs::write(
        &file,
        "these are my notes, and no database at all".repeat(200),
    )
    .unwrap();
    for url in [
        format!("sqlite://{}", file.display()),
        format!(
            "sqlite://{}/missing/doorbell.db",
            directory.path().display()
        ),
        "sqlite::memory:".to_owned(),
        "sqlite://".to_owned(),
    ] {
        let problem = refused(&url).await;
        assert_eq!(problem.lines().count(), 1, "{problem}");
        assert!(!problem.is_empty());
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_is_named() {
    let backend = SqliteBackend::new().await;
    commit(&backend, &[send(ann(), 1)]).await;
    backend.sql("UPDATE notifications SET id = x'01'").await;
    let error = backend
        .store()
        .recent(&ann(), recent_query())
        .await
        .unwrap_err();
    let problem = error.to_string();
    assert!(
        problem.starts_with("notifications.id of row (acme, ann, 1): "),
        "{problem}"
    );
}
