//! The servers that the service is held against: plain tonic, and plain tonic that commits.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
};

use doorbell::{
    clock::{Clock as _, SystemClock, Timestamp},
    config::{StoreSettings, WriterSettings},
    grpc::{
        encoded,
        server::notification_service_server::{NotificationService, NotificationServiceServer},
    },
    proto::{self, SendInAppRequest, SendInAppResponse, subscribe_response::Event},
    random::{Random, SystemRandom},
    wire,
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::{broadcast, mpsc, oneshot};
use tonic::{Request, Response, Status, codegen::BoxStream, transport::Server};
use uuid::Uuid;

use super::{USER, common::Failure};

/// In place of a database: nothing is stored.
pub const NOTHING: &str = "nothing";

/// Serves on `address`; `store` is the URL of a database, or [`NOTHING`].
pub async fn serve(store: &str, address: SocketAddr) -> Result<(), Failure> {
    let rooms = Arc::new(Rooms::default());
    let mut lanes = Vec::new();
    if store.starts_with("postgres") {
        let options = PgConnectOptions::from_str(store)?
            .options([("plan_cache_mode", "force_generic_plan"), ("jit", "off")]);
        for _ in 0..StoreSettings::default().database_writers {
            let connection = options.connect().await?;
            let (lane, jobs) = mpsc::unbounded_channel();
            let written = write_postgres(connection, jobs, rooms.clone());
            tokio::spawn(async move { written.await.inspect_err(|error| eprintln!("{error}")) });
            lanes.push(lane);
        }
    } else if let Some(path) = store.strip_prefix("sqlite://") {
        let connection = rusqlite::Connection::open(path)?;
        let (lane, jobs) = mpsc::unbounded_channel();
        let (committed, mut batches) = mpsc::unbounded_channel::<Vec<Job>>();
        let rooms = rooms.clone();
        tokio::spawn(async move {
            while let Some(mut batch) = batches.recv().await {
                rooms.ring_all(&mut batch);
            }
        });
        thread::spawn(move || {
            let written = write_sqlite(&connection, jobs, &committed);
            written.inspect_err(|error| eprintln!("{error}"))
        });
        lanes.push(lane);
    }
    let service = NotificationServiceServer::new(Service {
        rooms,
        lanes,
        hasher: RandomState::new(),
        last: AtomicI64::new(0),
    });
    Ok(Server::builder()
        .add_service(service)
        .serve(address)
        .await?)
}

struct Service {
    rooms: Arc<Rooms>,
    /// None where nothing is stored; a user is always on the same one.
    lanes: Vec<mpsc::UnboundedSender<Job>>,
    hasher: RandomState,
    last: AtomicI64,
}

#[tonic::async_trait]
impl NotificationService for Service {
    async fn send_in_app(
        &self,
        request: Request<SendInAppRequest>,
    ) -> Result<Response<SendInAppResponse>, Status> {
        let random: &dyn Random = &SystemRandom;
        let now = SystemClock.now();
        let mut row = Row {
            id: random.uuid_v7(now),
            sequence: 0,
            now,
            of: request.into_inner(),
        };
        if self.lanes.is_empty() {
            row.sequence = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            return Ok(Response::new(self.rooms.ring(row)));
        }
        let hash = self.hasher.hash_one(&row.of.recipient_user_id);
        let lane = usize::try_from(hash).unwrap_or(0) % self.lanes.len();
        let (answer, answered) = oneshot::channel();
        // A lane that is gone has said why.
        let _ = self.lanes[lane].send(Job { row, answer });
        let answer = answered.await;
        answer
            .map(Response::new)
            .map_err(|_| Status::internal("not stored"))
    }

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<BoxStream<encoded::SubscribeResponse>>, Status> {
        let user = request
            .metadata()
            .get(USER)
            .and_then(|user| user.to_str().ok());
        let user = user.ok_or_else(|| Status::invalid_argument("no user"))?;
        let room = self.rooms.join(user);
        let first = encoded::SubscribeResponse::new(&proto::SubscribeResponse {
            event: Some(Event::Connected(proto::Connected::default())),
            ..proto::SubscribeResponse::default()
        });
        let events = stream::unfold(room, async |mut room: broadcast::Receiver<_>| {
            Some((Ok(room.recv().await.ok()?), room))
        });
        let stream = stream::once(async { Ok(first) }).chain(events);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// What is sent and when it came.
struct Row {
    id: Uuid,
    sequence: i64,
    now: Timestamp,
    of: SendInAppRequest,
}

struct Job {
    row: Row,
    answer: oneshot::Sender<SendInAppResponse>,
}

/// Who listens, by user.
#[derive(Default)]
struct Rooms(Mutex<HashMap<String, broadcast::Sender<encoded::SubscribeResponse>>>);

impl Rooms {
    fn join(&self, user: &str) -> broadcast::Receiver<encoded::SubscribeResponse> {
        let mut rooms = self.0.lock();
        let room = rooms.entry(user.to_owned());
        room.or_insert_with(|| broadcast::Sender::new(16))
            .subscribe()
    }

    /// Tells the user's stream, and makes the answer.
    fn ring(&self, row: Row) -> SendInAppResponse {
        let revision = row.sequence.unsigned_abs();
        let count = u32::try_from(revision).unwrap_or(u32::MAX);
        let head = Some(proto::Head {
            revision,
            unread_count: count,
            unseen_count: count,
            seen_through: 0,
        });
        let notification = proto::Notification {
            id: row.id.to_string(),
            sequence: revision,
            revision,
            ring_revision: revision,
            r#type: row.of.r#type,
            title: row.of.title,
            body: row.of.body,
            entity_type: row.of.entity_type,
            entity_id: row.of.entity_id,
            action_url: row.of.action_url,
            created_at: Some(wire::time(row.now)),
            sent_at: Some(wire::time(row.now)),
            ..proto::Notification::default()
        };
        let event = encoded::SubscribeResponse::new(&proto::SubscribeResponse {
            position: revision,
            head,
            ring: true,
            event: Some(Event::Notification(notification.clone())),
        });
        let room = self.0.lock().get(&row.of.recipient_user_id).cloned();
        let _ = room.map(|room| room.send(event));
        SendInAppResponse {
            notification: Some(notification),
            head,
            ..SendInAppResponse::default()
        }
    }

    fn ring_all(&self, batch: &mut Vec<Job>) {
        for Job { row, answer } in batch.drain(..) {
            let _ = answer.send(self.ring(row));
        }
    }
}

/// The last sequence of each user.
type Heads = HashMap<String, i64>;

fn count_on(heads: &mut Heads, batch: &mut [Job]) {
    for Job { row, .. } in batch {
        let head = heads.entry(row.of.recipient_user_id.clone()).or_default();
        *head += 1;
        row.sequence = *head;
    }
}

const SENDER: &str = "backend";

fn write_sqlite(
    connection: &rusqlite::Connection,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    committed: &mpsc::UnboundedSender<Vec<Job>>,
) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA cache_size = -16384; \
         PRAGMA temp_store = memory",
    )?;
    let mut begin = connection.prepare("BEGIN IMMEDIATE")?;
    let mut insert = connection.prepare(
        "INSERT INTO notifications (organization_id, user_id, sequence, revision, \
         ring_revision, id, type, title, body, entity_type, entity_id, action_url, sender, \
         created_at, sent_at) \
         VALUES (?1, ?2, ?3, ?3, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)",
    )?;
    let mut count = connection.prepare(
        "INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
         unseen_count, row_count, last_created_at, oldest_at) \
         VALUES (?1, ?2, ?3, ?3, ?3, ?3, ?4, ?4) \
         ON CONFLICT (organization_id, user_id) DO UPDATE SET revision = excluded.revision, \
         unread_count = excluded.unread_count, unseen_count = excluded.unseen_count, \
         row_count = excluded.row_count, last_created_at = excluded.last_created_at",
    )?;
    let mut commit = connection.prepare("COMMIT")?;
    let (mut heads, mut batch) = (Heads::new(), Vec::new());
    let most = WriterSettings::default().write_batch;
    while jobs.blocking_recv_many(&mut batch, most) > 0 {
        count_on(&mut heads, &mut batch);
        begin.execute([])?;
        for Job { row, .. } in &batch {
            let (of, now) = (&row.of, row.now.as_micros());
            let (organization, user) = (&of.organization_id, &of.recipient_user_id);
            insert.execute(rusqlite::params![
                organization,
                user,
                row.sequence,
                row.id.as_bytes(),
                of.r#type,
                of.title,
                of.body,
                of.entity_type,
                of.entity_id,
                of.action_url,
                SENDER,
                now,
            ])?;
            count.execute(rusqlite::params![organization, user, row.sequence, now])?;
        }
        commit.execute([])?;
        let _ = committed.send(std::mem::take(&mut batch));
    }
    Ok(())
}

const WRITE: &str = "WITH sent AS (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], \
     $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[]) \
     AS w (organization_id, user_id, sequence, id, type, title, body, entity_type, entity_id, \
     action_url)), \
     counted AS (INSERT INTO inboxes (organization_id, user_id, revision, unread_count, \
     unseen_count, row_count, last_created_at, oldest_at) \
     SELECT organization_id, user_id, max(sequence), max(sequence), max(sequence), \
     max(sequence), $11, $11 FROM sent GROUP BY organization_id, user_id \
     ON CONFLICT (organization_id, user_id) DO UPDATE SET revision = excluded.revision, \
     unread_count = excluded.unread_count, unseen_count = excluded.unseen_count, \
     row_count = excluded.row_count, last_created_at = excluded.last_created_at) \
     INSERT INTO notifications (organization_id, user_id, sequence, id, type, title, body, \
     entity_type, entity_id, action_url, revision, ring_revision, sender, created_at, sent_at) \
     SELECT *, sequence, sequence, 'backend', $11, $11 FROM sent";

async fn write_postgres(
    mut connection: PgConnection,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    rooms: Arc<Rooms>,
) -> Result<(), sqlx::Error> {
    let (mut heads, mut batch) = (Heads::new(), Vec::new());
    let most = WriterSettings::default().write_batch;
    while jobs.recv_many(&mut batch, most).await > 0 {
        count_on(&mut heads, &mut batch);
        macro_rules! column {
            ($row:ident => $value:expr) => {
                batch
                    .iter()
                    .map(|Job { row: $row, .. }| $value)
                    .collect::<Vec<_>>()
            };
        }
        sqlx::query(WRITE)
            .bind(column!(row => row.of.organization_id.as_str()))
            .bind(column!(row => row.of.recipient_user_id.as_str()))
            .bind(column!(row => row.sequence))
            .bind(column!(row => row.id))
            .bind(column!(row => row.of.r#type.as_str()))
            .bind(column!(row => row.of.title.as_str()))
            .bind(column!(row => row.of.body.as_deref()))
            .bind(column!(row => row.of.entity_type.as_deref()))
            .bind(column!(row => row.of.entity_id.as_deref()))
            .bind(column!(row => row.of.action_url.as_deref()))
            .bind(SystemClock.now().as_micros())
            .execute(&mut connection)
            .await?;
        rooms.ring_all(&mut batch);
    }
    Ok(())
}
