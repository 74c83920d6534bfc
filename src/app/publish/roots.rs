//! The Image repository's root chain. A client walks from the root that it knows to the next
//! version and stops at the first one that is missing (TUF 1.0.34, 5.3.3), so the next version is
//! always the published one and 1, and nothing else.
//!
//! Root is stored and recorded here, one version at a time, and in no round of the other roles: what keeps them
//! from being published doesn't keep root from being renewed, nor the other way round. A file that
//! was stored and not recorded may have been fetched: one that follows the published root *is* the
//! next version, and no other is made; any other is taken by no client, and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::app::Error;
use crate::app::signing::signing_failed;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{self, Author, Catalog, RoleState};
use crate::model::{MAX_ROOT_BYTES, RepositorySide, RoleKind, RoleName, Timestamp};
use crate::telemetry::{Chain, Metrics};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::metadata::{self, SignedFile, Unsigned};
use crate::uptane::root;

/// Keeps the root chain whole and its last version fresh.
pub(super) struct RootChain {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: Arc<ImageRepository>,
    metrics: Arc<Metrics>,
    /// Whether this process has looked for versions that are missing.
    is_mended: AtomicBool,
    /// Held by whoever adds a version.
    turn: Mutex<()>,
}

impl RootChain {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: Arc<ImageRepository>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (is_mended, turn) = (AtomicBool::new(false), Mutex::new(()));
        Self { catalog, blobs, repository, metrics, is_mended, turn }
    }

    /// Takes over the versions that are stored already, and signs the next one if it is time;
    /// returns how many there are more. Version 1 is made by `init`.
    pub(super) async fn keep_fresh(&self, now: Timestamp) -> Result<usize, Error> {
        let _turn = self.turn.lock().await;
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
            let staging = self.staging_of(&stored).await?;
            newest = self.record(&stored, staging, &Author::server(now)).await?;
            added += 1;
        }
        if self.is_due(&newest, now).await? {
            let current = self.read(newest.version).await?;
            let next = self.renew(&current, newest.version + 1, now).await?;
            self.blobs.put(&key(next.version), next.bytes.clone()).await?;
            newest = self.record(&next, None, &Author::server(now)).await?;
            added += 1;
            tracing::info!(version = newest.version, expires_at = %newest.expires_at, "root signed again");
        }
        if added > 0 {
            self.report(&newest);
        }
        Ok(added)
    }

    /// Publishes the next version, which people have signed and the caller has checked; it was
    /// staged as `staging`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it isn't the next version any more; [`Error::Full`];
    /// [`Error::Internal`]. After a failure the file may be stored: then it is recorded by
    /// [`Self::keep_fresh`].
    pub(super) async fn publish(
        &self,
        file: &SignedFile,
        staging: u64,
        author: &Author,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let newest = self.catalog.find_role(&RoleName::Root).await?;
        if newest.is_none_or(|newest| newest.version + 1 != file.version) {
            return Err(overtaken(file.version));
        }
        match self.blobs.put(&key(file.version), file.bytes.clone()).await {
            Err(blob::Error::AlreadyExists(_)) => return Err(overtaken(file.version)),
            stored => stored?,
        }
        let newest = self.record(file, Some(staging), author).await?;
        self.report(&newest);
        tracing::info!(version = newest.version, expires_at = %newest.expires_at, "root published");
        Ok(())
    }

    fn report(&self, newest: &RoleState) {
        let (version, expires_at) = (newest.version, newest.expires_at.into());
        self.metrics.set_metadata(RepositorySide::Image, RoleKind::Root, version, expires_at);
    }

    /// What is staged, if that is what a stored file says: its publication was cut off.
    async fn staging_of(&self, file: &SignedFile) -> Result<Option<u64>, Error> {
        let (side, role) = (RepositorySide::Image, RoleName::Root);
        let Some(staging) = self.catalog.find_staging(side, &role).await? else { return Ok(None) };
        let staged = Unsigned::read(RoleName::Root, &staging.staged.content);
        let stored = Unsigned::of_file(RoleName::Root, &file.bytes);
        let is_same = matches!((staged, stored), (Ok(staged), Ok(stored)) if staged.digest() == stored.digest());
        Ok(is_same.then_some(staging.revision))
    }

    /// Whether the published root is to be signed again.
    pub(super) async fn is_due_at(&self, now: Timestamp) -> Result<bool, Error> {
        let newest = self.catalog.find_role(&RoleName::Root).await?.filter(|root| root.version > 0);
        match newest {
            Some(newest) => self.is_due(&newest, now).await,
            None => Ok(false),
        }
    }

    /// It is to be signed again, and its keys are on this machine.
    async fn is_due(&self, newest: &RoleState, now: Timestamp) -> Result<bool, Error> {
        let policy = self.repository.role_policy(&RoleName::Root);
        if !policy.is_due(newest.expires_at, now) {
            return Ok(false);
        }
        self.can_renew(newest.version).await
    }

    /// Whether the keys that a version names for its next one are on this machine.
    async fn can_renew(&self, version: u64) -> Result<bool, Error> {
        Ok(root::can_renew(&self.repository.keyring(), &self.read(version).await?))
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
            let bytes =
                blob.read_all(MAX_ROOT_BYTES).await.map_err(Error::reading(&next.name()))?;
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
            if !self.can_renew(version - 1).await? {
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
            root::renewed(RepositorySide::Image, current, version, &keyring, policy, now).await;
        let signed = signed.map_err(signing_failed("sign root metadata"))?;
        root::check_successor(current, signed.bytes, now)
            .map_err(Error::internal("sign root metadata"))
    }

    async fn read(&self, version: u64) -> Result<Bytes, Error> {
        let blob = self.blobs.open(&key(version)).await?;
        blob.read_all(MAX_ROOT_BYTES).await.map_err(Error::reading(&key(version).name()))
    }

    /// Records the next version, and returns what is recorded then. What is stored may have been
    /// fetched, so that it is recorded whatever has become of its staging.
    async fn record(
        &self,
        file: &SignedFile,
        staging: Option<u64>,
        author: &Author,
    ) -> Result<RoleState, Error> {
        let (version, length) = (file.version, file.bytes.len() as u64);
        let mut recorded = Err(catalog::Error::Overtaken);
        for staging in [staging, None] {
            if matches!(recorded, Err(catalog::Error::Overtaken)) {
                let (sha256, expires_at) = (file.sha256, file.expires_at);
                recorded = self
                    .catalog
                    .record_root(staging, version, length, sha256, expires_at, author)
                    .await;
            }
        }
        match recorded {
            Err(catalog::Error::Overtaken) => {} // by another replica, with the very file that is stored
            recorded => recorded?,
        }
        let missing =
            || Error::internal("record root metadata")(std::io::Error::other("the role is gone"));
        self.catalog.find_role(&RoleName::Root).await?.ok_or_else(missing)
    }
}

fn overtaken(version: u64) -> Error {
    let detail = format!(
        "another root {version} was published meanwhile: look at `motorcade root status`, and stage the change again"
    );
    Error::Conflict { code: "staging_outdated", detail }
}

fn key(version: u64) -> BlobKey {
    BlobKey::Metadata { version, role: RoleName::Root }
}
