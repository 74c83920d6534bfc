//! What is answered to `Expect: 100-continue` (RFC 9110, 10.1.1): an upload that will be refused is refused before its
//! body is sent.

use actix_http::Request;
use actix_web::HttpMessage;
use actix_web::HttpResponse;
use actix_web::ResponseError;
use actix_web::body::BoxBody;
use actix_web::http::Method;

use super::auth::{Permission, Upload, bearer_token};
use super::client_address::client_address;
use super::error::ProblemCode;
use super::request_id::{RequestId, X_REQUEST_ID};
use super::upload_head::{self, IMAGES};
use super::{ApiError, HttpState};

/// Passes a request on if its body is welcome.
///
/// # Errors
///
/// The response that its handler would give without reading the body.
pub async fn check(state: HttpState, request: Request) -> Result<Request, actix_http::Response<BoxBody>> {
    let Some(path) = request.path().strip_prefix(IMAGES).filter(|_| request.method() == Method::PUT) else {
        return Ok(request); // other bodies are small, and their handlers authorize before they read
    };
    let Err(error) = check_upload(&state, path, &request).await else { return Ok(request) };
    let request_id = RequestId::of(request.headers());
    let mut refused: HttpResponse = request_id.enter(|| error.error_response());
    refused.headers_mut().insert(X_REQUEST_ID, request_id.to_header_value());
    let status = refused.status().as_u16();
    let code = refused.extensions().get().map(|ProblemCode(code)| *code);
    let address = client_address(request.peer_addr(), request.headers(), Some(&state.identity));
    tracing::info!(
        request_id = request_id.as_str(),
        http.status = status,
        code,
        client.address = address.map(display),
        "upload refused before its body"
    );
    state.app.metrics().http("/api/v1/images/{path:.*}", "PUT", status).add_refused();
    Err(refused.into())
}

async fn check_upload(state: &HttpState, path: &str, request: &Request) -> Result<(), ApiError> {
    let principal = state.app.authorize(bearer_token(request.headers()), Upload::ROLES).await?;
    let query = request.uri().query().unwrap_or_default();
    let upload = upload_head::parse(path, query, request.headers(), &principal.id)?;
    principal.check_upload(&upload.path)?;
    state.app.plan_upload(&upload).await?;
    Ok(())
}
