//! Deliberate bugs, to prove that the tests find them.
//!
//! Without the feature `sabotage`, which no release has, `is` is `false` and the
//! compiler removes what hangs on it. With it, a test chooses one bug at a time:
//! in its own process by `choose`, in a server that it starts by the variable
//! `SABOTAGE`.

/// A bug that a service like this could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A writer is answered, and the commit comes later.
    AckBeforeCommit,
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
    /// A commit that was lost goes on later with what it had planned: a row that was
    /// removed meanwhile is back.
    CommitOldPlan,
    /// What is to be marked up to a revision is taken as of when it is marked.
    MarkWhatCameLater,
    /// Removing all that is in the inbox takes the archive along.
    RemoveTheArchive,
    /// What has expired is left out of pages, before it is removed.
    ExpireAtRead,
    /// What a send replaces stays in the counts.
    CountReplaced,
    /// What a sender takes back stays in the counts.
    CountRetracted,
    /// A purge does not raise the floor.
    PurgeSilently,
    /// Of removals that share a revision a replay tells the last one alone.
    DropRemovals,
    /// What is brought back from the archive rings.
    RingUnarchived,
    /// A correction rings live, and not in a heal.
    RingCorrectedLiveOnly,
    /// What is above the head can be seen.
    SeeAhead,
    /// A send goes on after it was cancelled.
    DeliverCancelled,
    /// What was delivered to does not tell of which send it is.
    DeliverTwice,
    /// What a person does not want is sent all the same.
    RingMuted,
    /// A broadcast that is taken back stays with who has it.
    KeepRetracted,
    /// What is read or archived is followed up all the same.
    FollowUpRead,
    /// Follow-ups are listed by the time at which they were told.
    FollowUpsByTime,
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
    use std::sync::LazyLock;

    use parking_lot::RwLock;

    use super::Sabotage;

    /// By its name, as it is debugged.
    static CHOSEN: LazyLock<RwLock<Option<String>>> =
        LazyLock::new(|| RwLock::new(std::env::var("SABOTAGE").ok()));

    /// From now on this process has this bug, or none.
    pub fn choose(bug: Option<Sabotage>) {
        *CHOSEN.write() = bug.map(|bug| format!("{bug:?}"));
    }

    pub(crate) fn is(bug: Sabotage) -> bool {
        let chosen = CHOSEN.read();
        chosen
            .as_ref()
            .is_some_and(|chosen| *chosen == format!("{bug:?}"))
    }
}
