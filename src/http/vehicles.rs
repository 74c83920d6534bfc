//! `/api/v1/vehicles`: the inventory, and what people see and change of it.

use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::ApiError;
use super::auth::{Access, Manage, Read};
use super::error::Problem;
use crate::app::access::Principal;
use crate::app::fleet::{BulkFormat, BulkReport, VehicleInput};
use crate::app::{App, Error, VehicleFilter};
use crate::model::{EcuSerial, EcuStatus, InstalledImage, VehicleEvent, VehicleId, VehicleRecord};

/// A vehicle in the inventory.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VehicleBody {
    /// VIN, or whatever id the fleet uses.
    vin: String,
    /// Number of the vehicle, as the server's log shows it.
    id: i64,
    /// The Primary first.
    ecus: Vec<EcuBody>,
    /// RFC 3339; null if it was never heard of.
    seen_at: Option<String>,
    /// Why it gets no new assignments; null if it does.
    quarantine: Option<QuarantineBody>,
    /// Version of the metadata that was signed for it last.
    targets_version: Option<u64>,
    /// RFC 3339.
    created_at: String,
    /// Id of the token that registered it.
    created_by: String,
}

/// A quarantine.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantineBody {
    /// RFC 3339.
    since: String,
    /// What was reported.
    reason: String,
}

/// An ECU and what it runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EcuBody {
    /// Its identifier.
    ecu_serial: String,
    /// Its hardware identifier.
    hardware_id: String,
    /// `primary` or `secondary`.
    role: &'static str,
    /// TUF key object.
    signing_key: Value,
    /// JWK; null for an ECU that opens the envelopes of its hardware id.
    encryption_key: Option<Value>,
    /// What it last reported.
    installed: Option<InstalledBody>,
    /// Target path of what it is to run.
    assigned: Option<String>,
    /// Target paths of what it was offered and may be running.
    offered: Vec<String>,
    /// Counter of its last report.
    counter: Option<u64>,
}

/// An installed image.
#[derive(Debug, Serialize, ToSchema)]
struct InstalledBody {
    /// Target path.
    path: String,
    /// Of the sealed image, in bytes.
    length: u64,
    /// Of the sealed image, 64 hexadecimal digits.
    sha256: String,
}

/// Some vehicles, and where the next ones are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VehicleList {
    /// In the order of their ids.
    vehicles: Vec<VehicleBody>,
    /// Pass it as `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Which vehicles to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: String,
    /// Vehicles a page, 1 to 1000.
    #[serde(default = "default_limit")]
    limit: u32,
    /// Only those in quarantine.
    #[serde(default)]
    quarantined: bool,
    /// Only those that have sent no manifest since; RFC 3339.
    silent_since: Option<String>,
}

/// A vehicle to register.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `VehicleInput` in the OpenAPI document")]
pub(super) struct NewVehicleBody {
    /// VIN, or whatever id the fleet uses: letters, digits and `-._`.
    vin: String,
    /// Its ECUs, one of them the Primary.
    ecus: Vec<NewEcuBody>,
    /// SHA-256 of the bearer token with which it will identify itself.
    token_sha256: Option<String>,
}

/// An ECU to register.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `EcuInput` in the OpenAPI document")]
pub(super) struct NewEcuBody {
    /// Unique among all ECUs.
    ecu_serial: String,
    /// Its hardware identifier.
    hardware_id: String,
    /// `primary` or `secondary`.
    role: String,
    /// Public key: PEM text or TUF key object; Ed25519, P-256 or RSA.
    signing_key: Value,
    /// Public key: PEM text or JWK; P-256 or RSA, another one than the signing key.
    encryption_key: Option<Value>,
}

/// What came of a bulk registration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkBody {
    /// Vehicles that are new.
    registered: u64,
    /// Vehicles that were registered before, the same.
    unchanged: u64,
    /// Vehicles that were refused.
    refused: u64,
    /// Why, for the first 1000.
    faults: Vec<FaultBody>,
}

/// Why a vehicle was not registered.
#[derive(Debug, Serialize, ToSchema)]
struct FaultBody {
    /// Line of the body, from 1.
    line: u64,
    /// Stable, for programs.
    code: &'static str,
    /// For people.
    detail: String,
}

/// Something that happened to a vehicle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Number, rising.
    id: i64,
    /// What happened.
    kind: &'static str,
    /// To which ECU.
    ecu_serial: Option<String>,
    /// For people.
    detail: String,
    /// Id of a token, `vehicle` or `server`.
    actor: String,
    /// RFC 3339.
    at: String,
    /// How often the like of it happened within the hour.
    count: u64,
    /// RFC 3339; the last time.
    last_at: String,
}

/// What happened to a vehicle, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// The events.
    events: Vec<EventBody>,
    /// Pass it as `before` for older ones; null if there are none.
    next_before: Option<i64>,
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// `next_before` of the page before.
    before: Option<i64>,
    /// Events a page, 1 to 1000.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Why a quarantine is cleared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClearBody {
    /// For the record.
    reason: String,
}

/// For how long a replacement is approved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalBody {
    /// 1 second to 30 days.
    expires_in_seconds: u64,
}

/// An approval.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Approved {
    /// RFC 3339.
    expires_at: String,
}

/// A token of a vehicle's own.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedToken {
    /// Shown once.
    token: String,
}

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
        (status = 200, body = BulkBody, description = "one: it was there, the same; many: what came of them"),
        (status = 400, body = Problem, description = "malformed; `detail` names the rule"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 409, body = Problem, description = "registered otherwise; the first registration stands"),
        (status = 422, body = Problem, description = "a private, weak, broken or shared key"),
    ),
    security(("token" = []))
)]
pub(super) async fn register_vehicles(
    app: web::Data<App>,
    access: Access<Manage, web::Payload>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: body, .. } = access;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/jsonl" | "application/x-ndjson" | "application/json-lines" => {
            register_in_bulk(&app, BulkFormat::JsonLines, principal, body).await
        }
        "text/csv" => register_in_bulk(&app, BulkFormat::Csv, principal, body).await,
        "application/json" => register_one(&app, &principal, body).await,
        _ => {
            let detail = "send `Content-Type: application/json`, application/jsonl or text/csv".into();
            Err(Error::Invalid { code: "bad_content_type", detail }.into())
        }
    }
}

async fn register_one(app: &App, by: &Principal, body: web::Payload) -> Result<HttpResponse, ApiError> {
    let body = match body.to_bytes_limited(MAX_VEHICLE).await {
        Ok(body) => body.map_err(|_| Error::ClientGone)?,
        Err(_) => return Err(Error::TooLarge { limit: MAX_VEHICLE as u64 }.into()),
    };
    let input: VehicleInput = serde_json::from_slice(&body).map_err(|error| {
        // The parser's own message could repeat what was sent, and that may be a private key.
        let detail = format!("the body is not a vehicle: see line {}, column {}", error.line(), error.column());
        Error::Invalid { code: "bad_json", detail }
    })?;
    let vin: VehicleId = vehicle_id(&input.vin)?;
    let is_new = app.register_vehicle(input, by).await?;
    let body = VehicleBody::from(app.show_vehicle(&vin).await?);
    Ok(if is_new { HttpResponse::Created() } else { HttpResponse::Ok() }.json(body))
}

async fn register_in_bulk(
    app: &web::Data<App>,
    format: BulkFormat,
    by: Principal,
    mut body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let idle_timeout = app.limits().idle_timeout;
    let (sink, report) = app.clone().into_inner().register_in_bulk(format, by);
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
    Ok(HttpResponse::Ok().json(BulkBody::from(report)))
}

/// Lists vehicles.
#[utoipa::path(
    get, path = "/api/v1/vehicles", tag = "vehicles", params(ListQuery),
    responses(
        (status = 200, body = VehicleList, description = "a page"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
        (status = 401, body = Problem, description = "no valid token"),
    ),
    security(("token" = []))
)]
pub(super) async fn list_vehicles(
    app: web::Data<App>,
    access: Access<Read, web::Query<ListQuery>>,
) -> Result<HttpResponse, ApiError> {
    let web::Query(ListQuery { cursor, limit, quarantined, silent_since }) = access.input;
    let silent_since = silent_since.map(|time| time.parse()).transpose();
    let silent_since =
        silent_since.map_err(|_| bad_query("`silent_since` must be a time such as 2026-11-24T10:00:00Z"))?;
    let filter = VehicleFilter { quarantined, silent_since };
    let page = app.list_vehicles(&cursor, check_limit(limit)?, filter).await?;
    let vehicles = page.vehicles.into_iter().map(VehicleBody::from).collect();
    Ok(HttpResponse::Ok().json(VehicleList { vehicles, next_cursor: page.next }))
}

/// Shows a vehicle.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 200, body = VehicleBody, description = "the vehicle"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 404, body = Problem, description = "there is none"),
    ),
    security(("token" = []))
)]
pub(super) async fn show_vehicle(
    app: web::Data<App>,
    _: Access<Read>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let vehicle = app.show_vehicle(&vehicle_id(&vin)?).await?;
    Ok(HttpResponse::Ok().json(VehicleBody::from(vehicle)))
}

/// Shows a vehicle's ECUs.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/ecus", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 200, body = Vec<EcuBody>, description = "the ECUs, the Primary first"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    ),
    security(("token" = []))
)]
pub(super) async fn list_ecus(
    app: web::Data<App>,
    _: Access<Read>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let vehicle = app.show_vehicle(&vehicle_id(&vin)?).await?;
    Ok(HttpResponse::Ok().json(VehicleBody::from(vehicle).ecus))
}

/// Lists what happened to a vehicle.
#[utoipa::path(
    get, path = "/api/v1/vehicles/{vin}/history", tag = "vehicles", params(("vin" = String, Path), HistoryQuery),
    responses(
        (status = 200, body = History, description = "a page, the newest first"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
        (status = 401, body = Problem, description = "no valid token"),
    ),
    security(("token" = []))
)]
pub(super) async fn list_history(
    app: web::Data<App>,
    access: Access<Read, web::Query<HistoryQuery>>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let web::Query(HistoryQuery { before, limit }) = access.input;
    let limit = check_limit(limit)?;
    let events = app.list_history(&vehicle_id(&vin)?, before.unwrap_or(i64::MAX), limit).await?;
    let next_before = events.last().filter(|_| events.len() == limit as usize).map(|event| event.id);
    Ok(HttpResponse::Ok().json(History { events: events.into_iter().map(EventBody::from).collect(), next_before }))
}

/// Clears a vehicle's quarantine, so that it can be assigned images again.
#[utoipa::path(
    delete, path = "/api/v1/vehicles/{vin}/quarantine", tag = "vehicles", params(("vin" = String, Path)),
    request_body = ClearBody,
    responses(
        (status = 204, description = "cleared"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 404, body = Problem, description = "there is no such vehicle, or it is in no quarantine"),
    ),
    security(("token" = []))
)]
pub(super) async fn clear_quarantine(
    app: web::Data<App>,
    access: Access<Manage, web::Json<ClearBody>>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    app.clear_quarantine(&vehicle_id(&vin)?, &access.input.reason, &access.principal).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Approves that an ECU is replaced.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/ecus/{serial}/replacement", tag = "vehicles",
    params(("vin" = String, Path), ("serial" = String, Path)), request_body = ApprovalBody,
    responses(
        (status = 201, body = Approved, description = "approved, once, until then"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 404, body = Problem, description = "there is no such vehicle or ECU"),
    ),
    security(("token" = []))
)]
pub(super) async fn approve_replacement(
    app: web::Data<App>,
    access: Access<Manage, web::Json<ApprovalBody>>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (vin, serial) = path.into_inner();
    let serial: EcuSerial = serial.parse().map_err(bad_path)?;
    let valid_for = Duration::from_secs(access.input.expires_in_seconds);
    let expires_at = app.approve_replacement(&vehicle_id(&vin)?, &serial, valid_for, &access.principal).await?;
    Ok(HttpResponse::Created().json(Approved { expires_at: expires_at.to_string() }))
}

/// Makes a bearer token for a vehicle; the one before stops working.
#[utoipa::path(
    post, path = "/api/v1/vehicles/{vin}/token", tag = "vehicles", params(("vin" = String, Path)),
    responses(
        (status = 201, body = IssuedToken, description = "the token, which is shown once"),
        (status = 401, body = Problem, description = "no valid token"),
        (status = 403, body = Problem, description = "the token's role may not do this"),
        (status = 404, body = Problem, description = "there is no such vehicle"),
    ),
    security(("token" = []))
)]
pub(super) async fn issue_token(
    app: web::Data<App>,
    access: Access<Manage>,
    vin: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let token = app.issue_vehicle_token(&vehicle_id(&vin)?, &access.principal).await?;
    Ok(HttpResponse::Created().json(IssuedToken { token: token.to_string() }))
}

pub(super) fn vehicle_id(text: &str) -> Result<VehicleId, ApiError> {
    text.parse().map_err(bad_path)
}

fn bad_path(rule: crate::model::ParseFieldError) -> ApiError {
    Error::Invalid { code: "bad_path", detail: rule.to_string() }.into()
}

fn bad_query(detail: &str) -> ApiError {
    Error::Invalid { code: "bad_query", detail: detail.to_owned() }.into()
}

pub(super) fn check_limit(limit: u32) -> Result<u32, ApiError> {
    if (1..=1000).contains(&limit) { Ok(limit) } else { Err(bad_query("`limit` must be 1 to 1000")) }
}

fn default_limit() -> u32 {
    100
}

impl From<VehicleRecord> for VehicleBody {
    fn from(vehicle: VehicleRecord) -> Self {
        let VehicleRecord { id, vin, ecus, created_at, created_by, status } = vehicle;
        let ecu = |ecu: crate::model::EcuRecord| {
            let EcuStatus { counter, installed, offered, assigned, factory: _ } = status.ecu(&ecu.serial);
            EcuBody {
                ecu_serial: ecu.serial.into(),
                hardware_id: ecu.hardware_id.into(),
                role: ecu.role.as_str(),
                signing_key: ecu.signing_key,
                encryption_key: ecu.encryption_key,
                installed: installed.map(InstalledBody::from),
                assigned: assigned.map(|assigned| assigned.path.into()),
                offered: offered.into_iter().map(|offer| offer.path.into()).collect(),
                counter,
            }
        };
        Self {
            vin: vin.into(),
            id,
            ecus: ecus.into_iter().map(ecu).collect(),
            seen_at: status.seen_at.map(|time| time.to_string()),
            quarantine: status.quarantine.as_ref().map(|quarantine| QuarantineBody {
                since: quarantine.since.to_string(),
                reason: quarantine.reason.clone(),
            }),
            targets_version: status.bundle.as_ref().map(|bundle| bundle.version),
            created_at: created_at.to_string(),
            created_by,
        }
    }
}

impl From<InstalledImage> for InstalledBody {
    fn from(image: InstalledImage) -> Self {
        Self { path: image.path, length: image.length, sha256: image.sha256.into() }
    }
}

impl From<VehicleEvent> for EventBody {
    fn from(event: VehicleEvent) -> Self {
        let VehicleEvent { id, event, count, last_at } = event;
        Self {
            id,
            kind: event.kind.as_str(),
            ecu_serial: event.ecu_serial.map(String::from),
            detail: event.detail,
            actor: event.actor,
            at: event.at.to_string(),
            count,
            last_at: last_at.to_string(),
        }
    }
}

impl From<BulkReport> for BulkBody {
    fn from(report: BulkReport) -> Self {
        let fault = |fault: crate::app::fleet::LineFault| FaultBody {
            line: fault.line,
            code: fault.code,
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
