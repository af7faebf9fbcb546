//! What operators do to inboxes that are not their own: look, and erase.
//!
//! An erasure is made of ordinary changes, a piece each, behind what callers write. It
//! takes what there was when it began: what is sent meanwhile is somebody's new word.

use std::sync::Arc;

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

/// What an erasure did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// How many rows it deleted.
    pub rows: u64,
    /// Of how many inboxes.
    pub inboxes: u64,
    /// Whether it stopped before it was through.
    pub more: bool,
}

/// The inboxes as operators see them.
pub struct Operators {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
}

impl Operators {
    /// The operators of `inboxes`, which are in `store`.
    pub fn new(store: Arc<dyn Database>, inboxes: Arc<Inboxes>) -> Self {
        Self { store, inboxes }
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
        self.erase_rows(inbox).await
    }

    async fn erase_rows(&self, inbox: &InboxKey) -> Result<(Erased, Head), Error> {
        let mut erased = Erased::default();
        let mut began_at = None;
        loop {
            let oldest = self.store.oldest(inbox, Kept::All, AT_ONCE).await?;
            let began_at: Revision = *began_at.get_or_insert(oldest.head);
            let rows = oldest.rows.iter().filter(|row| row.sequence <= began_at);
            let ids: Vec<_> = rows.map(|row| row.id).collect();
            if ids.is_empty() || self.inboxes.is_draining() {
                erased.more = !ids.is_empty();
                return Ok((erased, self.inboxes.head(inbox).await?.head));
            }
            let mutation = Mutation::Delete {
                inbox: inbox.clone(),
                ids,
                why: Deletion::Erasure,
            };
            let deleted = self.inboxes.edit_in_bulk(mutation).await?.changed;
            erased.rows += u64::from(deleted);
            erased.inboxes = 1;
        }
    }

    /// Deletes all that is in the inboxes of an organization, its topics, its sends and its
    /// retractions.
    ///
    /// Cancel safe: what was begun is deleted, the rest is not.
    pub async fn erase_organization(&self, organization: &OrganizationId) -> Result<Erased, Error> {
        while self.store.delete_sends(organization, SENDS).await? == SENDS {}
        while self.store.delete_retractions(organization, SENDS).await? == SENDS {}
        while self.store.forget_members(organization, MEMBERS).await? == MEMBERS {}
        while self.store.delete_preferences(organization, MEMBERS).await? == MEMBERS {}
        let mut all = Erased::default();
        let mut after = None;
        loop {
            let page = self.store.inboxes(organization, after.as_ref(), INBOXES);
            let page = page.await?;
            let Some(last) = page.last() else {
                return Ok(all);
            };
            after = Some(last.user_id.clone());
            for inbox in &page {
                let (erased, _) = self.erase_rows(inbox).await?;
                all.rows += erased.rows;
                all.inboxes += erased.inboxes;
                if erased.more {
                    all.more = true;
                    return Ok(all);
                }
            }
        }
    }
}
