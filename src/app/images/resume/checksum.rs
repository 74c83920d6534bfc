//! Checksums of parts of an upload.
//!
//! A part is sealed only once it is known to have come as it was sent: what was sealed can't be
//! replaced. So it is kept in memory until then, and has to fit in there.

use std::fmt;
use std::io;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::super::ingest::Body;
use crate::app::Error;

/// What a part of an upload has to hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// By which algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// The digest.
    pub digest: Vec<u8>,
}

/// An algorithm for checksums; they tell damage and no attacker, whom TLS keeps off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    /// SHA-1, which tus asks for.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl ChecksumAlgorithm {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    /// Its name in tus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Length of its digests in bytes.
    pub fn digest_length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChecksumAlgorithm {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text).ok_or(())
    }
}

impl Checksum {
    /// Most bytes of a part that has a checksum.
    pub const MAX_PART: u64 = 16 * 1024 * 1024; // 16 MiB

    /// Reads a part to its end, and checks it.
    ///
    /// # Errors
    ///
    /// [`Error::WrongChecksum`]; [`Error::TooLarge`]; as of [`Body::next`].
    pub(super) async fn verified<S>(&self, mut body: Body<'_, S>) -> Result<Bytes, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let mut part = BytesMut::new();
        while let Some(piece) = body.next().await? {
            if part.len() as u64 + piece.len() as u64 > Self::MAX_PART {
                return Err(Error::TooLarge { limit: Self::MAX_PART });
            }
            part.extend_from_slice(&piece);
        }
        let (algorithm, part) = (self.algorithm, part.freeze());
        let hashed = part.clone();
        let found = tokio::task::spawn_blocking(move || algorithm.digest(&hashed)).await;
        if found.map_err(Error::internal("check a part of an upload"))? == self.digest {
            return Ok(part);
        }
        let detail = format!(
            "the {algorithm} of what came is another one than Upload-Checksum says: nothing of it was kept, send it again"
        );
        Err(Error::WrongChecksum { detail })
    }
}
