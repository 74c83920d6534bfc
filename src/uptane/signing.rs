//! From a role's content to the file that is published: sign once, keep exactly those bytes.

use std::num::NonZeroU64;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tough::schema::{Role, Signature, Signed};

use super::Error;
use super::keyring::RoleKey;
use super::policy::RolePolicy;
use crate::model::clock::later;
use crate::model::{RoleName, Sha256Digest, Timestamp};

/// The TUF version that our metadata follows.
pub const SPEC_VERSION: &str = "1.0.34";

/// A signed metadata file. `bytes` **must** be published as they are: the digest, and the digests
/// in other files, are theirs.
#[derive(Debug, Clone)]
pub struct SignedFile {
    /// The role.
    pub role: RoleName,
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
/// What is signed is OLPC canonical JSON (TUF 1.0.34, 4.2). What is published is JSON with sorted
/// members and no spaces: the same bytes, but for the line breaks in PEM keys, which canonical JSON
/// leaves as they are and no JSON parser takes.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if there is none, [`Error::Sign`] if a signer refuses.
pub async fn sign<R: Role>(
    role: &RoleName,
    content: R,
    keys: &[RoleKey],
) -> Result<SignedFile, Error> {
    let message = content.canonical_form().map_err(|e| build_error(role, e))?;
    let signatures = sign_message(role, &message, keys).await?;
    let (version, expires_at) = (content.version().get(), content.expires());
    let bytes =
        sorted_json(&Signed { signed: content, signatures }).map_err(|e| build_error(role, e))?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(SignedFile { role: role.clone(), version, expires_at, bytes: bytes.into(), sha256 })
}

/// Signs a role whose canonical form is known, and is JSON too: it has no control characters.
///
/// # Errors
///
/// As [`sign`].
pub async fn sign_canonical(
    role: &RoleName,
    version: u64,
    expires_at: Timestamp,
    message: &[u8],
    keys: &[RoleKey],
) -> Result<SignedFile, Error> {
    let signatures = sign_message(role, message, keys).await?;
    let signatures = sorted_json(&signatures).map_err(|e| build_error(role, e))?;
    let bytes =
        [b"{\"signatures\":", signatures.as_slice(), b",\"signed\":", message, b"}"].concat();
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(SignedFile { role: role.clone(), version, expires_at, bytes: bytes.into(), sha256 })
}

async fn sign_message(
    role: &RoleName,
    message: &[u8],
    keys: &[RoleKey],
) -> Result<Vec<Signature>, Error> {
    if keys.is_empty() {
        return Err(Error::TooFewKeys { role: role.to_string(), found: 0, threshold: 1 });
    }
    let mut signatures = Vec::with_capacity(keys.len());
    for key in keys {
        let sig = key
            .sign(message)
            .await
            .map_err(|source| Error::Sign { role: role.to_string(), source })?;
        signatures.push(Signature { keyid: key.id().clone(), sig: sig.into() });
    }
    Ok(signatures)
}

/// The version of a role's next file.
///
/// # Errors
///
/// [`Error::Build`] for 0, which TUF doesn't have.
pub fn version(role: &RoleName, version: u64) -> Result<NonZeroU64, Error> {
    NonZeroU64::new(version).ok_or_else(|| build_error(role, "metadata versions start at 1"))
}

/// When a file that is signed at `now` expires: whole seconds, as clients expect (TUF 1.0.34,
/// 4.2.3).
pub fn expiry(now: Timestamp, policy: RolePolicy) -> Timestamp {
    let expires = later(now, policy.lifetime());
    Timestamp::from_second(expires.as_second()).unwrap_or(expires)
}

pub(super) fn build_error(
    role: &RoleName,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Build { role: role.to_string(), source: source.into() }
}

/// A `serde_json::Value` keeps its members sorted.
fn sorted_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&serde_json::to_value(value)?)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    use tough::schema::{Root, Signed};

    use crate::model::{RepositorySide, Timestamp};
    use crate::uptane::keyring::{Keyring, write_secret};
    use crate::uptane::policy::Policy;
    use crate::uptane::root;

    fn pem(der: &[u8]) -> String {
        use base64::Engine;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }

    #[tokio::test]
    async fn p256_and_rsa_role_keys_give_json_that_verifies() {
        let dir = tempfile::tempdir().unwrap();
        let p256 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .unwrap();
        write_secret(&dir.path().join("root.pem"), pem(p256.as_ref()).as_bytes()).unwrap();
        let rsa = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let rsa =
            aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'static>>::as_der(&rsa)
                .unwrap();
        write_secret(&dir.path().join("timestamp.pem"), pem(rsa.as_ref()).as_bytes()).unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        let keyring = Keyring::load(dir.path(), &Policy::default()).unwrap();
        let file =
            root::first(RepositorySide::Image, &keyring, &Policy::default(), Timestamp::now())
                .await
                .unwrap();
        let parsed: Signed<Root> = serde_json::from_slice(&file.bytes).unwrap();
        parsed.signed.verify_role(&parsed).unwrap();
    }
}
