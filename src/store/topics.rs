//! Topics and who is a member of them, for every engine alike. A topic is there as long
//! as it has members.

use async_trait::async_trait;

use super::{
    Error,
    rows::Columns,
    sends::users_of,
    sql::{Sql, Statement},
};
use crate::model::{InboxKey, OrganizationId, TopicId, UserId};

/// A store by its topics.
#[async_trait]
pub trait Topics: Send + Sync + 'static {
    /// Makes people members; how many were not.
    async fn add_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error>;

    /// Makes people members no more; how many were.
    async fn remove_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error>;

    /// At most so many members, in the order of their ids, those after one.
    async fn members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<UserId>, Error>;

    /// At most so many of the topics that a person is a member of, in the order of their
    /// ids, those after one.
    async fn topics_of(
        &self,
        inbox: &InboxKey,
        after: Option<&TopicId>,
        at_most: usize,
    ) -> Result<Vec<TopicId>, Error>;

    /// Removes at most so many members of a topic; how many.
    async fn empty_topic(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        at_most: usize,
    ) -> Result<usize, Error>;

    /// Makes a person a member of nothing.
    async fn forget_member(&self, inbox: &InboxKey) -> Result<(), Error>;

    /// Removes at most so many members of all topics of an organization; how many.
    async fn forget_members(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error>;
}

/// Those after one, in the order of their ids.
pub(super) const MEMBERS: &str = "SELECT user_id FROM topic_members \
     WHERE organization_id = $1 AND topic_id = $2 AND user_id > $3 ORDER BY user_id LIMIT $4";
const TOPICS_OF: &str = "SELECT topic_id FROM topic_members \
     WHERE organization_id = $1 AND user_id = $2 AND topic_id > $3 ORDER BY topic_id LIMIT $4";
const EMPTY: &str = "DELETE FROM topic_members WHERE organization_id = $1 AND topic_id = $2 \
     AND user_id IN (SELECT user_id FROM topic_members \
     WHERE organization_id = $1 AND topic_id = $2 ORDER BY user_id LIMIT $3) RETURNING user_id";
const FORGET_MEMBER: &str = "DELETE FROM topic_members WHERE organization_id = $1 AND user_id = $2";
const FORGET_MEMBERS: &str = "DELETE FROM topic_members WHERE organization_id = $1 \
     AND (topic_id, user_id) IN (SELECT topic_id, user_id FROM topic_members \
     WHERE organization_id = $1 ORDER BY topic_id, user_id LIMIT $2) RETURNING user_id";

/// A statement about one topic.
fn about(text: &str, organization: &OrganizationId, topic: &TopicId) -> Statement {
    let statement = Statement::new(text).text(organization.as_str());
    statement.text(topic.as_str())
}

#[async_trait]
impl<Engine: Sql> Topics for Engine {
    async fn add_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        let text = format!(
            "INSERT INTO topic_members (organization_id, topic_id, user_id) \
             SELECT $1, $2, w.value FROM {} WHERE TRUE ORDER BY w.value \
             ON CONFLICT DO NOTHING RETURNING user_id",
            Self::LIST
        );
        let statement = about(&text, organization, topic).users(users);
        Ok(self.write_one(statement).await?.len())
    }

    async fn remove_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        let text = format!(
            "DELETE FROM topic_members WHERE organization_id = $1 AND topic_id = $2 \
             AND user_id IN (SELECT w.value FROM {}) RETURNING user_id",
            Self::LIST
        );
        let statement = about(&text, organization, topic).users(users);
        Ok(self.write_one(statement).await?.len())
    }

    async fn members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<UserId>, Error> {
        let statement = about(MEMBERS, organization, topic)
            .text(after.map_or("", UserId::as_str))
            .bound(at_most);
        users_of(&self.fetch(statement).await?, "topic_members")
    }

    async fn topics_of(
        &self,
        inbox: &InboxKey,
        after: Option<&TopicId>,
        at_most: usize,
    ) -> Result<Vec<TopicId>, Error> {
        let statement = Statement::of(TOPICS_OF, inbox)
            .text(after.map_or("", TopicId::as_str))
            .bound(at_most);
        let rows = self.fetch(statement).await?;
        let topic = |row| {
            let columns = Columns::of(row, "topic_members");
            let topic = TopicId::parse(columns.text("topic_id")?);
            topic.map_err(|error| columns.inconsistent("topic_id", error))
        };
        rows.iter().map(|row| topic(row)).collect()
    }

    async fn empty_topic(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        at_most: usize,
    ) -> Result<usize, Error> {
        let statement = about(EMPTY, organization, topic).bound(at_most);
        Ok(self.write_one(statement).await?.len())
    }

    async fn forget_member(&self, inbox: &InboxKey) -> Result<(), Error> {
        let statement = Statement::of(FORGET_MEMBER, inbox);
        self.write_one(statement).await.map(drop)
    }

    async fn forget_members(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        let statement = Statement::new(FORGET_MEMBERS).text(organization.as_str());
        Ok(self.write_one(statement.bound(at_most)).await?.len())
    }
}
