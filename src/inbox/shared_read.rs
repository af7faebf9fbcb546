//! Heals of one room share a read.
//!
//! When a room's streams fall behind together (a burst, a lost event) they ask
//! for the same page at the same moment; the first asks the store, the others
//! wait for its answer. A shared page may have been read before the last of them
//! asked: see [`SharedReads::changes`].

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::readers::Readers;
use crate::{
    model::InboxKey,
    store::{self, Changes, Cursor, PageLimit, Store},
};

type Key = (InboxKey, Cursor);
type Read = Arc<OnceCell<Result<Arc<Changes>, Arc<store::Error>>>>;

/// The reads that are under way.
pub(super) struct SharedReads {
    store: Arc<dyn Store>,
    readers: Readers,
    /// A std mutex, held for a look-up and never across an await.
    reads: Mutex<HashMap<Key, Read>>,
}

impl SharedReads {
    pub(super) fn new(store: Arc<dyn Store>, readers: Readers) -> Self {
        Self {
            store,
            readers,
            reads: Mutex::default(),
        }
    }

    /// [`Store::changes`], or the answer of a read of the same page that is
    /// under way: it may be older than this call by the time of one read, so a
    /// caller that knows of a later revision looks again.
    ///
    /// Cancel safe: where the caller that reads goes away, one that waits for it
    /// reads in its place.
    pub(super) async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Arc<Changes>, Arc<store::Error>> {
        let key = (inbox.clone(), cursor);
        let read = self.reads.lock().entry(key.clone()).or_default().clone();
        let caller = Caller {
            shared: self,
            key,
            read,
        };
        let page = async || {
            let _place = self.readers.place(inbox).await;
            let page = self.store.changes(inbox, cursor, limit).await;
            page.map(Arc::new).map_err(Arc::new)
        };
        caller.read.get_or_init(page).await.clone()
    }
}

/// Who waits for a read. The first one that ends, with its answer or without,
/// takes it away: who comes later reads anew.
struct Caller<'a> {
    shared: &'a SharedReads,
    key: Key,
    read: Read,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        // By identity: it may have been taken away, and be another's by now.
        if let Entry::Occupied(entry) = self.shared.reads.lock().entry(self.key.clone())
            && Arc::ptr_eq(entry.get(), &self.read)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::{model::Revision, store::memory::Memory};

    #[tokio::test(start_paused = true)]
    async fn who_asks_together_shares_a_read_and_who_asks_later_reads_anew() {
        const SLOW: Duration = Duration::from_millis(100);
        let store = Arc::new(Memory::new());
        store.set_slow(SLOW);
        let shared = Arc::new(SharedReads::new(store.clone(), Readers::default()));
        let ask = || {
            let shared = shared.clone();
            tokio::spawn(async move {
                let inbox = InboxKey::parse("acme", "ann").unwrap();
                let limit = PageLimit { rows: 1, bytes: 1 };
                let cursor = Cursor::after(Revision::ZERO);
                shared.changes(&inbox, cursor, limit).await.unwrap();
            })
        };
        let together = [ask(), ask(), ask()];
        for caller in together {
            caller.await.unwrap();
        }
        assert_eq!(store.reads(), 1);
        assert!(shared.reads.lock().is_empty());

        // The one that reads goes away, and the one that waits reads in its place.
        let (goes, stays) = (ask(), ask());
        sleep(SLOW / 2).await;
        goes.abort();
        goes.await.unwrap_err();
        // By now it is no read to wait for.
        sleep(SLOW / 4).await;
        let later = ask();
        stays.await.unwrap();
        assert_eq!(store.reads(), 4);
        // Its end does not take away the read of another.
        let last = ask();
        for caller in [later, last] {
            caller.await.unwrap();
        }
        assert_eq!(store.reads(), 4);
        assert!(shared.reads.lock().is_empty());
    }
}
