//! Sends that outlive their call: what they are, and how far they are. What they mean is
//! here for every engine alike.
//!
//! A send goes from waiting over under way to done, or is cancelled before that. It names
//! the last who had it, and each step names who that was before: a step that was done
//! twice is noted once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    Error, Named,
    plan::Fingerprint,
    rows::{self, Columns, Fields, content_columns},
    sql::{Sql, Statement},
    topics::MEMBERS,
};
use crate::{
    clock::Timestamp,
    model::{
        Content, Data, FollowUpOptions, InboxKey, NewNotification, OrganizationId, PartOf, TopicId,
        UserId, Wanted,
    },
};

/// Whom a send is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// These.
    Users(Vec<UserId>),
    /// Who is a member of it when their turn comes.
    Topic(TopicId),
    /// Everybody of the organization, or of all, who looks until then.
    Everybody {
        /// Who looks later does not get it.
        available_until: Timestamp,
    },
}

/// A send that is to be accepted.
#[derive(Clone, Debug)]
pub struct NewSend {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// UUIDv7.
    pub id: Uuid,
    /// Whom it is for.
    pub target: Target,
    /// What it says.
    pub content: Arc<Content>,
    /// Makes a retry safe, in the organization.
    pub idempotency_key: Option<String>,
    /// `sub` of the sender's token.
    pub sender: Arc<str>,
    /// When what it makes is to be removed.
    pub expire_time: Option<Timestamp>,
    /// See [`NewNotification`].
    pub collapse_key: Option<Arc<str>>,
    /// Whether it is not to be heard.
    pub is_silent: bool,
    /// See [`NewNotification`].
    pub follow_up: Option<FollowUpOptions>,
    /// When it is to begin.
    pub deliver_time: Timestamp,
}

impl NewSend {
    /// What a retry must say again: all that a person sees, and whom it is for.
    fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update(self.content.fingerprint());
        let mut add = |tag: u8, text: &str| {
            hash.update([tag]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        match &self.target {
            Target::Users(users) => {
                let mut users: Vec<_> = users.iter().map(UserId::as_str).collect();
                users.sort_unstable();
                users.iter().for_each(|user| add(1, user));
            }
            Target::Topic(topic) => add(2, topic.as_str()),
            Target::Everybody { .. } => add(3, ""),
        }
        hash.finalize().into()
    }
}

/// How a send is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendState {
    /// Its time has not come, or nobody began with it yet.
    Waiting,
    /// Some may have it.
    UnderWay,
    /// All have it.
    Done,
    /// No more have it.
    Cancelled,
}

impl SendState {
    /// As the schema numbers it.
    fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::UnderWay => 1,
            Self::Done => 2,
            Self::Cancelled => 3,
        }
    }
}

/// What became of those it was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// So many have it.
    pub delivered: u32,
    /// For so many it was over before it came, or they do not want its type.
    pub suppressed: u32,
    /// To so many it could not be delivered.
    pub errors: u32,
}

/// A send as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its id.
    pub id: Uuid,
    /// The topic that it is for, unless it is for others.
    pub topic_id: Option<TopicId>,
    /// Of a broadcast: who looks until then gets it.
    pub available_until: Option<Timestamp>,
    /// How it is.
    pub state: SendState,
    /// When the service took it.
    pub accepted_at: Timestamp,
    /// When it was to begin.
    pub deliver_time: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it was done or cancelled.
    pub ended_at: Option<Timestamp>,
    /// For how many it is; of a topic, as many as it had when it began.
    pub total: u32,
    /// How far it is.
    pub tally: Tally,
    /// What it says.
    pub content: Arc<Content>,
    /// `sub` of the sender's token.
    pub sender: Arc<str>,
    /// When what it makes is to be removed.
    pub expire_time: Option<Timestamp>,
    /// See [`NewNotification`].
    pub collapse_key: Option<Arc<str>>,
    /// Whether it is not to be heard.
    pub is_silent: bool,
    /// See [`NewNotification`].
    pub follow_up: Option<FollowUpOptions>,
    /// Who had it last.
    pub last_user_id: String,
}

impl Send {
    /// What one person gets of it.
    pub fn notification(&self, inbox: InboxKey, id: Uuid, wanted: Wanted) -> NewNotification {
        let part_of = PartOf {
            organization_id: self.organization_id.clone(),
            send_id: self.id,
            accepted_at: self.accepted_at,
        };
        NewNotification {
            idempotency_key: Some(part_of.key()),
            expire_time: self.expire_time,
            collapse_key: self.collapse_key.clone(),
            is_silent: self.is_silent,
            follow_up: self.follow_up,
            part_of: Some(part_of),
            wanted,
            ..NewNotification::new(inbox, id, self.content.clone(), self.sender.clone())
        }
    }
}

/// A send was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// It; for a duplicate, the first one as it is now.
    pub send: Send,
    /// Whether its idempotency key had been used: nothing was changed.
    pub duplicate: bool,
}

/// Why a send was not accepted; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The idempotency key is that of another send.
    #[error("the idempotency key was used with another content, or for others")]
    Mismatch,
    /// As many broadcasts wait or can be taken as may.
    #[error("there are {MOST_BROADCASTS} broadcasts that wait or can be taken, and may be no more")]
    TooManyBroadcasts,
}

/// The most broadcasts of an organization that wait or can be taken. On Postgres those that
/// are accepted at the same moment may exceed it by their number.
pub const MOST_BROADCASTS: usize = 100;

/// A step of a send.
#[derive(Clone, Debug)]
pub struct Step {
    /// Who has it now, as the last one.
    pub last_user_id: String,
    /// What became of those of this step.
    pub tally: Tally,
    /// Whether there is nobody after them.
    pub is_last: bool,
}

/// A store by its sends.
#[async_trait]
pub trait Sends: std::marker::Send + Sync + 'static {
    /// Accepts a send, once for its idempotency key.
    async fn accept(
        &self,
        new: &NewSend,
        now: Timestamp,
    ) -> Result<Result<Accepted, NotAccepted>, Error>;

    /// The send of that name.
    async fn send(&self, organization: &OrganizationId, of: &Named) -> Result<Option<Send>, Error>;

    /// At most so many sends of an organization, of any state or of one, those below an id,
    /// the newest first.
    async fn sends(
        &self,
        organization: &OrganizationId,
        state: Option<SendState>,
        before: Option<Uuid>,
        at_most: usize,
    ) -> Result<Vec<Send>, Error>;

    /// Cancels a send, unless it has ended; how it is then. Nobody gets it after this
    /// returned.
    async fn cancel(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error>;

    /// At most so many sends whose turn it is, who waits longest first.
    async fn due_sends(&self, now: Timestamp, at_most: usize) -> Result<Vec<Send>, Error>;

    /// Begins a send that waits; how it is then.
    async fn begin(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error>;

    /// At most so many of those a send is for, after who had it last.
    async fn recipients(&self, send: &Send, at_most: usize) -> Result<Vec<UserId>, Error>;

    /// Notes a step, if it is the next one; its turn comes again at `next`.
    async fn advance(&self, send: &Send, step: &Step, next: Timestamp) -> Result<(), Error>;

    /// Its turn comes again at `next`.
    async fn postpone(&self, send: &Send, next: Timestamp) -> Result<(), Error>;

    /// Deletes at most so many sends that ended `until` or before; how many.
    async fn forget_sends(&self, until: Timestamp, at_most: usize) -> Result<usize, Error>;

    /// Takes a person out of all that is for people that were named, and deletes what was
    /// for them alone.
    async fn forget_recipient(&self, inbox: &InboxKey) -> Result<(), Error>;

    /// Deletes at most so many sends of an organization; how many.
    async fn delete_sends(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error>;
}

/// The columns of a send, of the table `n`; for `concat!`.
macro_rules! send_columns {
    () => {
        concat!(
            "n.organization_id, n.id, n.topic_id, n.available_until, n.fingerprint, n.state, \
             n.accepted_at, \
             n.deliver_time, n.started_at, n.ended_at, n.last_user_id, n.total_count, \
             n.delivered_count, n.suppressed_count, n.error_count, n.sender, n.expire_time, \
             n.collapse_key, n.is_silent, n.follow_up_after, n.follow_up_unless, ",
            content_columns!()
        )
    };
}

pub(super) use send_columns;

/// Reads the sends of which this is true.
macro_rules! select {
    ($($which:literal),+) => {
        concat!("SELECT ", send_columns!(), " FROM sends AS n WHERE ", $($which),+)
    };
}

const ACCEPT: &str = "INSERT INTO sends (organization_id, id, topic_id, idempotency_key, \
     fingerprint, accepted_at, deliver_time, next_at, total_count, sender, expire_time, \
     collapse_key, is_silent, type, title, body, entity_type, entity_id, action_url, data, \
     image_url, actions, available_until, follow_up_after, follow_up_unless) SELECT $1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, \
     $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $24, $25 WHERE $22 IS NULL \
     OR (SELECT count(*) FROM sends AS n WHERE n.organization_id = $1 AND n.state < 2 \
     AND n.available_until IS NOT NULL) < $23 ON CONFLICT DO NOTHING";
pub(super) const BY_ID: &str = select!("n.organization_id = $1 AND n.id = $2");
const BY_KEY: &str = select!("n.organization_id = $1 AND n.idempotency_key = $2");
const LIST: &str = select!("n.organization_id = $1 AND n.id < $2 ORDER BY n.id DESC LIMIT $3");
const LIST_STATE: &str =
    select!("n.organization_id = $1 AND n.id < $2 AND n.state = $4 ORDER BY n.id DESC LIMIT $3");
const DUE: &str = select!("n.next_at BETWEEN 0 AND $1 ORDER BY n.next_at LIMIT $2");
const CANCEL: &str = "UPDATE sends SET state = 3, ended_at = $3, next_at = NULL \
     WHERE organization_id = $1 AND id = $2 AND state < 2";
/// Of a topic it is only known now for how many it is.
const BEGIN: &str = "UPDATE sends SET state = 1, started_at = $3, total_count = CASE \
     WHEN topic_id IS NULL THEN total_count ELSE (SELECT count(*) FROM topic_members AS m \
     WHERE m.organization_id = sends.organization_id AND m.topic_id = sends.topic_id) END \
     WHERE organization_id = $1 AND id = $2 AND state = 0";
const NAMED: &str = "SELECT user_id FROM send_recipients \
     WHERE organization_id = $1 AND send_id = $2 AND user_id > $3 ORDER BY user_id LIMIT $4";
/// What went before a cancellation is counted after it.
const ADVANCE: &str = "UPDATE sends SET last_user_id = $4, \
     delivered_count = delivered_count + $5, suppressed_count = suppressed_count + $6, \
     error_count = error_count + $7, \
     next_at = CASE WHEN state = 1 AND $8 = 0 THEN $9 END, \
     ended_at = CASE WHEN state = 1 AND $8 = 1 THEN $9 ELSE ended_at END, \
     state = CASE WHEN state = 1 AND $8 = 1 THEN 2 ELSE state END \
     WHERE organization_id = $1 AND id = $2 AND last_user_id = $3 AND state IN (1, 3)";
const POSTPONE: &str = "UPDATE sends SET next_at = $3 \
     WHERE organization_id = $1 AND id = $2 AND state < 2";
const ENDED: &str =
    "SELECT id FROM sends WHERE ended_at BETWEEN 0 AND $1 ORDER BY ended_at LIMIT 1";
/// Those whom what ended long ago was for, and that itself.
const FORGET: [&str; 3] = [
    "DELETE FROM broadcasts WHERE retracted_number IS NULL AND (organization_id, send_id) IN \
     (SELECT organization_id, id FROM sends WHERE ended_at BETWEEN 0 AND $1 ORDER BY ended_at LIMIT $2)",
    "DELETE FROM send_recipients WHERE (organization_id, send_id) IN \
     (SELECT organization_id, id FROM sends WHERE ended_at BETWEEN 0 AND $1 ORDER BY ended_at LIMIT $2)",
    "DELETE FROM sends WHERE (organization_id, id) IN \
     (SELECT organization_id, id FROM sends WHERE ended_at BETWEEN 0 AND $1 ORDER BY ended_at LIMIT $2) \
     RETURNING id",
];
/// What was for nobody else, and of the rest this one.
const FORGET_RECIPIENT: [&str; 2] = [
    "DELETE FROM sends WHERE organization_id = $1 AND topic_id IS NULL AND total_count = 1 \
     AND id IN (SELECT send_id FROM send_recipients WHERE organization_id = $1 AND user_id = $2)",
    "DELETE FROM send_recipients WHERE organization_id = $1 AND user_id = $2",
];
const DELETE: [&str; 3] = [
    "DELETE FROM broadcasts WHERE retracted_number IS NULL AND organization_id = $1 \
     AND send_id IN \
     (SELECT id FROM sends WHERE organization_id = $1 ORDER BY id LIMIT $2)",
    "DELETE FROM send_recipients WHERE organization_id = $1 AND send_id IN \
     (SELECT id FROM sends WHERE organization_id = $1 ORDER BY id LIMIT $2)",
    "DELETE FROM sends WHERE organization_id = $1 AND id IN \
     (SELECT id FROM sends WHERE organization_id = $1 ORDER BY id LIMIT $2) RETURNING id",
];

/// A statement about one send.
pub(super) fn about(text: &str, organization: &OrganizationId, id: Uuid) -> Statement {
    Statement::new(text).text(organization.as_str()).id(id)
}

/// A statement that finds a send by its name.
fn by(organization: &OrganizationId, of: &Named) -> Statement {
    match of {
        Named::Id(id) => about(BY_ID, organization, *id),
        Named::Key(key) => Statement::new(BY_KEY).text(organization.as_str()).text(key),
    }
}

fn accept(new: &NewSend, now: Timestamp) -> Statement {
    let (topic, total, available_until) = match &new.target {
        Target::Topic(topic) => (Some(topic.as_str()), 0, None),
        Target::Users(users) => (None, rows::bound(users.len()), None),
        Target::Everybody { available_until } => (None, 0, Some(*available_until)),
    };
    let content = &new.content;
    about(ACCEPT, &new.organization_id, new.id)
        .optional_text(topic)
        .optional_text(new.idempotency_key.as_deref())
        .bytes(&new.fingerprint())
        .time(now)
        .time(new.deliver_time)
        .number(total)
        .text(&new.sender)
        .optional_time(new.expire_time)
        .optional_text(new.collapse_key.as_deref())
        .number(i64::from(new.is_silent))
        .text(&content.kind)
        .text(&content.title)
        .optional_text(content.body.as_deref())
        .optional_text(content.entity_type.as_deref())
        .optional_text(content.entity_id.as_deref())
        .optional_text(content.action_url.as_deref())
        .optional_text(content.data.as_ref().map(Data::as_str))
        .optional_text(content.image_url.as_deref())
        .optional_text(rows::actions_text(&content.actions).as_deref())
        .optional_time(available_until)
        .bound(MOST_BROADCASTS)
        .optional_number(new.follow_up.map(|of| micros(of.after)))
        .optional_number(new.follow_up.map(|of| rows::unless_number(of.unless)))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// The follow-up of a send.
fn follow_up(columns: &Columns<'_>) -> Result<Option<FollowUpOptions>, Error> {
    let Some(micros) = columns.optional_number("follow_up_after")? else {
        return Ok(None);
    };
    let after = u64::try_from(micros);
    let after = after.map_err(|error| columns.inconsistent("follow_up_after", error))?;
    Ok(Some(FollowUpOptions {
        after: Duration::from_micros(after),
        unless: columns.unless("follow_up_unless")?,
    }))
}

/// Whose a row is: of an organization, or of all.
pub(super) fn organization_of(columns: &Columns<'_>) -> Result<OrganizationId, Error> {
    let id = columns.text("organization_id")?;
    if id == OrganizationId::all().as_str() {
        return Ok(OrganizationId::all());
    }
    OrganizationId::parse(id).map_err(|error| columns.inconsistent("organization_id", error))
}

/// The send that the last of some statements found.
pub(super) fn last_of<R: Fields>(rows: &[Vec<R>]) -> Result<Option<Send>, Error> {
    let row = rows.last().and_then(|rows| rows.first());
    row.map(|row| send_of(row)).transpose()
}

/// A send of a row.
pub(super) fn send_of(row: &dyn Fields) -> Result<Send, Error> {
    let columns = Columns::of(row, "sends");
    let wrong = |column, problem: &dyn std::fmt::Display| columns.inconsistent(column, problem);
    let topic_id = columns.optional_text("topic_id")?;
    let topic_id = topic_id.map(|topic| TopicId::parse(&topic)).transpose();
    let time = |column| columns.number(column).map(Timestamp::from_micros);
    Ok(Send {
        organization_id: organization_of(&columns)?,
        id: columns.id()?,
        topic_id: topic_id.map_err(|error| wrong("topic_id", &error))?,
        available_until: columns.time("available_until")?,
        state: match columns.number("state")? {
            0 => SendState::Waiting,
            1 => SendState::UnderWay,
            2 => SendState::Done,
            3 => SendState::Cancelled,
            other => return Err(wrong("state", &format_args!("{other} is none"))),
        },
        accepted_at: time("accepted_at")?,
        deliver_time: time("deliver_time")?,
        started_at: columns.time("started_at")?,
        ended_at: columns.time("ended_at")?,
        total: columns.count("total_count")?,
        tally: Tally {
            delivered: columns.count("delivered_count")?,
            suppressed: columns.count("suppressed_count")?,
            errors: columns.count("error_count")?,
        },
        content: Arc::new(columns.content()?),
        sender: columns.text("sender")?.into(),
        expire_time: columns.time("expire_time")?,
        collapse_key: columns.optional_text("collapse_key")?.map(Arc::from),
        is_silent: columns.number("is_silent")? != 0,
        follow_up: follow_up(&columns)?,
        last_user_id: columns.text("last_user_id")?.to_owned(),
    })
}

fn sends_of<R: Fields>(rows: &[R]) -> Result<Vec<Send>, Error> {
    rows.iter().map(|row| send_of(row)).collect()
}

/// The people of rows.
pub(super) fn users_of<R: Fields>(rows: &[R], table: &'static str) -> Result<Vec<UserId>, Error> {
    let user = |row: &R| {
        let columns = Columns::of(row, table);
        let user = UserId::parse(columns.text("user_id")?);
        user.map_err(|error| columns.inconsistent("user_id", error))
    };
    rows.iter().map(user).collect()
}

#[async_trait]
impl<Engine: Sql> Sends for Engine {
    async fn accept(
        &self,
        new: &NewSend,
        now: Timestamp,
    ) -> Result<Result<Accepted, NotAccepted>, Error> {
        let mut statements = vec![accept(new, now)];
        if let Target::Users(users) = &new.target {
            // Where the key was used there is no such send.
            let text = format!(
                "INSERT INTO send_recipients (organization_id, send_id, user_id) \
                 SELECT n.organization_id, n.id, w.value FROM sends AS n CROSS JOIN {} \
                 WHERE n.organization_id = $1 AND n.id = $2 ON CONFLICT DO NOTHING",
                Self::LIST
            );
            statements.push(about(&text, &new.organization_id, new.id).users(users));
        }
        let of = match &new.idempotency_key {
            Some(key) => Named::Key(key.clone()),
            None => Named::Id(new.id),
        };
        statements.push(by(&new.organization_id, &of));
        let found = self.write(statements).await?.pop().unwrap_or_default();
        let is_broadcast = matches!(new.target, Target::Everybody { .. });
        let row = match found.first() {
            Some(row) => row,
            None if is_broadcast => return Ok(Err(NotAccepted::TooManyBroadcasts)),
            None => {
                let gone = "a send that was accepted is not found any more";
                return Err(Error::Unavailable(gone.into()));
            }
        };
        let send = send_of(row)?;
        let duplicate = send.id != new.id;
        if duplicate && Columns::of(row, "sends").fingerprint()? != new.fingerprint() {
            return Ok(Err(NotAccepted::Mismatch));
        }
        Ok(Ok(Accepted { send, duplicate }))
    }

    async fn send(&self, organization: &OrganizationId, of: &Named) -> Result<Option<Send>, Error> {
        let found = self.fetch(by(organization, of)).await?;
        Ok(sends_of(&found)?.pop())
    }

    async fn sends(
        &self,
        organization: &OrganizationId,
        state: Option<SendState>,
        before: Option<Uuid>,
        at_most: usize,
    ) -> Result<Vec<Send>, Error> {
        let text = if state.is_some() { LIST_STATE } else { LIST };
        let statement = about(text, organization, before.unwrap_or(Uuid::max())).bound(at_most);
        let statement = match state {
            Some(state) => statement.number(state.number()),
            None => statement,
        };
        sends_of(&self.fetch(statement).await?)
    }

    async fn cancel(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error> {
        let cancel = about(CANCEL, organization, id).time(now);
        let found = self.write(vec![cancel, about(BY_ID, organization, id)]);
        last_of(&found.await?)
    }

    async fn due_sends(&self, now: Timestamp, at_most: usize) -> Result<Vec<Send>, Error> {
        let statement = Statement::new(DUE).time(now).bound(at_most);
        sends_of(&self.fetch(statement).await?)
    }

    async fn begin(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error> {
        let begin = about(BEGIN, &send.organization_id, send.id).time(now);
        let read = about(BY_ID, &send.organization_id, send.id);
        last_of(&self.write(vec![begin, read]).await?)
    }

    async fn recipients(&self, send: &Send, at_most: usize) -> Result<Vec<UserId>, Error> {
        let (statement, table) = match &send.topic_id {
            Some(topic) => {
                let members = Statement::new(MEMBERS).text(send.organization_id.as_str());
                (members.text(topic.as_str()), "topic_members")
            }
            None => {
                let named = about(NAMED, &send.organization_id, send.id);
                (named, "send_recipients")
            }
        };
        let statement = statement.text(&send.last_user_id).bound(at_most);
        users_of(&self.fetch(statement).await?, table)
    }

    async fn advance(&self, send: &Send, step: &Step, next: Timestamp) -> Result<(), Error> {
        let statement = about(ADVANCE, &send.organization_id, send.id)
            .text(&send.last_user_id)
            .text(&step.last_user_id)
            .number(step.tally.delivered)
            .number(step.tally.suppressed)
            .number(step.tally.errors)
            .number(i64::from(step.is_last))
            .time(next);
        self.write_one(statement).await.map(drop)
    }

    async fn postpone(&self, send: &Send, next: Timestamp) -> Result<(), Error> {
        let statement = about(POSTPONE, &send.organization_id, send.id).time(next);
        self.write_one(statement).await.map(drop)
    }

    async fn forget_sends(&self, until: Timestamp, at_most: usize) -> Result<usize, Error> {
        // It is asked for often, and seldom there.
        let ended = self.fetch(Statement::new(ENDED).time(until)).await?;
        if ended.is_empty() {
            return Ok(0);
        }
        let statement = |text: &str| Statement::new(text).time(until).bound(at_most);
        let deleted = self.write(FORGET.map(statement).into()).await?.pop();
        Ok(deleted.map_or(0, |rows| rows.len()))
    }

    async fn forget_recipient(&self, inbox: &InboxKey) -> Result<(), Error> {
        let statements = FORGET_RECIPIENT.map(|text| Statement::of(text, inbox));
        self.write(statements.into()).await.map(drop)
    }

    async fn delete_sends(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        let statement = |text: &str| {
            let statement = Statement::new(text).text(organization.as_str());
            statement.bound(at_most)
        };
        let deleted = self.write(DELETE.map(statement).into()).await?.pop();
        Ok(deleted.map_or(0, |rows| rows.len()))
    }
}
