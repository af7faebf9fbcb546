//! A batch's commit, and how a doubt about it is settled.
//!
//! A batch that only sends is one statement and one round trip: it counts the heads
//! on, makes those that are missing, and writes the rows. It writes nothing where an
//! idempotency key was used before. What it cannot do is a transaction: lock the heads,
//! load what the plan needs, write what it says.
//!
//! Both insert the id of the batch into `commits`, and it is the proof of the commit.
//! Where its answer is lost, a transaction inserts the same id first: that waits for the
//! lost one, and tells whether it was committed. If not, it fences what comes late, and
//! the batch goes on in that transaction. Nobody is told that nothing was changed
//! before the bare id is committed, where a statement may still come.
//!
//! A transaction whose COMMIT was lost cannot come late: it held the id, and who has
//! inserted it knows that it ended. So what was committed under an id is the statement,
//! the last plan, or the bare id; and only the statement leaves all its rows where the
//! other two cannot, or leave the same.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use uuid::Uuid;

use super::{Postgres, is_dead, statements::Writing};
use crate::{
    clock::Timestamp,
    model::{
        Change, Head, InboxEvent, InboxKey, NewNotification, Notification, OrganizationId,
        Revision, Run, Wanted,
    },
    random::{Random, SystemRandom},
    sabotage::{self, Sabotage},
    store::{
        Committed, Error, Mutation, Outcome, Sent,
        plan::{self, Before, Plan, StoredHead},
    },
};

/// Between two attempts to learn what became of a commit.
const RESOLVE_PAUSE: Duration = Duration::from_millis(50);

/// The row of `commits` that a batch inserts. Its organization is that of the batch's
/// first inbox, so that it can lie beside it.
#[derive(Clone, Copy)]
pub(super) struct Proof<'b> {
    pub(super) organization_id: &'b str,
    pub(super) id: Uuid,
}

/// What the server said of what would commit.
pub(super) enum Told<T> {
    Done(T),
    /// It undid it.
    Undone(Error),
    /// Nothing: it may have done it.
    Unknown(Error),
}

/// The steps of a commit, on one connection.
pub(super) trait Link: Send {
    /// The batch in one statement; `None` where that writes nothing and a transaction
    /// has to say why.
    fn send(
        &mut self,
        sends: &Sends<'_>,
        proof: Proof<'_>,
        now: Timestamp,
    ) -> impl Future<Output = Told<Option<Before>>> + Send;

    fn begin(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Inserts the proof, when nobody else is about to; whether it was not there.
    fn claim(&mut self, proof: Proof<'_>) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Locks the heads, and loads what the batch touches.
    fn load(&mut self, batch: &[Mutation]) -> impl Future<Output = Result<Before, Error>> + Send;

    /// Writes what the plan says, and the proof.
    fn write(
        &mut self,
        plan: &Plan,
        proof: Proof<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    fn commit(&mut self) -> impl Future<Output = Told<()>> + Send;

    /// What there is of the rows that the batch sends.
    fn find(&mut self, batch: &[Mutation]) -> impl Future<Output = Result<Found, Error>> + Send;
}

/// Rows by their inboxes and ids, each with the head of its inbox at that moment.
pub(super) type Found = HashMap<(InboxKey, Uuid), (Notification, Head)>;

/// A batch that one statement can write: it only sends, each key once, and nothing that
/// is over already, takes another's place or is to be followed up. Its rows may be parts of
/// sends that are under way.
pub(super) struct Sends<'b> {
    pub(super) rows: Vec<&'b NewNotification>,
    /// Of each row: the place of its head, and how many rows of its inbox come after
    /// it.
    pub(super) places: Vec<(i64, i64)>,
    /// In the order of their keys.
    pub(super) inboxes: Vec<&'b InboxKey>,
    /// The rows of each inbox.
    pub(super) counts: Vec<i64>,
    /// The sends that rows are parts of.
    pub(super) parts: BTreeSet<(&'b OrganizationId, Uuid)>,
}

impl<'b> Sends<'b> {
    fn of(batch: &'b [Mutation], now: Timestamp) -> Option<Self> {
        let is_plain = |new: &NewNotification| {
            let is_plain_row = new.collapse_key.is_none() && new.follow_up.is_none();
            is_plain_row && !new.is_expired(now) && new.wanted != Wanted::IfChosen
        };
        let rows = batch.iter().map(|mutation| match mutation {
            Mutation::Send(new) if is_plain(new) => Some(new),
            _ => None,
        });
        let rows = rows.collect::<Option<Vec<_>>>()?;
        let keys = plan::keys(batch);
        let is_repeated = keys.iter().collect::<HashSet<_>>().len() < keys.len();
        if is_repeated {
            return None;
        }
        let mut inboxes: Vec<_> = rows.iter().map(|row| &row.inbox).collect();
        inboxes.sort_unstable();
        inboxes.dedup();
        let mut counts = vec![0; inboxes.len()];
        let mut places: Vec<_> = rows
            .iter()
            .rev()
            .map(|row| {
                let index = inboxes.partition_point(|inbox| *inbox < &row.inbox);
                let more = counts[index];
                counts[index] += 1;
                (index as i64 + 1, more)
            })
            .collect();
        places.reverse();
        Some(Self {
            rows,
            places,
            inboxes,
            counts,
            parts: plan::parts(batch),
        })
    }

    /// What there was before one statement, from the heads that it answered with. What
    /// [`plan::plan`] then says is what it did.
    fn before(&self, mut after: Before) -> Before {
        let parts = self.parts.iter();
        after.under_way = parts.map(|(of, id)| ((*of).clone(), *id)).collect();
        for (inbox, count) in self.inboxes.iter().zip(&self.counts) {
            if let Some(StoredHead {
                head,
                last_created_at,
                row_count,
                ..
            }) = after.heads.get_mut(*inbox)
            {
                let count = u32::try_from(*count).unwrap_or(u32::MAX);
                *head = head_before(*head, count);
                *row_count = row_count.saturating_sub(count);
                *last_created_at =
                    Timestamp::from_micros(last_created_at.as_micros() - i64::from(count));
            }
        }
        after
    }
}

/// The head before the last so many sends.
fn head_before(head: Head, sends: u32) -> Head {
    Head {
        revision: Revision::new(head.revision.get() - u64::from(sends)),
        unread_count: head.unread_count.saturating_sub(sends),
        unseen_count: head.unseen_count.saturating_sub(sends),
        ..head
    }
}

/// What may have been committed under the id of a batch.
#[derive(Default)]
struct Doubt {
    /// The one statement, which may even be still to come.
    is_sent: bool,
    /// The last plan whose COMMIT was lost.
    plan: Option<Plan>,
    /// The bare id, for who is to be told this.
    refusal: Option<Error>,
}

/// A batch on its way.
struct Commit<'b> {
    batch: Cow<'b, [Mutation]>,
    id: Uuid,
    now: Timestamp,
    doubt: Option<Doubt>,
}

impl<'b> Commit<'b> {
    fn new(batch: impl Into<Cow<'b, [Mutation]>>, now: Timestamp) -> Self {
        let random: &dyn Random = &SystemRandom;
        Self {
            batch: batch.into(),
            id: random.uuid_v7(now),
            now,
            doubt: None,
        }
    }

    fn proof(&self) -> Proof<'_> {
        let first = self.batch.iter().map(Mutation::inbox).min();
        Proof {
            organization_id: first.map_or("", |inbox| inbox.organization_id.as_str()),
            id: self.id,
        }
    }

    /// One attempt. An error is what became of the batch, unless there is a doubt left.
    async fn attempt(&mut self, link: &mut impl Link) -> Result<Committed, Error> {
        // What is in doubt takes a look first.
        if self.doubt.is_none()
            && let Some(sends) = Sends::of(&self.batch, self.now)
        {
            match link.send(&sends, self.proof(), self.now).await {
                Told::Done(Some(heads)) => {
                    let before = sends.before(heads);
                    return Ok(plan::plan(&self.batch, before, self.now).committed);
                }
                Told::Done(None) => {}
                Told::Undone(error) => return Err(error),
                Told::Unknown(error) => {
                    self.doubt.get_or_insert_default().is_sent = true;
                    return Err(error);
                }
            }
        }
        link.begin().await?;
        let mut old = None;
        if self.doubt.is_some() {
            if !link.claim(self.proof()).await? {
                return self.settle(link).await;
            }
            if sabotage::is(Sabotage::CommitOldPlan) {
                old = self.doubt.as_mut().and_then(|doubt| doubt.plan.take());
            }
            // A transaction that was lost ended without its COMMIT.
            self.doubt.take_if(|doubt| !doubt.is_sent);
        }
        let plan = match &mut self.doubt {
            Some(Doubt {
                refusal: Some(_), ..
            }) => Plan::default(),
            doubt => {
                if let Some(doubt) = doubt {
                    doubt.plan = None;
                }
                match self.write(link, old).await {
                    Ok(plan) => plan,
                    Err(error) => return Err(self.refuse(error)),
                }
            }
        };
        if self.doubt.is_none() && plan.heads.is_empty() {
            return Ok(plan.committed);
        }
        match link.commit().await {
            Told::Done(()) => match self.doubt.take().and_then(|doubt| doubt.refusal) {
                Some(refusal) => Err(refusal),
                None => Ok(plan.committed),
            },
            Told::Undone(error) => Err(self.refuse(error)),
            Told::Unknown(error) => {
                let doubt = self.doubt.get_or_insert_default();
                doubt.plan = doubt.refusal.is_none().then_some(plan);
                Err(error)
            }
        }
    }

    /// All of a transaction but its end.
    async fn write(&self, link: &mut impl Link, old: Option<Plan>) -> Result<Plan, Error> {
        let plan = match old {
            // Nothing but a deliberate bug.
            Some(plan) => plan,
            None => {
                let before = link.load(&self.batch).await?;
                plan::plan(&self.batch, before, self.now)
            }
        };
        if !plan.heads.is_empty() {
            link.write(&plan, self.proof()).await?;
        }
        Ok(plan)
    }

    /// Nothing can be written, but a statement may still come: then the bare id goes
    /// before the answer.
    fn refuse(&mut self, error: Error) -> Error {
        match &mut self.doubt {
            Some(doubt) if doubt.refusal.is_none() && error.may_be_of_a_member() => {
                doubt.refusal = Some(error);
                Error::Unavailable("what is refused may still be written".into())
            }
            _ => error,
        }
    }

    /// What was committed under the id.
    async fn settle(&mut self, link: &mut impl Link) -> Result<Committed, Error> {
        let is_sent = self.doubt.as_ref().is_some_and(|doubt| doubt.is_sent);
        if is_sent
            && let found = link.find(&self.batch).await?
            && let Some(committed) = sent_by(&self.batch, &found)
        {
            self.doubt = None;
            return Ok(committed);
        }
        match self.doubt.take() {
            Some(Doubt {
                plan: Some(plan), ..
            }) => Ok(plan.committed),
            Some(Doubt {
                refusal: Some(refusal),
                ..
            }) => Err(refusal),
            _ => Err(Error::InDoubt("the rows of a commit are gone".into())),
        }
    }
}

impl Postgres {
    /// See [`crate::store::Store::commit`].
    pub(super) async fn write_batch(
        &self,
        batch: &[Mutation],
        now: Timestamp,
    ) -> Result<Committed, Error> {
        if sabotage::is(Sabotage::AckBeforeCommit) || sabotage::is(Sabotage::PublishBeforeCommit) {
            let mut link = Writing::on(self).await?;
            link.begin().await?;
            let plan = Commit::new(batch, now).write(&mut link, None).await?;
            link.commit_later();
            return Ok(plan.committed);
        }
        let mut commit = Commit::new(batch, now);
        let (mut give_up, mut dead) = (None, 0);
        loop {
            if commit.doubt.is_some() && sabotage::is(Sabotage::RetryWithFreshIds) {
                commit = Commit::new(with_fresh_ids(batch), now);
            }
            let error = match self.attempt(&mut commit).await {
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            };
            // As many as there are may have died while they were idle.
            dead += 1;
            if is_dead(&error) && dead <= self.lanes {
                continue;
            }
            if commit.doubt.is_none() {
                return Err(error);
            }
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.resolve_within);
            if Instant::now() >= give_up {
                return Err(Error::InDoubt(error.into()));
            }
            tracing::warn!(%error, "it is not known whether a commit happened; asking");
            sleep(RESOLVE_PAUSE).await;
        }
    }

    async fn attempt(&self, commit: &mut Commit<'_>) -> Result<Committed, Error> {
        let mut link = Writing::on(self).await?;
        let answer = commit.attempt(&mut link).await;
        if answer.as_ref().err().is_none_or(Error::may_be_of_a_member) {
            link.end(commit.now).await;
        }
        answer
    }
}

/// What the one statement did, by its rows; `None` where it did nothing. Where an inbox
/// changed since, the counts of that moment are gone: its sends are answered with the
/// present head, and its rooms have to look.
fn sent_by(batch: &[Mutation], found: &Found) -> Option<Committed> {
    let mut last = HashMap::new();
    for mutation in batch {
        let Mutation::Send(new) = mutation else {
            return None;
        };
        let (row, _) = found.get(&(new.inbox.clone(), new.id))?;
        last.insert(&new.inbox, row.row.sequence);
    }
    let mut committed = Committed::default();
    let mut runs: BTreeMap<&InboxKey, Run> = BTreeMap::new();
    for new in plan::sends(batch) {
        let (notification, mut head) = found.get(&(new.inbox.clone(), new.id))?.clone();
        if last.get(&new.inbox) == Some(&head.revision) {
            // What came after this row is of this batch, and unread.
            let more = head.revision.get() - notification.row.sequence.get();
            head = head_before(head, u32::try_from(more).unwrap_or(u32::MAX));
            runs.entry(&new.inbox).or_default().push(InboxEvent {
                head,
                change: Change::Notification(notification.clone()),
            });
        } else if !committed.unknown_counts.contains(&new.inbox) {
            committed.unknown_counts.push(new.inbox.clone());
        }
        committed.outcomes.push(Outcome::Sent(Ok(Sent {
            notification,
            duplicate: false,
            head,
        })));
    }
    let runs = runs.into_iter().map(|(inbox, run)| (inbox.clone(), run));
    committed.runs = runs.collect();
    Some(committed)
}

/// For a deliberate bug, see [`sabotage`].
fn with_fresh_ids(batch: &[Mutation]) -> Vec<Mutation> {
    let mut batch = batch.to_vec();
    for mutation in &mut batch {
        if let Mutation::Send(new) = mutation {
            new.id = Uuid::from_u128(new.id.as_u128() ^ 1);
        }
    }
    batch
}

#[cfg(test)]
mod tests;
