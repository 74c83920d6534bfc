//! To whom the top-level targets delegate: suppliers first, then the bins.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use bytes::Bytes;

use crate::app::Error;
use crate::app::trust::{authority_of, read_published};
use crate::blob::BlobStore;
use crate::catalog::{Catalog, Handover, RoleState};
use crate::model::{RepositorySide, RoleKind, RoleName, SupplierRecord};
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::Authority;
use crate::uptane::metadata::image::{DelegatedKeys, SupplierDelegation};
use crate::uptane::verify::TrustedSet;

/// Who signs for the bins from these targets on: whoever they are being handed over to, if all bins
/// are among those that are `signed` with them; else whoever has signed for them, as the published
/// targets in `set` say.
pub(super) async fn bin_keys(
    catalog: &Catalog,
    blobs: &dyn BlobStore,
    repository: &ImageRepository,
    states: &[RoleState],
    signed: &BTreeSet<RoleName>,
    set: &TrustedSet,
) -> Result<DelegatedKeys, Error> {
    let bins = all_bins(states);
    if bins.is_subset(signed)
        && let Some(keys) = incoming(catalog, repository).await?
    {
        return Ok(keys);
    }
    // What no client takes names nobody.
    let named = bins.first().filter(|bin| set.delegated_signers(bin).is_some());
    let targets = states.iter().find(|state| state.name == RoleName::Targets);
    if let (Some(bin), Some(targets)) = (named, targets)
        && let Ok(file) = read_published(blobs, targets).await?
        && let Some(keys) = DelegatedKeys::of_file(&file, bin)
    {
        return Ok(keys);
    }
    Ok(repository.first_bin_keys())
}

/// The bins.
pub(super) fn all_bins(states: &[RoleState]) -> BTreeSet<RoleName> {
    let names = states.iter().map(|state| &state.name);
    names.filter(|role| role.kind() == RoleKind::Bins).cloned().collect()
}

/// The delegations to suppliers. To those who have their keys themselves, targets delegate as they
/// do, and otherwise only with the file that the other keys have signed: `signed` are the roles of
/// which there is one.
pub(super) async fn to_suppliers(
    blobs: &dyn BlobStore,
    states: &[RoleState],
    suppliers: Vec<SupplierRecord>,
    signed: &[RoleName],
    set: &TrustedSet,
) -> Result<Vec<SupplierDelegation>, Error> {
    let targets = match suppliers.iter().any(|supplier| supplier.offline) {
        true => published_targets(blobs, states, set).await?,
        false => None,
    };
    let mut delegations = Vec::with_capacity(suppliers.len());
    for supplier in suppliers {
        let role = supplier.role();
        let wanted = wanted_keys(&supplier)?;
        let keys = match (supplier.offline && !signed.contains(&role), &targets) {
            (false, _) => Some(wanted),
            (true, Some(targets)) => DelegatedKeys::of_file(targets, &role),
            // What no client takes names nobody: then those that signed its file last.
            (true, None) => {
                states.iter().any(|state| state.name == role && state.version > 0).then_some(wanted)
            }
        };
        delegations.extend(keys.map(|keys| to_supplier(supplier, keys)));
    }
    Ok(delegations)
}

/// Whether the published targets, in `set`, delegate to a supplier's keys.
pub(super) fn is_published(supplier: &SupplierRecord, set: &TrustedSet) -> Result<bool, Error> {
    let DelegatedKeys { keys, threshold } = wanted_keys(supplier)?;
    let key_ids = keys.iter().map(PublicKey::id).collect();
    let wanted = Authority { key_ids, threshold: threshold.get() };
    Ok(set.delegated_signers(&supplier.role()).map(authority_of) == Some(wanted))
}

/// The published targets, if clients take them.
async fn published_targets(
    blobs: &dyn BlobStore,
    states: &[RoleState],
    set: &TrustedSet,
) -> Result<Option<Bytes>, Error> {
    let state = states.iter().find(|state| state.name == RoleName::Targets);
    match state.filter(|_| set.targets_version().is_some()) {
        Some(state) => Ok(read_published(blobs, state).await?.ok()),
        None => Ok(None),
    }
}

/// The keys that a supplier is to sign with.
///
/// # Errors
///
/// [`Error::Internal`] if they can't be read.
pub(in crate::app) fn wanted_keys(supplier: &SupplierRecord) -> Result<DelegatedKeys, Error> {
    let keys = supplier.keys.iter().cloned().map(PublicKey::from_object);
    let keys = keys.collect::<Result<_, _>>();
    Ok(DelegatedKeys {
        keys: keys.map_err(Error::internal("read the keys of a supplier"))?,
        threshold: NonZeroU64::new(supplier.threshold.into()).unwrap_or(NonZeroU64::MIN),
    })
}

fn to_supplier(supplier: SupplierRecord, keys: DelegatedKeys) -> SupplierDelegation {
    let DelegatedKeys { keys, threshold } = keys;
    SupplierDelegation {
        role: supplier.role(),
        folder: supplier.folder,
        hardware_ids: supplier.hardware_ids,
        keys,
        threshold,
        terminating: supplier.terminating,
    }
}

/// Whom the bins are being handed over to, if enough of them are here.
async fn incoming(
    catalog: &Catalog,
    repository: &ImageRepository,
) -> Result<Option<DelegatedKeys>, Error> {
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
    Ok(Some(DelegatedKeys { keys, threshold }))
}
