//! `/`: what this is and where things are, for a person who came with a browser.

use std::sync::LazyLock;

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::rfc::conditional::is_known;

/// A page for people.
#[utoipa::path(
    get, path = "/", tag = "operation",
    responses(
        (status = 200, content_type = "text/html", description = "what this is and where things are"),
        (status = 304, description = "as it was"),
    )
)]
pub(super) async fn show_page(request: HttpRequest) -> HttpResponse {
    // No range of it is worth serving, and nobody changes it.
    let is_known = is_known(request.headers(), &TAG);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, TAG.as_str()))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"));
    if is_known {
        return response.finish();
    }
    response.insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    // The page has a style and links, and nothing else is to be believed of it.
    response
        .insert_header((CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"));
    response.insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(PAGE)
}

static TAG: LazyLock<String> =
    LazyLock::new(|| format!("\"{}\"", hex::encode(Sha256::digest(PAGE))));
const PAGE: &str = include_str!("page.html");
