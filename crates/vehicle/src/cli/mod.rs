//! The command line of `motorcade-vehicle`. Data goes to stdout, everything else to stderr.

mod change_key;
mod provision;
mod shared;
mod tuf;
mod update;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use self::shared::chain;

/// Keeps the software of a vehicle's ECUs up to date: the vehicle's side of Uptane, for a Motorcade
/// server.
///
/// It reports to the Director what each ECU runs, verifies the metadata of both repositories,
/// downloads sealed images, opens them with the ECUs' keys and installs them: into files or
/// devices, or by a program. It is a reference Primary with simulated Secondaries, and with `tuf` a
/// plain TUF client for any repository.
///
/// Begin with `provision`, then `update` once, or `run` as a service.
#[derive(Debug, Parser)]
#[command(name = "motorcade-vehicle", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of a process")]
enum Command {
    /// Makes a vehicle's state directory: keys, settings, trusted roots; and enrols the vehicle
    Provision(provision::Args),
    /// Runs one update: report, verify, download, install, report
    Update(update::UpdateArgs),
    /// Updates again and again, as a service
    ///
    /// In each turn it looks whether its metadata is another one, and does nothing more if it is
    /// not. It reports and updates when it starts, when something is new, after a failure, and as
    /// often as the server asks for it. It waits longer after failures, and as long as the server
    /// says (Retry-After). SIGTERM, SIGINT and SIGQUIT end it.
    Run(update::RunArgs),
    /// Gives an ECU another encryption key, and tells the Director; prints the key's id, by which a
    /// person approves it
    ChangeKey(change_key::Args),
    /// Keeps the metadata of any TUF repository up to date, and downloads from it
    Tuf(tuf::Args),
}

/// Runs a command and returns the exit code: 0, or 1 after an error was printed. 2 is for arguments
/// that can't be understood.
pub fn run(cli: Cli) -> ExitCode {
    motorcade_host::files::restrict_new_files();
    let outcome = match cli.command {
        Command::Provision(args) => provision::run(args),
        Command::Update(args) => update::update(args),
        Command::Run(args) => update::run(args),
        Command::ChangeKey(args) => change_key::run(args),
        Command::Tuf(args) => tuf::run(args, Cli::command()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
