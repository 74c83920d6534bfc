//! Keys in files of mode 0600 below `keys/` of the state directory.
//!
//! A role's keys are in `<role>.pem`, `<role>-2.pem` and so on, PKCS#8 each, encrypted or not: all
//! files whose name begins with the role's are read. Ed25519 is what is made, and ML-DSA-65 for every
//! other key of a hybrid role; P-256 and RSA are read too. A supplier's are in `supplier-<name>-…pem`. Keys that sign no
//! more are moved to `retired/`. The escrow key is `escrow.jwk`.

mod encrypted;
mod escrow;
mod made;
mod retired;
mod secret;
mod signer;

pub use escrow::FileEscrow;
pub use made::add;
pub use retired::retire;
pub use secret::{read_secret, write_secret};
pub use signer::FileSigner;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::keyring::KeysByRole;
use super::{Error, Keyring, hybrid};
use crate::keys::policy::{Policy, RolePolicy, key_name};
use crate::model::{RepositorySide, RoleKind};
use motorcade_uptane::key::{Scheme, SigningKey};

/// Makes the keys that `policy` asks for, in `directory`, but for roles whose keys it says are
/// elsewhere. Keys that are there already stay as they are.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn create(directory: &Path, policy: &Policy) -> Result<(), Error> {
    secret::remove_unfinished(directory).map_err(|e| Error::KeyFile {
        verb: "clean up beside",
        path: directory.display().to_string(),
        source: e.into(),
    })?;
    RepositorySide::ALL.into_iter().try_for_each(|side| create_side(directory, policy, side))
}

/// Makes the keys of one repository's roles alone, for a state directory that has none.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn create_side(directory: &Path, policy: &Policy, side: RepositorySide) -> Result<(), Error> {
    let is_made = |kind: RoleKind| policy.sources(side, kind).is_empty();
    for (_, kind, role) in policy.roles().filter(|(of, kind, _)| *of == side && is_made(*kind)) {
        let name = key_name(side, kind);
        for (number, path) in (1..).zip(key_paths(directory, &name, role)) {
            if path.exists() {
                continue;
            }
            let scheme = if role.hybrid { hybrid::scheme(number) } else { Scheme::Ed25519 };
            let pem = SigningKey::generate_pem(scheme).map_err(|e| Error::KeyFile {
                verb: "make a key for",
                path: path.display().to_string(),
                source: e.into(),
            })?;
            let text = encrypted::if_wanted(pem).map_err(|source| Error::KeyFile {
                verb: "encrypt",
                path: path.display().to_string(),
                source,
            })?;
            write_secret(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Reads the keys in `directory` alone. Those of the root roles may be elsewhere.
///
/// # Errors
///
/// As [`read_all`] and [`Keyring::new`].
pub fn load(directory: &Path, policy: &Policy) -> Result<Keyring, Error> {
    Keyring::new(read_all(directory)?, policy)
}

/// Reads all role keys in `directory`.
///
/// # Errors
///
/// [`Error::KeyFile`] if a file is unreadable, open to others or not a key.
pub fn read_all(directory: &Path) -> Result<KeysByRole, Error> {
    let listed = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let listed = listed.map_err(|e| Error::KeyFile {
        verb: "list",
        path: directory.display().to_string(),
        source: e.into(),
    })?;
    let mut names: Vec<String> =
        listed.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| (name.len(), name.clone())); // as they are numbered
    let mut keys = KeysByRole::new();
    for name in names {
        if let Some(role) = role_of(&name) {
            let signer = Arc::new(FileSigner::read(&directory.join(name))?);
            keys.entry(role).or_default().push(signer);
        }
    }
    Ok(keys)
}

/// The role of a key file of this name.
fn role_of(name: &str) -> Option<(RepositorySide, RoleKind)> {
    let stem = name.strip_suffix(".pem")?;
    if stem.starts_with("supplier-") {
        return Some((RepositorySide::Image, RoleKind::Suppliers));
    }
    let is_of = |role: &str| {
        stem.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let roles = RepositorySide::ALL.into_iter();
    let mut roles = roles.flat_map(|side| side.kinds().iter().map(move |&kind| (side, kind)));
    roles.find(|(side, kind)| is_of(&key_name(*side, *kind)))
}

fn key_paths<'a>(
    directory: &'a Path,
    role: &'a str,
    policy: RolePolicy,
) -> impl Iterator<Item = PathBuf> + 'a {
    (1..=policy.keys()).map(move |number| {
        directory.join(if number == 1 {
            format!("{role}.pem")
        } else {
            format!("{role}-{number}.pem")
        })
    })
}

#[cfg(test)]
mod tests;
