//! A length and a Range field: the parts lie within the length, hold something, and neither overlap
//! nor touch.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::range::{MAX_RANGES, RangeRequest, parse_range};

fuzz_target!(|input: &[u8]| {
    let Some((length, header)) = input.split_first_chunk::<8>() else { return };
    let length = u64::from_be_bytes(*length);
    let RangeRequest::Parts(mut parts) = parse_range(header, length) else { return };
    assert!((1..=MAX_RANGES).contains(&parts.len()));
    parts.sort_by_key(|part| part.start);
    assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
    assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
});
