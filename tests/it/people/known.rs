//! What must be in the inbox of somebody who knows all that was done with it.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use doorbell::{
    model::RemovalCause,
    proto::{ErrorReason, FollowUp, FollowUpUnless, Notification, SendInAppRequest},
    store::{About, Edit, Which},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::deed::{Deed, RETRACT};
use crate::history::{Change, Check, Head, Inbox, State};

/// What is to come of a deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The id of what is sent is not known yet: it is nil.
    Change(Change),
    Nothing,
    /// It is not wanted.
    Muted,
    Refused(ErrorReason),
}

/// A row as a page shows it.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    id: Uuid,
    sequence: u64,
    revision: u64,
    ring_revision: u64,
    is_read: bool,
    is_archived: bool,
    title: String,
}

impl From<&Notification> for Shown {
    fn from(row: &Notification) -> Self {
        Self {
            id: Uuid::parse_str(&row.id).unwrap(),
            sequence: row.sequence,
            revision: row.revision,
            ring_revision: row.ring_revision,
            is_read: row.read_at.is_some(),
            is_archived: row.archived_at.is_some(),
            title: row.title.clone(),
        }
    }
}

/// The model of an inbox, with what was sent.
#[derive(Clone, Default)]
pub struct Known {
    inbox: Inbox,
    /// As each was sent. What was sent and gone before its id was seen is not among them.
    sent: HashMap<Uuid, SendInAppRequest>,
    /// The titles that are others now.
    corrected: HashMap<Uuid, String>,
    /// One that was erased, and so was never there.
    pub erased: Option<Uuid>,
    /// The type that is not wanted.
    pub muted: Option<String>,
    /// Since when something is asked for.
    began: Option<Instant>,
    awaited: HashMap<Uuid, Awaited>,
    /// What was told of, by its position.
    told: BTreeMap<u64, Uuid>,
    /// How many were met in time, of which nobody asked yet.
    met_in_time: usize,
}

/// Something that is to be told of, unless it is met.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    /// Not before.
    due: Instant,
    unless: FollowUpUnless,
    met: Option<Instant>,
}

impl Known {
    pub fn head(&self) -> Head {
        self.inbox.head()
    }

    /// How many rows there are, and how many of them are not removed.
    pub fn size(&self) -> (usize, usize) {
        let rows = self.inbox.rows.values();
        let live = rows.filter(|row| row.state.removed.is_none());
        (self.inbox.rows.len(), live.count())
    }

    /// The ids of all that can be named, of removed ones too, oldest first.
    pub fn named(&self) -> Vec<Uuid> {
        let mut ids = self.ids();
        ids.retain(|id| self.sent.contains_key(id));
        ids
    }

    fn ids(&self) -> Vec<Uuid> {
        let mut ids: Vec<_> = self.inbox.rows.keys().copied().collect();
        ids.sort_unstable_by_key(|id| self.inbox.rows[id].sequence);
        ids
    }

    /// What was sent with a key, and is to be sent again.
    pub fn keyed(&self) -> Vec<(Uuid, &SendInAppRequest)> {
        let known = self.ids().into_iter();
        let sent = known.filter_map(|id| Some((id, self.sent.get(&id)?)));
        sent.filter(|(_, request)| request.idempotency_key.is_some())
            .collect()
    }

    pub fn expected(&self, deed: &Deed) -> Expected {
        let change = match deed {
            Deed::Send(request) if self.muted.as_ref() == Some(&request.r#type) => {
                return Expected::Muted;
            }
            Deed::Send(request) => Some(Change::Sent {
                id: Uuid::nil(),
                replaces: self.replaced(request),
                is_silent: request.silent,
            }),
            Deed::SendAgain(..) => None,
            Deed::Update { id, rings, .. } => {
                let Some(row) = self.inbox.rows.get(id) else {
                    return Expected::Refused(ErrorReason::NotificationNotFound);
                };
                if row.state.removed.is_some() {
                    return Expected::Refused(ErrorReason::NotificationRemoved);
                }
                // What is read, or in no list, is not to be heard.
                let rings = *rings && row.state.is_unread();
                Some(Change::Corrected { id: *id, rings })
            }
            Deed::Edit(edit, which) => {
                let ids = self.selected(*edit, which);
                (!ids.is_empty()).then_some(Change::Edited(*edit, ids))
            }
            Deed::Look(through) => {
                (*through > self.head().seen_through).then_some(Change::Looked(*through))
            }
            Deed::Erase => {
                let ids = self.ids();
                (!ids.is_empty()).then_some(Change::Erased(ids))
            }
        };
        change.map_or(Expected::Nothing, Expected::Change)
    }

    /// The unread one that gives its place to what is sent.
    fn replaced(&self, request: &SendInAppRequest) -> Option<Uuid> {
        let key = request.collapse_key.as_ref()?;
        let ids = self.ids().into_iter().rev();
        let mut unread = ids.filter(|id| self.inbox.rows[id].state.is_unread());
        unread.find(|id| {
            self.sent
                .get(id)
                .is_some_and(|sent| sent.collapse_key.as_ref() == Some(key))
        })
    }

    /// Those that a verb changes.
    pub fn selected(&self, edit: Edit, which: &Which) -> Vec<Uuid> {
        let is_in_view = |state: State| match which {
            Which::Ids(_) => true,
            _ if edit == RETRACT => true,
            _ if edit == Edit::Unarchive => state.archived,
            _ => state.is_in_inbox(),
        };
        let is_meant = |id: &Uuid| {
            let row = &self.inbox.rows[id];
            let Some(sent) = self.sent.get(id) else {
                return false;
            };
            match which {
                Which::Ids(ids) => ids.contains(id),
                Which::About(about) => about_of(sent).as_ref() == Some(about),
                Which::Key(key) => sent.idempotency_key.as_ref() == Some(key),
                Which::Collapse(key) => sent.collapse_key.as_ref() == Some(key),
                Which::Through { revision, types } => {
                    let is_of_types = types.is_empty() || types.contains(&sent.r#type);
                    row.revision <= revision.get() && is_of_types
                }
            }
        };
        let mut ids = self.ids();
        ids.retain(|id| {
            let state = self.inbox.rows[id].state;
            state.after(edit).is_some() && is_in_view(state) && is_meant(id)
        });
        ids
    }

    /// Makes what came of a deed.
    pub fn make(&mut self, deed: &Deed, change: &Change) -> Check {
        self.inbox.apply(change)?;
        match (deed, change) {
            (Deed::Send(request), Change::Sent { id, .. }) => {
                self.sent.insert(*id, request.clone());
                if let Some(follow_up) = request.follow_up {
                    let after = Duration::try_from(follow_up.after.unwrap()).unwrap();
                    let awaited = Awaited {
                        due: self.began.unwrap() + after,
                        unless: follow_up.unless(),
                        met: None,
                    };
                    self.awaited.insert(*id, awaited);
                }
            }
            (Deed::Update { title, .. }, Change::Corrected { id, .. }) => {
                self.corrected.insert(*id, title.clone());
            }
            (_, Change::Erased(ids)) => {
                self.erased = ids.last().copied();
                self.sent.retain(|id, _| !ids.contains(id));
                self.corrected.retain(|id, _| !ids.contains(id));
                self.awaited.retain(|id, _| !ids.contains(id));
            }
            _ => {}
        }
        self.meet();
        Ok(())
    }

    /// Something is about to be asked for.
    pub fn begin(&mut self) {
        self.began = Some(Instant::now());
    }

    /// What is looked at, or in no list, is not to be told of any more.
    fn meet(&mut self) {
        let seen_through = self.head().seen_through;
        for (id, awaited) in &mut self.awaited {
            let row = &self.inbox.rows[id];
            let is_seen = awaited.unless == FollowUpUnless::Seen && row.sequence <= seen_through;
            if awaited.met.is_none() && (is_seen || !row.state.is_unread()) {
                let now = Instant::now();
                awaited.met = Some(now);
                self.met_in_time += usize::from(now < awaited.due);
            }
        }
    }

    /// Holds all that was told of against what was done: how many are new, and how many
    /// others were met in time since it was asked last.
    pub fn told(&mut self, told: &[FollowUp]) -> Result<(usize, usize), String> {
        let former = std::mem::take(&mut self.told);
        let last = former.keys().next_back().copied().unwrap_or_default();
        let mut new = 0;
        let mut before = 0;
        for one in told {
            let id = Uuid::parse_str(&one.notification.as_ref().unwrap().id).unwrap();
            let wrong = |what: &str| Err(format!("told of {id} at {}: {what}", one.position));
            // The others of an organization are nobody's.
            let Some(awaited) = self.awaited.get(&id) else {
                match self.inbox.rows.contains_key(&id) {
                    true => return wrong("it is not to be told of"),
                    false => continue,
                }
            };
            if awaited.met.is_some_and(|met| met < awaited.due) {
                return wrong("it was met in time");
            }
            if one.position <= before {
                return wrong("out of order");
            }
            before = one.position;
            if !former.contains_key(&one.position) {
                // Who reads on from the last one would not be told.
                if one.position < last {
                    return wrong("behind the last one");
                }
                new += 1;
            }
            let is_twice = self.told.values().any(|other| *other == id);
            self.told.insert(one.position, id);
            if is_twice || former.get(&one.position).is_some_and(|was| *was != id) {
                return wrong("another one was");
            }
        }
        let is_kept = |(position, id): &(&u64, &Uuid)| {
            !self.awaited.contains_key(*id) || self.told.contains_key(*position)
        };
        match former.iter().find(|of| !is_kept(of)) {
            Some((position, id)) => Err(format!("{id} at {position} is told of no more")),
            None => Ok((new, std::mem::take(&mut self.met_in_time))),
        }
    }

    /// What must be told of, and is not.
    pub fn untold(&self) -> Vec<Uuid> {
        let unmet = self.awaited.iter().filter(|(_, of)| of.met.is_none());
        let ids = unmet.map(|(id, _)| *id);
        ids.filter(|id| !self.told.values().any(|told| told == id))
            .collect()
    }

    /// The time of what was sent is over.
    pub fn expire(&mut self, id: Uuid) -> Check {
        self.remove(RemovalCause::Expired, vec![id])
    }

    /// The sender takes it back.
    pub fn take_back(&mut self, ids: Vec<Uuid>) -> Check {
        self.remove(RemovalCause::Sender, ids)
    }

    fn remove(&mut self, cause: RemovalCause, ids: Vec<Uuid>) -> Check {
        let change = Change::Edited(Edit::Remove(cause), ids);
        self.inbox.apply(&change)?;
        self.meet();
        Ok(())
    }

    /// Nobody has seen its id.
    pub fn forget(&mut self, id: Uuid) {
        self.sent.remove(&id);
    }

    fn title(&self, id: Uuid) -> &str {
        let corrected = self.corrected.get(&id);
        let sent = || self.sent.get(&id).map(|sent| &sent.title);
        corrected.or_else(sent).map_or("", String::as_str)
    }

    /// Whether this is there and not removed.
    pub fn has(&self, id: Uuid) -> bool {
        let row = self.inbox.rows.get(&id);
        row.is_some_and(|row| row.state.removed.is_none())
    }

    /// Whether all that was read is as it must be.
    pub fn check(&self, rows: &[Notification], head: Head) -> Check {
        self.check_of(rows, head, |state| state.removed.is_none())
    }

    /// The same of what a list without the archive shows.
    pub fn check_inbox(&self, rows: &[Notification], head: Head) -> Check {
        self.check_of(rows, head, State::is_in_inbox)
    }

    fn check_of(
        &self,
        rows: &[Notification],
        head: Head,
        is_shown: impl Fn(State) -> bool,
    ) -> Check {
        if head != self.head() {
            return Err(format!("the head is {head:?}, not {:?}", self.head()));
        }
        let ids = self.ids().into_iter().rev();
        let expected = ids.filter_map(|id| {
            let row = self.inbox.rows[&id];
            is_shown(row.state).then(|| Shown {
                id,
                sequence: row.sequence,
                revision: row.revision,
                ring_revision: row.ring_revision,
                is_read: row.state.read,
                is_archived: row.state.archived,
                title: self.title(id).into(),
            })
        });
        let expected: Vec<_> = expected.collect();
        let rows: Vec<_> = rows.iter().map(Shown::from).collect();
        if rows.len() != expected.len() {
            return Err(format!(
                "there are {} rows, not {}: {rows:?}",
                rows.len(),
                expected.len()
            ));
        }
        match rows.iter().zip(&expected).find(|(row, other)| row != other) {
            Some((row, expected)) => Err(format!("there is {row:?}, not {expected:?}")),
            None => Ok(()),
        }
    }
}

fn about_of(sent: &SendInAppRequest) -> Option<About> {
    Some(About {
        entity_type: sent.entity_type.clone()?,
        entity_id: sent.entity_id.clone()?,
    })
}
