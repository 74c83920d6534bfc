//! What several commands have in common.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

/// Where the state directory is.
#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    /// State directory of the vehicle
    #[arg(
        long,
        env = "MOTORCADE_VEHICLE_DIR",
        value_name = "DIR",
        default_value = "motorcade-vehicle"
    )]
    pub(super) dir: PathBuf,
}

/// An error and its causes, each once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
