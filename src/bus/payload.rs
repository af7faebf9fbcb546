//! What goes over the bus: the events of one commit in one inbox, as the streams
//! send them.
//!
//! Protocol Buffers, so that nodes of two versions understand each other: a field
//! that is new is skipped, and a kind of event that is new is passed on. All fields
//! of [`Envelope`] but `events` keep their meaning for ever; that may change with
//! `version`. What a node cannot read tells it at least whose inbox changed: it looks
//! into the store.

use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    model::{Head, InboxKey, OrganizationId, Revision},
    wire::{self, LiveEvent, LiveRun},
};

/// Of what this module writes.
const VERSION: u32 = 3;
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
    Run(InboxKey, LiveRun),
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
    #[prost(uint32, tag = "3")]
    unseen_count: u32,
    #[prost(uint64, tag = "4")]
    seen_through: u64,
    #[prost(string, tag = "5")]
    kind: String,
    /// Microseconds since the Unix epoch, of what rings.
    #[prost(int64, optional, tag = "6")]
    created_at: Option<i64>,
    /// The `SubscribeResponse`.
    #[prost(bytes = "bytes", tag = "7")]
    message: Bytes,
}

/// The payload for these events; without one, the payload for "look into the store".
pub(super) fn encode(sender: Sender, inbox: &InboxKey, events: &[LiveEvent]) -> Vec<u8> {
    let event = |event: &LiveEvent| Event {
        revision: event.head.revision.get(),
        unread_count: event.head.unread_count,
        unseen_count: event.head.unseen_count,
        seen_through: event.head.seen_through.get(),
        kind: event.kind.to_owned(),
        created_at: event.created_at.map(Timestamp::as_micros),
        message: event.message.clone(),
    };
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
    let run: LiveRun = envelope.events.into_iter().map(live).collect();
    Ok(if envelope.version == VERSION && is_consecutive(&run) {
        Heard::Run(inbox, run)
    } else {
        Heard::Gap(inbox)
    })
}

/// One after the other, and at least one.
fn is_consecutive(run: &LiveRun) -> bool {
    let follows = |two: &[LiveEvent]| two[0].head.revision.next() == two[1].head.revision;
    !run.is_empty() && run.windows(2).all(follows)
}

fn live(event: Event) -> LiveEvent {
    LiveEvent {
        head: Head {
            revision: Revision::new(event.revision),
            unread_count: event.unread_count,
            unseen_count: event.unseen_count,
            seen_through: Revision::new(event.seen_through),
        },
        kind: wire::kind(&event.kind),
        created_at: event.created_at.map(Timestamp::from_micros),
        message: event.message,
    }
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

    fn event(revision: u64, bytes: usize) -> LiveEvent {
        LiveEvent {
            head: Head {
                revision: Revision::new(revision),
                unread_count: 3,
                unseen_count: 2,
                seen_through: Revision::new(1),
            },
            kind: "notification",
            created_at: Some(Timestamp::from_micros(5)),
            message: vec![7; bytes].into(),
        }
    }

    fn heard(payload: &[u8]) -> Heard {
        decode(US, &inbox().organization_id, payload).unwrap()
    }

    #[test]
    fn a_run_comes_as_it_went() {
        let quiet = LiveEvent {
            kind: "seen",
            created_at: None,
            ..event(5, 0)
        };
        let run = vec![event(4, 10), quiet];
        let Heard::Run(key, came) = heard(&encode(THEM, &inbox(), &run)) else {
            panic!("a gap");
        };
        assert_eq!(key, inbox());
        assert_eq!(came, run);
    }

    #[test]
    fn a_kind_that_came_later_is_passed_on() {
        let later = LiveEvent {
            kind: "unheard of",
            ..event(4, 10)
        };
        let Heard::Run(_, came) = heard(&encode(THEM, &inbox(), &[later])) else {
            panic!("a gap");
        };
        assert_eq!(
            (came[0].kind, &came[0].message[..]),
            ("other", &[7; 10][..])
        );
    }

    #[test]
    fn its_own_echo_says_nothing() {
        let payload = encode(US, &inbox(), &[event(1, 0)]);
        assert!(matches!(heard(&payload), Heard::Echo));
    }

    #[test]
    fn another_database_and_another_organization_are_not_believed() {
        let elsewhere = Sender {
            database: Uuid::from_u128(8),
            ..THEM
        };
        let globex = InboxKey::parse("globex", "ann").unwrap();
        let mut unsaid = Envelope::decode(&*encode(THEM, &inbox(), &[event(1, 0)])).unwrap();
        unsaid.database.clear();
        for payload in [
            encode(elsewhere, &inbox(), &[event(1, 0)]),
            encode(elsewhere, &inbox(), &[]),
            encode(THEM, &globex, &[event(1, 0)]),
            encode(THEM, &globex, &[]),
            unsaid.encode_to_vec(),
        ] {
            assert!(matches!(heard(&payload), Heard::Foreign));
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_gap_of_its_inbox() {
        let run = vec![event(4, 10), event(5, 10)];
        let envelope = Envelope::decode(&*encode(THEM, &inbox(), &run)).unwrap();
        let changed = |change: fn(&mut Envelope)| {
            let mut envelope = envelope.clone();
            change(&mut envelope);
            envelope.encode_to_vec()
        };
        for payload in [
            changed(|envelope| envelope.version = 1),
            changed(|envelope| envelope.events[1].revision = 7),
            changed(|envelope| envelope.events.clear()),
            // Larger than NATS takes.
            encode(THEM, &inbox(), &[event(4, MAX_BYTES)]),
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
