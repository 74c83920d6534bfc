//! Which store an installation's blobs are in: a folder of the state directory, or a bucket, which has
//! to be this installation's.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::installation::{self, foreign};
use super::moved;
use super::server_id::server_id;
use super::state_dir::StateDir;
use crate::blob::{self, BlobKey, BlobStore, LocalBlobStore};
use crate::model::Bucket;

impl StateDir {
    /// Opens the blob store alone.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it is a bucket that can't be used, or another installation's;
    /// [`Error::Internal`].
    pub async fn blobs(&self) -> Result<Arc<dyn BlobStore>, Error> {
        moved::refuse_moved_blobs(self.path(), self.bucket())?;
        match self.bucket() {
            None => {
                let blobs = LocalBlobStore::open(self.blob_dir())?;
                let is_shared = self.has_shared_folder();
                Ok(Arc::new(if is_shared { blobs.beside_others() } else { blobs }))
            }
            Some(bucket) if self.has_shared_folder() => {
                let url = &bucket.url;
                let detail = format!(
                    "blobs are in {url} or in a folder: leave out `--blobs` or `--shared-blobs`"
                );
                Err(Error::Unusable { detail })
            }
            Some(bucket) => self.open_bucket(bucket).await,
        }
    }

    /// Opens the blob store alone and only to read.
    ///
    /// # Errors
    ///
    /// As [`Self::blobs`]; [`Error::Internal`] if there is none.
    pub async fn blobs_to_read(&self) -> Result<Arc<dyn BlobStore>, Error> {
        moved::refuse_moved_blobs(self.path(), self.bucket())?;
        match self.bucket() {
            None => Ok(Arc::new(LocalBlobStore::open_to_read(self.blob_dir())?)),
            Some(bucket) => self.open_bucket_as(bucket, "reader").await,
        }
    }

    /// The folder with `repo/` and `staging/`, if blobs are in such.
    pub(super) fn blob_folders(&self) -> Option<&Path> {
        self.bucket().is_none().then(|| self.blob_dir())
    }

    /// Opens a bucket, unless it is another installation's.
    pub(super) async fn open_bucket(&self, bucket: &Bucket) -> Result<Arc<dyn BlobStore>, Error> {
        self.open_bucket_as(bucket, &server_id(self.path())?).await
    }

    async fn open_bucket_as(
        &self,
        bucket: &Bucket,
        server: &str,
    ) -> Result<Arc<dyn BlobStore>, Error> {
        let blobs = open(bucket, server).await?;
        let owner = blobs.find_owner().await.map_err(|error| unusable(bucket, error))?;
        match (owner, installation::own_id(self.path())) {
            (Some(owner), Some(own)) if owner != own => {
                Err(foreign(&bucket.url, "the bucket", self.path(), (&owner, &own)))
            }
            _ => Ok(blobs),
        }
    }

    /// Makes the bucket this directory's, if blobs are in one; unless it is another's. A directory
    /// without an id takes the bucket's over, as with a catalog. **Must be called by the holder of
    /// the directory's lock**, and before anything is stored.
    pub(super) async fn claim_blobs(&self, blobs: &dyn BlobStore) -> Result<(), Error> {
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let failed = |error| unusable(bucket, error);
        let found = match installation::own_id(self.path()) {
            Some(_) => None,
            None => blobs.find_owner().await.map_err(failed)?,
        };
        let own = installation::ensure_own_id(self.path(), found)?;
        let owner = blobs.claim(&own).await.map_err(failed)?;
        if owner == own {
            return Ok(());
        }
        Err(foreign(&bucket.url, "the bucket", self.path(), (&owner, &own)))
    }

    /// Refuses to make an installation in a bucket that can't be used, or has one.
    pub(super) async fn refuse_taken_bucket(&self) -> Result<(), Error> {
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let blobs = self.blobs_to_read().await?;
        if self.has_database() || installation::own_id(self.path()).is_some() {
            return Ok(()); // whose it has to be is known: the catalog's, or one that was begun here
        }
        let owner = blobs.find_owner().await.map_err(|error| unusable(bucket, error))?;
        let whose = match owner {
            Some(owner) => format!("is of installation {owner}"),
            None => match blobs.open(&BlobKey::Timestamp).await {
                Err(blob::Error::NotFound(_)) => return Ok(()),
                Err(error) => return Err(unusable(bucket, error)),
                Ok(_) => {
                    "has a published repository, and does not say of which installation".into()
                }
            },
        };
        let (url, state) = (&bucket.url, self.path().display());
        Err(Error::Unusable {
            detail: format!(
                "{url} {whose}, and {state} would be another one: name a bucket, or a prefix in it, that is empty"
            ),
        })
    }
}

#[cfg(feature = "s3")]
async fn open(bucket: &Bucket, server: &str) -> Result<Arc<dyn BlobStore>, Error> {
    let opened = blob::s3::S3BlobStore::open(bucket, server).await;
    Ok(Arc::new(opened.map_err(|error| unusable(bucket, error))?))
}

#[cfg(not(feature = "s3"))]
async fn open(bucket: &Bucket, _server: &str) -> Result<Arc<dyn BlobStore>, Error> {
    let url = &bucket.url;
    Err(Error::Unusable {
        detail: format!(
            "this build has no object stores, and {url} is in one: build it with `--features s3`"
        ),
    })
}

/// At the start its operator is told what is wrong; later it is for who serves to say.
pub(super) fn unusable(bucket: &Bucket, error: blob::Error) -> Error {
    let url = &bucket.url;
    match error {
        blob::Error::Unavailable { reason, .. } => {
            Error::Unusable { detail: format!("the blobs in {url} can't be used: {reason}") }
        }
        blob::Error::Backend { source, .. } => {
            Error::Unusable { detail: format!("the blobs in {url} can't be used: {source}") }
        }
        other @ (blob::Error::NotFound(_)
        | blob::Error::AlreadyExists(_)
        | blob::Error::Full { .. }) => other.into(),
    }
}
