//! Disks that are full after a few megabytes.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a line that says so, where this user may not mount.
    pub(crate) fn mount(folder: &Path, size: &str) -> Option<Self> {
        Self::mount_with(folder, &format!("size={size}"))
    }

    /// The same with options of tmpfs.
    pub(crate) fn mount_with(folder: &Path, options: &str) -> Option<Self> {
        let mut command = Command::new("mount");
        match command.args(["-t", "tmpfs", "-o", options, "motorcade-test"]).arg(folder).output() {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                println!("skipped: a small disk needs the right to mount a tmpfs: {other:?}");
                None
            }
        }
    }

    /// Leaves only `free` bytes of the disk until the returned file is removed.
    pub(crate) fn fill(&self, free: u64) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let block = vec![0x5a; 4096];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length - free).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
