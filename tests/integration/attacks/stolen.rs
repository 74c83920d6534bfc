//! Stolen keys, and how far each gets.

use motorcade::model::{Clock, SystemClock};
use motorcade::uptane::verify::{Rules, TrustedSet, verify_partial};

use super::rig::play_row;
use super::vehicle::lab;
use crate::hostile::rows;

#[test]
fn at_22_directors_keys_stolen() {
    play_row("AT-22");
}

/// Documented limit: a Secondary that verifies partially has the Director's word alone, and
/// believes it.
#[test]
fn at_22_limit_partial_verification_believes_the_director() {
    let attacks = rows::row("AT-22", lab());
    let attack = attacks.iter().find(|attack| attack.variant == "unknown-file").unwrap();
    let director = &attack.steps[1].site.director;
    let vin = lab().vehicle.vin.parse().unwrap();
    let rules = Rules::Director { vin, ecus: None };
    let set = TrustedSet::new(&director["1.root.json"], rules, SystemClock.now()).unwrap();
    let latest = director.iter().rfind(|(name, _)| name.ends_with(".targets.json")).unwrap().1;
    let (_, targets) = verify_partial(&set, 0, latest).unwrap();
    assert!(targets.contains_key("evil/9/evil.bin"), "{:?}", targets.keys());
}

#[test]
fn at_23_image_repositorys_online_keys_stolen() {
    play_row("AT-23");
}

#[test]
fn at_24_suppliers_key_stolen() {
    play_row("AT-24");
}

/// Documented limit: with both repositories' targets keys gone, nothing is left that could tell.
/// The image is accepted.
#[test]
fn at_25_limit_director_and_image_targets_keys_stolen() {
    play_row("AT-25");
}
