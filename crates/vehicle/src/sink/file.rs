//! Installation into a file.

use std::io::{self, Write};
use std::path::PathBuf;

use motorcade_host::unnamed::UnnamedFile;
use motorcade_uptane::custom::PlaintextCustom;

use super::Sink;
use crate::files::{folder_of, make_folder, sync_folder};

/// A file that is replaced whole.
pub(crate) struct FileSink {
    path: PathBuf,
    file: UnnamedFile,
}

impl FileSink {
    pub(crate) fn new(path: PathBuf) -> io::Result<Self> {
        let folder = folder_of(&path);
        make_folder(folder).map_err(io::Error::other)?;
        let file = UnnamedFile::create_in(folder)?;
        Ok(Self { path, file })
    }
}

impl Sink for FileSink {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)
    }

    fn commit(self: Box<Self>, _: &PlaintextCustom) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(&self.path)?;
        sync_folder(folder_of(&self.path))
    }
}
