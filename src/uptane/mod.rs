//! What writes and signs the metadata of both repositories (TUF 1.0.34, Uptane 2.1.0), beside the
//! formats and the verifier of `motorcade-uptane`, which share no code with it.
//!
//! It is the only user of `tough`, whose schema types are what is written. Nothing here stores,
//! serves or decides when to publish; `app::publish` does.

pub mod client;
pub mod director;
pub mod image_repo;
pub mod keyring;
pub mod policy;
pub mod root;
pub mod signing;

pub use motorcade_uptane::{canonical, custom, key, manifest, verify};

/// Why metadata could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key file is missing, unreadable or holds no key of ours.
    #[error("failed to {verb} the key file {path}")]
    KeyFile {
        /// What was being done.
        verb: &'static str,
        /// The file.
        path: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Fewer keys than the role's threshold (TUF 1.0.34, 4.3).
    #[error("role {role} has {found} keys where its threshold is {threshold}")]
    TooFewKeys {
        /// Name of the role.
        role: String,
        /// Keys that are there.
        found: usize,
        /// Keys that are needed.
        threshold: u64,
    },
    /// One key would serve two roles, or one role twice.
    #[error(
        "the key {key_id} is used for both {first} and {second}: each role needs keys of its own"
    )]
    SharedKey {
        /// Its key id.
        key_id: String,
        /// One role.
        first: String,
        /// The other.
        second: String,
    },
    /// The policy file can't be used.
    #[error("metadata policy is not usable: {0}")]
    Policy(String),
    /// A stored `root.json` can't be read back.
    #[error("root metadata is not readable")]
    Root(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A version of 0, or an entry that is not a target.
    #[error("failed to build {role} metadata")]
    Build {
        /// Name of the role.
        role: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A signer refused.
    #[error("failed to sign {role} metadata")]
    Sign {
        /// Name of the role.
        role: String,
        /// What the signer said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
