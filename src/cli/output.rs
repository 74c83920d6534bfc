//! Progress bars: rate and time left on long work, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for `total` bytes, which draws on stderr if that is a terminal and nowhere otherwise.
pub(super) fn bytes(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    let template = "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> "));
    bar.set_prefix(label.to_owned());
    bar
}

/// A bar for `total` seconds, likewise.
pub(super) fn seconds(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(4));
    let template = "{prefix:>12} [{bar:30}] {pos}/{len} s";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> "));
    bar.set_prefix(label.to_owned());
    bar
}

/// Writes a line to stdout.
///
/// # Errors
///
/// Also when whoever reads it has gone, which `println!` would panic on; [`super::run`] ends quietly then.
pub(super) fn print_line(line: impl std::fmt::Display) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}")
}

/// A size for people, in the units of the progress bars.
pub(super) fn size(bytes: u64) -> impl std::fmt::Display {
    indicatif::BinaryBytes(bytes)
}

/// A rate for people.
pub(super) fn rate(bytes: u64, took: Duration) -> String {
    let per_second = bytes as f64 / took.as_secs_f64().max(1e-9);
    format!("{}/s", indicatif::BinaryBytes(per_second as u64))
}
