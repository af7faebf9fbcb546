use super::*;
use crate::random::SeededRandom;

fn timing() -> Timing {
    Timing::new(Duration::from_secs(300))
}

fn refusal(place: &str) -> String {
    match Jwks::open(place, timing()) {
        Ok(_) => panic!("{place} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn plain_http_is_for_this_machine_alone() {
    for place in [
        "http://127.0.0.1:8080/jwks",
        "http://localhost/jwks",
        "http://[::1]:80/",
        "HTTP://LOCALHOST/",
    ] {
        assert!(Jwks::open(place, timing()).is_ok(), "{place}");
    }
    for place in [
        "http://id.example.com/jwks",
        "http://10.0.0.1/jwks",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
    ] {
        assert!(refusal(place).contains("https://"), "{place}");
    }
}

#[test]
fn places_that_cannot_be_are_refused() {
    assert!(refusal("").contains("DOORBELL_JWKS"));
    assert!(refusal("ftp://id.example.com/jwks").contains("path or start with https"));
    assert!(refusal("https://").contains("valid URL"));
    assert!(refusal("http://user:hunter2@127.0.0.1/").contains("user or a password"));
    assert!(!refusal("http://user:hunter2@127.0.0.1/").contains("hunter2"));
    assert!(refusal("/no/such/file").contains("/no/such/file"));
}

#[test]
fn the_pause_is_jittered_by_a_tenth() {
    let random = SeededRandom::new(1);
    let pauses: Vec<_> = (0..100)
        .map(|_| jittered(Duration::from_secs(100), &random))
        .collect();
    assert!(
        pauses
            .iter()
            .all(|pause| (90..=110).contains(&pause.as_secs()))
    );
    assert!(pauses.iter().any(|pause| pause.as_secs() < 95));
    assert!(pauses.iter().any(|pause| pause.as_secs() > 105));
}

#[test]
fn unknown_keys_share_one_reading_in_ten_seconds() {
    let (jwks, _) = Jwks::open("http://127.0.0.1:1/", timing()).unwrap();
    let start = Instant::now();
    let almost = start + Duration::from_millis(9_999);
    let later = start + Duration::from_secs(10);
    assert_eq!(jwks.reading_to_wait_for(start), 1);
    assert_eq!(jwks.reading_to_wait_for(start), 1);
    jwks.begin();
    assert!(jwks.wake.notified().now_or_never().is_none());
    assert_eq!(jwks.reading_to_wait_for(almost), 1);
    // The one under way may have missed what is asked for now.
    assert_eq!(jwks.reading_to_wait_for(later), 2);
    assert_eq!(jwks.reading_to_wait_for(later), 2);
    assert!(jwks.wake.notified().now_or_never().is_some());
}

#[tokio::test]
async fn who_waits_is_let_go_at_the_end() {
    let (jwks, _) = Jwks::open("http://127.0.0.1:1/", timing()).unwrap();
    let waiting = jwks.ask();
    tokio::pin!(waiting);
    assert!(waiting.as_mut().now_or_never().is_none());
    jwks.close();
    assert!(waiting.now_or_never().is_some());
    assert!(jwks.ask().now_or_never().is_some());
}

#[test]
fn the_query_is_not_shown() {
    let (jwks, _) = Jwks::open("http://127.0.0.1:1/jwks?key=hunter2", timing()).unwrap();
    assert_eq!(jwks.place(), "http://127.0.0.1:1/jwks");
}
