//! What operators and their machines ask: `/healthz`, `/readyz`, `/metrics`, `/version`.

use std::time::SystemTime;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, web};
use serde_json::json;

use super::ApiError;
use crate::app::App;

/// The process is alive.
pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

/// Requests can be answered.
pub(super) async fn readyz(app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    app.check_ready().await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "ready" })))
}

/// Metrics in Prometheus' text format.
pub(super) async fn metrics(app: web::Data<App>) -> HttpResponse {
    let text = app.metrics().render(SystemTime::now());
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")).body(text)
}

/// Name and version of the server.
pub(super) async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}
