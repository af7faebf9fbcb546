//! What the client shows, as JSON: the names of the proto, times in RFC 3339,
//! absent fields left out.

pub use crate::proto::json::to_struct;
use serde_json::{Map, Value, json};

use crate::{
    clock::Timestamp,
    proto::{self, Action, ChangedNotification, FollowUp, Head, Notification, Retraction, Send},
};

/// A JSON object of the fields that are there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter();
    Value::Object(
        fields
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect::<Map<_, _>>(),
    )
}

fn text(text: &Option<String>) -> Option<Value> {
    text.as_ref().map(|text| json!(text))
}

fn time(time: &Option<prost_types::Timestamp>) -> Option<Value> {
    time.as_ref().map(|time| json!(rfc3339(time)))
}

/// A notification as a JSON object.
pub fn notification(notification: &Notification) -> Value {
    let data = notification.data.as_ref();
    object([
        ("id", Some(json!(notification.id))),
        ("sequence", Some(json!(notification.sequence))),
        ("revision", Some(json!(notification.revision))),
        ("type", Some(json!(notification.r#type))),
        ("title", Some(json!(notification.title))),
        ("body", text(&notification.body)),
        ("entity_type", text(&notification.entity_type)),
        ("entity_id", text(&notification.entity_id)),
        ("action_url", text(&notification.action_url)),
        (
            "data",
            data.map(|data| Value::Object(proto::json::object(data))),
        ),
        ("created_at", time(&notification.created_at)),
        ("read_at", time(&notification.read_at)),
        ("archived_at", time(&notification.archived_at)),
        ("removed_at", time(&notification.removed_at)),
        ("image_url", text(&notification.image_url)),
        ("actions", actions(&notification.actions)),
        ("expire_time", time(&notification.expire_time)),
        ("collapsed_count", number(notification.collapsed_count)),
        ("sent_at", time(&notification.sent_at)),
        (
            "ring_revision",
            (notification.ring_revision > 0).then(|| json!(notification.ring_revision)),
        ),
    ])
}

/// A send as a JSON object.
pub fn send(send: &Send) -> Value {
    let state = send.state().as_str_name();
    let state = state.trim_start_matches("SEND_STATE_").to_lowercase();
    let content = send.content.as_ref();
    object([
        ("id", Some(json!(send.id))),
        ("state", Some(json!(state))),
        (
            "topic_id",
            (!send.topic_id.is_empty()).then(|| json!(send.topic_id)),
        ),
        ("total_count", Some(json!(send.total_count))),
        ("delivered_count", Some(json!(send.delivered_count))),
        ("suppressed_count", number(send.suppressed_count)),
        ("error_count", number(send.error_count)),
        ("accepted_at", time(&send.accepted_at)),
        ("deliver_time", time(&send.deliver_time)),
        ("started_at", time(&send.started_at)),
        ("ended_at", time(&send.ended_at)),
        ("available_until", time(&send.available_until)),
        ("type", content.map(|content| json!(content.r#type))),
        ("title", content.map(|content| json!(content.title))),
        ("sender", Some(json!(send.sender))),
    ])
}

/// What is taken back from everybody of an organization, and how far it is.
pub fn retraction(of: &Retraction) -> Value {
    let about = of.about.as_ref();
    object([
        ("id", Some(json!(of.id))),
        ("entity_type", about.map(|about| json!(about.entity_type))),
        ("entity_id", about.map(|about| json!(about.entity_id))),
        ("retracted_count", Some(json!(of.retracted_count))),
        ("error_count", number(of.error_count)),
        ("accepted_at", time(&of.accepted_at)),
        ("ended_at", time(&of.ended_at)),
        ("sender", Some(json!(of.sender))),
    ])
}

/// A follow-up, and the epoch that its position is of.
pub fn follow_up(of: &FollowUp, epoch: &str) -> Value {
    let unless = of.unless().as_str_name();
    let unless = unless
        .trim_start_matches("FOLLOW_UP_UNLESS_")
        .to_lowercase();
    object([
        ("position", Some(json!(of.position))),
        ("epoch", Some(json!(epoch))),
        ("user_id", Some(json!(of.user_id))),
        ("unless", Some(json!(unless))),
        ("due_time", time(&of.due_time)),
        ("notification", of.notification.as_ref().map(notification)),
    ])
}

/// Absent where it is zero, as in the proto's own JSON.
fn number(number: u32) -> Option<Value> {
    (number > 0).then(|| json!(number))
}

fn actions(actions: &[Action]) -> Option<Value> {
    let action = |action: &Action| {
        let Action {
            label,
            url,
            is_primary,
        } = action;
        json!({"label": label, "url": url, "is_primary": is_primary})
    };
    let actions: Vec<Value> = actions.iter().map(action).collect();
    (!actions.is_empty()).then_some(Value::Array(actions))
}

/// The state of a notification as a JSON object.
pub fn changed(changed: &ChangedNotification) -> Value {
    object([
        ("id", Some(json!(changed.id))),
        ("sequence", Some(json!(changed.sequence))),
        ("revision", Some(json!(changed.revision))),
        ("read_at", time(&changed.read_at)),
        ("archived_at", time(&changed.archived_at)),
        ("removed_at", time(&changed.removed_at)),
        ("removal_cause", removal_cause(changed)),
        (
            "notification",
            changed.notification.as_ref().map(notification),
        ),
    ])
}

/// Its name in small letters, such as `expired`.
fn removal_cause(changed: &ChangedNotification) -> Option<Value> {
    let name = changed.removal_cause().as_str_name();
    let name = name.strip_prefix("REMOVAL_CAUSE_")?.to_lowercase();
    changed.removed_at.is_some().then(|| json!(name))
}

/// A head as a JSON object.
pub fn head(head: &Head) -> Value {
    json!({
        "revision": head.revision,
        "unread_count": head.unread_count,
        "unseen_count": head.unseen_count,
        "seen_through": head.seen_through,
    })
}

/// RFC 3339 in UTC, with microseconds.
pub fn rfc3339(time: &prost_types::Timestamp) -> String {
    timestamp(time).to_string()
}

pub(super) fn timestamp(time: &prost_types::Timestamp) -> Timestamp {
    let micros = time.seconds.saturating_mul(1_000_000);
    Timestamp::from_micros(micros.saturating_add(i64::from(time.nanos / 1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_has_the_proto_s_names_and_no_absent_field() {
        let shown = notification(&Notification {
            id: "i".into(),
            sequence: 7,
            revision: 8,
            r#type: "t".into(),
            title: "T".into(),
            entity_id: Some("e".into()),
            created_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 2_000,
            }),
            ..Notification::default()
        });
        let expected = json!({
            "id": "i", "sequence": 7, "revision": 8, "type": "t", "title": "T",
            "entity_id": "e", "created_at": "1970-01-01T00:00:01.000002Z",
        });
        assert_eq!(shown, expected);
    }
}
