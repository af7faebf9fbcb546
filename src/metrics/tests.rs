use std::{cell::RefCell, collections::BTreeSet};

use prost::Message as _;

use super::*;

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Arc<Metrics>>> = const { RefCell::new(None) };
}

pub(super) fn of_this_thread() -> Option<Arc<Metrics>> {
    OF_THIS_THREAD.with_borrow(Clone::clone)
}

/// Metrics that only this thread's test counts in.
pub(crate) fn alone() -> Handle {
    let metrics = Arc::new(Metrics::new().unwrap());
    OF_THIS_THREAD.set(Some(Arc::clone(&metrics)));
    metrics.handle()
}

/// The value of a series.
pub(crate) fn value(handle: &Handle, series: &str) -> Option<f64> {
    let text = handle.render();
    let line = text.lines().find_map(|l| l.strip_prefix(series))?;
    Some(line.trim().parse().unwrap())
}

#[test]
fn figures_are_those_of_the_page() {
    let handle = alone();
    let before = handle.figures();
    rpc(Method::SendInApp, 0);
    rpc(Method::SendInApp, 0);
    rpc(Method::SendInApp, 14);
    rpc(Method::SendToMany, 0);
    committed(3, Duration::from_millis(250));
    queue_depth(7);
    let figures = handle.figures();
    let calls = |labels: &[&str]| figures.count("doorbell_rpcs_total", labels);
    assert_eq!(calls(&[]), 4);
    assert_eq!(calls(&[r#"method="SendInApp""#]), 3);
    assert_eq!(calls(&[r#"method="SendInApp""#, r#"code="OK""#]), 2);
    assert_eq!(figures.count("doorbell_write_queue_depth", &[]), 7);
    assert_eq!(figures.count("doorbell_commit_writes_sum", &[]), 3);
    let took = figures.time("doorbell_commit_duration_seconds_sum");
    assert_eq!(took, Duration::from_millis(250));
    // A name is whole, and what is not there is nothing.
    assert_eq!(figures.count("doorbell_rpcs", &[]), 0);
    assert_eq!(figures.count("doorbell_nothing", &[]), 0);
    // One moment's stay as they were.
    assert_eq!(before.count("doorbell_write_queue_depth", &[]), 0);
}

#[test]
fn what_is_said_is_shown() {
    let handle = alone();
    rpc(Method::SendInApp, 0);
    answered_after(Method::SendInApp, Duration::from_millis(3));
    rpc(Method::Subscribe, 14);
    stream_lasted(Duration::from_secs(30));
    event_delivered("heartbeat");
    delivered_after(Duration::from_millis(1));
    committed(3, Duration::from_millis(2));
    commit_failed("unavailable");
    queue_depth(7);
    rejected(ErrorReason::QueueFull);
    log_lines_left_out("unread", 4);
    lag_healed(5);
    reset("epoch");
    swept("expired", 5, 4);
    sweep_failed("purged");
    swept("followed_up", 3, 2);
    swept("retracted", 2, 1);
    sweeper(true, Duration::from_millis(1500));
    ready(true);
    jwks_age(Duration::from_secs(9));
    limits(20, 30);
    disk_free(4096);
    published(2);
    connections_refused(1);
    for (series, expected) in [
        (r#"doorbell_rpcs_total{method="SendInApp",code="OK"}"#, 1.0),
        (
            r#"doorbell_rpc_duration_seconds_bucket{method="SendInApp",le="0.0025"}"#,
            0.0,
        ),
        (
            r#"doorbell_rpc_duration_seconds_bucket{method="SendInApp",le="0.005"}"#,
            1.0,
        ),
        (
            r#"doorbell_rpcs_total{method="Subscribe",code="UNAVAILABLE"}"#,
            1.0,
        ),
        (r#"doorbell_stream_duration_seconds_bucket{le="10"}"#, 0.0),
        (r#"doorbell_stream_duration_seconds_bucket{le="60"}"#, 1.0),
        (r#"doorbell_events_delivered_total{kind="heartbeat"}"#, 1.0),
        (r#"doorbell_events_delivered_total{kind="reset"}"#, 0.0),
        ("doorbell_delivery_duration_seconds_count", 1.0),
        (r#"doorbell_commit_writes_bucket{le="2"}"#, 0.0),
        (r#"doorbell_commit_writes_bucket{le="4"}"#, 1.0),
        ("doorbell_commit_duration_seconds_count", 1.0),
        (
            r#"doorbell_commits_failed_total{reason="unavailable"}"#,
            1.0,
        ),
        ("doorbell_write_queue_depth", 7.0),
        (r#"doorbell_rejected_total{reason="QUEUE_FULL"}"#, 1.0),
        (r#"doorbell_log_lines_left_out_total{reason="unread"}"#, 4.0),
        ("doorbell_lag_heals_total", 1.0),
        ("doorbell_lag_healed_rows_total", 5.0),
        (r#"doorbell_resets_total{reason="epoch"}"#, 1.0),
        ("doorbell_events_published_total", 2.0),
        (r#"doorbell_sweeper_due_total{what="expired"}"#, 5.0),
        (r#"doorbell_sweeper_done_total{what="expired"}"#, 4.0),
        (r#"doorbell_sweeper_failed_total{what="purged"}"#, 1.0),
        (r#"doorbell_sweeper_due_total{what="followed_up"}"#, 3.0),
        (r#"doorbell_sweeper_due_total{what="retracted"}"#, 2.0),
        ("doorbell_ready", 1.0),
        ("doorbell_jwks_age_seconds", 9.0),
        ("doorbell_connections_max", 20.0),
        ("doorbell_write_queue_max", 30.0),
        ("doorbell_disk_free_bytes", 4096.0),
        ("doorbell_sweeper_leads", 1.0),
        ("doorbell_sweeper_late_seconds", 1.5),
        ("doorbell_connections_refused_total", 1.0),
    ] {
        assert_eq!(value(&handle, series), Some(expected), "{series}");
    }
}

#[test]
fn every_metric_has_its_prefix_and_a_help_text() {
    let handle = alone();
    rpc(Method::SendInApp, 0);
    rpc(Method::Subscribe, 0);
    delivered_after(Duration::ZERO);
    committed(1, Duration::ZERO);
    let text = handle.render();
    let with = |comment: &str| -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix(comment))
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect()
    };
    let types = with("# TYPE ");
    assert_eq!(types, with("# HELP "));
    assert_eq!(types.len(), 38, "{types:?}");
    assert!(types.iter().all(|name| name.starts_with("doorbell_")));
}

#[test]
fn a_label_out_of_its_list_is_other() {
    let handle = alone();
    rpc(Method::of("/made/up"), 99);
    event_delivered("made up");
    reset("made up");
    rejected(ErrorReason::Unspecified);
    commit_failed("made up");
    for series in [
        r#"doorbell_rpcs_total{method="other",code="other"}"#,
        r#"doorbell_events_delivered_total{kind="other"}"#,
        r#"doorbell_resets_total{reason="other"}"#,
        r#"doorbell_rejected_total{reason="other"}"#,
        r#"doorbell_commits_failed_total{reason="other"}"#,
    ] {
        assert_eq!(value(&handle, series), Some(1.0), "{series}");
    }
    assert!(!handle.render().contains("made"));
}

#[test]
fn guards_count_down_once_and_only_what_they_counted() {
    let before = stream_opened();
    let handle = alone();
    let first = stream_opened();
    let second = stream_opened();
    connection_opened();
    drop(before);
    assert_eq!(value(&handle, "doorbell_streams_open"), Some(2.0));
    assert_eq!(value(&handle, "doorbell_connections_open"), Some(1.0));
    drop(first);
    connection_closed();
    assert_eq!(value(&handle, "doorbell_streams_open"), Some(1.0));
    assert_eq!(value(&handle, "doorbell_connections_open"), Some(0.0));
    assert_eq!(
        value(&handle, "doorbell_connections_accepted_total"),
        Some(1.0)
    );
    drop(second);
    assert_eq!(value(&handle, "doorbell_streams_open"), Some(0.0));
}

#[test]
fn every_call_and_every_reason_of_the_api_has_its_label() {
    let set = prost_types::FileDescriptorSet::decode(crate::proto::FILE_DESCRIPTOR_SET).unwrap();
    let calls = set.file.iter().flat_map(|file| &file.service);
    for call in calls.flat_map(|service| &service.method) {
        let path = format!("/of/any.Service/{}", call.name());
        assert_eq!(Method::of(&path).name(), call.name());
    }
    assert_eq!(Method::of("/made/up").name(), OTHER);
    for (number, text) in (0..).zip(reasons()).skip(1) {
        assert_eq!(ErrorReason::try_from(number).unwrap().text(), text);
    }
    assert_eq!(reasons().len(), 28);
}

#[test]
fn installing_twice_counts_in_one_place() {
    let first = install().unwrap();
    let second = install().unwrap();
    INSTALLED.get().unwrap().lag_heals.increment(3);
    assert_eq!(
        value(&first, "doorbell_lag_heals_total"),
        value(&second, "doorbell_lag_heals_total")
    );
    assert!(value(&first, "doorbell_lag_heals_total") >= Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn upkeep_goes_on_until_it_is_dropped() {
    let handle = alone();
    committed(3, Duration::ZERO);
    let upkeep = tokio::time::timeout(Duration::from_secs(60), handle.upkeep());
    assert!(upkeep.await.is_err());
    assert_eq!(value(&handle, "doorbell_commit_writes_sum"), Some(3.0));
}
