use std::convert::Infallible;

use http::{HeaderMap, Request, Response, header};
use rstest::rstest;
use tower::{Layer as _, ServiceExt as _};

use super::*;

async fn headers(method: Method, origin: Option<&str>, local: bool) -> HeaderMap {
    let settings = HttpSettings {
        cors_origins: vec!["https://app.example.com".parse().unwrap()],
        cors_headers: vec![HeaderName::from_static("x-team")],
        ..HttpSettings::default()
    };
    let service = layer(&settings, local).layer(tower::service_fn(async |_: Request<String>| {
        Ok::<_, Infallible>(Response::new(String::new()))
    }));
    let mut request = Request::builder()
        .method(method)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-grpc-web");
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    let request = request.body(String::new()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    response.headers().clone()
}

fn listed<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let value = headers.get(name).map(|value| value.to_str().unwrap());
    value
        .map(|v| v.split(',').map(str::trim).collect())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_preflight_of_a_named_origin_is_answered() {
    let headers = headers(Method::OPTIONS, Some("https://app.example.com"), false).await;
    assert_eq!(
        headers["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(headers["access-control-allow-methods"], "POST");
    let allowed = listed(&headers, "access-control-allow-headers");
    for name in ["authorization", "traceparent", "baggage", "x-team"] {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    assert_eq!(headers["access-control-max-age"], "7200");
    assert!(listed(&headers, "vary").contains(&"origin"), "{headers:?}");
    assert!(!headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn an_answer_shows_its_page_the_status() {
    let headers = headers(Method::POST, Some("https://app.example.com"), false).await;
    assert_eq!(
        headers["access-control-allow-origin"],
        "https://app.example.com"
    );
    assert_eq!(
        listed(&headers, "access-control-expose-headers"),
        [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "x-request-id"
        ]
    );
    assert!(!headers.contains_key("access-control-allow-credentials"));
}

#[rstest]
#[case(Some("https://evil.example.com"))]
#[case(Some("https://app.example.com.evil.com"))]
#[case(Some("https://app.example.com:8443"))]
#[case(Some("http://app.example.com"))]
#[case(Some("http://localhost:5173"))]
#[case(Some("null"))]
#[case(Some("*"))]
#[case(None)]
#[tokio::test]
async fn a_foreign_origin_is_not_admitted(#[case] origin: Option<&str>) {
    for method in [Method::OPTIONS, Method::POST] {
        let headers = headers(method, origin, false).await;
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{headers:?}"
        );
    }
}

#[rstest]
#[case("http://localhost:5173", true)]
#[case("http://localhost", true)]
#[case("http://127.0.0.1:8080", true)]
#[case("https://app.example.com", true)]
#[case("https://localhost:5173", false)]
#[case("http://localhost.evil.com", false)]
#[case("http://localhost:5173.evil.com", false)]
#[case("http://127.0.0.1.evil.com:80", false)]
#[case("http://127.0.0.10:8080", false)]
#[tokio::test]
async fn local_pages_are_admitted_where_asked(#[case] origin: &str, #[case] admitted: bool) {
    let headers = headers(Method::OPTIONS, Some(origin), true).await;
    let echoed = headers.get("access-control-allow-origin");
    assert_eq!(
        echoed.map(HeaderValue::as_bytes),
        admitted.then_some(origin.as_bytes())
    );
}
