//! `doorbell.v1.SendService`: authorise, convert, call the [`Sends`].

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Sender, caller,
    convert::{self, PageOf},
    server::send_service_server::SendService,
    status,
};
use crate::{
    clock::Timestamp,
    config::ContentLimits,
    follow_ups::FollowUps,
    model::{NewNotification, TopicId, Unless},
    proto::{
        self, BroadcastRequest, BroadcastResponse, CancelSendRequest, CancelSendResponse,
        GetRetractionRequest, GetRetractionResponse, GetSendRequest, GetSendResponse,
        ListFollowUpsRequest, ListFollowUpsResponse, ListSendsRequest, ListSendsResponse, Method,
        RetractBroadcastRequest, RetractBroadcastResponse, RetractFromAllRequest,
        RetractFromAllResponse, SendToTopicRequest, SendToTopicResponse,
    },
    retractions::Retractions,
    sends::{NotCancelled, Sends},
    store::{
        Named,
        follow_ups::FollowUp,
        retractions::Retraction,
        sends::{Accepted, NewSend, Send, SendState, Target},
    },
    wire,
};

/// The service.
pub struct Service {
    sends: Arc<Sends>,
    retractions: Arc<Retractions>,
    follow_ups: Arc<FollowUps>,
    limits: ContentLimits,
}

impl Service {
    /// The service of `sends`, of what is taken back and of what is to be followed up.
    pub fn new(
        sends: Arc<Sends>,
        retractions: Arc<Retractions>,
        follow_ups: Arc<FollowUps>,
        limits: ContentLimits,
    ) -> Self {
        Self {
            sends,
            retractions,
            follow_ups,
            limits,
        }
    }
}

/// A retraction as it is answered.
fn retraction(of: &Retraction) -> proto::Retraction {
    proto::Retraction {
        id: of.id.to_string(),
        about: Some(proto::About {
            entity_type: of.about.entity_type.clone(),
            entity_id: of.about.entity_id.clone(),
        }),
        retracted_count: of.retracted,
        error_count: of.errors,
        accepted_at: Some(wire::time(of.accepted_at)),
        ended_at: of.ended_at.map(wire::time),
        sender: of.sender.clone(),
    }
}

/// A follow-up as it is answered.
fn follow_up(of: &FollowUp) -> proto::FollowUp {
    let unless = match of.was.unless {
        Unless::Seen => proto::FollowUpUnless::Seen,
        Unless::Read => proto::FollowUpUnless::Read,
    };
    proto::FollowUp {
        position: of.position,
        user_id: of.inbox.user_id.as_str().to_owned(),
        notification: Some(wire::notification(&of.notification)),
        unless: unless.into(),
        due_time: Some(wire::time(of.was.at)),
    }
}

/// A send as it is answered.
pub(super) fn told(send: &Send) -> proto::Send {
    let state = match send.state {
        SendState::Waiting => proto::SendState::Waiting,
        SendState::UnderWay => proto::SendState::UnderWay,
        SendState::Done => proto::SendState::Done,
        SendState::Cancelled => proto::SendState::Cancelled,
    };
    let topic = send.topic_id.as_ref().map(TopicId::as_str);
    proto::Send {
        id: send.id.to_string(),
        state: state.into(),
        topic_id: topic.unwrap_or_default().to_owned(),
        total_count: send.total,
        delivered_count: send.tally.delivered,
        suppressed_count: send.tally.suppressed,
        error_count: send.tally.errors,
        accepted_at: Some(wire::time(send.accepted_at)),
        deliver_time: Some(wire::time(send.deliver_time)),
        started_at: send.started_at.map(wire::time),
        ended_at: send.ended_at.map(wire::time),
        content: Some(wire::content(&send.content)),
        sender: send.sender.to_string(),
        available_until: send.available_until.map(wire::time),
    }
}

async fn accepted(sends: &Sends, new: &NewSend) -> Result<Accepted, Status> {
    let accepted = sends.accept(new).await;
    let accepted = accepted.map_err(|error| status::of(&error))?;
    accepted.map_err(status::of_send)
}

/// Accepts what is for later, as one send to all whom `new` is for: they are sent the same.
/// What is for now is none, unless its key is that of a send for later: then its time has
/// come since.
pub(super) async fn later(
    sends: &Sends,
    new: &[NewNotification],
    deliver_time: Option<Timestamp>,
) -> Result<Option<Accepted>, Status> {
    let (Some(deliver_time), Some(first)) = (deliver_time, new.first()) else {
        return Ok(None);
    };
    let organization_id = &first.inbox.organization_id;
    if deliver_time <= sends.now() {
        let Some(key) = &first.idempotency_key else {
            return Ok(None);
        };
        let known = sends.get(organization_id, &Named::Key(key.clone())).await;
        if known.map_err(|error| status::of(&error))?.is_none() {
            return Ok(None);
        }
    }
    let users = new.iter().map(|new| new.inbox.user_id.clone());
    let new = NewSend {
        organization_id: organization_id.clone(),
        id: sends.new_id(),
        target: Target::Users(users.collect()),
        content: first.content.clone(),
        idempotency_key: first.idempotency_key.clone(),
        sender: first.sender.clone(),
        expire_time: first.expire_time,
        collapse_key: first.collapse_key.clone(),
        is_silent: first.is_silent,
        follow_up: first.follow_up,
        deliver_time,
    };
    accepted(sends, &new).await.map(Some)
}

#[tonic::async_trait]
impl SendService for Service {
    async fn send_to_topic(
        &self,
        request: Request<SendToTopicRequest>,
    ) -> Result<Response<SendToTopicResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::SendToTopic)?;
        let (id, now) = (self.sends.new_id(), self.sends.now());
        let subject = caller.subject.clone();
        let new = convert::send_to_topic(request.into_inner(), &self.limits, id, subject, now)?;
        sender.covers(&new.organization_id, None)?;
        let Accepted { send, duplicate } = accepted(&self.sends, &new).await?;
        Ok(Response::new(SendToTopicResponse {
            send: Some(told(&send)),
            duplicate,
        }))
    }

    async fn broadcast(
        &self,
        request: Request<BroadcastRequest>,
    ) -> Result<Response<BroadcastResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::Broadcast)?;
        let (id, now) = (self.sends.new_id(), self.sends.now());
        let subject = caller.subject.clone();
        let new = convert::broadcast(request.into_inner(), &self.limits, id, subject, now)?;
        sender.covers(&new.organization_id, None)?;
        let Accepted { send, duplicate } = accepted(&self.sends, &new).await?;
        Ok(Response::new(BroadcastResponse {
            send: Some(told(&send)),
            duplicate,
        }))
    }

    async fn retract_broadcast(
        &self,
        request: Request<RetractBroadcastRequest>,
    ) -> Result<Response<RetractBroadcastResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::RetractBroadcast)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let (organization, id) = convert::retract_broadcast(request.get_ref())?;
        sender.covers(&organization, Some(&id))?;
        let send = self.sends.retract_broadcast(&organization, id).await;
        let send = send.map_err(|error| status::of(&error))?;
        Ok(Response::new(RetractBroadcastResponse {
            send: Some(told(&send.ok_or_else(status::no_send)?)),
        }))
    }

    async fn get_send(
        &self,
        request: Request<GetSendRequest>,
    ) -> Result<Response<GetSendResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::GetSend)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (organization, named) = convert::get_send(request)?;
        sender.covers(&organization, None)?;
        let send = self.sends.get(&organization, &named).await;
        let send = send.map_err(|error| status::of(&error))?;
        let send = send.ok_or_else(status::no_send)?;
        Ok(Response::new(GetSendResponse {
            send: Some(told(&send)),
        }))
    }

    async fn list_sends(
        &self,
        request: Request<ListSendsRequest>,
    ) -> Result<Response<ListSendsResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::ListSends)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let page = convert::list_sends(request.get_ref())?;
        let (organization, state) = page.of;
        sender.covers(&organization, None)?;
        let sends = self
            .sends
            .list(&organization, state, page.after, page.limit);
        let sends = sends.await.map_err(|error| status::of(&error))?;
        let page_sends = convert::fitting(sends.iter().map(told), self.sends.page_bytes());
        let is_more = sends.len() == page.limit || page_sends.len() < sends.len();
        let last = page_sends.last().filter(|_| is_more);
        Ok(Response::new(ListSendsResponse {
            next_page_token: last.map(|last| last.id.clone()).unwrap_or_default(),
            sends: page_sends,
        }))
    }

    async fn cancel_send(
        &self,
        request: Request<CancelSendRequest>,
    ) -> Result<Response<CancelSendResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::CancelSend)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let (organization, id) = convert::cancel_send(request.get_ref())?;
        sender.covers(&organization, Some(&id))?;
        let cancelled = self.sends.cancel(&organization, id).await;
        match cancelled.map_err(|error| status::of(&error))? {
            Ok(send) => Ok(Response::new(CancelSendResponse {
                send: Some(told(&send)),
            })),
            Err(NotCancelled::NotFound) => Err(status::no_send()),
            Err(NotCancelled::Done) => Err(status::send_done(false)),
            Err(NotCancelled::Over) => Err(status::send_done(true)),
        }
    }

    async fn retract_from_all(
        &self,
        request: Request<RetractFromAllRequest>,
    ) -> Result<Response<RetractFromAllResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::RetractFromAll)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let new = convert::retract_from_all(request, self.retractions.new_id(), &caller.subject)?;
        sender.covers(&new.organization_id, None)?;
        let accepted = self.retractions.accept(&new).await;
        let (accepted, duplicate) = accepted.map_err(|error| status::of(&error))?;
        if accepted.about != new.about {
            return Err(status::other_retraction());
        }
        Ok(Response::new(RetractFromAllResponse {
            retraction: Some(retraction(&accepted)),
            duplicate,
        }))
    }

    async fn get_retraction(
        &self,
        request: Request<GetRetractionRequest>,
    ) -> Result<Response<GetRetractionResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::GetRetraction)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (organization, of) = convert::get_retraction(request)?;
        sender.covers(&organization, None)?;
        let found = self.retractions.get(&organization, &of).await;
        let found = found.map_err(|error| status::of(&error))?;
        let found = found.ok_or_else(status::no_retraction)?;
        Ok(Response::new(GetRetractionResponse {
            retraction: Some(retraction(&found)),
        }))
    }

    async fn list_follow_ups(
        &self,
        request: Request<ListFollowUpsRequest>,
    ) -> Result<Response<ListFollowUpsResponse>, Status> {
        let caller = caller(&request)?;
        let sender = Sender::of(&caller, Method::ListFollowUps)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let (PageOf { of, after, limit }, wait) = convert::list_follow_ups(request.get_ref())?;
        sender.covers(&of, None)?;
        let after = after.unwrap_or_default();
        let found = self.follow_ups.list(&of, &after, limit, wait).await;
        let (epoch, found) = found.map_err(|error| status::of(&error))?;
        let page_bytes = self.sends.page_bytes();
        let follow_ups = convert::fitting(found.iter().map(follow_up), page_bytes);
        // None is listed anew where none came in another life of the database.
        let before = match after.epoch.is_some_and(|of| of == epoch) {
            true => after.position,
            false => 0,
        };
        Ok(Response::new(ListFollowUpsResponse {
            position: follow_ups.last().map_or(before, |last| last.position),
            follow_ups,
            epoch: epoch.as_str().to_owned(),
        }))
    }
}
