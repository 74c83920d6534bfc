//! Arbitrary software: whoever has no key, or not enough of them.

use super::rig::play_row;

#[test]
fn at_21_arbitrary_software_without_keys() {
    play_row("AT-21");
}

#[test]
fn at_26_threshold_faked_with_one_key() {
    play_row("AT-26");
}

#[test]
fn at_27_threshold_that_protects_nothing() {
    play_row("AT-27");
}

#[test]
fn at_28_extra_bogus_signature_denies_nothing() {
    play_row("AT-28");
}

#[test]
fn at_33_key_id_that_is_not_the_keys_own() {
    play_row("AT-33");
}
