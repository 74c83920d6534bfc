//! What is counted of keys that may be elsewhere.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, Registry};

use super::families::{histograms, int_counters, show};

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyOperation {
    /// The escrow key wraps a content encryption key.
    Wrap,
    /// The escrow key unwraps one.
    Unwrap,
}

impl KeyOperation {
    const ALL: [Self; 2] = [Self::Wrap, Self::Unwrap];

    fn label(self) -> &'static str {
        match self {
            Self::Wrap => "escrow_wrap",
            Self::Unwrap => "escrow_unwrap",
        }
    }
}

/// Where a role key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBackend {
    /// In a file.
    File,
    /// In a token.
    Pkcs11,
    /// In AWS KMS.
    AwsKms,
}

impl KeyBackend {
    const ALL: [Self; 3] = [Self::File, Self::Pkcs11, Self::AwsKms];

    fn label(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Pkcs11 => "pkcs11",
            Self::AwsKms => "aws_kms",
        }
    }
}

/// What is counted of keys that may be elsewhere.
#[derive(Debug)]
pub struct KeyMetrics {
    durations: HistogramVec,
    failures: IntCounterVec,
    signatures: HistogramVec,
    unsigned: IntCounterVec,
}

impl KeyMetrics {
    pub(super) fn register(r: &Registry) -> Self {
        let durations = "Time that a key's backend took, failures included.";
        let failures = "Times that a key's backend failed.";
        let durations =
            histograms(r, "key_operation_duration_seconds", durations, &BUCKETS, &["operation"]);
        let failures = int_counters(r, "key_operation_failures_total", failures, &["operation"]);
        show(&failures, &KeyOperation::ALL.map(KeyOperation::label));
        for operation in KeyOperation::ALL {
            durations.with_label_values(&[operation.label()]);
        }
        let signatures = "Time that a role key took for a signature, failures included.";
        let unsigned = "Signatures that a role key did not make.";
        let signatures =
            histograms(r, "signature_duration_seconds", signatures, &BUCKETS, &["backend"]);
        let unsigned = int_counters(r, "signature_failures_total", unsigned, &["backend"]);
        show(&unsigned, &KeyBackend::ALL.map(KeyBackend::label));
        for backend in KeyBackend::ALL {
            signatures.with_label_values(&[backend.label()]);
        }
        Self { durations, failures, signatures, unsigned }
    }

    /// Counts a signature of a role key.
    pub fn add_signature(&self, backend: KeyBackend, took: Duration) {
        self.signatures.with_label_values(&[backend.label()]).observe(took.as_secs_f64());
    }

    /// Counts one that failed, besides [`Self::add_signature`].
    pub fn add_signature_failure(&self, backend: KeyBackend) {
        self.unsigned.with_label_values(&[backend.label()]).inc();
    }

    /// Counts a use of a key.
    pub fn add(&self, operation: KeyOperation, took: Duration) {
        self.durations.with_label_values(&[operation.label()]).observe(took.as_secs_f64());
    }

    /// Counts a use that failed, besides [`Self::add`].
    pub fn add_failure(&self, operation: KeyOperation) {
        self.failures.with_label_values(&[operation.label()]).inc();
    }
}

/// In seconds: from a key in memory to an HSM that does not answer.
const BUCKETS: [f64; 9] = [0.000_01, 0.000_1, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0, 10.0];
