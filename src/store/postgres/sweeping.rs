//! What falls due, in Postgres. The lease is a row, and the time is the server's.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{PgQuery, Postgres, failed, halves, run};
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

const TEXTS: Texts = texts!(
    "NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[]) AS b (organization_id, user_id) \
     WHERE b.organization_id = n.organization_id AND b.user_id = n.user_id)"
);

/// Takes the lease where it is free, over or one's own.
const LEASE: &str = "WITH t AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     AS now) INSERT INTO sweeper AS s (id, holder, held_until) SELECT 1, $1, t.now + $2 FROM t \
     ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until \
     WHERE s.holder = excluded.holder OR s.held_until < excluded.held_until - $2 \
     RETURNING s.held_until - $2 AS now";

impl Postgres {
    async fn fetch_all(&self, query: impl Fn() -> PgQuery + Sync) -> Result<Vec<PgRow>, Error> {
        self.read(|connection| {
            let query = query();
            async move { query.fetch_all(connection).await.map_err(failed) }.boxed()
        })
        .await
    }

    /// Writes by one statement that may be done twice.
    async fn write_one(&self, query: impl Fn() -> PgQuery + Sync) -> Result<Vec<PgRow>, Error> {
        let mut connection = self.writers.take().await?;
        let rows = self
            .in_time(async {
                run(&mut connection, &self.begin).await?;
                let rows = query().fetch_all(&mut *connection).await.map_err(failed)?;
                run(&mut connection, "COMMIT").await?;
                Ok(rows)
            })
            .await?;
        connection.keep();
        Ok(rows)
    }
}

#[async_trait]
impl Sweeping for Postgres {
    async fn lease(
        &self,
        holder: Uuid,
        _: Timestamp,
        within: Duration,
    ) -> Result<Option<Timestamp>, Error> {
        let query = || {
            self.query(LEASE)
                .bind(holder)
                .bind(sweeping::micros(within))
        };
        let rows = self.write_one(query).await?;
        let now = rows.first().map(|row| row.try_get("now").map_err(failed));
        Ok(now.transpose()?.map(Timestamp::from_micros))
    }

    async fn due(
        &self,
        what: Due,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<DueRow>, Error> {
        let (organizations, users) = halves(but.iter());
        let rows = self.fetch_all(|| {
            let query = self.query(TEXTS.of(what)).bind(until.as_micros());
            let query = query.bind(bound(at_most));
            query.bind(organizations.clone()).bind(users.clone())
        });
        rows.await?
            .iter()
            .map(|row| sweeping::due_row(row))
            .collect()
    }

    async fn aged(
        &self,
        until: Timestamp,
        but: &[InboxKey],
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let (organizations, users) = halves(but.iter());
        let rows = self.fetch_all(|| {
            let query = self.query(TEXTS.aged).bind(until.as_micros());
            let query = query.bind(bound(at_most));
            query.bind(organizations.clone()).bind(users.clone())
        });
        rows.await?.iter().map(|row| sweeping::inbox(row)).collect()
    }

    async fn oldest(&self, inbox: &InboxKey, which: Kept, at_most: usize) -> Result<Oldest, Error> {
        let rows = self.fetch_all(|| {
            self.query(sweeping::oldest_text(which))
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(bound(at_most))
        });
        sweeping::oldest(&rows.await?)
    }

    async fn looked_at(
        &self,
        inbox: &InboxKey,
        oldest_at: Timestamp,
        row_count: u32,
    ) -> Result<(), Error> {
        let query = || {
            self.query(LOOKED_AT)
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str())
                .bind(oldest_at.as_micros())
                .bind(i64::from(row_count))
        };
        self.write_one(query).await.map(drop)
    }

    async fn inboxes(
        &self,
        organization: &OrganizationId,
        after: Option<&UserId>,
        at_most: usize,
    ) -> Result<Vec<InboxKey>, Error> {
        let rows = self.fetch_all(|| {
            self.query(INBOXES)
                .bind(organization.as_str())
                .bind(after.map_or("", UserId::as_str))
                .bind(bound(at_most))
        });
        rows.await?.iter().map(|row| sweeping::inbox(row)).collect()
    }
}
