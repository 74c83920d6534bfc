//! `/api/v1/roles`

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The roles of both repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleList {
    /// The Image repository's first.
    pub roles: Vec<RoleBody>,
}

/// A role, and who signs for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleBody {
    /// `image` or `director`.
    pub repository: String,
    /// `root`, `targets`, `bins`, `snapshot` or `timestamp`.
    pub role: String,
    /// How many keys have to sign, as the published metadata says.
    pub threshold: u64,
    /// How many keys have to sign, as `metadata/policy.toml` asks for.
    pub policy_threshold: u8,
    /// How many keys `metadata/policy.toml` asks for.
    pub policy_keys: u8,
    /// Whether the policy asks for something else than what is published.
    pub differs: bool,
    /// Its keys.
    pub keys: Vec<RoleKeyBody>,
}

/// A key of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleKeyBody {
    /// Its id (TUF 1.0.34, 4.2.1).
    pub id: String,
    /// How it signs; null if the server can't reach it.
    pub scheme: Option<String>,
    /// Where it is; null if the server can't reach it.
    pub place: Option<String>,
    /// `signs`, `joins`, `leaves` or `spare`.
    pub state: String,
    /// RFC 3339: until when a key signs that leaves.
    pub until: Option<String>,
}
