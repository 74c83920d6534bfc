//! Opens the keys of all roles: the files in `keys/`, and the sources that the policy names.

use std::path::Path;
use std::sync::Arc;

use super::file::{self, FileSigner};
use super::pkcs11::{Pkcs11Signer, Pkcs11Uri};
use super::policy::Policy;
use super::source::KeySource;
use super::{BackendError, Error, Keyring, Signer};

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
    match source {
        KeySource::File(path) => Ok(Arc::new(FileSigner::read(&directory.join(path))?)),
        KeySource::Pkcs11(uri) => open_token(uri).await,
        KeySource::AwsKms(id) => open_kms(id)
            .await
            .map_err(|fault| Error::Source { key: source.to_string(), source: fault }),
    }
}

async fn open_token(uri: &str) -> Result<Arc<dyn Signer>, Error> {
    let failed = |source| Error::Source { key: uri.to_owned(), source };
    let parsed: Pkcs11Uri = uri.parse().map_err(|error| failed(Box::from(error)))?;
    let signer = Pkcs11Signer::find(parsed).await.map_err(|error| failed(Box::from(error)))?;
    Ok(Arc::new(signer))
}

#[cfg(feature = "aws-kms")]
async fn open_kms(id: &str) -> Result<Arc<dyn Signer>, BackendError> {
    Ok(Arc::new(super::kms::KmsSigner::open(id).await?))
}

#[cfg(not(feature = "aws-kms"))]
async fn open_kms(_: &str) -> Result<Arc<dyn Signer>, BackendError> {
    Err("this build has no AWS KMS: build it with `--features aws-kms`".into())
}

fn place_of(path: &Path) -> String {
    path.display().to_string()
}
