//! Files that have no name while they are written, for plaintext: whatever ends the process,
//! nothing of them is left.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::TempPath;

/// How the names of files begin while they are written, where they have one.
pub const TEMPORARY: &str = ".motorcade-";

/// A file that gets its name when it is complete. It is readable by its owner alone.
pub struct UnnamedFile {
    file: File,
    folder: PathBuf,
    /// Where it is meanwhile, on a file system that has no files without a name.
    temporary: Option<TempPath>,
}

impl UnnamedFile {
    /// Makes one in the folder where it is to have its name.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        // It is named through /proc, which a bare chroot may not have.
        if !Path::new("/proc/self/fd").exists() {
            return Self::create_named_in(folder);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file: file.into(), folder: folder.to_owned(), temporary: None }),
            // What file systems and kernels without such files say (open(2), O_TMPFILE).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::create_named_in(folder),
            Err(error) => Err(error.into()),
        }
    }

    fn create_named_in(folder: &Path) -> io::Result<Self> {
        let (file, path) =
            tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?.into_parts();
        Ok(Self { file, folder: folder.to_owned(), temporary: Some(path) })
    }

    /// The name that it has all the same, for whoever removes it when the process is told to end.
    pub fn temporary_path(&self) -> Option<&Path> {
        self.temporary.as_deref()
    }

    /// The file itself.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Gives it its name, in place of whatever has it.
    ///
    /// # Errors
    ///
    /// What the file system says; nothing is left then.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        if let Some(temporary) = self.temporary {
            return temporary.persist(path).map_err(|error| error.error);
        }
        match self.link(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            linked => return linked,
        }
        // A link can't replace a file, and a rename needs a name.
        let beside = self.folder.join(format!("{}{}", TEMPORARY, std::process::id()));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => self.link(&beside)?,
        }
        fs::rename(&beside, path).inspect_err(|_| {
            let _ = fs::remove_file(&beside);
        })
    }

    fn link(&self, path: &Path) -> io::Result<()> {
        let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, file, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Write for UnnamedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_none_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bin");
        for text in ["new", "in place of the other"] {
            let mut file = UnnamedFile::create_in(folder.path()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let before = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(before, usize::from(path.exists()), "it is not seen yet");
            file.persist(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
        drop(UnnamedFile::create_in(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_system_without_such_files_gets_one_that_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bin");
        let mut file = UnnamedFile::create_named_in(folder.path()).unwrap();
        assert!(file.temporary_path().unwrap().exists());
        file.write_all(b"image").unwrap();
        file.persist(&path).unwrap();
        drop(UnnamedFile::create_named_in(folder.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "image");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_replaced_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.bin");
        fs::create_dir(&path).unwrap();
        UnnamedFile::create_in(folder.path()).unwrap().persist(&path).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
