//! Export to a collector on loopback, and what is refused at the start.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use tracing::{info, info_span, trace_span};

use super::*;
use crate::telemetry::{TraceContext, describe_request};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn config() -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Auto,
        log_filter: "off".to_owned(),
        otlp_endpoint: None,
        service_name: "motorcade-test".to_owned(),
    }
}

/// What a collector received.
struct Export {
    head: String,
    body: Vec<u8>,
}

impl Export {
    fn contains(&self, bytes: &[u8]) -> bool {
        self.body.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// A collector that takes everything; one thread serves its connections in turn.
fn collector() -> (String, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, exports) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = sender.send(receive(stream.unwrap()));
        }
    });
    (endpoint, exports)
}

fn receive(stream: TcpStream) -> Export {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0);
    }
    head.make_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.into_inner().write_all(answer.as_bytes()).unwrap();
    Export { head, body }
}

fn export_one_request(endpoint: String, incoming: Option<TraceContext>) -> String {
    let config = TelemetryConfig { otlp_endpoint: Some(endpoint), ..config() };
    crate::telemetry::ask_all_subscribers();
    let (dispatch, guard) = build(&config).unwrap();
    assert_eq!(guard.trace_export(), TraceExport::Otlp);
    let trace_id = tracing::dispatcher::with_default(&dispatch, || {
        let span =
            info_span!(target: "motorcade::http", "request", http.route = tracing::field::Empty);
        let trace_id = TraceContext::attach(incoming, &span, TraceExport::Otlp);
        let _entered = span.enter();
        trace_span!(target: "motorcade::http", "too_fine").in_scope(|| ());
        info_span!(target: "elsewhere", "not_ours").in_scope(|| ());
        info!(target: "motorcade::http", "at work");
        span.record("http.route", "/repo/{path}");
        describe_request(&span, "GET", "/repo/{path}", 206);
        trace_id
    });
    drop(guard);
    trace_id.to_string()
}

#[test]
fn spans_reach_the_collector_under_their_remote_parent() {
    let (endpoint, exports) = collector();
    let incoming = TraceContext::parse(TRACEPARENT.as_bytes()).ok();
    let trace_id = export_one_request(endpoint, incoming);
    assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");

    let export = exports.recv().unwrap();
    assert!(export.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", export.head);
    assert!(export.head.contains("content-type: application/x-protobuf\r\n"), "{}", export.head);
    for expected in ["motorcade-test", "GET /repo/{path}", "http.route", "http.status", "at work"] {
        assert!(export.contains(expected.as_bytes()), "{expected}");
    }
    assert!(export.contains(&hex::decode(&trace_id).unwrap()));
    assert!(export.contains(&hex::decode("00f067aa0ba902b7").unwrap()));
    assert!(!export.contains(b"too_fine") && !export.contains(b"not_ours"));
}

#[test]
fn a_request_without_a_trace_starts_one_that_is_logged_and_exported() {
    let (endpoint, exports) = collector();
    let trace_id = export_one_request(format!("{endpoint}/v1/traces/"), None);
    assert_ne!(trace_id, "0".repeat(32));
    let export = exports.recv().unwrap();
    assert!(export.head.starts_with("post /v1/traces http/1.1\r\n"), "{}", export.head);
    assert!(export.contains(&hex::decode(&trace_id).unwrap()));
}

#[actix_web::test]
async fn export_works_from_inside_a_runtime() {
    let (endpoint, exports) = collector();
    export_one_request(endpoint, None);
    assert!(!exports.recv().unwrap().body.is_empty());
}

#[test]
fn a_caller_that_does_not_sample_is_not_exported() {
    let (endpoint, exports) = collector();
    let unsampled = TRACEPARENT.replace("-01", "-00");
    let trace_id = export_one_request(endpoint, TraceContext::parse(unsampled.as_bytes()).ok());
    assert_eq!(trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(exports.try_recv().is_err());
}

#[test]
fn a_dead_collector_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    export_one_request(endpoint, None);
}

/// What a log has received.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<u8>>>);

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(
    layer: impl FnOnce(Queue) -> Box<dyn Layer<Registry> + Send + Sync>,
    log: impl FnOnce(),
) -> String {
    crate::telemetry::ask_all_subscribers();
    let received = Received::default();
    let queue = Queue::start(received.clone(), |_| ()).unwrap();
    tracing::subscriber::with_default(Registry::default().with(layer(queue.clone())), log);
    queue.flush(Duration::from_secs(20));
    let bytes = received.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn log_what_came_from_outside() {
    let text = "x\nforged line\u{1b}[31m\u{9b}31m level=ERROR";
    let error = io::Error::other(text);
    let span = info_span!("request", shown = %text, debugged = ?text);
    span.in_scope(
        || info!(shown = %text, as_text = text, error = %error, number = 7, "at work on {text}"),
    );
}

#[test]
fn no_field_of_a_text_line_is_left_by_its_value() {
    let text =
        logged(|queue| text_layer(queue).with_ansi(false).boxed(), log_what_came_from_outside);
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.contains(char::is_control), "{line:?}");
    let value = r#""x\nforged line\u{1b}[31m\u{9b}31m level=ERROR""#;
    for field in [
        format!("{{shown={value} debugged={value}}}"),
        format!(" shown={value} as_text={value} error={value} number=7"),
    ] {
        assert!(line.contains(&field), "{field} is not in {line}");
    }
    assert!(line.contains(r"at work on x\nforged line\u{1b}[31m"), "{line}");
}

#[test]
fn colours_are_the_only_thing_that_a_terminal_obeys() {
    let text =
        logged(|queue| text_layer(queue).with_ansi(true).boxed(), log_what_came_from_outside);
    assert_eq!(text.matches('\n').count(), 1, "{text:?}");
    assert!(text.contains("\u{1b}[3mshown\u{1b}[0m"), "{text:?}");
    assert!(!text.contains("\u{1b}[31m") && !text.contains('\u{9b}'), "{text:?}");
}

#[test]
fn json_lines_have_no_control_characters_either() {
    let json = logged(|queue| log_layer(LogFormat::Json, queue), log_what_came_from_outside);
    let line = json.strip_suffix('\n').unwrap();
    assert!(!line.contains(char::is_control), "{line:?}");
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["shown"], "x\nforged line\u{1b}[31m\u{9b}31m level=ERROR");
    assert_eq!(event["spans"][0]["shown"], event["shown"]);
}

#[test]
fn nothing_is_exported_unless_asked_for() {
    let (_, guard) = build(&config()).unwrap();
    assert_eq!(guard.trace_export(), TraceExport::Off);
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let filter = TelemetryConfig { log_filter: "motorcade=loud".to_owned(), ..config() };
    let error = build(&filter).unwrap_err();
    assert!(matches!(error, Error::Filter { .. }));
    assert_eq!(error.to_string(), "failed to read the log filter \"motorcade=loud\"");

    let endpoint = TelemetryConfig { otlp_endpoint: Some("not a url".to_owned()), ..config() };
    let error = build(&endpoint).unwrap_err();
    assert!(matches!(error, Error::Exporter { .. }));
    assert_eq!(error.to_string(), "failed to set up the OTLP exporter for not a url");
}
