//! What clients take at most: a file that gets longer is refused by all of their vehicles at once.

use serde_json::Value;

use super::{Examination, Severity};
use crate::app::Error;
use crate::app::trust::read_published;
use crate::model::{RepositorySide, RoleKind, RoleName};

/// A client, and the most bytes that it takes of each role: root, timestamp, snapshot, targets.
struct Client {
    name: &'static str,
    root: u64,
    timestamp: u64,
    snapshot: u64,
    targets: u64,
    /// How many versions of root it walks in one cycle, if there is such a limit.
    rotations: u64,
}

/// As their sources say.
const CLIENTS: [Client; 4] = [
    Client {
        name: "aktualizr",
        root: 64 * KIB,
        timestamp: 64 * KIB,
        snapshot: 64 * KIB,
        targets: 8192 * KIB,
        rotations: u64::MAX,
    },
    Client {
        name: "tough 0.24",
        root: 1024 * KIB,
        timestamp: 1024 * KIB,
        snapshot: 1024 * KIB,
        targets: 10_240 * KIB,
        rotations: 1024,
    },
    Client {
        name: "python-tuf",
        root: 512_000,
        timestamp: 16_384,
        snapshot: 2_000_000,
        targets: 5_000_000,
        rotations: 256,
    },
    Client {
        name: "motorcade-vehicle",
        root: 512 * KIB,
        timestamp: 16 * KIB,
        snapshot: 4096 * KIB,
        targets: 8192 * KIB,
        rotations: 1024,
    },
];

impl Client {
    fn limit(&self, kind: RoleKind) -> u64 {
        match kind {
            RoleKind::Root => self.root,
            RoleKind::Timestamp => self.timestamp,
            RoleKind::Snapshot => self.snapshot,
            RoleKind::Targets | RoleKind::Bins | RoleKind::Suppliers => self.targets,
        }
    }
}

impl Examination {
    pub(super) async fn limits(&mut self) -> Result<String, Error> {
        for kind in RepositorySide::Image.kinds() {
            let lengths = self.roles.iter().filter(|state| state.name.kind() == *kind);
            let longest = lengths.map(|state| state.length).max().unwrap_or(0);
            self.length(RepositorySide::Image, *kind, longest);
        }
        let versions = self.roles.iter().find(|state| state.name == RoleName::Root);
        self.rotations(RepositorySide::Image, versions.map_or(0, |root| root.version));
        if let Some(root) = self.catalog.find_director_root(None).await? {
            self.length(RepositorySide::Director, RoleKind::Root, root.body.len() as u64);
            self.rotations(RepositorySide::Director, root.version);
            self.schemes(RepositorySide::Director, &root.body);
        }
        if let Some(root) = self.roles.iter().find(|state| state.name == RoleName::Root).cloned()
            && let Ok(bytes) = read_published(self.store.as_ref(), &root).await?
        {
            self.schemes(RepositorySide::Image, &bytes);
        }
        let names = CLIENTS.map(|client| client.name).join(", ");
        Ok(format!("lengths and numbers of files against what these take: {names}"))
    }

    fn length(&mut self, side: RepositorySide, kind: RoleKind, length: u64) {
        for client in &CLIENTS {
            let (name, limit) = (client.name, client.limit(kind));
            let problem = format!(
                "the {kind} metadata of the {side} is {length} bytes long, and {name} takes {limit}"
            );
            if length > limit {
                self.error(problem, SHORTER);
            } else if length > limit / 4 * 3 {
                self.warn(problem, SHORTER);
            }
        }
    }

    /// Only a client that was never online since has to walk all of them.
    fn rotations(&mut self, side: RepositorySide, versions: u64) {
        for Client { name, rotations, .. } in &CLIENTS {
            if versions > rotations / 4 * 3 {
                self.warn(
                    format!("the {side} has {versions} versions of root, and {name} walks {rotations} in one cycle"),
                    "give new vehicles a newer root at the factory: `motorcade-vehicle provision`",
                );
            }
        }
    }

    /// Kinds of keys that not every client can read.
    fn schemes(&mut self, side: RepositorySide, root: &[u8]) {
        let root: Value = serde_json::from_slice(root).unwrap_or_default();
        let keys = root["signed"]["keys"].as_object().into_iter().flat_map(|keys| keys.values());
        let is_hybrid = keys
            .filter_map(|key| key["scheme"].as_str())
            .any(|scheme| scheme.starts_with("ml-dsa"));
        if is_hybrid {
            self.find(
                Severity::Note,
                format!("the root of the {side} has an ML-DSA key: tough 0.24 and aktualizr can't read it, motorcade-vehicle can"),
                "nothing, if all of the fleet runs a verifier that knows TAP 21; otherwise rotate root back to Ed25519",
            );
        }
    }
}

const KIB: u64 = 1024;
const SHORTER: &str = "yank images that nobody needs; a root gets shorter with fewer keys, a snapshot with fewer bins (docs/OPERATIONS.md)";
