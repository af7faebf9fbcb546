//! The services. `doorbell.v1.NotificationService`: convert, authorise, call the [`Inboxes`].
//!
//! Each call takes its [`Caller`] from the request, where `auth` put it, checks
//! its right, converts the request (all limits there), and maps the answer or
//! the error. It decides nothing else.

pub mod call_limit;
pub mod call_log;
pub mod connect;
pub mod convert;
pub mod cors;
pub mod encoded;
pub mod operators;
pub mod preferences;
pub mod protocol;
pub mod sends;
pub mod status;
pub mod topics;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::stream;
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Request, Response, Status, codegen::BoxStream, metadata::MetadataValue};

use crate::{
    auth::{Caller, Right, Scope},
    clock::Clock,
    config::ContentLimits,
    inbox::{
        Error, Inboxes,
        feed::{Event, Feed, Message},
    },
    metrics,
    model::{InboxKey, NewNotification, OrganizationId, RemovalCause, Revision, Wanted},
    preferences::Preferences,
    proto::{
        ArchiveRequest, ArchiveResponse, ErrorReason, GetRecentRequest, GetRecentResponse,
        GetUnreadCountRequest, GetUnreadCountResponse, MarkReadRequest, MarkReadResponse,
        MarkSeenRequest, MarkSeenResponse, MarkUnreadRequest, MarkUnreadResponse, Method,
        RemoveRequest, RemoveResponse, RetractInAppRequest, RetractInAppResponse, SendInAppRequest,
        SendInAppResponse, SendResult, SendToManyRequest, SendToManyResponse, SubscribeRequest,
        Suppressed, TypeCount, UnarchiveRequest, UnarchiveResponse, UpdateInAppRequest,
        UpdateInAppResponse,
    },
    sends::Sends,
    store::{Edit, NotSent, Recent, Sent, TypeCounts, selection::MOST_COUNTED, sends::Accepted},
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

/// The most that is said of one type.
const MOST_SAID: u32 = 1000;

/// The service.
pub struct Service {
    opening: Semaphore,
    inboxes: Arc<Inboxes>,
    sends: Arc<Sends>,
    preferences: Arc<Preferences>,
    clock: Arc<dyn Clock>,
    limits: ContentLimits,
}

impl Service {
    /// The service of `inboxes`; what is for later is one of `sends`, and what is wanted
    /// is in `preferences`.
    pub fn new(
        inboxes: Arc<Inboxes>,
        sends: Arc<Sends>,
        preferences: Arc<Preferences>,
        clock: Arc<dyn Clock>,
        limits: ContentLimits,
    ) -> Self {
        Self {
            opening: Semaphore::new(OPENING),
            inboxes,
            sends,
            preferences,
            clock,
            limits,
        }
    }

    /// What the organization says of its type.
    async fn wanted(&self, new: &NewNotification) -> Result<Wanted, Status> {
        let organization = &new.inbox.organization_id;
        let wanted = self.preferences.wanted(organization, &new.content.kind);
        wanted.await.map_err(|error| status::of(&error))
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
        Right::Send(_) | Right::Operate(_) => Err(status::new(
            Code::PermissionDenied,
            ErrorReason::NotAReader,
            "the token of a sender or an operator has no inbox; use the token of a user",
        )),
    }
}

/// What a caller may send to.
fn sender(caller: &Caller) -> Result<&Scope, Status> {
    match &caller.right {
        Right::Send(scope) => Ok(scope),
        Right::Read(_) | Right::Operate(_) => Err(status::new(
            Code::PermissionDenied,
            ErrorReason::NotASender,
            "this token's role may not send",
        )),
    }
}

/// Who makes a call of senders: one of them or, where the call is for those too, an
/// operator.
struct Sender<'c> {
    caller: &'c Caller,
    scope: &'c Scope,
    method: Method,
}

impl<'c> Sender<'c> {
    fn of(caller: &'c Caller, method: Method) -> Result<Self, Status> {
        let scope = match &caller.right {
            Right::Operate(scope) if method.is_for_operators_too() => scope,
            _ => sender(caller)?,
        };
        Ok(Self {
            caller,
            scope,
            method,
        })
    }

    /// Refuses another organization. An operator is in the log, by what they ask for: of a
    /// send, a topic or a person, where the call is of one.
    fn covers(
        &self,
        organization: &OrganizationId,
        of: Option<&dyn fmt::Display>,
    ) -> Result<(), Status> {
        covers(self.scope, organization)?;
        if let Right::Operate(_) = self.caller.right {
            tracing::info!(
                subject = &*self.caller.subject,
                what = self.method.name(),
                of_organization = organization.as_str(),
                of = of.map(tracing::field::display),
                "an operator's call"
            );
        }
        Ok(())
    }
}

fn covers(scope: &Scope, organization: &OrganizationId) -> Result<(), Status> {
    if scope.covers(organization) {
        return Ok(());
    }
    Err(status::new(
        Code::PermissionDenied,
        ErrorReason::WrongOrganization,
        "this token is not for that organization",
    ))
}

/// What became of one of many.
fn send_result(recipient_user_id: String, sent: &Result<Sent, Error>) -> SendResult {
    let mut result = SendResult {
        recipient_user_id,
        ..SendResult::default()
    };
    match sent {
        Ok(sent) => {
            result.notification_id = sent.notification.row.id.to_string();
            result.duplicate = sent.duplicate;
        }
        Err(Error::NotSent(NotSent::Expired(_))) => {
            result.suppressed = Suppressed::Expired.into();
        }
        Err(Error::NotSent(NotSent::Muted(_))) => {
            result.suppressed = Suppressed::Muted.into();
        }
        Err(error) => result.error = Some(status::of_one(error)),
    }
    result
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// A page as it is answered: as much of it as a message may hold.
fn recent_response(
    request: &GetRecentRequest,
    inbox: &InboxKey,
    page: &Recent,
    most_bytes: usize,
) -> GetRecentResponse {
    let notifications = convert::page(&page.rows, most_bytes);
    let is_cut = notifications.len() < page.rows.len();
    let last = notifications.last().filter(|_| is_cut);
    let last = last.map(|last| Revision::new(last.sequence)).or(page.next);
    GetRecentResponse {
        next_page_token: last
            .map(|last| convert::page_token(request, inbox, last))
            .unwrap_or_default(),
        notifications,
        epoch: page.snapshot.epoch.as_str().to_owned(),
        head: Some(wire::head(&page.snapshot.head)),
    }
}

/// Does a person's verb: its requests and its replies are alike.
macro_rules! verb {
    ($service:ident, $request:ident, $edit:expr, $response:ident) => {{
        let inbox = reader(&$request)?;
        convert::check_size($request.get_ref(), &$service.limits)?;
        let request = $request.into_inner();
        let (about, through) = (request.about, request.through);
        let (verb, epoch) = convert::verb($edit, &request.notification_ids, about, through)?;
        let done = $service.inboxes.edit(&inbox, verb, epoch).await;
        answer!(done, $response)
    }};
}

/// Answers a verb.
macro_rules! answer {
    ($done:ident, $response:ident) => {{
        let done = $done.map_err(|error| status::of(&error))?;
        Ok(Response::new($response {
            changed_count: done.changed,
            more: done.more,
            head: Some(wire::head(&done.head)),
        }))
    }};
}

#[tonic::async_trait]
impl NotificationService for Service {
    async fn send_in_app(
        &self,
        request: Request<SendInAppRequest>,
    ) -> Result<Response<SendInAppResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (id, subject) = (self.inboxes.new_id(), caller.subject.clone());
        let now = self.clock.now();
        let (mut new, deliver_time) = convert::send(request, &self.limits, id, subject, now)?;
        covers(scope, &new.inbox.organization_id)?;
        let later = sends::later(&self.sends, std::slice::from_ref(&new), deliver_time);
        if let Some(Accepted { send, duplicate }) = later.await? {
            return Ok(Response::new(SendInAppResponse {
                send: Some(sends::told(&send)),
                duplicate,
                ..SendInAppResponse::default()
            }));
        }
        new.wanted = self.wanted(&new).await?;
        let (sent, suppressed, head) = match self.inboxes.send(new).await {
            Ok(sent) => {
                let head = sent.head;
                (Some(sent), Suppressed::Unspecified, head)
            }
            Err(Error::NotSent(NotSent::Expired(head))) => (None, Suppressed::Expired, head),
            Err(Error::NotSent(NotSent::Muted(head))) => (None, Suppressed::Muted, head),
            Err(error) => return Err(status::of(&error)),
        };
        Ok(Response::new(SendInAppResponse {
            duplicate: sent.as_ref().is_some_and(|sent| sent.duplicate),
            notification: sent.map(|sent| wire::notification(&sent.notification)),
            head: Some(wire::head(&head)),
            suppressed: suppressed.into(),
            send: None,
        }))
    }

    async fn send_to_many(
        &self,
        request: Request<SendToManyRequest>,
    ) -> Result<Response<SendToManyResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        let request = request.into_inner();
        let users = request.recipient_user_ids.clone();
        let new_id = || self.inboxes.new_id();
        let now = self.clock.now();
        let new = convert::send_to_many(request, &self.limits, new_id, &caller.subject, now);
        let (mut new, deliver_time) = new?;
        if let Some(new) = new.first() {
            covers(scope, &new.inbox.organization_id)?;
        }
        let later = sends::later(&self.sends, &new, deliver_time);
        if let Some(Accepted { send, duplicate }) = later.await? {
            return Ok(Response::new(SendToManyResponse {
                send: Some(sends::told(&send)),
                duplicate,
                ..SendToManyResponse::default()
            }));
        }
        if let Some(first) = new.first() {
            let wanted = self.wanted(first).await?;
            new.iter_mut().for_each(|new| new.wanted = wanted);
        }
        let sent = self.inboxes.send_to_many(new).await;
        let results = users.into_iter().zip(&sent);
        let results: Vec<_> = results
            .map(|(user, sent)| send_result(user, sent))
            .collect();
        let errors = || results.iter().filter_map(|result| result.error.as_ref());
        if let Some(Err(first)) = sent.first()
            && errors().filter(|error| error.passing).count() == results.len()
        {
            return Err(status::of(first));
        }
        let is_sent =
            |sent: &&Result<Sent, Error>| matches!(sent, Ok(Sent { duplicate, .. }) if !duplicate);
        Ok(Response::new(SendToManyResponse {
            sent_count: count(sent.iter().filter(is_sent)),
            error_count: count(errors()),
            results,
            ..SendToManyResponse::default()
        }))
    }

    async fn update_in_app(
        &self,
        request: Request<UpdateInAppRequest>,
    ) -> Result<Response<UpdateInAppResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let correction = convert::update(request, &self.limits)?;
        covers(scope, &correction.inbox.organization_id)?;
        let updated = self.inboxes.update(correction).await;
        let updated = updated.map_err(|error| status::of(&error))?;
        Ok(Response::new(UpdateInAppResponse {
            notification: Some(wire::notification(&updated.notification)),
            changed: updated.changed,
            head: Some(wire::head(&updated.head)),
        }))
    }

    async fn retract_in_app(
        &self,
        request: Request<RetractInAppRequest>,
    ) -> Result<Response<RetractInAppResponse>, Status> {
        let caller = caller(&request)?;
        let scope = sender(&caller)?;
        let request = request.into_inner();
        convert::check_size(&request, &self.limits)?;
        let (inbox, verb) = convert::retract(request)?;
        covers(scope, &inbox.organization_id)?;
        let done = self.inboxes.edit(&inbox, verb, None).await;
        answer!(done, RetractInAppResponse)
    }

    async fn mark_read(
        &self,
        request: Request<MarkReadRequest>,
    ) -> Result<Response<MarkReadResponse>, Status> {
        verb!(self, request, Edit::Read, MarkReadResponse)
    }

    async fn mark_unread(
        &self,
        request: Request<MarkUnreadRequest>,
    ) -> Result<Response<MarkUnreadResponse>, Status> {
        verb!(self, request, Edit::Unread, MarkUnreadResponse)
    }

    async fn archive(
        &self,
        request: Request<ArchiveRequest>,
    ) -> Result<Response<ArchiveResponse>, Status> {
        verb!(self, request, Edit::Archive, ArchiveResponse)
    }

    async fn unarchive(
        &self,
        request: Request<UnarchiveRequest>,
    ) -> Result<Response<UnarchiveResponse>, Status> {
        verb!(self, request, Edit::Unarchive, UnarchiveResponse)
    }

    async fn remove(
        &self,
        request: Request<RemoveRequest>,
    ) -> Result<Response<RemoveResponse>, Status> {
        let edit = Edit::Remove(RemovalCause::User);
        verb!(self, request, edit, RemoveResponse)
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
        convert::check_size(request.get_ref(), &self.limits)?;
        let types = convert::types(request.into_inner().types)?;
        if types.is_empty() {
            let snapshot = self.inboxes.own_head(&inbox).await;
            let head = snapshot.map_err(|error| status::of(&error))?.head;
            return Ok(Response::new(GetUnreadCountResponse {
                head: Some(wire::head(&head)),
                types: Vec::new(),
            }));
        }
        let counts = self.inboxes.own_count_types(&inbox, types.clone()).await;
        let TypeCounts { snapshot, unread } = counts.map_err(|error| status::of(&error))?;
        let head = snapshot.head;
        // What is beyond may be of any type.
        let are_all_counted = head.unread_count as usize <= MOST_COUNTED;
        let count = |kind: String| {
            let unread = unread.get(&kind).copied().unwrap_or(0);
            TypeCount {
                r#type: kind,
                unread_count: unread.min(MOST_SAID),
                more: unread > MOST_SAID || !are_all_counted,
            }
        };
        Ok(Response::new(GetUnreadCountResponse {
            head: Some(wire::head(&head)),
            types: types.into_iter().map(count).collect(),
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
            .own_recent(&inbox, query)
            .await
            .map_err(|error| status::of(&error))?;
        let most_bytes = self.inboxes.page_bytes();
        let page = recent_response(request.get_ref(), &inbox, &page, most_bytes);
        Ok(Response::new(page))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<BoxStream<encoded::SubscribeResponse>>, Status> {
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
        let messages: BoxStream<_> = Box::pin(messages);
        let mut response = Response::new(messages);
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
