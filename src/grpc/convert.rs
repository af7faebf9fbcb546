//! Between the wire and the model: all limits of a request are checked here.
//!
//! A request is checked as a whole: the answer names every field that is wrong,
//! up to a bound.

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
    inbox::{
        Selection,
        feed::{Event, Message, Resume},
    },
    model::{
        Content, Data, Epoch, InboxKey, InvalidId, Notification, OrganizationId, Revision, UserId,
    },
    proto::{self, ErrorReason, json, subscribe_response},
    store::{PageLimit, RecentQuery},
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
        let mut parsed = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            // Only the hyphenated form: what `Uuid` also reads is never sent.
            match Uuid::try_parse(id).ok().filter(|_| id.len() == 36) {
                Some(id) => parsed.push(id),
                None => self.add(format!("notification_ids[{index}]"), "must be a UUID"),
            }
        }
        parsed
    }

    fn epoch(&mut self, field: &str, epoch: &str) -> Epoch {
        Epoch::new(&self.text(field, epoch.to_owned(), 1, MAX_EPOCH_BYTES))
    }

    /// `Ok` if nothing is wrong.
    fn none(self) -> Result<(), Status> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(status::invalid(self.0))
        }
    }
}

fn invalid(field: &str, problem: &str) -> Status {
    status::invalid(vec![FieldViolation::new(field, problem)])
}

/// What a `SendInApp` asks for.
#[derive(Debug)]
pub struct Send {
    /// Whose inbox.
    pub inbox: InboxKey,
    /// What it says.
    pub content: Content,
    /// Makes a retry safe.
    pub idempotency_key: Option<String>,
}

/// Refuses a request that is larger than the limit as a whole.
pub fn check_size(request: &impl prost::Message, limits: &ContentLimits) -> Result<(), Status> {
    let bytes = request.encoded_len();
    if bytes > limits.max_request_bytes {
        return Err(too_large(bytes, limits.max_request_bytes));
    }
    Ok(())
}

fn too_large(bytes: usize, most: usize) -> Status {
    let message = format!("the request must have at most {most} bytes, has {bytes}");
    status::new(Code::InvalidArgument, ErrorReason::RequestTooLarge, message)
}

/// Checks a `SendInApp`.
pub fn send(request: proto::SendInAppRequest, limits: &ContentLimits) -> Result<Send, Status> {
    let mut wrong = Violations::default();
    let organization_id = wrong.id(
        "organization_id",
        OrganizationId::parse(&request.organization_id),
    );
    let user_id = wrong.id(
        "recipient_user_id",
        UserId::parse(&request.recipient_user_id),
    );
    let kind = wrong.text("type", request.r#type, 1, config::MAX_TYPE_BYTES);
    let title = wrong.text("title", request.title, 1, config::MAX_TITLE_BYTES);
    let body = wrong.optional_text("body", request.body, limits.max_body_bytes);
    let entity_type =
        wrong.optional_text("entity_type", request.entity_type, config::MAX_ENTITY_BYTES);
    let entity_id = wrong.optional_text("entity_id", request.entity_id, config::MAX_ENTITY_BYTES);
    let action_url = wrong.optional_text(
        "action_url",
        request.action_url,
        config::MAX_ACTION_URL_BYTES,
    );
    if let Some(problem) = action_url.as_deref().and_then(action_url_problem) {
        wrong.add("action_url", problem);
    }
    let data = request
        .data
        .and_then(|data| match canonical(&data, limits.max_data_bytes) {
            Ok(data) => Some(data),
            Err(problem) => {
                wrong.add("data", problem);
                None
            }
        });
    let idempotency_key = request.idempotency_key.map(|key| {
        if key.is_empty() {
            wrong.add("idempotency_key", "must not be empty where it is given");
        }
        wrong.text("idempotency_key", key, 0, config::MAX_IDEMPOTENCY_KEY_BYTES)
    });
    wrong.none()?;
    let (Some(organization_id), Some(user_id)) = (organization_id, user_id) else {
        return Err(invalid("recipient_user_id", "is required"));
    };
    Ok(Send {
        inbox: InboxKey {
            organization_id,
            user_id,
        },
        content: Content {
            kind,
            title,
            body,
            entity_type,
            entity_id,
            action_url,
            data,
        },
        idempotency_key,
    })
}

/// A link that leads elsewhere than it seems to is refused: `//host/` and `/\host/`
/// are other hosts to a browser.
fn action_url_problem(url: &str) -> Option<&'static str> {
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

/// Checks a `MarkRead`: exactly one selection.
pub fn mark_read(request: proto::MarkReadRequest) -> Result<Selection, Status> {
    let proto::MarkReadRequest {
        notification_ids,
        about,
        through,
    } = request;
    selection(&notification_ids, about, through)
}

/// Checks what a verb selects.
fn selection(
    ids: &[String],
    about: Option<proto::About>,
    through: Option<proto::Through>,
) -> Result<Selection, Status> {
    let mut wrong = Violations::default();
    let selection = match (ids, about, through) {
        ([], None, None) => {
            let problem = "is required: 1 to 500 ids; or about, or through";
            return Err(invalid("notification_ids", problem));
        }
        (ids, None, None) => Selection::Ids(wrong.ids(ids)),
        ([], Some(about), None) => {
            let most = config::MAX_ENTITY_BYTES;
            Selection::About {
                entity_type: wrong.text("about.entity_type", about.entity_type, 1, most),
                entity_id: wrong.text("about.entity_id", about.entity_id, 1, most),
            }
        }
        ([], None, Some(through)) => {
            if through.types.len() > config::MAX_TYPES {
                let problem = format!("must have at most {} types", config::MAX_TYPES);
                wrong.add("through.types", problem);
            }
            let types = (0..).zip(through.types).map(|(index, kind)| {
                let field = format!("through.types[{index}]");
                wrong.text(&field, kind, 1, config::MAX_TYPE_BYTES)
            });
            let types = types.collect();
            Selection::Through {
                revision: Revision::new(through.revision),
                epoch: wrong.epoch("through.epoch", &through.epoch),
                types,
            }
        }
        _ => {
            let problem = "is one of three ways to select: give notification_ids, about or through";
            return Err(invalid("notification_ids", problem));
        }
    };
    wrong.none()?;
    Ok(selection)
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
    let rows = match usize::try_from(request.limit) {
        Ok(0) => config::DEFAULT_RECENT_LIMIT,
        Ok(limit) => limit.min(config::MAX_RECENT_LIMIT),
        Err(_) => {
            wrong.add("limit", "must not be negative");
            0
        }
    };
    let since = request.since.as_ref().and_then(|since| {
        let time = model_time(since);
        if time.is_none() {
            wrong.add("since", "must be a time of the years 1 to 9999");
        }
        time
    });
    let before = match request.page_token.as_str() {
        "" => None,
        token => {
            let before = parse_page_token(token, inbox);
            if before.is_none() {
                wrong.add(
                    "page_token",
                    "must be the `next_page_token` of a page of this inbox",
                );
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
        since,
        before,
        unread_only: request.unread_only,
        limit,
    })
}

/// Says where a page ended, and of which inbox it was.
pub fn page_token(inbox: &InboxKey, last: Revision) -> String {
    format!("{:016x}{:016x}", last.get(), inbox_tag(inbox))
}

fn parse_page_token(token: &str, inbox: &InboxKey) -> Option<Revision> {
    let (last, tag) = token.split_at_checked(16)?;
    let number = |text: &str| {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u64::from_str_radix(text, 16).ok())?
    };
    (number(tag)? == inbox_tag(inbox)).then_some(Revision::new(number(last)?))
}

/// Tells inboxes apart. No secret: a token is only ever used on the caller's own.
fn inbox_tag(inbox: &InboxKey) -> u64 {
    let mut hash = Sha256::new();
    hash.update((inbox.organization_id.as_str().len() as u64).to_be_bytes());
    hash.update(inbox.organization_id.as_str());
    hash.update(inbox.user_id.as_str());
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

/// As many of `rows` as fit into a page of so many bytes, at least one. The store
/// counts the bytes of what it keeps; `data` takes more on the wire, where a
/// number has eleven.
pub fn page(rows: &[Notification], most_bytes: usize) -> Vec<proto::Notification> {
    /// What a page holds besides: its head, its epoch, its token.
    const REST_BYTES: usize = 256;
    let mut bytes = REST_BYTES;
    let mut page = Vec::with_capacity(rows.len());
    for row in rows.iter().map(wire::notification) {
        bytes += prost::encoding::message::encoded_len(1, &row);
        if bytes > most_bytes && !page.is_empty() {
            break;
        }
        page.push(row);
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
            subscribe_response::Event::Changed(wire::changed(std::slice::from_ref(row)))
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
