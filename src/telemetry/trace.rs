//! W3C Trace Context (Recommendation, level 1): `traceparent` and `tracestate` of a request.
//!
//! A header that breaks the format is ignored and the request starts a new trace (4.3 of the
//! Recommendation); the `tracestate` alone can be dropped without losing the trace. Ids are made
//! here only when no exporter makes them.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use rand::RngExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Whether spans leave the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceExport {
    /// No endpoint is configured; trace ids appear in logs only.
    Off,
    /// Spans go to an OTLP endpoint.
    Otlp,
}

/// Where a request stands in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, shared by every span in it.
    pub trace_id: TraceId,
    /// The caller's span.
    pub parent_span_id: SpanId,
    /// Of the flags, only "sampled" is known to version 00.
    pub flags: TraceFlags,
    /// What other vendors attached; carried along unread.
    pub state: TraceState,
}

impl TraceContext {
    /// Reads both headers as they came; `None` when there is no usable `traceparent`.
    pub fn from_headers(traceparent: Option<&[u8]>, tracestate: Option<&[u8]>) -> Option<Self> {
        let mut context = Self::parse(traceparent?).ok()?;
        context.state = tracestate.and_then(parse_state).unwrap_or_default();
        Some(context)
    }

    /// Reads a `traceparent` (3.2 of the Recommendation).
    ///
    /// # Errors
    ///
    /// When the value breaks the format, has an all-zero id, or is of version ff. A version later
    /// than 00 may carry more fields, which are skipped.
    pub fn parse(traceparent: &[u8]) -> Result<Self, ParseTraceparentError> {
        let fields = traceparent
            .split_at_checked(TRACEPARENT_LENGTH)
            .ok_or(ParseTraceparentError::Length)?;
        let (fixed, more) = fields;
        let mut fields = fixed.split(|&byte| byte == b'-').map(lower_hex);
        let mut next = |digits: usize| match fields.next().flatten() {
            Some(field) if field.len() == digits => Ok(field),
            _ => Err(ParseTraceparentError::Field),
        };
        let (version, trace_id, span_id, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        match (version, more) {
            ("ff", _) => return Err(ParseTraceparentError::Version),
            ("00", [_, ..]) => return Err(ParseTraceparentError::Length),
            (_, [first, ..]) if *first != b'-' => return Err(ParseTraceparentError::Length),
            _ => {}
        }
        let flags = u8::from_str_radix(flags, 16).map_err(|_| ParseTraceparentError::Field)?;
        let context = Self {
            trace_id: TraceId::from_hex(trace_id).map_err(|_| ParseTraceparentError::Field)?,
            parent_span_id: SpanId::from_hex(span_id).map_err(|_| ParseTraceparentError::Field)?,
            flags: TraceFlags::new(flags) & TraceFlags::SAMPLED,
            state: TraceState::NONE,
        };
        let is_zero =
            context.trace_id == TraceId::INVALID || context.parent_span_id == SpanId::INVALID;
        if is_zero { Err(ParseTraceparentError::ZeroId) } else { Ok(context) }
    }

    /// Starts a new trace, for a request that came without one.
    pub fn new_root() -> Self {
        let mut rng = rand::rng();
        // An all-zero id is invalid.
        let trace_id = rng.random::<u128>().max(1);
        let span_id = rng.random::<u64>().max(1);
        Self {
            trace_id: TraceId::from(trace_id),
            parent_span_id: SpanId::from(span_id),
            flags: TraceFlags::NOT_SAMPLED,
            state: TraceState::NONE,
        }
    }

    /// Ties a new span to its request's trace and returns the trace id to log.
    ///
    /// With an exporter the span becomes a child of `incoming`, or a root whose id the exporter
    /// chose. Without one, the id comes from `incoming` or is made here. **Must** be called once,
    /// right after the span was made.
    pub fn attach(incoming: Option<Self>, span: &Span, export: TraceExport) -> TraceId {
        let known_id = incoming.as_ref().map(|context| context.trace_id);
        if export == TraceExport::Otlp {
            if let Some(incoming) = incoming {
                // This fails for a span that the exporter does not want, which then needs no
                // parent.
                let _ = span.set_parent(Context::new().with_remote_span_context(incoming.into()));
            }
            let exported_id = span.context().span().span_context().trace_id();
            if exported_id != TraceId::INVALID {
                return exported_id;
            }
        }
        known_id.unwrap_or_else(|| Self::new_root().trace_id)
    }
}

/// Names an exported span after its request, which is known in full only when it ends.
pub fn describe_request(span: &Span, method: &str, route: &str, status: u16) {
    span.context().span().update_name(format!("{method} {route}"));
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.status", i64::from(status));
}

impl From<TraceContext> for SpanContext {
    fn from(context: TraceContext) -> Self {
        let TraceContext { trace_id, parent_span_id, flags, state } = context;
        let is_remote = true;
        Self::new(trace_id, parent_span_id, flags, is_remote, state)
    }
}

impl fmt::Display for TraceContext {
    /// Writes a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, parent_span_id, flags, state: _ } = self;
        write!(f, "00-{trace_id}-{parent_span_id}-{flags:02x}")
    }
}

/// Why a `traceparent` is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTraceparentError {
    /// Too short, or longer than its version allows.
    #[error("traceparent has the wrong length")]
    Length,
    /// A field is missing, of the wrong size, or not lower-case hex.
    #[error("traceparent has a malformed field")]
    Field,
    /// Version ff is forbidden.
    #[error("traceparent has the forbidden version ff")]
    Version,
    /// The all-zero trace or span id means "none".
    #[error("traceparent has an all-zero id")]
    ZeroId,
}

fn lower_hex(field: &[u8]) -> Option<&str> {
    let is_lower_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let field = std::str::from_utf8(field).ok()?;
    field.as_bytes().iter().all(is_lower_hex).then_some(field)
}

/// Reads a `tracestate` (3.3 of the Recommendation); one bad member spoils the list.
fn parse_state(value: &[u8]) -> Option<TraceState> {
    let is_printable = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    if value.len() > MAX_STATE || !value.iter().all(is_printable) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

const TRACEPARENT_LENGTH: usize = 55;
/// Longest `tracestate` kept, in bytes; the Recommendation asks for 512 at least.
const MAX_STATE: usize = 4096;

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
