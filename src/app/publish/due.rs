//! Which roles need a new file.

use super::round::is_built_last;
use crate::catalog::RoleState;
use crate::model::{RoleName, Timestamp};
use crate::uptane::image_repo::ImageRepository;

/// Those that changed, or whose file is to be signed again, and whoever lists them. Root is renewed
/// by itself.
pub(super) fn due_roles(
    repository: &ImageRepository,
    states: &[RoleState],
    now: Timestamp,
) -> Vec<RoleName> {
    let is_due = |state: &&RoleState| {
        let is_old =
            state.version == 0 || repository.role_policy(&state.name).is_due(state.expires_at, now);
        state.name != RoleName::Root && (state.is_changed || is_old)
    };
    let mut due: Vec<RoleName> =
        states.iter().filter(is_due).map(|state| state.name.clone()).collect();
    let mut cascade = |role: RoleName, causes: fn(&RoleName) -> bool| {
        if !due.contains(&role) && due.iter().any(causes) {
            due.push(role);
        }
    };
    cascade(RoleName::Snapshot, |name| !is_built_last(name));
    cascade(RoleName::Timestamp, |name| *name == RoleName::Snapshot);
    due
}

/// All of them.
pub(super) fn all_roles(states: &[RoleState]) -> Vec<RoleName> {
    states
        .iter()
        .filter(|state| state.name != RoleName::Root)
        .map(|state| state.name.clone())
        .collect()
}
