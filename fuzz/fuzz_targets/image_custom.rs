//! The signed custom object: what can be read is written so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::custom::ImageCustom;

fuzz_target!(|input: &[u8]| {
    let Ok(custom) = serde_json::from_slice::<ImageCustom>(input) else { return };
    let again: ImageCustom =
        serde_json::from_str(&custom.to_json()).expect("our own JSON can be read");
    assert_eq!(again, custom);
});
