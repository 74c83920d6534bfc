//! `multipart/byteranges` (RFC 9110, 14.6): the bytes around the parts of a 206, and their exact
//! length.
//!
//! Pure but for the random boundary. The parts' own bytes never pass through here: a caller writes,
//! for each part, its preamble and then its bytes, and at the end the closing.

use std::fmt;

use rand::RngExt;

use super::range::{ByteRange, content_range};

/// The framing of one `multipart/byteranges` body.
#[derive(Clone, Debug)]
pub struct ByteRanges {
    parts: Vec<Part>,
    closing: String,
    boundary: Boundary,
}

/// One part: what stands before its bytes, and which bytes they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Delimiter and header fields, up to and with the empty line.
    pub preamble: String,
    /// The bytes of the representation that follow the preamble.
    pub range: ByteRange,
}

impl ByteRanges {
    /// Frames parts of a representation of `length` bytes.
    ///
    /// `content_type` is the representation's own and **must** be fit for a header field.
    pub fn new(ranges: &[ByteRange], content_type: &str, length: u64, boundary: Boundary) -> Self {
        let mut delimiter = format!("--{boundary}");
        let mut parts = Vec::with_capacity(ranges.len());
        for &range in ranges {
            let content_range = content_range(range, length);
            let preamble = format!(
                "{delimiter}\r\nContent-Type: {content_type}\r\nContent-Range: {content_range}\r\n\r\n"
            );
            parts.push(Part { preamble, range });
            // The line break before every later delimiter belongs to it, not to the part (RFC 2046,
            // 5.1.1).
            delimiter = format!("\r\n--{boundary}");
        }
        let closing = format!("{delimiter}--\r\n");
        Self { parts, closing, boundary }
    }

    /// The parts in the order in which they are sent.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What ends the body.
    pub fn closing(&self) -> &str {
        &self.closing
    }

    /// The exact `Content-Length` of the body.
    pub fn content_length(&self) -> u64 {
        let part_length = |part: &Part| part.preamble.len() as u64 + part.range.len();
        self.parts.iter().map(part_length).sum::<u64>() + self.closing.len() as u64
    }

    /// The `Content-Type` of the response.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }
}

/// What delimits the parts of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Makes a boundary of 128 random bits, so that nobody can plant it in an image beforehand.
    pub fn random() -> Self {
        Self(hex::encode(rand::rng().random::<[u8; 16]>()))
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::range::{RangeRequest, parse_range};
    use super::*;

    fn body_of(framing: &ByteRanges, whole: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in framing.parts() {
            body.extend_from_slice(part.preamble.as_bytes());
            body.extend_from_slice(&whole[part.range.start as usize..part.range.end as usize]);
        }
        body.extend_from_slice(framing.closing().as_bytes());
        body
    }

    /// Reads a body as RFC 2046 has it, trusting only the boundary and each part's `Content-Range`.
    fn read_parts(body: &[u8], content_type: &str) -> Vec<(u64, Vec<u8>)> {
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let body = [b"\r\n", body].concat();
        let mut starts: Vec<_> =
            (0..body.len()).filter(|&i| body[i..].starts_with(&delimiter)).collect();
        let closing = starts.pop().unwrap();
        assert_eq!(&body[closing + delimiter.len()..], b"--\r\n");
        let ends = starts.iter().skip(1).chain([&closing]);
        let part = |(&start, &end): (&usize, &usize)| {
            let part = &body[start + delimiter.len()..end];
            let split = part.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
            let fields = std::str::from_utf8(&part[..split]).unwrap();
            let range = fields.split("Content-Range: bytes ").nth(1).unwrap();
            (range.split('-').next().unwrap().parse().unwrap(), part[split + 4..].to_vec())
        };
        starts.iter().zip(ends).map(part).collect()
    }

    #[test]
    fn frames_the_example_of_the_specification() {
        let ranges = [ByteRange { start: 500, end: 1000 }, ByteRange { start: 7000, end: 8000 }];
        let boundary = Boundary("THIS_STRING_SEPARATES".to_owned());
        let framing = ByteRanges::new(&ranges, "application/pdf", 8000, boundary);
        assert_eq!(framing.content_type(), "multipart/byteranges; boundary=THIS_STRING_SEPARATES");
        assert_eq!(
            framing.parts()[0].preamble,
            "--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n\
             Content-Range: bytes 500-999/8000\r\n\r\n"
        );
        assert_eq!(
            framing.parts()[1].preamble,
            "\r\n--THIS_STRING_SEPARATES\r\nContent-Type: application/pdf\r\n\
             Content-Range: bytes 7000-7999/8000\r\n\r\n"
        );
        assert_eq!(framing.closing(), "\r\n--THIS_STRING_SEPARATES--\r\n");
    }

    #[test]
    fn boundaries_differ_and_are_tokens() {
        let boundary = Boundary::random().to_string();
        assert_eq!(boundary.len(), 32);
        assert!(boundary.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(boundary, Boundary::random().to_string());
    }

    proptest! {
        #[test]
        fn range_reads_equal_slices_of_the_whole(
            whole in proptest::collection::vec(any::<u8>(), 1..300),
            specs in proptest::collection::vec((0u64..300, 0u64..40), 1..8),
        ) {
            let set: Vec<_> = specs.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
            let header = format!("bytes={}", set.join(","));
            let RangeRequest::Parts(ranges) = parse_range(header.as_bytes(), whole.len() as u64) else {
                return Ok(());
            };
            let length = whole.len() as u64;
            let framing = ByteRanges::new(&ranges, "application/octet-stream", length, Boundary::random());
            let body = body_of(&framing, &whole);
            prop_assert_eq!(framing.content_length(), body.len() as u64);
            let expected: Vec<_> = ranges
                .iter()
                .map(|range| (range.start, whole[range.start as usize..range.end as usize].to_vec()))
                .collect();
            prop_assert_eq!(read_parts(&body, &framing.content_type()), expected);
        }
    }
}
