//! Which escrow keys there are: `keys/escrow.toml`, which a rotation writes. Without it there is
//! the one in `keys/escrow.jwk`.
//!
//! It is a file among the keys and no table, since whoever could name an escrow key there would
//! have every data key wrapped to his own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::file::FileEscrow;
use super::pkcs11::{ParsePkcs11UriError, Pkcs11Escrow, Pkcs11Uri};
use super::written::replace;
use super::{Error, Escrow, EscrowKeys};
use crate::envelope::key::{Kid, RecipientKey};

/// Where an escrow key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EscrowSource {
    /// `file:NAME`: a JWK file in `keys/`.
    File(PathBuf),
    /// `pkcs11:…`: a key in a token (RFC 7512).
    Pkcs11(Pkcs11Uri),
}

/// Not the place of an escrow key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEscrowSourceError {
    /// Neither a file nor a token.
    #[error("`{0}` is no place of an escrow key: use file:NAME, a file in keys/, or pkcs11:…")]
    Unknown(String),
    /// A token's key that is named in another way.
    #[error(transparent)]
    Uri(#[from] ParsePkcs11UriError),
}

impl FromStr for EscrowSource {
    type Err = ParseEscrowSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("pkcs11:") {
            return Ok(Self::Pkcs11(text.parse()?));
        }
        let name = text.strip_prefix("file:").map(Path::new);
        // A name and no path: what opens everything lies with the other keys.
        let is_name = |name: &&Path| name.file_name() == Some(name.as_os_str());
        let name = name.filter(is_name);
        let name = name.ok_or_else(|| ParseEscrowSourceError::Unknown(text.to_owned()))?;
        Ok(Self::File(name.to_owned()))
    }
}

impl std::fmt::Display for EscrowSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(name) => write!(f, "file:{}", name.display()),
            Self::Pkcs11(uri) => uri.fmt(f),
        }
    }
}

/// An escrow key as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscrowEntry {
    /// Where it is.
    source: String,
    /// Its id, by which a token's key is known while the token is away.
    kid: String,
    /// The public half, PEM, of a token's key that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public: Option<String>,
}

/// The escrow keys of an installation as they are written down, the one that wraps first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingFile {
    #[serde(default)]
    key: Vec<EscrowEntry>,
}

impl EscrowEntry {
    /// A key in a file.
    pub fn of_file(name: &Path, key: &FileEscrow) -> Self {
        let source = EscrowSource::File(name.to_owned()).to_string();
        Self { source, kid: key.kid().to_string(), public: None }
    }

    /// A key in a token.
    pub fn of_token(uri: &Pkcs11Uri, key: &Pkcs11Escrow) -> Self {
        let public = key.public().map(RecipientKey::to_public_pem);
        Self { source: uri.to_string(), kid: key.kid().to_string(), public }
    }

    /// Its id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Where it is.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl RingFile {
    /// Reads what is written down in `directory`.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(NAME);
        let fault = |source| key_file("read", &path, source);
        let ring: Self = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| fault(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let first = FileEscrow::read(&directory.join(FIRST))?;
                Self { key: vec![EscrowEntry::of_file(Path::new(FIRST), &first)] }
            }
            Err(error) => return Err(fault(error.into())),
        };
        if ring.key.is_empty() { Err(fault("it names no key".into())) } else { Ok(ring) }
    }

    /// The keys, the one that wraps first.
    pub fn entries(&self) -> &[EscrowEntry] {
        &self.key
    }

    /// The same with another key that wraps from now on.
    #[must_use]
    pub fn with(&self, wrapping: EscrowEntry) -> Self {
        let former = self.key.iter().filter(|entry| entry.kid != wrapping.kid).cloned();
        Self { key: std::iter::once(wrapping.clone()).chain(former).collect() }
    }

    /// The same without a former key.
    #[must_use]
    pub fn without(&self, kid: &str) -> Self {
        let is_kept = |(at, entry): &(usize, &EscrowEntry)| *at == 0 || entry.kid != kid;
        let kept = self.key.iter().enumerate().filter(is_kept);
        Self { key: kept.map(|(_, entry)| entry.clone()).collect() }
    }

    /// Writes it down, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(NAME);
        let fault = |source| key_file("write", &path, source);
        let text = toml::to_string(self).map_err(|error| fault(error.into()))?;
        let written = replace(directory, NAME, &format!("{HEAD}{text}"));
        written.map_err(|error| fault(error.into()))
    }

    /// Opens the keys. What is in a token is not looked for before it is used.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn open(&self, directory: &Path) -> Result<EscrowKeys, Error> {
        let keys = self.key.iter().map(|entry| open(directory, entry));
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?.into_iter();
        let none = || key_file("use", &directory.join(NAME), "it names no key".into());
        Ok(EscrowKeys { wrapping: keys.next().ok_or_else(none)?, former: keys.collect() })
    }
}

fn open(directory: &Path, entry: &EscrowEntry) -> Result<Arc<dyn Escrow>, Error> {
    let path = directory.join(NAME);
    let fault = |source| key_file("use", &path, source);
    let source: EscrowSource = entry.source.parse().map_err(|e| fault(Box::from(e)))?;
    let uri = match source {
        // Whether it is the right one is compared with what it has wrapped, as of a key alone.
        EscrowSource::File(name) => return Ok(Arc::new(FileEscrow::read(&directory.join(name))?)),
        EscrowSource::Pkcs11(uri) => uri,
    };
    let kid: Kid = entry.kid.parse().map_err(|e| fault(Box::from(e)))?;
    let public = entry.public.as_deref().map(RecipientKey::parse);
    let public = public.transpose().map_err(|e| fault(Box::from(e)))?;
    let key = Pkcs11Escrow::known(uri, kid, public).map_err(|e| fault(Box::from(e)))?;
    Ok(Arc::new(key))
}

fn key_file(verb: &'static str, path: &Path, source: super::BackendError) -> Error {
    Error::KeyFile { verb, path: path.display().to_string(), source }
}

/// The file with all of them.
const NAME: &str = "escrow.toml";
/// The key that `init` makes.
const FIRST: &str = "escrow.jwk";
const HEAD: &str = "\
# The escrow keys: the first one wraps, the others still open what they have wrapped.
# `motorcade escrow rotate` writes this.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file_there_is_the_first_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        FileEscrow::create(&folder.path().join(FIRST)).unwrap();
        let ring = RingFile::read(folder.path()).unwrap();
        let keys = ring.open(folder.path()).unwrap();
        assert_eq!(keys.all().count(), 1);
        assert_eq!(ring.entries()[0].kid(), keys.wrapping.kid().as_str());
    }

    #[test]
    fn a_new_key_wraps_and_the_former_one_opens_until_it_is_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in [FIRST, "escrow-2.jwk"] {
            FileEscrow::create(&folder.path().join(name)).unwrap();
        }
        let first = RingFile::read(folder.path()).unwrap();
        let second = FileEscrow::read(&folder.path().join("escrow-2.jwk")).unwrap();
        let both = first.with(EscrowEntry::of_file(Path::new("escrow-2.jwk"), &second));
        both.write(folder.path()).unwrap();
        assert_eq!(RingFile::read(folder.path()).unwrap(), both);
        let keys = both.open(folder.path()).unwrap();
        assert_eq!(keys.wrapping.kid(), second.kid());
        assert_eq!(keys.former.len(), 1);
        let former = first.entries()[0].kid();
        assert_eq!(both.without(former).entries().len(), 1);
        assert_eq!(both.without(second.kid().as_str()), both, "the one that wraps stays");
        assert_eq!(both.with(both.entries()[0].clone()), both);
    }

    #[test]
    fn a_source_is_a_file_beside_it_or_a_key_in_a_token() {
        for text in ["file:escrow.jwk", "pkcs11:token=motorcade;object=escrow"] {
            assert_eq!(text.parse::<EscrowSource>().unwrap().to_string(), text);
        }
        for text in
            ["escrow.jwk", "file:", "file:/etc/escrow.jwk", "file:../escrow.jwk", "awskms:x"]
        {
            let refused = text.parse::<EscrowSource>().unwrap_err();
            assert_eq!(refused, ParseEscrowSourceError::Unknown(text.to_owned()));
        }
        assert!(matches!(
            "pkcs11:token=a".parse::<EscrowSource>(),
            Err(ParseEscrowSourceError::Uri(_))
        ));
    }
}
