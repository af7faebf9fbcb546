//! Lets a bounded number of streams open at a time; the others wait their turn.
//!
//! When a server was restarted, all its streams come back at once. Opening one
//! costs little, but thousands of them in the scheduler's queue stand before every
//! other call. Behind the gate they wait for a place instead, first come first
//! served, and a send passes them by.
//!
//! Who waits has sent its whole request, and has shown a good token: a place is held
//! for as long as the service needs, never for as long as a client likes.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body, server::NamedService};
use tower::{Layer, Service};

use super::status;
use crate::proto::{ErrorReason, Method};

/// Enough to keep the cores busy and to share a read of heads, and few enough to wait
/// for.
const PLACES: usize = 16;

/// Puts the gate before a service.
#[derive(Clone)]
pub struct GateLayer {
    places: Arc<Semaphore>,
    most_bytes: usize,
}

impl GateLayer {
    /// A gate with all its places free, for requests of at most so many bytes.
    pub fn new(most_bytes: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            most_bytes,
        }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate {
            inner,
            layer: self.clone(),
        }
    }
}

/// Made by [`GateLayer`].
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !Method::of(request.uri().path()).is_stream() {
            return Either::Left(self.inner.call(request));
        }
        // The one that was polled ready goes with the request.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let GateLayer { places, most_bytes } = self.layer.clone();
        let opening = async move {
            let (head, body) = request.into_parts();
            let whole = match Limited::new(body, most_bytes).collect().await {
                Ok(whole) => whole.to_bytes(),
                Err(error) => return Ok(unreadable(&*error).into_http()),
            };
            // Held until the stream stands or is refused. It fails only when the
            // semaphore is closed, and nobody closes it.
            let _place = places.acquire().await;
            let body = Body::new(Full::new(whole));
            inner.call(Request::from_parts(head, body)).await
        };
        Either::Right(opening.boxed())
    }
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Status {
    if error.is::<LengthLimitError>() {
        status::too_large()
    } else {
        status::new(
            Code::InvalidArgument,
            ErrorReason::MalformedRequest,
            "the request did not come to its end",
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use bytes::Bytes;
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::{sync::Notify, task::JoinHandle};
    use tonic_types::StatusExt as _;
    use tower::{BoxError, ServiceExt as _, service_fn};

    use super::*;

    const MOST_BYTES: usize = 64;

    /// A service behind a gate, whose streams open when they are told to.
    struct Gated {
        layer: GateLayer,
        opening: Arc<AtomicUsize>,
        open: Arc<Notify>,
    }

    impl Gated {
        fn new() -> Self {
            Self {
                layer: GateLayer::new(MOST_BYTES),
                opening: Arc::default(),
                open: Arc::default(),
            }
        }

        fn call(&self, method: &str, body: Body) -> JoinHandle<Response<Body>> {
            let (opening, open) = (self.opening.clone(), self.open.clone());
            let service = self.layer.layer(service_fn(move |request: Request<Body>| {
                let (opening, open) = (opening.clone(), open.clone());
                async move {
                    if request.uri().path().ends_with("Subscribe") {
                        opening.fetch_add(1, Ordering::SeqCst);
                        open.notified().await;
                    }
                    Ok::<_, Infallible>(Response::new(request.into_body()))
                }
            }));
            let path = format!("/doorbell.v1.NotificationService/{method}");
            let request = Request::post(path).body(body).unwrap();
            tokio::spawn(async move { service.oneshot(request).await.unwrap() })
        }

        /// Lets all run as far as they come: the runtime of a test has one thread.
        async fn opening(&self) -> usize {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            self.opening.load(Ordering::SeqCst)
        }
    }

    fn whole(bytes: usize) -> Body {
        Body::new(Full::new(Bytes::from(vec![b'x'; bytes])))
    }

    fn unfinished() -> Body {
        let never = stream::pending::<Result<Frame<Bytes>, BoxError>>();
        Body::new(StreamBody::new(never))
    }

    #[tokio::test]
    async fn the_last_place_is_the_last_and_a_send_needs_none() {
        let gated = Gated::new();
        let streams: Vec<_> = (0..=PLACES)
            .map(|_| gated.call("Subscribe", whole(MOST_BYTES)))
            .collect();
        assert_eq!(gated.opening().await, PLACES);
        gated.call("SendInApp", whole(1)).await.unwrap();
        // One opens, and its place is the next one's.
        gated.open.notify_one();
        assert_eq!(gated.opening().await, PLACES + 1);
        gated.open.notify_waiters();
        for stream in streams {
            let body = stream.await.unwrap().into_body();
            let body = body.collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), MOST_BYTES, "it is handed on whole");
        }
    }

    #[tokio::test]
    async fn who_does_not_finish_its_request_takes_no_place() {
        let gated = Gated::new();
        for _ in 0..=PLACES {
            gated.call("Subscribe", unfinished());
        }
        gated.call("Subscribe", whole(1));
        assert_eq!(gated.opening().await, 1);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let gated = Gated::new();
        let broken = stream::iter([Err::<Frame<Bytes>, BoxError>("cut".into())]);
        for (body, expected) in [
            (whole(MOST_BYTES + 1), "REQUEST_TOO_LARGE"),
            (Body::new(StreamBody::new(broken)), "MALFORMED_REQUEST"),
        ] {
            let response = gated.call("Subscribe", body).await.unwrap();
            let status = Status::from_header_map(response.headers()).unwrap();
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, expected);
        }
        assert_eq!(gated.opening().await, 0);
    }
}
