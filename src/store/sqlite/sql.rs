//! Statements that every engine runs alike, in SQLite.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, SqliteConnection, sqlite::SqliteRow};

use super::{Sqlite, SqliteQuery, commit_failed, failed, undo};
use crate::store::{
    Error,
    sql::{Sql, Statement, Value},
};

fn query(statement: Statement) -> SqliteQuery {
    let query = sqlx::query(AssertSqlSafe(statement.text));
    let bind = |query: SqliteQuery, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Number(number) => query.bind(number),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Id(id) => query.bind(id),
    };
    statement.values.into_iter().fold(query, bind)
}

async fn run(
    writer: &mut SqliteConnection,
    statements: Vec<Statement>,
) -> Result<Vec<Vec<SqliteRow>>, Error> {
    let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *writer).await;
    begun.map_err(failed)?;
    let mut rows = Vec::with_capacity(statements.len());
    for statement in statements {
        rows.push(
            query(statement)
                .fetch_all(&mut *writer)
                .await
                .map_err(failed)?,
        );
    }
    let committed = sqlx::raw_sql("COMMIT").execute(writer).await;
    committed.map_err(commit_failed)?;
    Ok(rows)
}

#[async_trait]
impl Sql for Sqlite {
    type Row = SqliteRow;

    const LIST: &'static str = "json_each($3) AS w";
    const BUT: &'static str = "(n.organization_id, n.user_id) NOT IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each($3))";
    const LEASE: Option<&'static str> = None;

    async fn fetch(&self, statement: Statement) -> Result<Vec<SqliteRow>, Error> {
        let rows = query(statement).fetch_all(&self.readers).await;
        rows.map_err(failed)
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Vec<SqliteRow>>, Error> {
        self.files.check()?;
        let mut writer = self.writer().await?;
        // In a task: who asks may go away, and no transaction must stay.
        let written = tokio::spawn(async move {
            let written = run(&mut writer, statements).await;
            if written.is_err() {
                undo(&mut writer).await;
            }
            written
        });
        let rows = written
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(error.into())))?;
        // What is in a file that nobody will open is not kept.
        let kept = self.files.check();
        kept.map_err(|error| Error::InDoubt(error.into()))?;
        Ok(rows)
    }
}
