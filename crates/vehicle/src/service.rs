//! A vehicle as a service: when it reports, when it only looks, and how long it waits in between.
//!
//! Between reports it looks whether its timestamp is another one ([`check`]). It reports, as a
//! whole cycle does, when it starts, when something is new, after a failure, and at least as often
//! as the Director asks for it; a Director that doesn't ask gets a report each time.

use std::time::Duration;

use super::Error;
use super::check::{self, News};
use super::cycle::{self, Outcome};
use super::held::since_boot;
use super::http_error::HttpError;
use super::pace::Pace;
use super::setup::Vehicle;

/// A vehicle's turns.
pub(super) struct Service {
    pace: Pace,
    clock: fn() -> Duration,
    /// Why token and certificates that are new are not used.
    unusable: Option<Error>,
}

impl Service {
    /// Takes a turn about once in an interval, while nothing goes wrong.
    pub(super) fn new(interval: Duration) -> Self {
        Self { pace: Pace::new(interval), clock: since_boot, unusable: None }
    }

    /// Looks or reports, and does what there is to do. None if there was nothing new.
    pub(super) fn turn(&mut self, vehicle: &mut Vehicle) -> Option<Outcome> {
        self.unusable = vehicle.renew_credentials().err();
        let director = vehicle.config.director();
        if !self.pace.is_report_due((self.clock)(), vehicle.report_every) {
            match check::look(vehicle) {
                Ok(News::Nothing) => {
                    self.pace.looked();
                    return None;
                }
                Ok(News::Something) => {}
                Err(error) => {
                    self.pace.unanswered(error.retry_after_of(&director));
                    return Some(Outcome { failure: Some(error), ..Outcome::default() });
                }
            }
        }
        let outcome = cycle::run(vehicle);
        let failures = [&outcome.failure, &outcome.undelivered].map(Option::as_ref);
        if failures.iter().all(Option::is_none) {
            self.pace.reported((self.clock)());
        } else {
            let failures = failures.into_iter().flatten();
            let asked = failures.filter_map(|failure| failure.retry_after_of(&director)).max();
            self.pace.failed(asked);
        }
        Some(outcome)
    }

    /// Why token and certificates that are new were not used in the last turn.
    pub(super) fn unusable(&self) -> Option<&Error> {
        self.unusable.as_ref()
    }

    /// Waits until the next turn. After a failure that is at once if token or certificates are
    /// replaced: they may be what it failed for.
    ///
    /// # Errors
    ///
    /// [`HttpError::Stopped`].
    pub(super) fn wait(&self, vehicle: &Vehicle) -> Result<(), HttpError> {
        let now = (self.clock)();
        let pause = self.pace.pause(now, vehicle.report_every, rand::random());
        self.wait_until(now + pause, vehicle)
    }

    /// Timers stand still while a vehicle is suspended, and this clock does not.
    fn wait_until(&self, time: Duration, vehicle: &Vehicle) -> Result<(), HttpError> {
        let may_hurry = self.pace.may_hurry() && self.unusable.is_none();
        let nap = if may_hurry { SHORT_NAP } else { LONGEST_NAP };
        loop {
            if may_hurry && vehicle.has_new_credentials() {
                return Ok(());
            }
            let left = time.saturating_sub((self.clock)());
            vehicle.http.sleep(left.min(nap))?;
            if left <= nap {
                return Ok(());
            }
        }
    }
}

const LONGEST_NAP: Duration = Duration::from_secs(60);
const SHORT_NAP: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
