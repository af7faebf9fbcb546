//! What several nodes cost: durable writes on Postgres beside one transaction a
//! send and beside the barest batch insert that it can do; an event's way from
//! node to node beside that of a bare NATS message; and sends with one, two and
//! three nodes on one Postgres.
//!
//! Postgres, NATS, the nodes and what loads them share the machine's cores.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a program that prints figures"
)]

mod common;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Failure, Server,
    engines::{self, Nats, Postgres},
    median, notification, report, token, with_token,
};
use doorbell::{
    bus::{self, Bus, nats::Nats as NatsBus},
    clock::{Clock as _, SystemClock},
    config::{BusSettings, FeedSettings, StoreSettings},
    hub::Received,
    model::{
        Change, Head, InboxEvent, InboxKey, NewNotification, Notification, Revision, Row, RowState,
    },
    random::SystemRandom,
    store::{Sharing, postgres::Postgres as PostgresStore},
};
use futures_util::StreamExt as _;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

const ROUNDS: usize = 9;
const AT_ONCE: usize = 64;
const USERS: usize = 1000;
/// Connections that write, of each of the three that are compared.
const WRITERS: usize = 4;
const ROUND: Duration = Duration::from_secs(2);

fn main() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let postgres = Postgres::start();
            writes(&postgres).await?;
            hop().await?;
            nodes(&postgres).await
        })
}

async fn writes(postgres: &Postgres) -> Result<(), Failure> {
    let (mut to_single, mut to_bare, mut many_to_bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut with_preferences = Vec::new();
    for _ in 0..ROUNDS {
        let (grouped, batch) = grouped(postgres).await?;
        let single = single(postgres).await?;
        let bare_of_sends = bare(postgres, batch, new).await?;
        println!(
            "  sends a second: {grouped:.0} in groups of {batch} on average, {single:.0} one a \
             transaction, {bare_of_sends:.0} rows by a bare insert of as many"
        );
        to_single.push(grouped / single);
        to_bare.push(grouped / bare_of_sends);
        let chosen_at = store(&postgres.create_database().await).await?;
        common::turn_off(&chosen_at, USERS, new).await?;
        let (chosen, _) = common::grouped(chosen_at, AT_ONCE, ROUND, new).await?;
        println!("  {chosen:.0} sends a second to people who turned other types off");
        with_preferences.push(chosen / grouped);
        let url = postgres.create_database().await;
        let (many, batch) = common::to_many(store(&url).await?, ROUND, new).await?;
        let bare = bare(postgres, batch, |number| common::keyed(new, number)).await?;
        println!(
            "  to many: {many:.0} rows a second in groups of {batch}, {bare:.0} by a bare insert \
             of as many"
        );
        many_to_bare.push(many / bare);
    }
    let what = "durable sends on Postgres, 64 at once, to one transaction a send (pgbench)";
    report(what, median(&mut to_single), 4.0, "x", true);
    let what = "durable sends on Postgres, 64 at once, to a bare batch insert";
    report(what, median(&mut to_bare), 0.7, "x", true);
    let what = "durable sends on Postgres to people who turned 20 other types off, to those who \
                said nothing";
    report(what, median(&mut with_preferences), 0.9, "x", true);
    let what = "rows of SendToMany on Postgres, to a bare batch insert";
    report(what, median(&mut many_to_bare), 0.6, "x", true);
    Ok(())
}

fn new(number: usize) -> Result<NewNotification, Failure> {
    let inbox = InboxKey::parse("acme", &format!("user-{}", number % USERS))?;
    Ok(common::new_notification(inbox))
}

async fn store(url: &str) -> Result<PostgresStore, Failure> {
    let settings = StoreSettings {
        database_url: Some(url.into()),
        database_writers: WRITERS,
        ..StoreSettings::default()
    };
    Ok(PostgresStore::open(&settings, Sharing::Shared, &SystemRandom).await?)
}

/// Sends a second at `Inboxes::send`, and how many a transaction took on average.
async fn grouped(postgres: &Postgres) -> Result<(f64, usize), Failure> {
    let url = postgres.create_database().await;
    common::grouped(store(&url).await?, AT_ONCE, ROUND, new).await
}

/// The statements of a send, a transaction for each, by pgbench on as many
/// connections.
async fn single(postgres: &Postgres) -> Result<f64, Failure> {
    let url = postgres.create_database().await;
    // The schema, and a head for each user: making them is not measured.
    store(&url).await?;
    engines::execute(
        &url,
        &format!(
            "INSERT INTO inboxes (organization_id, user_id) \
             SELECT 'acme', 'user-' || number FROM generate_series(0, {}) AS number",
            USERS - 1
        ),
    )
    .await;
    let new = notification("");
    let content = [
        new.r#type,
        new.title,
        new.body.unwrap_or_default(),
        new.entity_type.unwrap_or_default(),
        new.entity_id.unwrap_or_default(),
        new.action_url.unwrap_or_default(),
    ]
    .map(|text| format!("'{text}'"))
    .join(", ");
    let script = format!(
        "\\set number random(0, {})\n\
         BEGIN;\n\
         SELECT i.revision + 1 AS revision, i.unread_count + 1 AS unread \
         FROM unnest(ARRAY['acme'], ARRAY['user-' || :number]) AS w (organization_id, user_id) \
         JOIN inboxes AS i ON i.organization_id = w.organization_id AND i.user_id = w.user_id \
         ORDER BY i.organization_id, i.user_id FOR UPDATE OF i \\gset\n\
         WITH made AS (INSERT INTO notifications (organization_id, user_id, sequence, id, \
         revision, type, title, body, entity_type, entity_id, action_url, sender, created_at) \
         VALUES ('acme', 'user-' || :number, :revision, gen_random_uuid(), :revision, {content}, \
         'backend', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)) \
         UPDATE inboxes SET revision = :revision, unread_count = :unread, last_created_at = 1 \
         WHERE organization_id = 'acme' AND user_id = 'user-' || :number;\n\
         COMMIT;\n",
        USERS - 1
    );
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("send.sql");
    std::fs::write(&file, script)?;
    let connections = WRITERS.to_string();
    let ran = Command::new(Postgres::binary("pgbench"))
        .args(["-n", "-M", "prepared", "-j", "2", "-c", &connections, "-T"])
        .arg(ROUND.as_secs().to_string())
        .arg("-f")
        .args([file.to_str().ok_or("path")?, &url])
        .output()?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let number = line.and_then(|line| line.split(' ').next());
    let number = number.ok_or_else(|| format!("{text}{}", String::from_utf8_lossy(&ran.stderr)))?;
    Ok(number.parse()?)
}

/// Rows a second by one prepared `unnest` insert of `batch` rows a transaction, on
/// as many connections: the same table and indexes, the same syncs, and nothing
/// else.
async fn bare(postgres: &Postgres, batch: usize, new: common::New) -> Result<f64, Failure> {
    let url = postgres.create_database().await;
    store(&url).await?;
    let began = Instant::now();
    let inserted = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..WRITERS {
        let mut connection = PgConnection::connect(&url).await?;
        let inserted = inserted.clone();
        tasks.push(tokio::spawn(async move {
            while began.elapsed() < ROUND {
                let first = inserted.fetch_add(batch, Ordering::Relaxed);
                insert(&mut connection, first, batch, new).await?;
            }
            Ok::<_, Failure>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let took = began.elapsed().as_secs_f64();
    Ok(inserted.load(Ordering::Relaxed) as f64 / took)
}

async fn insert(
    connection: &mut PgConnection,
    first: usize,
    batch: usize,
    new: common::New,
) -> Result<(), Failure> {
    const INSERT: &str = "INSERT INTO notifications (organization_id, user_id, sequence, id, \
         revision, type, title, body, entity_type, entity_id, action_url, sender, created_at, \
         idempotency_key, fingerprint) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[], $5::bigint[], \
         $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], \
         $13::bigint[], $14::text[], $15::bytea[])";
    let rows: Vec<NewNotification> = (first..first + batch).map(new).collect::<Result<_, _>>()?;
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|$row| $value).collect::<Vec<_>>()
        };
    }
    let sequences = (first..first + batch)
        .map(|number| i64::try_from(number / USERS + 1))
        .collect::<Result<Vec<_>, _>>()?;
    let now = SystemClock.now().as_micros();
    sqlx::query(INSERT)
        .bind(column!(row => row.inbox.organization_id.as_str()))
        .bind(column!(row => row.inbox.user_id.as_str()))
        .bind(&sequences)
        .bind(column!(row => row.id))
        .bind(&sequences)
        .bind(column!(row => row.content.kind.as_str()))
        .bind(column!(row => row.content.title.as_str()))
        .bind(column!(row => row.content.body.as_deref()))
        .bind(column!(row => row.content.entity_type.as_deref()))
        .bind(column!(row => row.content.entity_id.as_deref()))
        .bind(column!(row => row.content.action_url.as_deref()))
        .bind(column!(row => &*row.sender))
        .bind(vec![now; batch])
        .bind(column!(row => row.idempotency_key.as_deref()))
        .bind(column!(row => row.idempotency_key.as_ref().map(|_| row.content.fingerprint().to_vec())))
        .execute(connection)
        .await?;
    Ok(())
}

const HOPS: usize = 5000;

/// An event from one node's bus to a stream's room on another, and in turn with it
/// a bare message of the same length from client to client.
async fn hop() -> Result<(), Failure> {
    let nats = Nats::start();
    let settings = BusSettings {
        nats_url: Some(nats.url().into()),
        ..BusSettings::default()
    };
    let node = async || {
        let hub = bus::hub(&FeedSettings::default());
        NatsBus::open(&settings, uuid::Uuid::nil(), hub, Arc::new(SystemRandom))
            .await
            .map(Bus::Nats)
    };
    let (from, to) = (node().await?, node().await?);
    while from.trouble().is_some() || to.trouble().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ann = InboxKey::parse("acme", "ann")?;
    let mut subscription = to.join(&ann).await?;
    let (sender, receiver) = (
        async_nats::connect(nats.url()).await?,
        async_nats::connect(nats.url()).await?,
    );
    let mut bare = receiver.subscribe("bare").await?;
    receiver.flush().await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let new = common::new_notification(ann.clone());
    let (mut hops, mut bares) = (Vec::new(), Vec::new());
    for number in 1..=HOPS as u64 {
        let revision = Revision::new(number);
        let row = Row {
            id: Uuid::from_u128(u128::from(number)),
            sequence: revision,
            revision,
            ring_revision: revision,
            state: RowState::default(),
        };
        let notification = Notification {
            row,
            content: new.content.clone(),
            sender: new.sender.clone(),
            created_at: SystemClock.now(),
            sent_at: SystemClock.now(),
            expire_time: None,
            collapse_key: None,
            collapsed_count: 0,
        };
        let head = Head {
            revision,
            unread_count: 1,
            ..Head::default()
        };
        let change = Change::Notification(notification);
        let began = Instant::now();
        from.publish(&ann, &[InboxEvent { head, change }]);
        while !matches!(subscription.receive().await, Received::Run(_)) {}
        hops.push(began.elapsed().as_secs_f64() * 1e6);

        let began = Instant::now();
        sender.publish("bare", vec![7; 300].into()).await?;
        bare.next().await.ok_or("the subscription ended")?;
        bares.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let (hop, bare) = (median(&mut hops), median(&mut bares));
    println!("  medians: {hop:.0} µs from bus to room, {bare:.0} µs a bare message");
    let what = "an event from node to node, to a bare NATS message, median";
    report(what, hop / bare, 2.0, "x", false);
    Ok(())
}

const CALLERS: usize = 48;
const LOAD: Duration = Duration::from_secs(6);

/// Sends a second over gRPC with one, two and three nodes on one Postgres.
async fn nodes(postgres: &Postgres) -> Result<(), Failure> {
    let nats = Nats::start();
    for count in 1..=3 {
        let database = postgres.create_database().await;
        let settings = [
            ("DOORBELL_DATABASE_URL", database.as_str()),
            ("DOORBELL_NATS_URL", &nats.url()),
        ];
        let nodes = (0..count)
            .map(|_| Server::start(&settings))
            .collect::<Result<Vec<_>, _>>()?;
        let began = Instant::now();
        let mut callers = Vec::new();
        for caller in 0..CALLERS {
            let mut client = nodes[caller % count].connect().await?;
            let token = token(None)?;
            callers.push(tokio::spawn(async move {
                let mut sent = 0;
                while began.elapsed() < LOAD {
                    let user = format!("user-{}", (sent * CALLERS + caller) % USERS);
                    let request = with_token(notification(&user), &token);
                    client.send_in_app(request).await?;
                    sent += 1;
                }
                Ok::<usize, Failure>(sent)
            }));
        }
        let mut sent = 0;
        for caller in callers {
            sent += caller.await??;
        }
        let a_second = sent as f64 / began.elapsed().as_secs_f64();
        println!("sends a second over gRPC, {count} nodes, {CALLERS} callers: {a_second:.0}");
    }
    Ok(())
}
