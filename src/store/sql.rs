//! Statements that every engine runs alike, for the nouns beside the inboxes: what they
//! mean is written once, over an engine that runs a few statements in a transaction.

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::{
    Error,
    rows::{self, Fields},
};
use crate::{
    clock::Timestamp,
    model::{InboxKey, UserId},
};

/// A parameter.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Bytes(Vec<u8>),
    Id(Uuid),
}

/// A statement and its parameters, in their order.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// Made of constants alone.
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Statement {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
        }
    }

    /// About one inbox: its key is the first two parameters.
    pub(super) fn of(text: impl Into<String>, inbox: &InboxKey) -> Self {
        let statement = Self::new(text).text(inbox.organization_id.as_str());
        statement.text(inbox.user_id.as_str())
    }

    fn with(mut self, value: Value) -> Self {
        self.values.push(value);
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        self.optional_text(Some(text))
    }

    pub(super) fn optional_text(self, text: Option<&str>) -> Self {
        self.with(Value::Text(text.map(str::to_owned)))
    }

    pub(super) fn number(self, number: impl Into<i64>) -> Self {
        self.with(Value::Number(Some(number.into())))
    }

    pub(super) fn optional_number(self, number: Option<i64>) -> Self {
        self.with(Value::Number(number))
    }

    pub(super) fn bound(self, rows: usize) -> Self {
        self.number(rows::bound(rows))
    }

    pub(super) fn time(self, time: Timestamp) -> Self {
        self.optional_time(Some(time))
    }

    pub(super) fn optional_time(self, time: Option<Timestamp>) -> Self {
        self.optional_number(time.map(Timestamp::as_micros))
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        self.with(Value::Bytes(bytes.to_vec()))
    }

    pub(super) fn id(self, id: Uuid) -> Self {
        self.with(Value::Id(id))
    }

    /// People, as [`Sql::LIST`] takes them.
    pub(super) fn users(self, users: &[UserId]) -> Self {
        let users: Vec<_> = users.iter().map(UserId::as_str).collect();
        self.text(&json!(users).to_string())
    }

    /// Inboxes, as [`Sql::BUT`] takes them.
    pub(super) fn inboxes(self, inboxes: &[InboxKey]) -> Self {
        let pair = |key: &InboxKey| json!([key.organization_id.as_str(), key.user_id.as_str()]);
        let pairs: Vec<_> = inboxes.iter().map(pair).collect();
        self.text(&json!(pairs).to_string())
    }
}

/// An engine that runs statements.
#[async_trait]
pub(super) trait Sql: Send + Sync + 'static {
    /// A row that was answered.
    type Row: Fields + Send + Sync;

    /// The texts of the JSON array that is the third parameter, as the column `value` of
    /// a table `w`.
    const LIST: &'static str;

    /// That a row of the table `n` is of none of the inboxes that are the third parameter.
    const BUT: &'static str;

    /// Takes the lease of the parameters, who and for how long, and answers with the time
    /// as `now`; with no row where another has it. None: there is no other.
    const LEASE: Option<&'static str>;

    /// Reads. Cancel safe.
    async fn fetch(&self, statement: Statement) -> Result<Vec<Self::Row>, Error>;

    /// Runs the statements in one transaction, durably, and answers with the rows of each.
    /// They may be done twice, one time after the other. Cancel safe: they are all done, or
    /// none.
    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<Self::Row>>, Error>;

    /// Runs one; see `write`.
    async fn write_one(&self, statement: Statement) -> Result<Vec<Self::Row>, Error> {
        let mut rows = self.write(vec![statement]).await?;
        Ok(rows.pop().unwrap_or_default())
    }
}
