//! What the kernel says of this process, under the names that every Prometheus client uses.
//!
//! The prometheus crate has the same behind a feature, but with a second copy of rustix and a whole
//! reader of `/proc`. Where there is no `/proc` the values stay zero.

use std::fs;

use prometheus::{Counter, IntCounter, IntGauge, Registry};
use rustix::time::{ClockId, clock_gettime};

use super::families::{int_counter, register};
use super::queue::dropped_lines;

/// Gauges that are read afresh at every scrape.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    resident_memory: IntGauge,
    open_fds: IntGauge,
    cpu_seconds: Counter,
    log_lines_dropped: IntCounter,
}

impl ProcessMetrics {
    /// Creates the families.
    pub(super) fn register(registry: &Registry) -> Self {
        let (memory, fds) = ("Resident memory size in bytes.", "Number of open file descriptors.");
        let cpu = "Total user and system CPU time spent in seconds.";
        Self {
            resident_memory: register(
                registry,
                IntGauge::new("process_resident_memory_bytes", memory),
            ),
            open_fds: register(registry, IntGauge::new("process_open_fds", fds)),
            cpu_seconds: register(registry, Counter::new("process_cpu_seconds_total", cpu)),
            log_lines_dropped: int_counter(
                registry,
                "log_lines_dropped_total",
                "Log lines that nobody read in time.",
            ),
        }
    }

    /// Reads the current values.
    pub(super) fn refresh(&self) {
        if let Some(bytes) = resident_bytes() {
            self.resident_memory.set(bytes);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory being read.
            let open = entries.count().saturating_sub(1);
            self.open_fds.set(open.try_into().unwrap_or(i64::MAX));
        }
        let spent = clock_gettime(ClockId::ProcessCPUTime);
        let spent = spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9;
        // Two scrapes at once can read the clock in the wrong order, and a counter never goes back.
        self.cpu_seconds.inc_by((spent - self.cpu_seconds.get()).max(0.0));
        self.log_lines_dropped.inc_by(dropped_lines().saturating_sub(self.log_lines_dropped.get()));
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
