//! What a person does with notifications: one call for all of it.

use super::{Client, Error, Service};
use crate::proto::{
    About, ArchiveRequest, Head, MarkReadRequest, MarkUnreadRequest, RemoveRequest, Through,
    UnarchiveRequest,
};

/// What is done with notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `MarkRead`.
    Read,
    /// `MarkUnread`.
    Unread,
    /// `Archive`.
    Archive,
    /// `Unarchive`.
    Unarchive,
    /// `Remove`.
    Remove,
}

/// Which notifications of the caller's inbox.
#[derive(Clone, Debug, PartialEq)]
pub enum Selection {
    /// Those of these ids: 1 to 500.
    Ids(Vec<String>),
    /// All about a thing.
    About(About),
    /// All that was there at a position.
    Through(Through),
}

impl From<Vec<String>> for Selection {
    fn from(ids: Vec<String>) -> Self {
        Self::Ids(ids)
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited {
    /// How many notifications the call changed.
    pub changed_count: u32,
    /// Whether the service stopped before it was through: call again.
    pub more: bool,
    /// The inbox after the call.
    pub head: Head,
}

/// The five calls differ in their names alone; the proto has a message for each, so that
/// each can grow by itself.
macro_rules! call {
    ($client:expr, $selection:expr, $request:ident, $method:ident) => {{
        let mut request = $request::default();
        match $selection {
            Selection::Ids(ids) => request.notification_ids = ids,
            Selection::About(about) => request.about = Some(about),
            Selection::Through(through) => request.through = Some(through),
        }
        let answer = $client
            .call(request, async |channel, request| {
                Service::new(channel).$method(request).await
            })
            .await?;
        Ok(Edited {
            changed_count: answer.changed_count,
            more: answer.more,
            head: answer.head.unwrap_or_default(),
        })
    }};
}

impl Client {
    /// Does it with those notifications of the caller's inbox that it changes; the others
    /// are skipped. Tried once.
    pub async fn edit(&self, verb: Verb, selection: impl Into<Selection>) -> Result<Edited, Error> {
        let selection = selection.into();
        match verb {
            Verb::Read => call!(self, selection, MarkReadRequest, mark_read),
            Verb::Unread => call!(self, selection, MarkUnreadRequest, mark_unread),
            Verb::Archive => call!(self, selection, ArchiveRequest, archive),
            Verb::Unarchive => call!(self, selection, UnarchiveRequest, unarchive),
            Verb::Remove => call!(self, selection, RemoveRequest, remove),
        }
    }
}
