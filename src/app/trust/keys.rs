//! Role keys against the roots that name them.

use crate::catalog::RoleState;
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::uptane::keyring::{Keyring, RoleKey};
use crate::uptane::policy::key_name;
use crate::uptane::verify::{Signers, TrustedSet};

/// What is wrong with the keys of a repository's top-level roles, a line each. `root` **must** be
/// its newest.
pub(in crate::app) fn compare_keys(
    keyring: &Keyring,
    side: RepositorySide,
    root: &TrustedSet,
) -> Vec<String> {
    let source = format!("root {} of the {side}", root.root_version());
    let compare = |role: RoleName| {
        let signers = root.signers(&role)?;
        let needed = match role {
            RoleName::Root => Needed::Elsewhere,
            RoleName::Targets
            | RoleName::Snapshot
            | RoleName::Timestamp
            | RoleName::Delegated(_) => Needed::Here,
        };
        let (keys, name) = (keyring.keys(side, role.kind()), key_name(side, role.kind()));
        Some(compare_role(keys, &signers, needed, &name, &source))
    };
    RoleName::TOP_LEVEL.into_iter().filter_map(compare).flatten().collect()
}

/// The same for the keys of the bins, which the Image repository's targets name: as one of the bins
/// says.
pub(in crate::app) fn compare_bins(
    keyring: &Keyring,
    states: &[RoleState],
    set: &TrustedSet,
) -> Vec<String> {
    let bin = states.iter().find(|state| matches!(state.name, RoleName::Delegated(_)));
    let Some(signers) = bin.and_then(|bin| set.delegated_signers(&bin.name)) else {
        return Vec::new();
    };
    compare_role(
        keyring.keys(RepositorySide::Image, RoleKind::Bins),
        &signers,
        Needed::Here,
        RoleKind::Bins.as_str(),
        "the targets of the Image repository",
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    Here,
    /// The keys of a root may be on another machine.
    Elsewhere,
}

fn compare_role(
    keys: &[RoleKey],
    signers: &Signers,
    needed: Needed,
    role: &str,
    source: &str,
) -> Vec<String> {
    let expected = signers.key_ids.join(", ");
    let (listed, others): (Vec<&RoleKey>, _) =
        keys.iter().partition(|key| signers.key_ids.contains(&key.hex_id()));
    let mut problems: Vec<String> = others
        .iter()
        .map(|key| {
            let (file, found) = (key.file().display(), key.hex_id());
            format!(
                "{file} holds the key {found}, where {source} names {expected} for the role {role}"
            )
        })
        .collect();
    if problems.is_empty() && needed == Needed::Here && (listed.len() as u64) < signers.threshold {
        let (found, threshold) = (listed.len(), signers.threshold);
        problems.push(format!(
            "{found} keys of the role {role} are in keys/, where {source} asks for {threshold}: {expected}"
        ));
    }
    problems
}
