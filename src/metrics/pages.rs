//! The pages for those who run the server: `/metrics`, `/livez`, `/readyz`.
//!
//! They are served on a port of their own, in the clear and without a token:
//! nothing on them names a tenant. Whatever its clients do, the port holds a
//! bounded number of connections, each for a bounded time.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, StatusCode, header},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::Handle;

const MAX_CONNECTIONS: usize = 32;
/// Of a whole connection: a scrape is short, and a probe opens a new one.
const MAX_CONNECTION_LIFE: Duration = Duration::from_secs(60);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether traffic should come here, perhaps with a remark for who reads it; if not,
/// what stands in the way. In one line each.
pub type Readiness = Result<Option<&'static str>, &'static str>;

/// `/metrics`, `/livez` (the process answers) and `/readyz` (send it traffic, or 503).
pub fn router(handle: Handle, ready: watch::Receiver<Readiness>) -> Router {
    const TEXT: [(HeaderName, &str); 1] = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    let readyz = async move || match *ready.borrow() {
        Ok(None) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Some(remark)) => (StatusCode::OK, format!("ready; {remark}\n")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    Router::new()
        .route("/metrics", get(async move || (TEXT, handle.render())))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
}

/// Serves the pages until `stop`, then drops what is left of its connections.
pub async fn serve(listener: TcpListener, pages: Router, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stop => return,
            accepted = accepted => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: at once it would fail
                // again.
                tracing::warn!(%error, "the metrics port could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let pages = TowerToHyperService::new(pages.clone());
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), pages);
            // How it ends, if not by the timeout, is its client's business.
            let _ = tokio::time::timeout(MAX_CONNECTION_LIFE, connection).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
    };

    use super::*;
    use crate::metrics::tests::alone;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_tell_metrics_life_and_readiness() {
        let handle = alone();
        crate::metrics::published(4);
        let (ready, is_ready) = watch::channel(Ok(None));
        let pages = router(handle, is_ready);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, pages, async {
            let _ = stopped.await;
        }));

        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
        assert!(metrics.contains("\ndoorbell_events_published_total 4\n"));
        assert!(get(address, "/livez").await.ends_with("alive\n"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));

        let _ = ready.send_replace(Err("draining"));
        let not_ready = get(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503 "), "{not_ready}");
        assert!(not_ready.ends_with("\r\n\r\ndraining\n"), "{not_ready}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));

        // A client that says nothing does not hold it up.
        let silent = TcpStream::connect(address).await.unwrap();
        stop.send(()).unwrap();
        served.await.unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn silent_clients_take_places_and_give_them_back() {
        let pages = router(alone(), watch::channel(Ok(Some("alone"))).1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(listener, pages, std::future::pending()));
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let next = tokio::spawn(async move { get(address, "/livez").await });
        silent.clear();
        assert!(next.await.unwrap().ends_with("alive\n"));
        served.abort();
    }
}
