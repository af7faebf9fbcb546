//! One notification by its name, in Postgres.

use async_trait::async_trait;
use futures_util::FutureExt as _;

use super::{Postgres, failed};
use crate::{
    model::{InboxKey, Notification},
    store::{
        Error, Named, Snapshot,
        lookup::{self, Lookup},
    },
};

#[async_trait]
impl Lookup for Postgres {
    async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error> {
        let row = self.read(|connection| {
            let query = self.query(lookup::text(of));
            let query = query
                .bind(inbox.organization_id.as_str())
                .bind(inbox.user_id.as_str());
            let query = match of {
                Named::Id(id) => query.bind(*id),
                Named::Key(key) => query.bind(key.clone()),
            };
            async move { query.fetch_one(connection).await.map_err(failed) }.boxed()
        });
        lookup::found(row.await?).await
    }
}
