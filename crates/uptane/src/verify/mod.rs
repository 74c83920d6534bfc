//! Verifies both repositories' metadata: the client workflow of TUF 1.0.34 (section 5) and full and
//! partial verification of Uptane 2.1.0 (5.4.4), as docs/POUF.md chooses among what they leave
//! open.
//!
//! Bytes in, trusted types out: it fetches nothing, stores nothing and reads no clock.
//! [`TrustedSet`] takes files in the order of the workflow and refuses with a [`VerifyError`];
//! whoever drives it stores what it has accepted, and only that. `FV-`, `AT-` and `KEY-` are the
//! numbers of the checks and attacks in docs/POUF.md. It shares no code with what writes metadata,
//! so that it can catch the server's mistakes.

mod delegations;
mod director;
mod error;
mod fault;
#[cfg(any(test, feature = "test-util"))]
pub mod fixture;
mod garbled;
mod hashes;
mod keys;
mod metadata;
mod pattern;
mod publisher;
mod search;
#[cfg(test)]
mod search_tests;
mod trusted;
#[cfg(test)]
mod trusted_tests;

pub use director::{
    Assignment, EcuRecord, VehicleImages, assignments, check_constraints, match_image,
};
pub use error::{Attack, CustomField, VerifyError};
pub use fault::{Fault, Finding};
pub use hashes::{Hasher, Hashes};
pub use metadata::TargetFile;
pub use publisher::Signers;
pub use search::Search;
pub use trusted::{Freshness, Limits, Repository, TrustedSet, verify_partial};
