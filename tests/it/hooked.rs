//! A store that a test can look into: its hook is told of each call before it and after.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use doorbell::{
    clock::Timestamp,
    model::{Epoch, InboxKey, Notification, OrganizationId, Revision, UserId},
    store::{
        Changes, Committed, Cursor, Error, Lookup, Mutation, Named, PageLimit, Recent, RecentQuery,
        Selected, Snapshot, Store, Sweeping, TypeCounts, Verb,
        sweeping::{Due, DueRow, Kept, Oldest},
    },
};
use uuid::Uuid;

/// A call that hooks are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Commit,
    Heads,
    Changes,
    CountChanges,
    Recent,
    CountTypes,
    Select,
    Due,
    Oldest,
}

/// What a test does at the calls of a store: nothing, unless it says so.
#[async_trait]
pub trait Hook: Send + Sync + 'static {
    async fn before(&self, _: Call) {}

    /// Whatever came of it; the caller has no answer yet.
    async fn after(&self, _: Call) {}

    /// A batch was committed.
    fn committed(&self, _: &[Mutation], _: &Committed) {}
}

pub struct Hooked<S: ?Sized, H> {
    inner: Arc<S>,
    pub hook: H,
}

impl<S: ?Sized, H: Hook> Hooked<S, H> {
    pub fn new(inner: Arc<S>, hook: H) -> Arc<Self> {
        Arc::new(Self { inner, hook })
    }

    async fn tell<T>(&self, call: Call, answer: impl Future<Output = T>) -> T {
        self.hook.before(call).await;
        let answer = answer.await;
        self.hook.after(call).await;
        answer
    }
}

#[async_trait]
impl<S: Store + ?Sized, H: Hook> Store for Hooked<S, H> {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        let commit = async {
            let committed = self.inner.commit(batch, now).await?;
            self.hook.committed(batch, &committed);
            Ok(committed)
        };
        self.tell(Call::Commit, commit).await
    }

    async fn heads(&self, inboxes: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        self.tell(Call::Heads, self.inner.heads(inboxes)).await
    }

    async fn changes(
        &self,
        inbox: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        let page = self.inner.changes(inbox, cursor, limit);
        self.tell(Call::Changes, page).await
    }

    async fn count_changes(
        &self,
        inbox: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        let count = self.inner.count_changes(inbox, position, at_most);
        self.tell(Call::CountChanges, count).await
    }

    async fn recent(&self, inbox: &InboxKey, query: RecentQuery) -> Result<Recent, Error> {
        self.tell(Call::Recent, self.inner.recent(inbox, query))
            .await
    }

    async fn count_types(&self, inbox: &InboxKey, types: &[String]) -> Result<TypeCounts, Error> {
        self.tell(Call::CountTypes, self.inner.count_types(inbox, types))
            .await
    }

    async fn select(
        &self,
        inbox: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error> {
        self.tell(Call::Select, self.inner.select(inbox, verb, after))
            .await
    }

    fn lanes(&self) -> usize {
        self.inner.lanes()
    }

    async fn database_id(&self) -> Result<Uuid, Error> {
        self.inner.database_id().await
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        self.inner.renew_epoch(epoch).await
    }

    async fn check(&self, by_writing: bool) -> Result<(), Error> {
        self.inner.check(by_writing).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl<S: Lookup + ?Sized, H: Hook> Lookup for Hooked<S, H> {
    async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error> {
        self.inner.find(inbox, of).await
    }
}

#[async_trait]
impl<S: Sweeping + ?Sized, H: Hook> Sweeping for Hooked<S, H> {
    async fn lease(
        &self,
        holder: Uuid,
        now: Timestamp,
        within: Duration,
    ) -> Result<Option<Timestamp>, Error> {
        self.inner.lease(holder, now, within).await
    }

    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error> {
        let due = self.inner.due(what, until, but, at_most);
        self.tell(Call::Due, due).await
    }

    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        self.inner.aged(until, but, at_most).await
    }

    async fn oldest(&self, inbox: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error> {
        let oldest = self.inner.oldest(inbox, which, at_most);
        self.tell(Call::Oldest, oldest).await
    }

    async fn looked_at(
        &self,
        inbox: &InboxKey,
        oldest_at: Timestamp,
        row_count: u32,
    ) -> Result<(), Error> {
        self.inner.looked_at(inbox, oldest_at, row_count).await
    }

    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        self.inner.inboxes(organization, after, at_most).await
    }
}
