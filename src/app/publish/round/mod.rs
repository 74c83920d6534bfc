//! One round of publication: which files are due, how they are signed, and in which order they
//! become visible.

mod asked;
mod begin;
mod last;
mod record;
mod show;
mod start;
mod targets;
mod turn;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::Notify;

use self::record::{published_roles, published_timestamp};
pub(in crate::app::publish) use self::turn::Worked;
use super::bins::BinSigner;
use super::delegations;
use super::outcome::{CurrentTimestamp, Failed, Outcome, SigningSize};
use super::retention::Retention;
use super::roots::RootChain;
use super::signed::{self, OwnerSigned};
use super::time::SigningTime;
use crate::app::Error;
use crate::app::expiry::{self, Expiry};
use crate::app::replicas::Replica;
use crate::app::replicas::presence::Presence;
use crate::app::trust::Verifier;
use crate::blob::{BlobKey, BlobStore, StagedBlob};
use crate::catalog::{self, Author, Catalog, ReservedVersion, RoleState, SignedUpon};
use crate::model::{Clock, MAX_BIN_BYTES, RoleName, SupplierRecord, Timestamp};
use crate::telemetry::{Chain, Metrics, PublicationOutcome};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::metadata::SignedFile;
use crate::uptane::verify::TrustedSet;

/// What a round works on, and what the last one has published.
pub(super) struct Rounds {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: Arc<ImageRepository>,
    bins: BinSigner,
    roots: RootChain,
    retention: Retention,
    time: SigningTime,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    verifier: Verifier,
    known_expiries: expiry::Known,
    current: RwLock<Option<CurrentTimestamp>>,
    /// Why what is due could not be published the last time.
    failing: RwLock<Option<Failed>>,
    /// Whether that is known: what was due at the start is published, or was tried to be.
    is_known: AtomicBool,
    /// Bytes and files of everything that is published, as all of it takes when it is signed again
    /// at once.
    size: RwLock<SigningSize>,
    /// Whether the timestamp that was recorded last is the visible one, as far as this process
    /// knows.
    is_shown: AtomicBool,
    /// Whether the visible timestamp is newer than the recorded one: the catalog was copied before
    /// it was published.
    is_overtaken: AtomicBool,
    /// Told of each round that has published something, and of each root that was renewed or taken
    /// over.
    published: Notify,
    /// Which of several servers this one is, if there are others.
    replica: OnceLock<Arc<Replica>>,
    /// That this server is there, if others may use its database.
    presence: OnceLock<Arc<Presence>>,
}

/// What a round may sign.
#[derive(Clone, Copy)]
enum Scope<'a> {
    /// Whatever is due, together with what others have signed.
    All(&'a [OwnerSigned]),
    /// The timestamp, of the snapshot that is published.
    TimestampAlone,
}

impl<'a> Scope<'a> {
    fn signed(self) -> &'a [OwnerSigned] {
        match self {
            Self::All(signed) => signed,
            Self::TimestampAlone => &[],
        }
    }
}

/// What a round signs.
struct Begun {
    now: Timestamp,
    suppliers: Vec<SupplierRecord>,
    states: Vec<RoleState>,
    reserved: Vec<ReservedVersion>,
    /// The published root and targets, or those that people have signed for this round.
    set: Arc<TrustedSet>,
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
        let roots = RootChain::new(
            catalog.clone(),
            Arc::clone(&blobs),
            Arc::clone(&repository),
            Arc::clone(&metrics),
        );
        let lifetime = repository.role_policy(&RoleName::Timestamp).lifetime();
        let bins = BinSigner::new(catalog.clone(), Arc::clone(&blobs), Arc::clone(&repository));
        let retention = Retention::new(catalog.clone(), Arc::clone(&blobs), lifetime);
        let time = SigningTime::new(Arc::clone(&clock), Arc::clone(&metrics));
        Self {
            catalog,
            verifier: Verifier::new(Arc::clone(&blobs)),
            blobs,
            repository,
            bins,
            roots,
            retention,
            time,
            clock,
            metrics,
            known_expiries: expiry::Known::default(),
            current: RwLock::new(None),
            failing: RwLock::new(None),
            is_known: AtomicBool::new(false),
            size: RwLock::default(),
            is_shown: AtomicBool::new(false),
            is_overtaken: AtomicBool::new(false),
            published: Notify::new(),
            replica: OnceLock::new(),
            presence: OnceLock::new(),
        }
    }

    pub(super) fn repository(&self) -> &ImageRepository {
        &self.repository
    }

    pub(super) fn time(&self) -> &SigningTime {
        &self.time
    }

    pub(super) fn failing(&self) -> Option<Failed> {
        *self.failing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what was due at the start is published, or was tried to be.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    pub(super) fn set_failing(&self, why: Option<Failed>) {
        *self.failing.write().unwrap_or_else(PoisonError::into_inner) = why;
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Publishes what is due, together with what others have signed.
    pub(super) async fn round(&self, signed: &[OwnerSigned]) -> Outcome {
        let started = Instant::now();
        let published = self.publish_changes(Scope::All(signed)).await;
        if matches!(&published, Err(error) if Failed::from(error) == Failed::Key) {
            self.keep_timestamp_fresh().await;
        }
        let files = self.tell("publish metadata", started, published)?;
        if files > 0 {
            tracing::info!(
                files,
                duration_ms = started.elapsed().as_secs_f64() * 1000.0,
                "metadata published"
            );
        }
        Ok(())
    }

    /// Signs the timestamp again if it gets old, while something else that is due waits for its key:
    /// to vehicles, one that expires looks like an attack.
    async fn keep_timestamp_fresh(&self) {
        match self.publish_changes(Scope::TimestampAlone).await {
            Ok(0) => {}
            Ok(_) => {
                tracing::info!("timestamp signed again; what is due besides waits for its key")
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to sign the timestamp alone; will try again");
            }
        }
    }

    /// Renews root if it is time; a step of its own, which no round of the other roles waits for or
    /// depends on.
    pub(super) async fn keep_root_fresh(&self) -> Outcome {
        let started = Instant::now();
        let kept = match self.time.now() {
            Ok(now) => self.roots.keep_fresh(now).await,
            Err(error) => match self.roots.is_due_at(self.clock.now()).await {
                Ok(true) => Err(error),
                Ok(false) => Ok(0),
                Err(other) => Err(other),
            },
        };
        self.tell("renew root", started, kept).map(drop)
    }

    /// Returns once something was published since the last call.
    pub(super) async fn published(&self) {
        self.published.notified().await;
    }

    /// Publishes the next root, which people have signed; as [`RootChain::publish`].
    pub(super) async fn publish_root(
        &self,
        file: &SignedFile,
        staging: u64,
        author: &Author,
    ) -> Result<(), Error> {
        self.roots.publish(file, staging, author).await
    }

    /// Counts what was tried, and logs why it failed.
    fn tell(
        &self,
        what: &'static str,
        started: Instant,
        files: Result<usize, Error>,
    ) -> Result<usize, Failed> {
        let count = |outcome| self.metrics.add_publication(outcome, started.elapsed());
        match &files {
            Ok(0) => {}
            Ok(_) => {
                count(PublicationOutcome::Published);
                self.published.notify_one();
            }
            Err(error) => {
                count(PublicationOutcome::Failed);
                if self.is_news(error) {
                    tracing::error!(error = %Chain(error), "failed to {what}; will try again");
                }
            }
        }
        files.map_err(|error| Failed::from(&error))
    }

    /// Whether a failure is worth a line: a clock that is behind, or a key that is away, stays so
    /// for hours, and was told of when that began.
    fn is_news(&self, error: &Error) -> bool {
        let failed = Failed::from(error);
        !(matches!(failed, Failed::Clock | Failed::Key | Failed::Older | Failed::NotShown)
            && self.failing() == Some(failed))
    }

    /// One round; returns how many files it published. What another replica has overtaken is tried
    /// again: what that has published may be less than all that was asked for here.
    async fn publish_changes(&self, mut scope: Scope<'_>) -> Result<usize, Error> {
        for _ in 0..TRIES {
            if let Some(files) = self.try_to_publish(scope).await? {
                return Ok(files);
            }
            // What others have signed may be what was published, or be staged no more.
            if let Scope::All(signed) = &mut scope {
                *signed = &[];
            }
            self.is_shown.store(false, Ordering::Relaxed);
        }
        Err(Error::Busy)
    }

    /// The same, once; none if somebody else has published meanwhile.
    async fn try_to_publish(&self, scope: Scope<'_>) -> Result<Option<usize>, Error> {
        if !self.is_shown.load(Ordering::Relaxed) {
            self.recover().await?; // an earlier round was recorded, and then failed to show what it had recorded
        }
        let now = self.time.now(); // asked each time, since it tells of what the clock does
        let begun = self.begin(now, scope).await?;
        let Some(Begun { now, suppliers, states, reserved, mut set }) = begun else {
            return Ok(Some(0));
        };
        let signed = scope.signed();
        let mut files = signed::stored_before(self.blobs.as_ref(), signed).await?;
        // The targets first, for they say who signs for the bins.
        if let Some(targets) = reserved.iter().find(|version| version.name == RoleName::Targets) {
            let with_them = reserved.iter().map(|version| version.name.clone()).collect();
            let bins = delegations::bin_keys(
                &self.catalog,
                self.blobs.as_ref(),
                &self.repository,
                &states,
                &with_them,
                &set,
            );
            let owned: Vec<RoleName> = files.iter().map(|file| file.role.clone()).collect();
            let blobs = self.blobs.as_ref();
            let suppliers =
                delegations::to_suppliers(blobs, &states, suppliers, &owned, &set).await?;
            let to = (suppliers, &bins.await?);
            let file = self.sign_targets(targets, to, &set, now).await?;
            Arc::make_mut(&mut set).adopt_targets(&file.bytes).map_err(Error::internal(SIGN))?;
            files.push(file);
        }
        files.extend(self.bins.sign(&reserved, &states, &set, now).await?);
        files.iter().for_each(warn_if_large);
        files.extend(self.sign_last(&reserved, &states, &files, &set, now).await?);
        self.verifier.check(&states, &files).await?;
        let visible_last = self.store(files.split_at(signed.len())).await?;
        self.is_shown.store(false, Ordering::Relaxed);
        let timestamp = published_timestamp(&states, &files, now);
        let moments = self.time.moments_with(now);
        let roles = published_roles(&reserved, signed, &files);
        let timestamp = timestamp.as_ref().map(|timestamp| (timestamp, SignedUpon::of(&states)));
        match self.catalog.record_publication(&roles, timestamp, &moments).await {
            Err(catalog::Error::Overtaken) => return Ok(None),
            recorded => recorded?,
        }
        self.time.note(now);
        self.show(visible_last, &files, &states, now).await?;
        Ok(Some(files.len()))
    }

    /// Stores files under names by which nobody asks for them yet; returns the timestamp, which is on
    /// the disk before it is recorded, too, and gets its name last. Those that others have signed may
    /// be stored already, if a publication of them was cut off.
    async fn store(
        &self,
        (signed, ours): (&[SignedFile], &[SignedFile]),
    ) -> Result<Vec<(Box<dyn StagedBlob>, BlobKey)>, Error> {
        let staged =
            self.blobs.stage_all(ours.iter().map(|file| file.bytes.clone()).collect()).await?;
        for file in signed {
            self.blobs.put(&key_of(file), file.bytes.clone()).await?;
        }
        let (visible_last, others): (Vec<_>, Vec<_>) = staged
            .into_iter()
            .zip(ours.iter().map(key_of))
            .partition(|(_, key)| *key == BlobKey::Timestamp);
        self.blobs.promote_all(others).await?;
        Ok(visible_last)
    }

    pub(super) async fn remove_superseded(&self) -> Result<usize, Error> {
        // What is visible has to be what was recorded last, or it leads to files that are taken for
        // superseded.
        if !self.is_shown.load(Ordering::Relaxed) || self.is_overtaken.load(Ordering::Relaxed) {
            return Ok(0);
        }
        self.retention.sweep(self.time.now()?).await
    }

    pub(super) async fn metadata_in_force(&self) -> Result<HashSet<BlobKey>, Error> {
        if !self.is_shown.load(Ordering::Relaxed) || self.is_overtaken.load(Ordering::Relaxed) {
            let detail = "what was published last is not shown yet".into();
            return Err(Error::Unavailable { code: "not_published", detail });
        }
        self.retention.led_to(self.time.now()?).await
    }

    pub(super) async fn expiries(&self) -> Result<Vec<Expiry>, Error> {
        let (policy, keyring) = (self.repository.policy(), self.repository.keyring());
        let image = self.verifier.current(&self.catalog.list_roles().await?).await?;
        let (store, now) = ((&self.catalog, self.blobs.as_ref()), self.clock.now());
        expiry::list(store, policy, &keyring, Some(&image), &self.known_expiries, now).await
    }
}

/// Vehicles refuse files above their limits, so an operator hears of it before that.
fn warn_if_large(file: &SignedFile) {
    let limit = match file.role {
        RoleName::Root | RoleName::Snapshot | RoleName::Timestamp => 64 * 1024, // aktualizr's
        RoleName::Targets | RoleName::Delegated(_) => MAX_BIN_BYTES as usize,
    };
    if file.bytes.len() > limit / 4 * 3 {
        tracing::warn!(
            role = %file.role,
            size_bytes = file.bytes.len(),
            limit,
            "metadata file gets large"
        );
    }
}

fn key_of(file: &SignedFile) -> BlobKey {
    match &file.role {
        RoleName::Timestamp => BlobKey::Timestamp,
        role => BlobKey::Metadata { version: file.version, role: role.clone() },
    }
}

const SIGN: &str = "sign metadata";
/// Each time another replica has published, which takes as long as to sign what it has published.
const TRIES: usize = 5;
