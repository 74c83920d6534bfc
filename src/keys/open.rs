//! Opens the key of one source.

use std::path::Path;
use std::sync::Arc;

use super::file::FileSigner;
use super::pkcs11::{Pkcs11Signer, Pkcs11Uri};
use super::source::KeySource;
use super::{BackendError, Error, Signer};

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
