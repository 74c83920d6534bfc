//! The one pass over an upload: hash the plaintext, seal it, hash what was sealed, write it.
//!
//! ```text
//! socket → receive → hash plaintext → seal → hash sealed → write → staged blob
//!             ↑                                              │
//!             └───────────────── empty blocks ───────────────┘
//! ```
//!
//! Each arrow is a bounded channel and each step after `receive` a thread of its own, so that the
//! steps run beside each other on several cores. A fixed number of blocks goes round: when the
//! slowest step holds them all, the socket is not read, and the client waits. Plaintext exists only
//! in these blocks, which are overwritten by their own ciphertext or, if an upload breaks off, with
//! zeros.

use std::time::Instant;

use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;
use zeroize::Zeroize;

use super::body::Body;
use crate::app::Error;
use crate::blob::{self, BlobUpload, StagedBlob};
use crate::envelope::key::DataKey;
use crate::envelope::segment::{HEADER_SIZE, Layout, Position, SealError, SegmentSealer, TAG_SIZE};
use crate::model::{SealAlgorithm, SealedImage, Sha256Digest};
use crate::telemetry::{Metrics, UploadStage};

/// An image that is sealed and staged, but not visible yet.
pub(in crate::app::images) struct Sealed {
    pub(in crate::app::images) image: SealedImage,
    pub(in crate::app::images) staged: Box<dyn StagedBlob>,
}

/// Seals a body into `upload`.
///
/// # Errors
///
/// What [`Body::next`] says, [`Error::Full`], [`Error::Internal`]. The staged bytes are gone then;
/// so they are when the returned future is dropped, as soon as the step that writes has seen it:
/// `until_removed` lives that long.
pub(super) async fn seal<S>(
    mut body: Body<'_, S>,
    data_key: &DataKey,
    algorithm: SealAlgorithm,
    upload: Box<dyn BlobUpload>,
    until_removed: TaskTrackerToken,
    metrics: &Metrics,
) -> Result<Sealed, Error>
where
    S: futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Unpin,
{
    let sealer = SegmentSealer::new(data_key, algorithm)
        .map_err(Error::internal("start to seal an image"))?;
    let (mut intake, steps) = start(sealer, algorithm, upload, until_removed)?;
    let started = Instant::now();
    while let Some(piece) = body.next().await? {
        if intake.take(&piece).await.is_err() {
            break; // a step has given up, and says why below
        }
    }
    intake.finish().await;
    metrics.add_upload_stage(UploadStage::Receive, started.elapsed());
    steps.join(algorithm, metrics).await
}

/// Part of an image: some whole segments, first as plaintext, then sealed.
struct Block {
    bytes: Vec<u8>,
    position: Position,
}

/// A block that never got to the end may still be plaintext.
impl Drop for Block {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// The end of the pipeline that bytes are put into.
struct Intake {
    to_hash: mpsc::Sender<Block>,
    empty: mpsc::UnboundedReceiver<Vec<u8>>,
    blocks_left_to_make: usize,
    block: Vec<u8>,
    /// Bytes of plaintext that the current block takes.
    capacity: usize,
    layout: Layout,
    segments_per_block: usize,
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.block.zeroize();
    }
}

/// A step has stopped.
struct Stopped;

impl Intake {
    async fn take(&mut self, mut piece: &[u8]) -> Result<(), Stopped> {
        while !piece.is_empty() {
            if self.block.len() == self.capacity {
                self.pass_on(Position::Middle).await?; // more has come, so this block is not the last
                self.block = self.empty_block().await?;
                self.capacity = self.segments_per_block * self.layout.plaintext_capacity(1);
            }
            let (now, later) = piece.split_at(piece.len().min(self.capacity - self.block.len()));
            self.block.extend_from_slice(now);
            piece = later;
        }
        Ok(())
    }

    async fn finish(mut self) {
        let _ = self.pass_on(Position::Last).await; // if a step has stopped, it says why
    }

    async fn pass_on(&mut self, position: Position) -> Result<(), Stopped> {
        let bytes = std::mem::take(&mut self.block);
        self.to_hash.send(Block { bytes, position }).await.map_err(|_| Stopped)
    }

    async fn empty_block(&mut self) -> Result<Vec<u8>, Stopped> {
        if let Ok(block) = self.empty.try_recv() {
            return Ok(block);
        }
        if self.blocks_left_to_make > 0 {
            self.blocks_left_to_make -= 1;
            return Ok(Vec::with_capacity(BLOCK_SIZE));
        }
        self.empty.recv().await.ok_or(Stopped)
    }
}

/// What comes out of the steps once they have run to their end.
struct Steps {
    plaintext: oneshot::Receiver<Option<Hashed>>,
    sealing: oneshot::Receiver<Result<Timed<()>, SealError>>,
    sealed: oneshot::Receiver<Option<Hashed>>,
    written: oneshot::Receiver<Result<Option<Written>, blob::Error>>,
}

struct Timed<T> {
    value: T,
    busy: std::time::Duration,
}

type Hashed = Timed<(u64, Sha256Digest)>;
type Written = Timed<Box<dyn StagedBlob>>;

fn start(
    sealer: SegmentSealer,
    algorithm: SealAlgorithm,
    upload: Box<dyn BlobUpload>,
    until_removed: TaskTrackerToken,
) -> Result<(Intake, Steps), Error> {
    let header = *sealer.header();
    let (to_hash, from_socket) = mpsc::channel(1);
    let (to_seal, from_hash) = mpsc::channel(1);
    let (to_hash_sealed, from_seal) = mpsc::channel(1);
    let (to_write, from_hash_sealed) = mpsc::channel(1);
    let (give_back, empty) = mpsc::unbounded_channel();
    let steps = Steps {
        plaintext: step("hash-plain", move || hash(Vec::new(), from_socket, to_seal))?,
        sealing: step("seal", move || seal_blocks(sealer, from_hash, to_hash_sealed))?,
        sealed: step("hash-sealed", move || hash(header.to_vec(), from_seal, to_write))?,
        written: step("write", move || {
            let written = write(header, from_hash_sealed, upload, give_back);
            drop(until_removed);
            written
        })?,
    };
    let layout = Layout::of(algorithm);
    let segments_per_block = BLOCK_SIZE / algorithm.segment_size();
    let intake = Intake {
        to_hash,
        empty,
        blocks_left_to_make: BLOCKS - 1,
        block: Vec::with_capacity(BLOCK_SIZE),
        capacity: segments_per_block * layout.plaintext_capacity(1) - HEADER_SIZE,
        layout,
        segments_per_block,
    };
    Ok((intake, steps))
}

impl Steps {
    async fn join(self, algorithm: SealAlgorithm, metrics: &Metrics) -> Result<Sealed, Error> {
        // Whoever failed first made the steps before it stop, so the last one knows best.
        let written = self.written.await.map_err(Error::internal("write a sealed image"))??;
        let sealed = self.sealed.await.map_err(Error::internal("hash a sealed image"))?;
        let sealing =
            self.sealing.await.map_err(Error::internal("seal an image"))?.map_err(seal_error)?;
        let plaintext = self.plaintext.await.map_err(Error::internal("hash an image"))?;
        let (Some(written), Some(sealed), Some(plaintext)) = (written, sealed, plaintext) else {
            return Err(Error::ClientGone);
        };
        for (stage, busy) in [
            (UploadStage::HashPlaintext, plaintext.busy),
            (UploadStage::Seal, sealing.busy),
            (UploadStage::HashSealed, sealed.busy),
            (UploadStage::Write, written.busy),
        ] {
            metrics.add_upload_stage(stage, busy);
        }
        let (plaintext_length, plaintext_sha256) = plaintext.value;
        let (length, sha256) = sealed.value;
        let image = SealedImage { algorithm, length, sha256, plaintext_length, plaintext_sha256 };
        Ok(Sealed { image, staged: written.value })
    }
}

/// What is said of an image that can't be sealed.
pub(in crate::app::images) fn seal_error(error: SealError) -> Error {
    match error {
        SealError::TooLong => Error::Unprocessable {
            code: "image_too_long",
            detail:
                "the image is longer than its sealing algorithm can hold: use AES256_GCM_HKDF_1MB"
                    .into(),
        },
        other @ (SealError::SegmentSize { .. } | SealError::Finished | SealError::Randomness) => {
            Error::internal("seal an image")(other)
        }
    }
}

/// Hashes blocks and passes them on; `None` if the last one never came.
fn hash(
    header: Vec<u8>,
    mut blocks: mpsc::Receiver<Block>,
    next: mpsc::Sender<Block>,
) -> Option<Hashed> {
    let mut hasher = Sha256::new_with_prefix(&header);
    let mut length = header.len() as u64;
    let mut busy = std::time::Duration::ZERO;
    while let Some(block) = blocks.blocking_recv() {
        let started = Instant::now();
        hasher.update(&block.bytes);
        length += block.bytes.len() as u64;
        busy += started.elapsed();
        let position = block.position;
        next.blocking_send(block).ok()?;
        if position == Position::Last {
            let sha256 = Sha256Digest::from_bytes(hasher.finalize().into());
            return Some(Timed { value: (length, sha256), busy });
        }
    }
    None
}

fn seal_blocks(
    mut sealer: SegmentSealer,
    mut blocks: mpsc::Receiver<Block>,
    next: mpsc::Sender<Block>,
) -> Result<Timed<()>, SealError> {
    let mut busy = std::time::Duration::ZERO;
    let mut spare = Spare { segment: Vec::with_capacity(4096), sealed: Vec::new() };
    while let Some(mut block) = blocks.blocking_recv() {
        let started = Instant::now();
        seal_block(&mut sealer, &mut block, &mut spare)?;
        busy += started.elapsed();
        if next.blocking_send(block).is_err() {
            break;
        }
    }
    Ok(Timed { value: (), busy })
}

/// Buffers for blocks of several segments.
struct Spare {
    segment: Vec<u8>,
    sealed: Vec<u8>,
}

fn seal_block(
    sealer: &mut SegmentSealer,
    block: &mut Block,
    spare: &mut Spare,
) -> Result<(), SealError> {
    if block.bytes.len() <= sealer.next_capacity() {
        return sealer.seal(&mut block.bytes, block.position);
    }
    spare.sealed.clear();
    let mut rest = block.bytes.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(sealer.next_capacity()));
        spare.segment.clear();
        spare.segment.extend_from_slice(now);
        let position = if later.is_empty() { block.position } else { Position::Middle };
        sealer.seal(&mut spare.segment, position)?;
        spare.sealed.extend_from_slice(&spare.segment);
        rest = later;
    }
    std::mem::swap(&mut block.bytes, &mut spare.sealed);
    spare.sealed.zeroize(); // the plaintext, whose place the sealed block has taken
    Ok(())
}

/// Writes blocks and gives their memory back; `None`, and nothing is kept, if the last one never
/// came.
fn write(
    header: [u8; HEADER_SIZE],
    mut blocks: mpsc::Receiver<Block>,
    mut upload: Box<dyn BlobUpload>,
    give_back: mpsc::UnboundedSender<Vec<u8>>,
) -> Result<Option<Written>, blob::Error> {
    let mut busy = std::time::Duration::ZERO;
    upload.write(&header)?;
    while let Some(mut block) = blocks.blocking_recv() {
        let started = Instant::now();
        upload.write(&block.bytes)?;
        if block.position == Position::Last {
            let value = upload.finish()?;
            return Ok(Some(Timed { value, busy: busy + started.elapsed() }));
        }
        busy += started.elapsed();
        let mut bytes = std::mem::take(&mut block.bytes);
        bytes.clear();
        let _ = give_back.send(bytes); // the intake may be done already
    }
    Ok(None)
}

/// Runs one step on a thread of its own: shared pools could give half of an upload's steps a thread
/// and let them wait for the other half forever.
fn step<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Error> {
    let (report, outcome) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_SIZE)
        .spawn(move || drop(report.send(work())))
        .map_err(Error::internal("start a thread"))?;
    Ok(outcome)
}

const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB: one segment of AES256_GCM_HKDF_1MB, 256 of AES256_GCM_HKDF_4KB
const BLOCKS: usize = 8; // one in each of the five steps, and three to keep them from waiting
const STACK_SIZE: usize = 256 * 1024; // 256 KiB
const _: () = assert!(BLOCK_SIZE > HEADER_SIZE + TAG_SIZE);
