//! One notification by one of its names, whatever its state: for who looks into what
//! became of it. Both engines run the same texts.

use async_trait::async_trait;
use futures_util::stream;

use super::{
    Error, Named, PageLimit, Snapshot,
    rows::{self, columns, snapshot_columns},
    sql::{Sql, Statement},
};
use crate::model::{InboxKey, Notification};

/// A store by its single rows.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// The notification of that name, of what was removed as well, beside its inbox.
    async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error>;
}

/// A row by a column of its own.
macro_rules! by {
    ($column:literal) => {
        concat!(
            "SELECT ",
            snapshot_columns!("$1"),
            ", ",
            columns!(),
            " FROM doorbell AS d LEFT JOIN inboxes AS i \
             ON i.organization_id = $1 AND i.user_id = $2 LEFT JOIN notifications AS n \
             ON n.organization_id = $1 AND n.user_id = $2 AND n.",
            $column,
            " = $3 WHERE d.id = 1"
        )
    };
}

#[async_trait]
impl<Engine: Sql> Lookup for Engine {
    async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error> {
        let statement = match of {
            Named::Id(id) => Statement::of(by!("id"), inbox).id(*id),
            Named::Key(key) => Statement::of(by!("idempotency_key"), inbox).text(key),
        };
        let one = PageLimit {
            rows: 1,
            bytes: usize::MAX,
        };
        let found = self.fetch(statement).await?.into_iter().map(Ok);
        let page = rows::page(stream::iter(found), one, None).await?;
        Ok((page.snapshot, page.rows.into_iter().next()))
    }
}
