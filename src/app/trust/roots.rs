//! Roots as they were published, and the keys that have signed root before: one that was handed on
//! is no wrong file.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::Catalog;
use crate::keys::Keyring;
use crate::model::{MAX_ROOT_BYTES, RepositorySide, RoleKind, RoleName};
use crate::uptane::key::KeyId;
use crate::uptane::metadata::root;
use crate::uptane::verify::TrustedSet;

/// A version of a repository's root, as it was published: the Image repository's are blobs, the
/// Director's are in the catalog.
///
/// # Errors
///
/// [`Error::Internal`] if it can't be read.
pub(in crate::app) async fn read_root(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    side: RepositorySide,
    version: u64,
) -> Result<Option<Bytes>, Error> {
    match side {
        RepositorySide::Image => {
            let blob = match blobs.open(&BlobKey::Metadata { version, role: RoleName::Root }).await
            {
                Err(blob::Error::NotFound(_)) => return Ok(None),
                opened => opened?,
            };
            let read = blob.read_all(MAX_ROOT_BYTES).await;
            read.map(Some).map_err(Error::reading("root metadata"))
        }
        RepositorySide::Director => {
            Ok(catalog.find_director_root(Some(version)).await?.map(|root| root.body.into()))
        }
    }
}

/// Ids of the keys that any root before `newest` named for root; none are looked for while each
/// root key that is here is one that `newest` names. A root that can't be read names none, and
/// whoever looks at the chain says so.
pub(in crate::app) async fn former_root_keys(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    keyring: &Keyring,
    side: RepositorySide,
    newest: &TrustedSet,
) -> BTreeSet<KeyId> {
    let mut ids = BTreeSet::new();
    let named = newest.signers(&RoleName::Root).map_or(Vec::new(), |signers| signers.key_ids);
    let mut here = keyring.keys(side, RoleKind::Root).iter();
    if here.all(|key| named.contains(&key.id().to_string())) {
        return ids;
    }
    for version in 1..newest.root_version() {
        let file = read_root(catalog, blobs, side, version).await.ok().flatten();
        let root = file.and_then(|file| root::parse(&file).ok());
        let signers = root.and_then(|mut root| root.roles.remove(&RoleName::Root));
        ids.extend(signers.into_iter().flat_map(|signers| signers.keyids));
    }
    ids
}
