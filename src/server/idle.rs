//! What a connection is doing, how much of it, and for how long it may go on.
//!
//! One timer a connection is enough: when it fires, [`Activity::judge`] says
//! whether to wait on and until when. Nothing re-arms it in between.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body::Body;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::socket::Protocol;

/// A connection is not read while so many of its calls were taken in and not begun.
const STARTING: usize = 16;
/// A client that gives up so many calls within [`RESETS_WITHIN`], each before it was
/// begun, attacks ("rapid reset"). A page that closes may cancel some dozens at once.
const RESETS: u32 = 200;
const RESETS_WITHIN: Duration = Duration::from_secs(10);

/// A connection that was told to end, and has no request in flight, is dropped
/// when nothing was written to it for this long: the client does not answer, or
/// does not read.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From accept to the first request's headers; in HTTP/1 also from the first
    /// byte of a later request to the end of its headers. So long may the body of
    /// a request take, too.
    pub(super) headers: Duration,
    /// Without a request in flight.
    pub(super) idle: Duration,
}

/// Shared between a connection, its bytes and its requests. The lock is held for
/// a few loads and stores only.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Requests in flight, those that were cancelled included, above which nothing
    /// is read.
    most: usize,
    close: Notify,
}

#[derive(Debug)]
struct State {
    accepted: Instant,
    requested: bool,
    in_flight: usize,
    /// When the last request ended.
    idle_since: Instant,
    /// When a byte came first since there is no request in flight.
    read_since: Option<Instant>,
    last_write: Instant,
    leaving: bool,
    /// Requests that were taken in, and not begun.
    starting: usize,
    /// It has said enough for this turn.
    turn_is_over: bool,
    /// Waits for fewer requests.
    reader: Option<Waker>,
    /// Requests that were given up before they were begun, since when.
    resets: u32,
    resets_since: Instant,
}

impl State {
    fn may_read(&self, most: usize) -> bool {
        self.starting < STARTING && self.in_flight < most
    }
}

/// What to do with a connection whose timer fired.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Judge again at this time.
    Wait(Instant),
    /// Tell the client to end it.
    Leave,
    /// Close it now.
    Drop,
}

/// A request that is being served: until the last byte of its response was
/// handed over, or the response was given up.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    starting: bool,
}

impl Activity {
    pub(super) fn accepted_at(accepted: Instant, most: usize) -> Self {
        let state = Mutex::new(State {
            accepted,
            requested: false,
            in_flight: 0,
            idle_since: accepted,
            read_since: None,
            last_write: accepted,
            leaving: false,
            starting: 0,
            turn_is_over: false,
            reader: None,
            resets: 0,
            resets_since: accepted,
        });
        Self {
            state,
            most,
            close: Notify::new(),
        }
    }

    /// Closes the connection: its client does what none should.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    pub(super) async fn closed(&self) {
        self.close.notified().await;
    }

    /// The connection's task is polled: it may read again.
    pub(super) fn begin_turn(&self) {
        self.state.lock().turn_is_over = false;
    }

    /// Nothing more is read before the others had their turn.
    pub(super) fn end_turn(&self, cx: &Context<'_>) {
        self.state.lock().turn_is_over = true;
        cx.waker().wake_by_ref();
    }

    /// Ready when the connection may be read.
    pub(super) fn poll_turn(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.may_read(self.most) {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match state.turn_is_over {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    pub(super) fn read(&self) {
        let mut state = self.state.lock();
        if state.in_flight == 0 && state.read_since.is_none() {
            state.read_since = Some(Instant::now());
        }
    }

    pub(super) fn wrote(&self) {
        self.state.lock().last_write = Instant::now();
    }

    /// A request begins; it ends with the guard.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.state.lock();
        state.requested = true;
        state.in_flight += 1;
        state.starting += 1;
        state.read_since = None;
        InFlight {
            activity: Arc::clone(self),
            starting: true,
        }
    }

    /// Whether a request came at all.
    pub(super) fn requested(&self) -> bool {
        self.state.lock().requested
    }

    /// Whether no request is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().in_flight == 0
    }

    /// The client was told to end the connection: from here on it is judged by
    /// [`QUIET`].
    pub(super) fn leave(&self, now: Instant) {
        let mut state = self.state.lock();
        state.leaving = true;
        state.idle_since = now;
    }

    /// When to judge for the first time.
    pub(super) fn first_look(&self, patience: Patience) -> Instant {
        self.state.lock().accepted + patience.headers.min(patience.idle)
    }

    pub(super) fn judge(&self, now: Instant, protocol: Protocol, patience: Patience) -> Verdict {
        let state = self.state.lock();
        if state.leaving {
            let quiet = state.idle_since.max(state.last_write) + QUIET;
            return if state.in_flight > 0 {
                Verdict::Wait(now + QUIET)
            } else if quiet <= now {
                Verdict::Drop
            } else {
                Verdict::Wait(quiet)
            };
        }
        if !state.requested {
            let deadline = state.accepted + patience.headers;
            return if deadline > now {
                // A request that comes in between may end and be idle sooner.
                Verdict::Wait(deadline.min(now + patience.idle))
            } else if protocol == Protocol::Http2 {
                // Perhaps a client that only keeps itself ready.
                Verdict::Leave
            } else {
                Verdict::Drop
            };
        }
        let idle = if state.in_flight > 0 {
            now + patience.idle
        } else {
            state.idle_since + patience.idle
        };
        if idle <= now {
            return Verdict::Leave;
        }
        if protocol == Protocol::Http2 {
            return Verdict::Wait(idle);
        }
        // Headers that begin after this look are not late before the next one.
        let headers = state.read_since.unwrap_or(now) + patience.headers;
        if headers <= now {
            Verdict::Drop
        } else {
            Verdict::Wait(idle.min(headers))
        }
    }
}

impl InFlight {
    /// The service has begun with it.
    pub(super) fn started(&mut self) {
        if mem::take(&mut self.starting) {
            self.change(|state| state.starting -= 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.activity.state.lock();
        change(&mut state);
        if state.may_read(self.activity.most)
            && let Some(reader) = state.reader.take()
        {
            drop(state);
            reader.wake();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut is_attack = false;
        self.change(|state| {
            state.in_flight -= 1;
            let now = Instant::now();
            if state.in_flight == 0 {
                state.idle_since = now;
            }
            if self.starting {
                state.starting -= 1;
                if now > state.resets_since + RESETS_WITHIN {
                    (state.resets, state.resets_since) = (0, now);
                }
                state.resets += 1;
                is_attack = state.resets > RESETS;
            }
        });
        if is_attack {
            self.activity.close();
        }
    }
}

/// Why a request's body was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the request's body did not come in time")]
    Late,
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

/// A request body that must come to its end within so long. It costs a timer only
/// while somebody waits for it.
pub(super) fn upload(
    mut body: Incoming,
    within: Duration,
) -> impl Body<Data = Bytes, Error = UploadError> {
    let deadline = Instant::now() + within;
    let mut timer = None;
    StreamBody::new(stream::poll_fn(move |cx| {
        if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(UploadError::from)));
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let late = timer.as_mut().poll(cx);
        late.map(|()| Some(Err(UploadError::Late)))
    }))
}

#[cfg(test)]
mod tests;
