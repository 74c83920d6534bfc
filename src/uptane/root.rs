//! Root metadata (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2): which keys sign which role.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tough::schema::{RoleKeys, RoleType, Root, Signed};

use super::Error;
use super::keyring::{Keyring, RoleKey};
use super::policy::{Policy, key_name};
use super::signing::{self, SPEC_VERSION, SignedFile};
use super::verify::{self, TrustedSet, VerifyError};
use crate::model::{RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp};

/// Signs version 1 of a repository's root.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if a key is missing, [`Error::Sign`].
pub async fn first(
    side: RepositorySide,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true, // compulsory for Uptane (5.2.7)
        version: signing::version(&RoleName::Root, 1)?,
        expires: signing::expiry(now, policy.role(side, RoleKind::Root)),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for kind in RoleKind::TOP_LEVEL {
        let (keys, threshold) = (keyring.keys(side, kind), policy.role(side, kind).threshold);
        if keys.len() < usize::from(threshold) {
            return Err(Error::TooFewKeys {
                role: key_name(side, kind),
                found: keys.len(),
                threshold: threshold.into(),
            });
        }
        root.keys.extend(keys.iter().map(|key| (key.id().clone(), key.public().clone())));
        if let Some(role) = role_type(kind) {
            root.roles.insert(role, role_keys(keys, threshold)?);
        }
    }
    signing::sign(&RoleName::Root, root, keyring.keys(side, RoleKind::Root)).await
}

/// Signs the next version of a root: the same keys and roles, valid for longer.
///
/// # Errors
///
/// [`Error::Root`] if `current` isn't a root, [`Error::TooFewKeys`] if its keys aren't here,
/// [`Error::Sign`].
pub async fn renewed(
    side: RepositorySide,
    current: &[u8],
    version: u64,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let current: Signed<Root> =
        serde_json::from_slice(current).map_err(|e| Error::Root(e.into()))?;
    let mut root = current.signed;
    root.version = signing::version(&RoleName::Root, version)?;
    root.expires = signing::expiry(now, policy.role(side, RoleKind::Root));
    let threshold = root.roles.get(&RoleType::Root).map_or(1, |role| role.threshold.get());
    let keys = keyring.keys(side, RoleKind::Root);
    let ours =
        keys.iter().filter(|key| root.keys(RoleType::Root).any(|listed| listed == key.public()));
    let found = ours.count();
    if (found as u64) < threshold {
        return Err(Error::TooFewKeys { role: RoleName::Root.to_string(), found, threshold });
    }
    signing::sign(&RoleName::Root, root, keys).await
}

/// Checks as a client does that `next` follows `current`: signed by enough keys of both, and one
/// version on (TUF 1.0.34, 5.3.4 and 5.3.5).
///
/// # Errors
///
/// [`Error::Root`].
pub fn check_successor(current: &[u8], next: Bytes, now: Timestamp) -> Result<SignedFile, Error> {
    let unfit = |error: VerifyError| Error::Root(error.into());
    // What a root is held to is the same in both repositories.
    let mut trusted = TrustedSet::new(current, verify::Rules::Image, now).map_err(unfit)?;
    trusted.update_root(&next).map_err(unfit)?;
    let root: Signed<Root> = serde_json::from_slice(&next).map_err(|e| Error::Root(e.into()))?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&next).into());
    let (version, expires_at) = (root.signed.version.get(), root.signed.expires);
    Ok(SignedFile { role: RoleName::Root, version, expires_at, bytes: next, sha256 })
}

/// What tough calls a kind of role that root names.
fn role_type(kind: RoleKind) -> Option<RoleType> {
    match kind {
        RoleKind::Root => Some(RoleType::Root),
        RoleKind::Targets => Some(RoleType::Targets),
        RoleKind::Snapshot => Some(RoleType::Snapshot),
        RoleKind::Timestamp => Some(RoleType::Timestamp),
        RoleKind::Bins => None, // targets name their keys
    }
}

/// A role's entry in root, or in a delegation.
pub(super) fn role_keys(keys: &[RoleKey], threshold: u8) -> Result<RoleKeys, Error> {
    Ok(RoleKeys {
        keyids: keys.iter().map(|key| key.id().clone()).collect(),
        threshold: signing::version(&RoleName::Root, threshold.into())?,
        _extra: HashMap::new(),
    })
}
