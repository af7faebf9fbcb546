//! `doorbell.v1.OperatorService`: authorise, log, call the [`Operators`] and the [`Node`].

use std::{sync::Arc, time::Duration};

use axum::{extract, middleware::Next};
use tonic::{Code, Request, Response, Status};

use super::{
    caller, convert, covers, recent_response, server::operator_service_server::OperatorService,
    status,
};
use crate::{
    auth::{Caller, Right, Scope},
    clock::Timestamp,
    config::ContentLimits,
    model::{InboxKey, Notification, OrganizationId},
    node::Node,
    operators::Operators,
    proto::{
        BusState, EraseInboxRequest, EraseInboxResponse, EraseOrganizationRequest,
        EraseOrganizationResponse, ErrorReason, GetNodeRequest, GetNodeResponse,
        GetTimelineRequest, GetTimelineResponse, ReadInboxRequest, ReadInboxResponse, RemovalCause,
        StoreKind, TimelineEntry, TimelineEvent,
    },
    wire,
};

/// The service.
pub struct Service {
    operators: Operators,
    node: Node,
    /// There is no other organization, so who is an operator is one of all.
    is_single: bool,
    limits: ContentLimits,
}

impl Service {
    /// The service of `operators` on `node`; with `is_single`, there is one organization
    /// alone.
    pub fn new(operators: Operators, node: Node, is_single: bool, limits: ContentLimits) -> Self {
        Self {
            operators,
            node,
            is_single,
            limits,
        }
    }
}

/// Lets operators through alone, whatever they call. To be laid behind what puts a
/// [`Caller`] on the request.
pub async fn only(request: extract::Request, next: Next) -> axum::response::Response {
    let caller = request.extensions().get::<Arc<Caller>>();
    match caller.map(|caller| scope(caller)) {
        Some(Ok(_)) => next.run(request).await,
        Some(Err(status)) => status.into_http(),
        // Not behind it: a bug.
        None => status::internal().into_http(),
    }
}

fn scope(caller: &Caller) -> Result<&Scope, Status> {
    match &caller.right {
        Right::Operate(scope) => Ok(scope),
        Right::Send(_) | Right::Read(_) => Err(status::new(
            Code::PermissionDenied,
            ErrorReason::NotAnOperator,
            "this token's role is not that of operators",
        )),
    }
}

/// Refuses who is no operator there; who is one is in the log, by what they ask for.
fn admit(
    caller: &Caller,
    organization: &OrganizationId,
    inbox: Option<&InboxKey>,
    what: &'static str,
) -> Result<(), Status> {
    covers(scope(caller)?, organization)?;
    tracing::info!(
        subject = &*caller.subject,
        what,
        of_organization = organization.as_str(),
        of_user = inbox.map(|inbox| inbox.user_id.as_str()),
        "an operator's call"
    );
    Ok(())
}

/// What its row holds, in the order of time.
fn timeline(of: &Notification, followed_up_at: Option<Timestamp>) -> Vec<TimelineEntry> {
    let state = of.row.state;
    let removed_at = state.removed.map(|(at, _)| at);
    let mut entries: Vec<_> = [
        (TimelineEvent::Sent, Some(of.sent_at)),
        (TimelineEvent::Created, Some(of.created_at)),
        (TimelineEvent::Read, state.read_at),
        (TimelineEvent::Archived, state.archived_at),
        (TimelineEvent::Removed, removed_at),
        (TimelineEvent::FollowedUp, followed_up_at),
    ]
    .into_iter()
    .filter_map(|(event, at)| Some((at?, event)))
    .collect();
    entries.sort_unstable();
    let entry = |(at, event): (Timestamp, TimelineEvent)| TimelineEntry {
        event: event.into(),
        time: Some(wire::time(at)),
        cause: match event {
            TimelineEvent::Removed => wire::cause(&state).into(),
            _ => RemovalCause::Unspecified.into(),
        },
    };
    entries.into_iter().map(entry).collect()
}

#[tonic::async_trait]
impl OperatorService for Service {
    async fn read_inbox(
        &self,
        request: Request<ReadInboxRequest>,
    ) -> Result<Response<ReadInboxResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let inbox = convert::inbox(&request.organization_id, &request.user_id)?;
        admit(&caller, &inbox.organization_id, Some(&inbox), "ReadInbox")?;
        let query = request.query.unwrap_or_default();
        let page = self
            .operators
            .read(&inbox, convert::recent(&query, &inbox)?);
        let page = page.await.map_err(|error| status::of(&error))?;
        let most_bytes = self.operators.page_bytes();
        Ok(Response::new(ReadInboxResponse {
            page: Some(recent_response(&query, &inbox, &page, most_bytes)),
        }))
    }

    async fn get_timeline(
        &self,
        request: Request<GetTimelineRequest>,
    ) -> Result<Response<GetTimelineResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (inbox, of) = convert::timeline(request)?;
        admit(&caller, &inbox.organization_id, Some(&inbox), "GetTimeline")?;
        let found = self.operators.find(&inbox, &of).await;
        let (snapshot, found) = found.map_err(|error| status::of(&error))?;
        let found = found.ok_or_else(status::not_found)?;
        let sequence = found.row.sequence;
        let followed_up_at = self.operators.followed_up_at(&inbox, sequence).await;
        let followed_up_at = followed_up_at.map_err(|error| status::of(&error))?;
        let head = snapshot.head;
        Ok(Response::new(GetTimelineResponse {
            entries: timeline(&found, followed_up_at),
            seen: sequence <= head.seen_through,
            sender: found.sender.to_string(),
            notification: Some(wire::notification(&found)),
            head: Some(wire::head(&head)),
        }))
    }

    async fn erase_inbox(
        &self,
        request: Request<EraseInboxRequest>,
    ) -> Result<Response<EraseInboxResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let inbox = convert::inbox(&request.organization_id, &request.user_id)?;
        admit(&caller, &inbox.organization_id, Some(&inbox), "EraseInbox")?;
        let erased = self.operators.erase_inbox(&inbox).await;
        let (erased, head) = erased.map_err(|error| status::of(&error))?;
        Ok(Response::new(EraseInboxResponse {
            erased_count: erased.rows,
            more: erased.more,
            head: Some(wire::head(&head)),
        }))
    }

    async fn erase_organization(
        &self,
        request: Request<EraseOrganizationRequest>,
    ) -> Result<Response<EraseOrganizationResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let organization = convert::organization(&request.organization_id)?;
        admit(&caller, &organization, None, "EraseOrganization")?;
        let erased = self.operators.erase_organization(&organization).await;
        let erased = erased.map_err(|error| status::of(&error))?;
        Ok(Response::new(EraseOrganizationResponse {
            erased_count: erased.rows,
            inbox_count: erased.inboxes,
            more: erased.more,
        }))
    }

    async fn get_node(
        &self,
        request: Request<GetNodeRequest>,
    ) -> Result<Response<GetNodeResponse>, Status> {
        let caller = caller(&request)?;
        if scope(&caller)? != &Scope::Any && !self.is_single {
            return Err(status::new(
                Code::PermissionDenied,
                ErrorReason::WrongOrganization,
                "the figures of a node are of all organizations, and this token is for one",
            ));
        }
        // It is of nobody's data, and a page asks every few seconds: no line of the log.
        let now = self.node.standing();
        let time = |time: Duration| Some(wire::duration(time));
        let store = match self.node.is_shared {
            true => StoreKind::Postgres,
            false => StoreKind::Sqlite,
        };
        let bus = match now.is_bus_well {
            None => BusState::None,
            Some(true) => BusState::Connected,
            Some(false) => BusState::Away,
        };
        let remark = match now.readiness {
            Ok(remark) => remark.unwrap_or_default(),
            Err(reason) => reason,
        };
        Ok(Response::new(GetNodeResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(wire::time(self.node.started_at)),
            time: Some(wire::time(now.at)),
            ready: now.readiness.is_ok(),
            remark: remark.to_owned(),
            store: store.into(),
            bus: bus.into(),
            stream_count: now.streams,
            connection_count: now.connections,
            room_count: now.rooms as u64,
            queued_count: now.queued,
            write_count: now.writes,
            commit_count: now.commits,
            commit_time: time(now.commit_time),
            failed_commit_count: now.failed_commits,
            send_call_count: now.send_calls,
            delivery_count: now.deliveries,
            delivery_time: time(now.delivery_time),
            lag_heal_count: now.lag_heals,
            rejected_count: now.rejected,
            sweeps: now.sweeps,
            sweeper_late: time(now.sweeper_late),
        }))
    }
}
