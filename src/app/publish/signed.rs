//! Files that others have signed, on their way into a round: those of roles whose keys are not here.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::delegations;
use super::due::with_listers;
use crate::app::Error;
use crate::blob::{self, BlobKey, BlobStore};
use crate::catalog::{Author, EndedStaging, ReservedVersion, RoleState};
use crate::model::{RoleName, Sha256Digest, SupplierRecord};
use crate::uptane::metadata::{SignedFile, Unsigned};
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

/// The files of `signed`, each as it is stored if a publication of it was cut off after that: clients
/// may have it, and signatures that came in since don't matter. A number is handed out once, so that
/// what says the same under it is the same.
///
/// # Errors
///
/// [`Error::Internal`] if the store can't be read.
pub(super) async fn stored_before(
    blobs: &dyn BlobStore,
    signed: &[OwnerSigned],
) -> Result<Vec<SignedFile>, Error> {
    let mut files = Vec::with_capacity(signed.len());
    for OwnerSigned { file, .. } in signed {
        files.push(stored(blobs, file).await?.unwrap_or_else(|| file.clone()));
    }
    Ok(files)
}

async fn stored(blobs: &dyn BlobStore, file: &SignedFile) -> Result<Option<SignedFile>, Error> {
    const OP: &str = "read a file that was stored before";
    let key = BlobKey::Metadata { version: file.version, role: file.role.clone() };
    let blob = match blobs.open(&key).await {
        Err(blob::Error::NotFound(_)) => return Ok(None),
        opened => opened?,
    };
    let longest = file.bytes.len() as u64 + MAX_SIGNATURES_BYTES;
    if blob.length > longest {
        return Ok(None); // it says something else, and the store will refuse ours
    }
    let bytes = blob.read_all(longest).await.map_err(Error::internal(OP))?;
    let digest = |bytes: &[u8]| Unsigned::of_file(file.role.clone(), bytes).map(|one| one.digest());
    let ours = digest(&file.bytes).map_err(Error::internal(OP))?;
    if !digest(&bytes).is_ok_and(|stored| stored == ours) {
        return Ok(None);
    }
    let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
    Ok(Some(SignedFile { bytes, sha256, ..file.clone() }))
}

/// More than all keys of a role sign with.
const MAX_SIGNATURES_BYTES: u64 = 256 * 1024;

/// The published root and targets, with targets that people have signed if these are among what is
/// to be published.
///
/// # Errors
///
/// [`Error::Internal`] if clients would refuse them.
pub(super) fn adopted(
    set: &Arc<TrustedSet>,
    signed: &[OwnerSigned],
) -> Result<Arc<TrustedSet>, Error> {
    let mut set = Arc::clone(set);
    if let Some(targets) = signed.iter().find(|signed| signed.file.role == RoleName::Targets) {
        let adopted = Arc::make_mut(&mut set).adopt_targets(&targets.file.bytes);
        adopted.map_err(Error::internal("take targets that people have signed"))?;
    }
    Ok(set)
}

/// Those of `ours` that have somebody to sign them: where people sign the targets, they may not name
/// everybody yet.
pub(super) fn named(mut ours: Vec<RoleState>, after: &TrustedSet) -> Vec<RoleState> {
    if !signs_targets(&ours) {
        ours.retain(|RoleState { name, .. }| {
            !matches!(name, RoleName::Delegated(_)) || after.delegated_signers(name).is_some()
        });
    }
    ours
}

/// What is due of `ours`, once it is published together with what others have signed: the targets,
/// if they have to name other keys for that; or if others have signed those, what they give to other
/// keys; and whoever lists it.
///
/// # Errors
///
/// [`Error::Internal`] if the keys of a supplier can't be read.
pub(super) fn due_with(
    mut due: Vec<RoleName>,
    ours: &[RoleState],
    signed: &[OwnerSigned],
    suppliers: &[SupplierRecord],
    (before, after): (&TrustedSet, &TrustedSet),
) -> Result<Vec<RoleName>, Error> {
    let names: Vec<RoleName> = signed.iter().map(|signed| signed.file.role.clone()).collect();
    if signs_targets(ours) {
        for supplier in suppliers.iter().filter(|supplier| names.contains(&supplier.role())) {
            if !due.contains(&RoleName::Targets) && !delegations::is_published(supplier, before)? {
                due.push(RoleName::Targets);
            }
        }
    } else {
        for role in ours.iter().map(|state| &state.name) {
            let signers = after.delegated_signers(role);
            let is_given = signers.is_some() && signers != before.delegated_signers(role);
            if is_given && !due.contains(role) {
                due.push(role.clone());
            }
        }
    }
    Ok(with_listers(due, &names))
}

fn signs_targets(ours: &[RoleState]) -> bool {
    ours.iter().any(|state| state.name == RoleName::Targets)
}
