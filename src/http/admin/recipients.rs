//! `/api/v1/recipients`.

use actix_web::web::{self, Json, Query};

use super::path::{InPath, Kid};
use crate::api::{
    NewRecipient, Problem, RecipientBody, RecipientList, RecipientQuery, RegisteredRecipient,
};
use crate::app;
use crate::app::images::Images;
use crate::http::ApiError;
use crate::http::answer::{MaybeCreated, NoContent};
use crate::http::auth::{Access, Manage, Read};
use crate::model::HardwareId;

/// Registers a public key for hardware ids.
#[utoipa::path(
    post, path = "/api/v1/recipients", tag = "recipients", request_body = NewRecipient,
    responses(
        (status = 201, body = RegisteredRecipient, description = "registered"),
        (status = 200, body = RegisteredRecipient, description = "was there"),
        (status = 422, body = Problem, description = "a private, weak, broken or signing key"),
    )
)]
pub(in crate::http) async fn register_recipient(
    images: web::Data<Images>,
    access: Access<Manage, Json<NewRecipient>>,
) -> Result<MaybeCreated<RegisteredRecipient>, ApiError> {
    let Access { principal, input: body, .. } = access;
    let hardware_ids =
        body.hardware_ids.iter().map(|id| hardware_id(id)).collect::<Result<Vec<_>, _>>()?;
    let public_key = body.public_key.text();
    let (is_new, kid) = images.register_recipient(&hardware_ids, &public_key, &principal).await?;
    Ok(MaybeCreated { is_new, body: RegisteredRecipient { kid } })
}

/// Lists all registered keys.
#[utoipa::path(
    get, path = "/api/v1/recipients", tag = "recipients",
    responses(
        (status = 200, body = RecipientList, description = "all registrations"),
    )
)]
pub(in crate::http) async fn list_recipients(
    images: web::Data<Images>,
    access: Access<Read>,
) -> Result<Json<RecipientList>, ApiError> {
    let recipients = images.list_recipients(&access.principal).await?;
    let recipients = recipients.into_iter().map(RecipientBody::from).collect();
    Ok(Json(RecipientList { recipients }))
}

/// Removes a key. Images that are sealed for it stay so.
#[utoipa::path(
    delete, path = "/api/v1/recipients/{kid}", tag = "recipients", params(("kid" = String, Path), RecipientQuery),
    responses(
        (status = 204, description = "removed"),
        (status = 404, body = Problem, description = "there is none"),
    )
)]
pub(in crate::http) async fn remove_recipient(
    images: web::Data<Images>,
    access: Access<Manage, (InPath<Kid>, Query<RecipientQuery>)>,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: (InPath(Kid(kid)), query), .. } = access;
    let hardware_id = query.hardware_id.as_deref().map(hardware_id).transpose()?;
    images.remove_recipient(&kid, hardware_id.as_ref(), &principal).await?;
    Ok(NoContent)
}

fn hardware_id(text: &str) -> Result<HardwareId, ApiError> {
    let parsed = text.parse();
    parsed.map_err(|rule: crate::model::ParseFieldError| {
        app::Error::Invalid { code: "bad_hardware_id", detail: rule.to_string() }.into()
    })
}
