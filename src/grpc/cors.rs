//! Which pages may call from a browser.
//!
//! Exactly the origins that were named, each echoed by itself; never `*`, and
//! never with credentials: a token comes in a header, not in a cookie.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, request::Parts};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::{HttpSettings, Origin};

/// What a page may send: what the calls need, and what the tracing that is in so many
/// pages adds to each call. A browser asks for all of it at once, and one that is not
/// here stops the call. A line each for gRPC-web, Connect, W3C (so OpenTelemetry) and Sentry,
/// Zipkin, Jaeger, Datadog, New Relic, Elastic, Azure, AWS and Google, Dynatrace.
const ALLOWED: &str = "
    content-type authorization x-grpc-web x-user-agent grpc-timeout x-request-id x-correlation-id
    connect-protocol-version connect-timeout-ms
    traceparent tracestate baggage sentry-trace
    b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags
    uber-trace-id
    x-datadog-trace-id x-datadog-parent-id x-datadog-origin x-datadog-sampling-priority
    x-datadog-sampled x-datadog-tags
    newrelic x-newrelic-id x-newrelic-transaction
    elastic-apm-traceparent
    request-id request-context
    x-amzn-trace-id x-cloud-trace-context
    x-dtpc x-dtreferer";

/// What a page may read: the status of a call that failed at once is here.
const EXPOSED: [HeaderName; 4] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    HeaderName::from_static("x-request-id"),
];

/// The longest that a browser keeps a preflight's answer (Chromium's limit).
const MAX_AGE: Duration = Duration::from_secs(7200);

/// Admits pages of the origins of `settings`, with the headers named there besides ours,
/// and, with `local`, those of the machine the browser runs on, on any port.
pub fn layer(settings: &HttpSettings, local: bool) -> CorsLayer {
    let origins = settings.cors_origins.clone();
    let headers = ALLOWED.split_whitespace().map(HeaderName::from_static);
    let headers = headers.chain(settings.cors_headers.clone());
    let admits = move |value: &HeaderValue, _: &Parts| {
        value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .is_some_and(|origin: Origin| origins.contains(&origin) || (local && origin.is_local()))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(admits))
        .allow_methods([Method::POST])
        .allow_headers(headers.collect::<Vec<_>>())
        .expose_headers(EXPOSED)
        .max_age(MAX_AGE)
}

#[cfg(test)]
mod tests;
