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
    model::{Change, Notification},
    proto::{self, subscribe_response},
};
use uuid::Uuid;

/// One change of an inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Created(Uuid),
    /// Marked as read out of these: those that were unread then.
    Marked(Vec<Uuid>),
}

impl Entry {
    fn ids(&self) -> &[Uuid] {
        match self {
            Self::Created(id) => std::slice::from_ref(id),
            Self::Marked(ids) => ids,
        }
    }
}

/// All changes of one inbox, by revision, with the unread count after each.
#[derive(Clone, Debug, Default)]
pub struct History {
    entries: BTreeMap<u64, (Entry, u32)>,
    /// The revisions that touched a notification; the least made it.
    changes: HashMap<Uuid, BTreeSet<u64>>,
}

pub type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($problem:tt)+) => {
        if !$condition {
            return Err(format!($($problem)+));
        }
    };
}

impl History {
    /// Notes an answered write. Two that were given one revision are a fault.
    pub fn add(&mut self, revision: u64, entry: Entry, unread_count: u32) -> Check {
        for id in entry.ids() {
            self.changes.entry(*id).or_default().insert(revision);
        }
        let change = (entry, unread_count);
        match self.entries.insert(revision, change.clone()) {
            Some(former) if former != change => Err(format!(
                "revision {revision} was given twice: {former:?} and {change:?}"
            )),
            _ => Ok(()),
        }
    }

    pub fn head(&self) -> u64 {
        self.entries
            .last_key_value()
            .map_or(0, |(revision, _)| *revision)
    }

    pub fn unread_at(&self, revision: u64) -> Option<u32> {
        if revision == 0 {
            return Some(0);
        }
        self.entries.get(&revision).map(|(_, unread)| *unread)
    }

    /// Revisions without a gap, and counts that are those of the rows.
    pub fn check(&self) -> Check {
        let mut unread = HashSet::new();
        for (expected, (revision, (entry, count))) in (1..).zip(&self.entries) {
            ensure!(*revision == expected, "revision {expected} is missing");
            match entry {
                Entry::Created(id) => ensure!(unread.insert(*id), "{id} was created twice"),
                Entry::Marked(ids) => {
                    for id in ids {
                        ensure!(
                            unread.remove(id),
                            "revision {revision} marks {id}, not unread"
                        );
                    }
                    ensure!(!ids.is_empty(), "revision {revision} changes nothing");
                }
            }
            ensure!(
                *count as usize == unread.len(),
                "at revision {revision} the count is {count}, and {} are unread",
                unread.len()
            );
        }
        Ok(())
    }

    /// What the rows of a store at rest tell. Nothing archives here: a row was
    /// made at its sequence and, if it is read, read at its revision. So the rows
    /// hold every change that there was.
    pub fn of_rows(rows: &[Row]) -> Result<Self, String> {
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
                made @ Entry::Created(_) => {
                    return Err(format!("{made:?} and a read share a revision: {row:?}"));
                }
            }
        }
        let mut history = Self::default();
        let mut unread = 0;
        for (revision, entry) in entries {
            match &entry {
                Entry::Created(_) => unread += 1,
                Entry::Marked(ids) => unread -= i64::try_from(ids.len()).unwrap_or(i64::MAX),
            }
            let unread = u32::try_from(unread).map_err(|_| "more are read than made")?;
            history.add(revision, entry, unread)?;
        }
        history.check()?;
        Ok(history)
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
        let mut unread = HashSet::new();
        for (entry, _) in self.entries.values() {
            match entry {
                Entry::Created(id) => {
                    unread.insert(*id);
                }
                Entry::Marked(ids) => ids.iter().for_each(|id| {
                    unread.remove(id);
                }),
            }
        }
        unread
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
    /// The (revision, count) of every reply.
    heads: Vec<(u64, u32)>,
}

/// One send, which is tried until it is answered, and at times once more.
#[derive(Debug, Default)]
struct Tried {
    times: usize,
    answers: Vec<Sent>,
}

#[derive(Debug)]
struct Mark {
    asked: Vec<Uuid>,
    /// The revision of the reply, and how many it says were marked.
    answer: Option<(u64, u32)>,
}

impl Ledger {
    /// A send is about to be tried, for the first time or again.
    pub fn send(&mut self, title: &str) {
        self.sends.entry(title.to_owned()).or_default().times += 1;
    }

    /// It was answered. All answers to it must tell of one notification, and one
    /// of them at most that it is new.
    pub fn sent(&mut self, title: &str, sent: Sent, head: (u64, u32)) -> Check {
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
            head.0 >= sent.sequence,
            "`{title}` was answered with a head before it, {head:?}: {sent:?}"
        );
        answers.push(sent);
        Ok(())
    }

    /// A mark was tried; `answer` is the head of its reply and the count, if
    /// there was a reply.
    pub fn marked(&mut self, asked: Vec<Uuid>, answer: Option<((u64, u32), u32)>) {
        self.heads.extend(answer.map(|(head, _)| head));
        let answer = answer.map(|((revision, _), count)| (revision, count));
        self.marks.push(Mark { asked, answer });
    }

    /// A reply said this head.
    pub fn head(&mut self, revision: u64, unread_count: u32) {
        self.heads.push((revision, unread_count));
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
        for (revision, count) in &self.heads {
            let expected = history.unread_at(*revision);
            ensure!(
                expected == Some(*count),
                "revision {revision} has the count {expected:?}, and a reply said {count}"
            );
        }
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
                marked.is_some_and(|ids| ids.len() == count as usize && mark.may_be(ids)),
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
                ensure!(
                    assign(ids, &unanswered, &mut taken, &mut HashSet::new()),
                    "nobody asked for the marks of revision {revision}: {ids:?}"
                );
            }
        }
        Ok(())
    }
}

impl Mark {
    fn may_be(&self, ids: &[Uuid]) -> bool {
        ids.iter().all(|id| self.asked.contains(id))
    }
}

/// Finds a mark for `ids`, moving others to another mark where they have one.
fn assign<'a>(
    ids: &'a [Uuid],
    marks: &[&Mark],
    taken: &mut Vec<Option<&'a [Uuid]>>,
    tried: &mut HashSet<usize>,
) -> bool {
    for at in 0..marks.len() {
        if !marks[at].may_be(ids) || !tried.insert(at) {
            continue;
        }
        let is_free = match taken[at] {
            None => true,
            Some(other) => assign(other, marks, taken, tried),
        };
        if is_free {
            taken[at] = Some(ids);
            return true;
        }
    }
    false
}

/// A message of a stream, wherever it was taken from.
#[derive(Clone, Debug)]
pub struct Seen {
    pub position: u64,
    pub revision: u64,
    pub unread_count: u32,
    pub replayed: bool,
    pub event: SeenEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenEvent {
    Connected,
    Notification {
        id: Uuid,
        sequence: u64,
        revision: u64,
        read: bool,
    },
    MarkedRead(Vec<Uuid>),
    CaughtUp,
    Heartbeat,
    Reset,
    Reconnect,
}

fn row(notification: &Notification) -> SeenEvent {
    SeenEvent::Notification {
        id: notification.id,
        sequence: notification.sequence.get(),
        revision: notification.revision.get(),
        read: notification.read_at.is_some(),
    }
}

impl From<&Message> for Seen {
    fn from(message: &Message) -> Self {
        let event = match &message.event {
            Event::Connected { .. } => SeenEvent::Connected,
            Event::Row(notification) => row(notification),
            Event::Live(live) => match &live.event().change {
                Change::Created(notification) => row(notification),
                Change::MarkedRead {
                    notification_ids, ..
                } => SeenEvent::MarkedRead(notification_ids.clone()),
            },
            Event::CaughtUp => SeenEvent::CaughtUp,
            Event::Heartbeat => SeenEvent::Heartbeat,
            Event::Reset { .. } => SeenEvent::Reset,
            Event::Reconnect { .. } => SeenEvent::Reconnect,
        };
        Self {
            position: message.position.get(),
            revision: message.revision.get(),
            unread_count: message.unread_count,
            replayed: message.replayed,
            event,
        }
    }
}

impl From<&proto::SubscribeResponse> for Seen {
    fn from(message: &proto::SubscribeResponse) -> Self {
        use subscribe_response::Event;
        let id = |id: &String| Uuid::parse_str(id).expect("the service sends UUIDs");
        let event = match message.event.as_ref().expect("every message has an event") {
            Event::Connected(_) => SeenEvent::Connected,
            Event::Notification(row) => SeenEvent::Notification {
                id: id(&row.id),
                sequence: row.sequence,
                revision: row.revision,
                read: row.read_at.is_some(),
            },
            Event::MarkedRead(marked) => {
                SeenEvent::MarkedRead(marked.notification_ids.iter().map(id).collect())
            }
            Event::CaughtUp(_) => SeenEvent::CaughtUp,
            Event::Heartbeat(_) => SeenEvent::Heartbeat,
            Event::Reset(_) => SeenEvent::Reset,
            Event::Reconnect(_) => SeenEvent::Reconnect,
        };
        Self {
            position: message.position,
            revision: message.revision,
            unread_count: message.unread_count,
            replayed: message.replayed,
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
    /// The (revision, count) of every message and reply.
    heads: Vec<(u64, u32)>,
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
    pub fn load(
        &mut self,
        rows: impl IntoIterator<Item = (Uuid, u64, bool)>,
        revision: u64,
        unread_count: u32,
    ) {
        self.transcript.push(format!("loaded at {revision}"));
        let mut fold = Fold::default();
        for (id, revision, read) in rows {
            fold.set(id, Copy { revision, read });
        }
        fold.claims.push((revision, revision));
        self.folds.push(fold);
        self.position = Some(revision);
        self.heads.push((revision, unread_count));
    }

    /// The stream was cut; its next message is a new stream's first.
    pub fn cut(&mut self) {
        self.connected = false;
        self.live = false;
    }

    /// Folds a message, and checks what can be checked at once.
    pub fn see(&mut self, seen: &Seen, resumed: Option<u64>) -> Check {
        let Seen {
            position,
            revision,
            unread_count,
            replayed,
            ref event,
        } = *seen;
        self.transcript
            .push(format!("resumed after {resumed:?}: {seen:?}"));
        self.heads.push((revision, unread_count));
        if !self.connected {
            ensure!(
                *event == SeenEvent::Connected,
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
        if *event != SeenEvent::Reset {
            ensure!(
                position <= revision,
                "position {position} is above revision {revision}"
            );
        }
        match event {
            SeenEvent::Connected => return Err("connected twice".into()),
            SeenEvent::Notification {
                id,
                sequence,
                revision,
                read,
            } => {
                ensure!(
                    sequence <= revision,
                    "{id}: sequence {sequence} above {revision}"
                );
                let known = fold.copy(id);
                let is_new = known.is_none() && *sequence > fold.known_from;
                // One that changed while a heal went on may be taken for repeated.
                if is_new && self.live && sequence == revision {
                    ensure!(
                        !replayed,
                        "{id} is new to a live stream, and is not to ring"
                    );
                }
                if known.is_some() || !self.live {
                    ensure!(replayed, "{id} rings, and is not new to a live stream");
                }
                if !replayed {
                    ensure!(self.rung.insert(*id), "{id} rang twice");
                }
                if known.is_none_or(|copy| copy.revision < *revision) {
                    fold.set(
                        *id,
                        Copy {
                            revision: *revision,
                            read: *read,
                        },
                    );
                }
            }
            SeenEvent::MarkedRead(ids) => {
                ensure!(self.live, "marked_read in a replay");
                ensure!(
                    position == revision && position == before + 1,
                    "a live event at {position} of revision {revision} after {before}"
                );
                for id in ids {
                    if fold.copy(id).is_some() {
                        fold.set(
                            *id,
                            Copy {
                                revision,
                                read: true,
                            },
                        );
                    }
                }
            }
            SeenEvent::CaughtUp => {
                ensure!(
                    position == revision,
                    "caught up at {position}, the head is {revision}"
                );
                self.live = true;
            }
            SeenEvent::Heartbeat => {
                ensure!(self.live, "a heartbeat in a replay");
                ensure!(
                    position == revision,
                    "a heartbeat at {position}, the head is {revision}"
                );
            }
            SeenEvent::Reset => {
                self.resets += 1;
                return Ok(());
            }
            SeenEvent::Reconnect => {}
        }
        if position > before {
            fold.claims.push((position, revision));
            self.position = Some(position);
        }
        Ok(())
    }

    /// Checks all that was seen against what happened.
    pub fn check(&self, history: &History) -> Check {
        for (revision, count) in &self.heads {
            let expected = history.unread_at(*revision);
            ensure!(
                expected == Some(*count),
                "revision {revision} has the count {expected:?}, and {count} was said"
            );
        }
        self.folds.iter().try_for_each(|fold| fold.check(history))?;
        let unread = history.unread();
        if let Some(fold) = self.folds.last()
            && self.position == Some(history.head())
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
