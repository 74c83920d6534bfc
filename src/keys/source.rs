//! Where a role's key is, as `metadata/policy.toml` and `role rotate` name it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// `file:NAME`: a PKCS#8 file in `keys/`, or anywhere with an absolute path.
    File(PathBuf),
    /// `pkcs11:…`: a key on a token (RFC 7512).
    Pkcs11(String),
    /// `awskms:…`: id, alias or ARN of a key in AWS KMS.
    AwsKms(String),
}

/// Not the source of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source of a key: use file:NAME, pkcs11:… (RFC 7512) or awskms:KEY")]
pub struct ParseKeySourceError(String);

impl KeySource {
    /// Whether others than this machine's disk have to be asked for it.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Pkcs11(_) | Self::AwsKms(_) => true,
        }
    }

    /// The file, where it is one: a name is one of `directory`.
    pub fn path(&self, directory: &Path) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(directory.join(path)),
            Self::Pkcs11(_) | Self::AwsKms(_) => None,
        }
    }
}

impl FromStr for KeySource {
    type Err = ParseKeySourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseKeySourceError(text.to_owned());
        match text.split_once(':').filter(|(_, rest)| !rest.is_empty()).ok_or_else(malformed)? {
            ("file", path) => Ok(Self::File(path.into())),
            ("pkcs11", _) => Ok(Self::Pkcs11(text.to_owned())),
            ("awskms", id) => Ok(Self::AwsKms(id.to_owned())),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Pkcs11(uri) => f.write_str(uri),
            Self::AwsKms(id) => write!(f, "awskms:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_read_and_written_alike() {
        for text in [
            "file:timestamp-a.pem",
            "file:/run/keys/timestamp.pem",
            "pkcs11:token=motorcade;object=timestamp;type=private",
            "awskms:alias/motorcade-timestamp",
            "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234abcd",
        ] {
            assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
        }
        for text in ["timestamp.pem", "file:", "vault:key", ""] {
            let refused = text.parse::<KeySource>().unwrap_err();
            assert_eq!(refused, ParseKeySourceError(text.to_owned()));
        }
    }

    #[test]
    fn a_name_is_a_file_in_keys_and_a_path_is_itself() {
        let path = |text: &str| text.parse::<KeySource>().unwrap().path(Path::new("/state/keys"));
        assert_eq!(path("file:a.pem"), Some("/state/keys/a.pem".into()));
        assert_eq!(path("file:/run/a.pem"), Some("/run/a.pem".into()));
        assert_eq!(path("awskms:a"), None);
        let is_remote = |text: &str| text.parse::<KeySource>().unwrap().is_remote();
        assert!(!is_remote("file:a.pem") && is_remote("pkcs11:token=a;object=b"));
    }
}
