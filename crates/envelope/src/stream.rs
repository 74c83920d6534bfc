//! Whole sealed images over [`std::io`]: a writer that seals, readers that open.
//!
//! Each holds one segment in memory, however long the image is.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::key::DataKey;
use super::segment::{
    HEADER_SIZE, Layout, OpenError, Position, SealError, SegmentOpener, SegmentSealer, TAG_SIZE,
};
use motorcade_model::SealAlgorithm;

/// Seals what is written to it.
///
/// **[`SealWriter::finish`] must be called**: an image that was not finished is truncated and won't
/// open.
pub struct SealWriter<W: Write> {
    sink: W,
    sealer: SegmentSealer,
    /// Plaintext that isn't sealed yet. A full segment waits here, as it may turn out to be the
    /// last.
    pending: Vec<u8>,
}

impl<W: Write> SealWriter<W> {
    /// Starts a sealed image in `sink` under `data_key`, which **must** be used for one image only.
    ///
    /// # Errors
    ///
    /// Whatever `sink` says, or that there is no randomness.
    pub fn new(mut sink: W, data_key: &DataKey, algorithm: SealAlgorithm) -> io::Result<Self> {
        let sealer = SegmentSealer::new(data_key, algorithm).map_err(io::Error::other)?;
        sink.write_all(sealer.header())?;
        Ok(Self { sink, sealer, pending: Vec::with_capacity(algorithm.segment_size()) })
    }

    /// Seals the last segment and returns the sink.
    ///
    /// # Errors
    ///
    /// Whatever the sink says.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal_pending(Position::Last)?;
        Ok(self.sink)
    }

    fn seal_pending(&mut self, position: Position) -> io::Result<()> {
        self.sealer.seal(&mut self.pending, position).map_err(|error| match error {
            SealError::TooLong => io::Error::new(io::ErrorKind::FileTooLarge, error),
            other => io::Error::other(other),
        })?;
        self.sink.write_all(&self.pending)?;
        self.pending.clear();
        Ok(())
    }
}

impl<W: Write> Write for SealWriter<W> {
    fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        if plaintext.is_empty() {
            return Ok(0);
        }
        // More plaintext has come, so a full segment is not the last one.
        if self.pending.len() == self.sealer.next_capacity() {
            self.seal_pending(Position::Middle)?;
        }
        let room = self.sealer.next_capacity() - self.pending.len();
        let taken = plaintext.len().min(room);
        self.pending.extend_from_slice(&plaintext[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush() // a segment can't be flushed before it is full
    }
}

/// Opens a sealed image from its start to its end, a segment at a time.
///
/// Plaintext comes out before the end is seen. **A caller must not use it before
/// [`SegmentReader::next_segment`] has returned `None`**: only then it is known that nothing is
/// missing.
pub struct SegmentReader<R> {
    source: R,
    opener: SegmentOpener,
    index: Option<u32>,
    /// One byte of the next segment, read to learn whether there is one.
    ahead: Option<u8>,
    finished: bool,
}

impl<R: Read> SegmentReader<R> {
    /// Reads the header from `source`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Truncated`] or [`OpenError::Header`] if `source` doesn't start with one,
    /// [`OpenError::Read`] if it can't be read.
    pub fn new(
        mut source: R,
        data_key: &DataKey,
        algorithm: SealAlgorithm,
    ) -> Result<Self, OpenError> {
        let mut header = Vec::with_capacity(HEADER_SIZE);
        read_up_to(&mut source, HEADER_SIZE, &mut header)?;
        if header.len() < HEADER_SIZE {
            return Err(OpenError::Truncated);
        }
        let opener = SegmentOpener::new(data_key, algorithm, &header)?;
        Ok(Self { source, opener, index: Some(0), ahead: None, finished: false })
    }

    /// Opens the next segment into `segment`, whose capacity is used again; returns `None` after
    /// the last one.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; `segment` is then empty and the image is not to be trusted.
    pub fn next_segment(&mut self, segment: &mut Vec<u8>) -> Result<Option<usize>, OpenError> {
        segment.clear();
        if self.finished {
            return Ok(None);
        }
        let opened = self.open_next(segment);
        if opened.is_err() {
            segment.clear();
        }
        opened.map(Some)
    }

    fn open_next(&mut self, segment: &mut Vec<u8>) -> Result<usize, OpenError> {
        let index = self.index.ok_or(OpenError::Authentication)?;
        let capacity = self.opener.layout().sealed_capacity(index);
        segment.extend(self.ahead.take());
        read_up_to(&mut self.source, capacity - segment.len(), segment)?;
        if segment.len() < TAG_SIZE {
            return Err(OpenError::Truncated);
        }
        let position = if segment.len() == capacity { self.look_ahead()? } else { Position::Last };
        self.opener.open(index, position, segment)?;
        self.index = index.checked_add(1);
        self.finished = position == Position::Last;
        Ok(segment.len())
    }

    fn look_ahead(&mut self) -> Result<Position, OpenError> {
        let mut next = Vec::with_capacity(1);
        read_up_to(&mut self.source, 1, &mut next)?;
        self.ahead = next.pop();
        Ok(if self.ahead.is_some() { Position::Middle } else { Position::Last })
    }
}

/// Opens any part of a sealed image without reading what is before it.
///
/// What comes out is authentic at its place, and the length is checked against the last segment
/// when the image is opened; the parts that were not read may still be damaged.
pub struct RandomReader<R> {
    source: R,
    opener: SegmentOpener,
    last: u32,
    length: u64,
    position: u64,
    /// The opened segment that was used last, and its number.
    cached: Option<u32>,
    segment: Vec<u8>,
}

impl<R: Read + Seek> RandomReader<R> {
    /// Reads the header and opens the last segment, so that a cut-off image is refused here.
    ///
    /// # Errors
    ///
    /// [`OpenError`] as for the whole image.
    pub fn new(
        mut source: R,
        data_key: &DataKey,
        algorithm: SealAlgorithm,
    ) -> Result<Self, OpenError> {
        let sealed = source.seek(SeekFrom::End(0)).map_err(OpenError::Read)?;
        let layout = Layout::of(algorithm);
        let length = layout.plaintext_length(sealed)?;
        source.rewind().map_err(OpenError::Read)?;
        let mut header = Vec::with_capacity(HEADER_SIZE);
        read_up_to(&mut source, HEADER_SIZE, &mut header)?;
        let opener = SegmentOpener::new(data_key, algorithm, &header)?;
        let (last, _) = layout.locate(length.saturating_sub(1));
        let last = u32::try_from(last).map_err(|_| OpenError::Truncated)?;
        let mut reader =
            Self { source, opener, last, length, position: 0, cached: None, segment: Vec::new() };
        reader.load(last)?;
        Ok(reader)
    }

    /// Length of the plaintext in bytes.
    pub fn plaintext_length(&self) -> u64 {
        self.length
    }

    fn load(&mut self, index: u32) -> Result<(), OpenError> {
        if self.cached == Some(index) {
            return Ok(());
        }
        self.cached = None;
        let layout = self.opener.layout();
        let offset = layout.sealed_offset(u64::from(index));
        self.source.seek(SeekFrom::Start(offset)).map_err(OpenError::Read)?;
        self.segment.clear();
        read_up_to(&mut self.source, layout.sealed_capacity(index), &mut self.segment)?;
        let position = if index == self.last { Position::Last } else { Position::Middle };
        self.opener.open(index, position, &mut self.segment)?;
        self.cached = Some(index);
        Ok(())
    }
}

impl<R: Read + Seek> Read for RandomReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.length || buffer.is_empty() {
            return Ok(0);
        }
        let (index, within) = self.opener.layout().locate(self.position);
        let index = u32::try_from(index).map_err(|_| OpenError::Truncated)?;
        self.load(index)?;
        let available = &self.segment[within..];
        let taken = available.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&available[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl<R: Read + Seek> Seek for RandomReader<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Appends up to `limit` bytes of `source` to `buffer`; fewer only at its end.
fn read_up_to(source: &mut impl Read, limit: usize, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
    source.take(limit as u64).read_to_end(buffer).map(drop).map_err(OpenError::Read)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const ALGORITHM: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf4Kb;
    const FIRST: usize = 4096 - 40 - 16;
    const FULL: usize = 4096 - 16;

    fn key() -> DataKey {
        DataKey::from_bytes([9; 32])
    }

    fn plaintext(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn seal_split(plaintext: &[u8], splits: &[usize]) -> Vec<u8> {
        let mut writer = SealWriter::new(Vec::new(), &key(), ALGORITHM).unwrap();
        let mut rest = plaintext;
        for split in splits {
            let (now, later) = rest.split_at((*split).min(rest.len()));
            writer.write_all(now).unwrap();
            rest = later;
        }
        writer.write_all(rest).unwrap();
        writer.finish().unwrap()
    }

    fn open(sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut reader = SegmentReader::new(sealed, &key(), ALGORITHM)?;
        let (mut plaintext, mut segment) = (Vec::new(), Vec::new());
        while reader.next_segment(&mut segment)?.is_some() {
            plaintext.extend_from_slice(&segment);
        }
        Ok(plaintext)
    }

    #[test]
    fn opens_what_it_sealed_at_every_segment_edge() {
        for length in [
            0,
            1,
            FIRST - 1,
            FIRST,
            FIRST + 1,
            FIRST + FULL - 1,
            FIRST + FULL,
            FIRST + FULL + 1,
            50_000,
        ] {
            let sealed = seal_split(&plaintext(length), &[]);
            assert_eq!(
                Some(sealed.len() as u64),
                Layout::of(ALGORITHM).sealed_length(length as u64)
            );
            assert_eq!(open(&sealed).unwrap(), plaintext(length), "{length}");
        }
    }

    #[test]
    fn any_flipped_bit_fails() {
        let sealed = seal_split(&plaintext(FIRST + 100), &[]);
        for byte in (0..sealed.len()).filter(|i| *i < 60 || i % 7 == 0 || *i > 4080) {
            let mut changed = sealed.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert!(open(&changed).is_err(), "bit flipped in byte {byte}");
        }
    }

    #[test]
    fn any_truncation_and_any_extension_fails() {
        let sealed = seal_split(&plaintext(FIRST + FULL), &[]);
        for length in 0..sealed.len() {
            assert!(open(&sealed[..length]).is_err(), "truncated to {length}");
        }
        for extra in [1, 16, 4096] {
            let mut extended = sealed.clone();
            extended.resize(sealed.len() + extra, 0);
            assert!(
                matches!(open(&extended), Err(OpenError::Authentication | OpenError::Truncated)),
                "extended by {extra}"
            );
        }
    }

    #[test]
    fn reordered_and_spliced_segments_fail() {
        let one = seal_split(&plaintext(FIRST + 3 * FULL), &[]);
        let other = seal_split(&plaintext(FIRST + 3 * FULL), &[]);
        let mut reordered = one.clone();
        reordered[4096..8192].copy_from_slice(&one[8192..12288]);
        reordered[8192..12288].copy_from_slice(&one[4096..8192]);
        assert!(matches!(open(&reordered), Err(OpenError::Authentication)));
        let mut spliced = one;
        spliced[4096..8192].copy_from_slice(&other[4096..8192]);
        assert!(matches!(open(&spliced), Err(OpenError::Authentication)));
    }

    #[test]
    fn random_access_refuses_a_cut_image_before_any_byte_is_read() {
        let sealed = seal_split(&plaintext(FIRST + 3 * FULL), &[]);
        let cut = Cursor::new(&sealed[..2 * 4096]);
        assert!(matches!(
            RandomReader::new(cut, &key(), ALGORITHM),
            Err(OpenError::Authentication)
        ));
    }

    #[test]
    fn random_access_works_on_an_empty_image() {
        let sealed = seal_split(&[], &[]);
        let mut reader = RandomReader::new(Cursor::new(&sealed), &key(), ALGORITHM).unwrap();
        assert_eq!(reader.read(&mut [0; 10]).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn opens_for_any_split_of_writes(length in 0..5 * FULL, splits in prop::collection::vec(0..2 * FULL, 0..12)) {
            prop_assert_eq!(open(&seal_split(&plaintext(length), &splits)).unwrap(), plaintext(length));
        }

        #[test]
        fn random_access_equals_a_slice(length in 1..4 * FULL, from in 0..4 * FULL, count in 0..2 * FULL) {
            let from = from.min(length);
            let count = count.min(length - from);
            let sealed = seal_split(&plaintext(length), &[]);
            let mut reader = RandomReader::new(Cursor::new(&sealed), &key(), ALGORITHM).unwrap();
            reader.seek(SeekFrom::Start(from as u64)).unwrap();
            let mut part = vec![0; count];
            reader.read_exact(&mut part).unwrap();
            prop_assert_eq!(&part, &plaintext(length)[from..from + count]);
        }

        #[test]
        fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..10_000)) {
            prop_assert!(open(&noise).is_err());
            prop_assert!(RandomReader::new(Cursor::new(&noise), &key(), ALGORITHM).is_err());
        }
    }
}
