//! Opens a sealed image into whatever takes it: one thread reads and decrypts, one hashes, one
//! writes.
//!
//! A few blocks go round between them, so an image of any length takes as much memory as a small
//! one, and as much time as the slowest of the three steps.

use std::fs::File;
use std::io::{self, BufReader};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use sha2::{Digest, Sha256};

use super::Error;
use super::http_error::HttpError;
use super::sink::Sink;
use super::stop::Stop;
use motorcade_envelope::key::DataKey;
use motorcade_envelope::stream::SegmentReader;
use motorcade_model::SealAlgorithm;
use motorcade_uptane::custom::PlaintextCustom;

/// Writes the plaintext to `sink`, which **must** not be used before this has returned: only then
/// it is known that the image is whole, and the one that was signed (Uptane 2.1.0, 5.4.3.4 steps 6
/// and 7). It ends early if `stop` is asked.
pub(super) fn open_into(
    sealed: File,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
    expected: &PlaintextCustom,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> Result<(), Failure> {
    let (to_hash, opened) = sync_channel::<Vec<u8>>(1);
    let (to_write, hashed) = sync_channel::<Vec<u8>>(1);
    let (give_back, empty) = channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read(sealed, data_key, algorithm, &to_hash, &empty));
        let hashing = scope.spawn(move || hash(&opened, &to_write, expected.length));
        let mut written = Ok(());
        for mut block in hashed {
            written = match stop.is_asked() {
                true => Err(Failure::Stopped),
                false => sink.write(&block).map_err(Failure::Write),
            };
            if written.is_err() {
                break; // the others notice that nobody listens
            }
            block.clear();
            let _ = give_back.send(block); // the reader may be done
        }
        drop(give_back); // or the reader waits for a block for ever
        let read = reading.join().expect("reading does not panic");
        let (length, hasher) = hashing.join().expect("hashing does not panic");
        written?;
        read.map_err(|error| Failure::Image(Some(error)))?;
        let is_signed = length == expected.length
            && hasher.finalize()[..] == *expected.hashes.sha256.as_bytes();
        if is_signed { Ok(()) } else { Err(Failure::Image(None)) }
    })
}

/// Why nothing is to be used of what was written.
pub(super) enum Failure {
    /// It could not be written.
    Write(io::Error),
    /// The process is to end.
    Stopped,
    /// It does not open, or not to what was signed.
    Image(Option<Box<dyn std::error::Error + Send + Sync>>),
}

impl Failure {
    pub(super) fn into_error(self, path: &str, written: impl FnOnce(io::Error) -> Error) -> Error {
        match self {
            Self::Write(error) => written(error),
            Self::Stopped => HttpError::Stopped.into(),
            Self::Image(source) => Error::WrongImage { path: path.to_owned(), source },
        }
    }
}

/// Opens segments in order. Small ones are passed on together, so that handing over costs little.
fn read(
    sealed: File,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
    to_hash: &SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut reader =
        SegmentReader::new(BufReader::with_capacity(READ_SIZE, sealed), data_key, algorithm)?;
    let mut segment = Vec::with_capacity(algorithm.segment_size());
    let mut block = Vec::new();
    let mut blocks = 0;
    while reader.next_segment(&mut segment)?.is_some() {
        if block.is_empty() {
            std::mem::swap(&mut block, &mut segment);
        } else {
            block.extend_from_slice(&segment);
        }
        if block.len() + algorithm.segment_size() > BLOCK_SIZE {
            // Who has stopped listening says why.
            if to_hash.send(std::mem::take(&mut block)).is_err() {
                return Ok(());
            }
            blocks += 1;
            block = if blocks < BLOCKS { Vec::new() } else { empty.recv().unwrap_or_default() };
            block.reserve(BLOCK_SIZE);
        }
    }
    let _ = to_hash.send(block);
    Ok(())
}

/// Hashes what passes by. More than was signed does not pass.
fn hash(opened: &Receiver<Vec<u8>>, to_write: &SyncSender<Vec<u8>>, limit: u64) -> (u64, Sha256) {
    let mut hasher = Sha256::new();
    let mut length = 0;
    for block in opened {
        hasher.update(&block);
        length += block.len() as u64;
        if length > limit || to_write.send(block).is_err() {
            break;
        }
    }
    (length, hasher)
}

const READ_SIZE: usize = 256 * 1024; // 256 KiB
const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB
const BLOCKS: usize = 4; // in all

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::car::image;

    #[derive(Default)]
    struct Kept(Vec<u8>);

    impl Sink for Kept {
        fn write(&mut self, block: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(block);
            Ok(())
        }

        fn commit(self: Box<Self>, _: &PlaintextCustom) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_image_is_opened_whole_unless_the_process_is_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, image) = (folder.path().join("sealed"), image(3_000_000));
        std::fs::write(&path, &image.sealed).unwrap();
        let signed = image.custom("gateway", 1)["sealed"]["plaintext"].clone();
        let signed: PlaintextCustom = serde_json::from_value(signed).unwrap();
        let open = |sink: &mut Kept, stop: &Stop| {
            let (file, algorithm) = (File::open(&path).unwrap(), SealAlgorithm::Aes256GcmHkdf4Kb);
            open_into(file, &image.key, algorithm, &signed, sink, stop)
        };
        let mut whole = Kept::default();
        assert!(open(&mut whole, &Stop::never()).is_ok());
        assert_eq!(whole.0, image.plaintext);
        let mut nothing = Kept::default();
        let stopped = open(&mut nothing, &Stop::asked_already());
        assert!(matches!(stopped, Err(Failure::Stopped)) && nothing.0.is_empty());
    }
}
