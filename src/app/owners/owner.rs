//! Who signs for a role, and who may bring it.

use super::Owners;
use crate::app::Error;
use crate::app::access::Principal;
use crate::model::{AccessRole, RoleName, SupplierRecord};
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::Authority;

/// Whose a role is.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The role.
    pub role: RoleName,
    /// The keys that sign its next file.
    pub keys: Vec<PublicKey>,
    /// How many of them have to.
    pub threshold: u64,
    /// The supplier.
    pub(super) supplier: SupplierRecord,
}

impl Owner {
    /// Who may sign, and how many have to.
    pub fn authority(&self) -> Authority {
        let key_ids = self.keys.iter().map(PublicKey::id).collect();
        Authority { key_ids, threshold: self.threshold }
    }

    /// Officers may change what is staged for anybody, and a supplier for itself: with a token that
    /// is bound to its folder. That a file is the supplier's, its signatures say.
    pub(super) fn check_may_change(&self, by: &Principal) -> Result<(), Error> {
        let SupplierRecord { name, folder, .. } = &self.supplier;
        let is_its_own = by.path_prefix.as_deref() == Some(folder.as_str());
        if is_its_own || (by.path_prefix.is_none() && by.role == AccessRole::Officer) {
            return Ok(());
        }
        Err(Error::Forbidden {
            detail: format!(
                "what is staged for the supplier {name} is its own and the officers' affair: it takes a token that was made \
                 with --path-prefix {folder}, or an officer's"
            ),
        })
    }
}

impl Owners {
    /// Whose a role is that the caller may see.
    pub(super) async fn owner(&self, role: &RoleName, by: &Principal) -> Result<Owner, Error> {
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
        let keys = supplier.keys.iter().cloned().map(PublicKey::from_object);
        let keys = keys.collect::<Result<_, _>>();
        Ok(Owner {
            role: role.clone(),
            keys: keys.map_err(Error::internal("read the keys of a supplier"))?,
            threshold: supplier.threshold.max(1).into(),
            supplier,
        })
    }
}
