//! Commit: from a sealed, staged image to a published one, whole or not at all.
//!
//! Goes on when the client is gone. The names of the blobs are announced in the catalog before the
//! first one is visible, and the transaction that accepts the image takes them back, so that a
//! crash at any point leaves either an accepted image or names by which
//! [`Upkeep::recover`](crate::app::upkeep::Upkeep::recover) finds what to remove.
//!
//! That transaction refuses what was wrapped for a recipient, or to an escrow key, that was replaced
//! meanwhile, here or at another server. Nobody has to send the image again for that: its data key is
//! wrapped anew.

use std::sync::Arc;

use tracing::Instrument;

use super::ready::{Ready, Secret};
use super::{Accepted, UploadRequest, check_same_description, other_bytes, pipeline};
use crate::app::Error;
use crate::app::access::check_token_still_valid;
use crate::app::images::Images;
use crate::app::images::announced::overtaken;
use crate::app::replicas::presence;
use crate::blob::{BlobKey, StagedBlob};
use crate::catalog::{self, RetiredRecipient};
use crate::envelope::key::DataKey;
use crate::model::SealedImage;
use crate::telemetry::UploadStage;

/// Which key an envelope was wrapped for that nothing is wrapped for any more.
enum Outdated {
    /// A recipient's.
    Recipient {
        /// Its id.
        kid: String,
    },
    /// The escrow key.
    Escrow,
}

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
        mut request: UploadRequest,
        sealed: pipeline::Sealed,
        data_key: DataKey,
    ) -> Result<Accepted, Error> {
        let pipeline::Sealed { image, staged } = sealed;
        // An upload may take hours: its token may have been revoked, and a recipient removed, since
        // it was planned.
        check_token_still_valid(&self.catalog, &request.by.id, self.clock.now()).await?;
        let sealing = self.sealing.read().await;
        let secret = (Arc::new(data_key), request.algorithm);
        let mut ready = self.make_ready(&request, &secret, image).await?;
        let stored = self.accept(&mut request, (&secret, image), staged, &mut ready).await;
        drop(sealing);
        let Ready { new, keys, .. } = ready;
        // A commit that failed may have taken place all the same, or may yet; the catalog knows.
        let accepted = match &stored {
            Ok(()) => Some(true),
            Err(_) => self.catalog.has_accepted_image(&request.path, image.sha256).await.ok(),
        };
        match stored {
            Err(error) if accepted != Some(true) => {
                if accepted == Some(false) {
                    self.discard_announced(&keys).await;
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
                Ok(Accepted::Created(new.record))
            }
        }
    }

    /// Stores the blobs and inserts the rows, with another envelope for as long as keys change
    /// meanwhile.
    async fn accept(
        &self,
        request: &mut UploadRequest,
        (secret, image): (&Secret, SealedImage),
        staged: Box<dyn StagedBlob>,
        ready: &mut Ready,
    ) -> Result<(), Error> {
        let mut staged = Some(staged);
        for _ in 0..MOST_ENVELOPES {
            let outdated = self.store_and_insert(request, staged.take(), ready).await?;
            let Some(outdated) = outdated else { return Ok(()) };
            self.give_up_key(request, outdated).await?;
            let again = self.make_ready(request, secret, image).await?;
            tracing::info!(image.path = %request.path, "wrapped anew, since a key was replaced meanwhile");
            let before = std::mem::replace(ready, again);
            let [_, envelope] = before.keys;
            self.discard_announced(&[envelope]).await;
        }
        Err(Error::Busy)
    }

    /// Sees to it that a key is not wrapped for again.
    async fn give_up_key(
        &self,
        request: &mut UploadRequest,
        outdated: Outdated,
    ) -> Result<(), Error> {
        let kid = match outdated {
            Outdated::Escrow => return self.escrow.check_current().await,
            Outdated::Recipient { kid } => kid,
        };
        let Some(named) = &mut request.recipients else { return Ok(()) };
        // As a rotation does with what was accepted just before it.
        if let Some(RetiredRecipient::Replaced { by }) = self.catalog.find_retired(&kid).await? {
            named.iter_mut().filter(|one| **one == kid).for_each(|one| one.clone_from(&by));
        }
        Ok(())
    }

    /// Returns which key has to be given up, if one was replaced: then the blobs are stored, and
    /// nothing is inserted.
    async fn store_and_insert(
        &self,
        request: &UploadRequest,
        staged: Option<Box<dyn StagedBlob>>,
        ready: &mut Ready,
    ) -> Result<Option<Outdated>, Error> {
        let envelope = std::mem::replace(&mut ready.envelope, Ok(Vec::new()))?;
        let [image_key, envelope_key] = ready.keys.clone();
        let image = staged.map(|staged| (staged, image_key));
        let envelope = envelope.into_iter().map(|staged| (staged, envelope_key.clone()));
        self.blobs.promote_all(image.into_iter().chain(envelope).collect()).await?;
        presence::check(self.presence.as_ref()).await?; // this server may have been paused since it was planned
        let (new, author) = (&ready.new, request.by.author(ready.new.record.created_at));
        let inserted = self.catalog.insert_images(std::slice::from_ref(new), &ready.bound, &author);
        match inserted.await {
            Ok(()) => Ok(None),
            Err(catalog::Error::Retired { kid }) => Ok(Some(Outdated::Recipient { kid })),
            Err(catalog::Error::OtherEscrowKey { .. }) => Ok(Some(Outdated::Escrow)),
            Err(error) => Err(overtaken(error)),
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

/// Of one upload: a key is replaced by hand.
const MOST_ENVELOPES: u32 = 8;
