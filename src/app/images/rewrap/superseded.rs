//! The files of envelopes that were replaced: they are kept for whoever goes by older metadata, and
//! for a catalog that is restored from a backup, and then removed.

use std::time::Duration;

use crate::app::Error;
use crate::app::images::Images;
use crate::blob::BlobKey;
use crate::model::clock::earlier;

impl Images {
    /// Removes the files of envelopes that were replaced long ago, and returns how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while the time isn't known; [`Error::Full`]; [`Error::Internal`].
    pub(in crate::app) async fn remove_superseded_envelopes(&self) -> Result<usize, Error> {
        let before = earlier(self.publisher.signing_time()?, KEPT);
        let mut removed = 0;
        loop {
            let gone = self.catalog.list_superseded_envelopes(before, AT_ONCE).await?;
            if gone.is_empty() {
                return Ok(removed);
            }
            for envelope in &gone {
                self.blobs.delete(&BlobKey::target(envelope.path.clone(), envelope.sha256)).await?;
            }
            self.catalog.forget_superseded_envelopes(&gone).await?;
            removed += gone.len();
        }
    }
}

/// Longer than any timestamp is in force as a rule, and than the backup is old that one restores.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const AT_ONCE: u32 = 500;
