//! Room that is kept for what a vehicle must be able to write on a full disk: its counters, without
//! which it can't report.
//!
//! Others fill a disk, too. A file that is of no use is given up when the last byte is gone, and
//! made again when there is room.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{folder_of, replace};
use super::room;

/// Makes it beside a file, if it is not there and there is room for more than it.
pub(super) fn keep(beside: &Path) {
    let path = path_of(beside);
    if path.exists() || room::check(&path, SIZE as u64).is_err() {
        return;
    }
    // Random, so that no file system keeps it in less.
    let mut bytes = vec![0; SIZE];
    if getrandom::fill(&mut bytes).is_ok() {
        let _ = replace(&path, &bytes); // it is there for bad days, and this may be one
    }
}

/// Gives it up. Returns whether there was any.
pub(super) fn give_up(beside: &Path) -> bool {
    fs::remove_file(path_of(beside)).is_ok()
}

fn path_of(beside: &Path) -> PathBuf {
    folder_of(beside).join("ballast")
}

const SIZE: usize = 512 * 1024; // 512 KiB
