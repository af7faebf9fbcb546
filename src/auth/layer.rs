//! Lets a request pass when its token is verified.
//!
//! Takes the token out of the request's `authorization` and leaves an
//! `Arc<Caller>` in its extensions: nothing behind the layer sees a token. A
//! request without a good one is answered with a status alone, and does not
//! reach what is behind.

use std::{
    future::Ready,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either, FutureExt as _};
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::Status;
use tower::Service;

use super::{Caller, Error, TokenVerifier};

/// Verifies the token of each request before the service behind sees it.
#[derive(Clone)]
pub struct Layer {
    verifier: Arc<TokenVerifier>,
    reject: fn(&Error) -> Status,
}

impl Layer {
    /// Verifies by `verifier`; `reject` makes the status of a refusal.
    pub fn new(verifier: Arc<TokenVerifier>, reject: fn(&Error) -> Status) -> Self {
        Self { verifier, reject }
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated {
            inner,
            verifier: Arc::clone(&self.verifier),
            reject: self.reject,
        }
    }
}

/// A service behind a [`Layer`].
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    verifier: Arc<TokenVerifier>,
    reject: fn(&Error) -> Status,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

type Answer<S, B> = Result<<S as Service<Request<B>>>::Response, <S as Service<Request<B>>>::Error>;

impl<S, B, R> Service<Request<B>> for Authenticated<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
    R: Default + Send,
{
    type Response = S::Response;
    type Error = S::Error;
    // A token that is known, or is no good, needs no allocation.
    type Future = Either<S::Future, Either<Ready<Answer<S, B>>, BoxFuture<'static, Answer<S, B>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let reject = self.reject;
        let refuse = move |error: &Error| Ok(reject(error).into_http());
        let token = match take_token(request.headers_mut()) {
            Ok(token) => token,
            Err(error) => return Either::Right(Either::Left(std::future::ready(refuse(&error)))),
        };
        match self.verifier.verify_now(&token) {
            Ok(caller) => Either::Left(self.inner.call(admitted(request, caller))),
            Err(Error::KeysUnavailable) => {
                // The one that was polled ready goes with the request.
                let clone = self.inner.clone();
                let mut inner = mem::replace(&mut self.inner, clone);
                let verifier = Arc::clone(&self.verifier);
                let answer = async move {
                    match verifier.verify_again(&token).await {
                        Ok(caller) => inner.call(admitted(request, caller)).await,
                        Err(error) => refuse(&error),
                    }
                };
                Either::Right(Either::Right(answer.boxed()))
            }
            Err(error) => Either::Right(Either::Left(std::future::ready(refuse(&error)))),
        }
    }
}

fn admitted<B>(mut request: Request<B>, caller: Arc<Caller>) -> Request<B> {
    request.extensions_mut().insert(caller);
    request
}

/// Takes the one bearer token out of the headers (RFC 6750).
fn take_token(headers: &mut HeaderMap) -> Result<String, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::Missing)?;
    if values.next().is_some() {
        return Err(Error::Invalid(
            "there is more than one `authorization`".into(),
        ));
    }
    let malformed = || Error::Invalid("`authorization` must be `Bearer <token>`".into());
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    let token = token.trim();
    if token.is_empty() {
        return Err(Error::Missing);
    }
    let token = token.to_owned();
    headers.remove(AUTHORIZATION);
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::HeaderValue;
    use tower::{Layer as _, ServiceExt as _};

    use super::*;
    use crate::auth::test_support::{NOW, user_token, verifier};

    fn reject(error: &Error) -> Status {
        match error {
            Error::KeysUnavailable => Status::unavailable(error.to_string()),
            _ => Status::unauthenticated(error.to_string()),
        }
    }

    /// Answers with the subject, and with a mark where it saw a token.
    async fn behind(request: Request<()>) -> Result<Response<String>, Infallible> {
        assert!(!request.headers().contains_key(AUTHORIZATION));
        let caller = request.extensions().get::<Arc<Caller>>().unwrap();
        Ok(Response::new(caller.subject.to_string()))
    }

    async fn call(values: &[&str]) -> Response<String> {
        let layer = Layer::new(Arc::new(verifier(NOW)), reject);
        let mut request = Request::new(());
        for value in values {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(AUTHORIZATION, value);
        }
        layer
            .layer(tower::service_fn(behind))
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn refusal(values: &[&str]) -> String {
        let response = call(values).await;
        assert_eq!(response.body(), "");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        status.message().to_owned()
    }

    #[tokio::test]
    async fn a_good_token_becomes_a_caller() {
        let token = user_token();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let response = call(&[&format!("{scheme} {token}")]).await;
            assert_eq!(response.body(), "ann");
        }
    }

    #[tokio::test]
    async fn other_requests_do_not_pass() {
        let token = user_token();
        assert!(refusal(&[]).await.contains("no token"));
        assert!(refusal(&["Bearer "]).await.contains("no token"));
        assert!(refusal(&["Bearer"]).await.contains("no token"));
        assert!(
            refusal(&[&format!("Basic {token}")])
                .await
                .contains("must be `Bearer")
        );
        assert!(refusal(&[&token]).await.contains("must be `Bearer"));
        let good = format!("Bearer {token}");
        assert!(refusal(&[&good, &good]).await.contains("more than one"));
        let refused = refusal(&["Bearer a.b.c"]).await;
        assert!(refused.contains("not valid"), "{refused}");
        assert!(refusal(&[&format!("{good}x")]).await.contains("not valid"));
    }
}
