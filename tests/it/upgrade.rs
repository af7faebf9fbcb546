//! A database that the first schema made, opened by this program.

use std::sync::Arc;

use doorbell::{
    clock::Timestamp,
    model::{
        Content, Data, Epoch, Head, NewNotification, Notification, Revision, Row, RowState, View,
    },
    store::{
        About, Cursor, Edit, Edited, Mutation, NotSent, Outcome, PageLimit, RecentQuery, Sent,
        Store, Verb, Which,
    },
};
use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};
use uuid::Uuid;

use crate::{
    engines::{self, Postgres},
    support::{self, ann, at, content, neighbour, rev},
};

fn first_schema(sql: &'static str) -> Migrator {
    let kind = MigrationType::Simple;
    let migration = Migration::new(1, "inboxes".into(), kind, sql.into_sql_str(), false);
    Migrator::with_migrations(vec![migration])
}

const EPOCH: &str = "0123456789abcdef0123456789abcdef";

/// All that a sender could say.
fn full() -> Content {
    Content {
        body: Some("a body".into()),
        entity_type: Some("invoice".into()),
        entity_id: Some("7".into()),
        action_url: Some("/invoices/7".into()),
        data: Some(Data::from_canonical(r#"{"a":[1,null],"b":"x"}"#.into())),
        ..content("keyed")
    }
}

/// A row that was there, and has not been heard since.
fn row(sequence: u64, revision: u64, state: RowState, content: Content) -> Notification {
    Notification {
        row: Row {
            id: Uuid::from_u128(sequence.into()),
            sequence: rev(sequence),
            revision: rev(revision),
            ring_revision: Revision::ZERO,
            state,
        },
        content: Arc::new(content),
        sender: "backend".into(),
        created_at: at(1000 + i64::try_from(sequence).unwrap()),
        sent_at: at(1000 + i64::try_from(sequence).unwrap()),
        expire_time: None,
        collapse_key: None,
        collapsed_count: 0,
    }
}

/// What is in ann's inbox, in the order of the last changes.
fn rows() -> [Notification; 4] {
    let unread = RowState::default();
    let read = RowState {
        read_at: Some(at(2000)),
        ..unread
    };
    let archived = RowState {
        archived_at: Some(at(3000)),
        ..unread
    };
    [
        row(1, 1, unread, full()),
        row(4, 4, unread, content("unread")),
        row(2, 5, read, content("read")),
        row(3, 6, archived, content("archived")),
    ]
}

/// Statements that fill the first schema, in an engine's words for ids and bytes.
fn filled(id: fn(Uuid) -> String, bytes: fn(&[u8]) -> String) -> String {
    let text = |text: &Option<String>| {
        let quoted = text.as_ref().map(|text| format!("'{text}'"));
        quoted.unwrap_or_else(|| "NULL".into())
    };
    let time = |time: Option<Timestamp>| {
        let number = time.map(|time| time.as_micros().to_string());
        number.unwrap_or_else(|| "NULL".into())
    };
    let mut statements = format!(
        "INSERT INTO doorbell (id, epoch) VALUES (1, '{EPOCH}'); \
         INSERT INTO inboxes (organization_id, user_id, revision, unread_count, floor, \
         last_created_at) VALUES ('acme', 'ann', 6, 2, 0, 1004), ('globex', 'ann', 3, 1, 2, 1003);"
    );
    let theirs = row(3, 3, RowState::default(), content("theirs"));
    let ours = rows().map(|row| ("acme", row));
    for (
        organization,
        Notification {
            row,
            content,
            sender,
            created_at,
            ..
        },
    ) in ours.into_iter().chain([("globex", theirs)])
    {
        let (key, fingerprint) = match content.title.as_str() {
            "keyed" => ("'k'", bytes(&content.fingerprint())),
            _ => ("NULL", "NULL".to_owned()),
        };
        let data = content.data.as_ref().map(|data| data.as_str().to_owned());
        let values = [
            format!("'{organization}', 'ann', {}, {}", row.sequence, id(row.id)),
            format!("{}, '{}', '{}'", row.revision, content.kind, content.title),
            [&content.body, &content.entity_type, &content.entity_id]
                .map(text)
                .join(", "),
            [&content.action_url, &data].map(text).join(", "),
            format!(
                "'{sender}', {key}, {fingerprint}, {}",
                created_at.as_micros()
            ),
            [row.state.read_at, row.state.archived_at]
                .map(time)
                .join(", "),
        ];
        statements += &format!(
            "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, type, \
             title, body, entity_type, entity_id, action_url, data, sender, idempotency_key, \
             fingerprint, created_at, read_at, archived_at) VALUES ({});",
            values.join(", ")
        );
    }
    statements
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const NO_LIMIT: PageLimit = PageLimit {
    rows: 100,
    bytes: usize::MAX,
};

fn send(number: u128, key: Option<&str>, content: Content) -> Mutation {
    Mutation::Send(NewNotification {
        idempotency_key: key.map(str::to_owned),
        ..NewNotification::new(
            ann(),
            Uuid::from_u128(number),
            Arc::new(content),
            "backend".into(),
        )
    })
}

async fn changes(store: &dyn Store, after: u64) -> Vec<Notification> {
    let cursor = Cursor::after(rev(after));
    store.changes(&ann(), cursor, NO_LIMIT).await.unwrap().rows
}

async fn listed(store: &dyn Store, unread_only: bool) -> Vec<u64> {
    let query = RecentQuery {
        unread_only,
        ..RecentQuery::new(NO_LIMIT)
    };
    let rows = store.recent(&ann(), query).await.unwrap().rows;
    rows.iter().map(|found| found.row.sequence.get()).collect()
}

/// Nothing is lost, nothing is unknown, and nobody has looked yet.
async fn is_all_there(store: &dyn Store) {
    let heads = store.heads(&[ann(), neighbour()]).await.unwrap();
    let said: Vec<_> = heads.iter().map(|of| (of.head, of.floor.get())).collect();
    let head = |revision, unread| Head {
        revision: rev(revision),
        unread_count: unread,
        unseen_count: unread,
        seen_through: Revision::ZERO,
    };
    assert_eq!(said, [(head(6, 2), 0), (head(3, 1), 2)]);
    assert!(heads.iter().all(|of| of.epoch == Epoch::new(EPOCH)));
    // A client comes back with any position that it had.
    assert_eq!(changes(store, 0).await, rows());
    assert_eq!(changes(store, 4).await, rows()[2..]);
    assert_eq!(changes(store, 6).await, []);
    assert_eq!(store.count_changes(&ann(), rev(1), 10).await.unwrap(), 3);
    assert_eq!(listed(store, false).await, [4, 2, 1]);
    assert_eq!(listed(store, true).await, [4, 1]);
}

async fn goes_on(store: &dyn Store) {
    let committed = async |mutation| {
        let mut committed = store.commit(&[mutation], at(500)).await.unwrap();
        committed.outcomes.remove(0)
    };
    let (first, old) = (rows()[0].clone(), store.head(&ann()).await.unwrap().head);
    let again = committed(send(9, Some("k"), full())).await;
    let expected = Sent {
        notification: first,
        duplicate: true,
        head: old,
    };
    assert_eq!(again, Outcome::Sent(Ok(expected)));
    let other = committed(send(9, Some("k"), content("other"))).await;
    assert_eq!(other, Outcome::Sent(Err(NotSent::Mismatch)));

    let about = Verb {
        edit: Edit::Read,
        which: Which::About(About {
            entity_type: "invoice".into(),
            entity_id: "7".into(),
        }),
        view: View::Inbox,
    };
    let selected = store.select(&ann(), &about, Revision::ZERO).await;
    assert_eq!(selected.unwrap().ids, [Uuid::from_u128(1)]);
    // The person looks at what was there, then one comes, and one is read.
    let through = rev(6);
    let inbox = ann();
    let looked = committed(Mutation::Seen { inbox, through }).await;
    let head = |revision, unread, unseen| Head {
        revision: rev(revision),
        unread_count: unread,
        unseen_count: unseen,
        seen_through: rev(6),
    };
    let edited = |changed, head| Outcome::Edited(Edited { changed, head });
    assert_eq!(looked, edited(1, head(7, 2, 0)));
    let Outcome::Sent(Ok(sent)) = committed(send(8, None, content("new"))).await else {
        panic!("it is new")
    };
    assert_eq!((sent.duplicate, sent.head), (false, head(8, 3, 1)));
    assert_eq!(sent.notification.row.ring_revision, rev(8));
    // Whatever the clock says, it is later than all that was there.
    assert_eq!(sent.notification.created_at, at(1005));
    let read = Mutation::Edit {
        inbox: ann(),
        ids: vec![Uuid::from_u128(4), Uuid::from_u128(3), Uuid::from_u128(2)],
        edit: Edit::Read,
        view: View::Inbox,
        through: None,
    };
    assert_eq!(committed(read).await, edited(1, head(9, 2, 1)));
    assert_eq!(listed(store, true).await, [8, 1]);
}

#[tokio::test]
async fn an_sqlite_of_the_first_schema_keeps_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("doorbell.db");
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut old = SqliteConnection::connect(&url).await.unwrap();
    let schema = include_str!("../../migrations/sqlite/0001_inboxes.sql");
    let migrated = first_schema(schema).run_direct(None, &mut old, false).await;
    migrated.unwrap();
    let statements = filled(
        |id| format!("x'{}'", id.simple()),
        |bytes| format!("x'{}'", hexadecimal(bytes)),
    );
    let filled = sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(&mut old)
        .await;
    filled.unwrap();
    old.close().await.unwrap();

    let store = support::sqlite(&directory).await;
    is_all_there(&store).await;
    let id = store.database_id().await.unwrap();
    store.close().await;
    drop(store);
    // And when it is opened the next time.
    let store = support::sqlite(&directory).await;
    is_all_there(&store).await;
    assert_eq!(store.database_id().await.unwrap(), id);
    goes_on(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_of_the_first_schema_keeps_all() {
    let url = Postgres::shared().create_database().await;
    let mut old = PgConnection::connect(&url).await.unwrap();
    let schema = include_str!("../../migrations/postgres/0001_inboxes.sql");
    let migrated = first_schema(schema).run_direct(None, &mut old, false).await;
    migrated.unwrap();
    old.close().await.unwrap();
    let statements = filled(
        |id| format!("'{id}'"),
        |bytes| format!("'\\x{}'", hexadecimal(bytes)),
    );
    engines::execute(&url, &statements).await;

    let store = support::postgres(&url).await;
    is_all_there(&store).await;
    let id = store.database_id().await.unwrap();
    store.close().await;
    // And when it is opened the next time.
    let store = support::postgres(&url).await;
    is_all_there(&store).await;
    assert_eq!(store.database_id().await.unwrap(), id);
    goes_on(&store).await;
    // A node that counts nothing unseen is refused from now on.
    let oldest = engines::number(&url, "SELECT oldest_schema FROM doorbell").await;
    assert_eq!(oldest, 5);
}
