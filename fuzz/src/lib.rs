//! What parses outside input, as functions of bytes: for libFuzzer, and for the
//! property tests that run with all others.
//!
//! Each panics where a promise is broken, and only there: whatever comes is
//! refused or taken, and what is taken means the same when it is written and read
//! again.

use std::{
    fmt::Debug,
    str::FromStr as _,
    sync::{Arc, LazyLock},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use doorbell::{
    auth::{Caller, Error, MAX_SUBJECT_BYTES, Right, TokenVerifier},
    clock::{Clock, Timestamp},
    config::{self, AuthSettings, ContentLimits, MAX_MARK_READ_IDS, MAX_RECENT_LIMIT, MAX_TYPES},
    grpc::{connect::Schema, convert},
    model::{Epoch, InboxKey, InvalidId, Notification, Revision, Row, RowState, Unless},
    proto::{
        self, FollowUpOptions, FollowUpUnless, GetRecentRequest, MarkReadRequest, MarkSeenRequest,
        SendInAppRequest, SubscribeRequest, UpdateInAppRequest,
    },
    random::SeededRandom,
    store::{About, Edit, Which},
    wire,
};
use jsonwebtoken::{Algorithm, EncodingKey};
use prost::Message;
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

/// A `SendInApp` of these bytes; what is taken comes back from the inbox as it
/// was sent, and has the same fingerprint then.
///
/// # Panics
///
/// Where that is not so.
pub fn send(bytes: &[u8]) {
    let Ok(request) = SendInAppRequest::decode(bytes) else {
        return;
    };
    let limits = ContentLimits::default();
    let is_small = convert::check_size(&request, &limits).is_ok();
    assert_eq!(is_small, request.encoded_len() <= limits.max_request_bytes);
    let convert = |request| convert::send(request, &limits, Uuid::nil(), "sender".into(), NOW);
    let Ok((sent, deliver_time)) = convert(request) else {
        return;
    };
    let row = Notification {
        row: Row {
            id: Uuid::nil(),
            sequence: Revision::new(1),
            revision: Revision::new(1),
            ring_revision: Revision::new(1),
            state: RowState::default(),
        },
        content: sent.content.clone(),
        sender: sent.sender.clone(),
        created_at: NOW,
        sent_at: NOW,
        expire_time: sent.expire_time,
        collapse_key: sent.collapse_key.clone(),
        collapsed_count: 0,
    };
    let wire = wire::notification(&row).encode_to_vec();
    let read = proto::Notification::decode(&*wire).unwrap_or_default();
    let again = SendInAppRequest {
        organization_id: sent.inbox.organization_id.as_str().to_owned(),
        recipient_user_id: sent.inbox.user_id.as_str().to_owned(),
        r#type: read.r#type,
        title: read.title,
        body: read.body,
        entity_type: read.entity_type,
        entity_id: read.entity_id,
        action_url: read.action_url,
        data: read.data,
        idempotency_key: sent.idempotency_key.clone(),
        image_url: read.image_url,
        actions: read.actions,
        expire_time: read.expire_time,
        collapse_key: sent.collapse_key.as_deref().map(str::to_owned),
        silent: sent.is_silent,
        deliver_time: deliver_time.map(wire::time),
        follow_up: sent.follow_up.map(|follow_up| FollowUpOptions {
            after: Some(wire::duration(follow_up.after)),
            unless: match follow_up.unless {
                Unless::Seen => FollowUpUnless::Seen.into(),
                Unless::Read => FollowUpUnless::Read.into(),
            },
        }),
    };
    let again = convert(again).ok();
    let fingerprint = again.as_ref().map(|(again, _)| again.content.fingerprint());
    assert_eq!(fingerprint, Some(sent.content.fingerprint()));
    assert_eq!(again, Some((sent, deliver_time)));
}

/// A request of some calls whose fields are of all kinds, as JSON of these bytes: what is
/// taken is the same when it is written as JSON and read again.
///
/// # Panics
///
/// Where that is not so.
pub fn json(bytes: &[u8]) {
    json_of::<SendInAppRequest>("SendInApp", bytes);
    json_of::<UpdateInAppRequest>("UpdateInApp", bytes);
    json_of::<GetRecentRequest>("GetRecent", bytes);
    json_of::<MarkReadRequest>("MarkRead", bytes);
}

fn json_of<T: Message + Default + PartialEq + Debug>(call: &str, bytes: &[u8]) {
    let Some(schema) = &*SCHEMA else {
        return;
    };
    let path = format!("/doorbell.v1.NotificationService/{call}");
    let Ok(request) = schema.encoded(&path, bytes) else {
        return;
    };
    let json = schema.json(&path, &request).unwrap_or_default();
    let again = schema.encoded(&path, &json).unwrap_or_default();
    let [request, again] = [request, again].map(|request| T::decode(&*request));
    assert!(request.is_ok(), "it is no {call}");
    assert_eq!(again, request);
}

/// What is asked of the own inbox: a `Subscribe`, a `GetRecent`, a `MarkRead`, a
/// `MarkSeen`.
///
/// # Panics
///
/// Where what is taken is not what was asked for.
pub fn subscribe_recent(bytes: &[u8]) {
    if let Ok(request) = SubscribeRequest::decode(bytes)
        && let Ok(resume) = convert::resume(&request)
    {
        let again = SubscribeRequest {
            after_revision: resume.after_revision.map(Revision::get),
            epoch: resume.epoch.map(|epoch| epoch.as_str().to_owned()),
        };
        assert_eq!(again, request);
    }
    if let Ok(request) = GetRecentRequest::decode(bytes) {
        for (own, other) in [(&*ANN, &*BOB), (&*BOB, &*ANN)] {
            recent(&request, own, other);
        }
    }
    if let Ok(request) = MarkReadRequest::decode(bytes)
        && let MarkReadRequest {
            notification_ids,
            about,
            through,
        } = request.clone()
        && let Ok((verb, epoch)) = convert::verb(Edit::Read, &notification_ids, about, through)
    {
        assert_eq!(asked(verb.which, epoch), in_lower_case(request));
    }
    if let Ok(request) = MarkSeenRequest::decode(bytes)
        && let Ok((through, epoch)) = convert::mark_seen(&request)
    {
        let again = MarkSeenRequest {
            through_sequence: through.get(),
            epoch: epoch.as_str().to_owned(),
        };
        assert_eq!(again, request);
    }
}

/// A selection as it is asked for.
fn asked(which: Which, epoch: Option<Epoch>) -> MarkReadRequest {
    let mut request = MarkReadRequest::default();
    match which {
        Which::Ids(ids) => {
            assert!((1..=MAX_MARK_READ_IDS).contains(&ids.len()));
            request.notification_ids = ids.iter().map(Uuid::to_string).collect();
        }
        Which::About(About {
            entity_type,
            entity_id,
        }) => {
            assert!(!entity_type.is_empty() && !entity_id.is_empty());
            request.about = Some(proto::About {
                entity_type,
                entity_id,
            });
        }
        Which::Through { revision, types } => {
            assert!(types.len() <= MAX_TYPES);
            request.through = epoch.map(|epoch| proto::Through {
                revision: revision.get(),
                epoch: epoch.as_str().to_owned(),
                types,
            });
        }
        // No person names them.
        Which::Key(_) | Which::Collapse(_) => {}
    }
    request
}

/// Ids may be written in capitals.
fn in_lower_case(mut request: MarkReadRequest) -> MarkReadRequest {
    for id in &mut request.notification_ids {
        id.make_ascii_lowercase();
    }
    request
}

fn recent(request: &GetRecentRequest, own: &Inbox, other: &Inbox) {
    let (Ok(own), Ok(other)) = (own, other) else {
        return;
    };
    let Ok(query) = convert::recent(request, own) else {
        return;
    };
    assert!((1..=MAX_RECENT_LIMIT).contains(&query.limit.rows));
    assert_eq!(query.unread_only, request.unread_only);
    let since = query.since.map(wire::time);
    let asked = request
        .since
        .map(|since| (since.seconds, since.nanos / 1000 * 1000));
    assert_eq!(since.map(|since| (since.seconds, since.nanos)), asked);
    match query.before {
        None => assert_eq!(request.page_token, ""),
        Some(before) => {
            let token = convert::page_token(request, own, before);
            assert_eq!(token, request.page_token.to_ascii_lowercase());
            assert!(convert::recent(request, other).is_err());
        }
    }
}

/// A token of these bytes, as it is; and one that is well signed, of a header and
/// of claims (what follows on the first U+0000) of these bytes.
///
/// # Panics
///
/// Where a token is taken that says no more than nothing.
pub fn token(bytes: &[u8]) {
    let Ok(verifier) = &*VERIFIER else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    check_caller(verifier.verify_now(&text), None);

    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (header, claims) = match (parts.next(), parts.next()) {
        (Some(header), Some(claims)) => (header, claims),
        _ => (&br#"{"alg":"HS256"}"#[..], bytes),
    };
    let encode = |part| BASE64_URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let Ok(signature) = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256)
    else {
        return;
    };
    let token = format!("{message}.{signature}");
    let first = verifier.verify_now(&token);
    // Remembered or not, it says the same.
    assert_eq!(first, verifier.verify_now(&token));
    check_caller(first, std::str::from_utf8(claims).ok());
}

fn check_caller(verified: Result<Arc<Caller>, Error>, claims: Option<&str>) {
    let Ok(caller) = verified else {
        return;
    };
    assert!(caller.expires_at > NOW);
    assert!((1..=MAX_SUBJECT_BYTES).contains(&caller.subject.len()));
    let Some(claims) = claims else {
        return;
    };
    let claims = Value::from_str(claims).unwrap_or_default();
    assert!(claims["exp"].is_number());
    // A string, or a whole number's digits.
    let text = |claim: &Value| match claim {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    };
    let role = &claims["userRole"];
    let roles = role
        .as_array()
        .map_or(std::slice::from_ref(role), Vec::as_slice);
    let is_sender = roles.iter().any(|role| role == "service");
    match &caller.right {
        Right::Send(_) => assert!(is_sender),
        Right::Operate(_) => panic!("no role is that of operators"),
        Right::Read(inbox) => {
            assert!(!is_sender);
            let organization = text(&claims["organizationId"]);
            assert_eq!(
                organization.as_deref(),
                Some(inbox.organization_id.as_str())
            );
            assert_ne!(organization.as_deref(), Some("*"));
            let user = match &claims["userId"] {
                Value::Null => text(&claims["sub"]),
                user => text(user),
            };
            assert_eq!(user.as_deref(), Some(inbox.user_id.as_str()));
        }
    }
}

type Inbox = Result<InboxKey, InvalidId>;

static ANN: LazyLock<Inbox> = LazyLock::new(|| InboxKey::parse("acme", "ann"));
static BOB: LazyLock<Inbox> = LazyLock::new(|| InboxKey::parse("acme", "bob"));

static SCHEMA: LazyLock<Option<Schema>> =
    LazyLock::new(|| Schema::new(1 << 20, 1024, 32 * 1024).ok());

/// Signs what is made here, and nothing that is served.
const SECRET: &str = "known to everybody, and good for fuzzing alone";

/// The present, always.
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

static VERIFIER: LazyLock<Result<TokenVerifier, config::Error>> = LazyLock::new(|| {
    let settings = AuthSettings {
        jwt_secret: Some(SecretString::from(SECRET)),
        ..AuthSettings::default()
    };
    TokenVerifier::open(&settings, Arc::new(Still), Arc::new(SeededRandom::new(1)))
});
