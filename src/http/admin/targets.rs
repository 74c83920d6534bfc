//! `/api/v1/targets/{targets_role}`: targets files that their owners sign.

use actix_web::web::{self, Json};
use actix_web::{HttpRequest, HttpResponse};

use super::path::InPath;
use super::staged;
use crate::api::{NewSignatures, NewTargets, Problem, StagedTargetsBody, TargetsBody, TargetsFile};
use crate::app::Error;
use crate::app::owners::{OwnedState, Owners, StageTargets, StagedTargets};
use crate::http::ApiError;
use crate::http::answer::NoContent;
use crate::http::auth::{Access, Read, SignTargets};
use crate::http::rfc::conditional;
use crate::model::RoleName;

/// Shows what is published of a role that its owner signs, what waits and what is staged.
#[utoipa::path(
    get, path = "/api/v1/targets/{targets_role}", tag = "targets", params(("targets_role" = String, Path)),
    responses(
        (status = 200, body = TargetsBody, description = "the role", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "there is none"),
        (status = 409, body = Problem, description = "the server signs it itself"),
    )
)]
pub(in crate::http) async fn show_targets(
    owners: web::Data<Owners>,
    access: Access<Read, InPath<RoleName>>,
) -> Result<HttpResponse, ApiError> {
    let InPath(role) = access.input;
    Ok(shown(&owners.state(&role, &access.principal).await?))
}

/// Stages the role's next file, of all that it is to list, in place of the staging that `If-Match`
/// names.
#[utoipa::path(
    put, path = "/api/v1/targets/{targets_role}/staged", tag = "targets", request_body = NewTargets,
    params(("targets_role" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: which staging it replaces; without it nothing must be staged")),
    responses(
        (status = 200, body = TargetsBody, description = "staged", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "there is no such role"),
        (status = 409, body = Problem, description = "the server signs it itself"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
        (status = 503, body = Problem, description = "the server's clock is wrong"),
    )
)]
pub(in crate::http) async fn stage_targets(
    owners: web::Data<Owners>,
    access: Access<SignTargets, (InPath<RoleName>, Json<NewTargets>)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(role), Json(body)), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    let new = StageTargets { expires_days: body.expires_days };
    Ok(shown(&owners.stage(&role, &new, &expected, &principal).await?))
}

/// Gives what it takes to sign a staged file on a machine without a network.
#[utoipa::path(
    get, path = "/api/v1/targets/{targets_role}/staged", tag = "targets", params(("targets_role" = String, Path)),
    responses(
        (status = 200, body = TargetsFile, description = "the file", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "the server signs it itself"),
    )
)]
pub(in crate::http) async fn show_staged_targets(
    owners: web::Data<Owners>,
    access: Access<Read, InPath<RoleName>>,
) -> Result<HttpResponse, ApiError> {
    let InPath(role) = access.input;
    let state = owners.state(&role, &access.principal).await?;
    let Some(staged) = &state.staged else {
        return Err(Error::NotFound { code: "nothing_staged", detail: state.described() }.into());
    };
    let file = TargetsFile {
        targets_role: role.to_string(),
        revision: staged.revision(),
        payload_sha256: staged.payload.to_string(),
        key_ids: state.owner.keys.iter().map(|key| key.id().to_string()).collect(),
        threshold: state.owner.threshold,
        staged: staged::draft(&staged.staging)?,
    };
    Ok(staged::shown(file, Some(&staged.staging)))
}

/// Drops what is staged.
#[utoipa::path(
    delete, path = "/api/v1/targets/{targets_role}/staged", tag = "targets",
    params(("targets_role" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: which staging is meant")),
    responses(
        (status = 204, description = "nothing is staged any more"),
        (status = 404, body = Problem, description = "nothing was"),
        (status = 409, body = Problem, description = "the server signs it itself"),
        (status = 412, body = Problem, description = "something else is staged, or it wasn't said what: `detail` says it"),
    )
)]
pub(in crate::http) async fn cancel_staged_targets(
    owners: web::Data<Owners>,
    access: Access<SignTargets, InPath<RoleName>>,
    request: HttpRequest,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: InPath(role), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    owners.cancel(&role, &expected, &principal).await?;
    Ok(NoContent)
}

/// Brings signatures that were made elsewhere. The good ones are kept, whatever the others are.
#[utoipa::path(
    post, path = "/api/v1/targets/{targets_role}/staged/signatures", tag = "targets", request_body = NewSignatures,
    params(("targets_role" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1")),
    responses(
        (status = 200, body = TargetsBody, description = "all were kept", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "`problems` names each that was not kept; or what is staged is outdated"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
    )
)]
pub(in crate::http) async fn bring_targets_signatures(
    owners: web::Data<Owners>,
    access: Access<SignTargets, (InPath<RoleName>, Json<NewSignatures>)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(role), Json(body)), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    let offer = staged::offer(body)?;
    Ok(shown(&owners.sign(&role, &offer, &expected, &principal).await?))
}

/// Publishes what is staged, once enough keys have signed it.
#[utoipa::path(
    post, path = "/api/v1/targets/{targets_role}/staged/publish", tag = "targets",
    params(("targets_role" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1")),
    responses(
        (status = 200, body = TargetsBody, description = "published"),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "`problems` names what is missing; or what is staged is outdated"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
        (status = 503, body = Problem, description = "the server's clock is wrong"),
        (status = 507, body = Problem, description = "no space is left"),
    )
)]
pub(in crate::http) async fn publish_targets(
    owners: web::Data<Owners>,
    access: Access<SignTargets, InPath<RoleName>>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: InPath(role), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    Ok(shown(&owners.publish(&role, &expected, &principal).await?))
}

fn shown(state: &OwnedState) -> HttpResponse {
    let OwnedState { owner, published, waiting, staged, .. } = state;
    let body = TargetsBody {
        targets_role: owner.role.to_string(),
        keys: owner.keys.iter().map(|key| key.object().clone()).collect(),
        threshold: u8::try_from(owner.threshold).unwrap_or(u8::MAX),
        version: published.as_ref().map(|published| published.version),
        expires_at: published.as_ref().map(|published| published.expires_at.to_string()),
        waiting: waiting.clone(),
        staged: staged.as_ref().map(|staged| staged_body(state, staged)),
    };
    staged::shown(body, staged.as_ref().map(|staged| &staged.staging))
}

fn staged_body(state: &OwnedState, staged: &StagedTargets) -> StagedTargetsBody {
    let staging = &staged.staging;
    StagedTargetsBody {
        revision: staging.revision,
        version: staging.staged.version,
        is_outdated: staged.is_outdated,
        payload_sha256: staged.payload.to_string(),
        expires_at: staged.listing.expires.to_string(),
        staged_at: staging.created_at.to_string(),
        staged_by: staging.created_by.clone(),
        signatures: staged::signatures(staging),
        missing: staged.missing,
        changes: staged.diff(state.published.as_ref()).lines(),
    }
}
