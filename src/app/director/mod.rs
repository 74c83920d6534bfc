//! The Director: what a vehicle reports, what it is to run, and the metadata that is signed for it
//! (Uptane 2.1.0, 5.3.2).
//!
//! - `manifest` accepts or refuses what a vehicle says of itself, `installed` holds what it runs
//!   against what it was given, and `accept` is for a person to say that it is well;
//! - `assign` decides whether an image may go to an ECU;
//! - `bundle` signs a vehicle's metadata when it asks, and keeps it until something changes;
//! - `listed` asks the Image repository, as a client would, before anything of it is signed for a
//!   vehicle;
//! - `roots` keeps the Director's root;
//! - `verified` looks at what was signed as the vehicle will.

mod accept;
mod assign;
mod bundle;
mod installed;
mod listed;
mod manifest;
mod refusal;
mod roots;
mod verified;

pub use assign::{AssignmentRequest, EcuAssignment};
pub use bundle::{DirectorFile, DirectorRole};
pub(super) use listed::ListedImages;
pub use refusal::Refusal;

/// Most bytes of a manifest.
pub const MAX_MANIFEST_SIZE: usize = crate::uptane::manifest::MAX_MANIFEST_SIZE;
pub(super) use roots::DirectorRoots;
pub(super) use verified::verify_bundle;
