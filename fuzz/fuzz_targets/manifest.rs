//! A vehicle version manifest: the short way of reading one takes no more than the long way, and
//! reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_uptane::manifest::{MAX_ECUS, MAX_MANIFEST_SIZE, VehicleManifest};

fuzz_target!(|input: &[u8]| {
    // White space in front keeps it from the short way.
    let other = [b" ", input].concat();
    if other.len() > MAX_MANIFEST_SIZE {
        return;
    }
    match (VehicleManifest::parse(input), VehicleManifest::parse(&other)) {
        (Ok(manifest), Ok(other)) => {
            assert!(manifest.content.reports.len() <= MAX_ECUS);
            assert_eq!(format!("{manifest:?}"), format!("{other:?}"));
        }
        (Err(_), Err(_)) => {}
        (one, other) => panic!("{one:?} and {other:?}"),
    }
});
