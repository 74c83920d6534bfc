//! Files that two clients could read in two ways, and names that lead astray.

use super::rig::play_row;

#[test]
fn at_32_role_type_confusion() {
    play_row("AT-32");
}

#[test]
fn at_40_path_traversal_in_names() {
    play_row("AT-40");
}

#[test]
fn at_49_ambiguous_encodings() {
    play_row("AT-49");
}
