//! Cuts what comes in into blocks, and gives them to the writer some at a time.

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::envelope::resume::{BLOCK_SIZE, Blocks};

/// Plaintext of some blocks that follow each other.
pub(super) type Batch = Vec<Zeroizing<Vec<u8>>>;

/// The writer has given up.
pub(super) struct Stopped;

/// What has come in and is not written yet.
pub(super) struct Intake {
    blocks: Blocks,
    /// Number of the block that is filled.
    number: u64,
    block: Zeroizing<Vec<u8>>,
    batch: Batch,
    /// Blocks of a batch: each costs a commit in the catalog, and a sync or a request.
    most: usize,
    to_writer: mpsc::Sender<Batch>,
}

impl Intake {
    /// Goes on with a block of which some has come before, and passes on as much at a time as is best
    /// written together, in bytes.
    pub(super) fn new(
        blocks: Blocks,
        number: u64,
        pending: &[u8],
        (to_writer, together): (mpsc::Sender<Batch>, usize),
    ) -> Self {
        let most = (together / BLOCK_SIZE).max(1);
        let (block, batch) = (Zeroizing::default(), Vec::new());
        let mut intake = Self { blocks, number, block, batch, most, to_writer };
        intake.begin_block();
        intake.block.extend_from_slice(pending);
        intake
    }

    /// Takes a piece; an empty image is whole with an empty one, which it **must** get once.
    pub(super) async fn take(&mut self, mut piece: &[u8]) -> Result<(), Stopped> {
        if piece.is_empty() {
            return self.pass_on_if_full().await;
        }
        while !piece.is_empty() && self.room() > 0 {
            let (now, later) = piece.split_at(piece.len().min(self.room()));
            self.block.extend_from_slice(now);
            piece = later;
            self.pass_on_if_full().await?;
        }
        Ok(())
    }

    /// Passes all full blocks on, and returns what there is of the next one.
    pub(super) async fn finish(mut self) -> Zeroizing<Vec<u8>> {
        let _ = self.pass_on().await; // a writer that has given up says why
        self.block
    }

    async fn pass_on_if_full(&mut self) -> Result<(), Stopped> {
        if self.room() > 0 {
            return Ok(());
        }
        // By itself: once it is written the image is committed, and those before it are kept then.
        if self.blocks.is_last(self.number) {
            self.pass_on().await?;
        }
        self.batch.push(std::mem::take(&mut self.block));
        if self.blocks.is_last(self.number) || self.batch.len() == self.most {
            self.pass_on().await?;
        }
        self.number += 1;
        self.begin_block();
        Ok(())
    }

    async fn pass_on(&mut self) -> Result<(), Stopped> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.to_writer.send(std::mem::take(&mut self.batch)).await.map_err(|_| Stopped)
    }

    fn begin_block(&mut self) {
        // All at once: growing would leave plaintext behind. It is sealed where it is.
        self.block = Zeroizing::new(Vec::with_capacity(self.blocks.sealed_room(self.number)));
    }

    fn room(&self) -> usize {
        self.blocks.room(self.number) - self.block.len()
    }
}
