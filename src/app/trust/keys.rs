//! Role keys against the roots that name them.

use std::sync::Arc;

use crate::app::Error;
use crate::catalog::RoleState;
use crate::keys::policy::key_name;
use crate::keys::{Keyring, Signer};
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::uptane::metadata::Authority;
use crate::uptane::verify::{Signers, TrustedSet};

/// Who may sign for a role, as what is published says.
///
/// # Errors
///
/// [`Error::Internal`] if nothing that was taken names its keys.
pub(in crate::app) fn authority(set: &TrustedSet, role: &RoleName) -> Result<Authority, Error> {
    let signers = match role {
        RoleName::Delegated(_) => set.delegated_signers(role),
        RoleName::Root | RoleName::Targets | RoleName::Snapshot | RoleName::Timestamp => {
            set.signers(role)
        }
    };
    let nobody = || {
        let fault = format!("nothing that is published says who signs {role}");
        Error::internal("look for who may sign")(std::io::Error::other(fault))
    };
    let Signers { key_ids, threshold } = signers.ok_or_else(nobody)?;
    // What is no id of a key of ours is nobody's here.
    let key_ids = key_ids.into_iter().filter_map(|id| id.try_into().ok()).collect();
    Ok(Authority { key_ids, threshold })
}

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
    keys: &[Arc<dyn Signer>],
    signers: &Signers,
    needed: Needed,
    role: &str,
    source: &str,
) -> Vec<String> {
    let expected = signers.key_ids.join(", ");
    let (listed, others): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| signers.key_ids.contains(&key.id().to_string()));
    let mut problems: Vec<String> = others
        .iter()
        .map(|key| {
            let (file, found) = (key.place(), key.id());
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
