//! Partial verification (Uptane 2.1.0, 5.4.4.1): what a Secondary does that can't do more.

use std::collections::BTreeMap;

use super::VerifyError;
use super::checks::check_rollback;
use super::director::check_targets;
use super::limits::{Limits, check_length};
use super::roles::{TargetFile, Targets};
use super::trusted::TrustedSet;

/// Partial verification (Uptane 2.1.0, 5.4.4.1): the Director's Targets alone, with the keys of its
/// root; FV-11 but for the snapshot, FV-12, FV-13 and FV-15. Returns their version and what they
/// list.
///
/// # Errors
///
/// [`VerifyError`].
pub fn verify_partial(
    set: &TrustedSet,
    trusted_version: u64,
    bytes: &[u8],
) -> Result<(u64, BTreeMap<String, TargetFile>), VerifyError> {
    check_length("targets", bytes, Limits::TARGETS)?;
    let targets = set.read::<Targets>("targets", bytes)?;
    set.root.content.verify("targets", &targets)?;
    set.rules.check_vehicle("targets", &targets)?;
    check_rollback("targets", trusted_version, targets.version)?;
    targets.check_expiry("targets", set.now)?;
    check_targets(&targets.content, None)?;
    Ok((targets.version, targets.content.targets))
}
