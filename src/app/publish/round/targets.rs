//! The top-level targets, which say who signs for all others: signed here, or made for people to sign.

use std::num::NonZeroU64;

use super::{Rounds, SIGN};
use crate::app::Error;
use crate::app::publish::delegations;
use crate::app::signing::signing_failed;
use crate::app::trust::authority;
use crate::catalog::ReservedVersion;
use crate::model::{RoleName, Timestamp};
use crate::uptane::metadata::image::{self, DelegatedKeys, SupplierDelegation};
use crate::uptane::metadata::{SignedFile, Unsigned};
use crate::uptane::verify::TrustedSet;

impl Rounds {
    /// What the next targets are to say, for people to sign: delegations to `ready` as well, of
    /// which there is a file that their own keys have signed.
    pub(in crate::app::publish) async fn targets_to_sign(
        &self,
        version: NonZeroU64,
        expires: Timestamp,
        ready: &[RoleName],
    ) -> Result<Unsigned, Error> {
        let states = self.catalog.list_roles().await?;
        let set = self.verifier.current(&states).await?;
        let (blobs, suppliers) = (self.blobs.as_ref(), self.catalog.list_suppliers().await?);
        // If they name other keys for the bins, all of these are signed again with them.
        let all = delegations::all_bins(&states);
        let bins =
            delegations::bin_keys(&self.catalog, blobs, &self.repository, &states, &all, &set);
        let bins = bins.await?;
        let suppliers = delegations::to_suppliers(blobs, &states, suppliers, ready, &set).await?;
        image::targets(version, expires, &suppliers, self.repository.bins(), &bins)
            .map_err(Error::internal("make targets to be signed"))
    }

    pub(super) async fn sign_targets(
        &self,
        reserved: &ReservedVersion,
        (suppliers, bins): (Vec<SupplierDelegation>, &DelegatedKeys),
        set: &TrustedSet,
        now: Timestamp,
    ) -> Result<SignedFile, Error> {
        let authority = authority(set, &RoleName::Targets)?;
        let version = reserved.version;
        let signed = self.repository.sign_targets(version, &suppliers, bins, now, &authority).await;
        signed.map_err(signing_failed(SIGN))
    }
}
