//! How often a transfer is begun again before it is given up, and what is then said of it.
//!
//! A tunnel, a suspended vehicle and a server that was paused look alike: nothing comes for a
//! while. That is no attack, and the transfer goes on where it stopped. Only bytes that trickle,
//! for long and in each of several tries, are slow retrieval (Uptane 2.1.0, 5.4.3.3; AT-5).

use std::time::Duration;

use super::http_error::HttpError;

/// The tries of one transfer.
#[derive(Debug)]
pub(super) struct Tries {
    /// Most of each kind.
    most: Most,
    cuts: u32,
    stalls: u32,
    slow: u32,
}

/// How many tries may end in one way.
#[derive(Debug, Clone, Copy)]
struct Most {
    cuts: u32,
    stalls: u32,
    slow: u32,
}

impl Tries {
    /// Of a file of metadata. A cut one is fetched again by the next update.
    pub(super) fn of_small_file() -> Self {
        Self::new(Most { cuts: 1, stalls: 2, slow: 2 })
    }

    /// Of an image.
    pub(super) fn of_download() -> Self {
        Self::new(Most { cuts: 8, stalls: 4, slow: 3 })
    }

    fn new(most: Most) -> Self {
        Self { most, cuts: 0, stalls: 0, slow: 0 }
    }

    /// More has come than ever before: what went wrong until then does not count any more.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.most);
    }

    /// Whether another try is due after this failure; `sleep`s until it is.
    pub(super) fn again(
        &mut self,
        failure: &HttpError,
        sleep: impl FnOnce(Duration) -> Result<(), HttpError>,
    ) -> Result<bool, HttpError> {
        let (made, most) = match failure {
            HttpError::Network { .. } => (&mut self.cuts, self.most.cuts),
            HttpError::Stalled { .. } => (&mut self.stalls, self.most.stalls),
            HttpError::TooSlow { .. } => (&mut self.slow, self.most.slow),
            HttpError::Client { .. } | HttpError::Status { .. } | HttpError::Unexpected { .. } => {
                return Ok(false);
            }
            HttpError::Redirect { .. } | HttpError::Held { .. } => return Ok(false),
            HttpError::Stopped | HttpError::TooLarge { .. } => {
                return Ok(false);
            }
        };
        *made += 1;
        if *made >= most {
            return Ok(false);
        }
        sleep(pause(self.cuts + self.stalls + self.slow, rand::random()))?;
        Ok(true)
    }
}

/// Longer each time, and not the same for a fleet that was cut off at once.
fn pause(failures: u32, random: u32) -> Duration {
    let pause = FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST_PAUSE);
    pause.mul_f64(0.75 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(pause(1, u32::MAX / 2).as_millis(), 250);
        assert!(pause(2, 0) < pause(3, 0));
        assert!(pause(60, u32::MAX) < LONGEST_PAUSE * 2);
    }
}
