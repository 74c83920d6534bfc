//! A vehicle as a service: when it reports, when it only looks, and how long it waits in between.
//!
//! Between reports it looks whether its timestamp is another one ([`check`]). It reports, as a
//! whole cycle does, when it starts, when something is new, after a failure, and at least as often
//! as the Director asks for it; a Director that doesn't ask gets a report each time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Error;
use super::check::{self, News};
use super::cycle::{self, Outcome};
use super::http::Http;
use super::http_error::HttpError;
use super::pace::Pace;
use super::setup::Vehicle;

/// A vehicle's turns.
pub(super) struct Service {
    pace: Pace,
    clock: fn() -> Duration,
}

impl Service {
    /// Takes a turn about once in an interval, while nothing goes wrong.
    pub(super) fn new(interval: Duration) -> Self {
        Self { pace: Pace::new(interval), clock: since_boot }
    }

    /// Looks or reports, and does what there is to do. None if there was nothing new.
    pub(super) fn turn(&mut self, vehicle: &mut Vehicle) -> Option<Outcome> {
        if !self.pace.is_report_due((self.clock)(), vehicle.report_every) {
            match check::look(vehicle) {
                Ok(News::Nothing) => {
                    self.pace.looked();
                    return None;
                }
                Ok(News::Something) => {}
                Err(error) => {
                    self.pace.unanswered(error.retry_after());
                    return Some(Outcome { failure: Some(error), ..Outcome::default() });
                }
            }
        }
        let outcome = cycle::run(vehicle);
        let failures = [&outcome.failure, &outcome.undelivered].map(Option::as_ref);
        if failures.iter().all(Option::is_none) {
            self.pace.reported((self.clock)());
        } else {
            self.pace.failed(failures.into_iter().flatten().filter_map(Error::retry_after).max());
        }
        Some(outcome)
    }

    /// Waits until the next turn.
    ///
    /// # Errors
    ///
    /// [`HttpError::Stopped`].
    pub(super) fn wait(&self, vehicle: &Vehicle) -> Result<(), HttpError> {
        let now = (self.clock)();
        let pause = self.pace.pause(now, vehicle.report_every, rand::random());
        self.wait_until(now + pause, &vehicle.http)
    }

    /// Timers stand still while a vehicle is suspended, and this clock does not.
    fn wait_until(&self, time: Duration, http: &Http) -> Result<(), HttpError> {
        loop {
            let left = time.saturating_sub((self.clock)());
            http.sleep(left.min(LONGEST_NAP))?;
            if left <= LONGEST_NAP {
                return Ok(());
            }
        }
    }
}

/// How long the machine has been up, with the time for which it was suspended.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

const LONGEST_NAP: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
