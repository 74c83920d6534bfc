//! The OpenAPI document.

use actix_web::HttpResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{images, recipients};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Motorcade",
        description = "OTA update-artifact server. Vehicles read the TUF repository below /repo/; see docs/FORMAT.md."
    ),
    paths(
        images::upload_image,
        images::list_images,
        images::show_image,
        images::yank_image,
        images::show_envelope,
        recipients::register_recipient,
        recipients::list_recipients,
        recipients::remove_recipient
    ),
    modifiers(&TokenSecurity)
)]
struct Document;

struct TokenSecurity;

impl Modify for TokenSecurity {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The OpenAPI document as JSON.
pub fn document() -> String {
    Document::openapi().to_pretty_json().unwrap_or_default()
}

pub(super) async fn show_openapi() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document())
}
