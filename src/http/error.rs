//! Errors as RFC 9457 problem details. The only place that knows status codes.

use std::error::Error as StdError;
use std::fmt;

use actix_web::error::{JsonPayloadError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};

use super::observe::request_id::RequestId;
use crate::api::{Problem, ProblemItem};
use crate::app;
use crate::telemetry::Chain;

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError(app::Error);

/// The code of the problem that a response tells of, for its log line: the detail can repeat what
/// was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProblemCode(pub(super) &'static str);

impl From<app::Error> for ApiError {
    fn from(error: app::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.status_and_code();
        if let app::Error::Internal(source) = &self.0 {
            let request_id = RequestId::current();
            let request_id = request_id.as_ref().map(RequestId::as_str);
            tracing::error!(request_id, error = %Chain(source.as_ref()), "request failed");
        }
        let limit = if let app::Error::TooLarge { limit } = self.0 { Some(limit) } else { None };
        let several = match &self.0 {
            app::Error::Refused { problems } => problems.as_slice(),
            _ => &[],
        };
        let mut response = problem_with(status, code, self.0.to_string(), limit, several);
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::LOCKED => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            }
            _ => {}
        }
        if let app::Error::WrongOffset { offset } = self.0 {
            headers.insert(HeaderName::from_static("upload-offset"), HeaderValue::from(offset));
        }
        response
    }
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        use app::Error as E;
        match &self.0 {
            E::Invalid { code, .. } => (StatusCode::BAD_REQUEST, code),
            E::Unauthenticated { .. } => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            E::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            E::NotFound { code, .. } => (StatusCode::NOT_FOUND, code),
            E::Conflict { code, .. } => (StatusCode::CONFLICT, code),
            E::WrongOffset { .. } => (StatusCode::CONFLICT, "wrong_offset"),
            E::Gone { code, .. } => (StatusCode::GONE, code),
            E::Locked { .. } => (StatusCode::LOCKED, "locked"),
            E::WrongChecksum { .. } => (checksum_mismatch(), "wrong_checksum"),
            E::Refused { problems } => {
                (StatusCode::CONFLICT, problems.first().map_or("refused", |problem| problem.code))
            }
            E::Unprocessable { code, .. } => (StatusCode::UNPROCESSABLE_ENTITY, code),
            E::UnsupportedMediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            E::LengthRequired { .. } => (StatusCode::LENGTH_REQUIRED, "length_required"),
            E::Unexpected { .. } => (StatusCode::PRECONDITION_FAILED, "precondition_failed"),
            E::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            E::Stalled { .. } => (StatusCode::REQUEST_TIMEOUT, "stalled"),
            E::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            E::ClientGone => (StatusCode::BAD_REQUEST, "body_incomplete"),
            E::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            E::NotReady { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            E::Unavailable { code, .. } => (StatusCode::SERVICE_UNAVAILABLE, code),
            E::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
            E::Unusable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            E::Corrupt { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "file_damaged"),
            E::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

/// 460, as tus has it for a checksum that does not match.
fn checksum_mismatch() -> StatusCode {
    StatusCode::from_u16(460).expect("a status has three digits")
}

pub(super) async fn no_route(request: HttpRequest) -> HttpResponse {
    problem(
        StatusCode::NOT_FOUND,
        "no_route",
        format!("there is nothing at {:.200}", request.path()),
    )
}

/// 405, with the methods that are possible (RFC 9110, 15.5.6).
pub(super) fn method_not_allowed(request: &HttpRequest, allow: &HeaderValue) -> HttpResponse {
    let detail = format!("{} is not possible here", request.method());
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
    response.headers_mut().insert(header::ALLOW, allow.clone());
    response
}

pub(super) fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    let detail = match error {
        JsonPayloadError::Overflow { limit }
        | JsonPayloadError::OverflowKnownLength { limit, .. } => {
            return ApiError(app::Error::TooLarge { limit: limit as u64 }).into();
        }
        JsonPayloadError::ContentType => "send `Content-Type: application/json`".to_owned(),
        JsonPayloadError::Deserialize(error) => {
            return ApiError(not_json("the JSON that is expected here", &error)).into();
        }
        _ => "the body could not be read".to_owned(),
    };
    ApiError(app::Error::Invalid { code: "bad_json", detail }).into()
}

/// 400 for a body that is not `what` it has to be. Without the parser's own message, which could
/// repeat what was sent, and that may be a private key.
pub(super) fn not_json(what: &str, error: &serde_json::Error) -> app::Error {
    let (line, column) = (error.line(), error.column());
    let detail = format!("the body is not {what}: see line {line}, column {column}");
    app::Error::Invalid { code: "bad_json", detail }
}

pub(super) fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    let detail = format!("the query string can't be read: {error}");
    ApiError(app::Error::Invalid { code: "bad_query", detail }).into()
}

fn problem(status: StatusCode, code: &'static str, detail: String) -> HttpResponse {
    problem_with(status, code, detail, None, &[])
}

fn problem_with(
    status: StatusCode,
    code: &'static str,
    detail: String,
    limit: Option<u64>,
    several: &[app::Problem],
) -> HttpResponse {
    let item = |problem: &app::Problem| ProblemItem {
        code: problem.code.to_owned(),
        detail: problem.detail.clone(),
    };
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        detail,
        code: code.to_owned(),
        request_id: RequestId::current().map(|id| id.as_str().to_owned()),
        limit,
        problems: several.iter().map(item).collect(),
    };
    let mut response = HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/problem+json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(serde_json::to_vec(&problem).unwrap_or_default());
    response.extensions_mut().insert(ProblemCode(code));
    response
}
