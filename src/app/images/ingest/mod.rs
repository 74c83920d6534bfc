//! Ingest: from an upload's body to a published image.
//!
//! ```text
//! plan    decide from the request's head alone: refuse, already there, compare, or seal
//! seal    one pass over the body into a staged blob (see `pipeline`)
//! commit  announce the blob names, store the blobs, insert the rows, publish
//! ```
//!
//! Up to `commit` the upload lives and dies with its request, and dropping it leaves nothing.
//! `commit` goes on when the client is gone, so that it is whole or undone. If the process is
//! killed in between, the announced names lead
//! [`crate::app::upkeep`] to what is left.

mod body;
mod bounds;
mod commit;
mod lister;
mod pipeline;
mod ready;
mod slots;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio_util::sync::CancellationToken;

use super::precondition::Precondition;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::Images;
use crate::app::replicas::presence;
use crate::envelope::key::DataKey;
use crate::model::{ImageDescription, ImagePath, ImageRecord, SealAlgorithm, Sha256Digest};
use crate::telemetry::{UploadInProgress, UploadOutcome};
pub(in crate::app::images) use body::Body;
pub(in crate::app::images) use pipeline::{Sealed, seal_error};
use slots::UploadSlot;
pub(in crate::app) use slots::UploadSlots;

/// An upload as its head describes it.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// Where the image goes.
    pub path: ImagePath,
    /// What is said of it.
    pub description: ImageDescription,
    /// How it is to be sealed.
    pub algorithm: SealAlgorithm,
    /// Ids of the recipients, if not all of the hardware ids'.
    pub recipients: Option<Vec<String>>,
    /// Digest of the whole body, if the client sent one.
    pub expected_sha256: Option<Sha256Digest>,
    /// Whether the image may have no bytes.
    pub empty: EmptyImage,
    /// What the client expects to be at the path.
    pub precondition: Precondition,
    /// Length of the body in bytes, if the client sent it.
    pub content_length: Option<u64>,
    /// What it is a copy of.
    pub copy_of: Option<Original>,
    /// Who uploads it. There is a share of each metadata file for a folder that somebody is bound
    /// to.
    pub by: Principal,
}

/// What an image is a copy of.
#[derive(Debug, Clone)]
pub struct Original {
    /// The image: once it is yanked, no copy is taken in.
    pub path: ImagePath,
    /// Ends when nobody wants the copy any more: then it is not taken in either.
    pub wanted: CancellationToken,
}

/// Whether an image may have no bytes. It is hardly ever meant, and its path is used up then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmptyImage {
    /// It may not.
    #[default]
    Refused,
    /// It may: the client has asked for it.
    Allowed,
}

/// What an upload's head leads to.
#[derive(Debug)]
pub enum Plan {
    /// The image is there already, and the client has proved that it has the same bytes.
    AlreadyStored(Box<ImageRecord>),
    /// The path is taken; the body has to be hashed to tell whether it is the same image.
    Compare(Box<ImageRecord>),
    /// The image is new, and there are recipients to seal it for.
    Seal,
}

/// What became of an upload.
#[derive(Debug)]
pub enum Accepted {
    /// The image is new, and published.
    Created(ImageRecord),
    /// The same image was there already, and is published.
    AlreadyStored(ImageRecord),
}

impl Images {
    /// Decides what to do with an upload before a byte of its body is read.
    ///
    /// # Errors
    ///
    /// Whatever can be known from the head: [`Error::TooLarge`], [`Error::Forbidden`] below another
    /// supplier's folder, [`Error::Conflict`] on a taken path or in a full bin,
    /// [`Error::Unprocessable`] without recipients or with too much to be signed, [`Error::Full`].
    #[tracing::instrument(skip_all, fields(image.path = %request.path))]
    pub async fn plan_upload(&self, request: &UploadRequest) -> Result<Plan, Error> {
        let limit = self.limits.max_image_size;
        if request.content_length.is_some_and(|length| length > limit) {
            return Err(Error::TooLarge { limit });
        }
        if request.content_length == Some(0) {
            check_not_empty(request, 0)?;
        }
        let lister = self.find_lister(request).await?;
        let existing = self.catalog.find_image(&request.path).await?;
        request.precondition.check(existing.as_ref())?;
        if let Some(existing) = existing {
            check_same_description(request, &existing)?;
            if request
                .content_length
                .is_some_and(|length| length != existing.sealed.plaintext_length)
            {
                return Err(other_bytes(&request.path));
            }
            return match request.expected_sha256 {
                Some(sha256) if sha256 == existing.sealed.plaintext_sha256 => {
                    Ok(Plan::AlreadyStored(existing.into()))
                }
                Some(_) => Err(other_bytes(&request.path)),
                None => Ok(Plan::Compare(existing.into())),
            };
        }
        self.choose_recipients(&request.description.hardware_ids, request.recipients.as_deref())
            .await?;
        self.check_listing(request, &lister).await?;
        self.escrow.check_current().await?;
        presence::check(self.presence.as_ref()).await?; // or the others would lack what is taken in
        self.publisher.signing_time()?; // an image that can't be published is not taken in
        self.check_room(request.content_length.unwrap_or(0))?;
        Ok(Plan::Seal)
    }

    /// Refuses what would leave no room for metadata to be signed: bytes, or files.
    pub(in crate::app::images) fn check_room(&self, length: u64) -> Result<(), Error> {
        let needed = length.saturating_add(self.reserved_space());
        if self.blobs.free_space()?.is_some_and(|free| free < needed) {
            return Err(Error::Full {
                detail: "no space is left for an image of this size".into(),
            });
        }
        let needed = self.publisher.signing_size().files * SIGNINGS + FILES_OF_AN_UPLOAD;
        if self.blobs.free_files()?.is_some_and(|free| free < needed) {
            let detail = "the file system can't take more files: it has hardly any inodes left";
            return Err(Error::Full { detail: detail.into() });
        }
        Ok(())
    }

    /// Space that uploads leave free: what is configured, or room for signing everything twice,
    /// with what the catalog needs besides.
    pub(in crate::app::images) fn reserved_space(&self) -> u64 {
        let everything = self.publisher.signing_size().bytes * SIGNINGS + CATALOG_SPACE;
        self.limits.reserved_space.unwrap_or(everything.max(LEAST_RESERVED))
    }

    /// Carries an upload out.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] if the body hasn't the announced digest, [`Error::Conflict`] if the
    /// path has other bytes, [`Error::TooLarge`], [`Error::Stalled`], [`Error::TooSlow`],
    /// [`Error::ClientGone`], [`Error::Full`]: then nothing is kept. After the image was accepted,
    /// [`Error::Full`] and [`Error::Internal`] say that it will be published later.
    #[tracing::instrument(skip_all, fields(image.path = %request.path))]
    pub async fn upload<S>(
        self: &Arc<Self>,
        request: UploadRequest,
        plan: Plan,
        body: S,
    ) -> Result<Accepted, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let running = self.metrics.start_upload();
        let accepted = match plan {
            Plan::AlreadyStored(_) => self.confirm(&request).await,
            Plan::Compare(existing) => self.compare(request, *existing, body).await,
            Plan::Seal => self.seal(request, body).await,
        };
        count_outcome(running, &accepted);
        accepted
    }

    async fn seal<S>(self: &Arc<Self>, request: UploadRequest, body: S) -> Result<Accepted, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let _slot = self.upload_slot(&request.by.id).await?;
        let data_key = DataKey::generate();
        let body = Body::new(body, &self.limits, &self.upload_slots);
        let sealed = pipeline::seal(
            body,
            &data_key,
            request.algorithm,
            self.blobs.begin(self.reserved_space())?,
            self.uploads.token(),
            &self.metrics,
        )
        .await?;
        check_digest(&request, sealed.image.plaintext_sha256)?;
        check_not_empty(&request, sealed.image.plaintext_length)?;
        self.commit_unattended(request, sealed, data_key).await
    }

    async fn compare<S>(
        self: &Arc<Self>,
        request: UploadRequest,
        existing: ImageRecord,
        body: S,
    ) -> Result<Accepted, Error>
    where
        S: Stream<Item = io::Result<Bytes>> + Unpin,
    {
        let _slot = self.upload_slot(&request.by.id).await?;
        let sha256 = Body::new(body, &self.limits, &self.upload_slots).digest().await?;
        check_digest(&request, sha256)?;
        if sha256 != existing.sealed.plaintext_sha256 {
            return Err(other_bytes(&request.path));
        }
        self.confirm(&request).await
    }

    /// A retry is answered like the upload that it repeats: once the image is published. It may
    /// have been yanked while the body came in.
    pub(in crate::app::images) async fn confirm(
        &self,
        request: &UploadRequest,
    ) -> Result<Accepted, Error> {
        self.publisher.publish().await?;
        let existing = self.show(&request.path).await?;
        request.precondition.check(Some(&existing))?;
        check_same_description(request, &existing)?;
        Ok(Accepted::AlreadyStored(existing))
    }

    /// Waits for a slot, for an upload of this token.
    pub(in crate::app::images) async fn upload_slot(
        &self,
        token: &str,
    ) -> Result<UploadSlot, Error> {
        self.upload_slots.take(token, self.limits.idle_timeout).await
    }
}

pub(in crate::app::images) fn count_outcome(
    upload: UploadInProgress,
    accepted: &Result<Accepted, Error>,
) {
    upload.finish(match accepted {
        Ok(Accepted::Created(_)) => UploadOutcome::Created,
        Ok(Accepted::AlreadyStored(_)) => UploadOutcome::Unchanged,
        Err(Error::ClientGone | Error::Stalled { .. } | Error::TooSlow { .. }) => {
            UploadOutcome::Cancelled
        }
        Err(
            Error::Full { .. }
            | Error::Busy
            | Error::NotReady { .. }
            | Error::Unavailable { .. }
            | Error::Corrupt { .. }
            | Error::Unusable { .. }
            | Error::Internal(_),
        ) => UploadOutcome::Failed,
        Err(_) => UploadOutcome::Rejected,
    });
}

fn check_same_description(request: &UploadRequest, existing: &ImageRecord) -> Result<(), Error> {
    let path = &request.path;
    if existing.yanked_at.is_some() {
        let detail =
            format!("{path} was yanked, and a path is used only once: upload under another one");
        return Err(Error::Conflict { code: "image_yanked", detail });
    }
    let (new, old) = (&request.description, &existing.description);
    let different = [
        ("name", new.name != old.name),
        ("version", new.version != old.version),
        ("hardware_id", new.hardware_ids != old.hardware_ids),
        ("release_counter", new.release_counter != old.release_counter),
        ("target_format", new.target_format != old.target_format),
        ("requires", new.requires != old.requires),
        ("conflicts", new.conflicts != old.conflicts),
        ("algorithm", request.algorithm != existing.sealed.algorithm),
    ];
    match different.into_iter().find(|(_, different)| *different) {
        None => Ok(()),
        Some((field, _)) => Err(Error::Conflict {
            code: "image_exists",
            detail: format!(
                "{path} is there with another {field}: an image never changes, use another path"
            ),
        }),
    }
}

fn check_not_empty(request: &UploadRequest, length: u64) -> Result<(), Error> {
    if length > 0 || request.empty == EmptyImage::Allowed {
        return Ok(());
    }
    let detail = "the body is empty, and an image without bytes is hardly ever meant: send the image with `curl -T FILE`, \
                  or ask for it with allow_empty=true";
    Err(Error::Invalid { code: "empty_body", detail: detail.into() })
}

pub(in crate::app::images) fn check_digest(
    request: &UploadRequest,
    sha256: Sha256Digest,
) -> Result<(), Error> {
    match request.expected_sha256 {
        Some(expected) if expected != sha256 => Err(Error::Unprocessable {
            code: "digest_mismatch",
            detail: format!(
                "the body's SHA-256 is {sha256}, but the request says {expected}: nothing was kept"
            ),
        }),
        _ => Ok(()),
    }
}

fn other_bytes(path: &ImagePath) -> Error {
    let detail =
        format!("{path} is there with other bytes: an image never changes, use another path");
    Error::Conflict { code: "image_exists", detail }
}

/// How often everything has to fit in once more: when it is signed again, the files before are
/// still needed.
pub(in crate::app) const SIGNINGS: u64 = 2;
/// Two blobs, the folders of their names, what is staged, and the catalog's own.
const FILES_OF_AN_UPLOAD: u64 = 64;
const CATALOG_SPACE: u64 = 32 * 1024 * 1024; // 32 MiB: the write-ahead log, twice
pub(in crate::app) const LEAST_RESERVED: u64 = 64 * 1024 * 1024; // 64 MiB
