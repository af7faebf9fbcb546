//! Reads of pages: few of one user at a time.
//!
//! A page holds one of the store's few connections. So one user has two of them at
//! most, and who wants a third waits in the queue of that user, not before others.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::InboxKey;

/// The most reads of one user at a time.
const AT_ONCE: usize = 2;

/// The users who read or wait to. A std mutex, held for a look-up and never across an
/// await.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<InboxKey, Arc<Semaphore>>>>);

impl Readers {
    /// A place to read an inbox, in the order in which they were asked for. Cancel safe.
    pub(super) async fn place(&self, inbox: &InboxKey) -> Place {
        let user = self.0.lock().get(inbox).cloned();
        let user = user.unwrap_or_else(|| {
            let new = || Arc::new(Semaphore::new(AT_ONCE));
            self.0
                .lock()
                .entry(inbox.clone())
                .or_insert_with(new)
                .clone()
        });
        let mut place = Place {
            permit: None,
            readers: self.clone(),
            inbox: inbox.clone(),
        };
        // Nobody closes it.
        place.permit = user.acquire_owned().await.ok();
        place
    }
}

/// One read of a user. Dropped, the next may begin.
pub(super) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    readers: Readers,
    inbox: InboxKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.readers.0.lock();
        // What waits has it as well.
        self.permit = None;
        if users
            .get(&self.inbox)
            .is_some_and(|user| Arc::strong_count(user) == 1)
        {
            users.remove(&self.inbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_third_read_waits_for_its_own_user_only() {
        let readers = Readers::default();
        let [ann, bob] = ["ann", "bob"].map(|user| InboxKey::parse("acme", user).unwrap());
        let first = readers.place(&ann).await;
        let second = readers.place(&ann).await;
        let mut third = Box::pin(readers.place(&ann));
        assert!(third.as_mut().now_or_never().is_none());
        let gone = readers.place(&ann).now_or_never();
        assert!(gone.is_none());
        let other = readers.place(&bob).now_or_never().unwrap();
        drop(first);
        let third = third.now_or_never().unwrap();
        drop((second, third, other));
        assert!(
            readers.0.lock().is_empty(),
            "who reads no more is forgotten"
        );
    }
}
