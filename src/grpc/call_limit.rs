//! Bounds the calls that are under way at once.
//!
//! A call is under way from its headers until its response was taken: a request
//! whose body never ends, and an answer that nobody reads, hold memory for as long
//! as their client likes. So each reader may have a few at once, and takes nothing
//! from other readers; its streams have places of their own until they stand, and then
//! the hub's.
//! Calls without a token have a few places on each connection and some in all; where
//! they are to be answered at once and the answer is not taken, or where it goes on
//! asking while all its places are taken, the connection goes.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::Extensions;
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::status;
use crate::{
    auth::{Caller, Right},
    model::InboxKey,
    proto::{ErrorReason, Method},
};

/// The calls without a token on one connection, endless ones and others each.
const OPEN_ON_A_CONNECTION: usize = 16;
/// All endless calls without a token: watches of the health, and reflection.
const ENDLESS: usize = 1000;
/// All others without a token.
const OPEN: usize = 10_000;
/// A connection whose places are all taken, and which goes on asking so often, is closed.
const REFUSED: usize = 100;
/// So long an answer without a token may wait to be taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of what asks for a stream, with the prefix of its message.
const STREAM_BYTES: usize = 1024 + 5;

/// Closes a connection.
pub type Close = Box<dyn FnOnce() + Send>;
/// The connection that a request came by: the other end, and what closes it.
pub type Connection = fn(&Extensions) -> Option<(SocketAddr, Close)>;

/// The places of those who read.
pub struct Readers {
    calls: Arc<Places<InboxKey>>,
    /// Streams that do not stand yet.
    opening: Arc<Places<InboxKey>>,
}

impl Readers {
    /// At most so many calls of each reader, and streams that open.
    pub fn new(calls: usize, opening: usize) -> Arc<Self> {
        Arc::new(Self {
            calls: Places::new(calls),
            opening: Places::new(opening),
        })
    }
}

/// Lets a reader's call through where it has a place. To be laid behind what puts a
/// [`Caller`] on the request.
pub async fn of_readers(
    State(readers): State<Arc<Readers>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(inbox) = reader(request.extensions()) else {
        return next.run(request).await;
    };
    let is_stream = Method::of(request.uri().path()).is_stream();
    let (places, reason) = match is_stream {
        true => (&readers.opening, ErrorReason::TooManyStreams),
        false => (&readers.calls, ErrorReason::TooManyCalls),
    };
    let Ok(place) = places.take(inbox) else {
        let most = places.most;
        let text = format!("this user has {most} such calls under way, and may have no more");
        return status::exhausted(reason, text).into_http();
    };
    if is_stream {
        let bounded = request.map(|body| Body::new(Limited::new(body, STREAM_BYTES)));
        return next.run(bounded).await;
    }
    until_taken(next.run(request).await, place)
}

fn reader(extensions: &Extensions) -> Option<InboxKey> {
    match &extensions.get::<Arc<Caller>>()?.right {
        Right::Read(inbox) => Some(inbox.clone()),
        Right::Send(_) | Right::Operate(_) => None,
    }
}

/// The places of those who show no token.
pub struct Open {
    connection: Connection,
    places: Arc<Places<(SocketAddr, bool)>>,
    endless: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl Open {
    /// All places; `connection` finds that of a request in its extensions.
    pub fn new(connection: Connection) -> Arc<Self> {
        Arc::new(Self {
            connection,
            places: Places::new(OPEN_ON_A_CONNECTION),
            endless: Arc::new(Semaphore::new(ENDLESS)),
            others: Arc::new(Semaphore::new(OPEN)),
        })
    }

    /// What a call under way holds.
    fn take(&self, extensions: &Extensions, endless: bool) -> Result<impl Send + 'static, Status> {
        let (reason, all) = match endless {
            true => (ErrorReason::TooManyStreams, &self.endless),
            false => (ErrorReason::TooManyCalls, &self.others),
        };
        let (peer, close) = (self.connection)(extensions).ok_or_else(status::internal)?;
        let place = match self.places.take((peer, endless)) {
            Ok(place) => place,
            Err(refused) => {
                if refused >= REFUSED {
                    close();
                }
                let text = "this connection may have no more such calls under way";
                return Err(status::exhausted(reason, text));
            }
        };
        let text = "there may be no more such calls under way";
        let permit = all.clone().try_acquire_owned();
        let permit = permit.map_err(|_| status::exhausted(reason, text))?;
        let late = (!endless).then(|| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(TAKEN_WITHIN).await;
                close();
            }))
        });
        Ok((place, permit, late))
    }
}

/// Lets a call without a token through where there is a place.
pub async fn of_open(State(open): State<Arc<Open>>, request: Request, next: Next) -> Response {
    let is_endless = Method::of(request.uri().path()).is_endless();
    match open.take(request.extensions(), is_endless) {
        Ok(held) => until_taken(next.run(request).await, held),
        Err(status) => status.into_http(),
    }
}

/// Keeps what a call holds until its response was taken, or given up.
fn until_taken(response: Response, held: impl Send + 'static) -> Response {
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &held;
            frame
        }))
    })
}

/// Counts the calls of each that are under way.
struct Places<K> {
    most: usize,
    /// Held for a look-up.
    under_way: Mutex<HashMap<K, Count>>,
}

#[derive(Default)]
struct Count {
    under_way: usize,
    /// Since there was none under way.
    refused: usize,
}

impl<K: Clone + Eq + Hash> Places<K> {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: Mutex::default(),
        })
    }

    /// An error says how many were refused so far.
    fn take(self: &Arc<Self>, key: K) -> Result<Place<K>, usize> {
        let mut under_way = self.under_way.lock();
        let count = under_way.entry(key.clone()).or_default();
        if count.under_way >= self.most {
            count.refused += 1;
            return Err(count.refused);
        }
        count.under_way += 1;
        Ok(Place {
            places: self.clone(),
            key,
        })
    }
}

/// One call's place; dropping it gives it back.
struct Place<K: Clone + Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.places.under_way.lock().entry(self.key.clone()) {
            count.get_mut().under_way -= 1;
            if count.get().under_way == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
