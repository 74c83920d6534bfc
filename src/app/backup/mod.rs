//! A backup of a state directory, beside the server that uses it: a folder that is a state directory
//! itself once `recover versions` has taken its versions past those that vehicles have seen since.
//!
//! The catalog is copied first and as it is at one moment. Whatever it knows has its blob by then, so
//! that what is copied of `repo/` after it has all that it names; what came in since is more than it
//! knows, as after a crash.

mod record;
mod tree;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use record::Record;
pub(super) use record::{forget, refuse_unrecovered};
pub use tree::Blobs;
use tree::{Copier, Links, make_alike};

use super::random::random_hex;
use super::state_dir::{StateDir, TICKET_FILE};
use super::{Error, apart, moved};
use crate::catalog::Holder;
use crate::keys::RingFile;
use crate::keys::policy::Policy;
use crate::model::Timestamp;
use crate::model::clock::later;
use motorcade_host::new_file::folder_of;

/// Whether `keys/` is in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFiles {
    /// The backup alone is enough, and opens everything.
    Included,
    /// It is kept elsewhere, and has to be put back before the backup can be used.
    LeftOut,
}

/// How a backup is made.
pub struct Plan {
    /// Whether it has the keys.
    pub keys: KeyFiles,
    /// How it gets the blobs.
    pub blobs: Blobs,
    /// When it is made.
    pub now: Timestamp,
    /// Whether to give up; what was made is removed then.
    pub is_stopped: Box<dyn Fn() -> bool + Send>,
    /// Is told of bytes that were copied.
    pub progress: Box<dyn Fn(u64) + Send>,
}

/// Backs `state` up to the new folder `folder`. Safe beside a running server. The folder is there
/// whole and on the disk, or not at all.
///
/// # Errors
///
/// [`Error::Conflict`] if something is at `folder`, it is within a state directory, or the catalog
/// is in a database;
/// [`Error::NotFound`] if `state` isn't initialized; [`Error::Full`]; [`Error::Unusable`] if it was
/// stopped; [`Error::Internal`].
pub async fn back_up(state: &StateDir, folder: &Path, plan: Plan) -> Result<Record, Error> {
    refuse_database(state)?;
    moved::refuse_moved_blobs(state.path(), state.bucket())?;
    let catalog = state.open_catalog().await?;
    refuse_taken(state.path(), folder)?;
    let unfinished = Unfinished::create(folder)?;
    // Before the copy, so that what it names stays; where that can't be written, nobody removes any.
    let backup = random_hex::<ID_BYTES>()?;
    let hold = async |now: Timestamp| {
        let backup = Holder { owner: &backup, now, lease_until: later(now, HELD) };
        let _ = catalog.hold_files(backup).await;
    };
    hold(plan.now).await;
    let head = catalog.find_audit_head().await?; // before the copy, so that the copy has it
    catalog.copy_to(&unfinished.path.join("catalog.sqlite")).await?;
    let record = Record {
        made_at: plan.now,
        version: env!("CARGO_PKG_VERSION").into(),
        audit_head: head.map(|head| format!("{}:{}", head.seq, head.hash)),
        key_files: Vec::new(),
        keys_elsewhere: keys_elsewhere(state)?,
        linked: 0,
        copied: 0,
        bytes: 0,
    };
    let (state, to, now) = (state.clone(), folder.to_owned(), plan.now);
    let mut copying = tokio::task::spawn_blocking(move || {
        let record = copy_files(&state, &unfinished.path, &plan, record)?;
        unfinished.finish(state.path(), &to)?;
        Ok(record)
    });
    let begun = Instant::now();
    let copied = loop {
        tokio::select! {
            copied = &mut copying => break copied,
            () = tokio::time::sleep(HELD / 10) => {
                // A catalog that is too busy for that is asked again.
                hold(later(now, begun.elapsed())).await;
            }
        }
    };
    let _ = catalog.release_files(&backup).await; // or it ends by itself
    catalog.close().await;
    copied.map_err(Error::internal("copy files"))?.map_err(failed)
}

/// A database has a tool of its own for this, which must run before files are copied.
fn refuse_database(state: &StateDir) -> Result<(), Error> {
    if !state.has_database() {
        return Ok(());
    }
    let detail = "the catalog is in a database: back that up with its own tool, such as `pg_dump`, and copy `keys/`, `metadata/`, \
                  `installation-id` and `repo/`, or the bucket, after it (docs/POSTGRESQL.md)";
    Err(Error::Conflict { code: "catalog_in_database", detail: detail.into() })
}

fn refuse_taken(state: &Path, folder: &Path) -> Result<(), Error> {
    for path in [folder, &unfinished_path(folder)] {
        if fs::symlink_metadata(path).is_ok() {
            let path = path.display();
            let detail = format!(
                "{path} is there already, and a backup is made in a new folder: name another one, or remove {path} if it is \
                 left from a backup that was cut off"
            );
            return Err(Error::Conflict { code: "backup_exists", detail });
        }
    }
    let look = Error::internal("look at the folder to back up to");
    if let Some(overlap) = apart::overlap(state, folder).map_err(look)? {
        let detail = format!(
            "{} {overlap} a state directory: name a folder of its own, best on another disk",
            folder.display()
        );
        return Err(Error::Conflict { code: "backup_into_state", detail });
    }
    Ok(())
}

/// Where those keys are that the policy and the escrow ring name, and that are not in `keys/`.
fn keys_elsewhere(state: &StateDir) -> Result<Vec<String>, Error> {
    let keys = state.keys();
    let policy: Policy = state.policy()?;
    let of_roles = policy.roles().flat_map(|(side, kind, _)| policy.sources(side, kind));
    let mut places: Vec<String> = of_roles
        .filter(|source| source.path(&keys).is_none_or(|path| !path.starts_with(&keys)))
        .map(ToString::to_string)
        .collect();
    let ring = RingFile::read(&keys).map_err(Error::internal("read where escrow keys are"))?;
    let of_escrow = ring.entries().iter().map(|entry| entry.source().to_owned());
    places.extend(of_escrow.filter(|source| !source.starts_with("file:")));
    places.sort();
    places.dedup();
    Ok(places)
}

fn copy_files(state: &StateDir, to: &Path, plan: &Plan, record: Record) -> io::Result<Record> {
    let from = state.path();
    let catalog = to.join("catalog.sqlite");
    make_alike(&catalog, &fs::metadata(from.join("catalog.sqlite"))?)?;
    let mut own = Copier::new(&plan.is_stopped, &plan.progress);
    let mut key_files = Vec::new();
    if plan.keys == KeyFiles::Included {
        let keys = from.join("keys");
        let is_wanted = |path: &Path| !path.ends_with(TICKET_FILE);
        let paths =
            own.tree(&keys, &to.join("keys"), Blobs::Copied, Links::Followed, &is_wanted)?;
        let names = paths.iter().filter_map(|path| path.strip_prefix(&keys).ok());
        key_files = names.map(|name| name.display().to_string()).collect();
        key_files.sort();
    }
    let metadata = (from.join("metadata"), to.join("metadata"));
    own.tree(&metadata.0, &metadata.1, Blobs::Copied, Links::Followed, &|_| true)?;
    let mut blobs = Copier::new(&plan.is_stopped, &plan.progress);
    if state.bucket().is_none() {
        blobs.tree(&from.join("repo"), &to.join("repo"), plan.blobs, Links::LeftOut, &|_| true)?;
    } else {
        copy_what_names_the_bucket(from, to)?;
    }
    let (linked, copied) = (blobs.linked, blobs.copied);
    let bytes = fs::metadata(&catalog)?.len() + own.bytes + blobs.bytes;
    let record = Record { key_files, linked, copied, bytes, ..record };
    record.write(to)?;
    Ok(record)
}

/// Blobs stay in their bucket, which knows its installation; vehicles get its first root from here.
fn copy_what_names_the_bucket(from: &Path, to: &Path) -> io::Result<()> {
    for name in ["installation-id", "1.root.json"] {
        match fs::copy(from.join(name), to.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A folder under another name until all of it is there; removed if that does not come.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn create(folder: &Path) -> Result<Self, Error> {
        let path = unfinished_path(folder);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| Error::Unusable {
            detail: format!("{} can't be made: {source}", path.display()),
        })?;
        Ok(Self { path })
    }

    /// Gives it its name once it is on the disk.
    fn finish(self, state: &Path, folder: &Path) -> io::Result<()> {
        rustix::fs::syncfs(File::open(&self.path)?)?;
        make_alike(&self.path, &fs::metadata(state)?)?;
        fs::rename(&self.path, folder)?;
        File::open(folder_of(folder))?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // it has another name if all went well
    }
}

fn unfinished_path(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full {
            detail: "no space is left for the backup; what was made of it is removed".into(),
        },
        io::ErrorKind::Interrupted => Error::Unusable {
            detail: "the backup was stopped; what was made of it is removed".into(),
        },
        _ => Error::internal("copy files")(error),
    }
}

const ID_BYTES: usize = 8;
/// For how long files stay after a backup has last said that it needs them.
const HELD: Duration = Duration::from_secs(10 * 60);
