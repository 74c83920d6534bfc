//! Verifies both repositories' metadata: the client workflow of TUF 1.0.34 (section 5) and full and
//! partial verification of Uptane 2.1.0 (5.4.4), as docs/POUF.md chooses among what they leave
//! open.
//!
//! Bytes in, trusted types out: it fetches nothing, stores nothing and reads no clock.
//! [`TrustedSet`] takes files in the order of the workflow and refuses with a [`VerifyError`];
//! whoever drives it stores what it has accepted, and only that. `FV-`, `AT-` and `KEY-` are the
//! numbers of the checks and attacks in docs/POUF.md. It shares no code with what writes metadata,
//! so that it can catch the server's mistakes.
//!
//! Beside each check stands the clause that asks for it, quoted, with `…` where words are left out.
//! "Off-spec" marks what the clause does not ask for, or asks for otherwise.

mod attack;
mod checks;
mod delegations;
mod director;
mod error;
mod fault;
#[cfg(any(test, feature = "test-util"))]
pub mod fixture;
mod garbled;
mod hashes;
mod keys;
mod limits;
mod partial;
mod pattern;
mod publisher;
mod roles;
mod rules;
mod search;
mod signed;
mod trusted;

pub use attack::Attack;
pub use director::{
    Assignment, KnownEcu, VehicleImages, assignments, check_constraints, check_ecu, match_image,
};
pub use error::{CustomField, VerifyError};
pub use fault::{Fault, Finding};
pub use hashes::{Hasher, Hashes};
pub use limits::Limits;
pub use partial::verify_partial;
pub use publisher::Signers;
pub use roles::TargetFile;
pub use rules::Rules;
pub use search::Search;
pub use trusted::{Freshness, TrustedSet};
