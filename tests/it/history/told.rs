//! A message of a stream, wherever it was taken from.

use doorbell::{
    inbox::feed::{Event, Message},
    model,
    proto::{self, RemovalCause, SubscribeResponse, subscribe_response},
};
use prost::Message as _;
use uuid::Uuid;

use super::{Head, State};

#[derive(Clone, Debug)]
pub struct Told {
    pub position: u64,
    pub head: Head,
    pub ring: bool,
    pub event: ToldEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldEvent {
    Connected,
    Notification(ToldRow),
    Changed(Vec<ToldRow>),
    Looked,
    CaughtUp,
    Heartbeat,
    Reset,
    Reconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldRow {
    pub id: Uuid,
    pub sequence: u64,
    pub revision: u64,
    pub state: State,
}

impl From<&model::Row> for ToldRow {
    fn from(row: &model::Row) -> Self {
        Self {
            id: row.id,
            sequence: row.sequence.get(),
            revision: row.revision.get(),
            state: row.state.into(),
        }
    }
}

fn id(id: &str) -> Uuid {
    Uuid::parse_str(id).expect("the service sends UUIDs")
}

impl From<&proto::Notification> for ToldRow {
    fn from(row: &proto::Notification) -> Self {
        Self {
            id: id(&row.id),
            sequence: row.sequence,
            revision: row.revision,
            state: State {
                read: row.read_at.is_some(),
                archived: row.archived_at.is_some(),
                removed: None,
            },
        }
    }
}

impl From<&proto::ChangedNotification> for ToldRow {
    fn from(row: &proto::ChangedNotification) -> Self {
        let removed = match row.removal_cause() {
            RemovalCause::Unspecified => None,
            RemovalCause::User => Some(model::RemovalCause::User),
            RemovalCause::Sender => Some(model::RemovalCause::Sender),
            RemovalCause::Expired => Some(model::RemovalCause::Expired),
            RemovalCause::Replaced => Some(model::RemovalCause::Replaced),
        };
        Self {
            id: id(&row.id),
            sequence: row.sequence,
            revision: row.revision,
            state: State {
                read: row.read_at.is_some(),
                archived: row.archived_at.is_some(),
                removed,
            },
        }
    }
}

impl From<&Message> for Told {
    fn from(message: &Message) -> Self {
        let event = match &message.event {
            // What goes over the wire is what counts.
            Event::Live(live) => {
                let bytes = live.event().message.clone();
                return Self::from(&SubscribeResponse::decode(bytes).expect("it is one"));
            }
            Event::Connected { .. } => ToldEvent::Connected,
            Event::Notification(notification) => {
                ToldEvent::Notification((&notification.row).into())
            }
            Event::Removed(row) => ToldEvent::Changed(vec![row.into()]),
            Event::CaughtUp => ToldEvent::CaughtUp,
            Event::Heartbeat => ToldEvent::Heartbeat,
            Event::Reset { .. } => ToldEvent::Reset,
            Event::Reconnect { .. } => ToldEvent::Reconnect,
        };
        Self {
            position: message.position.get(),
            head: message.head.into(),
            ring: message.ring,
            event,
        }
    }
}

impl From<&SubscribeResponse> for Told {
    fn from(message: &SubscribeResponse) -> Self {
        use subscribe_response::Event;
        let event = match message.event.as_ref().expect("every message has an event") {
            Event::Connected(_) => ToldEvent::Connected,
            Event::Notification(row) => ToldEvent::Notification(row.into()),
            Event::Changed(changed) => {
                let rows = changed.notifications.iter().map(ToldRow::from);
                ToldEvent::Changed(rows.collect())
            }
            Event::Seen(_) => ToldEvent::Looked,
            Event::CaughtUp(_) => ToldEvent::CaughtUp,
            Event::Heartbeat(_) => ToldEvent::Heartbeat,
            Event::Reset(_) => ToldEvent::Reset,
            Event::Reconnect(_) => ToldEvent::Reconnect,
        };
        Self {
            position: message.position,
            head: message.head.into(),
            ring: message.ring,
            event,
        }
    }
}
