//! A client that folds a stream, and what was wrong with what it was told.

use std::collections::{BTreeMap, HashMap, HashSet};

use uuid::Uuid;

use super::{
    Check, Head, History, Told, ToldEvent, ToldRow,
    model::{ModelRow, Rows},
};

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
    heal: Option<Heal>,
    /// What was told of content, and whether it rang.
    bells: Vec<Bell>,
    pub resets: usize,
    /// All that was seen, for who has to find out.
    pub transcript: Vec<String>,
}

/// What a stream that was live is told from the store.
#[derive(Clone, Copy, Debug)]
struct Heal {
    /// The position through which it was live.
    from: u64,
    /// The head of its first page.
    first_head: u64,
}

/// A row that was told, and whether it was to be heard.
#[derive(Clone, Copy, Debug)]
struct Bell {
    id: Uuid,
    revision: u64,
    ring: bool,
    seen_through: u64,
    /// Through where the stream was live; `None` in a replay.
    live_through: Option<u64>,
    heal: Option<Heal>,
}

/// All that was folded from one load on.
#[derive(Clone, Debug, Default)]
struct Fold {
    /// Nothing is known of what was created up to here.
    known_from: u64,
    /// What was in the inbox at this revision was loaded, and nothing else is known of
    /// what was created up to it.
    loaded_at: Option<u64>,
    /// The copies of each notification, each with the number of claims before it.
    copies: HashMap<Uuid, Vec<(usize, ToldRow)>>,
    /// The positions that were claimed, in order, each with its head.
    claims: Vec<(u64, u64)>,
}

impl Fold {
    fn copy(&self, id: &Uuid) -> Option<&ToldRow> {
        self.copies.get(id)?.last().map(|(_, copy)| copy)
    }

    /// Takes a row that is later than the copy.
    fn apply(&mut self, row: &ToldRow) {
        let copy = self.copy(&row.id);
        if copy.is_none_or(|copy| copy.revision < row.revision) {
            let copies = self.copies.entry(row.id).or_default();
            copies.push((self.claims.len(), *row));
        }
    }

    /// The copy when the claim of this number was made.
    fn copy_at(&self, id: &Uuid, claim: usize) -> Option<&ToldRow> {
        let copies = self.copies.get(id)?;
        let made = copies.iter().rev().find(|(made, _)| *made <= claim);
        made.map(|(_, copy)| copy)
    }

    fn check(&self, history: &History, rows: &Rows) -> Check {
        for (id, copies) in &self.copies {
            for (_, copy) in copies {
                let there = rows.get(id).and_then(|changes| changes.get(&copy.revision));
                ensure!(
                    there.is_some_and(|there| {
                        (there.sequence, there.state) == (copy.sequence, copy.state)
                    }),
                    "{id} was shown as {copy:?}, and what happened to it is {:?}",
                    rows.get(id)
                );
            }
        }
        let mut after = self.known_from;
        for (claim, (position, head)) in self.claims.iter().enumerate() {
            let passed = history
                .entries
                .range(after + 1..)
                .take_while(|(at, _)| *at <= position);
            for (revision, (change, _)) in passed {
                for id in change.ids() {
                    self.check_claim(id, &rows[&id], claim, (*position, *head))
                        .map_err(|finding| {
                            format!("{finding} ({change:?} of revision {revision})")
                        })?;
                }
            }
            after = after.max(*position);
        }
        Ok(())
    }

    /// Whether a row is known as its changes up to a claimed position left it.
    fn check_claim(
        &self,
        id: Uuid,
        changes: &BTreeMap<u64, ModelRow>,
        claim: usize,
        (position, head): (u64, u64),
    ) -> Check {
        let created_at = changes.keys().next().copied().unwrap_or_default();
        let (last, row) = changes.range(..=head).next_back().expect("it is there");
        let copy = self.copy_at(&id, claim);
        let is_known = match copy {
            Some(copy) if copy.revision >= *last => true,
            // Rows come in their present state: it is yet to come.
            _ if *last > position => true,
            None if created_at <= self.known_from => true,
            // It was not in the inbox when that was loaded, or left it meanwhile.
            None if self.loaded_at.is_some_and(|loaded_at| *last <= loaded_at) => {
                let left = changes.range(head + 1..).next();
                !row.state.is_in_inbox() || left.is_some()
            }
            _ => false,
        };
        ensure!(
            is_known,
            "position {position} was claimed at the head {head}, and {id}, which became {row:?}, \
             is {copy:?} on the screen"
        );
        Ok(())
    }
}

impl Screen {
    /// A client that loaded the whole inbox at `revision`.
    pub fn load(&mut self, rows: impl IntoIterator<Item = ToldRow>, head: Head) {
        let revision = head.revision;
        self.transcript.push(format!("loaded at {revision}"));
        let mut fold = Fold {
            loaded_at: Some(revision),
            ..Fold::default()
        };
        rows.into_iter().for_each(|row| fold.apply(&row));
        fold.claims.push((revision, revision));
        self.folds.push(fold);
        self.position = Some(revision);
        self.heads.push(head);
    }

    /// The stream was cut; its next message is a new stream's first.
    pub fn cut(&mut self) {
        self.connected = false;
        self.live = false;
        self.heal = None;
    }

    /// Folds a message, and checks what can be checked at once.
    pub fn see(&mut self, told: &Told, resumed: Option<u64>) -> Check {
        self.transcript
            .push(format!("resumed after {resumed:?}: {told:?}"));
        let Told {
            position,
            head,
            ring,
            ref event,
        } = *told;
        let revision = head.revision;
        // A reset may be of another life of the store.
        if *event != ToldEvent::Reset {
            self.heads.push(head);
        }
        if !self.connected {
            return self.connect(told, resumed);
        }
        let before = self.position.unwrap_or(0);
        ensure!(
            !self.folds.is_empty(),
            "a message before anything was loaded"
        );
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
        let is_next = position == revision && position == before + 1;
        match event {
            ToldEvent::Connected => return Err("connected twice".into()),
            ToldEvent::Notification(row) => {
                let is_live = is_next && row.revision == revision;
                self.note_heal(is_live, before, revision);
                ensure!(
                    row.sequence <= row.revision && row.revision <= revision,
                    "{row:?} of an inbox at {revision}"
                );
                self.hear(row, told);
            }
            ToldEvent::Changed(rows) => {
                let is_live = is_next && rows.iter().all(|row| row.revision == revision);
                // From the store they come one by one, and only what was removed.
                let is_removal = matches!(&rows[..], [row] if row.state.removed.is_some());
                ensure!(
                    is_removal || self.live && is_live,
                    "a live event at {position} after {before}, in a replay or a heal: {event:?}"
                );
                self.note_heal(is_live, before, revision);
                for row in rows {
                    let is_new = row.sequence == revision && rows.len() == 2;
                    ensure!(
                        row.sequence < row.revision || is_new,
                        "{row:?} of a change at {revision}"
                    );
                    if is_new {
                        self.hear(row, told);
                    } else {
                        ensure!(
                            !ring || rows.iter().any(|row| row.sequence == revision),
                            "what has no news rings: {event:?}"
                        );
                    }
                    self.fold().apply(row);
                }
            }
            ToldEvent::Looked => {
                ensure!(
                    self.live && self.heal.is_none() && is_next,
                    "a look at {position} of revision {revision} after {before}"
                );
            }
            ToldEvent::CaughtUp => {
                ensure!(
                    position == revision,
                    "caught up at {position}, the head is {revision}"
                );
                self.live = true;
                self.heal = None;
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
        if position > before {
            self.fold().claims.push((position, revision));
            self.position = Some(position);
        }
        Ok(())
    }

    fn connect(&mut self, told: &Told, resumed: Option<u64>) -> Check {
        let (position, revision) = (told.position, told.head.revision);
        let event = &told.event;
        ensure!(
            *event == ToldEvent::Connected,
            "the first message is {event:?}"
        );
        self.connected = true;
        let known_from = match resumed {
            Some(after) => {
                ensure!(
                    position == after,
                    "resumed after {after}, connected at {position}"
                );
                if !self.folds.is_empty() {
                    return Ok(());
                }
                after
            }
            None => {
                ensure!(
                    position == revision,
                    "connected at {position}, the head is {revision}"
                );
                self.live = true;
                position
            }
        };
        self.folds.push(Fold {
            known_from,
            ..Fold::default()
        });
        self.position = Some(known_from);
        Ok(())
    }

    fn fold(&mut self) -> &mut Fold {
        self.folds
            .last_mut()
            .expect("it was made when it connected")
    }

    /// Notes that what comes to a live stream is from the store.
    fn note_heal(&mut self, is_live: bool, before: u64, first_head: u64) {
        if self.live && !is_live && self.heal.is_none() {
            let from = before;
            self.heal = Some(Heal { from, first_head });
        }
    }

    fn hear(&mut self, row: &ToldRow, told: &Told) {
        let before = self.position.unwrap_or(0);
        let from = self.heal.map_or(before, |heal| heal.from);
        self.bells.push(Bell {
            id: row.id,
            revision: row.revision,
            ring: told.ring,
            seen_through: told.head.seen_through,
            live_through: self.live.then_some(from),
            heal: self.heal,
        });
        self.fold().apply(row);
    }

    /// Checks all that was seen against what happened.
    pub fn check(&self, history: &History) -> Check {
        history.check_heads(&self.heads)?;
        let rows = history.rows()?;
        for fold in &self.folds {
            fold.check(history, rows)?;
        }
        self.check_bells(rows)?;
        if let Some(fold) = self.folds.last()
            && self.position == Some(history.head().revision)
        {
            for (id, changes) in rows {
                let (_, last) = changes.last_key_value().expect("it was made");
                let copy = fold.copy(id);
                let is_unknown = copy.is_none()
                    && (last.sequence <= fold.known_from || !last.state.is_in_inbox());
                ensure!(
                    is_unknown || copy.is_some_and(|copy| copy.state == last.state),
                    "{id} is {copy:?} at the head, and should be {last:?}"
                );
            }
        }
        Ok(())
    }

    /// What is new to a live stream rings, once, however it learns of it; and nothing
    /// else does.
    fn check_bells(&self, rows: &Rows) -> Check {
        let mut rung = HashSet::new();
        for bell in &self.bells {
            let row = &rows[&bell.id][&bell.revision];
            let is_new = bell
                .live_through
                .is_some_and(|live| row.ring_revision > live);
            let is_due = is_new
                && row.is_heard(bell.seen_through)
                && !rung.contains(&(bell.id, row.ring_revision));
            // One that changed while a heal went on may be taken for repeated.
            let may_be_repeated = bell
                .heal
                .is_some_and(|heal| bell.revision > heal.first_head);
            ensure!(
                bell.ring == is_due || (!bell.ring && may_be_repeated),
                "{bell:?} is to ring: {is_due}, being {row:?}"
            );
            if bell.ring {
                rung.insert((bell.id, row.ring_revision));
            }
        }
        Ok(())
    }
}
