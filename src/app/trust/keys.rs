//! Role keys against the roots that name them.

use crate::uptane::keyring::{Keyring, RoleKey};
use crate::uptane::root::Repository;
use crate::uptane::verify::{Signers, TrustedSet};

/// What is wrong with the keys of a repository's top-level roles, a line each. `root` **must** be
/// its newest.
pub(in crate::app) fn compare_keys(
    keyring: &Keyring,
    repository: Repository,
    root: &TrustedSet,
) -> Vec<String> {
    let source = format!("root {} of the {}", root.root_version(), repository.name());
    let compare = |(role, key_name): (&str, &str)| {
        let signers = root.signers(role);
        let needed = if role == "root" { Needed::Elsewhere } else { Needed::Here };
        signers.map(|signers| {
            compare_role(keyring.keys(key_name), &signers, needed, key_name, &source)
        })
    };
    repository.key_names().into_iter().filter_map(compare).flatten().collect()
}

/// The same for the keys of the bins, which the Image repository's targets name: as one of the
/// bins, `bin`, says.
pub(in crate::app) fn compare_bins(keyring: &Keyring, bin: &str, set: &TrustedSet) -> Vec<String> {
    let Some(signers) = set.delegated_signers(bin) else { return Vec::new() };
    compare_role(
        keyring.keys("bins"),
        &signers,
        Needed::Here,
        "bins",
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
