//! What a batch of mutations does, decided without I/O.
//!
//! An engine loads what [`Before`] names inside its transaction, asks [`plan`],
//! and writes what [`Plan`] says: final images of rows and heads, each once,
//! however often the batch touches them. So revisions, counts, idempotency and
//! events mean the same on every engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{Committed, Edit, Edited, Mismatch, Mutation, Outcome, Sent};
use crate::{
    clock::Timestamp,
    model::{
        Change, Head, InboxEvent, InboxKey, NewNotification, Notification, Revision, Row, RowState,
    },
};

/// A SHA-256 of a content.
pub(super) type Fingerprint = [u8; 32];

/// A row that was sent with an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) notification: Notification,
    pub(super) fingerprint: Fingerprint,
}

/// A head with what only the store needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub(super) head: Head,
    /// `created_at` of the newest row ever made.
    pub(super) last_created_at: Timestamp,
}

/// What there was before the batch, as far as the batch touches it.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The heads of its inboxes; an inbox that never changed has none.
    pub(super) heads: HashMap<InboxKey, StoredHead>,
    /// The rows of its idempotency keys.
    pub(super) keyed: HashMap<InboxKey, HashMap<String, Keyed>>,
    /// The rows of its ids.
    pub(super) rows: HashMap<InboxKey, HashMap<Uuid, Row>>,
    /// How many rows are unread above a sequence that somebody has seen.
    pub(super) unread_above: HashMap<(InboxKey, Revision), u32>,
}

/// How to write a row.
#[derive(Clone, Debug)]
pub(super) enum RowWrite {
    /// It is new.
    Insert {
        notification: Notification,
        keyed: Option<(String, Fingerprint)>,
    },
    /// Its state is another one; its content stays.
    Update { row: Row, was_unread: bool },
}

impl RowWrite {
    pub(super) fn row(&self) -> &Row {
        match self {
            Self::Insert { notification, .. } => &notification.row,
            Self::Update { row, .. } => row,
        }
    }

    /// What the batch adds with it to the number of unread rows.
    fn more_unread(&self) -> i64 {
        let was_unread = matches!(
            self,
            Self::Update {
                was_unread: true,
                ..
            }
        );
        i64::from(self.row().state.is_unread()) - i64::from(was_unread)
    }
}

/// What to write, and what to answer once it is committed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The final images of the rows that change, by their places.
    pub(super) rows: BTreeMap<(InboxKey, Revision), RowWrite>,
    /// The heads that change, in the order of their keys.
    pub(super) heads: BTreeMap<InboxKey, StoredHead>,
    pub(super) committed: Committed,
}

/// A new row: its inbox, what it is, and its key.
pub(super) type Made<'p> = (
    &'p InboxKey,
    &'p Notification,
    &'p Option<(String, Fingerprint)>,
);
/// A row whose state is written, and its inbox.
pub(super) type Changed<'p> = (&'p InboxKey, &'p Row);

impl Plan {
    /// The rows that are made, and the states that are not those of a new row. What is
    /// in both is to be made first.
    pub(super) fn split(&self) -> (Vec<Made<'_>>, Vec<Changed<'_>>) {
        let (mut made, mut changed) = (Vec::new(), Vec::new());
        for ((inbox, _), write) in &self.rows {
            if let RowWrite::Insert {
                notification,
                keyed,
            } = write
            {
                made.push((inbox, notification, keyed));
                if notification.row.state == RowState::default() {
                    continue;
                }
            }
            changed.push((inbox, write.row()));
        }
        (made, changed)
    }
}

/// The inboxes of a batch, in the order in which their heads are locked.
pub(super) fn inboxes(batch: &[Mutation]) -> BTreeSet<&InboxKey> {
    batch.iter().map(Mutation::inbox).collect()
}

/// The idempotency keys of its sends.
pub(super) fn keys(batch: &[Mutation]) -> Vec<(&InboxKey, &str)> {
    batch
        .iter()
        .filter_map(|mutation| match mutation {
            Mutation::Send(new) => Some((&new.inbox, new.idempotency_key.as_deref()?)),
            _ => None,
        })
        .collect()
}

/// The ids that it edits.
pub(super) fn ids(batch: &[Mutation]) -> Vec<(&InboxKey, Uuid)> {
    batch
        .iter()
        .filter_map(|mutation| match mutation {
            Mutation::Edit { inbox, ids, .. } => Some((inbox, ids)),
            _ => None,
        })
        .flat_map(|(inbox, ids)| ids.iter().map(move |id| (inbox, *id)))
        .collect()
}

/// The sequences up to which it sees.
pub(super) fn seen(batch: &[Mutation]) -> Vec<(&InboxKey, Revision)> {
    batch
        .iter()
        .filter_map(|mutation| match mutation {
            Mutation::Seen { inbox, through } => Some((inbox, *through)),
            _ => None,
        })
        .collect()
}

/// Applies `batch` in its order.
pub(super) fn plan(batch: &[Mutation], before: Before, now: Timestamp) -> Plan {
    let mut planner = Planner {
        before,
        now,
        plan: Plan::default(),
        runs: HashMap::new(),
    };
    for mutation in batch {
        let outcome = match mutation {
            Mutation::Send(new) => Outcome::Sent(planner.send(new)),
            Mutation::Edit {
                inbox,
                ids,
                edit,
                through,
            } => Outcome::Edited(planner.edit(inbox, ids, *edit, *through)),
            Mutation::Seen { inbox, through } => Outcome::Edited(planner.seen(inbox, *through)),
        };
        planner.plan.committed.outcomes.push(outcome);
    }
    planner.plan
}

/// What `edit` makes of a row; `None` where it changes nothing.
fn edited(edit: Edit, state: RowState, now: Timestamp) -> Option<RowState> {
    match edit {
        Edit::Read if state.is_unread() => Some(RowState {
            read_at: Some(now),
            ..state
        }),
        Edit::Read => None,
    }
}

/// Whether `edit` changes a row of this state.
pub(super) fn is_changed(edit: Edit, state: RowState) -> bool {
    edited(edit, state, Timestamp::default()).is_some()
}

struct Planner {
    /// Heads and rows are kept up to date as the batch goes on.
    before: Before,
    now: Timestamp,
    plan: Plan,
    /// Where an inbox's run stands in the plan.
    runs: HashMap<InboxKey, usize>,
}

impl Planner {
    fn head(&self, inbox: &InboxKey) -> StoredHead {
        self.before.heads.get(inbox).copied().unwrap_or_default()
    }

    fn send(&mut self, new: &NewNotification) -> Result<Sent, Mismatch> {
        let mut stored = self.head(&new.inbox);
        let keyed = new
            .idempotency_key
            .as_ref()
            .map(|key| (key, new.content.fingerprint()));
        if let Some((key, fingerprint)) = keyed
            && let Some(first) = self
                .before
                .keyed
                .get(&new.inbox)
                .and_then(|keys| keys.get(key))
        {
            if first.fingerprint != fingerprint {
                return Err(Mismatch);
            }
            return Ok(Sent {
                notification: first.notification.clone(),
                duplicate: true,
                head: stored.head,
            });
        }

        let head = &mut stored.head;
        head.revision = head.revision.next();
        head.unread_count = head.unread_count.saturating_add(1);
        // Its sequence is above all that was seen.
        head.unseen_count = head.unseen_count.saturating_add(1);
        stored.last_created_at = self.now.max(Timestamp::from_micros(
            stored.last_created_at.as_micros() + 1,
        ));
        let row = Row {
            id: new.id,
            sequence: stored.head.revision,
            revision: stored.head.revision,
            ring_revision: stored.head.revision,
            state: RowState::default(),
        };
        let notification = Notification {
            row,
            content: new.content.clone(),
            sender: new.sender.clone(),
            created_at: stored.last_created_at,
        };
        if let Some((key, fingerprint)) = keyed {
            let keyed = Keyed {
                notification: notification.clone(),
                fingerprint,
            };
            let keys = self.before.keyed.entry(new.inbox.clone()).or_default();
            keys.insert(key.clone(), keyed);
        }
        let rows = self.before.rows.entry(new.inbox.clone()).or_default();
        rows.insert(new.id, row);
        self.plan.rows.insert(
            (new.inbox.clone(), row.sequence),
            RowWrite::Insert {
                notification: notification.clone(),
                keyed: keyed.map(|(key, fingerprint)| (key.clone(), fingerprint)),
            },
        );
        let change = Change::Notification(notification.clone());
        self.change(&new.inbox, stored, change);
        Ok(Sent {
            notification,
            duplicate: false,
            head: stored.head,
        })
    }

    fn edit(
        &mut self,
        inbox: &InboxKey,
        ids: &[Uuid],
        edit: Edit,
        through: Option<Revision>,
    ) -> Edited {
        let mut stored = self.head(inbox);
        let revision = stored.head.revision.next();
        // Never before its creation, however the clock jumps.
        let now = self.now.max(stored.last_created_at);
        let mut changed = Vec::new();
        for id in ids {
            // An id that is repeated finds its row changed already.
            let rows = self.before.rows.get(inbox);
            let Some(before) = rows.and_then(|rows| rows.get(id)).copied() else {
                continue;
            };
            let is_later = through.is_some_and(|through| before.revision > through);
            let state = edited(edit, before.state, now).filter(|_| !is_later);
            let Some(state) = state else { continue };
            let after = Row {
                revision,
                state,
                ..before
            };
            count(&mut stored.head, &before, &after);
            self.write(inbox, &before, after);
            changed.push(after);
        }
        if !changed.is_empty() {
            changed.sort_unstable_by_key(|row| row.sequence);
            stored.head.revision = revision;
            self.change(inbox, stored, Change::Changed(changed.clone()));
        }
        Edited {
            changed: u32::try_from(changed.len()).unwrap_or(u32::MAX),
            head: stored.head,
        }
    }

    /// Sets the final image of a row that was there or is made by this batch.
    fn write(&mut self, inbox: &InboxKey, before: &Row, row: Row) {
        let rows = self.before.rows.entry(inbox.clone()).or_default();
        rows.insert(row.id, row);
        // A later member that repeats a send answers with the row as it is now.
        let keyed = self.before.keyed.get_mut(inbox).into_iter();
        for keyed in keyed.flat_map(HashMap::values_mut) {
            if keyed.notification.row.id == row.id {
                keyed.notification.row = row;
            }
        }
        let place = (inbox.clone(), row.sequence);
        let write = self.plan.rows.entry(place).or_insert(RowWrite::Update {
            row,
            was_unread: before.state.is_unread(),
        });
        match write {
            RowWrite::Insert { notification, .. } => notification.row = row,
            RowWrite::Update { row: image, .. } => *image = row,
        }
    }

    fn seen(&mut self, inbox: &InboxKey, through: Revision) -> Edited {
        let mut stored = self.head(inbox);
        let key = (inbox.clone(), through);
        // What is yet to come cannot have been seen.
        let through = through.min(stored.head.revision);
        let is_higher = through > stored.head.seen_through;
        if is_higher {
            let unread = self.before.unread_above.get(&key).copied().unwrap_or(0);
            // What the batch did before it is not in that count.
            let unread = i64::from(unread) + self.more_unread_above(inbox, through);
            stored.head.unseen_count = u32::try_from(unread).unwrap_or(0);
            stored.head.seen_through = through;
            stored.head.revision = stored.head.revision.next();
            self.change(inbox, stored, Change::Seen);
        }
        Edited {
            changed: u32::from(is_higher),
            head: stored.head,
        }
    }

    fn more_unread_above(&self, inbox: &InboxKey, sequence: Revision) -> i64 {
        let from = (inbox.clone(), sequence.next());
        let until = (inbox.clone(), Revision::new(u64::MAX));
        let rows = self.plan.rows.range(from..=until);
        rows.map(|(_, write)| write.more_unread()).sum()
    }

    fn change(&mut self, inbox: &InboxKey, stored: StoredHead, change: Change) {
        self.before.heads.insert(inbox.clone(), stored);
        self.plan.heads.insert(inbox.clone(), stored);
        let head = stored.head;
        let event = InboxEvent { head, change };
        let runs = &mut self.plan.committed.runs;
        match self.runs.get(inbox) {
            Some(&run) => runs[run].1.push(event),
            None => {
                self.runs.insert(inbox.clone(), runs.len());
                runs.push((inbox.clone(), vec![event]));
            }
        }
    }
}

/// Counts a row that turned from `before` to `after`.
fn count(head: &mut Head, before: &Row, after: &Row) {
    let turned = |count: u32, was: bool, is: bool| match (was, is) {
        (true, false) => count.saturating_sub(1),
        (false, true) => count.saturating_add(1),
        _ => count,
    };
    let unread = (before.state.is_unread(), after.state.is_unread());
    head.unread_count = turned(head.unread_count, unread.0, unread.1);
    let seen = head.seen_through;
    let unseen = (before.is_unseen(seen), after.is_unseen(seen));
    head.unseen_count = turned(head.unseen_count, unseen.0, unseen.1);
}

#[cfg(test)]
mod tests;
