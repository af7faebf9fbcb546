//! Bounds the calls that are under way at once.
//!
//! A call is under way from its headers until its response was taken: a request
//! whose body never ends, and an answer that nobody reads, hold memory for as long
//! as their client likes. So each reader may have a few at once, and takes nothing
//! from other readers; its streams have places of their own until they stand, and then
//! the hub's.
//! Calls without a token have a few places on each connection and some in all; where
//! they are to be answered at once and the answer is not taken, or where it goes on
//! asking while all its places are taken, the connection goes.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::{Ready, ready},
    hash::Hash,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either};
use http::{Extensions, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::{Layer, Service};

use super::status;
use crate::{
    auth::{Caller, Right},
    model::InboxKey,
    proto::{ErrorReason, Method},
};

/// The calls without a token on one connection, endless ones and others each.
const OPEN_ON_A_CONNECTION: usize = 16;
/// All endless calls without a token: watches of the health, and reflection.
const ENDLESS: usize = 1000;
/// All others without a token.
const OPEN: usize = 10_000;
/// A connection whose places are all taken, and which goes on asking so often, is closed.
const REFUSED: usize = 100;
/// So long an answer without a token may wait to be taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of what asks for a stream, with the prefix of its message.
const STREAM_BYTES: usize = 1024 + 5;

/// Closes a connection.
pub type Close = Box<dyn FnOnce() + Send>;
/// The connection that a request came by: the other end, and what closes it.
pub type Connection = fn(&Extensions) -> Option<(SocketAddr, Close)>;

/// Bounds the calls of a service.
#[derive(Clone)]
pub struct CallLimitLayer(Kind);

#[derive(Clone)]
enum Kind {
    Readers {
        calls: Arc<Places<InboxKey>>,
        /// Streams that do not stand yet.
        opening: Arc<Places<InboxKey>>,
    },
    Open(Arc<Open>),
}

/// The places of those who show no token.
struct Open {
    connection: Connection,
    places: Arc<Places<(SocketAddr, bool)>>,
    endless: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl CallLimitLayer {
    /// At most so many calls of each reader, and streams that open. To be laid behind
    /// what puts a [`Caller`] on the request.
    pub fn of_readers(calls: usize, opening: usize) -> Self {
        Self(Kind::Readers {
            calls: Places::new(calls),
            opening: Places::new(opening),
        })
    }

    /// The calls of all who have no token.
    pub fn of_open(connection: Connection) -> Self {
        Self(Kind::Open(Arc::new(Open {
            connection,
            places: Places::new(OPEN_ON_A_CONNECTION),
            endless: Arc::new(Semaphore::new(ENDLESS)),
            others: Arc::new(Semaphore::new(OPEN)),
        })))
    }
}

impl<S> Layer<S> for CallLimitLayer {
    type Service = CallLimit<S>;

    fn layer(&self, inner: S) -> CallLimit<S> {
        CallLimit {
            inner,
            kind: self.0.clone(),
        }
    }
}

/// Made by [`CallLimitLayer`].
#[derive(Clone)]
pub struct CallLimit<S> {
    inner: S,
    kind: Kind,
}

impl<S: NamedService> NamedService for CallLimit<S> {
    const NAME: &'static str = S::NAME;
}

type Answer<S> = Result<Response<Body>, <S as Service<Request<Body>>>::Error>;

impl<S> Service<Request<Body>> for CallLimit<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    // What is not counted needs no allocation.
    type Future = Either<S::Future, Either<Ready<Answer<S>>, BoxFuture<'static, Answer<S>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = Method::of(request.uri().path());
        let is_stream = method.is_stream();
        let held = match &self.kind {
            Kind::Readers { calls, opening } => reader(request.extensions()).map(|inbox| {
                if is_stream {
                    Held::of_reader(opening, inbox, ErrorReason::TooManyStreams)
                } else {
                    Held::of_reader(calls, inbox, ErrorReason::TooManyCalls)
                }
            }),
            Kind::Open(open) => Some(open.take(request.extensions(), method.is_endless())),
        };
        let held = match held {
            None => return Either::Left(self.inner.call(request)),
            Some(Ok(held)) => held,
            Some(Err(status)) => {
                return Either::Right(Either::Left(ready(Ok(status.into_http()))));
            }
        };
        if is_stream {
            request = request.map(|body| Body::new(Limited::new(body, STREAM_BYTES)));
        }
        let answer = self.inner.call(request);
        Either::Right(Either::Right(Box::pin(async move {
            let response = answer.await?;
            if is_stream {
                return Ok(response);
            }
            // Held until the body is dropped.
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &held;
                    frame
                }))
            }))
        })))
    }
}

fn reader(extensions: &Extensions) -> Option<InboxKey> {
    match &extensions.get::<Arc<Caller>>()?.right {
        Right::Read(inbox) => Some(inbox.clone()),
        Right::Send(_) => None,
    }
}

/// What a call under way holds, and gives back when it is dropped.
#[expect(dead_code, reason = "held for what their ends do")]
enum Held {
    Reader(Place<InboxKey>),
    Open(
        Place<(SocketAddr, bool)>,
        OwnedSemaphorePermit,
        Option<AbortOnDropHandle<()>>,
    ),
}

impl Held {
    fn of_reader(
        places: &Arc<Places<InboxKey>>,
        inbox: InboxKey,
        reason: ErrorReason,
    ) -> Result<Self, Status> {
        places.take(inbox).map(Self::Reader).map_err(|_| {
            let most = places.most;
            status::passing(
                Code::ResourceExhausted,
                reason,
                format!("this user has {most} such calls under way, and may have no more"),
            )
        })
    }
}

impl Open {
    fn take(&self, extensions: &Extensions, endless: bool) -> Result<Held, Status> {
        let refuse = |reason, text: &str| status::passing(Code::ResourceExhausted, reason, text);
        let (reason, all) = if endless {
            (ErrorReason::TooManyStreams, &self.endless)
        } else {
            (ErrorReason::TooManyCalls, &self.others)
        };
        let (peer, close) = (self.connection)(extensions).ok_or_else(status::internal)?;
        let place = match self.places.take((peer, endless)) {
            Ok(place) => place,
            Err(refused) => {
                if refused >= REFUSED {
                    close();
                }
                let text = "this connection may have no more such calls under way";
                return Err(refuse(reason, text));
            }
        };
        let permit = all
            .clone()
            .try_acquire_owned()
            .map_err(|_| refuse(reason, "there may be no more such calls under way"))?;
        let late = (!endless).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(TAKEN_WITHIN).await;
                close();
            }))
        });
        Ok(Held::Open(place, permit, late))
    }
}

/// Counts the calls of each that are under way.
struct Places<K> {
    most: usize,
    /// A std mutex, held for a look-up.
    under_way: Mutex<HashMap<K, Count>>,
}

#[derive(Default)]
struct Count {
    under_way: usize,
    /// Since there was none under way.
    refused: usize,
}

impl<K: Clone + Eq + Hash> Places<K> {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: Mutex::default(),
        })
    }

    /// An error says how many were refused so far.
    fn take(self: &Arc<Self>, key: K) -> Result<Place<K>, usize> {
        let mut under_way = lock(&self.under_way);
        let count = under_way.entry(key.clone()).or_default();
        if count.under_way >= self.most {
            count.refused += 1;
            return Err(count.refused);
        }
        count.under_way += 1;
        Ok(Place {
            places: self.clone(),
            key,
        })
    }
}

/// One call's place; dropping it gives it back.
struct Place<K: Clone + Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = lock(&self.places.under_way).entry(self.key.clone()) {
            count.get_mut().under_way -= 1;
            if count.get().under_way == 0 {
                count.remove();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under this lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

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

    async fn call(
        layer: &CallLimitLayer,
        path: &str,
        extension: impl Clone + Send + Sync + 'static,
    ) -> Response<Body> {
        let request = Request::post(path)
            .extension(extension)
            .body(Body::empty())
            .unwrap();
        let service = layer.layer(tower::service_fn(answer));
        service.oneshot(request).await.unwrap()
    }

    async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        // As tonic does: the message first.
        Ok(match request.into_body().collect().await {
            Ok(_) => {
                let body = http_body_util::Full::new(bytes::Bytes::from_static(b"an answer"));
                Response::new(Body::new(body))
            }
            Err(_) => status::internal().into_http(),
        })
    }

    fn reason(response: &Response<Body>) -> Option<String> {
        let status = Status::from_header_map(response.headers())?;
        Some(status.get_error_details().error_info()?.reason.clone())
    }

    const RECENT: &str = "/doorbell.v1.NotificationService/GetRecent";
    const SUBSCRIBE: &str = "/doorbell.v1.NotificationService/Subscribe";

    #[tokio::test]
    async fn a_call_is_under_way_until_its_answer_is_taken() {
        let layer = CallLimitLayer::of_readers(2, 1);
        let first = call(&layer, RECENT, reader("ann")).await;
        let second = call(&layer, RECENT, reader("ann")).await;
        assert_eq!(reason(&second), None);
        let third = call(&layer, RECENT, reader("ann")).await;
        assert_eq!(reason(&third).as_deref(), Some("TOO_MANY_CALLS"));
        // A neighbour is not counted with them.
        assert_eq!(reason(&call(&layer, RECENT, reader("bob")).await), None);
        drop(first);
        let third = call(&layer, RECENT, reader("ann")).await;
        assert_eq!(reason(&third), None);
    }

    #[tokio::test]
    async fn a_stream_is_counted_until_it_stands() {
        let layer = CallLimitLayer::of_readers(1, 1);
        let _stands = call(&layer, SUBSCRIBE, reader("ann")).await;
        let service = layer.layer(tower::service_fn(answer));
        let endless = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, Infallible>,
        >());
        let unfinished = Request::post(SUBSCRIBE)
            .extension(reader("ann"))
            .body(Body::new(endless))
            .unwrap();
        let mut opening = Box::pin(service.oneshot(unfinished));
        assert!(futures_util::poll!(&mut opening).is_pending());
        let second = call(&layer, SUBSCRIBE, reader("ann")).await;
        assert_eq!(reason(&second).as_deref(), Some("TOO_MANY_STREAMS"));
        assert_eq!(reason(&call(&layer, RECENT, reader("ann")).await), None);
        drop(opening);
        let again = call(&layer, SUBSCRIBE, reader("ann")).await;
        assert_eq!(reason(&again), None);
    }

    #[tokio::test]
    async fn what_asks_for_a_stream_is_short() {
        let layer = CallLimitLayer::of_readers(1, 1);
        for (bytes, refused) in [(STREAM_BYTES, None), (STREAM_BYTES + 1, Some("INTERNAL"))] {
            let request = Request::post(SUBSCRIBE)
                .extension(reader("ann"))
                .body(Body::new(http_body_util::Full::from(vec![0; bytes])))
                .unwrap();
            let service = layer.layer(tower::service_fn(answer));
            let response = service.oneshot(request).await.unwrap();
            assert_eq!(reason(&response).as_deref(), refused);
        }
    }

    /// A peer whose connection tells when it is closed.
    #[derive(Clone)]
    struct Peer(SocketAddr, tokio_util::sync::CancellationToken);

    fn peer(port: u16) -> Peer {
        Peer(SocketAddr::from(([127, 0, 0, 1], port)), Default::default())
    }

    fn open() -> CallLimitLayer {
        CallLimitLayer::of_open(|extensions| {
            let Peer(address, closed) = extensions.get::<Peer>()?.clone();
            Some((address, Box::new(move || closed.cancel())))
        })
    }

    const WATCH: &str = "/grpc.health.v1.Health/Watch";
    const CHECK: &str = "/grpc.health.v1.Health/Check";

    #[tokio::test]
    async fn one_connection_without_a_token_takes_few_places() {
        for (path, full) in [(WATCH, "TOO_MANY_STREAMS"), (CHECK, "TOO_MANY_CALLS")] {
            let layer = open();
            let mut held = Vec::new();
            for _ in 0..OPEN_ON_A_CONNECTION {
                held.push(call(&layer, path, peer(1)).await);
                assert_eq!(reason(&held[held.len() - 1]), None);
            }
            let more = call(&layer, path, peer(1)).await;
            assert_eq!(reason(&more).as_deref(), Some(full));
            assert_eq!(reason(&call(&layer, path, peer(2)).await), None);
            held.pop();
            assert_eq!(reason(&call(&layer, path, peer(1)).await), None);
        }
    }

    #[tokio::test]
    async fn who_goes_on_asking_without_a_place_loses_its_connection() {
        let layer = open();
        let (greedy, modest) = (peer(1), peer(2));
        let mut held = Vec::new();
        for from in [&greedy, &modest] {
            for _ in 0..OPEN_ON_A_CONNECTION {
                held.push(call(&layer, CHECK, from.clone()).await);
            }
            for _ in 1..REFUSED {
                call(&layer, CHECK, from.clone()).await;
            }
        }
        assert!(!greedy.1.is_cancelled());
        call(&layer, CHECK, greedy.clone()).await;
        assert!(greedy.1.is_cancelled());
        assert!(!modest.1.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_an_answer_loses_its_connection() {
        let layer = open();
        let (slow, quick, watching) = (peer(1), peer(2), peer(3));
        let begun = tokio::time::Instant::now();
        let _untaken = call(&layer, CHECK, slow.clone()).await;
        drop(call(&layer, CHECK, quick.clone()).await);
        let _endless = call(&layer, WATCH, watching.clone()).await;
        slow.1.cancelled().await;
        assert!(begun.elapsed() >= TAKEN_WITHIN);
        tokio::time::sleep(TAKEN_WITHIN).await;
        assert!(!quick.1.is_cancelled());
        assert!(!watching.1.is_cancelled());
    }
}
