//! Delegations: their number, their order, and who has to agree.

use super::rig::play_row;

#[test]
fn at_17_wide_and_cyclic_delegations() {
    play_row("AT-17");
}

#[test]
fn at_46_priority_and_terminating_delegations() {
    play_row("AT-46");
}

#[test]
fn at_47_multi_role_delegation_with_a_role_withheld() {
    play_row("AT-47");
}

#[test]
fn at_48_removed_delegation_missing_in_snapshot() {
    play_row("AT-48");
}
