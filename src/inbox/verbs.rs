//! What is done with notifications that are there: a verb times a selection.
//!
//! What is selected is read first, so that what changes nothing does not wait for
//! the writer. A selection of many is changed piece by piece, a change each and a rest
//! after it, while its caller is there and the server does not drain; others come between.

use tokio::time::{Instant, sleep};

use super::{Error, Inboxes};
use crate::{
    model::{Epoch, Head, InboxKey, Revision, View},
    sabotage::{self, Sabotage},
    store::{Correction, Edit, Mutation, Snapshot, Updated, Verb, Which},
};

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
    /// Does what `verb` says; where it names a revision, of this `epoch`.
    ///
    /// Cancel safe: what was begun is committed, the rest is not done.
    pub async fn edit(
        &self,
        inbox: &InboxKey,
        verb: Verb,
        epoch: Option<Epoch>,
    ) -> Result<Done, Error> {
        let shown = verb.which.through();
        let verb = misread(verb);
        let mut changed = 0;
        let mut after = Revision::ZERO;
        loop {
            let selected = self.store.select(inbox, &verb, after).await?;
            if let (Some(revision), Some(epoch)) = (shown, &epoch) {
                refuse_unknown(revision, epoch, &selected.snapshot)?;
            }
            let mut head = selected.snapshot.head;
            let began = Instant::now();
            if !selected.ids.is_empty() {
                let mutation = Mutation::Edit {
                    inbox: inbox.clone(),
                    ids: selected.ids,
                    edit: verb.edit,
                    view: verb.view,
                    through: verb.which.through(),
                };
                let edited = self.writer.edit(mutation).await?;
                changed += edited.changed;
                head = edited.head;
            }
            let more = selected.next.is_some();
            match selected.next {
                Some(next) if !self.bus.hub().is_closed() => {
                    after = next;
                    // As long as it had the lane to itself, the lane is for others.
                    sleep(began.elapsed()).await;
                }
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

    /// Corrects a notification. Cancel safe: once it is queued it is done.
    pub async fn update(&self, correction: Correction) -> Result<Updated, Error> {
        self.writer.update(correction).await
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
        if !sabotage::is(Sabotage::SeeAhead) {
            refuse_unknown(through, epoch, &snapshot)?;
        }
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

/// As it is; a deliberate bug takes it for more than what was asked.
fn misread(mut verb: Verb) -> Verb {
    if let Which::Through { revision, .. } = &mut verb.which {
        if sabotage::is(Sabotage::MarkWhatCameLater) {
            *revision = Revision::new(i64::MAX.unsigned_abs());
        }
        if sabotage::is(Sabotage::RemoveTheArchive) && matches!(verb.edit, Edit::Remove(_)) {
            verb.view = View::All;
        }
    }
    verb
}

/// A head only rises: what it reached once, it has reached for good.
fn refuse_unknown(revision: Revision, epoch: &Epoch, snapshot: &Snapshot) -> Result<(), Error> {
    if *epoch != snapshot.epoch || revision > snapshot.head.revision {
        return Err(Error::PositionInvalid);
    }
    Ok(())
}
