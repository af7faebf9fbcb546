//! Which rows a verb changes, decided for all engines alike.
//!
//! An engine walks the rows that may be meant, by their sequence, and a walk
//! picks. What it picks is looked at again when it is changed, under the head: a
//! row that was changed meanwhile is skipped there.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::{Edit, Selected, Snapshot, Which, plan};
use crate::model::{Revision, Row};

/// The most rows of one change.
pub const MOST_CHANGED: usize = 1000;
/// The most rows that are looked at for one change.
pub const MOST_WALKED: usize = 10_000;

/// A walk over the rows of an inbox.
pub(super) struct Walk<'q> {
    which: &'q Which,
    edit: Edit,
    walked: usize,
    ids: Vec<Uuid>,
    next: Option<Revision>,
}

impl<'q> Walk<'q> {
    pub(super) fn new(which: &'q Which, edit: Edit) -> Self {
        Self {
            which,
            edit,
            walked: 0,
            ids: Vec::new(),
            next: None,
        }
    }

    /// Looks at the next row.
    pub(super) fn look(&mut self, row: &Row, kind: &str) -> ControlFlow<()> {
        self.walked += 1;
        let is_meant = match self.which {
            Which::Ids(_) | Which::About { .. } => true,
            Which::Through { revision, types } => {
                row.revision <= *revision
                    && (types.is_empty() || types.iter().any(|wanted| wanted == kind))
            }
        };
        if is_meant && plan::is_changed(self.edit, row.state) {
            self.ids.push(row.id);
        }
        if self.ids.len() == MOST_CHANGED || self.walked == MOST_WALKED {
            self.next = Some(row.sequence);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    pub(super) fn selected(self, snapshot: Snapshot) -> Selected {
        Selected {
            snapshot,
            ids: self.ids,
            next: self.next,
        }
    }
}
