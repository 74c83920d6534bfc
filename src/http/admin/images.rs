//! `/api/v1/images`.

use std::io;

use actix_web::error::PayloadError;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use actix_web::web::{self, Json, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::TryStreamExt;

use super::path::{EnvelopeOf, InPath};
use super::query::check_limit;
use super::upload_head::{self, IMAGES};
use crate::api::{EnvelopeQuery, ImageBody, ImageList, ImageQuery, Problem};
use crate::app::images::Images;
use crate::app::images::ingest::Accepted;
use crate::app::images::precondition::{self, Precondition};
use crate::blob::BlobKey;
use crate::http::ApiError;
use crate::http::answer::NoContent;
use crate::http::auth::{Access, Manage, Read, Upload};
use crate::http::rfc::conditional;
use crate::model::{ImagePath, ImageRecord};

/// Uploads an image: streams the body, seals it, publishes it.
#[utoipa::path(
    put, path = "/api/v1/images/{path}", tag = "images",
    params(
        ("path" = String, Path, description = "target path, such as gw/4.2.0/gateway.bin"),
        ("hardware_id" = Vec<String>, Query, description = "hardware that may run it; repeat for more"),
        ("version" = String, Query),
        ("release_counter" = u64, Query),
        ("name" = Option<String>, Query, description = "default: the file name without its extension"),
        ("target_format" = Option<String>, Query, description = "BINARY (default) or OSTREE"),
        ("requires" = Option<Vec<String>>, Query, description = "what has to be in the same vehicle, as in `gateway>=42`; repeat for more"),
        ("conflicts" = Option<Vec<String>>, Query, description = "what must not be in the same vehicle, as in `brake-*<7`; repeat for more"),
        ("algorithm" = Option<String>, Query, description = "AES256_GCM_HKDF_1MB (default) or AES256_GCM_HKDF_4KB"),
        ("recipient" = Option<Vec<String>>, Query, description = "kid; default: all recipients of the hardware ids"),
        ("allow_empty" = Option<bool>, Query, description = "take an image without bytes, which is refused otherwise"),
        ("Repr-Digest" = Option<String>, Header, description = "RFC 9530, sha-256; checked if given, as it is in Content-Digest, Digest, x-amz-checksum-sha256 and X-Checksum-Sha256"),
        ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1: tags of the image, or `*`"),
        ("If-None-Match" = Option<String>, Header, description = "RFC 9110, 13.1.2: `*` for an image that must not be there yet"),
    ),
    request_body(content_type = "application/octet-stream", description = "the image, of any size"),
    responses(
        (status = 201, body = ImageBody, description = "sealed and published; or sealed, until the role that is named has signed for it"),
        (status = 200, body = ImageBody, description = "the same image was there already"),
        (status = 409, body = Problem, description = "the path has other bytes or another description, or the metadata has no room"),
        (status = 411, body = Problem, description = "no body"),
        (status = 412, body = Problem, description = "If-Match or If-None-Match does not hold"),
        (status = 415, body = Problem, description = "a form instead of the image"),
        (status = 422, body = Problem, description = "no recipient, too long a description, or another digest than was announced"),
        (status = 503, body = Problem, description = "too many uploads are running"),
        (status = 507, body = Problem, description = "no space is left"),
    )
)]
pub(in crate::http) async fn upload_image(
    images: web::Data<Images>,
    access: Access<Upload, (InPath<ImagePath>, web::Payload)>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(path), body), .. } = access;
    let (query, headers) = (request.query_string(), request.headers());
    let upload = upload_head::parse(path, query, headers, &principal)?;
    principal.check_upload(&upload.path)?;
    let plan = images.plan_upload(&upload).await?;
    let images = images.into_inner();
    let (status, image) = match images.upload(upload, plan, body.map_err(body_error)).await? {
        Accepted::Created(image) => (StatusCode::CREATED, image),
        Accepted::AlreadyStored(image) => (StatusCode::OK, image),
    };
    let location = format!("{IMAGES}{}", image.path);
    let body = shown_with_awaited(&images, image).await?;
    Ok(HttpResponse::build(status).insert_header((LOCATION, location)).json(body))
}

/// Chunks that are none are `InvalidData`; whatever else is a connection that broke off.
pub(super) fn body_error(error: PayloadError) -> io::Error {
    match error {
        PayloadError::EncodingCorrupted => io::Error::new(io::ErrorKind::InvalidData, error),
        other => io::Error::other(other),
    }
}

/// Lists images, yanked ones included; those of its folder for a token that is bound to one.
#[utoipa::path(
    get, path = "/api/v1/images", tag = "images", params(ImageQuery),
    responses(
        (status = 200, body = ImageList, description = "a page of images"),
    )
)]
pub(in crate::http) async fn list_images(
    images: web::Data<Images>,
    access: Access<Read, Query<ImageQuery>>,
) -> Result<Json<ImageList>, ApiError> {
    let Access { principal, input: query, .. } = access;
    let page = images.list(&query.cursor, check_limit(query.limit)?, &principal).await?;
    let shown = page.items.into_iter().map(shown).collect();
    Ok(Json(ImageList { images: shown, next_cursor: page.next }))
}

/// Shows an image.
#[utoipa::path(
    get, path = "/api/v1/images/{path}", tag = "images",
    params(
        ("path" = String, Path),
        ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1"),
        ("If-None-Match" = Option<String>, Header, description = "RFC 9110, 13.1.2"),
    ),
    responses(
        (status = 200, body = ImageBody, description = "the image", headers(("ETag" = String, description = "for If-Match and If-None-Match; not while it waits to be signed"))),
        (status = 304, description = "it has one of the tags of If-None-Match"),
        (status = 412, body = Problem, description = "If-Match does not hold"),
        (status = 404, body = Problem, description = "there is none"),
    )
)]
pub(in crate::http) async fn show_image(
    images: web::Data<Images>,
    access: Access<Read, InPath<ImagePath>>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: InPath(path), .. } = access;
    let image = images.show_to(&path, &principal).await?;
    let expected = conditional::precondition(request.headers())?;
    let etag = (ETAG, format!("\"{}\"", precondition::tag(&image)));
    Precondition { matches: expected.matches, matches_none: None }.check(Some(&image))?;
    let body = shown_with_awaited(&images, image.clone()).await?;
    if body.awaits_signature_of.is_some() {
        return Ok(HttpResponse::Ok().json(body)); // its tag is that of what it is once it is published
    }
    if !(Precondition { matches: None, matches_none: expected.matches_none }).holds(Some(&image)) {
        return Ok(HttpResponse::NotModified().insert_header(etag).finish());
    }
    Ok(HttpResponse::Ok().insert_header(etag).json(body))
}

/// Takes an image out of the published metadata.
#[utoipa::path(
    delete, path = "/api/v1/images/{path}", tag = "images",
    params(
        ("path" = String, Path),
        ("If-Match" = Option<String>, Header, description = "RFC 9110, 13.1.1"),
        ("If-None-Match" = Option<String>, Header, description = "RFC 9110, 13.1.2"),
    ),
    responses(
        (status = 204, description = "yanked"),
        (status = 412, body = Problem, description = "If-Match or If-None-Match does not hold"),
        (status = 404, body = Problem, description = "there is none"),
        (status = 503, body = Problem, description = "accepted, and not published yet: the server's clock is wrong"),
        (status = 507, body = Problem, description = "accepted, and not published yet: no space is left"),
    )
)]
pub(in crate::http) async fn yank_image(
    images: web::Data<Images>,
    access: Access<Manage, InPath<ImagePath>>,
    request: HttpRequest,
) -> Result<NoContent, ApiError> {
    let Access { principal, input: InPath(path), .. } = access;
    let expected = conditional::precondition(request.headers())?;
    images.yank(&path, &expected, &principal).await?;
    Ok(NoContent)
}

/// Shows an image's envelope, a JWE.
#[utoipa::path(
    get, path = "/api/v1/images/{path}/envelope", tag = "images",
    params(("path" = String, Path), EnvelopeQuery),
    responses(
        (status = 200, body = Value, content_type = "application/jose+json", description = "general, or flattened with `kid`"),
        (status = 404, body = Problem, description = "there is none"),
    )
)]
pub(in crate::http) async fn show_envelope(
    images: web::Data<Images>,
    access: Access<Read, (InPath<EnvelopeOf>, Query<EnvelopeQuery>)>,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: (InPath(EnvelopeOf(path)), query), .. } = access;
    let envelope = images.show_envelope(&path, query.kid.as_deref(), &principal).await?;
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/jose+json")).body(envelope))
}

/// An image by itself, with the role that has to sign for it.
async fn shown_with_awaited(images: &Images, image: ImageRecord) -> Result<ImageBody, ApiError> {
    let awaited = images.awaited_role(&image.path).await?;
    let mut body = shown(image);
    body.awaits_signature_of = awaited.map(|role| role.to_string());
    Ok(body)
}

fn shown(image: ImageRecord) -> ImageBody {
    let url = format!("/repo/{}", BlobKey::target(image.path.as_str(), image.sealed.sha256));
    ImageBody::new(image, url)
}
