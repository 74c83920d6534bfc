//! Keys that have signed root before: one that was handed on is no wrong file.

use std::collections::BTreeSet;

use crate::blob::{BlobKey, BlobStore};
use crate::catalog::Catalog;
use crate::model::{MAX_ROOT_BYTES, RepositorySide, RoleName};
use crate::uptane::key::KeyId;
use crate::uptane::metadata::root;
use crate::uptane::verify::TrustedSet;

/// Ids of the keys that any root before `newest` named for root. A root that can't be read names
/// none, and whoever looks at the chain says so.
pub(in crate::app) async fn former_root_keys(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    side: RepositorySide,
    newest: &TrustedSet,
) -> BTreeSet<KeyId> {
    let mut ids = BTreeSet::new();
    for version in 1..newest.root_version() {
        let file = match side {
            RepositorySide::Image => read(blobs, version).await,
            RepositorySide::Director => {
                let found = catalog.find_director_root(Some(version)).await;
                found.ok().flatten().map(|root| root.body)
            }
        };
        let root = file.and_then(|file| root::parse(&file).ok());
        let signers = root.and_then(|mut root| root.roles.remove(&RoleName::Root));
        ids.extend(signers.into_iter().flat_map(|signers| signers.keyids));
    }
    ids
}

async fn read(blobs: &dyn BlobStore, version: u64) -> Option<Vec<u8>> {
    let key = BlobKey::Metadata { version, role: RoleName::Root };
    let blob = blobs.open(&key).await.ok()?;
    Some(blob.read_all(MAX_ROOT_BYTES).await.ok()?.into())
}
