//! Who must be told otherwise: the notifications that nobody looked at in time, for the
//! backends of their organization.
//!
//! The sweeper puts them into the log of the organization when they fall due, in the
//! transaction that knows whether they were looked at. Backends read the log from where
//! they were, and wait at its end: those who wait at the same place look there together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep_until},
};

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

type Found = (Epoch, Vec<FollowUp>);

/// All follow-ups of the service.
pub struct FollowUps {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
    /// From then on there is a look every so often, for all who wait.
    began: Instant,
    looks: Mutex<Looks>,
}

/// What was found at the last look, by whose it is, after what, and how many at most.
#[derive(Default)]
struct Looks {
    number: u32,
    found: HashMap<(OrganizationId, After, usize), Arc<OnceCell<Found>>>,
}

impl FollowUps {
    /// The follow-ups in `store`, of notifications in `inboxes`.
    pub fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>) -> Self {
        Self {
            store,
            inboxes,
            began: Instant::now(),
            looks: Mutex::default(),
        }
    }

    /// At most so many after a position, in their order, and the present epoch. Where there
    /// are none it waits for them, but no longer than the service runs. Cancel safe.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
        wait: Duration,
    ) -> Result<Found, Error> {
        let until = Instant::now() + wait;
        let mut found = self.store.follow_ups(organization, after, at_most).await?;
        loop {
            let now = Instant::now();
            if !found.1.is_empty() || now >= until || self.inboxes.is_draining() {
                return Ok(found);
            }
            let passed = now.duration_since(self.began).as_secs() / LOOK_EVERY.as_secs();
            let number = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
            let next = self.began + LOOK_EVERY * number;
            if next < until {
                sleep_until(next).await;
                found = self.look(number, organization, after, at_most).await?;
            } else {
                sleep_until(until).await;
                found = self.store.follow_ups(organization, after, at_most).await?;
            }
        }
    }

    /// Reads once what many ask for at a look.
    async fn look(
        &self,
        number: u32,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
    ) -> Result<Found, Error> {
        let found = {
            let mut looks = self.looks.lock();
            // Who comes late has what was found since.
            if looks.number < number {
                *looks = Looks {
                    number,
                    ..Looks::default()
                };
            }
            let key = (organization.clone(), after.clone(), at_most);
            looks.found.entry(key).or_default().clone()
        };
        let read = || self.store.follow_ups(organization, after, at_most);
        Ok(found.get_or_try_init(read).await?.clone())
    }

    /// Forgets some of what was told long ago; whether there may be more. `now` is the time
    /// of the database. Cancel safe.
    pub async fn work(&self, now: Timestamp) -> Result<bool, Error> {
        let until = now.before(KEPT);
        let forgotten = self.store.forget_follow_ups(until, FORGOTTEN).await?;
        Ok(forgotten == FORGOTTEN)
    }
}
