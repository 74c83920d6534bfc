//! `/repo/…`: the Image repository, for vehicles.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::header::{self, AcceptEncoding, Encoding, Header, HeaderMap, HeaderValue};
use actix_web::http::{Method as HttpMethod, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use percent_encoding::percent_decode_str;

use crate::app::access::Tokens;
use crate::app::fleet::Fleet;
use crate::app::images::Images;
use crate::app::images::deliver::{Coding, Content, Delivery, ReadVerb};
use crate::blob::BlobKey;
use crate::http::ApiError;
use crate::http::auth::{Permission, Read, bearer_token};
use crate::http::identity::claims_of;
use crate::http::rfc::byteranges::{Boundary, ByteRanges};
use crate::http::rfc::conditional::{Conditions, Method, Representation, Selection, select};
use crate::http::rfc::date::HttpDate;
use crate::http::rfc::range::{ByteRange, content_range, unsatisfied_content_range};

/// How the repository is served.
#[derive(Debug, Clone, Default)]
pub struct RepoConfig {
    /// Who may read it.
    pub access: ReadAccess,
    /// Who carries the bytes of targets.
    pub carrier: Carrier,
}

/// Who may read the repository (Uptane 2.1.0, 5.3.1 leaves it open).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadAccess {
    /// Everyone: images are sealed, metadata is signed.
    #[default]
    Public,
    /// Vehicles, and whoever has a token of any role that may read.
    Token,
}

/// Who carries the bytes of targets; metadata is always served from here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Carrier {
    /// This server.
    #[default]
    Direct,
    /// Whoever serves the blob directory below this URL, by a 307.
    Redirect(Arc<str>),
    /// The object store that blobs are in, by a 307 to a URL that is good for so long.
    Presigned(Duration),
    /// nginx in front of this server, from the internal location with this prefix, by
    /// `X-Accel-Redirect`.
    Accel(Arc<str>),
}

pub(in crate::http) async fn serve_file(
    tokens: web::Data<Tokens>,
    fleet: web::Data<Fleet>,
    images: web::Data<Images>,
    config: web::Data<RepoConfig>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    if config.access == ReadAccess::Token {
        authorize(&tokens, &fleet, &request).await?;
    }
    let encoded = request.path().strip_prefix("/repo/").unwrap_or_default();
    let name = percent_decode_str(encoded).decode_utf8_lossy();
    if matches!(config.carrier, Carrier::Redirect(_) | Carrier::Presigned(_))
        && let Some(key) = images.locate_target(&name).await?
    {
        return send_on(&images, &config.carrier, &request, &key).await;
    }
    let delivery = images.deliver(&name).await?;
    let is_target = matches!(delivery.key, BlobKey::Target { .. });
    match &config.carrier {
        Carrier::Accel(prefix) if is_target => Ok(accelerate(prefix, &delivery, config.access)),
        _ if wants_gzip(&request) => {
            Ok(respond(&request, images.compress(delivery).await, config.access))
        }
        _ => Ok(respond(&request, delivery, config.access)),
    }
}

/// A vehicle that is known, or whoever has a token.
async fn authorize(tokens: &Tokens, fleet: &Fleet, request: &HttpRequest) -> Result<(), ApiError> {
    if fleet.identify_vehicle(&claims_of(request)).await.is_ok() {
        return Ok(());
    }
    tokens.authorize(bearer_token(request.headers()), Read::ROLES).await?;
    Ok(())
}

/// Whether the client reads gzip, and wants the whole file: who asks for a part counts the bytes of
/// the plain one.
fn wants_gzip(request: &HttpRequest) -> bool {
    let Ok(accepted) = AcceptEncoding::parse(request) else { return false };
    let coding = accepted.negotiate([Encoding::identity(), Encoding::gzip()].iter());
    coding == Some(Encoding::gzip()) && !request.headers().contains_key(header::RANGE)
}

/// Redirects to whoever has the bytes. A URL that is signed is for one method and a while: what is
/// in between keeps none.
async fn send_on(
    images: &Images,
    carrier: &Carrier,
    request: &HttpRequest,
    key: &BlobKey,
) -> Result<HttpResponse, ApiError> {
    let mut response = HttpResponse::TemporaryRedirect();
    let location = match carrier {
        Carrier::Presigned(valid_for) => {
            let is_head = request.method() == HttpMethod::HEAD;
            let verb = if is_head { ReadVerb::Head } else { ReadVerb::Get };
            response.insert_header((header::CACHE_CONTROL, "no-store"));
            images.presign(key, verb, *valid_for).await?
        }
        Carrier::Redirect(base) => format!("{}/{key}", base.trim_end_matches('/')),
        Carrier::Direct | Carrier::Accel(_) => key.name(),
    };
    Ok(response.insert_header((header::LOCATION, location)).finish())
}

fn accelerate(prefix: &str, delivery: &Delivery, access: ReadAccess) -> HttpResponse {
    let location = format!("{}/{}", prefix.trim_end_matches('/'), delivery.key);
    let mut response = HttpResponse::Ok();
    describe(&mut response, delivery, access);
    response.content_type(delivery.key.content_type());
    response.insert_header(("X-Accel-Redirect", location)).finish()
}

/// Answers a `GET` or `HEAD` as RFC 9110 says, with ranges and conditions.
fn respond(request: &HttpRequest, delivery: Delivery, access: ReadAccess) -> HttpResponse {
    let method = if request.method() == HttpMethod::HEAD { Method::Head } else { Method::Get };
    let selection = select_part(method, request.headers(), &delivery);
    let mut response = HttpResponse::build(status_of(&selection));
    describe(&mut response, &delivery, access);
    let Delivery { length, content, key, coding, .. } = delivery;
    match selection {
        Selection::NotModified | Selection::PreconditionFailed => response.finish(),
        Selection::RangeNotSatisfiable { length } => {
            let unsatisfied = unsatisfied_content_range(length).to_string();
            response.insert_header((header::CONTENT_RANGE, unsatisfied)).finish()
        }
        Selection::Full => {
            response.content_type(key.content_type());
            if coding == Coding::Gzip {
                response
                    .insert_header((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
            }
            send(method, response, content, 0..length)
        }
        Selection::Partial(range) => {
            response.content_type(key.content_type());
            response
                .insert_header((header::CONTENT_RANGE, content_range(range, length).to_string()));
            send(method, response, content, half_open(range))
        }
        Selection::Multipart(ranges) => {
            let framing = ByteRanges::new(&ranges, key.content_type(), length, Boundary::random());
            response.content_type(framing.content_type());
            response.body(SizedStream::new(framing.content_length(), multipart(&framing, &content)))
        }
    }
}

fn select_part(method: Method, headers: &HeaderMap, delivery: &Delivery) -> Selection {
    // The timestamp can change twice a second, and then its date says nothing.
    let last_modified = delivery.key.is_immutable().then(|| modified(delivery));
    let representation = Representation {
        length: delivery.length,
        etag: &delivery.etag(),
        last_modified,
        is_date_strong: !delivery.is_compressible(),
    };
    select(method, &Conditions::from_headers(headers), &representation)
}

fn status_of(selection: &Selection) -> StatusCode {
    match selection {
        Selection::NotModified => StatusCode::NOT_MODIFIED,
        Selection::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Selection::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
        Selection::Full => StatusCode::OK,
        Selection::Partial(_) | Selection::Multipart(_) => StatusCode::PARTIAL_CONTENT,
    }
}

/// The fields that any answer about a file has.
fn describe(response: &mut HttpResponseBuilder, delivery: &Delivery, access: ReadAccess) {
    let cache = match (delivery.key.is_immutable(), access) {
        (false, _) => "no-cache",
        (true, ReadAccess::Public) => "public, max-age=31536000, immutable",
        (true, ReadAccess::Token) => "private, max-age=31536000, immutable",
    };
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static(cache)));
    response.insert_header((header::ETAG, delivery.etag()));
    if delivery.is_compressible() {
        response.insert_header((header::VARY, HeaderValue::from_static("Accept-Encoding"))); // RFC 9110, 12.5.5
    }
    response.insert_header((header::ACCEPT_RANGES, HeaderValue::from_static("bytes")));
    if delivery.key.is_immutable() {
        response.insert_header((header::LAST_MODIFIED, modified(delivery).to_string()));
    }
}

fn modified(delivery: &Delivery) -> HttpDate {
    delivery.modified.into()
}

fn send(
    method: Method,
    mut response: HttpResponseBuilder,
    content: Content,
    range: Range<u64>,
) -> HttpResponse {
    let length = range.end - range.start;
    match (method, content) {
        (Method::Head, _) => {
            response.body(SizedStream::new(length, stream::empty::<io::Result<Bytes>>()))
        }
        (Method::Get, Content::Bytes(bytes)) => response.body(slice(&bytes, range)),
        (Method::Get, Content::Blob(blob)) => {
            response.body(SizedStream::new(length, blob.read(range)))
        }
    }
}

fn multipart(framing: &ByteRanges, content: &Content) -> BoxStream<'static, io::Result<Bytes>> {
    let mut pieces = Vec::with_capacity(framing.parts().len() + 1);
    for part in framing.parts() {
        let preamble = Bytes::from(part.preamble.clone());
        pieces.push(stream::once(async move { Ok(preamble) }).boxed());
        pieces.push(match content {
            Content::Bytes(bytes) => {
                let bytes = slice(bytes, half_open(part.range));
                stream::once(async move { Ok(bytes) }).boxed()
            }
            Content::Blob(blob) => blob.read(half_open(part.range)),
        });
    }
    let closing = Bytes::from(framing.closing().to_owned());
    pieces.push(stream::once(async move { Ok(closing) }).boxed());
    stream::iter(pieces).flatten().boxed()
}

/// Only for ranges that were clamped to the length of `bytes`, which fits in memory.
fn slice(bytes: &Bytes, range: Range<u64>) -> Bytes {
    bytes.slice(range.start as usize..range.end as usize)
}

fn half_open(range: ByteRange) -> Range<u64> {
    range.start..range.end
}
