//! The OpenAPI document.

use actix_web::HttpResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{assignments, images, recipients, vehicles};

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
        recipients::remove_recipient,
        vehicles::register_vehicles,
        vehicles::list_vehicles,
        vehicles::show_vehicle,
        vehicles::list_ecus,
        vehicles::approve_replacement,
        vehicles::list_history,
        vehicles::clear_quarantine,
        vehicles::issue_token,
        assignments::assign,
        assignments::list_assignments,
        assignments::cancel_assignment
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
