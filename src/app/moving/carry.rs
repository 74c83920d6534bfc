//! One blob that moves: it is sent, given its names, and read back under each of them.

use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::app::Error;
use crate::app::blobs::unusable;
use crate::app::moved::Thing;
use crate::app::state_dir::StateDir;
use crate::blob::{self, Blob, BlobKey, BlobStore, LocalBlobStore, Names, SecondName};
use crate::model::{Bucket, Sha256Digest};

/// Carries blobs from a state directory to a bucket.
pub(super) struct Carrier {
    pub(super) state: StateDir,
    pub(super) bucket: Bucket,
    pub(super) from: LocalBlobStore,
    pub(super) to: Arc<dyn BlobStore>,
    /// Large blobs on their way at once, since each takes memory for its parts.
    large: Semaphore,
}

/// What is under a name that is this move's to fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// The bytes that move.
    Ours,
    Other,
}

/// What is in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    length: u64,
    sha256: Sha256Digest,
}

impl Carrier {
    /// Opens both sides, of which the one has to be there.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if the bucket can't be used, or is another installation's;
    /// [`Error::Internal`].
    pub(super) async fn open(state: &StateDir, bucket: &Bucket) -> Result<Self, Error> {
        Ok(Self {
            from: LocalBlobStore::open_to_read(state.path())?,
            to: state.open_bucket(bucket).await?,
            state: state.clone(),
            bucket: bucket.clone(),
            large: Semaphore::new(LARGE_AT_ONCE),
        })
    }

    /// Copies a blob, and reads it back; returns its name and its length.
    pub(super) async fn copy_blob(&self, key: &BlobKey) -> Result<(String, u64), Error> {
        let name = key.name();
        let blob = self.from.open(key).await?;
        let length = blob.length;
        let sha256 = if length <= SMALL {
            self.copy_small(key, &blob).await?
        } else {
            let _permit = self.large.acquire().await.map_err(Error::internal("copy a blob"))?;
            self.copy_large(key, blob).await?
        };
        self.compare(key, Content { length, sha256 }).await?;
        Ok((name, length))
    }

    async fn copy_small(&self, key: &BlobKey, blob: &Blob) -> Result<Sha256Digest, Error> {
        let bytes = blob.read_all(SMALL).await.map_err(Error::reading(&key.name()))?;
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
        self.refuse_damaged(key, sha256)?;
        let stored = match key {
            BlobKey::Timestamp => match self.look_at_timestamp().await? {
                Found::Nothing => self.to.replace(key, bytes).await,
                Found::Ours => Ok(()),
                Found::Other => return Err(self.used(&key.name())),
            },
            BlobKey::Metadata { .. } | BlobKey::Target { .. } => self.to.put(key, bytes).await,
        };
        self.told(stored)?;
        Ok(sha256)
    }

    /// What the bucket has for a timestamp.
    pub(super) async fn look_at_timestamp(&self) -> Result<Found, Error> {
        let key = BlobKey::Timestamp;
        let there = match self.to.open(&key).await {
            Err(blob::Error::NotFound(_)) => return Ok(Found::Nothing),
            found => self.told(found)?,
        };
        let reading = |error| blob::Error::reading(key.name(), error);
        let there = self.told(digest(there).await.map_err(reading))?;
        let here = digest(self.from.open(&key).await?).await;
        let here = here.map_err(Error::reading(&key.name()))?;
        Ok(if there == here { Found::Ours } else { Found::Other })
    }

    /// A run that was killed may have stored it whole; a part of a blob is never seen.
    async fn copy_large(&self, key: &BlobKey, blob: Blob) -> Result<Sha256Digest, Error> {
        match self.to.open(key).await {
            Err(blob::Error::NotFound(_)) => {
                let (to, name) = (Arc::clone(&self.to), key.name());
                let sent = tokio::task::spawn_blocking(move || send(to.as_ref(), &name, &blob));
                let sent = sent.await.map_err(Error::internal("copy a blob"))?;
                let (staged, sha256) = self.told(sent)?;
                self.refuse_damaged(key, sha256)?;
                self.told(self.to.promote_all(vec![(staged, key.clone())]).await)?;
                Ok(sha256)
            }
            found => {
                self.told(found)?;
                let here = digest(blob).await;
                let sha256 = here.map_err(Error::reading(&key.name()))?.sha256;
                self.refuse_damaged(key, sha256)?;
                if self.told(self.to.second_name(key).await)? == SecondName::Apart {
                    self.told(self.to.link_again(key, Names::FromName).await)?;
                }
                Ok(sha256)
            }
        }
    }

    /// Reads a blob back under each of its names.
    async fn compare(&self, key: &BlobKey, content: Content) -> Result<(), Error> {
        let reading = |error| blob::Error::reading(key.name(), error);
        for opened in self.open_names(key).await {
            let found = match opened {
                Err(blob::Error::NotFound(_)) => None,
                opened => {
                    let read = digest(self.told(opened)?).await;
                    Some(self.told(read.map_err(reading))?)
                }
            };
            if found != Some(content) {
                return Err(self.other_bytes(&key.name()));
            }
        }
        Ok(())
    }

    /// What is in the bucket under each of a blob's names.
    pub(super) async fn open_names(&self, key: &BlobKey) -> Vec<Result<Blob, blob::Error>> {
        let names = [Some(self.to.open(key).await), self.to.open_alias(key).await];
        names.into_iter().flatten().collect()
    }

    /// A target's name says what its bytes have to be.
    fn refuse_damaged(&self, key: &BlobKey, found: Sha256Digest) -> Result<(), Error> {
        match key {
            BlobKey::Target { sha256, .. } if *sha256 != found => {
                let (path, file) = (self.state.path().display(), Thing::Blobs.file());
                let detail = format!(
                    "{key} is damaged in {path}/repo, and so is not moved: remove {path}/{file}{}, have `motorcade fsck` say what \
                     else is, restore it or set it aside with `fsck --quarantine`, and begin again",
                    self.beside()
                );
                Err(Error::Corrupt { detail })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn other_bytes(&self, name: &str) -> Error {
        let (url, path, file) =
            (&self.bucket.url, self.state.path().display(), Thing::Blobs.file());
        let detail = format!(
            "{url}{name} is not what was stored there, or is gone: does anybody else write to the bucket? Empty it, remove \
             {path}/{file} and begin again"
        );
        Error::Corrupt { detail }
    }

    /// The bucket has what isn't here, and may be the only place that has it.
    pub(super) fn used(&self, name: &str) -> Error {
        let (url, path, file) =
            (&self.bucket.url, self.state.path().display(), Thing::Blobs.file());
        let detail = format!(
            "{url}{name} is not from {path}/repo, and nothing was removed or replaced: does a server use the bucket already? \
             Stop it. If all is there, as `motorcade fsck` says in that server's directory, remove {path}/{file} and use the \
             bucket here too; if nothing in it is needed, empty it, remove {path}/{file} and begin again"
        );
        Error::Conflict { code: "target_used", detail }
    }

    /// The catalog's record, if it moves too.
    fn beside(&self) -> String {
        let file = self.state.path().join(Thing::Catalog.file());
        if file.exists() { format!(" and {}", file.display()) } else { String::new() }
    }

    /// What the bucket answered, and what to do about a failure.
    pub(super) fn told<T>(&self, answer: Result<T, blob::Error>) -> Result<T, Error> {
        answer.map_err(|error| match error {
            blob::Error::AlreadyExists(name) => self.other_bytes(&name),
            error => unusable(&self.bucket, error),
        })
    }
}

/// Sends a blob to where it has no name yet.
fn send(
    to: &dyn BlobStore,
    name: &str,
    blob: &Blob,
) -> Result<(Box<dyn blob::StagedBlob>, Sha256Digest), blob::Error> {
    let mut upload = to.begin(0)?;
    let unreadable = |error: io::Error| {
        let fault = format!("it can't be read in the state directory: {error}");
        blob::Error::reading(name, io::Error::new(error.kind(), fault))
    };
    let content = read(blob, unreadable, |bytes| upload.write(bytes))?;
    Ok((upload.finish()?, content.sha256))
}

/// What is in a blob, all of which is read.
async fn digest(blob: Blob) -> io::Result<Content> {
    let read = move || read(&blob, std::convert::identity, |_| Ok(()));
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

/// Reads all of a blob, and gives `take` its bytes.
fn read<E>(
    blob: &Blob,
    unreadable: impl Fn(io::Error) -> E,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Content, E> {
    let (mut reader, mut block) = (blob.reader(), vec![0; BLOCK]);
    let (mut hasher, mut length) = (Sha256::new(), 0);
    loop {
        let count = reader.read(&mut block).map_err(&unreadable)?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        length += bytes.len() as u64;
        take(bytes)?;
    }
    Ok(Content { length, sha256: Sha256Digest::from_bytes(hasher.finalize().into()) })
}

/// What is sent from memory.
const SMALL: u64 = 1024 * 1024; // 1 MiB
const BLOCK: usize = 1024 * 1024; // 1 MiB
const LARGE_AT_ONCE: usize = 2;
