//! The programs behind `bench/harness`, which measures the server with them. Each prints one line
//! of JSON.

mod certificates;
mod drive;
mod fleet_parts;
mod http;
mod nothing;
mod parts;
mod seed;
mod vehicles;
mod wraps;

use clap::Parser;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// CPU seconds of what ingesting a gigabyte has to cost
    Parts(parts::Args),
    /// CPU microseconds of what serving a fleet has to cost
    FleetParts,
    /// Makes a state directory with many images
    Seed(seed::Args),
    /// Makes a CA and a server's certificate
    Certificates(certificates::Args),
    /// Prints vehicles, as JSON Lines to be registered
    Vehicles(vehicles::Args),
    /// Drives vehicles over TLS connections, new, resumed or kept
    Drive(drive::Args),
    /// Keys a second that all cores wrap to a recipient
    Wraps(wraps::Args),
    /// Answers a vehicle's requests with nothing behind them
    Nothing(nothing::Args),
}

fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match command {
            Command::Parts(args) => parts::run(&args),
            Command::FleetParts => fleet_parts::run(),
            Command::Seed(args) => seed::run(args).await,
            Command::Certificates(args) => certificates::run(&args),
            Command::Vehicles(args) => vehicles::run(&args),
            Command::Drive(args) => drive::run(args).await,
            Command::Wraps(args) => wraps::run(&args),
            Command::Nothing(args) => nothing::run(args).await,
        }
    })
}
