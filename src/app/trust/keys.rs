//! Role keys against the roots that name them.

use std::collections::BTreeSet;

use crate::app::Error;
use crate::catalog::RoleState;
use crate::keys::Keyring;
use crate::keys::policy::{Policy, key_name};
use crate::model::{RepositorySide, RoleKind, RoleName, SupplierRecord};
use crate::uptane::key::KeyId;
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
    signers.ok_or_else(nobody).map(authority_of)
}

/// The same of signers that were found. What is no id of a key of ours is nobody's here.
pub(in crate::app) fn authority_of(signers: Signers) -> Authority {
    let Signers { key_ids, threshold } = signers;
    let key_ids = key_ids.into_iter().filter_map(|id| id.try_into().ok()).collect();
    Authority { key_ids, threshold }
}

/// What is wrong with the keys of a repository's top-level roles, a line each. `root` **must** be
/// its newest. Nobody misses those that are `lost`.
pub(in crate::app) fn compare_keys(
    keyring: &Keyring,
    policy: &Policy,
    side: RepositorySide,
    root: &TrustedSet,
    former: &BTreeSet<KeyId>,
    lost: &BTreeSet<KeyId>,
) -> Vec<String> {
    let source = format!("root {} of the {side}", root.root_version());
    let compare = |role: RoleName| {
        let signers = root.signers(&role)?;
        if policy.role(side, role.kind()).offline {
            return None; // people sign it, wherever their keys are
        }
        let needed = match role {
            RoleName::Root => Needed::Elsewhere { former },
            RoleName::Targets
            | RoleName::Snapshot
            | RoleName::Timestamp
            | RoleName::Delegated(_) => Needed::Here { lost },
        };
        Some(compare_role(keyring, (side, role.kind()), &signers, needed, &source))
    };
    RoleName::TOP_LEVEL.into_iter().filter_map(compare).flatten().collect()
}

/// The same for the keys of the bins, which the Image repository's targets name: as one of the bins
/// says.
pub(in crate::app) fn compare_bins(
    keyring: &Keyring,
    states: &[RoleState],
    set: &TrustedSet,
    lost: &BTreeSet<KeyId>,
) -> Vec<String> {
    let bin = states.iter().find(|state| state.name.kind() == RoleKind::Bins);
    let Some(signers) = bin.and_then(|bin| set.delegated_signers(&bin.name)) else {
        return Vec::new();
    };
    let role = (RepositorySide::Image, RoleKind::Bins);
    let needed = Needed::Here { lost };
    compare_role(keyring, role, &signers, needed, "the targets of the Image repository")
}

/// The roles that this server signs: not those whose keys are with a supplier, nor targets that
/// people sign, once there are some.
pub(in crate::app) fn signed_here(
    states: &[RoleState],
    suppliers: &[SupplierRecord],
    policy: &Policy,
) -> Vec<RoleState> {
    let others: Vec<RoleName> =
        suppliers.iter().filter(|supplier| supplier.offline).map(SupplierRecord::role).collect();
    let is_here = |state: &&RoleState| match state.name {
        RoleName::Targets => state.version == 0 || !policy.has_offline_targets(),
        _ => !others.contains(&state.name),
    };
    states.iter().filter(is_here).cloned().collect()
}

/// The same for the keys of suppliers' roles, whose other keys are those of other suppliers. Of
/// those whose keys are with the supplier, none **must** be among `states`.
pub(in crate::app) fn compare_suppliers(
    keyring: &Keyring,
    states: &[RoleState],
    set: &TrustedSet,
    lost: &BTreeSet<KeyId>,
) -> Vec<String> {
    let compare = |role: &RoleName| {
        let Signers { key_ids, threshold } = set.delegated_signers(role)?; // none before it is published
        let ids: BTreeSet<KeyId> = key_ids.iter().filter_map(|id| id.parse().ok()).collect();
        let found = keyring.named(&ids).len() + ids.intersection(lost).count();
        let expected = key_ids.join(", ");
        ((found as u64) < threshold).then(|| {
            format!(
                "{found} keys of the role {role} are in keys/, where the targets of the Image repository ask for \
                 {threshold} of {expected}"
            )
        })
    };
    let roles = states.iter().map(|state| &state.name);
    roles.filter(|role| role.kind() == RoleKind::Suppliers).filter_map(compare).collect()
}

/// Where the policy asks for something else than what is published, a line each: what a rotation of
/// the role would change. `bin` is a role that the targets delegate to, if these have been taken.
pub(in crate::app) fn compare_policy(
    policy: &Policy,
    side: RepositorySide,
    root: &TrustedSet,
    bin: Option<&RoleName>,
) -> Vec<String> {
    let top_level = RoleName::TOP_LEVEL.iter().map(|role| (role.kind(), root.signers(role)));
    let bins = bin.map(|bin| (RoleKind::Bins, root.delegated_signers(bin)));
    let compare = |(kind, signers): (RoleKind, Option<Signers>)| {
        let (signers, wanted) = (signers?, policy.role(side, kind));
        let published = (signers.threshold, signers.key_ids.len());
        let asked = (u64::from(wanted.threshold), usize::from(wanted.keys()));
        if published == asked {
            return None;
        }
        let (role, repository) = (key_name(side, kind), side.as_str());
        let command = match kind {
            RoleKind::Root => format!("motorcade root stage --repository {repository}"),
            RoleKind::Targets if wanted.offline => "motorcade root stage".to_owned(),
            kind => format!("motorcade role rotate {kind} --repository {repository}"),
        };
        Some(format!(
            "metadata/policy.toml asks for {} of {} keys of the role {role}, and what is published for {} of {}: \
             `{command}` changes that",
            asked.0, asked.1, published.0, published.1
        ))
    };
    top_level.chain(bins).filter_map(compare).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed<'a> {
    /// All but those that a person has said are lost.
    Here { lost: &'a BTreeSet<KeyId> },
    /// The keys of a root may be on another machine, and those that are here be former ones.
    Elsewhere { former: &'a BTreeSet<KeyId> },
}

impl Needed<'_> {
    fn is_former(self, id: &KeyId) -> bool {
        match self {
            Self::Here { .. } => false,
            Self::Elsewhere { former } => former.contains(id),
        }
    }

    /// How many of these keys nobody waits for.
    fn excused(self, ids: &BTreeSet<KeyId>) -> usize {
        match self {
            Self::Here { lost } => ids.intersection(lost).count(),
            Self::Elsewhere { .. } => 0,
        }
    }
}

/// Who is named and who is here. Keys that are named nowhere, such as one that was prepared for a
/// rotation, do no harm beside enough others: they sign nothing.
fn compare_role(
    keyring: &Keyring,
    (side, kind): (RepositorySide, RoleKind),
    signers: &Signers,
    needed: Needed<'_>,
    source: &str,
) -> Vec<String> {
    let ids: BTreeSet<_> = signers.key_ids.iter().filter_map(|id| id.parse().ok()).collect();
    let found = keyring.named(&ids).len();
    if (found + needed.excused(&ids)) as u64 >= signers.threshold {
        return Vec::new();
    }
    let (role, expected) = (key_name(side, kind), signers.key_ids.join(", "));
    let others = keyring
        .keys(side, kind)
        .iter()
        .filter(|key| !ids.contains(&key.id()) && !needed.is_former(&key.id()));
    let mut problems: Vec<String> = others
        .map(|key| {
            let (file, found) = (key.place(), key.id());
            format!(
                "{file} holds the key {found}, where {source} names {expected} for the role {role}"
            )
        })
        .collect();
    if problems.is_empty() && matches!(needed, Needed::Here { .. }) {
        let threshold = signers.threshold;
        problems.push(format!(
            "{found} keys of the role {role} are here, where {source} asks for {threshold}: {expected}"
        ));
    }
    problems
}
