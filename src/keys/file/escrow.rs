//! The escrow key in a JWK file.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::super::{BackendError, Error, Escrow};
use super::{read_secret, write_secret};
use crate::envelope::key::{Cek, EscrowKey, Kid};
use crate::envelope::wrap::{self, WrappedKey};

/// An escrow key that was read from a file.
#[derive(Debug)]
pub struct FileEscrow {
    file: PathBuf,
    key: EscrowKey,
}

impl FileEscrow {
    /// Makes a key, unless there is one.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn create(file: &Path) -> Result<(), Error> {
        if file.exists() {
            Ok(())
        } else {
            write_secret(file, EscrowKey::generate().to_jwk().as_bytes())
        }
    }

    /// Reads a key, which nobody else **must** be able to read.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn read(file: &Path) -> Result<Self, Error> {
        let key = EscrowKey::from_jwk(&read_secret(file)?).map_err(|e| Error::KeyFile {
            verb: "use",
            path: file.display().to_string(),
            source: e.into(),
        })?;
        Ok(Self { file: file.to_owned(), key })
    }
}

#[async_trait]
impl Escrow for FileEscrow {
    fn place(&self) -> String {
        self.file.display().to_string()
    }

    fn kid(&self) -> &Kid {
        self.key.kid()
    }

    async fn wrap_key(&self, cek: &Cek) -> Result<WrappedKey, BackendError> {
        Ok(wrap::wrap_key(&self.key, cek))
    }

    async fn unwrap_key(&self, escrowed: &WrappedKey) -> Result<Option<Cek>, BackendError> {
        Ok(wrap::unwrap_key(&self.key, escrowed))
    }
}
