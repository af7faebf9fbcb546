use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::*;

/// How often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

const PATIENCE: Patience = Patience {
    headers: Duration::from_secs(10),
    idle: Duration::from_secs(300),
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn the_first_request_is_due_by_the_deadline() {
    let start = Instant::now();
    let activity = Activity::accepted_at(start, 1000);
    let judge = |at, protocol| activity.judge(start + seconds(at), protocol, PATIENCE);
    let due = Verdict::Wait(start + seconds(10));
    assert_eq!(judge(9, Protocol::Http1), due);
    assert_eq!(judge(9, Protocol::Http2), due);
    assert_eq!(judge(10, Protocol::Http1), Verdict::Drop);
    assert_eq!(judge(10, Protocol::Http2), Verdict::Leave);
    // Bytes alone extend nothing.
    activity.read();
    activity.wrote();
    assert_eq!(judge(10, Protocol::Http1), Verdict::Drop);
}

#[tokio::test(start_paused = true)]
async fn an_idle_time_below_the_deadline_is_kept() {
    let start = Instant::now();
    let patience = Patience {
        headers: seconds(300),
        idle: seconds(10),
    };
    let activity = Arc::new(Activity::accepted_at(start, 1000));
    assert_eq!(activity.first_look(patience), start + seconds(10));
    let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, patience);
    assert_eq!(judge(10), Verdict::Wait(start + seconds(20)));
    assert_eq!(judge(295), Verdict::Wait(start + seconds(300)));
    drop(activity.begin());
    assert_eq!(judge(10), Verdict::Leave);
}

#[tokio::test(start_paused = true)]
async fn idle_time_counts_from_the_end_of_the_last_request() {
    let start = Instant::now();
    let activity = Arc::new(Activity::accepted_at(start, 1000));
    let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, PATIENCE);
    let (first, second) = (activity.begin(), activity.begin());
    assert_eq!(judge(1000), Verdict::Wait(start + seconds(1300)));
    tokio::time::advance(seconds(1100)).await;
    drop(first);
    assert_eq!(judge(1300), Verdict::Wait(start + seconds(1600)));
    tokio::time::advance(seconds(100)).await;
    drop(second);
    assert_eq!(judge(1300), Verdict::Wait(start + seconds(1500)));
    assert_eq!(judge(1500), Verdict::Leave);
}

#[tokio::test(start_paused = true)]
async fn later_headers_of_http_1_are_due_as_well() {
    let start = Instant::now();
    let activity = Arc::new(Activity::accepted_at(start, 1000));
    let judge = |at| activity.judge(start + seconds(at), Protocol::Http1, PATIENCE);
    drop(activity.begin());
    assert_eq!(judge(0), Verdict::Wait(start + seconds(10)));
    tokio::time::advance(seconds(7)).await;
    activity.read();
    tokio::time::advance(seconds(1)).await;
    activity.read();
    assert_eq!(judge(10), Verdict::Wait(start + seconds(17)));
    assert_eq!(judge(17), Verdict::Drop);
    // The request came after all.
    let request = activity.begin();
    assert_eq!(judge(17), Verdict::Wait(start + seconds(27)));
    drop(request);
    assert_eq!(judge(308), Verdict::Leave);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_dropped_when_it_is_quiet() {
    let start = Instant::now();
    let activity = Arc::new(Activity::accepted_at(start, 1000));
    let judge = |at| activity.judge(start + seconds(at), Protocol::Http2, PATIENCE);
    let request = activity.begin();
    activity.leave(start);
    assert_eq!(judge(100), Verdict::Wait(start + seconds(100) + QUIET));
    tokio::time::advance(seconds(100)).await;
    drop(request);
    assert_eq!(judge(100), Verdict::Wait(start + seconds(100) + QUIET));
    tokio::time::advance(seconds(3)).await;
    activity.wrote();
    assert_eq!(judge(103), Verdict::Wait(start + seconds(103) + QUIET));
    assert_eq!(judge(104), Verdict::Drop);
}

#[tokio::test(start_paused = true)]
async fn who_has_enough_in_flight_is_not_read() {
    let activity = Arc::new(Activity::accepted_at(Instant::now(), 20));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let cx = Context::from_waker(&waker);
    let begin = || {
        assert!(activity.poll_turn(&cx).is_ready());
        activity.begin()
    };
    let mut requests: Vec<_> = std::iter::repeat_with(begin).take(STARTING).collect();
    assert!(activity.poll_turn(&cx).is_pending());
    for request in &mut requests {
        request.started();
    }
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    requests.extend(std::iter::repeat_with(begin).take(20 - STARTING));
    for request in &mut requests {
        request.started();
    }
    assert!(activity.poll_turn(&cx).is_pending());
    requests.pop();
    assert_eq!(woken.0.load(Ordering::SeqCst), 2);
    assert!(activity.poll_turn(&cx).is_ready());
}
