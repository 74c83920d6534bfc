//! Who may call a route, in the type of its handler: a handler without [`Access`] is open to
//! everyone.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};

use super::ApiError;
use super::observe::request_id::RequestId;
use crate::app::access::{Principal, Tokens};
use crate::model::AccessRole;

/// What a route lets its caller do.
pub trait Permission {
    /// The roles that have it.
    const ROLES: &'static [AccessRole];
}

/// Seeing what the API shows.
pub struct Read;
/// Seeing the fleet, which is private (Uptane 2.1.0, 5.3.2.2): a supplier's CI job is not among
/// those who may.
pub struct ReadFleet;
/// Uploading images.
pub struct Upload;
/// Changing what is published and for whom: recipients, yanks, vehicles, assignments.
pub struct Manage;
/// Changing keys, which is not an engineer's: roots and what is staged for them, suppliers, rotation
/// and revocation, reseal.
pub struct ManageKeys;

/// Staging and signing what a role lists whose keys are with its owner: a supplier for itself, and
/// officers.
pub struct SignTargets;

impl Permission for SignTargets {
    const ROLES: &'static [AccessRole] = &[AccessRole::Uploader, AccessRole::Officer];
}

impl Permission for ManageKeys {
    const ROLES: &'static [AccessRole] = &[AccessRole::Officer];
}

impl Permission for Read {
    const ROLES: &'static [AccessRole] = &AccessRole::READERS;
}

impl Permission for ReadFleet {
    const ROLES: &'static [AccessRole] =
        &[AccessRole::Engineer, AccessRole::Officer, AccessRole::Viewer];
}

impl Permission for Upload {
    const ROLES: &'static [AccessRole] = &[AccessRole::Uploader, AccessRole::Engineer];
}

impl Permission for Manage {
    const ROLES: &'static [AccessRole] = &[AccessRole::Engineer, AccessRole::Officer];
}

/// A caller whose token has a permission `P`, and what else the route takes from the request, `T`.
///
/// The caller comes first: extractors beside each other race, and then a stranger's body would be
/// read, and answered, before the stranger is turned away.
pub struct Access<P, T = ()> {
    /// The caller.
    pub principal: Principal,
    /// What comes with the request.
    pub input: T,
    permission: PhantomData<P>,
}

impl<P, T> FromRequest for Access<P, T>
where
    P: Permission,
    T: FromRequest + 'static,
{
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let tokens = service::<Tokens>(request);
        let (request, mut payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let authorized = tokens.authorize(bearer_token(request.headers()), P::ROLES).await;
            let mut principal = authorized.map_err(ApiError::from)?;
            principal.request_id = RequestId::current().map(|id| id.to_string());
            let input = T::from_request(&request, &mut payload).await.map_err(Into::into)?;
            Ok(Self { principal, input, permission: PhantomData })
        })
    }
}

/// A service that all handlers share.
pub(super) fn service<T: 'static>(request: &HttpRequest) -> web::Data<T> {
    request.app_data().cloned().expect("configure() registers each service")
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1).
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
