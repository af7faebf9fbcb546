//! What falls due, in the one file of one process: it always has the lease.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use uuid::Uuid;

use super::{Sqlite, SqliteQuery, bind_inbox, failed};
use crate::{
    clock::Timestamp,
    model::{InboxKey, OrganizationId, UserId},
    store::{
        Error,
        sweeping::{
            self, Due, DueRow, INBOXES, Kept, LOOKED_AT, Oldest, Sweeping, Texts, bound, texts,
        },
    },
};

pub(super) const TEXTS: Texts = texts!(
    "(n.organization_id, n.user_id) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each($3))"
);

/// How [`TEXTS`] take inboxes.
fn but_text(but: &[InboxKey]) -> String {
    let pair = |inbox: &InboxKey| json!([inbox.organization_id.as_str(), inbox.user_id.as_str()]);
    json!(but.iter().map(pair).collect::<Vec<_>>()).to_string()
}

impl Sqlite {
    async fn fetch_all(&self, query: SqliteQuery) -> Result<Vec<sqlx::sqlite::SqliteRow>, Error> {
        query.fetch_all(&self.readers).await.map_err(failed)
    }
}

#[async_trait]
impl Sweeping for Sqlite {
    async fn lease(
        &self,
        _: Uuid,
        now: Timestamp,
        _: Duration,
    ) -> Result<Option<Timestamp>, Error> {
        Ok(Some(now))
    }

    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error> {
        let query = sqlx::query(TEXTS.of(what)).bind(until.as_micros());
        let query = query.bind(bound(at_most)).bind(but_text(but));
        let rows = self.fetch_all(query).await?;
        rows.iter().map(|row| sweeping::due_row(row)).collect()
    }

    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let query = sqlx::query(TEXTS.aged).bind(until.as_micros());
        let query = query.bind(bound(at_most)).bind(but_text(but));
        let rows = self.fetch_all(query).await?;
        rows.iter().map(|row| sweeping::inbox(row)).collect()
    }

    async fn oldest(&self, inbox: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error> {
        let query = bind_inbox(sqlx::query(sweeping::oldest_text(which)), inbox);
        sweeping::oldest(&self.fetch_all(query.bind(bound(at_most))).await?)
    }

    async fn looked_at(
        &self,
        inbox: &InboxKey,
        oldest_at: Timestamp,
        row_count: u32,
    ) -> Result<(), Error> {
        let query = bind_inbox(sqlx::query(LOOKED_AT), inbox)
            .bind(oldest_at.as_micros())
            .bind(i64::from(row_count));
        let done = query.execute(&mut *self.writer().await?).await;
        done.map(drop).map_err(failed)
    }

    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let query = sqlx::query(INBOXES).bind(organization.as_str());
        let query = query
            .bind(after.map_or("", UserId::as_str))
            .bind(bound(at_most));
        let rows = self.fetch_all(query).await?;
        rows.iter().map(|row| sweeping::inbox(row)).collect()
    }
}
