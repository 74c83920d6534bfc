//! The contract of a blob store.

use std::any::Any;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::key::BlobKey;
use super::local::{FileReader, read};
use super::parts::{Parts, PartsSecret};
use crate::model::{Sha256Digest, Timestamp};

/// Stores immutable blobs.
///
/// - A blob is visible whole or not at all, and what a call returned from has reached the disk.
/// - Storing the same bytes under a key again succeeds; storing other bytes there is
///   [`Error::AlreadyExists`].
/// - [`BlobKey::Timestamp`] is the one key that is replaced, by [`BlobStore::replace`], and
///   atomically.
/// - Dropping an upload, or a staged blob that was not promoted, leaves nothing behind, nor does a
///   crash once [`BlobStore::sweep`] has run.
/// - What was appended to a blob that comes in by parts stays over crashes, until it is abandoned;
///   what is there is never written again. So do its secret and the digests of its blocks.
/// - Deleting a blob that isn't there succeeds. Whoever has a blob open keeps its bytes.
/// - A missing blob is [`Error::NotFound`], and a full disk [`Error::Full`].
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Starts an upload whose key is not known yet. It fails as on a full disk when less than
    /// `keep_free` bytes are left, looked at every few MiB.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    fn begin(&self, keep_free: u64) -> Result<Box<dyn BlobUpload>, Error>;

    /// Bytes that can still be stored, where there is such a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    fn free_space(&self) -> Result<Option<u64>, Error>;

    /// Files that can still be added, where there is such a limit.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    fn free_files(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// Begins a blob that comes in by parts, over requests and processes, and has its beginning on
    /// the disk, with a secret: where that is missing later, as in a restored backup, nothing is
    /// appended.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    async fn begin_parts(&self, secret: &PartsSecret) -> Result<Parts, Error>;

    /// The secret that a blob was begun with; none once it was abandoned.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn parts_secret(&self, parts: &Parts) -> Result<Option<PartsSecret>, Error>;

    /// Records digests of blocks from number `first` on, and returns what is recorded: at each
    /// number the one that came first, for good, whoever else records there meanwhile, here or in
    /// another process. Behind the first that is another one nothing is recorded, and that is the
    /// last that is returned. They have reached the disk, and stay for as long as the secret.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] once it was abandoned; [`Error::Full`]; [`Error::Backend`].
    async fn record_blocks(
        &self,
        parts: &Parts,
        first: u64,
        digests: &[Sha256Digest],
    ) -> Result<Vec<Sha256Digest>, Error>;

    /// Appends a part at `at`, where the parts before it end; has brought it to the disk when it
    /// returns. A part, or the beginning of one, that was appended there before is replaced, unless
    /// it is the same. `parts` **must** be kept as this leaves it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], also if less than `keep_free` bytes would be left; [`Error::NotFound`] if its
    /// beginning or earlier parts are gone; [`Error::Backend`].
    async fn append_part(
        &self,
        parts: &mut Parts,
        at: u64,
        bytes: Vec<Bytes>,
        keep_free: u64,
    ) -> Result<(), Error>;

    /// Bytes that are there of a blob that comes in by parts, with those of a part that was cut off;
    /// none if not even its beginning is.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn parts_length(&self, parts: &Parts) -> Result<Option<u64>, Error>;

    /// Joins all parts to a staged blob of `length` bytes. The parts stay until they are abandoned,
    /// so that this can be done again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there are not as many bytes; [`Error::Full`]; [`Error::Backend`].
    async fn finish_parts(&self, parts: &Parts, length: u64) -> Result<Box<dyn StagedBlob>, Error>;

    /// Removes the parts of a blob, if there are any, and its secret no later than what was
    /// recorded: whoever finds the one finds the other. What was made of them stays.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn abandon_parts(&self, parts: &Parts) -> Result<(), Error>;

    /// Abandons all parts but those of `kept`, and returns of how many blobs there were some.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn sweep_parts(&self, kept: &[Parts]) -> Result<usize, Error>;

    /// Brings small files to the disk that have no key yet, beside each other, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`], and then none is left.
    async fn stage_all(&self, files: Vec<Bytes>) -> Result<Vec<Box<dyn StagedBlob>>, Error>;

    /// Makes staged blobs visible, [`BlobKey::Timestamp`] in place of the one that is there. What
    /// has to reach the disk goes there together, and has when this returns. After an error some of
    /// them may be visible.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if there is a blob, [`Error::Full`], [`Error::Backend`].
    async fn promote_all(&self, blobs: Vec<(Box<dyn StagedBlob>, BlobKey)>) -> Result<(), Error>;

    /// Stores a small blob.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`] if other bytes are there; [`Error::Full`]; [`Error::Backend`].
    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error>;

    /// Replaces a blob that is not immutable; readers see the old bytes or the new ones.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error>;

    /// Opens a blob for reading.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or [`Error::Backend`].
    async fn open(&self, key: &BlobKey) -> Result<Blob, Error>;

    /// Removes a blob.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn delete(&self, key: &BlobKey) -> Result<(), Error>;

    /// Removes what uploads have left behind that were cut off by a crash, and returns how many
    /// there were. **Must not be called while uploads run.**
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn sweep(&self) -> Result<usize, Error>;

    /// Removes what other servers' uploads have left behind that nobody has touched for `age`, but the
    /// parts of `kept`, and returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn sweep_abandoned(&self, _kept: &[Parts], _age: Duration) -> Result<usize, Error> {
        Ok(0)
    }

    /// The keys of all metadata files.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn list_metadata(&self) -> Result<Vec<BlobKey>, Error>;

    /// Every file in the store: its name below the root, and the key it is, or `None` if it has no
    /// business here.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn list(&self) -> Result<Vec<(String, Option<BlobKey>)>, Error>;
}

/// A blob that is being written, on a thread that may block. Dropping it discards it.
pub trait BlobUpload: Send {
    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error>;

    /// Brings all that was written to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    fn finish(self: Box<Self>) -> Result<Box<dyn StagedBlob>, Error>;
}

/// A whole blob that isn't visible yet, for the store that has staged it to make visible. Dropping
/// it discards it.
pub trait StagedBlob: Any + Send {}

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
}

impl Blob {
    /// A blob that is a local file.
    pub(super) fn from_file(file: File, length: u64, modified: Timestamp) -> Self {
        Self { length, modified, content: Content::File(Arc::new(file)) }
    }

    /// The local file that holds the blob from its first byte, where there is one.
    pub fn file(&self) -> Option<Arc<File>> {
        let Content::File(file) = &self.content;
        Some(Arc::clone(file))
    }

    /// The bytes of `range` (half-open), in pieces. The stream fails, rather than ends early, if
    /// the blob turns out to be shorter.
    pub fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        match &self.content {
            Content::File(file) => read(Arc::clone(file), range),
        }
    }

    /// The bytes from the first to the last, for a thread that may block.
    pub fn reader(&self) -> impl io::Read + Send + use<> {
        match &self.content {
            Content::File(file) => FileReader::new(Arc::clone(file), self.length),
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

/// Why a blob operation failed; only what a caller can act on has a variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such blob.
    #[error("no blob {0}")]
    NotFound(String),
    /// Another blob has that key.
    #[error("another blob is already stored as {0}")]
    AlreadyExists(String),
    /// No room is left.
    #[error("no space left to {verb} {name}")]
    Full {
        /// What was being done.
        verb: &'static str,
        /// To which file.
        name: String,
    },
    /// Anything else that the storage said.
    #[error("failed to {verb} {name}")]
    Backend {
        /// What was being done.
        verb: &'static str,
        /// To which file.
        name: String,
        /// What the storage said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(super) fn new(verb: &'static str, name: impl Into<String>, source: io::Error) -> Self {
        use io::ErrorKind as K;
        let name = name.into();
        match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Self::Full { verb, name },
            _ => Self::Backend { verb, name, source },
        }
    }
}
