//! What is taken back over an organization: by the thing that it is about, from all who
//! have it. Both engines run the same texts.
//!
//! A retraction is a row that says how far it is, in the order of the inboxes and their
//! rows. Each step names where that was before: a step that was done twice is noted once.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    About, Error, Named,
    rows::{Columns, Fields, integer},
    sends::{about as of_id, organization_of},
    sql::{Sql, Statement},
};
use crate::{
    clock::Timestamp,
    model::{InboxKey, OrganizationId, Revision},
};

/// A retraction that is to be accepted.
#[derive(Clone, Debug)]
pub struct NewRetraction {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// UUIDv7.
    pub id: Uuid,
    /// What is taken back.
    pub about: About,
    /// Makes a retry safe, in the organization.
    pub idempotency_key: String,
    /// `sub` of the sender's token.
    pub sender: String,
}

/// A retraction as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retraction {
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its id.
    pub id: Uuid,
    /// What is taken back.
    pub about: About,
    /// `sub` of the sender's token.
    pub sender: String,
    /// When the service took it: what was sent later stays.
    pub accepted_at: Timestamp,
    /// When it was through.
    pub ended_at: Option<Timestamp>,
    /// How many notifications it removed.
    pub retracted: u32,
    /// How many it could not.
    pub errors: u32,
    /// The last inbox that it came to.
    pub last_user_id: String,
    /// The last row there.
    pub last_sequence: Revision,
}

/// A row that a retraction comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub inbox: InboxKey,
    /// Which.
    pub id: Uuid,
    /// Its sequence.
    pub sequence: Revision,
}

/// A step of a retraction.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The last row that it came to; none: there was no other.
    pub last: Option<Found>,
    /// How many it removed.
    pub retracted: u32,
    /// How many it could not.
    pub errors: u32,
    /// Whether there is none after them.
    pub is_last: bool,
}

/// A store by its retractions.
#[async_trait]
pub trait Retractions: Send + Sync + 'static {
    /// Accepts a retraction, once for its idempotency key, and cancels what was accepted
    /// before it to be sent to people that were named, or to topics. It, or the first of
    /// that key, and whether that was another.
    async fn accept_retraction(
        &self,
        new: &NewRetraction,
        now: Timestamp,
    ) -> Result<(Retraction, bool), Error>;

    /// The retraction of that name.
    async fn retraction(
        &self,
        organization: &OrganizationId,
        of: &Named,
    ) -> Result<Option<Retraction>, Error>;

    /// The broadcasts that it takes back: those that were accepted before it, and wait or
    /// can be taken.
    async fn broadcasts_about(&self, of: &Retraction) -> Result<Vec<Uuid>, Error>;

    /// At most so many retractions whose turn it is, who waits longest first.
    async fn due_retractions(
        &self,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Retraction>, Error>;

    /// At most so many rows that it comes to next.
    async fn rows_about(&self, of: &Retraction, at_most: usize) -> Result<Vec<Found>, Error>;

    /// Notes a step, if it is the next one; its turn comes again at `next`.
    async fn advance_retraction(
        &self,
        of: &Retraction,
        step: &Step,
        next: Timestamp,
    ) -> Result<(), Error>;

    /// Deletes at most so many that ended `until` or before; how many.
    async fn forget_ended_retractions(
        &self,
        until: Timestamp,
        at_most: usize,
    ) -> Result<usize, Error>;

    /// Deletes at most so many of an organization, whatever they are at; how many.
    async fn delete_retractions(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error>;
}

/// Reads the retractions of which this is true.
macro_rules! select {
    ($which:literal) => {
        concat!(
            "SELECT n.organization_id, n.id, n.entity_type, n.entity_id, n.sender, n.accepted_at, \
             n.ended_at, n.retracted_count, n.error_count, n.last_user_id, n.last_sequence \
             FROM retractions AS n WHERE ",
            $which
        )
    };
}

const ACCEPT: &str = "INSERT INTO retractions (organization_id, id, entity_type, entity_id, \
     idempotency_key, sender, accepted_at, next_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) \
     ON CONFLICT DO NOTHING";
/// Where the key was used there is no such retraction, and nothing is cancelled. What this
/// transaction sees was accepted before it, whatever the clock of its node said.
const CANCEL: &str = "UPDATE sends SET state = 3, ended_at = $3, next_at = NULL \
     WHERE organization_id = $1 AND state < 2 AND available_until IS NULL \
     AND entity_type = $4 AND entity_id = $5 AND EXISTS (SELECT 1 FROM retractions AS r \
     WHERE r.organization_id = $1 AND r.id = $2)";
const BY_ID: &str = select!("n.organization_id = $1 AND n.id = $2");
const BY_KEY: &str = select!("n.organization_id = $1 AND n.idempotency_key = $2");
const BROADCASTS: &str = "SELECT s.id FROM sends AS s WHERE s.organization_id = $1 \
     AND s.entity_type = $2 AND s.entity_id = $3 AND s.state < 2 \
     AND s.available_until IS NOT NULL AND s.accepted_at <= $4";
const DUE: &str = select!("n.next_at BETWEEN 0 AND $1 ORDER BY n.next_at LIMIT $2");
/// The one search for rows by what they are about without their inbox.
pub(super) const ROWS: &str = "SELECT n.organization_id, n.user_id, n.id, n.sequence \
     FROM notifications AS n WHERE n.organization_id = $1 AND n.entity_type = $2 \
     AND n.entity_id = $3 AND n.removed_at IS NULL AND (n.user_id, n.sequence) > ($4, $5) \
     AND coalesce(n.sent_at, n.created_at) <= $6 ORDER BY n.user_id, n.sequence LIMIT $7";
const ADVANCE: &str = "UPDATE retractions SET last_user_id = $5, last_sequence = $6, \
     retracted_count = retracted_count + $7, error_count = error_count + $8, \
     next_at = CASE WHEN $9 = 0 THEN $10 END, ended_at = CASE WHEN $9 = 1 THEN $10 END \
     WHERE organization_id = $1 AND id = $2 AND last_user_id = $3 AND last_sequence = $4 \
     AND ended_at IS NULL";
const ENDED: &str =
    "SELECT id FROM retractions WHERE ended_at BETWEEN 0 AND $1 ORDER BY ended_at LIMIT 1";
const FORGET: &str = "DELETE FROM retractions WHERE (organization_id, id) IN \
     (SELECT organization_id, id FROM retractions WHERE ended_at BETWEEN 0 AND $1 \
     ORDER BY ended_at LIMIT $2) RETURNING id";
const DELETE: &str = "DELETE FROM retractions WHERE organization_id = $1 AND id IN \
     (SELECT id FROM retractions WHERE organization_id = $1 LIMIT $2) RETURNING id";

fn retraction(row: &dyn Fields) -> Result<Retraction, Error> {
    let columns = Columns::of(row, "retractions");
    Ok(Retraction {
        organization_id: organization_of(&columns)?,
        id: columns.id()?,
        about: About {
            entity_type: columns.text("entity_type")?.to_owned(),
            entity_id: columns.text("entity_id")?.to_owned(),
        },
        sender: columns.text("sender")?.to_owned(),
        accepted_at: Timestamp::from_micros(columns.number("accepted_at")?),
        ended_at: columns.time("ended_at")?,
        retracted: columns.count("retracted_count")?,
        errors: columns.count("error_count")?,
        last_user_id: columns.text("last_user_id")?.to_owned(),
        last_sequence: columns.revision("last_sequence")?,
    })
}

fn found(row: &dyn Fields) -> Result<Found, Error> {
    let columns = Columns::of(row, "notifications");
    Ok(Found {
        inbox: columns.inbox()?,
        id: columns.id()?,
        sequence: columns.revision("sequence")?,
    })
}

/// A statement about what a retraction is about.
fn on(text: &str, of: &Retraction) -> Statement {
    Statement::new(text)
        .text(of.organization_id.as_str())
        .text(&of.about.entity_type)
        .text(&of.about.entity_id)
}

#[async_trait]
impl<Engine: Sql> Retractions for Engine {
    async fn accept_retraction(
        &self,
        new: &NewRetraction,
        now: Timestamp,
    ) -> Result<(Retraction, bool), Error> {
        let accept = of_id(ACCEPT, &new.organization_id, new.id)
            .text(&new.about.entity_type)
            .text(&new.about.entity_id)
            .text(&new.idempotency_key)
            .text(&new.sender)
            .time(now);
        let cancel = of_id(CANCEL, &new.organization_id, new.id)
            .time(now)
            .text(&new.about.entity_type)
            .text(&new.about.entity_id);
        let read = Statement::new(BY_KEY)
            .text(new.organization_id.as_str())
            .text(&new.idempotency_key);
        let found = self.write(vec![accept, cancel, read]).await?;
        let found = found.last().and_then(|rows| rows.first());
        let gone = || Error::Unavailable("a retraction is not found any more".into());
        let accepted = retraction(found.ok_or_else(gone)?)?;
        let is_duplicate = accepted.id != new.id;
        Ok((accepted, is_duplicate))
    }

    async fn retraction(
        &self,
        organization: &OrganizationId,
        of: &Named,
    ) -> Result<Option<Retraction>, Error> {
        let statement = match of {
            Named::Id(id) => of_id(BY_ID, organization, *id),
            Named::Key(key) => Statement::new(BY_KEY).text(organization.as_str()).text(key),
        };
        let found = self.fetch(statement).await?;
        found.first().map(|row| retraction(row)).transpose()
    }

    async fn broadcasts_about(&self, of: &Retraction) -> Result<Vec<Uuid>, Error> {
        let found = self.fetch(on(BROADCASTS, of).time(of.accepted_at)).await?;
        let id = |row: &Engine::Row| Columns::of(row, "sends").id();
        found.iter().map(id).collect()
    }

    async fn due_retractions(
        &self,
        now: Timestamp,
        at_most: usize,
    ) -> Result<Vec<Retraction>, Error> {
        let statement = Statement::new(DUE).time(now).bound(at_most);
        let found = self.fetch(statement).await?;
        found.iter().map(|row| retraction(row)).collect()
    }

    async fn rows_about(&self, of: &Retraction, at_most: usize) -> Result<Vec<Found>, Error> {
        let statement = on(ROWS, of)
            .text(&of.last_user_id)
            .number(integer(of.last_sequence))
            .time(of.accepted_at)
            .bound(at_most);
        let rows = self.fetch(statement).await?;
        rows.iter().map(|row| found(row)).collect()
    }

    async fn advance_retraction(
        &self,
        of: &Retraction,
        step: &Step,
        next: Timestamp,
    ) -> Result<(), Error> {
        let (user, sequence) = match &step.last {
            Some(last) => (last.inbox.user_id.as_str(), last.sequence),
            None => (of.last_user_id.as_str(), of.last_sequence),
        };
        let statement = of_id(ADVANCE, &of.organization_id, of.id)
            .text(&of.last_user_id)
            .number(integer(of.last_sequence))
            .text(user)
            .number(integer(sequence))
            .number(step.retracted)
            .number(step.errors)
            .number(i64::from(step.is_last))
            .time(next);
        self.write_one(statement).await.map(drop)
    }

    async fn forget_ended_retractions(
        &self,
        until: Timestamp,
        at_most: usize,
    ) -> Result<usize, Error> {
        // It is asked for often, and seldom there.
        let ended = self.fetch(Statement::new(ENDED).time(until)).await?;
        if ended.is_empty() {
            return Ok(0);
        }
        let statement = Statement::new(FORGET).time(until).bound(at_most);
        Ok(self.write_one(statement).await?.len())
    }

    async fn delete_retractions(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        let statement = Statement::new(DELETE).text(organization.as_str());
        Ok(self.write_one(statement.bound(at_most)).await?.len())
    }
}
