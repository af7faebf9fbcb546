//! Between the wire and the model: all limits of a request are checked here.
//!
//! A request is checked as a whole: the answer names every field that is wrong,
//! up to a bound.

use std::{collections::HashSet, sync::Arc, time::Duration};

use prost::Message as _;
use prost_types::Struct;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};
use tonic_types::FieldViolation;
use uuid::Uuid;

use super::{encoded, status};
use crate::{
    clock::Timestamp,
    config::{self, ContentLimits},
    inbox::feed::{Event, Message, Resume},
    model::{
        Action, Content, Data, Epoch, Field, FollowUpOptions, Image, InboxKey, InvalidId,
        NewNotification, Notification, OrganizationId, PartOf, RemovalCause, Revision, SEND_KEY,
        TopicId, Unless, UserId, View, Wanted,
    },
    preferences::MOST_TYPES,
    proto::{self, ErrorReason, json, subscribe_response},
    store::{
        About, Correction, Edit, Named, PageLimit, RecentQuery, Verb, Which,
        follow_ups::After,
        preferences::TypeDefault,
        retractions::NewRetraction,
        sends::{NewSend, SendState, Target},
    },
    wire,
};

/// More violations than these are not listed.
const MAX_VIOLATIONS: usize = 20;
/// An epoch has 32.
const MAX_EPOCH_BYTES: usize = 64;

/// Collects what is wrong with a request.
#[derive(Default)]
struct Violations(Vec<FieldViolation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldViolation::new(field, problem));
        }
    }

    /// The text, checked for its length and for U+0000.
    fn text(&mut self, field: &str, text: String, least: usize, most: usize) -> String {
        let bytes = text.len();
        if bytes == 0 && least > 0 {
            self.add(field, "is required");
        } else if bytes > most {
            self.add(
                field,
                format!("must have at most {most} bytes, has {bytes}"),
            );
        } else if text.contains('\0') {
            self.add(field, "must not contain U+0000");
        }
        text
    }

    fn optional_text(&mut self, field: &str, text: Option<String>, most: usize) -> Option<String> {
        text.map(|text| self.text(field, text, 0, most))
    }

    fn id<T>(&mut self, field: &str, id: Result<T, InvalidId>) -> Option<T> {
        id.map_err(|problem| match problem {
            InvalidId::Empty => self.add(field, "is required"),
            problem => self.add(field, problem.to_string()),
        })
        .ok()
    }

    fn ids(&mut self, ids: &[String]) -> Vec<Uuid> {
        let most = config::MAX_MARK_READ_IDS;
        if ids.is_empty() || ids.len() > most {
            let problem = format!("must have 1 to {most} ids, has {}", ids.len());
            self.add("notification_ids", problem);
            return Vec::new();
        }
        let ids = ids.iter().enumerate();
        ids.filter_map(|(index, id)| self.uuid(format!("notification_ids[{index}]"), id))
            .collect()
    }

    fn users(&mut self, field: &str, users: &[String]) -> Vec<UserId> {
        let most = config::MAX_RECIPIENTS;
        if users.is_empty() || users.len() > most {
            let problem = format!("must have 1 to {most} users, has {}", users.len());
            self.add(field, problem);
            return Vec::new();
        }
        let mut known = HashSet::new();
        let users = users.iter().enumerate().filter_map(|(index, user)| {
            let field = format!("{field}[{index}]");
            if !known.insert(user) {
                self.add(&*field, "is there twice");
            }
            self.id(&field, UserId::parse(user))
        });
        users.collect()
    }

    fn uuid(&mut self, field: impl Into<String>, id: &str) -> Option<Uuid> {
        // Only the hyphenated form: what `Uuid` also reads is never sent.
        let uuid = Uuid::try_parse(id).ok().filter(|_| id.len() == 36);
        if uuid.is_none() {
            self.add(field, "must be a UUID");
        }
        uuid
    }

    /// What is named by its id, in this field, or by its key.
    fn named(&mut self, field: &str, id: Option<String>, key: Option<String>) -> Option<Named> {
        let key = self.key("idempotency_key", key);
        let id = id.map(|id| self.uuid(field, &id));
        match (id, key) {
            (Some(id), None) => id.map(Named::Id),
            (None, Some(key)) => Some(Named::Key(key)),
            _ => {
                let problem = "is required, or idempotency_key in its place; not both";
                self.add(field, problem);
                None
            }
        }
    }

    fn epoch(&mut self, field: &str, epoch: &str) -> Epoch {
        Epoch::new(&self.text(field, epoch.to_owned(), 1, MAX_EPOCH_BYTES))
    }

    fn organization(&mut self, id: &str) -> Option<OrganizationId> {
        self.id("organization_id", OrganizationId::parse(id))
    }

    /// An organization, or all of them.
    fn scope(&mut self, organization_id: &str, is_all: bool) -> Option<OrganizationId> {
        if is_all && !organization_id.is_empty() {
            self.add(
                "organization_id",
                "must be empty where all_organizations is set",
            );
        }
        if is_all {
            return Some(OrganizationId::all());
        }
        self.organization(organization_id)
    }

    fn inbox(&mut self, organization_id: &str, user_id: &str) -> Option<InboxKey> {
        self.inbox_of(organization_id, "recipient_user_id", user_id)
    }

    fn inbox_of(&mut self, organization_id: &str, field: &str, user_id: &str) -> Option<InboxKey> {
        let organization_id = self.organization(organization_id);
        let user_id = self.id(field, UserId::parse(user_id));
        Some(InboxKey {
            organization_id: organization_id?,
            user_id: user_id?,
        })
    }

    fn key(&mut self, field: &str, key: Option<String>) -> Option<String> {
        key.map(|key| {
            if key.is_empty() {
                self.add(field, "must not be empty where it is given");
            }
            self.not_own(field, &key);
            self.text(field, key, 0, config::MAX_IDEMPOTENCY_KEY_BYTES)
        })
    }

    /// Keys of the service's own are no caller's.
    fn not_own(&mut self, field: &str, key: &str) {
        if key.starts_with(SEND_KEY) {
            self.add(field, "must not begin as the service's own keys do");
        }
    }

    /// A key that must be there.
    fn required_key(&mut self, key: String) -> String {
        self.not_own("idempotency_key", &key);
        let most = config::MAX_IDEMPOTENCY_KEY_BYTES;
        self.text("idempotency_key", key, 1, most)
    }

    fn deliver_time(
        &mut self,
        time: Option<&prost_types::Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let time = self.time("deliver_time", time)?;
        if time.since(now) > config::MAX_DELIVER_AHEAD {
            self.add("deliver_time", "must be at most 90 days ahead");
        }
        Some(time)
    }

    fn follow_up(&mut self, asked: Option<proto::FollowUpOptions>) -> Option<FollowUpOptions> {
        let asked = asked?;
        let after = asked.after.map(Duration::try_from).and_then(Result::ok);
        let allowed = config::MIN_FOLLOW_UP_AFTER..=config::MAX_FOLLOW_UP_AFTER;
        let after = after.filter(|after| allowed.contains(after));
        if after.is_none() {
            self.add("follow_up.after", "must be 1 second to 30 days");
        }
        let unless = match proto::FollowUpUnless::try_from(asked.unless) {
            Ok(proto::FollowUpUnless::Seen) => Unless::Seen,
            Ok(proto::FollowUpUnless::Unspecified | proto::FollowUpUnless::Read) => Unless::Read,
            Err(_) => {
                self.add("follow_up.unless", "must be SEEN or READ");
                Unless::Read
            }
        };
        let after = after?;
        Some(FollowUpOptions { after, unless })
    }

    fn topic(&mut self, organization_id: &str, topic_id: &str) -> Option<Topic> {
        let organization_id = self.organization(organization_id);
        let topic_id = self.id("topic_id", TopicId::parse(topic_id));
        organization_id.zip(topic_id)
    }

    fn limit(&mut self, limit: i32, default: usize, most: usize) -> usize {
        match usize::try_from(limit) {
            Ok(0) => default,
            Ok(limit) => limit.min(most),
            Err(_) => {
                self.add("limit", "must not be negative");
                0
            }
        }
    }

    /// Where the page before ended; none: it is the first.
    fn page_token<T>(&mut self, token: &str, last: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        if token.is_empty() {
            return None;
        }
        let last = last(token);
        if last.is_none() {
            self.add("page_token", "must be the `next_page_token` of a page");
        }
        last
    }

    fn time(&mut self, field: &str, time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
        let parsed = model_time(time?);
        if parsed.is_none() {
            self.add(field, "must be a time of the years 1 to 9999");
        }
        parsed
    }

    fn types(&mut self, field: &str, types: Vec<String>) -> Vec<String> {
        if types.len() > config::MAX_TYPES {
            let problem = format!("must have at most {} types", config::MAX_TYPES);
            self.add(field, problem);
        }
        let types = types.into_iter().take(config::MAX_TYPES).enumerate();
        let types = types.map(|(index, kind)| {
            let field = format!("{field}[{index}]");
            self.text(&field, kind, 1, config::MAX_TYPE_BYTES)
        });
        types.collect()
    }

    fn of_types<T>(&mut self, field: &str, of: OfTypes<T>) -> OfTypes<T> {
        if of.is_empty() || of.len() > MOST_TYPES {
            let problem = format!("must name 1 to {MOST_TYPES} types, names {}", of.len());
            self.add(field, problem);
            return Vec::new();
        }
        let mut known = HashSet::new();
        for (index, (kind, _)) in of.iter().enumerate() {
            let field = format!("{field}[{index}].type");
            if !known.insert(kind) {
                self.add(&*field, "is there twice");
            }
            self.text(&field, kind.clone(), 1, config::MAX_TYPE_BYTES);
        }
        of
    }

    fn about(&mut self, about: proto::About) -> About {
        let most = config::MAX_ENTITY_BYTES;
        About {
            entity_type: self.text("about.entity_type", about.entity_type, 1, most),
            entity_id: self.text("about.entity_id", about.entity_id, 1, most),
        }
    }

    fn url(&mut self, field: &str, url: String) -> String {
        let url = self.text(field, url, 0, config::MAX_ACTION_URL_BYTES);
        if let Some(problem) = url_problem(&url) {
            self.add(field, problem);
        }
        url
    }

    /// What a notification says; a type and a title where these are of `fields`.
    fn content(
        &mut self,
        prefix: &str,
        said: proto::Content,
        fields: &[Field],
        limits: &ContentLimits,
    ) -> Content {
        let name = |field: &str| format!("{prefix}{field}");
        let least = |field| usize::from(fields.contains(&field));
        let entity = config::MAX_ENTITY_BYTES;
        let kind = (least(Field::Kind), config::MAX_TYPE_BYTES);
        let title = (least(Field::Title), config::MAX_TITLE_BYTES);
        if said.actions.len() > config::MAX_ACTIONS {
            let problem = format!("must have at most {} actions", config::MAX_ACTIONS);
            self.add(name("actions"), problem);
        }
        let actions = said.actions.into_iter().take(config::MAX_ACTIONS);
        let actions = actions.enumerate().map(|(index, action)| {
            let field = format!("{prefix}actions[{index}]");
            let most = config::MAX_LABEL_BYTES;
            if action.url.is_empty() {
                self.add(format!("{field}.url"), "is required");
            }
            Action {
                label: self.text(&format!("{field}.label"), action.label, 1, most),
                url: self.url(&format!("{field}.url"), action.url),
                is_primary: action.is_primary,
            }
        });
        Content {
            actions: actions.collect(),
            kind: self.text(&name("type"), said.r#type, kind.0, kind.1),
            title: self.text(&name("title"), said.title, title.0, title.1),
            body: self.optional_text(&name("body"), said.body, limits.max_body_bytes),
            entity_type: self.optional_text(&name("entity_type"), said.entity_type, entity),
            entity_id: self.optional_text(&name("entity_id"), said.entity_id, entity),
            action_url: said
                .action_url
                .map(|url| self.url(&name("action_url"), url)),
            image_url: said.image_url.map(|url| self.url(&name("image_url"), url)),
            data: said.data.and_then(|data| {
                let data = canonical(&data, limits.max_data_bytes);
                data.map_err(|problem| self.add(name("data"), problem)).ok()
            }),
        }
    }

    /// The parts of a content that a mask names; without one, those that are there
    /// (<https://google.aip.dev/134>).
    fn fields(
        &mut self,
        mask: Option<prost_types::FieldMask>,
        said: &proto::Content,
    ) -> Vec<Field> {
        let all = [
            ("type", Field::Kind, !said.r#type.is_empty()),
            ("title", Field::Title, !said.title.is_empty()),
            ("body", Field::Body, said.body.is_some()),
            ("entity_type", Field::EntityType, said.entity_type.is_some()),
            ("entity_id", Field::EntityId, said.entity_id.is_some()),
            ("action_url", Field::ActionUrl, said.action_url.is_some()),
            ("data", Field::Data, said.data.is_some()),
            ("image_url", Field::ImageUrl, said.image_url.is_some()),
            ("actions", Field::Actions, !said.actions.is_empty()),
        ];
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        let is_all = paths == ["*"];
        for path in paths.iter().filter(|_| !is_all) {
            if all.iter().all(|(name, ..)| name != path) {
                let path = status::shown(&path.escape_default().to_string());
                let problem = format!("`{path}` is no field of `content`");
                self.add("update_mask", problem);
            }
        }
        let is_taken = |name: &str, is_there| {
            is_all || paths.iter().any(|path| path == name) || paths.is_empty() && is_there
        };
        let taken = all
            .into_iter()
            .filter(|(name, _, is_there)| is_taken(name, *is_there));
        let fields: Vec<Field> = taken.map(|(_, field, _)| field).collect();
        if fields.is_empty() && paths.is_empty() {
            self.add("content", "is required");
        }
        fields
    }

    /// `Ok` if nothing is wrong.
    fn none(self) -> Result<(), Status> {
        self.none_and(Some(()))
    }

    /// What was read, which is there if nothing is wrong.
    fn none_and<T>(self, read: Option<T>) -> Result<T, Status> {
        read.filter(|_| self.0.is_empty())
            .ok_or_else(|| status::invalid(self.0))
    }
}

fn invalid(field: &str, problem: &str) -> Status {
    status::invalid(vec![FieldViolation::new(field, problem)])
}

/// Refuses a request that is larger than the limit as a whole.
pub fn check_size(request: &impl prost::Message, limits: &ContentLimits) -> Result<(), Status> {
    check_bytes(request.encoded_len(), limits.max_request_bytes)
}

/// The most lists, objects and commas of a request as JSON beside its `data`: thousands of
/// people, members or ids.
const MOST_PARTS_BESIDE_DATA: usize = 16 * 1024;

/// The most bytes of a request for many, which is the largest that there is.
pub fn most_bytes_of_many(limits: &ContentLimits) -> usize {
    config::MAX_REQUEST_FOR_MANY_BYTES.max(limits.max_request_bytes)
}

/// The most lists, objects and commas that a request as JSON can have and be within the other
/// limits: each of `data` is a byte of it.
pub fn most_parts(limits: &ContentLimits) -> usize {
    limits.max_data_bytes.saturating_add(MOST_PARTS_BESIDE_DATA)
}

/// Refuses a request for many that has too many bytes.
pub fn check_size_of_many(bytes: usize, limits: &ContentLimits) -> Result<(), Status> {
    check_bytes(bytes, most_bytes_of_many(limits))
}

fn check_bytes(bytes: usize, most: usize) -> Result<(), Status> {
    if bytes > most {
        let message = format!("the request must have at most {most} bytes, has {bytes}");
        let reason = ErrorReason::RequestTooLarge;
        return Err(status::new(Code::InvalidArgument, reason, message));
    }
    Ok(())
}

/// What is to be sent, and when, if it is for later.
pub type Sending<T> = (T, Option<Timestamp>);

/// Checks a `SendInApp` that came from `sender`, and makes a notification of this id.
pub fn send(
    request: proto::SendInAppRequest,
    limits: &ContentLimits,
    id: Uuid,
    sender: Arc<str>,
    now: Timestamp,
) -> Result<Sending<NewNotification>, Status> {
    let mut wrong = Violations::default();
    let inbox = wrong.inbox(&request.organization_id, &request.recipient_user_id);
    let said = proto::Content {
        r#type: request.r#type,
        title: request.title,
        body: request.body,
        entity_type: request.entity_type,
        entity_id: request.entity_id,
        action_url: request.action_url,
        data: request.data,
        image_url: request.image_url,
        actions: request.actions,
    };
    let content = wrong.content("", said, &[Field::Kind, Field::Title], limits);
    let idempotency_key = wrong.key("idempotency_key", request.idempotency_key);
    let expire_time = wrong.time("expire_time", request.expire_time.as_ref());
    let collapse_key = wrong.key("collapse_key", request.collapse_key);
    let deliver_time = wrong.deliver_time(request.deliver_time.as_ref(), now);
    let follow_up = wrong.follow_up(request.follow_up);
    let inbox = wrong.none_and(inbox)?;
    let new = NewNotification {
        inbox,
        id,
        content: Arc::new(content),
        idempotency_key,
        sender,
        expire_time,
        collapse_key: collapse_key.map(Arc::from),
        is_silent: request.silent,
        part_of: None,
        wanted: Wanted::default(),
        follow_up,
    };
    Ok((new, deliver_time))
}

/// Checks a `SendToMany` that came from `sender`, and makes a notification for each
/// recipient. All of them share what they say.
pub fn send_to_many(
    request: proto::SendToManyRequest,
    limits: &ContentLimits,
    mut new_id: impl FnMut() -> Uuid,
    sender: &Arc<str>,
    now: Timestamp,
) -> Result<Sending<Vec<NewNotification>>, Status> {
    check_size_of_many(request.encoded_len(), limits)?;
    let mut wrong = Violations::default();
    let organization_id = wrong.organization(&request.organization_id);
    let users = wrong.users("recipient_user_ids", &request.recipient_user_ids);
    let said = request.content.unwrap_or_default();
    let content = wrong.content("content.", said, &[Field::Kind, Field::Title], limits);
    let content = Arc::new(content);
    let key = wrong.required_key(request.idempotency_key);
    let expire_time = wrong.time("expire_time", request.expire_time.as_ref());
    let collapse_key = wrong.key("collapse_key", request.collapse_key);
    let deliver_time = wrong.deliver_time(request.deliver_time.as_ref(), now);
    let follow_up = wrong.follow_up(request.follow_up);
    let organization_id = wrong.none_and(organization_id)?;
    let collapse_key = collapse_key.map(Arc::from);
    let new = users.into_iter().map(|user_id| NewNotification {
        inbox: InboxKey {
            organization_id: organization_id.clone(),
            user_id,
        },
        id: new_id(),
        content: content.clone(),
        idempotency_key: Some(key.clone()),
        sender: sender.clone(),
        expire_time,
        collapse_key: collapse_key.clone(),
        is_silent: request.silent,
        part_of: None,
        wanted: Wanted::default(),
        follow_up,
    });
    Ok((new.collect(), deliver_time))
}

/// A topic of an organization.
pub type Topic = (OrganizationId, TopicId);

/// Checks a `SendToTopic` that came from `sender`.
pub fn send_to_topic(
    request: proto::SendToTopicRequest,
    limits: &ContentLimits,
    id: Uuid,
    sender: Arc<str>,
    now: Timestamp,
) -> Result<NewSend, Status> {
    check_size_of_many(request.encoded_len(), limits)?;
    let mut wrong = Violations::default();
    let topic = wrong.topic(&request.organization_id, &request.topic_id);
    let said = request.content.unwrap_or_default();
    let content = wrong.content("content.", said, &[Field::Kind, Field::Title], limits);
    let key = wrong.required_key(request.idempotency_key);
    let expire_time = wrong.time("expire_time", request.expire_time.as_ref());
    let collapse_key = wrong.key("collapse_key", request.collapse_key);
    let deliver_time = wrong.deliver_time(request.deliver_time.as_ref(), now);
    let follow_up = wrong.follow_up(request.follow_up);
    let (organization_id, topic_id) = wrong.none_and(topic)?;
    Ok(NewSend {
        organization_id,
        id,
        target: Target::Topic(topic_id),
        content: Arc::new(content),
        idempotency_key: Some(key),
        sender,
        expire_time,
        collapse_key: collapse_key.map(Arc::from),
        is_silent: request.silent,
        follow_up,
        deliver_time: deliver_time.unwrap_or(now).max(now),
    })
}

/// Checks a `Broadcast` that came from `sender`.
pub fn broadcast(
    request: proto::BroadcastRequest,
    limits: &ContentLimits,
    id: Uuid,
    sender: Arc<str>,
    now: Timestamp,
) -> Result<NewSend, Status> {
    check_size_of_many(request.encoded_len(), limits)?;
    let mut wrong = Violations::default();
    let organization_id = wrong.scope(&request.organization_id, request.all_organizations);
    let said = request.content.unwrap_or_default();
    let content = wrong.content("content.", said, &[Field::Kind, Field::Title], limits);
    let key = wrong.required_key(request.idempotency_key);
    let expire_time = wrong.time("expire_time", request.expire_time.as_ref());
    let deliver_time = wrong.deliver_time(request.deliver_time.as_ref(), now);
    let deliver_time = deliver_time.unwrap_or(now).max(now);
    let available_until = wrong.time("available_until", request.available_until.as_ref());
    let default = deliver_time.after(config::DEFAULT_AVAILABLE);
    let available_until = available_until.unwrap_or(default);
    if available_until <= deliver_time
        || available_until.since(deliver_time) > config::MAX_AVAILABLE
    {
        let problem = "must be later than deliver_time, by at most 90 days";
        wrong.add("available_until", problem);
    }
    Ok(NewSend {
        organization_id: wrong.none_and(organization_id)?,
        id,
        target: Target::Everybody { available_until },
        content: Arc::new(content),
        idempotency_key: Some(key),
        sender,
        expire_time,
        collapse_key: None,
        is_silent: request.silent,
        follow_up: None,
        deliver_time,
    })
}

/// Checks a `RetractBroadcast`.
pub fn retract_broadcast(
    request: &proto::RetractBroadcastRequest,
) -> Result<(OrganizationId, Uuid), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.scope(&request.organization_id, request.all_organizations);
    let id = wrong.uuid("send_id", &request.send_id);
    wrong.none_and(organization.zip(id))
}

/// Checks which send is meant, and whose.
pub fn get_send(request: proto::GetSendRequest) -> Result<(OrganizationId, Named), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.scope(&request.organization_id, request.all_organizations);
    let of = wrong.named("send_id", request.send_id, request.idempotency_key);
    wrong.none_and(organization.zip(of))
}

/// Checks a `CancelSend`.
pub fn cancel_send(request: &proto::CancelSendRequest) -> Result<(OrganizationId, Uuid), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.scope(&request.organization_id, request.all_organizations);
    let id = wrong.uuid("send_id", &request.send_id);
    wrong.none_and(organization.zip(id))
}

/// Checks a `RetractFromAll` that came from `sender`.
pub fn retract_from_all(
    request: proto::RetractFromAllRequest,
    id: Uuid,
    sender: &str,
) -> Result<NewRetraction, Status> {
    let mut wrong = Violations::default();
    let organization_id = wrong.organization(&request.organization_id);
    let about = wrong.about(request.about.unwrap_or_default());
    let idempotency_key = wrong.required_key(request.idempotency_key);
    Ok(NewRetraction {
        organization_id: wrong.none_and(organization_id)?,
        id,
        about,
        idempotency_key,
        sender: sender.to_owned(),
    })
}

/// Checks which retraction is meant, and whose.
pub fn get_retraction(
    request: proto::GetRetractionRequest,
) -> Result<(OrganizationId, Named), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.organization(&request.organization_id);
    let of = wrong.named(
        "retraction_id",
        request.retraction_id,
        request.idempotency_key,
    );
    wrong.none_and(organization.zip(of))
}

/// Checks a `ListFollowUps`: of which organization, after what, at most so many, and how long
/// to wait.
pub fn list_follow_ups(
    request: &proto::ListFollowUpsRequest,
) -> Result<(PageOf<OrganizationId, After>, Duration), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.organization(&request.organization_id);
    let limit = wrong.limit(
        request.limit,
        config::DEFAULT_RECENT_LIMIT,
        config::MAX_RECENT_LIMIT,
    );
    let epoch = (!request.epoch.is_empty()).then(|| wrong.epoch("epoch", &request.epoch));
    if epoch.is_none() && request.after_position > 0 {
        let problem = "is required where after_position is given: that of the same answer";
        wrong.add("epoch", problem);
    }
    let wait = request.wait.map_or(Ok(Duration::ZERO), Duration::try_from);
    let wait = wait.unwrap_or(Duration::MAX);
    if wait > config::MAX_FOLLOW_UPS_WAIT {
        wrong.add("wait", "must be at most 30 seconds");
    }
    let position = request.after_position;
    let after = Some(After { epoch, position });
    let of = wrong.none_and(organization)?;
    Ok((PageOf { of, after, limit }, wait))
}

/// A page that is asked for: of what, after which, and at most so many.
pub struct PageOf<Of, Last> {
    /// Of what.
    pub of: Of,
    /// The last of the page before.
    pub after: Option<Last>,
    /// How many.
    pub limit: usize,
}

/// Checks a `ListSends`: the sends of an organization in a state, below an id.
pub fn list_sends(
    request: &proto::ListSendsRequest,
) -> Result<PageOf<(OrganizationId, Option<SendState>), Uuid>, Status> {
    let mut wrong = Violations::default();
    let organization = wrong.scope(&request.organization_id, request.all_organizations);
    let state = match proto::SendState::try_from(request.state) {
        Ok(proto::SendState::Unspecified) => None,
        Ok(proto::SendState::Waiting) => Some(SendState::Waiting),
        Ok(proto::SendState::UnderWay) => Some(SendState::UnderWay),
        Ok(proto::SendState::Done) => Some(SendState::Done),
        Ok(proto::SendState::Cancelled) => Some(SendState::Cancelled),
        Err(_) => {
            wrong.add("state", "is none of the states that there are");
            None
        }
    };
    let limit = wrong.limit(
        request.limit,
        config::DEFAULT_RECENT_LIMIT,
        config::MAX_RECENT_LIMIT,
    );
    let after = wrong.page_token(&request.page_token, |token| Uuid::try_parse(token).ok());
    let organization = wrong.none_and(organization)?;
    Ok(PageOf {
        of: (organization, state),
        after,
        limit,
    })
}

/// Checks which members are to be, or to be no more.
pub fn members(
    organization_id: &str,
    topic_id: &str,
    user_ids: &[String],
) -> Result<(Topic, Vec<UserId>), Status> {
    let mut wrong = Violations::default();
    let topic = wrong.topic(organization_id, topic_id);
    let users = wrong.users("user_ids", user_ids);
    Ok((wrong.none_and(topic)?, users))
}

/// What is said of types, each once.
pub type OfTypes<T> = Vec<(String, Option<T>)>;

/// Checks an `UpdatePreferences`.
pub fn choices(choices: Vec<proto::Choice>) -> Result<OfTypes<bool>, Status> {
    let mut wrong = Violations::default();
    let choices = choices.into_iter().map(|choice| (choice.r#type, choice.on));
    let of = wrong.of_types("choices", choices.collect());
    wrong.none()?;
    Ok(of)
}

/// Checks an `UpdateTypeDefaults`.
pub fn type_defaults(
    request: proto::UpdateTypeDefaultsRequest,
) -> Result<(OrganizationId, OfTypes<TypeDefault>), Status> {
    let mut wrong = Violations::default();
    let organization = wrong.organization(&request.organization_id);
    let defaults = request.defaults.into_iter().map(|of| {
        let default = TypeDefault {
            is_on: of.on,
            is_required: of.required,
        };
        (of.r#type, Some(default))
    });
    let removed = request.removed_types.into_iter().map(|kind| (kind, None));
    let of = wrong.of_types("defaults", defaults.chain(removed).collect());
    Ok((wrong.none_and(organization)?, of))
}

/// Checks which topic is meant.
pub fn topic(organization_id: &str, topic_id: &str) -> Result<Topic, Status> {
    let mut wrong = Violations::default();
    let topic = wrong.topic(organization_id, topic_id);
    wrong.none_and(topic)
}

/// Checks a `ListTopicMembers`.
pub fn list_members(
    request: &proto::ListTopicMembersRequest,
) -> Result<PageOf<Topic, UserId>, Status> {
    let mut wrong = Violations::default();
    let of = wrong.topic(&request.organization_id, &request.topic_id);
    let (default, most) = (config::DEFAULT_MEMBERS_LIMIT, config::MAX_MEMBERS_LIMIT);
    let limit = wrong.limit(request.limit, default, most);
    let after = wrong.page_token(&request.page_token, |token| UserId::parse(token).ok());
    let of = wrong.none_and(of)?;
    Ok(PageOf { of, after, limit })
}

/// Checks a `ListTopicsOfUser`.
pub fn list_topics(
    request: &proto::ListTopicsOfUserRequest,
) -> Result<PageOf<InboxKey, TopicId>, Status> {
    let mut wrong = Violations::default();
    let of = wrong.inbox_of(&request.organization_id, "user_id", &request.user_id);
    let (default, most) = (config::DEFAULT_MEMBERS_LIMIT, config::MAX_MEMBERS_LIMIT);
    let limit = wrong.limit(request.limit, default, most);
    let after = wrong.page_token(&request.page_token, |token| TopicId::parse(token).ok());
    let of = wrong.none_and(of)?;
    Ok(PageOf { of, after, limit })
}

/// Checks a `GetTimeline`.
pub fn timeline(request: proto::GetTimelineRequest) -> Result<(InboxKey, Named), Status> {
    let mut wrong = Violations::default();
    let inbox = wrong.inbox_of(&request.organization_id, "user_id", &request.user_id);
    let of = wrong.named(
        "notification_id",
        request.notification_id,
        request.idempotency_key,
    );
    wrong.none_and(inbox.zip(of))
}

/// Checks an `UpdateInApp`.
pub fn update(
    request: proto::UpdateInAppRequest,
    limits: &ContentLimits,
) -> Result<Correction, Status> {
    let mut wrong = Violations::default();
    let inbox = wrong.inbox(&request.organization_id, &request.recipient_user_id);
    let of = wrong.named(
        "notification_id",
        request.notification_id,
        request.idempotency_key,
    );
    let said = request.content.unwrap_or_default();
    let fields = wrong.fields(request.update_mask, &said);
    let content = wrong.content("content.", said, &fields, limits);
    let (inbox, of) = wrong.none_and(inbox.zip(of))?;
    Ok(Correction {
        inbox,
        of,
        content: Arc::new(content),
        fields,
        ring: request.ring,
    })
}

/// Checks a `RetractInApp`: exactly one selection.
pub fn retract(request: proto::RetractInAppRequest) -> Result<(InboxKey, Verb), Status> {
    let mut wrong = Violations::default();
    let inbox = wrong.inbox(&request.organization_id, &request.recipient_user_id);
    let ids = Some(request.notification_ids).filter(|ids| !ids.is_empty());
    let ways = [
        ids.map(|ids| Which::Ids(wrong.ids(&ids))),
        wrong
            .key("idempotency_key", request.idempotency_key)
            .map(Which::Key),
        request.about.map(|about| Which::About(wrong.about(about))),
        wrong
            .key("collapse_key", request.collapse_key)
            .map(Which::Collapse),
        request.send_id.map(|id| {
            let id = wrong.uuid("send_id", &id).unwrap_or_default();
            Which::Key(PartOf::key_of(id))
        }),
    ];
    let mut ways = ways.into_iter().flatten();
    let which = ways.next();
    if which.is_none() || ways.next().is_some() {
        let problem = "is one of five ways to select: give notification_ids, idempotency_key, \
                       about, collapse_key or send_id";
        wrong.add("notification_ids", problem);
    }
    let (inbox, which) = wrong.none_and(inbox.zip(which))?;
    let verb = Verb {
        edit: Edit::Remove(RemovalCause::Sender),
        which,
        view: View::All,
    };
    Ok((inbox, verb))
}

/// Checks whose inbox an operator names.
pub fn inbox(organization_id: &str, user_id: &str) -> Result<InboxKey, Status> {
    let mut wrong = Violations::default();
    let inbox = wrong.inbox_of(organization_id, "user_id", user_id);
    wrong.none_and(inbox)
}

/// Checks which organization an operator names.
pub fn organization(organization_id: &str) -> Result<OrganizationId, Status> {
    let mut wrong = Violations::default();
    let organization = wrong.organization(organization_id);
    wrong.none_and(organization)
}

/// A link that leads elsewhere than it seems to is refused: `//host/` and `/\host/`
/// are other hosts to a browser.
fn url_problem(url: &str) -> Option<&'static str> {
    let is_path = url.starts_with('/') && !url.starts_with("//") && !url.starts_with("/\\");
    let host = ["https://", "http://"].iter().find_map(|scheme| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let is_absolute =
        host.is_some_and(|host| !host.starts_with(['/', '\\', '?', '#']) && !host.is_empty());
    if !is_path && !is_absolute {
        Some("must be an absolute http or https URL, or a path that begins with one `/`")
    } else if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("must not contain white space or control characters")
    } else {
        None
    }
}

/// `data` as canonical JSON: the wire's map is sorted by key already.
fn canonical(data: &Struct, max_bytes: usize) -> Result<Data, String> {
    if let Some(problem) = json::problem(data, config::MAX_DATA_DEPTH) {
        return Err(problem);
    }
    let text = Value::Object(json::object(data)).to_string();
    if text.len() > max_bytes {
        return Err(format!(
            "must have at most {max_bytes} bytes as JSON, has {}",
            text.len()
        ));
    }
    Ok(Data::from_canonical(text))
}

/// Checks what a person's verb selects: exactly one way. With a revision comes the epoch
/// that it was learned in.
pub fn verb(
    edit: Edit,
    ids: &[String],
    about: Option<proto::About>,
    through: Option<proto::Through>,
) -> Result<(Verb, Option<Epoch>), Status> {
    let mut wrong = Violations::default();
    // What is not named is of one view; what is brought back is archived.
    let mut view = match edit {
        Edit::Unarchive => View::Archived,
        _ => View::Inbox,
    };
    let mut epoch = None;
    let which = match (ids, about, through) {
        ([], None, None) => {
            let problem = "is required: 1 to 500 ids; or about, or through";
            return Err(invalid("notification_ids", problem));
        }
        (ids, None, None) => {
            view = View::All;
            Which::Ids(wrong.ids(ids))
        }
        ([], Some(about), None) => Which::About(wrong.about(about)),
        ([], None, Some(through)) => {
            epoch = Some(wrong.epoch("through.epoch", &through.epoch));
            Which::Through {
                revision: Revision::new(through.revision),
                types: wrong.types("through.types", through.types),
            }
        }
        _ => {
            let problem = "is one of three ways to select: give notification_ids, about or through";
            return Err(invalid("notification_ids", problem));
        }
    };
    wrong.none()?;
    Ok((Verb { edit, which, view }, epoch))
}

/// Checks the types of a `GetUnreadCount`.
pub fn types(types: Vec<String>) -> Result<Vec<String>, Status> {
    let mut wrong = Violations::default();
    let types = wrong.types("types", types);
    wrong.none()?;
    Ok(types)
}

/// Checks a `MarkSeen`: the sequence, and the epoch that it was learned in.
pub fn mark_seen(request: &proto::MarkSeenRequest) -> Result<(Revision, Epoch), Status> {
    let mut wrong = Violations::default();
    let epoch = wrong.epoch("epoch", &request.epoch);
    wrong.none()?;
    Ok((Revision::new(request.through_sequence), epoch))
}

/// Checks a `GetRecent`.
pub fn recent(request: &proto::GetRecentRequest, inbox: &InboxKey) -> Result<RecentQuery, Status> {
    let mut wrong = Violations::default();
    let rows = wrong.limit(
        request.limit,
        config::DEFAULT_RECENT_LIMIT,
        config::MAX_RECENT_LIMIT,
    );
    let view = match proto::View::try_from(request.view) {
        Ok(proto::View::Unspecified | proto::View::Inbox) => View::Inbox,
        Ok(proto::View::Archived) => View::Archived,
        Ok(proto::View::All) => View::All,
        Err(_) => {
            wrong.add("view", "is none of the views that there are");
            View::Inbox
        }
    };
    let types = wrong.types("types", request.types.clone());
    let about = request.about.clone().map(|about| wrong.about(about));
    let since = wrong.time("since", request.since.as_ref());
    let before = match request.page_token.as_str() {
        "" => None,
        token => {
            let before = parse_page_token(token, request, inbox);
            if before.is_none() {
                let problem = "must be the `next_page_token` of a page of this inbox, asked for \
                               as that one was but for `limit`";
                wrong.add("page_token", problem);
            }
            before
        }
    };
    wrong.none()?;
    let limit = PageLimit {
        rows,
        bytes: usize::MAX,
    };
    Ok(RecentQuery {
        view,
        types,
        about,
        since,
        before,
        unread_only: request.unread_only,
        limit,
    })
}

/// Says where a page ended, and of what it was.
pub fn page_token(request: &proto::GetRecentRequest, inbox: &InboxKey, last: Revision) -> String {
    format!("{:016x}{:016x}", last.get(), question_tag(request, inbox))
}

fn parse_page_token(
    token: &str,
    request: &proto::GetRecentRequest,
    inbox: &InboxKey,
) -> Option<Revision> {
    let (last, tag) = token.split_at_checked(16)?;
    let number = |text: &str| {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok())?
    };
    (number(tag)? == question_tag(request, inbox)).then_some(Revision::new(number(last)?))
}

/// Tells questions apart. No secret: a token is only ever used on the caller's own inbox.
fn question_tag(request: &proto::GetRecentRequest, inbox: &InboxKey) -> u64 {
    let question = proto::GetRecentRequest {
        limit: 0,
        page_token: String::new(),
        ..request.clone()
    };
    let mut hash = Sha256::new();
    hash.update((inbox.organization_id.as_str().len() as u64).to_be_bytes());
    hash.update(inbox.organization_id.as_str());
    hash.update((inbox.user_id.as_str().len() as u64).to_be_bytes());
    hash.update(inbox.user_id.as_str());
    hash.update(question.encode_to_vec());
    let hash: [u8; 32] = hash.finalize().into();
    hash.iter()
        .take(8)
        .fold(0, |tag, byte| tag << 8 | u64::from(*byte))
}

/// Checks a `Subscribe`.
pub fn resume(request: &proto::SubscribeRequest) -> Result<Resume, Status> {
    let mut wrong = Violations::default();
    let epoch = request.epoch.as_deref();
    let epoch = epoch.map(|epoch| wrong.epoch("epoch", epoch));
    wrong.none()?;
    Ok(Resume {
        after_revision: request.after_revision.map(Revision::new),
        epoch,
    })
}

/// A moment of the wire, rounded down to microseconds: what was created after
/// the one was created after the other.
fn model_time(time: &prost_types::Timestamp) -> Option<Timestamp> {
    // The range of google.protobuf.Timestamp: the years 1 to 9999.
    let in_range = (-62_135_596_800..=253_402_300_799).contains(&time.seconds)
        && (0..1_000_000_000).contains(&time.nanos);
    in_range
        .then(|| Timestamp::from_micros(time.seconds * 1_000_000 + i64::from(time.nanos / 1000)))
}

/// As many of `rows` as fit into a page of so many bytes, at least one.
pub fn page(rows: &[Notification], most_bytes: usize) -> Vec<proto::Notification> {
    fitting(rows.iter().map(wire::notification), most_bytes)
}

/// As many as fit into a page of so many bytes, at least one. What the store counts, if it
/// does, are the bytes of what it keeps; `data` takes more on the wire, where a number has
/// eleven.
pub fn fitting<T: prost::Message>(
    items: impl ExactSizeIterator<Item = T>,
    most_bytes: usize,
) -> Vec<T> {
    /// What a page holds besides: its head, its epoch, its token.
    const REST_BYTES: usize = 256;
    let mut bytes = REST_BYTES;
    let mut page = Vec::with_capacity(items.len());
    for item in items {
        bytes += prost::encoding::message::encoded_len(1, &item);
        if bytes > most_bytes && !page.is_empty() {
            break;
        }
        page.push(item);
    }
    page
}

/// A message of a feed, encoded. A live event was, when it was committed.
pub fn message(message: &Message) -> encoded::SubscribeResponse {
    let event = match &message.event {
        Event::Live(live) => {
            return encoded::SubscribeResponse::from_bytes(live.event().message.clone());
        }
        Event::Connected {
            epoch,
            heartbeat_interval,
            token_expires_at,
        } => subscribe_response::Event::Connected(proto::Connected {
            epoch: epoch.as_str().to_owned(),
            heartbeat_interval: Some(wire::duration(*heartbeat_interval)),
            token_expires_at: Some(wire::time(*token_expires_at)),
        }),
        Event::Notification(row) => {
            subscribe_response::Event::Notification(wire::notification(row))
        }
        Event::Removed(row) => {
            subscribe_response::Event::Changed(wire::changed(&[Image::State(*row)]))
        }
        Event::CaughtUp => subscribe_response::Event::CaughtUp(proto::CaughtUp {}),
        Event::Heartbeat => subscribe_response::Event::Heartbeat(proto::Heartbeat {}),
        Event::Reset { epoch } => subscribe_response::Event::Reset(proto::Reset {
            epoch: epoch.as_str().to_owned(),
        }),
        Event::Reconnect { after } => subscribe_response::Event::Reconnect(proto::Reconnect {
            after: Some(wire::duration(*after)),
        }),
    };
    encoded::SubscribeResponse::new(&proto::SubscribeResponse {
        position: message.position.get(),
        head: Some(wire::head(&message.head)),
        ring: message.ring,
        event: Some(event),
    })
}
