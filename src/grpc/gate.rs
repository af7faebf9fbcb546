//! Lets a bounded number of streams open at a time; the others wait their turn.
//!
//! When a server was restarted, all its streams come back at once. Opening one
//! costs little, but thousands of them in the scheduler's queue stand before every
//! other call. Behind the gate they wait for a place instead, first come first
//! served, and a send passes them by.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::Request;
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::server::notification_service_server::SERVICE_NAME;
use crate::metrics;

/// Enough to keep all cores busy, and few enough to wait for.
const PLACES: usize = 64;

/// Puts the gate before a service.
#[derive(Clone)]
pub struct GateLayer {
    places: Arc<Semaphore>,
}

impl GateLayer {
    /// A gate with all its places free.
    pub fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }
}

impl Default for GateLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            places: self.places.clone(),
        }
    }
}

/// Made by [`GateLayer`].
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !opens_stream(request.uri().path()) {
            return Either::Left(self.inner.call(request));
        }
        // The one that was polled ready goes with the request.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let places = self.places.clone();
        let opening = async move {
            // Held until the stream stands or is refused. It fails only when the
            // semaphore is closed, and nobody closes it.
            let _place = places.acquire().await;
            inner.call(request).await
        };
        Either::Right(opening.boxed())
    }
}

fn opens_stream(path: &str) -> bool {
    let method = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME));
    method.and_then(|method| method.strip_prefix('/')) == Some(metrics::STREAM)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    fn request(path: &str) -> Request<()> {
        Request::post(path).body(()).unwrap()
    }

    const SUBSCRIBE: &str = "/doorbell.v1.NotificationService/Subscribe";
    const SEND: &str = "/doorbell.v1.NotificationService/SendInApp";

    #[test]
    fn only_streams_wait() {
        assert!(opens_stream(SUBSCRIBE));
        assert!(!opens_stream(SEND));
        assert!(!opens_stream("/doorbell.v1.NotificationService/Subscribed"));
        assert!(!opens_stream("/grpc.health.v1.Health/Watch"));
    }

    #[tokio::test]
    async fn the_last_place_is_the_last_and_a_send_needs_none() {
        let (opening, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let service = GateLayer::new().layer(service_fn({
            let (opening, open) = (opening.clone(), open.clone());
            move |request: Request<()>| {
                let (opening, open) = (opening.clone(), open.clone());
                async move {
                    if request.uri().path() == SUBSCRIBE {
                        opening.fetch_add(1, Ordering::SeqCst);
                        open.notified().await;
                    }
                    Ok::<_, Infallible>(())
                }
            }
        }));
        let streams: Vec<_> = (0..=PLACES)
            .map(|_| tokio::spawn(service.clone().oneshot(request(SUBSCRIBE))))
            .collect();
        while opening.load(Ordering::SeqCst) < PLACES {
            tokio::task::yield_now().await;
        }
        // The one too many was polled as well by now: the runtime has one thread.
        tokio::task::yield_now().await;
        assert_eq!(opening.load(Ordering::SeqCst), PLACES);
        service.clone().oneshot(request(SEND)).await.unwrap();
        // One opens, and its place is the next one's.
        open.notify_one();
        while opening.load(Ordering::SeqCst) <= PLACES {
            tokio::task::yield_now().await;
        }
        while !streams.iter().all(tokio::task::JoinHandle::is_finished) {
            open.notify_waiters();
            tokio::task::yield_now().await;
        }
    }
}
