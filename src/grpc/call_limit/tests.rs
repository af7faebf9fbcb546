use std::convert::Infallible;

use axum::{Router, middleware::from_fn_with_state};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::clock::Timestamp;

fn reader(user: &str) -> Arc<Caller> {
    Arc::new(Caller {
        right: Right::Read(InboxKey::parse("acme", user).unwrap()),
        subject: "somebody".into(),
        expires_at: Timestamp::from_seconds(1),
    })
}

fn readers(calls: usize, opening: usize) -> Router {
    let limit = from_fn_with_state(Readers::new(calls, opening), of_readers);
    Router::new().fallback(answer).layer(limit)
}

async fn call(
    service: &Router,
    path: &str,
    extension: impl Clone + Send + Sync + 'static,
) -> Response {
    let request = Request::post(path)
        .extension(extension)
        .body(Body::empty())
        .unwrap();
    service.clone().oneshot(request).await.unwrap()
}

async fn answer(request: Request) -> Response {
    // As tonic does: the message first.
    match request.into_body().collect().await {
        Ok(_) => Response::new(Body::from("an answer")),
        Err(_) => status::internal().into_http(),
    }
}

fn reason(response: &Response) -> Option<String> {
    let status = Status::from_header_map(response.headers())?;
    Some(status.get_error_details().error_info()?.reason.clone())
}

const RECENT: &str = "/doorbell.v1.NotificationService/GetRecent";
const SUBSCRIBE: &str = "/doorbell.v1.NotificationService/Subscribe";

#[tokio::test]
async fn a_call_is_under_way_until_its_answer_is_taken() {
    let service = readers(2, 1);
    let first = call(&service, RECENT, reader("ann")).await;
    let second = call(&service, RECENT, reader("ann")).await;
    assert_eq!(reason(&second), None);
    let third = call(&service, RECENT, reader("ann")).await;
    assert_eq!(reason(&third).as_deref(), Some("TOO_MANY_CALLS"));
    // A neighbour is not counted with them.
    assert_eq!(reason(&call(&service, RECENT, reader("bob")).await), None);
    drop(first);
    let third = call(&service, RECENT, reader("ann")).await;
    assert_eq!(reason(&third), None);
}

#[tokio::test]
async fn a_stream_is_counted_until_it_stands() {
    let service = readers(1, 1);
    let _stands = call(&service, SUBSCRIBE, reader("ann")).await;
    let endless = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<bytes::Bytes>, Infallible>,
    >());
    let unfinished = Request::post(SUBSCRIBE)
        .extension(reader("ann"))
        .body(Body::new(endless))
        .unwrap();
    let mut opening = Box::pin(service.clone().oneshot(unfinished));
    assert!(futures_util::poll!(&mut opening).is_pending());
    let second = call(&service, SUBSCRIBE, reader("ann")).await;
    assert_eq!(reason(&second).as_deref(), Some("TOO_MANY_STREAMS"));
    assert_eq!(reason(&call(&service, RECENT, reader("ann")).await), None);
    drop(opening);
    let again = call(&service, SUBSCRIBE, reader("ann")).await;
    assert_eq!(reason(&again), None);
}

#[tokio::test]
async fn what_asks_for_a_stream_is_short() {
    let service = readers(1, 1);
    for (bytes, refused) in [(STREAM_BYTES, None), (STREAM_BYTES + 1, Some("INTERNAL"))] {
        let request = Request::post(SUBSCRIBE)
            .extension(reader("ann"))
            .body(Body::new(http_body_util::Full::from(vec![0; bytes])))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(reason(&response).as_deref(), refused);
    }
}

/// A peer whose connection tells when it is closed.
#[derive(Clone)]
struct Peer(SocketAddr, tokio_util::sync::CancellationToken);

fn peer(port: u16) -> Peer {
    Peer(SocketAddr::from(([127, 0, 0, 1], port)), Default::default())
}

fn open() -> Router {
    let open = Open::new(|extensions| {
        let Peer(address, closed) = extensions.get::<Peer>()?.clone();
        Some((address, Box::new(move || closed.cancel())))
    });
    Router::new()
        .fallback(answer)
        .layer(from_fn_with_state(open, of_open))
}

const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";

#[tokio::test]
async fn one_connection_without_a_token_takes_few_places() {
    for (path, full) in [(WATCH, "TOO_MANY_STREAMS"), (CHECK, "TOO_MANY_CALLS")] {
        let service = open();
        let mut held = Vec::new();
        for _ in 0..OPEN_ON_A_CONNECTION {
            held.push(call(&service, path, peer(1)).await);
            assert_eq!(reason(&held[held.len() - 1]), None);
        }
        let more = call(&service, path, peer(1)).await;
        assert_eq!(reason(&more).as_deref(), Some(full));
        assert_eq!(reason(&call(&service, path, peer(2)).await), None);
        held.pop();
        assert_eq!(reason(&call(&service, path, peer(1)).await), None);
    }
}

#[tokio::test]
async fn who_goes_on_asking_without_a_place_loses_its_connection() {
    let service = open();
    let (greedy, modest) = (peer(1), peer(2));
    let mut held = Vec::new();
    for from in [&greedy, &modest] {
        for _ in 0..OPEN_ON_A_CONNECTION {
            held.push(call(&service, CHECK, from.clone()).await);
        }
        for _ in 1..REFUSED {
            call(&service, CHECK, from.clone()).await;
        }
    }
    assert!(!greedy.1.is_cancelled());
    call(&service, CHECK, greedy.clone()).await;
    assert!(greedy.1.is_cancelled());
    assert!(!modest.1.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_an_answer_loses_its_connection() {
    let service = open();
    let (slow, quick, watching) = (peer(1), peer(2), peer(3));
    let begun = tokio::time::Instant::now();
    let _untaken = call(&service, CHECK, slow.clone()).await;
    drop(call(&service, CHECK, quick.clone()).await);
    let _endless = call(&service, WATCH, watching.clone()).await;
    slow.1.cancelled().await;
    assert!(begun.elapsed() >= TAKEN_WITHIN);
    tokio::time::sleep(TAKEN_WITHIN).await;
    assert!(!quick.1.is_cancelled());
    assert!(!watching.1.is_cancelled());
}
