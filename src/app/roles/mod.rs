//! The keys of all roles: who signs for what, where the keys are, and other keys for a role that is
//! signed online.
//!
//! Who signs is what the published metadata names. `metadata/policy.toml` says what the operator
//! wants, and the difference is shown until a rotation makes it so.

mod list;

use std::sync::Arc;

pub use list::{RoleKey, RoleKeyState, RoleRecord};

use super::handover::Handovers;
use super::state_dir::StateDir;
use crate::catalog::Catalog;

/// The keys of all roles.
pub struct Roles {
    state: StateDir,
    catalog: Catalog,
    handovers: Arc<Handovers>,
}

impl Roles {
    pub(super) fn new(state: StateDir, catalog: Catalog, handovers: Arc<Handovers>) -> Self {
        Self { state, catalog, handovers }
    }
}
