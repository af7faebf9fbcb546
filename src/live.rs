//! The live page: two users with their bells, a form that sends, and what their
//! streams say.
//!
//! `live/page.html` is built from `clients/web` and kept here, so that a build of
//! this crate needs no npm; the tests prove that it is what the sources build. The
//! page holds no secret: its tokens come in the fragment of its URL, which no
//! server sees, and which leaves the address bar at once.

use std::sync::LazyLock;

use axum::{Router, http::header, routing::get};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("live/page.html");
static POLICY: LazyLock<String> = LazyLock::new(policy);

/// `GET /` is the page.
pub fn router() -> Router {
    let page = async || {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, &POLICY),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (headers, PAGE)
    };
    Router::new().route("/", get(page))
}

/// The page's own script and style, each known by its hash, calls to where it came
/// from, its own sign, and the pictures of notifications from where their senders say;
/// nothing else (<https://www.w3.org/TR/CSP3/>).
fn policy() -> String {
    let hash = |element: &str| {
        let (open, close) = (format!("<{element}"), format!("</{element}>"));
        let inner = PAGE
            .split_once(open.as_str())
            .and_then(|(_, rest)| rest.split_once('>'))
            .and_then(|(_, rest)| rest.split_once(close.as_str()))
            .map_or("", |(inner, _)| inner);
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inner)))
    };
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; \
         img-src data: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_script_and_the_style() {
        let policy = policy();
        let of_nothing = STANDARD.encode(Sha256::digest(""));
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        assert!(!policy.contains(&of_nothing), "{policy}");
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let (before, _) = PAGE.split_once("<script type=\"module\">").unwrap();
        for element in ["<script", "<img", "url(", "@import"] {
            assert!(!before.contains(element), "{element}");
        }
        // Its sign is in it.
        let links: Vec<_> = before.split("<link").skip(1).collect();
        assert!(matches!(links[..], [icon] if icon.contains("href=\"data:image/svg+xml,")));
        assert_eq!(PAGE.matches("<script type=").count(), 1);
    }
}
