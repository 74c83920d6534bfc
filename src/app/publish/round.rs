//! One round of publication: which files are due, how they are signed, and in which order they become visible.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;

use super::roots::RootChain;
use super::{CurrentTimestamp, Failed, Outcome};
use crate::app::Error;
use crate::app::trust::Verifier;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::{self, Catalog, PublishedRole, ReservedVersion, RoleState};
use crate::model::{Clock, MAX_BIN_BYTES, Sha256Digest, Timestamp};
use crate::telemetry::{Chain, Metrics, PublicationOutcome};
use crate::uptane::image_repo::{ImageRepository, MetadataFile};
use crate::uptane::signing::SignedFile;

/// What a round works on, and what the last one has published.
pub(super) struct Rounds {
    pub(super) catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: Arc<ImageRepository>,
    roots: RootChain,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    pub(super) verifier: Verifier,
    current: RwLock<Option<CurrentTimestamp>>,
    /// Why what is due could not be published the last time.
    failing: RwLock<Option<Failed>>,
    /// Whether the timestamp that was recorded last is the visible one, as far as this process knows.
    is_shown: AtomicBool,
}

impl Rounds {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: ImageRepository,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let repository = Arc::new(repository);
        let roots = RootChain::new(catalog.clone(), Arc::clone(&blobs), Arc::clone(&repository), Arc::clone(&metrics));
        Self {
            catalog,
            verifier: Verifier::new(Arc::clone(&blobs)),
            blobs,
            repository,
            roots,
            clock,
            metrics,
            current: RwLock::new(None),
            failing: RwLock::new(None),
            is_shown: AtomicBool::new(false),
        }
    }

    pub(super) fn repository(&self) -> &ImageRepository {
        &self.repository
    }

    /// The timestamp that is published now.
    pub(super) fn current(&self) -> Option<CurrentTimestamp> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failing(&self) -> Option<Failed> {
        *self.failing.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_failing(&self, why: Option<Failed>) {
        *self.failing.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) async fn round(&self) -> Outcome {
        let started = Instant::now();
        let outcome = self.publish_changes().await;
        match outcome {
            Ok(0) => Ok(()),
            Ok(files) => {
                self.metrics.add_publication(PublicationOutcome::Published, started.elapsed());
                tracing::info!(files, duration_ms = started.elapsed().as_secs_f64() * 1000.0, "metadata published");
                Ok(())
            }
            Err(error) => {
                self.metrics.add_publication(PublicationOutcome::Failed, started.elapsed());
                tracing::error!(error = %Chain(&error), "failed to publish metadata; will try again");
                Err(if matches!(error, Error::Full { .. }) { Failed::Full } else { Failed::Other })
            }
        }
    }

    /// Renews root if it is time; a step of its own, which no round of the other roles waits for or depends on.
    pub(super) async fn keep_root_fresh(&self) -> Outcome {
        let started = Instant::now();
        match self.roots.keep_fresh(self.clock.now()).await {
            Ok(0) => Ok(()),
            Ok(_) => {
                self.metrics.add_publication(PublicationOutcome::Published, started.elapsed());
                Ok(())
            }
            Err(error) => {
                self.metrics.add_publication(PublicationOutcome::Failed, started.elapsed());
                tracing::error!(error = %Chain(&error), "failed to renew root; will try again");
                Err(if matches!(error, Error::Full { .. }) { Failed::Full } else { Failed::Other })
            }
        }
    }

    /// One round; returns how many files it published.
    async fn publish_changes(&self) -> Result<usize, Error> {
        if !self.is_shown.load(Ordering::Relaxed) {
            self.recover().await?; // an earlier round was recorded, and then failed to show what it had recorded
        }
        let now = self.clock.now();
        let states = self.catalog.list_roles().await?;
        let due = self.due_roles(&states, now);
        if due.is_empty() {
            return Ok(0);
        }
        let reserved = self.catalog.reserve_versions(&due).await?;
        let mut files = Vec::with_capacity(due.len());
        for version in reserved.iter().filter(|version| !is_built_last(&version.name)) {
            files.push(self.sign_role(version, now).await?);
        }
        files.extend(self.sign_snapshot_and_timestamp(&reserved, &states, &files, now).await?);
        self.verifier.check(&states, &files).await?;
        for file in files.iter().filter(|file| file.role != "timestamp") {
            self.blobs.put(&key_of(file), file.bytes.clone()).await?;
        }
        self.is_shown.store(false, Ordering::Relaxed);
        match self.catalog.record_publication(&published_roles(&reserved, &files)).await {
            // Another replica, which started after this one, publishes all that this one would have.
            Err(catalog::Error::Overtaken) => return Ok(0),
            recorded => recorded?,
        }
        self.show(&files, &states, now).await?;
        Ok(files.len())
    }

    /// Which roles need a new file: those that changed or are past half their life, and whoever lists them.
    fn due_roles(&self, states: &[RoleState], now: Timestamp) -> Vec<String> {
        let is_old = |state: &RoleState| {
            let half_life = self.repository.role_policy(&state.name).lifetime() / 2;
            state.version == 0 || state.expires_at < now + half_life
        };
        let is_due = |state: &&RoleState| state.name != "root" && (state.is_changed || is_old(state));
        let mut due: Vec<String> = states.iter().filter(is_due).map(|state| state.name.clone()).collect();
        let mut cascade = |role: &str, causes: &dyn Fn(&str) -> bool| {
            if !due.iter().any(|name| name == role) && due.iter().any(|name| causes(name)) {
                due.push(role.to_owned());
            }
        };
        cascade("snapshot", &|name| !is_built_last(name));
        cascade("timestamp", &|name| name == "snapshot");
        due
    }

    async fn sign_role(&self, reserved: &ReservedVersion, now: Timestamp) -> Result<SignedFile, Error> {
        let ReservedVersion { name, version, .. } = reserved;
        let signed = match name.as_str() {
            "targets" => self.repository.sign_targets(*version, now).await,
            bin => self.repository.sign_bin(bin, *version, self.catalog.list_targets(bin).await?, now).await,
        };
        let file = signed.map_err(Error::internal("sign metadata"))?;
        self.warn_if_large(&file);
        Ok(file)
    }

    async fn sign_snapshot_and_timestamp(
        &self,
        reserved: &[ReservedVersion],
        states: &[RoleState],
        new: &[SignedFile],
        now: Timestamp,
    ) -> Result<Vec<SignedFile>, Error> {
        let version_of = |role: &str| reserved.iter().find(|version| version.name == role).map(|found| found.version);
        let mut files = Vec::new();
        let snapshot = match version_of("snapshot") {
            Some(version) => {
                let listed = listed_in_snapshot(states, new);
                let signed = self.repository.sign_snapshot(version, &listed, now).await;
                let file = signed.map_err(Error::internal("sign the snapshot"))?;
                self.warn_if_large(&file);
                let described = MetadataFile::from(&file);
                files.push(file);
                Some(described)
            }
            None => states.iter().find(|state| state.name == "snapshot").map(published_file),
        };
        if let (Some(version), Some(snapshot)) = (version_of("timestamp"), snapshot) {
            let signed = self.repository.sign_timestamp(version, &snapshot, now).await;
            files.push(signed.map_err(Error::internal("sign the timestamp"))?);
        }
        Ok(files)
    }

    /// Makes a recorded publication visible.
    async fn show(&self, files: &[SignedFile], states: &[RoleState], now: Timestamp) -> Result<(), Error> {
        if let Some(timestamp) = files.iter().find(|file| file.role == "timestamp") {
            self.blobs.replace(&BlobKey::Timestamp, timestamp.bytes.clone()).await?;
            self.set_current(timestamp.bytes.clone(), timestamp.sha256, now);
        }
        self.is_shown.store(true, Ordering::Relaxed);
        let unchanged = states.iter().filter(|state| !files.iter().any(|file| file.role == state.name));
        let unchanged = unchanged.map(|state| (state.name.as_str(), state.version, state.expires_at));
        self.report(unchanged.chain(files.iter().map(|file| (file.role.as_str(), file.version, file.expires_at))));
        Ok(())
    }

    pub(super) async fn recover(&self) -> Result<(), Error> {
        let Some(recorded) = self.catalog.find_role_body("timestamp").await? else {
            self.is_shown.store(true, Ordering::Relaxed); // nothing has been published yet
            return Ok(());
        };
        let recorded = Bytes::from(recorded);
        let visible = match self.blobs.open(&BlobKey::Timestamp).await {
            Ok(blob) => blob.read_all(MAX_TIMESTAMP_SIZE).await.ok(),
            Err(_) => None,
        };
        if visible.as_ref() != Some(&recorded) {
            tracing::warn!("timestamp.json was not the one that was published last; it is now");
            self.blobs.replace(&BlobKey::Timestamp, recorded.clone()).await?;
        }
        self.is_shown.store(true, Ordering::Relaxed);
        let states = self.catalog.list_roles().await?;
        if let Some(state) = states.iter().find(|state| state.name == "timestamp") {
            let lifetime = self.repository.role_policy("timestamp").lifetime();
            self.set_current(recorded, state.sha256, state.expires_at - lifetime);
        }
        self.report(states.iter().map(|state| (state.name.as_str(), state.version, state.expires_at)));
        Ok(())
    }

    pub(super) async fn warn_of_expiry(&self) {
        let Ok(states) = self.catalog.list_roles().await else { return }; // whoever needs the catalog reports it
        let now = self.clock.now();
        for state in states {
            let quarter_life = self.repository.role_policy(&state.name).lifetime() / 4;
            if state.expires_at < now + quarter_life {
                let (role, expires_at) = (&state.name, state.expires_at);
                tracing::warn!(role, %expires_at, "metadata expires soon and has not been signed again");
            }
        }
    }

    /// Tells the metrics when each role expires; all bins together are one role, which expires with the first of them.
    fn report<'a>(&self, roles: impl Iterator<Item = (&'a str, u64, Timestamp)>) {
        let mut bins: Option<(u64, Timestamp)> = None;
        for (role, version, expires_at) in roles {
            if matches!(role, "root" | "targets" | "snapshot" | "timestamp") {
                self.metrics.set_metadata("image", role, version, expires_at.into());
            } else {
                let (highest, first) = bins.unwrap_or((version, expires_at));
                bins = Some((highest.max(version), first.min(expires_at)));
            }
        }
        if let Some((version, expires_at)) = bins {
            self.metrics.set_metadata("image", "bins", version, expires_at.into());
        }
    }

    fn set_current(&self, bytes: Bytes, sha256: Sha256Digest, published_at: Timestamp) {
        let current = CurrentTimestamp { bytes, sha256, published_at };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    /// Vehicles refuse files above their limits, so an operator hears of it before that.
    fn warn_if_large(&self, file: &SignedFile) {
        let limit = match file.role.as_str() {
            "root" | "snapshot" | "timestamp" => 64 * 1024, // aktualizr's
            _ => MAX_BIN_BYTES as usize,
        };
        if file.bytes.len() > limit / 4 * 3 {
            tracing::warn!(role = file.role, size_bytes = file.bytes.len(), limit, "metadata file gets large");
        }
    }
}

fn is_built_last(role: &str) -> bool {
    matches!(role, "snapshot" | "timestamp")
}

fn listed_in_snapshot(states: &[RoleState], new: &[SignedFile]) -> Vec<MetadataFile> {
    let listed = states.iter().filter(|state| !matches!(state.name.as_str(), "root" | "snapshot" | "timestamp"));
    let file = |state: &RoleState| match new.iter().find(|file| file.role == state.name) {
        Some(file) => MetadataFile::from(file),
        None => published_file(state),
    };
    listed.map(file).collect()
}

fn published_file(state: &RoleState) -> MetadataFile {
    MetadataFile { role: state.name.clone(), version: state.version, length: state.length, sha256: state.sha256 }
}

fn key_of(file: &SignedFile) -> BlobKey {
    BlobKey::Metadata { version: file.version, role: file.role.clone() }
}

fn published_roles(reserved: &[ReservedVersion], files: &[SignedFile]) -> Vec<PublishedRole> {
    let published = |reserved: &ReservedVersion| {
        let file = files.iter().find(|file| file.role == reserved.name)?;
        Some(PublishedRole {
            reserved: reserved.clone(),
            length: file.bytes.len() as u64,
            sha256: file.sha256,
            expires_at: file.expires_at,
            body: (file.role == "timestamp").then(|| file.bytes.to_vec()),
        })
    };
    reserved.iter().filter_map(published).collect()
}

const MAX_TIMESTAMP_SIZE: u64 = 16 * 1024; // 16 KiB: what vehicles take
