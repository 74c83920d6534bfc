//! Who images are sealed for.

use super::{HardwareId, Timestamp};

/// A public key that belongs to a hardware id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipientRecord {
    /// The hardware id.
    pub hardware_id: HardwareId,
    /// RFC 7638 thumbprint of the key.
    pub kid: String,
    /// The key as a JWK with public members only.
    pub jwk: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Id of the token that registered it.
    pub created_by: String,
}
