//! `/api/v1/roots/{repository}`: the roots of both repositories, and ceremonies that change them.

use actix_web::web::{self, Json, Query};
use actix_web::{HttpRequest, HttpResponse};

use super::path::InPath;
use super::staged::{self, digest};
use crate::api::{
    CeremonyFile, NewRoot, NewRootRole, NewSignatures, Problem, PublishRootQuery, RootBody,
    RootKeyBody, RootRoleBody, StagedRootBody,
};
use crate::app::Error;
use crate::app::ceremony::{Ceremony, CeremonyState, Gap, RoleRequest, StageRequest, StagedRoot};
use crate::http::ApiError;
use crate::http::answer::NoContent;
use crate::http::auth::{Access, ManageKeys, Read};
use crate::http::rfc::conditional;
use crate::model::{RepositorySide, Sha256Digest};

/// Shows a repository's root, and what is staged to follow it.
#[utoipa::path(
    get, path = "/api/v1/roots/{repository}", tag = "roots", params(("repository" = String, Path)),
    responses(
        (status = 200, body = RootBody, description = "the root", headers(("ETag" = String, description = "of what is staged"))),
    )
)]
pub(in crate::http) async fn show_root(
    ceremony: web::Data<Ceremony>,
    access: Access<Read, InPath<RepositorySide>>,
) -> Result<HttpResponse, ApiError> {
    let InPath(side) = access.input;
    Ok(shown(&ceremony, &ceremony.state(side).await?))
}

/// Stages the next root, in place of the staging that `If-Match` names.
#[utoipa::path(
    put, path = "/api/v1/roots/{repository}/staged", tag = "roots", request_body = NewRoot,
    params(("repository" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: which staging it replaces; without it nothing must be staged")),
    responses(
        (status = 200, body = RootBody, description = "staged", headers(("ETag" = String, description = "of what is staged"))),
        (status = 409, body = Problem, description = "a key that has another use"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
        (status = 422, body = Problem, description = "a change that could not be signed"),
    )
)]
pub(in crate::http) async fn stage_root(
    ceremony: web::Data<Ceremony>,
    access: Access<ManageKeys, (InPath<RepositorySide>, Json<NewRoot>)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(side), Json(body)), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    let roles = body.roles.into_iter().map(role_request).collect::<Result<_, _>>()?;
    let change = StageRequest { expires_days: body.expires_days, roles };
    Ok(shown(&ceremony, &ceremony.stage(side, &change, &expected, &principal).await?))
}

/// Gives what it takes to sign a staged root on a machine without a network.
#[utoipa::path(
    get, path = "/api/v1/roots/{repository}/staged", tag = "roots", params(("repository" = String, Path)),
    responses(
        (status = 200, body = CeremonyFile, description = "the file", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "nothing is staged"),
    )
)]
pub(in crate::http) async fn show_staged(
    ceremony: web::Data<Ceremony>,
    access: Access<Read, InPath<RepositorySide>>,
) -> Result<HttpResponse, ApiError> {
    let InPath(side) = access.input;
    let state = ceremony.state(side).await?;
    let Some(staged) = &state.staged else {
        return Err(Error::NotFound { code: "nothing_staged", detail: state.described() }.into());
    };
    let file = CeremonyFile {
        repository: side.as_str().to_owned(),
        revision: staged.revision(),
        payload_sha256: staged.payload.to_string(),
        published: staged::json(&state.published.bytes)?,
        staged: staged::draft(&staged.staging)?,
    };
    Ok(staged::shown(file, Some(&staged.staging)))
}

/// Drops what is staged.
#[utoipa::path(
    delete, path = "/api/v1/roots/{repository}/staged", tag = "roots",
    params(("repository" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: which staging is meant; needed for one that somebody else has staged")),
    responses(
        (status = 204, description = "nothing is staged any more"),
        (status = 404, body = Problem, description = "nothing was"),
        (status = 412, body = Problem, description = "something else is staged, or somebody else has staged it: `detail` says what"),
    )
)]
pub(in crate::http) async fn cancel_staged(
    ceremony: web::Data<Ceremony>,
    access: Access<ManageKeys, InPath<RepositorySide>>,
    request: HttpRequest,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: InPath(side), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    ceremony.cancel(side, &expected, &principal).await?;
    Ok(NoContent)
}

/// Brings signatures that were made elsewhere. The good ones are kept, whatever the others are.
#[utoipa::path(
    post, path = "/api/v1/roots/{repository}/staged/signatures", tag = "roots", request_body = NewSignatures,
    params(("repository" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1")),
    responses(
        (status = 200, body = RootBody, description = "all were kept", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "`problems` names each that was not kept; or what is staged is outdated"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
    )
)]
pub(in crate::http) async fn bring_signatures(
    ceremony: web::Data<Ceremony>,
    access: Access<ManageKeys, (InPath<RepositorySide>, Json<NewSignatures>)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(side), Json(body)), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    let offer = staged::offer(body)?;
    Ok(shown(&ceremony, &ceremony.sign(side, &offer, &expected, &principal).await?))
}

/// Signs what is staged with the root keys that this server has.
#[utoipa::path(
    post, path = "/api/v1/roots/{repository}/staged/sign", tag = "roots",
    params(("repository" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: which staging is meant; needed for one that somebody else has staged")),
    responses(
        (status = 200, body = RootBody, description = "signed", headers(("ETag" = String, description = "of what is staged"))),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "the server has no such key, or what is staged is outdated"),
        (status = 412, body = Problem, description = "something else is staged, or somebody else has staged it: `detail` says what"),
    )
)]
pub(in crate::http) async fn sign_staged(
    ceremony: web::Data<Ceremony>,
    access: Access<ManageKeys, InPath<RepositorySide>>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: InPath(side), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    Ok(shown(&ceremony, &ceremony.sign_here(side, &expected, &principal).await?))
}

/// Publishes what is staged, once every client can follow.
#[utoipa::path(
    post, path = "/api/v1/roots/{repository}/staged/publish", tag = "roots",
    params(("repository" = String, Path), ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1"), PublishRootQuery),
    responses(
        (status = 200, body = RootBody, description = "published"),
        (status = 404, body = Problem, description = "nothing is staged"),
        (status = 409, body = Problem, description = "`problems` names what is missing, or which client would refuse it"),
        (status = 412, body = Problem, description = "something else is staged: `detail` says what"),
        (status = 507, body = Problem, description = "no space is left"),
    )
)]
pub(in crate::http) async fn publish_root(
    ceremony: web::Data<Ceremony>,
    access: Access<ManageKeys, (InPath<RepositorySide>, Query<PublishRootQuery>)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(side), Query(query)), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    let gap = if query.accept_failed_cycles { Gap::Accepted } else { Gap::Refused };
    Ok(shown(&ceremony, &ceremony.publish(side, gap, &expected, &principal).await?))
}

fn role_request(role: NewRootRole) -> Result<RoleRequest, Error> {
    let name = role.name.parse().map_err(|_| Error::Invalid {
        code: "no_such_role",
        detail: "name root, targets, snapshot or timestamp".into(),
    })?;
    Ok(RoleRequest {
        role: name,
        threshold: role.threshold,
        add: role.add.iter().map(|key| key.text()).collect(),
        remove: role.remove.iter().map(|id| digest("remove", id)).collect::<Result<_, _>>()?,
    })
}

fn shown(ceremony: &Ceremony, state: &CeremonyState) -> HttpResponse {
    let root = &state.published.root;
    let key = |id: &Sha256Digest| RootKeyBody {
        key_id: id.to_string(),
        scheme: root.keys.get(id).and_then(|key| key["scheme"].as_str()).unwrap_or_default().into(),
        is_here: ceremony.has_key(state.side, id),
    };
    let roles = root.roles.iter().map(|(name, keys)| RootRoleBody {
        name: name.to_string(),
        threshold: keys.threshold.get(),
        keys: keys.keyids.iter().map(key).collect(),
    });
    let body = RootBody {
        repository: state.side.as_str().to_owned(),
        version: state.published.version,
        expires_at: root.expires.to_string(),
        roles: roles.collect(),
        staged: state.staged.as_ref().map(|staged| staged_body(state, staged)),
    };
    staged::shown(body, state.staged.as_ref().map(|staged| &staged.staging))
}

fn staged_body(state: &CeremonyState, staged: &StagedRoot) -> StagedRootBody {
    let (diff, staging) = (staged.diff(&state.published), &staged.staging);
    let (missing_of_published, missing_of_staged) = staged.missing();
    StagedRootBody {
        revision: staging.revision,
        version: staging.staged.version,
        base: staging.staged.base,
        is_outdated: staged.is_outdated,
        payload_sha256: staged.payload.to_string(),
        staged_at: staging.created_at.to_string(),
        staged_by: staging.created_by.clone(),
        signatures: staged::signatures(staging),
        missing_of_published,
        missing_of_staged,
        changes: diff.lines(),
        consequences: diff.consequences(),
    }
}
