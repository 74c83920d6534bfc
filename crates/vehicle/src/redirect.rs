//! Where a server may send a vehicle on to.
//!
//! The Director gets reports and enrolments, and is known by its address: nothing of it is sent on.
//! A file of the Image repository is what its hash says, wherever it comes from, and may be on a
//! content delivery network. It is never fetched without TLS where it was asked for with it, and
//! nobody but the server that was asked for gets to know the vehicle by certificate or token.

use reqwest::StatusCode;
use reqwest::header::LOCATION;
use url::Url;

use super::http_error::HttpError;
use motorcade_host::shown::place;

/// Whether a redirection is followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Redirects {
    /// It is an answer that is of no use.
    #[default]
    Refused,
    /// It is followed, some times.
    Followed,
}

/// Most that are followed for one request.
pub(super) const MAX_REDIRECTS: usize = 5;

/// Where an answer to a request to `from` leads, if it leads anywhere.
pub(super) fn target(from: &Url, answer: &reqwest::Response) -> Result<Option<Url>, HttpError> {
    if !is_redirect(answer.status()) {
        return Ok(None);
    }
    let Some(location) = answer.headers().get(LOCATION) else { return Ok(None) };
    let refused = |fault: &'static str| HttpError::Redirect { url: place(from.as_str()), fault };
    let to = location.to_str().ok().and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| refused("to something that is no URL"))?;
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(refused("from https to http, which is not followed")),
        (_, "http" | "https") => Ok(Some(to)),
        _ => Err(refused("to another scheme than http and https")),
    }
}

/// That too many follow on each other.
pub(super) fn too_many(url: &str) -> HttpError {
    HttpError::Redirect { url: place(url), fault: "again and again" }
}

/// One that names another place; 300 and 304 are something else (RFC 9110, 15.4).
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod tests;
