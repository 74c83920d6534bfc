//! The writer: one description of the files that are signed, for both repositories (TUF 1.0.34,
//! section 4; Uptane 2.1.0, 5.2.3 and 5.3.2), and one way from a content to a signed file.
//!
//! [`content`] says what the files contain, [`image`] and [`director`] fill them as POUF says, and
//! [`mod@file`] makes files of them. A second dialect is a module beside those two; what it fills is
//! signed by the same [`Unsigned`]. Nothing here holds a key, stores or decides when to publish.
//!
//! The verifier (`verify`) shares nothing with it but the formats of `canonical` and `key`, so that
//! it can catch its mistakes.

pub mod content;
pub mod director;
pub mod file;
pub mod image;
pub mod root;

pub use content::{
    Delegation, Delegations, Hashes, MetaFile, MetaName, RoleKeys, Root, Signature, Signed,
    Snapshot, Target, Targets, TimestampRole,
};
pub use file::{Authority, Authorized, SignedFile, Unsigned};

use std::num::NonZeroU64;

use motorcade_model::RoleName;

use crate::key::KeyId;

/// The TUF version that our metadata follows.
pub const SPEC_VERSION: &str = "1.0.34";

/// The version of a role's next file.
///
/// # Errors
///
/// [`Error::Build`] for 0, which TUF doesn't have.
pub fn version(role: &RoleName, version: u64) -> Result<NonZeroU64, Error> {
    NonZeroU64::new(version).ok_or_else(|| Error::build(role, "metadata versions start at 1"))
}

/// Why metadata could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A version of 0, or an entry that is not a target.
    #[error("failed to build {role} metadata")]
    Build {
        /// The role.
        role: RoleName,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A key that may not sign for the role, as what is published says.
    #[error("the key {key_id} is not one of those that the published metadata names for {role}")]
    ForeignKey {
        /// The role.
        role: RoleName,
        /// Its key id.
        key_id: KeyId,
    },
    /// Fewer keys than the published threshold of the role (TUF 1.0.34, 4.3).
    #[error("{found} keys are there for {role}, and the published metadata asks for {threshold}")]
    TooFewKeys {
        /// The role.
        role: RoleName,
        /// Keys that are there.
        found: usize,
        /// Keys that are needed.
        threshold: u64,
    },
    /// A change after which a role could not be signed (TUF 1.0.34, 4.3).
    #[error("the role {role} would have {found} keys where {threshold} have to sign")]
    Threshold {
        /// The role.
        role: RoleName,
        /// Keys that it would have.
        found: usize,
        /// Keys that would be needed.
        threshold: u64,
    },
    /// A change after which one key would be in two roles, or twice in one.
    #[error(
        "the key {key_id} would be used for both {first} and {second}: each key has one role, and one id"
    )]
    SharedKey {
        /// Its key id.
        key_id: KeyId,
        /// One role.
        first: RoleName,
        /// The other, or the same.
        second: RoleName,
    },
    /// A stored root can't be read back.
    #[error("root metadata is not readable")]
    Root(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn build(
        role: &RoleName,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Build { role: role.clone(), source: source.into() }
    }
}
