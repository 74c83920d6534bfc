//! Which streaming AEAD seals an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Tink streaming AEAD key template; see docs/FORMAT.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SealAlgorithm {
    /// `AES256_GCM_HKDF_1MB`: segments of 2^20 bytes, for everything that has the memory.
    #[default]
    Aes256GcmHkdf1Mb,
    /// `AES256_GCM_HKDF_4KB`: segments of 4096 bytes, for ECUs with little memory.
    Aes256GcmHkdf4Kb,
}

impl SealAlgorithm {
    /// The name of the Tink key template, as written in JWKs and in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256GcmHkdf1Mb => "AES256_GCM_HKDF_1MB",
            Self::Aes256GcmHkdf4Kb => "AES256_GCM_HKDF_4KB",
        }
    }

    /// Size of a sealed segment in bytes, its tag included.
    pub fn segment_size(self) -> usize {
        match self {
            Self::Aes256GcmHkdf1Mb => 1024 * 1024, // 1 MiB
            Self::Aes256GcmHkdf4Kb => 4 * 1024,    // 4 KiB
        }
    }
}

impl fmt::Display for SealAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<SealAlgorithm> for String {
    fn from(algorithm: SealAlgorithm) -> Self {
        algorithm.as_str().to_owned()
    }
}

impl TryFrom<String> for SealAlgorithm {
    type Error = ParseSealAlgorithmError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for SealAlgorithm {
    type Err = ParseSealAlgorithmError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Aes256GcmHkdf1Mb, Self::Aes256GcmHkdf4Kb]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| ParseSealAlgorithmError(text.chars().take(64).collect()))
    }
}

/// No such sealing algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown sealing algorithm {0:?}: use AES256_GCM_HKDF_1MB or AES256_GCM_HKDF_4KB")]
pub struct ParseSealAlgorithmError(String);
