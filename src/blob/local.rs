//! Blobs in a local directory.
//!
//! Two directories on one file system: `repo/`, which holds exactly what `/repo` serves and can be served by any file
//! server, and `staging/`, where files are written before they get their name. A file is synced before it is linked
//! into `repo/`, and its directory after, so that a name stands for all of its bytes even after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};

use super::{Blob, BlobKey, BlobStore, BlobUpload, Error, StagedBlob};
use crate::model::Timestamp;

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
        let directories = Directories { repo, staging, next: AtomicU64::new(0) };
        for path in [&directories.repo, &directories.staging] {
            fs::create_dir_all(path).map_err(|e| Error::new("create", path.to_string_lossy(), e))?;
        }
        Ok(Self { directories: Arc::new(directories) })
    }

    /// Moves a damaged blob out of the repository, to where nothing serves it, and returns where that is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or [`Error::Backend`].
    pub fn quarantine(&self, key: &BlobKey) -> Result<PathBuf, Error> {
        self.directories.set_aside(key)
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
        let (file, metadata, modified) = opened.map_err(|e| Error::new("open", &name, e))?;
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
pub(super) fn read(file: Arc<File>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
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

#[derive(Debug)]
struct Directories {
    repo: PathBuf,
    staging: PathBuf,
    next: AtomicU64,
}

impl Directories {
    fn set_aside(&self, key: &BlobKey) -> Result<PathBuf, Error> {
        let folder = self.staging.with_file_name("quarantine");
        let file = folder.join(key.name().replace('/', "_"));
        let moved = fs::create_dir_all(&folder).and_then(|()| fs::rename(self.repo.join(key.name()), &file));
        moved.map_err(|e| Error::new("set aside", key.name(), e))?;
        key.alias().map_or(Ok(()), |alias| self.unlink(&alias))?;
        Ok(file)
    }

    fn stage(self: &Arc<Self>) -> Result<Staged, Error> {
        // Unique in this process; sweep() has removed those of processes before it.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.join(format!("{}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::new("create", path.to_string_lossy(), e))?;
        Ok(Staged { directories: Arc::clone(self), path, file })
    }

    fn holds(&self, key: &BlobKey, bytes: &[u8]) -> Result<bool, Error> {
        let stored = fs::read(self.repo.join(key.name())).map_err(|e| Error::new("read", key.name(), e))?;
        Ok(stored == bytes)
    }

    fn link_alias(&self, key: &BlobKey) -> Result<(), Error> {
        let Some(alias) = key.alias() else { return Ok(()) };
        match self.link(&self.repo.join(key.name()), &alias) {
            Err(Error::AlreadyExists(_)) | Ok(()) => Ok(()), // the digest in the name says that it is the same
            other => other,
        }
    }

    fn link(&self, from: &Path, name: &str) -> Result<(), Error> {
        let to = self.repo.join(name);
        let folder = to.parent().unwrap_or(&self.repo);
        create_directories(&self.repo, folder).map_err(|e| Error::new("create the folder of", name, e))?;
        match fs::hard_link(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(Error::AlreadyExists(name.to_owned())),
            linked => linked.map_err(|e| Error::new("link", name, e))?,
        }
        sync_directory(folder).map_err(|e| Error::new("sync the folder of", name, e))
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        let path = self.repo.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|e| Error::new("remove", name, e)),
        }?;
        // A folder that other blobs still use refuses to go, and that is meant.
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.repo);
        let _ = folders.map(fs::remove_dir).take_while(Result::is_ok).count();
        Ok(())
    }
}

/// A file in `staging/`, removed when dropped.
#[derive(Debug)]
struct Staged {
    directories: Arc<Directories>,
    path: PathBuf,
    file: File,
}

impl Staged {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| self.error("write", e))
    }

    fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| self.error("sync", e))
    }

    fn link(&self, key: &BlobKey) -> Result<(), Error> {
        self.directories.link(&self.path, &key.name())?;
        self.directories.link_alias(key)
    }

    fn error(&self, verb: &'static str, source: io::Error) -> Error {
        Error::new(verb, self.path.to_string_lossy(), source)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "failed to remove a staged file; the next start will");
            }
            _ => {}
        }
    }
}

/// A large file on its way. Every [`FLUSH_EVERY`] bytes another thread is told to bring them to the disk, so that the
/// disk works while the image comes in and little is left for the sync at the end.
struct Upload {
    staged: Staged,
    unflushed: u64,
    flusher: Option<mpsc::SyncSender<()>>,
}

impl Upload {
    fn new(staged: Staged) -> Self {
        Self { staged, unflushed: 0, flusher: None }
    }

    /// Only ever speeds the later sync up, which reports what goes wrong.
    fn flush_beside(&mut self) {
        if self.flusher.is_none() {
            self.flusher = self.staged.file.try_clone().and_then(start_flusher).ok();
        }
        if let Some(flusher) = &self.flusher {
            let _ = flusher.try_send(()); // one that is still busy takes these bytes along the next time
        }
    }
}

impl BlobUpload for Upload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.staged.write(bytes)?;
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            self.flush_beside();
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn StagedBlob>, Error> {
        self.flusher = None;
        self.staged.sync()?;
        Ok(Box::new(self.staged))
    }
}

impl StagedBlob for Staged {
    fn promote(self: Box<Self>, key: &BlobKey) -> Result<(), Error> {
        self.link(key)
    }
}

fn start_flusher(file: File) -> io::Result<mpsc::SyncSender<()>> {
    let (sender, told) = mpsc::sync_channel(1);
    let work = move || told.iter().for_each(|()| drop(file.sync_data()));
    std::thread::Builder::new().name("flush".to_owned()).stack_size(64 * 1024).spawn(work)?;
    Ok(sender)
}

/// Creates `folder` and what is missing above it, each entry synced, down from `root`.
fn create_directories(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(root);
    create_directories(root, parent)?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => sync_directory(parent),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Names of all files below `root`, relative to it.
fn files_below(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if let Ok(name) = entry.path().strip_prefix(root) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
    }
    Ok(names)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new("finish work on", "the blob store", io::Error::other(error))),
    }
}

const FLUSH_EVERY: u64 = 16 * 1024 * 1024; // 16 MiB
const READ_SIZE: u64 = 256 * 1024; // 256 KiB: a large piece costs fewer hand-overs, a small one less memory
