//! Deliberate bugs, to prove that the tests find them.
//!
//! Without the feature `sabotage`, which no release has, `is` is `false` and the
//! compiler removes what hangs on it. With it, a test chooses one bug at a time:
//! in its own process by `choose`, in a server that it starts by the variable
//! `SABOTAGE`.

/// A bug that a service like this could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sabotage {
    /// A writer is answered, and the commit comes later.
    AckBeforeCommit = 1,
    /// A stream shows what is not committed yet.
    PublishBeforeCommit,
    /// A stream reads first and joins its room then.
    JoinAfterRead,
    /// A stream that lagged goes on as if it had not.
    IgnoreLag,
    /// `connected` carries the head as its position.
    ConnectedAtHead,
    /// `heartbeat` carries the head as its position, and nothing is healed.
    HeartbeatAtHead,
    /// The end of a replay is read apart from its last page.
    UnboundedReplay,
    /// Other nodes are not told of an event.
    NoPublish,
    /// The rooms are not held against the store.
    NoRoomCheck,
    /// After a commit whose answer was lost, the batch is sent again under new
    /// ids, and nobody looks.
    RetryWithFreshIds,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::AckBeforeCommit,
        Self::PublishBeforeCommit,
        Self::JoinAfterRead,
        Self::IgnoreLag,
        Self::ConnectedAtHead,
        Self::HeartbeatAtHead,
        Self::UnboundedReplay,
        Self::NoPublish,
        Self::NoRoomCheck,
        Self::RetryWithFreshIds,
    ];
}

#[cfg(not(feature = "sabotage"))]
pub(crate) const fn is(_: Sabotage) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use chosen::choose;
#[cfg(feature = "sabotage")]
pub(crate) use chosen::is;

#[cfg(feature = "sabotage")]
mod chosen {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    };

    use super::Sabotage;

    static CHOSEN: LazyLock<AtomicU8> = LazyLock::new(|| {
        let named = std::env::var("SABOTAGE").unwrap_or_default();
        let chosen = Sabotage::ALL
            .into_iter()
            .find(|bug| format!("{bug:?}") == named);
        AtomicU8::new(chosen.map_or(0, |bug| bug as u8))
    });

    /// From now on this process has this bug, or none.
    pub fn choose(bug: Option<Sabotage>) {
        CHOSEN.store(bug.map_or(0, |bug| bug as u8), Ordering::SeqCst);
    }

    pub(crate) fn is(bug: Sabotage) -> bool {
        CHOSEN.load(Ordering::SeqCst) == bug as u8
    }
}
