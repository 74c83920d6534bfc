//! HTTP dates (RFC 9110, 5.6.7): whole seconds, written as IMF-fixdate, read in all three forms.
//!
//! Owns the range in which a date can be written at all, so that an odd file time never becomes a
//! panic.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// A moment in whole seconds since 1970 that has an IMF-fixdate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpDate {
    unix_secs: u64,
}

impl HttpDate {
    /// Takes seconds since 1970; a moment after the year 9999 becomes its last second.
    pub fn from_unix_secs(unix_secs: u64) -> Self {
        Self { unix_secs: unix_secs.min(LAST_SECOND) }
    }

    /// Reads an HTTP-date in any of the three forms; `None` means that the field **must** be
    /// ignored.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        httpdate::parse_http_date(text.trim_ascii()).ok().map(Self::from)
    }

    /// Seconds since 1970.
    pub fn unix_secs(self) -> u64 {
        self.unix_secs
    }
}

impl From<Timestamp> for HttpDate {
    /// Drops the fraction of the second; a moment before 1970 becomes 1970.
    fn from(time: Timestamp) -> Self {
        Self::from_unix_secs(u64::try_from(time.as_second()).unwrap_or(0))
    }
}

impl From<SystemTime> for HttpDate {
    /// The same.
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_secs(since_epoch.as_secs())
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.unix_secs);
        write!(f, "{}", httpdate::HttpDate::from(time))
    }
}

/// 9999-12-31T23:59:59Z: IMF-fixdate has four digits for the year.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_all_three_forms_of_the_specification() {
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let date = HttpDate::parse(form.as_bytes()).unwrap();
            assert_eq!(date.unix_secs(), 784_111_777, "{form}");
            assert_eq!(date.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
        }
    }

    #[test]
    fn odd_file_times_are_clamped() {
        let before = HttpDate::from(UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(before.to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
        let after = HttpDate::from_unix_secs(u64::MAX);
        assert_eq!(after.to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(unix_secs in 0..=LAST_SECOND) {
            let date = HttpDate::from_unix_secs(unix_secs);
            prop_assert_eq!(HttpDate::parse(date.to_string().as_bytes()), Some(date));
        }

        #[test]
        fn no_input_panics(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = HttpDate::parse(&value);
        }
    }
}
