//! What `repo/` shows to have been published, whatever the catalog knows: after a backup of the
//! catalog was restored under a newer `repo/`, numbers would be used twice, and clients would be
//! taken back.

use std::collections::BTreeMap;

use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{Catalog, RoleState};
use crate::model::RoleName;
use crate::uptane::image_repo::ImageRepository;

/// The highest version of each role that is stored, is above what `beyond` says of the role, and
/// was signed by our own keys: what lies about otherwise is nobody's. Root's numbers are its
/// chain's own affair.
pub(in crate::app) async fn highest_seen(
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    beyond: &BTreeMap<RoleName, u64>,
) -> Result<BTreeMap<RoleName, u64>, Error> {
    let mut stored: BTreeMap<RoleName, Vec<u64>> = BTreeMap::new();
    for key in blobs.list_metadata().await? {
        let BlobKey::Metadata { version, role } = key else { continue };
        if beyond.get(&role).is_some_and(|known| version > *known) && role != RoleName::Root {
            stored.entry(role).or_default().push(version);
        }
    }
    let mut seen = BTreeMap::new();
    for (role, mut versions) in stored {
        versions.sort_unstable();
        for version in versions.into_iter().rev() {
            let key = BlobKey::Metadata { version, role: role.clone() };
            if signed_version(blobs, repository, &key, &role).await? == Some(version) {
                seen.insert(role, version);
                break;
            }
        }
    }
    let visible = shown_version(blobs, repository).await?;
    if let (Some(visible), Some(known)) = (visible, beyond.get(&RoleName::Timestamp))
        && visible > *known
    {
        seen.insert(RoleName::Timestamp, visible);
    }
    Ok(seen)
}

/// Refuses a catalog that knows less than `timestamp.json` shows: while a server runs, that is what a
/// database has lost.
///
/// # Errors
///
/// [`Error::Unavailable`].
pub(super) async fn refuse_lost(
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    catalog: &Catalog,
) -> Result<(), Error> {
    let Some(visible) = shown_version(blobs, repository).await? else { return Ok(()) };
    // After that: another server may just have published what is visible.
    let known = catalog.find_role(&RoleName::Timestamp).await?;
    match known.is_some_and(|known| known.reserved >= visible) {
        true => Ok(()),
        false => Err(Error::catalog_is_older()),
    }
}

/// The version of `timestamp.json`, if it is one of ours.
pub(super) async fn shown_version(
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
) -> Result<Option<u64>, Error> {
    signed_version(blobs, repository, &BlobKey::Timestamp, &RoleName::Timestamp).await
}

/// The version of a stored file of `role`, if it is one of ours.
async fn signed_version(
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    key: &BlobKey,
    role: &RoleName,
) -> Result<Option<u64>, Error> {
    let blob = match blobs.open(key).await {
        Err(blob::Error::NotFound(_)) => return Ok(None),
        opened => opened?,
    };
    if blob.length > MAX_METADATA_SIZE {
        return Ok(None);
    }
    let read = blob.read_all(MAX_METADATA_SIZE).await;
    let bytes = read.map_err(|source| blob::Error::reading(key.name(), source))?;
    Ok(repository.version_if_ours(role, &bytes))
}

/// What was handed out of each role's numbers.
pub(in crate::app) fn reserved(states: &[RoleState]) -> BTreeMap<RoleName, u64> {
    states.iter().map(|state| (state.name.clone(), state.reserved)).collect()
}

/// Refuses a catalog that is older than what is stored.
pub(super) fn refusal(seen: &BTreeMap<RoleName, u64>, reserved: &BTreeMap<RoleName, u64>) -> Error {
    let named = seen.get_key_value(&RoleName::Timestamp).or_else(|| seen.first_key_value());
    let example = named.map_or_else(String::new, |(role, version)| {
        let known = reserved.get(role).copied().unwrap_or(0);
        format!(" (of {role}, version {version} is there, and the catalog knows of {known})")
    });
    let detail = format!(
        "repo/ has newer metadata than the catalog knows of{example}, as after an older catalog was restored: vehicles would \
         be taken back, and refuse it. Nothing was changed. Run `motorcade recover versions`, which takes the version numbers \
         past all that repo/ shows, and start again (docs/OPERATIONS.md, Restore)"
    );
    Error::Conflict { code: "catalog_is_older", detail }
}

const MAX_METADATA_SIZE: u64 = 16 * 1024 * 1024; // 16 MiB, far above what is ever written
