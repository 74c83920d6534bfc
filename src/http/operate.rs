//! What operators and their machines ask: `/healthz`, `/readyz`, `/metrics`, `/version`.

use std::time::SystemTime;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::ApiError;
use crate::api::Problem;
use crate::app::expiry::Expiry;
use crate::app::upkeep::Upkeep;
use crate::telemetry::Metrics;

/// The process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Value, description = "it is")))]
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// Requests can be answered: the catalog is reachable, every background task is alive, and nothing
/// has expired. What a person has to sign in time is in `attention`.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, body = Value, description = "they can"),
        (status = 500, body = Problem, description = "the catalog can't be reached"),
        (status = 503, body = Problem, description = "they can't; `detail` says why"),
        (status = 507, body = Problem, description = "no space is left"),
    )
)]
pub(super) async fn readyz(upkeep: web::Data<Upkeep>) -> Result<HttpResponse, ApiError> {
    let waiting = upkeep.check_ready().await?;
    let line = |expiry: &Expiry| format!("{}: {}", expiry.describe(), expiry.action());
    let attention: Vec<String> = waiting.iter().map(line).collect();
    Ok(HttpResponse::Ok().json(match attention.is_empty() {
        true => json!({ "status": "ready" }),
        false => json!({ "status": "ready", "attention": attention }),
    }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, content_type = "text/plain", description = "version 0.0.4 of the format"))
)]
pub(super) async fn metrics(
    upkeep: web::Data<Upkeep>,
    metrics: web::Data<Metrics>,
) -> HttpResponse {
    upkeep.measure();
    let text = metrics.render(SystemTime::now());
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"))
        .body(text)
}

/// Name and version of the server.
#[utoipa::path(get, path = "/version", tag = "operation", responses((status = 200, body = Value, description = "both")))]
pub(super) async fn version() -> HttpResponse {
    HttpResponse::Ok()
        .json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}
