//! Installation onto a block device.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use motorcade_uptane::custom::PlaintextCustom;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::Sink;

/// A block device. There is no way back once the first byte is written, so the state says
/// `installing` meanwhile.
pub(crate) struct DeviceSink {
    file: File,
}

impl DeviceSink {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().read(true).write(true).open(path)? })
    }
}

impl Sink for DeviceSink {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)
    }

    /// Reads back what the device has, and not what the system remembers of it.
    fn commit(self: Box<Self>, expected: &PlaintextCustom) -> io::Result<()> {
        let Self { mut file } = *self;
        file.sync_all()?;
        let _ = fadvise(&file, 0, None, Advice::DontNeed); // some file systems can't; then memory is compared
        file.seek(SeekFrom::Start(0))?;
        let mut device = file.take(expected.length);
        let mut hasher = Sha256::new();
        let mut block = vec![0; BLOCK_SIZE];
        loop {
            match device.read(&mut block)? {
                0 => break,
                read => hasher.update(&block[..read]),
            }
        }
        match hasher.finalize()[..] == *expected.hashes.sha256.as_bytes() {
            true => Ok(()),
            false => Err(io::Error::other("the device does not have what was written to it")),
        }
    }
}

const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB
