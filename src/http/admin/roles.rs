//! `/api/v1/roles`: who signs for which role.

use actix_web::web::{self, Json};

use crate::api::{RoleBody, RoleKeyBody, RoleList};
use crate::app::roles::{RoleKey, RoleKeyState, RoleRecord, Roles};
use crate::http::ApiError;
use crate::http::auth::{Access, Manage};

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
