//! Signs the bins that are due.
//!
//! A bin of a large repository lists hundreds of entries, of which an upload adds one. So the file
//! that is published is taken up and changed, where it is known what has changed since: it is the
//! bin's signed entries, ready, on the disk and across restarts. Where that is not known, and
//! whenever a bin is signed again because it gets old, all of its entries are read from the catalog.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::app::Error;
use crate::app::signing::signing_failed;
use crate::app::trust::{authority, read_published};
use crate::blob::BlobStore;
use crate::catalog::{Catalog, EntryChange, ReservedVersion, RoleState};
use crate::model::{RoleName, Timestamp};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::metadata::SignedFile;
use crate::uptane::metadata::image::Entries;
use crate::uptane::verify::TrustedSet;

/// Signs bins.
pub(super) struct BinSigner {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    repository: Arc<ImageRepository>,
}

impl BinSigner {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: Arc<ImageRepository>,
    ) -> Self {
        Self { catalog, blobs, repository }
    }

    /// Signs the bins among `due`, with the keys that the targets in `set` name.
    pub(super) async fn sign(
        &self,
        due: &[ReservedVersion],
        states: &[RoleState],
        set: &TrustedSet,
        now: Timestamp,
    ) -> Result<Vec<SignedFile>, Error> {
        let bins = due.iter().filter(|due| matches!(due.name, RoleName::Delegated(_)));
        let signed: Vec<_> = bins
            .map(|bin| {
                let state = states.iter().find(|state| state.name == bin.name);
                self.sign_bin(bin, state, set, now)
            })
            .collect();
        stream::iter(signed).buffered(AT_ONCE).try_collect().await
    }

    async fn sign_bin(
        &self,
        due: &ReservedVersion,
        state: Option<&RoleState>,
        set: &TrustedSet,
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let authority = authority(set, &due.name)?;
        let changed = match state {
            Some(state) => self.change_published(state, due.changes).await,
            None => None,
        };
        let entries = match changed {
            Some(entries) => entries,
            None => self.read_all(&due.name).await?,
        };
        let signed =
            self.repository.sign_bin(&due.name, due.version, entries, now, &authority).await;
        signed.map_err(signing_failed("sign a bin"))
    }

    /// The entries of the published file with all changes up to `last`, if these are known and there
    /// are some.
    async fn change_published(&self, state: &RoleState, last: u64) -> Option<Entries> {
        let changes = self.catalog.entry_changes(&state.name, state.changes, last)?;
        if changes.is_empty() {
            return None;
        }
        let file = read_published(self.blobs.as_ref(), state).await.ok()?.ok()?;
        let change = move || {
            let mut entries = Entries::of_file(&file).ok()?;
            for change in changes {
                match change {
                    EntryChange::Added(entry) => entries.put(&entry).ok()?,
                    EntryChange::Removed(path) => entries.remove(&path),
                }
            }
            Some(entries)
        };
        tokio::task::spawn_blocking(change).await.ok()?
    }

    async fn read_all(&self, bin: &RoleName) -> Result<Entries, Error> {
        let mut entries = Entries::default();
        for entry in self.catalog.list_targets(bin).await? {
            entries.put(&entry).map_err(Error::internal("read the entries of a bin"))?;
        }
        Ok(entries)
    }
}

/// Bins that are worked on at one time; an upload touches two.
const AT_ONCE: usize = 4;
