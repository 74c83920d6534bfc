//! The end of uploads: terminated, expired, or left behind by a crash.

use std::time::Duration;

use super::rules::{MOST_REMEMBERED, REMEMBERED};
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::Images;
use crate::blob::Parts;
use crate::catalog::{UploadRecord, UploadState};
use crate::model::Timestamp;
use crate::model::clock::later;
use crate::telemetry::Chain;

impl Images {
    /// Ends an upload, and removes what came of it; of one that is complete the image stays.
    ///
    /// # Errors
    ///
    /// As of [`Self::show_upload`]; [`Error::Locked`] while a request brings bytes in;
    /// [`Error::Full`].
    pub async fn terminate_upload(&self, id: &str, by: &Principal) -> Result<(), Error> {
        let record = self.find_own(id, by).await?;
        if record.state == UploadState::Complete || self.terminate(&record).await? {
            return Ok(());
        }
        let detail = "a request brings bytes of this upload in: end it first";
        Err(Error::Locked { detail: detail.into() })
    }

    /// Where the catalog has no room for that, what is stored of the upload goes first, which makes
    /// some: nothing is sealed any more without its ledger, and that goes before the bytes do.
    async fn terminate(&self, record: &UploadRecord) -> Result<bool, Error> {
        let (id, parts) = (&record.upload.id, Parts::from_text(record.upload.parts.clone()));
        match self.try_end(id, None, &parts).await {
            Err(Error::Full { .. }) if self.frees_room(record) => {
                self.blobs.abandon_parts(&parts).await?;
                self.try_end(id, None, &parts).await
            }
            ended => ended,
        }
    }

    /// Whether nobody brings bytes of it in, and they are where the catalog may be too.
    fn frees_room(&self, record: &UploadRecord) -> bool {
        !record.is_taken(self.clock.now()) && !self.blobs.is_remote()
    }

    /// Ends uploads that have expired, or whose token is no longer good, and forgets those that
    /// ended long ago; returns how many expired.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] says what was removed all the same, and what takes the room; or
    /// [`Error::Internal`].
    pub(in crate::app) async fn collect_uploads(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let ended = match self.end_expired(now).await {
            Err(Error::Full { .. }) if !self.blobs.is_remote() => {
                let freed = self.free_expired(now).await?;
                self.end_expired(now).await.map_err(|error| still_full(freed, error))?
            }
            ended => ended?,
        };
        for parts in &ended {
            self.abandon(&Parts::from_text(parts.clone())).await;
        }
        self.catalog.forget_ended_uploads(now, MOST_REMEMBERED).await?;
        Ok(ended.len())
    }

    async fn end_expired(&self, now: Timestamp) -> Result<Vec<String>, Error> {
        let forgotten_at = later(now, REMEMBERED);
        Ok(self.catalog.end_expired_uploads(now, forgotten_at, AT_ONCE).await?)
    }

    /// Removes what is stored of uploads that have expired, as [`Self::terminate`] does, and returns
    /// of how many: nobody takes one any more.
    async fn free_expired(&self, now: Timestamp) -> Result<usize, Error> {
        let expired = self.catalog.expired_upload_parts(now, AT_ONCE).await?;
        for parts in &expired {
            self.abandon(&Parts::from_text(parts.clone())).await;
        }
        Ok(expired.len())
    }

    /// Makes uploads ready to be resumed at the start: lets go of those that this server had taken.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub(in crate::app) async fn release_uploads(&self) -> Result<(), Error> {
        Ok(self.catalog.release_uploads(&self.server_id).await?)
    }

    /// Removes bytes of which the catalog knows no upload, and returns of how many there were some.
    /// **Must not** be called while any server begins uploads: it has their bytes a place first.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub(in crate::app) async fn sweep_uploads(&self) -> Result<usize, Error> {
        Ok(self.blobs.sweep_parts(&self.known_parts().await?).await?)
    }

    /// Removes what servers that were killed have left of uploads, once nobody can be writing to it
    /// any more; returns how many files there were.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`] or [`Error::Internal`].
    pub(in crate::app) async fn sweep_abandoned(&self) -> Result<usize, Error> {
        let age = if self.blobs.is_remote() { ABANDONED_FAR } else { ABANDONED };
        Ok(self.blobs.sweep_abandoned(&self.known_parts().await?, age).await?)
    }

    async fn known_parts(&self) -> Result<Vec<Parts>, Error> {
        let known = self.catalog.open_upload_parts().await?;
        Ok(known.into_iter().map(Parts::from_text).collect())
    }

    /// Ends an upload that `run` has. One that can't be ended now expires.
    pub(super) async fn end_run(&self, id: &str, run: u64, parts: &Parts) {
        if let Err(error) = self.try_end(id, Some(run), parts).await {
            tracing::warn!(upload.id = id, error = %Chain(&error), "failed to end an upload");
        }
    }

    /// Ends an upload that nobody has, or that `run` has; returns whether it did.
    async fn try_end(&self, id: &str, run: Option<u64>, parts: &Parts) -> Result<bool, Error> {
        let now = self.clock.now();
        let is_ended = self.catalog.end_upload(id, run, now, later(now, REMEMBERED)).await?;
        if is_ended {
            self.abandon(parts).await;
        }
        Ok(is_ended)
    }

    /// What can't be removed now goes with the next start.
    pub(super) async fn abandon(&self, parts: &Parts) {
        if let Err(error) = self.blobs.abandon_parts(parts).await {
            tracing::warn!(parts = parts.as_str(), %error, "failed to remove what came of an upload");
        }
    }
}

fn still_full(freed: usize, error: Error) -> Error {
    let Error::Full { detail } = error else { return error };
    let what = match freed {
        0 => "and nothing is stored of uploads that have expired: make room for the catalog".into(),
        _ => format!(
            "although what was stored of {freed} uploads that have expired is removed: something else takes the room"
        ),
    };
    Error::Full { detail: format!("{detail}, {what}") }
}

/// Uploads that are ended in one go; the rest waits for the next.
const AT_ONCE: u32 = 1000;
/// Longer than a sealed file waits for its name.
const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// An object store knows when something was begun, and not when it was written to last.
const ABANDONED_FAR: Duration = Duration::from_secs(7 * 86_400);
