//! `Repr-Digest`, a structured field: a digest that is read is the last one that the field has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::repr_digest::parse;

fuzz_target!(|text: &str| {
    let Ok(sha256) = parse(text) else { return };
    let last = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    let replaced = parse(&format!("{text},{last}")).expect("one more member is a dictionary");
    assert_eq!(Ok(replaced), parse(last));
    assert_eq!(parse(&format!("{last},{text}")), Ok(sha256));
});
