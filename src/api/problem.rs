//! Problem details (RFC 9457)

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A problem details object (RFC 9457, 3.1), with two members of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank`: the status and `code` say what kind of problem it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
    /// For finding the server's log lines.
    pub request_id: Option<String>,
    /// The limit that was exceeded, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Each thing that speaks against the request, if there can be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemItem>,
}

/// One of several things that speak against a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemItem {
    /// Stable, for programs.
    pub code: String,
    /// What is wrong and what to do.
    pub detail: String,
}
