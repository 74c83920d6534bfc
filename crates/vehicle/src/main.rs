//! The `motorcade-vehicle` binary: a reference Primary with its Secondaries, and a TUF client.

use std::process::ExitCode;

use motorcade_host::environment;
use motorcade_vehicle::cli;

fn main() -> ExitCode {
    cli::run(environment::parse())
}
