//! An inbox as it must be: what each change makes of its rows and of the counts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::OnceLock,
};

use doorbell::{
    model::{self, Image, InboxEvent, RemovalCause},
    store::Edit,
};
use uuid::Uuid;

use super::{Check, Head};

/// What can change of a row, but for its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub read: bool,
    pub archived: bool,
    pub removed: Option<RemovalCause>,
}

impl State {
    pub fn is_in_inbox(self) -> bool {
        !self.archived && self.removed.is_none()
    }

    pub fn is_unread(self) -> bool {
        self.is_in_inbox() && !self.read
    }

    /// What `edit` makes of it; `None`: it changes nothing.
    pub fn after(self, edit: Edit) -> Option<Self> {
        let (does, after) = match edit {
            Edit::Read => (self.is_unread(), Self { read: true, ..self }),
            Edit::Unread => {
                let read = false;
                (self.is_in_inbox() && self.read, Self { read, ..self })
            }
            Edit::Archive => {
                let archived = true;
                (self.is_in_inbox(), Self { archived, ..self })
            }
            Edit::Unarchive => {
                let archived = false;
                let does = self.archived && self.removed.is_none();
                (does, Self { archived, ..self })
            }
            Edit::Remove(cause) => {
                let removed = Some(cause);
                (self.removed.is_none(), Self { removed, ..self })
            }
        };
        does.then_some(after)
    }

    /// What was done to make `after` of it, if that can be.
    fn edit_to(self, after: Self) -> Option<Edit> {
        let removal = after.removed.map(Edit::Remove);
        let verbs = [Edit::Read, Edit::Unread, Edit::Archive, Edit::Unarchive];
        let mut edits = verbs.into_iter().chain(removal);
        edits.find(|edit| self.after(*edit) == Some(after))
    }
}

impl From<model::RowState> for State {
    fn from(state: model::RowState) -> Self {
        Self {
            read: state.read_at.is_some(),
            archived: state.archived_at.is_some(),
            removed: state.removed.map(|(_, cause)| cause),
        }
    }
}

/// A row as one change left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRow {
    pub sequence: u64,
    pub revision: u64,
    /// When it was last to be heard.
    pub ring_revision: u64,
    pub state: State,
}

impl ModelRow {
    /// Whether who missed its bell is still to hear it.
    pub fn is_heard(&self, seen_through: u64) -> bool {
        let is_corrected = self.ring_revision > self.sequence;
        self.state.is_unread() && (is_corrected || self.sequence > seen_through)
    }
}

/// One change of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Sent {
        id: Uuid,
        replaces: Option<Uuid>,
        is_silent: bool,
    },
    Corrected {
        id: Uuid,
        rings: bool,
    },
    Edited(Edit, Vec<Uuid>),
    /// Looked at up to this sequence.
    Looked(u64),
    /// An operator erased these, whatever they were: nothing of them is left.
    Erased(Vec<Uuid>),
}

impl Change {
    /// An ordinary send.
    pub fn sent(id: Uuid) -> Self {
        Self::Sent {
            id,
            replaces: None,
            is_silent: false,
        }
    }

    pub fn ids(&self) -> Vec<Uuid> {
        match self {
            Self::Sent { id, replaces, .. } => replaces.iter().chain([id]).copied().collect(),
            Self::Corrected { id, .. } => vec![*id],
            Self::Edited(_, ids) => ids.clone(),
            Self::Looked(_) | Self::Erased(_) => vec![],
        }
    }
}

/// The model.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    pub rows: HashMap<Uuid, ModelRow>,
    /// The sequences of what is unread.
    unread: BTreeSet<u64>,
    seen_through: u64,
    revision: u64,
}

impl Inbox {
    /// Makes the next change; one that cannot be is a fault.
    pub fn apply(&mut self, change: &Change) -> Check {
        self.revision += 1;
        let revision = self.revision;
        match change {
            Change::Sent {
                id,
                replaces,
                is_silent,
            } => {
                if let Some(replaced) = replaces {
                    let is_unread = self.rows.get(replaced).map(|row| row.state.is_unread());
                    ensure!(
                        is_unread == Some(true),
                        "revision {revision} replaces {replaced}, which is not unread"
                    );
                    self.edit(*replaced, Edit::Remove(RemovalCause::Replaced))?;
                }
                let row = ModelRow {
                    sequence: revision,
                    revision,
                    ring_revision: if *is_silent { 0 } else { revision },
                    state: State::default(),
                };
                self.unread.insert(revision);
                let before = self.rows.insert(*id, row);
                ensure!(before.is_none(), "{id} was created twice");
            }
            Change::Corrected { id, rings } => {
                let row = self.rows.get_mut(id);
                let row = row.filter(|row| row.state.removed.is_none());
                let Some(row) = row else {
                    return Err(format!("revision {revision} corrects {id}, not there"));
                };
                ensure!(
                    !rings || row.state.is_unread(),
                    "revision {revision} rings for {id}, not unread"
                );
                row.revision = revision;
                if *rings {
                    row.ring_revision = revision;
                }
            }
            Change::Edited(edit, ids) => {
                ensure!(!ids.is_empty(), "revision {revision} changes nothing");
                for id in ids {
                    self.edit(*id, *edit)?;
                }
            }
            Change::Looked(through) => {
                ensure!(
                    *through > self.seen_through && *through < revision,
                    "revision {revision} looks up to {through}, after {}",
                    self.seen_through
                );
                self.seen_through = *through;
            }
            Change::Erased(ids) => {
                ensure!(!ids.is_empty(), "revision {revision} erases nothing");
                for id in ids {
                    let row = self.rows.remove(id);
                    let Some(row) = row else {
                        return Err(format!("revision {revision} erases {id}, not there"));
                    };
                    self.unread.remove(&row.sequence);
                }
            }
        }
        Ok(())
    }

    fn edit(&mut self, id: Uuid, edit: Edit) -> Check {
        let revision = self.revision;
        let row = self.rows.get_mut(&id);
        let after = row.as_ref().and_then(|row| row.state.after(edit));
        let (Some(row), Some(after)) = (row, after) else {
            return Err(format!(
                "revision {revision} does {edit:?} to {id}, which it cannot change"
            ));
        };
        row.state = after;
        row.revision = revision;
        if after.is_unread() {
            self.unread.insert(row.sequence);
        } else {
            self.unread.remove(&row.sequence);
        }
        Ok(())
    }

    pub fn head(&self) -> Head {
        let count = |least: u64| {
            let above = self.unread.range(least + 1..);
            u32::try_from(above.count()).unwrap()
        };
        Head {
            revision: self.revision,
            unread_count: count(0),
            unseen_count: count(self.seen_through),
            seen_through: self.seen_through,
        }
    }

    /// What was done, by what the event of a commit says of the rows.
    fn change_of(&self, event: &InboxEvent) -> Result<Change, String> {
        let revision = event.head.revision;
        let images = match &event.change {
            model::Change::Seen => return Ok(Change::Looked(event.head.seen_through.get())),
            model::Change::Notification(told) if told.row.sequence == revision => {
                return Ok(Change::Sent {
                    id: told.row.id,
                    replaces: None,
                    is_silent: told.row.ring_revision.get() == 0,
                });
            }
            model::Change::Notification(told) => {
                return Ok(Change::Corrected {
                    id: told.row.id,
                    rings: told.row.ring_revision == revision,
                });
            }
            model::Change::Changed(images) => images,
        };
        if let [Image::State(replaced), Image::Whole(new)] = images.as_slice()
            && new.row.sequence == revision
        {
            return Ok(Change::Sent {
                id: new.row.id,
                replaces: Some(replaced.id),
                is_silent: new.row.ring_revision.get() == 0,
            });
        }
        let mut did = BTreeSet::new();
        let mut edit = None;
        for image in images {
            let row = image.row();
            ensure!(
                row.revision == revision,
                "{row:?} of a change at {revision}"
            );
            let before = self.rows.get(&row.id);
            edit = before.and_then(|before| before.state.edit_to(row.state.into()));
            let rings_at = before.map(|before| before.ring_revision);
            ensure!(
                rings_at == Some(row.ring_revision.get()),
                "{row:?} was to be heard at {rings_at:?}, and {edit:?} is silent"
            );
            did.insert(format!("{edit:?}"));
        }
        match edit {
            Some(edit) if did.len() == 1 => {
                let ids = images.iter().map(|image| image.row().id);
                Ok(Change::Edited(edit, ids.collect()))
            }
            _ => Err(format!(
                "revision {revision} does {did:?} at once: {images:?}"
            )),
        }
    }
}

/// All changes of one inbox, by revision, with the head after each.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub(super) entries: BTreeMap<u64, (Change, Head)>,
    /// What they made of the rows, once it was asked for.
    rows: OnceLock<Result<Rows, String>>,
}

/// Each row by the revisions of its changes.
pub type Rows = HashMap<Uuid, BTreeMap<u64, ModelRow>>;

impl History {
    /// Notes a change. Two that were given one revision are a fault.
    pub fn add(&mut self, change: Change, head: Head) -> Check {
        self.rows = OnceLock::new();
        let entry = (change, head);
        match self.entries.insert(head.revision, entry.clone()) {
            Some(former) if former != entry => Err(format!(
                "revision {} was given twice: {former:?} and {entry:?}",
                head.revision
            )),
            _ => Ok(()),
        }
    }

    /// What a store committed, in whatever order it was learned.
    pub fn of_events(events: &[InboxEvent]) -> Result<Self, String> {
        let mut in_order: Vec<_> = events.iter().collect();
        in_order.sort_by_key(|event| event.head.revision);
        let mut history = Self::default();
        let mut inbox = Inbox::default();
        for event in in_order {
            let change = inbox.change_of(event)?;
            inbox.apply(&change)?;
            history.add(change, event.head.into())?;
        }
        history.check()?;
        Ok(history)
    }

    pub fn head(&self) -> Head {
        self.entries
            .last_key_value()
            .map_or(Head::default(), |(_, (_, head))| *head)
    }

    pub fn head_at(&self, revision: u64) -> Option<Head> {
        if revision == 0 {
            return Some(Head::default());
        }
        self.entries.get(&revision).map(|(_, head)| *head)
    }

    /// Revisions without a gap, changes that can be, and counts that are those of the
    /// rows.
    pub fn check(&self) -> Check {
        self.replay(|_, _, _| Ok(())).map(drop)
    }

    /// Lets `look` see each change, with the inbox before it; the inbox in the end.
    pub fn replay(
        &self,
        mut look: impl FnMut(u64, &Change, &Inbox) -> Check,
    ) -> Result<Inbox, String> {
        let mut inbox = Inbox::default();
        for (expected, (revision, (change, head))) in (1..).zip(&self.entries) {
            ensure!(*revision == expected, "revision {expected} is missing");
            look(*revision, change, &inbox)?;
            inbox.apply(change)?;
            let counted = inbox.head();
            ensure!(
                *head == counted,
                "at revision {revision} the head is {head:?}, and what there is is {counted:?} \
                 after {change:?}"
            );
        }
        Ok(inbox)
    }

    /// Each row by the revisions of its changes.
    pub fn rows(&self) -> Result<&Rows, String> {
        let rows = self.rows.get_or_init(|| self.made()).as_ref();
        rows.map_err(String::clone)
    }

    fn made(&self) -> Result<Rows, String> {
        let mut rows = Rows::new();
        let mut inbox = Inbox::default();
        for (revision, (change, _)) in &self.entries {
            inbox.apply(change)?;
            for id in change.ids() {
                rows.entry(id)
                    .or_default()
                    .insert(*revision, inbox.rows[&id]);
            }
        }
        Ok(rows)
    }

    pub(super) fn check_heads(&self, heads: &[Head]) -> Check {
        for head in heads {
            let expected = self.head_at(head.revision);
            ensure!(
                expected == Some(*head),
                "{head:?} was said, and the head was {expected:?}"
            );
        }
        Ok(())
    }
}
