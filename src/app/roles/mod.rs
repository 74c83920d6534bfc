//! The keys of all roles: who signs for what, where the keys are, and other keys for a role that is
//! signed online.
//!
//! Who signs is what the published metadata names. `metadata/policy.toml` says what the operator
//! wants, and the difference is shown until a rotation makes it so.

mod list;
mod plan;
mod rotate;

use std::sync::Arc;

pub use list::{RoleKey, RoleKeyState, RoleRecord};
pub use plan::{Rotation, RotationRequest};

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::ceremony::Ceremony;
use super::handover::Handovers;
use super::state_dir::StateDir;
use crate::catalog::Catalog;
use crate::model::Clock;

/// The keys of all roles.
pub struct Roles {
    parts: Parts,
    /// Held by whoever changes a role.
    turn: Mutex<()>,
}

/// What [`Roles`] is made of.
pub(super) struct Parts {
    pub(super) state: StateDir,
    pub(super) catalog: Catalog,
    pub(super) handovers: Arc<Handovers>,
    pub(super) ceremony: Arc<Ceremony>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: Handle,
}

impl Roles {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, turn: Mutex::new(()) }
    }
}
