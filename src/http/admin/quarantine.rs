//! `/api/v1/quarantine`: vehicles that are cleared together.

use actix_web::web::{self, Json};

use crate::api::{ClearManyBody, ClearedBody, Problem};
use crate::app::Error;
use crate::app::fleet::{ClearReport, ClearSelection, Fleet, Suspicion};
use crate::http::ApiError;
use crate::http::auth::{Access, Manage};

/// Clears the quarantine of several vehicles, at most 1000 at a time.
#[utoipa::path(
    post, path = "/api/v1/quarantine/clear", tag = "vehicles", request_body = ClearManyBody,
    responses(
        (status = 200, body = ClearedBody, description = "what came of it"),
        (status = 400, body = Problem, description = "malformed"),
    )
)]
pub(in crate::http) async fn clear_many(
    fleet: web::Data<Fleet>,
    access: Access<Manage, Json<ClearManyBody>>,
) -> Result<Json<ClearedBody>, ApiError> {
    let selection = selection(&access.input)?;
    let report =
        fleet.clear_quarantines(selection, &access.input.reason, &access.principal).await?;
    let ClearReport { cleared, not_quarantined, more } = report;
    let not_quarantined = not_quarantined.into_iter().map(String::from).collect();
    Ok(Json(ClearedBody { cleared, not_quarantined, more }))
}

fn selection(body: &ClearManyBody) -> Result<ClearSelection, Error> {
    let has_filter = !body.attacks.is_empty() || body.since.is_some();
    match (body.vins.is_empty(), body.all, has_filter) {
        (false, false, false) => {
            let vins = body.vins.iter().map(|vin| vin.parse()).collect::<Result<_, _>>();
            Ok(ClearSelection::Vehicles(
                vins.map_err(|rule: crate::model::ParseFieldError| bad(&rule.to_string()))?,
            ))
        }
        (true, true, false) | (true, false, true) => {
            let kind = |name: &String| Suspicion::from_name(name).ok_or_else(|| unknown(name));
            let kinds = body.attacks.iter().map(kind).collect::<Result<_, _>>()?;
            let since = body.since.as_ref().map(|time| time.parse()).transpose();
            let since =
                since.map_err(|_| bad("`since` must be a time such as 2026-11-24T10:00:00Z"))?;
            Ok(ClearSelection::Filter { kinds, since })
        }
        _ => Err(bad(
            "say which vehicles: `vins`, or `\"all\": true`, or `attacks`, `since` or both",
        )),
    }
}

fn unknown(name: &str) -> Error {
    let names: Vec<&str> = Suspicion::all().map(Suspicion::as_str).collect();
    bad(&format!("no quarantine is for {name:.64?}: use {}", names.join(", ")))
}

fn bad(detail: &str) -> Error {
    Error::Invalid { code: "bad_selection", detail: detail.to_owned() }
}
