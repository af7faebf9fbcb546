//! Every metric, by name.
//!
//! The rest of the program says what happened; here is what that is called. A
//! metric exists once [`install`] was called; before, and in a server without
//! a metrics port, saying so costs one atomic load. Label values come from the
//! lists below and from nowhere else: what is in none of them counts as
//! `other`, so that no caller can make a series. No label names a tenant.

pub mod pages;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::proto::{ErrorReason, Method};

/// Values of the label `code`: the gRPC codes, by their numbers.
pub const CODES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    OTHER,
];

/// Values of `kind`: the events of a stream.
pub const EVENT_KINDS: &[&str] = &[
    "connected",
    "notification",
    "changed",
    "seen",
    "caught_up",
    "heartbeat",
    "reset",
    "reconnect",
    OTHER,
];

/// Values of `reason` of a reset.
pub const RESET_REASONS: &[&str] = &["epoch", "above_head", "below_floor", "replay_limit", OTHER];

/// Values of `reason` of a commit that failed.
pub const COMMIT_FAILURES: &[&str] = &[
    "constraint",
    "corrupt",
    "held",
    "in_doubt",
    "unavailable",
    OTHER,
];

/// Values of `reason` of lines that are not in the log: nobody read it fast enough, or
/// one user opened and closed streams faster than is worth a line each.
pub const LEFT_OUT: &[&str] = &["unread", "streams", OTHER];

/// Values of `what`: what the sweeper looks for; where it fails also the look for all of it.
pub const SWEPT: &[&str] = &[
    "followed_up",
    "retracted",
    "expired",
    "archived",
    "old",
    "purged",
    "look",
    OTHER,
];

/// Values of `when`: whether a send began in time.
pub const BEGUN: &[&str] = &["in_time", "late", OTHER];

/// Values of `outcome` of those whom a send was for.
pub const OUTCOMES: &[&str] = &["delivered", "suppressed", "failed", OTHER];

const OTHER: &str = "other";

/// Values of `reason` of what was turned away, by the numbers of the API's reasons.
fn reasons() -> Vec<&'static str> {
    let named = (1..).map_while(|number| ErrorReason::try_from(number).ok());
    [OTHER]
        .into_iter()
        .chain(named.map(ErrorReason::text))
        .collect()
}

/// Upper bounds, in seconds, of what should take milliseconds.
const LATENCIES: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper bounds, in seconds, of a stream's life.
const LIVES: &[f64] = &[
    1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0,
];
/// Upper bounds of batches.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// Makes the struct of all handles with what the exporter shows beside them, and a
/// function for each counter without a label, to say that it happened so many times more.
macro_rules! metrics {
    (
        counters { $($vis:vis $counter:ident($counter_name:literal): $counter_help:literal;)* }
        labelled { $($family:ident($family_name:literal, $label:literal, $values:expr): $family_help:literal;)* }
        gauges { $($gauge:ident($gauge_name:literal): $gauge_help:literal;)* }
        histograms { $($histogram:ident($histogram_name:literal): $histogram_help:literal;)* }
    ) => {
        $(
            #[doc = $counter_help]
            $vis fn $counter(more: usize) {
                with(|metrics| metrics.$counter.increment(more as u64));
            }
        )*

        /// The handles, looked up once. The recorder is ours alone, not the process's:
        /// the order of start-up decides nothing, and no library adds series.
        struct Metrics {
            recorder: PrometheusRecorder,
            /// By method, then code; made when first counted, since most never are.
            rpcs: Vec<OnceLock<Counter>>,
            /// By method.
            durations: Vec<Histogram>,
            $($counter: Counter,)*
            $(
                /// By the values of its label, all from the start: an alert on the first
                /// of a rare kind needs the zero before it.
                $family: Vec<Counter>,
            )*
            $($gauge: Gauge,)*
            $($histogram: Histogram,)*
        }

        impl Metrics {
            fn of(recorder: PrometheusRecorder) -> Self {
                recorder.describe_counter(RPCS.0.into(), None, RPCS.1.into());
                recorder.describe_histogram(DURATIONS.0.into(), None, DURATIONS.1.into());
                $(recorder.describe_counter($counter_name.into(), None, $counter_help.into());)*
                $(recorder.describe_counter($family_name.into(), None, $family_help.into());)*
                $(recorder.describe_gauge($gauge_name.into(), None, $gauge_help.into());)*
                $(recorder.describe_histogram($histogram_name.into(), None, $histogram_help.into());)*
                let counter = |key| recorder.register_counter(&key, &METADATA);
                let histogram = |key| recorder.register_histogram(&key, &METADATA);
                let methods = Method::ALL.iter().map(|method| method.name());
                Self {
                    rpcs: vec![OnceLock::new(); Method::ALL.len() * CODES.len()],
                    durations: methods
                        .map(|method| histogram(key(DURATIONS.0, &[("method", method)])))
                        .collect(),
                    $($counter: counter(key($counter_name, &[])),)*
                    $($family: $values
                        .iter()
                        .map(|value| counter(key($family_name, &[($label, value)])))
                        .collect(),)*
                    $($gauge: recorder.register_gauge(&key($gauge_name, &[]), &METADATA),)*
                    $($histogram: histogram(key($histogram_name, &[])),)*
                    recorder,
                }
            }
        }
    };
}

/// Of which each method and code is a series.
const RPCS: (&str, &str) = (
    "doorbell_rpcs_total",
    "Calls that ended, by method and code.",
);
const DURATIONS: (&str, &str) = (
    "doorbell_rpc_duration_seconds",
    "From a call's headers to its status, by method; what stays open apart.",
);

metrics! {
    counters {
        connections_accepted("doorbell_connections_accepted_total"):
            "Connections that were accepted.";
        pub connections_refused("doorbell_connections_refused_total"):
            "Connections that were turned away, since there were too many.";
        lag_heals("doorbell_lag_heals_total"):
            "Times that a stream lagged and was healed from the store.";
        lag_healed_rows("doorbell_lag_healed_rows_total"):
            "Rows read to heal streams that lagged.";
        pub published("doorbell_events_published_total"):
            "Events of commits, whether anybody listens or not.";
        pub rooms_checked("doorbell_rooms_checked_total"):
            "Rooms that were held against the store.";
        pub bus_sent("doorbell_bus_sent_total"):
            "Commits whose events were given to the bus.";
        pub bus_received("doorbell_bus_received_total"):
            "Commits of other nodes whose events came by the bus.";
        pub bus_dropped("doorbell_bus_dropped_total"):
            "Commits whose events were not given to the bus: too many waited.";
        pub bus_foreign("doorbell_bus_foreign_total"):
            "Messages on the bus of another database or organization, ignored.";
        pub bus_gaps("doorbell_bus_gaps_total"):
            "Times that something came by the bus that could not be read, or too fast.";
    }
    labelled {
        delivered("doorbell_events_delivered_total", "kind", EVENT_KINDS):
            "Messages given to streams, by kind of event.";
        commit_failures("doorbell_commits_failed_total", "reason", COMMIT_FAILURES):
            "Transactions that failed, by reason.";
        rejections("doorbell_rejected_total", "reason", reasons()):
            "Calls that were turned away and streams that were ended, by reason.";
        left_out("doorbell_log_lines_left_out_total", "reason", LEFT_OUT):
            "Lines that are not in the log, by reason.";
        resets("doorbell_resets_total", "reason", RESET_REASONS):
            "Streams that were told to load anew, by reason.";
        swept_due("doorbell_sweeper_due_total", "what", SWEPT):
            "Notifications that were found due, by what for; again where it failed.";
        swept_done("doorbell_sweeper_done_total", "what", SWEPT):
            "Notifications that were removed or purged since they were due, by what for.";
        swept_failed("doorbell_sweeper_failed_total", "what", SWEPT):
            "Changes of an inbox by the sweeper that failed, by what for, and its looks of which \
             a part failed; they are tried again.";
        sends_begun("doorbell_sends_begun_total", "when", BEGUN):
            "Broadcasts and sends for later or to a topic that began, by whether it was in time.";
        send_recipients("doorbell_send_recipients_total", "outcome", OUTCOMES):
            "Those whom such sends were for, of a broadcast those who took it, by what became of it.";
    }
    gauges {
        ready("doorbell_ready"): "Whether the node should get traffic, as /readyz says.";
        jwks_age("doorbell_jwks_age_seconds"):
            "Since the JWKS was last read well; 0 where there is none.";
        connections_most("doorbell_connections_max"): "The most connections that are taken.";
        queue_most("doorbell_write_queue_max"): "The most writes that may wait.";
        disk_free("doorbell_disk_free_bytes"):
            "What is free where the SQLite file is; 0 where there is none.";
        sweeper_late("doorbell_sweeper_late_seconds"):
            "For how long what is due longest has waited for the sweeper of this node.";
        sweeper_leads("doorbell_sweeper_leads"):
            "Whether this node does what falls due for all.";
        streams("doorbell_streams_open"): "Streams that are open.";
        connections("doorbell_connections_open"): "Connections that are open.";
        queue("doorbell_write_queue_depth"): "Writes that wait for a transaction.";
        bus("doorbell_bus_connected"):
            "Whether what this node publishes comes back to it; 0 where there is none.";
    }
    histograms {
        stream_seconds("doorbell_stream_duration_seconds"):
            "How long streams lasted that have ended.";
        delivery_seconds("doorbell_delivery_duration_seconds"):
            "From the send of a notification that rings until a stream that is open is given it.";
        commit_writes("doorbell_commit_writes"): "Writes of one transaction.";
        commit_seconds("doorbell_commit_duration_seconds"):
            "How long transactions took that were committed.";
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels = labels
        .iter()
        .map(|(label, value)| Label::from_static_parts(label, value));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}

impl Metrics {
    fn new() -> Result<Self, BuildError> {
        let named = |name: &str| Matcher::Full(name.to_owned());
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCIES)?
            .set_buckets_for_metric(named("doorbell_stream_duration_seconds"), LIVES)?
            .set_buckets_for_metric(named("doorbell_commit_writes"), COUNTS)?;
        Ok(Self::of(builder.build_recorder()))
    }

    fn handle(&self) -> Handle {
        Handle(self.recorder.handle())
    }
}

/// A call ended with a gRPC code, by its number; see [`CODES`].
pub fn rpc(method: Method, code: usize) {
    let code = code.min(CODES.len() - 1);
    with(|metrics| {
        let made = metrics.rpcs[method as usize * CODES.len() + code].get_or_init(|| {
            let key = key(RPCS.0, &[("method", method.name()), ("code", CODES[code])]);
            metrics.recorder.register_counter(&key, &METADATA)
        });
        made.increment(1);
    });
}

/// A call that is not endless was answered, so long after it began.
pub fn answered_after(method: Method, took: Duration) {
    with(|metrics| metrics.durations[method as usize].record(took));
}

/// A stream that was open has ended.
pub fn stream_lasted(took: Duration) {
    with(|metrics| metrics.stream_seconds.record(took));
}

/// A stream was opened; it is counted until the guard is dropped.
#[must_use]
pub fn stream_opened() -> StreamGuard {
    let mut guard = StreamGuard(None);
    with(|metrics| {
        metrics.streams.increment(1.0);
        guard.0 = Some(metrics.streams.clone());
    });
    guard
}

/// A connection was accepted.
pub fn connection_opened() {
    connections_accepted(1);
    with(|metrics| metrics.connections.increment(1.0));
}

/// A connection that was accepted has ended.
pub fn connection_closed() {
    with(|metrics| metrics.connections.decrement(1.0));
}

/// The sweeper found so much due, see [`SWEPT`], and did so much of it.
pub fn swept(what: &'static str, due: usize, done: u32) {
    with(|metrics| {
        metrics.swept_due[index(SWEPT, what)].increment(due as u64);
        metrics.swept_done[index(SWEPT, what)].increment(done.into());
    });
}

/// A change by the sweeper failed, or a look; see [`SWEPT`].
pub fn sweep_failed(what: &'static str) {
    with(|metrics| metrics.swept_failed[index(SWEPT, what)].increment(1));
}

/// A send that outlives its call began.
pub fn send_begun(is_late: bool) {
    let when = if is_late { "late" } else { "in_time" };
    with(|metrics| metrics.sends_begun[index(BEGUN, when)].increment(1));
}

/// A piece of such a send was done: so many have it, for so many it was over, to so many
/// it could not be delivered.
pub fn send_delivered(delivered: u32, suppressed: u32, failed: u32) {
    let outcomes = [delivered, suppressed, failed];
    with(|metrics| {
        for (counter, count) in metrics.send_recipients.iter().zip(outcomes) {
            counter.increment(count.into());
        }
    });
}

/// Whether this node's sweeper does what falls due, and how late it is.
pub fn sweeper(leads: bool, late: Duration) {
    with(|metrics| {
        metrics.sweeper_leads.set(f64::from(u8::from(leads)));
        metrics.sweeper_late.set(late.as_secs_f64());
    });
}

/// A message of this kind, see [`EVENT_KINDS`], was given to a stream.
pub fn event_delivered(kind: &'static str) {
    with(|metrics| metrics.delivered[index(EVENT_KINDS, kind)].increment(1));
}

/// A stream that was open was given a notification that rings, so long after it was sent.
pub fn delivered_after(took: Duration) {
    with(|metrics| metrics.delivery_seconds.record(took));
}

/// A batch of writes was committed in one transaction.
pub fn committed(writes: usize, took: Duration) {
    with(|metrics| {
        metrics.commit_writes.record(number(writes));
        metrics.commit_seconds.record(took);
    });
}

/// A transaction failed; see [`COMMIT_FAILURES`].
pub fn commit_failed(reason: &'static str) {
    with(|metrics| metrics.commit_failures[index(COMMIT_FAILURES, reason)].increment(1));
}

/// Whether the node should get traffic.
pub fn ready(is_ready: bool) {
    with(|metrics| metrics.ready.set(f64::from(u8::from(is_ready))));
}

/// The JWKS was read so long ago; zero where there is none.
pub fn jwks_age(age: Duration) {
    with(|metrics| metrics.jwks_age.set(age.as_secs_f64()));
}

/// So many connections are taken at most, and so many writes may wait.
pub fn limits(connections: u32, writes: usize) {
    with(|metrics| {
        metrics.connections_most.set(f64::from(connections));
        metrics.queue_most.set(number(writes));
    });
}

/// So many bytes are free for the database's file.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is lost is less than a block"
)]
pub fn disk_free(bytes: u64) {
    with(|metrics| metrics.disk_free.set(bytes as f64));
}

/// So many writes wait for a transaction.
pub fn queue_depth(writes: usize) {
    with(|metrics| metrics.queue.set(number(writes)));
}

/// A call was turned away, or a stream was ended.
pub fn rejected(reason: ErrorReason) {
    with(|metrics| metrics.rejections[reason as usize].increment(1));
}

/// So many lines were left out of the log; see [`LEFT_OUT`].
pub fn log_lines_left_out(reason: &'static str, lines: usize) {
    with(|metrics| metrics.left_out[index(LEFT_OUT, reason)].increment(lines as u64));
}

/// A stream lagged and was healed from the store with so many rows.
pub fn lag_healed(rows: usize) {
    lag_heals(1);
    lag_healed_rows(rows);
}

/// A stream was told to load anew; see [`RESET_REASONS`].
pub fn reset(reason: &'static str) {
    with(|metrics| metrics.resets[index(RESET_REASONS, reason)].increment(1));
}

/// The way to the other nodes is there, or away.
pub fn bus_connected(connected: bool) {
    with(|metrics| metrics.bus.set(if connected { 1.0 } else { 0.0 }));
}

/// Counts one open stream.
///
/// Keeps its own gauge: a guard that was made before [`install`] must not count
/// down what it never counted up.
#[derive(Debug)]
pub struct StreamGuard(Option<Gauge>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        if let Some(gauge) = &self.0 {
            gauge.decrement(1.0);
        }
    }
}

/// Reads what was counted.
#[derive(Clone, Debug)]
pub struct Handle(PrometheusHandle);

impl Handle {
    /// All metrics, in Prometheus's text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// What was counted until now, to be asked for by name.
    pub fn figures(&self) -> Figures {
        Figures(self.0.render())
    }

    /// Folds what was recorded into the buckets, every few seconds, for ever:
    /// until then each single value takes memory.
    pub async fn upkeep(&self) {
        const EVERY: Duration = Duration::from_secs(5);
        loop {
            tokio::time::sleep(EVERY).await;
            self.0.run_upkeep();
        }
    }
}

/// What was counted at one moment: the page itself, so that nobody else says another number.
#[derive(Clone, Debug)]
pub struct Figures(String);

impl Figures {
    /// The series of this name that have each of these `label="value"`, added up; 0 where
    /// there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let is_it = rest.is_empty() || rest.starts_with('{');
            let has_all = labels.iter().all(|label| rest.contains(label));
            (is_it && has_all).then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }

    /// As [`sum`](Self::sum), of what is counted in whole numbers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are far below 2^52, and a float becomes the nearest number there is"
    )]
    pub fn count(&self, name: &str, labels: &[&str]) -> u64 {
        self.sum(name, labels) as u64
    }

    /// As [`sum`](Self::sum), of what is counted in seconds.
    pub fn time(&self, name: &str) -> Duration {
        Duration::try_from_secs_f64(self.sum(name, &[])).unwrap_or_default()
    }
}

static INSTALLED: OnceLock<Arc<Metrics>> = OnceLock::new();

/// Begins to count. Again, it does nothing but return the same handle.
///
/// # Errors
///
/// When the exporter refuses our buckets: a bug.
pub fn install() -> Result<Handle, BuildError> {
    if let Some(metrics) = INSTALLED.get() {
        return Ok(metrics.handle());
    }
    let made = Arc::new(Metrics::new()?);
    Ok(INSTALLED.get_or_init(|| made).handle())
}

fn with(count: impl FnOnce(&Metrics)) {
    #[cfg(test)]
    if let Some(metrics) = tests::of_this_thread() {
        return count(&metrics);
    }
    if let Some(metrics) = INSTALLED.get() {
        count(metrics);
    }
}

/// A label's place in its list; the last one, `other`, when it is not there.
fn index(values: &[&str], value: &str) -> usize {
    let place = values.iter().position(|known| *known == value);
    place.unwrap_or(values.len() - 1)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of things in memory are far below 2^52"
)]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
pub(crate) mod tests;
