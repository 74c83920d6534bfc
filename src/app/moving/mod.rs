//! An installation that grows out of one machine: its catalog moves from SQLite to a database, its
//! blobs from the state directory to a bucket, or both, with the server stopped. Whatever ends a
//! move, it goes on where it was.
//!
//! What moves is only read in its old place, and stays there for whoever wants to go back before the
//! new one was used. Nothing is used in both: from its beginning on a record in the state directory
//! says where it goes (`moved.rs`).

mod blobs;
mod carry;
mod catalog;
mod progress;

use super::state_dir::StateDir;
use super::{Error, backup, footing};
use crate::catalog::TableDigest;
use crate::model::{Bucket, Clock, DatabaseUrl, Timestamp};
use blobs::BlobMove;
pub use blobs::MovedBlobs;
use catalog::CatalogMove;
pub use progress::Progress;

/// Where an installation moves; what is none stays where it is.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The database for its catalog.
    pub catalog: Option<DatabaseUrl>,
    /// The bucket for its blobs.
    pub bucket: Option<Bucket>,
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The tables of the catalog: name, and what is in it; none if that was done before. Nothing if
    /// the catalog stays.
    pub tables: Option<Vec<(String, TableDigest)>>,
    /// Nothing if the blobs stay.
    pub blobs: Option<MovedBlobs>,
}

/// Moves what `to` names of `state`, or goes on with that.
///
/// # Errors
///
/// [`Error::Conflict`] if a server runs on the directory, something moves or has moved elsewhere, or
/// the database or bucket holds something else; [`Error::NotFound`] if the directory isn't
/// initialized; [`Error::Unusable`] if the database or the bucket can't be used; [`Error::Corrupt`]
/// if a blob is damaged, or the two sides differ in the end; [`Error::Full`];
/// [`Error::Unavailable`]; [`Error::Internal`].
pub async fn move_store(
    state: &StateDir,
    to: &Destination,
    clock: &dyn Clock,
    progress: impl Fn(Progress<'_>),
) -> Result<Moved, Error> {
    if !state.is_made() {
        return Err(state.not_initialized());
    }
    footing::refuse_root_in_foreign(state.path())?;
    let _lock = state.lock()?;
    backup::refuse_unrecovered(state.path())?;
    state.refuse_empty_catalog()?;
    // All that can be refused is, before anything is written.
    let mut blobs = match &to.bucket {
        Some(bucket) => BlobMove::plan(state, bucket).await?,
        None => None,
    };
    let catalog = match &to.catalog {
        Some(url) => CatalogMove::begin(state, url, clock).await?,
        None => None,
    };
    let afterwards = match &to.catalog {
        Some(url) => state.clone().with_catalog(Some(url.clone())),
        None => state.clone(),
    };
    if let Some(blobs) = &mut blobs {
        if catalog.as_ref().is_none_or(CatalogMove::is_there) {
            refuse_other_use(&afterwards, clock.now()).await?;
        }
        blobs.begin(clock.now()).await?;
        blobs.copy(&progress).await?;
        // As soon as the catalog is there, servers may put into the bucket what is not here.
        blobs.settle().await?;
    }
    let tables = match catalog {
        Some(catalog) => Some(catalog.finish(clock, &progress).await?),
        None => to.catalog.as_ref().map(|_| Vec::new()),
    };
    let blobs = match blobs {
        Some(blobs) => Some(blobs.finish(&afterwards, clock.now()).await?),
        None => to.bucket.as_ref().map(|_| MovedBlobs::default()),
    };
    Ok(Moved { tables, blobs })
}

/// A catalog that blobs follow is this installation's, can be used, and nobody else uses it now.
async fn refuse_other_use(state: &StateDir, now: Timestamp) -> Result<(), Error> {
    state.refuse_foreign_catalog().await?;
    let catalog = state.own_catalog(now).await?;
    let refused = state.refuse_beside_others(&catalog, now).await;
    catalog.close().await;
    refused
}
