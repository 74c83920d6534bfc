//! A large file on its way into the store.

use std::fs::File;
use std::io;
use std::sync::mpsc;

use super::directories::Staged;
use crate::blob::{BlobUpload, Error, StagedBlob};

/// A large file on its way. Every [`FLUSH_EVERY`] bytes another thread is told to bring them to the
/// disk, so that the disk works while the image comes in and little is left for the sync at the
/// end.
pub(super) struct Upload {
    staged: Staged,
    keep_free: u64,
    unflushed: u64,
    flusher: Option<mpsc::SyncSender<()>>,
}

impl Upload {
    pub(super) fn new(staged: Staged, keep_free: u64) -> Self {
        Self { staged, keep_free, unflushed: 0, flusher: None }
    }

    /// Only ever speeds the later sync up, which reports what goes wrong.
    fn flush_beside(&mut self) {
        if self.flusher.is_none() {
            let file = self.staged.file.as_ref();
            self.flusher = file.and_then(|file| file.try_clone().and_then(start_flusher).ok());
        }
        if let Some(flusher) = &self.flusher {
            let _ = flusher.try_send(()); // one that is still busy takes these bytes along the next time
        }
    }
}

impl BlobUpload for Upload {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.staged.write(bytes)?;
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            if self.staged.directories.free_space()? < self.keep_free {
                return Err(Error::Full {
                    verb: "write",
                    name: self.staged.path.to_string_lossy().into_owned(),
                });
            }
            self.flush_beside();
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn StagedBlob>, Error> {
        self.flusher = None;
        self.staged.sync()?;
        Ok(Box::new(self.staged))
    }
}

impl StagedBlob for Staged {}

fn start_flusher(file: File) -> io::Result<mpsc::SyncSender<()>> {
    let (sender, told) = mpsc::sync_channel(1);
    let work = move || told.iter().for_each(|()| drop(file.sync_data()));
    std::thread::Builder::new().name("flush".to_owned()).stack_size(64 * 1024).spawn(work)?;
    Ok(sender)
}

const FLUSH_EVERY: u64 = 16 * 1024 * 1024; // 16 MiB
