//! The Director: what a vehicle reports, what it is to run, and the metadata that is signed for it
//! (Uptane 2.1.0, 5.3.2).
//!
//! - `manifest` accepts or refuses what a vehicle says of itself, `installed` holds what it runs
//!   against what it was given, and `accept` is for a person to say that it is well;
//! - `decide` says whether an image may go to an ECU, over what was loaded, and `assign` asks it for
//!   people;
//! - `bundle` signs a vehicle's metadata when it asks, and keeps it until something changes;
//! - `listed` asks the Image repository, as a client would, before anything of it is signed for a
//!   vehicle;
//! - `roots` keeps the Director's root;
//! - `verified` looks at what was signed as the vehicle will.

mod accept;
mod assign;
mod bundle;
mod decide;
mod installed;
mod listed;
mod manifest;
mod moved;
mod refusal;
mod roots;
mod verified;

use std::sync::Arc;

pub use assign::{AssignmentRequest, EcuAssignment};
pub use bundle::{DirectorFile, DirectorRole};
pub(super) use listed::ListedImages;
pub(super) use moved::MovedAssignments;
pub use refusal::Refusal;
pub(super) use roots::DirectorRoots;
pub(super) use verified::verify_bundle;

use super::escrow::Escrows;
use super::fleet::{QuarantinePolicy, Vehicles};
use super::publish::Publisher;
use super::replicas::Replica;
use super::signing::Signing;
use crate::catalog::Catalog;
use crate::model::Clock;
use crate::telemetry::Metrics;
use crate::uptane::director::DirectorRepository;

/// Takes what vehicles report, decides what they get, and signs it for them.
pub struct Director {
    pub(super) catalog: Catalog,
    pub(super) vehicles: Arc<Vehicles>,
    pub(super) repository: DirectorRepository,
    pub(super) roots: DirectorRoots,
    pub(super) listed: ListedImages,
    pub(super) escrow: Arc<Escrows>,
    pub(super) publisher: Publisher,
    pub(super) signing: Arc<Signing>,
    pub(super) quarantine_on: QuarantinePolicy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) replica: Option<Arc<Replica>>,
}

/// Most bytes of a manifest.
pub const MAX_MANIFEST_SIZE: usize = crate::uptane::manifest::MAX_MANIFEST_SIZE;
