//! The one way to ask what time it is, so that tests can say.

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
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}
