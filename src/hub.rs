//! Routes the events of an inbox to the streams of that inbox, and to no others.
//!
//! Promises: who joins a room before an event is published receives it or is
//! told that it lagged; a publisher never waits; publishing to an inbox that
//! nobody watches costs one look-up. Drops: what a slow subscriber has not taken
//! when its room's buffer is full (it is told), and everything once nobody is in
//! the room. Does no I/O.
//!
//! Where other nodes write as well, an event can be lost on its way here. So each
//! room knows the last revision that it was given, to be held against the store
//! ([`Hub::committed`]), and whoever knows of a possible loss says so
//! ([`Hub::suspect`]).

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    mem,
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{
    Notify,
    broadcast::{self, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{InboxKey, OrganizationId, Revision},
    wire::{self, LiveRun},
};

/// Enough that publishers and joining streams seldom meet.
const SHARDS: usize = 64;

/// How many may be in the rooms.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Runs that a subscriber may lag behind.
    pub runs: usize,
    /// Subscriptions of one inbox.
    pub per_user: usize,
    /// Subscriptions of one organization.
    pub per_organization: usize,
}

/// Why a room could not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The user has as many streams as may be.
    #[error("this user has {0} streams open, and may have no more")]
    UserFull(usize),
    /// The organization has as many streams as may be.
    #[error("this organization has {0} streams open, and may have no more")]
    OrganizationFull(usize),
    /// The hub is closed: the server is draining.
    #[error("the server is draining")]
    Closed,
}

struct Room {
    sender: broadcast::Sender<Received>,
    /// The highest revision that its streams were given or told of.
    last: Revision,
    /// Counted here, under the shard's lock, and not by the sender's receivers:
    /// two that leave at once would each see the other.
    members: usize,
}

/// Where events may have been lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Suspect {
    /// In one inbox.
    Inbox(InboxKey),
    /// In all inboxes of an organization.
    Organization(OrganizationId),
    /// Everywhere.
    All,
}

/// The rooms of one process.
pub struct Hub {
    /// A mutex a shard: it is held for a look-up and never across an await.
    shards: Box<[Mutex<HashMap<InboxKey, Room>>]>,
    /// Locked alone or inside of a shard's lock, never around one.
    organizations: Mutex<HashMap<OrganizationId, usize>>,
    hasher: RandomState,
    capacity: Capacity,
    closed: CancellationToken,
    /// No more than the rooms there were. Locked alone.
    suspects: Mutex<HashSet<Suspect>>,
    suspected: Notify,
}

impl Hub {
    /// A hub without rooms.
    pub fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            organizations: Mutex::default(),
            hasher: RandomState::new(),
            capacity,
            closed: CancellationToken::new(),
            suspects: Mutex::default(),
            suspected: Notify::new(),
        })
    }

    fn shard(&self, inbox: &InboxKey) -> MutexGuard<'_, HashMap<InboxKey, Room>> {
        let hash = self.hasher.hash_one(inbox);
        self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)].lock()
    }

    /// Joins the room of `inbox`. What is published from now on is received.
    pub fn join(self: &Arc<Self>, inbox: &InboxKey) -> Result<Subscription, JoinError> {
        let mut shard = self.shard(inbox);
        // Under the shard's lock: `close` sets it first and empties the shards
        // then, so no room outlives it.
        if self.is_closed() {
            return Err(JoinError::Closed);
        }
        let members = shard.get(inbox).map_or(0, |room| room.members);
        if members >= self.capacity.per_user {
            return Err(JoinError::UserFull(members));
        }
        let mut organizations = self.organizations.lock();
        let streams = organizations
            .entry(inbox.organization_id.clone())
            .or_default();
        if *streams >= self.capacity.per_organization {
            return Err(JoinError::OrganizationFull(*streams));
        }
        *streams += 1;
        let room = shard.entry(inbox.clone()).or_insert_with(|| Room {
            sender: broadcast::Sender::new(self.capacity.runs.max(1)),
            last: Revision::ZERO,
            members: 0,
        });
        room.members += 1;
        let receiver = room.sender.subscribe();
        Ok(Subscription {
            hub: self.clone(),
            inbox: inbox.clone(),
            receiver,
        })
    }

    /// Hands `run` to the streams of `inbox`, and tells how many there are. Runs
    /// of one node's commits are to be published in the order of their revisions.
    pub fn publish(&self, inbox: &InboxKey, run: &Arc<LiveRun>) -> usize {
        self.signal(inbox, wire::last_revision(run), || {
            Received::Run(run.clone())
        })
    }

    /// Whether anybody is in the room of `inbox`.
    pub fn has_room(&self, inbox: &InboxKey) -> bool {
        self.shard(inbox).contains_key(inbox)
    }

    /// Tells the streams of `inbox` that the store's head is at `revision`, if
    /// the room has not been given it: those that lack it heal. Tells whether
    /// the room was behind.
    pub fn committed(&self, inbox: &InboxKey, revision: Revision) -> bool {
        let is_behind = {
            let shard = self.shard(inbox);
            shard.get(inbox).is_some_and(|room| room.last < revision)
        };
        is_behind && self.signal(inbox, revision, || Received::Head(revision)) > 0
    }

    fn signal(
        &self,
        inbox: &InboxKey,
        revision: Revision,
        signal: impl FnOnce() -> Received,
    ) -> usize {
        // Cloned out, so that waking the streams is not done under the lock.
        let sender = self.shard(inbox).get_mut(inbox).map(|room| {
            room.last = room.last.max(revision);
            room.sender.clone()
        });
        sender.map_or(0, |sender| sender.send(signal()).unwrap_or(0))
    }

    /// Notes that events may have been lost; see [`Hub::next_suspects`]. Where
    /// nobody is in the room there is nothing to note: who joins reads the store.
    pub fn suspect(&self, suspect: Suspect) {
        let has_streams = match &suspect {
            Suspect::Inbox(inbox) => self.has_room(inbox),
            Suspect::Organization(organization) => self.streams_of(organization) > 0,
            Suspect::All => true,
        };
        if has_streams {
            self.suspects.lock().insert(suspect);
            self.suspected.notify_one();
        }
    }

    /// Waits until something is suspected, and takes it: the inboxes that have a
    /// room. For one caller at a time. Cancel safe.
    pub async fn next_suspects(&self) -> Vec<InboxKey> {
        self.suspected.notified().await;
        let suspects = mem::take(&mut *self.suspects.lock());
        let inbox = |suspect: &Suspect| match suspect {
            Suspect::Inbox(inbox) => Some(inbox.clone()),
            Suspect::Organization(_) | Suspect::All => None,
        };
        // Mostly it is a few, and then not all rooms are looked at.
        if let Some(mut inboxes) = suspects.iter().map(inbox).collect::<Option<Vec<_>>>() {
            inboxes.retain(|inbox| self.has_room(inbox));
            return inboxes;
        }
        self.inboxes(|inbox| {
            suspects.contains(&Suspect::All)
                || suspects.contains(&Suspect::Organization(inbox.organization_id.clone()))
                || suspects.contains(&Suspect::Inbox(inbox.clone()))
        })
    }

    /// The inboxes that have a room, and of which this is true.
    pub fn inboxes(&self, is_meant: impl Fn(&InboxKey) -> bool) -> Vec<InboxKey> {
        let of = |shard: &Mutex<HashMap<InboxKey, Room>>| {
            let shard = shard.lock();
            let meant = shard.keys().filter(|inbox| is_meant(inbox));
            meant.cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of).collect()
    }

    /// How many inboxes have a room here.
    pub fn room_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// How many streams an organization has here.
    pub fn streams_of(&self, organization: &OrganizationId) -> usize {
        let organizations = self.organizations.lock();
        organizations.get(organization).copied().unwrap_or(0)
    }

    /// Ends all subscriptions: they receive what was published, then
    /// [`Received::Closed`]. Nobody can join any more.
    pub fn close(&self) {
        self.closed.cancel();
        for shard in &self.shards {
            // The senders go; the counts stay for who leaves later.
            shard.lock().clear();
        }
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    fn leave(&self, inbox: &InboxKey) {
        let mut shard = self.shard(inbox);
        if let Entry::Occupied(mut room) = shard.entry(inbox.clone()) {
            room.get_mut().members -= 1;
            if room.get().members == 0 {
                room.remove();
            }
        }
        let mut organizations = self.organizations.lock();
        if let Entry::Occupied(mut streams) = organizations.entry(inbox.organization_id.clone()) {
            *streams.get_mut() -= 1;
            if *streams.get() == 0 {
                streams.remove();
            }
        }
    }
}

/// What a subscription received.
#[derive(Clone, Debug)]
pub enum Received {
    /// A run of events.
    Run(Arc<LiveRun>),
    /// The store's head is at this revision: what lacks of it was lost on its
    /// way, or is about to come.
    Head(Revision),
    /// Runs were dropped, since they were not taken in time.
    Lagged,
    /// The hub is closed.
    Closed,
}

/// A place in a room. Dropping it leaves the room, and the last one out ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    inbox: InboxKey,
    receiver: broadcast::Receiver<Received>,
}

impl Subscription {
    /// Waits for the next run. Cancel safe: nothing is lost.
    pub async fn receive(&mut self) -> Received {
        match self.receiver.recv().await {
            Ok(received) => received,
            Err(RecvError::Lagged(_)) => Received::Lagged,
            Err(RecvError::Closed) => Received::Closed,
        }
    }

    /// Whether the hub is closed.
    pub fn is_closed(&self) -> bool {
        self.hub.is_closed()
    }

    /// Waits until the hub is closed. Cancel safe.
    pub async fn closed(&self) {
        self.hub.closed.cancelled().await;
    }

    /// Whose room it is.
    pub fn inbox(&self) -> &InboxKey {
        &self.inbox
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.leave(&self.inbox);
    }
}

#[cfg(test)]
mod tests;
