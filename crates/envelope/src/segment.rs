//! Segments of a sealed image: Tink's `AES256_GCM_HKDF` streaming AEAD with empty associated data.
//!
//! ```text
//! header  = 40 || salt (32 bytes) || nonce prefix (7 bytes)
//! key     = HKDF-SHA-256(ikm = data key, salt, info = "", 32 bytes)
//! nonce i = prefix || BE32(i) || (1 if segment i is the last, else 0)
//! sealed image = header || AES-256-GCM(segment 0) || AES-256-GCM(segment 1) || …
//! ```
//!
//! Each sealed segment has [`SealAlgorithm::segment_size`] bytes with its 16-byte tag, but for
//! segment 0, which is shorter by the header, and the last one, which may be shorter. This file
//! knows about one segment at a time;
//! [`super::stream`] joins them.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::DataKey;
use motorcade_model::SealAlgorithm;

/// Bytes of the header in front of segment 0.
pub const HEADER_SIZE: usize = 40;
/// Bytes of the tag at the end of each segment.
pub const TAG_SIZE: usize = 16;

/// Whether more segments follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// At least one more segment follows.
    Middle,
    /// The image ends with this segment.
    Last,
}

/// Seals the segments of one image, in order, in place.
///
/// A sealer makes its own salt and nonce prefix, so that even two sealers with the same data key
/// never share a nonce under one key. It can't be cloned, saved or rewound. Only
/// [`ResumableSealer`](super::resume::ResumableSealer) goes on where another one stopped, and hands
/// out no ciphertext that could be the second one for a nonce.
pub struct SegmentSealer {
    cipher: Aes256Gcm,
    layout: Layout,
    nonce: Nonce,
    header: [u8; HEADER_SIZE],
    finished: bool,
}

impl SegmentSealer {
    /// Starts an image under `data_key`, which **must** be used for one image only.
    ///
    /// # Errors
    ///
    /// [`SealError::Randomness`] if the operating system gives none.
    pub fn new(data_key: &DataKey, algorithm: SealAlgorithm) -> Result<Self, SealError> {
        let mut header = [0; HEADER_SIZE];
        header[0] = HEADER_SIZE as u8;
        let salt_and_prefix = &mut header[1..];
        getrandom::fill(salt_and_prefix).map_err(|_| SealError::Randomness)?;
        Ok(Self::resume(data_key, algorithm, &header, 0))
    }

    /// Goes on at segment `index` of the image with this header. Whoever calls this **must** make
    /// sure that no segment from there on has left the process, or leaves it, with other plaintext.
    pub(crate) fn resume(
        data_key: &DataKey,
        algorithm: SealAlgorithm,
        header: &[u8; HEADER_SIZE],
        index: u32,
    ) -> Self {
        let (salt, prefix) = salt_and_prefix(header);
        Self {
            cipher: derive_cipher(data_key, Some(&salt), b""),
            layout: Layout::of(algorithm),
            nonce: Nonce { prefix, index: Some(index) },
            header: *header,
            finished: false,
        }
    }

    /// The header, which goes before segment 0.
    pub fn header(&self) -> &[u8; HEADER_SIZE] {
        &self.header
    }

    /// Bytes of plaintext that the next segment takes when it isn't the last.
    pub fn next_capacity(&self) -> usize {
        self.layout.plaintext_capacity(self.nonce.index.unwrap_or(u32::MAX))
    }

    /// Replaces `segment`, plaintext, with its ciphertext and tag.
    ///
    /// # Errors
    ///
    /// The call is refused, and nothing is sealed, when a [`Position::Middle`] segment isn't
    /// exactly full or a last one is over-full ([`SealError::SegmentSize`]), after the last segment
    /// ([`SealError::Finished`]), and when the 32-bit counter is used up ([`SealError::TooLong`]).
    pub fn seal(&mut self, segment: &mut Vec<u8>, position: Position) -> Result<(), SealError> {
        let nonce = self.next_nonce(segment.len(), position)?;
        let tag = self.encrypt(&nonce, segment)?;
        segment.extend_from_slice(&tag);
        Ok(())
    }

    /// Appends the ciphertext and tag of `segment` to `sealed`; the plaintext stays where it is.
    ///
    /// # Errors
    ///
    /// As of [`Self::seal`].
    pub(crate) fn seal_onto(
        &mut self,
        sealed: &mut Vec<u8>,
        segment: &[u8],
        position: Position,
    ) -> Result<(), SealError> {
        let nonce = self.next_nonce(segment.len(), position)?;
        let at = sealed.len();
        sealed.extend_from_slice(segment);
        let tag = self.encrypt(&nonce, sealed.get_mut(at..).unwrap_or_default())?;
        sealed.extend_from_slice(&tag);
        Ok(())
    }

    /// The nonce of a segment of `size` bytes, which is not given again.
    fn next_nonce(&mut self, size: usize, position: Position) -> Result<[u8; 12], SealError> {
        if self.finished {
            return Err(SealError::Finished);
        }
        let capacity = self.next_capacity();
        let fits = match position {
            Position::Middle => size == capacity,
            Position::Last => size <= capacity,
        };
        if !fits {
            return Err(SealError::SegmentSize { size, capacity });
        }
        let nonce = self.nonce.take(position).ok_or(SealError::TooLong)?;
        self.finished = position == Position::Last;
        Ok(nonce)
    }

    /// Encrypts a segment where it is, and returns its tag.
    fn encrypt(&self, nonce: &[u8; 12], segment: &mut [u8]) -> Result<[u8; TAG_SIZE], SealError> {
        let size = segment.len();
        let sealed = self.cipher.encrypt_inout_detached(&(*nonce).into(), b"", segment.into());
        let tag = sealed.map_err(|_| SealError::SegmentSize { size, capacity: size })?;
        Ok(tag.into())
    }

    /// Whether the last segment has been sealed; until then the image is truncated.
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

/// Opens segments of one image, in any order, in place.
pub struct SegmentOpener {
    cipher: Aes256Gcm,
    prefix: [u8; PREFIX_SIZE],
    layout: Layout,
}

impl SegmentOpener {
    /// Starts from the header of a sealed image.
    ///
    /// # Errors
    ///
    /// [`OpenError::Header`] if these aren't a header's bytes.
    pub fn new(
        data_key: &DataKey,
        algorithm: SealAlgorithm,
        header: &[u8],
    ) -> Result<Self, OpenError> {
        let header: &[u8; HEADER_SIZE] = header.try_into().map_err(|_| OpenError::Header)?;
        if usize::from(header[0]) != HEADER_SIZE {
            return Err(OpenError::Header);
        }
        let (salt, prefix) = salt_and_prefix(header);
        Ok(Self {
            cipher: derive_cipher(data_key, Some(&salt), b""),
            prefix,
            layout: Layout::of(algorithm),
        })
    }

    /// The sizes that apply to this image.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Replaces `segment`, the sealed segment number `index`, with its plaintext.
    ///
    /// # Errors
    ///
    /// [`OpenError::Authentication`] when it isn't that segment, at that position, of this image;
    /// `segment` then holds nothing that may be used.
    pub fn open(
        &self,
        index: u32,
        position: Position,
        segment: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let nonce = Nonce { prefix: self.prefix, index: Some(index) }.to_bytes(index, position);
        if segment.len() > self.layout.sealed_capacity(index) {
            return Err(OpenError::Authentication);
        }
        let opened = self.cipher.decrypt_in_place(&nonce.into(), b"", segment);
        opened.map_err(|_| OpenError::Authentication)
    }
}

/// Sizes and offsets within a sealed image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    segment_size: usize,
}

impl Layout {
    /// The layout that `algorithm` gives an image.
    pub fn of(algorithm: SealAlgorithm) -> Self {
        Self { segment_size: algorithm.segment_size() }
    }

    /// Bytes of sealed segment `index` when it is full; segment 0 makes room for the header.
    pub fn sealed_capacity(self, index: u32) -> usize {
        if index == 0 { self.segment_size - HEADER_SIZE } else { self.segment_size }
    }

    /// Bytes of plaintext in segment `index` when it is full.
    pub fn plaintext_capacity(self, index: u32) -> usize {
        self.sealed_capacity(index) - TAG_SIZE
    }

    /// Length of the sealed image of `plaintext` bytes; `None` if the format can't hold that many.
    pub fn sealed_length(self, plaintext: u64) -> Option<u64> {
        let body = self.segment_size as u64 - TAG_SIZE as u64;
        // The header takes room that plaintext would have had. An image ends in a full segment
        // rather than in an empty one, but even an empty image has one segment.
        let segments = plaintext.checked_add(HEADER_SIZE as u64)?.div_ceil(body).max(1);
        if segments > u64::from(u32::MAX) + 1 {
            return None;
        }
        plaintext.checked_add(HEADER_SIZE as u64)?.checked_add(segments * TAG_SIZE as u64)
    }

    /// Length of the plaintext in a sealed image of `sealed` bytes.
    ///
    /// # Errors
    ///
    /// [`OpenError::Truncated`] if no plaintext gives an image of that length.
    pub fn plaintext_length(self, sealed: u64) -> Result<u64, OpenError> {
        let segments = sealed.div_ceil(self.segment_size as u64).max(1);
        let overhead = HEADER_SIZE as u64 + segments * TAG_SIZE as u64;
        let plaintext = sealed.checked_sub(overhead).ok_or(OpenError::Truncated)?;
        if self.sealed_length(plaintext) == Some(sealed) {
            Ok(plaintext)
        } else {
            Err(OpenError::Truncated)
        }
    }

    /// The segment that holds the plaintext byte at `offset`, and that byte's place in the
    /// segment's plaintext.
    pub fn locate(self, offset: u64) -> (u64, usize) {
        let body = self.segment_size as u64 - TAG_SIZE as u64;
        // Counting the header as plaintext makes all segments equally long.
        let shifted = offset.saturating_add(HEADER_SIZE as u64);
        let index = shifted / body;
        let within = (shifted % body) as usize;
        (index, if index == 0 { within - HEADER_SIZE } else { within })
    }

    /// Bytes of plaintext in front of segment `index`, of an image that is long enough.
    pub fn plaintext_offset(self, index: u64) -> u64 {
        let body = self.segment_size as u64 - TAG_SIZE as u64;
        index.saturating_mul(body).saturating_sub(HEADER_SIZE as u64)
    }

    /// Offset of sealed segment `index` in the sealed image.
    pub fn sealed_offset(self, index: u64) -> u64 {
        if index == 0 { HEADER_SIZE as u64 } else { index * self.segment_size as u64 }
    }
}

/// A segment's nonce: prefix, counter, last-segment flag. The counter only moves forward, and not
/// past its end.
struct Nonce {
    prefix: [u8; PREFIX_SIZE],
    /// The next segment's number; `None` once all 2^32 are used.
    index: Option<u32>,
}

impl Nonce {
    fn take(&mut self, position: Position) -> Option<[u8; 12]> {
        let index = self.index?;
        self.index = index.checked_add(1);
        Some(self.to_bytes(index, position))
    }

    fn to_bytes(&self, index: u32, position: Position) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..PREFIX_SIZE].copy_from_slice(&self.prefix);
        bytes[PREFIX_SIZE..11].copy_from_slice(&index.to_be_bytes());
        bytes[11] = u8::from(position == Position::Last);
        bytes
    }
}

fn salt_and_prefix(header: &[u8; HEADER_SIZE]) -> ([u8; SALT_SIZE], [u8; PREFIX_SIZE]) {
    let mut salt = [0; SALT_SIZE];
    let mut prefix = [0; PREFIX_SIZE];
    salt.copy_from_slice(&header[1..1 + SALT_SIZE]);
    prefix.copy_from_slice(&header[1 + SALT_SIZE..]);
    (salt, prefix)
}

/// The cipher under a key that is derived from a data key.
pub(crate) fn derive_cipher(data_key: &DataKey, salt: Option<&[u8]>, info: &[u8]) -> Aes256Gcm {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(salt, data_key.as_bytes())
        .expand(info, key.as_mut())
        .expect("HKDF-SHA-256 gives up to 8160 bytes");
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
}

/// Why a segment could not be sealed; always the caller's mistake or the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A segment in the middle isn't full, or one is over-full.
    #[error("a segment of {size} bytes was given where {capacity} belong")]
    SegmentSize {
        /// Its size in bytes.
        size: usize,
        /// The size that a full segment has here, in bytes.
        capacity: usize,
    },
    /// The last segment has been sealed already.
    #[error("the image is already finished")]
    Finished,
    /// More than 2^32 segments.
    #[error("the image is longer than its sealing algorithm can hold")]
    TooLong,
    /// The operating system has no randomness to give.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// Why a sealed image can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The first bytes aren't a header.
    #[error("not a sealed image: its header is wrong")]
    Header,
    /// No sealed image has this length.
    #[error("sealed image is truncated or extended")]
    Truncated,
    /// A segment was changed, moved or cut, or the key is another image's. Deliberately no more
    /// precise than that.
    #[error("sealed image failed authentication: it was changed, or this isn't its key")]
    Authentication,
    /// The sealed bytes could not be read.
    #[error("failed to read the sealed image")]
    Read(#[source] std::io::Error),
}

impl From<OpenError> for std::io::Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Read(error) => error,
            other => Self::new(std::io::ErrorKind::InvalidData, other),
        }
    }
}

const SALT_SIZE: usize = 32;
const PREFIX_SIZE: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    const ALGORITHM: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf4Kb;

    fn sealer() -> SegmentSealer {
        SegmentSealer::new(&DataKey::from_bytes([7; 32]), ALGORITHM).unwrap()
    }

    #[test]
    fn a_middle_segment_must_be_full() {
        let full = sealer().next_capacity();
        for size in [0, full - 1, full + 1] {
            let refused = sealer().seal(&mut vec![0; size], Position::Middle);
            assert_eq!(refused, Err(SealError::SegmentSize { size, capacity: full }));
        }
        let mut over = vec![0; full + 1];
        assert!(matches!(
            sealer().seal(&mut over, Position::Last),
            Err(SealError::SegmentSize { .. })
        ));
        assert_eq!(over, vec![0; full + 1], "a refused segment stays as it was");
    }

    #[test]
    fn nothing_is_sealed_after_the_last_segment() {
        let mut sealer = sealer();
        sealer.seal(&mut vec![1], Position::Last).unwrap();
        assert_eq!(sealer.seal(&mut vec![1], Position::Last), Err(SealError::Finished));
    }

    #[test]
    fn the_counter_never_wraps() {
        let mut nonce = Nonce { prefix: [0; PREFIX_SIZE], index: Some(u32::MAX) };
        assert_eq!(
            nonce.take(Position::Middle),
            Some([0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0])
        );
        assert_eq!(nonce.take(Position::Middle), None);
        assert_eq!(nonce.take(Position::Last), None);
    }

    #[test]
    fn two_sealers_of_one_key_share_no_ciphertext() {
        let (mut one, mut two) = (vec![0; 100], vec![0; 100]);
        sealer().seal(&mut one, Position::Last).unwrap();
        sealer().seal(&mut two, Position::Last).unwrap();
        assert_ne!(one, two);
    }

    #[test]
    fn lengths_agree_at_every_edge() {
        let layout = Layout::of(ALGORITHM);
        let first = 4096 - 40 - 16;
        for (plaintext, sealed) in [
            (0, 40 + 16),
            (1, 40 + 17),
            (first, 4096),
            (first + 1, 4096 + 17),
            (first + 4080, 2 * 4096),
            (first + 4081, 2 * 4096 + 17),
        ] {
            assert_eq!(layout.sealed_length(plaintext), Some(sealed));
            assert_eq!(layout.plaintext_length(sealed).unwrap(), plaintext);
        }
        for impossible in [0, 39, 55, 4097, 4096 + 16, 2 * 4096 + 1] {
            assert!(
                matches!(layout.plaintext_length(impossible), Err(OpenError::Truncated)),
                "{impossible}"
            );
        }
    }

    #[test]
    fn the_format_holds_4_gib_segments_and_no_more() {
        let layout = Layout::of(ALGORITHM);
        let most = (1_u64 << 32) * 4080 - 40;
        assert_eq!(layout.sealed_length(most), Some((1 << 32) * 4096));
        assert_eq!(layout.sealed_length(most + 1), None);
        assert_eq!(layout.sealed_length(u64::MAX), None);
    }

    #[test]
    fn locates_every_byte() {
        let layout = Layout::of(ALGORITHM);
        let first = 4096 - 40 - 16;
        assert_eq!(layout.locate(0), (0, 0));
        assert_eq!(layout.locate(first - 1), (0, first as usize - 1));
        assert_eq!(layout.locate(first), (1, 0));
        assert_eq!(layout.locate(first + 4080), (2, 0));
        for (index, offset) in [(0, 0), (1, first), (2, first + 4080)] {
            assert_eq!(layout.plaintext_offset(index), offset);
        }
    }
}
