//! What the Director says to which vehicle and to which of its ECUs.

use super::rig::{Rig, play_row};
use super::vehicle::lab;
use crate::hostile::attack::{Expect, Row};
use crate::hostile::rows;
use crate::hostile::vehicle::{PRIMARY, SECONDARY};

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

/// What nobody assigned is not even fetched.
#[test]
fn at_38_extraneous_dependencies() {
    for attack in rows::row("AT-38", lab()) {
        let mut rig = Rig::new();
        for step in &attack.steps {
            rig.expect(step);
            let requests = rig.server.requests();
            let images: Vec<_> =
                requests.iter().filter(|path| path.starts_with("/repo/targets/")).collect();
            assert!(!images.is_empty(), "{}", attack.id());
            let is_assigned =
                |path: &&String| path.contains("/gateway/") || path.contains("/brake/");
            assert!(images.iter().all(is_assigned), "{}: {images:?}", attack.id());
        }
    }
}

/// A Primary in the hands of a thief, who has its old state back, serves an old bundle to a
/// Secondary: a Secondary that verifies fully knows better, and the Director hears of it.
#[test]
fn at_20_mixed_bundles() {
    let row = Row::new(lab(), "AT-20");
    let [first, mut second] = [row.honest.clone(), row.honest.clone()];
    second.update();
    let mut third = second.clone();
    third.update();
    let mut rig = Rig::new();
    rig.expect(&first.step(Expect::Updated));
    let folder = tempfile::tempdir().unwrap();
    rig.vehicle.save(&PRIMARYS_OWN, folder.path());
    rig.expect(&second.step(Expect::Updated));
    rig.expect(&third.step(Expect::Updated));
    rig.vehicle.restore(&PRIMARYS_OWN, folder.path());
    rig.expect(&second.step(Expect::RefusedBy("rollback", SECONDARY)));
    let manifest = rig.server.last_manifest().unwrap();
    assert_eq!(
        manifest.report_of(SECONDARY)["attacks_detected"],
        "rollback",
        "the Secondary says so itself"
    );
    assert_eq!(manifest.report_of(PRIMARY)["installed_image"]["filepath"], "gateway/3/gateway.bin");
    third.update();
    rig.expect(&third.step(Expect::Updated));
}

/// What a thief has who restores a Primary's memory: all but the Secondary's own folder.
const PRIMARYS_OWN: [&str; 2] = ["trust", "state.json"];

#[test]
fn at_11_partial_bundle() {
    play_row("AT-11");
}
