//! To whom the top-level targets delegate: suppliers first, then the bins.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use crate::app::Error;
use crate::app::trust::read_published;
use crate::blob::BlobStore;
use crate::catalog::{Catalog, Handover, ReservedVersion, RoleState};
use crate::model::{RepositorySide, RoleKind, RoleName, SupplierRecord};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::image::{BinKeys, SupplierDelegation};
use crate::uptane::verify::TrustedSet;

/// Who signs for the bins from these targets on: whoever they are being handed over to, if all bins
/// are signed with them; else whoever has signed for them, as the published targets in `set` say.
pub(super) async fn bin_keys(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    states: &[RoleState],
    reserved: &[ReservedVersion],
    set: &TrustedSet,
) -> Result<BinKeys, Error> {
    let is_bin = |role: &RoleName| role.kind() == RoleKind::Bins;
    let bins: Vec<&RoleName> =
        states.iter().map(|state| &state.name).filter(|role| is_bin(role)).collect();
    let signed: BTreeSet<&RoleName> = reserved.iter().map(|version| &version.name).collect();
    if bins.iter().all(|bin| signed.contains(bin))
        && let Some(keys) = incoming(catalog, repository).await?
    {
        return Ok(keys);
    }
    // What no client takes names nobody.
    let named = bins.first().filter(|bin| set.delegated_signers(bin).is_some());
    let targets = states.iter().find(|state| state.name == RoleName::Targets);
    if let (Some(bin), Some(targets)) = (named, targets)
        && let Ok(file) = read_published(blobs, targets).await
        && let Some(keys) = BinKeys::of_file(&file, bin)
    {
        return Ok(keys);
    }
    Ok(repository.first_bin_keys())
}

/// The delegations to suppliers.
pub(super) fn to_suppliers(
    suppliers: Vec<SupplierRecord>,
) -> Result<Vec<SupplierDelegation>, Error> {
    suppliers.into_iter().map(to_supplier).collect()
}

fn to_supplier(supplier: SupplierRecord) -> Result<SupplierDelegation, Error> {
    let role = supplier.role();
    let keys = supplier.keys.into_iter().map(PublicKey::from_object).collect::<Result<_, _>>();
    Ok(SupplierDelegation {
        role,
        folder: supplier.folder,
        hardware_ids: supplier.hardware_ids,
        keys: keys.map_err(Error::internal("read the keys of a supplier"))?,
        threshold: NonZeroU64::new(supplier.threshold.into()).unwrap_or(NonZeroU64::MIN),
        terminating: supplier.terminating,
    })
}

/// Whom the bins are being handed over to, if enough of them are here.
async fn incoming(
    catalog: &Catalog,
    repository: &ImageRepository,
) -> Result<Option<BinKeys>, Error> {
    let is_of_bins = |handover: &Handover| {
        (handover.side, handover.kind) == (RepositorySide::Image, RoleKind::Bins)
            && handover.ends_at.is_none()
    };
    let Some(handover) = catalog.list_handovers().await?.into_iter().find(is_of_bins) else {
        return Ok(None);
    };
    let keyring = repository.keyring();
    let keys: Vec<_> =
        keyring.named(&handover.keys).into_iter().map(|key| key.public().clone()).collect();
    if keys.len() < handover.keys.len() {
        tracing::error!(
            found = keys.len(),
            wanted = handover.keys.len(),
            "the bins are to be handed over to keys that are not all here: they stay with the former ones"
        );
        return Ok(None);
    }
    let threshold = NonZeroU64::new(handover.threshold).unwrap_or(NonZeroU64::MIN);
    Ok(Some(BinKeys { keys, threshold }))
}
