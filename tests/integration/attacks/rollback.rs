//! Versions that go back, stay or run away.

use super::rig::play_row;

#[test]
fn at_13_metadata_rollback() {
    play_row("AT-13");
}
