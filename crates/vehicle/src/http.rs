//! HTTP without surprises: a blocking client with bounds on bytes and on patience.
//!
//! A server may be hostile or a link bad. No answer takes more memory than it may have bytes, and
//! none takes longer than its bytes are worth (Uptane 2.1.0, 5.4: a vehicle watches the speed of
//! its downloads; AT-5, AT-16).

use std::time::Duration;

use motorcade_host::shown::place;
use reqwest::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use reqwest::{Method, StatusCode};
use url::Url;
use zeroize::Zeroizing;

use super::Error;
use super::clients::{Clients, Tls};
use super::held::Held;
use super::http_error::HttpError;
use super::progress::Progress;
use super::redirect::{self, MAX_REDIRECTS, Redirects};
use super::response::{Response, network};
use super::retry_after;
use super::stop::Stop;
use super::tries::Tries;
use super::waiting::{Patience, Waiting};

/// A secret that a server knows us by.
#[derive(Clone)]
pub(super) struct Token(Zeroizing<String>);

impl Token {
    pub(super) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The client.
pub(super) struct Http {
    clients: Clients,
    waiting: Waiting, // after them: what they have open is its runtime's
    held: Held,
}

/// One request.
#[derive(Clone, Default)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) token: Option<&'a Token>,
    pub(super) body: Option<Vec<u8>>,
    /// Whether the body may come in gzip, which [`Response::body`] undoes.
    pub(super) accepts_gzip: bool,
    pub(super) redirects: Redirects,
    /// First byte that is wanted.
    pub(super) from: u64,
    /// Only if it is still this one (RFC 9110, 13.1.5).
    pub(super) if_range: Option<&'a str>,
    /// Only if it is another one than this (RFC 9110, 13.1.2).
    pub(super) if_none_match: Option<&'a str>,
    /// How it is answered best (RFC 7240).
    pub(super) prefer: Option<&'a str>,
}

/// What became of a small file.
pub(super) enum Fetched {
    File(Vec<u8>),
    /// It is the one that is here.
    Unchanged,
    /// There is none of that name.
    Missing,
}

impl Http {
    /// Makes a client.
    pub(super) fn new(tls: Tls<'_>, patience: Patience) -> Result<Self, Error> {
        let (waiting, clients) = (Waiting::with(patience)?, Clients::new(tls, patience)?);
        Ok(Self { clients, waiting, held: Held::default() })
    }

    /// From now on speaks to servers as another client does.
    pub(super) fn take_clients_of(&mut self, other: Self) {
        // First those that have its connections: they belong to its runtime.
        (self.clients, self.waiting.runtime) = (other.clients, other.waiting.runtime);
    }

    /// From now on what waits here ends with [`HttpError::Stopped`] once that is asked for.
    pub(super) fn stop_with(&mut self, stop: Stop) {
        self.waiting.stop = stop;
    }

    /// From now on shows how far downloads are.
    pub(super) fn show(&mut self, progress: Progress) {
        self.waiting.progress = progress;
    }

    /// Whether the process is to end.
    pub(super) fn stop(&self) -> &Stop {
        &self.waiting.stop
    }

    /// Where it is shown how far downloads are.
    pub(super) fn progress(&self) -> &Progress {
        &self.waiting.progress
    }

    /// Waits, or is stopped.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), HttpError> {
        self.waiting.wait(async { tokio::time::sleep(time).await })
    }

    /// Sends a request and waits for the head of its response. Who may send us on may be anybody,
    /// and is not asked while it wants to be left alone; when the Director is, is decided by the
    /// service.
    pub(super) fn send(&self, url: &str, request: Request<'_>) -> Result<Response<'_>, HttpError> {
        if request.redirects == Redirects::Refused {
            return self.send_to(&self.clients.own, url, request.token, &request);
        }
        let first = Url::parse(url)
            .map_err(|source| HttpError::Network { url: place(url), source: source.into() })?;
        let (mut at, mut is_home) = (first.clone(), true);
        for _ in 0..=MAX_REDIRECTS {
            // Who was left once is not believed to be met again.
            is_home &= at.origin() == first.origin();
            let (client, token) = if is_home {
                (&self.clients.own, request.token)
            } else {
                (&self.clients.stranger, None)
            };
            if let Some(left) = self.held.left(at.as_str()) {
                return Err(HttpError::Held { url: place(at.as_str()), left });
            }
            let response = self.send_to(client, at.as_str(), token, &request)?;
            if let Some(time) = retry_after::of(response.status(), response.headers()) {
                self.held.hold(at.as_str(), time);
            }
            match response.leads_from(&at)? {
                Some(next) => at = next,
                None => return Ok(response),
            }
        }
        Err(redirect::too_many(url))
    }

    fn send_to(
        &self,
        client: &reqwest::Client,
        url: &str,
        token: Option<&Token>,
        request: &Request<'_>,
    ) -> Result<Response<'_>, HttpError> {
        let mut builder = client.request(request.method.clone(), url);
        if let Some(token) = token {
            builder = builder.bearer_auth(token.as_str());
        }
        builder =
            builder.header(ACCEPT_ENCODING, if request.accepts_gzip { "gzip" } else { "identity" });
        if request.from > 0 {
            builder = builder.header("range", format!("bytes={}-", request.from));
            if let Some(etag) = request.if_range {
                builder = builder.header("if-range", etag);
            }
        }
        if let Some(etag) = request.if_none_match {
            builder = builder.header(IF_NONE_MATCH, etag);
        }
        if let Some(prefer) = request.prefer {
            builder = builder.header("prefer", prefer);
        }
        if let Some(body) = request.body.clone() {
            builder = builder.header("content-type", "application/json").body(body);
        }
        // Longer than connecting may take: no connection is a bad link, and no answer to a request
        // a slow server.
        let patience = self.waiting.patience;
        let sent = async { tokio::time::timeout(patience.answer * 2, builder.send()).await };
        let answered =
            self.waiting.wait(sent)?.map_err(|_| HttpError::Stalled { url: place(url) })?;
        let inner = answered.map_err(|error| network(url, error))?;
        Ok(Response::new(&self.waiting, inner, place(url)))
    }

    /// Fetches a small file of JSON; `None` if there is none of that name.
    pub(super) fn fetch(
        &self,
        url: &str,
        token: Option<&Token>,
        max: u64,
        redirects: Redirects,
    ) -> Result<Option<Vec<u8>>, HttpError> {
        let request = Request { token, accepts_gzip: true, redirects, ..Request::default() };
        self.fetch_often(url, &request, max).map(|fetched| match fetched {
            Fetched::File(file) => Some(file),
            Fetched::Missing | Fetched::Unchanged => None,
        })
    }

    /// Fetches a small file of JSON, unless it is the one with this entity tag; none if it is.
    pub(super) fn fetch_other(
        &self,
        url: &str,
        token: Option<&Token>,
        etag: &str,
        max: u64,
    ) -> Result<Fetched, HttpError> {
        let request = Request { token, if_none_match: Some(etag), ..Request::default() };
        self.fetch_often(url, &request, max)
    }

    fn fetch_often(
        &self,
        url: &str,
        request: &Request<'_>,
        max: u64,
    ) -> Result<Fetched, HttpError> {
        let mut tries = Tries::of_small_file();
        loop {
            match self.fetch_once(url, request.clone(), max) {
                Err(failure) if tries.again(&failure, |time| self.sleep(time))? => {}
                fetched => return fetched,
            }
        }
    }

    fn fetch_once(&self, url: &str, request: Request<'_>, max: u64) -> Result<Fetched, HttpError> {
        let is_conditional = request.if_none_match.is_some();
        let mut response = self.send(url, request)?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Fetched::Missing),
            // To nothing else it would be an answer (RFC 9110, 15.4.5).
            StatusCode::NOT_MODIFIED if is_conditional => Ok(Fetched::Unchanged),
            StatusCode::OK => response.body(max).map(Fetched::File),
            _ => Err(response.refusal()),
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
