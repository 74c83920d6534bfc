//! Files that others have signed, on their way into a round: those of roles whose keys are not here.

use super::delegations;
use super::due::with_listers;
use crate::app::Error;
use crate::catalog::{Author, EndedStaging, ReservedVersion};
use crate::model::{RoleName, SupplierRecord};
use crate::uptane::metadata::SignedFile;
use crate::uptane::verify::TrustedSet;

/// A file that its owner has signed, as it was staged.
#[derive(Debug, Clone)]
pub(in crate::app) struct OwnerSigned {
    /// The file.
    pub(in crate::app) file: SignedFile,
    /// Revision of its staging.
    pub(in crate::app) revision: u64,
    /// How many changes of what the role lists it has.
    pub(in crate::app) changes: u64,
    /// Who publishes it.
    pub(in crate::app) author: Author,
}

impl OwnerSigned {
    /// The number that was reserved for it when it was staged.
    pub(super) fn reserved(&self) -> ReservedVersion {
        let SignedFile { role, version, .. } = &self.file;
        ReservedVersion { name: role.clone(), version: *version, changes: self.changes }
    }

    /// The staging that ends with it.
    pub(super) fn staging(&self) -> EndedStaging {
        EndedStaging { revision: self.revision, author: self.author.clone() }
    }
}

/// What is due of `ours`, once it is published together with what others have signed: the targets,
/// if they have to name other keys for that, and whoever lists it.
///
/// # Errors
///
/// [`Error::Internal`] if the keys of a supplier can't be read.
pub(super) fn due_with(
    mut due: Vec<RoleName>,
    signed: &[OwnerSigned],
    suppliers: &[SupplierRecord],
    set: &TrustedSet,
) -> Result<Vec<RoleName>, Error> {
    let names: Vec<RoleName> = signed.iter().map(|signed| signed.file.role.clone()).collect();
    for supplier in suppliers.iter().filter(|supplier| names.contains(&supplier.role())) {
        if !due.contains(&RoleName::Targets) && !delegations::is_published(supplier, set)? {
            due.push(RoleName::Targets);
        }
    }
    Ok(with_listers(due, &names))
}
