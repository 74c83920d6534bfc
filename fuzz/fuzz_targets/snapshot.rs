//! Snapshot metadata, as it comes and as the members of one that is signed: one that is taken has
//! the version that is listed, and is the current one when it is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::signer::{file_of, with_snapshot_listed};

fuzz_target!(|input: &[u8]| {
    let Some((content, file)) = file_of("snapshot", input) else {
        let mut set = with_snapshot_listed(&1.into()).expect("it is listed");
        assert!(set.update_snapshot(input).is_err(), "nobody has signed it");
        return;
    };
    let Some(mut set) = with_snapshot_listed(&content["version"]) else { return };
    match set.update_snapshot(&file) {
        Ok(()) => {
            assert_eq!(set.load_stored_snapshot(&file), Ok(true));
            for name in content["meta"].as_object().expect("it was taken").keys() {
                let Some(Ok(role)) = name.strip_suffix(".json").map(str::parse) else { continue };
                if let Ok((version, _)) = set.expected_targets(&role) {
                    assert_eq!(content["meta"][name]["version"].as_u64(), Some(version));
                }
            }
        }
        Err(_) => assert!(set.expected_targets(&"targets".parse().expect("it is a role")).is_err()),
    }
});
