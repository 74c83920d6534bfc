//! What a server stands on: that its state directory is its own, takes files in each of its
//! folders, and is no trap.
//!
//! What would fail an upload later, or corrupt the catalog, is found before the server is ready.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Error;
use crate::files;

/// The right to work on a state directory, for as long as this lives.
///
/// It is the directory that is locked, since a file in it can be removed while it is locked; the
/// file `lock` too, for servers of version 0.1, which know no other.
#[derive(Debug)]
pub struct StateLock {
    path: PathBuf,
    directory: File,
    _file: File,
}

impl StateLock {
    /// Locks a state directory, which must be there.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if another server runs on it, [`Error::Internal`].
    pub fn acquire(path: &Path) -> Result<Self, Error> {
        let directory = File::open(path).map_err(Error::internal("open the state directory"))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"));
        let file = file.map_err(Error::internal("open the lock file"))?;
        // Some network file systems lock no directories; there the file has to do.
        if matches!(directory.try_lock(), Err(fs::TryLockError::WouldBlock))
            || file.try_lock().is_err()
        {
            let detail = format!("another server runs on {}", path.display());
            return Err(Error::Conflict { code: "locked", detail });
        }
        Ok(Self { path: path.to_owned(), directory, _file: file })
    }

    /// Whether the directory that was locked is still the one at its path: not if it was moved away
    /// or a backup was put in its place.
    pub fn is_held(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (locked, found) =
            (self.directory.metadata().map(identity), fs::metadata(&self.path).map(identity));
        matches!((locked, found), (Ok(locked), Ok(found)) if locked == found)
    }
}

/// Whether a file system takes anything more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It does.
    Left,
    /// It is full, or a quota is: something has to be removed first.
    Gone,
}

/// Checks that this process can work in `state`, and in `blobs`, of which `repo` and `staging` are
/// the folders of blobs if they are in any, and logs what an operator should know of the file system.
///
/// # Errors
///
/// [`Error::Unusable`], with path and owner.
pub(super) fn check(state: &Path, blobs: Option<&Path>, catalog: &Path) -> Result<Room, Error> {
    refuse_root_in_foreign(state)?;
    let own = [state.to_owned(), state.join("keys"), state.join("metadata")];
    let of_blobs: Vec<PathBuf> =
        blobs.map_or_else(Vec::new, |blobs| vec![blobs.join("repo"), blobs.join("staging")]);
    let files = [state.join("metadata/policy.toml"), catalog.to_owned()];
    own.iter().chain(&of_blobs).chain(&files).try_for_each(|path| refuse_strange_writers(path))?;
    let mut room = Room::Left;
    for folder in of_blobs.iter().chain([&state.to_owned()]) {
        if write_once(folder)?.is_none() {
            room = Room::Gone;
        }
    }
    if let [repo, staging] = of_blobs.as_slice() {
        check_folders(repo).map_err(|(path, source)| unusable(&path, "be written to", &source))?;
        link_once(staging, repo)?;
    }
    warn_of_network_file_system(state);
    Ok(room)
}

/// Refuses root in a state directory of another user; for commands that write to it.
///
/// # Errors
///
/// [`Error::Unusable`].
pub(super) fn refuse_root_in_foreign(state: &Path) -> Result<(), Error> {
    files::refuse_root_in_foreign(state)
        .map_err(|refusal| Error::Unusable { detail: refusal.to_string() })
}

/// What everybody may write, everybody may replace: keys, policy and blobs.
fn refuse_strange_writers(path: &Path) -> Result<(), Error> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 == 0 {
        return Ok(());
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & !0o002)) {
        Ok(()) => {
            tracing::warn!(path = %path.display(), mode = %format_args!("{mode:o}"), "everybody could write to this; now they can't");
            Ok(())
        }
        Err(source) => Err(unusable(path, "be kept from others, who can write to it", &source)),
    }
}

/// Finds read-only mounts and missing rights.
fn write_once(folder: &Path) -> Result<Option<()>, Error> {
    let probe = tempfile::Builder::new().prefix(PROBE).tempfile_in(folder);
    let written = probe.and_then(|mut probe| io::Write::write_all(&mut probe, b"probe"));
    unless_full(folder, written).map_err(|source| unusable(folder, "be written to", &source))
}

/// What came of a probe; nothing if no space was left for it. That says nothing of mount or owner,
/// and what the start removes may be what takes the space.
fn unless_full<T>(folder: &Path, probed: io::Result<T>) -> io::Result<Option<T>> {
    match probed {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            tracing::warn!(path = %folder.display(), %error, "no space is left to try whether files can be written");
            Ok(None)
        }
        probed => probed.map(Some),
    }
}

/// Blobs are staged and then hard-linked to their names, which takes one file system that knows
/// links.
fn link_once(staging: &Path, repo: &Path) -> Result<(), Error> {
    let probe = tempfile::Builder::new().prefix(PROBE).tempfile_in(staging);
    let probe = unless_full(staging, probe)
        .map_err(|source| unusable(staging, "be written to", &source))?;
    let Some(probe) = probe else { return Ok(()) };
    let link = repo.join(probe.path().file_name().unwrap_or(PROBE.as_ref()));
    let linked = fs::hard_link(probe.path(), &link);
    let _ = fs::remove_file(&link); // if it is there
    unless_full(repo, linked).map(drop).map_err(|source| Error::Unusable {
        detail: format!(
            "files can't be linked from {} into {}: {source}; both have to be on one file system that has hard links, so put \
             the whole state directory there, and no mount on `repo`",
            staging.display(),
            repo.display()
        ),
    })
}

/// Folders that another user has made take no files from this one. Whether they would is asked, not
/// tried: there may be a hundred thousand.
fn check_folders(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| (folder.clone(), source);
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        let entries = rustix::fs::access(&folder, access)
            .map_err(io::Error::from)
            .and_then(|()| fs::read_dir(&folder));
        // Another server that has these blobs removes a folder when it is empty.
        if folder != root
            && matches!(&entries, Err(error) if error.kind() == io::ErrorKind::NotFound)
        {
            continue;
        }
        for entry in entries.map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            if is_folder && !files::is_lost_and_found(root, &entry.path()) {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// SQLite's locks and shared memory are not reliable across machines.
fn warn_of_network_file_system(state: &Path) {
    let Ok(stats) = rustix::fs::statfs(state) else { return };
    let magic = u64::try_from(stats.f_type).unwrap_or_default() & 0xffff_ffff;
    if let Some((_, name)) = NETWORK_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic) {
        tracing::warn!(
            path = %state.display(),
            file_system = name,
            "the catalog is on a network file system, where SQLite's locks are not reliable; use a local disk"
        );
    }
}

fn unusable(path: &Path, verb: &str, source: &io::Error) -> Error {
    let owner = fs::metadata(path).map(|metadata| metadata.uid());
    let (path, uid) = (path.display(), rustix::process::geteuid().as_raw());
    let whose = match owner {
        Ok(owner) if owner != uid => {
            format!(
                "; it belongs to user {owner}, and this runs as {uid}: run it as that user, or `chown` it"
            )
        }
        _ => String::new(),
    };
    Error::Unusable { detail: format!("{path} can't {verb}: {source}{whose}") }
}

const PROBE: &str = ".probe-";

/// File systems whose files another machine may have open too, by their magic numbers (statfs(2)).
const NETWORK_FILE_SYSTEMS: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0xfe53_4d42, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0x00c3_6400, "CephFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x5346_414f, "AFS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> tempfile::TempDir {
        let state = tempfile::tempdir().unwrap();
        for folder in ["keys", "metadata", "repo/targets/gw", "staging"] {
            fs::create_dir_all(state.path().join(folder)).unwrap();
        }
        state
    }

    fn check_state(state: &Path) -> Result<Room, Error> {
        check(state, Some(state), &state.join("catalog.sqlite"))
    }

    #[test]
    fn a_lock_outlives_the_removal_of_its_file() {
        let state = state();
        let lock = StateLock::acquire(state.path()).unwrap();
        fs::remove_file(state.path().join("lock")).unwrap();
        let error = StateLock::acquire(state.path()).unwrap_err();
        assert!(matches!(error, Error::Conflict { code: "locked", .. }), "{error}");
        drop(lock);
        StateLock::acquire(state.path()).unwrap();
    }

    #[test]
    fn a_lock_is_lost_with_its_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        fs::create_dir(&path).unwrap();
        let lock = StateLock::acquire(&path).unwrap();
        assert!(lock.is_held());
        fs::rename(&path, parent.path().join("moved")).unwrap();
        assert!(!lock.is_held());
        fs::create_dir(&path).unwrap();
        assert!(!lock.is_held(), "another directory has come in its place");
    }

    #[test]
    fn leaves_nothing_behind_where_all_is_well() {
        let state = state();
        check_state(state.path()).unwrap();
        let files = |folder: &str| fs::read_dir(state.path().join(folder)).unwrap().count();
        assert_eq!((files("."), files("repo"), files("staging")), (4, 1, 0));
    }

    #[test]
    fn a_full_disk_is_no_reason_not_to_start() {
        let probe =
            |error: rustix::io::Errno| unless_full::<()>(Path::new("repo"), Err(error.into()));
        for full in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
            assert!(probe(full).unwrap().is_none());
        }
        for refused in [rustix::io::Errno::ROFS, rustix::io::Errno::ACCESS, rustix::io::Errno::XDEV]
        {
            probe(refused).unwrap_err();
        }
    }

    #[test]
    fn takes_the_right_to_write_from_everybody_else() {
        let state = state();
        fs::set_permissions(state.path().join("keys"), Permissions::from_mode(0o777)).unwrap();
        check_state(state.path()).unwrap();
        assert_eq!(fs::metadata(state.path().join("keys")).unwrap().mode() & 0o777, 0o775);
    }
}
