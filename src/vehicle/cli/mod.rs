//! The command line of `motorcade-vehicle`. Data goes to stdout, everything else to stderr.

mod tuf;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Reference vehicle: a Primary with its Secondaries, and a plain TUF client.
#[derive(Debug, Parser)]
#[command(name = "motorcade-vehicle", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keeps the metadata of any TUF repository up to date, and downloads from it
    Tuf(tuf::Args),
}

/// Runs a command and returns the exit code: 0, or 1 after an error was printed. 2 is for arguments that can't be understood.
pub fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Tuf(args) => tuf::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each once.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
