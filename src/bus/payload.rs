//! What goes over the bus: the events of one commit in one inbox.
//!
//! Protocol Buffers, so that nodes of two versions understand each other: a field
//! that is new is skipped. All fields of [`Envelope`] but `events` keep their meaning
//! for ever; that may change with `version`. What a node cannot read tells it at
//! least whose inbox changed: it looks into the store.

use std::sync::Arc;

use prost::{Message, Oneof};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    model::{self, Content, Data, InboxEvent, InboxKey, OrganizationId, Revision, Run},
};

/// Of what this module writes.
const VERSION: u32 = 1;
/// A payload that is larger says only that something happened: NATS refuses
/// messages above 1 MiB unless it is told otherwise.
const MAX_BYTES: usize = 512 * 1024;

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    /// To know its own echo.
    pub(super) node: Uuid,
    /// Whose inboxes it speaks of: others may have the same names.
    pub(super) database: Uuid,
}

/// What a payload says.
#[derive(Debug)]
pub(super) enum Heard {
    /// This node said it itself.
    Echo,
    /// It speaks of another database, or of another organization than its subject.
    Foreign,
    /// Events to be given to the room.
    Run(InboxKey, Run),
    /// Something happened in this inbox that cannot be told from the payload.
    Gap(InboxKey),
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// Who published it.
    #[prost(bytes = "vec", tag = "2")]
    node: Vec<u8>,
    #[prost(string, tag = "3")]
    organization_id: String,
    #[prost(string, tag = "4")]
    user_id: String,
    /// In the order of their revisions. None: look into the store.
    #[prost(message, repeated, tag = "5")]
    events: Vec<Event>,
    /// Of the database that the inbox is in.
    #[prost(bytes = "vec", tag = "6")]
    database: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint32, tag = "2")]
    unread_count: u32,
    #[prost(oneof = "Change", tags = "3, 4")]
    change: Option<Change>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Change {
    #[prost(message, tag = "3")]
    Created(Created),
    #[prost(message, tag = "4")]
    MarkedRead(MarkedRead),
}

/// Its sequence and revision are the event's.
#[derive(Clone, PartialEq, Message)]
struct Created {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    r#type: String,
    #[prost(string, tag = "3")]
    title: String,
    #[prost(string, optional, tag = "4")]
    body: Option<String>,
    #[prost(string, optional, tag = "5")]
    entity_type: Option<String>,
    #[prost(string, optional, tag = "6")]
    entity_id: Option<String>,
    #[prost(string, optional, tag = "7")]
    action_url: Option<String>,
    /// Canonical JSON.
    #[prost(string, optional, tag = "8")]
    data: Option<String>,
    #[prost(string, tag = "9")]
    sender: String,
    /// Microseconds since the Unix epoch, as all times here.
    #[prost(int64, tag = "10")]
    created_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct MarkedRead {
    #[prost(bytes = "vec", repeated, tag = "1")]
    notification_ids: Vec<Vec<u8>>,
    #[prost(int64, tag = "2")]
    read_at: i64,
}

/// The payload for these events; without one, the payload for "look into the store".
pub(super) fn encode(sender: Sender, inbox: &InboxKey, events: &[InboxEvent]) -> Vec<u8> {
    let mut envelope = Envelope {
        version: VERSION,
        node: sender.node.as_bytes().to_vec(),
        organization_id: inbox.organization_id.as_str().to_owned(),
        user_id: inbox.user_id.as_str().to_owned(),
        events: events.iter().map(event).collect(),
        database: sender.database.as_bytes().to_vec(),
    };
    if envelope.encoded_len() > MAX_BYTES {
        envelope.events.clear();
    }
    envelope.encode_to_vec()
}

fn event(event: &InboxEvent) -> Event {
    let change = match &event.change {
        model::Change::Created(row) => Change::Created(Created {
            id: row.id.as_bytes().to_vec(),
            r#type: row.content.kind.clone(),
            title: row.content.title.clone(),
            body: row.content.body.clone(),
            entity_type: row.content.entity_type.clone(),
            entity_id: row.content.entity_id.clone(),
            action_url: row.content.action_url.clone(),
            data: row
                .content
                .data
                .as_ref()
                .map(|data| data.as_str().to_owned()),
            sender: row.sender.to_string(),
            created_at: row.created_at.as_micros(),
        }),
        model::Change::MarkedRead {
            notification_ids,
            read_at,
        } => Change::MarkedRead(MarkedRead {
            notification_ids: notification_ids
                .iter()
                .map(|id| id.as_bytes().to_vec())
                .collect(),
            read_at: read_at.as_micros(),
        }),
    };
    Event {
        revision: event.revision.get(),
        unread_count: event.unread_count,
        change: Some(change),
    }
}

/// What came on the subject of an organization.
///
/// # Errors
///
/// Where not even the inbox can be told.
pub(super) fn decode(
    own: Sender,
    organization: &OrganizationId,
    payload: &[u8],
) -> Result<Heard, String> {
    let envelope = Envelope::decode(payload).map_err(|error| error.to_string())?;
    if envelope.node == own.node.as_bytes() {
        return Ok(Heard::Echo);
    }
    if envelope.database != own.database.as_bytes() {
        return Ok(Heard::Foreign);
    }
    let inbox = InboxKey::parse(&envelope.organization_id, &envelope.user_id)
        .map_err(|error| error.to_string())?;
    if inbox.organization_id != *organization {
        return Ok(Heard::Foreign);
    }
    let run: Option<Run> = envelope.events.into_iter().map(inbox_event).collect();
    Ok(match run {
        Some(run) if envelope.version == VERSION && is_consecutive(&run) => Heard::Run(inbox, run),
        _ => Heard::Gap(inbox),
    })
}

/// One after the other, and at least one.
fn is_consecutive(run: &Run) -> bool {
    !run.is_empty()
        && run
            .windows(2)
            .all(|two| two[0].revision.next() == two[1].revision)
}

/// `None`: a kind, or a value, that this version does not know.
fn inbox_event(event: Event) -> Option<InboxEvent> {
    let revision = Revision::new(event.revision);
    let change = match event.change? {
        Change::Created(row) => model::Change::Created(model::Notification {
            id: Uuid::from_slice(&row.id).ok()?,
            sequence: revision,
            revision,
            content: Arc::new(Content {
                kind: row.r#type,
                title: row.title,
                body: row.body,
                entity_type: row.entity_type,
                entity_id: row.entity_id,
                action_url: row.action_url,
                data: row.data.map(Data::from_canonical),
            }),
            sender: row.sender.into(),
            created_at: Timestamp::from_micros(row.created_at),
            read_at: None,
            archived_at: None,
        }),
        Change::MarkedRead(marked) => model::Change::MarkedRead {
            notification_ids: marked
                .notification_ids
                .iter()
                .map(|id| Uuid::from_slice(id).ok())
                .collect::<Option<_>>()?,
            read_at: Timestamp::from_micros(marked.read_at),
        },
    };
    Some(InboxEvent::new(revision, event.unread_count, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Sender = Sender {
        node: Uuid::from_u128(1),
        database: Uuid::from_u128(7),
    };
    const THEM: Sender = Sender {
        node: Uuid::from_u128(2),
        ..US
    };

    fn inbox() -> InboxKey {
        InboxKey::parse("acme", "ann").unwrap()
    }

    fn created(revision: u64, body: usize) -> InboxEvent {
        let row = model::Notification {
            id: Uuid::from_u128(u128::from(revision)),
            sequence: Revision::new(revision),
            revision: Revision::new(revision),
            content: Arc::new(Content {
                kind: "comment".into(),
                title: "Ann wrote".into(),
                body: Some("x".repeat(body)),
                entity_type: None,
                entity_id: Some("7".into()),
                action_url: None,
                data: Some(Data::from_canonical(r#"{"a":1}"#.into())),
            }),
            sender: "backend".into(),
            created_at: Timestamp::from_micros(5),
            read_at: None,
            archived_at: None,
        };
        InboxEvent::new(Revision::new(revision), 3, model::Change::Created(row))
    }

    fn marked(revision: u64) -> InboxEvent {
        let change = model::Change::MarkedRead {
            notification_ids: vec![Uuid::from_u128(7), Uuid::from_u128(8)],
            read_at: Timestamp::from_micros(9),
        };
        InboxEvent::new(Revision::new(revision), 1, change)
    }

    fn heard(payload: &[u8]) -> Heard {
        decode(US, &inbox().organization_id, payload).unwrap()
    }

    #[test]
    fn a_run_comes_as_it_went() {
        let run = vec![created(4, 10), marked(5)];
        let Heard::Run(key, came) = heard(&encode(THEM, &inbox(), &run)) else {
            panic!("a gap");
        };
        assert_eq!(key, inbox());
        assert_eq!(came.len(), 2);
        for (came, went) in came.iter().zip(&run) {
            assert_eq!(came.revision, went.revision);
            assert_eq!(came.unread_count, went.unread_count);
            assert_eq!(came.change, went.change);
        }
    }

    #[test]
    fn its_own_echo_says_nothing() {
        let payload = encode(US, &inbox(), &[created(1, 0)]);
        assert!(matches!(heard(&payload), Heard::Echo));
    }

    #[test]
    fn another_database_and_another_organization_are_not_believed() {
        let elsewhere = Sender {
            database: Uuid::from_u128(8),
            ..THEM
        };
        let globex = InboxKey::parse("globex", "ann").unwrap();
        let mut unsaid = Envelope::decode(&*encode(THEM, &inbox(), &[marked(1)])).unwrap();
        unsaid.database.clear();
        for payload in [
            encode(elsewhere, &inbox(), &[marked(1)]),
            encode(elsewhere, &inbox(), &[]),
            encode(THEM, &globex, &[marked(1)]),
            encode(THEM, &globex, &[]),
            unsaid.encode_to_vec(),
        ] {
            assert!(matches!(heard(&payload), Heard::Foreign));
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_gap_of_its_inbox() {
        let run = vec![created(4, 10), marked(5)];
        let envelope = Envelope::decode(&*encode(THEM, &inbox(), &run)).unwrap();
        let changed = |change: fn(&mut Envelope)| {
            let mut envelope = envelope.clone();
            change(&mut envelope);
            envelope.encode_to_vec()
        };
        for payload in [
            changed(|envelope| envelope.version = 2),
            changed(|envelope| envelope.events[1].change = None),
            changed(|envelope| envelope.events[1].revision = 7),
            changed(|envelope| envelope.events.clear()),
            // Larger than NATS takes.
            encode(THEM, &inbox(), &[created(4, MAX_BYTES)]),
        ] {
            assert!(matches!(heard(&payload), Heard::Gap(key) if key == inbox()));
        }
    }

    #[test]
    fn what_names_no_inbox_is_an_error() {
        let organization = inbox().organization_id;
        let nobody = Envelope {
            database: US.database.as_bytes().to_vec(),
            ..Envelope::default()
        };
        for payload in [&b"\xff\xff"[..], &nobody.encode_to_vec()] {
            assert!(decode(US, &organization, payload).is_err());
        }
    }
}
