//! Targets metadata, as it comes and as the members of one that is signed: each target of one that
//! is taken is found, with the length that is listed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::signer::{file_of, with_targets_listed};
use motorcade_uptane::verify::{Search, assignments};

fuzz_target!(|input: &[u8]| {
    let Some((content, file)) = file_of("targets", input) else {
        let mut set = with_targets_listed(&1.into()).expect("it is listed");
        assert!(set.update_targets(input).is_err(), "nobody has signed it");
        return;
    };
    let Some(mut set) = with_targets_listed(&content["version"]) else { return };
    if set.update_targets(&file).is_err() {
        assert!(set.targets().is_none());
        return;
    }
    for (path, target) in set.targets().expect("they were taken") {
        assert_eq!(content["targets"][path]["length"].as_u64(), Some(target.length));
        assert_eq!(set.search(path, &[]), Ok(Search::Found(target)));
        let _ = assignments(path, target);
    }
});
