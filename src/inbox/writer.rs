//! Group commit: one transaction for all writes that wait.
//!
//! Writes queue in bounded channels, one a lane; an inbox is always on the same.
//! A lane takes what is there, up to a limit, commits it, publishes the events in
//! the order of the commit, and answers each caller. While it commits, the next
//! batch gathers: one write alone pays no wait, a thousand at once pay one sync of
//! the disk. There are as many lanes as the store commits batches at once.
//!
//! A caller that goes away cancels nothing that is queued.

use std::{
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::{
    bus::Bus,
    clock::Clock,
    config::WriterSettings,
    metrics,
    model::{InboxKey, Run},
    sabotage::{self, Sabotage},
    store::{self, Committed, Mutation, Outcome, Store},
};

struct Job {
    mutation: Mutation,
    answer: Answer,
}

/// The queues' ends where writes go in.
pub struct Writer {
    /// One a lane.
    queues: Vec<mpsc::Sender<Job>>,
    hasher: RandomState,
    waiting: Arc<AtomicUsize>,
    closing: CancellationToken,
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
        let closing = CancellationToken::new();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (mut queues, mut lanes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (queue, jobs) = mpsc::channel(settings.write_queue.div_ceil(count).max(1));
            let lane = Lane {
                store: store.clone(),
                bus: bus.clone(),
                clock: clock.clone(),
                jobs,
                waiting: waiting.clone(),
                most_rows: settings.write_batch,
                most_bytes: settings.write_batch_bytes,
            };
            queues.push(queue);
            lanes.push(tokio::spawn(lane.run(closing.clone())));
        }
        Self {
            queues,
            hasher: RandomState::new(),
            waiting,
            closing,
            lanes: Mutex::new(lanes),
        }
    }

    fn queue(&self, inbox: &InboxKey) -> &mpsc::Sender<Job> {
        let hash = self.hasher.hash_one(inbox);
        let lane = usize::try_from(hash % self.queues.len() as u64).unwrap_or(0);
        &self.queues[lane]
    }

    /// Queues `mutation`, and answers when it is committed and published.
    ///
    /// A full queue is [`Error::QueueFull`], at once. Cancel safe: once it is
    /// queued it is committed.
    pub async fn write(&self, mutation: Mutation) -> Result<Outcome, Error> {
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(mutation.inbox());
        // Before it is there, so that the lane never takes it away uncounted.
        metrics::queue_depth(self.waiting.fetch_add(1, Ordering::Relaxed) + 1);
        queue.try_send(Job { mutation, answer }).map_err(|error| {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Error::QueueFull,
                TrySendError::Closed(_) => Error::Closed,
            }
        })?;
        Ok(answered.await.map_err(|_| Error::Closed)??)
    }

    /// Whether it takes no more writes.
    pub fn is_closed(&self) -> bool {
        self.queues.iter().any(mpsc::Sender::is_closed)
    }

    /// Commits and answers what is queued; what comes later is refused.
    pub async fn close(&self) {
        self.closing.cancel();
        let lanes = mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        for lane in lanes {
            // A lane that panicked has been reported; there is nothing to wait for.
            let _ = lane.await;
        }
    }
}

/// Takes batches from the queue, one after the other.
struct Lane {
    store: Arc<dyn Store>,
    bus: Arc<Bus>,
    clock: Arc<dyn Clock>,
    jobs: mpsc::Receiver<Job>,
    /// In all queues.
    waiting: Arc<AtomicUsize>,
    most_rows: usize,
    /// Bounds what a room holds as well: its slots are runs, and a run is at most
    /// a batch.
    most_bytes: usize,
}

type Answer = oneshot::Sender<Result<Outcome, Arc<store::Error>>>;

impl Lane {
    async fn run(mut self, closing: CancellationToken) {
        loop {
            let first = tokio::select! {
                // What is queued is drained before the end is seen.
                biased;
                job = self.jobs.recv() => job,
                () = closing.cancelled(), if !self.jobs.is_closed() => {
                    self.jobs.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let (batch, answers) = self.gather(first);
            let before = self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            metrics::queue_depth(before.saturating_sub(batch.len()));
            self.commit(&batch, answers).await;
            // Those who were answered may have more to write: let them, and the
            // next batch is not of the few who were quickest.
            tokio::task::yield_now().await;
        }
    }

    /// Takes what waits, up to the limits: the member that reaches one of them is
    /// the last.
    fn gather(&mut self, first: Job) -> (Vec<Mutation>, Vec<Answer>) {
        let (mut rows, mut bytes) = weight(&first.mutation);
        let mut batch = vec![first.mutation];
        let mut answers = vec![first.answer];
        while rows < self.most_rows
            && bytes < self.most_bytes
            && let Ok(job) = self.jobs.try_recv()
        {
            let (more_rows, more_bytes) = weight(&job.mutation);
            rows += more_rows;
            bytes += more_bytes;
            batch.push(job.mutation);
            answers.push(job.answer);
        }
        (batch, answers)
    }

    /// Commits and answers `batch`; in halves, and so on down to single members,
    /// where one of them may be at fault: the others must not fail for its sake.
    async fn commit(&self, batch: &[Mutation], mut answers: Vec<Answer>) {
        let began = Instant::now();
        match self.store.commit(batch, self.clock.now()).await {
            Ok(committed) => {
                metrics::committed(batch.len(), began.elapsed());
                self.publish_and_answer(committed, answers).await;
            }
            Err(error) if error.may_be_of_a_member() && batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                let answers_of_second = answers.split_off(first.len());
                Box::pin(self.commit(first, answers)).await;
                Box::pin(self.commit(second, answers_of_second)).await;
            }
            Err(error) => {
                metrics::commit_failed(error.name());
                tracing::error!(%error, writes = batch.len(), "a commit failed");
                if matches!(error, store::Error::InDoubt(_)) {
                    // If it happened, nobody was told.
                    for mutation in batch {
                        self.bus.recheck(mutation.inbox());
                    }
                }
                let error = Arc::new(error);
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
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
            let _ = self.store.check().await;
            return self.publish(runs);
        }
        self.publish(runs);
        for inbox in &unknown_counts {
            self.bus.recheck(inbox);
        }
        if sabotage::is(Sabotage::PublishBeforeCommit) {
            let _ = self.store.check().await;
        }
        answer(outcomes, answers);
    }

    fn publish(&self, runs: Vec<(InboxKey, Run)>) {
        for (inbox, run) in runs {
            metrics::published(run.len());
            self.bus.publish(&inbox, Arc::new(run));
        }
    }
}

fn answer(outcomes: Vec<Outcome>, answers: Vec<Answer>) {
    for (outcome, answer) in outcomes.into_iter().zip(answers) {
        // A caller that went away does not need the answer.
        let _ = answer.send(Ok(outcome));
    }
}

/// The rows that it touches, and the bytes of content that it brings.
fn weight(mutation: &Mutation) -> (usize, usize) {
    match mutation {
        Mutation::Send(new) => (1, new.content.len_bytes()),
        Mutation::MarkRead {
            notification_ids, ..
        } => (notification_ids.len(), 0),
    }
}

#[cfg(test)]
mod tests;
