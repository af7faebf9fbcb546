//! Clocks, held against one another.

use std::time::Duration;

use super::Finding;
use crate::clock::{Clock, Timestamp, ahead};

/// Where a clock is so far off, something will be seen of it.
const MUCH: Duration = Duration::from_secs(5);
/// Where it is so far off, tokens and times of delivery are wrong.
const TOO_MUCH: Duration = Duration::from_secs(60);

const ABOUT: &str = "clock";
const ADVICE: &str = "let both machines keep time (chrony, systemd-timesyncd): tokens end by the \
                      node's clock, and what is due by the database's";

/// What it means that the clock of `whose` is so many microseconds ahead of ours, give or
/// take `uncertain`.
pub(super) fn judge(whose: &str, ahead_micros: i64, uncertain: Duration) -> Finding {
    let off = Duration::from_micros(ahead_micros.unsigned_abs()).saturating_sub(uncertain);
    let direction = if ahead_micros < 0 {
        "behind"
    } else {
        "ahead of"
    };
    let words = |time: Duration| {
        let whole = Duration::from_secs(time.as_secs());
        humantime::format_duration(whole).to_string()
    };
    if off < MUCH {
        return Finding::ok(
            ABOUT,
            format!("that of {whose} is as ours, within {}", words(MUCH)),
        );
    }
    let says = format!("that of {whose} is {} {direction} ours", words(off));
    if off < TOO_MUCH {
        Finding::warning(ABOUT, says, ADVICE)
    } else {
        Finding::fault(ABOUT, says, ADVICE)
    }
}

/// The same of a moment that an HTTP answer bore, which came after `before`. It is in whole
/// seconds, and may come out of a cache.
pub(super) fn judge_date(
    whose: &str,
    date: &str,
    before: Timestamp,
    clock: &dyn Clock,
) -> Option<Finding> {
    let theirs = httpdate::parse_http_date(date).ok()?;
    let theirs = theirs.duration_since(std::time::UNIX_EPOCH).ok()?;
    let theirs = Timestamp::from_seconds(i64::try_from(theirs.as_secs()).ok()?);
    let (ahead, uncertain) = ahead(theirs, before, clock.now());
    Some(judge(whose, ahead, uncertain + Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Level, tests::At},
        *,
    };

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off_for_certain() {
        let second = 1_000_000;
        for (ahead, uncertain, level) in [
            (0, 0, Level::Ok),
            (4 * second, 0, Level::Ok),
            (-4 * second, 0, Level::Ok),
            (5 * second, 0, Level::Warning),
            (7 * second, 3, Level::Ok),
            (-59 * second, 0, Level::Warning),
            (60 * second, 0, Level::Fault),
            (-3600 * second, 1, Level::Fault),
        ] {
            let found = judge("the database", ahead, Duration::from_secs(uncertain));
            assert_eq!(found.level, level, "{ahead} {uncertain}: {found:?}");
        }
        let found = judge("the database", -3600 * second, Duration::ZERO);
        assert_eq!(found.says, "that of the database is 1h behind ours");
    }

    #[test]
    fn the_date_of_an_answer_is_read_in_whole_seconds() {
        let date = "Thu, 01 Jan 1970 01:00:00 GMT";
        let judged = |now| {
            judge_date("it", date, At(now).now(), &At(now))
                .unwrap()
                .level
        };
        assert_eq!(judged(3600), Level::Ok);
        assert_eq!(judged(3605), Level::Ok);
        assert_eq!(judged(3606), Level::Warning);
        assert_eq!(judged(7200), Level::Fault);
        assert_eq!(judge_date("it", "yesterday", At(0).now(), &At(0)), None);
    }
}
