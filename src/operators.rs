//! What operators do to inboxes that are not their own: look, and erase.
//!
//! An erasure is made of ordinary changes, a piece each, behind what callers write. It
//! takes what there was when it began: what is sent meanwhile is somebody's new word. It
//! stops after a while, within the time that its caller waits, and says that there is more:
//! what was erased is not looked at again.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    clock::Timestamp,
    inbox::{Error, Inboxes},
    model::{Head, InboxKey, Notification, OrganizationId, Revision},
    store::{Database, Deletion, Mutation, Named, Recent, RecentQuery, Snapshot, sweeping::Kept},
};

/// The most rows of one change.
const AT_ONCE: usize = 256;
/// The most sends that one statement deletes, each with whom it is for.
const SENDS: usize = 8;
/// The most members of topics that one statement removes.
const MEMBERS: usize = 1000;
/// The most inboxes of one read.
const INBOXES: usize = 100;
/// After this it stops: a client waits for 20 seconds, and a piece takes its time as well.
const AT_A_TIME: Duration = Duration::from_secs(5);

/// What an erasure did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many rows it deleted.
    pub rows: u64,
    /// How many inboxes it was through with, of those that had any.
    pub inboxes: u64,
    /// Whether it stopped before it was through.
    pub more: bool,
}

/// The inboxes as operators see them.
pub struct Operators {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
    at_a_time: Duration,
}

impl Operators {
    /// The operators of `inboxes`, which are in `store`.
    pub fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>) -> Self {
        Self {
            store,
            inboxes,
            at_a_time: AT_A_TIME,
        }
    }

    /// Lists an inbox, newest first. Cancel safe.
    pub async fn read(&self, inbox: &InboxKey, query: RecentQuery) -> Result<Recent, Error> {
        self.inboxes.recent(inbox, query).await
    }

    /// One notification of an inbox, whatever its state. Cancel safe.
    pub async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error> {
        Ok(self.store.find(inbox, of).await?)
    }

    /// When its organization was told that nobody looked at a notification. Cancel safe.
    pub async fn followed_up_at(
        &self,
        inbox: &InboxKey,
        sequence: Revision,
    ) -> Result<Option<Timestamp>, Error> {
        Ok(self.store.followed_up_at(inbox, sequence).await?)
    }

    /// The most bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.inboxes.page_bytes()
    }

    /// Deletes all that is in an inbox, what is still to come by a topic or a send, and says
    /// what its head is then.
    ///
    /// Cancel safe: what was begun is deleted, the rest is not.
    pub async fn erase_inbox(&self, inbox: &InboxKey) -> Result<(Erased, Head), Error> {
        // First, so that nothing comes by these.
        self.store.forget_member(inbox).await?;
        self.store.forget_recipient(inbox).await?;
        self.store.forget_preferences(inbox).await?;
        let until = Instant::now() + self.at_a_time;
        let erased = self.erase_rows(inbox, until).await?;
        Ok((erased, self.inboxes.head(inbox).await?.head))
    }

    /// At least a piece, unless the server drains.
    async fn erase_rows(&self, inbox: &InboxKey, until: Instant) -> Result<Erased, Error> {
        let mut erased = Erased::default();
        let mut began_at = None;
        loop {
            let oldest = self.store.oldest(inbox, Kept::All, AT_ONCE).await?;
            let began_at: Revision = *began_at.get_or_insert(oldest.head);
            let rows = oldest.rows.iter().filter(|row| row.sequence <= began_at);
            let ids: Vec<_> = rows.map(|row| row.id).collect();
            if ids.is_empty() {
                erased.inboxes = u64::from(erased.rows > 0);
                return Ok(erased);
            }
            if self.inboxes.is_draining() || erased.rows > 0 && Instant::now() >= until {
                erased.more = true;
                return Ok(erased);
            }
            let mutation = Mutation::Delete {
                inbox: inbox.clone(),
                ids,
                why: Deletion::Erasure,
            };
            let deleted = self.inboxes.edit_in_bulk(mutation).await?.changed;
            erased.rows += u64::from(deleted);
        }
    }

    /// Deletes all that is in the inboxes of an organization, its topics, its sends and its
    /// retractions.
    ///
    /// Cancel safe: what was begun is deleted, the rest is not.
    pub async fn erase_organization(&self, organization: &OrganizationId) -> Result<Erased, Error> {
        let until = Instant::now() + self.at_a_time;
        let is_over = || self.inboxes.is_draining() || Instant::now() >= until;
        let mut all = Erased::default();
        // First, so that nothing comes by these.
        while self.store.delete_sends(organization, SENDS).await? == SENDS
            || self.store.delete_retractions(organization, SENDS).await? == SENDS
            || self.store.forget_members(organization, MEMBERS).await? == MEMBERS
            || self.store.delete_preferences(organization, MEMBERS).await? == MEMBERS
        {
            if is_over() {
                all.more = true;
                return Ok(all);
            }
        }
        let mut after = None;
        loop {
            let page = self.store.inboxes(organization, after.as_ref(), INBOXES);
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            after = Some(last.user_id.clone());
            for inbox in &page {
                let erased = self.erase_rows(inbox, until).await?;
                all.rows += erased.rows;
                all.inboxes += erased.inboxes;
                if erased.more || is_over() {
                    all.more = true;
                    return Ok(all);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::test_support::ManualClock,
        bus::Bus,
        config::{FeedSettings, WriterSettings},
        model::{Content, NewNotification},
        random::SeededRandom,
        store::{Store as _, sqlite::Sqlite},
    };

    /// What has no rows is through; what has is begun again by no call.
    #[tokio::test]
    async fn an_erasure_stops_after_a_while_and_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/doorbell.db", directory.path().display());
        let store = Sqlite::open(&url, 1, &SeededRandom::new(1)).await.unwrap();
        let store = Arc::new(store);
        let feeds = FeedSettings::default();
        let inboxes = Inboxes::new(
            store.clone(),
            Bus::local(&feeds),
            ManualClock::new(Timestamp::from_seconds(1000)),
            Arc::new(SeededRandom::new(2)),
            feeds,
            &WriterSettings::default(),
        );
        let content = Arc::new(Content::new("test", "a title"));
        for (user, count) in [("ann", AT_ONCE + 44), ("bob", 2), ("carl", 1)] {
            let send = |_| {
                let inbox = InboxKey::parse("acme", user).unwrap();
                let (id, sender) = (inboxes.new_id(), "backend".into());
                Mutation::Send(NewNotification::new(inbox, id, content.clone(), sender))
            };
            let batch: Vec<_> = (0..count).map(send).collect();
            let now = Timestamp::from_seconds(1000);
            store.commit(&batch, now).await.unwrap();
        }
        let mut operators = Operators::new(store, inboxes);
        operators.at_a_time = Duration::ZERO;
        let organization = OrganizationId::parse("acme").unwrap();
        for (rows, inboxes, more) in [
            (256, 0, true),
            (44, 1, true),
            (2, 1, true),
            (1, 1, true),
            (0, 0, false),
        ] {
            let erased = operators.erase_organization(&organization).await.unwrap();
            let expected = Erased {
                rows,
                inboxes,
                more,
            };
            assert_eq!(erased, expected);
        }
    }
}
