//! HTTP without surprises: a blocking client with bounds on bytes and on patience.
//!
//! A server may be hostile or a link bad. No answer takes more memory than it may have bytes, and
//! none takes longer than its bytes are worth (Uptane 2.1.0, 5.4: a vehicle watches the speed of
//! its downloads; AT-5, AT-16).

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use motorcade_host::shown::{place, printable};
use motorcade_uptane::gzip::{self, GzipError};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, IF_NONE_MATCH, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity, Method, NoProxy, Proxy, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;
use zeroize::Zeroizing;

use super::Error;
use super::held::Held;
use super::http_error::HttpError;
use super::progress::Progress;
use super::redirect::{self, MAX_REDIRECTS, Redirects};
use super::retry_after;
use super::stop::Stop;
use super::tries::Tries;

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
        // Less than the slowest link that a vehicle may be left with gives, measured for long.
        Self {
            answer: half_a_minute,
            stall: half_a_minute,
            min_speed: 256,
            window: half_a_minute * 2,
        }
    }
}

/// Whom a server has to be, who we are to it, and whom we ask to get there.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tls<'a> {
    /// A proxy in the place of what the environment says (`https_proxy`, `http_proxy`, `no_proxy`);
    /// `none` for none at all.
    pub(super) proxy: Option<&'a str>,
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
    /// The same without a certificate, for servers that another one has sent us on to.
    stranger: reqwest::Client,
    runtime: Runtime,
    patience: Patience,
    stop: Stop,
    progress: Progress,
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

/// A response whose body is yet to come.
pub(super) struct Response<'h> {
    http: &'h Http,
    inner: reqwest::Response,
    /// For errors: without its secrets.
    url: String,
    /// How long was waited in this window. What the vehicle itself takes does not count.
    window_waited: Duration,
    window_bytes: u64,
}

impl Http {
    /// Makes a client.
    pub(super) fn new(tls: Tls<'_>, patience: Patience) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| HttpError::Client { source: Box::new(source) })?;
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|source| HttpError::Client { source: Box::new(source) })
        };
        let stranger = build(base(tls, patience)?)?;
        let client = match identity(tls)? {
            Some(identity) => build(base(tls, patience)?.identity(identity))?,
            None => stranger.clone(),
        };
        let (stop, progress) = (Stop::never(), Progress::default());
        let held = Held::default();
        Ok(Self { client, stranger, runtime, patience, stop, progress, held })
    }

    /// From now on speaks to servers as another client does.
    pub(super) fn take_clients_of(&mut self, other: Self) {
        // First those that have its connections: they belong to its runtime.
        (self.client, self.stranger, self.runtime) = (other.client, other.stranger, other.runtime);
    }

    /// From now on what waits here ends with [`HttpError::Stopped`] once that is asked for.
    pub(super) fn stop_with(&mut self, stop: Stop) {
        self.stop = stop;
    }

    /// From now on shows how far downloads are.
    pub(super) fn show(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Whether the process is to end.
    pub(super) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Where it is shown how far downloads are.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits, or is stopped.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), HttpError> {
        self.wait(async { tokio::time::sleep(time).await })
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, HttpError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.asked() => Err(HttpError::Stopped),
                done = future => Ok(done),
            }
        })
    }

    /// Sends a request and waits for the head of its response. Who may send us on may be anybody,
    /// and is not asked while it wants to be left alone; when the Director is, is decided by the
    /// service.
    pub(super) fn send(&self, url: &str, request: Request<'_>) -> Result<Response<'_>, HttpError> {
        if request.redirects == Redirects::Refused {
            return self.send_to(&self.client, url, request.token, &request);
        }
        let first = Url::parse(url)
            .map_err(|source| HttpError::Network { url: place(url), source: source.into() })?;
        let (mut at, mut is_home) = (first.clone(), true);
        for _ in 0..=MAX_REDIRECTS {
            // Who was left once is not believed to be met again.
            is_home &= at.origin() == first.origin();
            let (client, token) =
                if is_home { (&self.client, request.token) } else { (&self.stranger, None) };
            if let Some(left) = self.held.left(at.as_str()) {
                return Err(HttpError::Held { url: place(at.as_str()), left });
            }
            let response = self.send_to(client, at.as_str(), token, &request)?;
            if let Some(time) = retry_after::of(response.status(), response.headers()) {
                self.held.hold(at.as_str(), time);
            }
            match redirect::target(&at, &response.inner)? {
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
        let sent = async { tokio::time::timeout(self.patience.answer * 2, builder.send()).await };
        let answered = self.wait(sent)?.map_err(|_| HttpError::Stalled { url: place(url) })?;
        let inner = answered.map_err(|error| network(url, error))?;
        Ok(Response {
            http: self,
            inner,
            url: place(url),
            window_waited: Duration::ZERO,
            window_bytes: 0,
        })
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

/// All that both clients have in common.
fn base(tls: Tls<'_>, patience: Patience) -> Result<reqwest::ClientBuilder, Error> {
    let builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .connect_timeout(patience.answer)
        .pool_idle_timeout(KEPT_IDLE);
    let builder = match tls.proxy {
        None => builder,
        Some("none") => builder.no_proxy(),
        Some(url) => builder.proxy(proxy(url)?),
    };
    let builder = builder.user_agent(concat!("motorcade-vehicle/", env!("CARGO_PKG_VERSION")));
    let Some(path) = tls.ca_file else { return Ok(builder) };
    let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(unusable(path))?;
    if certificates.is_empty() {
        return Err(Error::Setting {
            path: path.to_owned(),
            fault: "it has no certificate in PEM".into(),
        });
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// A proxy for all servers but those that the environment's `no_proxy` lists.
fn proxy(url: &str) -> Result<Proxy, HttpError> {
    let proxy = Proxy::all(url).map_err(|source| HttpError::Client { source: Box::new(source) })?;
    Ok(proxy.no_proxy(NoProxy::from_env()))
}

/// The certificate that servers know us by, and its key.
fn identity(tls: Tls<'_>) -> Result<Option<Identity>, Error> {
    let Some(path) = tls.client_cert else { return Ok(None) };
    let mut pem = Zeroizing::new(read(path)?);
    if let Some(key) = tls.client_key {
        pem.push(b'\n');
        pem.extend_from_slice(&Zeroizing::new(read(key)?));
    }
    Identity::from_pem(&pem).map(Some).map_err(unusable(path))
}

impl Response<'_> {
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
        self.http.progress()
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
        let patience = self.http.patience;
        let inner = &mut self.inner;
        let next = async { tokio::time::timeout(patience.stall, inner.chunk()).await };
        let start = Instant::now();
        let next = self.http.wait(next)?;
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

fn network(url: &str, error: reqwest::Error) -> HttpError {
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

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::file("read", path))
}

fn unusable(path: &Path) -> impl Fn(reqwest::Error) -> Error {
    |error| Error::Setting { path: path.to_owned(), fault: error.to_string() }
}

/// How long a connection is kept that nothing is asked over: a little less than Motorcade and nginx
/// keep it, so that none is used in the moment in which they let go of it. TLS sessions are kept
/// for longer, and resumed.
const KEPT_IDLE: Duration = Duration::from_secs(70);
const START: usize = 256; // bytes that tell what a body is
const MAX_PROBLEM_SIZE: u64 = 16 * 1024; // 16 KiB

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
