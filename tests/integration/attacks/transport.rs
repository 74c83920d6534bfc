//! Servers that send too much, too little or too slowly.

use super::rig::play_row;

#[test]
fn at_05_slow_retrieval() {
    play_row("AT-5");
}

#[test]
fn at_16_endless_data() {
    play_row("AT-16");
}
