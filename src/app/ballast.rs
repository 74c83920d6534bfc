//! Room that is kept for a start on a full disk.
//!
//! What fills a disk may be what a start can't remove, such as uploads that wait to be resumed, and
//! the catalog can't be opened without some room. So a file of no use is given up then, and made
//! again when there is room.

use std::fs;
use std::io;
use std::path::Path;

use motorcade_host::new_file::UNFINISHED;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Makes it, if it is not there and there is room for much more than it. Where that fails there is
/// none: it is for bad days.
pub(super) fn keep(state: &Path) {
    let has_room = || {
        let free = statvfs(state).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        free.is_ok_and(|free| free > ROOM)
    };
    if !state.join(FILE).exists() && has_room() {
        let _ = make(state);
    }
}

/// Gives it up; returns whether there was any.
pub(super) fn give_up(state: &Path) -> bool {
    fs::remove_file(state.join(FILE)).is_ok()
}

/// Takes the room without writing to it.
fn make(state: &Path) -> io::Result<()> {
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(state)?;
    fallocate(file.as_file(), FallocateFlags::empty(), 0, SIZE)?;
    file.persist(state.join(FILE)).map(drop).map_err(|error| error.error)
}

const FILE: &str = "ballast";
const SIZE: u64 = 8 * 1024 * 1024; // 8 MiB
const ROOM: u64 = 16 * SIZE;
