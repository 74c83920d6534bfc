//! What is kept beside a blob that comes in by parts: its secret, and the digest of each block that
//! may have left a process.
//!
//! ```text
//! | secret 32 | digest of block 0, 32 | digest of block 1, 32 | ...
//! ```
//!
//! It is one file, so that a power cut takes all of it or nothing: there is no secret without the
//! digests.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::blob::PartsSecret;
use crate::model::Sha256Digest;

/// Makes a ledger, and has its content on the disk.
pub(super) fn create(path: &Path, secret: &PartsSecret) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all_at(secret.as_bytes(), 0)?;
    file.sync_all()
}

pub(super) fn secret(path: &Path) -> io::Result<PartsSecret> {
    let mut secret = Zeroizing::new([0; 32]);
    File::open(path)?.read_exact_at(&mut *secret, 0)?;
    Ok(PartsSecret::from_bytes(&secret))
}

/// Records digests where there are none, up to the first place with another one, and returns those
/// that are there, on the disk.
pub(super) fn record(
    path: &Path,
    first: u64,
    digests: &[Sha256Digest],
) -> io::Result<Vec<Sha256Digest>> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    lock(&file)?; // until it is closed
    let mut recorded = Vec::with_capacity(digests.len());
    for (number, digest) in (first..).zip(digests) {
        let at = place(number)?;
        let found = find(&file, at)?;
        if found.is_none() {
            file.write_all_at(digest.as_bytes(), at)?;
        }
        recorded.push(found.unwrap_or(*digest));
        if recorded.last() != Some(digest) {
            break;
        }
    }
    // What was found as well: who has written it may not have come so far.
    file.sync_data()?;
    Ok(recorded)
}

/// Keeps off whoever else records there. Where files can't be locked the state directory's lock has
/// to do.
fn lock(file: &File) -> io::Result<()> {
    match file.lock() {
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
        locked => locked,
    }
}

/// A digest that is there. A place of zeros was never synced, so nothing has left for it.
fn find(file: &File, at: u64) -> io::Result<Option<Sha256Digest>> {
    let mut digest = [0; 32];
    match file.read_exact_at(&mut digest, at) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| (digest != [0; 32]).then(|| Sha256Digest::from_bytes(digest))),
    }
}

fn place(number: u64) -> io::Result<u64> {
    let place = number.checked_add(1).and_then(|place| place.checked_mul(32));
    place.ok_or_else(|| io::Error::other("no image has as many blocks"))
}
