//! Which rows a verb changes, decided for all engines alike.
//!
//! An engine walks the rows that may be meant, by their sequence, and a walk
//! picks. What it picks is looked at again when it is changed, under the head: a
//! row that was changed meanwhile is skipped there.

use std::ops::ControlFlow;

use uuid::Uuid;

use super::{Edit, RecentQuery, Selected, Snapshot, Verb, Which, plan};
use crate::model::{Revision, Row, View};

/// The most rows of one change. Nobody else's write comes through on their lane while they
/// are written.
pub const MOST_CHANGED: usize = 48;
/// The most bytes of one change that tells all of its rows; one row is in it
/// whatever its size.
pub const MOST_BYTES: usize = 512 * 1024;
/// The most rows that are looked at for one page, or for one change.
pub const MOST_LOOKED_AT: usize = 1000;
/// The most rows that are looked at to count those of some types.
pub const MOST_COUNTED: usize = 10_000;

/// Where an engine finds candidates, in the order of their sequences: an index each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Ids,
    About,
    Key,
    Collapse,
    Unread,
    Inbox,
    Archived,
    All,
}

impl Source {
    /// Each of them.
    pub(super) const EACH: [Self; 8] = [
        Self::Ids,
        Self::About,
        Self::Key,
        Self::Collapse,
        Self::Unread,
        Self::Inbox,
        Self::Archived,
        Self::All,
    ];

    /// Those that a page begins with.
    pub(super) const LISTED: [Self; 5] = [
        Self::About,
        Self::Unread,
        Self::Inbox,
        Self::Archived,
        Self::All,
    ];

    /// Those of them that can hold just what a page asks for.
    pub(super) const EXACT: [Self; 3] = [Self::Unread, Self::Inbox, Self::Archived];

    fn of_view(view: View) -> Self {
        match view {
            View::Inbox => Self::Inbox,
            View::Archived => Self::Archived,
            View::All => Self::All,
        }
    }

    /// The least that holds all that `verb` may change.
    pub(super) fn of_verb(verb: &Verb) -> Self {
        match verb.which {
            Which::Ids(_) => Self::Ids,
            Which::About(_) => Self::About,
            Which::Key(_) => Self::Key,
            Which::Collapse(_) => Self::Collapse,
            Which::Through { .. } if verb.edit == Edit::Read => Self::Unread,
            Which::Through { .. } => Self::of_view(verb.view),
        }
    }

    /// The least that holds all that `query` asks for, and whether what is found there
    /// is to be held against the query.
    pub(super) fn of_query(query: &RecentQuery) -> (Self, bool) {
        let is_unread = query.unread_only && query.view == View::Inbox;
        let source = match query.about {
            Some(_) => Self::About,
            None if is_unread => Self::Unread,
            None => Self::of_view(query.view),
        };
        let is_exact = Self::EXACT.contains(&source)
            && query.types.is_empty()
            && (is_unread || !query.unread_only);
        (source, !is_exact)
    }
}

/// A walk over the rows of an inbox.
pub(super) struct Walk<'q> {
    verb: &'q Verb,
    walked: usize,
    bytes: usize,
    ids: Vec<Uuid>,
    last: Revision,
    next: Option<Revision>,
}

impl<'q> Walk<'q> {
    pub(super) fn new(verb: &'q Verb) -> Self {
        Self {
            verb,
            walked: 0,
            bytes: 0,
            ids: Vec::new(),
            last: Revision::ZERO,
            next: None,
        }
    }

    /// The most rows that a walk for `verb` looks at. An engine sends as many, even if the
    /// walk ends before: so no more than a change has, where nearly all are meant.
    pub(super) fn most(verb: &Verb) -> usize {
        match &verb.which {
            Which::Through { types, .. } if !types.is_empty() => MOST_LOOKED_AT,
            _ => MOST_CHANGED,
        }
    }

    /// Looks at the next row, of this type and so many bytes.
    pub(super) fn look(&mut self, row: &Row, kind: &str, bytes: usize) -> ControlFlow<()> {
        let is_meant = match &self.verb.which {
            Which::Through { revision, types } => {
                row.revision <= *revision
                    && (types.is_empty() || types.iter().any(|wanted| wanted == kind))
            }
            _ => true,
        };
        if is_meant && self.verb.view.has(row.state) && plan::is_changed(self.verb.edit, row.state)
        {
            self.bytes += if self.verb.edit.tells_all() { bytes } else { 0 };
            if self.bytes > MOST_BYTES && !self.ids.is_empty() {
                self.next = Some(self.last);
                return ControlFlow::Break(());
            }
            self.ids.push(row.id);
        }
        self.walked += 1;
        self.last = row.sequence;
        if self.ids.len() == MOST_CHANGED || self.walked == Self::most(self.verb) {
            self.next = Some(self.last);
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
