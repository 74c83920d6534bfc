//! What bounds the work that one request can cause.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::fleet::{self, KeyChangePolicy, QuarantinePolicy};
use crate::uptane::director::REPORT_EVERY;

/// What bounds the work that one request can cause.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest image in bytes of plaintext; stops an upload from filling the disk.
    pub max_image_size: u64,
    /// Longest pause between two pieces of an upload; stops dead clients from holding memory. There
    /// is no limit on an upload's whole time.
    pub idle_timeout: Duration,
    /// Uploads that are sealed at one time; each holds about 8 MiB, one that can be resumed 16 MiB.
    /// Others wait for as long as the idle timeout.
    pub max_uploads: usize,
    /// How long an upload that can be resumed waits for more.
    pub upload_expiry: Duration,
    /// Free space that uploads leave on the disk, in bytes, so that metadata can still be signed;
    /// if none is said, what that takes (`Images::reserved_space`).
    pub reserved_space: Option<u64>,
    /// How long a vehicle that was heard of may say nothing before it counts as silent (AT-4).
    pub silent_after: Duration,
    /// How often a vehicle reports at least, though nothing has changed; in between it only looks
    /// at its timestamp.
    pub report_every: Duration,
    /// Vehicles whose status stays in memory, up to 4 KiB each: the requests of their polls read
    /// the catalog no more.
    pub vehicles_in_memory: NonZeroUsize,
    /// What puts a vehicle into quarantine.
    pub quarantine_on: QuarantinePolicy,
    /// Whether a person approves each change of an ECU's encryption key.
    pub key_changes: KeyChangePolicy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_image_size: 16 * 1024 * 1024 * 1024, // 16 GiB
            idle_timeout: Duration::from_secs(60),
            max_uploads: 16,
            upload_expiry: Duration::from_secs(24 * 60 * 60),
            reserved_space: None,
            silent_after: Duration::from_secs(7 * 24 * 60 * 60),
            report_every: REPORT_EVERY,
            vehicles_in_memory: fleet::KEPT_BY_DEFAULT,
            quarantine_on: QuarantinePolicy::default(),
            key_changes: KeyChangePolicy::default(),
        }
    }
}
