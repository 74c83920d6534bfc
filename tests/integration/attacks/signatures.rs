//! Arbitrary software: whoever has no key, or not enough of them.

use super::rig::play_row;

#[test]
fn at_21_arbitrary_software_without_keys() {
    play_row("AT-21");
}
