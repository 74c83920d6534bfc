//! `/api/v1/escrow`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The escrow keys, with which the server wraps data keys for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EscrowBody {
    /// The one that wraps first; a second one only while a rotation has not ended.
    pub keys: Vec<EscrowKeyBody>,
    /// What can't be used of them, a line each.
    pub faults: Vec<String>,
}

/// An escrow key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EscrowKeyBody {
    /// Its id.
    pub kid: String,
    /// Where it is: `file:NAME` in `keys/`, or a PKCS#11 URI.
    pub source: String,
    /// `wraps`, or `opens` for a former key.
    pub state: String,
    /// Envelopes that it opens.
    pub envelopes: u64,
}

/// Another escrow key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowRotation {
    /// The key that comes, where it is: `file:NAME` in `keys/`, or a PKCS#11 URI; by default a new one
    /// in a file, or that of the rotation that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
