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
mod tests;
