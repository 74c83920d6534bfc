//! Panics as log lines. The standard library prints them to stderr itself, and would wait for
//! whoever reads that.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::thread;

/// Makes every thread of this process log its panic.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let backtrace = Backtrace::capture(); // which RUST_BACKTRACE asks for
        let backtrace =
            (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            thread = thread.name(),
            location = panic.location().map(tracing::field::display),
            reason = panic.payload_as_str(),
            backtrace,
            "a thread panicked; this is a mistake in Motorcade"
        );
    }));
}
