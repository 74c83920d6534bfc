//! `/api/v1/vehicles`: the inventory.

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Json, Query};
use futures_util::StreamExt;

use super::path::InPath;
use super::query::{bad_query, check_limit, time};
use crate::api::{
    BulkBody, EcuBody, FaultBody, NewEcuBody, NewVehicleBody, Problem, Registered, VehicleBody,
    VehicleList, VehicleQuery,
};
use crate::app::access::Principal;
use crate::app::fleet::{BulkFormat, BulkReport, EcuInput, Fleet, LineFault, VehicleInput};
use crate::app::{EcuFilter, Error, Limits, VehicleFilter};
use crate::http::ApiError;
use crate::http::answer::MaybeCreated;
use crate::http::auth::{Access, Manage, ReadFleet};
use crate::http::error::not_json;
use crate::model::{ImagePath, ParseFieldError, VehicleId};

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
    let vehicle: NewVehicleBody =
        serde_json::from_slice(&body).map_err(|error| not_json("a vehicle", &error))?;
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
    let silent_since = time("silent_since", silent_since)?;
    let assigned = assigned.map(|path| path.parse::<ImagePath>()).transpose();
    let assigned = assigned
        .map_err(|rule| bad_query(format!("`assigned` must be an image's path: {rule}")))?;
    let ecu = ecu_filter(hardware_id, below_release)?;
    let filter =
        VehicleFilter { quarantined, silent_since, assigned, unexpected, fallen_back, ecu };
    let page = fleet.list_vehicles(&cursor, check_limit(limit)?, filter).await?;
    let vehicles = page.items.into_iter().map(VehicleBody::from).collect();
    Ok(Json(VehicleList { vehicles, next_cursor: page.next }))
}

fn ecu_filter(hardware_id: Option<String>, below: Option<u64>) -> Result<EcuFilter, Error> {
    let bad = |name: &str, rule: ParseFieldError| bad_query(format!("`{name}`: {rule}"));
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
