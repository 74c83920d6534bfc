//! The chain of roots.

use super::rig::play_row;

#[test]
fn at_29_broken_root_chain() {
    play_row("AT-29");
}

#[test]
fn at_30_stolen_key_after_rotation() {
    play_row("AT-30");
}
