//! The last files of suppliers that were removed, for as long as the published targets name their
//! roles: where people sign the targets, until they have signed them again. Nobody signs such a file
//! anew, so that it can expire meanwhile.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::de::IgnoredAny;

use super::Error;
use super::trust::read_recorded;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::Catalog;
use crate::model::{RoleName, Timestamp};
use crate::uptane::metadata::{Signed, Targets};
use crate::uptane::verify::TrustedSet;

/// When such files expire, by role and version: a file never changes, and readiness asks often.
#[derive(Debug, Default)]
pub(in crate::app) struct LastFiles(Mutex<BTreeMap<(RoleName, u64), Timestamp>>);

impl LastFiles {
    /// The roles of removed suppliers that the targets in `image` name, and when their last files
    /// expire. One that is missing or damaged is left out: that is `fsck`'s to say.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the store of blobs is away; [`Error::Internal`].
    pub(in crate::app) async fn named(
        &self,
        (catalog, blobs): (&Catalog, &dyn BlobStore),
        image: &TrustedSet,
    ) -> Result<Vec<(RoleName, Timestamp)>, Error> {
        let mut named = Vec::new();
        for last in catalog.list_retired_roles().await? {
            if image.delegated_signers(&last.name).is_none() {
                continue;
            }
            let file = (last.name.clone(), last.version);
            let mut expires_at = self.find(&file);
            if expires_at.is_none() {
                let key = BlobKey::Metadata { version: last.version, role: last.name.clone() };
                let read = read_recorded(blobs, &key, (last.length, last.sha256)).await?;
                expires_at = read.ok().map(|bytes| expiry(&bytes)).transpose()?;
                self.remember(file, expires_at);
            }
            named.extend(expires_at.map(|expires_at| (last.name, expires_at)));
        }
        Ok(named)
    }

    fn find(&self, file: &(RoleName, u64)) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(file).copied()
    }

    fn remember(&self, file: (RoleName, u64), expires_at: Option<Timestamp>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(expires_at.map(|expires_at| (file, expires_at)));
    }
}

fn expiry(file: &[u8]) -> Result<Timestamp, Error> {
    const OP: &str = "read the last file of a removed supplier";
    let file: Signed<Targets<IgnoredAny>> =
        serde_json::from_slice(file).map_err(Error::internal(OP))?;
    Ok(file.signed.expires)
}
