//! Key files that sign no more.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::Error;

/// Moves a key file to `retired/` beside it, where nothing is read, and returns where it is. A file
/// that is not in `directory` is its operator's, and stays.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn retire(directory: &Path, path: &Path) -> Result<Option<PathBuf>, Error> {
    let Some(name) = path.file_name().filter(|_| path.parent() == Some(directory)) else {
        return Ok(None);
    };
    let folder = directory.join(FOLDER);
    let moved = || -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let free = (0_u32..).map(|number| match number {
            0 => folder.join(name),
            number => folder.join(format!("{}.{number}", name.to_string_lossy())),
        });
        let mut free = free.filter(|path| !path.exists());
        let to = free.next().ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(path, &to)?;
        File::open(directory)?.sync_all()?;
        File::open(&folder)?.sync_all()?;
        Ok(to)
    };
    moved().map(Some).map_err(|e| Error::KeyFile {
        verb: "retire",
        path: path.display().to_string(),
        source: e.into(),
    })
}

const FOLDER: &str = "retired";
