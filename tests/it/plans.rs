//! What statements read in a Postgres that holds many rows, by its own account.
//!
//! `auto_explain` tells the plan of each statement as the store runs it, and what each
//! step of it read. The large inbox is nearly all read or archived, and not alone.

use std::{sync::Arc, time::Duration};

use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    model::{
        Content, Field, InboxKey, NewNotification, PartOf, RemovalCause, Revision, TopicId, UserId,
        View,
    },
    store::{
        About, Correction, Cursor, Deletion, Edit, FollowUps as _, Mutation, Named, PageLimit,
        Preferences as _, RecentQuery, Retractions as _, Sends as _, Store, Topics as _, Verb,
        Which,
        follow_ups::After,
        postgres::Postgres as PostgresStore,
        retractions::{self, NewRetraction, Retraction},
        sends::{NewSend, Send, SendState, Step, Tally, Target},
        sweeping::{Due, Kept, Sweeping as _},
    },
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    engines::{Postgres, database_of},
    support,
};

/// Rows of the large inbox, and of all others together.
const LARGE: u64 = 100_000;
const OTHERS: u64 = 100_000;

/// Rows of the large inbox: one in a hundred is unread, a quarter of the others read,
/// three are archived; some are removed, or over. The others have twenty rows each, but
/// one has ten thousand, none of them read.
const FILL: &str = r"
    SET synchronous_commit = off;
    CREATE TEMPORARY TABLE indexes AS SELECT indexname, indexdef FROM pg_indexes
        WHERE tablename = 'notifications' AND indexname <> 'notifications_pkey';
    DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM indexes LOOP
        EXECUTE 'DROP INDEX ' || i.indexname; END LOOP; END $$;
    INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, title,
        body, entity_type, entity_id, sender, idempotency_key, fingerprint, created_at, sent_at,
        read_at, archived_at, removed_at, removal_cause, expire_time, collapse_key, ring_revision)
    SELECT 'acme', CASE WHEN n <= 100000 THEN 'large' ELSE 'user-' || n % 5000 END, s,
        ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, s,
        'type-' || n % 10, 'a title', 'a body of some words, as notifications have them',
        'document', (n % 1000)::text, 'backend', 'key-' || n, sha256('content'), 1000000 * s,
        1000000 * s, CASE WHEN n % 100 <> 0 THEN 1000000 * s END,
        CASE WHEN n % 100 <> 0 AND n % 4 <> 0 THEN 1000000 * s END,
        CASE WHEN n % 97 = 0 THEN 1000000 * s END, CASE WHEN n % 97 = 0 THEN 1 END,
        CASE WHEN n % 7 = 0 THEN 1000000 * s + 4000000000000000 * (n % 2) END,
        'thing-' || n % 500, s
    FROM (SELECT n, CASE WHEN n <= 100000 THEN n ELSE (n - 100001) / 5000 + 1 END::bigint AS s
        FROM generate_series(1, 200000) AS n) AS n;
    INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, title,
        sender, created_at)
    SELECT 'acme', 'unread', n, gen_random_uuid(), n, 'a type', 'a title', 'backend', 1000000 * n
    FROM generate_series(1::bigint, 10000) AS n;
    DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM indexes LOOP
        EXECUTE i.indexdef; END LOOP; END $$;
    INSERT INTO inboxes (organization_id, user_id, revision, unread_count, unseen_count,
        row_count, last_created_at, oldest_at)
    SELECT organization_id, user_id, max(sequence),
        count(*) FILTER (WHERE read_at IS NULL AND removed_at IS NULL),
        count(*) FILTER (WHERE read_at IS NULL AND removed_at IS NULL),
        count(*) FILTER (WHERE removed_at IS NULL), max(created_at), min(created_at)
    FROM notifications GROUP BY organization_id, user_id;
    INSERT INTO commits (organization_id, id)
    SELECT 'acme', ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
    FROM generate_series(1, 10000) AS n;
    ANALYZE";

fn large() -> InboxKey {
    InboxKey::parse("acme", "large").unwrap()
}

/// The id of a row by its number.
fn id(number: u64) -> Uuid {
    Uuid::parse_str(&format!("00000000-0000-7000-8000-{number:012x}")).unwrap()
}

/// A store whose statements are told, and how far what it told was read.
struct Explained {
    postgres: Postgres,
    database: String,
    store: Arc<PostgresStore>,
    read: usize,
    /// What was found to be wrong.
    faults: Vec<String>,
    plans: usize,
}

impl Explained {
    async fn new() -> Self {
        let postgres = Postgres::start();
        let url = postgres.create_database().await;
        support::postgres(&url).await.close().await;
        let database = database_of(&url);
        postgres.execute(database, FILL).await;
        postgres.execute(database, FILL_SENDS).await;
        for setting in [
            "session_preload_libraries = auto_explain",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_buffers = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_format = json",
        ] {
            let set = format!("ALTER DATABASE {database} SET {setting}");
            postgres.execute("postgres", &set).await;
        }
        let store = Arc::new(support::postgres(&url).await);
        let read = postgres.log_after(0).len();
        Self {
            database: database.to_owned(),
            postgres,
            store,
            read,
            faults: Vec::new(),
            plans: 0,
        }
    }

    /// The plans that were told since it was asked.
    fn said(&mut self) -> Vec<Value> {
        let log = self.postgres.log_after(self.read);
        self.read += log.len();
        plans(&log)
    }

    /// Holds what the statements of `call` read against the most rows that one step may.
    async fn at_most<T, E: std::fmt::Debug>(
        &mut self,
        what: &str,
        rows: f64,
        call: impl Future<Output = Result<T, E>>,
    ) -> T {
        let answer = call.await.unwrap();
        let mut said = self.said();
        if said.is_empty() {
            // A walk that has enough leaves the rest of its statement, and its plan, to
            // whoever uses the connection next.
            let is_of_rows = |plan: &Value| plan.to_string().contains("notifications");
            for _ in 0..100 {
                self.store.head(&large()).await.unwrap();
                said.extend(self.said());
                if said.iter().any(is_of_rows) {
                    break;
                }
            }
            assert!(said.iter().any(is_of_rows), "{what}: no plan was told");
        }
        self.plans += said.len();
        for plan in said {
            let text = plan["Query Text"].as_str().unwrap_or_default();
            let mut faults = Vec::new();
            judge(&plan["Plan"], rows, &mut faults);
            let faults = faults.into_iter();
            self.faults
                .extend(faults.map(|fault| format!("{what}: {fault}\n    {text}")));
        }
        answer
    }
}

/// The plans in a log: each begins after its duration, and its lines are indented.
fn plans(log: &str) -> Vec<Value> {
    let told = log.split("  plan:\n").skip(1);
    told.map(|text| {
        let lines = text.lines().take_while(|line| line.starts_with('\t'));
        let plan: String = lines.collect::<Vec<_>>().join("\n");
        serde_json::from_str(&plan).unwrap_or_else(|error| panic!("{error}: {plan}"))
    })
    .collect()
}

/// Each step that reads a table, by how many rows it looked at and how many pages it
/// needed for that: what an index skips is in no count of rows.
fn judge(plan: &Value, most: f64, faults: &mut Vec<String>) {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    let table = plan["Relation Name"].as_str().unwrap_or_default();
    let index = plan["Index Name"].as_str().unwrap_or_default();
    // What takes a thousandth of a second alone takes ten with others that are started for it.
    if kind.contains("Gather") {
        faults.push("it starts workers of its own".into());
    }
    if kind == "Seq Scan" && !["doorbell", "sweeper"].contains(&table) {
        faults.push(format!("{table} is scanned"));
    }
    if kind.contains("Scan") && !(table.is_empty() && index.is_empty()) {
        let loops = number("Actual Loops");
        let removed = number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck")
            + number("Rows Removed by Join Filter");
        let rows = loops * (number("Actual Rows") + removed);
        let pages = number("Shared Hit Blocks") + number("Shared Read Blocks");
        if rows > most || pages > 8.0 * (most + loops) {
            faults.push(format!(
                "{kind} of {table} by {index} looked at {rows} rows and {pages} pages in \
                 {loops} times; at most {most}"
            ));
        }
    }
    for step in plan["Plans"].as_array().into_iter().flatten() {
        judge(step, most, faults);
    }
}

const PAGE: usize = 20;
/// A page, one more that tells whether there are more, and what came since.
const OF_A_PAGE: f64 = 24.0;
/// Where a question has no index of its own.
const OF_A_FILTERED_PAGE: f64 = 1001.0;
/// The most that is looked at for one change.
const OF_A_WALK: f64 = 10_001.0;

fn page() -> PageLimit {
    PageLimit {
        rows: PAGE,
        bytes: 1 << 20,
    }
}

fn about() -> About {
    About {
        entity_type: "document".into(),
        entity_id: "500".into(),
    }
}

fn send(inbox: InboxKey, number: u64) -> NewNotification {
    let content = Content::new("comment", "a title");
    NewNotification::new(inbox, id(number), Arc::new(content), "backend".into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_reads_what_it_answers_with_however_many_rows_there_are() {
    assert_eq!(LARGE + OTHERS, 200_000, "as they are filled");
    let mut explained = Explained::new().await;
    read(&mut explained).await;
    walk(&mut explained).await;
    write(&mut explained).await;
    sweep(&mut explained).await;
    preferences(&mut explained).await;
    later(&mut explained).await;
    retractions(&mut explained).await;
    follow_ups(&mut explained).await;
    nothing_due(&mut explained).await;
    assert!(explained.plans > 100, "{}", explained.plans);
    let faults = &explained.faults;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn read(explained: &mut Explained) {
    let store = explained.store.clone();
    let inbox = large();
    explained.at_most("head", 1.0, store.head(&inbox)).await;
    let many: Vec<_> = (0..1000)
        .map(|user| InboxKey::parse("acme", &format!("user-{user}")).unwrap())
        .collect();
    explained.at_most("heads", 1000.0, store.heads(&many)).await;
    for position in [0, LARGE / 2, LARGE - 3] {
        let cursor = Cursor::after(Revision::new(position));
        let changes = store.changes(&inbox, cursor, page());
        explained.at_most("changes", OF_A_PAGE, changes).await;
        let count = store.count_changes(&inbox, Revision::new(position), 500);
        explained.at_most("count of changes", 501.0, count).await;
    }
    let query = RecentQuery::new(page());
    let before = [None, Some(Revision::new(LARGE / 2))];
    for view in [View::Inbox, View::Archived, View::All] {
        for unread_only in [false, true] {
            for before in before {
                let query = RecentQuery {
                    view,
                    unread_only,
                    before,
                    ..query.clone()
                };
                let is_indexed = view == View::Inbox || view == View::Archived && !unread_only;
                let most = if is_indexed {
                    OF_A_PAGE
                } else {
                    OF_A_FILTERED_PAGE
                };
                let what = format!("{view:?}, unread {unread_only}, before {before:?}");
                let plain = store.recent(&inbox, query.clone());
                explained.at_most(&what, most, plain).await;
                let of_a_type = RecentQuery {
                    types: vec!["type-5".into(), "none".into()],
                    ..query.clone()
                };
                let what = format!("{what}, of types");
                let of_a_type = store.recent(&inbox, of_a_type);
                explained
                    .at_most(&what, OF_A_FILTERED_PAGE, of_a_type)
                    .await;
                let of_a_thing = RecentQuery {
                    about: Some(about()),
                    ..query
                };
                let what = format!("{what}, about");
                // There are a hundred rows about it.
                let of_a_thing = store.recent(&inbox, of_a_thing);
                explained.at_most(&what, 101.0, of_a_thing).await;
            }
        }
    }
    let since = |micros| RecentQuery {
        since: Some(Timestamp::from_micros(micros)),
        ..query.clone()
    };
    let newest = i64::try_from(LARGE).unwrap() * 1_000_000;
    for (micros, most) in [(newest, 1.0), (newest - 5_000_000, OF_A_PAGE)] {
        let poll = store.recent(&inbox, since(micros));
        explained.at_most("since", most, poll).await;
    }
    let types: Vec<String> = (0..20).map(|kind| format!("type-{kind}")).collect();
    let counts = store.count_types(&inbox, &types);
    explained
        .at_most("counts of types", OF_A_WALK, counts)
        .await;
}

async fn walk(explained: &mut Explained) {
    let store = explained.store.clone();
    let inbox = large();
    let through = |types: &[&str]| Which::Through {
        revision: Revision::new(LARGE),
        types: types.iter().map(ToString::to_string).collect(),
    };
    let ids = (1..=500).map(|number| id(number * 190)).collect();
    for (which, most) in [
        (Which::Ids(ids), 500.0),
        (Which::About(about()), 101.0),
        (Which::Key("key-77777".into()), 1.0),
        (Which::Collapse("thing-400".into()), 201.0),
        (through(&[]), OF_A_WALK),
        (through(&["type-5"]), OF_A_WALK),
        (through(&["none"]), OF_A_WALK),
    ] {
        for (edit, view) in [
            (Edit::Read, View::Inbox),
            (Edit::Unread, View::Inbox),
            (Edit::Archive, View::Inbox),
            (Edit::Unarchive, View::Archived),
            (Edit::Remove(RemovalCause::User), View::Inbox),
            (Edit::Remove(RemovalCause::Sender), View::All),
        ] {
            let which = which.clone();
            let name = match &which {
                Which::Ids(_) => "ids".to_owned(),
                which => format!("{which:?}"),
            };
            let what = format!("{edit:?} of {view:?} by {name}");
            let verb = Verb { edit, which, view };
            for after in [0, LARGE / 2] {
                let select = store.select(&inbox, &verb, Revision::new(after));
                explained.at_most(&what, most, select).await;
            }
        }
    }
}

async fn write(explained: &mut Explained) {
    let store = explained.store.clone();
    let inbox = large();
    let now = SystemClock.now();
    let numbers: Vec<u64> = (1..=200).map(|number| number * 400 + 1).collect();
    let ids: Vec<_> = numbers.iter().map(|number| id(*number)).collect();
    let edit = |edit, view| Mutation::Edit {
        inbox: inbox.clone(),
        ids: ids.clone(),
        edit,
        view,
        through: Some(Revision::new(u64::MAX >> 1)),
    };
    let correct = |of| {
        Mutation::Update(Correction {
            inbox: inbox.clone(),
            of,
            content: Arc::new(Content::new("comment", "another title")),
            fields: vec![Field::Title],
            ring: true,
        })
    };
    let keyed = |number, key: &str| {
        Mutation::Send(NewNotification {
            idempotency_key: Some(key.into()),
            ..send(inbox.clone(), number)
        })
    };
    let collapsing = |number| {
        Mutation::Send(NewNotification {
            collapse_key: Some("thing-300".into()),
            ..send(inbox.clone(), number)
        })
    };
    let delete = |ids: Vec<Uuid>, why| Mutation::Delete {
        inbox: inbox.clone(),
        ids,
        why,
    };
    let first = 1 << 40;
    let others = (0..200).map(|number| {
        let user = InboxKey::parse("acme", &format!("user-{}", number % 190)).unwrap();
        Mutation::Send(send(user, first + 100 + number))
    });
    let removed = (1..=200).map(|number| id(number * 97)).collect();
    let batches: Vec<(&str, f64, Vec<Mutation>)> = vec![
        // The first commit of a process deletes old proofs.
        (
            "a send, and old proofs",
            1024.0,
            vec![Mutation::Send(send(inbox.clone(), first + 3))],
        ),
        ("sends", 200.0, others.collect()),
        ("a keyed send", 1.0, vec![keyed(first, "a new key")]),
        ("a known key", 1.0, vec![keyed(first + 1, "key-55555")]),
        // Of two hundred rows with the key, those that are unread.
        ("a collapsing send", 201.0, vec![collapsing(first + 2)]),
        ("a read", 200.0, vec![edit(Edit::Read, View::Inbox)]),
        ("an unread", 200.0, vec![edit(Edit::Unread, View::Inbox)]),
        ("an archive", 200.0, vec![edit(Edit::Archive, View::Inbox)]),
        (
            "an unarchive",
            200.0,
            vec![edit(Edit::Unarchive, View::Archived)],
        ),
        (
            "a removal",
            200.0,
            vec![edit(Edit::Remove(RemovalCause::User), View::All)],
        ),
        (
            "a correction",
            2.0,
            vec![
                correct(Named::Id(id(99_999))),
                correct(Named::Key("key-66666".into())),
            ],
        ),
        (
            "seen",
            // Those that are unread above it.
            101.0,
            vec![Mutation::Seen {
                inbox: inbox.clone(),
                through: Revision::new(LARGE - 9000),
            }],
        ),
        ("a purge", 200.0, vec![delete(removed, Deletion::Purge)]),
        (
            "an erasure",
            200.0,
            vec![delete(
                (1..=200).map(|number| id(number * 3)).collect(),
                Deletion::Erasure,
            )],
        ),
    ];
    for (what, most, batch) in batches {
        explained
            .at_most(what, most, store.commit(&batch, now))
            .await;
    }
}

/// Sends that wait for a day to come, a hundred that are due and a hundred that ended, one
/// in two for those that are named; and a topic of a hundred thousand.
const FILL_SENDS: &str = "
    INSERT INTO sends (organization_id, id, topic_id, idempotency_key, fingerprint, state,
        accepted_at, deliver_time, next_at, ended_at, total_count, sender, is_silent, type, title)
    SELECT 'acme', ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        CASE WHEN n % 2 = 0 THEN 'all' END, 'send-' || n, sha256('x'),
        CASE WHEN n <= 100 THEN 2 WHEN n <= 200 THEN 1 ELSE 0 END, 0, 0,
        CASE WHEN n <= 100 THEN NULL WHEN n <= 200 THEN n ELSE 4000000000000000 END,
        CASE WHEN n <= 100 THEN n END, 0, 's', 0, 't', 't' FROM generate_series(1, 100000) AS n;
    INSERT INTO send_recipients (organization_id, send_id, user_id)
    SELECT 'acme', ('00000000-0000-7000-8000-' || lpad(to_hex(n % 1000), 12, '0'))::uuid,
        'user-' || n FROM generate_series(1, 100000) AS n;
    INSERT INTO topic_members (organization_id, topic_id, user_id)
    SELECT 'acme', 'all', 'user-' || n FROM generate_series(1, 100000) AS n;
    INSERT INTO topic_members (organization_id, topic_id, user_id)
    SELECT 'acme', 'topic-' || n, 'user-1' FROM generate_series(1, 1000) AS n;
    INSERT INTO preferences (organization_id, user_id, type, is_on)
    SELECT 'acme', 'user-' || n / 20, 'type-' || n % 20, n % 2 FROM generate_series(1, 100000) AS n;
    INSERT INTO type_defaults (organization_id, type, is_on, is_required)
    SELECT 'acme', 'type-' || n, 1, 0 FROM generate_series(1, 200) AS n;
    ANALYZE;
";

/// What is wanted, of a hundred thousand things that people said.
async fn preferences(explained: &mut Explained) {
    let store = explained.store.clone();
    let inbox = InboxKey::parse("acme", "user-77").unwrap();
    let chosen = explained
        .at_most("what one said", 20.0, store.chosen(&inbox))
        .await;
    assert_eq!(chosen.len(), 20);
    let of = [
        ("type-3".to_owned(), Some(true)),
        ("type-4".to_owned(), None),
    ];
    explained
        .at_most("a choice", 20.0, store.choose(&inbox, &of))
        .await;
    let organization = inbox.organization_id.clone();
    let defaults = store.type_defaults(&organization);
    assert_eq!(
        explained.at_most("defaults", 200.0, defaults).await.len(),
        200
    );
    let of = [("type-3".to_owned(), None)];
    let defaults = store.set_type_defaults(&organization, &of);
    explained.at_most("a default", 200.0, defaults).await;
    let kind = |number: u64| Arc::new(Content::new(format!("type-{number}"), "a title"));
    let sends = (0..100).map(|number| {
        let user = InboxKey::parse("acme", &format!("user-{}", 100 + number)).unwrap();
        Mutation::Send(NewNotification {
            content: kind(number % 20),
            ..send(user, (1 << 43) + number)
        })
    });
    let sends: Vec<_> = sends.collect();
    let commit = store.commit(&sends, SystemClock.now());
    explained
        .at_most("sends of which some are muted", 100.0, commit)
        .await;
    explained
        .at_most("one forgotten", 20.0, store.forget_preferences(&inbox))
        .await;
    let deleted = store.delete_preferences(&organization, 100);
    assert_eq!(
        explained.at_most("all forgotten", 200.0, deleted).await,
        100
    );
}

/// Sends that outlive their call, and topics.
async fn later(explained: &mut Explained) {
    let store = explained.store.clone();
    let (organization, now) = (large().organization_id, SystemClock.now());
    let topic = TopicId::parse("all").unwrap();
    let users = |first: u32, count: u32| -> Vec<UserId> {
        let user = |number| UserId::parse(&format!("user-{number}")).unwrap();
        (first..first + count).map(user).collect()
    };
    let new = |number, target| NewSend {
        organization_id: organization.clone(),
        id: id(number),
        target,
        content: Arc::new(Content::new("comment", "a title")),
        idempotency_key: Some(format!("send-{number}")),
        sender: "backend".into(),
        expire_time: None,
        collapse_key: None,
        is_silent: false,
        follow_up: None,
        deliver_time: now,
    };
    let to_many = new(1 << 41, Target::Users(users(1, 100)));
    explained
        .at_most("a send for later", 100.0, store.accept(&to_many, now))
        .await
        .unwrap();
    let again = NewSend {
        idempotency_key: Some("send-500".into()),
        ..new(2 << 41, Target::Topic(topic.clone()))
    };
    explained
        .at_most("one again", 1.0, store.accept(&again, now))
        .await
        .unwrap_err();
    for of in [Named::Id(id(777)), Named::Key("send-777".into())] {
        let found = explained
            .at_most("a send", 1.0, store.send(&organization, &of))
            .await;
        assert!(found.is_some());
    }
    let done = Some(SendState::Done);
    for (state, before) in [(None, None), (None, Some(id(50_000))), (done, None)] {
        let page = store.sends(&organization, state, before, 20);
        assert_eq!(explained.at_most("sends", 20.0, page).await.len(), 20);
    }
    let due = explained
        .at_most("sends that are due", 4.0, store.due_sends(now, 4))
        .await;
    assert_eq!(due.len(), 4);
    let waiting = store
        .send(&organization, &Named::Id(id(901)))
        .await
        .unwrap()
        .unwrap();
    explained
        .at_most("a begin", 1.0, store.begin(&waiting, now))
        .await;
    // Of a topic its members are counted, once.
    let to_topic = store
        .send(&organization, &Named::Id(id(902)))
        .await
        .unwrap()
        .unwrap();
    let begun = explained.at_most("a begin of a topic", 100_000.0, store.begin(&to_topic, now));
    assert_eq!(begun.await.unwrap().total, 100_000);
    for send in [&waiting, &to_topic] {
        let send = Send {
            last_user_id: "user-5".into(),
            ..send.clone()
        };
        let next = explained
            .at_most("recipients", 50.0, store.recipients(&send, 50))
            .await;
        assert_eq!(next.len(), 50);
        let step = Step {
            last_user_id: "user-6".into(),
            tally: Tally::default(),
            is_last: false,
        };
        explained
            .at_most("an advance", 1.0, store.advance(&send, &step, now))
            .await;
        explained
            .at_most("a delay", 1.0, store.postpone(&send, now))
            .await;
    }
    let of_a_send = Mutation::Send(NewNotification {
        part_of: Some(PartOf {
            organization_id: to_topic.organization_id.clone(),
            send_id: to_topic.id,
            accepted_at: now,
        }),
        ..send(large(), 1 << 42)
    });
    let batch = [of_a_send];
    explained
        .at_most("a part of a send", 1.0, store.commit(&batch, now))
        .await;
    explained
        .at_most(
            "a cancel",
            1.0,
            store.cancel(&organization, waiting.id, now),
        )
        .await;
    // Each with the hundred that it is for.
    let ended = Timestamp::from_micros(1_000);
    let forgotten = explained
        .at_most("ended sends", 800.0, store.forget_sends(ended, 8))
        .await;
    assert_eq!(forgotten, 8);
    let one = InboxKey::parse("acme", "user-1").unwrap();
    explained
        .at_most("a recipient", 10.0, store.forget_recipient(&one))
        .await;
    let deleted = store.delete_sends(&organization, 8);
    explained
        .at_most("sends of an organization", 900.0, deleted)
        .await;

    let (some, others) = (users(1, 100), users(200_000, 100));
    let added = store.add_members(&organization, &topic, &others);
    assert_eq!(explained.at_most("new members", 100.0, added).await, 100);
    let removed = store.remove_members(&organization, &topic, &some);
    assert_eq!(
        explained.at_most("members removed", 100.0, removed).await,
        100
    );
    let after = users(5, 1).pop();
    let members = store.members(&organization, &topic, after.as_ref(), 50);
    assert_eq!(explained.at_most("members", 50.0, members).await.len(), 50);
    let of = store.topics_of(&one, Some(&topic), 50);
    assert_eq!(explained.at_most("topics of one", 50.0, of).await.len(), 50);
    let emptied = store.empty_topic(&organization, &topic, 100);
    assert_eq!(
        explained.at_most("a topic emptied", 200.0, emptied).await,
        100
    );
    explained
        .at_most("a member", 1001.0, store.forget_member(&one))
        .await;
    let forgotten = store.forget_members(&organization, 100);
    assert_eq!(
        explained
            .at_most("members forgotten", 200.0, forgotten)
            .await,
        100
    );
}

/// Beside rows of 200,000 that are about a thousand things.
async fn retractions(explained: &mut Explained) {
    let store = explained.store.clone();
    let now = SystemClock.now();
    let new = NewRetraction {
        organization_id: large().organization_id,
        id: id(1 << 43),
        about: about(),
        idempotency_key: "project-7".into(),
        sender: "backend".into(),
    };
    let accept = store.accept_retraction(&new, now);
    let (accepted, _) = explained.at_most("a retraction", 1.0, accept).await;
    let due = store.due_retractions(now, 4);
    let due = explained.at_most("retractions due", 1.0, due).await;
    assert_eq!(due, [accepted]);
    let broadcasts = store.broadcasts_about(&due[0]);
    explained.at_most("broadcasts", 1.0, broadcasts).await;
    let rows = store.rows_about(&due[0], 20);
    let rows = explained.at_most("rows about it", 20.0, rows).await;
    assert_eq!(rows.len(), 20);
    let after = Retraction {
        last_user_id: rows[9].inbox.user_id.as_str().to_owned(),
        last_sequence: rows[9].sequence,
        ..due[0].clone()
    };
    let next = store.rows_about(&after, 10);
    let next = explained.at_most("rows after them", 20.0, next).await;
    assert_eq!(next[..], rows[10..]);
    let step = retractions::Step {
        last: rows.last().cloned(),
        retracted: 20,
        errors: 0,
        is_last: true,
    };
    let advance = store.advance_retraction(&due[0], &step, now);
    explained.at_most("a piece of it", 1.0, advance).await;
    let forget = store.forget_ended_retractions(now, 8);
    let forgotten = explained.at_most("ended retractions", 2.0, forget).await;
    assert_eq!(forgotten, 1);
    let organization = large().organization_id;
    let deleted = store.delete_retractions(&organization, 8);
    explained.at_most("retractions deleted", 2.0, deleted).await;
}

/// A hundred thousand were told of, and as many wait, nearly all of them for later.
const FILL_FOLLOW_UPS: [&str; 4] = [
    "INSERT INTO follow_ups (organization_id, position, user_id, sequence, due_at, \
     follow_up_unless, told_at) SELECT organization_id, sequence, user_id, sequence, sequence, 2, \
     sequence FROM notifications WHERE user_id = 'large'",
    "INSERT INTO follow_up_logs (organization_id, last_position) VALUES ('acme', 1000000)",
    "UPDATE notifications SET follow_up_unless = 2, follow_up_at = CASE WHEN sequence <= 5 \
     THEN sequence ELSE 4000000000000000 END WHERE user_id <> 'large'",
    "VACUUM ANALYZE notifications, follow_ups",
];

async fn follow_ups(explained: &mut Explained) {
    for statement in FILL_FOLLOW_UPS {
        let database = &explained.database;
        explained.postgres.execute(database, statement).await;
    }
    explained.said();
    let store = explained.store.clone();
    let organization = large().organization_id;
    let epoch = Some(store.head(&large()).await.unwrap().epoch);
    for (position, most, found) in [(0, 100.0, 100), (50_000, 100.0, 100), (1_000_000, 1.0, 0)] {
        let after = After {
            epoch: epoch.clone(),
            position,
        };
        let list = store.follow_ups(&organization, &after, 100);
        let (_, list) = explained.at_most("follow-ups", most, list).await;
        assert_eq!(list.len(), found);
    }
    let inbox = large();
    let told_at = store.followed_up_at(&inbox, Revision::new(7));
    explained.at_most("when it was told", 1.0, told_at).await;
    let due = store.due(Due::FollowUp, SystemClock.now(), &[], 32);
    let due = explained.at_most("follow-ups due", 32.0, due).await;
    assert_eq!(due.len(), 32);
    let batch = [Mutation::FollowUp {
        inbox: due[0].inbox.clone(),
        ids: vec![due[0].id],
        until: SystemClock.now(),
    }];
    let tell = store.commit(&batch, SystemClock.now());
    explained.at_most("a follow-up", 1.0, tell).await;
    let old = Timestamp::from_micros(1000);
    let forget = store.forget_follow_ups(old, 100);
    assert_eq!(
        explained.at_most("old follow-ups", 100.0, forget).await,
        100
    );
}

/// Where nothing is due in a large table, which is how it mostly is: statistics know
/// nothing of how few rows are found.
async fn nothing_due(explained: &mut Explained) {
    let of_none = "UPDATE notifications SET expire_time = NULL, archived_at = NULL, \
                   removed_at = NULL, removal_cause = NULL";
    for statement in [of_none, "VACUUM ANALYZE notifications"] {
        let database = &explained.database;
        explained.postgres.execute(database, statement).await;
    }
    explained.said();
    let store = explained.store.clone();
    for what in [Due::Expiry, Due::Archived, Due::Removed] {
        let due = store.due(what, SystemClock.now(), &[], 32);
        let due = explained.at_most(&format!("no {what:?}"), 1.0, due).await;
        assert_eq!(due, []);
    }
}

async fn sweep(explained: &mut Explained) {
    let store = explained.store.clone();
    let inbox = large();
    let day = Duration::from_secs(10);
    let lease = store.lease(id(1), SystemClock.now(), day);
    explained.at_most("the lease", 1.0, lease).await;
    let failed: Vec<_> = (0..10)
        .map(|user| InboxKey::parse("acme", &format!("user-{user}")).unwrap())
        .collect();
    for but in [&[][..], &failed] {
        // Few rows of those that are left alone are among the first.
        let most = 128.0 + 20.0 * 10.0;
        for what in [Due::Expiry, Due::Archived, Due::Removed] {
            let due = store.due(what, SystemClock.now(), but, 128);
            let due = explained.at_most(&format!("{what:?}"), most, due).await;
            assert_eq!(due.len(), 128);
        }
        let aged = store.aged(SystemClock.now(), but, 128);
        assert_eq!(explained.at_most("aged", most, aged).await.len(), 128);
    }
    let none = store.due(Due::Expiry, Timestamp::from_micros(1), &[], 128);
    assert!(explained.at_most("none due", 1.0, none).await.is_empty());
    for (which, most) in [(Kept::All, 128.0), (Kept::Live, 128.0), (Kept::Done, 200.0)] {
        let oldest = store.oldest(&inbox, which, 128);
        let oldest = explained
            .at_most(&format!("the oldest of {which:?}"), most, oldest)
            .await;
        assert_eq!(oldest.rows.len(), 128);
    }
    // Of ten thousand rows none is read.
    let unread = InboxKey::parse("acme", "unread").unwrap();
    let oldest = store.oldest(&unread, Kept::Done, 128);
    let oldest = explained.at_most("none done", 1.0, oldest).await;
    assert_eq!((oldest.rows.len(), oldest.row_count), (0, 10_000));
    let looked_at = store.looked_at(&inbox, Timestamp::from_micros(1), 90_000);
    explained.at_most("looked at", 1.0, looked_at).await;
    let after = inbox.user_id.clone();
    let inboxes = store.inboxes(&inbox.organization_id, Some(&after), 100);
    let inboxes = explained.at_most("inboxes", 101.0, inboxes).await;
    assert_eq!(inboxes.len(), 100);
}
