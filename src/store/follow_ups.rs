//! What organizations are told of: notifications that nobody looked at in time. Both
//! engines run the same texts.
//!
//! Each has a position in the order of its organization, which is taken as it is committed:
//! who has read up to a position has all before it. A position is of one life of the
//! database; in another life all is told again. What is told goes with its notification.

use async_trait::async_trait;

use super::{
    Error,
    rows::{self, Columns, Fields, columns},
    sql::{Sql, Statement},
};
use crate::{
    clock::Timestamp,
    model::{Epoch, InboxKey, Notification, OrganizationId, PendingFollowUp, Revision},
    sabotage::{self, Sabotage},
};

/// Where somebody has read up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct After {
    /// The life of the database that it is of; none: nothing was read yet.
    pub epoch: Option<Epoch>,
    /// The position of the last one.
    pub position: u64,
}

/// A notification that an organization is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowUp {
    /// Its position.
    pub position: u64,
    /// Whose the notification is.
    pub inbox: InboxKey,
    /// What was due.
    pub was: PendingFollowUp,
    /// When the organization was told.
    pub told_at: Timestamp,
    /// The notification as it is now.
    pub notification: Notification,
}

/// A store by what organizations are told of.
#[async_trait]
pub trait FollowUps: Send + Sync + 'static {
    /// At most so many after a position, in their order, and the present epoch. A position
    /// of another epoch is before all.
    async fn follow_ups(
        &self,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
    ) -> Result<(Epoch, Vec<FollowUp>), Error>;

    /// When an organization was told of a notification, if it was.
    async fn followed_up_at(
        &self,
        inbox: &InboxKey,
        sequence: Revision,
    ) -> Result<Option<Timestamp>, Error>;

    /// Deletes at most so many of which organizations were told `until` or before; how many.
    async fn forget_follow_ups(&self, until: Timestamp, at_most: usize) -> Result<usize, Error>;
}

/// Those after a position, in an order.
macro_rules! list {
    ($order:literal) => {
        concat!(
            "SELECT d.epoch, f.position, f.due_at, f.told_at, ",
            columns!(),
            ", f.follow_up_unless AS was_unless FROM doorbell AS d \
             LEFT JOIN (SELECT * FROM follow_ups AS f WHERE f.organization_id = $1 \
             AND f.position > (SELECT CASE WHEN e.epoch = $2 THEN $3 ELSE 0 END \
             FROM doorbell AS e WHERE e.id = 1) ORDER BY ",
            $order,
            " LIMIT $4) AS f ON TRUE LEFT JOIN notifications AS n \
             ON n.organization_id = f.organization_id AND n.user_id = f.user_id \
             AND n.sequence = f.sequence WHERE d.id = 1 ORDER BY ",
            $order
        )
    };
}
pub(super) const LIST: &str = list!("f.position");
/// For a deliberate bug.
const LIST_BY_TIME: &str = list!("f.told_at DESC");
const TOLD_AT: &str = "SELECT told_at FROM follow_ups \
     WHERE organization_id = $1 AND user_id = $2 AND sequence = $3";
const OLD: &str =
    "SELECT told_at FROM follow_ups WHERE told_at BETWEEN 0 AND $1 ORDER BY told_at LIMIT 1";
const FORGET: &str = "DELETE FROM follow_ups WHERE (organization_id, position) IN \
     (SELECT organization_id, position FROM follow_ups WHERE told_at BETWEEN 0 AND $1 \
     ORDER BY told_at LIMIT $2) RETURNING position";

fn followed_up(row: &dyn Fields) -> Result<FollowUp, Error> {
    let columns = Columns::of(row, "follow_ups");
    let time = |column| columns.number(column).map(Timestamp::from_micros);
    Ok(FollowUp {
        position: columns.revision("position")?.get(),
        inbox: columns.inbox()?,
        was: PendingFollowUp {
            at: time("due_at")?,
            unless: columns.unless("was_unless")?,
        },
        told_at: time("told_at")?,
        notification: rows::notification(row)?,
    })
}

#[async_trait]
impl<Engine: Sql> FollowUps for Engine {
    async fn follow_ups(
        &self,
        organization: &OrganizationId,
        after: &After,
        at_most: usize,
    ) -> Result<(Epoch, Vec<FollowUp>), Error> {
        let text = match sabotage::is(Sabotage::FollowUpsByTime) {
            true => LIST_BY_TIME,
            false => LIST,
        };
        let statement = Statement::new(text)
            .text(organization.as_str())
            .text(after.epoch.as_ref().map_or("", Epoch::as_str))
            .number(i64::try_from(after.position).unwrap_or(i64::MAX))
            .bound(at_most);
        let found = self.fetch(statement).await?;
        let first = found.first().ok_or_else(rows::no_epoch)?;
        let columns = Columns::of(first, "doorbell");
        let epoch = Epoch::new(columns.text("epoch")?);
        if columns.optional_number("position")?.is_none() {
            return Ok((epoch, Vec::new()));
        }
        let told: Result<_, Error> = found.iter().map(|row| followed_up(row)).collect();
        Ok((epoch, told?))
    }

    async fn followed_up_at(
        &self,
        inbox: &InboxKey,
        sequence: Revision,
    ) -> Result<Option<Timestamp>, Error> {
        let statement = Statement::of(TOLD_AT, inbox).number(rows::integer(sequence));
        let found = self.fetch(statement).await?;
        let told_at = |row| Columns::of(row, "follow_ups").number("told_at");
        let told_at = found.first().map(|row| told_at(row)).transpose()?;
        Ok(told_at.map(Timestamp::from_micros))
    }

    async fn forget_follow_ups(&self, until: Timestamp, at_most: usize) -> Result<usize, Error> {
        // It is asked for often, and seldom there.
        let old = self.fetch(Statement::new(OLD).time(until)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        let statement = Statement::new(FORGET).time(until).bound(at_most);
        Ok(self.write_one(statement).await?.len())
    }
}
