//! Loads the keys of all roles: the files in `keys/`, and the sources that the policy names.

use std::path::Path;
use std::sync::Arc;

use super::away::AwaySigner;
use super::known::KnownKeys;
use super::open::open;
use super::policy::{Policy, key_name};
use super::source::KeySource;
use super::{Error, Keyring, Signer, file};
use crate::model::RoleKind;

/// Loads all keys. Those of the root roles may be elsewhere, if they are files; one that is not on
/// this machine and can't be reached is waited for, if it was found before.
///
/// # Errors
///
/// [`Error::KeyFile`] if a file is unreadable, open to others or not a key;
/// [`Error::NeverFound`] if a source can't be reached and never was; and as [`Keyring::new`].
pub async fn load(directory: &Path, policy: &Policy) -> Result<Keyring, Error> {
    let mut keys = file::read_all(directory)?;
    let known = KnownKeys::read(directory);
    for (side, kind, _) in policy.roles() {
        for source in policy.sources(side, kind) {
            let listed = keys.entry((side, kind)).or_default();
            let path = source.path(directory);
            let is_read = |path: &Path| listed.iter().any(|key| key.place() == place_of(path));
            if path.as_deref().is_some_and(is_read) {
                continue; // it has the role's name too
            }
            // A root that is kept offline has its files elsewhere.
            if let Some(path) = &path
                && kind == RoleKind::Root
                && !path.exists()
            {
                continue;
            }
            let opened = open_or_wait(directory, source, &known).await;
            listed.push(opened.map_err(|error| match error {
                Error::Source { .. } => {
                    Error::NeverFound { role: key_name(side, kind), source: Box::new(error) }
                }
                other => other,
            })?);
        }
    }
    Keyring::new(keys, policy)
}

/// Opens a key, or waits for it.
async fn open_or_wait(
    directory: &Path,
    source: &KeySource,
    known: &KnownKeys,
) -> Result<Arc<dyn Signer>, Error> {
    match open(directory, source).await {
        Err(fault @ Error::Source { .. }) => match known.find(source) {
            Some(public) => {
                let away = AwaySigner::new(source.clone(), public, &fault);
                tracing::error!(key = %source, fault = away.fault(), "a role key can't be reached, and is waited for");
                Ok(Arc::new(away))
            }
            None => Err(fault),
        },
        opened => opened,
    }
}

fn place_of(path: &Path) -> String {
    path.display().to_string()
}
