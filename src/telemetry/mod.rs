//! Logs, traces and metrics: what an operator sees of a running server.
//!
//! Logs go to stderr. Traces leave by OTLP over HTTP only when an endpoint is configured; without
//! one no exporter, thread or layer exists. Metrics are pulled from [`Metrics::render`]. Nothing
//! here **must** ever see a key, a token or a body.

mod connections;
mod escape;
mod families;
mod keys;
mod logging;
mod metrics;
mod panics;
mod process;
mod queue;
mod trace;

pub use connections::ConnectionMetrics;
pub use families::{PublicationOutcome, UploadOutcome, UploadStage};
pub use keys::{KeyBackend, KeyMetrics, KeyOperation};
pub use logging::{Error, LogFormat, TelemetryConfig, TelemetryGuard, init};
pub use metrics::{HttpMetrics, Metrics, StageTimer, UploadInProgress};
pub use trace::{ParseTraceparentError, TraceContext, TraceExport, describe_request};

/// An error and its causes on one line, each once: what a log needs of it.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            cause = error.source();
        }
        Ok(())
    }
}

/// Makes a test that captures its own thread's log see all of it.
///
/// As long as a process has one subscriber, tracing asks that of whichever thread comes to an event
/// first whether anybody wants it, ever. In a test without a subscriber the answer is no. With this
/// one there are always two.
#[cfg(test)]
pub(crate) fn ask_all_subscribers() {
    static OTHER: std::sync::LazyLock<tracing::Dispatch> =
        std::sync::LazyLock::new(|| tracing_subscriber::Registry::default().into());
    std::sync::LazyLock::force(&OTHER);
}
