//! What is counted of connections and of TLS.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::families::{int_counters, int_gauges};

/// Families about connections.
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    pub(super) open: IntGaugeVec,
    pub(super) ended: IntCounterVec,
    pub(super) refused_handshakes: IntCounterVec,
    pub(super) refused_heads: IntCounterVec,
    pub(super) handshakes: IntCounterVec,
    tls_expiry: IntGaugeVec,
    /// When the first certificate or list of each file expires, in seconds since 1970.
    expiries: Mutex<BTreeMap<&'static str, i64>>,
}

impl ConnectionMetrics {
    pub(super) fn register(r: &Registry) -> Self {
        let ended = "Connections that the server ended while it waited for the client, by what it waited for.";
        let expiry = "Seconds until the first certificate or list in a file of TLS expires; negative once it has.";
        Self {
            open: int_gauges(r, "connections", "Connections, by what they are at.", &["phase"]),
            ended: int_counters(r, "connections_ended_total", ended, &["reason"]),
            refused_handshakes: int_counters(
                r,
                "tls_handshakes_refused_total",
                "TLS handshakes that failed.",
                &["reason"],
            ),
            handshakes: int_counters(
                r,
                "tls_handshakes_total",
                "TLS handshakes that were completed, by whether a session was resumed.",
                &["kind"],
            ),
            refused_heads: int_counters(
                r,
                "heads_refused_total",
                "Requests whose head can't be read.",
                &["reason"],
            ),
            tls_expiry: int_gauges(r, "tls_expiry_seconds", expiry, &["file"]),
            expiries: Mutex::default(),
        }
    }

    pub(super) fn set_expiry(&self, file: &'static str, expires: i64) {
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner).insert(file, expires);
    }

    /// Counts down to what expires, from `now` in seconds since 1970.
    pub(super) fn refresh(&self, now: i64) {
        for (file, expires) in self.expiries.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.tls_expiry.with_label_values(&[file]).set(expires.saturating_sub(now));
        }
    }
}
