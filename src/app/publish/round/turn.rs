//! A round among replicas: when it is this server's turn, on what the others have published.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Rounds;
use super::start::content_of;
use crate::app::Error;
use crate::app::publish::outcome::{Failed, Outcome};
use crate::app::publish::signed::OwnerSigned;
use crate::app::publish::{CurrentTimestamp, seen};
use crate::app::replicas::Replica;
use crate::app::replicas::presence::{self, Presence};
use crate::app::replicas::turn::Before;
use crate::blob::BlobKey;
use crate::model::{RoleName, Sha256Digest};
use crate::telemetry::Chain;

/// What came of a piece of the publisher's work.
#[derive(Debug, Clone, Copy)]
pub(in crate::app::publish) struct Worked {
    pub(in crate::app::publish) round: Outcome,
    pub(in crate::app::publish) root: Outcome,
}

impl Rounds {
    /// Works beside others from now on.
    pub(in crate::app::publish) fn join(&self, replica: Arc<Replica>) {
        let _ = self.replica.set(replica); // once, at the start
    }

    /// Publishes from now on only while it is known that this server is there.
    pub(in crate::app::publish) fn ask(&self, presence: Arc<Presence>) {
        let _ = self.presence.set(presence); // once, at the start
    }

    /// Publishes what is due, and renews root if it is time.
    pub(in crate::app::publish) async fn work(&self, signed: &[OwnerSigned]) -> Worked {
        let worked = self.alone(async || Ok(self.work_now(signed).await)).await;
        worked.unwrap_or_else(|error| {
            if self.is_news(&error) {
                tracing::error!(error = %Chain(&error), "failed to publish metadata; will try again");
            }
            let failed = Err(Failed::from(&error));
            Worked { round: failed, root: failed }
        })
    }

    async fn work_now(&self, signed: &[OwnerSigned]) -> Worked {
        let round = self.round(signed).await;
        Worked { round, root: self.keep_root_fresh().await } // whatever came of the round
    }

    /// Does something while nobody else publishes.
    pub(in crate::app::publish) async fn alone<T>(
        &self,
        work: impl AsyncFnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(replica) = self.replica.get() else {
            presence::check(self.presence.get()).await?;
            return work().await;
        };
        let work = async |before: Before| {
            presence::check(self.presence.get()).await?;
            self.catch_up(replica, before).await?;
            work().await
        };
        replica.turn.have(work).await.flatten()
    }

    /// Takes up what others have published, and when, and the keys with which they did. One that
    /// was killed may have left a timestamp that it has recorded and not shown.
    async fn catch_up(&self, replica: &Replica, before: Before) -> Result<(), Error> {
        replica.keys.follow().await?;
        if before == Before::Another {
            self.time.catch_up(self.catalog.find_moments().await?);
            self.is_shown.store(false, Ordering::Relaxed); // as far as this process knows
            self.recover().await?;
        }
        Ok(())
    }

    /// The timestamp that is published now, and no older one that this server knew.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the catalog can't be reached: another replica may have published
    /// since.
    pub(in crate::app::publish) async fn newest(&self) -> Result<Option<CurrentTimestamp>, Error> {
        if let Some(replica) = self.replica.get() {
            replica.timestamp.compare(async || self.load_newer().await).await?;
        }
        Ok(self.current())
    }

    async fn load_newer(&self) -> Result<(), Error> {
        let known = self.current().map_or(0, |current| current.version);
        if self.catalog.published_version(&RoleName::Timestamp).await? <= known {
            return Ok(());
        }
        let recorded = self.catalog.find_role_body(&RoleName::Timestamp).await?;
        let Some(bytes) = recorded.map(Bytes::from) else { return Ok(()) };
        let Some((version, expires_at)) = content_of(&bytes) else {
            return Err(Error::Corrupt { detail: "the recorded timestamp can't be read".into() });
        };
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
        let published_at = self.published_at().await?;
        self.set_current(CurrentTimestamp { version, bytes, sha256, published_at, expires_at });
        Ok(())
    }

    /// Looks whether `timestamp.json` is the one that was recorded last, or newer, and has the next
    /// round put it right if not: a request to a store that was given up, or was sent by a server that
    /// hung, may be done after later ones. Readers of a bucket get it without this server.
    pub(in crate::app::publish) async fn look_at_shown(&self) {
        match self.is_older_shown().await {
            Ok(false) => {}
            Ok(true) => self.is_shown.store(false, Ordering::Relaxed),
            // Whatever is wrong is told by what has to be done.
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "timestamp.json can't be looked at")
            }
        }
    }

    async fn is_older_shown(&self) -> Result<bool, Error> {
        // In this order: a timestamp is shown after it was recorded. That it is not shown yet is
        // found out once more in this server's turn.
        let recorded = self.catalog.published_version(&RoleName::Timestamp).await?;
        let shown = seen::shown_version(self.blobs.as_ref(), &self.repository).await?;
        Ok(shown.unwrap_or(0) < recorded)
    }

    /// After `timestamp.json` was replaced: whoever hung in between may have replaced a newer one.
    /// Each looks after it has written, so the last who writes shows the newest.
    pub(super) async fn show_no_older(&self) -> Result<(), Error> {
        if self.replica.get().is_none() {
            return Ok(());
        }
        let mut shown = self.current().map_or(0, |current| current.version);
        while self.catalog.published_version(&RoleName::Timestamp).await? > shown {
            let newer = self.catalog.find_role_body(&RoleName::Timestamp).await?;
            let Some(newer) = newer.map(Bytes::from) else { return Ok(()) };
            shown = content_of(&newer).map_or(u64::MAX, |(version, _)| version);
            self.blobs.replace(&BlobKey::Timestamp, newer).await?;
        }
        Ok(())
    }
}
