//! Which servers are there: each that has a database says so again and again, and one that was killed
//! stops.
//!
//! One that can't be beside another, since it has the same id or other blobs, is refused when it
//! starts. Where that is found out later, as by one that was paused until it was taken for gone, it
//! says so and takes nothing in.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::app::Error;
use crate::app::watch::Pulse;
use crate::catalog::{self, BlobsOf, Catalog, Holder, OtherServer, ServerRecord, Shown};
use crate::model::clock::later;
use crate::model::{Clock, Timestamp};
use crate::telemetry::Chain;

/// That a server is there, for the others.
pub(in crate::app) struct Presence {
    catalog: Catalog,
    server: ServerRecord,
    clock: Arc<dyn Clock>,
    /// Why this server can't be beside another one that is there.
    refusal: RwLock<Option<String>>,
    /// What this server has of the lease that servers of a version before this one look at; none once
    /// it has left.
    lease: tokio::sync::Mutex<Option<Lease>>,
}

#[derive(Default)]
struct Lease {
    run: Option<u64>,
}

impl Presence {
    /// Shows that a server is there from now on, which has its directory locked. One that was killed
    /// a moment ago is waited for, unless it was in the same directory.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it can't be beside one that lives; [`Error::Unavailable`] if the catalog
    /// can't be reached; [`Error::Full`]; [`Error::Internal`].
    pub(in crate::app) async fn enter(
        catalog: Catalog,
        server: ServerRecord,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        catalog.compare_clocks(clock.as_ref()).await?; // leases go by what it finds
        let (refusal, lease) = (RwLock::default(), Some(Lease::default()).into());
        let this = Self { catalog, server, clock, refusal, lease };
        let first = this.show(Shown::AtStart).await?;
        let Some(other) = first.first() else { return Ok(this) };
        tracing::warn!("{}: waits to see whether it lives", this.refusal_by(other));
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let still = this.show(Shown::AtStart).await?;
            let lives = |other: &&OtherServer| !first.contains(other);
            match still.iter().find(lives) {
                Some(other) => {
                    let detail = this.refusal_by(other);
                    return Err(Error::Conflict { code: OTHER_SERVER, detail });
                }
                None if still.is_empty() => return Ok(this),
                None => {}
            }
        }
    }

    /// Shows that the server is there, and keeps its clock compared with the database's, forever.
    pub(in crate::app) async fn go_on(self: Arc<Self>, pulse: Pulse) {
        loop {
            pulse.beat(INTERVAL + LONGEST_LOOK);
            if let Err(error) = self.show_again().await {
                tracing::warn!(error = %Chain(&error), "failed to show the other servers that this one is there");
            }
            tokio::time::sleep(INTERVAL).await;
            let _ = self.catalog.compare_clocks(self.clock.as_ref()).await; // leases go by what it finds
        }
    }

    async fn show_again(&self) -> Result<(), catalog::Error> {
        let mut lease = self.lease.lock().await;
        let Some(lease) = lease.as_mut() else { return Ok(()) };
        let others = self.show(Shown::Again).await?;
        let refusal = others.first().map(|other| self.refusal_by(other));
        if let Some(refusal) = &refusal {
            tracing::error!("{refusal}");
        }
        let is_alone = refusal.is_none();
        *self.refusal.write().unwrap_or_else(PoisonError::into_inner) = refusal;
        if is_alone {
            lease.run = self.keep(lease.run).await?;
        }
        Ok(())
    }

    async fn show(&self, shown: Shown) -> Result<Vec<OtherServer>, catalog::Error> {
        let now = self.clock.now();
        self.catalog.show_server(&self.server, shown, (now, later(now, LEASE))).await
    }

    async fn keep(&self, run: Option<u64>) -> Result<Option<u64>, catalog::Error> {
        let (owner, now) = (self.server.id.as_str(), self.clock.now());
        let (name, lease_until) = (format!("{PREFIX}{owner}"), later(now, LEASE));
        if let Some(run) = run
            && self.catalog.keep_lease(&name, run, lease_until).await?
        {
            return Ok(Some(run));
        }
        self.catalog.take_lease(&name, Holder { owner, now, lease_until }).await
    }

    /// Refuses to go on beside a server that this one can't be beside.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] names that one.
    pub(in crate::app) fn check(&self) -> Result<(), Error> {
        let refusal = self.refusal.read().unwrap_or_else(PoisonError::into_inner).clone();
        refusal.map_or(Ok(()), |detail| Err(Error::Unavailable { code: OTHER_SERVER, detail }))
    }

    /// Shows that the server is not there any more, so that another one need not wait.
    pub(in crate::app) async fn leave(&self) {
        let left = tokio::time::timeout(LONGEST_LEAVE, self.end()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                "failed to show that this server has left; it seems to be there for half a minute"
            );
        }
    }

    async fn end(&self) -> Result<(), catalog::Error> {
        let Some(lease) = self.lease.lock().await.take() else { return Ok(()) };
        if let Some(run) = lease.run {
            self.catalog.end_lease(&format!("{PREFIX}{}", self.server.id), run).await?;
        }
        self.catalog.end_server(&self.server.process).await
    }

    /// Says what can't be beside what, and what to do.
    fn refusal_by(&self, other: &OtherServer) -> String {
        let ServerRecord { id, described, .. } = &other.server;
        if *id == self.server.id {
            return format!(
                "another server runs under the id of this one, {id}: {described}; one of the two state directories is a copy: \
                 stop its server, remove `server-id` there, and start it again"
            );
        }
        let whose = match self.server.blobs {
            BlobsOf::One => "this server has its blobs in its own state directory",
            BlobsOf::All => "that one has its blobs in its own state directory",
        };
        format!(
            "another server uses this database, {id}: {described}; {whose}, and one would lack what the other takes in: stop it, \
             or give both the same --shared-blobs or bucket (docs/REPLICAS.md)"
        )
    }
}

/// The ids of the other servers that are there.
///
/// # Errors
///
/// [`Error::Unavailable`] if the catalog can't be reached; [`Error::Internal`].
pub(in crate::app) async fn others(
    catalog: &Catalog,
    owner: &str,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let mut there = catalog.list_lease_holders(PREFIX, now).await?;
    there.retain(|other| other != owner);
    Ok(there)
}

const PREFIX: &str = "server/";
/// The code of what a server does not do beside another one.
const OTHER_SERVER: &str = "other_server";
const INTERVAL: Duration = Duration::from_secs(10);
/// For as long as one that was killed seems to be there.
const LEASE: Duration = Duration::from_secs(35);
const LONGEST_LOOK: Duration = Duration::from_secs(120); // with a database that is away
const LONGEST_LEAVE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
