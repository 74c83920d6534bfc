//! The `motorcade` binary: server and admin command line.

use std::process::ExitCode;

use clap::Parser;
use motorcade::cli;

fn main() -> ExitCode {
    cli::run(cli::Cli::parse())
}
