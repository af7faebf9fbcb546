//! What nodes share, at the size of a million rooms: a Postgres, and a NATS.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use doorbell::{
    bus::{self, Bus, nats::Nats as NatsBus},
    clock::{Clock as _, SystemClock},
    config::{BusSettings, FeedSettings, StoreSettings},
    hub::{Received, Subscription},
    model::{
        Change, Head, InboxEvent, InboxKey, Notification, OrganizationId, Revision, Row, RowState,
    },
    random::SystemRandom,
    store::{Sharing, Store as _, postgres::Postgres as PostgresStore},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    CALLERS, Failure, MANY, PATIENCE, STRIDE,
    common::{
        cpu_of,
        engines::{self, Nats, Postgres},
        grouped, new_notification,
    },
    store::{ORGANIZATIONS, inbox},
};

/// The most heads that the service reads by one statement.
const BATCH: usize = 256;
const ROUND: Duration = Duration::from_secs(4);
/// Long enough that the log is written back meanwhile.
const SENDING: Duration = Duration::from_secs(15);
/// Rows of each of the first inboxes.
const ROWS: usize = 3;
const WITH_ROWS: usize = 100_000;

/// Heads a second of a million inboxes in Postgres, by one node, which reads a batch at a
/// time, and by four; the room that heads and rows take; and sends a second to any of them.
pub async fn heads() -> Result<(), Failure> {
    let postgres = Postgres::start();
    // Room for its log, as the guide has it.
    for setting in [
        "ALTER SYSTEM SET max_wal_size = '8GB'",
        "ALTER SYSTEM SET min_wal_size = '1GB'",
        "SELECT pg_reload_conf()",
    ] {
        postgres.execute("postgres", setting).await;
    }
    let url = postgres.create_database().await;
    let settings = StoreSettings {
        database_url: Some(url.as_str().into()),
        ..StoreSettings::default()
    };
    let store = PostgresStore::open(&settings, Sharing::Shared, &SystemRandom).await?;
    let store = Arc::new(store);
    let (organization, user) = (
        format!("'organization-' || lpad((n % {ORGANIZATIONS})::text, 4, '0')"),
        "'00000000-0000-0000-0000-' || lpad(to_hex(n), 12, '0')",
    );
    let made = format!(
        "INSERT INTO inboxes (organization_id, user_id, revision, unread_count, unseen_count, \
         row_count, last_created_at, oldest_at) SELECT {organization}, {user}, 3, 3, 3, 3, 1, 1 \
         FROM generate_series(0, {}) AS n",
        MANY - 1
    );
    engines::execute(&url, &made).await;
    engines::execute(&url, "VACUUM ANALYZE inboxes").await;
    for nodes in [1, 4] {
        let began = Instant::now();
        let mut readers = JoinSet::new();
        for node in 0..nodes {
            let store = store.clone();
            // Each begins somewhere else.
            let first = node * MANY / nodes;
            readers.spawn(async move {
                let mut read = 0;
                while began.elapsed() < ROUND {
                    let turns = read..read + BATCH;
                    let keys = turns.map(|turn| inbox((first + turn.wrapping_mul(STRIDE)) % MANY));
                    let keys = keys.collect::<Result<Vec<_>, _>>()?;
                    let heads = store.heads(&keys).await?;
                    if heads.iter().any(|head| head.head.revision.get() != 3) {
                        return Err("a head is not as it was made".into());
                    }
                    read += heads.len();
                }
                Ok::<_, Failure>(read)
            });
        }
        let mut read = 0;
        while let Some(ended) = readers.join_next().await {
            read += ended??;
        }
        let a_second = read as f64 / began.elapsed().as_secs_f64();
        println!("heads of {MANY} inboxes a second from Postgres, {nodes} nodes: {a_second:.0}");
    }
    let size = async |table: &str| {
        let size = format!("SELECT pg_total_relation_size('{table}')");
        engines::number(&url, &size).await as f64
    };
    let log = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
    let a_head = size("inboxes").await / MANY as f64;
    let before = engines::number(&url, log).await;
    engines::execute(&url, &rows(&organization, user)).await;
    let log = (engines::number(&url, log).await - before) as f64;
    let count = (ROWS * WITH_ROWS) as f64;
    let a_row = size("notifications").await / count;
    println!(
        "room in Postgres, with the indexes: {a_head:.0} bytes a head, {a_row:.0} a row, and {:.0} \
         of log a row",
        log / count
    );
    let random = |turn: usize| {
        let inbox = inbox(turn.wrapping_mul(STRIDE) % MANY)?;
        Ok(new_notification(inbox))
    };
    store.close().await;
    // What was filled in is not to be written back beside what is measured.
    engines::execute(&url, "CHECKPOINT").await;
    let store = PostgresStore::open(&settings, Sharing::Shared, &SystemRandom).await?;
    let (sends, batch) = grouped(store, CALLERS, SENDING, random).await?;
    println!(
        "durable sends a second to any of {MANY} inboxes in Postgres, {CALLERS} callers: \
         {sends:.0}, in groups of {batch}"
    );
    Ok(())
}

/// Ordinary rows, in the order in which they would come: those of an inbox are apart.
fn rows(organization: &str, user: &str) -> String {
    let new = new_notification_text();
    format!(
        "INSERT INTO notifications (organization_id, user_id, sequence, id, revision, \
         ring_revision, type, title, body, entity_type, entity_id, action_url, sender, \
         idempotency_key, fingerprint, created_at, sent_at) \
         SELECT {organization}, {user}, r, gen_random_uuid(), r, r, {new}, 'backend', \
         gen_random_uuid()::text, sha256(n::text::bytea), 1, 1 \
         FROM generate_series(1, {ROWS}) AS r, generate_series(0, {}) AS n ORDER BY r, n",
        WITH_ROWS - 1
    )
}

/// What an ordinary notification says, as SQL.
fn new_notification_text() -> String {
    let new = super::common::notification("");
    let content = [
        new.r#type,
        new.title,
        new.body.unwrap_or_default(),
        new.entity_type.unwrap_or_default(),
        new.entity_id.unwrap_or_default(),
        new.action_url.unwrap_or_default(),
    ];
    content.map(|text| format!("'{text}'")).join(", ")
}

/// So many events are on their way at a time.
const WINDOW: usize = 500;

/// Events a second from one node over NATS to others that follow the organization and have
/// none of the rooms but one, by which they tell that they are through.
pub async fn events() -> Result<(), Failure> {
    let nats = Nats::start();
    let server = server_of(&nats)?;
    let settings = BusSettings {
        nats_url: Some(nats.url().into()),
        ..BusSettings::default()
    };
    let node = async || {
        let hub = bus::hub(&FeedSettings::default());
        NatsBus::open(&settings, Uuid::nil(), hub, Arc::new(SystemRandom))
            .await
            .map(Bus::Nats)
    };
    let organization = OrganizationId::parse("acme")?;
    let of = |user: &str| InboxKey::parse(organization.as_str(), user);
    let last = of("last")?;
    let event = event(&last);
    for count in [1, 3] {
        let from = node().await?;
        let mut nodes = Vec::new();
        let mut subscriptions = Vec::new();
        for _ in 0..count {
            let node = node().await?;
            while from.trouble().is_some() || node.trouble().is_some() {
                sleep(Duration::from_millis(10)).await;
            }
            subscriptions.push(node.join(&last).await?);
            nodes.push(node);
        }
        let users: Vec<_> = (1..WINDOW)
            .map(|number| of(&format!("user-{number}")))
            .collect::<Result<_, _>>()?;
        let cpu = || -> Result<_, Failure> { Ok((cpu_of(std::process::id())?, cpu_of(server)?)) };
        let (began, before) = (Instant::now(), cpu()?);
        let mut sent = 0;
        while began.elapsed() < ROUND {
            for user in users.iter().chain([&last]) {
                from.publish(user, std::slice::from_ref(&event));
            }
            sent += WINDOW;
            for subscription in &mut subscriptions {
                timeout(PATIENCE, a_run(subscription)).await?;
            }
        }
        let took = began.elapsed().as_secs_f64();
        let (ours, theirs) = cpu()?;
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / sent as f64;
        println!(
            "events a second over NATS, to {count} nodes: {:.0}; CPU of each, in microseconds: \
             {:.1} of all nodes, {:.1} of NATS",
            sent as f64 / took,
            each(ours - before.0),
            each(theirs - before.1)
        );
    }
    Ok(())
}

async fn a_run(subscription: &mut Subscription) {
    while !matches!(subscription.receive().await, Received::Run(_)) {}
}

/// An ordinary send's.
fn event(inbox: &InboxKey) -> InboxEvent {
    let new = new_notification(inbox.clone());
    let revision = Revision::new(1);
    let now = SystemClock.now();
    let notification = Notification {
        row: Row {
            id: new.id,
            sequence: revision,
            revision,
            ring_revision: revision,
            state: RowState::default(),
        },
        content: new.content,
        sender: new.sender,
        created_at: now,
        sent_at: now,
        expire_time: None,
        collapse_key: None,
        collapsed_count: 0,
    };
    InboxEvent {
        head: Head {
            revision,
            unread_count: 1,
            unseen_count: 1,
            ..Head::default()
        },
        change: Change::Notification(notification),
    }
}

/// The process that listens there.
fn server_of(nats: &Nats) -> Result<u32, Failure> {
    let port = nats.address.port().to_string();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // A process may end meanwhile, and not all there are processes.
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0');
        let is_server = words
            .next()
            .is_some_and(|name| name.ends_with("nats-server"));
        if is_server && words.any(|word| word == port) {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    Err("there is no nats-server".into())
}
