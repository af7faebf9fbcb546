//! What only the shared store can go through: other nodes, a server that goes
//! away, schemas of other versions, settings that would lose data.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use doorbell::{
    bus::Bus,
    clock::{SystemClock, Timestamp},
    config::{FeedSettings, StoreSettings, WriterSettings},
    inbox::Inboxes,
    model::{Content, InboxKey, NewNotification, Revision, TopicId, View, Wanted},
    random::SeededRandom,
    store::{
        Cursor, Edit, Mutation, NotSent, Outcome, PageLimit, RecentQuery, Sends as _, Sent,
        Sharing, Store,
        postgres::Postgres as PostgresStore,
        sends::{NewSend, Target},
    },
};
use futures_util::FutureExt as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::task::{JoinSet, block_in_place};
use uuid::Uuid;

use crate::{
    engines::{self, PgBouncer, Postgres, Proxy},
    process::PATIENCE,
    support,
};

fn user(number: usize) -> InboxKey {
    InboxKey::parse("acme", &format!("user {number}")).unwrap()
}

fn send(inbox: InboxKey, id: Uuid, key: Option<String>) -> Mutation {
    Mutation::Send(NewNotification {
        idempotency_key: key,
        ..NewNotification::new(
            inbox,
            id,
            Arc::new(Content::new("test", "a title")),
            "backend".into(),
        )
    })
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_000_000)
}

async fn refused(url: &str, sharing: Sharing) -> String {
    let settings = StoreSettings {
        database_url: Some(url.into()),
        ..StoreSettings::default()
    };
    match PostgresStore::open(&settings, sharing, &SeededRandom::new(1)).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

/// Batches of several nodes over the same inboxes, in whatever order, with keys
/// that meet: nobody fails, nothing is lost or doubled, and no deadlock had to be
/// broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_several_nodes_meet_without_deadlock() {
    const USERS: usize = 6;
    const KEYS: u32 = 40;
    let url = Postgres::shared().create_database().await;
    // Whatever the database is set to: who waited for a head takes its latest row.
    let name = engines::database_of(&url);
    let strict =
        format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'");
    engines::execute(&url, &strict).await;
    let mut tasks = JoinSet::new();
    for node in 0..3 {
        let store = Arc::new(support::postgres(&url).await);
        for lane in 0..3 {
            let store = store.clone();
            let mut random = StdRng::seed_from_u64(10 * node + lane);
            tasks.spawn(async move {
                let mut created = [0; USERS];
                for _ in 0..40 {
                    let batch: Vec<_> = (0..random.random_range(1..12))
                        .map(|_| {
                            let to = random.random_range(0..USERS);
                            let key = random.random_range(0..KEYS).to_string();
                            send(user(to), Uuid::from_u128(random.random()), Some(key))
                        })
                        .collect();
                    let committed = store.commit(&batch, now()).await.unwrap();
                    for (mutation, outcome) in batch.iter().zip(committed.outcomes) {
                        let Outcome::Sent(Ok(sent)) = outcome else {
                            panic!("{outcome:?}");
                        };
                        let to = (0..USERS).find(|to| user(*to) == *mutation.inbox());
                        created[to.unwrap()] += u64::from(!sent.duplicate);
                    }
                }
                created
            });
        }
    }
    let mut created = [0; USERS];
    while let Some(task) = tasks.join_next().await {
        for (total, one) in created.iter_mut().zip(task.unwrap()) {
            *total += one;
        }
    }
    let store = support::postgres(&url).await;
    for (number, created) in created.iter().enumerate() {
        let head = store.head(&user(number)).await.unwrap().head;
        assert_eq!(head.revision, Revision::new(*created));
        assert_eq!(u64::from(head.unread_count), *created);
        assert_eq!(*created, u64::from(KEYS), "each key was used, once");
        let page = PageLimit {
            rows: 100,
            bytes: usize::MAX,
        };
        let all = Cursor::after(Revision::default());
        let changes = store.changes(&user(number), all, page).await.unwrap();
        let rows = changes.rows.iter().map(|found| found.row);
        let sequences: Vec<_> = rows.map(|row| row.sequence.get()).collect();
        assert_eq!(sequences, (1..=*created).collect::<Vec<_>>());
    }
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(engines::number(&url, deadlocks).await, 0);
}

/// Every connection of the pools is dead, and nobody was told: the next write and
/// the next read still succeed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_while_idle_fail_nobody() {
    let url = Postgres::shared().create_database().await;
    let store = support::postgres(&url).await;
    let commit = async |id| {
        let batch = [send(user(1), Uuid::from_u128(id), None)];
        store.commit(&batch, now()).await
    };
    commit(1).await.unwrap();
    for id in 2..6 {
        engines::execute(
            &url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        commit(id).await.unwrap();
        let head = store.head(&user(1)).await.unwrap().head;
        assert_eq!(u128::from(head.revision.get()), id);
    }
}

/// Whatever the database, or its user, is set to: each transaction that writes
/// waits for its own sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_write_is_committed_with_its_sync() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    let name = engines::database_of(&url);
    let unsafe_default = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    postgres.execute("postgres", &unsafe_default).await;
    let store = support::postgres(&url).await;
    engines::execute(
        &url,
        "CREATE FUNCTION assert_synced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF current_setting('synchronous_commit') <> 'on' THEN RAISE EXCEPTION 'not synced'; \
         END IF; RETURN NEW; END $$; \
         CREATE TRIGGER synced BEFORE INSERT OR UPDATE ON notifications \
         FOR EACH ROW EXECUTE FUNCTION assert_synced(); \
         CREATE TRIGGER synced BEFORE UPDATE ON inboxes \
         FOR EACH ROW EXECUTE FUNCTION assert_synced()",
    )
    .await;
    let mark = Mutation::Edit {
        inbox: user(1),
        ids: vec![Uuid::from_u128(1)],
        edit: Edit::Read,
        view: View::Inbox,
        through: None,
    };
    for batch in [send(user(1), Uuid::from_u128(1), None), mark] {
        store.commit(&[batch], now()).await.unwrap();
    }
    // The trigger does see the difference.
    let wrong =
        std::panic::AssertUnwindSafe(engines::execute(&url, "UPDATE inboxes SET floor = 0"));
    assert!(wrong.catch_unwind().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_alone_refuses_a_second_until_it_has_gone() {
    let url = Postgres::shared().create_database().await;
    let settings = StoreSettings {
        database_url: Some(url.as_str().into()),
        ..StoreSettings::default()
    };
    let open = async |sharing| PostgresStore::open(&settings, sharing, &SeededRandom::new(1)).await;
    let first = open(Sharing::Alone).await.unwrap();
    first.check(false).await.unwrap();
    let problem = refused(&url, Sharing::Alone).await;
    assert!(
        problem.contains("another doorbell works on it; several need DOORBELL_NATS_URL"),
        "{problem}"
    );
    assert_eq!(problem.lines().count(), 1);
    let problem = refused(&url, Sharing::Shared).await;
    assert!(
        problem.contains("another doorbell works on it without DOORBELL_NATS_URL"),
        "{problem}"
    );
    first.close().await;
    // Its connections are closed a moment later.
    let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell%' \
                 AND datname = current_database()";
    until(&url, there, 0).await;
    let nodes = [
        open(Sharing::Shared).await.unwrap(),
        open(Sharing::Shared).await.unwrap(),
    ];
    let problem = refused(&url, Sharing::Alone).await;
    assert!(
        problem.contains("several need DOORBELL_NATS_URL"),
        "{problem}"
    );
    for node in nodes {
        node.close().await;
    }
    until(&url, there, 0).await;
    open(Sharing::Alone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_schema_is_used_if_it_allows_it() {
    let url = Postgres::shared().create_database().await;
    support::postgres(&url).await.close().await;
    let known = "SELECT max(version) FROM _sqlx_migrations";
    let next = engines::number(&url, known).await + 1;
    let migrated = format!(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES ({next}, 'the next', TRUE, '\\x00', 0)"
    );
    engines::execute(&url, &migrated).await;
    let store = support::postgres(&url).await;
    let batch = [send(user(1), Uuid::from_u128(1), None)];
    store.commit(&batch, now()).await.unwrap();
    store.close().await;
    let needs = format!("UPDATE doorbell SET oldest_schema = {next}");
    engines::execute(&url, &needs).await;
    let problem = refused(&url, Sharing::Shared).await;
    let why = format!("needs migration {next}");
    assert!(problem.contains(&why), "{problem}");
    assert_eq!(problem.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_migrate_once() {
    let url = Postgres::shared().create_database().await;
    let mut opening = JoinSet::new();
    for _ in 0..5 {
        let url = url.clone();
        opening.spawn(async move { support::postgres(&url).await });
    }
    let mut epochs = Vec::new();
    while let Some(store) = opening.join_next().await {
        epochs.push(store.unwrap().head(&user(1)).await.unwrap().epoch);
    }
    assert!(epochs.windows(2).all(|two| two[0] == two[1]), "{epochs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_in_one_line_without_the_password() {
    let postgres = Postgres::shared();
    let port = postgres.address.port();
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0";
    postgres.execute("postgres", latin).await;
    for (url, says) in [
        (
            format!("postgres://ann:hunter2@127.0.0.1:{port}/nowhere"),
            "does not exist",
        ),
        (
            "postgres://ann:hunter2@127.0.0.1:1/x".to_owned(),
            "Connection refused",
        ),
        (
            "postgres://ann:hunter2@127.0.0.1:no/x".to_owned(),
            "invalid port",
        ),
        (postgres.url("latin"), "LATIN1"),
    ] {
        let problem = refused(&url, Sharing::Shared).await;
        assert!(problem.contains(says), "{problem}");
        assert!(!problem.contains("hunter2"), "{problem}");
        assert_eq!(problem.lines().count(), 1, "{problem}");
    }
}

/// A server that would lose what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_sync_is_refused() {
    let postgres = block_in_place(Postgres::start);
    let url = postgres.create_database().await;
    postgres
        .execute("postgres", "ALTER SYSTEM SET fsync = off")
        .await;
    postgres
        .execute("postgres", "SELECT pg_reload_conf()")
        .await;
    while engines::number(
        &url,
        "SELECT (current_setting('fsync') = 'on')::int::bigint",
    )
    .await
        == 1
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let problem = refused(&url, Sharing::Shared).await;
    assert!(problem.contains("fsync is off"), "{problem}");
}

/// A store that waits 300 ms for a statement.
async fn impatient(url: &str) -> PostgresStore {
    let settings = StoreSettings {
        database_url: Some(url.into()),
        database_statement_timeout: Duration::from_millis(300).into(),
        ..StoreSettings::default()
    };
    PostgresStore::open(&settings, Sharing::Shared, &SeededRandom::new(1))
        .await
        .unwrap()
}

/// Waits until what a query counts is this many.
async fn until(url: &str, query: &str, count: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is = engines::number(url, query).await;
        if is == count {
            return;
        }
        assert!(Instant::now() < deadline, "{is}, and not {count}: {query}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The answer to a batch of sends is lost while it waits for a head. Later it is
/// found: its events are told where nothing came after them, and where something
/// did, the inbox is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_whose_answer_is_lost_are_told_if_their_counts_are_known() {
    use sqlx::Connection as _;
    let url = Postgres::shared().create_database().await;
    let proxy = Proxy::start(Postgres::shared().address).await;
    let near = Arc::new(support::postgres(&url).await);
    let far = engines::url(proxy.address, engines::database_of(&url));
    let far = Arc::new(support::postgres(&far).await);
    let before: Vec<_> = (1..=2)
        .map(|number| send(user(number), Uuid::from_u128(number as u128), None))
        .collect();
    near.commit(&before, now()).await.unwrap();

    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM inboxes FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    let batch: Vec<_> = [(1, 10), (2, 20), (1, 11)]
        .map(|(to, id)| send(user(to), Uuid::from_u128(id), None))
        .into();
    let sending = tokio::spawn(async move { far.commit(&batch, now()).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database()";
    until(&url, waiting, 1).await;
    proxy.cut().await;
    held.rollback().await.unwrap();
    until(&url, "SELECT count(*) FROM notifications", 5).await;
    let after = [send(user(2), Uuid::from_u128(21), None)];
    near.commit(&after, now()).await.unwrap();
    proxy.mend();

    let committed = sending.await.unwrap().unwrap();
    let sent: Vec<_> = committed
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Sent(Ok(Sent {
                notification,
                duplicate: false,
                head,
            })) => (
                notification.row.id.as_u128(),
                notification.row.revision.get(),
                (head.revision.get(), head.unread_count),
            ),
            outcome => panic!("{outcome:?}"),
        })
        .collect();
    assert_eq!(
        sent,
        [(10, 2, (2, 2)), (20, 2, (3, 3)), (11, 3, (3, 3))],
        "each once, with its own head, or the present one where that is not known"
    );
    let [(inbox, run)] = &committed.runs[..] else {
        panic!("{:?}", committed.runs);
    };
    let told: Vec<_> = run
        .iter()
        .map(|event| (event.head.revision.get(), event.head.unread_count))
        .collect();
    assert_eq!((inbox, told), (&user(1), vec![(2, 2), (3, 3)]));
    assert_eq!(committed.unknown_counts, [user(2)]);
}

/// What comes of a send was sent when that was accepted. Who cancels it has all of it that
/// came, and nothing comes once he is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_send_waits_for_who_cancels_it() {
    use sqlx::Connection as _;
    let url = Postgres::shared().create_database().await;
    let store = Arc::new(support::postgres(&url).await);
    let new = NewSend {
        organization_id: user(1).organization_id,
        id: Uuid::from_u128(77),
        target: Target::Topic(TopicId::parse("news").unwrap()),
        content: Arc::new(Content::new("test", "a title")),
        idempotency_key: Some("key".into()),
        sender: "backend".into(),
        expire_time: None,
        collapse_key: None,
        is_silent: false,
        follow_up: None,
        deliver_time: now(),
    };
    let accepted = store.accept(&new, now()).await.unwrap().unwrap();
    let under_way = store.begin(&accepted.send, now()).await.unwrap().unwrap();
    let later = now().after(Duration::from_secs(60));
    let part = |number: usize| {
        let id = Uuid::from_u128(number as u128);
        [Mutation::Send(under_way.notification(
            user(number),
            id,
            Wanted::default(),
        ))]
    };
    let committed = store.commit(&part(1), later).await.unwrap();
    let [Outcome::Sent(Ok(sent))] = &committed.outcomes[..] else {
        panic!("{:?}", committed.outcomes);
    };
    assert_eq!(sent.notification.sent_at, now());
    let stored = engines::number(&url, "SELECT sent_at FROM notifications").await;
    assert_eq!(stored, now().as_micros());

    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut cancelling = other.begin().await.unwrap();
    sqlx::query("UPDATE sends SET state = 3")
        .execute(&mut *cancelling)
        .await
        .unwrap();
    let batch = part(2);
    let sending = tokio::spawn(async move { store.commit(&batch, later).await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                   AND datname = current_database()";
    until(&url, waiting, 1).await;
    cancelling.commit().await.unwrap();
    let committed = sending.await.unwrap().unwrap();
    let cancelled = [Outcome::Sent(Err(NotSent::Cancelled))];
    assert_eq!(committed.outcomes, cancelled);
    let rows = engines::number(&url, "SELECT count(*) FROM notifications").await;
    assert_eq!(rows, 1);
}

/// A statement that comes to the server long after it was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_that_come_late_write_nothing() {
    let url = Postgres::shared().create_database().await;
    let proxy = Proxy::start(Postgres::shared().address).await;
    let far = engines::url(proxy.address, engines::database_of(&url));
    let store = Arc::new(impatient(&far).await);
    let first = [send(user(1), Uuid::from_u128(1), None)];
    store.commit(&first, now()).await.unwrap();

    proxy.hold_commits(true);
    let second = [send(user(1), Uuid::from_u128(2), None)];
    let sending = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&second, now()).await }
    });
    // The transaction that asks what became of it, and has written.
    let asking = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                  AND query LIKE 'WITH made%' AND datname = current_database()";
    until(&url, asking, 1).await;
    let undone = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    let undone_before = engines::number(&url, undone).await;
    proxy.hold_commits(false);
    sending.await.unwrap().unwrap();
    // It did come.
    let deadline = Instant::now() + PATIENCE;
    while engines::number(&url, undone).await == undone_before {
        assert!(Instant::now() < deadline, "the statement never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rows = engines::number(&url, "SELECT count(*) FROM notifications").await;
    let head = store.head(&user(1)).await.unwrap().head;
    assert_eq!((rows, head.revision.get(), head.unread_count), (2, 2, 2));
}

/// A statement that hangs is given up, and the store goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_somebody_holds_is_not_waited_for_for_ever() {
    use sqlx::Connection as _;
    let url = Postgres::shared().create_database().await;
    let store = impatient(&url).await;
    let commit = async |id| {
        let batch = [send(user(1), Uuid::from_u128(id), None)];
        store.commit(&batch, now()).await
    };
    commit(1).await.unwrap();
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM inboxes FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    let error = commit(2).await.unwrap_err();
    assert_eq!(error.name(), "held", "{error}");
    held.rollback().await.unwrap();
    commit(3).await.unwrap();
    assert_eq!(
        store.head(&user(1)).await.unwrap().head.revision,
        Revision::new(2)
    );
}

/// All use cases over a store.
fn inboxes(store: Arc<dyn Store>) -> Arc<Inboxes> {
    let feeds = FeedSettings::default();
    Inboxes::new(
        store,
        Bus::local(&feeds),
        Arc::new(SystemClock),
        Arc::new(SeededRandom::new(1)),
        feeds,
        &WriterSettings::default(),
    )
}

/// Sends to many at once; how long it took until each was answered, and how.
async fn send_to(
    inboxes: &Arc<Inboxes>,
    users: impl Iterator<Item = usize>,
) -> Vec<(usize, Duration, Result<Sent, doorbell::inbox::Error>)> {
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for to in users {
        let inboxes = inboxes.clone();
        let Mutation::Send(new) = send(user(to), inboxes.new_id(), None) else {
            unreachable!()
        };
        sending.spawn(async move { (to, inboxes.send(new).await, began.elapsed()) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = sending.join_next().await {
        let (to, outcome, after) = answer.unwrap();
        answers.push((to, after, outcome));
    }
    answers
}

/// A node vanishes between the statements of a transaction, with the head of an inbox
/// locked: others are written meanwhile, and that inbox soon after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_in_a_transaction_holds_nobody_up() {
    let url = Postgres::shared().create_database().await;
    let proxy = Proxy::start(Postgres::shared().address).await;
    let near = inboxes(Arc::new(support::postgres(&url).await));
    for (_, _, outcome) in send_to(&near, 0..101).await {
        outcome.unwrap();
    }
    let far = engines::url(proxy.address, engines::database_of(&url));
    let far = Arc::new(support::postgres(&far).await);
    proxy.hold_commits(true);
    let twice = [1, 2].map(|id| send(user(7), Uuid::from_u128(id), Some("key".into())));
    let vanishing = tokio::spawn(async move { far.commit(&twice, now()).await });
    let holding = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' \
                   AND query LIKE 'WITH made%' AND datname = current_database()";
    until(&url, holding, 1).await;
    proxy.lose();
    vanishing.abort();

    let mut held = Vec::new();
    for (to, after, outcome) in send_to(&near, 0..101).await {
        assert!(after < Duration::from_secs(8), "{to} waited for {after:?}");
        match outcome {
            Ok(_) => {}
            Err(error) if to == 7 => held.push(error.to_string()),
            Err(error) => panic!("{to}: {error}"),
        }
    }
    let deadline = Instant::now() + Duration::from_secs(8);
    while let Err(error) = &send_to(&near, 7..8).await[0].2 {
        assert!(Instant::now() < deadline, "{held:?}, and then {error}");
    }
}

/// Somebody holds a head for long: the batch that needs it is written but for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_head_holds_up_no_other_inbox() {
    use sqlx::Connection as _;
    let url = Postgres::shared().create_database().await;
    let near = inboxes(Arc::new(support::postgres(&url).await));
    for (_, _, outcome) in send_to(&near, 0..101).await {
        outcome.unwrap();
    }
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    let mut held = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM inboxes WHERE user_id = 'user 7' FOR UPDATE")
        .execute(&mut *held)
        .await
        .unwrap();
    // Several to the one that is held: they fail together.
    for (to, after, outcome) in send_to(&near, (0..101).chain([7; 20])).await {
        assert!(after < Duration::from_secs(10), "{to} waited for {after:?}");
        match outcome {
            Ok(_) => assert_ne!(to, 7),
            Err(doorbell::inbox::Error::Store(error)) if to == 7 => {
                assert_eq!(error.name(), "held", "{error}");
            }
            Err(error) => panic!("{to}: {error}"),
        }
    }
    held.rollback().await.unwrap();
    send_to(&near, 7..8).await.remove(0).2.unwrap();
}

fn recent(limit: usize, since: Option<Timestamp>) -> RecentQuery {
    RecentQuery {
        since,
        ..RecentQuery::new(PageLimit {
            rows: limit,
            bytes: usize::MAX,
        })
    }
}

/// Callers that go away in the midst of a read cost no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_nobody_waits_for_keep_their_connections() {
    let url = Postgres::shared().create_database().await;
    let store = Arc::new(support::postgres(&url).await);
    let inboxes = inboxes(store.clone());
    let filled: Vec<_> = (0..100)
        .map(|id| send(user(1), Uuid::from_u128(id), None))
        .collect();
    store.commit(&filled, now()).await.unwrap();
    // All places have a connection.
    let (ann, readers) = (user(1), 0..8);
    let reads = readers.map(|_| store.recent(&ann, recent(100, None)));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap().rows.len(), 100);
    }
    let readers = "CREATE TABLE readers AS SELECT pid FROM pg_stat_activity \
                   WHERE query LIKE '%notifications AS n%' AND datname = current_database() \
                   AND pid <> pg_backend_pid()";
    engines::execute(&url, readers).await;
    let there = "SELECT count(*) FROM readers JOIN pg_stat_activity USING (pid)";
    let before = engines::number(&url, there).await;
    assert!(before > 0);
    for polls in 0..200 {
        let mut read = Box::pin(inboxes.recent(&ann, recent(100, None)));
        for _ in 0..=polls % 5 {
            if read.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    inboxes.recent(&ann, recent(100, None)).await.unwrap();
    assert_eq!(engines::number(&url, there).await, before);
}

/// A poll for what is new, where nothing is, reads no notification.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_finds_nothing_reads_the_head_alone() {
    let url = Postgres::shared().create_database().await;
    let store = support::postgres(&url).await;
    let batch: Vec<_> = (0..150)
        .map(|id| send(user(1), Uuid::from_u128(id), None))
        .collect();
    store.commit(&batch, now()).await.unwrap();
    let page = store.recent(&user(1), recent(100, None)).await.unwrap();
    let newest = page.rows[0].created_at;
    store.close().await;
    let ended = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'doorbell%' \
                 AND datname = current_database()";
    // What a backend counted is known at its end.
    until(&url, ended, 0).await;
    let read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables \
                WHERE relname = 'notifications'";
    let before = engines::number(&url, read).await;
    let store = support::postgres(&url).await;
    for unread_only in [false, true] {
        let query = RecentQuery {
            unread_only,
            ..recent(100, Some(newest))
        };
        for _ in 0..5 {
            let page = store.recent(&user(1), query.clone()).await.unwrap();
            assert_eq!((page.rows.len(), page.next.is_some()), (0, false));
            assert_eq!(page.snapshot.head.revision, Revision::new(150));
        }
    }
    store.close().await;
    until(&url, ended, 0).await;
    assert_eq!(engines::number(&url, read).await, before);
    let store = support::postgres(&url).await;
    let earlier = Timestamp::from_micros(newest.as_micros() - 1);
    let page = store.recent(&user(1), recent(100, Some(earlier))).await;
    assert_eq!(page.unwrap().rows.len(), 1);
}

/// The way to Postgres stands, and nothing comes back: writes that need a head made
/// or change nothing end as well as others, reads that nobody waits for take no
/// place along, and all goes on when there is a way again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_that_swallows_holds_nothing_up_for_ever() {
    let url = Postgres::shared().create_database().await;
    let proxy = Proxy::start(Postgres::shared().address).await;
    let far = engines::url(proxy.address, engines::database_of(&url));
    let settings = StoreSettings {
        database_url: Some(far.into()),
        database_connect_timeout: Duration::from_secs(1).into(),
        database_statement_timeout: Duration::from_millis(300).into(),
        ..StoreSettings::default()
    };
    let store = Arc::new(support::postgres_with(&settings).await);
    let key = || Some("key".to_owned());
    let known = [send(user(1), Uuid::from_u128(1), key())];
    store.commit(&known, now()).await.unwrap();
    // A key twice is more than one statement, and the second inbox has no head.
    let twice = |id, to| [id, id + 1].map(|id| send(user(to), Uuid::from_u128(id), key()));
    let batches = [
        known.to_vec(),
        twice(10, 1).into(),
        twice(20, 2).into(),
        vec![send(user(3), Uuid::from_u128(30), None)],
    ];
    for batch in batches {
        // All places have a connection that stands.
        store.heads(&[user(1)]).await.unwrap();
        proxy.lose();
        let ended = tokio::time::timeout(PATIENCE, store.commit(&batch, now())).await;
        let error = ended.expect("it ends").expect_err("nothing came back");
        assert!(
            ["unavailable", "in_doubt"].contains(&error.name()),
            "{error}"
        );
        for _ in 0..8 {
            let user = user(1);
            let read = tokio::time::timeout(Duration::from_millis(5), store.head(&user));
            assert!(read.await.is_err(), "nobody answered");
        }
        proxy.mend();
        store.head(&user(1)).await.unwrap();
        store.commit(&batch, now()).await.unwrap();
    }
    let rows = engines::number(&url, "SELECT count(*) FROM notifications").await;
    assert_eq!(rows, 3);
}

/// A pooler that drops the settings of a connection would have sends acknowledged
/// that are not synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_not_keep_its_settings_is_refused() {
    let url = Postgres::shared().create_database().await;
    let name = engines::database_of(&url).to_owned();
    let unsafe_default = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    engines::execute(&url, &unsafe_default).await;
    let pooler = block_in_place(|| {
        let ignore = "ignore_startup_parameters = extra_float_digits,options";
        PgBouncer::start_with(Postgres::shared(), ignore)
    });
    let problem = refused(&engines::url(pooler.address, &name), Sharing::Beside).await;
    assert!(
        problem.contains("set DOORBELL_DATABASE_POOLER"),
        "{problem}"
    );
    assert_eq!(problem.lines().count(), 1, "{problem}");
}

/// A pooler that takes no settings at the start of a connection says so, and the answer
/// names what to set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_refuses_options_is_answered_with_its_setting() {
    let url = Postgres::shared().create_database().await;
    let pooler = block_in_place(|| PgBouncer::start(Postgres::shared()));
    let pooled = engines::url(pooler.address, engines::database_of(&url));
    let problem = refused(&pooled, Sharing::Shared).await;
    assert!(problem.contains("DOORBELL_DATABASE_POOLER"), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
    // Where only the way past it is named.
    let settings = StoreSettings {
        database_url: Some(pooled.into()),
        database_direct_url: Some(url.into()),
        ..StoreSettings::default()
    };
    let opened = PostgresStore::open(&settings, Sharing::Shared, &SeededRandom::new(1)).await;
    let problem = opened.err().unwrap().to_string();
    assert!(problem.contains("DOORBELL_DATABASE_POOLER"), "{problem}");
}

/// Since Postgres 15 a user may not make tables in `public`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_create_is_told_what_it_needs() {
    let postgres = Postgres::shared();
    let url = postgres.create_database().await;
    engines::execute(&url, "CREATE ROLE reader_only LOGIN").await;
    let theirs = url.replace("postgres@", "reader_only@");
    let problem = refused(&theirs, Sharing::Shared).await;
    assert!(problem.contains("needs CREATE on the schema"), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
    engines::execute(&url, "GRANT CREATE ON SCHEMA public TO reader_only").await;
    support::postgres(&theirs).await;
}

/// Proofs of commits that are no longer needed are deleted as new ones come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_of_commits_are_kept_for_seven_days() {
    let url = Postgres::shared().create_database().await;
    let store = support::postgres(&url).await;
    engines::execute(
        &url,
        "INSERT INTO commits (organization_id, id) SELECT 'acme', \
         ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid \
         FROM generate_series(1, 1500) AS n",
    )
    .await;
    let eight_days = Timestamp::from_seconds(8 * 24 * 60 * 60);
    let count = "SELECT count(*) FROM commits";
    for id in 1..=300 {
        let batch = [send(user(1), Uuid::from_u128(id), None)];
        store.commit(&batch, eight_days).await.unwrap();
        if id == 1 {
            assert_eq!(engines::number(&url, count).await, 1501 - 1024);
        }
    }
    assert_eq!(engines::number(&url, count).await, 300);
}

/// A certificate for the loopback, which signs itself, and its key.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_to_the_database_is_encrypted_if_its_url_says_so() {
    let postgres = block_in_place(Postgres::start);
    let (trusted, key) = certificate();
    postgres.serve_tls(&trusted, &key).await;
    let directory = tempfile::tempdir().unwrap();
    let url = postgres.create_database().await;
    let plain = url.split('?').next().unwrap();
    let verified = |name: &str, certificate: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, certificate).unwrap();
        format!("{plain}?sslmode=verify-full&sslrootcert={}", file.display())
    };
    let store = support::postgres(&verified("trusted.pem", &trusted)).await;
    store
        .commit(&[send(user(1), Uuid::from_u128(1), None)], now())
        .await
        .unwrap();
    let in_the_clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                        WHERE application_name LIKE 'doorbell%' AND NOT ssl";
    assert_eq!(engines::number(&url, in_the_clear).await, 0);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name LIKE 'doorbell%' AND ssl";
    assert!(engines::number(&url, encrypted).await > 0);

    let (other, _) = certificate();
    let problem = refused(&verified("other.pem", &other), Sharing::Shared).await;
    assert!(problem.contains("certificate"), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
}
