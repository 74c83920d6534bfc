//! Versions that go back, stay or run away.

use super::rig::play_row;

#[test]
fn at_13_metadata_rollback() {
    play_row("AT-13");
}

#[test]
fn at_14_same_version_with_different_bytes() {
    play_row("AT-14");
}

#[test]
fn at_15_image_rollback_by_compromised_director() {
    play_row("AT-15");
}

#[test]
fn at_18_mix_and_match_of_metadata() {
    play_row("AT-18");
}

#[test]
fn at_31_fast_forward_and_recovery() {
    play_row("AT-31");
}
