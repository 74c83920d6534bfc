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

/// Other keys for a role that the server signs by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoleRotation {
    /// All keys that the role is to have: `file:NAME` in `keys/`, or a source that
    /// `metadata/policy.toml` names for it. Without one, all of those, or else new ones.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Says what would be done, and does nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// For lost keys: does it though clients that poll meanwhile fail, since nobody signs for both
    /// the old keys and the new ones.
    #[serde(default)]
    pub accept_failed_cycles: bool,
}

/// What a rotation comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleRotationBody {
    /// `image` or `director`.
    pub repository: String,
    /// `targets`, `bins`, `snapshot` or `timestamp`.
    pub role: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// How many keys have to sign after it.
    pub threshold: u64,
    /// Ids of the keys that sign after it, as far as they are there.
    pub keys: Vec<String>,
    /// How many keys are made for it.
    pub made: u8,
    /// Ids of the keys that sign no more after it.
    pub leaving: Vec<String>,
    /// For how many seconds these sign on, for clients that are in the midst of a cycle.
    pub grace_seconds: u64,
    /// The version of root that names the new keys; null for bins, whose keys the targets name.
    pub root_version: Option<u64>,
    /// How many files of the Image repository are signed again.
    pub files: u64,
    /// Which clients can read what it makes, and which can't; null if all can that could before.
    pub readers: Option<String>,
    /// The role whose next file people have to sign before any of this is so; it isn't there if the
    /// server signs all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits_signature_of: Option<String>,
}
