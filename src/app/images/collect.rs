//! Collection of yanked images: their files are removed once nothing can lead to them any more.
//!
//! An image is yanked, and so in no metadata that is signed from then on. Its sealed bytes and its
//! envelope stay for whoever still goes by what was signed before. They are removed after a grace
//! time, and never while metadata in force leads to them, a vehicle is to install the image, or
//! somebody has said to keep it. The last file of a removed supplier leads nobody anywhere once no
//! targets in force name its role. What the catalog knows of the image stays, its envelope too: its
//! path is never used again, and a copy of the sealed image that somebody has can still be opened.

use std::collections::HashSet;
use std::time::Duration;

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::Images;
use crate::app::Error;
use crate::app::access::Principal;
use crate::blob::{self, BlobKey};
use crate::catalog::{Author, YankedImage};
use crate::envelope::jwe::Envelope;
use crate::model::clock::earlier;
use crate::model::{
    ImagePath, ImageRetention, RepositorySide, RoleKind, RoleName, Sha256Digest, Timestamp,
};
use crate::uptane::metadata::{Signed, Targets};

/// Whether images are collected, or only looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectMode {
    /// Their files are removed.
    Remove,
    /// Nothing is changed.
    DryRun,
}

/// Some images that were looked at.
#[derive(Debug, Default)]
pub(in crate::app) struct Collected {
    /// Whose files are gone, or would be.
    pub(in crate::app) images: Vec<ImagePath>,
    /// Bytes of their sealed images.
    pub(in crate::app) bytes: u64,
    /// Those that stay, and why.
    pub(in crate::app) kept: Vec<(ImagePath, String)>,
    /// After which image to go on; none if there are no more.
    pub(in crate::app) next: Option<String>,
}

/// What published metadata that somebody may still go by lists: read once for many images.
struct Named {
    /// Files of roles that list targets, and what those list that were read.
    files: Vec<(BlobKey, Option<HashSet<String>>)>,
    /// Targets in files that wait for their owners' signatures, and may be published as they are.
    staged: HashSet<String>,
}

impl Images {
    /// How long an image's files are kept, as far as that was said.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show_retention(
        &self,
        path: &ImagePath,
        by: &Principal,
    ) -> Result<ImageRetention, Error> {
        self.show_to(path, by).await?;
        Ok(self.catalog.find_retention(path).await?)
    }

    /// Says until when an image's files are kept in any case; none takes that back.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Conflict`] if they are gone.
    pub async fn retain(
        &self,
        path: &ImagePath,
        until: Option<Timestamp>,
        by: &Principal,
    ) -> Result<ImageRetention, Error> {
        self.show(path).await?;
        if self.catalog.retain_image(path, until, &by.author(self.clock.now())).await? {
            return Ok(self.catalog.find_retention(path).await?);
        }
        let detail = format!("the files of {path} are gone: it was yanked, and collected");
        Err(Error::Conflict { code: "image_collected", detail })
    }

    /// Collects some of the images that were yanked `grace` ago, after the one at `after`.
    ///
    /// It can be repeated: what was decided is in the catalog before a file is removed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while the time isn't known, or which metadata is in force;
    /// [`Error::Full`]; [`Error::Internal`].
    pub(in crate::app) async fn collect(
        &self,
        grace: Duration,
        after: &str,
        mode: CollectMode,
        author: &Author,
    ) -> Result<Collected, Error> {
        let now = self.publisher.signing_time()?;
        let page = self.catalog.list_yanked_images(earlier(now, grace), after, PAGE).await?;
        // In this order: what is published meanwhile is still in the first.
        let staged = self.staged_targets().await?;
        let files = self.named_files().await?;
        let files = files.into_iter().map(|key| (key, None)).collect();
        let mut named = Named { files, staged };
        let mut collected = Collected { next: page.next, ..Collected::default() };
        for image in page.items {
            if let Some(reason) = self.why_kept(&image, &mut named, now).await? {
                collected.kept.push((image.path, reason));
                continue;
            }
            // Without it nobody knows which file of the repository its envelope is.
            let Some(envelope) = public_digest(&image.envelope) else {
                let reason = "its envelope in the catalog is damaged: see `motorcade fsck`";
                collected.kept.push((image.path, reason.into()));
                continue;
            };
            if mode == CollectMode::Remove && !self.remove(&image, envelope, author).await? {
                collected.kept.push((
                    image.path,
                    "somebody has just wanted it kept, or a backup is being made".into(),
                ));
                continue;
            }
            collected.bytes += image.length;
            collected.images.push(image.path);
        }
        Ok(collected)
    }

    async fn why_kept(
        &self,
        image: &YankedImage,
        named: &mut Named,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        if image.retention.collected_at.is_some() {
            return Ok(None); // that was decided before
        }
        if let Some(until) = image.retention.retain_until.filter(|until| *until > now) {
            return Ok(Some(format!("it is to be kept until {until}")));
        }
        if image.is_assigned {
            return Ok(Some("a vehicle is to install it, and has not polled since".into()));
        }
        let is_named = self.is_named(&image.path, named).await?;
        Ok(is_named.then(|| "metadata lists it that somebody may still go by".into()))
    }

    /// Whether a file that is kept for somebody, or waits to be signed, lists an image or its
    /// envelope.
    async fn is_named(&self, path: &ImagePath, named: &mut Named) -> Result<bool, Error> {
        let targets = [path.to_string(), path.envelope_path()];
        if targets.iter().any(|target| named.staged.contains(target)) {
            return Ok(true);
        }
        let bins = [0, 1].map(|i: usize| self.publisher.bin_of(&targets[i]));
        let may_list = |role: &RoleName| role.kind() == RoleKind::Suppliers || bins.contains(role);
        for (key, listed) in &mut named.files {
            let BlobKey::Metadata { role, .. } = key else { continue };
            if !may_list(role) {
                continue;
            }
            let listed = match listed {
                Some(listed) => listed,
                None => listed.insert(self.listed_by(key).await?),
            };
            if targets.iter().any(|target| listed.contains(target)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn named_files(&self) -> Result<Vec<BlobKey>, Error> {
        let kept = self.publisher.metadata_in_force().await?;
        let lists_targets =
            |role: &RoleName| matches!(role.kind(), RoleKind::Bins | RoleKind::Suppliers);
        let is_listing =
            |key: &BlobKey| matches!(key, BlobKey::Metadata { role, .. } if lists_targets(role));
        Ok(kept.into_iter().filter(is_listing).collect())
    }

    async fn staged_targets(&self) -> Result<HashSet<String>, Error> {
        const OP: &str = "read staged metadata";
        let mut staged = HashSet::new();
        for supplier in self.catalog.list_suppliers().await? {
            let found = self.catalog.find_staging(RepositorySide::Image, &supplier.role()).await?;
            let Some(staging) = found else { continue };
            let content: Targets<IgnoredAny> =
                serde_json::from_slice(&staging.staged.content).map_err(Error::internal(OP))?;
            staged.extend(content.targets.into_keys());
        }
        Ok(staged)
    }

    /// Paths of the targets that a file lists; of none if it is gone, for then it leads nowhere.
    async fn listed_by(&self, key: &BlobKey) -> Result<HashSet<String>, Error> {
        const OP: &str = "read published metadata";
        let blob = match self.blobs.open(key).await {
            Err(blob::Error::NotFound(_)) => return Ok(HashSet::new()),
            opened => opened?,
        };
        let bytes = blob.read_all(blob.length).await.map_err(Error::reading(&key.name()))?;
        let file: Signed<Targets<IgnoredAny>> =
            serde_json::from_slice(&bytes).map_err(Error::internal(OP))?;
        Ok(file.signed.targets.into_keys().collect())
    }

    /// Decides for good, and then removes the files.
    async fn remove(
        &self,
        image: &YankedImage,
        envelope: Sha256Digest,
        author: &Author,
    ) -> Result<bool, Error> {
        let path = &image.path;
        if !self.catalog.collect_image(path, author).await? {
            return Ok(false);
        }
        self.blobs.delete(&BlobKey::target(path.to_string(), image.sha256)).await?;
        self.blobs.delete(&BlobKey::target(path.envelope_path(), envelope)).await?;
        // Those that it had before: their role may be gone, and nobody else looks after them then.
        let before = self.catalog.list_envelopes_before(&path.envelope_path()).await?;
        for old in &before {
            self.blobs.delete(&BlobKey::target(old.path.clone(), old.sha256)).await?;
        }
        self.catalog.forget_superseded_envelopes(&before).await?;
        self.catalog.note_removed_image(path, author.at).await?;
        tracing::info!(image.path = %path, "image collected");
        Ok(true)
    }
}

/// The digest of an envelope as the repository has it.
fn public_digest(envelope: &str) -> Option<Sha256Digest> {
    let public = Envelope::parse(envelope.as_bytes()).ok()?.public_json().ok()?;
    Some(Sha256Digest::from_bytes(Sha256::digest(public.as_bytes()).into()))
}

const PAGE: u32 = 100;
