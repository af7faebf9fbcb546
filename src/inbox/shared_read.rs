//! Heals of one room share a read.
//!
//! When a room's streams fall behind together (a burst, a lost event) they ask
//! for the same page at the same moment; the first asks the store, the others
//! wait for its answer. A shared page may have been read before the last of them
//! asked: see [`SharedReads::changes`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

use crate::{
    model::InboxKey,
    store::{self, Changes, Cursor, PageLimit, Store},
};

type ReadFuture = BoxFuture<'static, Result<Arc<Changes>, Arc<store::Error>>>;
/// Weak: a read lives as long as a caller waits for it, and gives its connection
/// back when the last one goes away.
type Reads = Mutex<HashMap<(InboxKey, Cursor), WeakShared<ReadFuture>>>;

/// The reads that are under way.
pub(super) struct SharedReads {
    store: Arc<dyn Store>,
    /// A std mutex, held for a look-up and never across an await.
    reads: Arc<Reads>,
}

impl SharedReads {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            reads: Arc::default(),
        }
    }

    /// [`Store::changes`], or the answer of a read of the same page that is
    /// under way: it may be older than this call by the time of one read, so a
    /// caller that knows of a later revision looks again.
    ///
    /// Cancel safe: the read goes on while another caller waits for it.
    pub(super) async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Arc<Changes>, Arc<store::Error>> {
        let key = (inbox.clone(), cursor);
        let read = {
            let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
            match reads.get(&key).and_then(WeakShared::upgrade) {
                Some(read) => read,
                None => {
                    let read = self.start(key.clone(), limit);
                    reads.extend(read.downgrade().map(|read| (key, read)));
                    read
                }
            }
        };
        read.await
    }

    fn start(&self, key: (InboxKey, Cursor), limit: PageLimit) -> Shared<ReadFuture> {
        let (store, reads) = (self.store.clone(), self.reads.clone());
        // Removed when it ends, and also when all its callers went away.
        let entry = Entry { reads, key };
        async move {
            let (inbox, cursor) = &entry.key;
            let page = store.changes(inbox, *cursor, limit).await;
            page.map(Arc::new).map_err(Arc::new)
        }
        .boxed()
        .shared()
    }
}

struct Entry {
    reads: Arc<Reads>,
    key: (InboxKey, Cursor),
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
