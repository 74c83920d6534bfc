//! Opens files beneath a folder, and follows no symbolic link on the way: a link in the repository
//! would otherwise show to anyone whatever the server can read, its keys first.
//!
//! The folder itself may be a link or a mount, which is its operator's business.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// An open folder.
#[derive(Debug)]
pub(super) struct Beneath {
    folder: OwnedFd,
}

impl Beneath {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: rustix::fs::open(folder, flags, Mode::empty())? })
    }

    /// Opens the file called `name`, a path of plain names, for reading.
    ///
    /// # Errors
    ///
    /// ELOOP or ENOTDIR if there is a symbolic link on the way; else as the file system says.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = match rustix::fs::openat2(&self.folder, name, READ, Mode::empty(), resolve) {
            // Linux before 5.6, and sandboxes that don't know the call, in whichever way they
            // refuse it.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::AGAIN) => self.step_to(name),
            opened => opened,
        };
        Ok(File::from(opened?))
    }

    /// The same, one folder after the other.
    fn step_to(&self, name: &str) -> Result<OwnedFd, Errno> {
        let (folders, file) =
            name.rsplit_once('/').map_or(("", name), |(folders, file)| (folders, file));
        let mut current: Option<OwnedFd> = None;
        for folder in folders.split('/').filter(|_| !folders.is_empty()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = rustix::fs::openat(
                self.at(current.as_ref()),
                plain(folder)?,
                flags,
                Mode::empty(),
            )?;
            current = Some(next);
        }
        rustix::fs::openat(
            self.at(current.as_ref()),
            plain(file)?,
            READ | OFlags::NOFOLLOW,
            Mode::empty(),
        )
    }

    fn at<'a>(&'a self, current: Option<&'a OwnedFd>) -> BorrowedFd<'a> {
        current.unwrap_or(&self.folder).as_fd()
    }
}

fn plain(name: &str) -> Result<&str, Errno> {
    if matches!(name, "" | "." | "..") { Err(Errno::XDEV) } else { Ok(name) }
}

/// Whether an error says that the way to a file leads over a symbolic link, or out of the folder.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    [Errno::LOOP, Errno::XDEV]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Nothing in a repository is a device or a pipe, and opening one must not wait for a writer.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn content(file: File) -> String {
        let mut text = String::new();
        { file }.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn files_are_opened_and_links_are_not_whichever_way() {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        fs::create_dir_all(repo.join("a/b")).unwrap();
        fs::write(repo.join("a/b/file"), "in the repository").unwrap();
        fs::write(repo.join("file"), "in the repository").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("../secret", repo.join("out")).unwrap();
        symlink("file", repo.join("within")).unwrap();
        symlink("b", repo.join("a/c")).unwrap();
        symlink(dir.path(), repo.join("up")).unwrap();
        // The folder itself may be behind a link.
        symlink(&repo, dir.path().join("link")).unwrap();
        let beneath = Beneath::open(&dir.path().join("link")).unwrap();
        let stepwise = |name: &str| Ok(File::from(beneath.step_to(name)?));
        for open in
            [&(|name: &str| beneath.read(name)) as &dyn Fn(&str) -> io::Result<File>, &stepwise]
        {
            for name in ["file", "a/b/file"] {
                assert_eq!(content(open(name).unwrap()), "in the repository", "{name}");
            }
            for name in ["out", "within"] {
                assert!(is_refusal(&open(name).unwrap_err()), "{name}");
            }
            for name in ["a/c/file", "up/secret", "../secret", "a/../../secret", "/etc/passwd"] {
                let error = open(name).unwrap_err();
                assert!(
                    is_refusal(&error) || error.kind() == io::ErrorKind::NotADirectory,
                    "{name}: {error}"
                );
            }
            assert_eq!(open("missing").unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
}
