//! Partial verification (Uptane 2.1.0, 5.4.4.1): what a Secondary does that can't do more.

use motorcade_model::RoleName;
use std::collections::BTreeMap;

use super::VerifyError;
use super::checks::check_rollback;
use super::director::check_targets;
use super::limits::{Limits, check_length};
use super::roles::TargetFile;
use super::trusted::TrustedSet;

/// Partial verification: the Director's Targets alone, with the keys of its root; FV-11 but for the
/// snapshot, FV-12, FV-13 and FV-15. Returns their version and the targets they list.
///
/// Uptane 2.1.0, 5.4.4.1 step 2: "Download and check the Targets metadata file from the Director
/// repository". Of 5.4.4.6 step 2, the snapshot's version: "This step can be skipped when checking
/// Targets metadata on a partial verification ECU, as these ECUs might not have Snapshot metadata."
///
/// # Errors
///
/// [`VerifyError`].
pub fn verify_partial(
    set: &TrustedSet,
    trusted_version: u64,
    bytes: &[u8],
) -> Result<(u64, BTreeMap<String, TargetFile>), VerifyError> {
    check_length(&RoleName::Targets, bytes, Limits::TARGETS)?;
    // Uptane 2.1.0, 5.4.4.6 step 3: "Check that the Targets metadata has been signed by the
    // threshold of unique keys specified in the relevant metadata file. … If checking top-level
    // Targets metadata, the threshold of keys is specified in the Root metadata."
    let targets = set.read_targets(bytes)?;
    set.rules.check_vehicle(&RoleName::Targets, &targets)?;
    // Uptane 2.1.0, 5.4.4.6 step 4: "Check that the version number of the previous Targets metadata
    // file, if any, is less than or equal to the version number of this Targets metadata file."
    check_rollback(&RoleName::Targets, trusted_version, targets.version)?;
    // Uptane 2.1.0, 5.4.4.6 step 5: "Check that the current (or latest securely attested) time is
    // lower than the expiration timestamp in this Targets metadata file."
    targets.check_expiry(&RoleName::Targets, set.now)?;
    check_targets(&targets.content, None)?;
    Ok((targets.version, targets.content.targets))
}
