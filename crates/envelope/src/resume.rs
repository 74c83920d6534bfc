//! Sealing that survives a crash (docs/FORMAT.md, 6.9).
//!
//! An image is sealed in **blocks**: the segments within each [`BLOCK_SIZE`] bytes of the sealed
//! image, at the same places however its plaintext comes in. A [`ResumableSealer`] can be taken up
//! again from a [`ResumableSealer::checkpoint`], and may then be given other plaintext for a block
//! than somebody was before. So it hands out no ciphertext: it gives a [`Withheld`] block, which is
//! released only against the digest that was recorded for it before anything of it was released.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::key::{DataKey, random};
use crate::segment::{HEADER_SIZE, Layout, Position, SealError, SegmentSealer, derive_cipher};
use motorcade_model::{SealAlgorithm, SealedImage, Sha256Digest};

/// Bytes of a sealed image in each block but the last, which may be shorter; the header is in the
/// first.
pub const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB: one segment of AES256_GCM_HKDF_1MB, 256 of AES256_GCM_HKDF_4KB

/// Which bytes of an image of a known length are in which block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    algorithm: SealAlgorithm,
    length: u64,
}

impl Blocks {
    /// The blocks of an image of `length` bytes that is sealed with `algorithm`.
    pub fn of(algorithm: SealAlgorithm, length: u64) -> Self {
        Self { algorithm, length }
    }

    /// Bytes of plaintext in front of a block.
    pub fn offset(self, block: u64) -> u64 {
        let first = block.saturating_mul(segments_per_block(self.algorithm));
        Layout::of(self.algorithm).plaintext_offset(first).min(self.length)
    }

    /// Bytes of plaintext in a block.
    pub fn room(self, block: u64) -> usize {
        let room = self.offset(block.saturating_add(1)) - self.offset(block);
        usize::try_from(room).expect("a block is 1 MiB")
    }

    /// Bytes of a block once it is sealed, with the header in the first. Who has as much capacity
    /// for its plaintext has none of it copied.
    pub fn sealed_room(self, block: u64) -> usize {
        let room = self.sealed_offset(block.saturating_add(1)) - self.sealed_offset(block);
        usize::try_from(room).expect("a block is 1 MiB")
    }

    /// Whether the image ends with a block, or before it.
    pub fn is_last(self, block: u64) -> bool {
        self.offset(block.saturating_add(1)) == self.length
    }

    /// Where a block begins in the sealed image; where that ends, for blocks behind its end.
    pub fn sealed_offset(self, block: u64) -> u64 {
        let length = Layout::of(self.algorithm).sealed_length(self.length).unwrap_or(u64::MAX);
        block.saturating_mul(BLOCK_SIZE as u64).min(length)
    }
}

/// Seals an image of a known length, block by block, over several lives.
pub struct ResumableSealer {
    sealer: SegmentSealer,
    blocks: Blocks,
    checkpoints: CheckpointCipher,
    block: u64,
    plaintext: Sha256,
    sealed: Sha256,
}

/// Which upload a checkpoint is of: what it was sealed for, and opens for.
#[derive(Debug, Clone, Copy)]
pub struct UploadBinding<'a> {
    /// Id of the upload.
    pub id: &'a str,
    /// Length of the image in bytes.
    pub length: u64,
    /// How it is sealed.
    pub algorithm: SealAlgorithm,
}

impl ResumableSealer {
    /// Starts an image under `data_key`, which **must** be used for this upload only.
    ///
    /// # Errors
    ///
    /// [`SealError::TooLong`] if the format can't hold the image; [`SealError::Randomness`].
    pub fn begin(data_key: &DataKey, upload: UploadBinding<'_>) -> Result<Self, SealError> {
        let layout = Layout::of(upload.algorithm);
        layout.sealed_length(upload.length).ok_or(SealError::TooLong)?;
        Ok(Self {
            sealer: SegmentSealer::new(data_key, upload.algorithm)?,
            blocks: Blocks::of(upload.algorithm, upload.length),
            checkpoints: CheckpointCipher::new(data_key, upload),
            block: 0,
            plaintext: Sha256::new(),
            sealed: Sha256::new(),
        })
    }

    /// Goes on from a checkpoint; returns the plaintext that was kept with it, too.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] if it isn't one of this upload, under this data key.
    pub fn resume(
        data_key: &DataKey,
        upload: UploadBinding<'_>,
        checkpoint: &[u8],
    ) -> Result<(Self, Zeroizing<Vec<u8>>), CheckpointError> {
        let checkpoints = CheckpointCipher::new(data_key, upload);
        let opened = checkpoints.open(checkpoint).ok_or(CheckpointError)?;
        let mut state = Fields(&opened);
        let block = u64::from_be_bytes(*state.take().ok_or(CheckpointError)?);
        let header: &[u8; HEADER_SIZE] = state.take().ok_or(CheckpointError)?;
        let plaintext = read_state(state.take().ok_or(CheckpointError)?)?;
        let sealed = read_state(state.take().ok_or(CheckpointError)?)?;
        let pending = Zeroizing::new(state.0.to_vec());
        let segment = block.checked_mul(segments_per_block(upload.algorithm));
        let segment = segment.and_then(|segment| u32::try_from(segment).ok());
        let segment = segment.ok_or(CheckpointError)?;
        let sealer = SegmentSealer::resume(data_key, upload.algorithm, header, segment);
        let blocks = Blocks::of(upload.algorithm, upload.length);
        Ok((Self { sealer, blocks, checkpoints, block, plaintext, sealed }, pending))
    }

    /// What [`Self::resume`] goes on from, with plaintext that came in and fills no block yet. It is
    /// encrypted: midstates of hashes hold plaintext too.
    pub fn checkpoint(&self, pending: &[u8]) -> Vec<u8> {
        let states = 2 * STATE_SIZE;
        let capacity = OVERHEAD + 8 + HEADER_SIZE + states + pending.len();
        let mut state = Vec::with_capacity(capacity); // growing would leave plaintext behind
        state.extend_from_slice(&self.block.to_be_bytes());
        state.extend_from_slice(self.sealer.header());
        for hash in [&self.plaintext, &self.sealed] {
            state
                .extend_from_slice(&Zeroizing::new(<[u8; STATE_SIZE]>::from(hash.serialize()))[..]);
        }
        state.extend_from_slice(pending);
        self.checkpoints.seal(state)
    }

    /// Number of the next block.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// Which bytes are in which block.
    pub fn blocks(&self) -> Blocks {
        self.blocks
    }

    /// Seals the next block. `plaintext` becomes its ciphertext.
    ///
    /// # Errors
    ///
    /// [`SealError::SegmentSize`] if it hasn't the size of [`Blocks::room`];
    /// [`SealError::Finished`] after the last one.
    pub fn seal(&mut self, mut plaintext: Vec<u8>) -> Result<Withheld, SealError> {
        if self.sealer.is_finished() {
            return Err(SealError::Finished);
        }
        let room = self.blocks.room(self.block);
        if plaintext.len() != room {
            let size = plaintext.len();
            plaintext.zeroize();
            return Err(SealError::SegmentSize { size, capacity: room });
        }
        let is_last = self.blocks.is_last(self.block);
        let last = if is_last { Position::Last } else { Position::Middle };
        self.plaintext.update(&plaintext);
        let sealed = if segments_per_block(self.blocks.algorithm) == 1 {
            self.seal_in_place(&mut plaintext, last)
        } else {
            self.seal_segments(&mut plaintext, last)
        };
        if sealed.is_err() {
            plaintext.zeroize();
        }
        let bytes = sealed.map(|()| plaintext)?;
        self.sealed.update(&bytes);
        let digest = Sha256Digest::from_bytes(self.sealed.clone().finalize().into());
        let withheld = Withheld { bytes, block: self.block, digest };
        self.block += 1;
        Ok(withheld)
    }

    /// Seals a block that is one segment.
    fn seal_in_place(&mut self, block: &mut Vec<u8>, last: Position) -> Result<(), SealError> {
        self.sealer.seal(block, last)?;
        if self.block == 0 {
            block.splice(0..0, *self.sealer.header());
        }
        Ok(())
    }

    /// Seals a block of many segments, whose tags go in between.
    fn seal_segments(&mut self, block: &mut Vec<u8>, last: Position) -> Result<(), SealError> {
        let mut sealed = Vec::with_capacity(BLOCK_SIZE);
        if self.block == 0 {
            sealed.extend_from_slice(self.sealer.header());
        }
        let mut rest = block.as_slice();
        loop {
            let (now, later) = rest.split_at(rest.len().min(self.sealer.next_capacity()));
            let position = if later.is_empty() { last } else { Position::Middle };
            self.sealer.seal_onto(&mut sealed, now, position)?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        std::mem::replace(block, sealed).zeroize();
        Ok(())
    }

    /// What was sealed, once all of it is.
    pub fn sealed_image(&self) -> Option<SealedImage> {
        let digest = |hash: &Sha256| Sha256Digest::from_bytes(hash.clone().finalize().into());
        self.sealer.is_finished().then(|| SealedImage {
            algorithm: self.blocks.algorithm,
            length: self.blocks.sealed_offset(u64::MAX),
            sha256: digest(&self.sealed),
            plaintext_length: self.blocks.length,
            plaintext_sha256: digest(&self.plaintext),
        })
    }
}

impl fmt::Debug for ResumableSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumableSealer").field("block", &self.block).finish_non_exhaustive()
    }
}

/// A sealed block whose bytes nobody has seen yet.
pub struct Withheld {
    bytes: Vec<u8>,
    block: u64,
    digest: Sha256Digest,
}

impl Withheld {
    /// Number of the block.
    pub fn block(&self) -> u64 {
        self.block
    }

    /// SHA-256 of the sealed image up to the end of this block: what has to be recorded, for good
    /// and before anything of the block is released, unless something is recorded already.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The bytes of the block, against the digest that is recorded for it.
    ///
    /// # Errors
    ///
    /// [`OtherBlock`] if another one is recorded; the bytes are gone then.
    pub fn release(self, recorded: &Sha256Digest) -> Result<Vec<u8>, OtherBlock> {
        if self.digest == *recorded {
            Ok(self.bytes)
        } else {
            Err(OtherBlock { block: self.block })
        }
    }
}

impl fmt::Debug for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Withheld").field("block", &self.block).finish_non_exhaustive()
    }
}

/// A block was sealed before, from other plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {block} was sealed before, from other bytes")]
pub struct OtherBlock {
    /// Number of the block.
    pub block: u64,
}

/// A checkpoint can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint of an upload is damaged, or another upload's")]
pub struct CheckpointError;

/// Encrypts checkpoints under a key that seals nothing else: derived from the data key with a text
/// that Tink's derivation, whose `info` is empty, never uses.
struct CheckpointCipher {
    cipher: Aes256Gcm,
    additional_data: Vec<u8>,
}

impl CheckpointCipher {
    fn new(data_key: &DataKey, upload: UploadBinding<'_>) -> Self {
        let UploadBinding { id, length, algorithm } = upload;
        let cipher = derive_cipher(data_key, None, CHECKPOINT_KEY);
        Self { cipher, additional_data: format!("{id}\n{length}\n{algorithm}").into_bytes() }
    }

    /// The nonce is random: of an upload there are far fewer checkpoints than 2^32.
    fn seal(&self, mut state: Vec<u8>) -> Vec<u8> {
        let nonce: [u8; 12] = *random();
        self.cipher
            .encrypt_in_place(&nonce.into(), &self.additional_data, &mut state)
            .expect("a checkpoint is below the limits of AES-GCM");
        let mut sealed = Vec::with_capacity(1 + nonce.len() + state.len());
        sealed.push(CHECKPOINT_VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&state);
        sealed
    }

    fn open(&self, checkpoint: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut fields = Fields(checkpoint);
        let [version] = *fields.take()?;
        let nonce: [u8; 12] = *fields.take()?;
        let mut state = Zeroizing::new(fields.0.to_vec());
        if version != CHECKPOINT_VERSION {
            return None;
        }
        self.cipher.decrypt_in_place(&nonce.into(), &self.additional_data, &mut *state).ok()?;
        Some(state)
    }
}

/// What is left of some bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(field)
    }
}

fn read_state(state: &[u8; STATE_SIZE]) -> Result<Sha256, CheckpointError> {
    let state: SerializedState<Sha256> = (*state).into();
    Sha256::deserialize(&state).map_err(|_| CheckpointError)
}

fn segments_per_block(algorithm: SealAlgorithm) -> u64 {
    (BLOCK_SIZE / algorithm.segment_size()) as u64
}

const CHECKPOINT_KEY: &[u8] = b"motorcade upload checkpoint";
/// Also of what `sha2` writes: raised when that changes.
const CHECKPOINT_VERSION: u8 = 1;
const STATE_SIZE: usize = 104; // of SHA-256: eight words, a number, and up to 63 bytes with theirs
const OVERHEAD: usize = 16; // the tag

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
