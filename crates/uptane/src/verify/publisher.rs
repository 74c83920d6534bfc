//! What a publisher asks of the verifier: whose keys a root names, and whether a file that was just
//! signed is one that clients will take.
//!
//! Only signatures are looked at here. That files fit together is what the rest of [`TrustedSet`]
//! checks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::VerifyError;
use super::checks::missing;
use super::keys::RoleKeys;
use super::rules::Rules;
use super::signed::{RawSignature, signatures};
use super::trusted::TrustedSet;
use motorcade_model::{EcuSerial, HardwareId, RoleName, VehicleId};

/// Which keys may sign for a role, and how many have to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// Their ids.
    pub key_ids: Vec<String>,
    /// How many.
    pub threshold: u64,
}

impl From<&RoleKeys> for Signers {
    fn from(keys: &RoleKeys) -> Self {
        Self { key_ids: keys.keyids.clone(), threshold: keys.threshold }
    }
}

impl TrustedSet {
    /// Who signs for a top-level role, as the trusted root says.
    pub fn signers(&self, role: &RoleName) -> Option<Signers> {
        self.root.content.roles.get(role.as_str()).map(Signers::from)
    }

    /// Who signs for a role that the top-level targets delegate to, if they have been taken and do.
    pub fn delegated_signers(&self, role: &RoleName) -> Option<Signers> {
        let delegations = self.targets.as_ref()?.content.delegations.as_ref()?;
        delegations.find_keys(role).as_ref().map(Signers::from)
    }

    /// Whom the top-level targets, if they have been taken, have clients ask for a target that is to
    /// run on hardware with each of `hardware_ids`: in that order, and nobody after a delegation that
    /// ends the search.
    pub fn asked(&self, path: &str, hardware_ids: &[HardwareId]) -> Vec<RoleName> {
        let delegations =
            self.targets.as_ref().and_then(|targets| targets.content.delegations.as_ref());
        let mut asked = Vec::new();
        for delegation in delegations.map(|to| to.applying(path, hardware_ids)).unwrap_or_default()
        {
            asked.extend(delegation.roles.into_iter().map(|role| role.name));
            if delegation.terminating {
                break;
            }
        }
        asked
    }

    /// The same trusted root for a vehicle of the Director's, and nothing else yet.
    pub fn for_vehicle(&self, vin: VehicleId, ecus: BTreeMap<EcuSerial, HardwareId>) -> Self {
        let mut set = self.clone();
        set.rules = Rules::Director { vin, ecus: Some(ecus) };
        set
    }

    /// Checks that a file is one of the role, and that enough keys have signed it: of the trusted
    /// root, or of the top-level targets for what they delegate to.
    ///
    /// # Errors
    ///
    /// [`VerifyError`].
    pub fn check_signatures(&self, role: &RoleName, bytes: &[u8]) -> Result<(), VerifyError> {
        match role {
            RoleName::Root => self.clone().update_root(bytes),
            RoleName::Timestamp => self.read_timestamp(bytes).map(drop),
            RoleName::Snapshot => self.read_snapshot(bytes).map(drop),
            RoleName::Targets => self.read_targets(bytes).map(drop),
            RoleName::Delegated(_) => self.check_delegated(role, bytes),
        }
    }

    /// Takes top-level targets whatever the snapshot says, so that what they delegate to can be
    /// checked.
    ///
    /// # Errors
    ///
    /// [`VerifyError`] if it is no such file, or not enough keys of the trusted root have signed
    /// it.
    pub fn adopt_targets(&mut self, bytes: &[u8]) -> Result<(), VerifyError> {
        self.targets = Some(self.read_targets(bytes)?);
        Ok(())
    }

    /// Checks that enough keys have signed a role that the top-level targets delegate to. The file
    /// **must** be one of ours, whose text is canonical as it is: it is not read, for the bins of a
    /// large repository are long and many.
    fn check_delegated(&self, role: &RoleName, bytes: &[u8]) -> Result<(), VerifyError> {
        let malformed = |fault: String| VerifyError::Malformed { role: role.clone(), fault };
        let file: Text<'_> =
            serde_json::from_slice(bytes).map_err(|fault| malformed(fault.to_string()))?;
        let signatures = signatures(role, file.signatures)?;
        let delegations =
            self.targets.as_ref().and_then(|targets| targets.content.delegations.as_ref());
        let delegations = delegations.ok_or_else(|| missing(&RoleName::Targets))?;
        let keys = delegations.find_keys(role).ok_or_else(|| missing(role))?;
        keys.verify_message(&delegations.keys, role, file.signed.get().as_bytes(), |key_id| {
            signatures.get(key_id).map(Vec::as_slice)
        })
    }
}

#[derive(Deserialize)]
struct Text<'a> {
    signatures: Vec<RawSignature>,
    #[serde(borrow)]
    signed: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{Repo, id, image, key_objects, new_key, set, sign, signed};
    use super::*;

    #[test]
    fn a_root_names_its_signers() {
        let repo = Repo::new(None);
        let set = set(&repo, image());
        let expected = Signers { key_ids: vec![id(&repo.keys["snapshot"])], threshold: 1 };
        assert_eq!(set.signers(&RoleName::Snapshot), Some(expected));
        assert_eq!(set.signers(&"mirrors".parse().unwrap()), None);
    }

    #[test]
    fn files_of_other_keys_are_refused() {
        let mut repo = Repo::new(None);
        repo.publish(1);
        let set = set(&repo, image());
        let file = |role: &RoleName| match role {
            RoleName::Timestamp => repo.file("timestamp.json"),
            role => repo.file(&format!("1.{role}.json")),
        };
        for role in [RoleName::Timestamp, RoleName::Snapshot, RoleName::Targets] {
            set.check_signatures(&role, file(&role)).unwrap();
            let content: serde_json::Value = serde_json::from_slice(file(&role)).unwrap();
            let other = sign(&content["signed"], &[&new_key()]);
            let refused = set.check_signatures(&role, &other);
            assert!(matches!(refused, Err(VerifyError::ThresholdNotMet { .. })), "{refused:?}");
        }
    }

    #[test]
    fn nobody_is_asked_after_a_delegation_that_ends_the_search() {
        let (mut repo, key) = (Repo::new(None), new_key());
        let role = |name: &str, of: serde_json::Value, terminating: bool| {
            let mut role = of;
            (role["name"], role["keyids"]) = (json!(name), json!([id(&key)]));
            (role["threshold"], role["terminating"]) = (json!(1), json!(terminating));
            role
        };
        let everything = || json!({ "paths": ["*", "*/*"] });
        repo.targets = json!({
            "targets": {},
            "delegation_hardware_ids": { "supplier-acme": ["brake-1"] },
            "delegations": { "keys": key_objects([&key]), "roles": [
                role("supplier-acme", json!({ "paths": ["acme/*"] }), true),
                role("supplier-bolt", json!({ "paths": ["bolt/*"] }), false),
                role("bin-0", everything(), true),
            ] },
        });
        repo.publish(1);
        let mut set = set(&repo, image());
        assert!(set.asked("acme/a", &[]).is_empty(), "nothing says so yet");
        set.adopt_targets(repo.file("1.targets.json")).unwrap();
        let asked = |path: &str, hardware: &[&str]| {
            let ids: Vec<HardwareId> = hardware.iter().map(|id| id.parse().unwrap()).collect();
            let asked = set.asked(path, &ids);
            asked.iter().map(|role| role.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(asked("acme/a", &[]), ["supplier-acme"]);
        assert_eq!(asked("acme/a", &["brake-1"]), ["supplier-acme"]);
        assert_eq!(asked("acme/a", &["gw-1"]), ["bin-0"]);
        assert_eq!(asked("bolt/a", &["brake-1"]), ["supplier-bolt", "bin-0"]);
        assert_eq!(asked("a", &[]), ["bin-0"]);
    }

    #[test]
    fn a_delegated_role_is_checked_with_the_keys_of_the_targets() {
        let (mut repo, bins) = (Repo::new(None), new_key());
        let bin: RoleName = "bin-0".parse().unwrap();
        let delegation = json!({
            "name": "bin-0", "keyids": [id(&bins)], "threshold": 1, "terminating": true, "path_hash_prefixes": ["0"],
        });
        repo.targets = json!({
            "targets": {}, "delegations": { "keys": key_objects([&bins]), "roles": [delegation] },
        });
        repo.publish(1);
        let mut set = set(&repo, image());
        let content = signed("targets", 1, json!({ "targets": {} }));
        let file = sign(&content, &[&bins]);
        let unknown = set.check_signatures(&bin, &file);
        assert_eq!(unknown, Err(VerifyError::MissingFromSnapshot { role: RoleName::Targets }));
        set.adopt_targets(repo.file("1.targets.json")).unwrap();
        set.check_signatures(&bin, &file).unwrap();
        assert_eq!(set.delegated_signers(&bin).unwrap().key_ids, [id(&bins)]);
        for other in [
            sign(&content, &[&new_key()]),
            String::from_utf8(file).unwrap().replacen("\"version\":1", "\"version\":2", 1).into(),
        ] {
            let refused = set.check_signatures(&bin, &other);
            assert!(matches!(refused, Err(VerifyError::ThresholdNotMet { .. })), "{refused:?}");
        }
    }
}
