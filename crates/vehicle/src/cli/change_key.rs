//! `motorcade-vehicle change-key`

use std::process::ExitCode;

use motorcade_model::EcuSerial;
use serde_json::json;

use super::shared::{StateArgs, print_line};
use crate::change_key;
use crate::setup::Vehicle;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// The ECU that gets another encryption key
    serial: EcuSerial,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the id of the new key, by which a person approves it, also where that is still to be
/// done.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { state, serial, json } = args;
    let mut vehicle = Vehicle::open(&state.dir)?;
    let kid = change_key::next(&vehicle, &serial)?;
    let sent = change_key::send(&mut vehicle, &serial);
    if json {
        print_line(json!({ "ecu_serial": serial, "kid": kid.as_str(), "changed": sent.is_ok() }))?;
    } else {
        print_line(&kid)?;
    }
    sent?;
    eprintln!("{serial} has another encryption key");
    Ok(ExitCode::SUCCESS)
}
