//! Opens the keys of all roles: the files in `keys/`, and the sources that the policy names.

use std::path::Path;
use std::sync::Arc;

use super::file::{self, FileSigner};
use super::pkcs11::{Pkcs11Signer, Pkcs11Uri};
use super::policy::Policy;
use super::source::KeySource;
use super::{Error, Keyring, Signer};

/// Opens all keys. Those of the root roles may be elsewhere, if they are files.
///
/// # Errors
///
/// [`Error::KeyFile`] if a file is unreadable, open to others or not a key; [`Error::Source`] if a
/// source can't be reached; and as [`Keyring::new`].
pub async fn load(directory: &Path, policy: &Policy) -> Result<Keyring, Error> {
    let mut keys = file::read_all(directory)?;
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
                && kind == crate::model::RoleKind::Root
                && !path.exists()
            {
                continue;
            }
            listed.push(open(directory, source).await?);
        }
    }
    Keyring::new(keys, policy)
}

/// Opens the key of one source.
///
/// # Errors
///
/// [`Error::KeyFile`], [`Error::Source`].
pub async fn open(directory: &Path, source: &KeySource) -> Result<Arc<dyn Signer>, Error> {
    let unsupported = |what: &str| Error::Source {
        key: source.to_string(),
        source: format!("this build has no {what}").into(),
    };
    match source {
        KeySource::File(path) => Ok(Arc::new(FileSigner::read(&directory.join(path))?)),
        KeySource::Pkcs11(uri) => open_token(uri).await,
        KeySource::AwsKms(_) => Err(unsupported("AWS KMS")),
    }
}

async fn open_token(uri: &str) -> Result<Arc<dyn Signer>, Error> {
    let failed = |source| Error::Source { key: uri.to_owned(), source };
    let parsed: Pkcs11Uri = uri.parse().map_err(|error| failed(Box::from(error)))?;
    let signer = Pkcs11Signer::find(parsed).await.map_err(|error| failed(Box::from(error)))?;
    Ok(Arc::new(signer))
}

fn place_of(path: &Path) -> String {
    path.display().to_string()
}
