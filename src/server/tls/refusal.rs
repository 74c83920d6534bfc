//! Handshakes that failed: counted by reason, and told of once in a while, however many there are.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{AlertDescription, CertificateError, Error};

use crate::telemetry::Metrics;

/// Counts refused handshakes, and logs one every few seconds.
#[derive(Debug)]
pub(in crate::server) struct Refusals {
    metrics: Arc<Metrics>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Refusals {
    pub(in crate::server) fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections().show_refused_handshakes(&REASONS);
        Self { metrics, told: Mutex::default() }
    }

    /// Counts one, and tells of it if none was told of lately.
    pub(in crate::server) fn add(&self, client: IpAddr, error: &io::Error) {
        let reason = reason(error);
        self.metrics.connections().add_refused_handshake(reason);
        if let Some(untold) = self.turn() {
            tracing::warn!(%client, reason, %error, untold, "TLS handshake refused");
        }
    }

    /// How many were not told of since the last time, if one may be told of now.
    fn turn(&self) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| last.elapsed() < TELL_INTERVAL) {
            told.untold += 1;
            return None;
        }
        told.last = Some(Instant::now());
        Some(std::mem::take(&mut told.untold))
    }
}

/// A few words for a metric's label.
fn reason(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return if error.kind() == io::ErrorKind::TimedOut { "too_slow" } else { "gone" };
    };
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::Revoked => "certificate_revoked",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "certificate_expired"
            }
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => "revocation_list_expired",
            CertificateError::UnknownRevocationStatus => "no_revocation_list_of_its_ca",
            CertificateError::UnknownIssuer => "unknown_ca",
            _ => "certificate_bad",
        },
        Error::InvalidMessage(_) => "not_tls",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "incompatible",
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "client_finds_our_certificate_expired"
        }
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            "client_does_not_trust_our_certificate"
        }
        Error::AlertReceived(_) => "client_refused",
        _ => "other",
    }
}

const TELL_INTERVAL: Duration = Duration::from_secs(10);
const REASONS: [&str; 14] = [
    "certificate_bad",
    "certificate_expired",
    "certificate_revoked",
    "client_does_not_trust_our_certificate",
    "client_finds_our_certificate_expired",
    "client_refused",
    "gone",
    "incompatible",
    "no_revocation_list_of_its_ca",
    "not_tls",
    "other",
    "revocation_list_expired",
    "too_slow",
    "unknown_ca",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_told_of_and_the_others_are_counted() {
        let metrics = Arc::new(Metrics::new("test"));
        let refusals = Refusals::new(Arc::clone(&metrics));
        assert_eq!(refusals.turn(), Some(0));
        assert_eq!((refusals.turn(), refusals.turn()), (None, None));
        refusals.told.lock().unwrap().last = Instant::now().checked_sub(TELL_INTERVAL);
        assert_eq!(refusals.turn(), Some(2));
        refusals.add("192.0.2.1".parse().unwrap(), &io::ErrorKind::TimedOut.into());
        let revoked = Error::InvalidCertificate(CertificateError::Revoked);
        refusals.add("192.0.2.1".parse().unwrap(), &io::Error::other(revoked));
        let text = metrics.render(std::time::SystemTime::now());
        for (reason, count) in [("too_slow", 1), ("certificate_revoked", 1), ("unknown_ca", 0)] {
            let line =
                format!("motorcade_tls_handshakes_refused_total{{reason=\"{reason}\"}} {count}\n");
            assert!(text.contains(&line), "{text}");
        }
    }
}
