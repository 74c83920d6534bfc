//! Trusted metadata of one repository on disk: a file a role, under its name without a version.

use std::path::{Path, PathBuf};

use super::Error;
use super::files::{find, make_folder, replace};
use super::names::metadata_file;
use crate::uptane::verify::Limits;

/// A folder of trusted metadata.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    keeps_roots: bool,
}

impl Store {
    /// Keeps the latest file of each role.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), keeps_roots: false }
    }

    /// Keeps all roots besides, below `roots/`: a Secondary may be behind, and follows the chain from where it is.
    pub(super) fn keeping_roots(folder: &Path) -> Self {
        Self { keeps_roots: true, ..Self::new(folder) }
    }

    /// The root that everything starts from.
    pub(super) fn root(&self) -> Result<Vec<u8>, Error> {
        let path = self.path("root");
        let missing = || Error::Setting { path: path.clone(), fault: "there is no trusted root".into() };
        find(&path, Limits::ROOT)?.ok_or_else(missing)
    }

    /// What was stored of a role. A file that can't be read is as good as none: the repository has another.
    pub(super) fn find(&self, role: &str) -> Option<Vec<u8>> {
        find(&self.path(role), Limits::TARGETS).ok().flatten()
    }

    /// The same, by the name of the role as it is in file names.
    pub(super) fn find_file(&self, quoted: &str) -> Option<Vec<u8>> {
        find(&self.folder.join(format!("{quoted}.json")), Limits::TARGETS).ok().flatten()
    }

    /// Stores what has been verified.
    pub(super) fn put(&self, role: &str, version: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.keeps_roots && role == "root" {
            let roots = self.folder.join(ROOTS);
            make_folder(&roots)?;
            replace(&roots.join(metadata_file(role, Some(version))), bytes)?;
        }
        replace(&self.path(role), bytes)
    }

    /// Puts the first root in place.
    pub(super) fn init(&self, root: &[u8]) -> Result<(), Error> {
        make_folder(&self.folder)?;
        replace(&self.path("root"), root)
    }

    /// A root of the chain, if it was kept.
    pub(super) fn find_root(&self, version: u64) -> Option<Vec<u8>> {
        find(&self.folder.join(ROOTS).join(metadata_file("root", Some(version))), Limits::ROOT).ok().flatten()
    }

    fn path(&self, role: &str) -> PathBuf {
        self.folder.join(metadata_file(role, None))
    }
}

const ROOTS: &str = "roots";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_replaces_what_was_there_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::keeping_roots(folder.path());
        store.init(b"one").unwrap();
        store.put("root", 2, b"two").unwrap();
        store.put("../odd", 1, b"odd").unwrap();
        assert_eq!(store.root().unwrap(), b"two");
        assert_eq!((store.find_root(2), store.find_root(1)), (Some(b"two".to_vec()), None));
        assert_eq!(store.find("../odd").unwrap(), b"odd");
        assert_eq!(store.find("snapshot"), None);
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["..%2Fodd.json", "root.json", "roots"]);
    }

    /// A power cut before the rename: the old file is there, whole.
    #[test]
    fn a_file_that_was_being_written_is_not_read_and_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.init(b"one").unwrap();
        let cut = folder.path().join(format!("{}x", super::super::files::TEMPORARY));
        std::fs::write(&cut, b"tw").unwrap();
        assert_eq!(store.root().unwrap(), b"one");
        super::super::files::sweep(folder.path());
        assert!(!cut.exists() && store.root().is_ok());
    }

    #[test]
    fn a_damaged_file_is_absent_but_a_missing_root_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        std::fs::create_dir(folder.path().join("snapshot.json")).unwrap();
        assert_eq!(store.find("snapshot"), None);
        assert!(matches!(store.root(), Err(Error::Setting { .. })));
    }
}
