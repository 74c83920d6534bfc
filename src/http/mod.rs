//! The HTTP surface: parse, call one use case, render. No decision is made here that another front
//! door would repeat.

mod admin;
mod answer;
pub mod auth;
mod callers;
mod director;
mod error;
pub mod head;
pub mod identity;
pub mod observe;
mod openapi;
mod operate;
mod page;
mod repo;
pub mod rfc;
mod routes;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};

pub use error::ApiError;
pub use identity::{CertificateField, IdentityConfig, PeerCertificate, TrustedProxy};
pub use repo::{Carrier, ReadAccess, RepoConfig};
pub use routes::openapi_document;

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

/// Registers every call of `routes`, and what handlers share.
pub fn configure(state: &HttpState) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let state = state.clone();
    move |config| {
        config
            .app_data(web::Data::from(Arc::clone(state.app.tokens())))
            .app_data(web::Data::from(Arc::clone(state.app.images())))
            .app_data(web::Data::from(Arc::clone(state.app.suppliers())))
            .app_data(web::Data::from(Arc::clone(state.app.owners())))
            .app_data(web::Data::from(Arc::clone(state.app.fleet())))
            .app_data(web::Data::from(Arc::clone(state.app.director())))
            .app_data(web::Data::from(Arc::clone(state.app.ceremony())))
            .app_data(web::Data::from(Arc::clone(state.app.jobs())))
            .app_data(web::Data::from(Arc::clone(state.app.escrows())))
            .app_data(web::Data::from(Arc::clone(state.app.roles())))
            .app_data(web::Data::from(Arc::clone(state.app.audit())))
            .app_data(web::Data::from(Arc::clone(state.app.upkeep())))
            .app_data(web::Data::from(Arc::clone(state.app.doctor())))
            .app_data(web::Data::from(Arc::clone(state.app.metrics())))
            .app_data(web::Data::new(state.app.limits().clone()))
            .app_data(web::Data::new(state.repo.clone()))
            .app_data(web::Data::new(state.identity.clone()))
            .app_data(
                web::JsonConfig::default().limit(MAX_JSON_SIZE).error_handler(error::bad_json),
            )
            .app_data(web::QueryConfig::default().error_handler(error::bad_query));
        routes::configure(config);
    }
}

const MAX_JSON_SIZE: usize = 64 * 1024; // 64 KiB: a recipient's key is under 1 KiB
