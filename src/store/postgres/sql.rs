//! Statements that every engine runs alike, in Postgres.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx::{AssertSqlSafe, postgres::PgRow};

use super::{PgQuery, Postgres, failed, is_dead, run};
use crate::store::{
    Error,
    sql::{Sql, Statement, Value},
};

/// Takes the lease where it is free, over or one's own.
const LEASE: &str = "WITH t AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     AS now) INSERT INTO sweeper AS s (id, holder, held_until) SELECT 1, $1, t.now + $2 FROM t \
     ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
     WHERE s.holder = excluded.holder OR s.held_until < excluded.held_until - $2 \
     RETURNING s.held_until - $2 AS now";

impl Postgres {
    fn statement(&self, statement: &Statement) -> PgQuery {
        let query = sqlx::query(AssertSqlSafe(statement.text.clone()));
        let query = query.persistent(!self.is_pooled);
        let bind = |query: PgQuery, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
            Value::Bytes(bytes) => query.bind(bytes),
            Value::Id(id) => query.bind(id),
        };
        statement.values.iter().cloned().fold(query, bind)
    }

    async fn write_once(&self, statements: &[Statement]) -> Result<Vec<Vec<PgRow>>, Error> {
        let mut connection = self.writers.take().await?;
        let rows = self
            .in_time(async {
                run(&mut connection, &self.begin).await?;
                let mut rows = Vec::with_capacity(statements.len());
                for statement in statements {
                    let query = self.statement(statement);
                    rows.push(query.fetch_all(&mut *connection).await.map_err(failed)?);
                }
                run(&mut connection, "COMMIT").await?;
                Ok(rows)
            })
            .await?;
        connection.keep();
        Ok(rows)
    }
}

#[async_trait]
impl Sql for Postgres {
    type Row = PgRow;

    const LIST: &'static str = "jsonb_array_elements_text($3::jsonb) AS w (value)";
    const BUT: &'static str = "NOT EXISTS (SELECT FROM jsonb_array_elements($3::jsonb) AS b (pair) \
         WHERE b.pair ->> 0 = n.organization_id AND b.pair ->> 1 = n.user_id)";
    const LEASE: Option<&'static str> = Some(LEASE);

    async fn fetch(&self, statement: Statement) -> Result<Vec<PgRow>, Error> {
        self.read(|connection| {
            let query = self.statement(&statement);
            async move { query.fetch_all(connection).await.map_err(failed) }.boxed()
        })
        .await
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<PgRow>>, Error> {
        let mut dead = 0;
        loop {
            match self.write_once(&statements).await {
                // As many as there are may have died while they were idle.
                Err(error) if is_dead(&error) && dead < self.lanes => dead += 1,
                written => return written,
            }
        }
    }
}
