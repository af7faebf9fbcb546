//! The oracle: what every stream must have seen.
//!
//! A [`History`] is all that happened to an inbox, change by change; a model inbox
//! ([`model`]) says what each makes of the rows and of the counts. A [`Screen`] is a
//! client that folds a stream by the rules of the API and says where the stream broke
//! a promise. It knows nothing of how the service works, so it serves streams taken in
//! process and streams taken from a socket alike.
//!
//! Where a server dies, some writes are never answered. Then the history is told
//! by the [`Row`]s that are left ([`History::of_rows`]), and a [`Ledger`] holds
//! what was asked and answered against it.

use doorbell::{model as words, proto};

pub type Check = Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($problem:tt)+) => {
        if !$condition {
            return Err(format!($($problem)+));
        }
    };
}

mod ledger;
mod model;
mod screen;
mod told;

pub use ledger::{Answers, Ask, Asked, Facts, Ledger, Row, Sent};
pub use model::{Change, History, Inbox, State};
pub use screen::Screen;
pub use told::{Told, ToldEvent, ToldRow};

/// A head as any reply or message says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub revision: u64,
    pub unread_count: u32,
    pub unseen_count: u32,
    pub seen_through: u64,
}

impl From<words::Head> for Head {
    fn from(head: words::Head) -> Self {
        Self {
            revision: head.revision.get(),
            unread_count: head.unread_count,
            unseen_count: head.unseen_count,
            seen_through: head.seen_through.get(),
        }
    }
}

impl From<Option<proto::Head>> for Head {
    fn from(head: Option<proto::Head>) -> Self {
        let head = head.expect("everything has a head");
        Self {
            revision: head.revision,
            unread_count: head.unread_count,
            unseen_count: head.unseen_count,
            seen_through: head.seen_through,
        }
    }
}
