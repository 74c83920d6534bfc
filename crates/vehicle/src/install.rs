//! Puts an image on an ECU (Uptane 2.1.0, 5.4.3.4 and 5.4.3.5).
//!
//! The plaintext goes straight to where it is installed and nowhere else. Each kind of target has
//! its own way to keep an image from being used before it is known to be whole and the one that was
//! signed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use sha2::{Digest, Sha256};

use super::Error;
use super::command::{CommandSink, Patience};
use super::config::InstallTarget;
use super::files::{folder_of, make_folder, sync_folder};
use super::pipeline;
use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::RecipientPrivateKey;
use motorcade_host::unnamed::UnnamedFile;
use motorcade_uptane::custom::PlaintextCustom;
use motorcade_uptane::verify::Assignment;

/// Takes plaintext. What was written counts only after [`Self::commit`].
pub(super) trait Sink {
    /// Takes the next part.
    fn write(&mut self, block: &[u8]) -> io::Result<()>;

    /// All of it is there and right: puts it into effect, for good.
    fn commit(self: Box<Self>, expected: &PlaintextCustom) -> io::Result<()>;
}

/// Whether an interrupted installation leaves the old image in place.
pub(super) fn is_atomic(target: &InstallTarget) -> bool {
    match target {
        InstallTarget::File(_) => true,
        InstallTarget::Device(_) | InstallTarget::Command(_) => false,
    }
}

/// Opens the envelope with the ECU's key and the image into the ECU's target.
pub(super) fn install(
    folder: &Path,
    target: &InstallTarget,
    assignment: &Assignment,
    envelope: &[u8],
    key: &RecipientPrivateKey,
    sealed: &Path,
    patience: Patience,
) -> Result<(), Error> {
    let wrong = |source: Option<Box<dyn std::error::Error + Send + Sync>>| {
        let path = assignment.path.clone();
        Error::WrongImage { path, source }
    };
    let opened = Envelope::parse(envelope).and_then(|envelope| envelope.open(key));
    let (data_key, algorithm) = opened.map_err(|error| wrong(Some(Box::new(error))))?;
    let signed = &assignment.custom.image.sealed;
    if algorithm != signed.alg {
        return Err(wrong(Some("the envelope names another algorithm".into())));
    }
    let file = File::open(sealed).map_err(Error::file("read", sealed))?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::file("install", sealed)(error)
        }
        _ => Error::Install { ecu: assignment.ecu.clone(), reason: error.to_string() },
    };
    let mut sink = sink(folder, target, assignment, patience).map_err(failed)?;
    let opened = pipeline::open_into(file, &data_key, algorithm, &signed.plaintext, &mut *sink);
    opened.map_err(|failure| failure.into_error(&assignment.path, failed))?;
    sink.commit(&signed.plaintext).map_err(failed)
}

fn sink(
    folder: &Path,
    target: &InstallTarget,
    assignment: &Assignment,
    patience: Patience,
) -> io::Result<Box<dyn Sink>> {
    Ok(match target {
        InstallTarget::File(path) => Box::new(FileSink::new(folder.join(path))?),
        InstallTarget::Device(path) => Box::new(DeviceSink::new(&folder.join(path))?),
        InstallTarget::Command(command) => {
            Box::new(CommandSink::new(folder, command, assignment, patience)?)
        }
    })
}

/// A file that is replaced whole.
struct FileSink {
    path: PathBuf,
    file: UnnamedFile,
}

impl FileSink {
    fn new(path: PathBuf) -> io::Result<Self> {
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

/// A block device. There is no way back once the first byte is written, so the state says
/// `installing` meanwhile.
struct DeviceSink {
    file: File,
}

impl DeviceSink {
    fn new(path: &Path) -> io::Result<Self> {
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
