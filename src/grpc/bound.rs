//! Bounds the calls that are under way at once.
//!
//! A call is under way from its headers until its response was taken: a request
//! whose body never ends, and an answer that nobody reads, hold memory for as long
//! as their client likes. So each reader may have a few at once, and takes nothing
//! from other readers; its streams are bounded by the hub. Endless calls that need no
//! token share their places; one that is answered at once needs none.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::{
    TryFutureExt as _,
    future::{Either, Ready, ready},
};
use http::{Extensions, Request, Response, Uri};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::{Layer, Service};

use super::status;
use crate::{
    auth::{Caller, Right},
    model::InboxKey,
    proto::{ErrorReason, Method},
};

/// Endless calls without a token, all together: watches of the health, and reflection.
const ENDLESS: usize = 1000;

/// Bounds the calls of a service that have a key, each key's by itself.
#[derive(Clone)]
pub struct BoundLayer<K> {
    calls: Arc<Calls<K>>,
    /// Whose call it is; `None`: it is not counted.
    key: fn(&Uri, &Extensions) -> Option<K>,
    refuse: fn(usize) -> Status,
}

impl BoundLayer<InboxKey> {
    /// At most so many calls of each reader that are no stream. To be laid behind
    /// what puts a [`Caller`] on the request.
    pub fn of_readers(most: usize) -> Self {
        Self {
            calls: Calls::new(most),
            key: |uri, extensions| {
                let caller = extensions.get::<Arc<Caller>>()?;
                match &caller.right {
                    Right::Read(inbox) if !Method::of(uri.path()).is_stream() => {
                        Some(inbox.clone())
                    }
                    _ => None,
                }
            },
            refuse: |most| {
                status::passing(
                    Code::ResourceExhausted,
                    ErrorReason::TooManyCalls,
                    format!("this user has {most} calls under way, and may have no more"),
                )
            },
        }
    }
}

impl BoundLayer<()> {
    /// At most so many endless calls as all who have no token may have together.
    pub fn of_endless() -> Self {
        Self {
            calls: Calls::new(ENDLESS),
            key: |uri, _| Method::of(uri.path()).is_endless().then_some(()),
            refuse: |most| {
                status::passing(
                    Code::ResourceExhausted,
                    ErrorReason::TooManyStreams,
                    format!("{most} such calls are open, and there may be no more"),
                )
            },
        }
    }
}

impl<S, K: Clone> Layer<S> for BoundLayer<K> {
    type Service = Bound<S, K>;

    fn layer(&self, inner: S) -> Bound<S, K> {
        Bound {
            inner,
            layer: self.clone(),
        }
    }
}

/// Made by [`BoundLayer`].
#[derive(Clone)]
pub struct Bound<S, K> {
    inner: S,
    layer: BoundLayer<K>,
}

impl<S: NamedService, K> NamedService for Bound<S, K> {
    const NAME: &'static str = S::NAME;
}

type Answer<S, B> = Result<Response<Body>, <S as Service<Request<B>>>::Error>;

impl<S, B, K> Service<Request<B>> for Bound<S, K>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    // What is not counted needs no allocation.
    type Future = Either<
        S::Future,
        Either<Ready<Answer<S, B>>, futures_util::future::BoxFuture<'static, Answer<S, B>>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let layer = &self.layer;
        let Some(key) = (layer.key)(request.uri(), request.extensions()) else {
            return Either::Left(self.inner.call(request));
        };
        let Some(place) = layer.calls.take(key) else {
            let refused = (layer.refuse)(layer.calls.most).into_http();
            return Either::Right(Either::Left(ready(Ok(refused))));
        };
        let answer = self.inner.call(request);
        Either::Right(Either::Right(Box::pin(answer.map_ok(|response| {
            response.map(|body| {
                // Held until the body is dropped.
                Body::new(body.map_frame(move |frame| {
                    let _ = &place;
                    frame
                }))
            })
        }))))
    }
}

/// Counts the calls that are under way.
struct Calls<K> {
    most: usize,
    /// A std mutex, held for a look-up.
    under_way: Mutex<HashMap<K, usize>>,
}

impl<K: Clone + Eq + Hash> Calls<K> {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: Mutex::default(),
        })
    }

    fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut under_way = lock(&self.under_way);
        let count = under_way.entry(key.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place {
            calls: self.clone(),
            key,
        })
    }
}

/// One call's place; dropping it gives it back.
struct Place<K: Clone + Eq + Hash> {
    calls: Arc<Calls<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = lock(&self.calls.under_way).entry(self.key.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
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

    fn caller(right: Right) -> Arc<Caller> {
        Arc::new(Caller {
            right,
            subject: "somebody".into(),
            expires_at: Timestamp::from_seconds(1),
        })
    }

    fn reader(user: &str) -> Arc<Caller> {
        caller(Right::Read(InboxKey::parse("acme", user).unwrap()))
    }

    async fn call(
        layer: &BoundLayer<InboxKey>,
        method: &str,
        caller: Arc<Caller>,
    ) -> Response<Body> {
        let request = Request::post(format!("/doorbell.v1.NotificationService/{method}"))
            .extension(caller)
            .body(())
            .unwrap();
        let service = layer.layer(tower::service_fn(answer));
        service.oneshot(request).await.unwrap()
    }

    async fn answer(_: Request<()>) -> Result<Response<Body>, Infallible> {
        let body = http_body_util::Full::new(bytes::Bytes::from_static(b"an answer"));
        Ok(Response::new(Body::new(body)))
    }

    fn reason(response: &Response<Body>) -> Option<String> {
        let status = Status::from_header_map(response.headers())?;
        Some(status.get_error_details().error_info()?.reason.clone())
    }

    #[tokio::test]
    async fn a_call_is_under_way_until_its_answer_is_taken() {
        let layer = BoundLayer::of_readers(2);
        let first = call(&layer, "GetRecent", reader("ann")).await;
        let second = call(&layer, "GetUnreadCount", reader("ann")).await;
        assert_eq!(reason(&second), None);
        let third = call(&layer, "MarkRead", reader("ann")).await;
        assert_eq!(reason(&third).as_deref(), Some("TOO_MANY_CALLS"));
        // Neither a neighbour nor a stream is counted with them.
        assert_eq!(
            reason(&call(&layer, "GetRecent", reader("bob")).await),
            None
        );
        assert_eq!(
            reason(&call(&layer, "Subscribe", reader("ann")).await),
            None
        );
        drop(first);
        let third = call(&layer, "GetRecent", reader("ann")).await;
        assert_eq!(reason(&third), None);
        drop((second, third));
        assert!(lock(&layer.calls.under_way).is_empty());
    }

    #[tokio::test]
    async fn an_endless_call_without_a_token_needs_a_place() {
        let layer = BoundLayer {
            calls: Calls::new(1),
            ..BoundLayer::of_endless()
        };
        let call = async |path: &str| {
            let request = Request::post(path).body(()).unwrap();
            let service = layer.layer(tower::service_fn(answer));
            service.oneshot(request).await.unwrap()
        };
        let _watch = call("/grpc.health.v1.Health/Watch").await;
        let second = call("/grpc.health.v1.Health/Watch").await;
        assert_eq!(reason(&second).as_deref(), Some("TOO_MANY_STREAMS"));
        assert_eq!(reason(&call("/grpc.health.v1.Health/Check").await), None);
    }
}
