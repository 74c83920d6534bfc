//! How far a download is, for whoever watches a terminal.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows the progress of one download after the other, or nothing.
#[derive(Debug, Default)]
pub(super) struct Progress {
    is_shown: bool,
    shown_at: Cell<Option<Instant>>,
}

impl Progress {
    /// Shows it if stderr is a terminal.
    pub(super) fn on_terminal() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), shown_at: Cell::new(None) }
    }

    /// So many bytes of a file have come.
    pub(super) fn came(&self, name: &str, bytes: u64, of: u64) {
        let is_due = self.shown_at.get().is_none_or(|at| at.elapsed() >= PAUSE) || bytes == of;
        if self.is_shown && is_due {
            self.shown_at.set(Some(Instant::now()));
            let end = if bytes == of { "\n" } else { "" };
            let _ = write!(std::io::stderr(), "\r\x1b[K{}{end}", line(name, bytes, of)); // a terminal may be gone
        }
    }

    /// What follows is something else.
    pub(super) fn end(&self) {
        if self.is_shown && self.shown_at.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// A name comes from metadata: what a terminal would obey is not shown.
fn line(name: &str, bytes: u64, of: u64) -> String {
    let percent = (u128::from(bytes) * 100).checked_div(u128::from(of)).unwrap_or(100);
    let name: String = name.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
    format!("{percent:3} %  {} of {} MiB  {name}", bytes / MIB, of.div_ceil(MIB))
}

const MIB: u64 = 1024 * 1024;
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_has_come_and_obeys_nobody() {
        assert_eq!(line("gw/1/gw.bin", MIB, 4 * MIB), " 25 %  1 of 4 MiB  gw/1/gw.bin");
        assert_eq!(line("\x1b[2Jevil\n", 0, 0), "100 %  0 of 0 MiB  [2Jevil");
    }
}
