//! Files that only their owner can read.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use motorcade_host::new_file::{UNFINISHED, folder_of, write_new};
use zeroize::Zeroizing;

use super::super::Error;
use crate::files::{self, Exposure};

/// Writes a file that only its owner can read, and fails if there is one. The file is there whole
/// and synced, or not at all, so that an `init` that was cut off can be repeated.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = write_new(path, bytes, 0o600).and_then(|()| {
        let synced = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
        synced.inspect_err(|_| _ = fs::remove_file(path))
    });
    written.map_err(|e| Error::KeyFile {
        verb: "write",
        path: path.display().to_string(),
        source: e.into(),
    })
}

/// Removes what a cut-off [`write_secret`] has left.
pub(super) fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file that nobody but its owner, and perhaps this server's own group, can read.
///
/// # Errors
///
/// [`Error::KeyFile`], also if others can read it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let read = files::read_secret(path);
    let (text, exposure) = read.map_err(|e| Error::KeyFile {
        verb: "read",
        path: path.display().to_string(),
        source: e.into(),
    })?;
    let path = path.display();
    match exposure {
        Exposure::None => {}
        Exposure::Mended => {
            tracing::warn!(%path, "this server's group could read a key file; its mode is 0600 now")
        }
        Exposure::OwnGroup => {
            tracing::warn!(%path, "this server's group can read a key file, and its mode can't be changed")
        }
    }
    Ok(text)
}
