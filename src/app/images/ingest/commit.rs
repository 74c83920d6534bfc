//! Commit: from a sealed, staged image to a published one, whole or not at all.
//!
//! Goes on when the client is gone. The names of the blobs are announced in the catalog before the
//! first one is visible, and the transaction that accepts the image takes them back, so that a
//! crash at any point leaves either an accepted image or names by which
//! [`Upkeep::recover`](crate::app::upkeep::Upkeep::recover) finds what to remove.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tracing::Instrument;

use super::lister::Lister;
use super::{
    Accepted, Original, UploadRequest, bounds, check_same_description, other_bytes, pipeline,
};
use crate::app::Error;
use crate::app::access::check_token_still_valid;
use crate::app::images::Images;
use crate::app::images::announced::overtaken;
use crate::app::keys::escrow_failed;
use crate::blob::{self, BlobKey, StagedBlob};
use crate::catalog::{AnnouncedBlobs, Author, ListingBound, NewImage};
use crate::envelope::jwe::EnvelopeError;
use crate::envelope::key::{DataKey, RecipientKey};
use crate::keys::{EscrowKeys, escrow};
use crate::model::{ImageRecord, SealAlgorithm, SealedImage, Sha256Digest, TargetEntry};
use crate::telemetry::UploadStage;
use crate::uptane::custom::ImageCustom;

impl Images {
    /// Runs the commit to its end, whether or not the client waits for it.
    pub(in crate::app::images) async fn commit_unattended(
        self: &Arc<Self>,
        request: UploadRequest,
        sealed: pipeline::Sealed,
        data_key: DataKey,
    ) -> Result<Accepted, Error> {
        let images = Arc::clone(self);
        let commit =
            async move { images.commit(request, sealed, data_key).await }.in_current_span();
        let commit = self.tasks.spawn_on(commit, &self.runtime);
        commit.await.map_err(Error::internal("finish an upload"))?
    }

    #[tracing::instrument(skip_all)]
    async fn commit(
        self: &Arc<Self>,
        request: UploadRequest,
        sealed: pipeline::Sealed,
        data_key: DataKey,
    ) -> Result<Accepted, Error> {
        let pipeline::Sealed { image, staged } = sealed;
        // An upload may take hours: its token may have been revoked, and a recipient removed, since
        // it was planned.
        check_token_still_valid(&self.catalog, &request.by.id, self.clock.now()).await?;
        let sealing = self.sealing.read().await;
        let recipients = self
            .choose_recipients(&request.description.hardware_ids, request.recipients.as_deref())
            .await?;
        let secret = (data_key, request.algorithm);
        // Held to the end: a rotation waits for what is wrapped with these.
        let escrow = self.escrow.keys();
        let envelope = self.seal_envelope(&escrow, secret, image.sha256, recipients).await?;
        let lister = self.find_lister(&request).await?; // delegations may have changed too
        if let Some(Original { path, wanted }) = &request.copy_of {
            self.check_not_yanked(path).await?;
            if wanted.is_cancelled() {
                return Err(Error::ClientGone);
            }
        }
        let (new, keys) = self.assemble(&request, image, &envelope, &lister);
        // Beside each other: each has to reach the disk.
        let (announced, envelope) = tokio::join!(
            self.catalog.announce_blobs(&new.blobs.names, self.upload_holder()),
            self.blobs.stage_all(vec![envelope.public.into()])
        );
        announced.map_err(overtaken)?;
        let bound = bounds::bound(&request, &lister);
        let record = new.record.clone();
        let inserted = (new, request.by.author(record.created_at));
        let stored = self.store_and_insert(inserted, &bound, &keys, staged, envelope).await;
        drop(sealing);
        // A commit that failed may have taken place all the same, or may yet; the catalog knows.
        let accepted = match &stored {
            Ok(()) => Some(true),
            Err(_) => self.catalog.has_accepted_image(&request.path, image.sha256).await.ok(),
        };
        match stored {
            Err(error) if accepted != Some(true) => {
                if accepted == Some(false) {
                    self.discard_blobs(&keys).await;
                } // if nobody knows, their announcement leads the next start to them
                self.resolve_race(&request, image, error).await
            }
            stored => {
                if stored.is_err() {
                    self.forget_announced(&keys).await;
                }
                self.metrics.add_sealed_bytes(image.plaintext_length);
                self.count_published(1);
                tracing::info!(image.path = %request.path, size_bytes = image.plaintext_length, "image sealed");
                let _timer = self.metrics.time_upload_stage(UploadStage::Publish);
                self.publisher.publish().await?;
                Ok(Accepted::Created(record))
            }
        }
    }

    async fn seal_envelope(
        self: &Arc<Self>,
        escrow: &EscrowKeys,
        secret: (DataKey, SealAlgorithm),
        image: Sha256Digest,
        recipients: Vec<RecipientKey>,
    ) -> Result<EnvelopeTexts, Error> {
        let _timer = self.metrics.time_upload_stage(UploadStage::Envelope);
        let sealed = escrow::seal(escrow, secret, image, recipients).await;
        let envelope = sealed.map_err(escrow_failed(SEAL))?;
        let write = move || {
            Ok::<_, EnvelopeError>(EnvelopeTexts {
                public: envelope.public_json()?,
                with_escrow: envelope.to_json_with_escrow(),
            })
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(Error::internal(SEAL))?;
        written.map_err(Error::internal(SEAL))
    }

    fn assemble(
        &self,
        request: &UploadRequest,
        sealed: SealedImage,
        envelope: &EnvelopeTexts,
        lister: &Lister,
    ) -> (NewImage, [BlobKey; 2]) {
        let public = &envelope.public;
        let envelope_sha256 = Sha256Digest::from_bytes(Sha256::digest(public.as_bytes()).into());
        let (path, envelope_path) = (request.path.to_string(), request.path.envelope_path());
        let keys = [
            BlobKey::target(path.clone(), sealed.sha256),
            BlobKey::target(envelope_path.clone(), envelope_sha256),
        ];
        let image_target = TargetEntry {
            path,
            length: sealed.length,
            sha256: sealed.sha256,
            custom: Some(ImageCustom::new(&request.description, &sealed).to_json()),
        };
        let envelope_target = TargetEntry {
            path: envelope_path,
            length: public.len() as u64,
            sha256: envelope_sha256,
            custom: None,
        };
        let new = NewImage {
            record: ImageRecord {
                path: request.path.clone(),
                description: request.description.clone(),
                sealed,
                created_at: self.clock.now(),
                created_by: request.by.id.clone(),
                yanked_at: None,
            },
            envelope: envelope.with_escrow.clone(),
            targets: [image_target, envelope_target]
                .map(|target| (self.role_of(lister, &target.path), target))
                .into(),
            blobs: AnnouncedBlobs {
                names: keys.iter().map(BlobKey::name).collect(),
                owner: self.server_id.clone(),
            },
        };
        (new, keys)
    }

    async fn store_and_insert(
        &self,
        (new, author): (NewImage, Author),
        bound: &ListingBound,
        keys: &[BlobKey; 2],
        staged: Box<dyn StagedBlob>,
        envelope: Result<Vec<Box<dyn StagedBlob>>, blob::Error>,
    ) -> Result<(), Error> {
        let blobs = std::iter::once(staged).chain(envelope?).zip(keys.iter().cloned());
        self.blobs.promote_all(blobs.collect()).await?;
        self.catalog.insert_images(&[new], bound, &author).await.map_err(overtaken)
    }

    async fn discard_blobs(&self, keys: &[BlobKey]) {
        for key in keys {
            self.discard_announced(key).await;
        }
    }

    /// What an accepted image needs is not to be taken for what a crash has left.
    async fn forget_announced(&self, keys: &[BlobKey]) {
        for key in keys {
            if let Err(error) = self.catalog.forget_pending_blob(&key.name()).await {
                tracing::warn!(blob = %key, %error, "a blob that is needed is still announced");
            }
        }
    }

    /// Two uploads to one path were sealed at the same time, and the other one was first: same
    /// bytes, same answer.
    async fn resolve_race(
        self: &Arc<Self>,
        request: &UploadRequest,
        sealed: SealedImage,
        error: Error,
    ) -> Result<Accepted, Error> {
        if !matches!(error, Error::Conflict { .. }) {
            return Err(error);
        }
        let existing = self.catalog.find_image(&request.path).await?.ok_or(error)?;
        check_same_description(request, &existing)?;
        if existing.sealed.plaintext_sha256 != sealed.plaintext_sha256 {
            return Err(other_bytes(&request.path));
        }
        self.confirm(request).await
    }
}

/// An envelope as JSON, for everyone and for the catalog.
struct EnvelopeTexts {
    public: String,
    with_escrow: String,
}

const SEAL: &str = "seal an envelope";
