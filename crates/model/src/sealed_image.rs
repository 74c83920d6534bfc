//! Records of sealed images.

use serde::{Deserialize, Serialize};

use super::{ImageDescription, ImagePath, SealAlgorithm, Sha256Digest, Timestamp};

/// A sealed image's numbers: what is stored and served, and what comes out when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedImage {
    /// How it is sealed.
    pub algorithm: SealAlgorithm,
    /// Length of the sealed image in bytes.
    pub length: u64,
    /// Digest of the sealed image.
    pub sha256: Sha256Digest,
    /// Length of the plaintext in bytes.
    pub plaintext_length: u64,
    /// Digest of the plaintext.
    pub plaintext_sha256: Sha256Digest,
}

/// An image as the catalog holds it, without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its name everywhere.
    pub path: ImagePath,
    /// Its description, by its uploader.
    pub description: ImageDescription,
    /// Lengths and digests before and after sealing.
    pub sealed: SealedImage,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Id of the token that uploaded it.
    pub created_by: String,
    /// When it was taken out of the metadata, if it was.
    pub yanked_at: Option<Timestamp>,
}

/// One entry of a targets file: the image, or its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetEntry {
    /// Target path.
    pub path: String,
    /// Length of the file in bytes.
    pub length: u64,
    /// Digest of the file.
    pub sha256: Sha256Digest,
    /// The signed `custom` object as JSON text, if there is one.
    pub custom: Option<String>,
}

impl TargetEntry {
    /// How many bytes it takes in a targets file at most: what is around path and `custom` is 131
    /// bytes with the longest length.
    pub fn listed_bytes(&self) -> u64 {
        let texts = self.path.len() + self.custom.as_ref().map_or(0, String::len);
        texts as u64 + 160
    }
}

/// How many bytes of entries one hash bin lists at most. The rest of the file, its signatures, is
/// far below a tenth of that, and the clients with the tightest bounds (python-tuf and go-tuf) take
/// 5,000,000 bytes; tough takes 10 MiB and `motorcade-vehicle` 8 MiB.
pub const MAX_BIN_BYTES: u64 = 4 * 1024 * 1024; // 4 MiB
