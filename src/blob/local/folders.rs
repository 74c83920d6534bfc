//! Folders of a local store, and which of them have entries that may not have reached the disk.
//!
//! A name is there after a power cut once every folder on the way to it has been synced since its
//! entry was made. Whoever gives a file its name syncs its folder, and each folder above that has
//! got a folder, by whomever, and wasn't synced since.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::blob::Error;

#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    unsynced: Mutex<Unsynced>,
    /// Whether other processes make folders too, of which nothing is known here.
    are_shared: AtomicBool,
}

/// Folders that got a folder, each with the number of the last time.
#[derive(Debug, Default)]
struct Unsynced {
    changes: u64,
    folders: HashMap<PathBuf, u64>,
}

impl Folders {
    pub(super) fn below(root: PathBuf) -> Self {
        Self { root, unsynced: Mutex::default(), are_shared: AtomicBool::new(false) }
    }

    /// Takes every folder for one that another process has just made.
    pub(super) fn share(&self) {
        self.are_shared.store(true, Ordering::Relaxed);
    }

    /// Creates `folder`, and what is missing above it.
    pub(super) fn create(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().unwrap_or(&self.root);
        self.create(parent)?;
        let mut unsynced = self.unsynced();
        match fs::create_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {} // whoever made it has noted it
            created => {
                created?;
                unsynced.changes += 1;
                let change = unsynced.changes;
                unsynced.folders.insert(parent.to_owned(), change);
            }
        }
        Ok(())
    }

    /// Syncs folders whose entries have changed, and what is needed above them, beside each other.
    pub(super) fn sync(&self, changed: &HashSet<PathBuf>) -> Result<(), Error> {
        let due = self.due(changed);
        if due.len() > MANY {
            sync_all_below(&self.root)?;
        } else {
            beside_each_other(&due, |(folder, _)| {
                let synced = File::open(folder).and_then(|folder| folder.sync_all());
                synced.map_err(|e| Error::new("sync the folder", folder.to_string_lossy(), e))
            })?;
        }
        let mut unsynced = self.unsynced();
        for (folder, change) in due {
            // One that has got another folder meanwhile has to be synced once more.
            if change.is_some() && unsynced.folders.get(&folder).copied() == change {
                unsynced.folders.remove(&folder);
            }
        }
        Ok(())
    }

    fn due(&self, changed: &HashSet<PathBuf>) -> Vec<(PathBuf, Option<u64>)> {
        let unsynced = self.unsynced();
        let mut due = HashMap::new();
        for folder in changed {
            due.insert(folder.clone(), unsynced.folders.get(folder).copied());
            for above in
                folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.root))
            {
                let change = unsynced.folders.get(above).copied();
                if change.is_some() || self.are_shared.load(Ordering::Relaxed) {
                    due.insert(above.to_owned(), change);
                }
            }
        }
        let mut due: Vec<_> = due.into_iter().collect();
        due.sort_unstable_by(|(one, _), (other, _)| one.as_os_str().cmp(other.as_os_str()));
        due
    }

    fn unsynced(&self) -> MutexGuard<'_, Unsynced> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings everything on the file system of `folder` to the disk at once, which is cheaper than file by
/// file where there are many. Linux tells of errors since 5.8.
pub(super) fn sync_all_below(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|e| Error::new("sync the file system of", folder.to_string_lossy(), e))
}

/// Does something that waits for the disk to each item, several at a time. After an error, the
/// others may be done or not.
pub(super) fn beside_each_other<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let lanes = items.len().min(LANES);
    let lane = |number: usize| items.iter().skip(number).step_by(lanes.max(1)).try_for_each(&work);
    std::thread::scope(|scope| {
        let lane = &lane;
        let started: Vec<_> = (1..lanes)
            .map(|number| {
                let thread =
                    std::thread::Builder::new().name("sync".to_owned()).stack_size(64 * 1024);
                (number, thread.spawn_scoped(scope, move || lane(number)))
            })
            .collect();
        let mut outcome = if lanes > 0 { lane(0) } else { Ok(()) };
        for (number, thread) in started {
            let done = match thread {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }
                Err(_) => lane(number), // no thread is to be had
            };
            outcome = outcome.and(done);
        }
        outcome
    })
}

/// Enough for all folders of an image's four names, for a disk to gather, and few enough to start
/// for each publication.
const LANES: usize = 16;
/// More files or folders than this go to the disk with all else that waits for it: more than a
/// publication has.
pub(super) const MANY: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> (tempfile::TempDir, Folders) {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::below(dir.path().to_owned());
        (dir, folders)
    }

    fn due(folders: &Folders, folder: &Path) -> Vec<PathBuf> {
        folders.due(&[folder.to_owned()].into()).into_iter().map(|(folder, _)| folder).collect()
    }

    #[test]
    fn whoever_finds_a_new_folder_syncs_what_is_above_it_too() {
        let (dir, folders) = folders();
        let root = dir.path();
        folders.create(&root.join("a/b")).unwrap();
        folders.create(&root.join("a/c")).unwrap();
        assert_eq!(
            due(&folders, &root.join("a/b")),
            [root.to_owned(), root.join("a"), root.join("a/b")]
        );
        folders.sync(&[root.join("a/b")].into()).unwrap();
        assert_eq!(
            due(&folders, &root.join("a/c")),
            [root.join("a/c")],
            "what is above was synced since"
        );
    }

    #[test]
    fn folders_that_another_process_may_have_made_are_synced_up_to_the_root() {
        let (dir, folders) = folders();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        assert_eq!(due(&folders, &root.join("a/b")), [root.join("a/b")]);
        folders.share();
        let all = [root.to_owned(), root.join("a"), root.join("a/b")];
        assert_eq!(due(&folders, &root.join("a/b")), all);
        folders.sync(&[root.join("a/b")].into()).unwrap();
        assert_eq!(due(&folders, &root.join("a/b")), all, "each time");
    }

    #[test]
    fn a_folder_that_gets_another_one_while_it_is_synced_stays_due() {
        let (dir, folders) = folders();
        let root = dir.path();
        folders.create(&root.join("a")).unwrap();
        let due_then = folders.due(&[root.join("a")].into());
        folders.create(&root.join("b")).unwrap();
        assert_ne!(due_then, folders.due(&[root.join("a")].into()), "its number tells them apart");
        assert_eq!(due(&folders, &root.join("b")), [root.to_owned(), root.join("b")]);
    }

    #[test]
    fn all_items_are_worked_on_and_an_error_is_told() {
        let done = Mutex::new(HashSet::new());
        let items: Vec<usize> = (0..100).collect();
        let work = |item: &usize| {
            done.lock().unwrap().insert(*item);
            if *item == 77 { Err(Error::NotFound("77".into())) } else { Ok(()) }
        };
        assert!(matches!(beside_each_other(&items, work), Err(Error::NotFound(_))));
        assert!(done.lock().unwrap().len() > 80);
        assert!(beside_each_other(&[] as &[usize], work).is_ok());
    }
}
