//! Checksums of parts of an upload.
//!
//! A part is sealed only once it is known to have come as it was sent: what was sealed can't be
//! replaced. So it is kept in memory until then, and has to fit in there; what of it is sealed is
//! given back, so that it is not there twice.

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

    fn digest(self, pieces: &[Bytes]) -> Vec<u8> {
        fn of<D: Digest>(pieces: &[Bytes]) -> Vec<u8> {
            pieces.iter().fold(D::new(), |hash, piece| hash.chain_update(piece)).finalize().to_vec()
        }
        match self {
            Self::Sha1 => of::<Sha1>(pieces),
            Self::Sha256 => of::<Sha256>(pieces),
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

    /// Reads a part to its end, and checks it; returns it in pieces.
    ///
    /// # Errors
    ///
    /// [`Error::WrongChecksum`]; [`Error::TooLarge`]; as of [`Body::next`].
    pub(super) async fn verified<S>(&self, mut body: Body<'_, S>) -> Result<Vec<Bytes>, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let mut kept = Pieces::default();
        while let Some(piece) = body.next().await? {
            if kept.length + piece.len() as u64 > Self::MAX_PART {
                return Err(Error::TooLarge { limit: Self::MAX_PART });
            }
            kept.push(&piece);
        }
        let (algorithm, pieces) = (self.algorithm, kept.into_all());
        let hashed = pieces.clone(); // the same bytes
        let found = tokio::task::spawn_blocking(move || algorithm.digest(&hashed)).await;
        if found.map_err(Error::internal("check a part of an upload"))? == self.digest {
            return Ok(pieces);
        }
        let detail = format!(
            "the {algorithm} of what came is another one than Upload-Checksum says: nothing of it was kept, send it again"
        );
        Err(Error::WrongChecksum { detail })
    }
}

/// What has come of a part, in pieces of one size: as they come they can be of a byte each, and take
/// many times as much memory.
#[derive(Default)]
struct Pieces {
    full: Vec<Bytes>,
    last: BytesMut,
    length: u64,
}

impl Pieces {
    fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.last.capacity() == 0 {
                self.last = BytesMut::with_capacity(PIECE_SIZE);
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_SIZE - self.last.len()));
            self.last.extend_from_slice(now);
            if self.last.len() == PIECE_SIZE {
                self.full.push(std::mem::take(&mut self.last).freeze());
            }
            bytes = later;
        }
    }

    fn into_all(mut self) -> Vec<Bytes> {
        if !self.last.is_empty() {
            self.full.push(self.last.freeze());
        }
        self.full
    }
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_no_more_memory_than_it_has_bytes_however_it_comes() {
        let part: Vec<u8> = (0..2 * PIECE_SIZE + 7).map(|at| (at % 251) as u8).collect();
        for size in [1, 1000, PIECE_SIZE, part.len()] {
            let mut kept = Pieces::default();
            part.chunks(size).for_each(|piece| kept.push(piece));
            assert_eq!(kept.length, part.len() as u64);
            let pieces = kept.into_all();
            assert_eq!(
                pieces.iter().map(Bytes::len).collect::<Vec<_>>(),
                [PIECE_SIZE, PIECE_SIZE, 7]
            );
            assert!(pieces.concat() == part);
            let digest = ChecksumAlgorithm::Sha256.digest(&pieces);
            assert_eq!(digest, Sha256::digest(&part).to_vec());
        }
        assert!(Pieces::default().into_all().is_empty());
    }
}
