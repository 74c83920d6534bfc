//! A role key in a PEM file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::super::{BackendError, Error, Signer};
use super::{encrypted, read_secret};
use crate::keys::source::KeySource;
use motorcade_uptane::key::{PublicKey, Scheme, SigningKey};

/// A private key that was read from a file.
pub struct FileSigner {
    file: PathBuf,
    public: PublicKey,
    key: Arc<SigningKey>,
}

impl FileSigner {
    /// Reads a PEM `PRIVATE KEY` or `ENCRYPTED PRIVATE KEY` (PKCS#8), which nobody else **must** be
    /// able to read.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`], also for a weak key, and one whose halves don't belong together.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = read_secret(file)?;
        let unusable =
            |source| Error::KeyFile { verb: "use", path: file.display().to_string(), source };
        let text = encrypted::decrypted(text).map_err(unusable)?;
        let key = SigningKey::from_pem(&text).map_err(|e| unusable(e.into()))?;
        let public = key.public().as_named().map_err(|e| unusable(e.into()))?;
        public.check_strength().map_err(|e| unusable(e.into()))?;
        if !public.verifies(PROOF, &key.sign(PROOF)) {
            let fault =
                "what it signs does not verify with its own public half: the file is damaged";
            return Err(unusable(fault.into()));
        }
        Ok(Self { file: file.to_owned(), public, key: Arc::new(key) })
    }
}

#[async_trait]
impl Signer for FileSigner {
    fn place(&self) -> String {
        self.file.display().to_string()
    }

    fn source(&self) -> KeySource {
        KeySource::File(self.file.clone())
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.file)
    }

    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let is_quick = match self.public.scheme() {
            Scheme::Ed25519 | Scheme::EcdsaSha2Nistp256 => message.len() < LONG,
            Scheme::RsassaPssSha256 | Scheme::MlDsa65 => false,
        };
        if is_quick {
            return Ok(self.key.sign(message));
        }
        let (key, message) = (Arc::clone(&self.key), message.to_owned());
        Ok(tokio::task::spawn_blocking(move || key.sign(&message)).await?)
    }
}

impl fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSigner({})", self.public.id())
    }
}

const PROOF: &[u8] = b"motorcade: a role key signs this when it is read";
/// Hashing so much takes as long as signing does.
const LONG: usize = 32 * 1024;
