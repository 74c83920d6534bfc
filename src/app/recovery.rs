//! What a person does to a state directory whose catalog, or whose clock, was wrong; the server
//! must not run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::principal::local_author;
use super::publish::seen;
use super::{Error, backup, state_dir::StateDir, whereabouts};
use crate::blob::{BlobStore, Parts};
use crate::catalog::{Catalog, Moments, SkippedTo};
use crate::model::clock::later;
use crate::model::{Clock, RoleName, Timestamp};

/// Where version numbers go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkippedVersions {
    /// The highest that `repo/` has of any role but root.
    pub seen: u64,
    /// The Image repository's next versions are above this one.
    pub image: u64,
    /// The Director's next version is above this one.
    pub director: u64,
    /// Uploads that waited for more, and have ended.
    pub ended_uploads: u64,
}

impl StateDir {
    /// Takes the numbers of every role but root, and the Director's, past all that `repo/` shows,
    /// past `at_least`, and by a wide margin past that: a backup can't know what was published
    /// after it. The next start publishes everything anew, with those numbers. Root's have no gaps:
    /// what is stored of it is taken over when the server starts.
    ///
    /// Ends all uploads that wait: a copy of everything has their ledgers of its time, and what was
    /// sealed after it must not be sealed again from other bytes (docs/FORMAT.md, 6.9).
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if a server runs on the directory; [`Error::NotFound`] if it isn't
    /// initialized; [`Error::Full`]; [`Error::Internal`].
    pub async fn recover_versions(
        &self,
        at_least: u64,
        now: Timestamp,
    ) -> Result<SkippedVersions, Error> {
        let (_lock, catalog) = self.own(now).await?;
        let (repository, _) = self.repositories().await?;
        let all: BTreeMap<RoleName, u64> =
            catalog.list_roles().await?.into_iter().map(|state| (state.name, 0)).collect();
        let blobs = self.blobs().await?;
        let seen = seen::highest_seen(blobs.as_ref(), &repository, &all).await?;
        let ended_uploads = end_uploads(&catalog, blobs.as_ref(), now).await?;
        let SkippedTo { image, director } =
            catalog.skip_versions(&seen, at_least, MARGIN, &local_author(now)).await?;
        whereabouts::settle(&catalog).await?;
        catalog.close().await;
        backup::forget(self.path())?;
        let seen = seen.into_values().max().unwrap_or(0);
        Ok(SkippedVersions { seen, image, director, ended_uploads })
    }

    /// Takes the clock's word for it that it is right now, though something was signed at a later
    /// time.
    ///
    /// # Errors
    ///
    /// As [`Self::recover_versions`].
    pub async fn recover_clock(&self, clock: Arc<dyn Clock>) -> Result<Timestamp, Error> {
        let now = clock.now();
        let (_lock, catalog) = self.own(now).await?;
        let moments = Moments { signed: Some(now), leap: None };
        catalog.replace_moments(&moments, &local_author(now)).await?;
        catalog.close().await;
        Ok(now)
    }
}

/// What is stored of them goes before their rows do: then there is no key, wherever this is cut off.
/// What no row knows goes too.
async fn end_uploads(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    now: Timestamp,
) -> Result<u64, Error> {
    for parts in catalog.open_upload_parts().await? {
        blobs.abandon_parts(&Parts::from_text(parts)).await?;
    }
    blobs.sweep_parts(&[]).await?;
    Ok(catalog.end_all_uploads(later(now, ENDED_ARE_KNOWN)).await?)
}

/// How long it is known that all uploads have ended, for clients that have not heard it.
pub(super) const ENDED_ARE_KNOWN: Duration = Duration::from_secs(7 * 86_400);
/// More than were ever used between a backup and its restore, and little beside the 2^31 that the
/// narrowest client counts to.
const MARGIN: u64 = 1_000_000;
