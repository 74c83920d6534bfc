//! Keys that metadata lists, and thresholds of signatures.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::VerifyError;
use super::metadata::Metadata;
use crate::uptane::canonical::canonical;
use crate::uptane::key::PublicKey;

/// What the id of a key has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyIds {
    /// The hash of the key object (TUF 1.0.34, 4.3). Our own repositories, and nothing else in a vehicle.
    Recomputed,
    /// Whatever it is listed under (TAP 12), since well-known public repositories have ids of their own making. One key still
    /// counts once, under however many ids.
    AsListed,
}

/// Keys that a file lists, those of unknown schemes left out: they can't verify anything, and must not keep a vehicle from
/// a root that prepares for a new scheme.
#[derive(Debug, Clone)]
pub(super) struct Keys(BTreeMap<String, PublicKey>);

impl Keys {
    pub(super) fn parse(role: &str, objects: BTreeMap<String, Value>, ids: KeyIds) -> Result<Self, VerifyError> {
        if objects.len() > MAX_KEYS {
            let fault = format!("it has more than {MAX_KEYS} keys");
            return Err(VerifyError::Malformed { role: role.to_owned(), fault });
        }
        let mut keys: BTreeMap<String, PublicKey> = BTreeMap::new();
        for (key_id, object) in objects {
            if ids == KeyIds::Recomputed && id_of(&object).as_deref() != Some(key_id.as_str()) {
                return Err(VerifyError::KeyIdMismatch { role: role.to_owned(), key_id });
            }
            let Ok(key) = PublicKey::from_object(object) else { continue };
            // Nor can a key under which anybody signs. Repositories of others have keys of their own making, and as many as
            // they like: an RSA key takes milliseconds.
            if ids == KeyIds::Recomputed && key.check_strength().is_err() {
                continue;
            }
            if ids == KeyIds::Recomputed && keys.values().any(|other| other.is_same_key(&key)) {
                return Err(VerifyError::DuplicateKey { role: role.to_owned() });
            }
            keys.insert(key_id, key);
        }
        Ok(Self(keys))
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

    /// Refuses what could never protect anything. More signatures than keys is no such case: it can't ever be met.
    pub(super) fn check(&self, within: &str, of: &str) -> Result<(), VerifyError> {
        if self.threshold == 0 {
            return Err(VerifyError::ZeroThreshold { role: within.to_owned(), of: of.to_owned() });
        }
        let distinct: BTreeSet<_> = self.keyids.iter().collect();
        if distinct.len() < self.keyids.len() {
            return Err(VerifyError::DuplicateKey { role: within.to_owned() });
        }
        Ok(())
    }

    /// Counts good signatures of distinct keys (TUF 1.0.34, 5.3.4). Others do no harm (KEY-13): they are there while keys
    /// are rotated, and an attacker who could add one must not stop an update with it (AT-28).
    pub(super) fn verify<T>(&self, keys: &Keys, role: &str, metadata: &Metadata<T>) -> Result<(), VerifyError> {
        self.verify_message(keys, role, &metadata.message, |key_id| metadata.signature(key_id))
    }

    /// The same for a message and its signatures by key id.
    pub(super) fn verify_message<'a>(
        &self,
        keys: &Keys,
        role: &str,
        message: &[u8],
        signature_of: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), VerifyError> {
        let mut signers: Vec<&PublicKey> = Vec::new();
        for key_id in &self.keyids {
            let (Some(key), Some(signature)) = (keys.0.get(key_id), signature_of(key_id)) else { continue };
            let is_new = !signers.iter().any(|signer| signer.is_same_key(key));
            if is_new && key.verifies(message, signature) {
                signers.push(key);
            }
        }
        let valid = signers.len() as u64;
        if self.threshold == 0 || valid < self.threshold {
            return Err(VerifyError::ThresholdNotMet { role: role.to_owned(), valid, threshold: self.threshold });
        }
        Ok(())
    }
}

const MAX_KEYS: usize = 1024; // each is compared with each, before any signature is checked
