//! Copies of folders whose files come and go meanwhile.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// How files get into the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blobs {
    /// As another name of the same file, where the file system has that: nothing is copied, and a
    /// damaged disk damages both. Copied elsewhere.
    Linked,
    /// As files of their own.
    Copied,
}

/// What is made of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// A copy of the file that one leads to: what is mounted into `keys/` comes that way.
    Followed,
    /// Nothing: a blob is none.
    LeftOut,
}

/// Copies trees, and counts.
pub(super) struct Copier<'a> {
    /// Whether to end early.
    pub(super) is_stopped: &'a dyn Fn() -> bool,
    /// Is told of bytes that were copied.
    pub(super) progress: &'a dyn Fn(u64),
    /// What was copied that has several names, by device and number.
    known: HashMap<(u64, u64), PathBuf>,
    /// Files that are the same files in both places.
    pub(super) linked: u64,
    /// Files that were copied.
    pub(super) copied: u64,
    /// Bytes that were copied.
    pub(super) bytes: u64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(is_stopped: &'a dyn Fn() -> bool, progress: &'a dyn Fn(u64)) -> Self {
        Self { is_stopped, progress, known: HashMap::new(), linked: 0, copied: 0, bytes: 0 }
    }

    /// Copies the files below `from` whose names `is_wanted` takes, with modes, times and
    /// the names that they share; returns those names. A file that is gone when its turn comes is
    /// left out, and folders come after the files beside them, into which a file may have moved.
    ///
    /// # Errors
    ///
    /// [`io::Error`], of the kind [`io::ErrorKind::Interrupted`] if it was stopped.
    pub(super) fn tree(
        &mut self,
        from: &Path,
        to: &Path,
        blobs: Blobs,
        links: Links,
        is_wanted: &dyn Fn(&Path) -> bool,
    ) -> io::Result<Vec<PathBuf>> {
        make_folder(from, to)?;
        let mut names = Vec::new();
        let mut folders = Vec::new();
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, copy) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            let is_file =
                kind.is_file() || (links == Links::Followed && kind.is_symlink() && path.is_file());
            if kind.is_dir() {
                folders.push((path, copy));
            } else if is_file && is_wanted(&path) && self.file(&path, &copy, blobs)? {
                names.push(path);
            }
        }
        for (path, copy) in folders {
            match self.tree(&path, &copy, blobs, links, is_wanted) {
                Err(error) if is_gone(&error, &path) => {}
                below => names.extend(below?),
            }
        }
        Ok(names)
    }

    /// Returns whether the file was there.
    pub(super) fn file(&mut self, from: &Path, to: &Path, blobs: Blobs) -> io::Result<bool> {
        if (self.is_stopped)() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let made = match blobs {
            Blobs::Linked if fs::hard_link(from, to).is_ok() => {
                self.linked += 1;
                Ok(())
            }
            Blobs::Linked | Blobs::Copied => self.copy(from, to),
        };
        match made {
            Err(error) if is_gone(&error, from) => Ok(false),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", from.display()))),
            Ok(()) => Ok(true),
        }
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut source = File::open(from)?;
        let metadata = source.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        if let Some(first) = self.known.get(&identity) {
            return fs::hard_link(first, to);
        }
        let mut copy = File::options().create_new(true).write(true).mode(0o600).open(to)?;
        loop {
            let copied = io::copy(&mut source.by_ref().take(STEP), &mut copy)?;
            if copied == 0 {
                break;
            }
            self.bytes += copied;
            (self.progress)(copied);
            if (self.is_stopped)() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        copy.set_modified(metadata.modified()?)?;
        make_alike(to, &metadata)?;
        if metadata.nlink() > 1 {
            self.known.insert(identity, to.to_owned());
        }
        self.copied += 1;
        Ok(())
    }
}

fn make_folder(like: &Path, folder: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    make_alike(folder, &fs::metadata(like)?)
}

/// The same mode, and, for root alone, the same owner: it makes backups for the user that serves.
pub(super) fn make_alike(path: &Path, like: &Metadata) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(like.uid()), Some(like.gid()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(like.mode() & 0o7777))
}

fn is_gone(error: &io::Error, path: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && !path.exists()
}

/// Bytes that are copied at one go, between two looks at whether to stop.
const STEP: u64 = 64 << 20;
