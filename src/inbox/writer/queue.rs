//! What waits for one lane: what senders say in one line and edits in another, so that
//! neither waits for the other, and nobody takes the whole of it. Large edits have a line
//! of their own, and take turns with those two. What comes by the thousand is in the last,
//! for when there is nothing else to do, and now and then: then a small batch, and of one lane
//! at a time, so that the callers of the other lanes have the store for themselves.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use super::Error;
use crate::{
    config::WriterSettings,
    metrics,
    model::{InboxKey, NewNotification, OrganizationId},
    store::{self, Correction, Mutation, Outcome},
};

/// The most edits of one inbox that wait: who reads it is one person, and an edit
/// changes up to some hundred rows.
const MOST_EDITS_OF_AN_INBOX: usize = 16;

/// An edit of more rows is a batch by itself: a send that is written with it waits for all
/// of it, and one that came while the batch before was written, for both.
const LARGE: usize = 16;

/// While callers write all the time, one batch in so many is in bulk.
const BULK_EVERY: usize = 8;

/// While callers write, bulk waits for its turn among the lanes, but for no more batches of
/// theirs than this.
const LONGEST_WITHOUT_BULK: usize = 4 * BULK_EVERY;

/// The most rows of a batch in bulk while callers write: who comes while it is written waits
/// for all of it. More where there are several lanes: then most callers are of another.
const BULK_BESIDE_CALLERS: usize = 8;
const BULK_BESIDE_CALLERS_OF_LANES: usize = 12;

/// For so long after callers wrote they are held to write.
const CALLERS_WRITE_FOR: Duration = Duration::from_secs(1);

/// Where the outcome of a write goes.
pub(super) type Answer = oneshot::Sender<Result<Outcome, Arc<store::Error>>>;

/// A write that waits.
struct Job {
    mutation: Mutation,
    answer: Answer,
}

/// Has one end for everybody, and one for its lane.
pub(super) struct Queue {
    /// A std mutex: what is done under it is short, and never waits.
    waiting: Mutex<Waiting>,
    changed: Notify,
    /// Some of what waited was taken.
    has_room: Notify,
    /// The most that wait.
    most: usize,
    /// Of one batch; of sends, and of edits again.
    most_rows: usize,
    /// Of one batch. Bounds what a room holds as well: its slots are runs, and a
    /// run is at most a batch.
    most_bytes: usize,
    common: Arc<Common>,
}

/// What the queues of all lanes share.
pub(super) struct Common {
    /// How many wait.
    depth: AtomicUsize,
    /// When a batch of callers was taken last.
    called_at: Mutex<Option<Instant>>,
    /// While callers write, one lane at a time writes in bulk: the others' callers have the
    /// store for themselves.
    turn: Arc<Semaphore>,
    /// The most of a batch in bulk while callers write.
    pub(super) rows_beside_callers: usize,
}

impl Common {
    /// Of so many `lanes`.
    pub(super) fn new(settings: &WriterSettings, lanes: usize) -> Self {
        Self {
            depth: AtomicUsize::default(),
            called_at: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            rows_beside_callers: settings.write_batch.min(match lanes {
                1 => BULK_BESIDE_CALLERS,
                _ => BULK_BESIDE_CALLERS_OF_LANES,
            }),
        }
    }

    #[cfg(test)]
    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    fn callers_write(&self) -> bool {
        let called_at = *self.called_at.lock();
        called_at.is_some_and(|at| at.elapsed() < CALLERS_WRITE_FOR)
    }
}

/// What a lane writes at once.
pub(super) struct Batch {
    pub(super) mutations: Vec<Mutation>,
    /// One of each.
    pub(super) answers: Vec<Answer>,
    /// To be kept until it is written, where it is in bulk.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

/// What a lane finds.
enum Look {
    Taken(Batch),
    Empty,
    /// Something in bulk, while another lane writes in bulk.
    NotItsTurn,
    Closed,
}

/// Of which line a batch is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Callers,
    Large,
    Bulk,
}

#[derive(Default)]
struct Waiting {
    sends: VecDeque<Job>,
    edits: VecDeque<Job>,
    large: VecDeque<Job>,
    bulk: VecDeque<Job>,
    /// How many batches there were since the last one in bulk.
    since_bulk: usize,
    /// Whether the others had their turn.
    is_turn_of_large: bool,
    of_organization: Counts<OrganizationId>,
    /// Of those in bulk.
    bulk_of_organization: Counts<OrganizationId>,
    edits_of: Counts<InboxKey>,
    is_closed: bool,
}

impl Queue {
    /// The queue of one of so many `lanes`.
    pub(super) fn new(settings: &WriterSettings, lanes: usize, common: &Arc<Common>) -> Self {
        Self {
            waiting: Mutex::default(),
            changed: Notify::new(),
            has_room: Notify::new(),
            most: settings.write_queue.div_ceil(lanes).max(1),
            most_rows: settings.write_batch,
            most_bytes: settings.write_batch_bytes,
            common: common.clone(),
        }
    }

    /// Puts a write at the end of its line. Refused at once where too many wait, of
    /// all, of its organization (half of all) or of edits of its inbox.
    pub(super) fn put(&self, mutation: Mutation, answer: Answer) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        let inbox = mutation.inbox();
        let organization = &inbox.organization_id;
        let is_edit = is_edit(&mutation);
        if waiting.is_closed {
            return Err(Error::Closed);
        }
        if is_edit && waiting.edits_of.get(inbox) >= MOST_EDITS_OF_AN_INBOX {
            return Err(Error::TooManyEdits);
        }
        if waiting.sends.len() + waiting.edits.len() + waiting.large.len() >= self.most
            || waiting.of_organization.get(organization) >= self.most.div_ceil(2)
        {
            return Err(Error::QueueFull);
        }
        waiting.of_organization.up(organization);
        if is_edit {
            waiting.edits_of.up(inbox);
            let line = match rows(&mutation) > LARGE {
                true => &mut waiting.large,
                false => &mut waiting.edits,
            };
            line.push_back(Job { mutation, answer });
        } else {
            waiting.sends.push_back(Job { mutation, answer });
        }
        self.came(waiting);
        Ok(())
    }

    /// Puts one of many writes at the end of the line of those. Refused at once where too
    /// many of them wait, of all or of its organization (half of all).
    pub(super) fn put_in_bulk(&self, mutation: Mutation, answer: Answer) -> Result<(), Error> {
        let waiting = self.waiting.lock();
        if !self.has_room_in_bulk(&waiting, &mutation)? {
            return Err(Error::QueueFull);
        }
        self.add_in_bulk(waiting, mutation, answer);
        Ok(())
    }

    /// As [`put_in_bulk`](Self::put_in_bulk), as soon as there is room. Cancel safe: it is
    /// put or it is not.
    pub(super) async fn put_in_bulk_patiently(
        &self,
        mutation: Mutation,
        answer: Answer,
    ) -> Result<(), Error> {
        loop {
            // From before the look: what is taken after it is heard of.
            let has_room = self.has_room.notified();
            {
                let waiting = self.waiting.lock();
                if self.has_room_in_bulk(&waiting, &mutation)? {
                    self.add_in_bulk(waiting, mutation, answer);
                    return Ok(());
                }
            }
            has_room.await;
        }
    }

    fn has_room_in_bulk(&self, waiting: &Waiting, mutation: &Mutation) -> Result<bool, Error> {
        if waiting.is_closed {
            return Err(Error::Closed);
        }
        let organization = &mutation.inbox().organization_id;
        let of_organization = waiting.bulk_of_organization.get(organization);
        Ok(waiting.bulk.len() < self.most && of_organization < self.most.div_ceil(2))
    }

    fn add_in_bulk(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        mutation: Mutation,
        answer: Answer,
    ) {
        let organization = &mutation.inbox().organization_id;
        waiting.bulk_of_organization.up(organization);
        waiting.bulk.push_back(Job { mutation, answer });
        self.came(waiting);
    }

    /// Counts what came before the lane can take it, and tells the lane.
    fn came(&self, waiting: MutexGuard<'_, Waiting>) {
        let before = self.common.depth.fetch_add(1, Ordering::Relaxed);
        drop(waiting);
        metrics::queue_depth(before + 1);
        self.changed.notify_one();
    }

    /// Waits for the next batch; `None` once it is closed and empty. Only its lane
    /// may ask.
    pub(super) async fn batch(&self) -> Option<Batch> {
        let mut turn = None;
        loop {
            let waits_for_turn = match self.look(&mut turn) {
                Look::Taken(batch) => return Some(batch),
                Look::Closed => return None,
                Look::Empty => false,
                Look::NotItsTurn => true,
            };
            let its_turn = self.common.turn.clone().acquire_owned();
            tokio::select! {
                () = self.changed.notified() => {}
                its = its_turn, if waits_for_turn => turn = its.ok(),
            }
        }
    }

    /// Takes what is next. `turn` is that of this lane, if it has it.
    fn look(&self, turn: &mut Option<OwnedSemaphorePermit>) -> Look {
        let mut waiting = self.waiting.lock();
        let Some(mut line) = waiting.next(true) else {
            return match waiting.is_closed {
                true => Look::Closed,
                false => Look::Empty,
            };
        };
        let is_beside_callers = line == Line::Bulk && self.common.callers_write();
        if is_beside_callers {
            *turn = turn
                .take()
                .or_else(|| self.common.turn.clone().try_acquire_owned().ok());
            if turn.is_none() && waiting.since_bulk < LONGEST_WITHOUT_BULK {
                let Some(of_callers) = waiting.next(false) else {
                    return Look::NotItsTurn;
                };
                line = of_callers;
            }
        }
        if line != Line::Bulk {
            *self.common.called_at.lock() = Some(Instant::now());
            *turn = None;
        }
        let most_rows = match line {
            Line::Bulk if is_beside_callers => self.common.rows_beside_callers,
            _ => self.most_rows,
        };
        let (mutations, answers) = waiting.take(line, most_rows, self.most_bytes);
        let taken = mutations.len();
        let before = self.common.depth.fetch_sub(taken, Ordering::Relaxed);
        metrics::queue_depth(before.saturating_sub(taken));
        self.has_room.notify_waiters();
        Look::Taken(Batch {
            mutations,
            answers,
            turn: turn.take(),
        })
    }

    /// Refuses what comes from now on; what waits can still be taken.
    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_one();
        self.has_room.notify_waiters();
    }

    /// Closes it, and lets go of what waits: there is nobody left to take it.
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        let Waiting {
            sends,
            edits,
            large,
            bulk,
            ..
        } = &mut *waiting;
        let lines = [sends, edits, large, bulk].into_iter();
        let left: usize = lines.map(|line| line.drain(..).count()).sum();
        self.common.depth.fetch_sub(left, Ordering::Relaxed);
        self.has_room.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().is_closed
    }
}

/// Whether it changes what is there, and is one of a person's few at a time.
fn is_edit(mutation: &Mutation) -> bool {
    matches!(
        mutation,
        Mutation::Edit { .. } | Mutation::Delete { .. } | Mutation::Seen { .. }
    )
}

/// About how many rows it writes; of nothing else, that which says so.
fn rows(mutation: &Mutation) -> usize {
    let rows = match mutation {
        Mutation::Edit { ids, .. }
        | Mutation::Delete { ids, .. }
        | Mutation::FollowUp { ids, .. } => ids.len(),
        Mutation::Take(take) => take.sends.len() + take.retracted.len(),
        Mutation::Send(_) | Mutation::Update(_) | Mutation::Seen { .. } => 1,
    };
    rows.max(1)
}

impl Waiting {
    /// Which line is next, if any.
    fn next(&self, may_be_bulk: bool) -> Option<Line> {
        let others_wait = !(self.sends.is_empty() && self.edits.is_empty());
        let callers_wait = others_wait || !self.large.is_empty();
        let is_bulk = may_be_bulk && !(callers_wait && self.since_bulk < BULK_EVERY - 1);
        if is_bulk && !self.bulk.is_empty() {
            Some(Line::Bulk)
        } else if !self.large.is_empty() && (self.is_turn_of_large || !others_wait) {
            Some(Line::Large)
        } else {
            others_wait.then_some(Line::Callers)
        }
    }

    /// Takes from a line, up to the limits: the member that reaches one of them is the last
    /// of it.
    fn take(
        &mut self,
        line: Line,
        most_rows: usize,
        most_bytes: usize,
    ) -> (Vec<Mutation>, Vec<Answer>) {
        let mut batch = (Vec::new(), Vec::new());
        let is_bulk = line == Line::Bulk;
        self.since_bulk = if is_bulk { 0 } else { self.since_bulk + 1 };
        let (lines, most_rows) = match line {
            Line::Bulk => (vec![&mut self.bulk], most_rows),
            Line::Large => {
                self.is_turn_of_large = false;
                (vec![&mut self.large], 1)
            }
            Line::Callers => {
                self.is_turn_of_large = true;
                (vec![&mut self.sends, &mut self.edits], most_rows)
            }
        };
        for line in lines {
            let (mut written, mut bytes) = (0, 0);
            while written < most_rows
                && bytes < most_bytes
                && let Some(Job { mutation, answer }) = line.pop_front()
            {
                let inbox = mutation.inbox();
                if is_bulk {
                    self.bulk_of_organization.down(&inbox.organization_id);
                } else {
                    self.of_organization.down(&inbox.organization_id);
                }
                written += rows(&mutation);
                bytes += match &mutation {
                    Mutation::Send(NewNotification { content, .. })
                    | Mutation::Update(Correction { content, .. }) => content.len_bytes(),
                    Mutation::Take(take) => {
                        let sends = take.sends.iter();
                        sends.map(|new| new.content.len_bytes()).sum()
                    }
                    _ => 0,
                };
                if !is_bulk && is_edit(&mutation) {
                    self.edits_of.down(inbox);
                }
                batch.0.push(mutation);
                batch.1.push(answer);
            }
        }
        batch
    }
}

/// How many there are of each; of which there are none is not kept.
struct Counts<K>(HashMap<K, usize>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    fn get(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn up(&mut self, key: &K) {
        *self.0.entry(key.clone()).or_default() += 1;
    }

    fn down(&mut self, key: &K) {
        match self.0.get_mut(key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.0.remove(key)),
        }
    }
}
