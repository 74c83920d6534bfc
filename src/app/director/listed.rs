//! What the Image repository lists now, read from its published files.
//!
//! The Director signs nothing for a vehicle that the Image repository does not list with the same
//! length, digest and custom fields (DIR-28): a vehicle would refuse it, and a Director that is
//! taken over must not get far. What is asked is the published file, and not the catalog, which may
//! know of images that are not published yet; and the published targets, which may lead clients to
//! somebody else.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::app::Error;
use crate::app::publish::Publisher;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::{Catalog, RoleState};
use crate::model::{ImagePath, Sha256Digest};
use crate::uptane::custom::ImageCustom;
use crate::uptane::metadata::{Signed, Target, Targets};

/// Answers what the published Image repository lists.
pub(in crate::app) struct ListedImages {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    publisher: Publisher,
    /// By path and the versions of the file that lists it, and of the top-level targets.
    known: Mutex<LruCache<(ImagePath, u64, u64), Arc<ListedImage>>>,
}

/// An image as the published metadata lists it.
#[derive(Debug, Clone)]
pub(in crate::app) struct ListedImage {
    pub(in crate::app) length: u64,
    pub(in crate::app) sha256: Sha256Digest,
    pub(in crate::app) custom: ImageCustom,
}

impl ListedImages {
    pub(in crate::app) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        publisher: Publisher,
    ) -> Self {
        Self { catalog, blobs, publisher, known: Mutex::new(LruCache::new(KEPT)) }
    }

    /// The image's entry in the published metadata, if it has one.
    pub(in crate::app) async fn find(
        &self,
        path: &ImagePath,
    ) -> Result<Option<Arc<ListedImage>>, Error> {
        // Where to look alone is the catalog's word.
        let listing = self.catalog.find_listing(path.as_str()).await?;
        let Some((state, targets)) = listing.filter(|(state, _)| state.version > 0) else {
            return Ok(None);
        };
        let known = (path.clone(), state.version, targets);
        if let Some(image) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&known) {
            return Ok(Some(Arc::clone(image)));
        }
        let Some(image) = self.read(path, &state).await? else { return Ok(None) };
        if !self.publisher.is_asked(&state.name, path, &image.custom.hardware_ids).await? {
            return Ok(None);
        }
        let image = Arc::new(image);
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(known, Arc::clone(&image));
        Ok(Some(image))
    }

    /// The image's entry in the published file of a role.
    async fn read(
        &self,
        path: &ImagePath,
        state: &RoleState,
    ) -> Result<Option<ListedImage>, Error> {
        let key = BlobKey::Metadata { version: state.version, role: state.name.clone() };
        let bytes = self.blobs.open(&key).await?.read_all(state.length).await;
        let bytes = bytes.map_err(Error::reading(&key.name()))?;
        if Sha256::digest(&bytes)[..] != state.sha256.as_bytes()[..] {
            return Err(Error::Corrupt { detail: format!("{key} is damaged on the server") });
        }
        let file: Signed<Targets<Target<&RawValue>>> =
            serde_json::from_slice(&bytes).map_err(Error::internal("read published metadata"))?;
        let Some(target) = file.signed.targets.get(path.as_str()) else { return Ok(None) };
        let custom = target.custom.map(|custom| serde_json::from_str(custom.get()));
        let custom = custom.transpose().map_err(Error::internal("read published metadata"))?;
        // Without it, an envelope.
        Ok(custom.map(|custom| ListedImage {
            length: target.length,
            sha256: target.hashes.sha256,
            custom,
        }))
    }
}

const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");
