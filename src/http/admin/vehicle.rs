//! `/api/v1/vehicles/{vin}`: what people do with one vehicle, and what happened to it.

use std::time::Duration;

use actix_web::web::{self, Json, Query};

use super::path::{EcuInPath, InPath};
use super::query::check_limit;
use crate::api::{
    AcceptBody, ApprovalBody, Approved, ClearBody, EventBody, History, HistoryQuery, IssuedToken,
    KeyApprovalBody, Problem, ReEnrolmentBody, RemovalQuery,
};
use crate::app::Error;
use crate::app::director::Director;
use crate::app::fleet::Fleet;
use crate::http::ApiError;
use crate::http::answer::{Created, NoContent};
use crate::http::auth::{Access, Manage, ReadFleet};
use crate::model::{ParseFieldError, Sha256Digest, VehicleId};

/// Lists what happened to a vehicle.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/history", tag = "vehicles", params(("vin" = String, Path), HistoryQuery),
    responses(
        (status = 200, body = History, description = "a page, the newest first"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
    )
)]
pub(in crate::http) async fn list_history(
    fleet: web::Data<Fleet>,
    access: Access<ReadFleet, (InPath<VehicleId>, Query<HistoryQuery>)>,
) -> Result<Json<History>, ApiError> {
    let (InPath(vin), Query(HistoryQuery { before, limit })) = access.input;
    let limit = check_limit(limit)?;
    let events = fleet.list_history(&vin, before.unwrap_or(i64::MAX), limit).await?;
    let next_before =
        events.last().filter(|_| events.len() == limit as usize).map(|event| event.id);
    let events = events.into_iter().map(EventBody::from).collect();
    Ok(Json(History { events, next_before }))
}

/// Clears a vehicle's quarantine, so that it can be assigned images again.
#[utoipa::path(
    delete, path = "/api/v1/vehicles/{vin}/quarantine", tag = "vehicles", params(("vin" = String, Path)),
    request_body = ClearBody,
    responses(
        (status = 204, description = "cleared"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle, or it is in no quarantine"),
    )
)]
pub(in crate::http) async fn clear_quarantine(
    fleet: web::Data<Fleet>,
    access: Access<Manage, (InPath<VehicleId>, Json<ClearBody>)>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: (InPath(vin), body), .. } = access;
    fleet.clear_quarantine(&vin, &body.reason, &principal).await?;
    Ok(NoContent)
}

/// Approves that an ECU is replaced.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/ecus/{serial}/replacement", tag = "vehicles",
    params(("vin" = String, Path), ("serial" = String, Path)), request_body = ApprovalBody,
    responses(
        (status = 201, body = Approved, description = "approved, once, until then"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle or ECU"),
    )
)]
pub(in crate::http) async fn approve_replacement(
    fleet: web::Data<Fleet>,
    access: Access<Manage, (EcuInPath, Json<ApprovalBody>)>,
) -> Result<Created<Approved>, ApiError> {
    let Access { principal, input: (InPath((vin, serial)), body), .. } = access;
    let valid_for = Duration::from_secs(body.expires_in_seconds);
    let expires_at = fleet.approve_replacement(&vin, &serial, valid_for, &principal).await?;
    Ok(Created(Approved { expires_at: expires_at.to_string() }))
}

/// Approves that an ECU's encryption key is changed to one that the ECU has asked for.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/ecus/{serial}/key-change", tag = "vehicles",
    params(("vin" = String, Path), ("serial" = String, Path)), request_body = KeyApprovalBody,
    responses(
        (status = 201, body = Approved, description = "approved, once, until then"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle or ECU"),
        (status = 422, body = Problem, description = "a key that was revoked as a recipient's"),
    )
)]
pub(in crate::http) async fn approve_key_change(
    fleet: web::Data<Fleet>,
    access: Access<Manage, (EcuInPath, Json<KeyApprovalBody>)>,
) -> Result<Created<Approved>, ApiError> {
    let Access { principal, input: (InPath((vin, serial)), Json(body)), .. } = access;
    let (kid, valid_for) = (&body.kid, Duration::from_secs(body.expires_in_seconds));
    let expires_at = fleet.approve_key_change(&vin, &serial, kid, valid_for, &principal).await?;
    Ok(Created(Approved { expires_at: expires_at.to_string() }))
}

/// Takes a vehicle out of the inventory: it was sold or scrapped. Its history stays.
#[utoipa::path(
    delete, path = "/api/v1/vehicles/{vin}", tag = "vehicles", params(("vin" = String, Path), RemovalQuery),
    responses(
        (status = 204, description = "removed; its token and certificate identify no vehicle any more"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    )
)]
pub(in crate::http) async fn remove_vehicle(
    fleet: web::Data<Fleet>,
    access: Access<Manage, (InPath<VehicleId>, Query<RemovalQuery>)>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: (InPath(vin), query), .. } = access;
    fleet.remove_vehicle(&vin, query.reason.as_deref(), &principal).await?;
    Ok(NoContent)
}

/// Approves that a vehicle enrols anew: with other keys, and with counters that start again.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/re-enrolment", tag = "vehicles",
    params(("vin" = String, Path)), request_body = ReEnrolmentBody,
    responses(
        (status = 201, body = Approved, description = "approved, once, until then"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle, or an ECU to take is no other vehicle's"),
        (status = 409, body = Problem, description = "an ECU to take is another vehicle's Primary"),
    )
)]
pub(in crate::http) async fn approve_re_enrolment(
    fleet: web::Data<Fleet>,
    access: Access<Manage, (InPath<VehicleId>, Json<ReEnrolmentBody>)>,
) -> Result<Created<Approved>, ApiError> {
    let Access { principal, input: (InPath(vin), body), .. } = access;
    let take = body.take_ecus.iter().map(|serial| serial.parse()).collect::<Result<_, _>>();
    let take = take.map_err(|rule: ParseFieldError| Error::Invalid {
        code: "bad_vehicle",
        detail: format!("`take_ecus`: {rule}"),
    })?;
    let valid_for = Duration::from_secs(body.expires_in_seconds);
    let expires_at = fleet.approve_re_enrolment(&vin, valid_for, take, &principal).await?;
    Ok(Created(Approved { expires_at: expires_at.to_string() }))
}

/// Accepts what an ECU runs, although nobody gave it to it or it is older than what it ran before.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/ecus/{serial}/accept-installed", tag = "vehicles",
    params(("vin" = String, Path), ("serial" = String, Path)), request_body = AcceptBody,
    responses(
        (status = 204, description = "accepted; if the quarantine was for such images alone and there are no others, it has ended"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such vehicle or ECU"),
        (status = 409, body = Problem, description = "there is nothing to accept, or it runs another image than `sha256`"),
    )
)]
pub(in crate::http) async fn accept_installed(
    director: web::Data<Director>,
    access: Access<Manage, (EcuInPath, Json<AcceptBody>)>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: (InPath((vin, serial)), body), .. } = access;
    let sha256 = body.sha256.as_deref().map(str::parse::<Sha256Digest>).transpose();
    let sha256 = sha256.map_err(|error| Error::Invalid {
        code: "bad_digest",
        detail: format!("`sha256`: {error}"),
    })?;
    director.accept_installed(&vin, &serial, sha256.as_ref(), &body.reason, &principal).await?;
    Ok(NoContent)
}

/// Makes a bearer token for a vehicle; the one before stops working.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/token", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 201, body = IssuedToken, description = "the token, which is shown once"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    )
)]
pub(in crate::http) async fn issue_token(
    fleet: web::Data<Fleet>,
    access: Access<Manage, InPath<VehicleId>>,
) -> Result<Created<IssuedToken>, ApiError> {
    let Access { principal, input: InPath(vin), .. } = access;
    let token = fleet.issue_vehicle_token(&vin, &principal).await?;
    Ok(Created(IssuedToken { token: token.to_string() }))
}
