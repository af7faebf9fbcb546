//! How an event reaches the streams: those of this node by the hub, those of
//! other nodes by NATS.
//!
//! Promises: a stream that joined receives what is published here, in order; what
//! is published is on its way to the other nodes when the bus is up; publishing
//! never waits. Drops: what the bus cannot take away in time, the oldest first.
//! So an event can be lost between nodes: the store is the truth, and the feeds
//! find what lacks.

pub mod nats;
mod payload;

use std::sync::Arc;

use crate::{
    config::FeedSettings,
    hub::{Capacity, Hub, JoinError, Subscription, Suspect},
    model::{InboxEvent, InboxKey},
    wire::{self, LiveRun},
};
use nats::Nats;

/// The way to the streams.
pub enum Bus {
    /// One node.
    Local(Arc<Hub>),
    /// One of several.
    Nats(Nats),
}

impl Bus {
    /// The bus of a node that is alone.
    pub fn local(feeds: &FeedSettings) -> Self {
        Self::Local(hub(feeds))
    }

    /// The rooms of this node.
    pub fn hub(&self) -> &Arc<Hub> {
        match self {
            Self::Local(hub) => hub,
            Self::Nats(nats) => nats.hub(),
        }
    }

    /// Hands events to the streams of `inbox`, on all nodes: the consecutive ones of
    /// one commit. Never waits.
    pub fn publish(&self, inbox: &InboxKey, events: &[InboxEvent]) {
        let encoded = || Arc::new(events.iter().map(wire::live).collect::<LiveRun>());
        match self {
            // Who joins meanwhile reads the store.
            Self::Local(hub) if !hub.has_room(inbox) => {}
            Self::Local(hub) => _ = hub.publish(inbox, &encoded()),
            Self::Nats(nats) => {
                let run = encoded();
                nats.hub().publish(inbox, &run);
                nats.publish(inbox, run);
            }
        }
    }

    /// Joins the room of `inbox`. What is published from now on, on whatever
    /// node, is received; where the bus is away, that is so from its return on,
    /// and the room is checked then.
    ///
    /// Cancel safe.
    pub async fn join(&self, inbox: &InboxKey) -> Result<Subscription, JoinError> {
        let subscription = self.hub().join(inbox)?;
        if let Self::Nats(nats) = self {
            nats.follow(&inbox.organization_id).await;
        }
        Ok(subscription)
    }

    /// Notes that events of `inbox` may have been lost: its rooms, on all nodes, are
    /// compared with the store. Never waits.
    pub fn recheck(&self, inbox: &InboxKey) {
        self.hub().suspect(Suspect::Inbox(inbox.clone()));
        if let Self::Nats(nats) = self {
            nats.recheck(inbox);
        }
    }

    /// What is wrong with the way to the other nodes.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Local(_) => None,
            Self::Nats(nats) => nats.trouble(),
        }
    }

    /// Gives what was published to the other nodes, within a moment.
    pub async fn close(&self) {
        if let Self::Nats(nats) = self {
            nats.close().await;
        }
    }
}

/// The hub that `feeds` ask for.
pub fn hub(feeds: &FeedSettings) -> Arc<Hub> {
    Hub::new(Capacity {
        runs: feeds.room_capacity,
        per_user: feeds.max_streams_per_user,
        per_organization: feeds.max_streams_per_organization,
    })
}
