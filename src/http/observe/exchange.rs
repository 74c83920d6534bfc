//! One request as it is reported: its id, its span, its log line, its metrics.
//!
//! The time reported is that to the head of the response; bodies stream on after that. Requests for
//! `/repo` and `/director`, health checks and scrapes are told of at debug level, so that serving a
//! fleet costs no span and no log line unless asked for; their server errors and refused logins are
//! told of all the same. Routes appear by their pattern, **never** by the path: a path can name a
//! person's vehicle, and anybody can make up new ones. For the same reason a refusal appears by its
//! code.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::{Error, InternalError};
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use prometheus::IntGauge;
use tracing::field::{Empty, display};
use tracing::{Span, debug, debug_span, error, error_span, info, info_span};

use super::client_address::client_address;
use super::request_id::{RequestId, X_REQUEST_ID};
use crate::http::error::ProblemCode;
use crate::http::identity::IdentityConfig;
use crate::http::rfc::conditional::joined_lines;
use crate::telemetry::{HttpMetrics, Metrics, TraceContext, TraceExport, describe_request};

/// What all requests of one worker thread share.
#[derive(Debug)]
pub(in crate::http) struct Worker {
    metrics: Arc<Metrics>,
    in_flight: IntGauge,
    export: TraceExport,
    /// Looking handles up in the registry takes locks that other workers want, too.
    handles: RefCell<HashMap<(String, &'static str, u16), HttpMetrics>>,
}

impl Worker {
    /// A worker that has counted nothing yet.
    pub(in crate::http) fn new(metrics: Arc<Metrics>, export: TraceExport) -> Self {
        Self { in_flight: metrics.http_in_flight(), metrics, export, handles: RefCell::default() }
    }

    fn count(&self, route: String, method: &'static str, status: u16, took: Duration) {
        let mut handles = self.handles.borrow_mut();
        handles
            .entry((route, method, status))
            .or_insert_with_key(|(route, method, status)| self.metrics.http(route, method, *status))
            .add(took);
    }
}

/// One request from its head to the head of its response.
#[derive(Debug)]
pub(in crate::http) struct Exchange {
    worker: Rc<Worker>,
    request_id: RequestId,
    method: &'static str,
    /// The pattern, where it is looked up before routing.
    route: Option<String>,
    volume: Volume,
    /// Where the request comes from, if it is one that may have to be told of.
    address: Option<IpAddr>,
    span: Span,
    started: Instant,
    is_over: bool,
}

/// How much a request has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Volume {
    /// At debug level.
    Quiet,
    /// At info level.
    Normal,
    /// At error level.
    Failure,
}

impl Exchange {
    /// Starts the clock and opens the span.
    pub(in crate::http) fn begin(worker: &Rc<Worker>, request: &ServiceRequest) -> Self {
        let request_id = RequestId::of(request.headers());
        let volume = volume_of(request.path());
        // For a quiet request the pattern is looked up after routing, which has found it by then.
        let route = match volume {
            Volume::Quiet => None,
            Volume::Normal | Volume::Failure => request.match_pattern(),
        };
        let method = method_label(request.method());
        let span = open_span(volume, request_id, method, route.as_deref(), worker.export);
        if !span.is_disabled() {
            let incoming = trace_context(request.headers());
            let trace_id = TraceContext::attach(incoming, &span, worker.export);
            span.record("trace_id", display(trace_id));
        }
        worker.in_flight.inc();
        Self {
            worker: Rc::clone(worker),
            request_id,
            method,
            route,
            volume,
            address: (volume == Volume::Normal).then(|| address_of(request.request())).flatten(),
            span,
            started: Instant::now(),
            is_over: false,
        }
    }

    /// The id that the request came with or got.
    pub(in crate::http) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The span that everything on behalf of the request happens in.
    pub(in crate::http) fn span(&self) -> &Span {
        &self.span
    }

    /// Reports a response and puts the request's id on it.
    pub(in crate::http) fn end<B>(
        &mut self,
        mut response: ServiceResponse<B>,
    ) -> ServiceResponse<B> {
        if self.volume == Volume::Quiet {
            self.route = response.request().match_pattern();
            self.address = is_refused_login(response.status().as_u16())
                .then(|| address_of(response.request()))
                .flatten();
        }
        self.report(response.response(), response.response().error());
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, self.request_id.to_header_value());
        response
    }

    /// Other middleware can answer with an error that becomes a response only further out.
    pub(in crate::http) fn end_with_error(&mut self, error: Error) -> Error {
        let mut response = error.error_response();
        self.report(&response, Some(&error));
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, self.request_id.to_header_value());
        InternalError::from_response(error, response).into()
    }

    fn report<B>(&mut self, response: &HttpResponse<B>, error: Option<&Error>) {
        let status = response.status().as_u16();
        let code = response.extensions().get().map(|ProblemCode(code)| *code);
        // A server's error is ours and not what a client has sent.
        self.report_as(status, code, error.filter(|_| status >= 500 && code.is_none()));
    }

    fn report_as(&mut self, status: u16, code: Option<&'static str>, error: Option<&Error>) {
        self.is_over = true;
        let took = self.started.elapsed();
        let route = self.route.take().unwrap_or_else(|| UNMATCHED.to_owned());
        self.log(&route, status, took, code, error);
        self.worker.count(route, self.method, status, took);
    }

    fn log(
        &self,
        route: &str,
        status: u16,
        took: Duration,
        code: Option<&'static str>,
        error: Option<&Error>,
    ) {
        let (method, export) = (self.method, self.worker.export);
        let volume = match (status, self.volume) {
            (500.., _) => Volume::Failure,
            (_, Volume::Quiet) if is_refused_login(status) => Volume::Normal,
            (_, volume) => volume,
        };
        let span = if self.span.is_disabled() && volume != self.volume {
            // It is told of although others of its kind are not, and needs its id and route beside
            // it.
            open_span(volume, self.request_id, method, Some(route), export)
        } else {
            self.span.clone()
        };
        span.record("http.route", route);
        if export == TraceExport::Otlp {
            describe_request(&span, method, route, status);
        }
        let duration_ms = took.as_micros() as f64 / 1000.0;
        let is_upload = method == "PUT" && route.starts_with("/api/v1/images/")
            || ["POST", "PATCH"].contains(&method) && route.starts_with("/api/v1/uploads");
        let address = self.address.filter(|_| is_upload || is_refused_login(status)).map(display);
        let error = error.map(display);
        macro_rules! log_at {
            ($level:ident) => {
                $level!(
                    http.status = status,
                    duration_ms,
                    code,
                    client.address = address,
                    error,
                    "{method} {route} answered {status}"
                )
            };
        }
        // Within the span, not only with it as a parent: the JSON format lists the spans that are
        // entered.
        span.in_scope(|| match volume {
            Volume::Quiet => log_at!(debug),
            Volume::Normal => log_at!(info),
            Volume::Failure => log_at!(error),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.worker.in_flight.dec();
        if !self.is_over {
            self.report_as(CLIENT_CLOSED_REQUEST, None, None);
        }
    }
}

fn volume_of(path: &str) -> Volume {
    let is_frequent = matches!(path, "/healthz" | "/readyz" | "/metrics");
    let is_quiet = is_frequent || path.starts_with("/repo/") || path.starts_with("/director/");
    if is_quiet { Volume::Quiet } else { Volume::Normal }
}

/// Whether somebody was not recognized, or may not do this.
fn is_refused_login(status: u16) -> bool {
    matches!(status, 401 | 403)
}

fn address_of(request: &HttpRequest) -> Option<IpAddr> {
    let identity = request.app_data::<web::Data<IdentityConfig>>();
    client_address(
        request.peer_addr(),
        request.headers(),
        identity.map(|identity| identity.get_ref()),
    )
}

/// A client can make up methods, and each would be a series of its own.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

fn open_span(
    volume: Volume,
    request_id: RequestId,
    method: &'static str,
    route: Option<&str>,
    export: TraceExport,
) -> Span {
    let kind = (export == TraceExport::Otlp).then_some("server");
    macro_rules! request_span {
        ($span:ident) => {
            $span!("request", %request_id, trace_id = Empty, http.method = method, http.route = route, otel.kind = kind)
        };
    }
    match volume {
        Volume::Quiet => request_span!(debug_span),
        Volume::Normal => request_span!(info_span),
        Volume::Failure => request_span!(error_span),
    }
}

/// More than one `traceparent` is as good as none (W3C Trace Context, 3.2).
fn trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(TRACEPARENT);
    let (Some(parent), None) = (parents.next(), parents.next()) else {
        return None;
    };
    let state = joined_lines(headers, TRACESTATE);
    TraceContext::from_headers(Some(parent.as_bytes()), state.as_deref())
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The route of a request that no route matches, or that ended before one did.
const UNMATCHED: &str = "unmatched";
/// What nginx calls a request whose client went away before the answer; also one that a shutdown
/// cut off.
const CLIENT_CLOSED_REQUEST: u16 = 499;
