//! A path, a line end, and delegations: whoever is to be asked for the path is somebody whose keys
//! are known, and patterns of any form come to an end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::signer::{file_of, trusted};
use motorcade_uptane::verify::Search;
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (path, delegations) = (&input[..end], &input[end + 1..]);
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Ok(delegations) = serde_json::from_slice::<Value>(delegations) else { return };
    let members = json!({ "targets": {}, "delegations": delegations });
    let Some((_, file)) = file_of("targets", members.to_string().as_bytes()) else { return };
    let mut set = trusted();
    if set.adopt_targets(&file).is_err() {
        return;
    }
    for hardware_ids in [vec![], vec!["gw-mk3".parse().expect("it is an id")]] {
        match set.search(path, &hardware_ids) {
            Ok(Search::Needs { role, delegator }) => {
                assert_eq!(delegator.as_str(), "targets");
                let signers = set.delegated_signers(&role).expect("its keys are known");
                assert!(signers.threshold > 0);
            }
            Ok(Search::Missing) => {}
            other => panic!("{other:?}"),
        }
    }
});
