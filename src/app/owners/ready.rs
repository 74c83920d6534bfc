//! Suppliers' files that wait for targets that people sign: they are published together.

use super::{OwnedState, Owner, Owners, StagedTargets};
use crate::app::access::Principal;
use crate::app::{Error, Problem};
use crate::model::{RoleKind, RoleName, Timestamp};
use crate::uptane::metadata::{Authority, Delegation};
use crate::uptane::targets_diff::Listing;

impl Owners {
    /// The suppliers of whom enough of their own keys have signed a file that can be published, and
    /// to which the published targets don't delegate yet.
    pub(super) async fn ready(&self) -> Result<Vec<(Owner, StagedTargets)>, Error> {
        let (mut ready, now) = (Vec::new(), self.parts.clock.now());
        for (owner, staged) in self.signed_by_new_keys().await? {
            if self.unfit(&owner, &staged, now).await?.is_empty() {
                ready.push((owner, staged));
            }
        }
        Ok(ready)
    }

    /// The same, whatever else speaks against these files by now.
    async fn signed_by_new_keys(&self) -> Result<Vec<(Owner, StagedTargets)>, Error> {
        let mut signed = Vec::new();
        let suppliers = self.parts.catalog.list_suppliers().await?;
        for supplier in suppliers.into_iter().filter(|supplier| supplier.offline) {
            let owner = Owner::of_supplier(supplier)?;
            if self.is_delegated(&owner).await? {
                continue;
            }
            let state = self.role_state(&owner.role).await?;
            let staged = self.staging_of(&owner, &state).await?;
            let is_signed = |staged: &StagedTargets| !staged.is_outdated && staged.missing == 0;
            signed.extend(staged.filter(is_signed).map(|staged| (owner, staged)));
        }
        Ok(signed)
    }

    /// Refuses a supplier's change of what is staged for it while people sign the targets that are
    /// published together with it: their work would be for nothing, as often as the supplier likes.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`]; [`Error::Corrupt`], [`Error::Internal`].
    pub(super) async fn refuse_while_targets_wait(
        &self,
        state: &OwnedState,
        by: &Principal,
    ) -> Result<(), Error> {
        let OwnedState { owner, staged: Some(staged), .. } = state else { return Ok(()) };
        let is_offline = self.parts.publisher.policy().has_offline_targets();
        if by.path_prefix.is_none() || !is_offline || self.is_delegated(owner).await? {
            return Ok(());
        }
        let is_good = !staged.is_outdated
            && self.unfit(owner, staged, self.parts.clock.now()).await?.is_empty();
        let targets = self.targets_owner().await?;
        let role = self.role_state(&targets.role).await?;
        let Some(targets) = self.staging_of(&targets, &role).await?.filter(|one| !one.is_outdated)
        else {
            return Ok(());
        };
        let to = targets.listing.delegations.iter().flat_map(|delegations| &delegations.roles);
        let is_named =
            |to: &Delegation| to.name == owner.role && authority(to) == owner.authority();
        if !is_good || !{ to }.any(is_named) {
            return Ok(());
        }
        let detail = format!(
            "people are signing targets that are published together with what is staged for {} (revision {}): it stays until \
             they have, or an officer stages the targets anew or drops them (`motorcade targets cancel`)",
            owner.role,
            staged.revision()
        );
        Err(Error::Conflict { code: "targets_staged", detail })
    }

    /// Whether the published targets delegate to an owner's keys.
    pub(super) async fn is_delegated(&self, owner: &Owner) -> Result<bool, Error> {
        let published = self.parts.handovers.delegated(&owner.role).await?;
        Ok(published.is_some_and(|published| published == owner.authority()))
    }

    /// What has to be published with targets that delegate to suppliers otherwise than before, and
    /// what speaks against these.
    pub(super) async fn with_targets(
        &self,
        next: &Listing,
        now: Timestamp,
    ) -> Result<(Vec<(Owner, StagedTargets)>, Vec<Problem>), Error> {
        let (mut together, mut problems) = (Vec::new(), Vec::new());
        let mut signed = self.signed_by_new_keys().await?;
        let suppliers = self.parts.catalog.list_suppliers().await?;
        let delegations = next.delegations.iter().flat_map(|delegations| &delegations.roles);
        for delegation in delegations.filter(|to| to.name.kind() == RoleKind::Suppliers) {
            let role = &delegation.name;
            let named = authority(delegation);
            let Some(supplier) = suppliers.iter().find(|supplier| supplier.role() == *role) else {
                problems.push(stale(role, "was removed"));
                continue;
            };
            let is_as_before = self.parts.handovers.delegated(role).await? == Some(named.clone());
            if is_as_before
                || (!supplier.offline && named == Owner::of_supplier(supplier.clone())?.authority())
            {
                continue;
            }
            let is_meant =
                |(owner, _): &(Owner, _)| owner.role == *role && owner.authority() == named;
            let Some(at) = signed.iter().position(is_meant) else {
                problems.push(stale(role, "has other keys, or no signed file, by now"));
                continue;
            };
            let (owner, staged) = signed.swap_remove(at);
            problems.extend(self.unfit(&owner, &staged, now).await?);
            together.push((owner, staged));
        }
        Ok((together, problems))
    }
}

fn authority(delegation: &Delegation) -> Authority {
    let key_ids = delegation.keyids.iter().copied().collect();
    Authority { key_ids, threshold: delegation.threshold.get() }
}

fn stale(role: &RoleName, fault: &str) -> Problem {
    let detail = format!("it delegates to {role}, which {fault}: stage it again");
    Problem { code: "supplier_changed", detail }
}
