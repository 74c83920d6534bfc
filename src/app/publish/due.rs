//! Which roles need a new file.

use super::round::is_built_last;
use crate::catalog::RoleState;
use crate::model::Timestamp;
use crate::uptane::image_repo::ImageRepository;

/// Those that changed, or whose file is to be signed again, and whoever lists them. Root is renewed
/// by itself.
pub(super) fn due_roles(
    repository: &ImageRepository,
    states: &[RoleState],
    now: Timestamp,
) -> Vec<String> {
    let is_due = |state: &&RoleState| {
        let is_old =
            state.version == 0 || repository.role_policy(&state.name).is_due(state.expires_at, now);
        state.name != "root" && (state.is_changed || is_old)
    };
    let mut due: Vec<String> =
        states.iter().filter(is_due).map(|state| state.name.clone()).collect();
    let mut cascade = |role: &str, causes: &dyn Fn(&str) -> bool| {
        if !due.iter().any(|name| name == role) && due.iter().any(|name| causes(name)) {
            due.push(role.to_owned());
        }
    };
    cascade("snapshot", &|name| !is_built_last(name));
    cascade("timestamp", &|name| name == "snapshot");
    due
}

/// All of them.
pub(super) fn all_roles(states: &[RoleState]) -> Vec<String> {
    states.iter().filter(|state| state.name != "root").map(|state| state.name.clone()).collect()
}
