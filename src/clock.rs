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

fn micros(time: Duration) -> i64 {
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
