//! One repository in the hands of whoever holds its keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::draft::{Draft, Edit};
use super::image::sha256_hex;
use super::keys::{Key, RoleKeys, key_objects};

/// Files by their name below the repository.
pub(crate) type Tree = BTreeMap<String, Arc<Vec<u8>>>;
/// Version, length and hashes of another file, as a snapshot or timestamp lists them.
pub(crate) type MetaFile = Value;

/// Which of the two repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Director,
    Image,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Director, Self::Image];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Director => "director",
            Self::Image => "image",
        }
    }

    /// Where it is served.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Director => "director",
            Self::Image => "repo",
        }
    }

    /// The roles that have a file of their own: the four, and in the Image repository those that
    /// bins have.
    pub(crate) fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Director => &TOP_ROLES,
            Self::Image => &["root", "timestamp", "snapshot", "targets", BINS],
        }
    }
}

pub(crate) const TOP_ROLES: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];
/// Stands for all bins where a role is named.
pub(crate) const BINS: &str = "bins";
pub(crate) const EXPIRES: &str = "2041-01-01T00:00:00Z";
pub(crate) const EXPIRED: &str = "2021-01-01T00:00:00Z";

/// An entry of `delegations.roles`.
#[derive(Clone)]
pub(crate) struct Delegation {
    pub(crate) object: Value,
    pub(crate) keys: Vec<Key>,
}

impl Delegation {
    pub(crate) fn to(name: &str, keys: &RoleKeys) -> Self {
        let mut object = keys.role_object();
        object["name"] = json!(name);
        object["terminating"] = json!(false);
        Self { object, keys: keys.keys.clone() }
    }

    /// Several roles that have to agree (TAP 3).
    pub(crate) fn to_several(min: u64, roles: &[(&str, &RoleKeys)]) -> Self {
        let role = |(name, keys): &(&str, &RoleKeys)| {
            let mut object = keys.role_object();
            object["name"] = json!(name);
            object
        };
        let object = json!({
            "min_roles_in_agreement": min,
            "roles": roles.iter().map(role).collect::<Vec<_>>(),
            "terminating": false,
        });
        Self { object, keys: roles.iter().flat_map(|(_, keys)| keys.keys.clone()).collect() }
    }

    pub(crate) fn paths(mut self, patterns: &[&str]) -> Self {
        self.object["paths"] = json!(patterns);
        self
    }

    pub(crate) fn prefixes(mut self, prefixes: &[String]) -> Self {
        self.object["path_hash_prefixes"] = json!(prefixes);
        self
    }

    pub(crate) fn hardware(mut self, hardware_ids: &[&str]) -> Self {
        self.object["hardware_ids"] = json!(hardware_ids);
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        self.object["terminating"] = json!(true);
        self
    }
}

/// A targets role, delegated or not.
#[derive(Clone)]
pub(crate) struct TargetsRole {
    pub(crate) keys: RoleKeys,
    pub(crate) targets: Map<String, Value>,
    pub(crate) delegations: Vec<Delegation>,
}

impl TargetsRole {
    pub(crate) fn new(keys: &RoleKeys) -> Self {
        Self { keys: keys.clone(), targets: Map::new(), delegations: Vec::new() }
    }
}

/// A repository with all that it ever published.
#[derive(Clone)]
pub(crate) struct HostileRepository {
    /// Named by the Director's files.
    pub(crate) vin: Option<String>,
    /// Keys of root, timestamp and snapshot; those of targets are in [`Self::targets`].
    pub(crate) roles: BTreeMap<String, RoleKeys>,
    /// Targets roles by name, the top-level one included.
    pub(crate) targets: BTreeMap<String, TargetsRole>,
    /// The version that each role has now.
    pub(crate) versions: BTreeMap<String, u64>,
    pub(crate) tree: Tree,
    root_keys_before: Option<RoleKeys>,
    listings: BTreeMap<(String, u64), MetaFile>,
}

impl HostileRepository {
    /// A repository with its first root and nothing else.
    pub(crate) fn new(vin: Option<&str>, keys: &BTreeMap<String, RoleKeys>) -> Self {
        let mut repository = Self {
            vin: vin.map(str::to_owned),
            roles: keys.clone(),
            targets: [("targets".to_owned(), TargetsRole::new(&keys["targets"]))].into(),
            versions: BTreeMap::new(),
            tree: Tree::new(),
            root_keys_before: None,
            listings: BTreeMap::new(),
        };
        repository.publish_root(&[]);
        repository
    }

    pub(crate) fn keys(&self, role: &str) -> &RoleKeys {
        if self.roles.contains_key(role) && role != "targets" {
            &self.roles[role]
        } else {
            &self.targets[role].keys
        }
    }

    pub(crate) fn keys_mut(&mut self, role: &str) -> &mut RoleKeys {
        match role {
            "root" | "timestamp" | "snapshot" => self.roles.get_mut(role).unwrap(),
            _ => &mut self.targets.get_mut(role).unwrap().keys,
        }
    }

    /// Replaces a role's keys by new ones; the next root says so.
    pub(crate) fn rotate(&mut self, role: &str) {
        *self.keys_mut(role) = RoleKeys::generate();
    }

    pub(crate) fn top(&mut self) -> &mut TargetsRole {
        self.targets.get_mut("targets").unwrap()
    }

    pub(crate) fn version(&self, role: &str) -> u64 {
        self.versions.get(role).copied().unwrap_or(0)
    }

    /// What a snapshot or timestamp said of a file when it was published.
    pub(crate) fn listing(&self, role: &str, version: u64) -> MetaFile {
        self.listings[&(role.to_owned(), version)].clone()
    }

    /// Adds a role and its file to what is published from now on.
    pub(crate) fn add_role(&mut self, name: &str, role: TargetsRole) {
        self.targets.insert(name.to_owned(), role);
    }

    /// Names of the delegated roles.
    pub(crate) fn delegated(&self) -> Vec<String> {
        self.targets.keys().filter(|name| *name != "targets").cloned().collect()
    }

    /// Publishes the next root, signed by the root keys before it and its own.
    pub(crate) fn publish_root(&mut self, edits: &[(&str, Edit)]) {
        let version = self.bump("root");
        let keys = &self.roles["root"];
        let mut signers: Vec<Key> = Vec::new();
        for key in self.root_keys_before.iter().flat_map(RoleKeys::signers).chain(keys.signers()) {
            if signers.iter().all(|other| other.id != key.id) {
                signers.push(key);
            }
        }
        self.root_keys_before = Some(keys.clone());
        let role = |role: &&str| ((*role).to_owned(), self.keys(role).role_object());
        let signed = json!({
            "_type": "root",
            "consistent_snapshot": true,
            "expires": EXPIRES,
            "keys": key_objects(TOP_ROLES.iter().flat_map(|role| &self.keys(role).keys)),
            "roles": TOP_ROLES.iter().map(role).collect::<Map<_, _>>(),
            "spec_version": "1.0.34",
            "version": version,
        });
        let bytes = drawn("root", Draft::new(signed, signers), edits);
        self.store(&format!("{version}.root.json"), bytes);
    }

    /// Publishes all targets roles, the snapshot and the timestamp under their next versions.
    ///
    /// An edit of [`BINS`] changes every delegated role.
    pub(crate) fn publish(&mut self, edits: &[(&str, Edit)]) {
        for role in self.delegated().into_iter().chain(["targets".to_owned()]) {
            self.publish_targets(&role, edits);
        }
        let meta = self
            .targets
            .keys()
            .map(|role| (format!("{role}.json"), self.listing(role, self.version(role))));
        let meta: Map<_, _> = meta.collect();
        let body = json!({ "_type": "snapshot", "meta": meta });
        self.publish_file("snapshot", body, edits);
        let meta = json!({ "snapshot.json": self.listing("snapshot", self.version("snapshot")) });
        self.publish_file("timestamp", json!({ "_type": "timestamp", "meta": meta }), edits);
    }

    fn publish_targets(&mut self, name: &str, edits: &[(&str, Edit)]) {
        let role = &self.targets[name];
        let mut body = json!({ "_type": "targets", "targets": role.targets });
        if !role.delegations.is_empty() {
            body["delegations"] = json!({
                "keys": key_objects(role.delegations.iter().flat_map(|delegation| &delegation.keys)),
                "roles": role.delegations.iter().map(|delegation| &delegation.object).collect::<Vec<_>>(),
            });
        }
        self.publish_file(name, body, edits);
    }

    fn publish_file(&mut self, role: &str, mut signed: Value, edits: &[(&str, Edit)]) {
        let version = self.bump(role);
        signed["expires"] = json!(EXPIRES);
        signed["spec_version"] = json!("1.0.34");
        signed["version"] = json!(version);
        if let Some(vin) = &self.vin {
            signed["vin"] = json!(vin);
        }
        let signers = self.keys(role).signers();
        let bytes = drawn(role, Draft::new(signed, signers), edits);
        self.listings.insert((role.to_owned(), version), listing(version, &bytes));
        let file = if role == "timestamp" {
            "timestamp.json".to_owned()
        } else {
            file_name(role, version)
        };
        self.store(&file, bytes);
    }

    pub(crate) fn store(&mut self, file: &str, bytes: Vec<u8>) {
        self.tree.insert(file.to_owned(), Arc::new(bytes));
    }

    fn bump(&mut self, role: &str) -> u64 {
        let version = self.versions.entry(role.to_owned()).or_default();
        *version += 1;
        *version
    }
}

fn drawn(role: &str, mut draft: Draft, edits: &[(&str, Edit)]) -> Vec<u8> {
    let is_bin = !TOP_ROLES.contains(&role);
    for (_, edit) in edits.iter().filter(|(name, _)| *name == role || (*name == BINS && is_bin)) {
        edit(&mut draft);
    }
    draft.finish()
}

/// A file of a consistent snapshot. Clients quote what a role's name has in it; so a test can serve
/// both.
pub(crate) fn file_name(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

pub(crate) fn listing(version: u64, bytes: &[u8]) -> MetaFile {
    json!({ "hashes": { "sha256": sha256_hex(bytes) }, "length": bytes.len(), "version": version })
}
