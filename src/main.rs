//! The `motorcade` binary: server and admin command line.

use std::process::ExitCode;

use clap::Parser;
use motorcade::{cli, cpu};

fn main() -> ExitCode {
    if let Err(missing) = cpu::check() {
        eprintln!("error: {missing}");
        return ExitCode::from(cli::EXIT_FAILURE);
    }
    cli::run(cli::Cli::parse())
}
