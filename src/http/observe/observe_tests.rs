//! The middleware around a small application: what the client, the log and a scrape see.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::SystemTime;

use actix_web::error::{ErrorInternalServerError, ErrorUnauthorized};
use actix_web::middleware::{Next, from_fn};
use actix_web::test::{TestRequest, call_service, init_service, try_call_service};
use actix_web::{App, HttpRequest, HttpResponse, web};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::request_id::{RequestId, X_REQUEST_ID};
use super::*;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(filter: &str) -> (Self, DefaultGuard) {
        crate::telemetry::ask_all_subscribers();
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .without_time()
            .with_writer(log.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        (log, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

async fn reply(request: HttpRequest) -> HttpResponse {
    let stored = request.extensions().get::<RequestId>().copied();
    assert_eq!(stored, RequestId::current());
    tracing::info!("at work");
    HttpResponse::Ok().body(stored.unwrap().to_string())
}

async fn fail() -> Result<HttpResponse, Error> {
    Err(ErrorInternalServerError("disk on fire"))
}

async fn reject(
    request: ServiceRequest,
    next: Next<impl actix_web::body::MessageBody>,
) -> Result<ServiceResponse<impl actix_web::body::MessageBody>, Error> {
    if request.headers().contains_key("x-reject") {
        return Err(ErrorUnauthorized("no token"));
    }
    next.call(request).await
}

macro_rules! observed_app {
    ($metrics:expr) => {
        init_service(
            App::new()
                .wrap(from_fn(reject))
                .wrap(Observe::new(Arc::clone($metrics), TraceExport::Off))
                .service(
                    web::scope("/api/v1")
                        .route("/images/{path:.*}", web::get().to(reply))
                        .route("/broken", web::get().to(fail)),
                )
                .route("/repo/broken", web::get().to(fail))
                .route("/repo/{path:.*}", web::to(reply)),
        )
        .await
    };
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("1"))
}

#[track_caller]
fn check(metrics: &Metrics, expected: &str) {
    let text = metrics.render(SystemTime::UNIX_EPOCH);
    assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
}

#[actix_web::test]
async fn a_good_request_id_comes_back_and_a_bad_one_is_replaced() {
    let app = observed_app!(&metrics());
    for (sent, comes_back) in [(Some("ci-job.42"), true), (Some("a b"), false), (None, false)] {
        let mut request = TestRequest::get().uri("/repo/timestamp.json");
        if let Some(id) = sent {
            request = request.insert_header((X_REQUEST_ID, id));
        }
        let response = call_service(&app, request.to_request()).await;
        let id = response.headers().get(X_REQUEST_ID).unwrap().to_str().unwrap().to_owned();
        assert_eq!(Some(id.as_str()) == sent, comes_back);
        assert!(comes_back || id.len() == 32);
        assert_eq!(actix_web::test::read_body(response).await, id);
    }
}

#[actix_web::test]
async fn requests_are_counted_by_pattern() {
    let metrics = metrics();
    let app = observed_app!(&metrics);
    for uri in ["/repo/a", "/repo/b", "/api/v1/images/gw/1", "/nowhere/1", "/repox", "/api/v1/x"] {
        call_service(&app, TestRequest::get().uri(uri).to_request()).await;
    }
    let made_up = actix_web::http::Method::from_bytes(b"BREW").unwrap();
    call_service(&app, TestRequest::with_uri("/repo/c").method(made_up).to_request()).await;

    let count = |method: &str, route: &str, status: u16, count: u64| {
        let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
        check(&metrics, &format!("motorcade_http_requests_total{{{labels}}} {count}"));
    };
    count("GET", "/repo/{path:.*}", 200, 2);
    count("OTHER", "/repo/{path:.*}", 200, 1);
    count("GET", "/api/v1/images/{path:.*}", 200, 1);
    count("GET", "unmatched", 404, 3);
    check(&metrics, "motorcade_http_requests_in_flight 0");
    assert!(!metrics.render(SystemTime::UNIX_EPOCH).contains("BREW"));
}

#[actix_web::test]
async fn an_api_request_is_one_line_with_its_trace() {
    let (log, _guard) = Log::capture("info");
    let app = observed_app!(&metrics());
    let request = TestRequest::get()
        .uri("/api/v1/images/gw/secret-vin")
        .insert_header((X_REQUEST_ID, "ci-1"))
        .insert_header(("traceparent", TRACEPARENT));
    call_service(&app, request.to_request()).await;

    let text = log.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("at work"));
    assert!(lines[1].contains("GET /api/v1/images/{path:.*} answered 200"), "{text}");
    assert!(lines[1].contains("http.status=200 duration_ms="), "{text}");
    for line in lines {
        assert!(line.trim_start().starts_with("INFO request{request_id=ci-1 "), "{text}");
        assert!(line.contains(&format!("trace_id={TRACE_ID}")), "{text}");
        assert!(
            line.contains("http.method=\"GET\" http.route=\"/api/v1/images/{path:.*}\""),
            "{text}"
        );
        assert!(!line.contains("secret-vin"), "{text}");
    }
}

#[actix_web::test]
async fn two_traceparents_are_as_good_as_none() {
    let (log, _guard) = Log::capture("info");
    let app = observed_app!(&metrics());
    let request = TestRequest::get()
        .uri("/api/v1/images/gw")
        .append_header(("traceparent", TRACEPARENT))
        .append_header(("traceparent", TRACEPARENT));
    call_service(&app, request.to_request()).await;
    assert!(log.text().contains("trace_id=") && !log.text().contains(TRACE_ID), "{}", log.text());
}

#[actix_web::test]
async fn the_repository_is_quiet_until_it_fails() {
    let (log, _guard) = Log::capture("info");
    let app = observed_app!(&metrics());
    let get = |uri| TestRequest::get().uri(uri).insert_header((X_REQUEST_ID, "v-1")).to_request();
    call_service(&app, get("/repo/none")).await;
    assert!(!log.text().contains("answered") && !log.text().contains("request{"), "{}", log.text());
    call_service(&app, get("/repo/broken")).await;
    let text = log.text();
    let line = text.lines().last().unwrap();
    assert!(line.starts_with("ERROR request{request_id=v-1 "), "{text}");
    assert!(line.contains("GET /repo/broken answered 500"), "{text}");
    assert!(line.contains("error=disk on fire"), "{text}");
}

#[actix_web::test]
async fn a_failure_is_told_of_even_when_only_errors_are() {
    let (log, _guard) = Log::capture("error");
    let app = observed_app!(&metrics());
    let request = TestRequest::get().uri("/api/v1/broken").insert_header((X_REQUEST_ID, "x-1"));
    call_service(&app, request.to_request()).await;
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("request_id=x-1") && text.contains("http.route=\"/api/v1/broken\""),
        "{text}"
    );
}

#[actix_web::test]
async fn the_repository_can_be_heard_at_debug_level() {
    let (log, _guard) = Log::capture("debug");
    let app = observed_app!(&metrics());
    call_service(&app, TestRequest::get().uri("/repo/1.root.json").to_request()).await;
    assert!(log.text().contains("DEBUG request{"), "{}", log.text());
    assert!(log.text().contains("GET /repo/{path:.*} answered 200"), "{}", log.text());
}

#[actix_web::test]
async fn an_error_from_other_middleware_gets_an_id_too() {
    let metrics = metrics();
    let app = observed_app!(&metrics);
    let request = TestRequest::get()
        .uri("/repo/a")
        .insert_header(("x-reject", "1"))
        .insert_header((X_REQUEST_ID, "ci-2"));
    let error = try_call_service(&app, request.to_request()).await.err().unwrap();
    let response = error.error_response();
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers().get(X_REQUEST_ID).unwrap(), "ci-2");
    let labels = "method=\"GET\",route=\"unmatched\",status=\"401\"";
    check(&metrics, &format!("motorcade_http_requests_total{{{labels}}} 1"));
}

#[actix_web::test]
async fn a_client_that_leaves_is_counted_and_no_longer_in_flight() {
    let metrics = metrics();
    let app = init_service(
        App::new()
            .wrap(Observe::new(Arc::clone(&metrics), TraceExport::Off))
            .route("/api/v1/images", web::put().to(std::future::pending::<HttpResponse>)),
    )
    .await;
    let request = TestRequest::put().uri("/api/v1/images").to_request();
    let mut response = Box::pin(app.call(request));
    assert!(futures_util::poll!(&mut response).is_pending());
    check(&metrics, "motorcade_http_requests_in_flight 1");
    drop(response);
    check(&metrics, "motorcade_http_requests_in_flight 0");
    let labels = "method=\"PUT\",route=\"/api/v1/images\",status=\"499\"";
    check(&metrics, &format!("motorcade_http_requests_total{{{labels}}} 1"));
}
