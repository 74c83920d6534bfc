//! The keys of a vehicle's ECUs: one for reports and one for images each (Uptane 2.1.0, 5.4.1 step
//! 3).

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Error;
use super::config::EcuConfig;
use super::files::{folder_of, replace, sync_folder};
use super::http::Token;
use super::mended::Mended;
use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::{KeyAlgorithm, KeyError, Kid, RecipientPrivateKey};
use motorcade_host::files;
use motorcade_uptane::key::{Scheme, SigningKey};

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

impl EncryptionKind {
    fn alg(self) -> KeyAlgorithm {
        match self {
            Self::P256 => KeyAlgorithm::EcdhEsA256kw,
            Self::Rsa => KeyAlgorithm::RsaOaep256,
        }
    }

    fn generate(self) -> Result<RecipientPrivateKey, KeyError> {
        match self {
            Self::P256 => Ok(RecipientPrivateKey::generate_p256()),
            Self::Rsa => RecipientPrivateKey::generate_rsa(RSA_BITS),
        }
    }
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

    /// Sets aside keys of another kind than is wanted, and what is none, and takes back what was
    /// set aside of the wanted kind, so that [`Self::make`] makes what is still missing. Nothing is
    /// lost: somebody may know the vehicle by its keys although the answer that said so never came.
    pub(super) fn choose(
        &self,
        signing: Scheme,
        encryption: EncryptionKind,
        mended: &Mended,
    ) -> Result<(), Error> {
        for ((path, kind), wanted) in
            self.kinds().into_iter().zip([signing.as_str(), encryption.alg().as_str()])
        {
            if path.exists() && kind != Some(wanted) {
                if kind.is_none() {
                    mended.note(path);
                }
                rename(path, &aside(path, kind.unwrap_or(DAMAGED)))?;
            }
            if !path.exists() && aside(path, wanted).exists() {
                rename(&aside(path, wanted), path)?;
            }
        }
        Ok(())
    }

    /// Puts the first of the keys that were set aside in place again, as those that are there are
    /// refused.
    pub(super) fn put_back(&self) -> Result<(), Error> {
        for (path, kind) in self.kinds() {
            let made = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
            let others =
                KINDS.into_iter().map(|kind| aside(path, kind)).filter(|path| path.exists());
            if let Some(first) = others.min_by_key(made) {
                if path.exists() {
                    rename(path, &aside(path, kind.unwrap_or(DAMAGED)))?;
                }
                rename(&first, path)?;
            }
        }
        Ok(())
    }

    /// Removes what was set aside: those that are there are the ones that are known.
    pub(super) fn forget_others(&self) -> Result<(), Error> {
        for path in [&self.signing, &self.encryption] {
            for other in
                KINDS.into_iter().map(|kind| aside(path, kind)).filter(|path| path.exists())
            {
                std::fs::remove_file(&other).map_err(Error::file("remove", &other))?;
            }
        }
        Ok(())
    }

    /// Where each key is, and of what kind.
    fn kinds(&self) -> [(&PathBuf, Option<&'static str>); 2] {
        let signing = self.signing().ok().map(|key| key.public().scheme().as_str());
        let encryption = self.encryption().ok().map(|key| key.alg().as_str());
        [(&self.signing, signing), (&self.encryption, encryption)]
    }

    /// Makes what is missing, so that a provisioning that was cut off can be repeated.
    pub(super) fn make(&self, signing: Scheme, encryption: EncryptionKind) -> Result<(), Error> {
        if !self.signing.exists() {
            let pem = SigningKey::generate_pem(signing)
                .map_err(|error| unusable(&self.signing, &error))?;
            replace(&self.signing, pem.as_bytes())?;
        }
        if !self.encryption.exists() {
            let key = encryption.generate().map_err(|error| unusable(&self.encryption, &error))?;
            replace(&self.encryption, key.to_pkcs8_pem().as_bytes())?;
        }
        Ok(())
    }

    /// The key for reports.
    pub(super) fn signing(&self) -> Result<SigningKey, Error> {
        let key = SigningKey::from_pem(&read(&self.signing)?);
        let key = key.map_err(|error| unusable(&self.signing, &error))?;
        // No server takes it for an ECU's.
        if key.public().scheme().is_post_quantum() {
            let fault = "ML-DSA-65 is for roots and targets, and no key of an ECU".to_owned();
            return Err(Error::Setting { path: self.signing.clone(), fault });
        }
        Ok(key)
    }

    /// The key for images.
    pub(super) fn encryption(&self) -> Result<RecipientPrivateKey, Error> {
        read_encryption(&self.encryption)
    }

    /// The key for images that opens an envelope: while a key is changed, that can be the next one,
    /// or the one before.
    pub(super) fn encryption_for(&self, envelope: &[u8]) -> Result<RecipientPrivateKey, Error> {
        let current = self.encryption()?;
        let recipients: Vec<Kid> =
            Envelope::parse(envelope).map(|it| it.recipients().collect()).unwrap_or_default();
        if recipients.contains(current.kid()) {
            return Ok(current);
        }
        for path in [self.next(), self.former()].iter().filter(|path| path.exists()) {
            let other = read_encryption(path)?;
            if recipients.contains(other.kid()) {
                return Ok(other);
            }
        }
        Ok(current)
    }

    /// The key for images that is to take the place of the one that is known; made once, of the
    /// same kind.
    pub(super) fn next_encryption(&self) -> Result<RecipientPrivateKey, Error> {
        let next = self.next();
        if !next.exists() {
            let kind = match self.encryption()?.alg() {
                KeyAlgorithm::RsaOaep256 => EncryptionKind::Rsa,
                // The others are the escrow key's, and no ECU has one.
                KeyAlgorithm::EcdhEsA256kw | KeyAlgorithm::A256gcmkw | KeyAlgorithm::A256kw => {
                    EncryptionKind::P256
                }
            };
            let key = kind.generate().map_err(|error| unusable(&next, &error))?;
            replace(&next, key.to_pkcs8_pem().as_bytes())?;
        }
        read_encryption(&next)
    }

    /// Puts the next key in the place of the one that was known, which is kept for what was sealed
    /// for it already. What is cut off in between is done again.
    pub(super) fn take_next(&self) -> Result<(), Error> {
        replace(&self.former(), read(&self.encryption)?.as_bytes())?;
        rename(&self.next(), &self.encryption)
    }

    /// Removes the key before, once nothing waits that was sealed for it.
    pub(super) fn forget_former(&self) -> Result<(), Error> {
        let former = self.former();
        match std::fs::remove_file(&former) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", &former)(error))
            }
            _ => Ok(()),
        }
    }

    fn next(&self) -> PathBuf {
        beside(&self.encryption, "next")
    }

    fn former(&self) -> PathBuf {
        beside(&self.encryption, "former")
    }
}

fn read_encryption(path: &Path) -> Result<RecipientPrivateKey, Error> {
    RecipientPrivateKey::parse(&read(path)?).map_err(|error| unusable(path, &error))
}

/// Where a key is set aside: one of each kind, so that none replaces another.
fn aside(path: &Path, kind: &str) -> PathBuf {
    beside(path, &format!("{kind}.old"))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    let renamed = std::fs::rename(from, to).and_then(|()| sync_folder(folder_of(to)));
    renamed.map_err(Error::file("rename", from))
}

/// Reads a token that a server knows the vehicle by. One that a disk has emptied is none.
pub(super) fn read_token(path: &Path) -> Result<Token, Error> {
    let text = read(path)?;
    let is_token =
        !text.trim().is_empty() && text.trim().bytes().all(|byte| byte.is_ascii_graphic());
    let fault =
        "it has no token; restore it, or put one there that `motorcade vehicle token` has made"
            .to_owned();
    is_token
        .then(|| Token::new(&text))
        .ok_or_else(|| Error::Setting { path: path.to_owned(), fault })
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
/// What is set aside: a key that can't be read now may be one that can later.
const KINDS: [&str; 6] = [
    Scheme::Ed25519.as_str(),
    Scheme::EcdsaSha2Nistp256.as_str(),
    Scheme::RsassaPssSha256.as_str(),
    KeyAlgorithm::EcdhEsA256kw.as_str(),
    KeyAlgorithm::RsaOaep256.as_str(),
    DAMAGED,
];
const DAMAGED: &str = "damaged";
