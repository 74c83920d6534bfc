//! The one way to ask what time it is, so that tests can say.

use std::time::{Duration, SystemTime};

/// A point in time; RFC 3339 in JSON, whole seconds in signed metadata (TUF 1.0.34, 4.2.3).
pub type Timestamp = jiff::Timestamp;

/// Tells the time.
///
/// Nothing outside an implementation of this trait may read the system clock for a decision.
pub trait Clock: Send + Sync {
    /// The time now, in UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// In whole milliseconds, as the catalog keeps times.
    fn now(&self) -> Timestamp {
        let now = bounded(SystemTime::now());
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// A time and what comes `duration` later; the last time there is, if that is past it.
pub fn later(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// A time and what comes `duration` earlier; the first time there is, if that is before it.
pub fn earlier(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// A clock outside of these bounds is wrong anyway. Within them, a lifetime can be added to the
/// time, or taken from it, without leaving what a [`Timestamp`] can be, which would be a panic.
fn bounded(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(LATEST).clamp(Timestamp::UNIX_EPOCH, LATEST)
}

/// 9000-01-01T00:00:00Z
const LATEST: Timestamp = Timestamp::constant(221845392000, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_is_too_wrong_to_calculate_with() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(bounded(at(1_800_000_000)).to_string(), "2027-01-15T08:00:00Z");
        for late in [at(253_402_300_799), at(1 << 40)] {
            assert_eq!(bounded(late).to_string(), "9000-01-01T00:00:00Z");
        }
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(3_000_000_000);
        assert_eq!(bounded(early), Timestamp::UNIX_EPOCH);
        let century = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        assert!(
            bounded(at(1 << 40)) + century > LATEST
                && Timestamp::UNIX_EPOCH - century < Timestamp::UNIX_EPOCH
        );
    }
}
