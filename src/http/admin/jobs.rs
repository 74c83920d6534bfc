//! `/api/v1/jobs`: work that takes longer than a request may.

use actix_web::web::{self, Json, Query};
use serde_json::json;

use super::path::{InPath, JobId};
use super::query::check_limit;
use crate::api::{JobBody, JobList, JobQuery, NewJob, Problem, ProgressBody};
use crate::app::Error;
use crate::app::jobs::{JobProgress, JobRecord, Jobs};
use crate::http::ApiError;
use crate::http::answer::{MaybeCreated, NoContent};
use crate::http::auth::{Access, Manage, ReadFleet};
use crate::model::JobKind;

/// Has a job done.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "operation", request_body = NewJob,
    responses(
        (status = 201, body = JobBody, description = "it will be"),
        (status = 200, body = JobBody, description = "one that does the same has not ended yet: this one"),
        (status = 400, body = Problem, description = "malformed, or nothing is called that"),
    )
)]
pub(in crate::http) async fn create_job(
    jobs: web::Data<Jobs>,
    access: Access<Manage, Json<NewJob>>,
) -> Result<MaybeCreated<JobBody>, ApiError> {
    let kind = JobKind::PLAIN.into_iter().find(|kind| kind.as_str() == access.input.kind);
    let kind = kind.ok_or_else(|| {
        let kinds = JobKind::PLAIN.map(JobKind::as_str).join(", ");
        Error::Invalid { code: "bad_job", detail: format!("`kind` must be one of {kinds}") }
    })?;
    let (job, is_new) = jobs.create(kind, &json!({}), &access.principal).await?;
    Ok(MaybeCreated { is_new, body: job.into() })
}

/// Lists jobs, the newest first.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "operation", params(JobQuery),
    responses(
        (status = 200, body = JobList, description = "a page"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
    )
)]
pub(in crate::http) async fn list_jobs(
    jobs: web::Data<Jobs>,
    access: Access<ReadFleet, Query<JobQuery>>,
) -> Result<Json<JobList>, ApiError> {
    let Query(JobQuery { cursor, limit }) = access.input;
    let limit = check_limit(limit)?;
    let page = jobs.list(&cursor, limit).await?;
    let items = page.items.into_iter().map(JobBody::from).collect();
    Ok(Json(JobList { jobs: items, next_cursor: page.next }))
}

/// Shows a job.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "operation", params(("id" = String, Path)),
    responses(
        (status = 200, body = JobBody, description = "the job"),
        (status = 404, body = Problem, description = "there is none"),
    )
)]
pub(in crate::http) async fn show_job(
    jobs: web::Data<Jobs>,
    access: Access<ReadFleet, InPath<JobId>>,
) -> Result<Json<JobBody>, ApiError> {
    let InPath(JobId(id)) = access.input;
    Ok(Json(jobs.show(&id).await?.into()))
}

/// Cancels a job.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}", tag = "operation", params(("id" = String, Path)),
    responses(
        (status = 204, description = "cancelled; one that runs stops soon after"),
        (status = 404, body = Problem, description = "there is none"),
        (status = 409, body = Problem, description = "it has ended"),
    )
)]
pub(in crate::http) async fn cancel_job(
    jobs: web::Data<Jobs>,
    access: Access<Manage, InPath<JobId>>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: InPath(JobId(id)), .. } = access;
    jobs.cancel(&id, &principal).await?;
    Ok(NoContent)
}

impl From<JobRecord> for JobBody {
    fn from(job: JobRecord) -> Self {
        let JobProgress { phase, done, total } = job.progress;
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state.as_str().to_owned(),
            progress: ProgressBody { phase, done, total },
            result: job.result,
            error: job.error,
            created_at: job.created_at.to_string(),
            created_by: job.created_by,
            started_at: job.started_at.map(|time| time.to_string()),
            ended_at: job.ended_at.map(|time| time.to_string()),
        }
    }
}
