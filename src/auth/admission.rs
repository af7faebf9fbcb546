//! Lets a request pass when its token is verified.
//!
//! Takes the token out of the request's `authorization` and leaves an
//! `Arc<Caller>` in its extensions: nothing behind it sees a token. A request
//! without a good one is answered by its refusal, and does not reach what is behind.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header::AUTHORIZATION};

use super::{Caller, Error, TokenVerifier};

/// Who verifies a request, and what answers one that is refused.
#[derive(Clone)]
pub struct Admission {
    /// Verifies its token.
    pub verifier: Arc<TokenVerifier>,
    /// Makes the answer.
    pub refuse: fn(&Error) -> Response,
}

/// Verifies the token of a request before what is behind sees it.
pub async fn admit(
    State(Admission { verifier, refuse }): State<Admission>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&verifier, request.headers_mut()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => refuse(&error),
    }
}

async fn caller(verifier: &TokenVerifier, headers: &mut HeaderMap) -> Result<Arc<Caller>, Error> {
    let token = take_token(headers)?;
    match verifier.verify_now(&token) {
        Err(Error::KeysUnavailable) => verifier.verify_again(&token).await,
        verified => verified,
    }
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
    use axum::{Extension, Router, body::Body, middleware::from_fn_with_state, routing::get};
    use http::{HeaderValue, StatusCode};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::auth::test_support::{NOW, user_token, verifier};

    /// Answers with the subject.
    async fn behind(headers: HeaderMap, Extension(caller): Extension<Arc<Caller>>) -> String {
        assert!(!headers.contains_key(AUTHORIZATION));
        caller.subject.to_string()
    }

    async fn call(values: &[&str]) -> (StatusCode, String) {
        let admission = Admission {
            verifier: Arc::new(verifier(NOW)),
            refuse: |error| {
                let mut response = Response::new(error.to_string().into());
                *response.status_mut() = StatusCode::UNAUTHORIZED;
                response
            },
        };
        let mut request = Request::new(Body::empty());
        for value in values {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(AUTHORIZATION, value);
        }
        let service = Router::new()
            .route("/", get(behind))
            .layer(from_fn_with_state(admission, admit));
        let response = service.oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn refusal(values: &[&str]) -> String {
        let (status, text) = call(values).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        text
    }

    #[tokio::test]
    async fn a_good_token_becomes_a_caller() {
        let token = user_token();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let answer = call(&[&format!("{scheme} {token}")]).await;
            assert_eq!(answer, (StatusCode::OK, "ann".to_owned()));
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
