//! Somebody who does one thing after the other with an inbox, and knows what must be.

mod later;

use std::{collections::VecDeque, time::Duration};

use doorbell::{
    client,
    model::Revision,
    proto::{FollowUpOptions, FollowUpUnless, Notification, SendInAppRequest, Suppressed, View},
    store::{About, Which},
};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tonic::Status;
use uuid::Uuid;

use later::{FOLLOW_UP, MET, Way};

use super::{
    DOUBT, Tally,
    backend::{Backend, LATE, time_after},
    deed::{Answer, Deed, Node, RETRACT, VERBS},
    known::{Expected, Known},
    missing, organization, passes,
};
use crate::{
    history::{Change, Check, Head},
    process::PATIENCE,
};

/// Between two steps, on average: they leave the machine to the load beside them.
const PACE: Duration = Duration::from_millis(40);
/// Above so many rows somebody tidies up: a verb is one change.
const MOST_LIVE: usize = 50;
/// Above so many, with what is left of removed ones, all is erased: in one change, too.
const MOST_ROWS: usize = 200;
/// The nodes that do what is due may die one after the other, each with a lease.
const UNTIL_DONE: Duration = Duration::from_secs(90);
/// So many are thought of where a rare one is wanted.
const TRIED: usize = 24;
/// What was done so often is not rare.
const ENOUGH: usize = 4;
/// How many of the last steps a finding tells.
const TOLD: usize = 30;
/// What a send of a type is counted as that its person does not want.
const MUTED: &str = "a send that is not wanted";

const THINGS: [&str; 3] = ["x", "y", "z"];
const TYPES: [&str; 3] = ["comment", "like", "alarm"];
/// Nobody turns it off.
const MARKER: &str = "marker";
const LIKES: &str = "likes";

/// What was read: the rows, the head, the epoch.
type Page = (Vec<Notification>, Head, String);

/// What may have become of a deed that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    NotDone,
    Done,
    /// Behind what was done after it.
    DoneLate,
}

/// All that is counted beside deeds.
pub fn kinds() -> Vec<String> {
    let ways = Way::ALL.map(Way::kind).into_iter();
    let kinds = ways.chain([FOLLOW_UP, MET, MUTED]);
    kinds.map(str::to_owned).collect()
}

/// Somebody, alone with an inbox.
pub struct Person {
    name: String,
    nodes: Vec<Node>,
    backend: Backend,
    tolerated: &'static [&'static str],
    random: StdRng,
    known: Known,
    epoch: String,
    /// The revision of what was read last.
    shown: u64,
    /// How many titles there were.
    titles: u64,
    last: VecDeque<String>,
    tally: Tally,
}

impl Person {
    pub fn new(
        name: String,
        nodes: Vec<Node>,
        backend: Backend,
        tolerated: &'static [&'static str],
        random: StdRng,
        tally: Tally,
    ) -> Self {
        Self {
            name,
            nodes,
            backend,
            tolerated,
            random,
            known: Known::default(),
            epoch: String::new(),
            shown: 0,
            titles: 0,
            last: VecDeque::new(),
            tally,
        }
    }

    /// Goes on until it is told to stop; what it knows then.
    pub async fn live(mut self, stop: watch::Receiver<bool>) -> Result<Known, String> {
        let lived = self.steps(stop).await;
        lived.map_err(|finding| {
            let last: Vec<_> = self.last.iter().map(String::as_str).collect();
            format!("{}: {finding}\n{}", self.name, last.join("\n"))
        })?;
        Ok(self.known)
    }

    async fn steps(&mut self, stop: watch::Receiver<bool>) -> Check {
        self.look_again().await?;
        let mut latest = None;
        loop {
            // What was not done by then is done with all there.
            if *stop.borrow() {
                let latest = *latest.get_or_insert_with(|| Instant::now() + PATIENCE);
                if Instant::now() > latest || missing(&self.tally).is_empty() {
                    break;
                }
            }
            match self.random.random_ratio(1, 24) {
                true => {
                    let way = self.rarest_way();
                    self.goes(way).await?;
                }
                false => self.step().await?,
            }
            if self.random.random_ratio(1, 10) {
                self.look_again().await?;
                self.look_at_follow_ups(false).await?;
            }
            sleep(PACE.mul_f64(self.random.random_range(0.0..2.0))).await;
        }
        self.look_again().await?;
        self.look_at_follow_ups(true).await?;
        let (rows, head, _) = self.read(View::Inbox).await?;
        self.known.check_inbox(&rows, head)
    }

    fn note(&mut self, what: String) {
        self.last.push_back(what);
        if self.last.len() > TOLD {
            self.last.pop_front();
        }
    }

    fn count(&self, what: String) {
        *self.tally.lock().unwrap().entry(what).or_default() += 1;
    }

    fn node(&mut self) -> Node {
        self.nodes.choose(&mut self.random).unwrap().clone()
    }

    /// Reads all, which is as it must be.
    async fn look_again(&mut self) -> Check {
        let (rows, head, epoch) = self.read(View::All).await?;
        self.known.check(&rows, head)?;
        self.shown = head.revision;
        self.epoch = epoch;
        Ok(())
    }

    /// Reads until it is answered.
    async fn read(&mut self, view: View) -> Result<Page, String> {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            let read = timeout(PATIENCE, self.node().reads(view)).await;
            match read.map_err(|_| "a page is not answered".to_owned())? {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => {}
                Err(status) => self.passes(&status)?,
            }
            if Instant::now() > deadline {
                return Err("nothing can be read".into());
            }
            sleep(PACE).await;
        }
    }

    /// Does it somewhere.
    async fn does(&mut self, deed: &Deed) -> Result<Result<Answer, Status>, String> {
        let node = self.node();
        let answer = timeout(PATIENCE, node.does(deed, &self.epoch)).await;
        answer.map_err(|_| format!("not answered: {deed:?}"))
    }

    fn passes(&self, status: &Status) -> Check {
        passes(&client::Error::from(status.clone()), self.tolerated)
    }

    async fn step(&mut self) -> Check {
        let deed = self.choose();
        self.known.begin();
        let expected = self.known.expected(&deed);
        let revision = self.known.head().revision;
        self.note(format!("at {revision}: {deed:?}, so {expected:?}"));
        match self.does(&deed).await? {
            Ok(answer) if answer.more => {
                self.note("  stopped early".into());
                self.settle(&deed).await
            }
            Ok(answer) => {
                self.answered(&deed, expected, answer).await?;
                match deed {
                    Deed::Erase => self.look_at_choices(true).await,
                    _ => Ok(()),
                }
            }
            Err(status) => {
                let error = client::Error::from(status.clone());
                if let Expected::Refused(reason) = expected
                    && error.has_reason(reason)
                {
                    self.count(format!("{} refused with {reason:?}", deed.kind()));
                    return Ok(());
                }
                self.passes(&status)?;
                self.note(format!("  not answered: {status}"));
                self.settle(&deed).await
            }
        }
    }

    /// Holds an answer against what must be, and knows it from then on.
    async fn answered(&mut self, deed: &Deed, expected: Expected, answer: Answer) -> Check {
        let wrong = |what: &str| Err(format!("{what}: {answer:?}"));
        let id = answer
            .sent
            .as_ref()
            .map(|sent| Uuid::parse_str(&sent.id).unwrap());
        let mut change = match expected.clone() {
            Expected::Refused(reason) => return wrong(&format!("not refused with {reason:?}")),
            // All broke for longer than it was to be there.
            Expected::Change(_) if answer.suppressed == Suppressed::Expired => None,
            Expected::Change(change) => Some(change),
            Expected::Nothing | Expected::Muted => None,
        };
        let is_right = match answer.suppressed {
            Suppressed::Unspecified => expected != Expected::Muted,
            Suppressed::Expired => deed.expires(),
            Suppressed::Muted => expected == Expected::Muted,
        };
        if !is_right {
            return wrong(&format!("it was to be {expected:?}"));
        }
        if let Some(Change::Sent { id: made, .. }) = &mut change {
            match id {
                Some(id) if !answer.duplicate => *made = id,
                _ => return wrong("a new send is none"),
            }
        }
        if let Deed::SendAgain(_, first) = deed
            && (id, answer.duplicate) != (Some(*first), true)
        {
            return wrong("a send once more is another one");
        }
        let changed = match &change {
            Some(Change::Edited(_, ids) | Change::Erased(ids)) => ids.len() as u64,
            Some(_) => 1,
            None => 0,
        };
        if answer.changed.is_some_and(|said| said != changed) {
            return wrong(&format!("{changed} were to be changed"));
        }
        if let Some(change) = &change {
            self.known.make(deed, change)?;
        }
        // A commit in doubt can be settled after that: it is answered as it is then.
        let sent = answer.sent.as_ref();
        let is_over = deed.expires() && sent.is_some_and(|sent| sent.removed_at.is_some());
        if let Some(id) = id.filter(|_| is_over) {
            self.known.expire(id)?;
        }
        if answer.head != self.known.head() {
            return wrong(&format!("the head is to be {:?}", self.known.head()));
        }
        if expected == Expected::Muted {
            self.count(MUTED.into());
        } else if change.is_some() || matches!(deed, Deed::SendAgain(..)) {
            self.count(deed.kind());
        }
        match id {
            Some(id) if deed.expires() && !is_over => self.until_expired(id).await,
            _ => Ok(()),
        }
    }

    /// Finds out what became of what was not answered.
    async fn settle(&mut self, deed: &Deed) -> Check {
        let marker = Deed::Send(SendInAppRequest {
            idempotency_key: Some(format!("marker {}", self.titles)),
            ..self.plain_send()
        });
        let marked = self.send_surely(&marker).await?;
        sleep(LATE).await;
        let (rows, head, _) = self.read(View::All).await?;
        // What was sent and not answered has an id that only the list tells.
        let sent = rows.iter().find(|row| match deed {
            Deed::Send(request) => row.title == request.title,
            _ => false,
        });
        let sent = sent.map(|row| Uuid::parse_str(&row.id).unwrap());
        let mut wrong = Vec::new();
        for (fate, mut known) in self.fates(deed, sent, (&marker, marked))? {
            match known.check(&rows, head) {
                Ok(()) => {
                    self.note(format!("  settled: {fate:?}"));
                    self.count(format!("{DOUBT}{fate:?}"));
                    std::mem::swap(&mut self.known, &mut known);
                    if let Deed::Erase = deed {
                        self.look_at_choices(false).await?;
                    }
                    return match sent.filter(|_| deed.expires()) {
                        Some(id) if self.known.has(id) => self.until_expired(id).await,
                        _ => Ok(()),
                    };
                }
                Err(problem) => wrong.push(format!("if {fate:?}, {problem}")),
            }
        }
        Err(format!("in doubt about {deed:?}: {}", wrong.join("; ")))
    }

    /// Sends until it is answered; its id.
    async fn send_surely(&mut self, deed: &Deed) -> Result<Uuid, String> {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            match self.does(deed).await? {
                Ok(answer) => {
                    let sent = answer.sent.ok_or("a marker is suppressed")?;
                    return Ok(Uuid::parse_str(&sent.id).unwrap());
                }
                Err(status) => self.passes(&status)?,
            }
            if Instant::now() > deadline {
                return Err("nothing can be sent".into());
            }
            sleep(PACE).await;
        }
    }

    /// All that may be known once the marker is there.
    fn fates(
        &mut self,
        deed: &Deed,
        sent: Option<Uuid>,
        (marker, marked): (&Deed, Uuid),
    ) -> Result<Vec<(Fate, Known)>, String> {
        let mark = |known: &mut Known| known.make(marker, &Change::sent(marked));
        let unknown = Uuid::from_u128(self.random.random());
        let does = |known: &mut Known, mut change: Change| {
            if let Change::Sent { id, .. } = &mut change {
                *id = sent.unwrap_or(unknown);
            }
            known.make(deed, &change)
        };
        // What had its time and was never listed has no id to be named by.
        let expire = |known: &mut Known| {
            known.expire(sent.unwrap_or(unknown))?;
            known.forget(unknown);
            Ok::<_, String>(())
        };
        let mut marked_only = self.known.clone();
        mark(&mut marked_only)?;
        let mut fates = vec![(Fate::NotDone, marked_only.clone())];
        let Expected::Change(change) = self.known.expected(deed) else {
            return Ok(fates);
        };
        let mut done = self.known.clone();
        does(&mut done, change.clone())?;
        if deed.expires() {
            let mut expired = done.clone();
            expire(&mut expired)?;
            mark(&mut expired)?;
            fates.push((Fate::Done, expired));
        }
        mark(&mut done)?;
        fates.push((Fate::Done, done));
        // An erasure that is late takes what there was when it began, which may have been
        // before the marker or behind it.
        let mut late = vec![change];
        if let Expected::Change(change) = marked_only.expected(deed)
            && !late.contains(&change)
        {
            late.push(change);
        }
        for change in late {
            let mut known = marked_only.clone();
            does(&mut known, change)?;
            fates.push((Fate::DoneLate, known));
        }
        if deed.expires() {
            let whole = fates.iter().filter(|(fate, known)| {
                *fate != Fate::NotDone && known.has(sent.unwrap_or(unknown))
            });
            let whole: Vec<_> = whole.cloned().collect();
            for (fate, mut known) in whole {
                expire(&mut known)?;
                fates.push((fate, known));
            }
        }
        Ok(fates)
    }

    /// Waits until what was sent for a moment is removed.
    async fn until_expired(&mut self, id: Uuid) -> Check {
        let mut after = self.known.clone();
        after.expire(id)?;
        self.until_known(after).await
    }

    /// Waits until all is so; until then it is as it was.
    async fn until_known(&mut self, after: Known) -> Check {
        let deadline = Instant::now() + UNTIL_DONE;
        loop {
            let (rows, head, _) = self.read(View::All).await?;
            if after.check(&rows, head).is_ok() {
                self.known = after;
                return Ok(());
            }
            self.known.check(&rows, head)?;
            if Instant::now() > deadline {
                return Err(format!("still as it was, and not {:?}", after.head()));
            }
            sleep(5 * PACE).await;
        }
    }

    /// The way that was gone the least often.
    fn rarest_way(&self) -> Way {
        let tally = self.tally.lock().unwrap();
        let count = |way: &Way| tally.get(way.kind()).copied().unwrap_or_default();
        Way::ALL.into_iter().min_by_key(count).unwrap()
    }

    /// Anything, or of many the one that was done the least often.
    fn choose(&mut self) -> Deed {
        let (rows, live) = self.known.size();
        if rows > MOST_ROWS {
            return Deed::Erase;
        }
        if live > MOST_LIVE {
            return Deed::Edit(VERBS[4], Which::Ids(self.known.named()));
        }
        let first = self.anything();
        if self.random.random_ratio(1, 2) {
            return first;
        }
        let others: Vec<_> = (0..TRIED).map(|_| self.anything()).collect();
        let counted = others.into_iter().filter_map(|deed| {
            let kind = match self.known.expected(&deed) {
                Expected::Change(_) => deed.kind(),
                Expected::Muted => MUTED.into(),
                _ => return None,
            };
            Some((kind, deed))
        });
        let tally = self.tally.lock().unwrap();
        let rarest = counted.min_by_key(|(kind, _)| {
            let count = tally.get(kind).copied();
            count.unwrap_or_default().min(ENOUGH)
        });
        rarest.map_or(first, |(_, deed)| deed)
    }

    fn anything(&mut self) -> Deed {
        match self.random.random_range(0..150) {
            0 => Deed::Erase,
            1..64 => Deed::Send(self.send()),
            64..72 => self.send_again(),
            72..84 => self.update(),
            84..92 => Deed::Look(self.position()),
            92..102 => Deed::Edit(RETRACT, self.retracted()),
            _ => {
                let edit = *VERBS.choose(&mut self.random).unwrap();
                Deed::Edit(edit, self.meant())
            }
        }
    }

    /// A title of its own.
    fn title(&mut self) -> String {
        self.titles += 1;
        format!("title {} of {}", self.titles, self.name)
    }

    fn plain_send(&mut self) -> SendInAppRequest {
        SendInAppRequest {
            organization_id: organization(&self.name),
            recipient_user_id: self.name.clone(),
            r#type: MARKER.into(),
            title: self.title(),
            ..SendInAppRequest::default()
        }
    }

    fn send(&mut self) -> SendInAppRequest {
        let mut send = self.plain_send();
        send.r#type = self.any_type();
        if self.random.random_ratio(1, 3) {
            send.idempotency_key = Some(send.title.clone());
        }
        match self.random.random_range(0..40) {
            0 => {
                send.expire_time = Some(time_after(Duration::from_secs(1)));
                send.idempotency_key = None;
            }
            1..9 => send.silent = true,
            9..18 => send.collapse_key = Some(LIKES.into()),
            18..30 => {
                let thing = self.thing();
                send.entity_type = Some(thing.entity_type);
                send.entity_id = Some(thing.entity_id);
            }
            30..34 => {
                let unless = [FollowUpUnless::Read, FollowUpUnless::Seen];
                send.follow_up = Some(FollowUpOptions {
                    after: Some(prost_types::Duration {
                        // Some time to read it in time, on a busy machine too.
                        seconds: self.random.random_range(1..=4),
                        nanos: 0,
                    }),
                    unless: unless.choose(&mut self.random).copied().unwrap().into(),
                });
            }
            _ => {}
        }
        send
    }

    fn any_type(&mut self) -> String {
        (*TYPES.choose(&mut self.random).unwrap()).into()
    }

    fn send_again(&mut self) -> Deed {
        let keyed = self.known.keyed();
        match keyed.choose(&mut self.random) {
            Some((id, request)) => Deed::SendAgain((*request).clone(), *id),
            None => Deed::Send(self.send()),
        }
    }

    /// Corrects something: now and then what was removed, or erased.
    fn update(&mut self) -> Deed {
        let erased = self.known.erased;
        let erased = erased.filter(|_| self.random.random_ratio(1, 16));
        let Some(id) = erased.or_else(|| self.one()) else {
            return Deed::Send(self.send());
        };
        Deed::Update {
            id,
            title: self.title(),
            rings: self.random.random_ratio(1, 2),
        }
    }

    /// One of the latest, most likely.
    fn one(&mut self) -> Option<Uuid> {
        let named = self.known.named();
        let from = named.len().saturating_sub(20);
        let latest = self.random.random_ratio(3, 4);
        let named = if latest { &named[from..] } else { &named[..] };
        named.choose(&mut self.random).copied()
    }

    /// Some, and now and then one that was erased.
    fn ids(&mut self) -> Which {
        let some = self.random.random_range(1..=6);
        let mut ids: Vec<_> = (0..some).filter_map(|_| self.one()).collect();
        let erased = self.known.erased.filter(|_| ids.is_empty() || some == 6);
        ids.extend(erased);
        if ids.is_empty() {
            ids.push(Uuid::from_u128(self.random.random()));
        }
        Which::Ids(ids)
    }

    fn thing(&mut self) -> About {
        About {
            entity_type: "thing".into(),
            entity_id: (*THINGS.choose(&mut self.random).unwrap()).into(),
        }
    }

    /// What was read last, or anything before the present.
    fn position(&mut self) -> u64 {
        let head = self.known.head().revision;
        match self.random.random_range(0..3) {
            0 => self.random.random_range(0..=head),
            _ => self.shown,
        }
    }

    fn meant(&mut self) -> Which {
        match self.random.random_range(0..10) {
            0..6 => self.ids(),
            6..8 => Which::About(self.thing()),
            place => {
                let types = match place {
                    8 => vec![],
                    _ => vec![self.any_type()],
                };
                let revision = Revision::new(self.position());
                Which::Through { revision, types }
            }
        }
    }

    fn retracted(&mut self) -> Which {
        let keyed = self.known.keyed();
        let key = keyed.choose(&mut self.random);
        let key = key.and_then(|(_, request)| request.idempotency_key.clone());
        match (self.random.random_range(0..4), key) {
            (0, Some(key)) => Which::Key(key),
            (1, _) => Which::About(self.thing()),
            (2, _) => Which::Collapse(LIKES.into()),
            _ => self.ids(),
        }
    }
}
