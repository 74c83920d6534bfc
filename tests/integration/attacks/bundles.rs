//! What the Director says to which vehicle and to which of its ECUs.

use super::rig::play_row;

#[test]
fn at_09_cross_vehicle_replay() {
    play_row("AT-9");
}

#[test]
fn at_10_cross_vehicle_version_jump() {
    play_row("AT-10");
}

#[test]
fn at_19_incompatible_set_from_compromised_director() {
    play_row("AT-19");
}

#[test]
fn at_34_director_that_delegates() {
    play_row("AT-34");
}

#[test]
fn at_35_duplicate_or_foreign_ecu() {
    play_row("AT-35");
}

#[test]
fn at_38_extraneous_dependencies() {
    play_row("AT-38");
}

#[test]
fn at_11_partial_bundle() {
    play_row("AT-11");
}
