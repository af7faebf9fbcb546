//! What was broadcast comes into an inbox when it is looked into: by a stream that is open,
//! by one that opens, and by its person's own reads.
//!
//! Who looks and lacks something asks the writer to take it, waits a moment, and reads then
//! what there is: a broadcast may be late, but nothing fails for it. Streams that are open
//! are told by a look once a second whether there are new entries at all, a few at a time
//! and behind what callers write.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{Error, Inboxes};
use crate::{
    clock::Timestamp,
    metrics,
    model::{InboxKey, NewNotification, OrganizationId, Wanted},
    store::{
        self, NotSent, Recent, RecentQuery, Snapshot, Take, TypeCounts, Untaken,
        sends::{Send, Tally},
    },
};

/// Who lacks something waits so long for it.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks whether there is something new.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The rooms of so many batches of the writer's beside callers are looked at by one read, and
/// take at a time. Then there is a rest of as long as they took.
const BATCHES: usize = 3;
/// What was sent longer ago is not heard any more.
const HEARD_FOR: Duration = Duration::from_secs(60);
/// So many answers are remembered, for as long as a look.
const MOST_REMEMBERED: usize = 64;

type Answer = Arc<OnceCell<Arc<Untaken>>>;

/// What this node knows of what was broadcast.
#[derive(Default)]
pub(super) struct Taking {
    /// What those of an organization lack who have taken all up to the first number, where
    /// there are entries up to the second. It stays true: whether an entry may still be
    /// taken is judged in the transaction.
    answers: Mutex<HashMap<(OrganizationId, u64, u64), Answer>>,
    /// How many took what, since it was noted last.
    tallies: Mutex<HashMap<(OrganizationId, Uuid), Tally>>,
}

impl Inboxes {
    /// The head of a person's own inbox, with what was broadcast. Cancel safe.
    pub async fn own_head(self: &Arc<Self>, inbox: &InboxKey) -> Result<Snapshot, Error> {
        Ok(self.taken_head(inbox).await?)
    }

    pub(super) async fn taken_head(
        self: &Arc<Self>,
        inbox: &InboxKey,
    ) -> Result<Snapshot, Arc<store::Error>> {
        let snapshot = self.heads.read(inbox).await?;
        match self.take(inbox, &snapshot).await {
            true => self.heads.read(inbox).await,
            false => Ok(snapshot),
        }
    }

    /// [`recent`](Self::recent) of a person's own inbox, with what was broadcast. Cancel
    /// safe.
    pub async fn own_recent(
        self: &Arc<Self>,
        inbox: &InboxKey,
        query: RecentQuery,
    ) -> Result<Recent, Error> {
        let page = self.recent(inbox, query.clone()).await?;
        match self.take(inbox, &page.snapshot).await {
            true => self.recent(inbox, query).await,
            false => Ok(page),
        }
    }

    /// [`count_types`](Self::count_types) of a person's own inbox, with what was broadcast.
    /// Cancel safe.
    pub async fn own_count_types(
        self: &Arc<Self>,
        inbox: &InboxKey,
        types: Vec<String>,
    ) -> Result<TypeCounts, Error> {
        let counts = self.count_types(inbox, types.clone()).await?;
        match self.take(inbox, &counts.snapshot).await {
            true => self.count_types(inbox, types).await,
            false => Ok(counts),
        }
    }

    /// Takes what `snapshot` shows that the inbox lacks, for as long as who looks into it
    /// may wait; whether it may have changed. Cancel safe: what was begun goes on, and is
    /// counted.
    async fn take(self: &Arc<Self>, inbox: &InboxKey, snapshot: &Snapshot) -> bool {
        if !snapshot.lacks() {
            return false;
        }
        let (inboxes, inbox, snapshot) = (self.clone(), inbox.clone(), snapshot.clone());
        let taking = async move {
            let taken = inboxes.take_all(&inbox, &snapshot).await;
            if let Err(error) = &taken {
                tracing::debug!(%error, "what was broadcast is taken later");
            }
            taken.is_ok()
        };
        let taken = timeout(PATIENCE, tokio::spawn(taking)).await;
        taken.map_or(true, |taken| taken.unwrap_or(false))
    }

    /// Takes piece after piece. Not cancel safe: what is queued is taken, and not counted.
    async fn take_all(&self, inbox: &InboxKey, snapshot: &Snapshot) -> Result<(), Error> {
        let mut after = snapshot.taken_through;
        while after < snapshot.announced {
            let organization = &inbox.organization_id;
            let untaken = self
                .untaken(organization, after, snapshot.announced)
                .await?;
            let now = self.clock.now();
            let sends = untaken.sends.iter();
            let take = Take {
                inbox: inbox.clone(),
                after,
                through: untaken.through,
                sends: sends
                    .map(|(send, wanted)| self.of_broadcast(send, inbox, *wanted, now))
                    .collect(),
                retracted: untaken.retracted.clone(),
            };
            let taken = self.writer.take(take).await?;
            self.tally(&untaken, &taken);
            // Where another node came first, it may not have come as far.
            if taken.through <= after {
                break;
            }
            after = taken.through;
        }
        Ok(())
    }

    fn of_broadcast(
        &self,
        send: &Send,
        inbox: &InboxKey,
        wanted: Wanted,
        now: Timestamp,
    ) -> NewNotification {
        let new = send.notification(inbox.clone(), self.new_id(), wanted);
        let began = send.started_at.unwrap_or(send.accepted_at);
        NewNotification {
            is_silent: new.is_silent || now.since(began) > HEARD_FOR,
            ..new
        }
    }

    /// Reads once what many lack at once.
    async fn untaken(
        &self,
        organization: &OrganizationId,
        after: u64,
        announced: u64,
    ) -> Result<Arc<Untaken>, store::Error> {
        let answer = {
            let mut answers = self.taking.answers.lock();
            if answers.len() >= MOST_REMEMBERED {
                answers.clear();
            }
            let key = (organization.clone(), after, announced);
            answers.entry(key).or_default().clone()
        };
        let read = async || {
            let untaken = self.store.untaken(organization, after, announced).await?;
            Ok(Arc::new(untaken))
        };
        answer.get_or_try_init(read).await.cloned()
    }

    fn tally(&self, untaken: &Untaken, taken: &store::Taken) {
        let mut tallies = self.taking.tallies.lock();
        for ((send, _), sent) in untaken.sends.iter().zip(&taken.sent) {
            let key = (send.organization_id.clone(), send.id);
            match sent {
                Ok(false) => tallies.entry(key).or_default().delivered += 1,
                Err(NotSent::Muted(_) | NotSent::Expired(_)) => {
                    tallies.entry(key).or_default().suppressed += 1;
                }
                _ => {}
            }
        }
    }

    /// Notes how many took what. What cannot be noted is noted with the next ones.
    pub(super) async fn note_taken(&self) {
        let tallies = mem::take(&mut *self.taking.tallies.lock());
        for ((organization, id), tally) in tallies {
            metrics::send_delivered(tally.delivered, tally.suppressed, 0);
            if let Err(error) = self.store.note_taken(&organization, id, tally).await {
                tracing::debug!(%error, send_id = %id, "who took a broadcast is counted later");
                let mut tallies = self.taking.tallies.lock();
                let later = tallies.entry((organization, id)).or_default();
                later.delivered += tally.delivered;
                later.suppressed += tally.suppressed;
            }
        }
    }

    /// Lets the rooms take what was broadcast after `seen`; up to where that is done. Where
    /// one could not, the others do all the same.
    async fn look_for_rooms(&self, seen: Option<u64>) -> Result<u64, Error> {
        let (organizations, last) = self.store.announced(seen).await?;
        let organizations: HashSet<_> = organizations.into_iter().collect();
        if organizations.is_empty() {
            return Ok(last);
        }
        let is_for_all = organizations.contains(&OrganizationId::all());
        let rooms = self
            .bus
            .hub()
            .inboxes(|inbox| is_for_all || organizations.contains(&inbox.organization_id));
        let at_a_time = self.writer.rows_beside_callers() * BATCHES;
        let mut failed = None;
        for rooms in rooms.chunks(at_a_time) {
            let began = Instant::now();
            let snapshots = self.store.heads(rooms).await?;
            let mut taking = Vec::new();
            for (inbox, snapshot) in rooms.iter().zip(&snapshots) {
                if snapshot.lacks() {
                    taking.push(self.take_all(inbox, snapshot));
                }
            }
            let is_any = !taking.is_empty();
            let taken = join_all(taking).await.into_iter();
            failed = failed.or(taken.filter_map(Result::err).last());
            if is_any {
                sleep(began.elapsed()).await;
            }
        }
        failed.map_or(Ok(last), Err)
    }
}

/// Looks for what is new, until the inboxes are no more.
pub(super) async fn run(inboxes: Weak<Inboxes>) {
    // Who joins a room looks for itself: so what there is at the start is no news.
    let mut seen = None;
    loop {
        sleep(LOOK_EVERY).await;
        let Some(inboxes) = inboxes.upgrade() else {
            return;
        };
        inboxes.taking.answers.lock().clear();
        match inboxes.look_for_rooms(seen).await {
            Ok(last) => seen = Some(last),
            Err(error) => tracing::debug!(%error, "what was broadcast is looked for again"),
        }
        inboxes.note_taken().await;
    }
}
