//! The two directories of a local store, and how a file gets its name.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::beneath::{Beneath, is_refusal};
use super::folders::{Folders, MANY, beside_each_other, sync_all_below};
use crate::blob::{BlobKey, Error};

#[derive(Debug)]
pub(super) struct Directories {
    pub(super) repo: PathBuf,
    pub(super) staging: PathBuf,
    pub(super) beneath: Beneath,
    /// What nobody else begins names in `staging/` with: process ids repeat, in containers and
    /// after a restart.
    own: u64,
    next: AtomicU64,
    pub(super) folders: Folders,
}

impl Directories {
    pub(super) fn create(repo: PathBuf, staging: PathBuf) -> Result<Self, Error> {
        for path in [&repo, &staging] {
            fs::create_dir_all(path)
                .map_err(|e| Error::new("create", path.to_string_lossy(), e))?;
        }
        Self::at(repo, staging)
    }

    /// Directories as they are.
    pub(super) fn at(repo: PathBuf, staging: PathBuf) -> Result<Self, Error> {
        let beneath =
            Beneath::open(&repo).map_err(|e| Error::new("open", repo.to_string_lossy(), e))?;
        let (folders, own, next) =
            (Folders::below(repo.clone()), rand::random(), AtomicU64::new(0));
        Ok(Self { repo, staging, beneath, own, next, folders })
    }

    pub(super) fn free_space(&self) -> Result<u64, Error> {
        let staging = self.staging.to_string_lossy();
        let stats = rustix::fs::statvfs(&self.staging)
            .map_err(|e| Error::new("look at", staging, e.into()))?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    /// Inodes are what a file system runs out of first where images are small; some have no such
    /// limit, and say 0.
    pub(super) fn free_files(&self) -> Result<Option<u64>, Error> {
        let staging = self.staging.to_string_lossy();
        let stats = rustix::fs::statvfs(&self.staging)
            .map_err(|e| Error::new("look at", staging, e.into()))?;
        Ok((stats.f_files > 0).then_some(stats.f_favail))
    }

    pub(super) fn set_aside(&self, key: &BlobKey) -> Result<PathBuf, Error> {
        let folder = self.staging.with_file_name("quarantine");
        let name = key.name();
        let file = folder.join(name.rsplit('/').next().unwrap_or(&name)); // its digest makes it unique
        let moved =
            fs::create_dir_all(&folder).and_then(|()| fs::rename(self.repo.join(&name), &file));
        moved.map_err(|e| Error::new("set aside", key.name(), e))?;
        key.alias().map_or(Ok(()), |alias| self.unlink(&alias))?;
        Ok(file)
    }

    pub(super) fn stage(self: &Arc<Self>) -> Result<Staged, Error> {
        let path = self.next_staged();
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Error::new("create", path.to_string_lossy(), e))?;
        // Until it is closed nobody takes it for a leftover. Where files can't be locked the state
        // directory's lock has to do.
        let _ = file.try_lock_shared();
        Ok(Staged { directories: Arc::clone(self), path, file: Some(file) })
    }

    /// A path in `staging/` that nobody else takes.
    pub(super) fn next_staged(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.staging.join(format!("{:016x}-{number}", self.own))
    }

    pub(super) fn holds(&self, key: &BlobKey, bytes: &[u8]) -> Result<bool, Error> {
        let mut stored = Vec::with_capacity(bytes.len());
        let read =
            self.beneath.read(&key.name()).and_then(|mut file| file.read_to_end(&mut stored));
        read.map_err(|e| Error::new("read", key.name(), e))?;
        Ok(stored == bytes)
    }

    /// Writes files beside each other, and has them on the disk.
    pub(super) fn stage_all(self: &Arc<Self>, files: &[Bytes]) -> Result<Vec<Staged>, Error> {
        let all = Mutex::new(BTreeMap::new());
        let numbered: Vec<(usize, &Bytes)> = files.iter().enumerate().collect();
        beside_each_other(&numbered, |(number, bytes)| {
            let mut staged = self.stage()?;
            staged.write(bytes)?;
            if files.len() <= MANY {
                staged.sync()?;
            }
            if files.len() > KEPT_OPEN {
                staged.file = None;
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).insert(*number, staged);
            Ok(())
        })?;
        if files.len() > MANY {
            sync_all_below(&self.staging)?;
        }
        Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect())
    }

    /// Gives staged files their names, and syncs the folders once all have theirs.
    pub(super) fn promote_all(&self, blobs: Vec<(Staged, BlobKey)>) -> Result<(), Error> {
        let mut changed = HashSet::new();
        for (staged, key) in &blobs {
            let name = key.name();
            if key.is_immutable() {
                changed.insert(self.name(&staged.path, &name)?);
                changed.extend(self.link_alias(key)?);
            } else {
                fs::rename(&staged.path, self.repo.join(&name))
                    .map_err(|e| Error::new("replace", name, e))?;
                changed.insert(self.repo.clone());
            }
        }
        self.folders.sync(&changed)
    }

    /// Gives a blob that is there its second name, where that is missing, and has both on the disk:
    /// whoever stored it may have been killed before it was.
    pub(super) fn settle(&self, key: &BlobKey) -> Result<(), Error> {
        let mut changed: HashSet<PathBuf> = self.link_alias(key)?.into_iter().collect();
        changed.extend(self.repo.join(key.name()).parent().map(Path::to_owned));
        self.folders.sync(&changed)
    }

    /// Returns the folder that has changed.
    fn link_alias(&self, key: &BlobKey) -> Result<Option<PathBuf>, Error> {
        let Some(alias) = key.alias() else { return Ok(None) };
        let file = self.repo.join(key.name());
        match self.enter(&alias, |to| fs::hard_link(&file, to)) {
            Err(Error::AlreadyExists(_)) => Ok(None), // the digest in the name says that it is the same
            linked => linked.map(Some),
        }
    }

    /// Makes `name` stand for the file that `from` stands for, whatever it stood for before, at
    /// once.
    pub(super) fn link_over(&self, from: &str, name: &str) -> Result<(), Error> {
        let (staged, to) = (self.next_staged(), self.repo.join(name));
        let folder = to.parent().unwrap_or(&self.repo);
        let failed = |e| Error::new("link", name, e);
        fs::hard_link(self.repo.join(from), &staged).map_err(failed)?;
        let renamed = self.folders.create(folder).and_then(|()| fs::rename(&staged, &to));
        let _ = fs::remove_file(&staged); // if it is still there
        renamed.map_err(failed)?;
        self.folders.sync(&[folder.to_owned()].into())
    }

    /// Gives a staged file its name. Returns the folder that has changed, and has to be synced.
    fn name(&self, staged: &Path, name: &str) -> Result<PathBuf, Error> {
        self.enter(name, |to| match renameat_with(CWD, staged, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems can't.
            Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(staged, to),
            named => Ok(named?),
        })
    }

    /// Makes an entry below the repository, whose folder may be missing. Returns the folder that has
    /// changed, and has to be synced.
    fn enter(&self, name: &str, make: impl Fn(&Path) -> io::Result<()>) -> Result<PathBuf, Error> {
        let to = self.repo.join(name);
        let folder = to.parent().unwrap_or(&self.repo);
        let mut attempts = 1;
        loop {
            match self.folders.create(folder).and_then(|()| make(&to)) {
                Ok(()) => return Ok(folder.to_owned()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Error::AlreadyExists(name.to_owned()));
                }
                // Whoever removes the last other blob of a folder removes the folder too.
                Err(e) if e.kind() == io::ErrorKind::NotFound && attempts < LINK_ATTEMPTS => {
                    attempts += 1
                }
                Err(e) => return Err(Error::new("link", name, e)),
            }
        }
    }

    pub(super) fn unlink(&self, name: &str) -> Result<(), Error> {
        let path = self.repo.join(name);
        match fs::remove_file(&path) {
            Err(e) if is_absence(&e) => Ok(()),
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
pub(super) struct Staged {
    pub(super) directories: Arc<Directories>,
    pub(super) path: PathBuf,
    /// Open while it is written to.
    pub(super) file: Option<File>,
}

impl Staged {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        written.map_err(|e| self.error("write", e))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_all);
        synced.map_err(|e| self.error("sync", e))
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

/// Whether some process still writes a staged file.
pub(super) fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

/// Whether an error says that there is no such file, also because there can't be one of that name,
/// or because it is a link.
pub(super) fn is_absence(error: &io::Error) -> bool {
    is_refusal(error)
        || matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
        )
}

/// What is in a folder and is no folder itself.
pub(super) struct Found {
    /// Its name, relative to the folder that was searched.
    pub(super) name: String,
    /// Whether it is a plain file, and no link, device or pipe.
    pub(super) is_file: bool,
}

/// Everything below `root`.
pub(super) fn files_below(root: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && folder != root => continue, // removed meanwhile, as it was empty
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                // At the root of each file system ext4 has one, for root alone.
                if entry.path() != root.join("lost+found") {
                    folders.push(entry.path());
                }
            } else if let Ok(name) = entry.path().strip_prefix(root) {
                found.push(Found {
                    name: name.to_string_lossy().into_owned(),
                    is_file: file_type.is_file(),
                });
            }
        }
    }
    Ok(found)
}

/// Of more files than these, none stays open until it has its name: a process has only so many.
const KEPT_OPEN: usize = 32;
const LINK_ATTEMPTS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// As `fsck --repair` beside a server is, or a second container, whose process has the same id.
    #[test]
    fn another_store_on_the_same_folders_leaves_staged_files_alone() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            Directories::create(folder.path().join("repo"), folder.path().join("staging"))
                .map(Arc::new)
        };
        let (server, repair) = (open().unwrap(), open().unwrap());
        let mut staged = server.stage().unwrap();
        staged.write(b"upload").unwrap();
        fs::write(server.repo.join("from"), "blob").unwrap();
        repair.link_over("from", "name").unwrap();
        repair.link_over("missing", "name").unwrap_err();
        repair.stage().unwrap();
        assert_eq!(fs::read(&staged.path).unwrap(), b"upload");
        assert_eq!(fs::read(server.repo.join("name")).unwrap(), b"blob");
    }
}
