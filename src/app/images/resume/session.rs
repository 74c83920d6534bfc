//! What one request brings in of an upload, from when it takes the upload to when it lets go of it.
//!
//! Goes on when the client is gone, so that what has come in is kept.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::super::ingest::{self, Sealed, UploadRequest};
use super::super::precondition::Precondition;
use super::intake::{Batch, Intake};
use super::key::{lost, not_its_own};
use super::request::StoredRequest;
use super::rules::{LEASE, REMEMBERED, check_offset};
use super::writer::Writer;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::Images;
use crate::blob::Parts;
use crate::catalog::UploadRecord;
use crate::envelope::key::DataKey;
use crate::envelope::resume::{Blocks, ResumableSealer, UploadBinding};
use crate::model::SealedImage;
use crate::model::clock::later;
use crate::telemetry::Chain;

/// An upload that this request has taken, with its key.
pub(super) struct Session {
    images: Arc<Images>,
    request: UploadRequest,
    data_key: DataKey,
    blocks: Blocks,
    writer: Writer,
    /// Number of the block that is filled next, and what has come of it before.
    block: u64,
    pending: Zeroizing<Vec<u8>>,
}

impl Session {
    /// Opens an upload that was taken.
    ///
    /// # Errors
    ///
    /// The upload, to be let go of, with [`Error::WrongOffset`] if something came in since;
    /// [`Error::Gone`] if what is stored of it is not what the catalog knows, or its key is gone;
    /// [`Error::Corrupt`] if the catalog has something else in its place.
    pub(super) async fn open(
        images: &Arc<Images>,
        taken: UploadRecord,
        at: u64,
        by: &Principal,
    ) -> Result<Self, (UploadRecord, Error)> {
        match Self::prepare(images, &taken, at, by).await {
            Ok(prepared) => {
                let Prepared { request, data_key, blocks, sealer, pending } = prepared;
                let (images, block) = (Arc::clone(images), sealer.block());
                let writer = Writer::new(&images, taken, sealer);
                Ok(Self { images, request, data_key, blocks, writer, block, pending })
            }
            Err(error @ Error::Gone { .. }) => {
                let parts = Parts::from_text(taken.upload.parts.clone());
                images.end_run(&taken.upload.id, taken.run, &parts).await;
                Err((taken, error))
            }
            Err(error) => Err((taken, error)),
        }
    }

    async fn prepare(
        images: &Arc<Images>,
        taken: &UploadRecord,
        at: u64,
        by: &Principal,
    ) -> Result<Prepared, Error> {
        check_offset(taken, at)?;
        let upload = &taken.upload;
        let stored = StoredRequest::from_json(&upload.request)?;
        let data_key = images.open_upload_key(upload).await?;
        let (id, length, algorithm) = (upload.id.as_str(), upload.length, stored.algorithm());
        let binding = UploadBinding { id, length, algorithm };
        let resumed = ResumableSealer::resume(&data_key, binding, &upload.checkpoint);
        let (sealer, pending) = resumed.map_err(|_| not_its_own(id, "checkpoint"))?;
        let blocks = sealer.blocks();
        if blocks.offset(sealer.block()) + pending.len() as u64 != taken.received {
            return Err(not_its_own(id, "offset"));
        }
        check_parts(images, taken, (blocks, sealer.block())).await?;
        let request = stored.into_request(upload.path.clone(), length, by);
        Ok(Prepared { request, data_key, blocks, sealer, pending })
    }

    /// Takes in what comes, to its end or to where it breaks off, and publishes the image once it is
    /// whole.
    ///
    /// # Errors
    ///
    /// As of [`Images::append`].
    pub(super) async fn run(self, pieces: mpsc::Receiver<Bytes>) -> Result<(), Error> {
        let Self { images, request, data_key, blocks, writer, block, pending } = self;
        let kept = Kept::start(&images, &writer);
        let (to_writer, batches) = mpsc::channel(1);
        let writing = tokio::spawn(write(writer, batches));
        let together = images.blobs.best_part();
        let intake = Intake::new(blocks, block, &pending, (to_writer, together));
        let before = pending.len();
        let pending = receive(intake, pieces).await;
        let (mut writer, written) =
            writing.await.map_err(Error::internal("write a part of an image"))?;
        let outcome = match (written, writer.sealed_image()) {
            (Ok(()), Some(image)) => {
                let commit = images.commit_upload(request, image, data_key, &writer);
                Some(commit.await)
            }
            (Ok(()), None) => None,
            (Err(error), _) => Some(Err(error)),
        };
        match outcome {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                drop(kept);
                if let Err(unsaved) = writer.close(&[]).await {
                    tracing::warn!(error = %Chain(&unsaved), "an upload stays taken for a while");
                }
                Err(error)
            }
            None => {
                let is_same_block = writer.block() == Some(block);
                let added = pending.len() - if is_same_block { before } else { 0 };
                // The turn may be long in coming, and the upload is kept until then.
                let close = async {
                    drop(kept);
                    writer.close(&pending).await
                };
                images.small_parts.save((pending.len(), added), close).await
            }
        }
    }
}

struct Prepared {
    request: UploadRequest,
    data_key: DataKey,
    blocks: Blocks,
    sealer: ResumableSealer,
    pending: Zeroizing<Vec<u8>>,
}

/// More bytes than the catalog knows of are from after a backup that it was restored from: their
/// nonces were used. With fewer, or none and not even their beginning, as in a backup that was
/// restored elsewhere, nobody knows which were.
async fn check_parts(
    images: &Images,
    taken: &UploadRecord,
    (blocks, block): (Blocks, u64),
) -> Result<(), Error> {
    let parts = Parts::from_text(taken.upload.parts.clone());
    let there = images.blobs.parts_length(&parts).await?;
    let least = blocks.sealed_offset(block);
    let most = blocks.sealed_offset(block + taken.intents.len() as u64);
    if there.is_some_and(|there| (least..=most).contains(&there)) {
        return Ok(());
    }
    Err(lost())
}

async fn receive(mut intake: Intake, mut pieces: mpsc::Receiver<Bytes>) -> Zeroizing<Vec<u8>> {
    let mut taken = Ok(());
    while taken.is_ok()
        && let Some(piece) = pieces.recv().await
    {
        taken = intake.take(&piece).await;
    }
    intake.finish().await
}

async fn write(
    mut writer: Writer,
    mut batches: mpsc::Receiver<Batch>,
) -> (Writer, Result<(), Error>) {
    while let Some(batch) = batches.recv().await {
        if let Err(error) = writer.write(batch).await {
            return (writer, Err(error));
        }
    }
    (writer, Ok(()))
}

impl Images {
    /// Publishes an image whose last block is on the disk. Until then that block counts as not
    /// received, so that whoever sends it again has this tried again.
    async fn commit_upload(
        self: &Arc<Self>,
        request: UploadRequest,
        image: SealedImage,
        data_key: DataKey,
        writer: &Writer,
    ) -> Result<(), Error> {
        let (id, run) = writer.run();
        if let Err(error) = ingest::check_digest(&request, image.plaintext_sha256) {
            self.end_run(id, run, writer.parts()).await;
            return Err(error);
        }
        // A server that was killed after the image was accepted, and before that was noted here.
        let existing = self.catalog.find_image(&request.path).await?;
        if existing.as_ref().is_some_and(|existing| existing.sealed.sha256 == image.sha256) {
            // What was expected was true before this very image was there.
            let request = UploadRequest { precondition: Precondition::default(), ..request };
            self.confirm(&request).await?;
        } else {
            request.precondition.check(existing.as_ref())?;
            let staged = self.blobs.finish_parts(writer.parts(), image.length).await?;
            let running = self.metrics.start_upload();
            let accepted =
                self.commit_unattended(request, Sealed { image, staged }, data_key).await;
            ingest::count_outcome(running, &accepted);
            accepted?;
        }
        self.catalog.complete_upload(id, later(self.now(), REMEMBERED)).await?;
        self.abandon(writer.parts()).await;
        Ok(())
    }
}

/// Keeps an upload for its run, until this is dropped.
struct Kept(tokio::task::JoinHandle<()>);

impl Kept {
    fn start(images: &Arc<Images>, writer: &Writer) -> Self {
        let (id, run) = writer.run();
        let (images, id) = (Arc::clone(images), id.to_owned());
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE / 4).await;
                let now = images.now();
                let expires_at = later(now, images.limits.upload_expiry);
                let kept = images.catalog.keep_upload((&id, run), later(now, LEASE), expires_at);
                if let Err(error) = kept.await {
                    tracing::warn!(upload.id = id, %error, "failed to keep an upload");
                }
            }
        }))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}
