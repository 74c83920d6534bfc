//! What the server does by itself: mend at the start what a crash left, and remove what nobody needs any more.
//!
//! Signing again what gets old is [`super::publish`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::watch::Pulse;
use super::{App, Error};
use crate::blob::BlobKey;
use crate::telemetry::Chain;

impl App {
    /// Brings the state directory back in order after a crash: removes half-written files and blobs whose image was
    /// never accepted, and shows the timestamp that was published last. **Must run before uploads do.**
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn recover(&self) -> Result<(), Error> {
        let swept = self.blobs.sweep().await?;
        let pending = self.catalog.pending_blobs().await?;
        for name in &pending {
            // One blob that can't be removed must not keep the server from starting; the next start tries again.
            if let Err(error) = self.remove_pending_blob(name).await {
                tracing::warn!(blob = name, error = %Chain(&error), "failed to remove what an unfinished upload had left");
            }
        }
        if swept + pending.len() > 0 {
            tracing::warn!(files = swept, blobs = pending.len(), "removed what unfinished uploads had left");
        }
        self.count_published(i64::try_from(self.catalog.count_images().await?).unwrap_or(i64::MAX));
        self.metrics.show_manifest_outcomes(&["accepted"]);
        self.metrics.show_manifest_outcomes(&super::direct::Refusal::CODES);
        self.director_roots.look_after().await;
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
        ticks.tick().await; // which is at once
        loop {
            self.maintenance.beat(LONGEST_MAINTENANCE);
            self.publisher.warn_of_expiry().await;
            self.watch_bins().await;
            match self.remove_superseded_metadata().await {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "removed superseded metadata"),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "failed to remove superseded metadata");
                }
            }
            self.maintenance.beat(interval.saturating_add(LONGEST_MAINTENANCE));
            ticks.tick().await;
            // Not the first time: `recover` has just done it.
            self.director_roots.look_after().await;
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
        let counts = self.count_fleet(self.limits.silent_after).await?;
        self.metrics.set_vehicles(counts.registered, counts.quarantined, counts.silent);
        if counts.silent > 0 {
            tracing::warn!(vehicles = counts.silent, "vehicles have not been heard of for long (docs/OPERATIONS.md)");
        }
        Ok(())
    }

    /// Removes metadata files that were replaced longer ago than a vehicle's update takes. Root versions stay forever
    /// (TUF 1.0.34, 6.2.1).
    async fn remove_superseded_metadata(&self) -> Result<usize, Error> {
        // As long as a timestamp lives, which is the oldest file that leads a vehicle to these, and at least a day.
        let kept_for = self.publisher.timestamp_lifetime().max(Duration::from_secs(24 * 60 * 60));
        let oldest_kept = self.clock.now() - kept_for;
        let mut stored: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for key in self.blobs.list_metadata().await? {
            if let BlobKey::Metadata { version, role } = key {
                stored.entry(role).or_default().insert(version);
            }
        }
        let mut removed = 0;
        for state in self.catalog.list_roles().await?.into_iter().filter(|state| state.name != "root") {
            let versions = stored.remove(&state.name).unwrap_or_default();
            let published: Vec<u64> = versions.into_iter().filter(|version| *version <= state.version).collect();
            for pair in published.windows(2) {
                // A file is superseded when the next one is stored.
                let [old, next] =
                    [pair[0], pair[1]].map(|version| BlobKey::Metadata { version, role: state.name.clone() });
                if self.blobs.open(&next).await?.modified < oldest_kept {
                    self.blobs.delete(&old).await?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// A disk on which each deletion takes a second can have that many files to delete.
const LONGEST_MAINTENANCE: Duration = Duration::from_secs(6 * 60 * 60);
