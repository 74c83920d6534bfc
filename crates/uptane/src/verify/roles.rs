//! The four roles' own parts of metadata files (TUF 1.0.34, 4.3 to 4.6).

use motorcade_model::RoleName;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::VerifyError;
use super::delegations::{Delegations, RawDelegations, RawHardwareIds};
use super::hashes::Hashes;
use super::keys::{Keys, RoleKeys};
use super::signed::{KeyIds, Metadata, Role};

/// Root: which keys sign for which role.
#[derive(Debug, Clone)]
pub(super) struct Root {
    keys: Keys,
    pub(super) roles: BTreeMap<String, RoleKeys>,
    pub(super) consistent_snapshot: bool,
}

#[derive(Deserialize)]
pub(super) struct RawRoot {
    keys: BTreeMap<String, Value>,
    roles: BTreeMap<String, RoleKeys>,
    #[serde(default)]
    consistent_snapshot: bool,
}

impl Role for Root {
    const TYPE: RoleName = RoleName::Root;
    type Raw = RawRoot;

    fn from_raw(role: &RoleName, raw: RawRoot, ids: KeyIds) -> Result<Self, VerifyError> {
        // TUF 1.0.34, 4.3: "A role for each of "root", "snapshot", "timestamp", and "targets" MUST
        // be specified in the roles object."
        if let Some(missing) =
            RoleName::TOP_LEVEL.iter().find(|name| !raw.roles.contains_key(name.as_str()))
        {
            let fault = format!("it has no keys for {missing}");
            return Err(VerifyError::Malformed { role: role.clone(), fault });
        }
        for (name, keys) in &raw.roles {
            keys.check(role, name)?;
        }
        let keys = Keys::parse(role, raw.keys, ids)?;
        Ok(Self { keys, roles: raw.roles, consistent_snapshot: raw.consistent_snapshot })
    }
}

impl Root {
    /// Checks signatures of a top-level role.
    ///
    /// Uptane 2.1.0, 5.2.2, of what root has: "An attribute mapping each role to (1) its public
    /// key(s), and (2) the threshold of signatures required for that role."
    pub(super) fn verify<T>(
        &self,
        role: &RoleName,
        metadata: &Metadata<T>,
    ) -> Result<(), VerifyError> {
        let keys =
            self.roles.get(role.as_str()).cloned().unwrap_or_else(|| RoleKeys::new(Vec::new(), 1));
        keys.verify(&self.keys, role, metadata)
    }
}

/// Version, length and hashes of another metadata file: an entry of METAFILES (TUF 1.0.34, 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct MetaFile {
    pub(super) version: u64,
    #[serde(default)]
    pub(super) length: Option<u64>,
    #[serde(default)]
    hashes: Option<Hashes>,
}

impl MetaFile {
    fn check(&self, role: &RoleName) -> Result<(), VerifyError> {
        // TUF 1.0.34, 4.4: "An integer version number as shown in the metadata file at METAPATH."
        if self.version == 0 {
            let fault = "it lists a version 0".to_owned();
            return Err(VerifyError::Malformed { role: role.clone(), fault });
        }
        // TUF 1.0.34, 4.4: "A dictionary that specifies one or more hashes of the metadata file at
        // METAPATH … HASHES is OPTIONAL".
        match &self.hashes {
            Some(hashes) if !hashes.is_known() => {
                Err(VerifyError::UnknownHash { role: role.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the file is the one that is listed, as far as length and hashes are.
    pub(super) fn matches(&self, bytes: &[u8]) -> bool {
        self.length.is_none_or(|length| length == bytes.len() as u64)
            && self.hashes.as_ref().is_none_or(|hashes| hashes.match_bytes(bytes))
    }
}

/// Timestamp: the current snapshot.
#[derive(Debug, Clone)]
pub(super) struct TimestampRole {
    pub(super) snapshot: MetaFile,
}

/// Snapshot: the current targets files, by file name.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) meta: BTreeMap<String, MetaFile>,
}

#[derive(Deserialize)]
pub(super) struct RawMeta {
    meta: BTreeMap<String, MetaFile>,
}

impl Role for TimestampRole {
    const TYPE: RoleName = RoleName::Timestamp;
    type Raw = RawMeta;

    fn from_raw(role: &RoleName, mut raw: RawMeta, _: KeyIds) -> Result<Self, VerifyError> {
        // TUF 1.0.34, 4.6: "In the case of the timestamp.json file, this MUST only include a
        // description of the snapshot.json file."
        let Some(snapshot) = raw.meta.remove(&RoleName::Snapshot.file_name()) else {
            let fault = "it does not list snapshot.json".to_owned();
            return Err(VerifyError::Malformed { role: role.clone(), fault });
        };
        snapshot.check(role)?;
        Ok(Self { snapshot })
    }
}

impl Role for Snapshot {
    const TYPE: RoleName = RoleName::Snapshot;
    type Raw = RawMeta;

    fn from_raw(role: &RoleName, raw: RawMeta, _: KeyIds) -> Result<Self, VerifyError> {
        // TUF 1.0.34, 4.4: "It MUST list the version numbers of the top-level targets metadata and
        // all delegated targets metadata. It MAY also list their lengths and file hashes."
        raw.meta.values().try_for_each(|file| file.check(role))?;
        Ok(Self { meta: raw.meta })
    }
}

/// One target as targets metadata lists it: an entry of TARGETS (TUF 1.0.34, 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TargetFile {
    /// Length in bytes.
    pub length: u64,
    /// Hashes, by algorithm.
    pub hashes: Hashes,
    /// `custom`: "opaque to the framework" (TUF 1.0.34, 4.5).
    #[serde(default)]
    pub custom: Option<Value>,
}

/// Targets, top-level or delegated.
#[derive(Debug, Clone)]
pub(super) struct Targets {
    pub(super) targets: BTreeMap<String, TargetFile>,
    pub(super) delegations: Option<Delegations>,
    /// Seconds, of the Director's.
    pub(super) report_every: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct RawTargets {
    targets: BTreeMap<String, TargetFile>,
    #[serde(default)]
    delegations: Option<RawDelegations>,
    #[serde(default)]
    delegation_hardware_ids: RawHardwareIds,
    /// Whatever it is, it is no reason to refuse an update.
    #[serde(default)]
    report_every: Value,
}

impl Role for Targets {
    const TYPE: RoleName = RoleName::Targets;
    type Raw = RawTargets;

    fn from_raw(role: &RoleName, raw: RawTargets, ids: KeyIds) -> Result<Self, VerifyError> {
        let hardware_ids = raw.delegation_hardware_ids;
        let delegations = raw.delegations;
        let delegations = delegations
            .map(|raw| Delegations::from_raw(role, raw, hardware_ids, ids))
            .transpose()?;
        let report_every = raw.report_every.as_u64();
        Ok(Self { targets: raw.targets, delegations, report_every })
    }
}
