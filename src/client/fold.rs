//! The state of an inbox as a fold over its stream, without I/O.
//!
//! Promises: whatever is repeated, cut and resumed, the state after a message
//! is that of the server's inbox at the position reached. The list holds the
//! newest notifications that were loaded or came since, down to a window; the
//! counts are those of the highest revision seen, and are never added to or
//! subtracted from. What cannot be folded asks for a load.

use std::time::Duration;

use crate::proto::{
    ChangedNotification, GetRecentResponse, Head, Notification, SubscribeResponse,
    subscribe_response::Event,
};

/// What one user's screen shows, and where its stream resumes.
#[derive(Clone, Debug)]
pub struct Inbox {
    /// Newest first, by `sequence`; archived ones are not in it.
    notifications: Vec<Notification>,
    window: usize,
    /// Rows of a lower sequence are older than the list and stay out of it.
    oldest_sequence: u64,
    head: Head,
    /// `None` until it was loaded, and again when it must be.
    position: Option<u64>,
    /// The highest position of all streams since the load. One that takes over
    /// begins below it: what was told before comes once more, and is silent.
    told: u64,
    epoch: Option<String>,
}

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The list or a count is another one now.
    pub changed: bool,
    /// The message is a notification that is to be heard: announce it.
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
            head: Head::default(),
            position: None,
            told: 0,
            epoch: None,
        }
    }

    /// An inbox whose stream was at `position`, in `epoch` where that is known.
    /// Its list begins empty and holds what was created since.
    pub fn resume(window: usize, position: u64, epoch: Option<String>) -> Self {
        Self {
            oldest_sequence: position.saturating_add(1),
            position: Some(position),
            told: position,
            epoch,
            ..Self::new(window)
        }
    }

    /// The notifications, newest first.
    pub fn notifications(&self) -> &[Notification] {
        &self.notifications
    }

    /// The inbox's revision and its counts, of all there are: the badge.
    pub fn head(&self) -> &Head {
        &self.head
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
        let head = page.head.unwrap_or_default();
        let complete = page.next_page_token.is_empty();
        self.notifications = page.notifications;
        self.notifications.retain(is_in_inbox);
        self.notifications
            .sort_unstable_by_key(|row| std::cmp::Reverse(row.sequence));
        self.oldest_sequence = match self.notifications.last() {
            _ if complete => 0,
            Some(oldest) => oldest.sequence,
            None => head.revision.saturating_add(1),
        };
        self.trim();
        // An answer may be older than what came before it.
        if head.revision >= self.head.revision || self.is_foreign(&page.epoch) {
            self.head = head;
        }
        self.position = Some(head.revision);
        self.told = head.revision;
        self.epoch = Some(page.epoch);
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
                self.position = Some(message.position);
            }
            Some(Event::Notification(row)) => {
                effect.changed = self.upsert(row);
                effect.ring = message.ring && effect.changed && row.revision > self.told;
            }
            Some(Event::Changed(changed)) => {
                for row in &changed.notifications {
                    effect.changed |= match &row.notification {
                        Some(whole) => self.upsert(whole),
                        None => self.update(row),
                    };
                }
                effect.ring = message.ring && effect.changed && message.position > self.told;
            }
            Some(Event::Seen(_) | Event::CaughtUp(_) | Event::Heartbeat(_)) => {}
            Some(Event::Reset(reset)) => {
                // A head below what was seen is of another life too, whatever it is
                // called.
                let revision = message.head.map_or(0, |head| head.revision);
                if self.is_foreign(&reset.epoch) || revision < self.head.revision {
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
        let head = message.head.unwrap_or_default();
        if head.revision >= self.head.revision {
            effect.changed |= self.head != head;
            self.head = head;
        }
        self.position = match effect.then {
            Then::Load => None,
            _ => self.position.max(Some(message.position)),
        };
        self.told = self.told.max(self.position.unwrap_or(0));
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

    /// Whether it changed the list.
    fn upsert(&mut self, row: &Notification) -> bool {
        if let Some(index) = self.held(&row.id) {
            if row.revision <= self.notifications[index].revision {
                return false;
            }
            if is_in_inbox(row) {
                self.notifications[index].clone_from(row);
            } else {
                self.notifications.remove(index);
            }
            return true;
        }
        // Everything up to the position was delivered: a row that is not held
        // any more has left the inbox or is too old, and an echo does not bring it
        // back.
        let is_echo = self
            .position
            .is_some_and(|position| row.revision <= position);
        if !is_in_inbox(row) || is_echo || row.sequence < self.oldest_sequence {
            return false;
        }
        let index = self
            .notifications
            .partition_point(|held| held.sequence > row.sequence);
        self.notifications.insert(index, row.clone());
        self.trim();
        true
    }

    /// Whether it changed the list.
    fn update(&mut self, changed: &ChangedNotification) -> bool {
        let Some(index) = self.held(&changed.id) else {
            return false;
        };
        let row = &mut self.notifications[index];
        if changed.revision <= row.revision {
            return false;
        }
        row.revision = changed.revision;
        row.read_at = changed.read_at;
        row.archived_at = changed.archived_at;
        row.removed_at = changed.removed_at;
        if !is_in_inbox(row) {
            self.notifications.remove(index);
        }
        true
    }

    fn held(&self, id: &str) -> Option<usize> {
        self.notifications.iter().position(|held| held.id == id)
    }

    fn trim(&mut self) {
        if let Some(newest_out) = self.notifications.get(self.window) {
            self.oldest_sequence = newest_out.sequence.saturating_add(1);
            self.notifications.truncate(self.window);
        }
    }
}

fn is_in_inbox(row: &Notification) -> bool {
    row.archived_at.is_none() && row.removed_at.is_none()
}

#[cfg(test)]
mod tests;
