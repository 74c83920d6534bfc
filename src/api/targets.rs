//! `/api/v1/targets/{targets_role}`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::SignatureBody;

/// A targets role that its owner signs, and what is to follow its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetsBody {
    /// The role.
    pub targets_role: String,
    /// Key objects of the keys that sign its next file (TUF 1.0.34, 4.2.2).
    pub keys: Vec<Value>,
    /// How many of them have to.
    pub threshold: u8,
    /// The published version; null before the first.
    pub version: Option<u64>,
    /// RFC 3339; null before the first version.
    pub expires_at: Option<String>,
    /// What the published file does not say yet, a line each: `+` for what is new, `~` for what is
    /// other than it is published, `-` for what is gone.
    pub waiting: Vec<String>,
    /// What is staged; null if nothing is.
    pub staged: Option<StagedTargetsBody>,
}

/// A file that waits to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StagedTargetsBody {
    /// Which of all stagings it is: also its entity tag.
    pub revision: u64,
    /// Its version, which no other file ever has.
    pub version: u64,
    /// Whether another one was published since, or numbers were left out: it can't be published.
    pub is_outdated: bool,
    /// SHA-256 of what is signed.
    pub payload_sha256: String,
    /// RFC 3339.
    pub expires_at: String,
    /// RFC 3339.
    pub staged_at: String,
    /// Id of the token that staged it.
    pub staged_by: String,
    /// Signatures that came in.
    pub signatures: Vec<SignatureBody>,
    /// How many are missing.
    pub missing: u64,
    /// What it changes, a line each.
    pub changes: Vec<String>,
}

/// How the next file is to be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTargets {
    /// For how many days it is valid, 1 to 3650; as the policy says without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u16>,
}

/// All that somebody needs to sign a staged file on a machine without a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetsFile {
    /// The role.
    pub targets_role: String,
    /// Which of all stagings it is.
    pub revision: u64,
    /// SHA-256 of what is signed.
    pub payload_sha256: String,
    /// Ids of the keys that sign it.
    pub key_ids: Vec<String>,
    /// How many of them have to.
    pub threshold: u64,
    /// The staged file, with the signatures that came in.
    pub staged: Value,
}
