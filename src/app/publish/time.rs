//! The time at which something may be signed. A clock that went back signs metadata that clients
//! take for expired, or for older than what they have; one that is ahead signs for years. So every
//! time to sign at is compared with the last one, and what the clock did is logged and shown.
//!
//! A clock behind the last signing is either wrong now or was wrong then. It was wrong then if it
//! had gone on, before it came back, further than a server lets pass without signing, and is now
//! where it left off: then signing goes on from there, and what was signed ahead is signed again
//! because it expires too late. Otherwise nothing is signed until the clock is right, or a person
//! says that it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::app::Error;
use crate::catalog::Moments;
use crate::model::clock::{earlier, later};
use crate::model::{Clock, Timestamp};
use crate::telemetry::Metrics;

/// Tells at what time something may be signed.
pub(super) struct SigningTime {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    moments: Moments,
    /// What the clock said last, and when that was by a clock that nobody sets.
    looked: Option<(Timestamp, Instant)>,
    is_behind: bool,
}

impl SigningTime {
    pub(super) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { clock, metrics, state: Mutex::default() }
    }

    /// Goes on from what an earlier process has recorded.
    pub(super) fn resume(&self, recorded: Moments) {
        self.state().moments = recorded;
    }

    /// Takes up what other replicas have recorded since, if that is later than what was signed here.
    pub(super) fn catch_up(&self, recorded: Moments) {
        let mut state = self.state();
        if recorded.signed > state.moments.signed {
            state.moments = recorded;
        }
    }

    /// What is to be recorded with something that is signed at `at`.
    pub(super) fn moments_with(&self, at: Timestamp) -> Moments {
        self.state().moments.with(at)
    }

    /// Notes that something was signed.
    pub(super) fn note(&self, at: Timestamp) {
        let mut state = self.state();
        state.moments = state.moments.with(at);
    }

    /// The time now, for something to be signed at; never before anything that was signed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the clock is behind the last signing.
    pub(super) fn now(&self) -> Result<Timestamp, Error> {
        let now = self.clock.now();
        let mut state = self.state();
        self.notice_jump(&mut state, now);
        let (allowed, signed) = (state.moments.allows(now), state.moments.signed.unwrap_or(now));
        let is_behind = allowed.is_none();
        self.metrics.set_clock_behind(if is_behind {
            signed.as_second() - now.as_second()
        } else {
            0
        });
        match (std::mem::replace(&mut state.is_behind, is_behind), is_behind) {
            (false, true) => {
                tracing::error!(%now, last_signed = %signed, "the clock is behind what was signed last: nothing is signed");
            }
            (true, false) => {
                tracing::warn!(%now, "the clock is not behind any more: signing goes on")
            }
            _ => {}
        }
        allowed
            .ok_or_else(|| Error::Unavailable { code: "clock_behind", detail: behind(now, signed) })
    }

    /// For how long nothing was signed, if that is longer than a running server lets pass.
    pub(super) fn silent(&self) -> Option<Duration> {
        let signed = self.state().moments.signed?;
        let silent = Duration::try_from(self.clock.now().duration_since(signed)).ok()?;
        (silent > LEAP).then_some(silent)
    }

    /// Compares with a clock that nobody sets. A machine that was suspended looks like a jump too.
    fn notice_jump(&self, state: &mut State, now: Timestamp) {
        let elapsed = Instant::now();
        if let Some((before, at)) = state.looked.replace((now, elapsed)) {
            let expected = later(before, elapsed.duration_since(at));
            let jump = now.as_second() - expected.as_second();
            if jump.unsigned_abs() > JUMP.as_secs() {
                tracing::warn!(seconds = jump, %now, "the clock has jumped, or the machine was suspended");
                self.metrics.add_clock_jump(jump);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moments {
    /// The time to sign at when the clock says `now`; none if the clock is behind.
    fn allows(&self, now: Timestamp) -> Option<Timestamp> {
        let Some(signed) = self.signed else { return Some(now) };
        if now >= earlier(signed, STEP) {
            return Some(now.max(signed));
        }
        let (left_off, went_on) = self.leap?;
        (earlier(left_off, STEP) <= now && now < went_on).then_some(now)
    }

    /// These, once something was signed at `at`, which was allowed. What is signed beside each
    /// other is not noted in the order of its times: only more than a step is a way back.
    fn with(self, at: Timestamp) -> Self {
        let leap = match self.signed {
            Some(signed) if at > later(signed, LEAP) => {
                Some((self.leap.map_or(signed, |(left_off, _)| left_off), at))
            }
            Some(signed) if at < earlier(signed, STEP) => None, // the clock has come back
            _ => self.leap.filter(|(_, went_on)| at <= later(*went_on, LEAP_IS_TRUE)),
        };
        let signed = match self.signed {
            Some(signed) if at >= earlier(signed, STEP) => signed.max(at),
            _ => at,
        };
        Self { signed: Some(signed), leap }
    }
}

fn behind(now: Timestamp, signed: Timestamp) -> String {
    format!(
        "the server's clock says {now}, which is before it signed something last, at {signed}: nothing is signed until \
         the clock is right; if it is right now and was wrong then, stop the server and run `motorcade recover clock`"
    )
}

/// As much as a clock that is kept right may be set back: then what is signed has the last
/// signing's time.
const STEP: Duration = Duration::from_secs(5 * 60);
/// Longer than a running server lets pass without signing: a clock that goes on by more was wrong,
/// or the server was off.
const LEAP: Duration = Duration::from_secs(24 * 60 * 60);
/// Nobody has set the clock back for so long that it was the server that was off.
const LEAP_IS_TRUE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// What a running clock loses or gains between two looks, and no more.
const JUMP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
    }

    fn signed(hours: i64) -> Moments {
        Moments { signed: Some(at(hours)), leap: None }
    }

    #[test]
    fn a_clock_that_went_back_signs_nothing_until_it_is_where_it_was() {
        let moments = signed(0);
        for hours in [-1, -24, -87_600] {
            assert_eq!(moments.allows(at(hours)), None, "{hours}");
        }
        assert_eq!(moments.allows(at(1)), Some(at(1)));
        assert_eq!(moments.with(at(1)), signed(1));
    }

    #[test]
    fn a_small_step_back_signs_at_the_last_time() {
        assert_eq!(signed(0).allows(at(0) - Duration::from_secs(200)), Some(at(0)));
    }

    #[test]
    fn a_clock_that_was_ahead_and_comes_back_to_where_it_left_off_was_wrong_then() {
        let ten_years = 87_600;
        let moments = signed(0).with(at(ten_years)).with(at(ten_years + 5));
        assert_eq!(moments.allows(at(-9)), None, "earlier than it left off");
        assert_eq!(moments.allows(at(ten_years + 1)), None, "in the midst of what was signed");
        assert_eq!(moments.allows(at(2)), Some(at(2)));
        assert_eq!(moments.with(at(2)), signed(2));
    }

    #[test]
    fn what_is_signed_beside_each_other_takes_nothing_back() {
        let ten_years = 87_600;
        let ahead = signed(0).with(at(ten_years));
        let moments = ahead.with(at(ten_years) - Duration::from_millis(3));
        assert_eq!(moments, ahead);
        assert_eq!(
            moments.allows(at(2)),
            Some(at(2)),
            "the clock still comes back to where it left off"
        );
    }

    #[test]
    fn after_a_month_a_leap_was_time_that_had_passed() {
        let moments = (100..140).fold(signed(0), |moments, day| moments.with(at(24 * day)));
        assert_eq!(moments.allows(at(2)), None);
    }
}
