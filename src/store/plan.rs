//! What a batch of mutations does, decided without I/O.
//!
//! An engine loads what [`Before`] names inside its transaction, asks [`plan`],
//! and writes what [`Plan`] says: final images of rows and heads, each once,
//! however often the batch touches them. So revisions, counts, idempotency and
//! events mean the same on every engine.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    Committed, Correction, Deletion, Edit, Edited, Mutation, Named, NotSent, NotUpdated, Outcome,
    Sent, Take, Taken, Updated,
};
use crate::{
    clock::Timestamp,
    model::{
        Change, Content, Head, Image, InboxEvent, InboxKey, NewNotification, Notification,
        OrganizationId, PendingFollowUp, RemovalCause, Revision, Row, RowState, Unless, View,
        Wanted,
    },
    sabotage::{self, Sabotage},
};

/// A SHA-256 of a content.
pub(super) type Fingerprint = [u8; 32];

/// A head with what only the store needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StoredHead {
    pub(super) head: Head,
    /// `created_at` of the newest row ever made.
    pub(super) last_created_at: Timestamp,
    /// How many rows there are that are not removed.
    pub(super) row_count: u32,
    /// The highest last-change revision that was deleted.
    pub(super) floor: Revision,
    /// Up to which entry it has taken what was broadcast.
    pub(super) taken_through: u64,
}

/// What is known of a row that the batch may touch.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// All of it, where the batch needs all.
    pub(super) image: Image,
    /// What it collapses by, and how many it took the place of.
    pub(super) collapse: Option<(Arc<str>, u32)>,
}

impl Known {
    fn whole(notification: Notification) -> Self {
        let key = notification.collapse_key.clone();
        Self {
            collapse: key.map(|key| (key, notification.collapsed_count)),
            image: Image::Whole(Box::new(notification)),
        }
    }
}

/// What there was before the batch, as far as the batch touches it.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// The heads of its inboxes; an inbox that never changed has none.
    pub(super) heads: HashMap<InboxKey, StoredHead>,
    /// The rows of its idempotency keys, each with the fingerprint of what was sent.
    pub(super) keyed: HashMap<InboxKey, HashMap<String, (Uuid, Fingerprint)>>,
    /// The rows of its ids and of its keys, and those that its sends may collapse.
    pub(super) rows: HashMap<InboxKey, HashMap<Uuid, Known>>,
    /// How many rows are unread above a sequence that somebody has seen.
    pub(super) unread_above: HashMap<(InboxKey, Revision), u32>,
    /// What the people of its sends said of their types.
    pub(super) chosen: HashMap<InboxKey, HashMap<String, bool>>,
    /// Those of its sends that are under way, and stay so until the batch is committed.
    pub(super) under_way: HashSet<(OrganizationId, Uuid)>,
}

impl Before {
    /// Notes a row. What is whole stays whole.
    pub(super) fn add(&mut self, inbox: InboxKey, known: Known) {
        let rows = self.rows.entry(inbox).or_default();
        let held = rows.entry(known.image.row().id);
        held.and_modify(|held| {
            if matches!(held.image, Image::State(_)) {
                *held = known.clone();
            }
        })
        .or_insert(known);
    }

    /// Notes a row with all of it.
    pub(super) fn add_whole(&mut self, inbox: InboxKey, notification: Notification) {
        self.add(inbox, Known::whole(notification));
    }
}

/// How to write a row.
#[derive(Clone, Debug)]
pub(super) enum RowWrite {
    /// It is new.
    Insert {
        notification: Notification,
        keyed: Option<(String, Fingerprint)>,
    },
    /// It is another one.
    Update {
        row: Row,
        /// Where that is another one, too.
        content: Option<Arc<Content>>,
        was_unread: bool,
    },
    /// It is no more.
    Delete { was_unread: bool },
}

impl RowWrite {
    /// Whether it was unread before the batch, and is after it.
    fn unread(&self) -> (bool, bool) {
        match self {
            Self::Insert { notification, .. } => (false, notification.row.state.is_unread()),
            Self::Update {
                row, was_unread, ..
            } => (*was_unread, row.state.is_unread()),
            Self::Delete { was_unread } => (*was_unread, false),
        }
    }

    /// What the batch adds with it to the number of unread rows.
    fn more_unread(&self) -> i64 {
        let (was_unread, is_unread) = self.unread();
        i64::from(is_unread) - i64::from(was_unread)
    }
}

/// What to write, and what to answer once it is committed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The final images of the rows that change, by their places.
    pub(super) rows: BTreeMap<(InboxKey, Revision), RowWrite>,
    /// The heads that change, in the order of their keys.
    pub(super) heads: BTreeMap<InboxKey, StoredHead>,
    /// What falls due and is told, in its order.
    pub(super) follow_ups: Vec<DueFollowUp>,
    /// When it was made, by the clock of this node.
    pub(super) now: Timestamp,
    pub(super) committed: Committed,
}

/// A notification of which its organization is told.
#[derive(Debug)]
pub(super) struct DueFollowUp {
    pub(super) inbox: InboxKey,
    pub(super) sequence: Revision,
    pub(super) was: PendingFollowUp,
}

/// A new row: its inbox, what it is, and its key.
pub(super) type Made<'p> = (
    &'p InboxKey,
    &'p Notification,
    &'p Option<(String, Fingerprint)>,
);
/// A row whose state is written, and its inbox.
pub(super) type Changed<'p> = (&'p InboxKey, &'p Row);
/// A row whose state and content are written, and its inbox.
pub(super) type Rewritten<'p> = (&'p InboxKey, &'p Row, &'p Content);

/// The writes of a plan by their kinds, in the order in which they are to be made: what is
/// changed may be new, and what is new may have the key of what is deleted.
#[derive(Default)]
pub(super) struct Writes<'p> {
    /// The places of rows that are no more.
    pub(super) deleted: Vec<(&'p InboxKey, Revision)>,
    pub(super) made: Vec<Made<'p>>,
    /// The states that are not those of a new row.
    pub(super) changed: Vec<Changed<'p>>,
    pub(super) rewritten: Vec<Rewritten<'p>>,
}

impl Plan {
    pub(super) fn writes(&self) -> Writes<'_> {
        let mut writes = Writes::default();
        for ((inbox, sequence), write) in &self.rows {
            match write {
                RowWrite::Delete { .. } => writes.deleted.push((inbox, *sequence)),
                RowWrite::Insert {
                    notification,
                    keyed,
                } => {
                    writes.made.push((inbox, notification, keyed));
                    if notification.row.state != RowState::default() {
                        writes.changed.push((inbox, &notification.row));
                    }
                }
                RowWrite::Update { row, content, .. } => match content {
                    Some(content) => writes.rewritten.push((inbox, row, content)),
                    None => writes.changed.push((inbox, row)),
                },
            }
        }
        writes
    }
}

/// The inboxes of a batch, in the order in which their heads are locked.
pub(super) fn inboxes(batch: &[Mutation]) -> BTreeSet<&InboxKey> {
    batch.iter().map(Mutation::inbox).collect()
}

/// The inboxes that it may make heads for: one without a head has nothing to mark.
pub(super) fn makes_head(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Send(_) | Mutation::Take(_))
}

/// The idempotency keys that it names.
pub(super) fn keys(batch: &[Mutation]) -> Vec<(&InboxKey, &str)> {
    let sent = sends(batch).filter_map(|new| Some((&new.inbox, new.idempotency_key.as_deref()?)));
    let mut keys: Vec<_> = sent.collect();
    for mutation in batch {
        match mutation {
            Mutation::Update(Correction {
                inbox,
                of: Named::Key(key),
                ..
            }) => keys.push((inbox, key.as_str())),
            Mutation::Take(Take {
                inbox, retracted, ..
            }) => keys.extend(retracted.iter().map(|key| (inbox, key.as_str()))),
            _ => {}
        }
    }
    keys
}

/// The keys by which its sends collapse.
pub(super) fn collapse_keys<'b>(batch: &'b [Mutation]) -> Vec<(&'b InboxKey, &'b str)> {
    let key = |mutation: &'b Mutation| match mutation {
        Mutation::Send(new) => Some((&new.inbox, new.collapse_key.as_deref()?)),
        _ => None,
    };
    let keys: BTreeSet<_> = batch.iter().filter_map(key).collect();
    keys.into_iter().collect()
}

/// The ids that it names: of rows that it needs without their contents, and of those
/// that it needs whole.
pub(super) fn ids(batch: &[Mutation]) -> [Vec<(&InboxKey, Uuid)>; 2] {
    let mut ids = [Vec::new(), Vec::new()];
    for mutation in batch {
        match mutation {
            Mutation::Edit {
                inbox,
                ids: edited,
                edit,
                ..
            } => ids[usize::from(edit.tells_all())].extend(edited.iter().map(|id| (inbox, *id))),
            Mutation::Delete {
                inbox, ids: named, ..
            }
            | Mutation::FollowUp {
                inbox, ids: named, ..
            } => ids[0].extend(named.iter().map(|id| (inbox, *id))),
            Mutation::Update(Correction {
                inbox,
                of: Named::Id(id),
                ..
            }) => ids[1].push((inbox, *id)),
            _ => {}
        }
    }
    ids
}

/// What it sends.
pub(super) fn sends(batch: &[Mutation]) -> impl Iterator<Item = &NewNotification> {
    batch.iter().flat_map(|mutation| match mutation {
        Mutation::Send(new) => std::slice::from_ref(new),
        Mutation::Take(take) => &take.sends,
        _ => &[],
    })
}

/// The types of its sends of which their people have a say.
pub(super) fn choices(batch: &[Mutation]) -> BTreeSet<(&InboxKey, &str)> {
    let of = sends(batch).filter(|new| new.wanted != Wanted::Required);
    of.map(|new| (&new.inbox, new.content.kind.as_str()))
        .collect()
}

/// The sends that its rows are of, in the order in which they are locked.
pub(super) fn parts(batch: &[Mutation]) -> BTreeSet<(&OrganizationId, Uuid)> {
    sends(batch)
        .filter_map(|new| new.part_of.as_ref())
        .map(|of| (&of.organization_id, of.send_id))
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
        plan: Plan {
            now,
            ..Plan::default()
        },
        runs: HashMap::new(),
    };
    for mutation in batch {
        let outcome = match mutation {
            Mutation::Send(new) => Outcome::Sent(planner.send(new)),
            Mutation::Update(correction) => Outcome::Updated(planner.update(correction)),
            Mutation::Edit {
                inbox,
                ids,
                edit,
                view,
                through,
            } => Outcome::Edited(planner.edit(inbox, ids, *edit, *view, *through)),
            Mutation::Delete { inbox, ids, why } => {
                Outcome::Edited(planner.delete(inbox, ids, *why))
            }
            Mutation::Seen { inbox, through } => Outcome::Edited(planner.seen(inbox, *through)),
            Mutation::FollowUp { inbox, ids, until } => {
                Outcome::Edited(planner.follow_up(inbox, ids, *until))
            }
            Mutation::Take(take) => Outcome::Taken(planner.take(take)),
        };
        planner.plan.committed.outcomes.push(outcome);
    }
    planner.plan
}

/// What `edit` makes of a row; `None` where it changes nothing.
fn edited(edit: Edit, state: RowState, now: Timestamp) -> Option<RowState> {
    let RowState {
        read_at,
        archived_at,
        removed,
        follow_up,
    } = state;
    let is_in_inbox = View::Inbox.has(state);
    let needless = follow_up.filter(|_| sabotage::is(Sabotage::FollowUpRead));
    match edit {
        Edit::Read => state.is_unread().then_some(RowState {
            read_at: Some(now),
            follow_up: needless,
            ..state
        }),
        Edit::Unread => (is_in_inbox && read_at.is_some()).then_some(RowState {
            read_at: None,
            ..state
        }),
        Edit::Archive => is_in_inbox.then_some(RowState {
            archived_at: Some(now),
            follow_up: needless,
            ..state
        }),
        Edit::Unarchive => (archived_at.is_some() && removed.is_none()).then_some(RowState {
            archived_at: None,
            ..state
        }),
        Edit::Remove(cause) => removed.is_none().then_some(RowState {
            removed: Some((now, cause)),
            follow_up: None,
            ..state
        }),
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

    fn row(&self, inbox: &InboxKey, id: Uuid) -> Option<&Known> {
        self.before.rows.get(inbox)?.get(&id)
    }

    fn whole(&self, inbox: &InboxKey, id: Uuid) -> Option<&Notification> {
        match &self.row(inbox, id)?.image {
            Image::Whole(notification) => Some(notification),
            Image::State(_) => None,
        }
    }

    fn keyed(&self, inbox: &InboxKey, key: &str) -> Option<(Uuid, Fingerprint)> {
        self.before.keyed.get(inbox)?.get(key).copied()
    }

    fn is_under_way(&self, organization: &OrganizationId, send_id: Uuid) -> bool {
        let part = (organization.clone(), send_id);
        self.before.under_way.contains(&part) || sabotage::is(Sabotage::DeliverCancelled)
    }

    fn send(&mut self, new: &NewNotification) -> Result<Sent, NotSent> {
        let inbox = &new.inbox;
        let mut stored = self.head(inbox);
        let keyed = new
            .idempotency_key
            .as_ref()
            .map(|key| (key, new.content.fingerprint()));
        if let Some((key, fingerprint)) = keyed
            && let Some((id, first)) = self.keyed(inbox, key)
            && let Some(notification) = self.whole(inbox, id)
        {
            if first != fingerprint {
                return Err(NotSent::Mismatch);
            }
            return Ok(Sent {
                notification: notification.clone(),
                duplicate: true,
                head: stored.head,
            });
        }
        if let Some(of) = &new.part_of
            && !self.is_under_way(&of.organization_id, of.send_id)
        {
            return Err(NotSent::Cancelled);
        }
        if new.is_expired(self.now) {
            return Err(NotSent::Expired(stored.head));
        }
        let chosen = self.before.chosen.get(inbox);
        let chosen = chosen.and_then(|chosen| chosen.get(&new.content.kind));
        if new.wanted.is_muted(chosen.copied()) && !sabotage::is(Sabotage::RingMuted) {
            return Err(NotSent::Muted(stored.head));
        }

        let revision = stored.head.revision.next();
        stored.head.revision = revision;
        stored.last_created_at = self.now.max(Timestamp::from_micros(
            stored.last_created_at.as_micros() + 1,
        ));
        let replaced = new.collapse_key.as_ref();
        let replaced = replaced.and_then(|key| self.collapsible(inbox, key));
        let row = Row {
            id: new.id,
            sequence: revision,
            revision,
            ring_revision: if new.is_silent {
                Revision::ZERO
            } else {
                revision
            },
            state: RowState {
                follow_up: new.follow_up.map(|follow_up| PendingFollowUp {
                    at: self.now.after(follow_up.after),
                    unless: follow_up.unless,
                }),
                ..RowState::default()
            },
        };
        let notification = Notification {
            row,
            content: new.content.clone(),
            sender: new.sender.clone(),
            created_at: stored.last_created_at,
            sent_at: new.sent_at(self.now),
            expire_time: new.expire_time,
            collapse_key: new.collapse_key.clone(),
            collapsed_count: replaced.map_or(0, |(_, count)| count.saturating_add(1)),
        };
        stored.count(None, Some(&row));
        let mut change = Change::Notification(notification.clone());
        if let Some((before, _)) = replaced {
            let cause = RemovalCause::Replaced;
            let state = RowState {
                removed: Some((stored.last_created_at, cause)),
                follow_up: None,
                ..before.state
            };
            let after = Row {
                revision,
                state,
                ..before
            };
            if !sabotage::is(Sabotage::CountReplaced) {
                stored.count(Some(&before), Some(&after));
            }
            self.write(inbox, &before, after, None);
            change = Change::Changed(vec![
                Image::State(after),
                Image::Whole(Box::new(notification.clone())),
            ]);
        }
        if let Some((key, fingerprint)) = keyed {
            let keys = self.before.keyed.entry(inbox.clone()).or_default();
            keys.insert(key.clone(), (new.id, fingerprint));
        }
        self.before.add_whole(inbox.clone(), notification.clone());
        self.plan.rows.insert(
            (inbox.clone(), row.sequence),
            RowWrite::Insert {
                notification: notification.clone(),
                keyed: keyed.map(|(key, fingerprint)| (key.clone(), fingerprint)),
            },
        );
        self.change(inbox, stored, change);
        Ok(Sent {
            notification,
            duplicate: false,
            head: stored.head,
        })
    }

    /// The newest unread row that collapses by `key`, and how many it took the place of.
    fn collapsible(&self, inbox: &InboxKey, key: &str) -> Option<(Row, u32)> {
        let rows = self.before.rows.get(inbox)?.values();
        let collapsible = rows.filter_map(|known| {
            let (of, count) = known.collapse.as_ref()?;
            let row = known.image.row();
            (&**of == key && row.state.is_unread()).then_some((*row, *count))
        });
        collapsible.max_by_key(|(row, _)| row.sequence)
    }

    fn update(&mut self, correction: &Correction) -> Result<Updated, NotUpdated> {
        let Correction {
            inbox,
            of,
            content,
            fields,
            ring,
        } = correction;
        let id = match of {
            Named::Id(id) => Some(*id),
            Named::Key(key) => self.keyed(inbox, key).map(|(id, _)| id),
        };
        let whole = id.and_then(|id| self.whole(inbox, id));
        let before = whole.ok_or(NotUpdated::NotFound)?.clone();
        if before.row.state.removed.is_some() {
            return Err(NotUpdated::Removed);
        }
        let content = before.content.with(fields, content);
        let mut stored = self.head(inbox);
        let changed = content != *before.content;
        let mut notification = before;
        if changed {
            let before = notification.row;
            stored.head.revision = stored.head.revision.next();
            let row = &mut notification.row;
            row.revision = stored.head.revision;
            // What is read, or in no list, is not to be heard; and so it is in a heal.
            if *ring && row.state.is_unread() {
                row.ring_revision = row.revision;
            }
            notification.content = Arc::new(content);
            let content = notification.content.clone();
            self.write(inbox, &before, notification.row, Some(content));
            let change = Change::Notification(notification.clone());
            self.change(inbox, stored, change);
        }
        Ok(Updated {
            notification,
            changed,
            head: stored.head,
        })
    }

    fn edit(
        &mut self,
        inbox: &InboxKey,
        ids: &[Uuid],
        edit: Edit,
        view: View,
        through: Option<Revision>,
    ) -> Edited {
        let mut stored = self.head(inbox);
        let revision = stored.head.revision.next();
        // Never before its creation, however the clock jumps.
        let now = self.now.max(stored.last_created_at);
        let mut changed = Vec::new();
        for id in ids {
            // An id that is repeated finds its row changed already.
            let Some(before) = self.row(inbox, *id).map(|known| *known.image.row()) else {
                continue;
            };
            let is_later = through.is_some_and(|through| before.revision > through);
            let is_meant = view.has(before.state) && !is_later;
            let state = edited(edit, before.state, now).filter(|_| is_meant);
            let Some(state) = state else { continue };
            let mut after = Row {
                revision,
                state,
                ..before
            };
            if edit == Edit::Unarchive && sabotage::is(Sabotage::RingUnarchived) {
                after.ring_revision = revision;
            }
            let is_retraction = edit == Edit::Remove(RemovalCause::Sender);
            if !(is_retraction && sabotage::is(Sabotage::CountRetracted)) {
                stored.count(Some(&before), Some(&after));
            }
            self.write(inbox, &before, after, None);
            let whole = self.whole(inbox, *id).filter(|_| edit.tells_all());
            changed.push(whole.map_or(Image::State(after), |whole| {
                Image::Whole(Box::new(whole.clone()))
            }));
        }
        let count = u32::try_from(changed.len()).unwrap_or(u32::MAX);
        if !changed.is_empty() {
            changed.sort_unstable_by_key(|image| image.row().sequence);
            stored.head.revision = revision;
            self.change(inbox, stored, Change::Changed(changed));
        }
        Edited {
            changed: count,
            head: stored.head,
        }
    }

    fn delete(&mut self, inbox: &InboxKey, ids: &[Uuid], why: Deletion) -> Edited {
        let mut stored = self.head(inbox);
        let mut deleted = 0;
        for id in ids {
            let rows = self.before.rows.get_mut(inbox);
            let Some(row) = rows
                .as_ref()
                .and_then(|rows| Some(*rows.get(id)?.image.row()))
            else {
                continue;
            };
            if why == Deletion::Purge && row.state.removed.is_none() {
                continue;
            }
            rows.and_then(|rows| rows.remove(id));
            stored.count(Some(&row), None);
            if !sabotage::is(Sabotage::PurgeSilently) {
                stored.floor = stored.floor.max(row.revision);
            }
            let place = (inbox.clone(), row.sequence);
            let written = self.plan.rows.get(&place).map(RowWrite::unread);
            let was_unread = written.map_or(row.state.is_unread(), |(was_unread, _)| was_unread);
            self.plan
                .rows
                .insert(place, RowWrite::Delete { was_unread });
            deleted += 1;
        }
        if deleted > 0 {
            if why == Deletion::Erasure {
                stored.head.revision = stored.head.revision.next();
                stored.floor = stored.head.revision;
                self.plan.committed.unknown_counts.push(inbox.clone());
            }
            self.before.heads.insert(inbox.clone(), stored);
            self.plan.heads.insert(inbox.clone(), stored);
        }
        Edited {
            changed: deleted,
            head: stored.head,
        }
    }

    /// Tells of what is due by then, unless it has been seen and that is enough. It takes no
    /// revision: no screen shows anything of it.
    fn follow_up(&mut self, inbox: &InboxKey, ids: &[Uuid], until: Timestamp) -> Edited {
        let stored = self.head(inbox);
        let mut count = 0;
        for id in ids {
            let Some(before) = self.row(inbox, *id).map(|known| *known.image.row()) else {
                continue;
            };
            let due = before.state.follow_up.filter(|due| due.at <= until);
            let Some(was) = due else { continue };
            let state = RowState {
                follow_up: None,
                ..before.state
            };
            self.write(inbox, &before, Row { state, ..before }, None);
            count += 1;
            let is_seen = before.sequence <= stored.head.seen_through;
            if was.unless == Unless::Read || !is_seen {
                self.plan.follow_ups.push(DueFollowUp {
                    inbox: inbox.clone(),
                    sequence: before.sequence,
                    was,
                });
            }
        }
        if count > 0 {
            self.plan.heads.insert(inbox.clone(), stored);
        }
        Edited {
            changed: count,
            head: stored.head,
        }
    }

    /// Takes what was broadcast, unless somebody else took of it meanwhile. The cursor alone
    /// takes no revision.
    fn take(&mut self, take: &Take) -> Taken {
        let inbox = &take.inbox;
        let mut taken = Taken::default();
        if self.head(inbox).taken_through == take.after {
            for new in &take.sends {
                let sent = self.send(new);
                taken.sent.push(sent.map(|sent| sent.duplicate));
            }
            let ids = take.retracted.iter();
            let ids: Vec<_> = ids
                .filter_map(|key| Some(self.keyed(inbox, key)?.0))
                .collect();
            let edit = Edit::Remove(RemovalCause::Sender);
            if !sabotage::is(Sabotage::KeepRetracted) {
                self.edit(inbox, &ids, edit, View::All, None);
            }
            let mut stored = self.head(inbox);
            stored.taken_through = take.through;
            self.before.heads.insert(inbox.clone(), stored);
            self.plan.heads.insert(inbox.clone(), stored);
        }
        let stored = self.head(inbox);
        taken.through = stored.taken_through;
        taken.head = stored.head;
        taken
    }

    /// Sets the final image of a row that was there or is made by this batch. What is
    /// removed has no content.
    fn write(&mut self, inbox: &InboxKey, before: &Row, row: Row, content: Option<Arc<Content>>) {
        let is_removed = row.state.removed.is_some();
        let content = content.or_else(|| is_removed.then(|| Arc::new(Content::blank())));
        let rewrite = |notification: &mut Notification| {
            notification.row = row;
            if let Some(content) = &content {
                notification.content = content.clone();
            }
        };
        let rows = self.before.rows.get_mut(inbox);
        if let Some(known) = rows.and_then(|rows| rows.get_mut(&row.id)) {
            match &mut known.image {
                Image::State(state) => *state = row,
                Image::Whole(notification) => rewrite(notification),
            }
        }
        let place = (inbox.clone(), row.sequence);
        let write = self.plan.rows.entry(place).or_insert(RowWrite::Update {
            row,
            content: None,
            was_unread: before.state.is_unread(),
        });
        match write {
            RowWrite::Insert { notification, .. } => rewrite(notification),
            RowWrite::Update {
                row: image,
                content: written,
                ..
            } => {
                *image = row;
                *written = content.or_else(|| written.take());
            }
            // What is deleted is not known any more, and so not written again.
            RowWrite::Delete { .. } => {}
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

impl StoredHead {
    /// Counts a row that turned from `before`, if it was there, to `after`, if it stays.
    fn count(&mut self, before: Option<&Row>, after: Option<&Row>) {
        let turned = |count: u32, is: &dyn Fn(&Row) -> bool| match (
            before.is_some_and(is),
            after.is_some_and(is),
        ) {
            (true, false) => count.saturating_sub(1),
            (false, true) => count.saturating_add(1),
            _ => count,
        };
        let seen = self.head.seen_through;
        self.head.unread_count = turned(self.head.unread_count, &|row| row.state.is_unread());
        self.head.unseen_count = turned(self.head.unseen_count, &|row| row.is_unseen(seen));
        self.row_count = turned(self.row_count, &|row| row.state.removed.is_none());
    }
}

#[cfg(test)]
mod tests;
