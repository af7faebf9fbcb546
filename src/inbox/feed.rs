//! What one `Subscribe` call does: replay, then live, healing when needed.
//!
//! Promises, to who takes message after message:
//!
//! - **No gap.** The room is joined before anything is read, so what a read does
//!   not show arrives live. A live run that does not follow on the position is
//!   held back for a moment, then healed from the store; so is a lag.
//! - **Positions tell the truth.** No message carries a position above what was
//!   delivered with it and before it. Rows that share a revision carry the
//!   position before it, all but the last of them.
//! - **One snapshot.** Rows and their counts are of one snapshot a page; the end
//!   of a replay carries the head of the last page's own.
//! - **Nothing is held while the client is slow**: no transaction, no
//!   connection; at most one page and a room's buffer.
//! - **A store that is away for a moment ends nothing.** It is asked again for as
//!   long as the client, which waits for two heartbeats, can still be told.
//!
//! Nothing here knows of gRPC: a test takes messages with [`Feed::next`].

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Error, Inboxes};
use crate::{
    clock::Timestamp,
    hub::{Received, Subscription},
    metrics,
    model::{Epoch, Head, InboxKey, Notification, Revision, Row},
    sabotage::{self, Sabotage},
    store::{self, Changes, Cursor, Snapshot},
    wire::{self, LiveEvent, LiveRun},
};

/// How long a run that is ahead waits for the one between. Runs of one inbox are
/// published in order; over a bus two nodes' runs can cross.
const REORDER_WAIT: Duration = Duration::from_millis(20);
/// The first pause before a store that does not answer is asked again, and the
/// longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Where to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// Replay what changed after it; `None`: live from the head.
    pub after_revision: Option<Revision>,
    /// The epoch it was learned in; `None`: not checked.
    pub epoch: Option<Epoch>,
}

/// One message of a feed.
#[derive(Clone, Debug)]
pub struct Message {
    /// What was delivered with this message: where to resume.
    pub position: Revision,
    /// The inbox.
    pub head: Head,
    /// Whether it is new and to be heard.
    pub ring: bool,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// First, always.
    Connected {
        /// Which life of the store.
        epoch: Epoch,
        /// The feed is never silent for longer.
        heartbeat_interval: Duration,
        /// When it will end.
        token_expires_at: Timestamp,
    },
    /// A row of a replay or a heal, in its present state.
    Notification(Notification),
    /// A row of a replay or a heal that was removed.
    Removed(Row),
    /// A live event; the run is shared by all feeds of the room.
    Live(Live),
    /// The end of a replay or a heal.
    CaughtUp,
    /// Nothing happened.
    Heartbeat,
    /// The position cannot be served; the feed ends.
    Reset {
        /// The present epoch.
        epoch: Epoch,
    },
    /// The server is draining; the feed ends.
    Reconnect {
        /// How long the client should wait before it comes back.
        after: Duration,
    },
}

/// One event of a run that is shared by all feeds of a room.
#[derive(Clone, Debug)]
pub struct Live {
    run: Arc<LiveRun>,
    index: usize,
}

impl Live {
    /// The event.
    pub fn event(&self) -> &LiveEvent {
        &self.run[self.index]
    }
}

/// Why a feed ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum End {
    /// The token expired.
    #[error("the token has expired")]
    Expired,
    /// The server is draining.
    #[error("the server is draining")]
    Draining,
    /// The store did not answer.
    #[error("{0}")]
    Store(Arc<store::Error>),
}

enum Phase {
    /// Reading pages of what changed.
    CatchUp(CatchUp),
    /// Waiting for runs.
    Live,
    /// Says this at last; `None`: the end is no error.
    Ending(Option<End>),
    /// Nothing comes any more.
    Ended,
}

/// A replay or heal under way.
#[derive(Clone, Copy)]
struct CatchUp {
    cursor: Cursor,
    /// Where the live stream stood; `None` in the replay at its beginning.
    healed_from: Option<Revision>,
    /// At least this revision is known to be committed.
    at_least: Revision,
    /// The head of its first page; `None` until that was read, and the number of
    /// rows found to be within the limit.
    first_head: Option<Revision>,
}

impl CatchUp {
    /// Whether the client has this row, or catches up on it: what is new to a
    /// stream that was live rings, once. A row that changed between two pages comes
    /// again, unless it was still to come.
    fn repeats(&self, row: &Row) -> bool {
        let rings_at = row.ring_revision;
        let came_before = |head| row.revision > head && rings_at <= self.cursor.revision;
        self.healed_from
            .is_none_or(|former| rings_at <= former || self.first_head.is_some_and(came_before))
    }
}

/// A store that does not answer.
#[derive(Clone, Copy)]
struct Away {
    /// When it was asked first.
    since: Instant,
    failures: u32,
    ask_again: Instant,
}

/// The feed of one stream. Dropping it leaves the room.
pub struct Feed {
    inbox: Arc<Inboxes>,
    subscription: Subscription,
    /// Whether a message was taken: the first is `connected`.
    is_connected: bool,
    /// What the last message said.
    position: Revision,
    /// The head that the last message carried.
    said: Head,
    epoch: Epoch,
    expires_at: Timestamp,
    phase: Phase,
    /// Messages that are ready, at most a page.
    ready: VecDeque<Message>,
    /// A live run of which messages from this index on are ready.
    run: Option<(Arc<LiveRun>, usize)>,
    /// Runs that are ahead of the position.
    ahead: Vec<Arc<LiveRun>>,
    /// The highest revision that is known to be committed, if it is above the
    /// position, and since when.
    known: Revision,
    known_since: Instant,
    /// The heartbeat interval, shortened by chance: streams that began together
    /// do not beat together.
    silence: Duration,
    last_message: Instant,
    away: Option<Away>,
    _open: metrics::StreamGuard,
}

impl Feed {
    /// Joins the room of `key`, then reads its head.
    pub(super) async fn open(
        inbox: Arc<Inboxes>,
        key: &InboxKey,
        resume: Resume,
        expires_at: Timestamp,
    ) -> Result<Self, Error> {
        // Joined first: what the read does not show arrives live.
        let (subscription, snapshot) = if sabotage::is(Sabotage::JoinAfterRead) {
            let snapshot = inbox.heads.read(key).await?;
            (inbox.bus.join(key).await?, snapshot)
        } else {
            (inbox.bus.join(key).await?, inbox.taken_head(key).await?)
        };
        let interval: Duration = inbox.feeds.heartbeat_interval.into();
        let silence = interval - inbox.random.up_to(interval / 4);
        let Resume {
            after_revision,
            epoch,
        } = resume;
        // An epoch without a position is no claim: there is nothing to serve.
        let epoch = epoch.filter(|_| after_revision.is_some());
        let mut feed = Self {
            inbox,
            subscription,
            is_connected: false,
            position: after_revision.unwrap_or(snapshot.head.revision),
            said: snapshot.head,
            epoch: epoch.unwrap_or_else(|| snapshot.epoch.clone()),
            expires_at,
            phase: Phase::Live,
            ready: VecDeque::new(),
            run: None,
            ahead: Vec::new(),
            known: Revision::ZERO,
            known_since: Instant::now(),
            silence,
            last_message: Instant::now(),
            away: None,
            _open: metrics::stream_opened(),
        };
        feed.connect(&snapshot, interval, after_revision.is_some());
        Ok(feed)
    }

    fn connect(&mut self, snapshot: &Snapshot, heartbeat_interval: Duration, replay: bool) {
        let connected = Event::Connected {
            epoch: snapshot.epoch.clone(),
            heartbeat_interval,
            token_expires_at: self.expires_at,
        };
        let at_head = sabotage::is(Sabotage::ConnectedAtHead);
        let position = if at_head {
            snapshot.head.revision
        } else {
            self.position
        };
        self.say(position, snapshot, false, connected);
        if self.cannot_serve(snapshot) || !replay {
            return;
        }
        if self.position == snapshot.head.revision {
            self.say(self.position, snapshot, false, Event::CaughtUp);
        } else {
            self.catch_up(None, snapshot.head.revision);
        }
    }

    /// The next message; `None` at an end that is no error.
    ///
    /// Cancel safe: a call that is dropped loses nothing, the next one goes on.
    pub async fn next(&mut self) -> Option<Result<Message, End>> {
        loop {
            // Before every message, so that none is made after the expiry.
            if !matches!(self.phase, Phase::Ending(Some(_)) | Phase::Ended)
                && self.inbox.clock.now() >= self.expires_at
            {
                self.end(Some(End::Expired));
            }
            if !matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
                if self.subscription.is_closed() && !self.is_connected {
                    // `connected` comes first, always: then nothing does.
                    self.end(Some(End::Draining));
                } else if self.subscription.is_closed() {
                    let reconnect = self.reconnect();
                    return Some(Ok(self.delivered(reconnect)));
                }
            }
            if let Some(message) = self.take_ready() {
                return Some(Ok(self.delivered(message)));
            }
            match &self.phase {
                // Boxed, as the heartbeat is: a stream waits most of its life, and
                // keeps no room for what it does then and when.
                Phase::CatchUp(_) => Box::pin(self.read_page()).await,
                Phase::Live => self.wait().await,
                Phase::Ending(_) => {
                    let Phase::Ending(end) = mem::replace(&mut self.phase, Phase::Ended) else {
                        return None;
                    };
                    return end.map(Err);
                }
                Phase::Ended => return None,
            }
        }
    }

    fn take_ready(&mut self) -> Option<Message> {
        if let Some(message) = self.ready.pop_front() {
            if self.ready.is_empty() {
                // A stream lives for hours: it keeps no room for a page.
                self.ready = VecDeque::new();
            }
            return Some(message);
        }
        let (run, index) = self.run.take()?;
        let event = &run[index];
        let head = event.head;
        let ring = event.created_at.is_some();
        if index + 1 < run.len() {
            self.run = Some((run.clone(), index + 1));
        }
        Some(Message {
            position: head.revision,
            head,
            ring,
            event: Event::Live(Live { run, index }),
        })
    }

    /// Notes what the client has with this message.
    fn delivered(&mut self, message: Message) -> Message {
        self.is_connected = true;
        self.position = message.position;
        self.said = message.head;
        self.last_message = Instant::now();
        message
    }

    fn say(&mut self, position: Revision, snapshot: &Snapshot, ring: bool, event: Event) {
        self.ready.push_back(Message {
            position,
            head: snapshot.head,
            ring,
            event,
        });
    }

    /// Ends with what is ready dropped: a client resumes from its position.
    fn end(&mut self, end: Option<End>) {
        self.ready = VecDeque::new();
        self.run = None;
        self.phase = Phase::Ending(end);
    }

    fn reconnect(&mut self) -> Message {
        self.end(Some(End::Draining));
        let spread: Duration = self.inbox.feeds.reconnect_spread.into();
        // Sooner they would come back to this node, which refuses them.
        let delay = self.inbox.drain_delay.get().copied().unwrap_or_default();
        Message {
            position: self.position,
            head: self.said,
            ring: false,
            event: Event::Reconnect {
                after: delay + self.inbox.random.up_to(spread),
            },
        }
    }

    /// Whether `snapshot` shows that the position means nothing in this store;
    /// then it says so, and ends.
    fn cannot_serve(&mut self, snapshot: &Snapshot) -> bool {
        let reason = if self.epoch != snapshot.epoch {
            "epoch"
        } else if self.position > snapshot.head.revision {
            "above_head"
        } else if self.position < snapshot.floor {
            "below_floor"
        } else {
            return false;
        };
        self.reset(reason, snapshot);
        true
    }

    fn reset(&mut self, reason: &'static str, snapshot: &Snapshot) {
        metrics::reset(reason);
        self.phase = Phase::Ending(None);
        let reset = Event::Reset {
            epoch: snapshot.epoch.clone(),
        };
        self.say(self.position, snapshot, false, reset);
    }

    fn catch_up(&mut self, healed_from: Option<Revision>, at_least: Revision) {
        self.ahead.clear();
        self.known = Revision::ZERO;
        let cursor = Cursor::after(self.position);
        self.phase = Phase::CatchUp(CatchUp {
            cursor,
            healed_from,
            at_least,
            first_head: None,
        });
    }

    fn heal(&mut self, at_least: Revision) {
        self.catch_up(Some(self.position), at_least);
    }

    /// Waits for `read`, but not beyond the expiry or a drain. `None`: the feed has
    /// ended, or goes on as it is, and asks again.
    ///
    /// How long a read may take is the store's to say. It is a task of its own, and
    /// runs to its end: while a client gives no
    /// window nobody polls its feed, and a read that stood still would keep a
    /// connection of the store from all others.
    async fn read<T: Send + 'static>(
        &mut self,
        read: impl Future<Output = Result<T, Arc<store::Error>>> + Send + 'static,
    ) -> Option<T> {
        let since = self.away.map_or_else(Instant::now, |away| away.since);
        let answer = async {
            if let Some(away) = self.away {
                sleep_until(away.ask_again).await;
            }
            let read = tokio::spawn(read).await;
            read.map_err(|error| Arc::new(store::Error::Unavailable(error.into())))?
        };
        let answer = tokio::select! {
            answer = timeout_at(self.expiry(), answer) => answer,
            () = self.subscription.closed() => return None,
        };
        let error = match answer {
            Ok(Ok(answer)) => {
                self.away = None;
                return Some(answer);
            }
            Ok(Err(error)) => error,
            // The loop looks at the clock, which may have been set.
            Err(_) => return None,
        };
        let failures = self.away.map_or(0, |away| away.failures) + 1;
        let pause = self.inbox.random.backoff(failures, RETRY.0, RETRY.1);
        let ask_again = Instant::now() + pause;
        if matches!(*error, store::Error::Unavailable(_)) && ask_again < self.give_up(since) {
            self.away = Some(Away {
                since,
                failures,
                ask_again,
            });
        } else {
            self.end(Some(End::Store(error)));
        }
        None
    }

    /// When a store that fails since `since` is asked no more: a client
    /// takes two heartbeat intervals without a message for a dead connection.
    fn give_up(&self, since: Instant) -> Instant {
        let interval: Duration = self.inbox.feeds.heartbeat_interval.into();
        let patience = 2 * interval - interval / 5;
        // A feed that nobody polled for long has its time all the same.
        (self.last_message + patience).max(since + (patience - self.silence))
    }

    /// When to look at the clock for the expiry.
    fn expiry(&self) -> Instant {
        // An instant that far away is as good as never, and does not overflow.
        const A_DAY: Duration = Duration::from_secs(86_400);
        Instant::now() + self.expires_at.since(self.inbox.clock.now()).min(A_DAY)
    }

    async fn read_page(&mut self) {
        let Phase::CatchUp(catch_up) = self.phase else {
            return;
        };
        let CatchUp {
            cursor,
            healed_from,
            at_least,
            first_head,
        } = catch_up;
        let inbox = self.inbox.clone();
        let key = self.subscription.inbox().clone();
        let limit = inbox.page_limit();
        let page = {
            let (inbox, key) = (inbox.clone(), key.clone());
            async move {
                if healed_from.is_some() {
                    let page = inbox.heals.changes(&key, cursor, limit).await?;
                    if page.snapshot.head.revision >= at_least {
                        return Ok(page);
                    }
                }
                let _place = inbox.readers.place(&key).await;
                Ok(Arc::new(inbox.store.changes(&key, cursor, limit).await?))
            }
        };
        let Some(page) = self.read(page).await else {
            return;
        };
        if self.cannot_serve(&page.snapshot) {
            return;
        }
        let most = inbox.feeds.replay_limit;
        if first_head.is_none() && page.rows.len() > most {
            return self.reset("replay_limit", &page.snapshot);
        }
        if page.next.is_some() && first_head.is_none() {
            let position = self.position;
            let (inbox, key) = (inbox.clone(), key.clone());
            let count = async move {
                let at_most = most.saturating_add(1);
                let _place = inbox.readers.place(&key).await;
                Ok(inbox.store.count_changes(&key, position, at_most).await?)
            };
            let Some(count) = self.read(count).await else {
                return;
            };
            if count > most {
                return self.reset("replay_limit", &page.snapshot);
            }
        }
        self.say_page(&page, &catch_up);
        match page.rows.last() {
            Some(last) if page.next.is_some() => {
                let cursor = Cursor {
                    revision: last.row.revision,
                    sequence: last.row.sequence,
                };
                let head = first_head.unwrap_or(page.snapshot.head.revision);
                self.phase = Phase::CatchUp(CatchUp {
                    cursor,
                    first_head: Some(head),
                    ..catch_up
                });
            }
            _ => {
                let mut snapshot = page.snapshot.clone();
                if sabotage::is(Sabotage::UnboundedReplay)
                    && let Some(later) =
                        self.read(async move { inbox.heads.read(&key).await }).await
                {
                    snapshot = later;
                }
                self.say(snapshot.head.revision, &snapshot, false, Event::CaughtUp);
                self.phase = Phase::Live;
            }
        }
    }

    fn say_page(&mut self, page: &Changes, catch_up: &CatchUp) {
        if catch_up.healed_from.is_some() {
            metrics::lag_healed(page.rows.len());
        }
        let mut position = self.position;
        let seen_through = page.snapshot.head.seen_through;
        let mut rows = page.rows.iter().peekable();
        while let Some(notification) = rows.next() {
            let row = notification.row;
            let next = rows.peek().map(|next| next.row.revision).or(page.next);
            if next != Some(row.revision) {
                position = row.revision;
            }
            let is_shared = next == Some(row.revision);
            if row.state.removed.is_some() && is_shared && sabotage::is(Sabotage::DropRemovals) {
                continue;
            }
            let is_new = !catch_up.repeats(&row)
                && (row.ring_revision == row.sequence
                    || !sabotage::is(Sabotage::RingCorrectedLiveOnly));
            let event = match row.state.removed {
                Some(_) => Event::Removed(row),
                None => Event::Notification(notification.clone()),
            };
            let ring = is_new && row.is_heard(seen_through);
            self.say(position, &page.snapshot, ring, event);
        }
    }

    /// Waits for a run, the heartbeat or the expiry.
    async fn wait(&mut self) {
        // What was ahead of the run that was delivered last may follow on it.
        self.follow();
        if self.run.is_some() {
            return;
        }
        let mut heartbeat = self.last_message + self.silence;
        if let Some(away) = self.away {
            heartbeat = heartbeat.max(away.ask_again);
        }
        let mut until = heartbeat.min(self.expiry());
        if self.is_behind() {
            until = until.min(self.known_since + REORDER_WAIT);
        }
        match timeout_at(until, self.subscription.receive()).await {
            Ok(Received::Run(run)) => self.receive(run),
            Ok(Received::Head(revision)) => self.learn(revision),
            Ok(Received::Lagged) if sabotage::is(Sabotage::IgnoreLag) => {}
            Ok(Received::Lagged) => self.heal(Revision::ZERO),
            // The loop sees that the hub is closed.
            Ok(Received::Closed) => {}
            Err(_) if self.is_overdue() => self.heal(self.known),
            Err(_) if Instant::now() >= heartbeat => Box::pin(self.heartbeat()).await,
            Err(_) => {}
        }
    }

    fn is_behind(&self) -> bool {
        self.known > self.position
    }

    fn is_overdue(&self) -> bool {
        self.is_behind() && Instant::now() >= self.known_since + REORDER_WAIT
    }

    /// Notes that `revision` is committed.
    fn learn(&mut self, revision: Revision) {
        if !self.is_behind() {
            self.known_since = Instant::now();
        }
        self.known = self.known.max(revision);
    }

    fn receive(&mut self, run: Arc<LiveRun>) {
        self.learn(wire::last_revision(&run));
        self.ahead.push(run);
        if self.ahead.len() > self.inbox.feeds.room_capacity {
            self.heal(self.known);
        }
    }

    /// Makes ready the run that follows on the position, if it is there, and
    /// forgets those that are behind it.
    fn follow(&mut self) {
        let position = self.position;
        self.ahead.retain(|run| wire::last_revision(run) > position);
        let next = position.next();
        let follows = |run: &Arc<LiveRun>| {
            sabotage::is(Sabotage::IgnoreLag)
                || run.first().is_some_and(|first| first.head.revision <= next)
        };
        if let Some(at) = self.ahead.iter().position(follows) {
            let run = self.ahead.swap_remove(at);
            let index = run.partition_point(|event| event.head.revision <= position);
            self.run = Some((run, index));
        }
        if self.ahead.is_empty() {
            self.ahead = Vec::new();
        }
    }

    /// Silence: heals up to the store's head, or says that there is nothing.
    async fn heartbeat(&mut self) {
        let inbox = self.inbox.clone();
        let key = self.subscription.inbox().clone();
        let head = async move { inbox.taken_head(&key).await };
        let Some(snapshot) = self.read(head).await else {
            return;
        };
        if self.cannot_serve(&snapshot) {
            return;
        }
        if sabotage::is(Sabotage::HeartbeatAtHead) {
            self.say(snapshot.head.revision, &snapshot, false, Event::Heartbeat);
        } else if snapshot.head.revision > self.position {
            self.heal(snapshot.head.revision);
        } else {
            self.say(self.position, &snapshot, false, Event::Heartbeat);
        }
    }
}

#[cfg(test)]
mod tests;
