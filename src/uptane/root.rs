//! Root metadata (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2): which keys sign which role.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tough::schema::{RoleKeys, RoleType, Root, Signed};

use super::Error;
use super::keyring::{Keyring, RoleKey};
use super::policy::{Policy, RolePolicy};
use super::signing::{self, SPEC_VERSION, SignedFile};
use super::verify::{self, TrustedSet, VerifyError};
use crate::model::{Sha256Digest, Timestamp};

/// Whose root: its four top-level roles, by the names of their keys in the keyring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repository {
    /// The Image repository.
    Image,
    /// The Director repository.
    Director,
}

impl Repository {
    /// Name of the root role's keys.
    pub fn root_keys(self) -> &'static str {
        match self {
            Self::Image => "root",
            Self::Director => "director-root",
        }
    }

    /// How its root is signed.
    pub fn root_policy(self, policy: &Policy) -> RolePolicy {
        match self {
            Self::Image => policy.root,
            Self::Director => policy.director.root,
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "Image repository",
            Self::Director => "Director",
        }
    }

    /// Its top-level roles, each with the name of its keys in the keyring.
    pub fn key_names(self) -> [(&'static str, &'static str); 4] {
        match self {
            Self::Image => ["root", "targets", "snapshot", "timestamp"].map(|role| (role, role)),
            Self::Director => [
                ("root", "director-root"),
                ("targets", "director-targets"),
                ("snapshot", "director-snapshot"),
                ("timestamp", "director-timestamp"),
            ],
        }
    }

    fn roles(self, policy: &Policy) -> [(RoleType, &'static str, u8); 4] {
        let threshold = self.root_policy(policy).threshold;
        match self {
            Self::Image => [
                (RoleType::Root, "root", threshold),
                (RoleType::Targets, "targets", policy.targets.threshold),
                (RoleType::Snapshot, "snapshot", policy.snapshot.threshold),
                (RoleType::Timestamp, "timestamp", policy.timestamp.threshold),
            ],
            Self::Director => [
                (RoleType::Root, "director-root", threshold),
                (RoleType::Targets, "director-targets", policy.director.bundle.threshold),
                (RoleType::Snapshot, "director-snapshot", policy.director.bundle.threshold),
                (RoleType::Timestamp, "director-timestamp", policy.director.bundle.threshold),
            ],
        }
    }
}

/// Signs version 1 of a repository's root.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if a key is missing, [`Error::Sign`].
pub async fn first(
    repository: Repository,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true, // compulsory for Uptane (5.2.7)
        version: signing::version("root", 1)?,
        expires: signing::expiry(now, repository.root_policy(policy)),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role_type, role, threshold) in repository.roles(policy) {
        let keys = keyring.keys(role);
        if keys.len() < usize::from(threshold) {
            return Err(Error::TooFewKeys {
                role: role.into(),
                found: keys.len(),
                threshold: threshold.into(),
            });
        }
        root.keys.extend(keys.iter().map(|key| (key.id().clone(), key.public().clone())));
        root.roles.insert(role_type, role_keys(keys, threshold)?);
    }
    signing::sign("root", root, keyring.keys(repository.root_keys())).await
}

/// Signs the next version of a root: the same keys and roles, valid for longer.
///
/// # Errors
///
/// [`Error::Root`] if `current` isn't a root, [`Error::TooFewKeys`] if its keys aren't here,
/// [`Error::Sign`].
pub async fn renewed(
    repository: Repository,
    current: &[u8],
    version: u64,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let current: Signed<Root> =
        serde_json::from_slice(current).map_err(|e| Error::Root(e.into()))?;
    let mut root = current.signed;
    root.version = signing::version("root", version)?;
    root.expires = signing::expiry(now, repository.root_policy(policy));
    let threshold = root.roles.get(&RoleType::Root).map_or(1, |role| role.threshold.get());
    let keys = keyring.keys(repository.root_keys());
    let ours =
        keys.iter().filter(|key| root.keys(RoleType::Root).any(|listed| listed == key.public()));
    let found = ours.count();
    if (found as u64) < threshold {
        return Err(Error::TooFewKeys { role: "root".into(), found, threshold });
    }
    signing::sign("root", root, keys).await
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
    let mut trusted = TrustedSet::new(current, verify::Repository::Image, now).map_err(unfit)?;
    trusted.update_root(&next).map_err(unfit)?;
    let root: Signed<Root> = serde_json::from_slice(&next).map_err(|e| Error::Root(e.into()))?;
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&next).into());
    let (version, expires_at) = (root.signed.version.get(), root.signed.expires);
    Ok(SignedFile { role: "root".into(), version, expires_at, bytes: next, sha256 })
}

/// A role's entry in root, or in a delegation.
pub(super) fn role_keys(keys: &[RoleKey], threshold: u8) -> Result<RoleKeys, Error> {
    Ok(RoleKeys {
        keyids: keys.iter().map(|key| key.id().clone()).collect(),
        threshold: signing::version("threshold", threshold.into())?,
        _extra: HashMap::new(),
    })
}
