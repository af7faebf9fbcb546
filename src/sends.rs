//! Sends that outlive their call: accepted at once, delivered when their time has come, to
//! one, to many or to a topic, and until then, or under way, cancelled.
//!
//! The node that does what falls due delivers them, in pieces, each a few hundred ordinary
//! sends behind what callers write. A piece holds the send's own row against a
//! cancellation, and each notification bears the send's id as its key: so nobody gets it
//! after it was cancelled, and a piece that was done twice is done once. Who had it last is
//! noted after the piece, and the next node goes on there.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    clock::{Clock, Timestamp},
    inbox::{Error, Inboxes},
    metrics,
    model::{InboxKey, NewNotification, OrganizationId, UserId, Wanted},
    preferences::Preferences,
    sabotage::{self, Sabotage},
    store::{
        Database, Named, NotSent,
        sends::{Accepted, NewSend, NotAccepted, Send, SendState, Step, Tally},
    },
    tries::Tries,
};

/// The most people of one piece.
const AT_ONCE: usize = 500;
/// The most sends that are under way side by side, a piece each in turn.
const SIDE_BY_SIDE: usize = 4;
/// A piece that failed is tried again after so long, for as long as what it failed for may
/// pass.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long what has ended is kept, and with it its idempotency key.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The most of it that one look deletes.
const FORGOTTEN: usize = 8;
/// What begins so much after its time is late.
const LATE: Duration = Duration::from_secs(10);

/// All sends of the service that outlive their calls.
pub struct Sends {
    store: Arc<dyn Database>,
    inboxes: Arc<Inboxes>,
    preferences: Arc<Preferences>,
    clock: Arc<dyn Clock>,
    /// How long any notification is kept.
    retention: Duration,
    tries: Tries,
}

/// Why a send was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    /// There is none of that id.
    NotFound,
    /// All have it.
    Done,
    /// It is a broadcast, and can be taken no more.
    Over,
}

/// What became of a piece.
#[derive(Default)]
struct Piece {
    tally: Tally,
    /// Of its members, those whom the store refuses.
    refused: u32,
    /// For some it failed for what passes: the store is away, or an inbox is held.
    is_delayed: bool,
    is_cancelled: bool,
}

impl Sends {
    /// The sends in `store`, delivered through `inboxes` to who wants them. A notification
    /// is kept for at most `retention`.
    pub fn new(
        store: Arc<dyn Database>,
        inboxes: Arc<Inboxes>,
        preferences: Arc<Preferences>,
        clock: Arc<dyn Clock>,
        retention: Duration,
    ) -> Self {
        Self {
            store,
            inboxes,
            preferences,
            clock,
            retention,
            tries: Tries::default(),
        }
    }

    /// The time by which a send is for later.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// An id for a send that is to be accepted.
    pub fn new_id(&self) -> Uuid {
        self.inboxes.new_id()
    }

    /// The most bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.inboxes.page_bytes()
    }

    /// Accepts a send: it is durable then. Cancel safe.
    pub async fn accept(&self, new: &NewSend) -> Result<Result<Accepted, NotAccepted>, Error> {
        Ok(self.store.accept(new, self.clock.now()).await?)
    }

    /// The send of that name. Cancel safe.
    pub async fn get(
        &self,
        organization: &OrganizationId,
        of: &Named,
    ) -> Result<Option<Send>, Error> {
        Ok(self.store.send(organization, of).await?)
    }

    /// At most so many sends, the newest first, below an id. Cancel safe.
    pub async fn list(
        &self,
        organization: &OrganizationId,
        state: Option<SendState>,
        before: Option<Uuid>,
        at_most: usize,
    ) -> Result<Vec<Send>, Error> {
        let sends = self.store.sends(organization, state, before, at_most);
        Ok(sends.await?)
    }

    /// Cancels a send: nobody gets it after this. Again is as well. Cancel safe.
    pub async fn cancel(
        &self,
        organization: &OrganizationId,
        id: Uuid,
    ) -> Result<Result<Send, NotCancelled>, Error> {
        let now = self.clock.now();
        Ok(match self.store.cancel(organization, id, now).await? {
            None => Err(NotCancelled::NotFound),
            Some(send) if send.state == SendState::Done => Err(match send.available_until {
                None => NotCancelled::Done,
                Some(_) => NotCancelled::Over,
            }),
            Some(send) => Ok(send),
        })
    }

    /// Takes a broadcast back: nobody takes it after this, and who has it loses it within
    /// moments, or when they come back. Again is as well; `None`: there is none. Cancel safe.
    pub async fn retract_broadcast(
        &self,
        organization: &OrganizationId,
        id: Uuid,
    ) -> Result<Option<Send>, Error> {
        let now = self.clock.now();
        Ok(self.store.retract_broadcast(organization, id, now).await?)
    }

    /// Delivers a piece of each send whose turn it is, and forgets what ended long ago;
    /// whether there may be more. `now` is the time of the database. One that fails has to
    /// wait, and no other for it.
    ///
    /// Cancel safe: what of a piece is queued is delivered, and noted by who does it again.
    pub async fn work(&self, now: Timestamp) -> Result<bool, Error> {
        let due = self.store.due_sends(now, SIDE_BY_SIDE).await?;
        let is_any = !due.is_empty();
        let mut failed = Ok(());
        for send in due {
            let Err(error) = self.piece(&send, now).await else {
                continue;
            };
            tracing::warn!(%error, send_id = %send.id, "a send has to wait");
            let later = self.store.postpone(&send, now.after(TRY_AGAIN)).await;
            failed = failed.and(later);
        }
        failed?;
        let forgotten = self.store.forget_sends(now.before(KEPT), FORGOTTEN).await?;
        let retracted = now.before(self.retention);
        self.store.forget_retractions(retracted).await?;
        Ok(is_any || forgotten == FORGOTTEN)
    }

    /// Delivers the next piece of a send. A broadcast begins, and ends when it can be taken
    /// no more.
    async fn piece(&self, send: &Send, now: Timestamp) -> Result<(), Error> {
        let is_broadcast = send.available_until.is_some();
        let send = match send.state {
            SendState::Waiting => {
                let begun = match is_broadcast {
                    true => self.store.publish(send, now).await?,
                    false => self.store.begin(send, now).await?,
                };
                let late = now.since(send.deliver_time.max(send.accepted_at));
                metrics::send_begun(late > LATE);
                if is_broadcast {
                    return Ok(());
                }
                begun
            }
            _ if is_broadcast => {
                let step = Step {
                    is_last: true,
                    last_user_id: send.last_user_id.clone(),
                    tally: Tally::default(),
                };
                return Ok(self.store.advance(send, &step, now).await?);
            }
            _ => Some(send.clone()),
        };
        let Some(send) = send.filter(|send| send.state == SendState::UnderWay) else {
            return Ok(());
        };
        let users = self.store.recipients(&send, AT_ONCE).await?;
        let is_last = users.len() < AT_ONCE;
        let last_user_id = match users.last() {
            Some(last) => last.as_str().to_owned(),
            None => send.last_user_id.clone(),
        };
        let Piece {
            mut tally,
            refused,
            is_delayed,
            is_cancelled,
        } = self.deliver_to(&send, users).await?;
        if !is_cancelled && (is_delayed || refused > 0) {
            // What is delayed says nothing of those who are refused.
            if is_delayed || self.tries.is_again(send.id) {
                return Ok(self.store.postpone(&send, now.after(TRY_AGAIN)).await?);
            }
            tally.errors = refused;
        }
        self.tries.forget(send.id);
        metrics::send_delivered(tally.delivered, tally.suppressed, tally.errors);
        let step = Step {
            is_last,
            last_user_id,
            tally,
        };
        Ok(self.store.advance(&send, &step, now).await?)
    }

    async fn deliver_to(&self, send: &Send, users: Vec<UserId>) -> Result<Piece, Error> {
        let wanted = self
            .preferences
            .wanted(&send.organization_id, &send.content.kind);
        let wanted = wanted.await?;
        let new = users
            .into_iter()
            .map(|user| self.notification(send, user, wanted));
        let mut piece = Piece::default();
        for sent in self.inboxes.send_to_many_patiently(new.collect()).await {
            match sent {
                Ok(_) => piece.tally.delivered += 1,
                Err(Error::NotSent(NotSent::Expired(_) | NotSent::Muted(_))) => {
                    piece.tally.suppressed += 1;
                }
                Err(Error::NotSent(NotSent::Cancelled)) => piece.is_cancelled = true,
                Err(error) => {
                    if piece.refused == 0 && !piece.is_delayed {
                        tracing::warn!(%error, send_id = %send.id, "a send could not be delivered");
                    }
                    match error.is_refused() {
                        true => piece.refused += 1,
                        false => piece.is_delayed = true,
                    }
                }
            }
        }
        Ok(piece)
    }

    fn notification(&self, send: &Send, user_id: UserId, wanted: Wanted) -> NewNotification {
        let inbox = InboxKey {
            organization_id: send.organization_id.clone(),
            user_id,
        };
        let new = send.notification(inbox, self.inboxes.new_id(), wanted);
        let is_keyed = !sabotage::is(Sabotage::DeliverTwice);
        NewNotification {
            idempotency_key: new.idempotency_key.filter(|_| is_keyed),
            ..new
        }
    }
}
