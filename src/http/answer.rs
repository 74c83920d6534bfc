//! The answers that most handlers give; 200 with JSON is actix-web's own `Json`.

use actix_web::body::BoxBody;
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

/// 201 with what was made.
pub(super) struct Created<T>(pub(super) T);

/// 201 for what is new, 200 for what was there the same.
pub(super) struct MaybeCreated<T> {
    /// Whether it is new.
    pub(super) is_new: bool,
    /// What there is now.
    pub(super) body: T,
}

/// 204.
pub(super) struct NoContent;

impl<T: Serialize> Responder for Created<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Created().json(self.0)
    }
}

impl<T: Serialize> Responder for MaybeCreated<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut response = if self.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
        response.json(self.body)
    }
}

impl Responder for NoContent {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}
