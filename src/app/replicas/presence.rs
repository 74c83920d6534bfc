//! Which servers are there: each that has a database says so again and again, and one that was killed
//! stops.
//!
//! One that can't be beside another, since it has the same id or other blobs, is refused when it
//! starts. Where that is found out later, as by one that was paused until it was taken for gone, it
//! says so, and takes nothing in and publishes nothing.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

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
    /// When it was last shown that this server is there.
    shown_at: RwLock<Option<Moment>>,
    /// What this server has of the lease that servers of a version before this one look at; none once
    /// it has left.
    lease: tokio::sync::Mutex<Option<Lease>>,
}

#[derive(Default)]
struct Lease {
    run: Option<u64>,
}

/// A moment by two clocks: while a virtual machine is paused, one of them may stand still.
#[derive(Clone, Copy)]
struct Moment {
    since_boot: Duration,
    wall: Timestamp,
}

impl Moment {
    fn now(clock: &dyn Clock) -> Self {
        let since_boot = clock_gettime(ClockId::Boottime); // which goes on in standby
        let since_boot = Duration::try_from(since_boot).unwrap_or_default();
        Self { since_boot, wall: clock.now() }
    }

    /// How long before another moment this one was, by whichever clock says longer.
    fn before(self, now: Self) -> Duration {
        let by_wall = now.wall.duration_since(self.wall);
        let by_wall = Duration::try_from(by_wall).unwrap_or_default(); // it was set back
        now.since_boot.saturating_sub(self.since_boot).max(by_wall)
    }
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
        let (refusal, shown_at) = (RwLock::default(), RwLock::default());
        let lease = Some(Lease::default()).into();
        let this = Self { catalog, server, clock, refusal, shown_at, lease };
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
        self.show_holding(lease.as_mut()).await
    }

    async fn show_holding(&self, lease: Option<&mut Lease>) -> Result<(), catalog::Error> {
        let Some(lease) = lease else { return Ok(()) };
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
        let moment = Moment::now(self.clock.as_ref());
        let times = (moment.wall, later(moment.wall, LEASE));
        let others = self.catalog.show_server(&self.server, shown, times).await?;
        if others.is_empty() {
            *self.shown_at.write().unwrap_or_else(PoisonError::into_inner) = Some(moment);
        }
        Ok(others)
    }

    /// Whether others may have taken this server for gone since it was shown last.
    fn is_overdue(&self) -> bool {
        let shown_at = *self.shown_at.read().unwrap_or_else(PoisonError::into_inner);
        let now = Moment::now(self.clock.as_ref());
        shown_at.is_none_or(|shown_at| shown_at.before(now) >= LEASE)
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

    /// Refuses to go on beside a server that this one can't be beside. One that others may have
    /// taken for gone shows itself first.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] names that one, or says that this server isn't shown to the others.
    pub(in crate::app) async fn check(&self) -> Result<(), Error> {
        self.refuse()?;
        if !self.is_overdue() {
            return Ok(());
        }
        let shown = tokio::time::timeout(LONGEST_CHECK, self.show_if_overdue()).await;
        match shown {
            Ok(Ok(())) => self.refuse(), // it may have found one in its place
            Ok(Err(unreachable @ catalog::Error::Unreachable { .. })) => Err(unreachable.into()),
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(error = %Chain(&error), "failed to show the other servers that this one is there");
                }
                let detail = "this server could not show the others of its database for over 35 seconds that it is there: it \
                              takes and publishes nothing until it has";
                Err(Error::Unavailable { code: OTHER_SERVER, detail: detail.into() })
            }
        }
    }

    async fn show_if_overdue(&self) -> Result<(), catalog::Error> {
        let mut lease = self.lease.lock().await;
        if !self.is_overdue() {
            return Ok(()); // it was shown while the lock was waited for
        }
        self.show_holding(lease.as_mut()).await
    }

    fn refuse(&self) -> Result<(), Error> {
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

/// As [`Presence::check`]; a server whose catalog is in a file is alone.
///
/// # Errors
///
/// As of that.
pub(in crate::app) async fn check(presence: Option<&Arc<Presence>>) -> Result<(), Error> {
    match presence {
        Some(presence) => presence.check().await,
        None => Ok(()),
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
pub(in crate::app) const OTHER_SERVER: &str = "other_server";
const INTERVAL: Duration = Duration::from_secs(10);
/// For as long as one that was killed seems to be there.
const LEASE: Duration = Duration::from_secs(35);
const LONGEST_LOOK: Duration = Duration::from_secs(120); // with a database that is away
const LONGEST_CHECK: Duration = Duration::from_secs(10);
const LONGEST_LEAVE: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Hand(Mutex<Timestamp>);

    impl Hand {
        fn advance(&self, seconds: u64) {
            let mut now = self.0.lock().unwrap();
            *now = later(*now, Duration::from_secs(seconds));
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    async fn enter(catalog: &Catalog, id: &str, clock: &Arc<Hand>) -> Presence {
        let text = id.to_owned();
        let server = ServerRecord {
            id: text.clone(),
            process: text.clone(),
            place: text.clone(),
            blobs: BlobsOf::One,
            described: text,
        };
        let clock = Arc::clone(clock);
        Presence::enter(catalog.clone(), server, clock).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_that_others_may_have_taken_for_gone_shows_itself_first() {
        let folder = tempfile::tempdir().unwrap();
        let start = Timestamp::from_second(1_790_000_000).unwrap();
        let file = folder.path().join("catalog.db");
        let catalog = Catalog::own_sqlite(&file, start).await.unwrap();
        let clock = Arc::new(Hand(Mutex::new(start)));
        let paused = enter(&catalog, "paused", &clock).await;
        clock.advance(36);
        paused.check().await.unwrap(); // nobody has taken its place, and it is there again
        clock.advance(34);
        assert!(!paused.is_overdue());

        clock.advance(2);
        let other = enter(&catalog, "other", &clock).await;
        let refusal = paused.check().await.unwrap_err();
        assert!(
            matches!(&refusal, Error::Unavailable { code: OTHER_SERVER, detail } if detail.contains("other"))
        );
        other.check().await.unwrap();
        other.leave().await;
        paused.show_again().await.unwrap();
        paused.check().await.unwrap();

        // With a catalog that is away nothing says whether it is alone.
        clock.advance(36);
        catalog.close().await;
        assert!(paused.check().await.is_err());
    }
}
