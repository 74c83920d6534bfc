//! Whether there is room on a disk, before anything is fetched for it.
//!
//! Some is left for what a vehicle must be able to write whatever happens: its counters, its
//! trusted metadata and its report.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{StatVfs, statvfs};

use super::Error;

/// Checks that so many bytes go on the disk of `path`, which need not be there yet.
///
/// # Errors
///
/// [`Error::NoRoom`]. A disk that can't be asked is tried.
pub(super) fn check(path: &Path, needed: u64) -> Result<(), Error> {
    let Some((folder, disk)) = disk_of(path) else { return Ok(()) };
    let available = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(RESERVE);
    if needed <= available {
        return Ok(());
    }
    Err(Error::NoRoom { path: folder.to_owned(), needed, available })
}

/// Whether two files are, or would be, on one disk.
pub(super) fn is_same_disk(one: &Path, other: &Path) -> bool {
    let disk =
        |path: &Path| path.ancestors().find_map(|folder| Some(folder.metadata().ok()?.dev()));
    disk(one) == disk(other)
}

/// The nearest folder above that is there, and its disk.
fn disk_of(path: &Path) -> Option<(&Path, StatVfs)> {
    path.ancestors().find_map(|folder| Some((folder, statvfs(folder).ok()?)))
}

/// For state and metadata: twice the largest of each, since files are replaced whole.
const RESERVE: u64 = 8 * 1024 * 1024; // 8 MiB

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_there_is_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/there/yet");
        check(&path, 1).unwrap();
        let error = check(&path, u64::MAX).unwrap_err();
        assert!(matches!(error, Error::NoRoom { needed: u64::MAX, .. }), "{error}");
        assert!(is_same_disk(&path, folder.path()));
    }
}
