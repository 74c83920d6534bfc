//! A repository whose keys the targets have: what they sign gets past the signatures, to the checks
//! behind them.

use std::sync::LazyLock;

use motorcade_uptane::verify::fixture::{Repo, id, now, sign, signed};
use motorcade_uptane::verify::{Rules, TrustedSet};
use serde_json::{Value, json};

static REPO: LazyLock<Repo> = LazyLock::new(|| Repo::new(None));

/// A set that trusts the repository's first root and nothing else.
pub fn trusted() -> TrustedSet {
    TrustedSet::new(REPO.file("1.root.json"), Rules::Image, now()).expect("it is a root")
}

/// The members of an object as a file of that role, signed by the role's own key. Members that
/// every file has are added where they are missing.
pub fn file_of(role: &str, members: &[u8]) -> Option<(Value, Vec<u8>)> {
    let members = serde_json::from_slice(members).ok().filter(Value::is_object)?;
    let content = signed(role, 1, members);
    motorcade_uptane::canonical::canonical(&content).ok()?;
    let file = sign(&content, &[&REPO.keys[role]]);
    Some((content, file))
}

/// Lists the repository's own root key in a root, as one that may sign for it.
pub fn add_root_key(members: &[u8]) -> Option<Vec<u8>> {
    let mut members: Value = serde_json::from_slice(members).ok()?;
    let key = &REPO.keys["root"];
    members.get_mut("keys")?.as_object_mut()?.insert(id(key), key.public().object().clone());
    let roles = members.get_mut("roles")?.as_object_mut()?;
    roles.insert("root".into(), json!({ "keyids": [id(key)], "threshold": 1 }));
    serde_json::to_vec(&members).ok()
}

/// A set that has taken a timestamp which lists this version of the snapshot.
pub fn with_snapshot_listed(version: &Value) -> Option<TrustedSet> {
    let meta = json!({ "meta": { "snapshot.json": { "version": version } } });
    let (_, timestamp) = file_of("timestamp", meta.to_string().as_bytes())?;
    let mut set = trusted();
    set.update_timestamp(&timestamp).ok()?;
    Some(set)
}

/// A set that has taken a snapshot which lists this version of the targets.
pub fn with_targets_listed(version: &Value) -> Option<TrustedSet> {
    let mut set = with_snapshot_listed(&json!(1))?;
    let meta = json!({ "meta": { "targets.json": { "version": version } } });
    let (_, snapshot) = file_of("snapshot", meta.to_string().as_bytes())?;
    set.update_snapshot(&snapshot).ok()?;
    Some(set)
}
