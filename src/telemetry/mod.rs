//! Logs, traces and metrics: what an operator sees of a running server.
//!
//! Logs go to stderr. Traces leave by OTLP over HTTP only when an endpoint is configured; without one no exporter,
//! thread or layer exists. Metrics are pulled from [`Metrics::render`]. Nothing here **must** ever see a
//! key, a token or a body.

mod families;
mod logging;
mod metrics;
mod process;
mod trace;

pub use families::{PublicationOutcome, UploadOutcome, UploadStage};
pub use logging::{Error, LogFormat, TelemetryConfig, TelemetryGuard, init};
pub use metrics::{HttpMetrics, Metrics, StageTimer, UploadInProgress};
pub use trace::{ParseTraceparentError, TraceContext, TraceExport, describe_request};
