//! `doorbell.v1.NotificationService`: convert, authorise, call the [`Inboxes`].
//!
//! Each call takes its [`Caller`] from the request, where `auth` put it, checks
//! its right, converts the request (all limits there), and maps the answer or
//! the error. It decides nothing else.

pub mod call_limit;
pub mod call_log;
pub mod convert;
pub mod cors;
pub mod encoded;
pub mod protocol;
pub mod status;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue};

use crate::{
    auth::{Caller, Right},
    clock::Clock,
    config::ContentLimits,
    inbox::{
        Inboxes,
        feed::{Event, Feed, Message},
    },
    metrics,
    model::{InboxKey, NewNotification, Revision},
    proto::{
        ErrorReason, GetRecentRequest, GetRecentResponse, GetUnreadCountRequest,
        GetUnreadCountResponse, MarkReadRequest, MarkReadResponse, MarkSeenRequest,
        MarkSeenResponse, SendInAppRequest, SendInAppResponse, SubscribeRequest,
    },
    store::Edit,
    wire,
};
use server::notification_service_server::NotificationService;

/// The generated half that routes calls to [`NotificationService`].
pub mod server {
    #![expect(clippy::allow_attributes, reason = "generated")]
    #![expect(clippy::allow_attributes_without_reason, reason = "generated")]

    include!(concat!(env!("OUT_DIR"), "/server/doorbell.v1.rs"));
}

/// The streams that open at a time. When a server was restarted, all its streams come
/// back at once, and thousands of them in the scheduler's queue would stand before
/// every other call. Enough to keep the cores busy and to share a read of heads.
const OPENING: usize = 64;
/// The longest that one waits for its turn: the store or the bus has stalled.
const OPENING_WAIT: Duration = Duration::from_secs(5);

/// The service.
pub struct Service {
    opening: Semaphore,
    inboxes: Arc<Inboxes>,
    clock: Arc<dyn Clock>,
    limits: ContentLimits,
}

impl Service {
    /// The service of `inboxes`.
    pub fn new(inboxes: Arc<Inboxes>, clock: Arc<dyn Clock>, limits: ContentLimits) -> Self {
        Self {
            opening: Semaphore::new(OPENING),
            inboxes,
            clock,
            limits,
        }
    }
}

fn caller<T>(request: &Request<T>) -> Result<Arc<Caller>, Status> {
    request
        .extensions()
        .get::<Arc<Caller>>()
        .cloned()
        .ok_or_else(|| {
            status::new(
                Code::Unauthenticated,
                ErrorReason::TokenMissing,
                "no token was verified",
            )
        })
}

/// The inbox of a caller that reads.
fn reader<T>(request: &Request<T>) -> Result<InboxKey, Status> {
    match &caller(request)?.right {
        Right::Read(inbox) => {
            let span = tracing::Span::current();
            span.record("organization", inbox.organization_id.as_str());
            span.record("user", inbox.user_id.as_str());
            Ok(inbox.clone())
        }
        Right::Send(_) => Err(status::new(
            Code::PermissionDenied,
            ErrorReason::NotAReader,
            "a sender's token has no inbox; use the token of a user",
        )),
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<encoded::SubscribeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl NotificationService for Service {
    async fn send_in_app(
        &self,
        request: Request<SendInAppRequest>,
    ) -> Result<Response<SendInAppResponse>, Status> {
        let caller = caller(&request)?;
        let Right::Send(scope) = &caller.right else {
            return Err(status::new(
                Code::PermissionDenied,
                ErrorReason::NotASender,
                "this token's role may not send",
            ));
        };
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let send = convert::send(request, &self.limits)?;
        if !scope.covers(&send.inbox.organization_id) {
            return Err(status::new(
                Code::PermissionDenied,
                ErrorReason::WrongOrganization,
                "this token may not send into that organization",
            ));
        }
        let sent = self
            .inboxes
            .send(NewNotification {
                inbox: send.inbox,
                id: self.inboxes.new_id(),
                content: Arc::new(send.content),
                idempotency_key: send.idempotency_key,
                sender: caller.subject.clone(),
            })
            .await
            .map_err(|error| status::of(&error))?;
        Ok(Response::new(SendInAppResponse {
            notification: Some(wire::notification(&sent.notification)),
            duplicate: sent.duplicate,
            head: Some(wire::head(&sent.head)),
        }))
    }

    async fn mark_read(
        &self,
        request: Request<MarkReadRequest>,
    ) -> Result<Response<MarkReadResponse>, Status> {
        let inbox = reader(&request)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let selection = convert::mark_read(request.into_inner())?;
        let done = self
            .inboxes
            .edit(&inbox, selection, Edit::Read)
            .await
            .map_err(|error| status::of(&error))?;
        Ok(Response::new(MarkReadResponse {
            changed_count: done.changed,
            more: done.more,
            head: Some(wire::head(&done.head)),
        }))
    }

    async fn mark_seen(
        &self,
        request: Request<MarkSeenRequest>,
    ) -> Result<Response<MarkSeenResponse>, Status> {
        let inbox = reader(&request)?;
        let (through, epoch) = convert::mark_seen(request.get_ref())?;
        let head = self
            .inboxes
            .see(&inbox, through, &epoch)
            .await
            .map_err(|error| status::of(&error))?;
        Ok(Response::new(MarkSeenResponse {
            head: Some(wire::head(&head)),
        }))
    }

    async fn get_unread_count(
        &self,
        request: Request<GetUnreadCountRequest>,
    ) -> Result<Response<GetUnreadCountResponse>, Status> {
        let inbox = reader(&request)?;
        let head = self
            .inboxes
            .head(&inbox)
            .await
            .map_err(|error| status::of(&error))?
            .head;
        Ok(Response::new(GetUnreadCountResponse {
            head: Some(wire::head(&head)),
        }))
    }

    async fn get_recent(
        &self,
        request: Request<GetRecentRequest>,
    ) -> Result<Response<GetRecentResponse>, Status> {
        let inbox = reader(&request)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let query = convert::recent(request.get_ref(), &inbox)?;
        let page = self
            .inboxes
            .recent(&inbox, query)
            .await
            .map_err(|error| status::of(&error))?;
        let notifications = convert::page(&page.rows, self.inboxes.page_bytes());
        let more = page.more || notifications.len() < page.rows.len();
        let last = notifications.last().filter(|_| more);
        Ok(Response::new(GetRecentResponse {
            next_page_token: last
                .map(|last| convert::page_token(&inbox, Revision::new(last.sequence)))
                .unwrap_or_default(),
            notifications,
            epoch: page.snapshot.epoch.as_str().to_owned(),
            head: Some(wire::head(&page.snapshot.head)),
        }))
    }

    type SubscribeStream = Messages;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Messages>, Status> {
        let expires_at = caller(&request)?.expires_at;
        let inbox = reader(&request)?;
        convert::check_size(request.get_ref(), &self.limits)?;
        let resume = convert::resume(request.get_ref())?;
        let place = timeout(OPENING_WAIT, self.opening.acquire()).await;
        let _place = place.map_err(|_| status::busy())?;
        let feed = self
            .inboxes
            .subscribe(&inbox, resume, expires_at)
            .await
            .map_err(|error| status::of(&error))?;
        let clock = self.clock.clone();
        let messages = stream::unfold((feed, clock), async |(mut feed, clock): (Feed, _)| {
            let item = match feed.next().await? {
                Ok(message) => {
                    observe(&message, &*clock);
                    Ok(convert::message(&message))
                }
                Err(end) => Err(status::of_end(&end)),
            };
            Some((item, (feed, clock)))
        });
        let mut response = Response::new(Box::pin(messages) as Messages);
        // Proxies would gather a stream until it ends, or keep it.
        for (name, value) in [
            ("x-accel-buffering", "no"),
            ("cache-control", "no-store, no-transform"),
        ] {
            let value = MetadataValue::from_static(value);
            response.metadata_mut().insert(name, value);
        }
        // Whose stream it is, for the log of calls.
        response.extensions_mut().insert(inbox);
        Ok(response)
    }
}

fn observe(message: &Message, clock: &dyn Clock) {
    metrics::event_delivered(match &message.event {
        Event::Connected { .. } => "connected",
        Event::Notification(_) => "notification",
        Event::Removed(_) => "changed",
        Event::Live(live) => {
            let event = live.event();
            if let Some(created_at) = event.created_at {
                metrics::delivered_after(clock.now().since(created_at));
            }
            event.kind
        }
        Event::CaughtUp => "caught_up",
        Event::Heartbeat => "heartbeat",
        Event::Reset { .. } => "reset",
        Event::Reconnect { .. } => "reconnect",
    });
}
