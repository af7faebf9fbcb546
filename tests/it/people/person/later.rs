//! What comes to a person by another way than the call that asks for it: at its time, through
//! a topic, to many, to all; and what is told of what they did not look at.
//!
//! A person waits for it and does nothing else meanwhile, so what must be there is known.

use std::time::Duration;

use doorbell::{
    client::{Send, SendState},
    proto::{Notification, SendInAppRequest, View},
    store::Which,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{PACE, Person, UNTIL_DONE};
use crate::{
    history::{Change, Check},
    people::{
        deed::{Deed, RETRACT},
        known::Expected,
    },
};

/// Ways by which something comes, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Scheduled,
    Cancelled,
    Topic,
    NoMember,
    Many,
    Broadcast,
    TakenBack,
    RetractedFromAll,
    Choice,
}

impl Way {
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Cancelled,
        Self::Topic,
        Self::NoMember,
        Self::Many,
        Self::Broadcast,
        Self::TakenBack,
        Self::RetractedFromAll,
        Self::Choice,
    ];

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Scheduled => "a scheduled send",
            Self::Cancelled => "a scheduled send that is cancelled",
            Self::Topic => "a send to a topic",
            Self::NoMember => "a send to a topic of others",
            Self::Many => "a send to many",
            Self::Broadcast => "a broadcast",
            Self::TakenBack => "a broadcast that is taken back",
            Self::RetractedFromAll => "a retraction from all",
            Self::Choice => "a choice of what is wanted",
        }
    }
}

/// A retraction takes so many of an inbox in one change.
const ONE_PIECE: usize = 30;
/// Before it is delivered, and long enough for a cancellation now and then.
const SOON: Duration = Duration::from_secs(1);

impl Person {
    /// Goes one of these ways.
    pub(super) async fn goes(&mut self, way: Way) -> Check {
        let revision = self.known.head().revision;
        self.note(format!("at {revision}: {}", way.kind()));
        self.known.begin();
        match way {
            Way::Scheduled => {
                let of = self.for_later();
                match self.backend.schedule(&of, SOON).await? {
                    Some(sent) => self.has_all(&of, &sent, true).await?,
                    None => self.has(&of).await?,
                }
            }
            Way::Topic | Way::NoMember => {
                let of = self.for_later();
                let is_member = way == Way::Topic;
                self.backend.has_topic(is_member).await?;
                let sent = self.backend.send_to_topic(&of).await?;
                self.has_all(&of, &sent, is_member).await?;
            }
            Way::Cancelled => {
                let of = self.for_later();
                let Some(sent) = self.backend.schedule(&of, SOON).await? else {
                    return self.has(&of).await;
                };
                match self.backend.cancel(&sent.id).await? {
                    // Nobody gets it after the answer: what comes later is a finding.
                    Some(_) => self.learn(&of).await.map(drop)?,
                    None => self.has(&of).await?,
                }
            }
            Way::Many => {
                let of = self.for_later();
                let result = self.backend.send_to_many(&of).await?;
                let has_come = self.learn(&of).await?;
                let is_told = !result.notification_id.is_empty();
                if has_come != self.is_wanted(&of) || is_told != has_come {
                    return Err(format!("one of many, there: {has_come}, {result:?}"));
                }
            }
            Way::Broadcast | Way::TakenBack => {
                let of = SendInAppRequest {
                    collapse_key: None,
                    entity_type: None,
                    entity_id: None,
                    follow_up: None,
                    ..self.for_later()
                };
                let sent = self.backend.broadcast(&of).await?;
                if !self.is_wanted(&of) {
                    // What is said after it comes after it.
                    let next = self.plain_send();
                    self.backend.broadcast(&next).await?;
                    self.until_come(&next).await?;
                    return Ok(());
                }
                let id = self.until_come(&of).await?;
                if way == Way::TakenBack {
                    self.backend.retract_broadcast(&sent.id).await?;
                    self.until_changed(vec![id]).await?;
                }
            }
            Way::RetractedFromAll => {
                let about = self.thing();
                let which = Which::About(about.clone());
                let ids = self.known.selected(RETRACT, &which);
                if ids.len() > ONE_PIECE {
                    return Ok(());
                }
                let key = self.title();
                self.backend.retract_from_all(&about, &key).await?;
                self.until_retracted(&key).await?;
                self.until_changed(ids).await?;
            }
            Way::Choice => {
                let muted = self.known.muted.take();
                let of = muted.clone().unwrap_or_else(|| self.any_type());
                self.backend.wants(&of, muted.is_some()).await?;
                self.known.muted = muted.is_none().then_some(of);
            }
        }
        self.count(way.kind().into());
        Ok(())
    }

    /// A send whose key is not one that its person's inbox knows.
    fn for_later(&mut self) -> SendInAppRequest {
        SendInAppRequest {
            idempotency_key: None,
            expire_time: None,
            ..self.send()
        }
    }

    fn is_wanted(&self, of: &SendInAppRequest) -> bool {
        self.known.muted.as_ref() != Some(&of.r#type)
    }

    /// Waits until a send is through, and has it if it is for this person.
    async fn has_all(&mut self, of: &SendInAppRequest, sent: &Send, is_for: bool) -> Check {
        let done = self.until_done(&sent.id).await?;
        let has_come = self.learn(of).await?;
        let is_wanted = self.is_wanted(of);
        // What was counted of a piece during which a node died may lack.
        let is_right = has_come == (is_for && is_wanted)
            && done.delivered_count <= u32::from(is_for && is_wanted)
            && done.suppressed_count <= u32::from(is_for && !is_wanted)
            && done.error_count == 0;
        match is_right {
            true => Ok(()),
            false => Err(format!("delivered: {has_come}, {done:?}")),
        }
    }

    /// It is there now, if it is wanted.
    async fn has(&mut self, of: &SendInAppRequest) -> Check {
        match self.learn(of).await? == self.is_wanted(of) {
            true => Ok(()),
            false => Err(format!("it is to be there or not: {of:?}")),
        }
    }

    /// Reads, and knows what has come of a send: nothing, or all.
    async fn learn(&mut self, of: &SendInAppRequest) -> Result<bool, String> {
        let (rows, head, _) = self.read(View::All).await?;
        let id = self.know(of, &rows)?;
        self.known.check(&rows, head)?;
        Ok(id.is_some())
    }

    fn know(
        &mut self,
        of: &SendInAppRequest,
        rows: &[Notification],
    ) -> Result<Option<Uuid>, String> {
        let Some(row) = rows.iter().find(|row| row.title == of.title) else {
            return Ok(None);
        };
        let id = Uuid::parse_str(&row.id).unwrap();
        let deed = Deed::Send(of.clone());
        let Expected::Change(mut change) = self.known.expected(&deed) else {
            return Err(format!("{row:?} came, which was not wanted"));
        };
        if let Change::Sent { id: made, .. } = &mut change {
            *made = id;
        }
        self.known.make(&deed, &change)?;
        Ok(Some(id))
    }

    /// Waits until it is there; its id.
    async fn until_come(&mut self, of: &SendInAppRequest) -> Result<Uuid, String> {
        let deadline = Instant::now() + UNTIL_DONE;
        loop {
            let (rows, head, _) = self.read(View::All).await?;
            let id = self.know(of, &rows)?;
            self.known.check(&rows, head)?;
            if let Some(id) = id {
                return Ok(id);
            }
            late(deadline, &of.title)?;
            sleep(PACE).await;
        }
    }

    async fn until_done(&self, send_id: &str) -> Result<Send, String> {
        let deadline = Instant::now() + UNTIL_DONE;
        loop {
            let send = self.backend.get(send_id).await?;
            if send.state() == SendState::Done {
                return Ok(send);
            }
            late(deadline, &format!("{send:?}"))?;
            sleep(PACE).await;
        }
    }

    async fn until_retracted(&self, key: &str) -> Check {
        let deadline = Instant::now() + UNTIL_DONE;
        loop {
            let retraction = self.backend.retraction(key).await?;
            if retraction.ended_at.is_some() {
                return Ok(());
            }
            late(deadline, &format!("{retraction:?}"))?;
            sleep(PACE).await;
        }
    }

    /// Waits until what is taken back is gone.
    async fn until_changed(&mut self, ids: Vec<Uuid>) -> Check {
        let mut after = self.known.clone();
        if !ids.is_empty() {
            after.take_back(ids)?;
        }
        self.until_known(after).await
    }

    /// Holds what was told of their organization against what they did, until all is told
    /// that must be, where `all` says so.
    pub(super) async fn look_at_follow_ups(&mut self, all: bool) -> Check {
        let deadline = Instant::now() + UNTIL_DONE;
        loop {
            let told = self.backend.follow_ups().await?;
            let (new, met) = self.known.told(&told)?;
            for _ in 0..new {
                self.count(FOLLOW_UP.into());
            }
            for _ in 0..met {
                self.count(MET.into());
            }
            let untold = self.known.untold();
            if !all || untold.is_empty() {
                return Ok(());
            }
            late(deadline, &format!("the follow-ups of {untold:?}"))?;
            sleep(PACE).await;
        }
    }

    /// After an erasure, which takes what they said of types, too.
    pub(super) async fn look_at_choices(&mut self, is_erased: bool) -> Check {
        let muted = self.backend.muted().await?;
        if is_erased && !muted.is_empty() {
            return Err(format!("erased, and {muted:?} is still not wanted"));
        }
        self.known.muted = muted.into_iter().next();
        Ok(())
    }
}

/// What is told of what nobody looked at, and what is not, since somebody did in time.
pub const FOLLOW_UP: &str = "a follow-up";
pub const MET: &str = "a follow-up that is needless";

fn late(deadline: Instant, what: &str) -> Check {
    match Instant::now() > deadline {
        true => Err(format!("it does not come: {what}")),
        false => Ok(()),
    }
}
