//! A store that a test can look into: its hook is told of each call before it and after.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use doorbell::{
    clock::Timestamp,
    model::{Epoch, InboxKey, Notification, OrganizationId, Revision, TopicId, UserId},
    store::{
        Broadcasts, Changes, Committed, Cursor, Error, FollowUps, Lookup, Mutation, Named,
        PageLimit, Preferences, Recent, RecentQuery, Retractions, Selected, Sends, Snapshot, Store,
        Sweeping, Topics, TypeCounts, Untaken, Verb,
        follow_ups::{After, FollowUp},
        preferences::{Chosen, TypeDefault, TypeDefaults},
        retractions::{self, Found, NewRetraction, Retraction},
        sends::{Accepted, NewSend, NotAccepted, Send, SendState, Step, Tally},
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
    Due(Due),
    Oldest,
    Recipients,
    RowsAbout,
    Advance,
    Untaken,
    FollowUps,
}

/// What a test does at the calls of a store: nothing, unless it says so.
#[async_trait]
pub trait Hook: std::marker::Send + Sync + 'static {
    async fn before(&self, _: Call) {}

    /// Whatever came of it; the caller has no answer yet.
    async fn after(&self, _: Call) {}

    /// Why a batch is not to be committed.
    fn refused(&self, _: &[Mutation]) -> Option<Error> {
        None
    }

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
            if let Some(error) = self.hook.refused(batch) {
                return Err(error);
            }
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

    async fn untaken(
        &self,
        organization: &OrganizationId,
        after: u64,
        announced: u64,
    ) -> Result<Untaken, Error> {
        let untaken = self.inner.untaken(organization, after, announced);
        self.tell(Call::Untaken, untaken).await
    }

    async fn announced(&self, after: Option<u64>) -> Result<(Vec<OrganizationId>, u64), Error> {
        self.inner.announced(after).await
    }

    async fn note_taken(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        tally: Tally,
    ) -> Result<(), Error> {
        self.inner.note_taken(organization, id, tally).await
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
        self.tell(Call::Due(what), due).await
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

#[async_trait]
impl<S: Sends + ?Sized, H: Hook> Sends for Hooked<S, H> {
    async fn accept(
        &self,
        new: &NewSend,
        now: Timestamp,
    ) -> Result<Result<Accepted, NotAccepted>, Error> {
        self.inner.accept(new, now).await
    }

    async fn send(&self, organization: &OrganizationId, of: &Named) -> Result<Option<Send>, Error> {
        self.inner.send(organization, of).await
    }

    async fn sends(
        &self,
        organization: &OrganizationId,
        state: Option<SendState>,
        before: Option<Uuid>,
        at_most: usize,
    ) -> Result<Vec<Send>, Error> {
        let sends = self.inner.sends(organization, state, before, at_most);
        sends.await
    }

    async fn cancel(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error> {
        self.inner.cancel(organization, id, now).await
    }

    async fn due_sends(&self, now: Timestamp, at_most: usize) -> Result<Vec<Send>, Error> {
        self.inner.due_sends(now, at_most).await
    }

    async fn begin(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error> {
        self.inner.begin(send, now).await
    }

    async fn recipients(&self, send: &Send, at_most: usize) -> Result<Vec<UserId>, Error> {
        let users = self.inner.recipients(send, at_most);
        self.tell(Call::Recipients, users).await
    }

    async fn advance(&self, send: &Send, step: &Step, next: Timestamp) -> Result<(), Error> {
        let advance = self.inner.advance(send, step, next);
        self.tell(Call::Advance, advance).await
    }

    async fn postpone(&self, send: &Send, next: Timestamp) -> Result<(), Error> {
        self.inner.postpone(send, next).await
    }

    async fn forget_sends(&self, until: Timestamp, at_most: usize) -> Result<usize, Error> {
        self.inner.forget_sends(until, at_most).await
    }

    async fn forget_recipient(&self, inbox: &InboxKey) -> Result<(), Error> {
        self.inner.forget_recipient(inbox).await
    }

    async fn delete_sends(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.delete_sends(organization, at_most).await
    }
}

#[async_trait]
impl<S: Broadcasts + ?Sized, H: Hook> Broadcasts for Hooked<S, H> {
    async fn publish(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error> {
        self.inner.publish(send, now).await
    }

    async fn retract_broadcast(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error> {
        self.inner.retract_broadcast(organization, id, now).await
    }

    async fn forget_retractions(&self, until: Timestamp) -> Result<(), Error> {
        self.inner.forget_retractions(until).await
    }
}

#[async_trait]
impl<S: Topics + ?Sized, H: Hook> Topics for Hooked<S, H> {
    async fn add_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        self.inner.add_members(organization, topic, users).await
    }

    async fn remove_members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        users: &[UserId],
    ) -> Result<usize, Error> {
        self.inner.remove_members(organization, topic, users).await
    }

    async fn members(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<UserId>, Error> {
        let members = self.inner.members(organization, topic, after, at_most);
        members.await
    }

    async fn topics_of(
        &self,
        inbox: &InboxKey,
        after: Option<&TopicId>,
        at_most: usize,
    ) -> Result<Vec<TopicId>, Error> {
        self.inner.topics_of(inbox, after, at_most).await
    }

    async fn empty_topic(
        &self,
        organization: &OrganizationId,
        topic: &TopicId,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.empty_topic(organization, topic, at_most).await
    }

    async fn forget_member(&self, inbox: &InboxKey) -> Result<(), Error> {
        self.inner.forget_member(inbox).await
    }

    async fn forget_members(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.forget_members(organization, at_most).await
    }
}

#[async_trait]
impl<S: Preferences + ?Sized, H: Hook> Preferences for Hooked<S, H> {
    async fn chosen(&self, inbox: &InboxKey) -> Result<Chosen, Error> {
        self.inner.chosen(inbox).await
    }

    async fn choose(
        &self,
        inbox: &InboxKey,
        of: &[(String, Option<bool>)],
    ) -> Result<Chosen, Error> {
        self.inner.choose(inbox, of).await
    }

    async fn type_defaults(&self, organization: &OrganizationId) -> Result<TypeDefaults, Error> {
        self.inner.type_defaults(organization).await
    }

    async fn set_type_defaults(
        &self,
        organization: &OrganizationId,
        of: &[(String, Option<TypeDefault>)],
    ) -> Result<TypeDefaults, Error> {
        self.inner.set_type_defaults(organization, of).await
    }

    async fn forget_preferences(&self, inbox: &InboxKey) -> Result<(), Error> {
        self.inner.forget_preferences(inbox).await
    }

    async fn delete_preferences(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.delete_preferences(organization, at_most).await
    }
}

#[async_trait]
impl<S: FollowUps + ?Sized, H: Hook> FollowUps for Hooked<S, H> {
    async fn follow_ups(
        &self,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
    ) -> Result<(Epoch, Vec<FollowUp>), Error> {
        let told = self.inner.follow_ups(organization, after, at_most);
        self.tell(Call::FollowUps, told).await
    }

    async fn followed_up_at(
        &self,
        inbox: &InboxKey,
        sequence: Revision,
    ) -> Result<Option<Timestamp>, Error> {
        self.inner.followed_up_at(inbox, sequence).await
    }

    async fn forget_follow_ups(&self, until: Timestamp, at_most: usize) -> Result<usize, Error> {
        self.inner.forget_follow_ups(until, at_most).await
    }
}

#[async_trait]
impl<S: Retractions + ?Sized, H: Hook> Retractions for Hooked<S, H> {
    async fn accept_retraction(
        &self,
        new: &NewRetraction,
        now: Timestamp,
    ) -> Result<(Retraction, bool), Error> {
        self.inner.accept_retraction(new, now).await
    }

    async fn retraction(
        &self,
        organization: &OrganizationId,
        of: &Named,
    ) -> Result<Option<Retraction>, Error> {
        self.inner.retraction(organization, of).await
    }

    async fn broadcasts_about(&self, of: &Retraction) -> Result<Vec<Uuid>, Error> {
        self.inner.broadcasts_about(of).await
    }

    async fn due_retractions(
        &self,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Retraction>, Error> {
        self.inner.due_retractions(now, at_most).await
    }

    async fn rows_about(&self, of: &Retraction, at_most: usize) -> Result<Vec<Found>, Error> {
        let rows = self.inner.rows_about(of, at_most);
        self.tell(Call::RowsAbout, rows).await
    }

    async fn advance_retraction(
        &self,
        of: &Retraction,
        step: &retractions::Step,
        next: Timestamp,
    ) -> Result<(), Error> {
        self.inner.advance_retraction(of, step, next).await
    }

    async fn forget_ended_retractions(
        &self,
        until: Timestamp,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.forget_ended_retractions(until, at_most).await
    }

    async fn delete_retractions(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.inner.delete_retractions(organization, at_most).await
    }
}
