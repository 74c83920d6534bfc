//! Where metadata comes from: a server, or whoever hands it over.

use super::Error;
use super::http::{Http, Token};
use super::http_error::HttpError;
use super::redirect::Redirects;

/// Fetches files of one repository by their names.
pub(super) trait Source {
    /// Fetches a file of at most `max` bytes; `None` if there is none of that name.
    fn fetch(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error>;
}

/// A repository behind a URL.
pub(super) struct HttpSource<'h> {
    http: &'h Http,
    base: String,
    token: Option<&'h Token>,
    redirects: Redirects,
}

impl<'h> HttpSource<'h> {
    /// Anybody's, who may send us on.
    pub(super) fn new(http: &'h Http, base: &str, token: Option<&'h Token>) -> Self {
        Self {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token,
            redirects: Redirects::Followed,
        }
    }

    /// The Director's, who must not.
    pub(super) fn director(http: &'h Http, base: &str, token: Option<&'h Token>) -> Self {
        Self { redirects: Redirects::Refused, ..Self::new(http, base, token) }
    }
}

impl Source for HttpSource<'_> {
    fn fetch(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let fetched =
            self.http.fetch(&format!("{}/{name}", self.base), self.token, max, self.redirects);
        match fetched {
            // Object stores answer so for what is not there, if they do not let one list their
            // content.
            Err(HttpError::Status { status: 403, .. }) if name.ends_with(".root.json") => Ok(None),
            other => Ok(other?),
        }
    }
}
