//! Where metadata comes from: a server, or whoever hands it over.

use motorcade_model::RoleName;
use std::cell::RefCell;

use super::Error;
use super::http::{Http, Token};
use super::http_error::HttpError;
use super::names::metadata_file;
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

/// A repository that has given its timestamp unasked, and said that it has no newer root than one.
/// Once that timestamp was taken it is asked for everything: what came unasked is believed once.
pub(super) struct GivenSource<'a> {
    asked: &'a dyn Source,
    root: u64,
    timestamp: RefCell<Option<Vec<u8>>>,
}

impl<'a> GivenSource<'a> {
    /// `timestamp` is none if nothing was given.
    pub(super) fn new(asked: &'a dyn Source, root: u64, timestamp: Option<Vec<u8>>) -> Self {
        Self { asked, root, timestamp: RefCell::new(timestamp) }
    }
}

impl Source for GivenSource<'_> {
    fn fetch(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        if name == metadata_file(&RoleName::Timestamp, None)
            && let Some(given) = self.timestamp.take()
        {
            return Ok(Some(given));
        }
        let is_next_root = || name == metadata_file(&RoleName::Root, Some(self.root + 1));
        if self.timestamp.borrow().is_some() && is_next_root() {
            return Ok(None);
        }
        self.asked.fetch(name, max)
    }
}
