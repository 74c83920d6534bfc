//! From a role's content to the file that is published: sign once, keep exactly those bytes.

use std::num::NonZeroU64;

use bytes::Bytes;
use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tough::schema::{Role, Signature, Signed};

use super::Error;
use super::keyring::RoleKey;
use super::policy::RolePolicy;
use crate::model::{Sha256Digest, Timestamp};

/// The TUF version that our metadata follows.
pub const SPEC_VERSION: &str = "1.0.34";

/// A signed metadata file. `bytes` **must** be published as they are: the digest, and the digests in other files, are
/// theirs.
#[derive(Debug, Clone)]
pub struct SignedFile {
    /// Name of the role.
    pub role: String,
    /// Version of the file.
    pub version: u64,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The file.
    pub bytes: Bytes,
    /// Digest of the file.
    pub sha256: Sha256Digest,
}

/// Signs `content` with every key of `keys`.
///
/// The file is OLPC canonical JSON throughout (TUF 1.0.34, 4.2), not only its signed part: then clients that hash what
/// they parsed and clients that hash what they fetched agree.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if there is none, [`Error::Sign`] if a signer refuses.
pub async fn sign<R: Role>(role: &str, content: R, keys: &[RoleKey]) -> Result<SignedFile, Error> {
    let sign_error = |source| Error::Sign { role: role.to_owned(), source };
    if keys.is_empty() {
        return Err(Error::TooFewKeys { role: role.to_owned(), found: 0, threshold: 1 });
    }
    let message = content.canonical_form().map_err(|e| build_error(role, e))?;
    let mut signatures = Vec::with_capacity(keys.len());
    for key in keys {
        let sig = key.sign(&message).await.map_err(sign_error)?.into();
        signatures.push(Signature { keyid: key.id().clone(), sig });
    }
    let (version, expires_at) = (content.version().get(), content.expires());
    let bytes = canonical(&Signed { signed: content, signatures }).map_err(|e| build_error(role, e))?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(SignedFile { role: role.to_owned(), version, expires_at, bytes: bytes.into(), sha256 })
}

/// The version of a role's next file.
///
/// # Errors
///
/// [`Error::Build`] for 0, which TUF doesn't have.
pub fn version(role: &str, version: u64) -> Result<NonZeroU64, Error> {
    NonZeroU64::new(version).ok_or_else(|| build_error(role, "metadata versions start at 1"))
}

/// When a file that is signed at `now` expires: whole seconds, as clients expect (TUF 1.0.34, 4.2.3).
pub fn expiry(now: Timestamp, policy: RolePolicy) -> Timestamp {
    let expires = now + policy.lifetime();
    Timestamp::from_second(expires.as_second()).unwrap_or(expires)
}

pub(super) fn build_error(role: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Build { role: role.to_owned(), source: source.into() }
}

fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new()))?;
    Ok(bytes)
}
