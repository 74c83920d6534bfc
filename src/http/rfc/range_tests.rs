//! `Range` fields of every kind, good and hostile, against small lengths.

use proptest::prelude::*;

use super::RangeRequest::{Unsatisfiable, Whole};
use super::*;

fn parts(ranges: &[(u64, u64)]) -> RangeRequest {
    let part = |&(start, end)| ByteRange { start, end };
    RangeRequest::Parts(ranges.iter().map(part).collect())
}

#[track_caller]
fn check(header: &str, length: u64, expected: RangeRequest) {
    assert_eq!(parse_range(header.as_bytes(), length), expected, "{header}");
}

#[test]
fn single_ranges() {
    check("bytes=0-499", 10_000, parts(&[(0, 500)]));
    check("bytes=9500-", 10_000, parts(&[(9500, 10_000)]));
    check("bytes=-500", 10_000, parts(&[(9500, 10_000)]));
    check("bytes=0-0", 10_000, parts(&[(0, 1)]));
    check("bytes=-1", 10_000, parts(&[(9999, 10_000)]));
    check("bytes=0-", 10_000, parts(&[(0, 10_000)]));
    check("bytes=9999-10000", 10_000, parts(&[(9999, 10_000)]));
    check("bytes=-20000", 10_000, parts(&[(0, 10_000)]));
    check("BYTES=1-2", 10, parts(&[(1, 3)]));
    check(" bytes=1-2 ", 10, parts(&[(1, 3)]));
    check("bytes=007-008", 10, parts(&[(7, 9)]));
}

#[test]
fn nothing_to_satisfy() {
    check("bytes=10-", 10, Unsatisfiable);
    check("bytes=10-20", 10, Unsatisfiable);
    check("bytes=-0", 10, Unsatisfiable);
    check("bytes=-0,10-,99-100", 10, Unsatisfiable);
    check("bytes=0-", 0, Unsatisfiable);
    check("bytes=0-0", 0, Unsatisfiable);
    check("bytes=-0", 0, Unsatisfiable);
}

#[test]
fn empty_representation_with_a_suffix_is_whole() {
    check("bytes=-5", 0, Whole);
    check("bytes=0-,-5", 0, Whole);
}

#[test]
fn malformed_or_foreign_fields_are_ignored() {
    for header in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes= , ,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-4,5-4",
        "bytes=0-4;5-9",
        "bytes=0 - 4",
        "bytes=0- 4",
        "bytes =0-4",
        "bytes:0-4",
        "items=0-4",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1-2-3",
        "bytes=0-4, x",
        "bytes=0-4\n",
        "bytes=0-\u{b2}",
        "bytes=0-1,bytes=2-3",
        "bytes=\u{b}0-4",
    ] {
        check(header, 10_000, Whole);
    }
}

#[test]
fn numbers_past_64_bits_are_past_the_end() {
    check("bytes=18446744073709551615-", 10, Unsatisfiable);
    check("bytes=99999999999999999999999-", 10, Unsatisfiable);
    check("bytes=0-18446744073709551615", 10, parts(&[(0, 10)]));
    check("bytes=5-99999999999999999999999999", 10, parts(&[(5, 10)]));
    check("bytes=-99999999999999999999999999", 10, parts(&[(0, 10)]));
    check("bytes=0-18446744073709551615", u64::MAX, parts(&[(0, u64::MAX)]));
}

#[test]
fn several_ranges_keep_their_order() {
    check("bytes=0-0,-1", 10, parts(&[(0, 1), (9, 10)]));
    check("bytes=8-9,0-1,4-5", 10, parts(&[(8, 10), (0, 2), (4, 6)]));
    check("bytes=0-1,50-60,4-5", 10, parts(&[(0, 2), (4, 6)]));
    check("bytes=, 0-1 ,\t,  4-5\t,", 10, parts(&[(0, 2), (4, 6)]));
}

#[test]
fn overlapping_and_adjacent_ranges_are_joined() {
    check("bytes=500-600,601-999", 10_000, parts(&[(500, 1000)]));
    check("bytes=500-700,601-999", 10_000, parts(&[(500, 1000)]));
    check("bytes=0-9,20-29,5-24", 100, parts(&[(0, 30)]));
    check("bytes=90-,0-9,20-29,10-19", 100, parts(&[(90, 100), (0, 30)]));
    check("bytes=0-,0-,0-,-100", 100, parts(&[(0, 100)]));
}

#[test]
fn greedy_fields_are_ignored() {
    let list = |count: u64| {
        let specs: Vec<_> = (0..count).map(|i| format!("{0}-{0}", i * 2)).collect();
        format!("bytes={}", specs.join(","))
    };
    let honoured: Vec<_> = (0..16).map(|i| (i * 2, i * 2 + 1)).collect();
    check(&list(16), 10_000, parts(&honoured));
    check(&list(17), 10_000, Whole);
    check(&format!("bytes=0-0{}", ",".repeat(1021)), 10, parts(&[(0, 1)]));
    check(&format!("bytes=0-0{}", ",".repeat(1022)), 10, Whole);
}

#[test]
fn content_range_names_the_last_byte() {
    let range = ByteRange { start: 42, end: 1234 };
    assert_eq!(content_range(range, 1234).to_string(), "bytes 42-1233/1234");
    assert_eq!(unsatisfied_content_range(47).to_string(), "bytes */47");
}

proptest! {
    #[test]
    fn no_input_panics(header in proptest::collection::vec(any::<u8>(), 0..200), length: u64) {
        let _ = parse_range(&header, length);
    }

    #[test]
    fn parts_are_disjoint_not_empty_and_within_the_length(
        header in "bytes=(([0-9]{1,3}-[0-9]{0,3}|-[0-9]{1,3}), ?){1,12}",
        length in 0u64..1200,
    ) {
        let RangeRequest::Parts(parts) = parse_range(header.as_bytes(), length) else {
            return Ok(());
        };
        for (index, part) in parts.iter().enumerate() {
            prop_assert!(!part.is_empty() && part.end <= length);
            let is_apart = |other: &ByteRange| part.end < other.start || other.end < part.start;
            prop_assert!(parts.iter().skip(index + 1).all(is_apart));
        }
    }

    #[test]
    fn joining_keeps_exactly_the_bytes_asked_for(
        specs in proptest::collection::vec((0u64..80, 0u64..20), 1..=MAX_RANGES),
        length in 0u64..80,
    ) {
        let set: Vec<_> = specs.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        let asked = |byte| specs.iter().any(|(first, more)| (*first..=first + more).contains(&byte));
        let expected: Vec<_> = (0..length).filter(|&byte| asked(byte)).collect();
        let mut served = match parse_range(format!("bytes={}", set.join(",")).as_bytes(), length) {
            RangeRequest::Parts(parts) => parts.iter().flat_map(|part| part.start..part.end).collect(),
            Unsatisfiable => Vec::new(),
            Whole => return Err(TestCaseError::fail("ignored a good field")),
        };
        served.sort_unstable();
        prop_assert_eq!(served, expected);
    }
}
