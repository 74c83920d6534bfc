//! Files that come in by parts and outlive processes: in `staging/parts/`, which a sweep of
//! `staging/` leaves alone. Beside each is its [`ledger`].

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::directories::{Directories, Staged};
use super::ledger;
use crate::blob::{Error, Parts, PartsSecret};
use crate::model::Sha256Digest;

/// Makes an empty file under a name that nobody else takes, with its ledger, and has them on the
/// disk.
pub(super) fn begin(directories: &Directories, secret: &PartsSecret) -> Result<Parts, Error> {
    let parts = Parts::from_text(format!("{:032x}", rand::random::<u128>()));
    let (path, folder) = (path(directories, &parts), folder(directories));
    let failed = |e| Error::new("create", path.to_string_lossy(), e);
    match fs::create_dir(&folder) {
        Ok(()) => sync(&directories.staging).map_err(failed)?,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(failed(e)),
    }
    let made = OpenOptions::new().write(true).create_new(true).open(&path);
    made.and_then(|_| ledger::create(&ledger_of(&path), secret))
        .and_then(|()| sync(&folder)) // with the empty file: it is nothing but its name
        .map_err(failed)?;
    Ok(parts)
}

pub(super) fn secret(
    directories: &Directories,
    parts: &Parts,
) -> Result<Option<PartsSecret>, Error> {
    let path = ledger_of(&path(directories, parts));
    match ledger::secret(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(|e| Error::new("read", path.to_string_lossy(), e)),
    }
}

pub(super) fn record(
    directories: &Directories,
    parts: &Parts,
    first: u64,
    digests: &[Sha256Digest],
) -> Result<Vec<Sha256Digest>, Error> {
    let path = ledger_of(&path(directories, parts));
    ledger::record(&path, first, digests).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::NotFound(path.to_string_lossy().into_owned()),
        _ => Error::new("record blocks in", path.to_string_lossy(), e),
    })
}

/// Whether a name below `staging/` is of such a file.
pub(super) fn are_in(name: &str) -> bool {
    name.starts_with("parts/")
}

/// Whether a name below `staging/` is of one of those, or of its ledger.
pub(super) fn are_kept(name: &str, kept: &[Parts]) -> bool {
    let name = name.strip_suffix(LEDGER).unwrap_or(name);
    kept.iter().any(|parts| name.ends_with(parts.as_str()))
}

/// Writes a part and brings it to the disk. Bytes that are there already are not written again: the
/// file may have got its name in the repository just before a crash.
pub(super) fn append(
    directories: &Directories,
    parts: &Parts,
    at: u64,
    bytes: &[Bytes],
    keep_free: u64,
) -> Result<(), Error> {
    let path = path(directories, parts);
    let needed =
        bytes.iter().map(|piece| piece.len() as u64).sum::<u64>().saturating_add(keep_free);
    if directories.free_space()? < needed {
        return Err(Error::Full { verb: "write", name: path.to_string_lossy().into_owned() });
    }
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::NotFound(path.to_string_lossy().into_owned()));
        }
        opened => opened.map_err(|e| Error::new("open", path.to_string_lossy(), e))?,
    };
    let failed = |e| Error::new("write", path.to_string_lossy(), e);
    let there = file.metadata().map_err(failed)?.len();
    if there < at {
        return Err(Error::NotFound(path.to_string_lossy().into_owned()));
    }
    let mut at = at;
    for piece in bytes {
        let end = at + piece.len() as u64;
        if end > there || !holds(&file, at, piece).map_err(failed)? {
            file.write_all_at(piece, at).map_err(failed)?;
        }
        at = end;
    }
    file.sync_data().map_err(|e| Error::new("sync", path.to_string_lossy(), e))
}

pub(super) fn length(directories: &Directories, parts: &Parts) -> Result<Option<u64>, Error> {
    let path = path(directories, parts);
    match fs::metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        found => found
            .map(|metadata| Some(metadata.len()))
            .map_err(|e| Error::new("look at", path.to_string_lossy(), e)),
    }
}

/// Another name for the file, to be promoted and dropped as any staged one.
pub(super) fn finish(
    directories: &Arc<Directories>,
    parts: &Parts,
    length: u64,
) -> Result<Staged, Error> {
    let path = path(directories, parts);
    if self::length(directories, parts)? != Some(length) {
        return Err(Error::NotFound(path.to_string_lossy().into_owned()));
    }
    let staged = directories.next_staged();
    fs::hard_link(&path, &staged).map_err(|e| Error::new("link", path.to_string_lossy(), e))?;
    Ok(Staged { directories: Arc::clone(directories), path: staged, file: None })
}

/// The ledger goes first: without it nothing is sealed for these parts any more.
pub(super) fn abandon(directories: &Directories, parts: &Parts) -> Result<(), Error> {
    let path = path(directories, parts);
    remove(&ledger_of(&path))?;
    remove(&path)
}

pub(super) fn sweep(directories: &Directories, kept: &[Parts]) -> Result<usize, Error> {
    let folder = folder(directories);
    let failed = |e| Error::new("list", folder.to_string_lossy(), e);
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        found.insert(name.strip_suffix(LEDGER).map(str::to_owned).unwrap_or(name));
    }
    found.retain(|name| !kept.iter().any(|parts| parts.as_str() == name));
    for path in found.iter().map(|name| folder.join(name)) {
        remove(&ledger_of(&path))?;
        remove(&path)?;
    }
    Ok(found.len())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| Error::new("remove", path.to_string_lossy(), e)),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn holds(file: &File, at: u64, piece: &[u8]) -> io::Result<bool> {
    let mut stored = vec![0; piece.len()];
    file.read_exact_at(&mut stored, at)?;
    Ok(stored == piece)
}

fn folder(directories: &Directories) -> PathBuf {
    directories.staging.join("parts")
}

fn path(directories: &Directories, parts: &Parts) -> PathBuf {
    // Of a name that is none nothing is opened: it comes from the catalog.
    let is_name =
        parts.as_str().len() == 32 && parts.as_str().bytes().all(|b| b.is_ascii_hexdigit());
    folder(directories).join(if is_name { parts.as_str() } else { "none" })
}

fn ledger_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(LEDGER);
    name.into()
}

const LEDGER: &str = ".ledger";
