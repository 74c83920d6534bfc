//! The command line: one file a subcommand. Data goes to stdout, everything else to stderr.

mod api;
mod audit;
mod backup;
mod demo;
mod doctor;
mod escrow;
mod export;
mod fleet;
mod fsck;
mod image;
mod init;
mod job;
mod manual;
mod migrate_store;
mod new_file;
mod open;
mod output;
mod problem;
mod recipient;
mod recover;
mod role;
mod root;
mod serve;
mod signals;
mod signing;
mod state;
mod supplier;
mod targets;
mod token;
mod vehicle;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use output::EXIT_FAILURE;
use problem::chain;
use state::StateArgs;

/// How long the end of a command waits for what still reads or writes a file, such as on a disk
/// that has gone.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// OTA update-artifact server with envelope encryption and Uptane/TUF metadata.
#[derive(Debug, Parser)]
#[command(name = "motorcade", version, about)]
pub struct Cli {
    /// Print JSON, errors too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of a process")]
enum Command {
    /// Shows the main job end to end, in a temporary state directory
    Demo(demo::Args),
    /// Makes a state directory: keys, policy, catalog, first metadata
    Init(init::Args),
    /// Serves a state directory over HTTP
    Serve(serve::Args),
    /// Makes, lists and revokes API tokens, in the state directory
    Token(token::Args),
    /// Changes whose keys sign, as a ceremony: stage, sign offline, publish
    Root(root::Args),
    /// Registers public keys that images are sealed for
    Recipient(recipient::Args),
    /// Shows the escrow keys, and has another one take their place
    Escrow(escrow::Args),
    /// Manages suppliers, who sign for folders of their own: with keys of the server, or their own
    Supplier(supplier::Args),
    /// Has people sign the top-level targets, where the metadata policy says so
    Targets(targets::Args),
    /// Uploads, lists, shows and yanks images
    Image(image::Args),
    /// Registers vehicles, shows what they run, assigns images to their ECUs
    Vehicle(vehicle::Args),
    /// Drives virtual vehicles against a server
    Fleet(fleet::Args),
    /// Verifies and opens a sealed image, offline
    Open(open::Args),
    /// Writes the published repository to a folder that any file server can serve
    Export(export::Args),
    /// Copies the state directory, beside the server that uses it
    Backup(backup::Args),
    /// Moves the catalog of a state directory to PostgreSQL, its blobs to a bucket, or both, with the
    /// server stopped
    MigrateStore(migrate_store::Args),
    /// Looks for what is wrong, or will be, and says what to do about it
    Doctor(doctor::Args),
    /// Reads every stored byte and compares it with what was signed
    Fsck(fsck::Args),
    /// Lists who changed what, and finds out whether that list is whole
    Audit(audit::Args),
    /// Starts, lists, shows and cancels work that the server does by itself
    Job(job::Args),
    /// Shows who signs for which role, and gives roles other keys
    Role(role::Args),
    /// Gets a state directory going again whose catalog was restored, or whose clock was wrong
    Recover(recover::Args),
    /// Prints completions for a shell
    Completions(manual::CompletionsArgs),
    /// Prints the manual page, or writes one for each command
    Man(manual::ManArgs),
    /// What the motorcade-vehicle binary does, for the demo
    #[command(name = "motorcade-vehicle", hide = true)]
    MotorcadeVehicle(crate::vehicle::cli::Cli),
}

/// Runs a command and returns the exit code: 0, or 1 after an error was printed.
pub fn run(cli: Cli) -> ExitCode {
    crate::files::restrict_new_files();
    output::speak_json(cli.json);
    let is_server = matches!(cli.command, Command::Serve(_));
    let outcome = match cli.command {
        Command::Open(args) => open::run(args), // no runtime: it only reads, opens and writes
        Command::MotorcadeVehicle(cli) => return crate::vehicle::cli::run(cli), // it has a runtime of its own
        command => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| {
                let outcome = runtime.block_on(run_async(command));
                runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
                outcome
            }),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS, // `motorcade image list | head`
        Err(error) => {
            let text = match output::is_json() {
                true => problem::of(&error).to_string(),
                false => format!("error: {}", chain(&error)),
            };
            match is_server {
                true => tell_in_time(text),
                false => eprintln!("{text}"),
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Prints to stderr, which may have nobody who reads it: a server that can't start **must** end, so
/// that it is started again.
fn tell_in_time(text: String) {
    let (told, is_told) = mpsc::channel();
    let telling = thread::Builder::new().spawn(move || {
        eprintln!("{text}");
        let _ = told.send(()); // nobody waits any more if it took too long
    });
    if telling.is_ok() {
        let _ = is_told.recv_timeout(SHUTDOWN_TIMEOUT);
    }
}

async fn run_async(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => demo::run(args).await,
        Command::Init(args) => init::run(args).await,
        Command::Serve(args) => serve::run(args).await,
        Command::Token(args) => token::run(args).await,
        Command::Root(args) => root::run(args).await,
        Command::Recipient(args) => recipient::run(args).await,
        Command::Escrow(args) => escrow::run(args).await,
        Command::Supplier(args) => supplier::run(args).await,
        Command::Targets(args) => targets::run(args).await,
        Command::Image(args) => image::run(args).await,
        Command::Vehicle(args) => vehicle::run(args).await,
        Command::Fleet(args) => fleet::run(args).await,
        Command::Open(args) => open::run(args),
        Command::Export(args) => export::run(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::MigrateStore(args) => migrate_store::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Fsck(args) => fsck::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Job(args) => job::run(args).await,
        Command::Role(args) => role::run(args).await,
        Command::Recover(args) => recover::run(args).await,
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
        Command::MotorcadeVehicle(cli) => Ok(crate::vehicle::cli::run(cli)),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
