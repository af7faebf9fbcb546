//! What a person does with notifications: a verb times a selection.
//!
//! What is selected is read first, so that what changes nothing does not wait for
//! the writer. A selection of many is changed piece by piece, a change each, while
//! its caller is there and the server does not drain; others come between.

use uuid::Uuid;

use super::{Error, Inboxes};
use crate::{
    model::{Epoch, Head, InboxKey, Revision},
    store::{Edit, Mutation, Snapshot, Which},
};

/// Which notifications, in a caller's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<Uuid>),
    /// Those that are about this thing.
    About {
        /// Its kind.
        entity_type: String,
        /// Its id.
        entity_id: String,
    },
    /// Those that were shown: whose last change is at or below a revision.
    Through {
        /// The revision.
        revision: Revision,
        /// The epoch that it was learned in.
        epoch: Epoch,
        /// Only of these types; none means all.
        types: Vec<String>,
    },
}

/// What a verb did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// How many notifications it changed.
    pub changed: u32,
    /// Whether it stopped before it was through.
    pub more: bool,
    /// The inbox after it.
    pub head: Head,
}

impl Inboxes {
    /// Does `edit` to what is selected.
    ///
    /// Cancel safe: what was begun is committed, the rest is not done.
    pub async fn edit(
        &self,
        inbox: &InboxKey,
        selection: Selection,
        edit: Edit,
    ) -> Result<Done, Error> {
        let (which, through) = match selection {
            Selection::Ids(ids) => (Which::Ids(ids), None),
            Selection::About {
                entity_type,
                entity_id,
            } => {
                let which = Which::About {
                    entity_type,
                    entity_id,
                };
                (which, None)
            }
            Selection::Through {
                revision,
                epoch,
                types,
            } => {
                let which = Which::Through { revision, types };
                (which, Some((revision, epoch)))
            }
        };
        let mut changed = 0;
        let mut after = Revision::ZERO;
        loop {
            let selected = self.store.select(inbox, &which, edit, after).await?;
            if let Some((revision, epoch)) = &through {
                refuse_unknown(*revision, epoch, &selected.snapshot)?;
            }
            let mut head = selected.snapshot.head;
            if !selected.ids.is_empty() {
                let mutation = Mutation::Edit {
                    inbox: inbox.clone(),
                    ids: selected.ids,
                    edit,
                    through: through.as_ref().map(|(revision, _)| *revision),
                };
                let edited = self.writer.edit(mutation).await?;
                changed += edited.changed;
                head = edited.head;
            }
            let more = selected.next.is_some();
            match selected.next {
                Some(next) if !self.bus.hub().is_closed() => after = next,
                _ => {
                    return Ok(Done {
                        changed,
                        more,
                        head,
                    });
                }
            }
        }
    }

    /// Notes that the person has looked at all up to the sequence `through`.
    /// Cancel safe.
    pub async fn see(
        &self,
        inbox: &InboxKey,
        through: Revision,
        epoch: &Epoch,
    ) -> Result<Head, Error> {
        let snapshot = self.heads.read(inbox).await?;
        refuse_unknown(through, epoch, &snapshot)?;
        if through <= snapshot.head.seen_through {
            return Ok(snapshot.head);
        }
        let mutation = Mutation::Seen {
            inbox: inbox.clone(),
            through,
        };
        Ok(self.writer.edit(mutation).await?.head)
    }
}

/// A head only rises: what it reached once, it has reached for good.
fn refuse_unknown(revision: Revision, epoch: &Epoch, snapshot: &Snapshot) -> Result<(), Error> {
    if *epoch != snapshot.epoch || revision > snapshot.head.revision {
        return Err(Error::PositionInvalid);
    }
    Ok(())
}
