//! What is checked before a server signs anything.

use std::sync::Arc;

use super::{
    Verifier, check_escrow, compare_bins, compare_keys, compare_policy, compare_suppliers,
    former_root_keys, refuse, signed_here, trusted_root,
};
use crate::app::Error;
use crate::blob::BlobStore;
use crate::catalog::Catalog;
use crate::keys::policy::Policy;
use crate::keys::{EscrowRing, Keyring};
use crate::model::{RepositorySide, RoleKind};

/// Compares all keys of an installation with what was signed and sealed with them, and tells where
/// the policy asks for something else than what is published.
///
/// # Errors
///
/// [`Error::Conflict`] names each file that isn't the one that it was, with the ids that were
/// expected and found; [`Error::Corrupt`] if a root can't be used; [`Error::Internal`].
pub(in crate::app) async fn check_keys(
    catalog: &Catalog,
    blobs: &Arc<dyn BlobStore>,
    keyring: &Keyring,
    policy: &Policy,
    escrow: &EscrowRing,
) -> Result<(), Error> {
    let (states, lost) = (catalog.list_roles().await?, catalog.list_lost_keys().await?);
    let image = Verifier::new(Arc::clone(blobs)).current(&states).await?;
    let former =
        former_root_keys(catalog, blobs.as_ref(), keyring, RepositorySide::Image, &image).await;
    let mut problems = compare_keys(keyring, policy, RepositorySide::Image, &image, &former, &lost);
    problems.extend(compare_bins(keyring, &states, &image, &lost));
    let here = signed_here(&states, &catalog.list_suppliers().await?, policy);
    problems.extend(compare_suppliers(keyring, &here, &image, &lost));
    let mut names = states.iter().map(|state| &state.name);
    let bin = names.find(|role| role.kind() == RoleKind::Bins);
    let mut differences = compare_policy(policy, RepositorySide::Image, &image, bin);
    if let Some(root) = catalog.find_director_root(None).await? {
        let director = trusted_root(&root.body).map_err(|fault| Error::Corrupt {
            detail: format!(
                "root {} of the Director, in the catalog, is refused: {fault}: restore a backup",
                root.version
            ),
        })?;
        let side = RepositorySide::Director;
        let former = former_root_keys(catalog, blobs.as_ref(), keyring, side, &director).await;
        problems.extend(compare_keys(keyring, policy, side, &director, &former, &lost));
        differences.extend(compare_policy(policy, RepositorySide::Director, &director, None));
    }
    refuse(&problems)?;
    differences.iter().for_each(|difference| tracing::warn!("{difference}"));
    check_escrow(catalog, escrow).await
}
