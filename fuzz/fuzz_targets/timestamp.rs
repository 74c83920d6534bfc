//! Timestamp metadata, as it comes and as the members of one that is signed: one that is taken is
//! taken once, and names a snapshot.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::signer::{file_of, trusted};
use motorcade_uptane::verify::Freshness;

fuzz_target!(|input: &[u8]| {
    let mut set = trusted();
    assert!(set.update_timestamp(input).is_err(), "nobody has signed it");
    let Some((content, file)) = file_of("timestamp", input) else { return };
    match set.update_timestamp(&file) {
        Ok(freshness) => {
            assert_eq!(freshness, Freshness::New);
            let listed = &content["meta"]["snapshot.json"]["version"];
            assert!(listed.as_u64().is_some_and(|version| version > 0));
            if let Ok((version, _)) = set.expected_snapshot() {
                assert_eq!(listed.as_u64(), Some(version));
            }
            assert_eq!(set.update_timestamp(&file), Ok(Freshness::Same));
        }
        Err(_) => assert!(set.expected_snapshot().is_err()),
    }
});
