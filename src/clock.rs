//! The time, injected.
//!
//! Everything that stamps, compares or expires asks a [`Clock`]; nothing reads
//! the system's clock by itself (`clippy.toml` forbids it). Waiting is tokio's,
//! which tests can pause.

use std::{fmt, time::Duration};

/// A moment: microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A moment by its microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// A moment by its seconds since the Unix epoch; the far ends of `i64` are
    /// clamped.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment so long after this one; the far end of `i64` is clamped.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(micros(time)))
    }

    /// The moment so long before this one; the far end of `i64` is clamped.
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(micros(time)))
    }

    /// How long from `earlier` to `self`; zero when it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Its microseconds; what is too long is clamped.
pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds; moments outside of the years 1970 to
    /// 9999 as their number of microseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YEAR_10000: i64 = 253_402_300_800_000_000;
        match u64::try_from(self.0) {
            Ok(micros) if self.0 < YEAR_10000 => {
                let time = std::time::UNIX_EPOCH + Duration::from_micros(micros);
                humantime::format_rfc3339_micros(time).fmt(f)
            }
            _ => write!(f, "{}us", self.0),
        }
    }
}

/// How far a clock is ahead that said `theirs` when ours said something from `before`
/// to `after`, in microseconds, and by how much that may be wrong.
pub fn ahead(theirs: Timestamp, before: Timestamp, after: Timestamp) -> (i64, Duration) {
    let uncertain = after.since(before) / 2;
    let ours = before.after(uncertain);
    let micros = theirs.as_micros().saturating_sub(ours.as_micros());
    (micros, uncertain)
}

/// Tells the time of day. It may jump, also backwards.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(micros(since_epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_held_against_the_middle_of_the_round_trip() {
        let at = Timestamp::from_micros;
        let uncertain = Duration::from_micros(50);
        assert_eq!(ahead(at(1_050), at(1_000), at(1_100)), (0, uncertain));
        assert_eq!(ahead(at(2_050), at(1_000), at(1_100)), (1_000, uncertain));
        assert_eq!(ahead(at(50), at(1_000), at(1_100)), (-1_000, uncertain));
    }
}
