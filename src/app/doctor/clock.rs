//! The clock, compared with when something was signed last.

use std::time::Duration;

use super::Examination;
use crate::app::Error;
use crate::model::clock::{earlier, later};

impl Examination {
    pub(super) async fn clock(&mut self) -> Result<String, Error> {
        let now = self.now;
        let Some(signed) = self.catalog.find_moments().await?.signed else {
            return Ok(format!("{now}; nothing was signed yet"));
        };
        if now < earlier(signed, STEP) {
            self.error(
                format!("the clock says {now}, and something was signed at {signed}: nothing is signed until then"),
                "set the clock; if it is right now and was wrong then, stop the server and run `motorcade recover clock`",
            );
        } else if now > later(signed, SILENCE) {
            self.warn(
                format!("the clock says {now}, and nothing was signed since {signed}"),
                "if the server was off, start it; if this is a backup that was restored, run `motorcade recover versions` before \
                 you start it; if the clock is ahead, set it",
            );
        }
        Ok(format!("{now}; something was signed last at {signed}"))
    }
}

/// What a clock may be set back by without keeping anything from being signed.
const STEP: Duration = Duration::from_secs(5 * 60);
/// A running server signs a timestamp twice a day.
const SILENCE: Duration = Duration::from_secs(24 * 60 * 60);
