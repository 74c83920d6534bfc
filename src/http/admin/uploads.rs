//! `/api/v1/uploads`: uploads that can be resumed, by tus 1.0.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::TryStreamExt;

use super::images::body_error;
use super::path::{InPath, UploadId};
use super::upload_body::content_length;
use super::{tus, upload_metadata};
use crate::api::Problem;
use crate::app::images::Images;
use crate::app::images::resume::{Earlier, Part};
use crate::app::{Error, Limits};
use crate::http::ApiError;
use crate::http::auth::{Access, Upload};
use crate::http::rfc::conditional;

/// Says what of tus there is.
#[utoipa::path(
    options, path = "/api/v1/uploads", tag = "uploads",
    responses(
        (status = 204, description = "version, extensions and limits, in `Tus-…` fields"),
    )
)]
pub(in crate::http) async fn show_abilities(
    limits: web::Data<Limits>,
    _: Access<Upload>,
) -> HttpResponse {
    let response = HttpResponse::NoContent()
        .insert_header((tus::VERSION, tus::V1))
        .insert_header(("Tus-Extension", EXTENSIONS))
        .insert_header(("Tus-Checksum-Algorithm", tus::algorithms(",")))
        .insert_header(("Tus-Max-Size", limits.max_image_size))
        .finish();
    tus::answer(Ok(response))
}

/// Begins an upload that can be resumed; with a body, takes in as much as comes.
#[utoipa::path(
    post, path = "/api/v1/uploads", tag = "uploads",
    params(
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Length" = u64, Header, description = "length of the image in bytes"),
        ("Upload-Metadata" = String, Header, description = "`path`, and what the query of an upload says; lists have spaces between their members; `sha256`: digest of the image in hexadecimal digits, checked if given"),
    ),
    responses(
        (status = 201, description = "begun, or found again: see `Location` and `Upload-Offset`"),
        (status = 408, body = Problem, description = "nothing was received for too long"),
        (status = 409, body = Problem, description = "the path has another description, the metadata has no room, or too many uploads of this token wait"),
        (status = 411, body = Problem, description = "no length"),
        (status = 412, body = Problem, description = "another version of tus, or If-Match or If-None-Match does not hold"),
        (status = 413, body = Problem, description = "larger than the limit, which is in `limit`"),
        (status = 415, body = Problem, description = "a body of another type than application/offset+octet-stream"),
        (status = 422, body = Problem, description = "no recipient, or too long a description"),
        (status = 423, body = Problem, description = "another request brings bytes in"),
        (status = 460, body = Problem, description = "the body has another checksum than Upload-Checksum says"),
        (status = 507, body = Problem, description = "no space is left"),
    )
)]
pub(in crate::http) async fn create_upload(
    images: web::Data<Images>,
    access: Access<Upload, web::Payload>,
    request: HttpRequest,
) -> HttpResponse {
    tus::answer(create(images, access, request.headers()).await)
}

async fn create(
    images: web::Data<Images>,
    access: Access<Upload, web::Payload>,
    headers: &HeaderMap,
) -> Result<HttpResponse, ApiError> {
    let Access { principal, input: body, .. } = access;
    tus::check_version(headers)?;
    refuse_other_extensions(headers)?;
    let (mut upload, metadata) = upload_metadata::parse(headers, &principal)?;
    upload.content_length = Some(tus::number(headers, &tus::LENGTH)?);
    upload.precondition = conditional::precondition(headers)?;
    principal.check_upload(&upload.path)?;
    let has_body = is_part(headers);
    let part = if has_body { Some(part(headers, 0)?) } else { None };
    let earlier = if has_body { Earlier::LeftAlone } else { Earlier::Resumed };
    let images = images.into_inner();
    let mut begun = images.create_upload(upload, metadata, earlier).await?;
    // An image without bytes is whole from the beginning.
    if let Some(part) = part.or((begun.length == 0).then(Part::default)) {
        let body = body.map_err(body_error);
        begun = images.append(&begun.id, part, body, &principal).await?;
    }
    let location = format!("{UPLOADS}{}", begun.id);
    let mut response = tus::progress(StatusCode::CREATED, &begun);
    Ok(response.insert_header((LOCATION, location)).finish())
}

/// Says how far an upload is.
#[utoipa::path(
    head, path = "/api/v1/uploads/{id}", tag = "uploads",
    params(
        ("id" = String, Path),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 200, description = "`Upload-Offset` bytes of `Upload-Length` are kept; all once the image is published"),
        (status = 410, description = "it has expired, or was ended"),
        (status = 412, description = "another version of tus"),
    )
)]
pub(in crate::http) async fn show_upload(
    images: web::Data<Images>,
    access: Access<Upload, InPath<UploadId>>,
    request: HttpRequest,
) -> HttpResponse {
    let Access { principal, input: InPath(UploadId(id)), .. } = access;
    let show = async {
        tus::check_version(request.headers())?;
        let upload = images.show_upload(&id, &principal).await?;
        let mut response = tus::progress(StatusCode::OK, &upload);
        response.insert_header((tus::LENGTH, upload.length));
        response.insert_header((tus::METADATA, upload.metadata));
        Ok(response.finish())
    };
    tus::answer(show.await)
}

/// Takes bytes of an upload in, from an offset on; seals and publishes the image with the last one.
#[utoipa::path(
    patch, path = "/api/v1/uploads/{id}", tag = "uploads",
    params(
        ("id" = String, Path),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
        ("Upload-Offset" = u64, Header, description = "where the body goes on, as HEAD says it"),
        ("Upload-Checksum" = Option<String>, Header, description = "sha1 or sha256, and the digest of the body in base64; for at most 16 MiB"),
    ),
    request_body(content_type = "application/offset+octet-stream", description = "what follows of the image"),
    responses(
        (status = 204, description = "kept up to `Upload-Offset`; the image is published if that is its length"),
        (status = 409, body = Problem, description = "another offset, which is in `Upload-Offset`; or the path has another image by now"),
        (status = 410, body = Problem, description = "it has expired, or was ended"),
        (status = 412, body = Problem, description = "another version of tus, or If-Match or If-None-Match does not hold"),
        (status = 415, body = Problem, description = "another type than application/offset+octet-stream"),
        (status = 422, body = Problem, description = "other bytes than were sent before, no recipient, or another digest than was announced"),
        (status = 423, body = Problem, description = "another request brings bytes in"),
        (status = 460, body = Problem, description = "the body has another checksum than Upload-Checksum says"),
    )
)]
pub(in crate::http) async fn append(
    images: web::Data<Images>,
    access: Access<Upload, (InPath<UploadId>, web::Payload)>,
    request: HttpRequest,
) -> HttpResponse {
    let Access { principal, input: (InPath(UploadId(id)), body), .. } = access;
    let headers = request.headers();
    let append = async {
        tus::check_version(headers)?;
        let part = part(headers, tus::number(headers, &tus::OFFSET)?)?;
        let body = body.map_err(body_error);
        let upload = images.into_inner().append(&id, part, body, &principal).await?;
        Ok(tus::progress(StatusCode::NO_CONTENT, &upload).finish())
    };
    tus::answer(append.await)
}

/// Ends an upload; of one whose image is published, the image stays.
#[utoipa::path(
    delete, path = "/api/v1/uploads/{id}", tag = "uploads",
    params(
        ("id" = String, Path),
        ("Tus-Resumable" = String, Header, description = "1.0.0"),
    ),
    responses(
        (status = 204, description = "ended, and nothing of it is kept"),
        (status = 410, body = Problem, description = "it has expired, or was ended"),
        (status = 412, body = Problem, description = "another version of tus"),
        (status = 423, body = Problem, description = "a request brings bytes in"),
    )
)]
pub(in crate::http) async fn terminate_upload(
    images: web::Data<Images>,
    access: Access<Upload, InPath<UploadId>>,
    request: HttpRequest,
) -> HttpResponse {
    let Access { principal, input: InPath(UploadId(id)), .. } = access;
    let terminate = async {
        tus::check_version(request.headers())?;
        images.terminate_upload(&id, &principal).await?;
        Ok(HttpResponse::NoContent().finish())
    };
    tus::answer(terminate.await)
}

/// What the fields say of a body that is a part of an image.
fn part(headers: &HeaderMap, at: u64) -> Result<Part, Error> {
    if !is_part(headers) {
        let detail =
            "send a part of an upload with `Content-Type: application/offset+octet-stream`";
        return Err(Error::UnsupportedMediaType { detail: detail.into() });
    }
    Ok(Part { at, length: content_length(headers), checksum: tus::checksum(headers)? })
}

fn is_part(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(PART))
}

fn refuse_other_extensions(headers: &HeaderMap) -> Result<(), Error> {
    let (field, detail) = if headers.contains_key("upload-defer-length") {
        ("Upload-Defer-Length", "say in Upload-Length how long the image is")
    } else if headers.contains_key("upload-concat") {
        ("Upload-Concat", "send an image in one upload")
    } else {
        return Ok(());
    };
    let detail = format!("{field} is not known here: {detail}");
    Err(Error::Invalid { code: "bad_upload_field", detail })
}

const UPLOADS: &str = "/api/v1/uploads/";
const PART: &[u8] = b"application/offset+octet-stream";
const EXTENSIONS: &str = "creation,creation-with-upload,termination,checksum,expiration";
