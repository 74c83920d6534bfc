//! Suppliers' files that wait for targets that people sign: they are published together.

use super::{Owner, Owners, StagedTargets};
use crate::app::Error;
use crate::app::Problem;
use crate::app::publish::signed::OwnerSigned;
use crate::catalog::Author;
use crate::model::{RoleKind, RoleName};
use crate::uptane::metadata::{Authority, Delegation};
use crate::uptane::targets_diff::Listing;

impl Owners {
    /// The suppliers of whom enough of their own keys have signed a file, to which the published
    /// targets don't delegate yet.
    pub(super) async fn ready(&self) -> Result<Vec<(Owner, StagedTargets)>, Error> {
        let mut ready = Vec::new();
        let suppliers = self.parts.catalog.list_suppliers().await?;
        for supplier in suppliers.into_iter().filter(|supplier| supplier.offline) {
            let owner = Owner::of_supplier(supplier)?;
            if self.is_delegated(&owner).await? {
                continue;
            }
            let state = self.role_state(&owner.role).await?;
            let staged = self.staging_of(&owner, &state).await?;
            let is_ready = |staged: &StagedTargets| !staged.is_outdated && staged.missing == 0;
            ready.extend(staged.filter(is_ready).map(|staged| (owner, staged)));
        }
        Ok(ready)
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
        author: &Author,
    ) -> Result<(Vec<OwnerSigned>, Vec<Problem>), Error> {
        let (mut together, mut problems) = (Vec::new(), Vec::new());
        let ready = self.ready().await?;
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
            match ready.iter().find(|(owner, _)| owner.role == *role) {
                Some((owner, staged)) if owner.authority() == named => {
                    together.push(staged.signed(owner, author.clone())?);
                }
                _ => problems.push(stale(role, "has other keys, or no signed file, by now")),
            }
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
