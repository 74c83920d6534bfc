//! Time: files that are out of date, clocks that lie, mirrors that lag.

use super::rig::{Rig, play_row};
use super::vehicle::lab;
use crate::hostile::attack::{Expect, Row};

#[test]
fn at_06_freeze() {
    play_row("AT-6");
}

#[test]
fn at_07_freeze_by_holding_back_time() {
    play_row("AT-7");
}

/// Nor is anything believed without a time.
#[test]
fn at_07_no_time_no_update() {
    let row = Row::new(lab(), "AT-7");
    let mut rig = Rig::new();
    rig.expect(&row.honest.step(Expect::Updated).at("2030-06-01T00:00:00Z"));
    let mut next = row.honest.clone();
    next.update();
    for clock in ["", "yesterday", "2030-06-02"] {
        let outcome = rig.update(&next.step(Expect::Updated).at(clock));
        assert_eq!(
            (outcome.outcome.as_str(), &outcome.attack),
            ("failed", &None),
            "{clock:?}: {outcome}"
        );
        rig.check_installed().unwrap();
    }
    rig.expect(&next.step(Expect::Updated).at("2030-06-02T00:00:00Z"));
}

#[test]
fn at_08_time_far_in_the_future() {
    play_row("AT-8");
}

#[test]
fn at_39_lagging_mirror() {
    play_row("AT-39");
}
