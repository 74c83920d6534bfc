//! What has to be true of every request's head, before anybody is looked up.

use std::net::Ipv6Addr;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use actix_web::http::{StatusCode, Version};
use actix_web::middleware::Next;
use actix_web::web;

use super::auth::bearer_token;
use super::{ApiError, IdentityConfig};
use crate::app::Error;

/// Middleware that refuses a request whose head nobody could be sure to understand as it was meant.
///
/// # Errors
///
/// A 400.
pub async fn check<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    check_host(request.version(), request.headers()).map_err(ApiError::from)?;
    check_identity(&request).map_err(ApiError::from)?;
    let has_token = bearer_token(request.headers()).is_some();
    let mut response = next.call(request).await?;
    if has_token && response.status() == StatusCode::UNAUTHORIZED {
        // RFC 6750, 3.1; who has sent no token is told of no error.
        response
            .headers_mut()
            .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    }
    Ok(response)
}

/// There is one Host, and it is a name or an address with or without a port (RFC 9112, 3.2).
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let mut hosts = headers.get_all(HOST);
    let (host, more) = (hosts.next(), hosts.next());
    let fault = match (host, more) {
        (None, _) if version < Version::HTTP_11 => return Ok(()),
        (None, _) => "there is none",
        (Some(_), Some(_)) => "there is more than one",
        (Some(host), None) if is_host(host.as_bytes()) => return Ok(()),
        (Some(_), None) => "it is no name or address with or without a port",
    };
    Err(Error::Invalid {
        code: "bad_host",
        detail: format!("the field Host can't be used: {fault}"),
    })
}

/// `uri-host [ ":" port ]` (RFC 3986, 3.2.2 and 3.2.3), or nothing.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (is_name, rest) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let is_allowed =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
            (name.bytes().all(is_allowed) && (!name.is_empty() || rest.is_empty()), rest)
        }
    };
    let is_port = |port: &str| {
        port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5
    };
    is_name && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

/// Of two tokens, or two vehicles, nobody knows which one a proxy has checked.
fn check_identity(request: &ServiceRequest) -> Result<(), Error> {
    let proxy =
        request.app_data::<web::Data<IdentityConfig>>().and_then(|config| config.proxy.as_ref());
    let names = proxy.map(|proxy| &proxy.header).into_iter().chain([&AUTHORIZATION]);
    for name in names {
        if request.headers().get_all(name).nth(1).is_some() {
            let detail = format!("the field {name} is there more than once: send it once");
            return Err(Error::Invalid { code: "repeated_header", detail });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_host_when_it_sees_one() {
        for host in [
            "",
            "a",
            "a:",
            "a:80",
            "127.0.0.1",
            "[::1]",
            "[::1]:8443",
            "motorcade.example:443",
            "a_b",
            "a%20b",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "a/b", "a?b", "a#b", "u@a", "u:p@a", ":80", "a:b", "a:999999", "a:80:80",
            "[::1", "\u{e4}", "a\"b", "<a>",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
