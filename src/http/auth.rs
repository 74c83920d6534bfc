//! Who may call a route, in the type of its handler: a handler without [`Access`] is open to everyone.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};

use super::ApiError;
use crate::app::App;
use crate::app::access::Principal;
use crate::model::AccessRole;

/// What a route lets its caller do.
pub trait Permission {
    /// The roles that have it.
    const ROLES: &'static [AccessRole];
}

/// Seeing what the API shows.
pub struct Read;
/// Uploading images.
pub struct Upload;
/// Changing what is published and for whom: recipients, yanks.
pub struct Manage;

impl Permission for Read {
    const ROLES: &'static [AccessRole] = &AccessRole::ALL;
}

impl Permission for Upload {
    const ROLES: &'static [AccessRole] = &[AccessRole::Uploader, AccessRole::Engineer];
}

impl Permission for Manage {
    const ROLES: &'static [AccessRole] = &[AccessRole::Engineer, AccessRole::Officer];
}

/// A caller whose token has a permission. It is checked before a byte of the body is read.
pub struct Access<P> {
    /// The caller.
    pub principal: Principal,
    permission: PhantomData<P>,
}

impl<P: Permission> FromRequest for Access<P> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned().expect("configure() registers the app");
        let token = bearer_token(request.headers()).map(str::to_owned);
        Box::pin(async move {
            let principal = app.authorize(token.as_deref(), P::ROLES).await?;
            Ok(Self { principal, permission: PhantomData })
        })
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750, 2.1).
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
