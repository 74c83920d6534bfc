//! What the server does by itself: mend at the start what a crash left, and remove what nobody
//! needs any more.
//!
//! Signing again what gets old is [`super::publish`]'s.

use std::sync::Arc;
use std::time::Duration;

use super::watch::Pulse;
use super::{App, Error};
use crate::blob::BlobKey;
use crate::telemetry::Chain;

impl App {
    /// Brings the state directory back in order after a crash: removes half-written files and blobs
    /// whose image was never accepted, and shows the timestamp that was published last. **Must run
    /// before uploads do.**
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn recover(&self) -> Result<(), Error> {
        self.publisher.prepare().await?; // before anything is changed
        let swept = self.blobs.sweep().await?;
        // Those of another server that lives are not this one's to remove.
        let pending = self.catalog.take_abandoned_blobs(self.images.upload_holder()).await?;
        for name in &pending {
            // One blob that can't be removed must not keep the server from starting; the next start
            // tries again.
            if let Err(error) = self.remove_pending_blob(name).await {
                tracing::warn!(blob = name, error = %Chain(&error), "failed to remove what an unfinished upload had left");
            }
        }
        if swept + pending.len() > 0 {
            tracing::warn!(
                files = swept,
                blobs = pending.len(),
                "removed what unfinished uploads had left"
            );
        }
        self.images.count().await?;
        self.metrics.show_manifest_outcomes(&["accepted"]);
        self.metrics.show_manifest_outcomes(&super::director::Refusal::CODES);
        self.director.roots.look_after(self.publisher.signing_time()).await;
        super::fleet::Suspicion::all().for_each(|kind| self.metrics.show_attack(kind.as_str()));
        self.maintain_fleet().await?;
        self.publisher.recover().await
    }

    async fn remove_pending_blob(&self, name: &str) -> Result<(), Error> {
        for key in BlobKey::candidates(name).into_iter().filter(|key| key.name() == name) {
            self.blobs.delete(&key).await?;
        }
        Ok(self.catalog.forget_pending_blob(name).await?)
    }

    /// Removes superseded metadata and looks after the fleet every `interval`, forever.
    pub async fn maintain(self: Arc<Self>, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        let mut sweeps = tokio::time::interval(interval.min(SWEEP_INTERVAL));
        ticks.tick().await; // which is at once: `recover` has just looked after the fleet
        self.publisher.warn_of_expiry().await;
        self.images.watch_bins().await;
        let mut logged = self.log_audit_head(None).await;
        loop {
            self.maintenance.beat(interval.saturating_add(LONGEST_MAINTENANCE));
            tokio::select! {
                _ = sweeps.tick() => {
                    match self.remove_superseded_metadata().await {
                        Ok(0) => {}
                        Ok(files) => tracing::info!(files, "removed superseded metadata"),
                        Err(error) => tracing::warn!(error = %Chain(&error), "failed to remove superseded metadata"),
                    }
                    if self.director.roots.is_failing() {
                        self.director.roots.look_after(self.publisher.signing_time()).await;
                    }
                    continue;
                }
                _ = ticks.tick() => {}
            }
            self.publisher.warn_of_expiry().await;
            self.images.watch_bins().await;
            logged = self.log_audit_head(logged).await;
            self.director.roots.look_after(self.publisher.signing_time()).await;
            if let Err(error) = self.maintain_fleet().await {
                tracing::warn!(error = %Chain(&error), "failed to look after the fleet");
            }
        }
    }

    /// The pulse of [`Self::maintain`].
    pub fn maintenance_pulse(&self) -> Pulse {
        self.maintenance.clone()
    }

    async fn maintain_fleet(&self) -> Result<(), Error> {
        let counts = self.fleet.count_fleet(self.limits.silent_after).await?;
        self.metrics.set_vehicles([
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

    /// Removes superseded metadata that nobody asks for any more, and returns how many files that
    /// were.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while the time isn't known; [`Error::Full`]; [`Error::Internal`].
    pub async fn remove_superseded_metadata(&self) -> Result<usize, Error> {
        self.publisher.remove_superseded().await
    }
}

/// A disk on which each deletion takes a second can have that many files to delete.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(6 * 60 * 60);
/// What is superseded can be gone soon after: many uploads leave much of it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5 * 60);
