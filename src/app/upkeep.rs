//! What the server does by itself: mend at the start what a crash left, and remove what nobody
//! needs any more.
//!
//! Signing again what gets old is [`super::publish`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::audit::AuditLog;
use super::ballast;
use super::director::Director;
use super::error::{BLOBS_UNREACHABLE, ESCROW_KEY_DIFFERS};
use super::escrow::Escrows;
use super::expiry::{Expiry, SignedBy, Stage};
use super::fleet::Fleet;
use super::handover::Handovers;
use super::images::Images;
use super::publish::Publisher;
use super::replicas::Replica;
use super::replicas::presence::{self, Presence};
use super::signing::{KEY_UNAVAILABLE, Signing};
use super::state_dir::StateDir;
use super::waiting;
use super::watch::{Pulse, Watch};
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{self, Catalog};
use crate::model::{RepositorySide, RoleKind};
use crate::telemetry::{Chain, Metrics};
use crate::uptane::verify::Fault;

/// Looks after the state directory and the fleet, and tells how the server is.
pub struct Upkeep {
    parts: Parts,
    pulse: Pulse,
}

/// What [`Upkeep`] is made of.
pub(super) struct Parts {
    pub(super) catalog: Catalog,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) publisher: Publisher,
    pub(super) images: Arc<Images>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) director: Arc<Director>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) handovers: Arc<Handovers>,
    pub(super) escrows: Arc<Escrows>,
    pub(super) signing: Arc<Signing>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) watch: Watch,
    pub(super) silent_after: Duration,
    pub(super) state: StateDir,
    pub(super) presence: Option<Arc<Presence>>,
    pub(super) replica: Option<Arc<Replica>>,
}

impl Upkeep {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, pulse: Pulse::default() }
    }

    /// Brings the state directory back in order after a crash: removes half-written files and blobs
    /// whose image was never accepted, and shows the timestamp that was published last. **Must run
    /// before uploads do.**
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn recover(&self) -> Result<(), Error> {
        self.compare_clocks().await?;
        self.parts.publisher.prepare().await?; // before anything is changed
        self.parts.images.release_uploads().await?;
        let mut swept = 0;
        // Others may be about to use what looks like a leftover; in an object store each has its own.
        if self.parts.blobs.is_remote() || self.is_alone().await? {
            swept += self.parts.blobs.sweep().await? + self.parts.images.sweep_uploads().await?;
        }
        self.parts.images.collect_uploads().await?; // the disk may be full of them
        // Those of another server that lives are not this one's to remove.
        let pending =
            self.parts.catalog.take_abandoned_blobs(self.parts.images.upload_holder()).await?;
        self.remove_pending_blobs(&pending).await;
        if swept + pending.len() > 0 {
            tracing::warn!(
                files = swept,
                blobs = pending.len(),
                "removed what unfinished uploads had left"
            );
        }
        self.parts.images.count().await?;
        self.parts.metrics.show_manifest_outcomes(&["accepted"]);
        self.parts.metrics.show_manifest_outcomes(&super::director::Refusal::CODES);
        self.parts.director.roots.look_after(self.parts.publisher.signing_time()).await;
        super::fleet::Suspicion::all()
            .for_each(|kind| self.parts.metrics.show_attack(kind.as_str()));
        Fault::ALL.into_iter().for_each(|kind| self.parts.metrics.show_fault(kind.as_str()));
        self.parts.metrics.show_fault("other"); // of those that are not known here
        self.maintain_fleet().await?;
        self.parts.handovers.look_after().await;
        self.parts.publisher.recover().await
    }

    /// Whether no other replica is there.
    async fn is_alone(&self) -> Result<bool, Error> {
        let Some(replica) = &self.parts.replica else { return Ok(true) };
        Ok(replica.others().await?.is_empty())
    }

    /// What another replica had begun before it was killed, and has not been started again since.
    async fn remove_abandoned(&self) -> Result<usize, Error> {
        if self.parts.replica.is_none() {
            return Ok(0);
        }
        let holder = self.parts.images.upload_holder();
        let expired = self.parts.catalog.take_expired_blobs(holder).await?;
        self.remove_pending_blobs(&expired).await;
        Ok(expired.len() + self.parts.images.sweep_abandoned().await?)
    }

    async fn remove_pending_blobs(&self, names: &[String]) {
        for name in names {
            // One blob that can't be removed must not keep the server from starting; the next start
            // tries again.
            if let Err(error) = self.remove_pending_blob(name).await {
                tracing::warn!(blob = name, error = %Chain(&error), "failed to remove what an unfinished upload had left");
            }
        }
    }

    async fn remove_pending_blob(&self, name: &str) -> Result<(), Error> {
        match BlobKey::candidates(name).into_iter().find(|key| key.name() == name) {
            Some(key) => self.parts.images.remove_announced(&key).await,
            None => Ok(self.parts.catalog.forget_pending_blob(name).await?), // of no blob
        }
    }

    /// Removes superseded metadata and looks after the fleet every `interval`, forever.
    pub async fn maintain(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        let mut sweeps = tokio::time::interval(interval.min(SWEEP_INTERVAL));
        ticks.tick().await; // which is at once: `recover` has just looked after the fleet
        self.watch_expiry().await;
        self.parts.images.watch_bins().await;
        let mut logged = self.parts.audit.log_head(None).await;
        loop {
            self.pulse.beat(interval.saturating_add(LONGEST_MAINTENANCE));
            tokio::select! {
                _ = sweeps.tick() => {
                    match self.remove_superseded_metadata().await {
                        Ok(0) => {}
                        Ok(files) => tracing::info!(files, "removed superseded metadata"),
                        Err(error) => tracing::warn!(error = %Chain(&error), "failed to remove superseded metadata"),
                    }
                    self.parts.handovers.look_after().await;
                    match self.remove_superseded_envelopes().await {
                        Ok(0) => {}
                        Ok(files) => tracing::info!(files, "removed superseded envelopes"),
                        Err(error) => tracing::warn!(error = %Chain(&error), "failed to remove superseded envelopes"),
                    }
                    ballast::keep(self.parts.state.path());
                    match self.remove_abandoned().await {
                        Ok(0) => {}
                        Ok(files) => tracing::warn!(files, "removed what uploads at a replica that was killed had left"),
                        Err(error) => tracing::warn!(error = %Chain(&error), "failed to look for what uploads have left"),
                    }
                    match self.parts.images.collect_uploads().await {
                        Ok(0) => {}
                        Ok(uploads) => tracing::info!(uploads, "uploads have expired"),
                        Err(error) => tracing::warn!(error = %Chain(&error), "failed to end uploads that have expired"),
                    }
                    if self.parts.director.roots.is_failing() {
                        self.parts.director.roots.look_after(self.parts.publisher.signing_time()).await;
                    }
                    continue;
                }
                // It may be what a handover that was cut off has waited for.
                () = self.parts.publisher.published() => {
                    self.parts.handovers.look_after().await;
                    continue;
                }
                _ = ticks.tick() => {}
            }
            self.watch_expiry().await;
            self.parts.images.watch_bins().await;
            logged = self.parts.audit.log_head(logged).await;
            self.parts.director.roots.look_after(self.parts.publisher.signing_time()).await;
            if self.parts.replica.is_some()
                && let Err(error) = self.parts.images.count().await
            {
                tracing::warn!(error = %Chain(&error), "failed to count images");
            }
            if let Err(error) = self.maintain_fleet().await {
                tracing::warn!(error = %Chain(&error), "failed to look after the fleet");
            }
            // With replicas it is done more often, and with what else they leave.
            if !self.parts.blobs.is_remote() || self.parts.replica.is_some() {
                continue;
            }
            match self.parts.images.sweep_abandoned().await {
                Ok(0) => {}
                Ok(uploads) => {
                    tracing::info!(uploads, "removed what uploads of other servers had left")
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "failed to remove what uploads of other servers have left")
                }
            }
        }
    }

    /// Publishes what is due at the start, for as long as `patience` lasts; what can't be is tried
    /// again, and said by [`Self::check_ready`].
    pub async fn publish_first(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.parts.publisher.publish()).await;
    }

    /// The pulse of [`Self::maintain`].
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Whether requests can be answered: the catalog is reachable, every background task is alive,
    /// all that is due has been published, and nothing has expired. Returns what a person has to
    /// sign, well ahead of that.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`], [`Error::Unavailable`], [`Error::Internal`] or [`Error::Full`].
    pub async fn check_ready(&self) -> Result<Vec<Expiry>, Error> {
        if let Some(name) = self.parts.watch.lifeless() {
            return Err(Error::NotReady {
                detail: format!("the task that {name} gives no sign of life"),
            });
        }
        self.parts.catalog.ping().await?;
        presence::check(self.parts.presence.as_ref()).await?;
        self.compare_clocks().await?;
        self.check_tables().await?;
        self.check_blobs().await?;
        self.check_keys().await?; // what it finds is why other things fail
        if self.parts.director.roots.is_failing() {
            let detail = "the Director's root is due and can't be signed: the log says why".into();
            return Err(Error::Unavailable { code: "not_published", detail });
        }
        self.parts.publisher.check()?;
        let mut expiries = self.expiries().await?;
        // The Director's root, if it is signed here, is looked after by itself: see above.
        let is_looked_after = |expiry: &&Expiry| {
            (expiry.side, expiry.signer) == (RepositorySide::Director, SignedBy::Server)
        };
        // What a supplier has to sign itself is its own, and keeps nobody else from anything; so is what
        // nobody signs any more.
        let mut expired = expiries
            .iter()
            .filter(|expiry| expiry.stage == Stage::Expired && expiry.owned.is_none());
        if let Some(expired) = expired.find(|expiry| !is_looked_after(expiry)) {
            let detail = format!("{}: {}", expired.describe(), expired.action());
            return Err(Error::Unavailable { code: "metadata_expired", detail });
        }
        expiries.retain(|expiry| expiry.awaits_person() && expiry.stage >= Stage::Soon);
        Ok(expiries)
    }

    /// Whether the clocks of replicas can be what they are, as far as the database's tells.
    async fn compare_clocks(&self) -> Result<(), Error> {
        match &self.parts.replica {
            Some(replica) => replica.compare_clocks().await,
            None => Ok(()),
        }
    }

    /// Whether the catalog's tables are still this version's to use.
    async fn check_tables(&self) -> Result<(), Error> {
        match self.parts.catalog.check_version().await {
            Err(catalog::Error::Unusable { fault, .. }) => {
                let detail = format!("the catalog {fault}"); // anybody may ask, and where it is is nobody's business
                Err(Error::Unavailable { code: "catalog_of_later_version", detail })
            }
            checked => Ok(checked?),
        }
    }

    /// Whether the store of blobs can be used. What it says is for whoever looks after the server.
    async fn check_blobs(&self) -> Result<(), Error> {
        match self.parts.blobs.check().await {
            Err(blob::Error::Unavailable { reason, .. }) => {
                Err(Error::Unavailable { code: BLOBS_UNREACHABLE, detail: reason })
            }
            checked => Ok(checked?),
        }
    }

    /// Whether role keys and escrow keys can be used; those that failed are tried again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] names each key and what waits for it; [`Error::Corrupt`];
    /// [`Error::Internal`].
    async fn check_keys(&self) -> Result<(), Error> {
        let Parts { signing, handovers, publisher, escrows, .. } = &self.parts;
        let (waiting, mut faults) =
            tokio::join!(waiting::list(signing, handovers, publisher), escrows.faults());
        let mut waiting = waiting?;
        if let Some(replica) = &self.parts.replica {
            let followed = replica.keys.follow().await; // who comes next in a handover
            waiting.extend(followed.err().map(|error| error.reason()));
            let mut missing = waiting::missing(handovers, publisher).await?;
            if !missing.is_empty() {
                replica.keys.reload().await?; // somebody may have put them there
                missing = waiting::missing(handovers, publisher).await?;
            }
            waiting.extend(missing);
        }
        let other = escrows.check_current().await.err(); // whose file may have come meanwhile
        let code = match (waiting.is_empty(), faults.is_empty(), &other) {
            (true, true, None) => return Ok(()),
            (true, _, Some(_)) => ESCROW_KEY_DIFFERS,
            (true, false, None) => "escrow_unavailable",
            (false, ..) => KEY_UNAVAILABLE,
        };
        faults.iter_mut().for_each(|fault| fault.push_str(ESCROW_WAITS));
        let other: Vec<String> = other.iter().map(Error::reason).collect();
        let lines = [waiting, faults, other].concat().join("; ");
        let detail = format!("{lines}; what is signed is served");
        Err(Error::Unavailable { code, detail })
    }

    /// When what is published expires, and who signs it before that.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn expiries(&self) -> Result<Vec<Expiry>, Error> {
        self.parts.publisher.expiries().await
    }

    /// Shows and logs what has not been signed again: by a person, whose keys are not here, or by
    /// this server, which could not.
    async fn watch_expiry(&self) {
        let Ok(expiries) = self.expiries().await else { return }; // whoever needs the catalog reports it
        // Of suppliers there may be none any more.
        let suppliers = (RepositorySide::Image, RoleKind::Suppliers);
        let mut awaited: BTreeMap<(RepositorySide, RoleKind), bool> = [(suppliers, false)].into();
        for expiry in &expiries {
            *awaited.entry((expiry.side, expiry.kind)).or_default() |= expiry.awaits_person();
        }
        for ((side, kind), awaits) in awaited {
            self.parts.metrics.set_awaits_person(side, kind, awaits);
        }
        for expiry in expiries {
            if expiry.stage >= Stage::Soon {
                let (role, expires_at) = (expiry.name(), expiry.expires_at);
                let action = expiry.action();
                tracing::warn!(role, %expires_at, action, "metadata expires soon and has not been signed again");
            }
        }
    }

    /// Brings up to date what is measured rather than counted as it happens, for a scrape.
    pub fn measure(&self) {
        let [database, log] = self.parts.catalog.file_sizes();
        self.parts.metrics.set_catalog_size(database, log);
    }

    async fn maintain_fleet(&self) -> Result<(), Error> {
        let counts = self.parts.fleet.count_fleet(self.parts.silent_after).await?;
        self.parts.metrics.set_vehicles([
            ("registered", counts.registered),
            ("quarantined", counts.quarantined),
            ("silent", counts.silent),
            ("unexpected", counts.unexpected),
            ("fallen_back", counts.fallen_back),
        ]);
        if counts.silent > 0 {
            tracing::warn!(
                vehicles = counts.silent,
                "vehicles have not been heard of for long (docs/OPERATIONS.md)"
            );
        }
        Ok(())
    }

    /// Removes the files of envelopes that were replaced long ago, and returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while the time isn't known; [`Error::Full`]; [`Error::Internal`].
    pub async fn remove_superseded_envelopes(&self) -> Result<usize, Error> {
        self.parts.images.remove_superseded_envelopes().await
    }

    /// Removes superseded metadata that nobody asks for any more, and returns how many files that
    /// were.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while the time isn't known; [`Error::Full`]; [`Error::Internal`].
    pub async fn remove_superseded_metadata(&self) -> Result<usize, Error> {
        self.parts.publisher.remove_superseded().await
    }
}

const ESCROW_WAITS: &str = ": uploads, and vehicles with something new to install, wait for it";
/// A disk on which each deletion takes a second can have that many files to delete.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(6 * 60 * 60);
/// What is superseded can be gone soon after: many uploads leave much of it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);
