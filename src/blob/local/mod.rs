//! Blobs in a local directory.
//!
//! Two directories on one file system: `repo/`, which holds exactly what `/repo` serves and can be served by any file
//! server, and `staging/`, where files are written before they get their name. A file is synced before it is linked
//! into `repo/`, and its directory after, so that a name stands for all of its bytes even after a power cut.

mod directories;
mod upload;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};

use super::{Blob, BlobKey, BlobStore, BlobUpload, Error};
use crate::model::Timestamp;
use directories::{Directories, files_below, sync_directory};
use upload::Upload;

/// A [`BlobStore`] in a directory.
#[derive(Debug, Clone)]
pub struct LocalBlobStore {
    directories: Arc<Directories>,
}

impl LocalBlobStore {
    /// Opens the store below `data_dir`, creating its directories where they are missing.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if they can't be created.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        Self::open_at(data_dir.join("repo"), data_dir.join("staging"))
    }

    /// Opens a store whose two directories, on one file system, are given.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if they can't be created.
    pub fn open_at(repo: PathBuf, staging: PathBuf) -> Result<Self, Error> {
        Ok(Self { directories: Arc::new(Directories::create(repo, staging)?) })
    }

    /// Moves a damaged blob out of the repository, to where nothing serves it, and returns where that is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or [`Error::Backend`].
    pub fn quarantine(&self, key: &BlobKey) -> Result<PathBuf, Error> {
        self.directories.set_aside(key)
    }

    /// Whether a blob's second name, if it has one, stands for the same file.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub fn has_both_names(&self, key: &BlobKey) -> Result<bool, Error> {
        let Some(alias) = key.alias() else { return Ok(true) };
        let inode = |name: &str| match fs::symlink_metadata(self.directories.repo.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(|metadata| Some(metadata.ino())).map_err(|e| Error::new("look at", name, e)),
        };
        Ok(inode(&alias)? == inode(&key.name())?)
    }

    /// The directory that is a static repository.
    pub fn repository_dir(&self) -> &Path {
        &self.directories.repo
    }
}

#[async_trait]
impl BlobStore for LocalBlobStore {
    fn begin(&self) -> Result<Box<dyn BlobUpload>, Error> {
        Ok(Box::new(Upload::new(self.directories.stage()?)))
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        let staging = &self.directories.staging;
        let stats =
            rustix::fs::statvfs(staging).map_err(|e| Error::new("look at", staging.to_string_lossy(), e.into()))?;
        Ok(Some(stats.f_bavail.saturating_mul(stats.f_frsize)))
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || {
            let mut staged = directories.stage()?;
            staged.write(&bytes)?;
            staged.sync()?;
            match staged.link(&key) {
                Err(Error::AlreadyExists(_)) if directories.holds(&key, &bytes)? => directories.link_alias(&key),
                other => other,
            }
        })
        .await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || {
            let mut staged = directories.stage()?;
            staged.write(&bytes)?;
            staged.sync()?;
            let name = key.name();
            let target = directories.repo.join(&name);
            fs::rename(&staged.path, &target).map_err(|e| Error::new("replace", &name, e))?;
            sync_directory(&directories.repo).map_err(|e| Error::new("sync the directory of", name, e))
        })
        .await
    }

    async fn open(&self, key: &BlobKey) -> Result<Blob, Error> {
        // Opening a local file takes microseconds; handing it to another thread would take longer.
        let name = key.name();
        let opened = File::open(self.directories.repo.join(&name)).and_then(|file| {
            let metadata = file.metadata()?;
            let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
            Ok((file, metadata, modified))
        });
        let (file, metadata, modified) = match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NotFound(name)),
            opened => opened.map_err(|e| Error::new("open", &name, e))?,
        };
        if !metadata.is_file() {
            return Err(Error::NotFound(name));
        }
        Ok(Blob::from_file(file, metadata.len(), modified))
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || key.alias().into_iter().chain([key.name()]).try_for_each(|name| directories.unlink(&name)))
            .await
    }

    async fn sweep(&self) -> Result<usize, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let stale = files_below(&directories.staging).map_err(|e| Error::new("list", "staging", e))?;
            for name in &stale {
                fs::remove_file(directories.staging.join(name)).map_err(|e| Error::new("remove", name, e))?;
            }
            Ok(stale.len())
        })
        .await
    }

    async fn list_metadata(&self) -> Result<Vec<BlobKey>, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let entries = fs::read_dir(&directories.repo).map_err(|e| Error::new("list", "repo", e))?;
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            Ok(names.filter_map(|name| identify(name).1).collect())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<(String, Option<BlobKey>)>, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let names = files_below(&directories.repo).map_err(|e| Error::new("list", "repo", e))?;
            Ok(names.into_iter().map(identify).collect())
        })
        .await
    }
}

/// The key whose name or alias `name` is, and no other spelling of it.
fn identify(name: String) -> (String, Option<BlobKey>) {
    let key =
        BlobKey::candidates(&name).into_iter().find(|key| key.name() == name || key.alias().as_ref() == Some(&name));
    (name, key)
}

/// The bytes of `range`, read ahead on a thread that may block.
pub(in crate::blob) fn read(file: Arc<File>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    Box::pin(stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let size = (range.end - range.start).min(READ_SIZE);
        let (file, piece) = tokio::task::spawn_blocking(move || {
            let mut piece = BytesMut::zeroed(size as usize);
            file.read_exact_at(&mut piece, range.start)?;
            io::Result::Ok((file, piece.freeze()))
        })
        .await
        .map_err(io::Error::other)??;
        Ok(Some((piece, (file, range.start + size..range.end))))
    }))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new("finish work on", "the blob store", io::Error::other(error))),
    }
}

const READ_SIZE: u64 = 256 * 1024; // 256 KiB: a large piece costs fewer hand-overs, a small one less memory
