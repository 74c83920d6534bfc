//! Signs root metadata (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2).

use std::num::NonZeroU64;

use bytes::Bytes;
use motorcade_uptane::metadata::root::{self, Appointed};
use motorcade_uptane::metadata::{self, Authority, SignedFile};
use motorcade_uptane::verify::{self, TrustedSet, VerifyError};
use sha2::{Digest, Sha256};

use crate::keys::policy::{Policy, RolePolicy, key_name};
use crate::keys::{Error, Keyring, hybrid};
use crate::model::{RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp};

/// Signs version 1 of a repository's root.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if a key is missing, [`Error::Hybrid`] if these are not the kinds of keys
/// that the policy wants, [`Error::Sign`].
pub async fn first(
    side: RepositorySide,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let mut appointed = Vec::new();
    for role in RoleName::TOP_LEVEL {
        let (kind, keys) = (role.kind(), keyring.public(side, role.kind()));
        let RolePolicy { threshold, hybrid, .. } = policy.role(side, kind);
        if let Some(fault) = hybrid::fault_of_keys(hybrid, threshold, &keys) {
            return Err(Error::Hybrid { role: key_name(side, kind), fault });
        }
        let needed = NonZeroU64::new(threshold.into());
        let needed = needed.filter(|_| keys.len() >= usize::from(threshold));
        let threshold = needed.ok_or_else(|| Error::TooFewKeys {
            role: key_name(side, kind),
            found: keys.len(),
            threshold: threshold.into(),
        })?;
        appointed.push(Appointed { role, keys, threshold });
    }
    let expires = policy.role(side, RoleKind::Root).expiry(now);
    let (unsigned, authority) = root::first(expires, appointed)?;
    keyring.sign(side, unsigned, &authority).await
}

/// Whether the keys that a root names for its next version are here, as many as have to sign it.
pub fn can_renew(keyring: &Keyring, current: &[u8]) -> bool {
    let Ok(root) = root::parse(current) else { return false };
    root.roles.get(&RoleName::Root).is_some_and(|signers| {
        let Authority { key_ids, threshold } = signers.into();
        keyring.named(&key_ids).len() as u64 >= threshold
    })
}

/// Signs the next version of a root: the same keys and roles, valid for longer.
///
/// # Errors
///
/// [`Error::Metadata`] if `current` isn't a root, or its keys aren't here; [`Error::Sign`].
pub async fn renewed(
    side: RepositorySide,
    current: &[u8],
    version: u64,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let version = metadata::version(&RoleName::Root, version)?;
    let expires = policy.role(side, RoleKind::Root).expiry(now);
    let (unsigned, authority) = root::renewed(current, version, expires)?;
    keyring.sign(side, unsigned, &authority).await
}

/// Checks as a client does that `next` follows `current`: signed by enough keys of both, and one
/// version on (TUF 1.0.34, 5.3.4 and 5.3.5).
///
/// # Errors
///
/// [`metadata::Error::Root`].
pub fn check_successor(
    current: &[u8],
    next: Bytes,
    now: Timestamp,
) -> Result<SignedFile, metadata::Error> {
    let unfit = |error: VerifyError| metadata::Error::Root(error.into());
    // What a root is held to is the same in both repositories.
    let mut trusted = TrustedSet::new(current, verify::Rules::Image, now).map_err(unfit)?;
    trusted.update_root(&next).map_err(unfit)?;
    let root = root::parse(&next)?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&next).into());
    let (version, expires_at) = (root.version.get(), root.expires);
    Ok(SignedFile { role: RoleName::Root, version, expires_at, bytes: next, sha256 })
}

#[cfg(test)]
mod tests {
    use tough::schema::{Root, Signed};

    use super::*;
    use crate::keys::file::{self, write_secret};
    use crate::uptane::key::{Scheme, SigningKey};

    #[tokio::test]
    async fn p256_and_rsa_role_keys_give_json_that_another_implementation_verifies() {
        let dir = tempfile::tempdir().unwrap();
        for (name, scheme) in
            [("root.pem", Scheme::EcdsaSha2Nistp256), ("timestamp.pem", Scheme::RsassaPssSha256)]
        {
            let pem = SigningKey::generate_pem(scheme).unwrap();
            write_secret(&dir.path().join(name), pem.as_bytes()).unwrap();
        }
        let (policy, now) = (Policy::default(), Timestamp::now());
        file::create(dir.path(), &policy).unwrap();
        let keyring = file::load(dir.path(), &policy).unwrap();
        let file = first(RepositorySide::Image, &keyring, &policy, now).await.unwrap();
        let parsed: Signed<Root> = serde_json::from_slice(&file.bytes).unwrap();
        parsed.signed.verify_role(&parsed).unwrap();
        let next = renewed(RepositorySide::Image, &file.bytes, 2, &keyring, &policy, now).await;
        let next = check_successor(&file.bytes, next.unwrap().bytes, now).unwrap();
        assert_eq!((next.version, next.expires_at), (2, file.expires_at));
    }
}
