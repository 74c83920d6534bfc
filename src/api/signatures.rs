//! Signatures of what is staged, whichever role it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Signatures that were made elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignatures {
    /// SHA-256 of what was signed, as the signer has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_sha256: Option<String>,
    /// The signatures, as metadata files have them.
    pub signatures: Vec<NewSignature>,
}

/// A signature as metadata files have it (TUF 1.0.34, 4.2.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSignature {
    /// Id of the key.
    pub keyid: String,
    /// The signature in hexadecimal.
    pub sig: String,
}

/// A signature that was checked and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureBody {
    /// Id of the key.
    pub key_id: String,
    /// RFC 3339.
    pub signed_at: String,
    /// Id of the token that brought it.
    pub signed_by: String,
}
