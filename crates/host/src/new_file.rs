//! Files that are new: there whole, or not at all, and in the place of nothing.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// How the names of files begin while they are written.
pub const UNFINISHED: &str = ".unfinished-";

/// Where a file is; never empty, as the parent of a bare name is.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file that was not there, with a mode that this process's mask narrows, and syncs it; its
/// folder is left to the caller.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] if something is there, which stays as it is; what the file
/// system says.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED).permissions(Permissions::from_mode(mode));
    let mut file = builder.tempfile_in(folder_of(path))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}
