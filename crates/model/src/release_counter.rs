//! Release counters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::name::ParseFieldError;

/// Release counter: never goes down for a vehicle's ECU (Uptane 2.1.0, 5.4.4.2 step 10).
///
/// At most 2^53 − 1, so that every JSON reader holds it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ReleaseCounter(u64);

impl ReleaseCounter {
    /// The counter's value.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for ReleaseCounter {
    type Error = ParseFieldError;

    fn try_from(value: u64) -> Result<Self, Self::Error> {
        if value > (1 << 53) - 1 { Err(ParseFieldError::ReleaseCounter) } else { Ok(Self(value)) }
    }
}

impl From<ReleaseCounter> for u64 {
    fn from(counter: ReleaseCounter) -> Self {
        counter.0
    }
}

impl FromStr for ReleaseCounter {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u64>().map_err(|_| ParseFieldError::ReleaseCounter)?.try_into()
    }
}

impl fmt::Display for ReleaseCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_counter_fits_every_json_reader() {
        assert_eq!("9007199254740991".parse::<ReleaseCounter>().map(u64::from), Ok((1 << 53) - 1));
        for text in ["9007199254740992", "-1", "1.0", ""] {
            assert_eq!(
                text.parse::<ReleaseCounter>(),
                Err(ParseFieldError::ReleaseCounter),
                "{text}"
            );
        }
    }
}
