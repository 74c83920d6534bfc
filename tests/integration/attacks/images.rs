//! Images and envelopes that are not what they should be.

use super::rig::play_row;

#[test]
fn at_02_encryption_downgrade() {
    play_row("AT-2");
}

#[test]
fn at_03_data_key_transplant_and_ciphertext_swap() {
    play_row("AT-3");
}

#[test]
fn at_36_image_for_other_hardware() {
    play_row("AT-36");
}

#[test]
fn at_37_images_under_each_others_names() {
    play_row("AT-37");
}
