//! Sets up the one `tracing` subscriber: log lines on stderr and, when asked for, spans to an OTLP
//! endpoint.
//!
//! Lines go through a [`Queue`], so that nothing ever waits for whoever reads them, and what came
//! from outside is made visible in them ([`super::escape`]).
//!
//! Reads nothing from the environment: `config` does, and hands over a [`TelemetryConfig`]. The
//! exporter has a plain thread of its own with a blocking HTTP client, so it works whether or not
//! an async runtime is there.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Dispatch, Level, Metadata, Subscriber, warn};
use tracing_subscriber::filter::{FilterFn, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::escape::{TextFields, visible_json};
use super::panics::log_panics;
use super::queue::Queue;
use super::trace::TraceExport;

/// How and where to report.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// Shape of the log lines.
    pub log_format: LogFormat,
    /// Directives such as `info` or `motorcade=debug,warn`; of two that match, the more specific
    /// counts.
    pub log_filter: String,
    /// Base URL of an OTLP/HTTP collector such as `http://localhost:4318`; `None` exports nothing.
    pub otlp_endpoint: Option<String>,
    /// `service.name` of exported spans.
    pub service_name: String,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// Installs the subscriber for the whole process; **must** be called once, before the first log
/// line.
///
/// # Errors
///
/// When the filter or the endpoint cannot be read, or a subscriber is already installed.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, Error> {
    let (dispatch, guard) = build(config)?;
    dispatch.try_init().map_err(Error::AlreadyInstalled)?;
    log_panics();
    Ok(guard)
}

/// Keeps the exporter alive; flushes what it and the log still hold when it is dropped, for as long
/// as that may take.
#[must_use = "dropping the guard ends the export of traces"]
#[derive(Debug)]
pub struct TelemetryGuard {
    exporter: Option<SdkTracerProvider>,
    log: Queue,
}

impl TelemetryGuard {
    /// Whether spans leave the process.
    pub fn trace_export(&self) -> TraceExport {
        match self.exporter {
            Some(_) => TraceExport::Otlp,
            None => TraceExport::Off,
        }
    }
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        if let Some(exporter) = self.exporter.take()
            && let Err(error) = exporter.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            warn!(%error, "failed to export the last spans");
        }
        self.log.flush(LOG_FLUSH_TIMEOUT);
    }
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter cannot be read.
    #[error("failed to read the log filter {filter:?}")]
    Filter {
        /// The filter as configured.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The exporter cannot be built.
    #[error("failed to set up the OTLP exporter for {endpoint}")]
    Exporter {
        /// The endpoint that was tried.
        endpoint: String,
        /// What is wrong with it.
        source: ExporterBuildError,
    },
    /// There is no stderr, or no thread for it.
    #[error("failed to set up the log on stderr")]
    Output(#[source] io::Error),
    /// Another subscriber is installed.
    #[error("failed to install the log subscriber")]
    AlreadyInstalled(#[source] TryInitError),
}

fn build(config: &TelemetryConfig) -> Result<(Dispatch, TelemetryGuard), Error> {
    let filter = EnvFilter::builder()
        .parse(&config.log_filter)
        .map_err(|source| Error::Filter { filter: config.log_filter.clone(), source })?;
    let log = stderr_queue().map_err(Error::Output)?;
    let Some(endpoint) = &config.otlp_endpoint else {
        let dispatch =
            Registry::default().with(filter).with(log_layer(config.log_format, log.clone())).into();
        return Ok((dispatch, TelemetryGuard { exporter: None, log }));
    };
    let provider = span_provider(endpoint, &config.service_name)?;
    let exporter = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("motorcade"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(FilterFn::new(is_exported).with_max_level_hint(Level::DEBUG));
    // Each layer has a filter of its own, so a quiet log does not thin out the traces.
    let lines = log_layer(config.log_format, log.clone()).with_filter(filter);
    let dispatch = Registry::default().with(lines).with(exporter).into();
    let exporter = Some(provider);
    Ok((dispatch, TelemetryGuard { exporter, log }))
}

/// Our spans down to debug, which is where the requests for `/repo` are, and our events down to
/// info.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let most_verbose = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    metadata.target().starts_with("motorcade") && *metadata.level() <= most_verbose
}

/// Not through `io::stderr`: a write that hangs would hold its lock, and whoever else prints would
/// hang with it.
fn stderr_queue() -> io::Result<Queue> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Queue::start(stderr, |lines| warn!(lines, "log lines were dropped, since nobody read them"))
}

fn log_layer<S>(format: LogFormat, queue: Queue) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let is_terminal = io::stderr().is_terminal();
    match (format, is_terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => {
            let layer = fmt::layer().json().with_current_span(false).flatten_event(true);
            layer.with_writer(Lines { queue, shape: Shape::Json }).boxed()
        }
        // On a terminal the layer colours by default, unless NO_COLOR is set.
        (LogFormat::Text | LogFormat::Auto, true) => text_layer(queue).boxed(),
        (LogFormat::Text, false) => text_layer(queue).with_ansi(false).boxed(),
    }
}

fn text_layer<S>(queue: Queue) -> fmt::Layer<S, TextFields, fmt::format::Format, Lines> {
    fmt::layer().fmt_fields(TextFields).with_writer(Lines { queue, shape: Shape::Text })
}

/// Takes whole lines, each in one write, as the layers above it hand them over.
#[derive(Clone, Debug)]
struct Lines {
    queue: Queue,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    Json,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match (self.shape, std::str::from_utf8(line)) {
            (Shape::Json, Ok(text))
                if !text.bytes().all(|byte| byte == b'\n' || (b' '..0x7f).contains(&byte)) =>
            {
                self.queue.push(visible_json(text).as_bytes());
            }
            _ => self.queue.push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn span_provider(endpoint: &str, service_name: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(traces_url(endpoint))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|source| Error::Exporter { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name(service_name.to_owned()).build();
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    Ok(provider)
}

/// The OTLP specification appends the signal's path to a base URL; people configure both forms.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(TRACES_PATH) { base.to_owned() } else { format!("{base}{TRACES_PATH}") }
}

const TRACES_PATH: &str = "/v1/traces";
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for somebody to read the last lines.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a shutdown waits for a collector that does not answer.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
