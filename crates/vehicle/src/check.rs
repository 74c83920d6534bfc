//! A look between two reports: whether the Director has anything new (docs/POUF.md, 2.2).
//!
//! One request for one small file, which mostly is not sent. Nobody signs that there is nothing
//! new, so what is trusted is verified again each time, at the time that it is by now: who gives
//! that answer for ever is noticed when the timestamp expires, as who gives the old timestamp is
//! (AT-6). Nothing is decided here but whether a cycle is due, and the cycle judges.

use motorcade_model::RoleName;
use motorcade_uptane::verify::{Finding, Limits};
use sha2::{Digest, Sha256};

use super::Error;
use super::bundle;
use super::http::Fetched;
use super::names::metadata_file;
use super::setup::Vehicle;
use super::source::Source;
use super::updater::Updater;

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// All is as it was.
    Nothing,
    /// Something differs, or does not hold any more: a cycle is due.
    Something,
}

/// Asks the Director whether the timestamp is another one than is trusted.
///
/// # Errors
///
/// [`Error::Http`] and [`Error::NotFound`] if it can't be asked. What looks like an attack is no
/// error but news: a cycle finds the same, and reports it.
pub(super) fn look(vehicle: &mut Vehicle) -> Result<News, Error> {
    let name = metadata_file(&RoleName::Timestamp, None);
    let Some(trusted) = vehicle.folder.director_store().find(&RoleName::Timestamp) else {
        return Ok(News::Something);
    };
    let url = format!("{}/{name}", vehicle.config.director());
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(&trusted)));
    let token = vehicle.token_for(&url);
    let fetched = vehicle.http.fetch_other(&url, token, &etag, Limits::TIMESTAMP);
    let is_same = match fetched {
        Ok(Fetched::Unchanged) => true,
        Ok(Fetched::File(file)) => file == trusted, // of a server with other entity tags
        Ok(Fetched::Missing) => return Err(Error::NotFound { name }),
        Err(error) if error.finding().and_then(Finding::attack).is_some() => false,
        Err(error) => return Err(error.into()),
    };
    Ok(if is_same && holds(vehicle, trusted) { News::Nothing } else { News::Something })
}

/// Whether all that is trusted of the Director verifies now, and all of it is installed.
///
/// The time at which it did is remembered, and written down with the next report: a parked vehicle
/// does not wear its memory out.
fn holds(vehicle: &mut Vehicle, timestamp: Vec<u8>) -> bool {
    let Ok(now) = vehicle.now() else { return false };
    if vehicle.state.latest_time.is_some_and(|latest| now < latest) {
        return false;
    }
    let (store, source) = (vehicle.folder.director_store(), Kept(timestamp));
    let started = Updater::start(&store, &source, vehicle.director_rules(), now);
    let verified = started.and_then(|mut director| director.refresh().map(|()| director));
    let Ok(director) = verified else { return false };
    let Ok(wanted) = bundle::wanted(director.set(), |_| true) else { return false };
    let is_done = wanted.iter().all(|assignment| vehicle.state.runs(assignment));
    if !is_done || director.set().root_version() != vehicle.state.director_root {
        return false;
    }
    vehicle.state.latest_time = vehicle.state.latest_time.max(Some(now));
    true
}

/// A repository that has this timestamp and nothing else: what is not stored is not there.
struct Kept(Vec<u8>);

impl Source for Kept {
    fn fetch(&self, name: &str, _: u64) -> Result<Option<Vec<u8>>, Error> {
        let is_it = name == metadata_file(&RoleName::Timestamp, None);
        Ok(is_it.then(|| self.0.clone()))
    }
}
