//! What happens later: what expires, what is kept no longer, what is purged, and of what
//! organizations are told since nobody looked.
//!
//! One node at a time does it for all, by a lease in the store; a node that dies is
//! followed when its lease is over. What is due is found by its time, and by the
//! database's alone, so that a clock that is wrong here expires nothing too soon. It is
//! changed by ordinary mutations, a few inboxes at a time, behind what callers write and
//! with a rest after each: who sends hardly notices.
//!
//! A change names the head that its rows were found under, and skips what changed
//! since. So what is done twice, by two nodes that both believe to be the one, is done
//! once. What fails is left alone for a while and met again; nothing else waits for it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    config::RetentionSettings,
    follow_ups::FollowUps,
    inbox::{Error, Inboxes},
    metrics,
    model::{InboxKey, RemovalCause, Revision, View},
    random::Random,
    retractions::Retractions,
    sends::Sends,
    store::{
        self, Deletion, Edit, Mutation, Sweeping,
        sweeping::{Due, Kept},
    },
};

/// Between two looks of the node that has the lease: what is due waits for so long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two attempts of another node to get it.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(10);
/// A lease that is so old is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(3);
/// The most rows of one step, and of one change.
const AT_ONCE: usize = 32;
/// After a step it rests so many times as long as the step's changes took.
const REST: u32 = 3;
/// An inbox that could not be changed is left alone for so long.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// The most inboxes that are left alone; where more fail it is not for their sake.
const MOST_FAILED: usize = 1000;

/// What is looked for, one after the other. Each is also a label of metrics.
#[derive(Clone, Copy, Debug)]
enum Stage {
    FollowedUp,
    Expired,
    Archived,
    Old,
    Purged,
}

impl Stage {
    const ALL: [Self; 5] = [
        Self::FollowedUp,
        Self::Expired,
        Self::Archived,
        Self::Old,
        Self::Purged,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::FollowedUp => "followed_up",
            Self::Expired => "expired",
            Self::Archived => "archived",
            Self::Old => "old",
            Self::Purged => "purged",
        }
    }
}

/// Rows of an inbox that are due, and the head that they were found under.
#[derive(Default)]
struct Found {
    ids: Vec<Uuid>,
    head: Revision,
}

/// The lease as it was last had.
struct Leased {
    since: Instant,
    /// The database's time at that moment.
    now: Timestamp,
}

/// A time around.
#[derive(Default)]
struct Round {
    /// Whether it had the lease.
    is_leading: bool,
    /// Whether more may be due.
    is_more: bool,
    /// Why a part of it was not done, or all.
    failed: Option<Error>,
}

/// What falls due beside the rows of inboxes.
#[async_trait]
pub trait Duty: Send + Sync + 'static {
    /// Does a piece of what is due at the database's time; whether there may be more. One of
    /// many that fails is put off, and is no error: others wait for none. Cancel safe.
    async fn step(&self, now: Timestamp) -> Result<bool, Error>;
}

#[async_trait]
impl Duty for Sends {
    async fn step(&self, now: Timestamp) -> Result<bool, Error> {
        self.work(now).await
    }
}

#[async_trait]
impl Duty for Retractions {
    async fn step(&self, now: Timestamp) -> Result<bool, Error> {
        self.work(now).await
    }
}

#[async_trait]
impl Duty for FollowUps {
    async fn step(&self, now: Timestamp) -> Result<bool, Error> {
        self.work(now).await
    }
}

/// Does what falls due.
pub struct Sweeper {
    store: Arc<dyn Sweeping>,
    inboxes: Arc<Inboxes>,
    clock: Arc<dyn Clock>,
    settings: RetentionSettings,
    holder: Uuid,
    leased: Option<Leased>,
    /// Where a change failed, and until when that is left alone.
    failed: HashMap<InboxKey, Instant>,
    duties: Vec<Arc<dyn Duty>>,
    /// By how much the longest due of the present round is late.
    late: Duration,
    /// When nothing of a round failed last, and how late it was; none where another node has
    /// the lease.
    well: Option<(Instant, Duration)>,
}

impl Sweeper {
    /// A sweeper that asks `inboxes` for changes.
    pub fn new(
        store: Arc<dyn Sweeping>,
        inboxes: Arc<Inboxes>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        settings: RetentionSettings,
    ) -> Self {
        Self {
            store,
            inboxes,
            clock,
            settings,
            holder: random.uuid_v4(),
            leased: None,
            failed: HashMap::new(),
            duties: Vec::new(),
            late: Duration::ZERO,
            well: None,
        }
    }

    /// It does this as well.
    pub fn with(mut self, duty: Arc<dyn Duty>) -> Self {
        self.duties.push(duty);
        self
    }

    /// Looks for what is due, for ever. Cancel safe: a change that was asked for is made,
    /// the rest is found again.
    pub async fn run(mut self) {
        let RetentionSettings {
            retention,
            retention_archived,
            retention_removed,
            retention_rows,
        } = &self.settings;
        tracing::info!(
            all = %in_days(retention),
            archived = %in_days(retention_archived),
            removed = %in_days(retention_removed),
            rows = retention_rows,
            "notifications are kept for so long, and at most so many of an inbox"
        );
        let mut failures = 0;
        loop {
            let looked = self.look().await;
            failures = match looked {
                Ok(_) => 0,
                Err(_) => failures + 1,
            };
            let pause = match looked {
                Ok(true) => LOOK_EVERY,
                Ok(false) => ASK_EVERY,
                // What changed nothing now will do so later: all that is lost is time.
                Err(error) => {
                    if failures == 1 {
                        tracing::warn!(%error, "what is due has to wait");
                    }
                    // A store that is away is let alone; for less nothing else waits.
                    let times = match error.is_of_the_store() {
                        true => failures.min(30),
                        false => 1,
                    };
                    LOOK_EVERY * times
                }
            };
            sleep(pause).await;
        }
    }

    /// Does all that is due, if the lease is to be had; whether it is. An error is of a part
    /// of it: the rest was done.
    pub async fn look(&mut self) -> Result<bool, Error> {
        let mut failed: Option<Error> = None;
        loop {
            let round = self.round().await;
            self.tell(&round);
            failed = round.failed.or(failed);
            let is_away = failed.as_ref().is_some_and(Error::is_of_the_store);
            if !round.is_more || is_away {
                return match failed {
                    None => Ok(round.is_leading),
                    Some(error) => {
                        metrics::sweep_failed("look");
                        Err(error)
                    }
                };
            }
        }
    }

    /// Does a piece of all that is due, whatever of it fails.
    async fn round(&mut self) -> Round {
        let now = match self.lease().await {
            Ok(Some(now)) => now,
            Ok(None) => return Round::default(),
            Err(error) => {
                let leased = self.leased.as_ref();
                return Round {
                    is_leading: leased.is_some_and(|leased| leased.since.elapsed() < LEASE),
                    is_more: false,
                    failed: Some(error),
                };
            }
        };
        self.failed.retain(|_, until| *until > Instant::now());
        self.late = Duration::ZERO;
        self.well
            .get_or_insert_with(|| (Instant::now(), Duration::ZERO));
        let mut done = Vec::new();
        for stage in Stage::ALL {
            done.push(self.step(stage, now).await);
        }
        for duty in &self.duties {
            done.push(duty.step(now).await);
        }
        let mut round = Round {
            is_leading: true,
            ..Round::default()
        };
        for piece in done {
            match piece {
                Ok(is_more) => round.is_more |= is_more,
                Err(error) if round.failed.is_none() || error.is_of_the_store() => {
                    round.failed = Some(error);
                }
                Err(_) => {}
            }
        }
        round
    }

    /// Says how late it is: while it fails, later and later.
    fn tell(&mut self, round: &Round) {
        if round.failed.is_none() {
            self.well = round.is_leading.then(|| (Instant::now(), self.late));
        }
        let late = self.well.map(|(at, late)| late + at.elapsed());
        metrics::sweeper(round.is_leading, late.unwrap_or_default());
    }

    /// The database's time, while this is the one.
    async fn lease(&mut self) -> Result<Option<Timestamp>, Error> {
        let began = Instant::now();
        if let Some(leased) = &self.leased
            && leased.since.elapsed() < RENEW_AFTER
        {
            return Ok(Some(leased.now.after(leased.since.elapsed())));
        }
        let now = self.clock.now();
        let now = self.store.lease(self.holder, now, LEASE).await?;
        // From before it was asked for: it never lasts longer here than there.
        self.leased = now.map(|now| Leased { since: began, now });
        Ok(now)
    }

    /// Does a piece of what is due; whether there may be more.
    async fn step(&mut self, stage: Stage, now: Timestamp) -> Result<bool, Error> {
        let kept = match stage {
            Stage::FollowedUp | Stage::Expired => Duration::ZERO,
            Stage::Archived => *self.settings.retention_archived,
            Stage::Old => *self.settings.retention,
            Stage::Purged => *self.settings.retention_removed,
        };
        let until = now.before(kept);
        let but: Vec<InboxKey> = self.failed.keys().cloned().collect();
        let (found, is_more) = match stage {
            Stage::FollowedUp => self.due(Due::FollowUp, until, &but).await?,
            Stage::Expired => self.due(Due::Expiry, until, &but).await?,
            Stage::Archived => self.due(Due::Archived, until, &but).await?,
            Stage::Purged => self.due(Due::Removed, until, &but).await?,
            Stage::Old => self.old(until, now, &but).await?,
        };
        if found.is_empty() {
            return Ok(is_more);
        }
        let began = Instant::now();
        let due = found.values().map(|found| found.ids.len()).sum();
        let changes = found.into_iter().map(|(inbox, found)| {
            let mutation = mutation(stage, inbox.clone(), found, until);
            async { (inbox, self.inboxes.edit_in_bulk(mutation).await) }
        });
        let mut done = 0;
        let (mut away, mut is_held) = (None, false);
        for (inbox, edited) in join_all(changes).await {
            match edited {
                Ok(edited) => done += edited.changed,
                Err(Error::Store(error)) if error.may_be_of_a_member() => {
                    is_held |= matches!(*error, store::Error::Held(_));
                    self.note_failed(stage, inbox, &error);
                }
                Err(error) => away = Some(error),
            }
        }
        metrics::swept(stage.name(), due, done);
        if let Some(error) = away {
            return Err(error);
        }
        // Who waited for somebody else's lock has nothing to rest from.
        if !is_held {
            sleep(REST * began.elapsed()).await;
        }
        Ok(is_more && self.failed.len() < MOST_FAILED)
    }

    /// Rows whose time has come, by their inboxes.
    async fn due(
        &mut self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
    ) -> Result<(HashMap<InboxKey, Found>, bool), Error> {
        let rows = self.store.due(what, until, but, AT_ONCE).await?;
        if let Some(first) = rows.first() {
            self.late = self.late.max(until.since(first.at));
        }
        let is_more = rows.len() == AT_ONCE;
        let mut found: HashMap<InboxKey, Found> = HashMap::new();
        for row in rows {
            let found = found.entry(row.inbox).or_default();
            found.ids.push(row.id);
            found.head = row.head;
        }
        Ok((found, is_more))
    }

    /// Of inboxes that may have them, the rows that are too old or too many.
    async fn old(
        &mut self,
        until: Timestamp,
        now: Timestamp,
        but: &[InboxKey],
    ) -> Result<(HashMap<InboxKey, Found>, bool), Error> {
        let inboxes = self.store.aged(until, but, AT_ONCE).await?;
        let is_more = !inboxes.is_empty();
        let (mut found, mut room) = (HashMap::new(), AT_ONCE);
        for inbox in inboxes {
            if room == 0 {
                break;
            }
            match self.old_of(&inbox, until, now, room).await {
                Ok(Found { ids, .. }) if ids.is_empty() => {}
                Ok(of) => {
                    room -= of.ids.len();
                    found.insert(inbox, of);
                }
                Err(error) if error.may_be_of_a_member() => {
                    self.note_failed(Stage::Old, inbox, &error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((found, is_more))
    }

    /// Of one inbox; where there are none it is noted as looked at.
    async fn old_of(
        &self,
        inbox: &InboxKey,
        until: Timestamp,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Found, store::Error> {
        let oldest = self.store.oldest(inbox, Kept::Live, at_most).await?;
        let head = oldest.head;
        let old = oldest.rows.iter().filter(|row| row.created_at <= until);
        let mut ids: Vec<Uuid> = old.map(|row| row.id).collect();
        let excess = oldest
            .row_count
            .saturating_sub(self.settings.retention_rows);
        if ids.is_empty() && excess > 0 {
            let excess = usize::try_from(excess).unwrap_or(at_most).min(at_most);
            let done = self.store.oldest(inbox, Kept::Done, excess).await?.rows;
            let rows = if done.is_empty() { &oldest.rows } else { &done };
            ids = rows.iter().take(excess).map(|row| row.id).collect();
        }
        if ids.is_empty() {
            // Of no rows, the oldest is yet to come.
            let oldest_at = oldest.rows.first().map_or(now, |row| row.created_at);
            self.store
                .looked_at(inbox, oldest_at, oldest.row_count)
                .await?;
        }
        Ok(Found { ids, head })
    }

    fn note_failed(&mut self, stage: Stage, inbox: InboxKey, error: &store::Error) {
        metrics::sweep_failed(stage.name());
        tracing::warn!(
            %error,
            ?stage,
            organization_id = %inbox.organization_id,
            user_id = %inbox.user_id,
            "what is due could not be changed"
        );
        self.failed.insert(inbox, Instant::now() + TRY_AGAIN);
    }
}

/// As operators write it: months and years are not of whole days.
fn in_days(time: &humantime::Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match time.as_secs() {
        seconds if seconds % DAY == 0 => format!("{}d", seconds / DAY),
        _ => time.to_string(),
    }
}

/// The change of an inbox that a stage asks for.
fn mutation(
    stage: Stage,
    inbox: InboxKey,
    Found { ids, head }: Found,
    until: Timestamp,
) -> Mutation {
    let view = match stage {
        Stage::FollowedUp => return Mutation::FollowUp { inbox, ids, until },
        Stage::Purged => {
            let why = Deletion::Purge;
            return Mutation::Delete { inbox, ids, why };
        }
        Stage::Archived => View::Archived,
        Stage::Expired | Stage::Old => View::All,
    };
    Mutation::Edit {
        inbox,
        ids,
        edit: Edit::Remove(RemovalCause::Expired),
        view,
        through: Some(head),
    }
}

#[cfg(test)]
mod tests;
