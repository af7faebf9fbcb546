//! Topics: who is a member of them gets what is sent to them.

use std::sync::Arc;

use crate::{
    inbox::Error,
    model::{InboxKey, OrganizationId, TopicId, UserId},
    store::Database,
};

/// The most members that one statement removes.
const AT_ONCE: usize = 1000;

/// All topics of the service.
pub struct Topics {
    store: Arc<dyn Database>,
}

impl Topics {
    /// The topics in `store`.
    pub fn new(store: Arc<dyn Database>) -> Self {
        Self { store }
    }

    /// Makes people members; how many were not. Cancel safe.
    pub async fn add(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        Ok(self.store.add_members(organization, topic, users).await?)
    }

    /// Makes people members no more; how many were. Cancel safe.
    pub async fn remove(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        let removed = self.store.remove_members(organization, topic, users);
        Ok(removed.await?)
    }

    /// At most so many members, in the order of their ids, after one. Cancel safe.
    pub async fn members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<UserId>, Error> {
        let members = self.store.members(organization, topic, after, at_most);
        Ok(members.await?)
    }

    /// At most so many topics of a person, in the order of their ids, after one. Cancel safe.
    pub async fn of(
        &self,
        inbox: &InboxKey,
        after: Option<&TopicId>,
        at_most: usize,
    ) -> Result<Vec<TopicId>, Error> {
        Ok(self.store.topics_of(inbox, after, at_most).await?)
    }

    /// Removes all members; how many there were. Cancel safe: those that were removed are.
    pub async fn delete(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
    ) -> Result<usize, Error> {
        let mut all = 0;
        loop {
            let removed = self.store.empty_topic(organization, topic, AT_ONCE).await?;
            all += removed;
            if removed < AT_ONCE {
                return Ok(all);
            }
        }
    }
}
