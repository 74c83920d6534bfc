//! Trusted metadata of one repository on disk: a file a role, under its name without a version.
//!
//! Everything but the root can be had again. Of the root there is a second copy, and whoever reads
//! it takes the first that is one: what a disk has done to a file is nobody's attack.

use motorcade_model::RoleName;
use std::path::{Path, PathBuf};

use super::Error;
use super::files::{copy_of, find, make_folder, replace};
use super::mended::Mended;
use super::names::metadata_file;
use motorcade_uptane::verify::{Limits, VerifyError};

/// A folder of trusted metadata.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    keeps_roots: bool,
    keeps_copy: bool,
    mended: Mended,
}

impl Store {
    /// Keeps the latest file of each role.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            keeps_roots: false,
            keeps_copy: true,
            mended: Mended::default(),
        }
    }

    /// Keeps nothing else in the folder: it is a TUF client's, and others read it.
    pub(super) fn plain(folder: &Path) -> Self {
        Self { keeps_copy: false, ..Self::new(folder) }
    }

    /// Keeps all roots besides, below `roots/`: a Secondary may be behind, and follows the chain
    /// from where it is.
    pub(super) fn keeping_roots(folder: &Path) -> Self {
        Self { keeps_roots: true, ..Self::new(folder) }
    }

    /// Says where it is written down what was damaged and could be mended.
    pub(super) fn noting(self, mended: &Mended) -> Self {
        Self { mended: mended.clone(), ..self }
    }

    /// The root that everything starts from: the first of its copies from which `read` makes
    /// something. The others are replaced by it, also the second one by the first.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if there is none, and [`Error::Damaged`] if none can be used.
    pub(super) fn root<T>(
        &self,
        read: impl Fn(&[u8]) -> Result<T, VerifyError>,
    ) -> Result<T, Error> {
        let path = self.path(&RoleName::Root);
        let mut fault = None;
        for copy in [path.clone(), copy_of(&path)].into_iter().chain(self.kept_roots()) {
            // One that can't be read at all is as damaged as one with other bytes.
            let Some(bytes) = find(&copy, Limits::ROOT).unwrap_or_else(|_| Some(Vec::new())) else {
                continue;
            };
            match read(&bytes) {
                Ok(root) => {
                    if copy == path {
                        self.keep_copy(&path, &bytes);
                    } else {
                        self.put_root(&bytes)?;
                        self.mended.note(&path);
                    }
                    return Ok(root);
                }
                Err(error) => fault = fault.or(Some(error.to_string())),
            }
        }
        Err(match fault {
            None => Error::Setting {
                path,
                fault: "there is no trusted root; run `provision` again".into(),
            },
            Some(fault) => Error::Damaged { path, fault },
        })
    }

    /// Makes the second copy of a good file the same as the first: it may be damaged, or an earlier
    /// version has made none. One that can't be written keeps nobody from an update, and is tried
    /// again in the next.
    fn keep_copy(&self, path: &Path, bytes: &[u8]) {
        let copy = copy_of(path);
        let there = find(&copy, Limits::ROOT).unwrap_or_else(|_| Some(Vec::new()));
        if self.keeps_copy
            && there.as_deref() != Some(bytes)
            && replace(&copy, bytes).is_ok()
            && there.is_some()
        {
            self.mended.note(&copy);
        }
    }

    /// Where the root is.
    pub(super) fn root_path(&self) -> PathBuf {
        self.path(&RoleName::Root)
    }

    /// The newest first.
    fn kept_roots(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join(ROOTS)).into_iter().flatten().flatten();
        let version = |name: &str| {
            name.strip_suffix(".root.json").and_then(|version| version.parse::<u64>().ok())
        };
        let versions = entries.filter_map(|entry| version(&entry.file_name().to_string_lossy()));
        let mut versions: Vec<u64> = versions.collect();
        versions.sort_unstable_by(|a, b| b.cmp(a));
        versions.into_iter().map(|version| self.kept_root(version)).collect()
    }

    fn kept_root(&self, version: u64) -> PathBuf {
        self.folder.join(ROOTS).join(metadata_file(&RoleName::Root, Some(version)))
    }

    /// What was stored of a role. A file that can't be read is as good as none: the repository has
    /// another.
    pub(super) fn find(&self, role: &RoleName) -> Option<Vec<u8>> {
        find(&self.path(role), Limits::TARGETS).ok().flatten()
    }

    /// The same, by the name of the role as it is in file names.
    pub(super) fn find_file(&self, quoted: &str) -> Option<Vec<u8>> {
        find(&self.folder.join(format!("{quoted}.json")), Limits::TARGETS).ok().flatten()
    }

    /// Stores what has been verified.
    pub(super) fn put(&self, role: &RoleName, version: u64, bytes: &[u8]) -> Result<(), Error> {
        if self.keeps_roots && *role == RoleName::Root {
            let roots = self.folder.join(ROOTS);
            make_folder(&roots)?;
            replace(&self.kept_root(version), bytes)?;
            replace(&copy_of(&self.kept_root(version)), bytes)?;
        }
        if *role == RoleName::Root {
            self.put_root(bytes)
        } else {
            replace(&self.path(role), bytes)
        }
    }

    fn put_root(&self, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(&RoleName::Root);
        replace(&path, bytes)?;
        if self.keeps_copy { replace(&copy_of(&path), bytes) } else { Ok(()) }
    }

    /// Puts the first root in place, and forgets what stands there and can't be read.
    pub(super) fn init(&self, root: &[u8]) -> Result<(), Error> {
        make_folder(&self.folder)?;
        for path in [self.path(&RoleName::Root), copy_of(&self.path(&RoleName::Root))] {
            if path.is_dir() {
                std::fs::remove_dir(&path).map_err(Error::file("replace", &path))?;
            }
        }
        self.put_root(root)
    }

    /// A root of the chain, if it was kept: the first of its copies that `read` takes.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it was kept and can't be used.
    pub(super) fn find_root<T>(
        &self,
        version: u64,
        read: impl Fn(&[u8]) -> Result<T, VerifyError>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let path = self.kept_root(version);
        let mut fault = None;
        for copy in [path.clone(), copy_of(&path)] {
            let Some(bytes) = find(&copy, Limits::ROOT).unwrap_or_else(|_| Some(Vec::new())) else {
                continue;
            };
            match read(&bytes) {
                Ok(_) => {
                    if copy == path {
                        self.keep_copy(&path, &bytes);
                    } else {
                        replace(&path, &bytes)?;
                        self.mended.note(&path);
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => fault = fault.or(Some(error.to_string())),
            }
        }
        fault.map_or(Ok(None), |fault| Err(Error::Damaged { path, fault }))
    }

    /// Where the file of a role is.
    pub(super) fn path(&self, role: &RoleName) -> PathBuf {
        self.folder.join(metadata_file(role, None))
    }
}

const ROOTS: &str = "roots";

#[cfg(test)]
mod tests {
    use super::*;

    fn any(bytes: &[u8]) -> Result<Vec<u8>, VerifyError> {
        Ok(bytes.to_vec())
    }

    /// Takes what begins with a digit.
    fn numbered(bytes: &[u8]) -> Result<Vec<u8>, VerifyError> {
        let is_numbered = bytes.first().is_some_and(u8::is_ascii_digit);
        if is_numbered { any(bytes) } else { Err(VerifyError::DelegationFromDirector) }
    }

    /// Empty, zeroed, with other bytes, a folder in its place, or gone.
    #[test]
    fn a_damaged_root_is_mended_from_its_copy_and_said_so() {
        let damages: [fn(&Path); 5] = [
            |path| std::fs::write(path, "").unwrap(),
            |path| std::fs::write(path, [0; 500]).unwrap(),
            |path| std::fs::write(path, "damaged").unwrap(),
            |path| {
                std::fs::remove_file(path).unwrap();
                std::fs::create_dir(path).unwrap();
            },
            |path| std::fs::remove_file(path).unwrap(),
        ];
        for damage in damages {
            let folder = tempfile::tempdir().unwrap();
            let mended = Mended::default();
            let store = Store::keeping_roots(folder.path()).noting(&mended);
            store.init(b"1").unwrap();
            store.put(&RoleName::Root, 2, b"2").unwrap();
            let path = folder.path().join("root.json");
            damage(&path);
            if path.is_dir() {
                std::fs::remove_dir(&path).unwrap(); // which a rename can't replace
            }
            assert_eq!(store.root(numbered).unwrap(), b"2");
            assert_eq!(
                (std::fs::read(&path).unwrap(), mended.take()),
                (b"2".to_vec(), vec![path.clone()])
            );
            damage(&folder.path().join("roots/2.root.json"));
            if folder.path().join("roots/2.root.json").is_dir() {
                continue;
            }
            assert_eq!(store.find_root(2, numbered).unwrap().unwrap(), b"2");
            // Both copies, and then the one that was kept for Secondaries too.
            for path in [&path, &copy_of(&path)] {
                std::fs::write(path, "").unwrap();
            }
            assert_eq!(store.root(numbered).unwrap(), b"2");
            for path in [&path, &copy_of(&path), &folder.path().join("roots/2.root.json")] {
                std::fs::write(path, "").unwrap();
            }
            assert!(matches!(store.root(numbered), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn what_is_put_replaces_what_was_there_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::keeping_roots(folder.path());
        store.init(b"one").unwrap();
        store.put(&RoleName::Root, 2, b"two").unwrap();
        store.put(&"../odd".parse().unwrap(), 1, b"odd").unwrap();
        assert_eq!(store.root(any).unwrap(), b"two");
        let kept = |version| store.find_root(version, any).unwrap();
        assert_eq!((kept(2), kept(1)), (Some(b"two".to_vec()), None));
        assert_eq!(store.find(&"../odd".parse().unwrap()).unwrap(), b"odd");
        assert_eq!(store.find(&RoleName::Snapshot), None);
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["..%2Fodd.json", "root.json", "root.json.copy", "roots"]);
    }

    /// Damaged, or never made: before the first file is needed no more than after it.
    #[test]
    fn the_copy_of_a_good_root_is_mended_and_made_if_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mended = Mended::default();
        let store = Store::keeping_roots(folder.path()).noting(&mended);
        store.init(b"1").unwrap();
        store.put(&RoleName::Root, 2, b"2").unwrap();
        let copies =
            ["root.json.copy", "roots/2.root.json.copy"].map(|name| folder.path().join(name));
        for (is_there, expected) in [(true, copies.to_vec()), (false, Vec::new())] {
            for copy in &copies {
                if is_there {
                    std::fs::write(copy, "damaged").unwrap()
                } else {
                    std::fs::remove_file(copy).unwrap()
                }
            }
            assert_eq!(store.root(numbered).unwrap(), b"2");
            assert_eq!(store.find_root(2, numbered).unwrap().unwrap(), b"2");
            assert!(copies.iter().all(|copy| std::fs::read(copy).unwrap() == b"2"));
            assert_eq!(mended.take(), expected);
        }
    }

    #[test]
    fn a_plain_store_has_nothing_in_its_folder_but_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::plain(folder.path());
        store.init(b"one").unwrap();
        store.put(&RoleName::Root, 2, b"two").unwrap();
        assert_eq!(store.root(any).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// A power cut before the rename: the old file is there, whole.
    #[test]
    fn a_file_that_was_being_written_is_not_read_and_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        store.init(b"one").unwrap();
        let cut = folder.path().join(format!("{}x", motorcade_host::unnamed::TEMPORARY));
        std::fs::write(&cut, b"tw").unwrap();
        assert_eq!(store.root(any).unwrap(), b"one");
        super::super::files::sweep(folder.path());
        assert!(!cut.exists() && store.root(any).is_ok());
    }

    #[test]
    fn a_damaged_file_is_absent_but_a_missing_root_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        std::fs::create_dir(folder.path().join("snapshot.json")).unwrap();
        assert_eq!(store.find(&RoleName::Snapshot), None);
        assert!(matches!(store.root(any), Err(Error::Setting { .. })));
    }
}
