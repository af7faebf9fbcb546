//! One notification by its name, in SQLite.

use async_trait::async_trait;

use super::{Sqlite, bind_inbox, failed};
use crate::{
    model::{InboxKey, Notification},
    store::{
        Error, Named, Snapshot,
        lookup::{self, Lookup},
    },
};

#[async_trait]
impl Lookup for Sqlite {
    async fn find(
        &self,
        inbox: &InboxKey,
        of: &Named,
    ) -> Result<(Snapshot, Option<Notification>), Error> {
        let query = bind_inbox(sqlx::query(lookup::text(of)), inbox);
        let query = match of {
            Named::Id(id) => query.bind(id.as_bytes().to_vec()),
            Named::Key(key) => query.bind(key.clone()),
        };
        let row = query.fetch_one(&self.readers).await.map_err(failed)?;
        lookup::found(row).await
    }
}
