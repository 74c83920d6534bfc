//! Files that a command makes: what is there already may be a key that nobody can make again.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{anyhow, ensure};
use motorcade_host::new_file;

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
    new_file::write_new(path, bytes, MODE).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => anyhow!(taken(path)),
        _ => anyhow!(error).context(format!("failed to write {}", path.display())),
    })
}

fn taken(path: &Path) -> String {
    format!(
        "{} is there already, and nothing is overwritten: name another file, or move that one away",
        path.display()
    )
}

const MODE: u32 = 0o666; // less the mask
