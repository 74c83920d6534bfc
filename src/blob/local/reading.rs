//! How a large blob is read: ahead of whoever takes it, and in pieces that get smaller the more are
//! read at once.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};

/// The bytes of `range`, read ahead on threads that may block: the next piece is read while one is
/// sent.
pub(in crate::blob) fn read(
    file: Arc<File>,
    range: Range<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let reader = Reader::begin();
    let mut rest = range;
    let pieces = std::iter::from_fn(move || {
        let size =
            reader.piece_size().min(usize::try_from(rest.end - rest.start).unwrap_or(usize::MAX));
        let start = rest.start;
        rest.start += size as u64;
        (size > 0).then(|| (Arc::clone(&file), start, size))
    });
    let read = |(file, start, size): (Arc<File>, u64, usize)| async move {
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = BytesMut::zeroed(size);
            file.read_exact_at(&mut piece, start)?;
            io::Result::Ok(piece.freeze())
        });
        reading.await.map_err(io::Error::other)?
    };
    stream::iter(pieces).map(read).buffered(READ_AHEAD).boxed()
}

/// Reads a file from its start to `length`, wherever others are in it.
pub(in crate::blob) struct FileReader {
    file: Arc<File>,
    position: u64,
    length: u64,
}

impl FileReader {
    pub(in crate::blob) fn new(file: Arc<File>, length: u64) -> Self {
        Self { file, position: 0, length }
    }
}

impl io::Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// One of those who read a large blob now. The more they are, the smaller their pieces: each may
/// hold some for as long as its client likes.
struct Reader;

static READERS: AtomicUsize = AtomicUsize::new(0);

impl Reader {
    fn begin() -> Self {
        READERS.fetch_add(1, Ordering::Relaxed);
        Self
    }

    fn piece_size(&self) -> usize {
        let readers = READERS.load(Ordering::Relaxed).max(1);
        let share = READ_BUDGET / (readers * (READ_AHEAD + 1));
        // Those who came first may sit on what they got when they were few: beyond some, it shrinks
        // faster.
        (share * FEW_READERS / readers.max(FEW_READERS)).clamp(READ_SIZE_MIN, READ_SIZE_MAX)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}

const READ_AHEAD: usize = 2; // pieces
const READ_SIZE_MAX: usize = 256 * 1024; // 256 KiB: a large piece costs fewer hand-overs, a small one less memory
const READ_SIZE_MIN: usize = 4 * 1024; // 4 KiB
const READ_BUDGET: usize = 12 * 1024 * 1024; // 12 MiB for all readers, while they are few
const FEW_READERS: usize = 32;
