//! What people and organizations say of types of notifications, for every engine alike.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{
    Error,
    rows::{Columns, Fields},
    sql::{Sql, Statement},
};
use crate::model::{InboxKey, OrganizationId, Wanted};

/// What an organization says of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeDefault {
    /// Whether who said nothing of it has it.
    pub is_on: bool,
    /// Whether everybody has it, whatever they said.
    pub is_required: bool,
}

impl TypeDefault {
    /// Whether people have a say.
    pub fn wanted(self) -> Wanted {
        match self {
            Self {
                is_required: true, ..
            } => Wanted::Required,
            Self { is_on: false, .. } => Wanted::IfChosen,
            Self { .. } => Wanted::UnlessMuted,
        }
    }
}

/// What an organization says, by type.
pub type TypeDefaults = HashMap<String, TypeDefault>;

/// What a person said, by type: to have it or not.
pub type Chosen = HashMap<String, bool>;

/// A store by what is wanted.
#[async_trait]
pub trait Preferences: Send + Sync + 'static {
    /// What a person said.
    async fn chosen(&self, inbox: &InboxKey) -> Result<Chosen, Error>;

    /// Notes what a person says of types; `None` takes back what they said. What they
    /// said is then answered.
    async fn choose(
        &self,
        inbox: &InboxKey,
        of: &[(String, Option<bool>)],
    ) -> Result<Chosen, Error>;

    /// What an organization says.
    async fn type_defaults(&self, organization: &OrganizationId) -> Result<TypeDefaults, Error>;

    /// Notes what an organization says of types; `None` takes back what it said. What it
    /// said is then answered.
    async fn set_type_defaults(
        &self,
        organization: &OrganizationId,
        of: &[(String, Option<TypeDefault>)],
    ) -> Result<TypeDefaults, Error>;

    /// Forgets what a person said.
    async fn forget_preferences(&self, inbox: &InboxKey) -> Result<(), Error>;

    /// Forgets what an organization said, and at most so many of what its people did; how
    /// many.
    async fn delete_preferences(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error>;
}

const CHOSEN: &str =
    "SELECT type, is_on FROM preferences WHERE organization_id = $1 AND user_id = $2";
const DEFAULTS: &str =
    "SELECT type, is_on, is_required FROM type_defaults WHERE organization_id = $1";
const FORGET: &str = "DELETE FROM preferences WHERE organization_id = $1 AND user_id = $2";
const DELETE_DEFAULTS: &str = "DELETE FROM type_defaults WHERE organization_id = $1";
const DELETE: &str = "DELETE FROM preferences WHERE organization_id = $1 \
     AND (user_id, type) IN (SELECT user_id, type FROM preferences \
     WHERE organization_id = $1 ORDER BY user_id, type LIMIT $2) RETURNING type";
const CHOOSE: &str = "INSERT INTO preferences (organization_id, user_id, type, is_on) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (organization_id, user_id, type) \
     DO UPDATE SET is_on = excluded.is_on";
const TAKE_BACK: &str =
    "DELETE FROM preferences WHERE organization_id = $1 AND user_id = $2 AND type = $3";
const SET_DEFAULT: &str = "INSERT INTO type_defaults (organization_id, type, is_on, is_required) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (organization_id, type) \
     DO UPDATE SET is_on = excluded.is_on, is_required = excluded.is_required";
const TAKE_BACK_DEFAULT: &str =
    "DELETE FROM type_defaults WHERE organization_id = $1 AND type = $2";

fn chosen_of<R: Fields>(rows: &[R]) -> Result<Chosen, Error> {
    let chosen = |row: &R| {
        let columns = Columns::of(row, "preferences");
        let kind = columns.text("type")?.to_owned();
        Ok((kind, columns.number("is_on")? != 0))
    };
    rows.iter().map(chosen).collect()
}

fn defaults_of<R: Fields>(rows: &[R]) -> Result<TypeDefaults, Error> {
    let default = |row: &R| {
        let columns = Columns::of(row, "type_defaults");
        let kind = columns.text("type")?.to_owned();
        let default = TypeDefault {
            is_on: columns.number("is_on")? != 0,
            is_required: columns.number("is_required")? != 0,
        };
        Ok((kind, default))
    };
    rows.iter().map(default).collect()
}

/// A statement about an organization.
fn about(text: &str, organization: &OrganizationId) -> Statement {
    Statement::new(text).text(organization.as_str())
}

#[async_trait]
impl<Engine: Sql> Preferences for Engine {
    async fn chosen(&self, inbox: &InboxKey) -> Result<Chosen, Error> {
        chosen_of(&self.fetch(Statement::of(CHOSEN, inbox)).await?)
    }

    async fn choose(
        &self,
        inbox: &InboxKey,
        of: &[(String, Option<bool>)],
    ) -> Result<Chosen, Error> {
        let statements = of.iter().map(|(kind, is_on)| match is_on {
            Some(is_on) => {
                let statement = Statement::of(CHOOSE, inbox).text(kind);
                statement.number(i64::from(*is_on))
            }
            None => Statement::of(TAKE_BACK, inbox).text(kind),
        });
        let statements = statements.chain([Statement::of(CHOSEN, inbox)]);
        let rows = self.write(statements.collect()).await?.pop();
        chosen_of(&rows.unwrap_or_default())
    }

    async fn type_defaults(&self, organization: &OrganizationId) -> Result<TypeDefaults, Error> {
        defaults_of(&self.fetch(about(DEFAULTS, organization)).await?)
    }

    async fn set_type_defaults(
        &self,
        organization: &OrganizationId,
        of: &[(String, Option<TypeDefault>)],
    ) -> Result<TypeDefaults, Error> {
        let statements = of.iter().map(|(kind, default)| match default {
            Some(TypeDefault { is_on, is_required }) => about(SET_DEFAULT, organization)
                .text(kind)
                .number(i64::from(*is_on))
                .number(i64::from(*is_required)),
            None => about(TAKE_BACK_DEFAULT, organization).text(kind),
        });
        let statements = statements.chain([about(DEFAULTS, organization)]);
        let rows = self.write(statements.collect()).await?.pop();
        defaults_of(&rows.unwrap_or_default())
    }

    async fn forget_preferences(&self, inbox: &InboxKey) -> Result<(), Error> {
        self.write_one(Statement::of(FORGET, inbox)).await.map(drop)
    }

    async fn delete_preferences(
        &self,
        organization: &OrganizationId,
        at_most: usize,
    ) -> Result<usize, Error> {
        let statements = vec![
            about(DELETE_DEFAULTS, organization),
            about(DELETE, organization).bound(at_most),
        ];
        let deleted = self.write(statements).await?.pop();
        Ok(deleted.map_or(0, |rows| rows.len()))
    }
}
