//! The Image repository's root chain. A client walks from the root that it knows to the next
//! version and stops at the first one that is missing (TUF 1.0.34, 5.3.3), so the next version is
//! always the published one and 1, and nothing else.
//!
//! Root is signed, stored and recorded here, and in no round of the other roles: what keeps them
//! from being published doesn't keep root from being renewed, nor the other way round. A file that
//! was stored and not recorded may have been fetched: one that follows the published root *is* the
//! next version, and no other is made; any other is taken by no client, and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{self, Author, Catalog, RoleState};
use crate::model::{MAX_ROOT_BYTES, RepositorySide, RoleKind, RoleName, Timestamp};
use crate::telemetry::{Chain, Metrics};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::metadata::{self, SignedFile};
use crate::uptane::root;

/// Keeps the root chain whole and its last version fresh.
pub(super) struct RootChain {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: Arc<ImageRepository>,
    metrics: Arc<Metrics>,
    /// Whether this process has looked for versions that are missing.
    is_mended: AtomicBool,
}

impl RootChain {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: Arc<ImageRepository>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { catalog, blobs, repository, metrics, is_mended: AtomicBool::new(false) }
    }

    /// Takes over the versions that are stored already, and signs the next one if it is time;
    /// returns how many there are more. Version 1 is made by `init`.
    pub(super) async fn keep_fresh(&self, now: Timestamp) -> Result<usize, Error> {
        let Some(mut newest) =
            self.catalog.find_role(&RoleName::Root).await?.filter(|root| root.version > 0)
        else {
            return Ok(0);
        };
        if !self.is_mended.swap(true, Ordering::Relaxed)
            && let Err(error) = self.mend(newest.version, now).await
        {
            self.is_mended.store(false, Ordering::Relaxed);
            return Err(error);
        }
        let mut added = 0;
        while let Some(stored) = self.find_stored_successor(newest.version, now).await? {
            tracing::warn!(
                version = stored.version,
                "takes over a root that was stored and not recorded"
            );
            newest = self.record(&stored, now).await?;
            added += 1;
        }
        if self.is_due(&newest, now) {
            let current = self.read(newest.version).await?;
            let next = self.renew(&current, newest.version + 1, now).await?;
            self.blobs.put(&key(next.version), next.bytes.clone()).await?;
            newest = self.record(&next, now).await?;
            added += 1;
            tracing::info!(version = newest.version, expires_at = %newest.expires_at, "root signed again");
        }
        if added > 0 {
            self.metrics.set_metadata(
                RepositorySide::Image,
                RoleKind::Root,
                newest.version,
                newest.expires_at.into(),
            );
        }
        Ok(added)
    }

    /// Whether the published root is to be signed again.
    pub(super) async fn is_due_at(&self, now: Timestamp) -> Result<bool, Error> {
        let newest = self.catalog.find_role(&RoleName::Root).await?.filter(|root| root.version > 0);
        Ok(newest.is_some_and(|newest| self.is_due(&newest, now)))
    }

    /// It is to be signed again, and its keys are on this machine.
    fn is_due(&self, newest: &RoleState, now: Timestamp) -> bool {
        self.has_keys()
            && self.repository.role_policy(&RoleName::Root).is_due(newest.expires_at, now)
    }

    fn has_keys(&self) -> bool {
        self.repository.keyring().keys(RepositorySide::Image, RoleKind::Root).len()
            >= usize::from(self.repository.role_policy(&RoleName::Root).threshold)
    }

    /// The version after `version`, if it is stored. What is stored under its name and doesn't
    /// follow is removed.
    async fn find_stored_successor(
        &self,
        version: u64,
        now: Timestamp,
    ) -> Result<Option<SignedFile>, Error> {
        let next = key(version + 1);
        let blob = match self.blobs.open(&next).await {
            Err(blob::Error::NotFound(_)) => return Ok(None),
            opened => opened?,
        };
        let current = self.read(version).await?;
        let checked = if blob.length > MAX_ROOT_BYTES {
            Err(metadata::Error::Root(format!("it is over {MAX_ROOT_BYTES} bytes long").into()))
        } else {
            let bytes = blob
                .read_all(MAX_ROOT_BYTES)
                .await
                .map_err(Error::internal("read root metadata"))?;
            root::check_successor(&current, bytes, now)
        };
        match checked {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                tracing::warn!(blob = %next, error = %Chain(&error), "removes what no client can take for the next root");
                self.blobs.delete(&next).await?;
                Ok(None)
            }
        }
    }

    /// Signs versions that are missing before `newest`: a server before this one could leave a
    /// number out, and no client that knew an older root got past it.
    async fn mend(&self, newest: u64, now: Timestamp) -> Result<(), Error> {
        for version in 2..=newest {
            match self.blobs.open(&key(version)).await {
                Err(blob::Error::NotFound(_)) => {}
                opened => {
                    opened?;
                    continue;
                }
            }
            if !self.has_keys() {
                tracing::error!(
                    version,
                    "a version of root is missing, and vehicles that know an older one get no further: put the root key \
                     back and restart, so that it can be signed"
                );
                return Ok(());
            }
            let previous = self.read(version - 1).await?;
            let missing = self.renew(&previous, version, now).await?;
            self.blobs.put(&key(version), missing.bytes).await?;
            tracing::warn!(version, "a version of root was missing; it is signed now");
        }
        Ok(())
    }

    /// Signs the version after `current`, and checks it as a client does before anything is done
    /// with it.
    async fn renew(
        &self,
        current: &[u8],
        version: u64,
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let (keyring, policy) = (self.repository.keyring(), self.repository.policy());
        let signed =
            root::renewed(RepositorySide::Image, current, version, keyring, policy, now).await;
        let signed = signed.map_err(Error::internal("sign root metadata"))?;
        root::check_successor(current, signed.bytes, now)
            .map_err(Error::internal("sign root metadata"))
    }

    async fn read(&self, version: u64) -> Result<Bytes, Error> {
        let blob = self.blobs.open(&key(version)).await?;
        blob.read_all(MAX_ROOT_BYTES).await.map_err(Error::internal("read root metadata"))
    }

    /// Records the next version, and returns what is recorded then.
    async fn record(&self, file: &SignedFile, now: Timestamp) -> Result<RoleState, Error> {
        let (length, author) = (file.bytes.len() as u64, Author::server(now));
        match self
            .catalog
            .record_root(file.version, length, file.sha256, file.expires_at, &author)
            .await
        {
            Err(catalog::Error::Overtaken) => {} // by another replica, with the very file that is stored
            recorded => recorded?,
        }
        let missing =
            || Error::internal("record root metadata")(std::io::Error::other("the role is gone"));
        self.catalog.find_role(&RoleName::Root).await?.ok_or_else(missing)
    }
}

fn key(version: u64) -> BlobKey {
    BlobKey::Metadata { version, role: RoleName::Root }
}
