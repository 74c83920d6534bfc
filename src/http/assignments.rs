//! `/api/v1/vehicles/{vin}/assignments`.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::ApiError;
use super::auth::{Access, Manage, ReadFleet};
use super::error::Problem;
use super::paging::{check_limit, default_limit};
use super::vehicles::vehicle_id;
use crate::app::App;
use crate::app::director::AssignmentRequest;
use crate::model::{AssignmentOutcome, AssignmentRecord};

/// Images for some of a vehicle's ECUs.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `AssignmentRequest` in the OpenAPI document")]
pub(super) struct NewAssignments {
    /// Each ECU at most once; they are to be installed together.
    assignments: Vec<NewAssignment>,
    /// Lets release counters go down, and says why.
    rollback_reason: Option<String>,
}

/// An image for an ECU.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `EcuAssignment` in the OpenAPI document")]
pub(super) struct NewAssignment {
    /// The ECU.
    ecu_serial: String,
    /// Target path of the image.
    image: String,
}

/// An assignment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentBody {
    /// Its id.
    id: String,
    /// The ECU.
    ecu_serial: String,
    /// Target path of the image.
    image: String,
    /// Why the release counter was allowed to go down.
    rollback_reason: Option<String>,
    /// RFC 3339.
    created_at: String,
    /// Id of the token that made it.
    created_by: String,
    /// RFC 3339; null while it stands.
    ended_at: Option<String>,
    /// `installed`, `cancelled`, `superseded` or `withdrawn`; null while it stands.
    outcome: Option<&'static str>,
}

/// Assignments of a vehicle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AssignmentList {
    /// The newest first.
    assignments: Vec<AssignmentBody>,
}

/// How many assignments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// 1 to 1000.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Assigns images to ECUs, all or none.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/assignments", tag = "vehicles", params(("vin" = String, Path)),
    request_body = NewAssignments,
    responses(
        (status = 201, body = AssignmentList, description = "assigned"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
        (status = 409, body = Problem, description = "`problems` has everything that speaks against it"),
    ),
    security(("token" = []))
)]
pub(super) async fn assign(
    app: web::Data<App>,
    access: Access<Manage, web::Json<AssignmentRequest>>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let assigned =
        app.director().assign(&vehicle_id(&vin)?, &access.input, &access.principal).await?;
    let assignments = assigned.into_iter().map(AssignmentBody::from).collect();
    Ok(HttpResponse::Created().json(AssignmentList { assignments }))
}

/// Lists a vehicle's assignments.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/assignments", tag = "vehicles", params(("vin" = String, Path), ListQuery),
    responses(
        (status = 200, body = AssignmentList, description = "the newest"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    ),
    security(("token" = []))
)]
pub(super) async fn list_assignments(
    app: web::Data<App>,
    access: Access<ReadFleet, web::Query<ListQuery>>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let limit = check_limit(access.input.limit)?;
    let assignments = app.fleet().list_assignments(&vehicle_id(&vin)?, limit).await?;
    let assignments = assignments.into_iter().map(AssignmentBody::from).collect();
    Ok(HttpResponse::Ok().json(AssignmentList { assignments }))
}

/// Takes an assignment back.
#[utoipa::path(
    delete, path = "/api/v1/vehicles/{vin}/assignments/{id}", tag = "vehicles",
    params(("vin" = String, Path), ("id" = String, Path)),
    responses(
        (status = 204, description = "cancelled; the ECU may have got it already"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 404, body = Problem, description = "there is no such assignment that stands"),
        (status = 409, body = Problem, description = "others rely on it"),
    ),
    security(("token" = []))
)]
pub(super) async fn cancel_assignment(
    app: web::Data<App>,
    access: Access<Manage>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (vin, id) = path.into_inner();
    app.director().cancel_assignment(&vehicle_id(&vin)?, &id, &access.principal).await?;
    Ok(HttpResponse::NoContent().finish())
}

impl From<AssignmentRecord> for AssignmentBody {
    fn from(assignment: AssignmentRecord) -> Self {
        Self {
            id: assignment.id,
            ecu_serial: assignment.ecu_serial.into(),
            image: assignment.image_path.into(),
            rollback_reason: assignment.rollback_reason,
            created_at: assignment.created_at.to_string(),
            created_by: assignment.created_by,
            ended_at: assignment.ended_at.map(|time| time.to_string()),
            outcome: assignment.outcome.map(AssignmentOutcome::as_str),
        }
    }
}
