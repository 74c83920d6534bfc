//! Blobs that were announced and came to nothing.

use std::time::Duration;

use super::Images;
use crate::app::Error;
use crate::blob::BlobKey;
use crate::catalog::{self, Holder};
use crate::model::clock::later;
use crate::telemetry::Chain;

impl Images {
    /// Removes a blob that this server has announced, and that nothing lists, and forgets it. One
    /// that another server has announced since, or whose image is accepted by now, stays.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`], [`Error::Full`] or [`Error::Unavailable`]: it is tried again when the
    /// server starts.
    pub(in crate::app) async fn remove_announced(&self, key: &BlobKey) -> Result<(), Error> {
        let name = key.name();
        let BlobKey::Target { path, sha256 } = key else { return Ok(()) };
        let now = self.clock.now();
        let holder =
            Holder { owner: &self.server_id, now, lease_until: later(now, LONGEST_REMOVAL) };
        if self.catalog.take_for_removal(&name, (path, sha256), holder).await? {
            self.blobs.delete(key).await?;
            self.catalog.forget_pending_blob(&name).await?;
        }
        Ok(())
    }

    /// The same of several, where something else has failed already.
    pub(in crate::app::images) async fn discard_announced(&self, keys: &[BlobKey]) {
        for key in keys {
            if let Err(error) = self.remove_announced(key).await {
                tracing::warn!(blob = %key, error = %Chain(&error), "a blob is left for the next start");
            }
        }
    }
}

/// Another server was faster, or removes what an earlier try has left: that is over soon.
pub(in crate::app::images) fn overtaken(error: catalog::Error) -> Error {
    match error {
        catalog::Error::Overtaken => Error::Unavailable {
            code: "overtaken",
            detail:
                "another server goes on with the same, or removes what was left of it: try again"
                    .into(),
        },
        other => other.into(),
    }
}

/// Whoever has taken a blob to remove it and says nothing for so long is dead.
const LONGEST_REMOVAL: Duration = Duration::from_secs(60 * 60); // an hour
