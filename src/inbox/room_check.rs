//! The room check: rooms of which events may have been lost are held against the
//! store, and told what they lack.
//!
//! It is for losses that somebody knows of: the bus came back, a commit stayed in
//! doubt, a message could not be read. One that nobody knows of shows by itself:
//! the next revision leaves a gap, and a silent stream reads its head at its
//! heartbeat. A lost event is late, never lost.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    hub::Hub,
    metrics,
    model::InboxKey,
    sabotage::{self, Sabotage},
    store::Store,
};

/// The most heads of one statement.
const BATCH: usize = 1000;
/// Between two rounds: what is suspected meanwhile is one round.
const PAUSE: Duration = Duration::from_millis(100);
/// A store that failed is asked again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Checks for ever.
pub(super) async fn run(store: Arc<dyn Store>, hub: Arc<Hub>) {
    if sabotage::is(Sabotage::NoRoomCheck) {
        return;
    }
    loop {
        let suspects = hub.next_suspects().await;
        for batch in suspects.chunks(BATCH) {
            while !check(&*store, &hub, batch).await {
                sleep(RETRY).await;
            }
        }
        sleep(PAUSE).await;
    }
}

/// Tells the rooms whose last revision is behind their head; `false` where the
/// store does not answer.
async fn check(store: &dyn Store, hub: &Hub, inboxes: &[InboxKey]) -> bool {
    let heads = match store.heads(inboxes).await {
        Ok(heads) => heads,
        Err(error) => {
            tracing::warn!(%error, rooms = inboxes.len(), "rooms could not be checked");
            return false;
        }
    };
    for (inbox, snapshot) in inboxes.iter().zip(heads) {
        hub.committed(inbox, snapshot.head.revision);
    }
    metrics::rooms_checked(inboxes.len());
    true
}
