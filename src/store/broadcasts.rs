//! What is said to all of an organization, or to everybody: entries that each inbox takes
//! by itself. What they mean is here for every engine alike.
//!
//! An entry is a send, or that a send is taken back. Entries are numbered by one counter of
//! the database, whose row is held until they are committed: so who reads a number finds
//! all entries up to it. An inbox has one number, up to which it has taken them.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    Error,
    preferences::TypeDefault,
    rows::{Columns, Fields as _, content_columns},
    sends::{self, BY_ID, Send, Tally, about, send_columns},
    sql::{Sql, Statement},
};
use crate::{
    clock::Timestamp,
    model::{OrganizationId, PartOf, Wanted},
};

/// The most entries that an inbox takes in one change, and about the most bytes.
const MOST: usize = 100;
const MOST_BYTES: usize = 512 * 1024;

/// What an inbox has not taken.
#[derive(Clone, Debug, Default)]
pub struct Untaken {
    /// It goes up to this number.
    pub through: u64,
    /// What is said, and whether people of the organization have a say.
    pub sends: Vec<(Send, Wanted)>,
    /// The keys of what is taken back.
    pub retracted: Vec<String>,
}

/// A store by what is broadcast.
#[async_trait]
pub trait Broadcasts: std::marker::Send + Sync + 'static {
    /// Begins a broadcast that waits: from now on inboxes take it; how it is then.
    async fn publish(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error>;

    /// Takes a broadcast back: nobody takes it after this returned, and who has it loses it
    /// when their inbox is next looked into. Again is as well. How it is then; `None`:
    /// there is none of that id.
    async fn retract_broadcast(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error>;

    /// Deletes what was taken back `until` then: no inbox has it any more.
    async fn forget_retractions(&self, until: Timestamp) -> Result<(), Error>;
}

const COUNT: &str = "UPDATE doorbell SET last_broadcast = last_broadcast + 1 WHERE id = 1";
const PUBLISH: &str = "UPDATE sends SET state = 1, started_at = $3, next_at = available_until \
     WHERE organization_id = $1 AND id = $2 AND state = 0 AND available_until IS NOT NULL";
const ENTER: &str = "INSERT INTO broadcasts (organization_id, number, send_id, created_at) \
     SELECT n.organization_id, d.last_broadcast, n.id, $3 FROM sends AS n CROSS JOIN doorbell AS d \
     WHERE n.organization_id = $1 AND n.id = $2 AND n.state = 1 AND d.id = 1 \
     AND n.available_until IS NOT NULL ON CONFLICT DO NOTHING";
const RETRACT: &str = "UPDATE sends SET state = 3, ended_at = coalesce(ended_at, $3), \
     next_at = NULL WHERE organization_id = $1 AND id = $2 AND available_until IS NOT NULL";
/// What nobody can have is only cancelled.
const ENTER_RETRACTION: &str = "INSERT INTO broadcasts (organization_id, number, send_id, \
     retracted_number, created_at) SELECT b.organization_id, d.last_broadcast, b.send_id, \
     b.number, $3 FROM broadcasts AS b CROSS JOIN doorbell AS d \
     WHERE b.organization_id = $1 AND b.send_id = $2 AND b.retracted_number IS NULL \
     AND d.id = 1 ON CONFLICT DO NOTHING";
const ANNOUNCE: &str = "INSERT INTO audiences (organization_id, last_number) \
     SELECT b.organization_id, max(b.number) FROM broadcasts AS b WHERE b.organization_id = $1 \
     GROUP BY b.organization_id \
     ON CONFLICT (organization_id) DO UPDATE SET last_number = excluded.last_number";
const TAKEN: &str = "UPDATE sends SET delivered_count = delivered_count + $3, \
     suppressed_count = suppressed_count + $4 WHERE organization_id = $1 AND id = $2";
const FORGET_RETRACTIONS: &str = "DELETE FROM broadcasts \
     WHERE retracted_number IS NOT NULL AND created_at BETWEEN 0 AND $1";
const RETRACTED: &str = "SELECT send_id AS id FROM broadcasts \
     WHERE retracted_number IS NOT NULL AND created_at BETWEEN 0 AND $1 LIMIT 1";
/// What an inbox cannot have is not taken back from it.
const UNTAKEN: &str = concat!(
    "SELECT b.number, b.send_id, b.retracted_number, t.is_on, t.is_required, ",
    send_columns!(),
    " FROM broadcasts AS b LEFT JOIN sends AS n ON b.retracted_number IS NULL \
     AND n.organization_id = b.organization_id AND n.id = b.send_id AND n.state = 1 \
     LEFT JOIN type_defaults AS t ON t.organization_id = $1 AND t.type = n.type \
     WHERE b.organization_id IN ($1, '*') AND b.number > $2 \
     AND (n.id IS NOT NULL OR b.retracted_number <= $2) ORDER BY b.number LIMIT $3"
);
const ANNOUNCED: &str = "SELECT organization_id, last_number FROM audiences \
     WHERE last_number > $1 ORDER BY last_number";
const LAST: &str = "SELECT organization_id, last_number FROM audiences \
     ORDER BY last_number DESC LIMIT 1";

fn number(columns: &Columns<'_>, column: &'static str) -> Result<u64, Error> {
    columns.revision(column).map(|number| number.get())
}

/// See [`Store::untaken`](super::Store::untaken).
pub(super) async fn untaken(
    engine: &impl Sql,
    organization: &OrganizationId,
    after: u64,
    announced: u64,
) -> Result<Untaken, Error> {
    let statement = Statement::new(UNTAKEN).text(organization.as_str());
    let statement = statement.number(after.cast_signed()).bound(MOST);
    let rows = engine.fetch(statement).await?;
    let is_more = rows.len() == MOST;
    let (mut untaken, mut bytes) = (Untaken::default(), 0);
    for row in &rows {
        let columns = Columns::of(row, "broadcasts");
        let at = number(&columns, "number")?;
        if columns.optional_number("retracted_number")?.is_some() {
            let id = row.uuid("send_id");
            let id = id.map_err(|error| columns.inconsistent("send_id", error))?;
            let id = id.ok_or_else(|| columns.inconsistent("send_id", "is missing"))?;
            untaken.retracted.push(PartOf::key_of(id));
        } else {
            let send = sends::send_of(row)?;
            bytes += send.content.len_bytes();
            if bytes > MOST_BYTES && !untaken.sends.is_empty() {
                return Ok(untaken);
            }
            untaken.sends.push((send, wanted(&columns)?));
        }
        untaken.through = at;
    }
    if !is_more {
        untaken.through = untaken.through.max(announced);
    }
    Ok(untaken)
}

/// What the organization says of the type.
fn wanted(columns: &Columns<'_>) -> Result<Wanted, Error> {
    let is_required = columns.optional_number("is_required")?;
    let default = is_required
        .zip(columns.optional_number("is_on")?)
        .map(|(is_required, is_on)| TypeDefault {
            is_on: is_on != 0,
            is_required: is_required != 0,
        });
    Ok(default.map(TypeDefault::wanted).unwrap_or_default())
}

/// See [`Store::announced`](super::Store::announced).
pub(super) async fn announced(
    engine: &impl Sql,
    after: Option<u64>,
) -> Result<(Vec<OrganizationId>, u64), Error> {
    let statement = match after {
        Some(after) => Statement::new(ANNOUNCED).number(after.cast_signed()),
        None => Statement::new(LAST),
    };
    let (mut organizations, mut last) = (Vec::new(), after.unwrap_or(0));
    for row in engine.fetch(statement).await? {
        let columns = Columns::of(&row, "audiences");
        organizations.push(sends::organization_of(&columns)?);
        last = last.max(number(&columns, "last_number")?);
    }
    if after.is_none() {
        organizations.clear();
    }
    Ok((organizations, last))
}

/// See [`Store::note_taken`](super::Store::note_taken).
pub(super) async fn note_taken(
    engine: &impl Sql,
    organization: &OrganizationId,
    id: Uuid,
    tally: Tally,
) -> Result<(), Error> {
    let statement = about(TAKEN, organization, id).number(tally.delivered);
    let statement = statement.number(tally.suppressed);
    engine.write_one(statement).await.map(drop)
}

#[async_trait]
impl<Engine: Sql> Broadcasts for Engine {
    async fn publish(&self, send: &Send, now: Timestamp) -> Result<Option<Send>, Error> {
        let of = |text| about(text, &send.organization_id, send.id);
        let organization = send.organization_id.as_str();
        // The send first: who takes it back, and who takes it, begins there as well.
        let statements = vec![
            of(PUBLISH).time(now),
            Statement::new(COUNT),
            of(ENTER).time(now),
            Statement::new(ANNOUNCE).text(organization),
            of(BY_ID),
        ];
        sends::last_of(&self.write(statements).await?)
    }

    async fn retract_broadcast(
        &self,
        organization: &OrganizationId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Send>, Error> {
        let of = |text| about(text, organization, id);
        let statements = vec![
            of(RETRACT).time(now),
            Statement::new(COUNT),
            of(ENTER_RETRACTION).time(now),
            Statement::new(ANNOUNCE).text(organization.as_str()),
            of(BY_ID),
        ];
        let send = sends::last_of(&self.write(statements).await?)?;
        Ok(send.filter(|send| send.available_until.is_some()))
    }

    async fn forget_retractions(&self, until: Timestamp) -> Result<(), Error> {
        // It is asked for often, and seldom there.
        let retracted = self.fetch(Statement::new(RETRACTED).time(until)).await?;
        if retracted.is_empty() {
            return Ok(());
        }
        let statement = Statement::new(FORGET_RETRACTIONS).time(until);
        self.write_one(statement).await.map(drop)
    }
}
