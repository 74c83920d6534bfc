//! Who signs for a kind of roles, as what is published says.

use super::keys::authority_of;
use super::{Verifier, trusted_root};
use crate::app::Error;
use crate::catalog::Catalog;
use crate::keys::policy::key_name;
use crate::model::{RepositorySide, RoleKind, RoleName};
use crate::uptane::metadata::Authority;

/// Who signs for a kind of roles; the bins are one.
///
/// # Errors
///
/// [`Error::Corrupt`] if it can't be read; [`Error::Internal`].
pub(in crate::app) async fn published_signers(
    catalog: &Catalog,
    verifier: &Verifier,
    side: RepositorySide,
    kind: RoleKind,
) -> Result<Authority, Error> {
    let signers = match side {
        RepositorySide::Image => {
            let states = catalog.list_roles().await?;
            let set = verifier.current(&states).await?;
            let is_of_kind = |role: &&RoleName| role.kind() == kind;
            match top_level(kind) {
                Some(role) => set.signers(&role),
                None => {
                    let mut names = states.iter().map(|state| &state.name);
                    names.find(is_of_kind).and_then(|role| set.delegated_signers(role))
                }
            }
        }
        RepositorySide::Director => {
            let root = catalog.find_director_root(None).await?;
            let set = root.map(|root| trusted_root(&root.body)).transpose();
            let set = set.map_err(Error::internal("read the Director's root"))?;
            set.zip(top_level(kind)).and_then(|(set, role)| set.signers(&role))
        }
    };
    let nobody = || Error::Corrupt {
        detail: format!("nothing that is published says who signs {}", key_name(side, kind)),
    };
    signers.ok_or_else(nobody).map(authority_of)
}

/// The role of a kind that has one, with keys that a root names.
pub(in crate::app) fn top_level(kind: RoleKind) -> Option<RoleName> {
    RoleName::TOP_LEVEL.into_iter().find(|role| role.kind() == kind)
}
