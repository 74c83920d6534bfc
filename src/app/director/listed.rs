//! What the Image repository lists now, read from its published files.
//!
//! The Director signs nothing for a vehicle that the Image repository does not list with the same
//! length, digest and custom fields (DIR-28): a vehicle would refuse it, and a Director that is
//! taken over must not get far. What is asked is the published file, and not the catalog, which may
//! know of images that are not published yet.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::Catalog;
use crate::model::{ImagePath, Sha256Digest};
use crate::uptane::custom::ImageCustom;
use crate::uptane::metadata::{Signed, Target, Targets};

/// Answers what the published Image repository lists.
pub(in crate::app) struct ListedImages {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    /// By path and the version of the file that lists it.
    known: Mutex<LruCache<(ImagePath, u64), Arc<ListedImage>>>,
}

/// An image as the published metadata lists it.
#[derive(Debug, Clone)]
pub(in crate::app) struct ListedImage {
    pub(in crate::app) length: u64,
    pub(in crate::app) sha256: Sha256Digest,
    pub(in crate::app) custom: ImageCustom,
}

impl ListedImages {
    pub(in crate::app) fn new(catalog: Catalog, blobs: Arc<dyn BlobStore>) -> Self {
        Self { catalog, blobs, known: Mutex::new(LruCache::new(KEPT)) }
    }

    /// The image's entry in the published metadata, if it has one.
    pub(in crate::app) async fn find(
        &self,
        path: &ImagePath,
    ) -> Result<Option<Arc<ListedImage>>, Error> {
        // Where to look alone is the catalog's word.
        let Some(role) = self.catalog.find_lister(path.as_str()).await? else { return Ok(None) };
        let Some(state) = self.catalog.find_role(&role).await?.filter(|state| state.version > 0)
        else {
            return Ok(None);
        };
        let known = (path.clone(), state.version);
        if let Some(image) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&known) {
            return Ok(Some(Arc::clone(image)));
        }
        let key = BlobKey::Metadata { version: state.version, role };
        let bytes = self.blobs.open(&key).await?.read_all(state.length).await;
        let bytes = bytes.map_err(|source| blob::Error::Backend {
            verb: "read",
            name: key.name(),
            source,
        })?;
        if Sha256::digest(&bytes)[..] != state.sha256.as_bytes()[..] {
            return Err(Error::Corrupt { detail: format!("{key} is damaged on the server") });
        }
        let file: Signed<Targets<Target<&RawValue>>> =
            serde_json::from_slice(&bytes).map_err(Error::internal("read published metadata"))?;
        let Some(target) = file.signed.targets.get(path.as_str()) else { return Ok(None) };
        let custom = target.custom.map(|custom| serde_json::from_str(custom.get()));
        let Some(custom) =
            custom.transpose().map_err(Error::internal("read published metadata"))?
        else {
            return Ok(None); // an envelope
        };
        let image =
            Arc::new(ListedImage { length: target.length, sha256: target.hashes.sha256, custom });
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(known, Arc::clone(&image));
        Ok(Some(image))
    }
}

const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not 0");
