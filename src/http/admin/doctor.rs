//! `/api/v1/doctor`: what is wrong, or will be, and what to do about it.

use actix_web::web::{self, Json};

use crate::api::{CheckBody, DoctorBody, FindingBody, Problem};
use crate::app::doctor::{Check, Doctor, Finding, Report, Severity};
use crate::http::ApiError;
use crate::http::auth::{Access, ReadFleet};

/// Looks at clock, keys, roots, expiry, policy, blobs, disk, certificates and the limits of clients.
#[utoipa::path(
    get, path = "/api/v1/doctor", tag = "operation",
    responses(
        (status = 200, body = DoctorBody, description = "what was found, which may be errors"),
        (status = 500, body = Problem, description = "the state directory can't be looked at"),
    )
)]
pub(in crate::http) async fn examine(
    doctor: web::Data<Doctor>,
    _access: Access<ReadFleet>,
) -> Result<Json<DoctorBody>, ApiError> {
    Ok(Json(doctor.examine().await?.into()))
}

impl From<Report> for DoctorBody {
    fn from(report: Report) -> Self {
        Self {
            status: status(report.worst()),
            at: report.at.to_string(),
            checks: report.checks.into_iter().map(CheckBody::from).collect(),
        }
    }
}

impl From<Check> for CheckBody {
    fn from(check: Check) -> Self {
        Self {
            check: check.name.to_owned(),
            status: status(check.worst()),
            looked_at: check.looked_at,
            findings: check.findings.into_iter().map(FindingBody::from).collect(),
        }
    }
}

impl From<Finding> for FindingBody {
    fn from(Finding { severity, problem, action }: Finding) -> Self {
        Self { severity: severity.as_str().to_owned(), problem, action }
    }
}

fn status(worst: Option<Severity>) -> String {
    worst.map_or("ok", Severity::as_str).to_owned()
}
