//! The `motorcade-vehicle` binary: a reference Primary with its Secondaries, and a TUF client.

use std::process::ExitCode;

use motorcade::environment;
use motorcade::vehicle::cli;

fn main() -> ExitCode {
    cli::run(environment::parse())
}
