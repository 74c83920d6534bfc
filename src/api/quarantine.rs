//! `/api/v1/quarantine`, and that of one vehicle

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a quarantine is cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearBody {
    /// For the record.
    pub reason: String,
}

/// Which vehicles to clear, and why: `vins`, or `all`, or one or both of the filters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearManyBody {
    /// For the record.
    pub reason: String,
    /// These; at most 1000.
    #[serde(default)]
    pub vins: Vec<String>,
    /// All that are in quarantine.
    #[serde(default)]
    pub all: bool,
    /// Those that are in quarantine for nothing but these: names of attacks, `other`,
    /// `unexpected-image`.
    #[serde(default)]
    pub attacks: Vec<String>,
    /// Those that are in quarantine since then or later; RFC 3339.
    pub since: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClearedBody {
    /// How many vehicles were cleared.
    pub cleared: u64,
    /// Those of `vins` that are not in quarantine, or not registered.
    pub not_quarantined: Vec<String>,
    /// Whether more are left that the filter names: send the same again.
    pub more: bool,
}
