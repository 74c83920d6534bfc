//! Who this server is among those that use a catalog: an id in its state directory, which one
//! process at a time has locked.
//!
//! What has this id is this server's: its jobs, its uploads, its turn to publish. A replica is made
//! by copying a state directory, and must not take all that for its own. So beside the id is what
//! tells the directory from a copy of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::Error;
use super::random::random_hex;
use crate::catalog::{BlobsOf, ServerRecord};

/// Reads the id, or makes one, also for a directory that is a copy. Where it can't be written, as
/// on a full disk, it is one for this process alone: what a server before it had then has to be
/// waited for.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) fn server_id(state: &Path) -> Result<String, Error> {
    let file = state.join(FILE);
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    let (id, of) = (lines.next().filter(|id| is_id(id)), lines.next());
    let here = identity(state);
    if let Some(id) = id
        && of.is_none_or(|of| here.as_deref().is_none_or(|here| of == here))
    {
        if of.is_none() && here.is_some() {
            note(state, &file, id, here.as_deref()); // of a version before this one
        }
        return Ok(id.to_owned());
    }
    if id.is_some() {
        tracing::info!(
            "this state directory is a copy of another server's; it gets an id of its own"
        );
    }
    let id = random_hex::<ID_BYTES>()?;
    note(state, &file, &id, here.as_deref());
    Ok(id)
}

fn note(state: &Path, file: &Path, id: &str, here: Option<&str>) {
    let text = here.map_or_else(|| id.to_owned(), |here| format!("{id}\n{here}"));
    if let Err(error) = write(state, file, &text) {
        tracing::warn!(path = %file.display(), %error, "failed to write this server's id");
    }
}

/// What no copy of a directory has: its number on its file system, and when it was made there. None
/// where that isn't kept.
fn identity(state: &Path) -> Option<String> {
    let metadata = fs::metadata(state).ok()?;
    let made = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", metadata.ino(), made.as_nanos()))
}

/// This process, as other servers are to know it.
///
/// # Errors
///
/// [`Error::Internal`].
pub(super) fn server_record(state: &Path, id: &str, blobs: BlobsOf) -> Result<ServerRecord, Error> {
    let process = random_hex::<ID_BYTES>()?;
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let path = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    let described =
        format!("process {} on {}, {}", std::process::id(), host.trim(), path.display());
    let place = place(state).unwrap_or_else(|| process.clone());
    Ok(ServerRecord { id: id.to_owned(), process, place, blobs, described })
}

/// What tells a directory, on a machine that is up, from all others: of processes that lock the same
/// directory under the same kernel one lives. None where that isn't told; then it is like no other.
fn place(state: &Path) -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let metadata = fs::metadata(state).ok()?;
    let made = identity(state).unwrap_or_default();
    let told = format!("{}\n{}\n{}\n{made}", boot.trim(), metadata.dev(), metadata.ino());
    Some(hex::encode(Sha256::digest(told)))
}

/// Writes a text, whole or not at all.
pub(super) fn write(state: &Path, file: &Path, text: &str) -> std::io::Result<()> {
    let mut unfinished = tempfile::Builder::new().prefix(".probe-").tempfile_in(state)?;
    writeln!(unfinished, "{text}")?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(file).map(drop).map_err(|error| error.error)
}

pub(super) fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What an id has, of a server or an installation.
pub(super) const ID_BYTES: usize = 16;
const FILE: &str = "server-id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_and_a_damaged_one_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let id = server_id(state.path()).unwrap();
        assert!(is_id(&id));
        assert_eq!(server_id(state.path()).unwrap(), id);
        fs::write(state.path().join(FILE), "x").unwrap();
        assert_ne!(server_id(state.path()).unwrap(), id);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_copy_gets_an_id_of_its_own() {
        let (state, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = server_id(state.path()).unwrap();
        fs::copy(state.path().join(FILE), copy.path().join(FILE)).unwrap();
        let other = server_id(copy.path()).unwrap();
        assert_ne!(other, id);
        assert_eq!(server_id(copy.path()).unwrap(), other);
        assert_eq!(server_id(state.path()).unwrap(), id);
    }

    #[test]
    fn a_place_is_one_directory_s_and_a_process_is_new_each_time() {
        let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let record =
            |state: &tempfile::TempDir| server_record(state.path(), "id", BlobsOf::One).unwrap();
        let (first, second) = (record(&state), record(&state));
        assert_eq!(first.place, second.place);
        assert_ne!(first.process, second.process);
        assert_ne!(record(&other).place, first.place);
        assert!(first.described.contains(&state.path().display().to_string()), "{first:?}");
    }

    #[test]
    fn an_id_of_an_earlier_version_stays() {
        let state = tempfile::tempdir().unwrap();
        let id = "5eed".repeat(8);
        fs::write(state.path().join(FILE), format!("{id}\n")).unwrap();
        for _ in 0..2 {
            assert_eq!(server_id(state.path()).unwrap(), id);
        }
    }
}
