//! The operators' page: what support and on-call need, in a browser.
//!
//! Its files are built from `clients/web/operator` and kept in `operator_page`, so that a
//! build of this crate needs no npm; the tests prove that they are what the sources build.
//! The page holds no secret: who opens it gives it a token, which it keeps in memory and
//! sends with each call. It is served on a port of its own beside the calls it makes, so
//! that no other origin has to be let in.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};

/// Its own files and calls to where it came from, and nothing else
/// (<https://www.w3.org/TR/CSP3/>). A text can become markup nowhere on it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

/// A file: its path, its type and what is in it.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/operator",
        "text/html; charset=utf-8",
        include_str!("operator_page/index.html"),
    ),
    (
        "/operator/page.js",
        "text/javascript; charset=utf-8",
        include_str!("operator_page/page.js"),
    ),
    (
        "/operator/page.css",
        "text/css; charset=utf-8",
        include_str!("operator_page/page.css"),
    ),
    (
        "/operator/icon.svg",
        "image/svg+xml",
        include_str!("operator_page/icon.svg"),
    ),
];

/// `GET /operator` is the page. `/` leads there, and all else is not found.
pub fn router() -> Router {
    let to_page = || get(async || guarded(Redirect::temporary("/operator").into_response()));
    let router = Router::new()
        .route("/", to_page())
        .route("/operator/", to_page())
        .fallback(async || guarded(StatusCode::NOT_FOUND.into_response()));
    FILES.iter().fold(router, |router, (path, kind, text)| {
        let file = async move || {
            let kind = [(header::CONTENT_TYPE, *kind)];
            guarded((kind, *text).into_response())
        };
        router.route(path, get(file))
    })
}

fn guarded(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_inline_and_asks_for_its_own_files_alone() {
        let [(_, _, page), ..] = FILES;
        for part in page.split('<').filter(|part| part.starts_with("script")) {
            let (tag, inside) = part.split_once('>').unwrap();
            assert!(tag.contains("src=\"/operator/page.js\""), "{tag}");
            assert_eq!(inside.trim(), "");
        }
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
        let addresses: Vec<_> = page
            .split('"')
            .filter(|text| text.starts_with('/') || text.contains("://"))
            .collect();
        assert!(addresses.len() >= 3, "{addresses:?}");
        for address in addresses {
            assert!(FILES.iter().any(|(path, ..)| *path == address), "{address}");
        }
    }
}
