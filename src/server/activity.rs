//! What a connection is doing, and for how long it may go on.
//!
//! One timer a connection is enough: when it fires, [`Activity::judge`] says
//! whether to wait on and until when. Nothing re-arms it in between.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::wire::Protocol;

/// A connection that was told to end, and has no request in flight, is dropped
/// when nothing was written to it for this long: the client does not answer, or
/// does not read.
pub(super) const QUIET: Duration = Duration::from_secs(1);

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From accept to the first request's headers; in HTTP/1 also from the first
    /// byte of a later request to the end of its headers.
    pub(super) headers: Duration,
    /// Without a request in flight, and between two pieces of a request's body.
    pub(super) idle: Duration,
}

/// Shared between a connection, its bytes and its requests. The lock is held for
/// a few loads and stores only.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

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
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn accepted_at(accepted: Instant) -> Self {
        Self(Mutex::new(State {
            accepted,
            requested: false,
            in_flight: 0,
            idle_since: accepted,
            read_since: None,
            last_write: accepted,
            leaving: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) {
        let mut state = self.lock();
        if state.in_flight == 0 && state.read_since.is_none() {
            state.read_since = Some(Instant::now());
        }
    }

    pub(super) fn wrote(&self) {
        self.lock().last_write = Instant::now();
    }

    /// A request begins; it ends with the guard.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.requested = true;
        state.in_flight += 1;
        state.read_since = None;
        InFlight(Arc::clone(self))
    }

    /// Whether a request came at all.
    pub(super) fn requested(&self) -> bool {
        self.lock().requested
    }

    /// The client was told to end the connection: from here on it is judged by
    /// [`QUIET`].
    pub(super) fn leave(&self, now: Instant) {
        let mut state = self.lock();
        state.leaving = true;
        state.idle_since = now;
    }

    /// When to judge for the first time.
    pub(super) fn first_look(&self, patience: Patience) -> Instant {
        self.lock().accepted + patience.headers.min(patience.idle)
    }

    pub(super) fn judge(&self, now: Instant, protocol: Protocol, patience: Patience) -> Verdict {
        let state = self.lock();
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

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        headers: Duration::from_secs(10),
        idle: Duration::from_secs(300),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_is_due_by_the_deadline() {
        let start = Instant::now();
        let activity = Activity::accepted_at(start);
        let judge = |at, protocol| activity.judge(start + seconds(at), protocol, PATIENCE);
        let due = Verdict::Wait(start + seconds(10));
        assert_eq!(judge(9, Protocol::Http1), due);
        assert_eq!(judge(9, Protocol::Http2), due);
        assert_eq!(judge(10, Protocol::Http1), Verdict::Drop);
        assert_eq!(judge(10, Protocol::Http2), Verdict::Leave);
        // Bytes alone extend nothing.
        activity.read();
        activity.wrote();
        assert_eq!(judge(10, Protocol::Http1), Verdict::Drop);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_time_below_the_deadline_is_kept() {
        let start = Instant::now();
        let patience = Patience {
            headers: seconds(300),
            idle: seconds(10),
        };
        let activity = Arc::new(Activity::accepted_at(start));
        assert_eq!(activity.first_look(patience), start + seconds(10));
        let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, patience);
        assert_eq!(judge(10), Verdict::Wait(start + seconds(20)));
        assert_eq!(judge(295), Verdict::Wait(start + seconds(300)));
        drop(activity.begin());
        assert_eq!(judge(10), Verdict::Leave);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_counts_from_the_end_of_the_last_request() {
        let start = Instant::now();
        let activity = Arc::new(Activity::accepted_at(start));
        let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, PATIENCE);
        let (first, second) = (activity.begin(), activity.begin());
        assert_eq!(judge(1000), Verdict::Wait(start + seconds(1300)));
        tokio::time::advance(seconds(1100)).await;
        drop(first);
        assert_eq!(judge(1300), Verdict::Wait(start + seconds(1600)));
        tokio::time::advance(seconds(100)).await;
        drop(second);
        assert_eq!(judge(1300), Verdict::Wait(start + seconds(1500)));
        assert_eq!(judge(1500), Verdict::Leave);
    }

    #[tokio::test(start_paused = true)]
    async fn later_headers_of_http_1_are_due_as_well() {
        let start = Instant::now();
        let activity = Arc::new(Activity::accepted_at(start));
        let judge = |at| activity.judge(start + seconds(at), Protocol::Http1, PATIENCE);
        drop(activity.begin());
        assert_eq!(judge(0), Verdict::Wait(start + seconds(10)));
        tokio::time::advance(seconds(7)).await;
        activity.read();
        tokio::time::advance(seconds(1)).await;
        activity.read();
        assert_eq!(judge(10), Verdict::Wait(start + seconds(17)));
        assert_eq!(judge(17), Verdict::Drop);
        // The request came after all.
        let request = activity.begin();
        assert_eq!(judge(17), Verdict::Wait(start + seconds(27)));
        drop(request);
        assert_eq!(judge(308), Verdict::Leave);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_dropped_when_it_is_quiet() {
        let start = Instant::now();
        let activity = Arc::new(Activity::accepted_at(start));
        let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, PATIENCE);
        let request = activity.begin();
        activity.leave(start);
        assert_eq!(judge(100), Verdict::Wait(start + seconds(100) + QUIET));
        tokio::time::advance(seconds(100)).await;
        drop(request);
        assert_eq!(judge(100), Verdict::Wait(start + seconds(100) + QUIET));
        tokio::time::advance(seconds(3)).await;
        activity.wrote();
        assert_eq!(judge(103), Verdict::Wait(start + seconds(103) + QUIET));
        assert_eq!(judge(104), Verdict::Drop);
    }
}
