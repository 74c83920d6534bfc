//! A repository for tests: signs whatever it is told to.

#![allow(missing_docs, clippy::unwrap_used, reason = "it is for tests, and panics like them")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[cfg(test)]
use super::{Rules, TrustedSet, VerifyError};
use crate::canonical::canonical;
use crate::key::{Scheme, SigningKey};
use motorcade_model::Timestamp;

pub fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub const LATER: &str = "2031-01-01T00:00:00Z";
pub const EARLIER: &str = "2029-12-31T23:59:59Z";

pub fn new_key() -> SigningKey {
    SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap()
}

pub fn id(key: &SigningKey) -> String {
    key.public().id().to_string()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn sign(signed: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let message = canonical(signed).unwrap();
    let signature =
        |key: &&SigningKey| json!({ "keyid": id(key), "sig": hex::encode(key.sign(&message)) });
    let signatures: Vec<_> = keys.iter().map(signature).collect();
    json!({ "signatures": signatures, "signed": signed }).to_string().into_bytes()
}

pub fn signed(kind: &str, version: u64, body: Value) -> Value {
    let mut signed =
        json!({ "_type": kind, "spec_version": "1.0.34", "version": version, "expires": LATER });
    signed.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    signed
}

pub fn listed(bytes: &[u8], version: u64) -> Value {
    json!({ "version": version, "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } })
}

pub fn key_objects<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Value {
    keys.into_iter()
        .map(|key| (id(key), key.public().object().clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A repository of one key a role, and its files as they were published last.
pub struct Repo {
    pub keys: BTreeMap<&'static str, SigningKey>,
    /// Top-level `vin` of all but the root.
    pub vin: Option<&'static str>,
    pub targets: Value,
    /// Delegated roles: name, file, version.
    pub delegated: Vec<(String, Vec<u8>, u64)>,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repo {
    pub fn new(vin: Option<&'static str>) -> Self {
        let keys =
            ["root", "timestamp", "snapshot", "targets"].map(|role| (role, new_key())).into();
        let targets = json!({ "targets": {} });
        let mut repo = Self { keys, vin, targets, delegated: Vec::new(), files: BTreeMap::new() };
        let root = repo.sign("root", &repo.root(1));
        repo.files.insert("1.root.json".into(), root);
        repo
    }

    pub fn root(&self, version: u64) -> Value {
        let role = |role: &str| json!({ "keyids": [id(&self.keys[role])], "threshold": 1 });
        let roles: serde_json::Map<_, _> =
            self.keys.keys().map(|name| ((*name).to_owned(), role(name))).collect();
        let keys = key_objects(self.keys.values());
        signed(
            "root",
            version,
            json!({ "keys": keys, "roles": roles, "consistent_snapshot": true }),
        )
    }

    pub fn sign(&self, role: &str, signed: &Value) -> Vec<u8> {
        sign(signed, &[&self.keys[role]])
    }

    pub fn with_vin(&self, mut signed: Value) -> Value {
        if let Some(vin) = self.vin {
            signed["vin"] = vin.into();
        }
        signed
    }

    /// Publishes a version of everything but the root.
    pub fn publish(&mut self, version: u64) {
        let targets = self.with_vin(signed("targets", version, self.targets.clone()));
        self.publish_with_targets(version, self.sign("targets", &targets));
    }

    /// The same with a targets file that somebody else has signed.
    pub fn publish_with_targets(&mut self, version: u64, targets: Vec<u8>) {
        let mut meta = json!({ "targets.json": listed(&targets, version) });
        for (role, file, version) in &self.delegated {
            meta[format!("{role}.json")] = listed(file, *version);
            self.files.insert(format!("{version}.{role}.json"), file.clone());
        }
        let snapshot = self.with_vin(signed("snapshot", version, json!({ "meta": meta })));
        let snapshot = self.sign("snapshot", &snapshot);
        let timestamp = json!({ "meta": { "snapshot.json": listed(&snapshot, version) } });
        let timestamp =
            self.sign("timestamp", &self.with_vin(signed("timestamp", version, timestamp)));
        self.files.insert(format!("{version}.targets.json"), targets);
        self.files.insert(format!("{version}.snapshot.json"), snapshot);
        self.files.insert("timestamp.json".into(), timestamp);
    }

    pub fn file(&self, name: &str) -> &[u8] {
        &self.files[name]
    }
}

#[cfg(test)]
pub(super) fn image() -> Rules {
    Rules::Image
}

#[cfg(test)]
pub(super) fn set(repo: &Repo, rules: Rules) -> TrustedSet {
    TrustedSet::new(repo.file("1.root.json"), rules, now()).unwrap()
}

/// Everything up to the targets of one version.
#[cfg(test)]
pub(super) fn load(set: &mut TrustedSet, repo: &Repo, version: u64) -> Result<(), VerifyError> {
    set.update_timestamp(repo.file("timestamp.json"))?;
    set.update_snapshot(repo.file(&format!("{version}.snapshot.json")))?;
    set.update_targets(repo.file(&format!("{version}.targets.json")))
}

#[cfg(test)]
pub(super) fn listed_target(bytes: &[u8]) -> Value {
    json!({ "length": bytes.len(), "hashes": { "sha256": sha256(bytes) } })
}
