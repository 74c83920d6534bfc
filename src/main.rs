//! The `motorcade` binary: server and admin command line.

use std::process::ExitCode;

use motorcade::{cli, environment};

fn main() -> ExitCode {
    cli::run(environment::parse())
}
