//! What an image is accepted with: its envelope for the recipients and the escrow key of this moment,
//! and its entries in the metadata.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::lister::Lister;
use super::{Original, UploadRequest, bounds};
use crate::app::Error;
use crate::app::images::Images;
use crate::app::images::announced::overtaken;
use crate::app::keys::escrow_failed;
use crate::blob::{self, BlobKey, StagedBlob};
use crate::catalog::{AnnouncedBlobs, ListingBound, NewImage};
use crate::envelope::jwe::EnvelopeError;
use crate::envelope::key::{DataKey, RecipientKey};
use crate::keys::{EscrowKeys, escrow};
use crate::model::{ImageRecord, SealAlgorithm, SealedImage, Sha256Digest, TargetEntry};
use crate::telemetry::UploadStage;
use crate::uptane::custom::ImageCustom;

/// An image whose blobs are announced, and that is not accepted yet.
pub(super) struct Ready {
    pub(super) new: NewImage,
    pub(super) bound: ListingBound,
    /// The blob of the image, and that of its envelope.
    pub(super) keys: [BlobKey; 2],
    pub(super) envelope: Result<Vec<Box<dyn StagedBlob>>, blob::Error>,
    /// Held to the end: a rotation waits for what is wrapped with these.
    _escrow: Arc<EscrowKeys>,
}

impl Images {
    /// Wraps an image's data key for whom it is for now, and announces its blobs.
    ///
    /// # Errors
    ///
    /// As of an upload; nothing is stored then.
    pub(super) async fn make_ready(
        &self,
        request: &UploadRequest,
        secret: &Secret,
        image: SealedImage,
    ) -> Result<Ready, Error> {
        let hardware_ids = &request.description.hardware_ids;
        let recipients =
            self.choose_recipients(hardware_ids, request.recipients.as_deref()).await?;
        let escrow = self.escrow.keys();
        let envelope = self.seal_envelope(&escrow, secret, image.sha256, recipients).await?;
        let lister = self.find_lister(request).await?; // delegations may have changed too
        if let Some(Original { path, wanted }) = &request.copy_of {
            self.check_not_yanked(path).await?;
            if wanted.is_cancelled() {
                return Err(Error::ClientGone);
            }
        }
        let (new, keys) = self.assemble(request, image, &envelope, &lister);
        // Beside each other: each has to reach the disk.
        let (announced, envelope) = tokio::join!(
            self.catalog.announce_blobs(&new.blobs.names, self.upload_holder()),
            self.blobs.stage_all(vec![envelope.public.into()])
        );
        announced.map_err(overtaken)?;
        let bound = bounds::bound(request, &lister);
        Ok(Ready { new, bound, keys, envelope, _escrow: escrow })
    }

    async fn seal_envelope(
        &self,
        keys: &EscrowKeys,
        (data_key, algorithm): &Secret,
        image: Sha256Digest,
        recipients: Vec<RecipientKey>,
    ) -> Result<EnvelopeTexts, Error> {
        let _timer = self.metrics.time_upload_stage(UploadStage::Envelope);
        let secret = (Arc::clone(data_key), *algorithm);
        let sealed = escrow::seal(keys, secret, image, recipients).await;
        let envelope = sealed.map_err(escrow_failed(SEAL))?;
        let escrow_kid = keys.wrapping.kid().to_string();
        let write = move || {
            Ok::<_, EnvelopeError>(EnvelopeTexts {
                public: envelope.public_json()?,
                with_escrow: envelope.to_json_with_escrow(),
                escrow_kid,
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
            escrow_kid: Some(envelope.escrow_kid.clone()),
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
}

/// What an envelope carries.
pub(super) type Secret = (Arc<DataKey>, SealAlgorithm);

/// An envelope as JSON, for everyone and for the catalog.
struct EnvelopeTexts {
    public: String,
    with_escrow: String,
    escrow_kid: String,
}

const SEAL: &str = "seal an envelope";
