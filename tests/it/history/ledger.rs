//! What was asked of an inbox and what of it was answered, held against its history.

use std::collections::{BTreeMap, HashMap, HashSet};

use doorbell::store::{Edit, Verb, Which, selection::MOST_CHANGED};
use uuid::Uuid;

use super::{
    Change, Check, Head, History,
    model::{Inbox, ModelRow, Rows},
};

/// A row of a store at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Uuid,
    pub sequence: u64,
    pub revision: u64,
    pub ring_revision: u64,
    pub title: String,
    pub read: bool,
}

impl Row {
    /// Nothing is corrected here, so what never rang was sent so.
    fn is_silent(&self) -> bool {
        self.ring_revision == 0
    }
}

/// What a send was answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub id: Uuid,
    pub sequence: u64,
    pub duplicate: bool,
}

impl History {
    /// What the rows of a store at rest tell. Nothing archives here: a row was
    /// made at its sequence and, if it is read, read at its revision. So the rows
    /// hold every change that there was, but for the looks: these are the revisions
    /// that lack, and `heads`, which replies and streams said, tell how far each
    /// went. Where nobody was told before the next one, it does not matter.
    pub fn of_rows(rows: &[Row], heads: &[Head]) -> Result<Self, String> {
        let mut entries: BTreeMap<u64, Change> = BTreeMap::new();
        for row in rows {
            let sent = Change::Sent {
                id: row.id,
                replaces: None,
                is_silent: row.is_silent(),
            };
            let made = entries.insert(row.sequence, sent);
            ensure!(made.is_none(), "sequence {} is there twice", row.sequence);
            ensure!(
                row.read == (row.revision > row.sequence)
                    && [0, row.sequence].contains(&row.ring_revision),
                "a row that was never changed so: {row:?}"
            );
        }
        for row in rows.iter().filter(|row| row.read) {
            let marked = Change::Edited(Edit::Read, vec![]);
            match entries.entry(row.revision).or_insert(marked) {
                Change::Edited(_, ids) => ids.push(row.id),
                made => return Err(format!("{made:?} and a read share a revision: {row:?}")),
            }
        }
        let seen: BTreeMap<u64, u64> = heads
            .iter()
            .map(|head| (head.revision, head.seen_through))
            .collect();
        let last = seen.last_key_value().map_or(0, |(revision, _)| *revision);
        let looks: Vec<u64> = (1..=last)
            .filter(|revision| !entries.contains_key(revision))
            .collect();
        for (at, revision) in looks.iter().enumerate() {
            let next = looks.get(at + 1).copied().unwrap_or(u64::MAX);
            let through = seen.range(revision..&next).next().map(|(_, seen)| *seen);
            // One more than before: what cannot be told apart from the truth.
            let before = seen
                .range(..revision)
                .next_back()
                .map_or(0, |(_, seen)| *seen);
            entries.insert(*revision, Change::Looked(through.unwrap_or(before + 1)));
        }
        let mut history = Self::default();
        let mut inbox = Inbox::default();
        for change in entries.into_values() {
            inbox.apply(&change)?;
            history.add(change, inbox.head())?;
        }
        history.check()?;
        Ok(history)
    }

    /// Which ids were marked as read at this revision; `None` where something else was
    /// done.
    fn marked_at(&self, revision: u64) -> Option<&[Uuid]> {
        match self.entries.get(&revision) {
            Some((Change::Edited(Edit::Read, ids), _)) => Some(ids),
            _ => None,
        }
    }
}

/// What was asked, by its answer.
#[derive(Clone, Debug)]
pub enum Ask {
    Send(Facts),
    Correct { id: Uuid, ring: bool },
    Verb(Verb),
    Look(u64),
}

/// What a sender says of a notification, as far as it decides what becomes of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub kind: String,
    /// The id of the thing it is about.
    pub thing: Option<String>,
    pub collapse_key: Option<String>,
    pub is_silent: bool,
    pub expires: bool,
}

/// A change of a verb that makes several, before the last of them.
#[derive(Debug)]
struct Piece {
    edit: Edit,
    ids: Vec<Uuid>,
    before: Inbox,
}

/// Where all that was asked is answered, and each change is somebody's.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// By the revision of what was changed, each with how many rows it says were.
    asks: BTreeMap<u64, (Ask, u32)>,
    facts: HashMap<Uuid, Facts>,
    heads: Vec<Head>,
}

impl Answers {
    /// A call was answered with this head; `changed` is 0 where it changed nothing.
    pub fn add(&mut self, ask: Ask, head: Head, changed: u32) -> Check {
        self.heads.push(head);
        if changed == 0 {
            return Ok(());
        }
        let answer = (ask, changed);
        match self.asks.insert(head.revision, answer) {
            Some(former) => Err(format!(
                "revision {} was given twice: {former:?} and {:?}",
                head.revision, self.asks[&head.revision]
            )),
            None => Ok(()),
        }
    }

    /// Whether somebody was told that he changed this.
    pub fn is_known(&self, revision: u64) -> bool {
        self.asks.contains_key(&revision)
    }

    /// What is known of a row by its sender.
    pub fn know(&mut self, id: Uuid, facts: Facts) {
        self.facts.insert(id, facts);
    }

    /// Holds each change against who asked for it.
    pub fn check(&self, history: &History) -> Check {
        history.check_heads(&self.heads)?;
        let mut left: HashSet<u64> = self.asks.keys().copied().collect();
        let mut pieces = Vec::new();
        history.replay(|revision, change, before| {
            left.remove(&revision);
            self.check_one(revision, change, before, &mut pieces)
                .map_err(|finding| format!("revision {revision}: {finding}: {change:?}"))
        })?;
        ensure!(
            pieces.is_empty(),
            "nobody asked for what these begin: {pieces:?}"
        );
        ensure!(left.is_empty(), "answered and never done: {left:?}");
        Ok(())
    }

    fn check_one(
        &self,
        revision: u64,
        change: &Change,
        before: &Inbox,
        pieces: &mut Vec<Piece>,
    ) -> Check {
        use doorbell::model::RemovalCause::Expired;
        let Some((ask, changed)) = self.asks.get(&revision) else {
            let Change::Edited(edit, ids) = change else {
                return Err("nobody asked for it".into());
            };
            if *edit == Edit::Remove(Expired) {
                let all = ids.iter().all(|id| self.facts[id].expires);
                ensure!(all, "one that does not expire expired");
                return Ok(());
            }
            // What a verb selects beyond one change it does in several, and answers with the
            // last.
            ensure!(may_be_a_piece(ids), "nobody asked for it");
            pieces.push(Piece {
                edit: *edit,
                ids: ids.clone(),
                before: before.clone(),
            });
            return Ok(());
        };
        let is_right = match (ask, change) {
            (
                Ask::Send(facts),
                Change::Sent {
                    id,
                    replaces,
                    is_silent,
                },
            ) => {
                ensure!(
                    *replaces == self.collapsible(facts, before),
                    "{id} was to replace {:?}",
                    self.collapsible(facts, before)
                );
                *is_silent == facts.is_silent
            }
            (Ask::Correct { id, ring }, Change::Corrected { id: of, rings }) => {
                let is_unread = before.rows.get(id).is_some_and(|row| row.state.is_unread());
                of == id && *rings == (*ring && is_unread)
            }
            (Ask::Look(through), Change::Looked(to)) => through == to,
            (Ask::Verb(verb), Change::Edited(edit, ids)) => {
                let mut left = (*changed as usize).checked_sub(ids.len());
                pieces.retain(|piece| {
                    let rest = left.and_then(|left| left.checked_sub(piece.ids.len()));
                    let is_of_it = verb.edit == piece.edit
                        && rest.is_some()
                        && self.check_meant(verb, &piece.ids, &piece.before).is_ok();
                    if is_of_it {
                        left = rest;
                    }
                    !is_of_it
                });
                ensure!(
                    verb.edit == *edit && left == Some(0),
                    "it was answered that {changed} rows were changed by {verb:?}"
                );
                self.check_selection(verb, ids, before)?;
                true
            }
            _ => false,
        };
        ensure!(is_right, "what was asked is {ask:?}");
        Ok(())
    }

    /// The newest unread row with the same key.
    fn collapsible(&self, facts: &Facts, before: &Inbox) -> Option<Uuid> {
        let key = facts.collapse_key.as_ref()?;
        let of_key = before.rows.iter().filter(|(id, row)| {
            let collapse_key = self
                .facts
                .get(*id)
                .and_then(|facts| facts.collapse_key.as_ref());
            row.state.is_unread() && collapse_key == Some(key)
        });
        of_key
            .max_by_key(|(_, row)| row.sequence)
            .map(|(id, _)| *id)
    }

    fn is_selected(&self, verb: &Verb, id: Uuid, row: &ModelRow) -> bool {
        let facts = &self.facts[&id];
        let state = row.state;
        let is_in_view = match verb.view {
            doorbell::model::View::Inbox => state.is_in_inbox(),
            doorbell::model::View::Archived => state.archived && state.removed.is_none(),
            doorbell::model::View::All => state.removed.is_none(),
        };
        is_in_view
            && match &verb.which {
                Which::Ids(ids) => ids.contains(&id),
                Which::About(about) => facts.thing.as_ref() == Some(&about.entity_id),
                Which::Collapse(key) => facts.collapse_key.as_ref() == Some(key),
                Which::Key(_) => false,
                Which::Through { revision, types } => {
                    row.revision <= revision.get()
                        && (types.is_empty() || types.contains(&facts.kind))
                }
            }
    }

    /// What a verb means of an inbox, with which it does no more than that; what it left.
    fn check_meant(&self, verb: &Verb, ids: &[Uuid], before: &Inbox) -> Result<Vec<Uuid>, String> {
        let mut meant: HashSet<Uuid> = HashSet::new();
        for (id, row) in &before.rows {
            if self.is_selected(verb, *id, row) && row.state.after(verb.edit).is_some() {
                meant.insert(*id);
            }
        }
        let done: HashSet<Uuid> = ids.iter().copied().collect();
        let beyond: Vec<_> = done.difference(&meant).collect();
        ensure!(beyond.is_empty(), "{verb:?} does not mean {beyond:?}");
        Ok(meant.difference(&done).copied().collect())
    }

    /// What a verb changes is what it says. Where that is bounded by a revision it is
    /// all of it; else what came to be meant while it was under way may be left.
    fn check_selection(&self, verb: &Verb, ids: &[Uuid], before: &Inbox) -> Check {
        let left = self.check_meant(verb, ids, before)?;
        let is_bounded = matches!(verb.which, Which::Through { .. });
        ensure!(
            !is_bounded || left.is_empty(),
            "{verb:?} means {left:?}, too"
        );
        Ok(())
    }
}

/// What was asked of one inbox, and what of it was answered. What was not may
/// have happened, once at most; each send is known by its title.
#[derive(Debug, Default)]
pub struct Ledger {
    sends: BTreeMap<String, Tried>,
    marks: Vec<Mark>,
    /// The head of every reply.
    heads: Vec<Head>,
}

/// One send, which is tried until it is answered, and at times once more.
#[derive(Debug, Default)]
struct Tried {
    times: usize,
    is_silent: bool,
    answers: Vec<Sent>,
}

#[derive(Debug)]
struct Mark {
    asked: Asked,
    /// The revision of the reply, and how many it says were marked.
    answer: Option<(u64, u32)>,
}

/// What a mark selects.
#[derive(Debug)]
pub enum Asked {
    Ids(Vec<Uuid>),
    /// Those whose last change is at or below this revision.
    Through(u64),
}

impl Ledger {
    /// A send is about to be tried, for the first time or again.
    pub fn send(&mut self, title: &str, is_silent: bool) {
        let tried = self.sends.entry(title.to_owned()).or_default();
        tried.times += 1;
        tried.is_silent = is_silent;
    }

    /// It was answered. All answers to it must tell of one notification, and one
    /// of them at most that it is new.
    pub fn sent(&mut self, title: &str, sent: Sent, head: Head) -> Check {
        self.heads.push(head);
        let answers = &mut self.sends.entry(title.to_owned()).or_default().answers;
        if let Some(first) = answers.first() {
            ensure!(
                (first.id, first.sequence) == (sent.id, sent.sequence),
                "`{title}` was answered with {first:?}, and then with {sent:?}"
            );
            ensure!(
                sent.duplicate || answers.iter().all(|answer| answer.duplicate),
                "`{title}` was answered as new twice"
            );
        }
        // Above it where the commit was in doubt, and others came before it was settled.
        ensure!(
            head.revision >= sent.sequence,
            "`{title}` was answered with a head before it, {head:?}: {sent:?}"
        );
        answers.push(sent);
        Ok(())
    }

    /// A mark was tried; `answer` is the head of its reply and the count, if
    /// there was a reply.
    pub fn marked(&mut self, asked: Asked, answer: Option<(Head, u32)>) {
        self.heads.extend(answer.map(|(head, _)| head));
        let answer = answer.map(|(head, count)| (head.revision, count));
        self.marks.push(Mark { asked, answer });
    }

    /// A reply said this head.
    pub fn head(&mut self, head: Head) {
        self.heads.push(head);
    }

    /// All that replies said.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// How many sends were asked for, and how many were never answered.
    pub fn sends(&self) -> (usize, usize) {
        let sends = self.sends.values();
        let unanswered = sends.filter(|tried| tried.answers.is_empty());
        (self.sends.len(), unanswered.count())
    }

    /// How many of the sends were not to be heard.
    pub fn silent_sends(&self) -> usize {
        let sends = self.sends.values();
        sends.filter(|tried| tried.is_silent).count()
    }

    /// Holds all of it against the rows that are left and their history.
    pub fn check(&self, rows: &[Row], history: &History) -> Check {
        let mut left = HashMap::new();
        for row in rows {
            let tried = self.sends.get(&row.title);
            let Some(tried) = tried else {
                return Err(format!("nobody sent what is there: {row:?}"));
            };
            ensure!(
                row.is_silent() == tried.is_silent,
                "what is there was sent otherwise, {tried:?}: {row:?}"
            );
            if let Some(other) = left.insert(row.title.as_str(), row) {
                return Err(format!("a send is there twice: {other:?} and {row:?}"));
            }
        }
        for (title, tried) in &self.sends {
            let Tried { times, answers, .. } = tried;
            let Some(answer) = answers.first() else {
                continue;
            };
            ensure!(
                answers.len() < *times || answers.iter().any(|answer| !answer.duplicate),
                "`{title}` was answered each time, and never as new: {answers:?}"
            );
            let row = left.get(title.as_str());
            ensure!(
                row.is_some_and(|row| (row.id, row.sequence) == (answer.id, answer.sequence)),
                "`{title}` was answered with {answer:?}, and what is there is {row:?}"
            );
        }
        history.check_heads(&self.heads)?;
        self.check_marks(history)
    }

    fn check_marks(&self, history: &History) -> Check {
        let rows = history.rows()?;
        let mut answered = HashSet::new();
        let mut in_pieces = Vec::new();
        for mark in &self.marks {
            let Some((revision, count @ 1..)) = mark.answer else {
                continue;
            };
            let marked = history.marked_at(revision);
            let is_one =
                |ids: &[Uuid]| ids.len() == count as usize && mark.may_be(revision, ids, rows);
            if marked.is_some_and(is_one) {
                ensure!(
                    answered.insert(revision),
                    "revision {revision} was given twice"
                );
            } else {
                in_pieces.push((mark, revision, count as usize));
            }
        }
        // Many are marked in pieces. Behind the last one the reply has its head; where more
        // was looked for and none found, the head that there was then.
        for (mark, revision, count) in in_pieces {
            let pieces = history.entries.range(..=revision).rev();
            let pieces = pieces.filter_map(|(at, (entry, _))| match entry {
                Change::Edited(Edit::Read, ids)
                    if (*at == revision || may_be_a_piece(ids))
                        && !answered.contains(at)
                        && mark.may_be(*at, ids, rows) =>
                {
                    Some((*at, ids.len()))
                }
                _ => None,
            });
            let pieces: Vec<_> = pieces.collect();
            let taken = that_sum_to(count, &pieces);
            let taken = taken.filter(|taken| {
                let mut ids = taken.iter().filter_map(|at| history.marked_at(*at));
                ids.any(may_be_a_piece)
            });
            let Some(taken) = taken else {
                return Err(format!(
                    "{mark:?} was answered, and may be of the pieces {pieces:?}"
                ));
            };
            answered.extend(taken);
        }
        let unanswered: Vec<_> = self
            .marks
            .iter()
            .filter(|mark| mark.answer.is_none())
            .collect();
        // Each other mark is one that was not answered; which, if more than one
        // can be, is found by moving those that have another choice.
        let mut taken = vec![None; unanswered.len()];
        for (revision, (entry, _)) in &history.entries {
            if let Change::Edited(_, ids) = entry
                && !answered.contains(revision)
            {
                let may_be =
                    |mark: &Mark, (revision, ids): Marked<'_>| mark.may_be(revision, ids, rows);
                let marked = (*revision, ids.as_slice());
                // One that was not answered may have made several of these.
                let is_of_many = |mark: &Mark| mark.may_be(*revision, ids, rows);
                if may_be_a_piece(ids) && unanswered.iter().any(|mark| is_of_many(mark)) {
                    continue;
                }
                ensure!(
                    assign(
                        marked,
                        &unanswered,
                        &mut taken,
                        &may_be,
                        &mut HashSet::new()
                    ),
                    "nobody asked for the marks of revision {revision}: {ids:?}"
                );
            }
        }
        Ok(())
    }
}

/// Of what one change selects, others mark fewer than so many before it is committed.
const MARKED_MEANWHILE: usize = 32;

/// Whether there may be more behind it of one mark: as many were selected as one change
/// has, and of these only few were marked by others meanwhile.
fn may_be_a_piece(ids: &[Uuid]) -> bool {
    ids.len() + MARKED_MEANWHILE > MOST_CHANGED
}

/// Pieces, of those that there are, that are so many together.
fn that_sum_to(count: usize, pieces: &[(u64, usize)]) -> Option<Vec<u64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    pieces.iter().enumerate().find_map(|(index, (at, size))| {
        let rest = count.checked_sub(*size)?;
        let mut taken = that_sum_to(rest, &pieces[index + 1..])?;
        taken.push(*at);
        Some(taken)
    })
}

impl Mark {
    /// Whether it may have marked these at that revision.
    fn may_be(&self, revision: u64, ids: &[Uuid], rows: &Rows) -> bool {
        ids.iter().all(|id| match &self.asked {
            Asked::Ids(asked) => asked.contains(id),
            Asked::Through(through) => {
                let before = rows[id].range(..revision).next_back();
                before.is_some_and(|(before, _)| before <= through)
            }
        })
    }
}

/// A revision, and what was marked at it.
type Marked<'a> = (u64, &'a [Uuid]);

/// Finds a mark for what was marked, moving others to another mark where they have
/// one.
fn assign<'a>(
    marked: Marked<'a>,
    marks: &[&Mark],
    taken: &mut Vec<Option<Marked<'a>>>,
    may_be: &impl Fn(&Mark, Marked<'_>) -> bool,
    tried: &mut HashSet<usize>,
) -> bool {
    for at in 0..marks.len() {
        if !may_be(marks[at], marked) || !tried.insert(at) {
            continue;
        }
        let is_free = match taken[at] {
            None => true,
            Some(other) => assign(other, marks, taken, may_be, tried),
        };
        if is_free {
            taken[at] = Some(marked);
            return true;
        }
    }
    false
}
