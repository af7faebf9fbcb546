//! Who must be told otherwise: the notifications that nobody looked at in time, for the
//! backends of their organization.
//!
//! The sweeper puts them into the log of the organization when they fall due, in the
//! transaction that knows whether they were looked at. Backends read the log from where
//! they were, and wait at its end.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    clock::Timestamp,
    inbox::{Error, Inboxes},
    model::{Epoch, OrganizationId},
    store::{
        Database,
        follow_ups::{After, FollowUp},
    },
};

/// Between two looks at the end of a log.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long what was told is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most of it that one look deletes.
const FORGOTTEN: usize = 100;

/// All follow-ups of the service.
pub struct FollowUps {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
}

impl FollowUps {
    /// The follow-ups in `store`, of notifications in `inboxes`.
    pub fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>) -> Self {
        Self { store, inboxes }
    }

    /// At most so many after a position, in their order, and the present epoch. Where there
    /// are none it waits for them, but no longer than the service runs. Cancel safe.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
        wait: Duration,
    ) -> Result<(Epoch, Vec<FollowUp>), Error> {
        let until = Instant::now() + wait;
        loop {
            let (epoch, found) = self.store.follow_ups(organization, after, at_most).await?;
            let now = Instant::now();
            if !found.is_empty() || now >= until || self.inboxes.is_draining() {
                return Ok((epoch, found));
            }
            sleep_until(until.min(now + LOOK_EVERY)).await;
        }
    }

    /// Forgets some of what was told long ago; whether there may be more. `now` is the time
    /// of the database. Cancel safe.
    pub async fn work(&self, now: Timestamp) -> Result<bool, Error> {
        let until = now.before(KEPT);
        let forgotten = self.store.forget_follow_ups(until, FORGOTTEN).await?;
        Ok(forgotten == FORGOTTEN)
    }
}
