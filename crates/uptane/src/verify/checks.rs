//! Checks that several roles have in common: against what is listed, and against what was trusted
//! before.

use super::VerifyError;
use super::garbled::{is_rewritten, no_metadata};
use super::limits::{check_length, limit};
use super::roles::MetaFile;
use motorcade_model::RoleName;

/// Checks the bytes before anything reads them.
pub(super) fn check_file(
    role: &RoleName,
    bytes: &[u8],
    listed: &MetaFile,
    most: u64,
) -> Result<(), VerifyError> {
    let limit = limit(role, listed, most)?;
    // TUF 1.0.34, 5.5.2, and so 5.6.2: "The hashes of the new snapshot metadata file MUST match the
    // hashes, if any, listed in the trusted timestamp metadata. … It is safe to check the hashes
    // before the signatures, because the hashes come from the timestamp role, which we have already
    // verified in the previous step".
    if listed.matches(bytes) {
        return check_length(role, bytes, limit);
    }
    let rewritten = || is_rewritten(bytes, |bytes| listed.matches(bytes)).then_some(REWRITTEN);
    if let Some(fault) = no_metadata(bytes).or_else(|| rewritten().map(str::to_owned)) {
        return Err(VerifyError::Garbled { role: role.clone(), fault });
    }
    check_length(role, bytes, limit)?;
    Err(VerifyError::HashMismatch { role: role.clone() })
}

pub(super) fn check_version(role: &RoleName, expected: u64, found: u64) -> Result<(), VerifyError> {
    // TUF 1.0.34, 5.5.4, and so 5.6.4: "The version number of the new snapshot metadata file MUST
    // match the version number listed in the trusted timestamp metadata."
    if found != expected {
        return Err(VerifyError::VersionMismatch { role: role.clone(), expected, found });
    }
    Ok(())
}

pub(super) fn check_rollback(role: &RoleName, trusted: u64, found: u64) -> Result<(), VerifyError> {
    // TUF 1.0.34, 4.3: "Clients MUST NOT replace a metadata file with a version number less than
    // the one currently trusted."
    if found < trusted {
        return Err(VerifyError::Rollback { role: role.clone(), trusted, found });
    }
    Ok(())
}

const REWRITTEN: &str = "its line ends or its white space were changed on its way";

pub(super) fn missing(role: &RoleName) -> VerifyError {
    VerifyError::MissingFromSnapshot { role: role.clone() }
}
