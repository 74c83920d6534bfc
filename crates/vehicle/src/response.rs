//! A response, in bounds: its body takes no more memory than it may have bytes, and no longer than
//! these are worth.

use std::time::{Duration, Instant};

use motorcade_host::shown::{place, printable};
use motorcade_uptane::gzip::{self, GzipError};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, HeaderMap, LOCATION};
use serde_json::Value;
use url::Url;

use super::http_error::HttpError;
use super::progress::Progress;
use super::redirect;
use super::retry_after;
use super::waiting::Waiting;

/// A response whose body is yet to come.
pub(super) struct Response<'w> {
    waiting: &'w Waiting,
    inner: reqwest::Response,
    /// For errors: without its secrets.
    url: String,
    /// How long was waited in this window. What the vehicle itself takes does not count.
    window_waited: Duration,
    window_bytes: u64,
}

impl<'w> Response<'w> {
    pub(super) fn new(waiting: &'w Waiting, inner: reqwest::Response, url: String) -> Self {
        Self { waiting, inner, url, window_waited: Duration::ZERO, window_bytes: 0 }
    }

    /// Where it leads, if it comes from there and leads anywhere.
    pub(super) fn leads_from(&self, from: &Url) -> Result<Option<Url>, HttpError> {
        redirect::target(from, &self.inner)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Why an answer with this status is of no use, in the server's own words if it has any (RFC
    /// 9457).
    pub(super) fn refusal(&mut self) -> HttpError {
        let (url, status) = (self.url.clone(), self.status());
        let detail = match self.headers().get(LOCATION).filter(|_| redirect::is_redirect(status)) {
            Some(location) => {
                let to = place(&String::from_utf8_lossy(location.as_bytes()));
                format!(": it sends us on to {to}, which is not followed here")
            }
            None => problem(&self.body(MAX_PROBLEM_SIZE).unwrap_or_default()),
        };
        let retry_after = retry_after::of(status, self.headers());
        HttpError::Status { url, status: status.as_u16(), detail, retry_after }
    }

    /// That a file came which cannot be the one that was asked for.
    pub(super) fn unexpected(&self, what: &str) -> HttpError {
        HttpError::Unexpected { url: self.url.clone(), what: what.to_owned() }
    }

    /// Where it is shown how much has come.
    pub(super) fn progress(&self) -> &Progress {
        &self.waiting.progress
    }

    /// Length of the body, if it was announced.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.inner.content_length()
    }

    /// The whole body, of at most `max` bytes, on the way and when gzip is undone.
    pub(super) fn body(&mut self, max: u64) -> Result<Vec<u8>, HttpError> {
        let body = self.read(max)?;
        if self.has_coding(&["gzip", "x-gzip"]) {
            return self.gunzip(&body, max);
        }
        self.check_identity().map(|()| body)
    }

    /// That the body is as it is stored: a part of it says nothing otherwise.
    pub(super) fn check_identity(&self) -> Result<(), HttpError> {
        if !self.headers().contains_key(CONTENT_ENCODING) || self.has_coding(&["identity"]) {
            return Ok(());
        }
        Err(self.bad_coding("it comes in a content coding that was not asked for"))
    }

    /// Codings have no case, and one has two names (RFC 9110, 8.4.1).
    fn has_coding(&self, names: &[&str]) -> bool {
        let coding = self.headers().get(CONTENT_ENCODING).and_then(|coding| coding.to_str().ok());
        coding.is_some_and(|coding| names.iter().any(|name| coding.eq_ignore_ascii_case(name)))
    }

    fn gunzip(&self, coded: &[u8], max: u64) -> Result<Vec<u8>, HttpError> {
        gzip::unpack(coded, max).map_err(|error| match error {
            GzipError::Broken(source) => self.bad_coding(source),
            GzipError::TooLarge { start } => self.too_large(max, &start),
        })
    }

    /// A page that somebody else answers with is longer than a small file soon.
    fn too_large(&self, limit: u64, start: &[u8]) -> HttpError {
        if start.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return self.unexpected("with something that is not JSON");
        }
        HttpError::TooLarge { url: self.url.clone(), limit }
    }

    fn bad_coding(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
        HttpError::Network { url: self.url.clone(), source: source.into() }
    }

    fn read(&mut self, max: u64) -> Result<Vec<u8>, HttpError> {
        let is_announced = self.content_length().is_some_and(|length| length > max);
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if is_announced || body.len() as u64 + chunk.len() as u64 > max {
                return Err(self
                    .too_large(max, &self.start_of(if body.is_empty() { &chunk } else { &body })));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// How a body begins, with gzip undone. What comes before it breaks off is enough.
    fn start_of(&self, body: &[u8]) -> Vec<u8> {
        match self.has_coding(&["gzip", "x-gzip"]) {
            true => gzip::beginning(body, START as u64),
            false => body.get(..START).unwrap_or(body).to_vec(),
        }
    }

    /// The next part of the body.
    pub(super) fn chunk(
        &mut self,
    ) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, HttpError> {
        let patience = self.waiting.patience;
        let inner = &mut self.inner;
        let next = async { tokio::time::timeout(patience.stall, inner.chunk()).await };
        let start = Instant::now();
        let next = self.waiting.wait(next)?;
        self.window_waited += start.elapsed();
        let next = next.map_err(|_| HttpError::Stalled { url: self.url.clone() })?;
        let next = next.map_err(|error| network(&self.url, error))?;
        self.window_bytes += next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if next.is_some() && self.window_waited >= patience.window {
            if self.window_bytes
                < patience.min_speed.saturating_mul(patience.window.as_secs().max(1))
            {
                return Err(HttpError::TooSlow { url: self.url.clone() });
            }
            (self.window_waited, self.window_bytes) = (Duration::ZERO, 0);
        }
        Ok(next)
    }
}

/// That no answer came, or not all of it.
pub(super) fn network(url: &str, error: reqwest::Error) -> HttpError {
    HttpError::Network { url: place(url), source: Box::new(error.without_url()) }
}

/// The detail of an error response (RFC 9457), to go behind its status.
fn problem(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(printable);
    match (text("detail"), text("code")) {
        (Some(detail), Some(code)) => format!(": {detail} ({code})"),
        (Some(detail), None) => format!(": {detail}"),
        (None, Some(code)) => format!(": {code}"),
        (None, None) => String::new(),
    }
}

const START: usize = 256; // bytes that tell what a body is
const MAX_PROBLEM_SIZE: u64 = 16 * 1024; // 16 KiB
