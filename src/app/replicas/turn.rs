//! Whose turn it is to publish.
//!
//! A turn is a lease in the catalog: it ends when its holder lets go of it, or soon after its
//! holder was killed. That two replicas work at once, because one hung and lost its turn, is
//! possible and does no harm: what the slower one records is refused, since its numbers are not the
//! last ones, or something else was published than what it signed upon. So turns are there that
//! work is not done twice and in vain, and versions are not used up.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::Error;
use crate::catalog::{Catalog, Holder};
use crate::model::clock::later;
use crate::model::{Clock, Timestamp};
use crate::telemetry::Chain;

/// The right to publish, which one replica has at a time.
pub(in crate::app) struct Turn {
    catalog: Catalog,
    /// Id of this server.
    owner: String,
    clock: Arc<dyn Clock>,
    /// The last turn that this server had; 0 before the first.
    last: AtomicU64,
    ended: Mutex<Option<Instant>>,
}

/// Who had the turn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum Before {
    /// This server: nobody has published meanwhile.
    This,
    /// Somebody else, or this server before it was started.
    Another,
}

impl Turn {
    pub(super) fn new(catalog: Catalog, owner: String, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, owner, clock, last: AtomicU64::new(0), ended: Mutex::new(None) }
    }

    /// Does some work once it is this server's turn.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the catalog can't be reached; [`Error::Full`];
    /// [`Error::Internal`]. Nothing was done then.
    pub(in crate::app) async fn have<T>(
        &self,
        work: impl AsyncFnOnce(Before) -> T,
    ) -> Result<T, Error> {
        let run = self.take().await?;
        let before = if self.last.swap(run, Ordering::Relaxed) + 1 == run {
            Before::This
        } else {
            Before::Another
        };
        let mut work = pin!(work(before));
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(KEEP_INTERVAL) => self.keep(run).await,
            }
        };
        if let Err(error) = self.catalog.end_lease(NAME, run).await {
            tracing::warn!(error = %Chain(&error), "failed to let go of the turn to publish, which ends by itself");
        }
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(done)
    }

    async fn take(&self) -> Result<u64, Error> {
        tokio::time::sleep(self.rest()).await;
        loop {
            let now = self.clock.now();
            let holder = self.catalog.find_lease_holder(NAME, now).await?;
            if holder.is_none_or(|holder| holder == self.owner) {
                let taker = Holder { owner: &self.owner, now, lease_until: self.lease() };
                if let Some(run) = self.catalog.take_lease(NAME, taker).await? {
                    return Ok(run);
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Leaves others the time to take their turn: whoever asks next would always be this server.
    fn rest(&self) -> Duration {
        let ended = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.map_or(Duration::ZERO, |ended| REST.saturating_sub(ended.elapsed()))
    }

    async fn keep(&self, run: u64) {
        match self.catalog.keep_lease(NAME, run, self.lease()).await {
            Ok(true) => {}
            // What is recorded now may be refused, and is tried again.
            Ok(false) => tracing::warn!("the turn to publish was lost to another replica"),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to keep the turn to publish");
            }
        }
    }

    fn lease(&self) -> Timestamp {
        later(self.clock.now(), LEASE)
    }
}

const NAME: &str = "publish";
/// For as long as nothing is published after a replica was killed in its turn.
const LEASE: Duration = Duration::from_secs(10);
const KEEP_INTERVAL: Duration = Duration::from_secs(3);
const LOOK_INTERVAL: Duration = Duration::from_millis(15);
/// More than two looks of the others.
const REST: Duration = Duration::from_millis(40);
