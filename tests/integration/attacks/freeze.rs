//! Time: files that are out of date, clocks that lie, mirrors that lag.

use super::rig::play_row;

#[test]
fn at_06_freeze() {
    play_row("AT-6");
}

#[test]
fn at_07_freeze_by_holding_back_time() {
    play_row("AT-7");
}

#[test]
fn at_08_time_far_in_the_future() {
    play_row("AT-8");
}

#[test]
fn at_39_lagging_mirror() {
    play_row("AT-39");
}
