//! How long a server wants to be left alone (RFC 9110, 10.2.3).

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use motorcade_model::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// The time that an answer asks for, in seconds or as a date; a day at most: nobody may talk a
/// vehicle into silence for ever.
///
/// It is asked for by who has too much to do (RFC 9110, 15.6.4; RFC 6585, 4). With a redirection it
/// says when to follow that, which is done at once, and with any other status it says nothing.
///
/// A date counts from the date of the answer, so that the vehicle's clock does not matter.
pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let is_busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if is_busy { read(headers) } else { None }
}

fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wanted = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // More than there are.
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => LONGEST,
        Err(_) => {
            let until = date(text)?.duration_since(date(headers_text(headers, DATE)?)?);
            Duration::try_from(until).unwrap_or_default() // it has passed
        }
    };
    Some(wanted.min(LONGEST))
}

fn headers_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

const LONGEST: Duration = Duration::from_secs(24 * 60 * 60); // a day

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        read(&headers).map(|time| time.as_secs())
    }

    #[test]
    fn only_who_is_busy_is_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "120".parse().unwrap());
        for status in 200..600 {
            let asked = of(StatusCode::from_u16(status).unwrap(), &headers);
            let is_busy = status == 429 || status == 503;
            assert_eq!(asked.is_some(), is_busy, "{status}");
        }
    }

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        assert_eq!(asked("120"), Some(120));
        assert_eq!(asked("0"), Some(0));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "it has passed");
        assert_eq!(asked("Mon, 06 Nov 2034 08:00:00 GMT"), Some(86_400));
        for much in ["86401", "18446744073709551615", "99999999999999999999999"] {
            assert_eq!(asked(much), Some(86_400), "{much}");
        }
        for other in ["soon", "-1", "1.5", "", "06 Nov"] {
            assert_eq!(asked(other), None, "{other}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
        let mut undated = HeaderMap::new();
        undated.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT".parse().unwrap());
        assert_eq!(read(&undated), None);
    }
}
