//! A store in memory, for tests of what stands above a store, in paused time: it
//! is slow or away when it is told.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    About, Changes, Committed, Cursor, Error, Mutation, PageLimit, Recent, RecentQuery, Selected,
    Snapshot, Store, Tally, TypeCounts, Untaken, Verb, Which,
    plan::{self, Before, Fingerprint, RowWrite, StoredHead},
    selection::Walk,
    sweeping::{Due, DueRow, Kept, OldRow, Oldest, Sweeping},
};
use crate::{
    clock::Timestamp,
    model::{Content, Epoch, InboxKey, Notification, OrganizationId, Revision, UserId, View},
};

#[derive(Default)]
struct Inbox {
    stored: StoredHead,
    oldest_at: Timestamp,
    /// By their sequences.
    rows: BTreeMap<Revision, Row>,
}

struct Row {
    notification: Notification,
    keyed: Option<(String, Fingerprint)>,
}

/// The store.
pub(crate) struct Memory {
    inboxes: Mutex<HashMap<InboxKey, Inbox>>,
    epoch: Mutex<Epoch>,
    is_away: AtomicBool,
    slowness: Mutex<Duration>,
    reads: AtomicUsize,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            inboxes: Mutex::default(),
            epoch: Mutex::new(Epoch::new("the first")),
            is_away: AtomicBool::new(false),
            slowness: Mutex::default(),
            reads: AtomicUsize::new(0),
        }
    }

    /// From now on nothing is answered, or everything.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// From now on a read takes so long.
    pub(crate) fn set_slow(&self, slowness: Duration) {
        *self.slowness.lock().unwrap() = slowness;
    }

    async fn read(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let slowness = *self.slowness.lock().unwrap();
        tokio::time::sleep(slowness).await;
    }

    /// How many reads there were, those that failed too.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn inboxes(&self) -> Result<MutexGuard<'_, HashMap<InboxKey, Inbox>>, Error> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("it is away".into()));
        }
        Ok(self.inboxes.lock().unwrap())
    }

    fn snapshot(&self, inbox: Option<&Inbox>) -> Snapshot {
        Snapshot {
            epoch: self.epoch.lock().unwrap().clone(),
            head: inbox.map(|inbox| inbox.stored.head).unwrap_or_default(),
            floor: inbox.map(|inbox| inbox.stored.floor).unwrap_or_default(),
            taken_through: 0,
            announced: 0,
        }
    }
}

/// The rows of a page, and the first that did not fit.
fn page<'a>(
    mut rows: impl Iterator<Item = &'a Notification>,
    limit: PageLimit,
) -> (Vec<Notification>, Option<&'a Notification>) {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for row in rows.by_ref() {
        bytes += row.content.len_bytes();
        if taken.len() == limit.rows || (bytes > limit.bytes && !taken.is_empty()) {
            return (taken, Some(row));
        }
        taken.push(row.clone());
    }
    (taken, None)
}

fn is_about(notification: &Notification, about: &About) -> bool {
    let Content {
        entity_type,
        entity_id,
        ..
    } = &*notification.content;
    entity_type.as_ref() == Some(&about.entity_type) && entity_id.as_ref() == Some(&about.entity_id)
}

fn changed_after(inbox: Option<&Inbox>, cursor: Cursor) -> Vec<&Notification> {
    let rows = inbox.into_iter().flat_map(|inbox| inbox.rows.values());
    let at = |row: &Notification| (row.row.revision, row.row.sequence);
    let mut changed: Vec<_> = rows
        .map(|row| &row.notification)
        .filter(|row| at(row) > (cursor.revision, cursor.sequence))
        .collect();
    changed.sort_by_key(|row| at(row));
    changed
}

/// The time by which a row is due, if it is to be.
fn due_at(notification: &Notification, what: Due) -> Option<Timestamp> {
    let state = notification.row.state;
    match what {
        Due::Removed => state.removed.map(|(at, _)| at),
        _ if state.removed.is_some() => None,
        Due::Archived => state.archived_at,
        Due::Expiry => notification.expire_time,
        Due::FollowUp => state.follow_up.map(|due| due.at),
    }
}

#[async_trait]
impl Sweeping for Memory {
    async fn lease(
        &self,
        _: Uuid,
        now: Timestamp,
        _: Duration,
    ) -> Result<Option<Timestamp>, Error> {
        self.inboxes().map(|_| Some(now))
    }

    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error> {
        let inboxes = self.inboxes()?;
        let mut due = Vec::new();
        for (key, inbox) in inboxes.iter().filter(|(key, _)| !but.contains(key)) {
            for Row { notification, .. } in inbox.rows.values() {
                let at = due_at(notification, what).filter(|at| *at <= until);
                due.extend(at.map(|at| DueRow {
                    inbox: key.clone(),
                    id: notification.row.id,
                    at,
                    head: inbox.stored.head.revision,
                }));
            }
        }
        due.sort_by_key(|row| row.at);
        due.truncate(at_most);
        Ok(due)
    }

    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let inboxes = self.inboxes()?;
        let is_aged = |inbox: &Inbox| inbox.oldest_at <= until;
        let aged = inboxes
            .iter()
            .filter(|(key, inbox)| is_aged(inbox) && !but.contains(key));
        let keys = aged.map(|(key, _)| key);
        Ok(keys.take(at_most).cloned().collect())
    }

    async fn oldest(&self, key: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error> {
        let inboxes = self.inboxes()?;
        let Some(inbox) = inboxes.get(key) else {
            return Ok(Oldest::default());
        };
        let is_meant = |row: &&Notification| {
            let state = row.row.state;
            match which {
                Kept::All => true,
                Kept::Live => state.removed.is_none(),
                Kept::Done => View::All.has(state) && !state.is_unread(),
            }
        };
        let rows = inbox.rows.values().map(|row| &row.notification);
        let rows = rows.filter(is_meant).take(at_most);
        Ok(Oldest {
            head: inbox.stored.head.revision,
            row_count: inbox.stored.row_count,
            last_created_at: inbox.stored.last_created_at,
            rows: rows
                .map(|row| OldRow {
                    id: row.row.id,
                    sequence: row.row.sequence,
                    created_at: row.created_at,
                })
                .collect(),
        })
    }

    async fn looked_at(&self, key: &InboxKey, oldest_at: Timestamp, _: u32) -> Result<(), Error> {
        let mut inboxes = self.inboxes()?;
        inboxes
            .get_mut(key)
            .into_iter()
            .for_each(|inbox| inbox.oldest_at = oldest_at);
        Ok(())
    }

    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let inboxes = self.inboxes()?;
        let with_rows = inboxes.iter().filter(|(_, inbox)| !inbox.rows.is_empty());
        let keys = with_rows.map(|(key, _)| key.clone());
        let mut keys: Vec<_> = keys
            .filter(|key| key.organization_id == *organization)
            .collect();
        keys.sort();
        keys.retain(|key| after.is_none_or(|after| key.user_id > *after));
        keys.truncate(at_most);
        Ok(keys)
    }
}

#[async_trait]
impl Store for Memory {
    async fn commit(&self, batch: &[Mutation], now: Timestamp) -> Result<Committed, Error> {
        let mut inboxes = self.inboxes()?;
        let mut before = Before::default();
        for key in plan::inboxes(batch) {
            let Some(inbox) = inboxes.get(key) else {
                continue;
            };
            before.heads.insert(key.clone(), inbox.stored);
            for row in inbox.rows.values() {
                before.add_whole(key.clone(), row.notification.clone());
                if let Some((idempotency_key, fingerprint)) = row.keyed.clone() {
                    let first = (row.notification.row.id, fingerprint);
                    let keyed = before.keyed.entry(key.clone()).or_default();
                    keyed.insert(idempotency_key, first);
                }
            }
        }
        for (key, through) in plan::seen(batch) {
            let rows = inboxes
                .get(key)
                .into_iter()
                .flat_map(|inbox| inbox.rows.values());
            let unseen = rows.filter(|row| row.notification.row.is_unseen(through));
            let unseen = u32::try_from(unseen.count()).unwrap_or(u32::MAX);
            before.unread_above.insert((key.clone(), through), unseen);
        }
        let plan = plan::plan(batch, before, now);
        for ((key, sequence), write) in plan.rows {
            let rows = &mut inboxes.entry(key).or_default().rows;
            match write {
                RowWrite::Insert {
                    notification,
                    keyed,
                } => {
                    let row = Row {
                        notification,
                        keyed,
                    };
                    rows.insert(sequence, row);
                }
                RowWrite::Delete { .. } => drop(rows.remove(&sequence)),
                RowWrite::Update { row, content, .. } => {
                    if let Some(held) = rows.get_mut(&sequence) {
                        let notification = &mut held.notification;
                        notification.row = row;
                        notification.content =
                            content.unwrap_or_else(|| notification.content.clone());
                    }
                }
            }
        }
        for (key, stored) in plan.heads {
            let inbox = inboxes.entry(key).or_default();
            if stored.row_count / 1000 > inbox.stored.row_count / 1000 {
                inbox.oldest_at = Timestamp::default();
            }
            inbox.stored = stored;
        }
        Ok(plan.committed)
    }

    async fn heads(&self, keys: &[InboxKey]) -> Result<Vec<Snapshot>, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        Ok(keys
            .iter()
            .map(|key| self.snapshot(inboxes.get(key)))
            .collect())
    }

    async fn changes(
        &self,
        key: &InboxKey,
        cursor: Cursor,
        limit: PageLimit,
    ) -> Result<Changes, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        let inbox = inboxes.get(key);
        let (rows, next) = page(changed_after(inbox, cursor).into_iter(), limit);
        Ok(Changes {
            snapshot: self.snapshot(inbox),
            rows,
            next: next.map(|next| next.row.revision),
        })
    }

    async fn count_changes(
        &self,
        key: &InboxKey,
        position: Revision,
        at_most: usize,
    ) -> Result<usize, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        let changed = changed_after(inboxes.get(key), Cursor::after(position));
        Ok(changed.len().min(at_most))
    }

    async fn recent(&self, key: &InboxKey, query: RecentQuery) -> Result<Recent, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        let inbox = inboxes.get(key);
        let rows = inbox
            .into_iter()
            .flat_map(|inbox| inbox.rows.values().rev());
        let rows = rows.map(|row| &row.notification).filter(|row| {
            query.view.has(row.row.state)
                && (query.types.is_empty() || query.types.contains(&row.content.kind))
                && query
                    .about
                    .as_ref()
                    .is_none_or(|about| is_about(row, about))
                && query.since.is_none_or(|since| row.created_at > since)
                && query.before.is_none_or(|before| row.row.sequence < before)
                && (row.row.state.read_at.is_none() || !query.unread_only)
        });
        let (rows, next) = page(rows, query.limit);
        Ok(Recent {
            snapshot: self.snapshot(inbox),
            next: next.and(rows.last()).map(|row| row.row.sequence),
            rows,
        })
    }

    async fn count_types(&self, key: &InboxKey, types: &[String]) -> Result<TypeCounts, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        let inbox = inboxes.get(key);
        let mut unread = HashMap::new();
        for Row { notification, .. } in inbox.into_iter().flat_map(|inbox| inbox.rows.values()) {
            let kind = &notification.content.kind;
            if notification.row.state.is_unread() && types.contains(kind) {
                *unread.entry(kind.clone()).or_default() += 1;
            }
        }
        Ok(TypeCounts {
            snapshot: self.snapshot(inbox),
            unread,
        })
    }

    async fn select(
        &self,
        key: &InboxKey,
        verb: &Verb,
        after: Revision,
    ) -> Result<Selected, Error> {
        self.read().await;
        let inboxes = self.inboxes()?;
        let inbox = inboxes.get(key);
        let mut walk = Walk::new(verb);
        let rows = inbox.into_iter().flat_map(|inbox| inbox.rows.values());
        for Row {
            notification,
            keyed,
        } in rows
        {
            let Notification { row, content, .. } = notification;
            let is_candidate = match &verb.which {
                Which::Ids(ids) => ids.contains(&row.id),
                Which::About(about) => is_about(notification, about),
                Which::Key(key) => keyed.as_ref().is_some_and(|(of, _)| of == key),
                Which::Collapse(key) => notification.collapse_key.as_deref() == Some(key.as_str()),
                Which::Through { .. } => true,
            };
            let bytes = content.len_bytes();
            if is_candidate
                && row.sequence > after
                && walk.look(row, &content.kind, bytes).is_break()
            {
                break;
            }
        }
        Ok(walk.selected(self.snapshot(inbox)))
    }

    async fn untaken(&self, _: &OrganizationId, _: u64, _: u64) -> Result<Untaken, Error> {
        Ok(Untaken::default())
    }

    async fn announced(&self, _: Option<u64>) -> Result<(Vec<OrganizationId>, u64), Error> {
        Ok((Vec::new(), 0))
    }

    async fn note_taken(&self, _: &OrganizationId, _: Uuid, _: Tally) -> Result<(), Error> {
        Ok(())
    }

    async fn database_id(&self) -> Result<Uuid, Error> {
        Ok(Uuid::nil())
    }

    async fn renew_epoch(&self, epoch: &Epoch) -> Result<(), Error> {
        *self.epoch.lock().unwrap() = epoch.clone();
        Ok(())
    }

    async fn check(&self, _: bool) -> Result<(), Error> {
        self.inboxes().map(drop)
    }

    async fn close(&self) {}
}
