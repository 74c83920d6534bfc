//! Keys of ML-DSA-65 in a staged root: only where the policy asks for them, and never so that one
//! kind of keys is enough (docs/POST-QUANTUM.md).

use crate::app::Error;
use crate::keys::hybrid::fault_of_keys;
use crate::keys::policy::Policy;
use crate::model::RepositorySide;
use crate::uptane::metadata::root::RoleChange;

/// Refuses changes that don't go with what the policy says of the role.
///
/// # Errors
///
/// [`Error::Unprocessable`].
pub(super) fn check(
    policy: &Policy,
    side: RepositorySide,
    changes: &[RoleChange],
) -> Result<(), Error> {
    for RoleChange { role, keys, threshold } in changes {
        let is_hybrid = policy.role(side, role.kind()).hybrid;
        let threshold = u8::try_from(threshold.get()).unwrap_or(u8::MAX);
        let keys: Vec<_> = keys.iter().collect();
        if let Some(fault) = fault_of_keys(is_hybrid, threshold, &keys) {
            let detail = format!("the role {role} {fault}");
            return Err(Error::Unprocessable { code: "hybrid_refused", detail });
        }
    }
    Ok(())
}
