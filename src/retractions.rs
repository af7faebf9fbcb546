//! What is taken back from everybody of an organization: durable jobs, in pieces.
//!
//! Accepting one cancels what was accepted before it and is not delivered. What is in
//! inboxes is removed by the node that does what falls due, some rows at a time, each by an
//! ordinary change of its inbox behind what callers write. A piece that was done twice
//! finds nothing the second time, and the next node goes on where the last one was.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    inbox::{Error, Inboxes},
    metrics,
    model::{InboxKey, OrganizationId, RemovalCause, View},
    store::{
        Database, Edit, Mutation, Named,
        retractions::{NewRetraction, Retraction, Step},
    },
    tries::Tries,
};

/// The most rows of one piece.
const AT_ONCE: usize = 32;
/// The most that are under way side by side, a piece each in turn.
const SIDE_BY_SIDE: usize = 4;
/// After a piece it rests so many times as long as that took.
const REST: u32 = 3;
/// A piece that failed is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long what has ended is kept, and with it its idempotency key.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most of it that one look deletes.
const FORGOTTEN: usize = 8;

/// All retractions of the service.
pub struct Retractions {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
    clock: Arc<dyn Clock>,
    tries: Tries,
}

impl Retractions {
    /// The retractions in `store`, of notifications in `inboxes`.
    pub fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            inboxes,
            clock,
            tries: Tries::default(),
        }
    }

    /// An id for one that is to be accepted.
    pub fn new_id(&self) -> Uuid {
        self.inboxes.new_id()
    }

    /// Accepts a retraction: nobody gets after this what was accepted before. It, or the
    /// first of its key, and whether that was another. Cancel safe: once it is accepted it
    /// is done.
    pub async fn accept(&self, new: &NewRetraction) -> Result<(Retraction, bool), Error> {
        let accepted = self.store.accept_retraction(new, self.clock.now()).await?;
        self.cancel_broadcasts(&accepted.0).await?;
        Ok(accepted)
    }

    /// The retraction of that name. Cancel safe.
    pub async fn get(
        &self,
        organization: &OrganizationId,
        of: &Named,
    ) -> Result<Option<Retraction>, Error> {
        Ok(self.store.retraction(organization, of).await?)
    }

    async fn cancel_broadcasts(&self, of: &Retraction) -> Result<(), Error> {
        for id in self.store.broadcasts_about(of).await? {
            let now = self.clock.now();
            let retracted = self.store.retract_broadcast(&of.organization_id, id, now);
            retracted.await?;
        }
        Ok(())
    }

    /// Does a piece of each whose turn it is, and forgets what ended long ago; whether there
    /// may be more. `now` is the time of the database. One that fails has to wait, and no
    /// other for it.
    ///
    /// Cancel safe: what was begun of a piece is done, and the rest is found again.
    pub async fn work(&self, now: Timestamp) -> Result<bool, Error> {
        let due = self.store.due_retractions(now, SIDE_BY_SIDE).await?;
        let is_any = !due.is_empty();
        let mut failed = Ok(());
        for of in due {
            let Err(error) = self.piece(&of, now).await else {
                continue;
            };
            tracing::warn!(%error, retraction_id = %of.id, "a retraction has to wait");
            let later = self.later(&of, 0, now).await;
            failed = failed.and(later);
        }
        failed?;
        let until = now.before(KEPT);
        let forgotten = self.store.forget_ended_retractions(until, FORGOTTEN);
        Ok(is_any || forgotten.await? == FORGOTTEN)
    }

    /// Its turn comes again from where it is, where it has taken back so many.
    async fn later(&self, of: &Retraction, retracted: u32, now: Timestamp) -> Result<(), Error> {
        let step = Step {
            retracted,
            ..Step::default()
        };
        let next = now.after(TRY_AGAIN);
        Ok(self.store.advance_retraction(of, &step, next).await?)
    }

    async fn piece(&self, of: &Retraction, now: Timestamp) -> Result<(), Error> {
        if of.last_user_id.is_empty() {
            // Who accepted it may have died before that.
            self.cancel_broadcasts(of).await?;
        }
        let rows = self.store.rows_about(of, AT_ONCE).await?;
        let (due, last) = (rows.len(), rows.last().cloned());
        let mut ids: HashMap<InboxKey, Vec<Uuid>> = HashMap::new();
        for row in rows {
            ids.entry(row.inbox).or_default().push(row.id);
        }
        let began = Instant::now();
        let changes = ids.into_iter().map(|(inbox, ids)| {
            let count = u32::try_from(ids.len()).unwrap_or(u32::MAX);
            let mutation = Mutation::Edit {
                inbox,
                ids,
                edit: Edit::Remove(RemovalCause::Sender),
                view: View::All,
                through: None,
            };
            async move { (count, self.inboxes.edit_in_bulk(mutation).await) }
        });
        let (mut retracted, mut refused, mut is_delayed) = (0, 0, false);
        for (count, edited) in join_all(changes).await {
            let error = match edited {
                Ok(edited) => {
                    retracted += edited.changed;
                    continue;
                }
                Err(error) => error,
            };
            metrics::sweep_failed("retracted");
            tracing::warn!(%error, retraction_id = %of.id, "what is taken back stays");
            match error.is_refused() {
                true => refused += count,
                false => is_delayed = true,
            }
        }
        metrics::swept("retracted", due, retracted);
        // What is delayed says nothing of those who are refused.
        if is_delayed || (refused > 0 && self.tries.is_again(of.id)) {
            self.later(of, retracted, now).await?;
        } else {
            self.tries.forget(of.id);
            let done = Step {
                last,
                retracted,
                errors: refused,
                is_last: due < AT_ONCE,
            };
            self.store.advance_retraction(of, &done, now).await?;
        }
        // Who waited for somebody else's lock has nothing to rest from.
        if !is_delayed {
            sleep(REST * began.elapsed()).await;
        }
        Ok(())
    }
}
