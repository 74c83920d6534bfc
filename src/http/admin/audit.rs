//! `/api/v1/audit`: who changed what.

use actix_web::web::{self, Json, Query};
use serde_json::Value;

use super::query::{bad_query, check_limit, time};
use crate::api::{AuditEntryBody, AuditPage, AuditQuery, Problem};
use crate::app::audit::{AuditEntry, AuditFilter, AuditLog};
use crate::http::ApiError;
use crate::http::auth::{Access, ReadFleet};
use crate::model::AuditKind;

/// Lists who changed what, the newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "operation", params(AuditQuery),
    responses(
        (status = 200, body = AuditPage, description = "a page"),
        (status = 400, body = Problem, description = "a parameter that breaks a rule"),
    )
)]
pub(in crate::http) async fn list_audit(
    log: web::Data<AuditLog>,
    access: Access<ReadFleet, Query<AuditQuery>>,
) -> Result<Json<AuditPage>, ApiError> {
    let Query(AuditQuery { kind, actor, subject, since, until, before, limit }) = access.input;
    let kind =
        match kind {
            Some(name) => Some(AuditKind::from_name(&name).ok_or_else(|| {
                bad_query("`kind` must be a kind of entry, such as image_published")
            })?),
            None => None,
        };
    let (since, until) = (time("since", since)?, time("until", until)?);
    let filter = AuditFilter { kind, actor, subject, since, until };
    let limit = check_limit(limit)?;
    let page = log.list(&filter, before.unwrap_or(i64::MAX), limit).await?;
    let entries = page.items.into_iter().map(AuditEntryBody::from).collect();
    Ok(Json(AuditPage { entries, next_before: page.next }))
}

impl From<AuditEntry> for AuditEntryBody {
    fn from(entry: AuditEntry) -> Self {
        Self {
            seq: entry.seq,
            at: entry.at.to_string(),
            kind: entry.kind,
            actor_kind: entry.actor_kind,
            actor: entry.actor,
            actor_role: entry.actor_role,
            subject: entry.subject,
            detail: serde_json::from_str(&entry.detail).unwrap_or(Value::String(entry.detail)),
            request_id: entry.request_id,
            hash: entry.hash,
        }
    }
}
