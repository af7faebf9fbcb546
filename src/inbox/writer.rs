//! Group commit: one transaction for all writes that wait.
//!
//! Writes wait in a bounded queue a lane; an inbox is always on the same one.
//! A lane takes what is there, up to a limit, commits it, publishes the events in
//! the order of the commit, and answers each caller. While it commits, the next
//! batch gathers: one write alone pays no wait, a thousand at once pay one sync of
//! the disk. There are as many lanes as the store commits batches at once.
//!
//! A caller that goes away cancels nothing that is queued.

mod queue;

use std::{
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle};

use super::Error;
use crate::{
    bus::Bus,
    clock::{Clock, Timestamp},
    config::WriterSettings,
    metrics,
    model::{InboxKey, NewNotification, Run},
    sabotage::{self, Sabotage},
    store::{
        self, Committed, Correction, Edited, Mutation, Outcome, Sent, Store, Take, Taken, Updated,
    },
};
use queue::{Answer, Common, Queue};

/// A `created_at` that is further ahead of the clock than this is worth a warning.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// A lane warns of it at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60 * 60);

/// The way to the lanes.
pub struct Writer {
    /// One a lane.
    queues: Vec<Arc<Queue>>,
    common: Arc<Common>,
    hasher: RandomState,
    is_failing: Arc<AtomicBool>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the lanes on the present tokio runtime.
    pub fn start(
        store: &Arc<dyn Store>,
        bus: &Arc<Bus>,
        clock: &Arc<dyn Clock>,
        settings: &WriterSettings,
    ) -> Self {
        let count = store.lanes().max(1);
        let common = Arc::new(Common::new(settings, count));
        let is_failing = Arc::new(AtomicBool::new(false));
        let (mut queues, mut lanes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let queue = Arc::new(Queue::new(settings, count, &common));
            queues.push(queue.clone());
            let lane = Lane {
                store: store.clone(),
                bus: bus.clone(),
                clock: clock.clone(),
                queue,
                is_failing: is_failing.clone(),
                warned: None,
            };
            lanes.push(tokio::spawn(lane.run()));
        }
        Self {
            queues,
            common,
            hasher: RandomState::new(),
            is_failing,
            lanes: Mutex::new(lanes),
        }
    }

    fn queue(&self, inbox: &InboxKey) -> &Queue {
        let hash = self.hasher.hash_one(inbox);
        let lane = usize::try_from(hash % self.queues.len() as u64).unwrap_or(0);
        &self.queues[lane]
    }

    /// Sends; see `write`.
    pub async fn send(&self, new: NewNotification) -> Result<Sent, Error> {
        sent(self.write(Mutation::Send(new)).await?)
    }

    /// Corrects; see `write`.
    pub async fn update(&self, correction: Correction) -> Result<Updated, Error> {
        match self.write(Mutation::Update(correction)).await? {
            Outcome::Updated(updated) => Ok(updated?),
            _ => Err(store::Error::unexpected_outcome().into()),
        }
    }

    /// Changes what is there; see `write`.
    pub async fn edit(&self, mutation: Mutation) -> Result<Edited, Error> {
        edited(&self.write(mutation).await?)
    }

    /// Queues `mutation`, and answers when it is committed and published.
    ///
    /// Where too many wait it is refused at once: [`Error::QueueFull`],
    /// [`Error::TooManyEdits`]. Cancel safe: once it is queued it is committed.
    async fn write(&self, mutation: Mutation) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue(mutation.inbox()).put(mutation, answer)?;
        Ok(answered.await.map_err(|_| Error::Closed)??)
    }

    /// Sends one of many; see `write_in_bulk`.
    pub async fn send_in_bulk(&self, new: NewNotification) -> Result<Sent, Error> {
        sent(self.write_in_bulk(Mutation::Send(new)).await?)
    }

    /// As [`send_in_bulk`](Self::send_in_bulk); see `write_in_bulk_patiently`.
    pub async fn send_in_bulk_patiently(&self, new: NewNotification) -> Result<Sent, Error> {
        sent(self.write_in_bulk_patiently(Mutation::Send(new)).await?)
    }

    /// Changes what is there; see `write_in_bulk_patiently`.
    pub async fn edit_in_bulk(&self, mutation: Mutation) -> Result<Edited, Error> {
        edited(&self.write_in_bulk_patiently(mutation).await?)
    }

    /// Takes what was broadcast; see `write_in_bulk`.
    pub async fn take(&self, take: Take) -> Result<Taken, Error> {
        match self.write_in_bulk(Mutation::Take(take)).await? {
            Outcome::Taken(taken) => Ok(taken),
            _ => Err(store::Error::unexpected_outcome().into()),
        }
    }

    /// As `write`, when there is room beside what callers write: those who wait longest
    /// for it have one batch in eight, of one lane at a time. [`Error::QueueFull`] where too
    /// much of it waits, of all or of the organization. Cancel safe: once it is queued it is
    /// committed.
    async fn write_in_bulk(&self, mutation: Mutation) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(mutation.inbox());
        queue.put_in_bulk(mutation, answer)?;
        Ok(answered.await.map_err(|_| Error::Closed)??)
    }

    /// As `write_in_bulk`, for what the service does of itself: nobody repeats it, so it
    /// waits for room. Cancel safe: once it is queued it is committed.
    async fn write_in_bulk_patiently(&self, mutation: Mutation) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(mutation.inbox());
        queue.put_in_bulk_patiently(mutation, answer).await?;
        Ok(answered.await.map_err(|_| Error::Closed)??)
    }

    /// The most rows of a batch in bulk while callers write.
    pub fn rows_beside_callers(&self) -> usize {
        self.common.rows_beside_callers
    }

    /// Whether it takes no more writes.
    pub fn is_closed(&self) -> bool {
        self.queues.iter().any(|queue| queue.is_closed())
    }

    /// Whether the last commit failed, and not for the sake of what was written.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Notes that the store takes writes again.
    pub fn recovered(&self) {
        self.is_failing.store(false, Ordering::Relaxed);
    }

    /// Commits and answers what is queued; what comes later is refused.
    pub async fn close(&self) {
        for queue in &self.queues {
            queue.close();
        }
        let lanes = mem::take(&mut *self.lanes.lock());
        for lane in lanes {
            // A lane that panicked has been reported; there is nothing to wait for.
            let _ = lane.await;
        }
    }
}

/// The outcome of a send.
fn sent(outcome: Outcome) -> Result<Sent, Error> {
    match outcome {
        Outcome::Sent(sent) => Ok(sent?),
        _ => Err(store::Error::unexpected_outcome().into()),
    }
}

/// The outcome of an edit.
fn edited(outcome: &Outcome) -> Result<Edited, Error> {
    match outcome {
        Outcome::Edited(edited) => Ok(*edited),
        _ => Err(store::Error::unexpected_outcome().into()),
    }
}

/// Takes batches from its queue, one after the other.
struct Lane {
    store: Arc<dyn Store>,
    bus: Arc<Bus>,
    clock: Arc<dyn Clock>,
    queue: Arc<Queue>,
    is_failing: Arc<AtomicBool>,
    /// When it last said that inboxes are ahead of the clock.
    warned: Option<Instant>,
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Also after a panic: nobody must wait for a lane that is gone.
        self.queue.abandon();
    }
}

impl Lane {
    async fn run(mut self) {
        while let Some(batch) = self.queue.batch().await {
            self.commit(&batch.mutations, batch.answers).await;
            drop(batch.turn);
            // Those who were answered may have more to write: let them, and the
            // next batch is not of the few who were quickest.
            tokio::task::yield_now().await;
        }
    }

    /// Commits and answers `batch`; in halves, and so on down to single members,
    /// where one of them may be at fault: the others must not fail for its sake.
    async fn commit(&mut self, batch: &[Mutation], answers: Vec<Answer>) {
        let began = Instant::now();
        let now = self.clock.now();
        match self.store.commit(batch, now).await {
            Ok(committed) => {
                metrics::committed(batch.len(), began.elapsed());
                self.is_failing.store(false, Ordering::Relaxed);
                self.warn_of_the_clock(&committed, now);
                self.publish_and_answer(committed, answers).await;
            }
            Err(error) if error.may_be_of_a_member() && batch.len() > 1 => {
                let is_held = matches!(error, store::Error::Held(_));
                let mut members: Vec<_> = batch.iter().cloned().zip(answers).collect();
                members.sort_by(|(one, _), (other, _)| one.inbox().cmp(other.inbox()));
                let Some(at) = middle(&members, is_held) else {
                    return fail(error, members.into_iter().map(|(_, answer)| answer));
                };
                let later = members.split_off(at);
                for half in [members, later] {
                    let (batch, answers): (Vec<_>, Vec<_>) = half.into_iter().unzip();
                    Box::pin(self.commit(&batch, answers)).await;
                }
            }
            Err(error) => {
                if !error.may_be_of_a_member() {
                    self.is_failing.store(true, Ordering::Relaxed);
                }
                if matches!(error, store::Error::InDoubt(_)) {
                    // If it happened, nobody was told.
                    for mutation in batch {
                        self.bus.recheck(mutation.inbox());
                    }
                }
                fail(error, answers);
            }
        }
    }

    /// Says, now and then, that new notifications are stamped with times to come:
    /// the clock was ahead once, and `created_at` never falls.
    fn warn_of_the_clock(&mut self, committed: &Committed, now: Timestamp) {
        let newest = committed
            .outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Sent(Ok(sent)) => Some(sent.notification.created_at),
                _ => None,
            });
        let ahead = newest.max().map_or(Duration::ZERO, |time| time.since(now));
        if ahead > AHEAD && self.warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                seconds = ahead.as_secs(),
                "an inbox is ahead of the clock, which was wrong once or is wrong now: what is \
                 sent to it is stamped one microsecond later each, until the clock is there"
            );
        }
    }

    /// Publishes in the order of the commit, before anybody learns of it: who
    /// was answered can rely on the event being under way.
    async fn publish_and_answer(&self, committed: Committed, answers: Vec<Answer>) {
        let Committed {
            outcomes,
            runs,
            unknown_counts,
        } = committed;
        if sabotage::is(Sabotage::AckBeforeCommit) {
            answer(outcomes, answers);
            let _ = self.store.check(false).await;
            return self.publish(runs);
        }
        self.publish(runs);
        for inbox in &unknown_counts {
            self.bus.recheck(inbox);
        }
        if sabotage::is(Sabotage::PublishBeforeCommit) {
            let _ = self.store.check(false).await;
        }
        answer(outcomes, answers);
    }

    fn publish(&self, runs: Vec<(InboxKey, Run)>) {
        for (inbox, run) in runs {
            metrics::published(run.len());
            self.bus.publish(&inbox, &run);
        }
    }
}

fn fail(
    error: store::Error,
    answers: impl IntoIterator<Item = Answer, IntoIter: ExactSizeIterator>,
) {
    let answers = answers.into_iter();
    metrics::commit_failed(error.name());
    tracing::error!(%error, writes = answers.len(), "a commit failed");
    let error = Arc::new(error);
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}

/// Where to part members that are in the order of their inboxes: near the middle and
/// between two inboxes. Those of one inbox are parted only if it is not its head that
/// is held: then each would wait for it in turn.
fn middle(members: &[(Mutation, Answer)], is_held: bool) -> Option<usize> {
    let half = members.len() / 2;
    let inbox = members[half].0.inbox();
    let before = members.partition_point(|(member, _)| member.inbox() < inbox);
    let after = members.partition_point(|(member, _)| member.inbox() <= inbox);
    let between = [before, after].into_iter();
    let mut between = between.filter(|at| (1..members.len()).contains(at));
    between.next().or((!is_held).then_some(half))
}

fn answer(outcomes: Vec<Outcome>, answers: Vec<Answer>) {
    for (outcome, answer) in outcomes.into_iter().zip(answers) {
        // A caller that went away does not need the answer.
        let _ = answer.send(Ok(outcome));
    }
}

#[cfg(test)]
mod tests;
