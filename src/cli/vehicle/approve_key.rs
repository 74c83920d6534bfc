//! `motorcade vehicle approve-key`

use std::process::ExitCode;

use reqwest::Method;

use super::{Api, done};
use crate::api::{Approved, KeyApprovalBody};
use crate::envelope::key::Kid;
use crate::model::{EcuSerial, VehicleId};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the vehicle
    vin: VehicleId,
    /// The ECU
    serial: EcuSerial,
    /// Id of its new key, as `motorcade-vehicle change-key` and the vehicle's history show it
    #[arg(allow_hyphen_values = true)]
    kid: Kid,
    /// Hours for which the approval is valid
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
    hours: u64,
}

pub(super) async fn run(api: &Api, args: Args) -> anyhow::Result<ExitCode> {
    let Args { vin, serial, kid, hours } = args;
    let path = format!("vehicles/{vin}/ecus/{serial}/key-change");
    let body = KeyApprovalBody { expires_in_seconds: hours * 3600, kid: kid.to_string() };
    let approved: Approved = api.json(api.request(Method::POST, &path).json(&body)).await?;
    let until = printable(&approved.expires_at);
    done(format_args!("Approved the key {kid} of {serial} until {until}"), approved)
}
