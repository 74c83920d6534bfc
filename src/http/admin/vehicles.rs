//! `/api/v1/vehicles`: the inventory, and what people see and change of it.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Json, Query};
use futures_util::StreamExt;

use super::paging::check_limit;
use super::path::InPath;
use crate::api::{
    AcceptBody, ApprovalBody, Approved, BulkBody, ClearBody, EcuBody, EventBody, FaultBody,
    History, HistoryQuery, IssuedToken, NewEcuBody, NewVehicleBody, Problem, ReEnrolmentBody,
    Registered, RemovalQuery, VehicleBody, VehicleList, VehicleQuery,
};
use crate::app::access::Principal;
use crate::app::director::Director;
use crate::app::fleet::{BulkFormat, BulkReport, EcuInput, Fleet, LineFault, VehicleInput};
use crate::app::{EcuFilter, Error, Limits, VehicleFilter};
use crate::http::ApiError;
use crate::http::answer::{Created, MaybeCreated, NoContent};
use crate::http::auth::{Access, Manage, ReadFleet};
use crate::model::{EcuSerial, ImagePath, ParseFieldError, Sha256Digest, VehicleId};

/// Registers a vehicle, or as many as there are in JSON Lines or CSV.
#[utoipa::path(
    post, path = "/api/v1/vehicles", tag = "vehicles",
    request_body(
        content(
            (NewVehicleBody = "application/json"),
            (String = "application/jsonl"),
            (String = "text/csv"),
        )
    ),
    responses(
        (status = 201, body = VehicleBody, description = "registered"),
        (status = 200, body = Registered, description = "one: it was there, the same; many: what came of them"),
        (status = 409, body = Problem, description = "registered otherwise; the first registration stands"),
        (status = 422, body = Problem, description = "a private, weak, broken or shared key"),
    )
)]
pub(in crate::http) async fn register_vehicles(
    fleet: web::Data<Fleet>,
    limits: web::Data<Limits>,
    access: Access<Manage, web::Payload>,
    request: HttpRequest,
) -> Result<MaybeCreated<Registered>, ApiError> {
    let Access { principal, input: body, .. } = access;
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/jsonl" | "application/x-ndjson" | "application/json-lines" => {
            register_in_bulk(&fleet, &limits, BulkFormat::JsonLines, principal, body).await
        }
        "text/csv" => register_in_bulk(&fleet, &limits, BulkFormat::Csv, principal, body).await,
        "application/json" => register_one(&fleet, &principal, body).await,
        _ => {
            let detail =
                "send `Content-Type: application/json`, application/jsonl or text/csv".into();
            Err(Error::Invalid { code: "bad_content_type", detail }.into())
        }
    }
}

async fn register_one(
    fleet: &Fleet,
    by: &Principal,
    body: web::Payload,
) -> Result<MaybeCreated<Registered>, ApiError> {
    let body = match body.to_bytes_limited(MAX_VEHICLE).await {
        Ok(body) => body.map_err(|_| Error::ClientGone)?,
        Err(_) => return Err(Error::TooLarge { limit: MAX_VEHICLE as u64 }.into()),
    };
    let vehicle: NewVehicleBody = serde_json::from_slice(&body).map_err(|error| {
        // The parser's own message could repeat what was sent, and that may be a private key.
        let detail = format!(
            "the body is not a vehicle: see line {}, column {}",
            error.line(),
            error.column()
        );
        Error::Invalid { code: "bad_json", detail }
    })?;
    let (is_new, vin) = fleet.register_vehicle(vehicle.into(), by).await?;
    let vehicle = VehicleBody::from(fleet.show_vehicle(&vin).await?);
    Ok(MaybeCreated { is_new, body: Registered::One(vehicle) })
}

async fn register_in_bulk(
    fleet: &web::Data<Fleet>,
    limits: &Limits,
    format: BulkFormat,
    by: Principal,
    mut body: web::Payload,
) -> Result<MaybeCreated<Registered>, ApiError> {
    let idle_timeout = limits.idle_timeout;
    let (sink, report) = fleet.register_in_bulk(format, by);
    let feed = async move {
        loop {
            let piece = match tokio::time::timeout(idle_timeout, body.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(piece))) => Ok(piece),
                Ok(Some(Err(_))) | Err(_) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            };
            let is_broken = piece.is_err();
            if sink.send(piece).await.is_err() || is_broken {
                return Err(Error::ClientGone); // or the other end has failed, which says why
            }
        }
    };
    let (fed, report) = tokio::join!(feed, report);
    let report = report?;
    fed?;
    Ok(MaybeCreated { is_new: false, body: Registered::Many(report.into()) })
}

/// Lists vehicles.
#[utoipa::path(
    get, path = "/api/v1/vehicles", tag = "vehicles", params(VehicleQuery),
    responses(
        (status = 200, body = VehicleList, description = "a page"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
    )
)]
pub(in crate::http) async fn list_vehicles(
    fleet: web::Data<Fleet>,
    access: Access<ReadFleet, Query<VehicleQuery>>,
) -> Result<Json<VehicleList>, ApiError> {
    let Query(VehicleQuery {
        cursor,
        limit,
        quarantined,
        silent_since,
        assigned,
        unexpected,
        fallen_back,
        hardware_id,
        below_release,
    }) = access.input;
    let silent_since = silent_since.map(|time| time.parse()).transpose();
    let silent_since = silent_since
        .map_err(|_| bad_query("`silent_since` must be a time such as 2026-11-24T10:00:00Z"))?;
    let assigned = assigned.map(|path| path.parse::<ImagePath>()).transpose();
    let assigned = assigned
        .map_err(|rule| bad_query(&format!("`assigned` must be an image's path: {rule}")))?;
    let ecu = ecu_filter(hardware_id, below_release)?;
    let filter =
        VehicleFilter { quarantined, silent_since, assigned, unexpected, fallen_back, ecu };
    let page = fleet.list_vehicles(&cursor, check_limit(limit)?, filter).await?;
    let vehicles = page.vehicles.into_iter().map(VehicleBody::from).collect();
    Ok(Json(VehicleList { vehicles, next_cursor: page.next }))
}

fn ecu_filter(hardware_id: Option<String>, below: Option<u64>) -> Result<EcuFilter, ApiError> {
    let bad = |name: &str, rule: ParseFieldError| bad_query(&format!("`{name}`: {rule}"));
    let hardware_id = hardware_id.map(|id| id.parse()).transpose();
    let below_release = below.map(|counter| counter.try_into()).transpose();
    Ok(EcuFilter {
        hardware_id: hardware_id.map_err(|rule| bad("hardware_id", rule))?,
        below_release: below_release.map_err(|rule| bad("below_release", rule))?,
    })
}

/// Shows a vehicle.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 200, body = VehicleBody, description = "the vehicle"),
        (status = 404, body = Problem, description = "there is none"),
    )
)]
pub(in crate::http) async fn show_vehicle(
    fleet: web::Data<Fleet>,
    access: Access<ReadFleet, InPath<VehicleId>>,
) -> Result<Json<VehicleBody>, ApiError> {
    let InPath(vin) = access.input;
    Ok(Json(fleet.show_vehicle(&vin).await?.into()))
}

/// Shows a vehicle's ECUs.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/ecus", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 200, body = Vec<EcuBody>, description = "the ECUs, the Primary first"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    )
)]
pub(in crate::http) async fn list_ecus(
    fleet: web::Data<Fleet>,
    access: Access<ReadFleet, InPath<VehicleId>>,
) -> Result<Json<Vec<EcuBody>>, ApiError> {
    let InPath(vin) = access.input;
    Ok(Json(VehicleBody::from(fleet.show_vehicle(&vin).await?).ecus))
}

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
    access: Access<Manage, (InPath<(VehicleId, EcuSerial)>, Json<ApprovalBody>)>,
) -> Result<Created<Approved>, ApiError> {
    let Access { principal, input: (InPath((vin, serial)), body), .. } = access;
    let valid_for = Duration::from_secs(body.expires_in_seconds);
    let expires_at = fleet.approve_replacement(&vin, &serial, valid_for, &principal).await?;
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
    access: Access<Manage, (InPath<(VehicleId, EcuSerial)>, Json<AcceptBody>)>,
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

fn bad_query(detail: &str) -> ApiError {
    Error::Invalid { code: "bad_query", detail: detail.to_owned() }.into()
}

impl From<NewVehicleBody> for VehicleInput {
    fn from(body: NewVehicleBody) -> Self {
        let ecu = |ecu: NewEcuBody| EcuInput {
            ecu_serial: ecu.ecu_serial,
            hardware_id: ecu.hardware_id,
            role: ecu.role,
            signing_key: ecu.signing_key,
            encryption_key: ecu.encryption_key,
        };
        Self {
            vin: body.vin,
            ecus: body.ecus.into_iter().map(ecu).collect(),
            token_sha256: body.token_sha256,
        }
    }
}

impl From<BulkReport> for BulkBody {
    fn from(report: BulkReport) -> Self {
        let fault = |fault: LineFault| FaultBody {
            line: fault.line,
            code: fault.code.to_owned(),
            detail: fault.detail,
        };
        Self {
            registered: report.registered,
            unchanged: report.unchanged,
            refused: report.refused,
            faults: report.faults.into_iter().map(fault).collect(),
        }
    }
}

const MAX_VEHICLE: usize = 256 * 1024; // 256 KiB: 64 ECUs with RSA keys
