//! What is done when the process is told to end: whatever holds plaintext or gigabytes goes first.

use std::fs;
use std::io;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the process is told to end, and returns the exit code that says so.
///
/// # Errors
///
/// [`io::Error`] if the signals can't be waited for.
pub(super) fn told_to_end() -> io::Result<impl Future<Output = u8>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => exit_code(SignalKind::hangup()),
            _ = interrupt.recv() => exit_code(SignalKind::interrupt()),
            _ = terminate.recv() => exit_code(SignalKind::terminate()),
        }
    })
}

/// As a shell has it.
fn exit_code(signal: SignalKind) -> u8 {
    u8::try_from(128 + signal.as_raw_value()).unwrap_or(u8::MAX)
}

/// Has `path` removed before a signal ends the process, by a thread of its own.
///
/// # Errors
///
/// [`io::Error`] if there can't be such a thread.
pub(super) fn remove_at_end(path: PathBuf) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let end = told_to_end()?;
    drop(context);
    std::thread::spawn(move || {
        let code = runtime.block_on(end);
        let _ = fs::remove_file(path); // the process ends, whether or not it was there
        std::process::exit(code.into());
    });
    Ok(())
}
