//! `motorcade vehicle accept`

use std::process::ExitCode;

use anyhow::bail;
use reqwest::Method;
use serde_json::json;

use super::pages::Pages;
use crate::api::{AcceptBody, EcuBody, VehicleBody, VehicleQuery};
use crate::cli::api::Api;
use crate::cli::output;
use crate::model::{EcuSerial, VehicleId};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the vehicle
    #[arg(required_unless_present = "all")]
    vin: Option<VehicleId>,
    /// The ECU; all of the vehicle that run what nobody gave them, or have fallen back, without it
    serial: Option<EcuSerial>,
    /// All ECUs of all vehicles that run what nobody gave them, such as after a restored backup
    #[arg(long, conflicts_with_all = ["vin", "serial"])]
    all: bool,
    /// What was found out, for the record
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(api: &Api, args: Args) -> anyhow::Result<ExitCode> {
    let Args { vin, serial, all: _, reason } = args;
    let Some(vin) = vin else {
        let filter = VehicleQuery { unexpected: true, ..VehicleQuery::default() };
        let mut pages = Pages::new(api, filter);
        while let Some(vehicles) = pages.next().await? {
            for vehicle in &vehicles {
                accept(api, vehicle, |ecu| ecu.unexpected, &reason).await?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let request = api.request(Method::GET, &format!("vehicles/{vin}"));
    let vehicle: VehicleBody = api.json(request).await?;
    let is_meant = |ecu: &EcuBody| match &serial {
        Some(serial) => ecu.ecu_serial == serial.as_str(),
        None => ecu.unexpected || ecu.fallen_from.is_some(),
    };
    if accept(api, &vehicle, is_meant, &reason).await? == 0 {
        bail!("no ECU of {vin} runs anything that has to be accepted");
    }
    Ok(ExitCode::SUCCESS)
}

/// Accepts what some of a vehicle's ECUs were seen to run, and nothing that they run since. Returns
/// of how many.
async fn accept(
    api: &Api,
    vehicle: &VehicleBody,
    is_meant: impl Fn(&EcuBody) -> bool,
    reason: &str,
) -> anyhow::Result<usize> {
    let vin = &vehicle.vin;
    let mut accepted = 0;
    for ecu in vehicle.ecus.iter().filter(|ecu| is_meant(ecu)) {
        let (serial, installed) = (&ecu.ecu_serial, ecu.installed.as_ref());
        let request =
            api.request(Method::POST, &format!("vehicles/{vin}/ecus/{serial}/accept-installed"));
        let sha256 = installed.map(|image| image.sha256.clone());
        let body = AcceptBody { reason: reason.to_owned(), sha256 };
        api.send(request.json(&body)).await?;
        let path = installed.map_or("", |image| &image.path);
        let done = json!({ "vin": vin, "ecu_serial": serial, "accepted": path });
        let path = printable(path);
        output::report(format_args!("Accepted {path} on {serial} of {vin}"), done)?;
        accepted += 1;
    }
    Ok(accepted)
}
