//! `/api/v1/vehicles/{vin}/assignments`.

use actix_web::{HttpResponse, web};

use super::ApiError;
use super::auth::{Access, Manage, ReadFleet};
use super::paging::check_limit;
use super::vehicles::vehicle_id;
use crate::api::{
    AssignmentBody, AssignmentList, AssignmentQuery, NewAssignment, NewAssignments, Problem,
};
use crate::app::App;
use crate::app::director::{AssignmentRequest, EcuAssignment};

/// Assigns images to ECUs, all or none.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/assignments", tag = "vehicles", params(("vin" = String, Path)),
    request_body = NewAssignments,
    responses(
        (status = 201, body = AssignmentList, description = "assigned"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
        (status = 409, body = Problem, description = "`problems` has everything that speaks against it"),
    )
)]
pub(super) async fn assign(
    app: web::Data<App>,
    access: Access<Manage, web::Json<NewAssignments>>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: web::Json(body), .. } = access;
    let assigned = app.director().assign(&vehicle_id(&vin)?, &body.into(), &principal).await?;
    let assignments = assigned.into_iter().map(AssignmentBody::from).collect();
    Ok(HttpResponse::Created().json(AssignmentList { assignments }))
}

/// Lists a vehicle's assignments.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/assignments", tag = "vehicles", params(("vin" = String, Path), AssignmentQuery),
    responses(
        (status = 200, body = AssignmentList, description = "the newest"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    )
)]
pub(super) async fn list_assignments(
    app: web::Data<App>,
    access: Access<ReadFleet, web::Query<AssignmentQuery>>,
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
        (status = 404, body = Problem, description = "there is no such assignment that stands"),
        (status = 409, body = Problem, description = "others rely on it"),
    )
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

impl From<NewAssignments> for AssignmentRequest {
    fn from(body: NewAssignments) -> Self {
        let assignment = |NewAssignment { ecu_serial, image }| EcuAssignment { ecu_serial, image };
        Self {
            assignments: body.assignments.into_iter().map(assignment).collect(),
            rollback_reason: body.rollback_reason,
        }
    }
}
