//! Modes and owners of files: who may read a secret, and whose a state directory is.
//!
//! Both sides keep secrets in files, and both can be started once by the wrong user; the rules are
//! the same.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;
use zeroize::Zeroizing;

/// What was found about the mode of a secret that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Its owner alone can read it.
    None,
    /// This process's own group could, as Kubernetes' `fsGroup` arranges for every file of a
    /// volume; now it can't.
    Mended,
    /// This process's own group can, and the mode could not or must not be changed.
    OwnGroup,
}

/// Whether the mode of a secret is changed where it is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// Of what this program has made for itself.
    Yes,
    /// Of what the operator keeps, perhaps for another program too.
    No,
}

/// Reads a secret that nobody else can read; see [`check_secret`].
///
/// # Errors
///
/// Those of [`check_secret`], and whatever reading gives.
pub fn read_secret(path: &Path) -> io::Result<(Zeroizing<String>, Exposure)> {
    let exposure = check_secret(path, Mend::Yes)?;
    Ok((Zeroizing::new(fs::read_to_string(path)?), exposure))
}

/// Checks that nobody else can read a secret. Access for a group that this process is in is taken
/// away, or tolerated where the mode can't or must not be changed: its members are who the operator
/// put beside this process.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] if others can read or write it.
pub fn check_secret(path: &Path, mend: Mend) -> io::Result<Exposure> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(Exposure::None);
    }
    let denied = |message: String| io::Error::new(io::ErrorKind::PermissionDenied, message);
    if mode & 0o007 != 0 {
        let message =
            "others can read it: run `chmod 600` on it, and replace the key if they may have";
        return Err(denied(message.to_owned()));
    }
    if !is_own_group(metadata.gid()) {
        return Err(denied(format!(
            "the group {} can read it, and this process is not in it: run `chmod 600` on it, and replace the key if its \
             members may have read it",
            metadata.gid()
        )));
    }
    if mend == Mend::No {
        return Ok(Exposure::OwnGroup);
    }
    match fs::set_permissions(path, Permissions::from_mode(mode & 0o700)) {
        Ok(()) => Ok(Exposure::Mended),
        Err(_) => Ok(Exposure::OwnGroup), // somebody else's file, or one on a read-only mount
    }
}

/// Refuses to go on as root in a folder of another user, who could not use what root leaves there.
/// A folder that is not there yet is nobody's.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`], with the folder, its owner, and what to do.
pub fn refuse_root_in_foreign(folder: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::metadata(folder) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let (path, uid) = (folder.display(), metadata.uid());
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{path} belongs to user {uid}, and this runs as root, whose files that user could not use: run it as that user, \
             such as with `setpriv --reuid={uid} --regid={} --clear-groups`, or give {path} and all in it to root",
            metadata.gid()
        ),
    ))
}

/// Whether `path` is what ext4 has at the root of each file system, for root alone, where `root` is
/// that.
pub fn is_lost_and_found(root: &Path, path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "lost+found") && path.parent() == Some(root)
}

/// Takes the right to write away from everybody else, whatever mask this process has inherited:
/// files get the modes that they are meant to have.
pub fn restrict_new_files() {
    let inherited = rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::umask(inherited | Mode::from_raw_mode(0o022));
}

fn is_own_group(gid: u32) -> bool {
    let supplementary = rustix::process::getgroups().unwrap_or_default();
    rustix::process::getegid().as_raw() == gid
        || supplementary.iter().any(|group| group.as_raw() == gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn takes_access_away_from_the_own_group() {
        let file = file(0o660);
        assert_eq!(check_secret(file.path(), Mend::Yes).unwrap(), Exposure::Mended);
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(check_secret(file.path(), Mend::Yes).unwrap(), Exposure::None);
    }

    #[test]
    fn leaves_what_the_operator_keeps_as_it_is() {
        let file = file(0o640);
        assert_eq!(check_secret(file.path(), Mend::No).unwrap(), Exposure::OwnGroup);
        assert_eq!(fs::metadata(file.path()).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn refuses_what_others_can_read_or_write() {
        for mode in [0o604, 0o602, 0o601, 0o644] {
            let file = file(mode);
            assert_eq!(
                check_secret(file.path(), Mend::Yes).unwrap_err().kind(),
                io::ErrorKind::PermissionDenied,
                "{mode:o}"
            );
            assert_eq!(
                fs::metadata(file.path()).unwrap().mode() & 0o777,
                mode,
                "it stays for its owner to look at"
            );
        }
    }

    #[test]
    fn refuses_a_group_that_this_process_is_not_in() {
        if !rustix::process::geteuid().is_root() {
            return; // only root can give a file to a strange group
        }
        let file = file(0o640);
        std::os::unix::fs::chown(file.path(), None, Some(54_321)).unwrap();
        let error = check_secret(file.path(), Mend::Yes).unwrap_err();
        assert!(error.to_string().contains("the group 54321 can read it"), "{error}");
    }

    #[test]
    fn root_keeps_out_of_the_folders_of_others() {
        let folder = tempfile::tempdir().unwrap();
        refuse_root_in_foreign(folder.path()).unwrap();
        refuse_root_in_foreign(&folder.path().join("missing")).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(54_321), Some(54_321)).unwrap();
            let error = refuse_root_in_foreign(folder.path()).unwrap_err();
            assert!(error.to_string().contains("belongs to user 54321"), "{error}");
        }
    }
}
