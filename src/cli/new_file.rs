//! Files that a command makes: what is there already may be a key that nobody can make again.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{anyhow, ensure};

/// Fails if something is at `path`, for commands that would rather know before they do their work.
///
/// # Errors
///
/// With what to do about it.
pub(super) fn ensure_new(path: &Path) -> anyhow::Result<()> {
    ensure!(fs::symlink_metadata(path).is_err(), "{}", taken(path));
    Ok(())
}

/// Writes a file that was not there: whole, or not at all.
///
/// # Errors
///
/// If something is there, which stays as it is, or the file can't be written.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    write(path, bytes).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!(taken(path)),
        _ => anyhow!(error).context(format!("failed to write {}", path.display())),
    })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-").permissions(Permissions::from_mode(0o666)); // less the umask
    let mut file = builder.tempfile_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    Ok(())
}

fn taken(path: &Path) -> String {
    format!(
        "{} is there already, and nothing is overwritten: name another file, or move that one away",
        path.display()
    )
}
