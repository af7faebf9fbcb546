//! The model on the wire: what every reply and every message of a stream is
//! made of.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use serde_json::Value;

use crate::{
    clock::Timestamp,
    model::{
        Action, Change, Content, Data, Head, Image, InboxEvent, Notification, RemovalCause,
        Revision, RowState,
    },
    proto::{self, subscribe_response},
};

/// A change of an inbox as all its streams send it, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveEvent {
    /// The inbox after the change.
    pub head: Head,
    /// What kind of event it is: its name in the proto.
    pub kind: &'static str,
    /// When what rings was created, to measure how long it was on its way.
    pub created_at: Option<Timestamp>,
    /// The `SubscribeResponse`.
    pub message: Bytes,
}

impl LiveEvent {
    /// About how many bytes it holds.
    pub fn len_bytes(&self) -> usize {
        size_of::<Self>() + self.message.len()
    }
}

/// The consecutive events of one inbox in one commit; never empty.
pub type LiveRun = Vec<LiveEvent>;

/// The kind of this name, for a metric; one that came after this version is
/// "other".
pub fn kind(name: &str) -> &'static str {
    let kinds = ["notification", "changed", "seen"];
    kinds
        .into_iter()
        .find(|kind| *kind == name)
        .unwrap_or("other")
}

/// Why a row was removed.
pub fn cause(state: &RowState) -> proto::RemovalCause {
    match state.removed {
        None => proto::RemovalCause::Unspecified,
        Some((_, RemovalCause::User)) => proto::RemovalCause::User,
        Some((_, RemovalCause::Sender)) => proto::RemovalCause::Sender,
        Some((_, RemovalCause::Expired)) => proto::RemovalCause::Expired,
        Some((_, RemovalCause::Replaced)) => proto::RemovalCause::Replaced,
    }
}

/// Encodes a change.
pub fn live(event: &InboxEvent) -> LiveEvent {
    let head = event.head;
    let (kind, told, change) = match &event.change {
        Change::Notification(row) => (
            "notification",
            Some(row),
            subscribe_response::Event::Notification(notification(row)),
        ),
        Change::Changed(images) => (
            "changed",
            images.iter().rev().find_map(|image| match image {
                Image::Whole(row) => Some(&**row),
                Image::State(_) => None,
            }),
            subscribe_response::Event::Changed(changed(images)),
        ),
        Change::Seen => (
            "seen",
            None,
            subscribe_response::Event::Seen(proto::Seen {}),
        ),
    };
    let ring = told.is_some_and(|told| told.row.ring_revision == head.revision);
    let message = proto::SubscribeResponse {
        position: head.revision.get(),
        head: Some(self::head(&head)),
        ring,
        event: Some(change),
    };
    let sent = told.filter(|told| ring && told.row.sequence == head.revision);
    LiveEvent {
        head,
        kind,
        created_at: sent.map(|sent| sent.created_at),
        message: message.encode_to_vec().into(),
    }
}

/// A head.
pub fn head(head: &Head) -> proto::Head {
    proto::Head {
        revision: head.revision.get(),
        unread_count: head.unread_count,
        unseen_count: head.unseen_count,
        seen_through: head.seen_through.get(),
    }
}

/// A notification.
pub fn notification(notification: &Notification) -> proto::Notification {
    let Notification {
        row,
        content,
        created_at,
        sent_at,
        expire_time,
        collapsed_count,
        ..
    } = notification;
    proto::Notification {
        id: row.id.to_string(),
        sequence: row.sequence.get(),
        revision: row.revision.get(),
        r#type: content.kind.clone(),
        title: content.title.clone(),
        body: content.body.clone(),
        entity_type: content.entity_type.clone(),
        entity_id: content.entity_id.clone(),
        action_url: content.action_url.clone(),
        data: content.data.as_ref().and_then(data),
        created_at: Some(time(*created_at)),
        read_at: row.state.read_at.map(time),
        archived_at: row.state.archived_at.map(time),
        removed_at: row.state.removed.map(|(at, _)| time(at)),
        image_url: content.image_url.clone(),
        actions: content.actions.iter().map(action).collect(),
        expire_time: expire_time.map(time),
        collapsed_count: *collapsed_count,
        sent_at: Some(time(*sent_at)),
        ring_revision: row.ring_revision.get(),
    }
}

/// What is said.
pub fn content(content: &Content) -> proto::Content {
    proto::Content {
        r#type: content.kind.clone(),
        title: content.title.clone(),
        body: content.body.clone(),
        entity_type: content.entity_type.clone(),
        entity_id: content.entity_id.clone(),
        action_url: content.action_url.clone(),
        data: content.data.as_ref().and_then(data),
        image_url: content.image_url.clone(),
        actions: content.actions.iter().map(action).collect(),
    }
}

fn action(action: &Action) -> proto::Action {
    proto::Action {
        label: action.label.clone(),
        url: action.url.clone(),
        is_primary: action.is_primary,
    }
}

/// Rows whose state changed.
pub fn changed(images: &[Image]) -> proto::Changed {
    let image = |image: &Image| {
        let row = image.row();
        proto::ChangedNotification {
            id: row.id.to_string(),
            sequence: row.sequence.get(),
            revision: row.revision.get(),
            read_at: row.state.read_at.map(time),
            archived_at: row.state.archived_at.map(time),
            removed_at: row.state.removed.map(|(at, _)| time(at)),
            removal_cause: cause(&row.state).into(),
            notification: match image {
                Image::Whole(whole) => Some(notification(whole)),
                Image::State(_) => None,
            },
        }
    };
    proto::Changed {
        notifications: images.iter().map(image).collect(),
    }
}

/// Text that is no JSON object is none of ours: a screen is better served without
/// `data` than not at all.
fn data(data: &Data) -> Option<prost_types::Struct> {
    match serde_json::from_str(data.as_str()) {
        Ok(Value::Object(object)) => Some(proto::json::to_struct(&object)),
        _ => None,
    }
}

/// A moment.
pub fn time(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.as_micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1000,
    }
}

/// A length of time.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// The revision of the last event.
pub fn last_revision(run: &LiveRun) -> Revision {
    run.last()
        .map_or(Revision::ZERO, |event| event.head.revision)
}
