//! Delegations (TUF 1.0.34, 4.5), with hardware ids and several roles that must agree as members
//! that plain TUF does not know, and TAP 15's succinct form.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VerifyError;
use super::keys::{Keys, RoleKeys};
use super::pattern::path_matches;
use super::signed::KeyIds;
use motorcade_model::{HardwareId, RoleName};

/// The delegations of a targets file, in order of priority.
#[derive(Debug, Clone)]
pub(super) struct Delegations {
    pub(super) keys: Keys,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Listed(Vec<Delegation>),
    Succinct(Succinct),
}

/// One delegation that applies to a target.
#[derive(Debug, Clone)]
pub(super) struct Delegation {
    scope: Scope,
    /// Uptane 2.1.0, 5.2.3.2: "An optional list of the hardware identifiers to which this role
    /// applies. If this is omitted, any hardware identifier will match." (AMB-10).
    hardware_ids: Option<Vec<String>>,
    pub(super) terminating: bool,
    pub(super) roles: Vec<DelegatedRole>,
    /// How many of the roles must say the same. 1 for the one role of plain TUF.
    ///
    /// Uptane 2.1.0, 5.4.4.8: "plus a threshold of those roles that SHALL be in agreement about the
    /// non-custom metadata for the image".
    pub(super) agreement: usize,
}

/// A role that is delegated to.
#[derive(Debug, Clone)]
pub(super) struct DelegatedRole {
    pub(super) name: RoleName,
    pub(super) keys: RoleKeys,
}

#[derive(Debug, Clone)]
enum Scope {
    Paths(Vec<String>),
    HashPrefixes(Vec<String>),
    /// Computed: it applies to what it was computed for.
    Everything,
}

#[derive(Debug, Clone)]
struct Succinct {
    keys: RoleKeys,
    bit_length: u32,
    name_prefix: String,
}

impl Delegations {
    pub(super) fn from_raw(
        role: &RoleName,
        raw: RawDelegations,
        hardware_ids: RawHardwareIds,
        ids: KeyIds,
    ) -> Result<Self, VerifyError> {
        let malformed =
            |fault: &str| VerifyError::Malformed { role: role.clone(), fault: fault.to_owned() };
        let keys = Keys::parse(role, raw.keys, ids)?;
        // TAP 15: "Only one of `succinct_roles` or `roles` may be specified in a delegation."
        let kind = match (raw.roles, raw.succinct_roles) {
            (Some(roles), None) => Kind::Listed(listed(role, roles, hardware_ids)?),
            (None, Some(raw)) => {
                // TAP 15: "BIT_LENGTH must be an integer between 1 and 32 (inclusive)."
                if !(1..=32).contains(&raw.bit_length) || raw.name_prefix.is_empty() {
                    return Err(malformed("`succinct_roles` has no prefix, or not 1 to 32 bits"));
                }
                let keys = RoleKeys::new(raw.keyids, raw.threshold);
                keys.check(role, &raw.name_prefix)?;
                Kind::Succinct(Succinct {
                    keys,
                    bit_length: raw.bit_length,
                    name_prefix: raw.name_prefix,
                })
            }
            _ => return Err(malformed("`delegations` needs either `roles` or `succinct_roles`")),
        };
        Ok(Self { keys, kind })
    }

    /// The delegations that apply to a target on some hardware, in their order (FV-18).
    ///
    /// TUF 1.0.34, 4.5: "clients must consider metadata in order of appearance of delegations".
    pub(super) fn applying(&self, path: &str, hardware_ids: &[HardwareId]) -> Vec<Delegation> {
        match &self.kind {
            Kind::Listed(listed) => {
                let digest = hex::encode(Sha256::digest(path.as_bytes()));
                let applies =
                    |delegation: &&Delegation| delegation.applies(path, &digest, hardware_ids);
                listed.iter().filter(applies).cloned().collect()
            }
            Kind::Succinct(succinct) => vec![succinct.delegation(path)],
        }
    }

    /// Finds the keys of a role that is delegated to.
    pub(super) fn find_keys(&self, role: &RoleName) -> Option<RoleKeys> {
        match &self.kind {
            Kind::Listed(listed) => {
                let mut roles = listed.iter().flat_map(|delegation| &delegation.roles);
                roles
                    .find(|delegated| delegated.name == *role)
                    .map(|delegated| delegated.keys.clone())
            }
            Kind::Succinct(succinct) => succinct.has(role).then(|| succinct.keys.clone()),
        }
    }
}

impl Delegation {
    /// Uptane 2.1.0, 5.4.4.7 step 4.1: "For the delegation to apply, it SHALL include the hardware
    /// identifier of the target, and the target name SHALL match one of the delegation's image
    /// paths."
    fn applies(&self, path: &str, digest: &str, hardware_ids: &[HardwareId]) -> bool {
        let covers = |listed: &Vec<String>| {
            hardware_ids.iter().all(|id| listed.iter().any(|own| own == id.as_str()))
        };
        let in_scope = match &self.scope {
            Scope::Paths(patterns) => patterns.iter().any(|pattern| path_matches(pattern, path)),
            // TUF 1.0.34, 4.5: "each target path, when hashed with the SHA-256 hash function to
            // produce a 64-byte hexadecimal digest (HEX_DIGEST), must share the same prefix as one
            // of the prefixes in "path_hash_prefixes"."
            Scope::HashPrefixes(prefixes) => {
                prefixes.iter().any(|prefix| digest.starts_with(prefix.as_str()))
            }
            Scope::Everything => true,
        };
        in_scope && self.hardware_ids.as_ref().is_none_or(covers)
    }
}

impl Succinct {
    /// The bin of a target.
    ///
    /// TAP 15: "The prefix field will include the first BIT_LENGTH bits of the hash".
    fn delegation(&self, path: &str) -> Delegation {
        let digest = Sha256::digest(path.as_bytes());
        let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        let bin = u64::from(first) >> (32 - self.bit_length);
        let name = format!("{}-{bin:0width$x}", self.name_prefix, width = self.digits());
        let name = name.parse().expect("it has a name");
        let roles = vec![DelegatedRole { name, keys: self.keys.clone() }];
        Delegation {
            scope: Scope::Everything,
            hardware_ids: None,
            // Off-spec: TAP 15 has "All succinct hashed bin delegations will be non-terminating",
            // and the reference client ends its search there. No other bin can list the target.
            terminating: true,
            roles,
            agreement: 1,
        }
    }

    fn digits(&self) -> usize {
        self.bit_length.div_ceil(4) as usize
    }

    /// TAP 15: "NAME_PREFIX-COUNT where COUNT is a hexadecimal value between 0 and 2^BIT_LENGTH-1
    /// (inclusive) that represents the bin number."
    fn has(&self, role: &RoleName) -> bool {
        let number =
            role.as_str().strip_prefix(&self.name_prefix).and_then(|rest| rest.strip_prefix('-'));
        let number = number.filter(|digits| digits.len() == self.digits());
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.is_some_and(|number| number < 1 << self.bit_length)
    }
}

#[derive(Deserialize)]
pub(super) struct RawDelegations {
    keys: BTreeMap<String, Value>,
    #[serde(default)]
    roles: Option<Vec<RawDelegation>>,
    #[serde(default)]
    succinct_roles: Option<RawSuccinct>,
}

/// `name`, `keyids` and `threshold` for one role, or `roles` and `min_roles_in_agreement` for
/// several.
#[derive(Deserialize)]
struct RawDelegation {
    name: Option<String>,
    keyids: Option<Vec<String>>,
    threshold: Option<u64>,
    roles: Option<Vec<RawDelegatedRole>>,
    min_roles_in_agreement: Option<usize>,
    #[serde(default)]
    terminating: bool,
    paths: Option<Vec<String>>,
    path_hash_prefixes: Option<Vec<String>>,
    hardware_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawDelegatedRole {
    name: String,
    keyids: Vec<String>,
    threshold: u64,
}

#[derive(Deserialize)]
struct RawSuccinct {
    keyids: Vec<String>,
    threshold: u64,
    bit_length: u32,
    name_prefix: String,
}

/// Hardware ids of the delegations by the name of the one role that each is to, in the file that
/// delegates (docs/POUF.md, 4.2).
pub(super) type RawHardwareIds = BTreeMap<String, Vec<String>>;

fn listed(
    role: &RoleName,
    mut raw: Vec<RawDelegation>,
    mut hardware_ids: RawHardwareIds,
) -> Result<Vec<Delegation>, VerifyError> {
    let malformed =
        |fault: &str| VerifyError::Malformed { role: role.clone(), fault: fault.to_owned() };
    for raw in &mut raw {
        let apart = raw.name.as_ref().and_then(|name| hardware_ids.remove(name));
        match (&raw.hardware_ids, apart) {
            (Some(_), Some(_)) => {
                return Err(malformed("it says twice for which hardware a delegation is"));
            }
            (None, apart @ Some(_)) => raw.hardware_ids = apart,
            (_, None) => {}
        }
    }
    // Off-spec: a scope of a delegation that isn't there was meant for one that is.
    if !hardware_ids.is_empty() {
        return Err(malformed("it names hardware for a role that it does not delegate to"));
    }
    let listed = raw.into_iter().map(|raw| delegation(role, raw)).collect::<Result<Vec<_>, _>>()?;
    let names = listed.iter().flat_map(|delegation| &delegation.roles).map(|role| &role.name);
    // TUF 1.0.34, 4.5: "The rolename MUST be unique in the delegations object: multiple roles with
    // the same rolename are not allowed within a DELEGATIONS."
    if !all_distinct(names) {
        return Err(malformed("it delegates to one role twice"));
    }
    Ok(listed)
}

/// Names that are there once each.
fn all_distinct<'a>(names: impl Iterator<Item = &'a RoleName>) -> bool {
    let mut seen = BTreeSet::new();
    names.into_iter().all(|name| seen.insert(name))
}

fn delegation(within: &RoleName, raw: RawDelegation) -> Result<Delegation, VerifyError> {
    let malformed =
        |fault: &str| VerifyError::Malformed { role: within.clone(), fault: fault.to_owned() };
    let roles = match (raw.roles, raw.name, raw.keyids, raw.threshold) {
        (None, Some(name), Some(keyids), Some(threshold)) => {
            vec![RawDelegatedRole { name, keyids, threshold }]
        }
        (Some(roles), _, None, None) if !roles.is_empty() => roles,
        _ => {
            return Err(malformed(
                "a delegation needs a name, key ids and a threshold, or several roles",
            ));
        }
    };
    let agreement = raw.min_roles_in_agreement.unwrap_or(roles.len());
    if agreement == 0 || agreement > roles.len() {
        return Err(malformed("`min_roles_in_agreement` must be 1 to the number of roles"));
    }
    // TUF 1.0.34, 4.5: "The "path_hash_prefixes" and "paths" attributes are OPTIONAL, if used,
    // exactly one of them should be set." Off-spec: one of them has to be there.
    let scope = match (raw.paths, raw.path_hash_prefixes) {
        (Some(paths), None) => Scope::Paths(paths),
        (None, Some(prefixes)) => Scope::HashPrefixes(prefixes),
        _ => return Err(malformed("a delegation needs either `paths` or `path_hash_prefixes`")),
    };
    let role = |raw: RawDelegatedRole| {
        let keys = RoleKeys::new(raw.keyids, raw.threshold);
        keys.check(within, &raw.name)?;
        // Off-spec: a delegated role that is called like a top-level one would be kept, and listed
        // in the snapshot, in its place.
        match raw.name.parse() {
            Ok(name @ RoleName::Delegated(_)) => Ok(DelegatedRole { name, keys }),
            Ok(RoleName::Root | RoleName::Targets | RoleName::Snapshot | RoleName::Timestamp)
            | Err(_) => Err(malformed("it delegates to a role without a name of its own")),
        }
    };
    let roles = roles.into_iter().map(role).collect::<Result<Vec<_>, VerifyError>>()?;
    Ok(Delegation {
        scope,
        hardware_ids: raw.hardware_ids,
        terminating: raw.terminating,
        roles,
        agreement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn succinct_bins_have_the_names_of_tap_15() {
        let succinct =
            Succinct { keys: RoleKeys::new(vec![], 1), bit_length: 5, name_prefix: "bin".into() };
        let has = |name: &str| succinct.has(&name.parse().unwrap());
        assert!(has("bin-00") && has("bin-1f") && !has("bin-20") && !has("bin-0"));
        assert!(succinct.has(&succinct.delegation("a/b").roles[0].name));
    }
}
