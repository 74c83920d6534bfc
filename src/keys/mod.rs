//! Private keys: what signs metadata, and what opens every envelope for the server itself; and the
//! policy of how many keys there are.
//!
//! [`Signer`] and [`Escrow`] are the seams for keys that are not on this machine. `file/` has PEM and
//! JWK files of mode 0600. A new backend is a module beside it, and a [`source::KeySource`]. No role
//! key's content leaves this module.

mod away;
pub mod escrow;
mod escrow_key;
pub mod file;
pub mod hybrid;
mod keyring;
#[cfg(feature = "aws-kms")]
mod kms;
mod known;
mod load;
mod open;
pub mod pkcs11;
pub mod policy;
mod ring;
mod ring_file;
mod shared;
pub mod source;
mod sources;
mod written;

pub use escrow_key::Escrow;
pub use keyring::{Cosigners, Keyring, KeysByRole, Signer};
pub use known::remember;
pub use load::load;
pub use open::open;
pub use ring::{EscrowKeys, EscrowRing};
pub use ring_file::{EscrowEntry, EscrowSource, ParseEscrowSourceError, RingFile};
pub use shared::SharedKeyring;

use motorcade_uptane::metadata;

/// What a key's backend says when it can't do something.
pub type BackendError = Box<dyn std::error::Error + Send + Sync>;

/// Why keys could not be made, read or used.
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
        source: BackendError,
    },
    /// A key that is not in a file can't be reached.
    #[error("failed to open the key {key}")]
    Source {
        /// Its source.
        key: String,
        /// What went wrong.
        #[source]
        source: BackendError,
    },
    /// A key that is not in a file can't be reached, and was never found before, so that nobody
    /// knows which one it is.
    #[error(
        "the role {role} has a key that can't be reached, and that was never found here before"
    )]
    NeverFound {
        /// Name of the role.
        role: String,
        /// What went wrong.
        #[source]
        source: Box<Error>,
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
    /// Keys of ML-DSA-65 where the policy wants none, or not these.
    #[error("the role {role} {fault}")]
    Hybrid {
        /// Name of the role.
        role: String,
        /// What is wrong.
        fault: String,
    },
    /// What was to be signed can't be, or not by these keys.
    #[error(transparent)]
    Metadata(#[from] metadata::Error),
    /// A signer refused.
    #[error("failed to sign {role} metadata")]
    Sign {
        /// Name of the role.
        role: String,
        /// What the signer said.
        #[source]
        source: BackendError,
    },
}
