//! The `motorcade-vehicle` binary: a reference Primary with its Secondaries, and a TUF client.

use std::process::ExitCode;

use clap::Parser;
use motorcade::vehicle::cli;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
