//! How often a service turns to its Director.

use std::time::Duration;

/// What has happened so far, as far as it decides on what comes next. Times count from one point
/// that does not move.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the last report was taken; none if another one is due, whatever the time.
    reported_at: Option<Duration>,
    /// In a row.
    failures: u32,
    /// How long the server wants to be left alone.
    retry_after: Option<Duration>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, reported_at: None, failures: 0, retry_after: None }
    }

    /// A look has shown nothing new.
    pub(super) fn looked(&mut self) {
        (self.failures, self.retry_after) = (0, None);
    }

    /// A cycle went well, and its last report was taken.
    pub(super) fn reported(&mut self, now: Duration) {
        self.looked();
        self.reported_at = Some(now);
    }

    /// A cycle did not go well: the next turn is one again.
    pub(super) fn failed(&mut self, retry_after: Option<Duration>) {
        self.reported_at = None;
        self.unanswered(retry_after);
    }

    /// A look got no answer: the next turn is one again, or a report if one is due by then.
    pub(super) fn unanswered(&mut self, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        self.retry_after = retry_after;
    }

    /// Whether the next turn is put off by failures alone, and nobody has asked for that.
    pub(super) fn may_hurry(&self) -> bool {
        self.failures > 0 && self.retry_after.is_none()
    }

    /// Whether the next turn reports. `every` is what the Director asks for; it gets a report each
    /// time if it doesn't.
    pub(super) fn is_report_due(&self, now: Duration, every: Option<Duration>) -> bool {
        self.report_due_in(now, every).is_none_or(|time| time.is_zero())
    }

    /// None if it is due in any case.
    fn report_due_in(&self, now: Duration, every: Option<Duration>) -> Option<Duration> {
        let every = every?.clamp(SHORTEST_EVERY, LONGEST_EVERY);
        Some((self.reported_at? + every).saturating_sub(now))
    }

    /// How long to wait for the next turn: the interval, or until a report is due; twice as long for
    /// each failure up to an hour, and at least what the server asks for. A tenth more or less, and
    /// never less than the server asks for, so that a fleet does not come at once.
    pub(super) fn pause(&self, now: Duration, every: Option<Duration>, random: u32) -> Duration {
        let share = f64::from(random) / f64::from(u32::MAX);
        let longest = self.interval.max(MAX_PAUSE);
        let pause = self.interval.saturating_mul(2_u32.saturating_pow(self.failures)).min(longest);
        let pause = pause.mul_f64(0.9 + 0.2 * share);
        if let Some(asked) = self.retry_after {
            return pause.max(asked.mul_f64(1.0 + 0.2 * share));
        }
        match self.report_due_in(now, every).filter(|_| self.failures == 0) {
            Some(due) => pause.min(due.max(SHORTEST_EVERY)),
            None => pause,
        }
    }
}

const MAX_PAUSE: Duration = Duration::from_secs(3600); // 1 h
const SHORTEST_EVERY: Duration = Duration::from_secs(1);
const LONGEST_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60); // 30 days

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: Duration = Duration::from_secs(1_000_000);

    fn after(interval: Duration, failures: u32) -> Pace {
        let mut pace = Pace::new(interval);
        (0..failures).for_each(|_| pace.failed(None));
        pace
    }

    #[test]
    fn pauses_grow_with_failures_and_are_not_all_the_same() {
        let pause = |interval, failures, random| after(interval, failures).pause(NOW, None, random);
        assert_eq!(pause(MINUTE, 0, 0), Duration::from_secs(54));
        assert_eq!(pause(MINUTE, 0, u32::MAX), Duration::from_secs(66));
        assert_eq!(pause(MINUTE, 2, 0), Duration::from_secs(216));
        assert_eq!(pause(MINUTE, 60, 0), Duration::from_secs(3240));
        assert_eq!(
            pause(MINUTE * 1440, 1, 0),
            Duration::from_secs(77_760),
            "never more often than without failures"
        );
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks() {
        let mut pace = Pace::new(MINUTE);
        pace.unanswered(Some(MINUTE * 30));
        assert_eq!(pace.pause(NOW, None, 0), MINUTE * 30);
        assert_eq!(pace.pause(NOW, None, u32::MAX), MINUTE * 36, "later, and never sooner");
        pace.unanswered(Some(Duration::from_secs(1)));
        assert_eq!(pace.pause(NOW, None, 0), Duration::from_secs(216), "failures count too");
        pace.looked();
        assert_eq!(pace.pause(NOW, None, 0), Duration::from_secs(54));
    }

    #[test]
    fn a_report_is_due_as_often_as_the_director_asks_and_after_each_failure() {
        let mut pace = Pace::new(MINUTE);
        let every = Some(MINUTE * 60);
        assert!(pace.is_report_due(NOW, every), "at the start");
        pace.reported(NOW);
        assert!(!pace.is_report_due(NOW + MINUTE * 59, every));
        assert!(pace.is_report_due(NOW + MINUTE * 60, every));
        assert!(pace.is_report_due(NOW, None), "each time if nothing is asked for");
        pace.unanswered(None);
        assert!(!pace.is_report_due(NOW + MINUTE, every), "the last one was taken");
        pace.failed(None);
        assert!(pace.is_report_due(NOW, every));
        // Nobody is asked for nothing, or for so much that there is nothing else.
        pace.reported(NOW);
        assert!(!pace.is_report_due(NOW, Some(Duration::ZERO)));
        assert!(pace.is_report_due(NOW + LONGEST_EVERY, Some(Duration::MAX)));
    }

    #[test]
    fn it_does_not_sleep_past_a_report() {
        let mut pace = Pace::new(MINUTE * 60);
        pace.reported(NOW);
        let half = Some(MINUTE * 30);
        assert_eq!(pace.pause(NOW, half, 0), MINUTE * 30);
        assert_eq!(pace.pause(NOW + MINUTE * 29, half, 0), MINUTE);
        assert_eq!(pace.pause(NOW + MINUTE * 40, half, 0), SHORTEST_EVERY);
        pace.unanswered(None);
        assert_eq!(pace.pause(NOW, half, 0), MINUTE * 54, "nobody answers");
    }
}
