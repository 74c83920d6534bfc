//! `/api/v1/audit`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

use crate::model::AuditKind;

/// A change, and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntryBody {
    /// Number, from 1 and without a gap.
    pub seq: u64,
    /// RFC 3339.
    pub at: String,
    /// What happened.
    pub kind: String,
    /// `token`, `vehicle`, `local` or `server`.
    pub actor_kind: String,
    /// Id of the token or of the vehicle, number of the local user; empty for the server itself.
    pub actor: String,
    /// The role of a token; null for others.
    pub actor_role: Option<String>,
    /// What was changed: an image's path, the id of a key, a token or a vehicle.
    pub subject: String,
    /// What else there is to know.
    pub detail: Value,
    /// Id of the request by which it was made.
    pub request_id: Option<String>,
    /// SHA-256 over all this and the hash of the entry before; docs/FORMAT.md, section 8.
    pub hash: String,
}

/// Some entries of the audit log, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntryBody>,
    /// Pass it as `before` for older ones; null if there are none.
    pub next_before: Option<u64>,
}

/// Which entries to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only of this kind.
    #[param(schema_with = kind_schema)]
    pub kind: Option<String>,
    /// Only by the token, vehicle or local user with this id.
    pub actor: Option<String>,
    /// Only about this: an image's path, the id of a key, a token or a vehicle.
    pub subject: Option<String>,
    /// Only from then on; RFC 3339.
    pub since: Option<String>,
    /// Only before then; RFC 3339.
    pub until: Option<String>,
    /// `next_before` of the page before.
    pub before: Option<i64>,
    /// Entries a page, 1 to 1000.
    #[serde(default = "super::default_limit")]
    pub limit: u32,
}

fn kind_schema() -> Object {
    let kinds = AuditKind::ALL.map(AuditKind::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds)).build()
}
