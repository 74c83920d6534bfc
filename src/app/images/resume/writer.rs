//! Seals blocks and brings them to the disk, in the order that docs/FORMAT.md, 6.9, asks for.

use std::sync::Arc;

use bytes::Bytes;

use super::super::ingest::seal_error;
use super::intake::Batch;
use super::rules::LEASE;
use crate::app::Error;
use crate::app::images::Images;
use crate::blob::Parts;
use crate::catalog::{UploadProgress, UploadRecord};
use crate::envelope::resume::{ResumableSealer, Withheld};
use crate::model::clock::later;
use crate::model::{SealedImage, Sha256Digest, Timestamp};

/// One run of an upload: nobody else writes while it has not lost the upload.
pub(super) struct Writer {
    images: Arc<Images>,
    id: String,
    run: u64,
    parts: Parts,
    /// None once a step has failed: what is known then is what is in `durable`.
    sealer: Option<ResumableSealer>,
    durable: Durable,
    /// What is recorded for the blocks from `durable` on.
    intents: Vec<Sha256Digest>,
}

/// What stays, whatever happens from now on.
struct Durable {
    received: u64,
    checkpoint: Vec<u8>,
}

impl Writer {
    pub(super) fn new(images: &Arc<Images>, record: UploadRecord, sealer: ResumableSealer) -> Self {
        let UploadRecord { upload, received, intents, run, .. } = record;
        Self {
            images: Arc::clone(images),
            id: upload.id,
            run,
            parts: Parts::from_text(upload.parts),
            sealer: Some(sealer),
            durable: Durable { received, checkpoint: upload.checkpoint },
            intents,
        }
    }

    /// Id and run of the upload.
    pub(super) fn run(&self) -> (&str, u64) {
        (&self.id, self.run)
    }

    /// Number of the block that is written next; none once a step has failed.
    pub(super) fn block(&self) -> Option<u64> {
        self.sealer.as_ref().map(ResumableSealer::block)
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The sealed image, once its last block is on the disk.
    pub(super) fn sealed_image(&self) -> Option<SealedImage> {
        self.sealer.as_ref().and_then(ResumableSealer::sealed_image)
    }

    /// Writes blocks: seals them, records what they are sealed to, and only then lets them go.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if one of them was sealed from other bytes before;
    /// [`Error::Conflict`] if the upload is somebody else's by now; [`Error::Full`];
    /// [`Error::Internal`].
    pub(super) async fn write(&mut self, batch: Batch) -> Result<(), Error> {
        let sealer = self.sealer.take().ok_or_else(stopped)?;
        let at = sealer.blocks().sealed_offset(sealer.block());
        let sealing = tokio::task::spawn_blocking(move || seal(sealer, batch)).await;
        let Sealing { sealer, withheld, checkpoint } =
            sealing.map_err(Error::internal("seal a part of an image"))??;
        let recorded = self.record(&withheld).await?;
        let count = withheld.len();
        let released = release(withheld, &recorded)?;
        let keep_free = self.images.reserved_space();
        self.images.blobs.append_part(&mut self.parts, at, released, keep_free).await?;
        // The last one is not kept as received: the image is, once it is published.
        if sealer.sealed_image().is_none() {
            let received = sealer.blocks().offset(sealer.block());
            self.durable = Durable { received, checkpoint };
            self.intents.drain(..count);
        }
        self.sealer = Some(sealer);
        Ok(())
    }

    /// Has it on the disk, before any of these blocks is released, that they are what they are, in
    /// the catalog and for good beside the sealed bytes: it is refused what differs from what is
    /// recorded. Returns what is.
    async fn record(&mut self, withheld: &[Withheld]) -> Result<Vec<Sha256Digest>, Error> {
        for (place, block) in withheld.iter().enumerate() {
            match self.intents.get(place) {
                Some(recorded) if *recorded != block.digest() => return Err(other_bytes()),
                Some(_) => {}
                None => self.intents.push(block.digest()),
            }
        }
        self.save(Some(later(self.images.now(), LEASE))).await?;
        let Some(first) = withheld.first().map(Withheld::block) else { return Ok(Vec::new()) };
        let digests: Vec<Sha256Digest> = withheld.iter().map(Withheld::digest).collect();
        let recorded = self.images.blobs.record_blocks(&self.parts, first, &digests).await?;
        if recorded != digests {
            self.intents.clone_from(&recorded); // the catalog was set back: that is what holds
        }
        Ok(recorded)
    }

    /// Saves what is durable, with what is recorded; lets go of the upload if it is not kept on.
    async fn save(&self, lease_until: Option<Timestamp>) -> Result<(), Error> {
        let progress = UploadProgress {
            received: self.durable.received,
            checkpoint: &self.durable.checkpoint,
            intents: &self.intents,
            parts: self.parts.as_str(),
            lease_until,
            expires_at: later(self.images.now(), self.images.limits.upload_expiry),
        };
        if self.images.catalog.save_upload(self.run(), &progress).await? {
            return Ok(());
        }
        let detail = "another request has taken this upload over, or ended it: ask for its offset";
        Err(Error::Conflict { code: "upload_taken", detail: detail.into() })
    }

    /// Lets others take the upload; keeps what came in of the next block, too.
    ///
    /// # Errors
    ///
    /// As of [`Self::write`].
    pub(super) async fn close(&mut self, pending: &[u8]) -> Result<(), Error> {
        if let Some(sealer) = self.sealer.as_ref().filter(|sealer| sealer.sealed_image().is_none())
        {
            let before = sealer.blocks().offset(sealer.block());
            self.durable = Durable {
                received: before + pending.len() as u64,
                checkpoint: sealer.checkpoint(pending),
            };
        }
        self.save(None).await
    }
}

struct Sealing {
    sealer: ResumableSealer,
    withheld: Vec<Withheld>,
    /// From where to go on once these are on the disk.
    checkpoint: Vec<u8>,
}

fn seal(mut sealer: ResumableSealer, batch: Batch) -> Result<Sealing, Error> {
    let blocks = batch.into_iter().map(|mut block| sealer.seal(std::mem::take(&mut *block)));
    let withheld = blocks.collect::<Result<_, _>>().map_err(seal_error)?;
    let checkpoint = sealer.checkpoint(&[]);
    Ok(Sealing { sealer, withheld, checkpoint })
}

fn release(withheld: Vec<Withheld>, recorded: &[Sha256Digest]) -> Result<Vec<Bytes>, Error> {
    let against_recorded = withheld.into_iter().zip(recorded);
    let released = against_recorded.map(|(block, recorded)| block.release(recorded));
    released.map(|bytes| bytes.map(Bytes::from).map_err(|_| other_bytes())).collect()
}

fn other_bytes() -> Error {
    let detail = "these are other bytes than were sent for this place before: send the same image again, or end this \
                  upload with DELETE and begin another one";
    Error::Unprocessable { code: "other_bytes", detail: detail.into() }
}

fn stopped() -> Error {
    Error::internal("write a part of an image")(std::io::Error::other("an earlier part failed"))
}
