//! Blobs in a local directory.
//!
//! Two directories on one file system: `repo/`, which holds exactly what `/repo` serves and can be
//! served by any file server, and `staging/`, where files are written before they get their name,
//! those that come in by parts in a folder of their own. A file is synced before it is linked into `repo/`, and its directory after, so that a name stands
//! for all of its bytes even after a power cut. What belongs together is synced beside each other:
//! a disk takes as long for one as for many.

mod beneath;
mod directories;
mod folders;
mod ledger;
mod parts;
mod reading;
mod upload;

pub(super) use reading::{FileReader, read};

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Blob, BlobKey, BlobStore, BlobUpload, Error, Names, Parts, PartsSecret, SecondName, StagedBlob,
};
use crate::model::{Sha256Digest, Timestamp};
use beneath::is_refusal;
use directories::{Directories, Found, files_below, is_absence, is_in_use};
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

    /// The same store where other processes, on this host, have it open too.
    #[must_use]
    pub fn beside_others(self) -> Self {
        self.directories.folders.share();
        self
    }

    /// Opens the store below `data_dir` only to read, as on a read-only file system: nothing is
    /// created.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if there is none.
    pub fn open_to_read(data_dir: &Path) -> Result<Self, Error> {
        Self::open_to_read_at(data_dir.join("repo"), data_dir.join("staging"))
    }

    /// The same for a store whose two directories are given.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if there is none.
    pub fn open_to_read_at(repo: PathBuf, staging: PathBuf) -> Result<Self, Error> {
        Ok(Self { directories: Arc::new(Directories::at(repo, staging)?) })
    }

    /// The directory that is a static repository.
    pub fn repository_dir(&self) -> &Path {
        &self.directories.repo
    }
}

#[async_trait]
impl BlobStore for LocalBlobStore {
    fn begin(&self, keep_free: u64) -> Result<Box<dyn BlobUpload>, Error> {
        Ok(Box::new(Upload::new(self.directories.stage()?, keep_free)))
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.directories.free_space().map(Some)
    }

    fn free_files(&self) -> Result<Option<u64>, Error> {
        self.directories.free_files()
    }

    async fn begin_parts(&self, secret: &PartsSecret) -> Result<Parts, Error> {
        let (directories, secret) = (Arc::clone(&self.directories), secret.clone());
        blocking(move || parts::begin(&directories, &secret)).await
    }

    async fn parts_secret(&self, parts: &Parts) -> Result<Option<PartsSecret>, Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        blocking(move || parts::secret(&directories, &parts)).await
    }

    async fn record_blocks(
        &self,
        parts: &Parts,
        first: u64,
        digests: &[Sha256Digest],
    ) -> Result<Vec<Sha256Digest>, Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        let digests = digests.to_vec();
        blocking(move || parts::record(&directories, &parts, first, &digests)).await
    }

    async fn append_part(
        &self,
        parts: &mut Parts,
        at: u64,
        bytes: Vec<Bytes>,
        keep_free: u64,
    ) -> Result<(), Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        blocking(move || parts::append(&directories, &parts, at, &bytes, keep_free)).await
    }

    async fn parts_length(&self, parts: &Parts) -> Result<Option<u64>, Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        blocking(move || parts::length(&directories, &parts)).await
    }

    async fn finish_parts(&self, parts: &Parts, length: u64) -> Result<Box<dyn StagedBlob>, Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        let staged = blocking(move || parts::finish(&directories, &parts, length)).await?;
        Ok(Box::new(staged))
    }

    async fn abandon_parts(&self, parts: &Parts) -> Result<(), Error> {
        let (directories, parts) = (Arc::clone(&self.directories), parts.clone());
        blocking(move || parts::abandon(&directories, &parts)).await
    }

    async fn sweep_parts(&self, kept: &[Parts]) -> Result<usize, Error> {
        let (directories, kept) = (Arc::clone(&self.directories), kept.to_vec());
        blocking(move || parts::sweep(&directories, &kept)).await
    }

    async fn stage_all(&self, files: Vec<Bytes>) -> Result<Vec<Box<dyn StagedBlob>>, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let staged = directories.stage_all(&files)?;
            Ok(staged.into_iter().map(|staged| Box::new(staged) as Box<dyn StagedBlob>).collect())
        })
        .await
    }

    async fn promote_all(&self, blobs: Vec<(Box<dyn StagedBlob>, BlobKey)>) -> Result<(), Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let own = |(staged, key): (Box<dyn StagedBlob>, BlobKey)| match (staged as Box<dyn Any>)
                .downcast()
            {
                Ok(staged) => Ok((*staged, key)),
                Err(_) => Err(Error::new(
                    "store",
                    key.name(),
                    io::Error::other("another store has staged it"),
                )),
            };
            directories.promote_all(blobs.into_iter().map(own).collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || {
            let staged = directories.stage_all(std::slice::from_ref(&bytes))?.into_iter();
            match directories.promote_all(staged.map(|staged| (staged, key.clone())).collect()) {
                Err(Error::AlreadyExists(_)) if directories.holds(&key, &bytes)? => {
                    directories.settle(&key)
                }
                other => other,
            }
        })
        .await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || {
            let staged = directories.stage_all(&[bytes])?.into_iter();
            directories.promote_all(staged.map(|staged| (staged, key.clone())).collect())
        })
        .await
    }

    /// Both names are links to one file. `cp -r` makes two of it.
    async fn second_name(&self, key: &BlobKey) -> Result<SecondName, Error> {
        let Some(alias) = key.alias() else { return Ok(SecondName::Same) };
        let inode = |name: &str| match fs::symlink_metadata(self.directories.repo.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found
                .map(|metadata| Some(metadata.ino()))
                .map_err(|e| Error::new("look at", name, e)),
        };
        let is_one = inode(&alias)? == inode(&key.name())?;
        Ok(if is_one { SecondName::Same } else { SecondName::Apart })
    }

    async fn open_alias(&self, key: &BlobKey) -> Option<Result<Blob, Error>> {
        key.alias().map(|alias| open(&self.directories, alias))
    }

    async fn link_again(&self, key: &BlobKey, names: Names) -> Result<(), Error> {
        let Some(alias) = key.alias() else { return Ok(()) };
        match names {
            Names::FromName => self.directories.link_over(&key.name(), &alias),
            Names::FromAlias => self.directories.link_over(&alias, &key.name()),
        }
    }

    async fn quarantine(&self, key: &BlobKey) -> Result<String, Error> {
        self.directories.set_aside(key).map(|path| path.display().to_string())
    }

    async fn open(&self, key: &BlobKey) -> Result<Blob, Error> {
        // Opening a local file takes microseconds; handing it to another thread would take longer.
        open(&self.directories, key.name())
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        let (directories, key) = (Arc::clone(&self.directories), key.clone());
        blocking(move || {
            key.alias()
                .into_iter()
                .chain([key.name()])
                .try_for_each(|name| directories.unlink(&name))
        })
        .await
    }

    async fn sweep(&self) -> Result<usize, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let mut removed = 0;
            for Found { name, .. } in
                files_below(&directories.staging).map_err(|e| Error::new("list", "staging", e))?
            {
                let path = directories.staging.join(&name);
                if !parts::are_in(&name) && !is_in_use(&path) {
                    fs::remove_file(path).map_err(|e| Error::new("remove", name, e))?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn sweep_abandoned(&self, kept: &[Parts], age: Duration) -> Result<usize, Error> {
        let (directories, kept) = (Arc::clone(&self.directories), kept.to_vec());
        blocking(move || {
            let mut removed = 0;
            for Found { name, .. } in
                files_below(&directories.staging).map_err(|e| Error::new("list", "staging", e))?
            {
                let path = directories.staging.join(&name);
                if !parts::are_kept(&name, &kept) && is_older(&path, age) && !is_in_use(&path) {
                    match fs::remove_file(path) {
                        Err(e) if is_absence(&e) => {} // another process was first
                        gone => gone.map_err(|e| Error::new("remove", name, e))?,
                    }
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn list_metadata(&self) -> Result<Vec<BlobKey>, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let entries =
                fs::read_dir(&directories.repo).map_err(|e| Error::new("list", "repo", e))?;
            let files = entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|file_type| file_type.is_file()));
            let names = files.map(|entry| entry.file_name().to_string_lossy().into_owned());
            Ok(names.filter_map(|name| BlobKey::named(&name)).collect())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<(String, Option<BlobKey>)>, Error> {
        let directories = Arc::clone(&self.directories);
        blocking(move || {
            let found =
                files_below(&directories.repo).map_err(|e| Error::new("list", "repo", e))?;
            let identify = |Found { name, is_file }| {
                let key = if is_file { BlobKey::named(&name) } else { None };
                (name, key)
            };
            Ok(found.into_iter().map(identify).collect())
        })
        .await
    }
}

fn open(directories: &Directories, name: String) -> Result<Blob, Error> {
    let opened = directories.beneath.read(&name).and_then(|file| {
        let metadata = file.metadata()?;
        let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
        Ok((file, metadata, modified))
    });
    let (file, metadata, modified) = match opened {
        Err(e) if is_absence(&e) => {
            if is_refusal(&e) {
                tracing::warn!(
                    blob = name,
                    "a symbolic link in repo/ is not followed: `motorcade fsck` lists what is no part of it"
                );
            }
            return Err(Error::NotFound(name));
        }
        opened => opened.map_err(|e| Error::new("open", &name, e))?,
    };
    if !metadata.is_file() {
        return Err(Error::NotFound(name));
    }
    Ok(Blob::from_file(file, metadata.len(), modified))
}

/// Whether nobody has written to a file for so long.
fn is_older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|since| since >= age))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new("finish work on", "the blob store", io::Error::other(error))),
    }
}
