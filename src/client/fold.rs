//! The state of an inbox as a fold over its stream, without I/O.
//!
//! Promises: whatever is repeated, cut and resumed, the state after a message
//! is that of the server's inbox at the position reached. The list holds the
//! newest notifications that were loaded or came since, down to a window; the
//! count is the one that belongs to the highest revision seen, and is never
//! added to or subtracted from. What cannot be folded asks for a load.

use std::time::Duration;

use crate::proto::{
    GetRecentResponse, MarkedRead, Notification, SubscribeResponse, subscribe_response::Event,
};

/// What one user's screen shows, and where its stream resumes.
#[derive(Clone, Debug)]
pub struct Inbox {
    /// Newest first, by `sequence`; archived ones are not in it.
    notifications: Vec<Notification>,
    window: usize,
    /// Rows of a lower sequence are older than the list and stay out of it.
    oldest_sequence: u64,
    revision: u64,
    unread_count: u32,
    /// `None` until it was loaded, and again when it must be.
    position: Option<u64>,
    epoch: Option<String>,
    /// Rows of this sequence or a lower one were there before the stream.
    ring_above: u64,
}

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The list or the count is another one now.
    pub changed: bool,
    /// The message is a notification that is new to this screen: announce it.
    pub ring: bool,
    /// What the owner of the stream does next.
    pub then: Then,
}

/// How to go on after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read the next message.
    Continue,
    /// The stream cannot go on from here: load with `GetRecent`, give the page
    /// to [`Inbox::load`], subscribe after it.
    Load,
    /// Leave, wait this long, resume.
    ComeBack(Duration),
}

impl Inbox {
    /// An inbox that has to be loaded. Its list keeps at most `window` rows.
    pub fn new(window: usize) -> Self {
        Self {
            notifications: Vec::new(),
            window,
            oldest_sequence: 0,
            revision: 0,
            unread_count: 0,
            position: None,
            epoch: None,
            ring_above: 0,
        }
    }

    /// An inbox whose stream was at `position`, in `epoch` where that is known.
    /// Its list begins empty and holds what was created since.
    pub fn resume(window: usize, position: u64, epoch: Option<String>) -> Self {
        Self {
            oldest_sequence: position.saturating_add(1),
            position: Some(position),
            epoch,
            ring_above: position,
            ..Self::new(window)
        }
    }

    /// The notifications, newest first.
    pub fn notifications(&self) -> &[Notification] {
        &self.notifications
    }

    /// How many are unread, of all there are: the badge.
    pub fn unread_count(&self) -> u32 {
        self.unread_count
    }

    /// The revision that the count belongs to.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Where the stream resumes; none when it has to be loaded.
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// The epoch the position belongs to.
    pub fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// Takes the first page of `GetRecent`, asked for without `since`, in place
    /// of all it has.
    pub fn load(&mut self, page: GetRecentResponse) {
        let complete = page.next_page_token.is_empty();
        self.notifications = page.notifications;
        self.notifications.retain(|row| row.archived_at.is_none());
        self.notifications
            .sort_unstable_by_key(|row| std::cmp::Reverse(row.sequence));
        self.oldest_sequence = match self.notifications.last() {
            _ if complete => 0,
            Some(oldest) => oldest.sequence,
            None => page.revision.saturating_add(1),
        };
        self.trim();
        self.revision = page.revision;
        self.unread_count = page.unread_count;
        self.position = Some(page.revision);
        self.epoch = Some(page.epoch);
        self.ring_above = page.revision;
    }

    /// Folds one message of the stream.
    pub fn apply(&mut self, message: &SubscribeResponse) -> Effect {
        let above = self
            .position
            .is_none_or(|position| message.position > position);
        let mut effect = Effect {
            changed: false,
            ring: false,
            then: Then::Continue,
        };
        match &message.event {
            Some(Event::Connected(connected)) => {
                if self.is_foreign(&connected.epoch) {
                    return self.drop_all();
                }
                self.epoch = Some(connected.epoch.clone());
                // A stream that takes over from another one begins below its
                // end: what that one delivered comes once more, and is silent.
                self.ring_above = self
                    .ring_above
                    .max(self.position.unwrap_or(message.position));
                self.position = Some(message.position);
            }
            Some(Event::Notification(row)) => self.upsert(row, message.replayed, &mut effect),
            Some(Event::MarkedRead(marked)) if above => {
                effect.changed = self.mark_read(marked, message.revision);
            }
            Some(Event::MarkedRead(_) | Event::CaughtUp(_) | Event::Heartbeat(_)) => {}
            Some(Event::Reset(reset)) => {
                if self.is_foreign(&reset.epoch) {
                    return self.drop_all();
                }
                effect.then = Then::Load;
            }
            Some(Event::Reconnect(reconnect)) => {
                let after = reconnect.after.and_then(|after| after.try_into().ok());
                effect.then = Then::ComeBack(after.unwrap_or_default());
            }
            // A kind of event that came after this client was made.
            None if above => effect.then = Then::Load,
            None => {}
        }
        if message.revision >= self.revision {
            effect.changed |= self.unread_count != message.unread_count;
            self.revision = message.revision;
            self.unread_count = message.unread_count;
        }
        self.position = match effect.then {
            Then::Load => None,
            _ => self.position.max(Some(message.position)),
        };
        effect
    }

    fn is_foreign(&self, epoch: &str) -> bool {
        self.epoch.as_deref().is_some_and(|own| own != epoch)
    }

    /// What it has is of another life of the store.
    fn drop_all(&mut self) -> Effect {
        *self = Self::new(self.window);
        Effect {
            changed: true,
            ring: false,
            then: Then::Load,
        }
    }

    fn upsert(&mut self, row: &Notification, replayed: bool, effect: &mut Effect) {
        let archived = row.archived_at.is_some();
        if let Some(index) = self.notifications.iter().position(|held| held.id == row.id) {
            if row.revision <= self.notifications[index].revision {
                return;
            }
            effect.changed = true;
            if archived {
                self.notifications.remove(index);
            } else {
                self.notifications[index].clone_from(row);
            }
            return;
        }
        // Everything up to the position was delivered: a row that is not held
        // any more was archived or is too old, and an echo does not bring it
        // back.
        let is_echo = self
            .position
            .is_some_and(|position| row.revision <= position);
        if archived || is_echo || row.sequence < self.oldest_sequence {
            return;
        }
        let index = self
            .notifications
            .partition_point(|held| held.sequence > row.sequence);
        self.notifications.insert(index, row.clone());
        self.trim();
        effect.changed = true;
        effect.ring = !replayed && row.sequence > self.ring_above;
    }

    fn mark_read(&mut self, marked: &MarkedRead, revision: u64) -> bool {
        let mut changed = false;
        for row in &mut self.notifications {
            if row.revision < revision && marked.notification_ids.contains(&row.id) {
                row.read_at = marked.read_at;
                row.revision = revision;
                changed = true;
            }
        }
        changed
    }

    fn trim(&mut self) {
        if let Some(newest_out) = self.notifications.get(self.window) {
            self.oldest_sequence = newest_out.sequence.saturating_add(1);
            self.notifications.truncate(self.window);
        }
    }
}

#[cfg(test)]
mod tests;
