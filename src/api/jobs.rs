//! `/api/v1/jobs`

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

use crate::model::JobKind;

/// A job that is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJob {
    /// What it does.
    #[schema(schema_with = kind_schema)]
    pub kind: String,
}

/// Work that takes longer than a request may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobBody {
    /// Its id, which rises with the time at which it was made.
    pub id: String,
    /// What it does.
    pub kind: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// How far it is.
    pub progress: ProgressBody,
    /// What came of it; null until it is done.
    pub result: Option<Value>,
    /// Why it failed; null if it did not.
    pub error: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that asked for it.
    pub created_by: String,
    /// RFC 3339; null until a server has taken it.
    pub started_at: Option<String>,
    /// RFC 3339; null until it has ended.
    pub ended_at: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressBody {
    /// What is being done; empty before anything was.
    pub phase: String,
    /// How much of `total` is done, in whatever the phase counts.
    pub done: u64,
    /// How much there is; 0 if nobody knows.
    pub total: u64,
}

/// Some jobs, and where the next ones are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobList {
    /// The newest first.
    pub jobs: Vec<JobBody>,
    /// Pass it as `cursor` for older ones; null on the last page.
    pub next_cursor: Option<String>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: String,
    /// Jobs a page, 1 to 1000.
    #[serde(default = "super::default_limit")]
    pub limit: u32,
}

fn kind_schema() -> Object {
    let kinds = JobKind::PLAIN.map(JobKind::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(kinds)).build()
}
