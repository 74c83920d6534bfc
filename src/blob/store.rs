//! The contract of a blob store.

use std::any::Any;
use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::key::BlobKey;
use super::opened::Blob;
use super::parts::{Parts, PartsSecret};
use crate::model::Sha256Digest;

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
/// - Deleting a blob that isn't there succeeds. Whoever has a blob open keeps its bytes, or is told
///   that they are gone; nobody is given others.
/// - A missing blob is [`Error::NotFound`], a full disk [`Error::Full`], and a store that is away, or
///   lets nobody in, [`Error::Unavailable`].
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
    /// another process; a store that can't tell who was first among those who come at once may have
    /// each of them lose. Behind the first that is another one nothing is recorded, and that is the
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

    /// Bytes that are best appended at once: larger parts cost more memory.
    fn best_part(&self) -> usize {
        4 * 1024 * 1024 // 4 MiB
    }

    /// Appends a part at `at`, where the parts before it end; has brought it to the disk when it
    /// returns. A part, or the beginning of one, that was appended there before is replaced, unless
    /// it is the same; it **must** be the last one, and of at most [`REPLACEABLE`] bytes. `parts`
    /// **must** be kept as this leaves it before anything more is appended.
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

    /// What is under a blob's second name, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    async fn second_name(&self, key: &BlobKey) -> Result<SecondName, Error>;

    /// Opens what a blob's second name stands for, if it has one.
    async fn open_alias(&self, key: &BlobKey) -> Option<Result<Blob, Error>>;

    /// Gives both names of a blob the bytes that one of them stands for; whatever the other one stood
    /// for is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    async fn link_again(&self, key: &BlobKey, names: Names) -> Result<(), Error>;

    /// Moves a damaged blob to where nothing serves it, and returns where that is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or [`Error::Backend`].
    async fn quarantine(&self, key: &BlobKey) -> Result<String, Error>;

    /// Makes the store an installation's if it is nobody's yet, and returns whose it is.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Backend`].
    async fn claim(&self, installation: &str) -> Result<String, Error> {
        Ok(installation.to_owned())
    }

    /// The installation that has claimed the store, where one can; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Backend`].
    async fn find_owner(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Whether the store can be used now, and is still that of whoever claimed it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], with the reason.
    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether opening a blob takes a request to somewhere else.
    fn is_remote(&self) -> bool {
        false
    }

    /// A URL under which a blob can be read for a while by whoever is given it, where the store has
    /// such.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    async fn presign(
        &self,
        _key: &BlobKey,
        _verb: ReadVerb,
        _valid_for: Duration,
    ) -> Result<Option<String>, Error> {
        Ok(None)
    }

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

/// What is under a blob's second name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondName {
    /// It has none, or both names stand for one file.
    Same,
    /// A copy of its own, as this store keeps it: of the right length, and otherwise not looked at.
    Copy,
    /// Something else, or nothing.
    Apart,
}

/// Which of a blob's two names stands for the good file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// [`BlobKey::name`].
    FromName,
    /// [`BlobKey::alias`].
    FromAlias,
}

/// How a blob is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadVerb {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
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
    /// The store is away, or lets nobody in; that may end by itself.
    #[error("failed to {verb} {name}: {reason}")]
    Unavailable {
        /// What was being done.
        verb: &'static str,
        /// To which file.
        name: String,
        /// What is wrong with which store, for its operator.
        reason: String,
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
    /// Why the bytes of an open blob can't be had: what the store said, if it is elsewhere.
    pub fn reading(name: impl Into<String>, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(said) => said,
            Err(source) => Self::Backend { verb: "read", name: name.into(), source },
        }
    }

    pub(super) fn new(verb: &'static str, name: impl Into<String>, source: io::Error) -> Self {
        use io::ErrorKind as K;
        let name = name.into();
        match source.kind() {
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Self::Full { verb, name },
            _ => Self::Backend { verb, name, source },
        }
    }
}

/// Bytes that a part can have at most that is appended once more, as others.
pub const REPLACEABLE: usize = 3 * 512 * 1024; // 1.5 MiB: an upload's last block, which comes by itself
