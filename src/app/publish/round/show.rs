//! What clients, metrics and this server itself see of what was published.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Rounds;
use crate::app::Error;
use crate::app::publish::outcome::{CurrentTimestamp, SigningSize};
use crate::blob::{BlobKey, StagedBlob};
use crate::catalog::RoleState;
use crate::model::{RepositorySide, RoleKind, RoleName, Timestamp};
use crate::uptane::metadata::SignedFile;

impl Rounds {
    /// Makes a recorded publication visible.
    pub(super) async fn show(
        &self,
        staged: Vec<(Box<dyn StagedBlob>, BlobKey)>,
        files: &[SignedFile],
        states: &[RoleState],
        now: Timestamp,
    ) -> Result<(), Error> {
        self.blobs.promote_all(staged).await?;
        if let Some(timestamp) = files.iter().find(|file| file.role == RoleName::Timestamp) {
            let SignedFile { version, bytes, sha256, expires_at, .. } = timestamp.clone();
            let published_at = now;
            self.set_current(CurrentTimestamp { version, bytes, sha256, published_at, expires_at });
        }
        self.is_shown.store(true, Ordering::Relaxed);
        self.show_no_older().await?;
        self.is_overtaken.store(false, Ordering::Relaxed);
        let unchanged =
            || states.iter().filter(|state| !files.iter().any(|file| file.role == state.name));
        let new = files.iter().map(|file| file.bytes.len() as u64);
        self.set_size(unchanged().map(|state| state.length).chain(new));
        let unchanged = unchanged().map(|state| (&state.name, state.version, state.expires_at));
        self.report(
            unchanged.chain(files.iter().map(|file| (&file.role, file.version, file.expires_at))),
        );
        Ok(())
    }

    /// The timestamp that is published now.
    pub(in crate::app::publish) fn current(&self) -> Option<CurrentTimestamp> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves this one from now on, unless a newer one is served already.
    pub(super) fn set_current(&self, current: CurrentTimestamp) {
        let mut known = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|known| known.version <= current.version) {
            *known = Some(current);
        }
    }

    pub(in crate::app::publish) fn size(&self) -> SigningSize {
        *self.size.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_size(&self, lengths: impl Iterator<Item = u64>) {
        let size = lengths.fold(SigningSize::default(), |size, length| SigningSize {
            bytes: size.bytes + length,
            files: size.files + 1,
        });
        *self.size.write().unwrap_or_else(PoisonError::into_inner) = size;
    }

    /// Tells the metrics when each role expires; all bins together are one role, which expires with
    /// the first of them.
    pub(super) fn report<'a>(&self, roles: impl Iterator<Item = (&'a RoleName, u64, Timestamp)>) {
        let mut kinds: BTreeMap<RoleKind, (u64, Timestamp)> = BTreeMap::new();
        for (role, version, expires_at) in roles.filter(|(_, version, _)| *version > 0) {
            let (highest, first) = kinds.entry(role.kind()).or_insert((version, expires_at));
            (*highest, *first) = ((*highest).max(version), (*first).min(expires_at));
        }
        for (&kind, &(version, expires_at)) in &kinds {
            self.metrics.set_metadata(RepositorySide::Image, kind, version, expires_at.into());
        }
        if !kinds.contains_key(&RoleKind::Suppliers) {
            self.metrics.forget_metadata(RepositorySide::Image, RoleKind::Suppliers);
        }
    }
}
