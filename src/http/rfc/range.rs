//! The `Range` field for the `bytes` unit (RFC 9110, section 14), against a length that is known.
//!
//! Pure: bytes in, ranges out. A field that is absent, of another unit, malformed or greedy asks
//! for the whole representation, since 14.2 lets a server ignore it. What comes out is disjoint and
//! within the length, so a response never carries more than the representation plus the framing of
//! [`MAX_RANGES`] parts (the attack of RFC 9110, 17.15).

use std::fmt;

/// Bytes `start..end` of a representation; never empty when it comes from [`parse_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset after the last byte.
    pub end: u64,
}

impl ByteRange {
    /// Number of bytes in the range.
    pub fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether the range holds no byte, which a `Content-Range` cannot express.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The smallest range that holds both, if they overlap or touch.
    fn joined_with(self, other: Self) -> Option<Self> {
        (self.start <= other.end && other.start <= self.end)
            .then(|| Self { start: self.start.min(other.start), end: self.end.max(other.end) })
    }
}

/// What a `Range` field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// The whole representation: the field is ignored.
    Whole,
    /// One or more disjoint parts, in the order asked for.
    Parts(Vec<ByteRange>),
    /// Nothing within the representation: 416.
    Unsatisfiable,
}

/// Reads the value of a `Range` field for a representation of `length` bytes.
pub fn parse_range(header: &[u8], length: u64) -> RangeRequest {
    let Some(specs) = parse_specs(header) else {
        return RangeRequest::Whole;
    };
    let asks_for_suffix = |spec: &RangeSpec| matches!(spec, RangeSpec::Suffix(1..));
    if length == 0 && specs.iter().any(asks_for_suffix) {
        // RFC 9110, 14.1.2 calls this satisfiable, but a Content-Range for no bytes does not exist.
        return RangeRequest::Whole;
    }
    let parts = coalesce(specs.into_iter().filter_map(|spec| spec.within(length)));
    if parts.is_empty() {
        return RangeRequest::Unsatisfiable;
    }
    RangeRequest::Parts(parts)
}

/// The value of `Content-Range` for a part of a representation of `length` bytes.
pub fn content_range(range: ByteRange, length: u64) -> impl fmt::Display {
    let ByteRange { start, end } = range;
    fmt::from_fn(move |f| write!(f, "bytes {start}-{}/{length}", end.saturating_sub(1)))
}

/// The value of `Content-Range` that goes with a 416 (RFC 9110, 15.5.17).
pub fn unsatisfied_content_range(length: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| write!(f, "bytes */{length}"))
}

/// One element of a range-set, as written.
#[derive(Clone, Copy)]
enum RangeSpec {
    From(u64),
    Closed { first: u64, last: u64 },
    Suffix(u64),
}

impl RangeSpec {
    /// The bytes of a representation of `length` that it names, if any (RFC 9110, 14.1.2).
    fn within(self, length: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::From(first) => (first, length),
            Self::Closed { first, last } => (first, last.saturating_add(1).min(length)),
            Self::Suffix(count) => (length.saturating_sub(count), length),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// Reads `bytes=` and its range-set; `None` for another unit, for what is malformed and for too
/// many ranges.
fn parse_specs(header: &[u8]) -> Option<Vec<RangeSpec>> {
    let (unit, range_set) = trim_ows(header).split_at_checked(UNIT.len())?;
    if !unit.eq_ignore_ascii_case(UNIT) || range_set.len() > MAX_RANGE_SET {
        return None;
    }
    // A list may have empty elements and blanks around its commas (RFC 9110, 5.6.1.2).
    let specs = range_set
        .split(|&byte| byte == b',')
        .map(trim_ows)
        .filter(|element| !element.is_empty())
        .map(parse_spec)
        .collect::<Option<Vec<_>>>()?;
    (1..=MAX_RANGES).contains(&specs.len()).then_some(specs)
}

fn trim_ows(element: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = element.iter().take_while(|byte| is_ows(byte)).count();
    let (_, element) = element.split_at(start);
    let end = element.len() - element.iter().rev().take_while(|byte| is_ows(byte)).count();
    element.split_at(end).0
}

fn parse_spec(element: &[u8]) -> Option<RangeSpec> {
    let dash = element.iter().position(|&byte| byte == b'-')?;
    let (first, rest) = element.split_at(dash);
    let last = rest.strip_prefix(b"-")?;
    match (first, last) {
        (b"", count) => parse_digits(count).map(RangeSpec::Suffix),
        (first, b"") => parse_digits(first).map(RangeSpec::From),
        (first, last) => {
            let (first, last) = (parse_digits(first)?, parse_digits(last)?);
            (first <= last).then_some(RangeSpec::Closed { first, last })
        }
    }
}

/// Reads `1*DIGIT`. A number past 64 bits is past the end of anything, so it stops at the largest.
fn parse_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Some(value)
}

/// Joins ranges that overlap or touch (RFC 9110, 15.3.7.2); each result stands where its first
/// member stood.
fn coalesce(ranges: impl Iterator<Item = ByteRange>) -> Vec<ByteRange> {
    let mut parts: Vec<ByteRange> = Vec::new();
    for mut range in ranges {
        let mut position = parts.len();
        // A range can bridge several earlier ones, and grow into more of them each time it does.
        while let Some((index, joined)) = parts
            .iter()
            .enumerate()
            .find_map(|(index, part)| Some((index, part.joined_with(range)?)))
        {
            range = joined;
            position = position.min(index);
            parts.remove(index);
        }
        parts.insert(position.min(parts.len()), range);
    }
    parts
}

/// Ranges honoured in one request; a field with more is ignored.
pub const MAX_RANGES: usize = 16;
/// Longest range-set looked at, in bytes: room for [`MAX_RANGES`] pairs of 64-bit numbers.
const MAX_RANGE_SET: usize = 1024;
const UNIT: &[u8] = b"bytes=";

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
