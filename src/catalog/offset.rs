//! By how much the clock of the database is ahead of this server's, as they were last compared.

use std::sync::atomic::{AtomicI64, Ordering};

/// In milliseconds; 0 before the first comparison.
#[derive(Debug, Default)]
pub(super) struct ClockOffset(AtomicI64);

impl ClockOffset {
    pub(super) fn millis(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, millis: i64) {
        self.0.store(millis, Ordering::Relaxed);
    }
}
