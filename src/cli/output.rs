//! What commands say: results on stdout, for people or as JSON, and everything else on stderr.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use motorcade_host::shown::printable;

/// The exit code of a command that failed.
pub(super) const EXIT_FAILURE: u8 = 1; // 2 is clap's, for arguments that can't be understood

/// Whether `--json` was given, for this process.
static JSON: AtomicBool = AtomicBool::new(false);

/// Decides how this process speaks.
pub(super) fn speak_json(json: bool) {
    JSON.store(json, Ordering::Relaxed);
}

/// Whether results are for programs. Then each command writes JSON, a list an item a line, and
/// nothing else.
pub(super) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Tells people on stderr how things go.
pub(super) fn note(line: impl Display) {
    if !is_json() {
        eprintln!("{line}");
    }
}

/// Says what was done: to people on stderr, to programs on stdout.
pub(super) fn report(line: impl Display, json: impl Serialize) -> io::Result<()> {
    if is_json() {
        return print_json(&json);
    }
    eprintln!("{line}");
    Ok(())
}

/// The same, as the end of a command that did it.
pub(super) fn done(line: impl Display, json: impl Serialize) -> anyhow::Result<ExitCode> {
    report(line, json)?;
    Ok(ExitCode::SUCCESS)
}

/// A bar for `total` bytes, which draws on stderr if that is a terminal and nowhere otherwise.
pub(super) fn bytes(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(10));
    let template = "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    bar.set_style(
        ProgressStyle::with_template(template)
            .expect("the template is a constant")
            .progress_chars("=> "),
    );
    bar.set_prefix(label.to_owned());
    bar
}

/// A bar for bytes whose number shows at their end.
pub(super) fn unknown_bytes(label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(10));
    let template = "{prefix:>12} {bytes} {bytes_per_sec}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.set_prefix(label.to_owned());
    bar
}

/// A bar for rows of tables whose number shows at their end.
pub(super) fn rows(label: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(10));
    let template = "{prefix:>12} {pos} rows, {msg}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
    bar.set_prefix(label.to_owned());
    bar
}

/// A bar for `total` seconds, likewise.
pub(super) fn seconds(label: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target(4));
    let template = "{prefix:>12} [{bar:30}] {pos}/{len} s";
    bar.set_style(
        ProgressStyle::with_template(template)
            .expect("the template is a constant")
            .progress_chars("=> "),
    );
    bar.set_prefix(label.to_owned());
    bar
}

fn target(hertz: u8) -> ProgressDrawTarget {
    if is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(hertz) }
}

/// Writes a line to stdout.
///
/// # Errors
///
/// Also when whoever reads it has gone, which `println!` would panic on; [`super::run`] ends
/// quietly then.
pub(super) fn print_line(line: impl Display) -> io::Result<()> {
    use std::io::Write;
    writeln!(io::stdout(), "{line}")
}

/// Writes a line of JSON to stdout, with the members of objects in their order by name.
pub(super) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print_line(serde_json::to_value(value)?)
}

/// A list: a line of JSON an item for programs, columns under a head for people.
pub(super) struct List<const N: usize> {
    columns: [(&'static str, usize); N],
    has_head: bool,
}

impl<const N: usize> List<N> {
    /// A list with these columns: what stands above each, and how wide it is at least.
    pub(super) fn new(columns: [(&'static str, usize); N]) -> Self {
        Self { columns, has_head: false }
    }

    /// Writes an item; `cells` makes its line for people.
    pub(super) fn item<T: Serialize>(
        &mut self,
        item: &T,
        cells: impl FnOnce(&T) -> [String; N],
    ) -> io::Result<()> {
        if is_json() {
            return print_json(item);
        }
        self.head()?;
        print_line(self.line(cells(item)))
    }

    /// Writes the end, which is all of an empty list.
    pub(super) fn end(mut self) -> io::Result<()> {
        if is_json() { Ok(()) } else { self.head() }
    }

    fn head(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_head, true) {
            return Ok(());
        }
        print_line(self.line(self.columns.map(|(name, _)| name.to_owned())))
    }

    fn line(&self, cells: [String; N]) -> String {
        let mut line = String::new();
        for (cell, (name, width)) in cells.into_iter().zip(self.columns) {
            line.push_str(&format!("{:width$}  ", printable(&cell), width = width.max(name.len())));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// A number of things.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A size for people, in the units of the progress bars.
pub(super) fn size(bytes: u64) -> impl Display {
    indicatif::BinaryBytes(bytes)
}

/// A rate for people.
pub(super) fn rate(bytes: u64, took: Duration) -> String {
    let per_second = bytes as f64 / took.as_secs_f64().max(1e-9);
    format!("{}/s", indicatif::BinaryBytes(per_second as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let list = List::new([("PATH", 6), ("VERSION", 0), ("STATE", 0)]);
        assert_eq!(
            list.line(["PATH", "VERSION", "STATE"].map(str::to_owned)),
            "PATH    VERSION  STATE"
        );
        assert_eq!(list.line(["gw/a.b", "1", ""].map(str::to_owned)), "gw/a.b  1");
        assert_eq!(list.line(["a\x1b[2J", "1\n", ""].map(str::to_owned)), "a\\u{1b}[2J  1\\n");
        assert_eq!([count(1, "ECU", "ECUs"), count(0, "ECU", "ECUs")], ["1 ECU", "0 ECUs"]);
    }
}
