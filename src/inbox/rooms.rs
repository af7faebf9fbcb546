//! The room check: rooms are held against the store.
//!
//! Between nodes an event can be lost, and a node can fail to say that something
//! happened. So each node asks the store for the heads of its rooms, all of them
//! once per heartbeat interval, spread over it; and those that are in doubt at
//! once. A lost event is late, never lost.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    hub::{Doubt, Hub},
    metrics,
    model::InboxKey,
    sabotage::{self, Sabotage},
    store::Store,
};

/// The most heads of one statement.
const BATCH: usize = 1000;
/// Between two rounds of what is in doubt: what comes meanwhile is one round.
const PAUSE: Duration = Duration::from_millis(100);
/// A store that failed is asked again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Checks for ever.
pub(super) async fn check(store: Arc<dyn Store>, hub: Arc<Hub>, interval: Duration) {
    if sabotage::is(Sabotage::NoRoomCheck) {
        return;
    }
    let doubted = check_doubted(&*store, &hub);
    if store.is_shared() {
        tokio::join!(doubted, check_all(&*store, &hub, interval));
    } else {
        doubted.await;
    }
}

async fn check_doubted(store: &dyn Store, hub: &Hub) {
    loop {
        let doubted = hub.next_doubted().await;
        for batch in doubted.chunks(BATCH) {
            while !check_batch(store, hub, batch).await {
                sleep(RETRY).await;
            }
        }
        sleep(PAUSE).await;
    }
}

async fn check_all(store: &dyn Store, hub: &Hub, interval: Duration) {
    loop {
        let inboxes = hub.inboxes();
        let batches = inboxes.chunks(BATCH);
        let pause = interval / u32::try_from(batches.len().max(1)).unwrap_or(u32::MAX);
        if inboxes.is_empty() {
            sleep(pause).await;
        }
        for batch in batches {
            sleep(pause).await;
            if !check_batch(store, hub, batch).await {
                for inbox in batch {
                    hub.doubt(Doubt::Inbox(inbox.clone()));
                }
            }
        }
    }
}

/// Tells the rooms whose last revision is behind their head; `false` where the
/// store does not answer.
async fn check_batch(store: &dyn Store, hub: &Hub, inboxes: &[InboxKey]) -> bool {
    let heads = match store.heads(inboxes).await {
        Ok(heads) => heads,
        Err(error) => {
            tracing::warn!(%error, rooms = inboxes.len(), "rooms could not be checked");
            return false;
        }
    };
    let behind = inboxes
        .iter()
        .zip(heads)
        .filter(|(inbox, snapshot)| hub.committed(inbox, snapshot.head.revision))
        .count();
    metrics::rooms_checked(inboxes.len(), behind);
    true
}
