//! What a batch of mutations does, decided without I/O.
//!
//! An engine loads what [`Before`] names inside its transaction, asks [`plan`],
//! and writes what [`Plan`] says. So revisions, counts, idempotency and events
//! mean the same on every engine.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use super::{Committed, Mutation, Outcome};
use crate::{
    clock::Timestamp,
    model::{Change, Head, InboxEvent, InboxKey, NewNotification, Notification, Revision, Run},
};

/// A SHA-256 of a content.
pub(super) type Fingerprint = [u8; 32];

/// A row that was sent with an idempotency key.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) notification: Notification,
    pub(super) fingerprint: Fingerprint,
}

/// What there was before the batch, as far as the batch touches it.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// The heads of its inboxes; an inbox that never changed has none.
    pub(super) heads: HashMap<InboxKey, Head>,
    /// The rows of its idempotency keys.
    pub(super) keyed: HashMap<InboxKey, HashMap<String, Keyed>>,
    /// Those of its ids to mark that are unread and not archived.
    pub(super) unread: HashMap<InboxKey, HashSet<Uuid>>,
}

/// A row to write.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) inbox: InboxKey,
    pub(super) notification: Notification,
    pub(super) keyed: Option<(String, Fingerprint)>,
}

/// A row to mark as read, at the revision of the mark.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) inbox: InboxKey,
    pub(super) id: Uuid,
    pub(super) revision: Revision,
    pub(super) read_at: Timestamp,
}

/// What to write, and what to answer once it is committed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) inserts: Vec<Insert>,
    pub(super) marks: Vec<Mark>,
    /// The heads that change, in the order of their keys.
    pub(super) heads: BTreeMap<InboxKey, Head>,
    pub(super) committed: Committed,
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
            Mutation::MarkRead { .. } => None,
        })
        .collect()
}

/// The ids that it marks.
pub(super) fn ids(batch: &[Mutation]) -> Vec<(&InboxKey, Uuid)> {
    batch
        .iter()
        .filter_map(|mutation| match mutation {
            Mutation::MarkRead {
                inbox,
                notification_ids,
            } => Some((inbox, notification_ids)),
            Mutation::Send(_) => None,
        })
        .flat_map(|(inbox, ids)| ids.iter().map(move |id| (inbox, *id)))
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
            Mutation::Send(new) => planner.send(new),
            Mutation::MarkRead {
                inbox,
                notification_ids,
            } => planner.mark_read(inbox, notification_ids),
        };
        planner.plan.committed.outcomes.push(outcome);
    }
    planner.plan
}

struct Planner {
    /// Kept up to date as the batch goes on.
    before: Before,
    now: Timestamp,
    plan: Plan,
    /// Where an inbox's run stands in the plan.
    runs: HashMap<InboxKey, usize>,
}

impl Planner {
    fn head(&self, inbox: &InboxKey) -> Head {
        self.before.heads.get(inbox).copied().unwrap_or_default()
    }

    fn send(&mut self, new: &NewNotification) -> Outcome {
        let mut head = self.head(&new.inbox);
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
                return Outcome::Mismatch;
            }
            let notification = first.notification.clone();
            return Outcome::Sent {
                notification,
                duplicate: true,
                head,
            };
        }

        head.revision = head.revision.next();
        head.unread_count = head.unread_count.saturating_add(1);
        head.last_created_at = self
            .now
            .max(Timestamp::from_micros(head.last_created_at.as_micros() + 1));
        let notification = Notification {
            id: new.id,
            sequence: head.revision,
            revision: head.revision,
            content: new.content.clone(),
            sender: new.sender.clone(),
            created_at: head.last_created_at,
            read_at: None,
            archived_at: None,
        };
        if let Some((key, fingerprint)) = keyed {
            let keyed = Keyed {
                notification: notification.clone(),
                fingerprint,
            };
            self.before
                .keyed
                .entry(new.inbox.clone())
                .or_default()
                .insert(key.clone(), keyed);
        }
        self.plan.inserts.push(Insert {
            inbox: new.inbox.clone(),
            notification: notification.clone(),
            keyed: keyed.map(|(key, fingerprint)| (key.clone(), fingerprint)),
        });
        self.change(&new.inbox, head, Change::Created(notification.clone()));
        Outcome::Sent {
            notification,
            duplicate: false,
            head,
        }
    }

    fn mark_read(&mut self, inbox: &InboxKey, ids: &[Uuid]) -> Outcome {
        let mut head = self.head(inbox);
        // Taking each id out of the set also skips repeated ones, and ids that
        // an earlier member of the batch marked.
        let unread = self.before.unread.get_mut(inbox);
        let marked: Vec<Uuid> = unread
            .map(|unread| ids.iter().copied().filter(|id| unread.remove(id)).collect())
            .unwrap_or_default();
        let marked_count = u32::try_from(marked.len()).unwrap_or(u32::MAX);
        if marked_count > 0 {
            head.revision = head.revision.next();
            head.unread_count = head.unread_count.saturating_sub(marked_count);
            // Never before its creation, however the clock jumps.
            let read_at = self.now.max(head.last_created_at);
            // A later member that repeats a send answers with the row as it is now.
            for keyed in self
                .before
                .keyed
                .get_mut(inbox)
                .into_iter()
                .flat_map(HashMap::values_mut)
            {
                if marked.contains(&keyed.notification.id) {
                    keyed.notification.revision = head.revision;
                    keyed.notification.read_at = Some(read_at);
                }
            }
            self.plan.marks.extend(marked.iter().map(|id| Mark {
                inbox: inbox.clone(),
                id: *id,
                revision: head.revision,
                read_at,
            }));
            self.change(
                inbox,
                head,
                Change::MarkedRead {
                    notification_ids: marked,
                    read_at,
                },
            );
        }
        Outcome::MarkedRead { marked_count, head }
    }

    fn change(&mut self, inbox: &InboxKey, head: Head, change: Change) {
        self.before.heads.insert(inbox.clone(), head);
        self.plan.heads.insert(inbox.clone(), head);
        let event = InboxEvent::new(head.revision, head.unread_count, change);
        let runs = &mut self.plan.committed.runs;
        match self.runs.get(inbox) {
            Some(&run) => runs[run].1.push(event),
            None => {
                self.runs.insert(inbox.clone(), runs.len());
                runs.push((inbox.clone(), Run::from([event])));
            }
        }
    }
}

#[cfg(test)]
mod tests;
