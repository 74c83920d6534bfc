//! `/api/v1/vehicles/{vin}/assignments`.

use actix_web::web::{self, Json, Query};

use super::path::{AssignmentId, InPath};
use super::query::check_limit;
use crate::api::{
    AssignmentBody, AssignmentList, AssignmentQuery, NewAssignment, NewAssignments, Problem,
};
use crate::app::director::{AssignmentRequest, Director, EcuAssignment};
use crate::app::fleet::Fleet;
use crate::http::ApiError;
use crate::http::answer::{Created, NoContent};
use crate::http::auth::{Access, Manage, ReadFleet};
use crate::model::VehicleId;

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
pub(in crate::http) async fn assign(
    director: web::Data<Director>,
    access: Access<Manage, (InPath<VehicleId>, Json<NewAssignments>)>,
) -> Result<Created<AssignmentList>, ApiError> {
    let Access { principal, input: (InPath(vin), Json(body)), .. } = access;
    let assigned = director.assign(&vin, &body.into(), &principal).await?;
    let assignments = assigned.into_iter().map(AssignmentBody::from).collect();
    Ok(Created(AssignmentList { assignments }))
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
pub(in crate::http) async fn list_assignments(
    fleet: web::Data<Fleet>,
    access: Access<ReadFleet, (InPath<VehicleId>, Query<AssignmentQuery>)>,
) -> Result<Json<AssignmentList>, ApiError> {
    let (InPath(vin), query) = access.input;
    let assignments = fleet.list_assignments(&vin, check_limit(query.limit)?).await?;
    let assignments = assignments.into_iter().map(AssignmentBody::from).collect();
    Ok(Json(AssignmentList { assignments }))
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
pub(in crate::http) async fn cancel_assignment(
    director: web::Data<Director>,
    access: Access<Manage, InPath<(VehicleId, AssignmentId)>>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: InPath((vin, AssignmentId(id))), .. } = access;
    director.cancel_assignment(&vin, &id, &principal).await?;
    Ok(NoContent)
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
