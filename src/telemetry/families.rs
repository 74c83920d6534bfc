//! Creation of metric families under the `motorcade_` prefix, and the labels that come from enums.
//!
//! A family that cannot be created is a mistake in this directory, found by the first test that
//! runs.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Makes counters appear before there is anything to count.
pub(super) fn show(family: &IntCounterVec, labels: &[&str]) {
    labels.iter().for_each(|label| drop(family.with_label_values(&[label])));
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    /// A new image was stored and published.
    Created,
    /// The same image was there already.
    Unchanged,
    /// The request was at fault: wrong digest, conflict, over a limit.
    Rejected,
    /// The server was at fault.
    Failed,
    /// The client went away or stopped sending.
    Cancelled,
}

impl UploadOutcome {
    pub(super) const ALL: [Self; 5] =
        [Self::Created, Self::Unchanged, Self::Rejected, Self::Failed, Self::Cancelled];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Unchanged => "unchanged",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A stage that every upload goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadStage {
    /// Waiting for bytes from the client.
    Receive,
    /// SHA-256 of the plaintext.
    HashPlaintext,
    /// AES-GCM.
    Seal,
    /// SHA-256 of the sealed image.
    HashSealed,
    /// Writing and syncing the blob.
    Write,
    /// Wrapping the data key for every recipient.
    Envelope,
    /// Waiting until the image is in signed metadata.
    Publish,
}

impl UploadStage {
    pub(super) const ALL: [Self; 7] = [
        Self::Receive,
        Self::HashPlaintext,
        Self::Seal,
        Self::HashSealed,
        Self::Write,
        Self::Envelope,
        Self::Publish,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::HashPlaintext => "hash_plaintext",
            Self::Seal => "seal",
            Self::HashSealed => "hash_sealed",
            Self::Write => "write",
            Self::Envelope => "envelope",
            Self::Publish => "publish",
        }
    }
}

/// How a publication of metadata ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicationOutcome {
    /// New metadata is visible.
    Published,
    /// The old metadata still stands.
    Failed,
}

impl PublicationOutcome {
    pub(super) const ALL: [Self; 2] = [Self::Published, Self::Failed];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Failed => "failed",
        }
    }
}

pub(super) fn int_counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::with_opts(opts(name, help)))
}

pub(super) fn int_counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntCounterVec {
    register(registry, IntCounterVec::new(opts(name, help), labels))
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> CounterVec {
    register(registry, CounterVec::new(opts(name, help), labels))
}

pub(super) fn int_gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::with_opts(opts(name, help)))
}

pub(super) fn int_gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(opts(name, help), labels))
}

pub(super) fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    register(registry, Histogram::with_opts(opts))
}

pub(super) fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> HistogramVec {
    let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(opts, labels))
}

/// Adds a new family to the registry.
pub(super) fn register<C>(registry: &Registry, family: prometheus::Result<C>) -> C
where
    C: Collector + Clone + 'static,
{
    let family = family.expect("names, labels and buckets are constants that are well-formed");
    registry.register(Box::new(family.clone())).expect("each name is registered once");
    family
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("motorcade")
}

/// Seconds since 1970; an expiry before that is as expired as one in 1970.
pub(super) fn unix_secs(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs().try_into().unwrap_or(i64::MAX)
}
