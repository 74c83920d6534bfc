//! Which replicas are there: each says so again and again, and one that was killed stops.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Error;
use crate::app::watch::Pulse;
use crate::catalog::{self, Catalog, Holder};
use crate::model::clock::later;
use crate::model::{Clock, Timestamp};
use crate::telemetry::Chain;

/// Shows that a server is there, and keeps its clock compared with the database's, forever.
pub(in crate::app) async fn show(
    catalog: Catalog,
    owner: String,
    clock: Arc<dyn Clock>,
    pulse: Pulse,
) {
    let (name, mut run) = (format!("{PREFIX}{owner}"), None);
    loop {
        pulse.beat(INTERVAL + LONGEST_LOOK);
        match keep(&catalog, (&name, &owner), run, clock.now()).await {
            Ok(kept) => run = kept,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "failed to show the other replicas that this one is there");
            }
        }
        tokio::time::sleep(INTERVAL).await;
        let _ = catalog.compare_clocks(clock.as_ref()).await; // leases go by what it finds
    }
}

async fn keep(
    catalog: &Catalog,
    (name, owner): (&str, &str),
    run: Option<u64>,
    now: Timestamp,
) -> Result<Option<u64>, catalog::Error> {
    let lease_until = later(now, LEASE);
    if let Some(run) = run
        && catalog.keep_lease(name, run, lease_until).await?
    {
        return Ok(Some(run));
    }
    catalog.take_lease(name, Holder { owner, now, lease_until }).await
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
const INTERVAL: Duration = Duration::from_secs(10);
/// For as long as one that was killed seems to be there.
const LEASE: Duration = Duration::from_secs(35);
const LONGEST_LOOK: Duration = Duration::from_secs(120); // with a database that is away
