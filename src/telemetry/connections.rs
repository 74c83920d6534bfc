//! What is counted of connections and of TLS.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::families::{int_counters, int_gauges, show, unix_secs};

/// What is counted of connections and of TLS.
#[derive(Debug)]
pub struct ConnectionMetrics {
    open: IntGaugeVec,
    ended: IntCounterVec,
    refused_handshakes: IntCounterVec,
    refused_heads: IntCounterVec,
    handshakes: IntCounterVec,
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

    /// Counts down to what expires, from `now` in seconds since 1970.
    pub(super) fn refresh(&self, now: i64) {
        for (file, expires) in self.expiries.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.tls_expiry.with_label_values(&[file]).set(expires.saturating_sub(now));
        }
    }
    /// Sets when the first certificate or list of a file of TLS expires; `file` **must** be one of
    /// a few names.
    pub fn set_tls_expiry(&self, file: &'static str, expires: SystemTime) {
        let expires = unix_secs(expires);
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner).insert(file, expires);
    }

    /// Makes the reasons of refused handshakes appear before there is one.
    pub fn show_refused_handshakes(&self, reasons: &[&'static str]) {
        show(&self.refused_handshakes, reasons);
    }

    /// Counts a refused TLS handshake; `reason` **must** be one of a few names.
    pub fn add_refused_handshake(&self, reason: &'static str) {
        self.refused_handshakes.with_label_values(&[reason]).inc();
    }

    /// Makes the kinds of handshakes appear before there is one.
    pub fn show_handshakes(&self) {
        show(&self.handshakes, &["full", "resumed"]);
    }

    /// Counts a TLS handshake; `kind` is `full` or `resumed`.
    pub fn add_handshake(&self, kind: &'static str) {
        self.handshakes.with_label_values(&[kind]).inc();
    }

    /// Makes the reasons of refused heads appear before there is one.
    pub fn show_refused_heads(&self, reasons: &[&'static str]) {
        show(&self.refused_heads, reasons);
    }

    /// Counts a head that can't be read; `reason` **must** be one of a few names.
    pub fn add_refused_head(&self, reason: &'static str) {
        self.refused_heads.with_label_values(&[reason]).inc();
    }

    /// Sets how many connections are at one thing; `phase` **must** be one of a few names.
    pub fn set_connections(&self, phase: &'static str, count: usize) {
        self.open.with_label_values(&[phase]).set(count.try_into().unwrap_or(i64::MAX));
    }

    /// Makes the reasons for which connections are ended appear before there is one.
    pub fn show_endings(&self, reasons: &[&'static str]) {
        show(&self.ended, reasons);
    }

    /// Counts a connection that the server has ended; `reason` **must** be one of a few names.
    pub fn add_ended_connection(&self, reason: &'static str) {
        self.ended.with_label_values(&[reason]).inc();
    }
}
