//! Root metadata (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2): which keys sign which role.

use std::collections::HashMap;

use tough::schema::{RoleKeys, RoleType, Root, Signed};

use super::Error;
use super::keyring::{Keyring, RoleKey};
use super::policy::Policy;
use super::signing::{self, SPEC_VERSION, SignedFile};
use crate::model::Timestamp;

/// Signs version 1 of the Image repository's root.
///
/// # Errors
///
/// [`Error::TooFewKeys`] if a key is missing, [`Error::Sign`].
pub async fn first(keyring: &Keyring, policy: &Policy, now: Timestamp) -> Result<SignedFile, Error> {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true, // compulsory for Uptane (5.2.7)
        version: signing::version("root", 1)?,
        expires: signing::expiry(now, policy.root),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for (role_type, role, threshold) in [
        (RoleType::Root, "root", policy.root.threshold),
        (RoleType::Targets, "targets", policy.targets.threshold),
        (RoleType::Snapshot, "snapshot", policy.snapshot.threshold),
        (RoleType::Timestamp, "timestamp", policy.timestamp.threshold),
    ] {
        let keys = keyring.keys(role);
        if keys.len() < usize::from(threshold) {
            return Err(Error::TooFewKeys { role: role.into(), found: keys.len(), threshold: threshold.into() });
        }
        root.keys.extend(keys.iter().map(|key| (key.id().clone(), key.public().clone())));
        root.roles.insert(role_type, role_keys(keys, threshold)?);
    }
    signing::sign("root", root, keyring.keys("root")).await
}

/// Signs the next version of a root: the same keys and roles, valid for longer.
///
/// # Errors
///
/// [`Error::Root`] if `current` isn't a root, [`Error::TooFewKeys`] if its keys aren't here, [`Error::Sign`].
pub async fn renewed(
    current: &[u8],
    version: u64,
    keyring: &Keyring,
    policy: &Policy,
    now: Timestamp,
) -> Result<SignedFile, Error> {
    let current: Signed<Root> = serde_json::from_slice(current).map_err(|e| Error::Root(e.into()))?;
    let mut root = current.signed;
    root.version = signing::version("root", version)?;
    root.expires = signing::expiry(now, policy.root);
    let threshold = root.roles.get(&RoleType::Root).map_or(1, |role| role.threshold.get());
    let ours = keyring.keys("root").iter().filter(|key| root.keys(RoleType::Root).any(|listed| listed == key.public()));
    let found = ours.count();
    if (found as u64) < threshold {
        return Err(Error::TooFewKeys { role: "root".into(), found, threshold });
    }
    signing::sign("root", root, keyring.keys("root")).await
}

/// A role's entry in root, or in a delegation.
pub(super) fn role_keys(keys: &[RoleKey], threshold: u8) -> Result<RoleKeys, Error> {
    Ok(RoleKeys {
        keyids: keys.iter().map(|key| key.id().clone()).collect(),
        threshold: signing::version("threshold", threshold.into())?,
        _extra: HashMap::new(),
    })
}
