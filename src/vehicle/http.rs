//! HTTP without surprises: a blocking client with bounds on bytes and on patience.
//!
//! A server may be hostile or a link bad. No answer takes more memory than it may have bytes, and none takes longer than its
//! bytes are worth (Uptane 2.1.0, 5.4: a vehicle watches the speed of its downloads; AT-5, AT-16).

use std::cell::RefCell;
use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::read::MultiGzDecoder;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};
use reqwest::{Certificate, Identity, Method, StatusCode};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::Error;
use crate::uptane::verify::Attack;

/// How long the client waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection, and as long again for the head of an answer.
    pub(super) answer: Duration,
    /// For the next byte of a body.
    pub(super) stall: Duration,
    /// Bytes a second that must come in each window.
    pub(super) min_speed: u64,
    /// Length of the window.
    pub(super) window: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let half_a_minute = Duration::from_secs(30);
        Self { answer: half_a_minute, stall: half_a_minute, min_speed: 1024, window: half_a_minute }
    }
}

/// Whom a server has to be, and who we are to it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tls<'a> {
    pub(super) ca_file: Option<&'a Path>,
    pub(super) client_cert: Option<&'a Path>,
    pub(super) client_key: Option<&'a Path>,
}

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
    client: reqwest::Client,
    runtime: Runtime,
    patience: Patience,
    stop: RefCell<Option<Stop>>,
}

/// Whether the process is to end.
struct Stop {
    signal: Signal,
    is_asked: bool,
}

/// One request.
#[derive(Default)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) token: Option<&'a Token>,
    pub(super) body: Option<Vec<u8>>,
    /// Whether the body may come in gzip, which [`Answer::body`] undoes.
    pub(super) accepts_gzip: bool,
    /// First byte that is wanted.
    pub(super) from: u64,
    /// Only if it is still this one (RFC 9110, 13.1.5).
    pub(super) if_range: Option<&'a str>,
}

/// An answer whose body is yet to come.
pub(super) struct Answer<'h> {
    http: &'h Http,
    response: reqwest::Response,
    url: String,
    window_start: Instant,
    window_bytes: u64,
}

impl Http {
    /// Makes a client. It asks no environment for a proxy.
    pub(super) fn new(tls: Tls<'_>, patience: Patience) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| HttpError::Client { source: Box::new(source) })?;
        let mut builder = reqwest::Client::builder().no_proxy().connect_timeout(patience.answer);
        builder = builder.user_agent(concat!("motorcade-vehicle/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = tls.ca_file {
            let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(unusable(path))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(path) = tls.client_cert {
            let mut pem = Zeroizing::new(read(path)?);
            if let Some(key) = tls.client_key {
                pem.push(b'\n');
                pem.extend_from_slice(&Zeroizing::new(read(key)?));
            }
            builder = builder.identity(Identity::from_pem(&pem).map_err(unusable(path))?);
        }
        let client = builder.build().map_err(|source| HttpError::Client { source: Box::new(source) })?;
        Ok(Self { client, runtime, patience, stop: RefCell::new(None) })
    }

    /// From now on SIGTERM ends what waits here, with [`HttpError::Stopped`], and not the process.
    pub(super) fn stop_on_sigterm(&self) -> Result<(), HttpError> {
        let _context = self.runtime.enter();
        let signal =
            signal(SignalKind::terminate()).map_err(|source| HttpError::Client { source: Box::new(source) })?;
        *self.stop.borrow_mut() = Some(Stop { signal, is_asked: false });
        Ok(())
    }

    /// Waits, or is stopped.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), HttpError> {
        self.wait(async { tokio::time::sleep(time).await })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, HttpError> {
        let mut stop = self.stop.borrow_mut();
        let Some(stop) = stop.as_mut() else { return Ok(self.runtime.block_on(future)) };
        if stop.is_asked {
            return Err(HttpError::Stopped);
        }
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = stop.signal.recv() => {
                    stop.is_asked = true;
                    Err(HttpError::Stopped)
                }
                done = future => Ok(done),
            }
        })
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) fn send(&self, url: &str, request: Request<'_>) -> Result<Answer<'_>, HttpError> {
        let mut builder = self.client.request(request.method, url);
        if let Some(token) = request.token {
            builder = builder.bearer_auth(token.as_str());
        }
        builder = builder.header(ACCEPT_ENCODING, if request.accepts_gzip { "gzip" } else { "identity" });
        if request.from > 0 {
            builder = builder.header("range", format!("bytes={}-", request.from));
            if let Some(etag) = request.if_range {
                builder = builder.header("if-range", etag);
            }
        }
        if let Some(body) = request.body {
            builder = builder.header("content-type", "application/json").body(body);
        }
        // Longer than connecting may take: no connection is a bad link, and no answer to a request a slow server.
        let sent = async { tokio::time::timeout(self.patience.answer * 2, builder.send()).await };
        let answered = self.wait(sent)?.map_err(|_| HttpError::TooSlow { url: url.to_owned() })?;
        let response = answered.map_err(|error| network(url, error))?;
        Ok(Answer { http: self, response, url: url.to_owned(), window_start: Instant::now(), window_bytes: 0 })
    }

    /// Fetches a small file; `None` if there is none of that name.
    pub(super) fn fetch(&self, url: &str, token: Option<&Token>, max: u64) -> Result<Option<Vec<u8>>, HttpError> {
        let mut answer = self.send(url, Request { token, accepts_gzip: true, ..Request::default() })?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            StatusCode::OK => answer.body(max).map(Some),
            status => Err(HttpError::Status { url: url.to_owned(), status: status.as_u16(), detail: String::new() }),
        }
    }
}

impl Answer<'_> {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// Length of the body, if it was announced.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.response.content_length()
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

    /// A few bytes can stand for gigabytes: what comes out is bounded, and not only what goes in.
    fn gunzip(&self, coded: &[u8], max: u64) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        let read = MultiGzDecoder::new(coded).take(max.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|source| self.bad_coding(source))?;
        if body.len() as u64 > max { Err(self.too_large(max)) } else { Ok(body) }
    }

    fn too_large(&self, limit: u64) -> HttpError {
        HttpError::TooLarge { url: self.url.clone(), limit }
    }

    fn bad_coding(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HttpError {
        HttpError::Network { url: self.url.clone(), source: source.into() }
    }

    fn read(&mut self, max: u64) -> Result<Vec<u8>, HttpError> {
        if self.content_length().is_some_and(|length| length > max) {
            return Err(self.too_large(max));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            if body.len() as u64 + chunk.len() as u64 > max {
                return Err(self.too_large(max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next part of the body.
    pub(super) fn chunk(
        &mut self,
    ) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]> + use<>>, HttpError> {
        let patience = self.http.patience;
        let response = &mut self.response;
        let next = async { tokio::time::timeout(patience.stall, response.chunk()).await };
        let next = self.http.wait(next)?;
        let next = next.map_err(|_| HttpError::TooSlow { url: self.url.clone() })?;
        let next = next.map_err(|error| network(&self.url, error))?;
        self.window_bytes += next.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let elapsed = self.window_start.elapsed();
        if next.is_some() && elapsed >= patience.window {
            if self.window_bytes < patience.min_speed.saturating_mul(patience.window.as_secs().max(1)) {
                return Err(HttpError::TooSlow { url: self.url.clone() });
            }
            (self.window_start, self.window_bytes) = (Instant::now(), 0);
        }
        Ok(next)
    }
}

/// Why there is no answer, or not the one that is needed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The client could not be made.
    #[error("failed to set up HTTP")]
    Client {
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No connection, or one that was cut.
    #[error("failed to fetch {url}")]
    Network {
        /// What was asked for.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another status than is of use.
    #[error("{url} answered {status}{detail}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// What the server says about it, after a colon.
        detail: String,
    },
    /// The process is to end.
    #[error("stopped")]
    Stopped,
    /// More bytes than the file may have (Uptane 2.1.0, 5.4.3.3; AT-16).
    #[error("{url} sends more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Too few bytes a second, or none (Uptane 2.1.0, 5.4.3.3; AT-5).
    #[error("{url} sends too slowly, or nothing more")]
    TooSlow {
        /// What was asked for.
        url: String,
    },
}

impl HttpError {
    /// The attack that it looks like. That a link is down or cut is no sign of one.
    pub fn attack(&self) -> Option<Attack> {
        match self {
            Self::TooLarge { .. } => Some(Attack::EndlessData),
            Self::TooSlow { .. } => Some(Attack::SlowRetrieval),
            Self::Client { .. } | Self::Network { .. } | Self::Status { .. } | Self::Stopped => None,
        }
    }
}

fn network(url: &str, error: reqwest::Error) -> HttpError {
    HttpError::Network { url: url.to_owned(), source: Box::new(error.without_url()) }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::file("read", path))
}

fn unusable(path: &Path) -> impl Fn(reqwest::Error) -> Error {
    |error| Error::Setting { path: path.to_owned(), fault: error.to_string() }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
