//! Keys that metadata lists, and thresholds of signatures.

use motorcade_model::RoleName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VerifyError;
use super::signed::{KeyIds, Metadata};
use crate::canonical::canonical;
use crate::key::PublicKey;

/// Keys that a file lists, those of unknown schemes left out: they can't verify anything, and must
/// not keep a vehicle from a root that prepares for a new scheme.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    ids: KeyIds,
    listed: BTreeMap<String, Key>,
}

/// A key, and whether it is one under which nobody else can sign, once that was asked.
#[derive(Debug, Clone)]
struct Key {
    public: PublicKey,
    is_strong: OnceLock<bool>,
}

impl Keys {
    pub(super) fn parse(
        role: &RoleName,
        objects: BTreeMap<String, Value>,
        ids: KeyIds,
    ) -> Result<Self, VerifyError> {
        if objects.len() > MAX_KEYS {
            let fault = format!("it has more than {MAX_KEYS} keys");
            return Err(VerifyError::Malformed { role: role.clone(), fault });
        }
        let mut listed: BTreeMap<String, Key> = BTreeMap::new();
        for (key_id, object) in objects {
            // TUF 1.0.34, 4.3: "Clients MUST calculate each KEYID to verify this is correct for the
            // associated key."
            if ids == KeyIds::Recomputed && id_of(&object).as_deref() != Some(key_id.as_str()) {
                return Err(VerifyError::KeyIdMismatch { role: role.clone(), key_id });
            }
            let Ok(public) = PublicKey::from_object(object) else { continue };
            // Uptane 2.1.0, 5.2.2: "Each key SHALL have a unique public key identifier."
            if ids == KeyIds::Recomputed
                && listed.values().any(|other| other.public.is_same_key(&public))
            {
                return Err(VerifyError::DuplicateKey { role: role.clone() });
            }
            listed.insert(key_id, Key { public, is_strong: OnceLock::new() });
        }
        Ok(Self { ids, listed })
    }

    /// Whether a signature is one of a key that counts: not of one under which anybody signs. An
    /// RSA key takes milliseconds to tell, a large one much longer, so that only those are asked
    /// that have signed: who lists keys in a file that nobody trusts must not keep a vehicle busy
    /// with them. Repositories of others have keys of their own making.
    fn counts(&self, key: &Key, message: &[u8], signature: &[u8]) -> bool {
        let is_strong = || *key.is_strong.get_or_init(|| key.public.check_strength().is_ok());
        key.public.verifies(message, signature) && (self.ids == KeyIds::AsListed || is_strong())
    }
}

fn id_of(object: &Value) -> Option<String> {
    canonical(object).ok().map(|message| hex::encode(Sha256::digest(message)))
}

/// Which keys have to sign for a role, and how many of them.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RoleKeys {
    pub(super) keyids: Vec<String>,
    pub(super) threshold: u64,
}

impl RoleKeys {
    pub(super) fn new(keyids: Vec<String>, threshold: u64) -> Self {
        Self { keyids, threshold }
    }

    /// Refuses what could never protect anything. More signatures than keys is no such case: it
    /// can't ever be met.
    pub(super) fn check(&self, within: &RoleName, of: &str) -> Result<(), VerifyError> {
        // TUF 1.0.34, 4.3: "the THRESHOLD must be a positive integer number of keys (>=1) of that
        // role whose signatures are required".
        if self.threshold == 0 {
            return Err(VerifyError::ZeroThreshold { role: within.clone(), of: of.to_owned() });
        }
        // Off-spec: nothing forbids to list a key twice; whoever does means it to count twice.
        let distinct: BTreeSet<_> = self.keyids.iter().collect();
        if distinct.len() < self.keyids.len() {
            return Err(VerifyError::DuplicateKey { role: within.clone() });
        }
        Ok(())
    }

    /// Counts good signatures of distinct keys. Others do no harm (KEY-13): they are there while
    /// keys are rotated, and an attacker who could add one must not stop an update with it (AT-28).
    pub(super) fn verify<T>(
        &self,
        keys: &Keys,
        role: &RoleName,
        metadata: &Metadata<T>,
    ) -> Result<(), VerifyError> {
        self.verify_message(keys, role, &metadata.message, |key_id| metadata.signature(key_id))
    }

    /// The same for a message and its signatures by key id.
    pub(super) fn verify_message<'a>(
        &self,
        keys: &Keys,
        role: &RoleName,
        message: &[u8],
        signature_of: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), VerifyError> {
        let mut signers: Vec<&PublicKey> = Vec::new();
        for key_id in &self.keyids {
            let (Some(key), Some(signature)) = (keys.listed.get(key_id), signature_of(key_id))
            else {
                continue;
            };
            // TUF 1.0.34, 5.3.4: "When computing the THRESHOLD each KEY MUST only contribute one
            // SIGNATURE." And TAP 12: "Clients MUST use each key only once during a given signature
            // verification."
            let is_new = !signers.iter().any(|signer| signer.is_same_key(&key.public));
            if is_new && keys.counts(key, message, signature) {
                signers.push(&key.public);
            }
        }
        // TUF 1.0.34, 4.5: "number of keys (>=1) of that role whose signatures are required in
        // order to consider a file as being properly signed by that role".
        let valid = signers.len() as u64;
        if self.threshold == 0 || valid < self.threshold {
            return Err(VerifyError::ThresholdNotMet {
                role: role.clone(),
                valid,
                threshold: self.threshold,
            });
        }
        Ok(())
    }
}

const MAX_KEYS: usize = 1024; // each is compared with each, before any signature is checked

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::verify::fixture::{id, key_objects, new_key};

    /// The neutral point, under which these bytes sign everything.
    const NEUTRAL: &str = "0100000000000000000000000000000000000000000000000000000000000000";

    fn parse(objects: Value) -> Keys {
        Keys::parse(&RoleName::Root, serde_json::from_value(objects).unwrap(), KeyIds::Recomputed)
            .unwrap()
    }

    #[test]
    fn a_weak_key_is_listed_and_does_not_count() {
        let weak =
            json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": NEUTRAL } });
        let (key, weak_id) = (new_key(), id_of(&weak).unwrap());
        let mut objects = key_objects([&key]);
        objects[&weak_id] = weak;
        let keys = parse(objects);
        let signatures = [
            (weak_id.clone(), [hex::decode(NEUTRAL).unwrap(), vec![0; 32]].concat()),
            (id(&key), key.sign(b"x")),
        ];
        let signature_of = |key_id: &str| {
            signatures
                .iter()
                .find(|(signer, _)| signer == key_id)
                .map(|(_, signature)| signature.as_slice())
        };
        assert!(keys.listed[&weak_id].public.verifies(b"x", signature_of(&weak_id).unwrap()));
        let both = vec![weak_id, id(&key)];
        RoleKeys::new(both.clone(), 1)
            .verify_message(&keys, &RoleName::Root, b"x", signature_of)
            .unwrap();
        let error = RoleKeys::new(both, 2)
            .verify_message(&keys, &RoleName::Root, b"x", signature_of)
            .unwrap_err();
        assert!(matches!(error, VerifyError::ThresholdNotMet { valid: 1, .. }), "{error}");
    }

    /// 300 large RSA keys take a minute.
    #[test]
    fn keys_that_have_not_signed_cost_nothing() {
        let (signer, others) = (new_key(), [new_key(), new_key()]);
        let keys = parse(key_objects(others.iter().chain([&signer])));
        let asked = || keys.listed.values().filter(|key| key.is_strong.get().is_some()).count();
        let role = RoleKeys::new(keys.listed.keys().cloned().collect(), 1);
        let (good, bad) = (signer.sign(b"x"), signer.sign(b"y"));
        role.verify_message(&keys, &RoleName::Root, b"x", |_| Some(bad.as_slice())).unwrap_err();
        assert_eq!(asked(), 0);
        role.verify_message(&keys, &RoleName::Root, b"x", |_| Some(good.as_slice())).unwrap();
        assert_eq!(asked(), 1);
    }
}
