//! Room on the disk: for images, and for metadata to be signed.

use super::Examination;
use crate::app::Error;
use crate::app::images::ingest::{LEAST_RESERVED, SIGNINGS};

impl Examination {
    pub(super) fn disk(&mut self) -> Result<String, Error> {
        let metadata: u64 = self.roles.iter().map(|state| state.length).sum();
        let reserve = (metadata * SIGNINGS).max(LEAST_RESERVED);
        let reserve = self.around.reserved_space.unwrap_or(reserve);
        let room = rustix::fs::statvfs(self.state.path())
            .map_err(Error::internal("look at the file system"))?;
        let (space, files) = (room.f_bavail.saturating_mul(room.f_frsize), room.f_favail);
        if space < reserve {
            self.error(
                format!("{space} bytes are free, and {reserve} are kept for metadata to be signed: uploads are refused"),
                MAKE_ROOM,
            );
        } else if space < reserve.saturating_mul(4) {
            let problem = format!("only {space} bytes are free");
            self.warn(problem, MAKE_ROOM);
        }
        let needed = self.roles.len() as u64 * SIGNINGS;
        // A file system that counts none has no limit.
        if room.f_files > 0 && files < needed {
            let problem =
                format!("the file system has {files} inodes left, and signing takes {needed}");
            self.error(
                problem,
                "remove files, or move the state directory to a file system with more inodes",
            );
        }
        Ok(format!("{space} bytes free, {reserve} kept for signing"))
    }
}

const MAKE_ROOM: &str =
    "make room on the disk of the state directory, or enlarge it (docs/OPERATIONS.md, Disk)";
