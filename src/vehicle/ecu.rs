//! The keys of a vehicle's ECUs: one for reports and one for images each (Uptane 2.1.0, 5.4.1 step 3).

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Error;
use super::config::EcuConfig;
use super::files::replace;
use super::http::Token;
use super::mended::Mended;
use crate::envelope::key::{KeyAlgorithm, RecipientPrivateKey};
use crate::files;
use crate::uptane::key::{Scheme, SigningKey};

/// Where the keys of an ECU are.
#[derive(Debug)]
pub(super) struct KeyFiles {
    signing: PathBuf,
    encryption: PathBuf,
}

/// What kind of encryption key an ECU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EncryptionKind {
    /// P-256.
    P256,
    /// RSA of 3072 bits.
    Rsa,
}

impl KeyFiles {
    /// In a state directory.
    pub(super) fn new(folder: &Path, ecu: &EcuConfig) -> Self {
        let keys = folder.join("keys");
        let own = ecu.encryption_key.as_ref().map(|path| folder.join(path));
        Self {
            signing: keys.join(format!("{}.signing.pem", ecu.serial)),
            encryption: own.unwrap_or_else(|| keys.join(format!("{}.encryption.pem", ecu.serial))),
        }
    }

    /// Removes keys of another kind than is wanted, and what is none, so that [`Self::make`] makes others. Nobody **must** know
    /// them yet.
    pub(super) fn forget_others(
        &self,
        signing: Scheme,
        encryption: EncryptionKind,
        mended: &Mended,
    ) -> Result<(), Error> {
        let alg = match encryption {
            EncryptionKind::P256 => KeyAlgorithm::EcdhEsA256kw,
            EncryptionKind::Rsa => KeyAlgorithm::RsaOaep256,
        };
        let signing = self.signing().map(|key| key.public().scheme() == signing);
        let encryption = self.encryption().map(|key| key.alg() == alg);
        for (path, is_wanted) in [(&self.signing, signing), (&self.encryption, encryption)] {
            if !path.exists() || matches!(is_wanted, Ok(true)) {
                continue;
            }
            if is_wanted.is_err() {
                mended.note(path);
            }
            std::fs::remove_file(path).map_err(Error::file("remove", path))?;
        }
        Ok(())
    }

    /// Makes what is missing, so that a provisioning that was cut off can be repeated.
    pub(super) fn make(&self, signing: Scheme, encryption: EncryptionKind) -> Result<(), Error> {
        if !self.signing.exists() {
            let pem = SigningKey::generate_pem(signing).map_err(|error| unusable(&self.signing, &error))?;
            replace(&self.signing, pem.as_bytes())?;
        }
        if !self.encryption.exists() {
            let key = match encryption {
                EncryptionKind::P256 => RecipientPrivateKey::generate_p256(),
                EncryptionKind::Rsa => {
                    RecipientPrivateKey::generate_rsa(RSA_BITS).map_err(|error| unusable(&self.encryption, &error))?
                }
            };
            replace(&self.encryption, key.to_pkcs8_pem().as_bytes())?;
        }
        Ok(())
    }

    /// The key for reports.
    pub(super) fn signing(&self) -> Result<SigningKey, Error> {
        SigningKey::from_pem(&read(&self.signing)?).map_err(|error| unusable(&self.signing, &error))
    }

    /// The key for images.
    pub(super) fn encryption(&self) -> Result<RecipientPrivateKey, Error> {
        RecipientPrivateKey::parse(&read(&self.encryption)?).map_err(|error| unusable(&self.encryption, &error))
    }
}

/// Reads a token that a server knows the vehicle by. One that a disk has emptied is none.
pub(super) fn read_token(path: &Path) -> Result<Token, Error> {
    let text = read(path)?;
    let is_token = !text.trim().is_empty() && text.trim().bytes().all(|byte| byte.is_ascii_graphic());
    let fault = "it has no token; restore it, or put one there that `motorcade vehicle token` has made".to_owned();
    is_token.then(|| Token::new(&text)).ok_or_else(|| Error::Setting { path: path.to_owned(), fault })
}

/// Reads a secret that nobody else can read.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Error> {
    match files::read_secret(path) {
        Ok((text, _)) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Error::Setting { path: path.to_owned(), fault: error.to_string() })
        }
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Setting { path: path.to_owned(), fault: error.to_string() }
}

const RSA_BITS: usize = 3072;
