//! `doorbell.v1.TopicService`: authorise, convert, call the [`Topics`].

use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Sender, caller, convert, server::topic_service_server::TopicService, status};
use crate::{
    config::ContentLimits,
    model::{TopicId, UserId},
    proto::{
        AddTopicMembersRequest, AddTopicMembersResponse, DeleteTopicRequest, DeleteTopicResponse,
        ListTopicMembersRequest, ListTopicMembersResponse, ListTopicsOfUserRequest,
        ListTopicsOfUserResponse, Method, RemoveTopicMembersRequest, RemoveTopicMembersResponse,
    },
    topics::Topics,
};

/// The service.
pub struct Service {
    topics: Topics,
    limits: ContentLimits,
}

impl Service {
    /// The service of `topics`.
    pub fn new(topics: Topics, limits: ContentLimits) -> Self {
        Self { topics, limits }
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// Where the next page begins, after one of so many at most.
fn next_page<T>(page: &[T], limit: usize, id: impl Fn(&T) -> &str) -> String {
    let last = page.last().filter(|_| page.len() == limit);
    last.map(|last| id(last).to_owned()).unwrap_or_default()
}

#[tonic::async_trait]
impl TopicService for Service {
    async fn add_topic_members(
        &self,
        request: Request<AddTopicMembersRequest>,
    ) -> Result<Response<AddTopicMembersResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::AddTopicMembers)?;
        let request = request.into_inner();
        convert::check_size_of_many(request.encoded_len(), &self.limits)?;
        let ((organization, topic), users) = convert::members(
            &request.organization_id,
            &request.topic_id,
            &request.user_ids,
        )?;
        sender.covers(&organization, Some(&topic.as_str()))?;
        let added = self.topics.add(&organization, &topic, &users).await;
        Ok(Response::new(AddTopicMembersResponse {
            added_count: count(added.map_err(|error| status::of(&error))?),
        }))
    }

    async fn remove_topic_members(
        &self,
        request: Request<RemoveTopicMembersRequest>,
    ) -> Result<Response<RemoveTopicMembersResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::RemoveTopicMembers)?;
        let request = request.into_inner();
        convert::check_size_of_many(request.encoded_len(), &self.limits)?;
        let ((organization, topic), users) = convert::members(
            &request.organization_id,
            &request.topic_id,
            &request.user_ids,
        )?;
        sender.covers(&organization, Some(&topic.as_str()))?;
        let removed = self.topics.remove(&organization, &topic, &users).await;
        Ok(Response::new(RemoveTopicMembersResponse {
            removed_count: count(removed.map_err(|error| status::of(&error))?),
        }))
    }

    async fn list_topic_members(
        &self,
        request: Request<ListTopicMembersRequest>,
    ) -> Result<Response<ListTopicMembersResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::ListTopicMembers)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let page = convert::list_members(request.get_ref())?;
        let (organization, topic) = page.of;
        sender.covers(&organization, Some(&topic.as_str()))?;
        let members = self
            .topics
            .members(&organization, &topic, page.after.as_ref(), page.limit);
        let members = members.await.map_err(|error| status::of(&error))?;
        Ok(Response::new(ListTopicMembersResponse {
            next_page_token: next_page(&members, page.limit, UserId::as_str),
            user_ids: members
                .iter()
                .map(|user| user.as_str().to_owned())
                .collect(),
        }))
    }

    async fn list_topics_of_user(
        &self,
        request: Request<ListTopicsOfUserRequest>,
    ) -> Result<Response<ListTopicsOfUserResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::ListTopicsOfUser)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let page = convert::list_topics(request.get_ref())?;
        sender.covers(&page.of.organization_id, Some(&page.of.user_id))?;
        let topics = self
            .topics
            .of(&page.of, page.after.as_ref(), page.limit)
            .await;
        let topics = topics.map_err(|error| status::of(&error))?;
        Ok(Response::new(ListTopicsOfUserResponse {
            next_page_token: next_page(&topics, page.limit, TopicId::as_str),
            topic_ids: topics
                .iter()
                .map(|topic| topic.as_str().to_owned())
                .collect(),
        }))
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::DeleteTopic)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let request = request.get_ref();
        let (organization, topic) = convert::topic(&request.organization_id, &request.topic_id)?;
        sender.covers(&organization, Some(&topic.as_str()))?;
        let removed = self.topics.delete(&organization, &topic).await;
        Ok(Response::new(DeleteTopicResponse {
            removed_count: count(removed.map_err(|error| status::of(&error))?),
        }))
    }
}
