//! `/api/v1/roots/{repository}`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::SignatureBody;
use crate::model::KeyInput;

/// The root of a repository, and what is to follow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootBody {
    /// `image` or `director`.
    pub repository: String,
    /// The published version.
    pub version: u64,
    /// RFC 3339.
    pub expires_at: String,
    /// The roles that it names keys for.
    pub roles: Vec<RootRoleBody>,
    /// What is staged; null if nothing is.
    pub staged: Option<StagedRootBody>,
}

/// A role as the published root has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootRoleBody {
    /// The role.
    pub name: String,
    /// How many keys have to sign.
    pub threshold: u64,
    /// All of them.
    pub keys: Vec<RootKeyBody>,
}

/// A key of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootKeyBody {
    /// TUF 1.0.34, 4.2.1.
    pub key_id: String,
    /// How it signs.
    pub scheme: String,
    /// Whether this server can sign with it.
    pub is_here: bool,
}

/// A root that waits to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StagedRootBody {
    /// Which of all stagings it is: also its entity tag.
    pub revision: u64,
    /// Its version.
    pub version: u64,
    /// The version that it was made to follow.
    pub base: u64,
    /// Whether another one was published since, so that nobody can take it any more.
    pub is_outdated: bool,
    /// SHA-256 of what is signed.
    pub payload_sha256: String,
    /// RFC 3339.
    pub staged_at: String,
    /// Id of the token that staged it.
    pub staged_by: String,
    /// Signatures that came in.
    pub signatures: Vec<SignatureBody>,
    /// How many signatures are missing of the published root's keys.
    pub missing_of_published: u64,
    /// How many are missing of its own.
    pub missing_of_staged: u64,
    /// What it changes, a line each.
    pub changes: Vec<String>,
    /// What that means for clients, a sentence each.
    pub consequences: Vec<String>,
}

/// What the next root is to say otherwise than the published one.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoot {
    /// For how many days it is valid, 1 to 3650; as the policy says without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u16>,
    /// The roles that change; none for a root that is only valid for longer.
    #[serde(default)]
    pub roles: Vec<NewRootRole>,
}

/// How a role is to change.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRootRole {
    /// `root`, `targets`, `snapshot` or `timestamp`.
    pub name: String,
    /// How many keys have to sign; as before without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u64>,
    /// Public keys that it gets: PEM text, or a TUF key object.
    #[serde(default)]
    #[schema(value_type = Vec<Value>)]
    pub add: Vec<KeyInput>,
    /// Ids of keys that it loses.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// All that somebody needs to sign a staged root on a machine without a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CeremonyFile {
    /// `image` or `director`.
    pub repository: String,
    /// Which of all stagings it is.
    pub revision: u64,
    /// SHA-256 of what is signed.
    pub payload_sha256: String,
    /// The published root, as clients have it.
    pub published: Value,
    /// The staged one, with the signatures that came in.
    pub staged: Value,
}

/// How to publish a root.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PublishRootQuery {
    /// Publish it though clients that poll meanwhile fail until the other roles are signed again:
    /// for keys that are lost.
    #[serde(default)]
    pub accept_failed_cycles: bool,
}
