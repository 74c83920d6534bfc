//! Keys in files of mode 0600 below `keys/` of the state directory.
//!
//! A role's keys are in `<role>.pem`, `<role>-2.pem` and so on, PKCS#8 each. Ed25519 is what is
//! made, and ML-DSA-65 for every other key of a hybrid role; P-256 and RSA are read too. The escrow key is `escrow.jwk`.

mod escrow;
mod secret;
mod signer;

pub use escrow::FileEscrow;
pub use secret::{read_secret, write_secret};
pub use signer::FileSigner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, Keyring, Signer, hybrid};
use crate::keys::policy::{Policy, RolePolicy, key_name};
use crate::model::RepositorySide;
use motorcade_uptane::key::{Scheme, SigningKey};

/// Makes the keys that `policy` asks for, in `directory`. Keys that are there already stay as they
/// are.
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
    for (_, kind, role) in policy.roles().filter(|(of, ..)| *of == side) {
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
            write_secret(&path, pem.as_bytes())?;
        }
    }
    Ok(())
}

/// Reads the keys in `directory`. Those of the root roles may be elsewhere.
///
/// # Errors
///
/// [`Error::KeyFile`] if a file is unreadable, open to others or not a key; and as
/// [`Keyring::new`].
pub fn load(directory: &Path, policy: &Policy) -> Result<Keyring, Error> {
    let mut keys = BTreeMap::new();
    for (side, kind, role) in policy.roles() {
        let name = key_name(side, kind);
        let signers = key_paths(directory, &name, role)
            .filter(|path| path.exists())
            .map(|path| Ok(Arc::new(FileSigner::read(&path)?) as Arc<dyn Signer>))
            .collect::<Result<Vec<_>, Error>>()?;
        keys.insert((side, kind), signers);
    }
    Keyring::new(keys, policy)
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
