//! Many streams, slow ones, ending ones: on real sockets, one process each side.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use doorbell::{
    clock::Timestamp,
    proto::{
        GetUnreadCountRequest, MarkSeenRequest, Notification, SendInAppRequest, SubscribeRequest,
        notification_service_client::NotificationServiceClient, subscribe_response::Event,
    },
};
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tonic::{Code, Response, Status, body::Body, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::ServiceExt as _;

use crate::{
    calls::{
        Inbox, Messages, SERVICE, Way, after, assert_refused, counts, epoch, eventually, exchange,
        frame, in_seconds, mark, metric, moment, next, page, resident_kib, rest, send, signed,
    },
    history::{Head, Screen, Told},
    process::PATIENCE,
    server::{Bearer, Client, Server, Setup, free_port, sender_token, user_token},
};

/// A client whose windows are the least that HTTP/2 begins with: what it does
/// not read stays with the server.
async fn narrow(server: &Server, token: &str) -> Client {
    let endpoint = Endpoint::from_shared(server.url())
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    NotificationServiceClient::with_interceptor(
        endpoint.connect().await.unwrap(),
        Bearer::new(token),
    )
}

fn large(organization: &str, user: &str) -> SendInAppRequest {
    let filler = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("d".repeat(16_000))),
    };
    SendInAppRequest {
        body: Some("b".repeat(8 * 1024)),
        data: Some(prost_types::Struct {
            fields: [("filler".to_owned(), filler)].into(),
        }),
        ..send(organization, user, "Flood")
    }
}

/// Sends so many at once, again and again, and gives back what was made.
async fn flood(
    sender: &Client,
    request: &SendInAppRequest,
    count: usize,
    at_once: usize,
) -> Vec<(Notification, Head)> {
    let left = Arc::new(AtomicU64::new(count as u64));
    let mut lanes = JoinSet::new();
    for _ in 0..at_once {
        let (mut sender, request, left) = (sender.clone(), request.clone(), left.clone());
        lanes.spawn(async move {
            let mut sent = Vec::new();
            while left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
            {
                let answer = sender
                    .send_in_app(request.clone())
                    .await
                    .unwrap()
                    .into_inner();
                let mut notification = answer.notification.unwrap();
                notification.body = None;
                notification.data = None;
                sent.push((notification, answer.head.into()));
            }
            sent
        });
    }
    lanes.join_all().await.into_iter().flatten().collect()
}

/// Reads until it stands at `head`; what rang, in its order.
async fn read_to(stream: &mut Messages, screen: &mut Screen, head: u64) -> Vec<u64> {
    let mut sequences = Vec::new();
    while screen.position.unwrap_or(0) < head {
        let message = next(stream).await;
        screen
            .see(&Told::from(&message), None)
            .unwrap_or_else(|problem| panic!("{problem}: {:#?}", screen.transcript));
        if let Some(Event::Notification(row)) = message.event {
            sequences.push(row.sequence);
        }
    }
    sequences
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_slows_nobody_and_costs_bounded_memory() {
    const FLOOD: usize = 2500;
    const SLOW: usize = 4;
    /// Of the process, above what it had when the flood began: its database's
    /// caches, the rooms' buffers and what is under way. The flood is twice this,
    /// and four times this where each message is kept encoded as well.
    const MOST_KIB: u64 = 24 * 1024;
    let pages = free_port();
    let server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("DATABASE_READERS", 1)
        .start();
    let mut inbox = Inbox::new(&server, "acme", "flooded").await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut client = narrow(&server, &user_token("acme", "flooded")).await;
        let stream = client.subscribe(SubscribeRequest::default()).await.unwrap();
        slow.push((stream.into_inner(), Screen::default()));
    }
    let mut stream = inbox.subscribe(SubscribeRequest::default()).await;
    let healthy = tokio::spawn(async move {
        let mut screen = Screen::default();
        let sequences = read_to(&mut stream, &mut screen, FLOOD as u64).await;
        (sequences, screen)
    });

    // Beside it somebody else's notifications ring as they always do.
    let is_over = Arc::new(AtomicBool::new(false));
    let mut other = Inbox::new(&server, "acme", "other").await;
    let mut rings = other.subscribe(SubscribeRequest::default()).await;
    next(&mut rings).await;
    let probe = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let mut slowest = Duration::ZERO;
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                let began = Instant::now();
                let sent = other.send("ping").await;
                let Some(Event::Notification(rung)) = next(&mut rings).await.event else {
                    panic!("no notification")
                };
                assert_eq!(rung.id, sent.id);
                slowest = slowest.max(began.elapsed());
                count += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (slowest, count)
        }
    });

    let request = large("acme", "flooded");
    let mut sent = flood(&inbox.sender, &request, 500, 16).await;
    let before = resident_kib(&server);
    let flooding = async {
        let sent = flood(&inbox.sender, &request, FLOOD - 500, 16).await;
        is_over.store(true, Ordering::SeqCst);
        sent
    };
    let watching = async {
        let mut most = 0;
        while !is_over.load(Ordering::SeqCst) {
            most = most.max(resident_kib(&server));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most
    };
    let (more, most) = tokio::join!(flooding, watching);
    sent.extend(more);
    sent.sort_by_key(|(row, _)| row.sequence);
    for (row, head) in sent {
        inbox.sent(row, head);
    }
    let (slowest, probes) = probe.await.unwrap();
    let grown = most.saturating_sub(before);
    println!(
        "{FLOOD} large notifications past {SLOW} readers that do not read: {before} KiB and \
         {grown} KiB more; {probes} probes beside, the slowest {slowest:?}"
    );
    assert!(grown < MOST_KIB, "{grown} KiB more than {before} KiB");
    assert!(
        slowest < Duration::from_secs(5) && probes > 10,
        "{probes} probes, {slowest:?}"
    );
    let all: Vec<u64> = (1..=FLOOD as u64).collect();
    let (sequences, screen) = healthy.await.unwrap();
    assert_eq!(sequences, all);
    screen.check(&inbox.history).unwrap();

    // They read again: all of it, once, in order, healed.
    let heals = metric(pages, "doorbell_lag_heals_total").await;
    for (stream, screen) in &mut slow {
        assert_eq!(read_to(stream, screen, FLOOD as u64).await, all);
        screen.check(&inbox.history).unwrap();
    }
    assert!(metric(pages, "doorbell_lag_heals_total").await > heals);
    // And are live again.
    inbox.send("Last").await;
    for (stream, _) in &mut slow {
        let mut last = next(stream).await;
        while !matches!(last.event, Some(Event::Notification(_))) {
            last = next(stream).await;
        }
        assert_eq!((last.position, last.ring), (FLOOD as u64 + 1, true));
    }
}

/// A stream whose client lags hears what it missed, but for what the person has read
/// or seen on another screen meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heal_rings_for_what_is_unseen_alone() {
    const SENT: usize = 24;
    const HEAD: u64 = SENT as u64;
    const SEEN: u64 = 16;
    const READ: [u64; 3] = [12, 20, 21];
    let pages = free_port();
    let server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("ROOM_CAPACITY", 4)
        .with("REPLAY_PAGE", 7)
        .start();
    let mut client = narrow(&server, &user_token("acme", "ann")).await;
    let opened = client.subscribe(SubscribeRequest::default()).await;
    let mut stream = opened.unwrap().into_inner();
    next(&mut stream).await;
    // More than its window takes, and nobody reads.
    let sender = server.sender().await;
    let sent = flood(&sender, &large("acme", "ann"), SENT, 1).await;
    let mut elsewhere = server.user("acme", "ann").await;
    let are_read = sent.iter().filter(|(row, _)| READ.contains(&row.sequence));
    let ids: Vec<_> = are_read.map(|(row, _)| row.id.clone()).collect();
    elsewhere.mark_read(mark(ids)).await.unwrap();
    let epoch = epoch(&mut elsewhere).await;
    let looked = MarkSeenRequest {
        through_sequence: SEEN,
        epoch,
    };
    elsewhere.mark_seen(looked).await.unwrap();
    flood(&sender, &large("acme", "ann"), 1, 1).await;

    let (mut live, mut healed) = (Vec::new(), Vec::new());
    loop {
        let message = next(&mut stream).await;
        let Some(Event::Notification(row)) = message.event else {
            assert!(matches!(message.event, Some(Event::CaughtUp(_))));
            assert_eq!(message.position, HEAD + 3);
            break;
        };
        // What came live says the head of its own change.
        let is_live = counts(message.head).0 == row.revision && row.sequence == row.revision;
        if is_live && healed.is_empty() {
            assert!(message.ring, "{row:?}");
            live.push(row.sequence);
        } else {
            healed.push((row.sequence, message.ring));
        }
    }
    assert!((1..10).contains(&live.len()), "{live:?} came live");
    assert!(metric(pages, "doorbell_lag_heals_total").await > 0.0);
    // By the last change: what was read comes after what was not.
    let first = live.len() as u64 + 1;
    let expected: Vec<_> = (first..=HEAD)
        .filter(|sequence| !READ.contains(sequence))
        .map(|sequence| (sequence, sequence > SEEN))
        .chain(READ.map(|sequence| (sequence, false)))
        .chain([(HEAD + 3, true)])
        .collect();
    assert_eq!(healed, expected);
    // Live again, it rings.
    sender
        .clone()
        .send_in_app(send("acme", "ann", "Last"))
        .await
        .unwrap();
    let last = next(&mut stream).await;
    assert_eq!((last.position, last.ring), (HEAD + 4, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_on_one_connection_all_ring() {
    const STREAMS: usize = 1000;
    let pages = free_port();
    let server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("MAX_STREAMS_PER_CONNECTION", STREAMS)
        .with("MAX_STREAMS_PER_USER", STREAMS)
        .start();
    let client = server.user("acme", "ann").await;
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let mut client = client.clone();
        streams.spawn(async move {
            let mut stream = client
                .subscribe(SubscribeRequest::default())
                .await
                .unwrap()
                .into_inner();
            next(&mut stream).await;
            stream
        });
    }
    let streams = streams.join_all().await;
    assert_eq!(metric(pages, "doorbell_streams_open").await, 1000.0);
    // Of the streams' and the metrics' connections, one is theirs.
    assert_eq!(metric(pages, "doorbell_connections_open").await, 1.0);
    let mut ringing = JoinSet::new();
    for mut stream in streams {
        ringing.spawn(async move {
            let first = next(&mut stream).await;
            let second = next(&mut stream).await;
            (first.position, second.position, first.event)
        });
    }
    let mut sender = server.sender().await;
    let mut sent = None;
    for title in ["One", "Two"] {
        let answer = sender
            .send_in_app(send("acme", "ann", title))
            .await
            .unwrap();
        sent = sent.or(answer.into_inner().notification);
    }
    let expected = (1, 2, Some(Event::Notification(sent.unwrap())));
    let rung = ringing.join_all().await;
    assert_eq!(rung.len(), STREAMS);
    assert!(rung.iter().all(|seen| *seen == expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_streams_that_come_back_misses_nothing() {
    const USERS: usize = 20;
    const STREAMS_OF_EACH: usize = 15;
    let server = Setup::new().start();
    let mut inboxes = Vec::new();
    for user in 0..USERS {
        let mut inbox = Inbox::new(&server, "acme", &format!("user-{user}")).await;
        inbox.send("before").await;
        inboxes.push(inbox);
    }
    let open = async |screens: Vec<(usize, Screen)>, until: u64| {
        let mut streams = JoinSet::new();
        // All on one connection a wave, so that all are cut at once.
        let channel = Endpoint::from_shared(server.url()).unwrap();
        let channel = channel.connect().await.unwrap();
        for (user, mut screen) in screens {
            let token = user_token("acme", &format!("user-{user}"));
            let mut client =
                NotificationServiceClient::with_interceptor(channel.clone(), Bearer::new(&token));
            streams.spawn(async move {
                screen.cut();
                let resumed = screen.position.unwrap_or(0);
                let mut stream = client.subscribe(after(resumed)).await.unwrap().into_inner();
                while screen.position.unwrap_or(0) < until {
                    let message = next(&mut stream).await;
                    screen.see(&Told::from(&message), Some(resumed)).unwrap();
                }
                (user, screen)
            });
        }
        streams
    };
    let mut screens: Vec<_> = (0..USERS * STREAMS_OF_EACH)
        .map(|number| (number % USERS, Screen::default()))
        .collect();
    let mut head = 1;
    for _ in 0..3 {
        let coming_back = open(screens, head + 2).await;
        // While they come back, and after.
        for inbox in &mut inboxes {
            inbox.send("meanwhile").await;
            let latest = [*inbox.ids.last().unwrap()];
            inbox.mark(&latest).await;
        }
        head += 2;
        // They have all they wait for, and all go at once.
        screens = coming_back.join_all().await;
        for inbox in &mut inboxes {
            inbox.send("away").await;
        }
        head += 1;
    }
    let screens = open(screens, head).await.join_all().await;
    assert_eq!(screens.len(), USERS * STREAMS_OF_EACH);
    for (user, screen) in screens {
        assert_eq!(screen.resets, 0);
        assert_eq!(screen.position, Some(head));
        screen.check(&inboxes[user].history).unwrap();
    }
}

/// Holds the database's write lock: what is queued stays where it is.
struct WriteLock(SqliteConnection);

impl WriteLock {
    async fn take(server: &Server) -> Self {
        let url = format!("sqlite://{}", server.database().display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut connection)
            .await
            .unwrap();
        Self(connection)
    }

    async fn release(mut self) {
        sqlx::query("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

type Sent = Result<Response<doorbell::proto::SendInAppResponse>, Status>;

/// Sends until all are refused but two, with room for one write in the queue and
/// one in the batch: those are under way. And the refusals.
async fn fill_the_queue(server: &Server) -> (JoinSet<Sent>, Vec<Status>) {
    let sender = server.sender().await;
    let mut under_way = JoinSet::new();
    let mut refused = Vec::new();
    let filling = async {
        while refused.is_empty() || under_way.len() != 2 {
            if refused.is_empty() {
                let (mut sender, title) = (sender.clone(), under_way.len().to_string());
                let request = send("acme", "ann", &title);
                under_way.spawn(async move { sender.send_in_app(request).await });
            }
            // Answered only where it is refused; the next one goes on beside it.
            let answered = timeout(Duration::from_millis(50), under_way.join_next()).await;
            if let Ok(Some(answer)) = answered {
                refused.push(answer.unwrap().unwrap_err());
            }
        }
    };
    timeout(PATIENCE, filling).await.expect("a full queue");
    (under_way, refused)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let pages = free_port();
    let server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("WRITE_QUEUE", 1)
        .with("WRITE_BATCH", 1)
        .start();
    let lock = WriteLock::take(&server).await;
    let (under_way, mut refused) = fill_the_queue(&server).await;
    let mut sender = server.sender().await;
    let began = Instant::now();
    let answer = sender.send_in_app(send("acme", "ann", "One more")).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "refused after {took:?}");
    refused.push(answer.unwrap_err());
    let times = refused.len();
    for refused in refused {
        let answer = Err::<(), _>(refused);
        let refusal = assert_refused(answer, Code::ResourceExhausted, "QUEUE_FULL");
        assert!(refusal.retry.is_some_and(|wait| wait > Duration::ZERO));
    }
    // Reading needs no place in the queue.
    let mut ann = server.user("acme", "ann").await;
    let head = ann
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    assert_eq!(counts(head.into_inner().head), (0, 0));
    // Nor does a mark of what is not there.
    let nothing = mark([uuid::Uuid::from_u128(7).to_string()]);
    let marked = timeout(PATIENCE / 10, ann.mark_read(nothing)).await;
    let marked = marked.expect("it does not wait for the writer").unwrap();
    assert_eq!(marked.into_inner().changed_count, 0);
    lock.release().await;
    let answers = under_way.join_all().await;
    assert_eq!(answers.len(), 2, "one in the batch, one in the queue");
    for answer in answers {
        assert!(!answer.unwrap().into_inner().duplicate);
    }
    let rejected = async |reason: &str| {
        metric(
            pages,
            &format!("doorbell_rejected_total{{reason=\"{reason}\"}}"),
        )
        .await
    };
    assert_eq!(rejected("QUEUE_FULL").await, times as f64);
    assert_eq!(rejected("other").await, 0.0);
}

#[tokio::test]
async fn a_deadline_is_answered_and_what_is_queued_is_committed() {
    let server = Setup::new().start();
    let lock = WriteLock::take(&server).await;
    let bearer = format!("Bearer {}", sender_token("acme"));
    let headers = [("authorization", bearer.as_str()), ("grpc-timeout", "300m")];
    let body = frame(&send("acme", "ann", "Late").encode_to_vec());
    let path = format!("{SERVICE}SendInApp");
    let began = Instant::now();
    let answer = exchange(&server, Way::Grpc, &path, &headers, body).await;
    let took = began.elapsed();
    let answer = Err::<(), _>(answer.unwrap().status().unwrap());
    assert_refused(answer, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(took >= Duration::from_millis(300), "{took:?}");
    lock.release().await;
    let ann = server.user("acme", "ann").await;
    eventually("it is committed", async || {
        let count = ann
            .clone()
            .get_unread_count(GetUnreadCountRequest::default())
            .await;
        counts(count.unwrap().into_inner().head) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn proxies_are_told_to_hold_nothing_of_a_stream_back() {
    let server = Setup::new().start();
    let mut ann = server.user("acme", "ann").await;
    let stream = ann.subscribe(SubscribeRequest::default()).await.unwrap();
    let said = |name: &str| {
        stream
            .metadata()
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(said("x-accel-buffering"), "no");
    assert_eq!(said("cache-control"), "no-store, no-transform");
}

#[tokio::test]
async fn a_draining_server_sends_streams_away_and_serves_calls() {
    let pages = free_port();
    let mut server = Setup::new()
        .with("METRICS_LISTEN", pages)
        .with("DRAIN_DELAY", "6s")
        .with("DRAIN_TIMEOUT", "4s")
        .with("RECONNECT_SPREAD", "3s")
        .start();
    let mut inbox = Inbox::new(&server, "acme", "ann").await;
    inbox.send("before").await;
    let channel = Endpoint::from_shared(server.url()).unwrap().connect().await;
    let mut health = HealthClient::new(channel.unwrap());
    let mut serving = async || {
        let request = HealthCheckRequest {
            service: "doorbell.v1.NotificationService".into(),
        };
        let status = health.check(request).await.unwrap().into_inner().status;
        status == tonic_health::pb::health_check_response::ServingStatus::Serving as i32
    };
    assert!(serving().await);
    assert!(page(pages, "/readyz").await.starts_with("HTTP/1.1 200"));
    let mut live = inbox.subscribe(SubscribeRequest::default()).await;
    next(&mut live).await;
    // One in mid-replay: it is not shown as further than it is.
    let mut replaying = inbox.subscribe(after(0)).await;
    next(&mut replaying).await;

    let told = Instant::now();
    server.signal("TERM");
    let mut position = 1;
    for stream in [&mut live, &mut replaying] {
        let (messages, end) = rest(stream).await;
        let (reconnect, before) = messages.split_last().expect("a last message");
        let Some(Event::Reconnect(reconnect_after)) = &reconnect.event else {
            panic!("{messages:?}")
        };
        let wait = reconnect_after.after.unwrap();
        // After the delay, within the spread.
        assert!((6..=9).contains(&wait.seconds), "{wait:?}");
        let delivered = before.last().map_or(position, |message| message.position);
        assert_eq!(reconnect.position, delivered);
        let refusal = assert_refused(end, Code::Unavailable, "DRAINING");
        assert!(refusal.retry.is_some());
        position = 0;
    }
    assert!(!serving().await);
    let readiness = page(pages, "/readyz").await;
    assert!(readiness.starts_with("HTTP/1.1 503") && readiness.ends_with("draining\n"));
    assert!(page(pages, "/livez").await.starts_with("HTTP/1.1 200"));
    // On the connections there are, and on new ones.
    for mut client in [inbox.reader.clone(), server.user("acme", "ann").await] {
        let answer = client.subscribe(SubscribeRequest::default()).await;
        let refusal = assert_refused(answer, Code::Unavailable, "DRAINING");
        assert!(refusal.retry.is_some());
        let head = client
            .get_unread_count(GetUnreadCountRequest::default())
            .await
            .unwrap();
        assert_eq!(counts(head.into_inner().head), (1, 1));
    }
    inbox.send("while draining").await;
    let latest = [*inbox.ids.last().unwrap()];
    inbox.mark(&latest).await;
    assert!(
        told.elapsed() < Duration::from_secs(6),
        "too slow to tell: the delay is over"
    );

    let status = server.wait(PATIENCE);
    assert!(status.success(), "{status}: {}", server.log());
    // All that was answered is there.
    let server = server.setup.start();
    let mut ann = server.user("acme", "ann").await;
    let head = ann
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    assert_eq!(counts(head.into_inner().head), (3, 1));
}

#[tokio::test]
async fn writes_under_way_when_it_drains_are_committed_and_answered() {
    let mut server = Setup::new()
        .with("WRITE_QUEUE", 1)
        .with("WRITE_BATCH", 1)
        .start();
    let lock = WriteLock::take(&server).await;
    let (under_way, _) = fill_the_queue(&server).await;
    server.signal("TERM");
    eventually("it drains", async || {
        server.log().contains("draining connections")
    })
    .await;
    lock.release().await;
    let answers = under_way.join_all().await;
    assert_eq!(answers.len(), 2);
    let mut titles: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().into_inner().notification.unwrap().title)
        .collect();
    let status = server.wait(PATIENCE);
    assert!(status.success(), "{status}: {}", server.log());
    let server = server.setup.start();
    let mut ann = server.user("acme", "ann").await;
    let page = ann
        .get_recent(doorbell::proto::GetRecentRequest::default())
        .await
        .unwrap();
    let mut kept: Vec<_> = page
        .into_inner()
        .notifications
        .into_iter()
        .map(|row| row.title)
        .collect();
    titles.sort();
    kept.sort();
    assert_eq!(kept, titles);
}

/// A caller that goes away cancels nothing that is queued.
#[tokio::test]
async fn a_write_whose_caller_leaves_is_committed_all_the_same() {
    let server = Setup::new()
        .with("WRITE_QUEUE", 1)
        .with("WRITE_BATCH", 1)
        .start();
    let mut ann = server.user("acme", "ann").await;
    let lock = WriteLock::take(&server).await;
    let (mut under_way, _) = fill_the_queue(&server).await;
    under_way.shutdown().await;
    lock.release().await;
    eventually("both writes are there", async || {
        let head = ann
            .clone()
            .get_unread_count(GetUnreadCountRequest::default())
            .await;
        counts(head.unwrap().into_inner().head) == (2, 2)
    })
    .await;
    let head = ann
        .get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    assert_eq!(counts(head.into_inner().head), (2, 2));
}

/// Neither does a drain: what was queued has as long as it may take.
#[tokio::test]
async fn a_write_whose_caller_left_is_committed_while_it_drains() {
    let mut server = Setup::new()
        .with("WRITE_QUEUE", 1)
        .with("WRITE_BATCH", 1)
        .with("DRAIN_TIMEOUT", "8s")
        .start();
    let lock = WriteLock::take(&server).await;
    let (mut under_way, _) = fill_the_queue(&server).await;
    under_way.shutdown().await;
    server.signal("TERM");
    eventually("no connection is left", async || {
        server.log().contains("draining connections")
    })
    .await;
    // Longer than the close of the store takes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    lock.release().await;
    assert!(server.wait(PATIENCE).success(), "{}", server.log());
    let server = server.setup.clone().start();
    let mut ann = server.user("acme", "ann").await;
    let head = ann.get_unread_count(GetUnreadCountRequest::default()).await;
    assert_eq!(counts(head.unwrap().into_inner().head), (2, 2));
}

/// Requests that never end keep no place from those of other users.
#[tokio::test]
async fn who_never_finishes_a_request_keeps_no_stream_from_opening() {
    let server = Setup::new().with("MAX_CALLS_PER_USER", 3).start();
    let endpoint = Endpoint::from_shared(server.url()).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let begin = |method: &str| {
        let never = stream::pending::<Result<Frame<Bytes>, Status>>();
        let request = http::Request::post(format!("{}{SERVICE}{method}", server.url()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(
                "authorization",
                format!("Bearer {}", user_token("acme", "ann")),
            )
            .body(Body::new(StreamBody::new(never)))
            .unwrap();
        channel.clone().oneshot(request)
    };
    let mut unfinished = JoinSet::new();
    for _ in 0..200 {
        unfinished.spawn(begin("Subscribe"));
    }
    eventually("all have begun", async || {
        // One more each time: who looks holds a place too, and may have taken it from one.
        unfinished.spawn(begin("GetRecent"));
        let mut ann = server.user("acme", "ann").await;
        ann.get_unread_count(GetUnreadCountRequest::default())
            .await
            .is_err_and(|refused| {
                let refusal = assert_refused(
                    Err::<(), _>(refused),
                    Code::ResourceExhausted,
                    "TOO_MANY_CALLS",
                );
                refusal.retry.is_some()
            })
    })
    .await;
    let mut bob = server.user("acme", "bob").await;
    let opened = timeout(PATIENCE, bob.subscribe(SubscribeRequest::default()));
    opened.await.expect("it opens").unwrap();
    bob.get_unread_count(GetUnreadCountRequest::default())
        .await
        .unwrap();
    unfinished.shutdown().await;
    eventually("who gives up has its calls again", async || {
        let mut ann = server.user("acme", "ann").await;
        ann.get_unread_count(GetUnreadCountRequest::default())
            .await
            .is_ok()
    })
    .await;
}

/// The health protocol has a word for a service that there is not.
#[tokio::test]
async fn the_health_of_an_unknown_service_is_not_found() {
    let server = Setup::new().start();
    let endpoint = Endpoint::from_shared(server.url()).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let unknown = HealthCheckRequest {
        service: "other.v1.Other".into(),
    };
    let refused = health.check(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_time_whatever_its_clients_do() {
    let mut server = Setup::new().with("DRAIN_TIMEOUT", "2s").start();
    let address = server.setup.listen;
    let mut sockets = Vec::new();
    for begin in [
        &b""[..],
        b"",
        // Half of a request, half of a preface, a preface and no more.
        b"POST /doorbell.v1.NotificationService/SendInApp HTTP/1.1\r\nhost: x\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(begin).await.unwrap();
        sockets.push(socket);
    }
    // Streams that are full and never read: on a connection of their own each.
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut client = narrow(&server, &user_token("acme", "ann")).await;
        unread.push(client.subscribe(SubscribeRequest::default()).await.unwrap());
    }
    let sender = server.sender().await;
    flood(&sender, &large("acme", "ann"), 40, 4).await;
    // A half-sent gRPC-web call.
    let mut half = TcpStream::connect(address).await.unwrap();
    let token = user_token("acme", "ann");
    let request = format!(
        "POST /doorbell.v1.NotificationService/GetRecent HTTP/1.1\r\nhost: x\r\n\
         content-type: application/grpc-web+proto\r\nauthorization: Bearer {token}\r\n\
         content-length: 5\r\n\r\n\0\0"
    );
    half.write_all(request.as_bytes()).await.unwrap();

    let told = Instant::now();
    server.signal("TERM");
    let status = tokio::task::block_in_place(|| server.wait(PATIENCE));
    let took = told.elapsed();
    assert!(status.success(), "{status}: {}", server.log());
    // The setting, and what the end of the process itself takes.
    assert!(
        took < Duration::from_secs(2 + 5),
        "it took {took:?}: {}",
        server.log()
    );
    drop((sockets, unread, half));
}

/// A token of this life, and the moment it ends.
fn short_lived(life: i64) -> (String, Timestamp) {
    let exp = in_seconds(life);
    let claims = json!({"organizationId": "acme", "userId": "ann", "exp": exp});
    (signed(&claims), Timestamp::from_seconds(exp))
}

#[tokio::test]
async fn a_stream_under_a_steady_flow_ends_with_its_token() {
    let server = Setup::new().start();
    let (token, expires_at) = short_lived(5);
    let mut client = server.client(&token).await;
    let mut stream = client
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut inbox = Inbox::new(&server, "acme", "ann").await;
    let flow = tokio::spawn({
        let is_over = is_over.clone();
        async move {
            let mut last = Timestamp::default();
            while !is_over.load(Ordering::SeqCst) || last <= expires_at {
                last = moment(&inbox.send("flow").await.created_at.unwrap());
            }
            inbox.ids.len()
        }
    });
    let (messages, end) = rest(&mut stream).await;
    assert!(
        doorbell::clock::Clock::now(&doorbell::clock::SystemClock) >= expires_at,
        "it ended too early"
    );
    assert_refused(end, Code::Unauthenticated, "TOKEN_EXPIRED");
    is_over.store(true, Ordering::SeqCst);
    let rows: Vec<_> = messages
        .into_iter()
        .filter_map(|message| match message.event {
            Some(Event::Notification(row)) => Some(row),
            _ => None,
        })
        .collect();
    for row in &rows {
        assert!(moment(&row.created_at.unwrap()) < expires_at, "{row:?}");
    }
    // It was steady: to the end there was something to deliver, and beyond.
    let last = moment(&rows.last().expect("events").created_at.unwrap());
    assert!(expires_at.since(last) < Duration::from_secs(2));
    assert!(flow.await.unwrap() > rows.len());
    // Nor does a new one begin.
    let again = client.subscribe(SubscribeRequest::default()).await;
    assert_refused(again, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_silent_stream_ends_with_its_token() {
    let server = Setup::new().with("HEARTBEAT_INTERVAL", "1h").start();
    let (token, expires_at) = short_lived(5);
    let mut client = server.client(&token).await;
    let mut stream = client
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap()
        .into_inner();
    let (messages, end) = rest(&mut stream).await;
    let now = doorbell::clock::Clock::now(&doorbell::clock::SystemClock);
    assert_refused(end, Code::Unauthenticated, "TOKEN_EXPIRED");
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(now >= expires_at, "it ended too early");
    let late = now.since(expires_at);
    assert!(
        late < Duration::from_secs(3),
        "it ended {late:?} after its token"
    );
}

#[tokio::test]
async fn streams_of_a_user_and_of_an_organization_are_capped() {
    let server = Setup::new()
        .with("MAX_STREAMS_PER_USER", 2)
        .with("MAX_STREAMS_PER_ORGANIZATION", 3)
        .start();
    let open = async |organization: &str, user: &str| {
        let mut client = server.user(organization, user).await;
        client.subscribe(SubscribeRequest::default()).await
    };
    let full = |answer| {
        let refusal = assert_refused(answer, Code::ResourceExhausted, "TOO_MANY_STREAMS");
        assert!(refusal.retry.is_some());
    };
    let first = open("acme", "ann").await.unwrap();
    let _second = open("acme", "ann").await.unwrap();
    full(open("acme", "ann").await);
    let third = open("acme", "bob").await.unwrap();
    // Now the organization is full, for each of its users.
    full(open("acme", "bob").await);
    full(open("acme", "cat").await);
    // Others are not.
    let _other = open("globex", "ann").await.unwrap();
    // Who leaves makes room, of its kind.
    drop(third);
    let reopened = std::cell::Cell::new(None);
    eventually("a place in the organization is free", async || {
        reopened.set(open("acme", "cat").await.ok());
        let opened = reopened.take();
        let is_open = opened.is_some();
        reopened.set(opened);
        is_open
    })
    .await;
    full(open("acme", "ann").await);
    drop(first);
    eventually("a place of the user is free", async || {
        open("acme", "ann").await.is_ok()
    })
    .await;
}

/// Many systems give a process few descriptors until it asks for more.
#[tokio::test]
async fn it_takes_as_many_file_descriptors_as_it_may() {
    let mut setup = Setup::new();
    setup.wrapper = ["sh", "-c", "ulimit -S -n 64 && exec \"$@\"", "sh"]
        .map(String::from)
        .to_vec();
    let server = setup.start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "the soft limit is the hard one");
    assert_ne!(words[3], "64");
}

/// Who only holds connections takes no file descriptor that others need.
#[tokio::test]
async fn a_crowd_that_asks_nothing_leaves_file_descriptors() {
    let mut setup = Setup::new();
    setup.wrapper = ["sh", "-c", "ulimit -n 96 && exec \"$@\"", "sh"]
        .map(String::from)
        .to_vec();
    let pages = free_port();
    let server = setup.with("METRICS_LISTEN", pages).start();
    let is_said = async || server.log().contains("fewer files may be open");
    eventually("it is said", is_said).await;
    let mut before = Inbox::new(&server, "acme", "ann").await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(TcpStream::connect(server.setup.listen).await.unwrap());
    }
    before.send("meanwhile").await;
    let mut after = timeout(PATIENCE, server.user("acme", "ann")).await.unwrap();
    let call = timeout(
        PATIENCE,
        after.get_unread_count(GetUnreadCountRequest::default()),
    );
    assert_eq!(
        counts(call.await.unwrap().unwrap().into_inner().head),
        (1, 1)
    );
    assert!(metric(pages, "doorbell_connections_open").await <= 32.0);
    assert!(!server.log().contains("cannot accept connections"));
}

#[tokio::test]
async fn streams_of_a_connection_are_capped() {
    const MOST: u32 = 3;
    let server = Setup::new()
        .with("MAX_STREAMS_PER_CONNECTION", MOST)
        .start();
    // What the server tells every client.
    let mut raw = TcpStream::connect(server.setup.listen).await.unwrap();
    raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    let mut header = [0; 9];
    raw.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4, "SETTINGS come first");
    let length = usize::from(header[1]) << 8 | usize::from(header[2]);
    let mut settings = vec![0; length];
    raw.read_exact(&mut settings).await.unwrap();
    let most = settings.chunks(6).find(|setting| setting[..2] == [0, 3]);
    assert_eq!(
        most.map(|setting| setting[2..].to_vec()),
        Some(MOST.to_be_bytes().to_vec())
    );

    // A well-behaved client waits with one more until one of them ends.
    let client = server.user("acme", "ann").await;
    let mut streams = Vec::new();
    for _ in 0..MOST {
        let opened = client.clone().subscribe(SubscribeRequest::default()).await;
        let mut stream = opened.unwrap().into_inner();
        next(&mut stream).await;
        streams.push(stream);
    }
    let mut one_more = client.clone();
    let mut waiting = tokio::spawn(async move {
        one_more
            .get_unread_count(GetUnreadCountRequest::default())
            .await
    });
    // Others are served meanwhile, many times over.
    let mut elsewhere = server.user("acme", "ann").await;
    for _ in 0..50 {
        elsewhere
            .get_unread_count(GetUnreadCountRequest::default())
            .await
            .unwrap();
    }
    assert!(!waiting.is_finished(), "there were {} at once", MOST + 1);
    streams.pop();
    let answer = timeout(PATIENCE, &mut waiting)
        .await
        .expect("a place is free");
    assert!(answer.unwrap().is_ok());
}

/// One that does not wait is refused its stream, and keeps its connection.
#[tokio::test]
async fn a_client_beyond_the_cap_of_its_connection_is_refused_that_stream() {
    const MOST: u8 = 2;
    const RST_STREAM: u8 = 3;
    const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
    let server = Setup::new()
        .with("MAX_STREAMS_PER_CONNECTION", MOST)
        .start();
    let mut raw = TcpStream::connect(server.setup.listen).await.unwrap();
    raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    // Literal headers without an index and without Huffman codes (RFC 7541).
    let mut block = Vec::new();
    let token = format!("Bearer {}", user_token("acme", "ann"));
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/doorbell.v1.NotificationService/Subscribe"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("authorization", &token),
    ] {
        block.push(0);
        block.push(u8::try_from(name.len()).unwrap());
        block.extend(name.as_bytes());
        let mut rest = value.len();
        if rest < 127 {
            block.push(u8::try_from(rest).unwrap());
        } else {
            block.push(127);
            rest -= 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend(value.as_bytes());
    }
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    for stream in [1, 3, 5] {
        let mut frames = Vec::new();
        // HEADERS with END_HEADERS; then DATA with an empty message and the end.
        frames.extend([&length[1..], &[1, 4, 0, 0, 0, stream]].concat());
        frames.extend(&block);
        frames.extend([0, 0, 5, 0, 1, 0, 0, 0, stream]);
        frames.extend([0; 5]);
        raw.write_all(&frames).await.unwrap();
    }
    let refused = async {
        loop {
            let mut header = [0; 9];
            raw.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            raw.read_exact(&mut payload).await.unwrap();
            assert_ne!(header[3], 7, "the connection goes on");
            if header[3] == RST_STREAM {
                return (header[8], payload);
            }
        }
    };
    let (stream, why) = timeout(PATIENCE, refused).await.expect("it is refused");
    assert_eq!((stream, why), (5, REFUSED_STREAM.to_vec()));
}

#[tokio::test]
async fn no_stream_is_silent_for_twice_the_interval() {
    const INTERVAL: Duration = Duration::from_secs(2);
    let server = Setup::new().with("HEARTBEAT_INTERVAL", "2s").start();
    let mut beating = JoinSet::new();
    for user in 0..20 {
        let mut client = server.user("acme", &user.to_string()).await;
        beating.spawn(async move {
            let opened = client.subscribe(SubscribeRequest::default()).await;
            let mut stream = opened.unwrap().into_inner();
            next(&mut stream).await;
            let mut longest = Duration::ZERO;
            for _ in 0..3 {
                let began = Instant::now();
                let beat = next(&mut stream).await;
                assert!(matches!(beat.event, Some(Event::Heartbeat(_))));
                longest = longest.max(began.elapsed());
            }
            longest
        });
    }
    for longest in beating.join_all().await {
        assert!(longest < 2 * INTERVAL, "silent for {longest:?}");
    }
}
