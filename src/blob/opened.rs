//! Blobs that are open: files, or objects elsewhere.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::local::{FileReader, read};
use crate::model::Timestamp;

/// An open blob.
#[derive(Clone)]
pub struct Blob {
    /// Length in bytes.
    pub length: u64,
    /// When it was stored.
    pub modified: Timestamp,
    content: Content,
}

#[derive(Clone)]
enum Content {
    File(Arc<File>),
    Remote(Arc<dyn Remote>),
}

/// The bytes of a blob that is elsewhere.
pub(super) trait Remote: Send + Sync {
    /// The bytes of a range (half-open). The stream fails, rather than ends early.
    fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>>;

    /// The bytes from the first to the last, for a thread that may block.
    fn reader(&self) -> Box<dyn io::Read + Send>;
}

impl Blob {
    /// A blob that is a local file.
    pub(super) fn from_file(file: File, length: u64, modified: Timestamp) -> Self {
        Self { length, modified, content: Content::File(Arc::new(file)) }
    }

    /// A blob that is elsewhere.
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "no other store is elsewhere"))]
    pub(super) fn from_remote(remote: Arc<dyn Remote>, length: u64, modified: Timestamp) -> Self {
        Self { length, modified, content: Content::Remote(remote) }
    }

    /// The local file that holds the blob from its first byte, where there is one.
    pub fn file(&self) -> Option<Arc<File>> {
        match &self.content {
            Content::File(file) => Some(Arc::clone(file)),
            Content::Remote(_) => None,
        }
    }

    /// The bytes of `range` (half-open), in pieces. The stream fails, rather than ends early, if
    /// the blob turns out to be shorter.
    pub fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        match &self.content {
            Content::File(file) => read(Arc::clone(file), range),
            Content::Remote(remote) => remote.read(range),
        }
    }

    /// The bytes from the first to the last, for a thread that may block.
    pub fn reader(&self) -> Box<dyn io::Read + Send> {
        match &self.content {
            Content::File(file) => Box::new(FileReader::new(Arc::clone(file), self.length)),
            Content::Remote(remote) => remote.reader(),
        }
    }

    /// All bytes of a small blob.
    ///
    /// # Errors
    ///
    /// As the file system says, and if it is longer than `limit` bytes.
    pub async fn read_all(&self, limit: u64) -> io::Result<Bytes> {
        use futures_util::TryStreamExt;
        if self.length > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes")));
        }
        let pieces = self.read(0..self.length);
        let bytes = pieces.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        });
        Ok(bytes.await?.into())
    }
}
