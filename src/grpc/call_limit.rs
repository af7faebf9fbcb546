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
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{BoxFuture, Either};
use http::{Extensions, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
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
    /// Held for a look-up.
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
        let mut under_way = self.under_way.lock();
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
        if let Entry::Occupied(mut count) = self.places.under_way.lock().entry(self.key.clone()) {
            count.get_mut().under_way -= 1;
            if count.get().under_way == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
