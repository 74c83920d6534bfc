//! The HTTP surface: parse, call one use case, render. No decision is made here that another front
//! door would repeat.

mod assignments;
pub mod auth;
pub mod byteranges;
mod client_address;
pub mod conditional;
pub mod date;
mod digest_fields;
mod director;
mod error;
mod exchange;
pub mod head;
pub mod identity;
mod images;
pub mod observe;
mod openapi;
mod operate;
mod page;
mod paging;
mod quarantine;
pub mod range;
mod recipients;
mod repo;
mod repr_digest;
pub mod request_id;
mod upload_body;
mod upload_head;
mod vehicles;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, Resource, Route, guard};

pub use error::ApiError;
pub use identity::{CertificateField, IdentityConfig, PeerCertificate, TrustedProxy};
pub use openapi::document as openapi_document;
pub use repo::{Carrier, ReadAccess, RepoConfig};

use crate::app::App;

/// What the routes need.
#[derive(Clone)]
pub struct HttpState {
    /// The use cases.
    pub app: Arc<App>,
    /// How `/repo` is served.
    pub repo: RepoConfig,
    /// How vehicles are recognized.
    pub identity: IdentityConfig,
}

/// Every route, by who calls it.
pub fn configure(state: &HttpState) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let state = state.clone();
    move |config| {
        config
            .app_data(web::Data::from(Arc::clone(&state.app)))
            .app_data(web::Data::new(state.repo.clone()))
            .app_data(web::Data::new(state.identity.clone()))
            .app_data(
                web::JsonConfig::default().limit(MAX_JSON_SIZE).error_handler(error::bad_json),
            )
            .app_data(web::QueryConfig::default().error_handler(error::bad_query))
            .app_data(web::PathConfig::default().error_handler(error::bad_path))
            // CI and engineers
            .service(
                web::scope("/api/v1")
                    .service(only("/images", "GET, HEAD").route(get().to(images::list_images)))
                    .service(
                        only("/images/{path:.+}/envelope", "GET, HEAD")
                            .route(get().to(images::show_envelope)),
                    )
                    .service(
                        only("/images/{path:.*}", "GET, HEAD, PUT, DELETE")
                            .route(web::put().to(images::upload_image))
                            .route(get().to(images::show_image))
                            .route(web::delete().to(images::yank_image)),
                    )
                    .service(
                        only("/recipients", "GET, HEAD, POST")
                            .route(get().to(recipients::list_recipients))
                            .route(web::post().to(recipients::register_recipient)),
                    )
                    .service(
                        only("/recipients/{kid}", "DELETE")
                            .route(web::delete().to(recipients::remove_recipient)),
                    )
                    .service(
                        only("/vehicles", "GET, HEAD, POST")
                            .route(get().to(vehicles::list_vehicles))
                            .route(web::post().to(vehicles::register_vehicles)),
                    )
                    .service(
                        only("/vehicles/{vin}", "GET, HEAD, DELETE")
                            .route(get().to(vehicles::show_vehicle))
                            .route(web::delete().to(vehicles::remove_vehicle)),
                    )
                    .service(
                        only("/vehicles/{vin}/ecus", "GET, HEAD")
                            .route(get().to(vehicles::list_ecus)),
                    )
                    .service(
                        only("/vehicles/{vin}/ecus/{serial}/replacement", "POST")
                            .route(web::post().to(vehicles::approve_replacement)),
                    )
                    .service(
                        only("/vehicles/{vin}/re-enrolment", "POST")
                            .route(web::post().to(vehicles::approve_re_enrolment)),
                    )
                    .service(
                        only("/vehicles/{vin}/ecus/{serial}/accept-installed", "POST")
                            .route(web::post().to(vehicles::accept_installed)),
                    )
                    .service(
                        only("/vehicles/{vin}/assignments", "GET, HEAD, POST")
                            .route(get().to(assignments::list_assignments))
                            .route(web::post().to(assignments::assign)),
                    )
                    .service(
                        only("/vehicles/{vin}/assignments/{id}", "DELETE")
                            .route(web::delete().to(assignments::cancel_assignment)),
                    )
                    .service(
                        only("/vehicles/{vin}/history", "GET, HEAD")
                            .route(get().to(vehicles::list_history)),
                    )
                    .service(
                        only("/vehicles/{vin}/quarantine", "DELETE")
                            .route(web::delete().to(vehicles::clear_quarantine)),
                    )
                    .service(
                        only("/quarantine/clear", "POST")
                            .route(web::post().to(quarantine::clear_many)),
                    )
                    .service(
                        only("/vehicles/{vin}/token", "POST")
                            .route(web::post().to(vehicles::issue_token)),
                    )
                    .default_service(web::to(error::no_route)),
            )
            // Vehicles
            .service(
                only("/director/manifest", "PUT").route(web::put().to(director::submit_manifest)),
            )
            .service(only("/director/ecus", "POST").route(web::post().to(director::enrol)))
            .service(
                only("/director/{name:([1-9][0-9]*[.])?root[.]json}", "GET, HEAD")
                    .route(get().to(director::serve_root)),
            )
            .service(only("/director/{name}", "GET, HEAD").route(get().to(director::serve_file)))
            .service(only("/repo/{name:.*}", "GET, HEAD").route(get().to(repo::serve_file)))
            // People
            .service(only("/", "GET, HEAD").route(get().to(page::show_page)))
            // Operators
            .service(only("/healthz", "GET, HEAD").route(get().to(operate::healthz)))
            .service(only("/readyz", "GET, HEAD").route(get().to(operate::readyz)))
            .service(only("/metrics", "GET, HEAD").route(get().to(operate::metrics)))
            .service(only("/version", "GET, HEAD").route(get().to(operate::version)))
            .service(only("/openapi.json", "GET, HEAD").route(get().to(openapi::show_openapi)))
            .default_service(web::to(error::no_route));
    }
}

/// A resource that answers other methods than `allow` with 405.
fn only(path: &str, allow: &'static str) -> Resource {
    let refuse =
        move |request: HttpRequest| async move { error::method_not_allowed(&request, allow) };
    web::resource(path).default_service(web::to(refuse))
}

/// Where there is GET, there is HEAD (RFC 9110, 9.1).
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

const MAX_JSON_SIZE: usize = 64 * 1024; // 64 KiB: a recipient's key is under 1 KiB
