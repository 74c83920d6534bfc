//! `/api/v1/roles`: who signs for which role.

use actix_web::web::{self, Json};

use super::path::InPath;
use crate::api::{NewRoleRotation, Problem, RoleBody, RoleKeyBody, RoleList, RoleRotationBody};
use crate::app::ceremony::Gap;
use crate::app::roles::{RoleKey, RoleKeyState, RoleRecord, Roles, Rotation, RotationRequest};
use crate::http::ApiError;
use crate::http::auth::{Access, Manage, ManageKeys};
use crate::model::{RepositorySide, RoleKind};

/// Lists the roles of both repositories with their keys.
#[utoipa::path(
    get, path = "/api/v1/roles", tag = "keys",
    responses(
        (status = 200, body = RoleList, description = "all roles"),
    )
)]
pub(in crate::http) async fn list_roles(
    roles: web::Data<Roles>,
    _: Access<Manage>,
) -> Result<Json<RoleList>, ApiError> {
    let roles = roles.list().await?.into_iter().map(RoleBody::from).collect();
    Ok(Json(RoleList { roles }))
}

/// Gives a role that the server signs by itself other keys.
#[utoipa::path(
    post, path = "/api/v1/roles/{repository}/{role}/rotate", tag = "keys", request_body = NewRoleRotation,
    params(("repository" = String, Path), ("role" = String, Path)),
    responses(
        (status = 200, body = RoleRotationBody, description = "it has them, or would have"),
        (status = 400, body = Problem, description = "malformed, or no such role"),
        (status = 409, body = Problem, description = "a key that has another use, nothing to do, or whoever has to sign it is elsewhere"),
        (status = 412, body = Problem, description = "another root is staged: `detail` says which"),
        (status = 422, body = Problem, description = "a role or keys with which it can't be done"),
    )
)]
pub(in crate::http) async fn rotate_role(
    roles: web::Data<Roles>,
    access: Access<ManageKeys, (InPath<WhichRole>, Json<NewRoleRotation>)>,
) -> Result<Json<RoleRotationBody>, ApiError> {
    let Access { principal, input: (InPath((side, kind)), Json(body)), .. } = access;
    let gap = if body.accept_failed_cycles { Gap::Accepted } else { Gap::Refused };
    let request = RotationRequest::new(side, kind, &body.keys, gap)?;
    let rotation = match body.dry_run {
        true => roles.plan_rotation(&request).await?,
        false => roles.into_inner().rotate(request, principal).await?,
    };
    Ok(Json(RoleRotationBody { dry_run: body.dry_run, ..rotation.into() }))
}

/// A role of a repository.
type WhichRole = (RepositorySide, RoleKind);

impl From<Rotation> for RoleRotationBody {
    fn from(rotation: Rotation) -> Self {
        let leaving = rotation.leaving().iter().map(ToString::to_string).collect();
        Self {
            repository: rotation.side.as_str().to_owned(),
            role: rotation.kind.to_string(),
            dry_run: false,
            threshold: rotation.threshold,
            keys: rotation.after.iter().map(ToString::to_string).collect(),
            made: rotation.made,
            leaving,
            grace_seconds: rotation.grace_s,
            root_version: rotation.root_version,
            files: rotation.files as u64,
            readers: rotation.readers.map(str::to_owned),
            awaits_signature_of: rotation.awaits_signature_of.map(|role| role.to_string()),
        }
    }
}

impl From<RoleRecord> for RoleBody {
    fn from(role: RoleRecord) -> Self {
        Self {
            differs: role.differs(),
            repository: role.side.as_str().to_owned(),
            role: role.kind.to_string(),
            threshold: role.threshold,
            policy_threshold: role.wanted.1,
            policy_keys: role.wanted.0,
            keys: role.keys.into_iter().map(RoleKeyBody::from).collect(),
        }
    }
}

impl From<RoleKey> for RoleKeyBody {
    fn from(key: RoleKey) -> Self {
        let until = match key.state {
            RoleKeyState::Leaves(until) => until,
            RoleKeyState::Signs | RoleKeyState::Joins | RoleKeyState::Spare => None,
        };
        Self {
            id: key.id.to_string(),
            scheme: key.scheme.map(str::to_owned),
            place: key.place,
            state: key.state.as_str().to_owned(),
            until: until.map(|until| until.to_string()),
        }
    }
}
