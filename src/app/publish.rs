//! Publication: from what has changed in the catalog to a new timestamp.
//!
//! One task publishes. Requests that come while it works are answered together by its next round, so that a hundred
//! uploads that end at once lead to one or two new snapshots. A round is
//!
//! 1. find the roles whose content changed or whose file is past half its life;
//! 2. reserve their next versions, on disk, so that no crash leads to two files of one version;
//! 3. sign and store bins, targets, then the snapshot (TUF 1.0.34, 6.3);
//! 4. record all of them and the signed timestamp in one transaction, which is the moment of publication;
//! 5. replace `timestamp.json`.
//!
//! A crash before step 4 leaves files that nothing names, whose versions are never used again. A crash after it is
//! mended by [`Publisher::recover`], which repeats step 5.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::{self, Catalog, PublishedRole, ReservedVersion, RoleState};
use crate::model::{Clock, Sha256Digest, Timestamp};
use crate::telemetry::{Metrics, PublicationOutcome};
use crate::uptane::image_repo::{ImageRepository, MetadataFile};
use crate::uptane::root;
use crate::uptane::signing::SignedFile;

/// Signs and publishes the Image repository's metadata.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::UnboundedSender<oneshot::Sender<Outcome>>,
    shared: Arc<Shared>,
}

/// The signed timestamp as it is served.
#[derive(Debug, Clone)]
pub struct CurrentTimestamp {
    /// The file.
    pub bytes: Bytes,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// When it was published.
    pub published_at: Timestamp,
}

struct Shared {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: ImageRepository,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    current: RwLock<Option<CurrentTimestamp>>,
}

/// What a round tells everyone who waits for it.
type Outcome = Result<(), Failed>;

/// The kinds of failure that a waiting request answers differently; the cause is logged once, by the round.
#[derive(Debug, Clone, Copy)]
enum Failed {
    Full,
    Other,
}

/// The other end of [`Publisher`]: the task that publishes.
pub struct PublisherTask {
    requests: mpsc::UnboundedReceiver<oneshot::Sender<Outcome>>,
    shared: Arc<Shared>,
}

impl Publisher {
    /// Makes a publisher and its task, which has to be run.
    pub fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: ImageRepository,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> (Self, PublisherTask) {
        let (sender, requests) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { catalog, blobs, repository, clock, metrics, current: RwLock::new(None) });
        (Self { requests: sender, shared: Arc::clone(&shared) }, PublisherTask { requests, shared })
    }

    /// Publishes whatever has changed and signs again what gets old; returns once that is visible.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`]: the last publication stays as it is, and this one is tried again.
    pub async fn publish(&self) -> Result<(), Error> {
        let (answer, outcome) = oneshot::channel();
        // Both fail only when the task is gone, at the end of the process.
        let stopped = || Error::internal("publish")(std::io::Error::other("the publisher has stopped"));
        self.requests.send(answer).map_err(|_| stopped())?;
        match outcome.await.map_err(|_| stopped())? {
            Ok(()) => Ok(()),
            Err(Failed::Full) => Err(Error::Full {
                detail: "the change is accepted, but no space is left to publish it: it will be once there is".into(),
            }),
            Err(Failed::Other) => {
                Err(Error::internal("publish")(std::io::Error::other("see the round's own log line")))
            }
        }
    }

    /// Makes the visible timestamp the one that was last recorded, after a crash between the two.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn recover(&self) -> Result<(), Error> {
        self.shared.recover().await
    }

    /// The timestamp that is published now.
    pub fn current_timestamp(&self) -> Option<CurrentTimestamp> {
        self.shared.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Whether a public key signs metadata here.
    pub fn is_role_key(&self, public_pem: &str) -> bool {
        self.shared.repository.keyring().has_public_pem(public_pem)
    }

    /// Name of the role that lists a target.
    pub fn bin_of(&self, target: &str) -> String {
        self.shared.repository.bin_of(target)
    }
}

impl PublisherTask {
    /// Publishes on request, and looks every `interval` for files that get old, until every [`Publisher`] is gone.
    pub async fn run(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return,
                },
                _ = ticks.tick() => {}
            }
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            let outcome = self.shared.round().await;
            if outcome.is_err() {
                ticks.reset_after(RETRY_PAUSE.min(interval));
            }
            for request in waiting {
                let _ = request.send(outcome); // whoever asked may be gone
            }
        }
    }
}

impl Shared {
    async fn round(&self) -> Outcome {
        let started = Instant::now();
        let outcome = self.publish_changes().await;
        match outcome {
            Ok(0) => Ok(()),
            Ok(files) => {
                self.metrics.add_publication(PublicationOutcome::Published, started.elapsed());
                tracing::info!(files, duration_ms = started.elapsed().as_millis(), "metadata published");
                Ok(())
            }
            Err(error) => {
                self.metrics.add_publication(PublicationOutcome::Failed, started.elapsed());
                tracing::error!(error = &error as &dyn std::error::Error, "failed to publish metadata; will try again");
                Err(if matches!(error, Error::Full { .. }) { Failed::Full } else { Failed::Other })
            }
        }
    }

    /// One round; returns how many files it published.
    async fn publish_changes(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let states = self.catalog.list_roles().await?;
        let due = self.due_roles(&states, now);
        if due.is_empty() {
            return Ok(0);
        }
        let reserved = self.catalog.reserve_versions(&due).await?;
        let mut files = Vec::with_capacity(due.len());
        for version in reserved.iter().filter(|version| !is_built_last(&version.name)) {
            files.push(self.sign_role(version, &states, now).await?);
        }
        files.extend(self.sign_snapshot_and_timestamp(&reserved, &states, &files, now).await?);
        for file in files.iter().filter(|file| file.role != "timestamp") {
            self.blobs.put(&key_of(file), file.bytes.clone()).await?;
        }
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
        let can_sign = |state: &RoleState| state.name != "root" || self.can_renew_root(state);
        let is_due = |state: &&RoleState| (state.is_changed || is_old(state)) && can_sign(state);
        let mut due: Vec<String> = states.iter().filter(is_due).map(|state| state.name.clone()).collect();
        let mut cascade = |role: &str, causes: &dyn Fn(&str) -> bool| {
            if !due.iter().any(|name| name == role) && due.iter().any(|name| causes(name)) {
                due.push(role.to_owned());
            }
        };
        cascade("snapshot", &|name| !matches!(name, "root" | "snapshot" | "timestamp"));
        cascade("timestamp", &|name| name == "snapshot");
        due
    }

    /// Version 1 is made by `init`; later ones here, as long as the root keys are on this machine.
    fn can_renew_root(&self, root: &RoleState) -> bool {
        let threshold = usize::from(self.repository.policy().root.threshold);
        root.version > 0 && self.repository.keyring().keys("root").len() >= threshold
    }

    async fn sign_role(
        &self,
        reserved: &ReservedVersion,
        states: &[RoleState],
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let ReservedVersion { name, version, .. } = reserved;
        let signed = match name.as_str() {
            "targets" => self.repository.sign_targets(*version, now).await,
            "root" => {
                let current = states.iter().find(|state| state.name == "root").map_or(0, |state| state.version);
                let key = BlobKey::Metadata { version: current, role: "root".into() };
                let current = self.blobs.open(&key).await?.read_all(MAX_ROOT_SIZE).await;
                let current = current.map_err(Error::internal("read root metadata"))?;
                let (keyring, policy) = (self.repository.keyring(), self.repository.policy());
                root::renewed(&current, *version, keyring, policy, now).await
            }
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
        let unchanged = states.iter().filter(|state| !files.iter().any(|file| file.role == state.name));
        let unchanged = unchanged.map(|state| (state.name.as_str(), state.version, state.expires_at));
        self.report(unchanged.chain(files.iter().map(|file| (file.role.as_str(), file.version, file.expires_at))));
        Ok(())
    }

    async fn recover(&self) -> Result<(), Error> {
        let Some(recorded) = self.catalog.find_role_body("timestamp").await? else { return Ok(()) };
        let recorded = Bytes::from(recorded);
        let visible = match self.blobs.open(&BlobKey::Timestamp).await {
            Ok(blob) => blob.read_all(MAX_ROOT_SIZE).await.ok(),
            Err(_) => None,
        };
        if visible.as_ref() != Some(&recorded) {
            tracing::warn!("timestamp.json was not the one that was published last; it is now");
            self.blobs.replace(&BlobKey::Timestamp, recorded.clone()).await?;
        }
        let states = self.catalog.list_roles().await?;
        if let Some(state) = states.iter().find(|state| state.name == "timestamp") {
            let lifetime = self.repository.role_policy("timestamp").lifetime();
            self.set_current(recorded, state.sha256, state.expires_at - lifetime);
        }
        self.report(states.iter().map(|state| (state.name.as_str(), state.version, state.expires_at)));
        Ok(())
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
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(current);
    }

    /// Vehicles refuse files above their limits, so an operator hears of it before that.
    fn warn_if_large(&self, file: &SignedFile) {
        let limit = match file.role.as_str() {
            "root" | "snapshot" | "timestamp" => 64 * 1024, // aktualizr's
            _ => 512 * 1024,
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

const RETRY_PAUSE: Duration = Duration::from_secs(5);
const MAX_ROOT_SIZE: u64 = 1024 * 1024; // 1 MiB
