//! The tests of the tests: a service with a deliberate bug must be caught.

use doorbell::{
    config::FeedSettings,
    sabotage::{self, Sabotage},
};

use crate::{broadcast, cluster, durability, feeds, follow_ups, history::Check, races, sends};

/// Has this process the bug while it looks: it must be found.
#[expect(
    clippy::print_stdout,
    reason = "what it was caught by, for who reads on"
)]
fn caught(bug: Sabotage, look: impl FnOnce() -> Check) {
    sabotage::choose(Some(bug));
    let found = look();
    sabotage::choose(None);
    let found = found
        .err()
        .unwrap_or_else(|| panic!("{bug:?} was not caught"));
    println!("{bug:?}: {}", found.lines().next().unwrap_or_default());
}

/// The bugs of a feed, and of what is done to rows. One test: the bug is chosen for the
/// whole process.
#[test]
fn the_property_of_the_feeds_catches_each_bug_of_a_feed_or_a_verb() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Chance alone seldom meets these: what it takes is made to happen.
    for bug in [Sabotage::JoinAfterRead, Sabotage::UnboundedReplay] {
        caught(bug, || {
            runtime.block_on(feeds::misses_nothing_beside_a_read())
        });
    }
    caught(Sabotage::HeartbeatAtHead, || {
        runtime.block_on(feeds::finds_at_a_heartbeat_what_nobody_told())
    });
    for bug in [Sabotage::IgnoreLag, Sabotage::ConnectedAtHead] {
        caught(bug, || {
            feeds::explore(500, 0, &FeedSettings::default(), None)
        });
    }
    // What is done to rows, and what is told of it.
    for bug in [
        Sabotage::MarkWhatCameLater,
        Sabotage::RemoveTheArchive,
        Sabotage::ExpireAtRead,
        Sabotage::CountReplaced,
        Sabotage::CountRetracted,
        Sabotage::PurgeSilently,
        Sabotage::DropRemovals,
        Sabotage::RingUnarchived,
        Sabotage::RingCorrectedLiveOnly,
        Sabotage::SeeAhead,
    ] {
        caught(bug, || runtime.block_on(feeds::follows_every_verb()));
    }
    // This one takes a COMMIT that is lost.
    caught(Sabotage::CommitOldPlan, || {
        runtime.block_on(races::a_doubtful_read_brings_nothing_back())
    });
    caught(Sabotage::DeliverTwice, || {
        runtime.block_on(sends::delivers_once())
    });
    caught(Sabotage::DeliverCancelled, || {
        runtime.block_on(sends::cancels())
    });
    caught(Sabotage::KeepRetracted, || {
        runtime.block_on(broadcast::retracts())
    });
    caught(Sabotage::RingMuted, || runtime.block_on(sends::judges()));
    caught(Sabotage::FollowUpRead, || {
        runtime.block_on(follow_ups::judges())
    });
    caught(Sabotage::FollowUpsByTime, || {
        runtime.block_on(follow_ups::lists())
    });
    feeds::explore(20, 0, &FeedSettings::default(), None).expect("without a bug nothing is found");
}

/// Those of a writer are found where processes are killed. The bug is chosen in
/// the server that is killed, so these can run beside the others.
#[expect(
    clippy::print_stdout,
    reason = "what it was caught by, for who reads on"
)]
async fn caught_by_kills(bug: Sabotage) {
    let named = format!("{bug:?}");
    let survived = durability::survive(20, &[("SABOTAGE", &named)]).await;
    let found = survived
        .err()
        .unwrap_or_else(|| panic!("{bug:?} was not caught"));
    let first_line = found.lines().next().unwrap_or_default().to_owned();
    println!("{bug:?}: {first_line}");
    assert!(!first_line.contains("STORE_UNAV"), "{found}");
    // That nothing came is no proof of what was wrong.
    assert!(!first_line.contains("silence"), "{bug:?}: {first_line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_catch_an_answer_before_its_commit() {
    caught_by_kills(Sabotage::AckBeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_catch_an_event_before_its_commit() {
    caught_by_kills(Sabotage::PublishBeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_find_nothing_without_a_bug() {
    let survived = durability::survive(20, &[]).await;
    survived.unwrap_or_else(|finding| panic!("{finding}"));
}

/// Those between nodes are found by what nodes do together. Each is run without
/// the bug among the ordinary tests.
#[expect(
    clippy::print_stdout,
    reason = "what it was caught by, for who reads on"
)]
async fn caught_between_nodes(bug: Sabotage, look: impl AsyncFn(&str) -> Check) {
    let found = look(&format!("{bug:?}")).await;
    let found = found
        .err()
        .unwrap_or_else(|| panic!("{bug:?} was not caught"));
    println!("{bug:?}: {found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_other_nodes_are_not_told_of_is_caught() {
    caught_between_nodes(Sabotage::NoPublish, cluster::rings_elsewhere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_before_its_commit_is_caught_on_another_node() {
    caught_between_nodes(Sabotage::PublishBeforeCommit, cluster::rings_elsewhere).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_that_are_not_checked_are_caught() {
    caught_between_nodes(Sabotage::NoRoomCheck, cluster::finds_what_was_missed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubtful_commit_that_is_sent_again_is_caught() {
    caught_between_nodes(Sabotage::RetryWithFreshIds, cluster::commits_once).await;
}

/// Those that change what is stored or shown are found in the midst of all that
/// breaks, too. `NoPublish` and `NoRoomCheck` are not among them: streams that
/// have news or a heartbeat every second heal by those.
async fn caught_in_the_midst(bug: Sabotage) {
    let seed = rand::random();
    caught_between_nodes(bug, async |bug| cluster::suffer_all(seed, bug).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_before_its_commit_is_caught_in_the_midst() {
    caught_in_the_midst(Sabotage::PublishBeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubtful_commit_that_is_sent_again_is_caught_in_the_midst() {
    caught_in_the_midst(Sabotage::RetryWithFreshIds).await;
}
