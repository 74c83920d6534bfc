//! Stolen keys, and how far each gets.

use super::rig::play_row;

#[test]
fn at_22_directors_keys_stolen() {
    play_row("AT-22");
}

#[test]
fn at_23_image_repositorys_online_keys_stolen() {
    play_row("AT-23");
}

#[test]
fn at_24_suppliers_key_stolen() {
    play_row("AT-24");
}

/// Documented limit: with both repositories' targets keys gone, nothing is left that could tell. The image is accepted.
#[test]
fn at_25_limit_director_and_image_targets_keys_stolen() {
    play_row("AT-25");
}
