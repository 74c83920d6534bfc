//! How much is taken from a repository.

use super::VerifyError;
use super::roles::MetaFile;
use motorcade_model::RoleName;

/// How many bytes and files are taken at most: what a repository can make a vehicle fetch and hold,
/// endless data and wide delegation graphs included (AT-16, AT-17).
#[derive(Debug, Clone, Copy)]
pub struct Limits;

impl Limits {
    /// Bytes of a root file.
    ///
    /// TUF 1.0.34, 5.3.3: "up to some W number of bytes (because the size is unknown)".
    pub const ROOT: u64 = motorcade_model::MAX_ROOT_BYTES;
    /// Bytes of a timestamp file.
    ///
    /// TUF 1.0.34, 5.4.1: "up to X number of bytes (because the size is unknown)".
    pub const TIMESTAMP: u64 = 16 * 1024; // 16 KiB
    /// Bytes of a snapshot file.
    ///
    /// TUF 1.0.34, 5.5.1: "up to either the number of bytes specified in the timestamp metadata
    /// file, or some Y number of bytes".
    pub const SNAPSHOT: u64 = 4 * 1024 * 1024; // 4 MiB
    /// Bytes of a targets file.
    ///
    /// TUF 1.0.34, 5.6.1: "up to either the number of bytes specified in the snapshot metadata
    /// file, or some Z number of bytes".
    pub const TARGETS: u64 = 8 * 1024 * 1024; // 8 MiB
    /// Root files in one update.
    ///
    /// TUF 1.0.34, 5.3.3: "or we have downloaded more than Y number of root metadata files … For
    /// example, Y may be 2^10."
    pub const ROOT_ROTATIONS: u64 = 1024;
    /// Roles that a search visits.
    ///
    /// TUF 1.0.34, 5.6.7.1: "if an application-specific maximum number of roles have been visited …
    /// (so that attackers cannot cause the client to waste excessive bandwidth or time)".
    pub const DELEGATIONS: usize = 32;
}

pub(super) fn check_length(role: &RoleName, bytes: &[u8], limit: u64) -> Result<(), VerifyError> {
    if bytes.len() as u64 > limit {
        return Err(VerifyError::TooLarge { role: role.clone(), limit });
    }
    Ok(())
}

pub(super) fn limit(role: &RoleName, listed: &MetaFile, limit: u64) -> Result<u64, VerifyError> {
    match listed.length {
        Some(length) if length > limit => Err(VerifyError::TooLarge { role: role.clone(), limit }),
        length => Ok(length.unwrap_or(limit)),
    }
}
