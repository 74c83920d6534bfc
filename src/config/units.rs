//! Numbers with units and bounds, read the same way from a flag, a variable and a file.

use std::str::FromStr;
use std::time::Duration;

/// A time from `MIN` to `MAX` seconds. A number without a unit counts `UNIT` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<const UNIT: u64, const MIN: u64, const MAX: u64>(u64);

impl<const UNIT: u64, const MIN: u64, const MAX: u64> Span<UNIT, MIN, MAX> {
    /// The time.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<const UNIT: u64, const MIN: u64, const MAX: u64> FromStr for Span<UNIT, MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or(TIME_FORM)?;
        let factor = match unit {
            "" => UNIT,
            "s" => 1,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(TIME_FORM.into()),
        };
        let seconds = number.checked_mul(factor).filter(|seconds| (MIN..=MAX).contains(seconds));
        seconds.map(Self).ok_or_else(|| format!("it must be from {} to {}", time(MIN), time(MAX)))
    }
}

/// From `MIN` to `MAX` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bytes<MIN, MAX> {
    /// How many.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Bytes<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text).ok_or(SIZE_FORM)?;
        let factor = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "K" | "KiB" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            _ => return Err(SIZE_FORM.into()),
        };
        let bytes = number.checked_mul(factor).filter(|bytes| (MIN..=MAX).contains(bytes));
        bytes.map(Self).ok_or_else(|| format!("it must be from {MIN} to {MAX} bytes"))
    }
}

/// Digits, and what stands behind them.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    // More digits than a u64 has are more than any bound.
    let number = if digits > 19 { u64::MAX } else { text[..digits].parse().ok()? };
    Some((number, text[digits..].trim_start()))
}

/// Seconds for people.
fn time(seconds: u64) -> String {
    match seconds {
        0 => "0s".into(),
        _ if seconds.is_multiple_of(DAY) => format!("{}d", seconds / DAY),
        _ if seconds.is_multiple_of(HOUR) => format!("{}h", seconds / HOUR),
        _ if seconds.is_multiple_of(MINUTE) => format!("{}m", seconds / MINUTE),
        _ => format!("{seconds}s"),
    }
}

const TIME_FORM: &str = "write a number with one of the units s, m, h and d, such as 90s or 2h";
const SIZE_FORM: &str =
    "write a number with one of the units B, KiB, MiB, GiB, TiB, kB, MB, GB and TB, such as 16GiB";
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_take_units_and_have_bounds() {
        let seconds =
            |text: &str| text.parse::<Span<1, 1, 86_400>>().map(|span| span.duration().as_secs());
        assert_eq!(["60", "60s", "1m", " 1 min "].map(|text| seconds(text).unwrap()), [60; 4]);
        assert_eq!(seconds("24h").unwrap(), 86_400);
        assert_eq!(seconds("1d").unwrap(), 86_400);
        for text in ["", "s", "-1", "1.5h", "1w", "60 s s", "0x10", "6_0"] {
            assert_eq!(seconds(text).unwrap_err(), TIME_FORM, "{text}");
        }
        for text in [
            "0",
            "0s",
            "25h",
            "18446744073709551615",
            "99999999999999999999999",
            "18446744073709551615d",
        ] {
            assert_eq!(seconds(text).unwrap_err(), "it must be from 1s to 1d", "{text}");
        }
        let hours: Span<3600, 3600, 36_000> = "2".parse().unwrap();
        assert_eq!(hours.duration(), Duration::from_secs(7200));
    }

    #[test]
    fn sizes_take_units_and_have_bounds() {
        let bytes = |text: &str| text.parse::<Bytes<1, { 1 << 40 }>>().map(Bytes::get);
        assert_eq!(bytes("17179869184").unwrap(), bytes("16GiB").unwrap());
        assert_eq!(bytes("2 kB").unwrap(), 2000);
        assert_eq!(bytes("2K").unwrap(), 2048);
        assert_eq!(bytes("1TiB").unwrap(), 1 << 40);
        for text in ["", "GiB", "1.5GiB", "-1", "16gigabytes", "16 GiB/s"] {
            assert_eq!(bytes(text).unwrap_err(), SIZE_FORM, "{text}");
        }
        for text in ["0", "2TiB", "18446744073709551615GiB", "99999999999999999999999"] {
            assert_eq!(
                bytes(text).unwrap_err(),
                "it must be from 1 to 1099511627776 bytes",
                "{text}"
            );
        }
    }
}
