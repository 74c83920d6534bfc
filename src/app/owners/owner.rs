//! Who signs for a role, and who may bring it.

use super::Owners;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::publish::delegations::wanted_keys;
use crate::model::{AccessRole, RepositorySide, RoleName, SupplierRecord};
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::image::DelegatedKeys;
use crate::uptane::metadata::{Authority, RoleKeys, Root};

/// Whose a role is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The role.
    pub role: RoleName,
    /// The keys that sign its next file.
    pub keys: Vec<PublicKey>,
    /// How many of them have to.
    pub threshold: u64,
    /// The supplier; none for the top-level targets, which officers sign.
    pub(super) supplier: Option<SupplierRecord>,
}

impl Owner {
    /// Who may sign, and how many have to.
    pub fn authority(&self) -> Authority {
        let key_ids = self.keys.iter().map(PublicKey::id).collect();
        Authority { key_ids, threshold: self.threshold }
    }

    /// Officers may change what is staged for anybody, and a supplier for itself: with a token that
    /// is bound to its folder. That a file is its owner's, its signatures say.
    pub(super) fn check_may_change(&self, by: &Principal) -> Result<(), Error> {
        if by.path_prefix.is_none() && by.role == AccessRole::Officer {
            return Ok(());
        }
        let Some(SupplierRecord { name, folder, .. }) = &self.supplier else {
            let detail = "what is staged for the top-level targets is the officers' affair: it takes an officer's token";
            return Err(Error::Forbidden { detail: detail.into() });
        };
        if by.path_prefix.as_deref() == Some(folder.as_str()) {
            return Ok(());
        }
        Err(Error::Forbidden {
            detail: format!(
                "what is staged for the supplier {name} is its own and the officers' affair: it takes a token that was made \
                 with --path-prefix {folder}, or an officer's"
            ),
        })
    }

    /// The owner of a supplier's role.
    pub(super) fn of_supplier(supplier: SupplierRecord) -> Result<Self, Error> {
        let DelegatedKeys { keys, threshold } = wanted_keys(&supplier)?;
        let (role, threshold) = (supplier.role(), threshold.get());
        Ok(Self { role, keys, threshold, supplier: Some(supplier) })
    }

    /// The owner of the top-level targets, as a root says.
    fn of_targets(root: &Root) -> Result<Self, Error> {
        const OP: &str = "read the keys of targets in the published root";
        let role = RoleName::Targets;
        let RoleKeys { keyids, threshold } = root.roles.get(&role).ok_or_else(|| {
            Error::internal(OP)(std::io::Error::other("the root has no such role"))
        })?;
        let key = |id| PublicKey::from_object(root.keys.get(id).cloned().unwrap_or_default());
        let keys = keyids.iter().map(key).collect::<Result<_, _>>();
        let keys = keys.map_err(Error::internal(OP))?;
        Ok(Self { role, keys, threshold: threshold.get(), supplier: None })
    }
}

impl Owners {
    /// Whose a role is that the caller may see.
    pub(super) async fn owner(&self, role: &RoleName, by: &Principal) -> Result<Owner, Error> {
        if *role == RoleName::Targets {
            return self.owner_of_targets(by).await;
        }
        let suppliers = self.parts.catalog.list_suppliers().await?;
        let sees = |supplier: &SupplierRecord| {
            by.path_prefix.as_deref().is_none_or(|own| supplier.folder.has(own))
        };
        let mut found = suppliers.into_iter().filter(sees);
        let Some(supplier) = found.find(|supplier| supplier.role() == *role) else {
            let detail = format!("there is no supplier with the role {role:.64}");
            return Err(Error::NotFound { code: "supplier_not_found", detail });
        };
        if !supplier.offline {
            let detail = format!(
                "this server has the keys of the supplier {}, and signs what it lists by itself",
                supplier.name
            );
            return Err(Error::Conflict { code: "keys_here", detail });
        }
        Owner::of_supplier(supplier)
    }

    async fn owner_of_targets(&self, by: &Principal) -> Result<Owner, Error> {
        if let Some(folder) = &by.path_prefix {
            let detail = format!("this token is bound to {folder}, and sees nothing else");
            return Err(Error::Forbidden { detail });
        }
        if !self.parts.publisher.policy().has_offline_targets() {
            let detail = "this server signs the top-level targets by itself, since metadata/policy.toml does not say `offline = true` \
                 in [targets]";
            return Err(Error::Conflict { code: "keys_here", detail: detail.into() });
        }
        self.targets_owner().await
    }

    /// Who signs the top-level targets, as the published root says.
    pub(super) async fn targets_owner(&self) -> Result<Owner, Error> {
        Owner::of_targets(&self.parts.ceremony.published(RepositorySide::Image).await?.root)
    }
}
