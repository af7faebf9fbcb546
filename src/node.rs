//! How this node is: what it has and does now, and what it did since it started.
//!
//! It counts nothing: the figures are those of [`metrics`], the standing is what
//! readiness says, and the rooms are asked.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    clock::{Clock, Timestamp},
    inbox::Inboxes,
    metrics::{self, pages::Readiness},
};

/// What is known of this node beside its figures.
pub struct Node {
    /// For the moment of an answer.
    pub clock: Arc<dyn Clock>,
    /// When it was started.
    pub started_at: Timestamp,
    /// Its inboxes.
    pub inboxes: Arc<Inboxes>,
    /// Whether calls should come to it.
    pub ready: watch::Receiver<Readiness>,
    /// What it counts.
    pub metrics: metrics::Handle,
    /// Whether its store is one that nodes share.
    pub is_shared: bool,
    /// Whether there is a way to other nodes.
    pub has_bus: bool,
}

/// A node at one moment. Totals count from its start.
#[derive(Clone, Debug)]
pub struct Standing {
    /// When it was so.
    pub at: Timestamp,
    /// Whether calls should come to it, and what there is to say of that.
    pub readiness: Readiness,
    /// Whether the way to other nodes is as it should be; none where there is none.
    pub is_bus_well: Option<bool>,
    /// Inboxes with an open stream.
    pub rooms: usize,
    /// Streams that are open.
    pub streams: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Writes that wait.
    pub queued: u64,
    /// Writes that were committed.
    pub writes: u64,
    /// Transactions of those.
    pub commits: u64,
    /// How long these took.
    pub commit_time: Duration,
    /// Transactions that failed.
    pub failed_commits: u64,
    /// Calls that sent.
    pub send_calls: u64,
    /// Times that a stream that was open was given a new notification that rings; not those
    /// that are silent, corrected, replayed or healed.
    pub deliveries: u64,
    /// How long that took from their sends.
    pub delivery_time: Duration,
    /// Streams that were healed from the store.
    pub lag_heals: u64,
    /// What was turned away.
    pub rejected: u64,
    /// Whether it does what falls due.
    pub sweeps: bool,
    /// How late that is.
    pub sweeper_late: Duration,
}

impl Node {
    /// As it is now.
    pub fn standing(&self) -> Standing {
        let figures = self.metrics.figures();
        let count = |name: &str| figures.count(name, &[]);
        let sent = |method: &str| {
            let method = format!("method=\"{method}\"");
            figures.count("doorbell_rpcs_total", &[&method, "code=\"OK\""])
        };
        let sends = ["SendInApp", "SendToMany", "SendToTopic", "Broadcast"];
        Standing {
            at: self.clock.now(),
            readiness: *self.ready.borrow(),
            is_bus_well: self.has_bus.then(|| self.inboxes.trouble().is_none()),
            rooms: self.inboxes.room_count(),
            streams: count("doorbell_streams_open"),
            connections: count("doorbell_connections_open"),
            queued: count("doorbell_write_queue_depth"),
            writes: count("doorbell_commit_writes_sum"),
            commits: count("doorbell_commit_writes_count"),
            commit_time: figures.time("doorbell_commit_duration_seconds_sum"),
            failed_commits: count("doorbell_commits_failed_total"),
            send_calls: sends.into_iter().map(sent).sum(),
            deliveries: count("doorbell_delivery_duration_seconds_count"),
            delivery_time: figures.time("doorbell_delivery_duration_seconds_sum"),
            lag_heals: count("doorbell_lag_heals_total"),
            rejected: count("doorbell_rejected_total"),
            sweeps: count("doorbell_sweeper_leads") > 0,
            sweeper_late: figures.time("doorbell_sweeper_late_seconds"),
        }
    }
}
