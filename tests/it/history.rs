//! The oracle: what every stream must have seen.
//!
//! A [`History`] is what the writes were answered; a [`Screen`] is a client that
//! folds a stream by the rules of the API and says, message by message, where
//! the stream broke a promise. It knows nothing of how the service works, so it
//! serves streams taken in process and streams taken from a socket alike.
//!
//! Where a server dies, some writes are never answered. Then the history is told
//! by the [`Row`]s that are left ([`History::of_rows`]), and a [`Ledger`] holds
//! what was asked and answered against it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use doorbell::{
    inbox::feed::{Event, Message},
    model,
    proto::{self, SubscribeResponse, subscribe_response},
};
use prost::Message as _;
use uuid::Uuid;

/// One change of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Created(Uuid),
    /// Marked as read out of these: those that were unread then.
    Marked(Vec<Uuid>),
    /// Looked at up to this sequence.
    Looked(u64),
}

impl Entry {
    fn ids(&self) -> &[Uuid] {
        match self {
            Self::Created(id) => std::slice::from_ref(id),
            Self::Marked(ids) => ids,
            Self::Looked(_) => &[],
        }
    }
}

/// A head as any reply or message says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub revision: u64,
    pub unread_count: u32,
    pub unseen_count: u32,
    pub seen_through: u64,
}

impl From<model::Head> for Head {
    fn from(head: model::Head) -> Self {
        Self {
            revision: head.revision.get(),
            unread_count: head.unread_count,
            unseen_count: head.unseen_count,
            seen_through: head.seen_through.get(),
        }
    }
}

impl From<Option<proto::Head>> for Head {
    fn from(head: Option<proto::Head>) -> Self {
        let head = head.expect("everything has a head");
        Self {
            revision: head.revision,
            unread_count: head.unread_count,
            unseen_count: head.unseen_count,
            seen_through: head.seen_through,
        }
    }
}

pub type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($problem:tt)+) => {
        if !$condition {
            return Err(format!($($problem)+));
        }
    };
}

/// What is unread, by its sequence, and what of it was looked at.
#[derive(Clone, Debug, Default)]
struct State {
    unread: HashMap<Uuid, u64>,
    seen_through: u64,
}

impl State {
    fn apply(&mut self, revision: u64, entry: &Entry) -> Check {
        match entry {
            Entry::Created(id) => ensure!(
                self.unread.insert(*id, revision).is_none(),
                "{id} was created twice"
            ),
            Entry::Marked(ids) => {
                ensure!(!ids.is_empty(), "revision {revision} changes nothing");
                for id in ids {
                    ensure!(
                        self.unread.remove(id).is_some(),
                        "revision {revision} marks {id}, not unread"
                    );
                }
            }
            Entry::Looked(through) => self.seen_through = *through,
        }
        Ok(())
    }

    fn head(&self, revision: u64) -> Head {
        let count = |least: u64| {
            let above = self.unread.values().filter(|sequence| **sequence > least);
            u32::try_from(above.count()).unwrap()
        };
        Head {
            revision,
            unread_count: count(0),
            unseen_count: count(self.seen_through),
            seen_through: self.seen_through,
        }
    }
}

/// All changes of one inbox, by revision, with the head after each.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: BTreeMap<u64, (Entry, Head)>,
    /// The revisions that touched a notification; the least made it.
    changes: HashMap<Uuid, BTreeSet<u64>>,
}

impl History {
    /// Notes an answered write. Two that were given one revision are a fault.
    pub fn add(&mut self, entry: Entry, head: Head) -> Check {
        let revision = head.revision;
        for id in entry.ids() {
            self.changes.entry(*id).or_default().insert(revision);
        }
        let change = (entry, head);
        match self.entries.insert(revision, change.clone()) {
            Some(former) if former != change => Err(format!(
                "revision {revision} was given twice: {former:?} and {change:?}"
            )),
            _ => Ok(()),
        }
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

    /// Revisions without a gap, and counts that are those of the rows.
    pub fn check(&self) -> Check {
        let mut state = State::default();
        for (expected, (revision, (entry, head))) in (1..).zip(&self.entries) {
            ensure!(*revision == expected, "revision {expected} is missing");
            if let Entry::Looked(through) = entry {
                ensure!(
                    *through > state.seen_through && *through < *revision,
                    "revision {revision} looks up to {through}, after {}",
                    state.seen_through
                );
            }
            state.apply(*revision, entry)?;
            let counted = state.head(*revision);
            ensure!(
                *head == counted,
                "at revision {revision} the head is {head:?}, and what there is is {counted:?}"
            );
        }
        Ok(())
    }

    /// What the rows of a store at rest tell. Nothing archives here: a row was
    /// made at its sequence and, if it is read, read at its revision. So the rows
    /// hold every change that there was, but for the looks: these are the revisions
    /// that lack, and `heads`, which replies and streams said, tell how far each
    /// went. Where nobody was told before the next one, it does not matter.
    pub fn of_rows(rows: &[Row], heads: &[Head]) -> Result<Self, String> {
        let mut entries: BTreeMap<u64, Entry> = BTreeMap::new();
        for row in rows {
            let made = entries.insert(row.sequence, Entry::Created(row.id));
            ensure!(made.is_none(), "sequence {} is there twice", row.sequence);
            ensure!(
                row.read == (row.revision > row.sequence),
                "a row that was never changed so: {row:?}"
            );
        }
        for row in rows.iter().filter(|row| row.read) {
            match entries.entry(row.revision).or_insert(Entry::Marked(vec![])) {
                Entry::Marked(ids) => ids.push(row.id),
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
            entries.insert(*revision, Entry::Looked(through.unwrap_or(before + 1)));
        }
        let mut history = Self::default();
        let mut state = State::default();
        for (revision, entry) in entries {
            state.apply(revision, &entry)?;
            history.add(entry, state.head(revision))?;
        }
        history.check()?;
        Ok(history)
    }

    /// The revision of the last change of a notification.
    pub fn last_change(&self, id: &Uuid) -> u64 {
        let changes = self.changes.get(id);
        changes
            .and_then(|changes| changes.last())
            .copied()
            .unwrap_or(0)
    }

    fn check_heads(&self, heads: &[Head]) -> Check {
        for head in heads {
            let expected = self.head_at(head.revision);
            ensure!(
                expected == Some(*head),
                "{head:?} was said, and the head was {expected:?}"
            );
        }
        Ok(())
    }

    /// Which ids were marked at this revision; `None` where something else was
    /// done.
    fn marked_at(&self, revision: u64) -> Option<&[Uuid]> {
        match self.entries.get(&revision) {
            Some((Entry::Marked(ids), _)) => Some(ids),
            _ => None,
        }
    }

    /// What is unread at the head.
    pub fn unread(&self) -> HashSet<Uuid> {
        let mut state = State::default();
        for (revision, (entry, _)) in &self.entries {
            state.apply(*revision, entry).expect("it was checked");
        }
        state.unread.into_keys().collect()
    }
}

/// A row of a store at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: Uuid,
    pub sequence: u64,
    pub revision: u64,
    pub title: String,
    pub read: bool,
}

/// What a send was answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub id: Uuid,
    pub sequence: u64,
    pub duplicate: bool,
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
    pub fn send(&mut self, title: &str) {
        self.sends.entry(title.to_owned()).or_default().times += 1;
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

    /// Holds all of it against the rows that are left and their history.
    pub fn check(&self, rows: &[Row], history: &History) -> Check {
        let mut left = HashMap::new();
        for row in rows {
            ensure!(
                self.sends.contains_key(&row.title),
                "nobody sent what is there: {row:?}"
            );
            if let Some(other) = left.insert(row.title.as_str(), row) {
                return Err(format!("a send is there twice: {other:?} and {row:?}"));
            }
        }
        for (title, Tried { times, answers }) in &self.sends {
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
        let mut answered = HashSet::new();
        for mark in &self.marks {
            let Some((revision, count @ 1..)) = mark.answer else {
                continue;
            };
            let marked = history.marked_at(revision);
            ensure!(
                marked.is_some_and(|ids| {
                    ids.len() == count as usize && mark.may_be(revision, ids, history)
                }),
                "{mark:?} was answered, and revision {revision} marked {marked:?}"
            );
            ensure!(
                answered.insert(revision),
                "revision {revision} was given twice"
            );
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
            if let Entry::Marked(ids) = entry
                && !answered.contains(revision)
            {
                let may_be =
                    |mark: &Mark, (revision, ids): Marked<'_>| mark.may_be(revision, ids, history);
                let marked = (*revision, ids.as_slice());
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

impl Mark {
    /// Whether it may have marked these at that revision.
    fn may_be(&self, revision: u64, ids: &[Uuid], history: &History) -> bool {
        ids.iter().all(|id| match &self.asked {
            Asked::Ids(asked) => asked.contains(id),
            Asked::Through(through) => {
                let changes = &history.changes[id];
                let before = changes.range(..revision).next_back();
                before.is_some_and(|before| before <= through)
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

/// A message of a stream, wherever it was taken from.
#[derive(Clone, Debug)]
pub struct Told {
    pub position: u64,
    pub head: Head,
    pub ring: bool,
    pub event: ToldEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldEvent {
    Connected,
    Notification(ToldRow),
    Changed(Vec<ToldRow>),
    Looked,
    CaughtUp,
    Heartbeat,
    Reset,
    Reconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldRow {
    pub id: Uuid,
    pub sequence: u64,
    pub revision: u64,
    pub read: bool,
}

impl From<&model::Row> for ToldRow {
    fn from(row: &model::Row) -> Self {
        Self {
            id: row.id,
            sequence: row.sequence.get(),
            revision: row.revision.get(),
            read: row.state.read_at.is_some(),
        }
    }
}

impl From<&Message> for Told {
    fn from(message: &Message) -> Self {
        let event = match &message.event {
            // What goes over the wire is what counts.
            Event::Live(live) => {
                let bytes = live.event().message.clone();
                return Self::from(&SubscribeResponse::decode(bytes).expect("it is one"));
            }
            Event::Connected { .. } => ToldEvent::Connected,
            Event::Notification(notification) => {
                ToldEvent::Notification((&notification.row).into())
            }
            Event::Removed(row) => ToldEvent::Changed(vec![row.into()]),
            Event::CaughtUp => ToldEvent::CaughtUp,
            Event::Heartbeat => ToldEvent::Heartbeat,
            Event::Reset { .. } => ToldEvent::Reset,
            Event::Reconnect { .. } => ToldEvent::Reconnect,
        };
        Self {
            position: message.position.get(),
            head: message.head.into(),
            ring: message.ring,
            event,
        }
    }
}

impl From<&SubscribeResponse> for Told {
    fn from(message: &SubscribeResponse) -> Self {
        use subscribe_response::Event;
        let id = |id: &String| Uuid::parse_str(id).expect("the service sends UUIDs");
        let event = match message.event.as_ref().expect("every message has an event") {
            Event::Connected(_) => ToldEvent::Connected,
            Event::Notification(row) => ToldEvent::Notification(ToldRow {
                id: id(&row.id),
                sequence: row.sequence,
                revision: row.revision,
                read: row.read_at.is_some(),
            }),
            Event::Changed(changed) => {
                let rows = changed.notifications.iter().map(|row| ToldRow {
                    id: id(&row.id),
                    sequence: row.sequence,
                    revision: row.revision,
                    read: row.read_at.is_some(),
                });
                ToldEvent::Changed(rows.collect())
            }
            Event::Seen(_) => ToldEvent::Looked,
            Event::CaughtUp(_) => ToldEvent::CaughtUp,
            Event::Heartbeat(_) => ToldEvent::Heartbeat,
            Event::Reset(_) => ToldEvent::Reset,
            Event::Reconnect(_) => ToldEvent::Reconnect,
        };
        Self {
            position: message.position,
            head: message.head.into(),
            ring: message.ring,
            event,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copy {
    revision: u64,
    read: bool,
}

/// A client's state, and what was found wrong with what made it. The checks that
/// need the whole history are made at the end ([`Screen::check`]), since a stream
/// may show a change before its writer is answered.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// The last one is the present one; each other was dropped for a new load.
    folds: Vec<Fold>,
    /// Where to resume; `None` before the first message.
    pub position: Option<u64>,
    /// The head of every message and reply.
    pub heads: Vec<Head>,
    /// Whether the stream has caught up.
    pub live: bool,
    connected: bool,
    rung: HashSet<Uuid>,
    pub resets: usize,
    /// All that was seen, for who has to find out.
    pub transcript: Vec<String>,
}

/// All that was folded from one load on.
#[derive(Clone, Debug, Default)]
struct Fold {
    /// Nothing is known of what was created up to here.
    known_from: u64,
    /// The copies of each notification, each with the number of claims before it.
    copies: HashMap<Uuid, Vec<(usize, Copy)>>,
    /// The positions that were claimed, in order, each with its head.
    claims: Vec<(u64, u64)>,
}

impl Fold {
    fn copy(&self, id: &Uuid) -> Option<Copy> {
        self.copies.get(id)?.last().map(|(_, copy)| *copy)
    }

    /// Takes a row that is later than the copy.
    fn apply(&mut self, row: &ToldRow) {
        let ToldRow {
            id, revision, read, ..
        } = *row;
        let copy = self.copy(&id);
        if copy.is_none_or(|copy| copy.revision < revision) {
            self.set(id, Copy { revision, read });
        }
    }

    fn set(&mut self, id: Uuid, copy: Copy) {
        self.copies
            .entry(id)
            .or_default()
            .push((self.claims.len(), copy));
    }

    /// The copy when the claim of this number was made.
    fn copy_at(&self, id: &Uuid, claim: usize) -> Option<Copy> {
        let copies = self.copies.get(id)?;
        copies
            .iter()
            .rev()
            .find(|(made, _)| *made <= claim)
            .map(|(_, copy)| *copy)
    }

    fn check(&self, history: &History) -> Check {
        for (id, copies) in &self.copies {
            let changes = history.changes.get(id);
            for (_, copy) in copies {
                ensure!(
                    changes.is_some_and(|changes| changes.contains(&copy.revision)),
                    "{id} was shown as {copy:?}, and what happened to it is {changes:?}"
                );
            }
        }
        let mut after = self.known_from;
        for (claim, (position, head)) in self.claims.iter().enumerate() {
            let passed = history
                .entries
                .range(after + 1..)
                .take_while(|(at, _)| *at <= position);
            for (revision, (entry, _)) in passed {
                for id in entry.ids() {
                    let changes = &history.changes[id];
                    let created_at = changes.first().copied().unwrap_or_default();
                    let last = changes
                        .range(..=*head)
                        .next_back()
                        .copied()
                        .unwrap_or_default();
                    match self.copy_at(id, claim) {
                        Some(copy) if copy.revision >= last => {}
                        // Rows come in their present state: it is yet to come.
                        _ if last > *position => {}
                        None if created_at <= self.known_from => {}
                        copy => {
                            return Err(format!(
                                "position {position} was claimed at the head {head}, and {entry:?} \
                                 of revision {revision} was not seen: {copy:?}"
                            ));
                        }
                    }
                }
            }
            after = after.max(*position);
        }
        Ok(())
    }
}

impl Screen {
    /// A client that loaded the whole inbox at `revision`.
    pub fn load(&mut self, rows: impl IntoIterator<Item = (Uuid, u64, bool)>, head: Head) {
        let revision = head.revision;
        self.transcript.push(format!("loaded at {revision}"));
        let mut fold = Fold::default();
        for (id, revision, read) in rows {
            fold.set(id, Copy { revision, read });
        }
        fold.claims.push((revision, revision));
        self.folds.push(fold);
        self.position = Some(revision);
        self.heads.push(head);
    }

    /// The stream was cut; its next message is a new stream's first.
    pub fn cut(&mut self) {
        self.connected = false;
        self.live = false;
    }

    /// Folds a message, and checks what can be checked at once.
    pub fn see(&mut self, told: &Told, resumed: Option<u64>) -> Check {
        let Told {
            position,
            head,
            ring,
            ref event,
        } = *told;
        let revision = head.revision;
        self.transcript
            .push(format!("resumed after {resumed:?}: {told:?}"));
        self.heads.push(head);
        if !self.connected {
            ensure!(
                *event == ToldEvent::Connected,
                "the first message is {event:?}"
            );
            self.connected = true;
            match resumed {
                Some(after) => {
                    ensure!(
                        position == after,
                        "resumed after {after}, connected at {position}"
                    );
                    if self.folds.is_empty() {
                        self.folds.push(Fold {
                            known_from: after,
                            ..Fold::default()
                        });
                        self.position = Some(after);
                    }
                }
                None => {
                    ensure!(
                        position == revision,
                        "connected at {position}, the head is {revision}"
                    );
                    self.folds.push(Fold {
                        known_from: position,
                        ..Fold::default()
                    });
                    self.position = Some(position);
                    self.live = true;
                }
            }
            return Ok(());
        }
        let before = self.position.unwrap_or(0);
        let Some(fold) = self.folds.last_mut() else {
            return Err("a message before anything was loaded".into());
        };
        ensure!(
            position >= before,
            "the position fell from {before} to {position}"
        );
        if *event != ToldEvent::Reset {
            ensure!(
                position <= revision,
                "position {position} is above revision {revision}"
            );
        }
        match event {
            ToldEvent::Connected => return Err("connected twice".into()),
            ToldEvent::Notification(row) => {
                let ToldRow {
                    id,
                    sequence,
                    revision,
                    read,
                } = *row;
                ensure!(
                    sequence <= revision,
                    "{id}: sequence {sequence} above {revision}"
                );
                let known = fold.copy(&id);
                let is_new = known.is_none() && sequence > fold.known_from;
                let is_unseen = !read && sequence > head.seen_through;
                // One that changed while a heal went on may be taken for repeated.
                if is_new && self.live && sequence == revision && is_unseen {
                    ensure!(ring, "{id} is new to a live stream, and is not to ring");
                }
                if known.is_some() || !self.live || !is_unseen {
                    ensure!(!ring, "{id} rings, and is not new to a live stream");
                }
                if ring {
                    ensure!(self.rung.insert(id), "{id} rang twice");
                }
                fold.apply(row);
            }
            ToldEvent::Changed(rows) => {
                ensure!(self.live, "a live event in a replay: {event:?}");
                ensure!(!ring, "what was marked rings");
                for row in rows {
                    ensure!(
                        row.revision == revision && row.sequence < revision,
                        "{row:?} of a change at {revision}"
                    );
                    if fold.copy(&row.id).is_some() {
                        fold.apply(row);
                    }
                }
            }
            ToldEvent::Looked => ensure!(self.live, "a live event in a replay: {event:?}"),
            ToldEvent::CaughtUp => {
                ensure!(
                    position == revision,
                    "caught up at {position}, the head is {revision}"
                );
                self.live = true;
            }
            ToldEvent::Heartbeat => {
                ensure!(self.live, "a heartbeat in a replay");
                ensure!(
                    position == revision,
                    "a heartbeat at {position}, the head is {revision}"
                );
            }
            ToldEvent::Reset => {
                self.resets += 1;
                return Ok(());
            }
            ToldEvent::Reconnect => {}
        }
        if matches!(event, ToldEvent::Changed(_) | ToldEvent::Looked) {
            ensure!(
                position == revision && position == before + 1,
                "a live event at {position} of revision {revision} after {before}"
            );
        }
        if position > before {
            fold.claims.push((position, revision));
            self.position = Some(position);
        }
        Ok(())
    }

    /// Checks all that was seen against what happened.
    pub fn check(&self, history: &History) -> Check {
        history.check_heads(&self.heads)?;
        self.folds.iter().try_for_each(|fold| fold.check(history))?;
        let unread = history.unread();
        if let Some(fold) = self.folds.last()
            && self.position == Some(history.head().revision)
        {
            for id in fold.copies.keys() {
                let copy = fold.copy(id);
                ensure!(
                    copy.is_some_and(|copy| copy.read != unread.contains(id)),
                    "{id} is {copy:?} at the head"
                );
            }
        }
        Ok(())
    }
}
