//! Randomness, injected: ids, epochs and jitter.

use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

use crate::clock::Timestamp;

/// A source of random bytes.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Random {
    /// A UUIDv4 (RFC 9562).
    pub fn uuid_v4(&self) -> uuid::Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A UUIDv7 (RFC 9562) of the moment `now`.
    pub fn uuid_v7(&self, now: Timestamp) -> uuid::Uuid {
        let mut bytes = [0; 10];
        self.fill(&mut bytes);
        let millis = u64::try_from(now.as_micros() / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// How long to wait after so many failures: doubling from `first` to `longest`,
    /// half of it chance, so that many who failed together do not come together.
    pub fn backoff(&self, failures: u32, first: Duration, longest: Duration) -> Duration {
        let doublings = 2_u32.saturating_pow(failures.saturating_sub(1));
        let delay = first.saturating_mul(doublings).min(longest);
        delay / 2 + self.up_to(delay / 2)
    }

    /// A duration spread evenly over zero to `most`.
    pub fn up_to(&self, most: Duration) -> Duration {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        most.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }
}

/// The operating system's, by way of a generator of the thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// A sequence that a seed repeats, for tests.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failures_grows_and_is_bounded() {
        const FIRST: Duration = Duration::from_millis(50);
        const LONGEST: Duration = Duration::from_secs(4);
        let random: &dyn Random = &SeededRandom::new(1);
        for failures in [0, 1, 2, 8, 100, u32::MAX] {
            let pause = random.backoff(failures, FIRST, LONGEST);
            assert!(pause >= FIRST / 2 && pause <= LONGEST, "{pause:?}");
        }
        assert!(random.backoff(1, FIRST, LONGEST) <= FIRST);
        assert!(random.backoff(50, FIRST, LONGEST) >= LONGEST / 2);
    }
}
