//! What changes from one root to the next, in words, for the people who are to sign it.

use motorcade_uptane::key::{KeyId, Scheme};
use motorcade_uptane::metadata::{RoleKeys, Root};

use crate::keys::hybrid::READERS;
use crate::model::{RoleName, Timestamp};

/// What changes from one root to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDiff {
    /// The versions.
    pub versions: (u64, u64),
    /// When each expires.
    pub expires: (Timestamp, Timestamp),
    /// Every role of either.
    pub roles: Vec<RoleDiff>,
}

/// What changes of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleDiff {
    /// The role.
    pub role: RoleName,
    /// How many keys have to sign; 0 where a root does not have the role.
    pub threshold: (u64, u64),
    /// Keys of both.
    pub kept: Vec<NamedKey>,
    /// Keys of the next one alone.
    pub added: Vec<NamedKey>,
    /// Keys of the one before alone.
    pub removed: Vec<NamedKey>,
}

/// A key as a root has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// Its id.
    pub id: KeyId,
    /// How it signs, as its key object says.
    pub scheme: String,
}

impl RootDiff {
    /// Compares two roots.
    pub fn between(current: &Root, next: &Root) -> Self {
        let names = current.roles.keys().chain(next.roles.keys()).cloned();
        let names: std::collections::BTreeSet<RoleName> = names.collect();
        Self {
            versions: (current.version.get(), next.version.get()),
            expires: (current.expires, next.expires),
            roles: names.into_iter().map(|role| RoleDiff::between(role, current, next)).collect(),
        }
    }

    /// All of it, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("root {} -> {}", self.versions.0, self.versions.1)];
        lines.push(match self.expires {
            (before, after) if before == after => format!("expires {after}, as before"),
            (before, after) => format!("expires {before} -> {after}"),
        });
        lines.extend(self.roles.iter().flat_map(RoleDiff::lines));
        lines
    }

    /// What it means for clients, a sentence each.
    pub fn consequences(&self) -> Vec<String> {
        let (before, after) = self.versions;
        let mut told = Vec::new();
        if let Some(root) = self.role(&RoleName::Root) {
            let counts = |threshold, keys: usize| format!("{threshold} of {keys}");
            told.push(format!(
                "Clients with root {before} or an older one fetch root {after} next, and take it once {} root keys of version \
                 {before} and {} of version {after} have signed it.",
                counts(root.threshold.0, root.kept.len() + root.removed.len()),
                counts(root.threshold.1, root.kept.len() + root.added.len()),
            ));
            if !root.removed.is_empty() {
                told.push(format!(
                    "Whoever has only removed root keys can sign no root after version {after}; keep the files of all \
                     versions before it, since clients walk through each."
                ));
            }
        }
        let is_new = |role: &RoleName| {
            self.role(role).is_some_and(|role| role.kept.len() < role.threshold.1 as usize)
        };
        if is_new(&RoleName::Timestamp) || is_new(&RoleName::Snapshot) {
            told.push(
                "Clients forget the timestamp and the snapshot that they trust (TUF 1.0.34, 5.3.11), so that version numbers \
                 may start again."
                    .to_owned(),
            );
        }
        for role in
            self.roles.iter().filter(|role| role.role != RoleName::Root && is_new(&role.role))
        {
            told.push(format!(
                "What is published of {} has to be signed by its new keys before clients have root {after}.",
                role.role
            ));
        }
        let next_keys = self.roles.iter().flat_map(|role| role.kept.iter().chain(&role.added));
        if next_keys.into_iter().any(|key| key.scheme == Scheme::MlDsa65.as_str()) {
            told.push(format!("Root {after} can't be read by every client: {READERS}."));
        }
        if self.expires.1 < self.expires.0 {
            told.push(format!("Root {after} expires earlier than root {before} does."));
        }
        told
    }

    fn role(&self, name: &RoleName) -> Option<&RoleDiff> {
        self.roles.iter().find(|role| role.role == *name)
    }
}

impl RoleDiff {
    fn between(role: RoleName, current: &Root, next: &Root) -> Self {
        let none = RoleKeys { keyids: Vec::new(), threshold: std::num::NonZeroU64::MIN };
        let keys = |root: &Root| root.roles.get(&role).unwrap_or(&none).keyids.clone();
        let threshold = |root: &Root| root.roles.get(&role).map_or(0, |keys| keys.threshold.get());
        let (before, after) = (keys(current), keys(next));
        let named = |root: &Root, ids: &[KeyId], pick: &dyn Fn(&KeyId) -> bool| {
            ids.iter().filter(|id| pick(id)).map(|id| NamedKey::of(root, *id)).collect()
        };
        Self {
            threshold: (threshold(current), threshold(next)),
            kept: named(next, &after, &|id| before.contains(id)),
            added: named(next, &after, &|id| !before.contains(id)),
            removed: named(current, &before, &|id| !after.contains(id)),
            role,
        }
    }

    fn lines(&self) -> Vec<String> {
        let keys = self.kept.len() + self.added.len();
        let threshold = match self.threshold {
            (before, after) if before == after => format!("{after} of {keys} sign"),
            (before, after) => format!("{after} of {keys} sign, {before} before"),
        };
        let mut lines = vec![format!("{}: {threshold}", self.role)];
        for (verb, keys) in
            [("keeps", &self.kept), ("adds", &self.added), ("removes", &self.removed)]
        {
            lines.extend(keys.iter().map(|key| format!("  {verb} {} {}", key.id, key.scheme)));
        }
        lines
    }
}

impl NamedKey {
    fn of(root: &Root, id: KeyId) -> Self {
        let scheme = root.keys.get(&id).and_then(|key| key["scheme"].as_str());
        // What no root of ours has can be anything; it is shown to people.
        let scheme = scheme.unwrap_or("unknown").chars().filter(char::is_ascii_graphic).take(64);
        Self { id, scheme: scheme.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use motorcade_uptane::key::{PublicKey, Scheme, SigningKey};
    use motorcade_uptane::metadata::root::{self, Appointed, RoleChange};

    use super::*;

    fn key() -> PublicKey {
        let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
        SigningKey::from_pem(&pem).unwrap().public().clone()
    }

    #[test]
    fn says_what_changes_and_what_that_means() {
        let keys: Vec<PublicKey> = RoleName::TOP_LEVEL.iter().map(|_| key()).collect();
        let appointed = RoleName::TOP_LEVEL.into_iter().zip(&keys).map(|(role, key)| Appointed {
            role,
            keys: vec![key],
            threshold: NonZeroU64::MIN,
        });
        let (first, _) = root::first(Timestamp::UNIX_EPOCH, appointed).unwrap();
        let first = first.draft([]).unwrap();
        let (officer, timestamp) = (key(), key());
        let changes = [
            RoleChange {
                role: RoleName::Root,
                keys: vec![keys[0].clone(), officer.clone()],
                threshold: NonZeroU64::new(2).unwrap(),
            },
            RoleChange {
                role: RoleName::Timestamp,
                keys: vec![timestamp.clone()],
                threshold: NonZeroU64::MIN,
            },
        ];
        let version = NonZeroU64::new(2).unwrap();
        let (next, _) = root::changed(&first, version, Timestamp::UNIX_EPOCH, &changes).unwrap();
        let next: Root = serde_json::from_slice(next.text()).unwrap();
        let diff = RootDiff::between(&root::parse(&first).unwrap(), &next);
        let expected = [
            "root 1 -> 2".to_owned(),
            "expires 1970-01-01T00:00:00Z, as before".to_owned(),
            "root: 2 of 2 sign, 1 before".to_owned(),
            format!("  keeps {} ed25519", keys[0].id()),
            format!("  adds {} ed25519", officer.id()),
            "snapshot: 1 of 1 sign".to_owned(),
            format!("  keeps {} ed25519", keys[2].id()),
            "targets: 1 of 1 sign".to_owned(),
            format!("  keeps {} ed25519", keys[1].id()),
            "timestamp: 1 of 1 sign".to_owned(),
            format!("  adds {} ed25519", timestamp.id()),
            format!("  removes {} ed25519", keys[3].id()),
        ];
        assert_eq!(diff.lines(), expected);
        let told = diff.consequences().join("\n");
        assert!(told.contains("1 of 1 root keys of version 1 and 2 of 2 of version 2"), "{told}");
        assert!(told.contains("forget the timestamp"), "{told}");
        assert!(told.contains("published of timestamp has to be signed"), "{told}");
        assert!(!told.contains("published of snapshot"), "{told}");
    }
}
