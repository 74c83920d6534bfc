//! What a vehicle says of itself to the Director (Uptane 2.1.0, 5.4.2.1).

use std::collections::BTreeMap;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Error;
use super::http::Request;
use super::setup::Vehicle;
use motorcade_model::Timestamp;
use motorcade_uptane::manifest::{EcuReport, VehicleManifest};

/// Sends the vehicle version manifest. What it reported is forgotten once the Director has it, and
/// not before: 204 without anything is what a Director answers, and nothing else is taken for it.
///
/// Counters are on disk before they are used: after a crash none is used twice, and a report is
/// never taken for a replay of an earlier one (DIR-17).
pub(super) fn send(vehicle: &mut Vehicle, now: Timestamp) -> Result<(), Error> {
    let serials: Vec<_> = vehicle.config.ecus.iter().map(|ecu| ecu.serial.clone()).collect();
    for serial in &serials {
        vehicle.state.ecu(serial).counter += 1;
    }
    vehicle.state.save()?;
    let body = manifest(vehicle, now)?.to_string().into_bytes();
    let url = format!("{}/manifest", vehicle.config.director());
    let token = vehicle.token_for(&url);
    let request = Request { method: Method::PUT, token, body: Some(body), ..Request::default() };
    let mut answer = vehicle.http.send(&url, request)?;
    match answer.status() {
        // Nobody but a Director has nothing to say: a login page is a page.
        StatusCode::NO_CONTENT if !answer.headers().contains_key(CONTENT_TYPE) => {}
        status if status.is_success() => {
            return Err(answer.unexpected(&format!("{status} to a report")).into());
        }
        _ => return Err(answer.refusal().into()),
    }
    for serial in &serials {
        vehicle.state.ecu(serial).forget_reported();
    }
    vehicle.state.save()
}

/// Each ECU signs its own report, the Primary all of them.
fn manifest(vehicle: &mut Vehicle, now: Timestamp) -> Result<Value, Error> {
    let mut reports = BTreeMap::new();
    let time = vehicle.state.latest_time.map_or(now, |latest| latest.max(now));
    for ecu in vehicle.config.ecus.clone() {
        let state = vehicle.state.ecu(&ecu.serial);
        let attacks: Vec<_> = state.attacks.iter().map(|attack| attack.as_str()).collect();
        let faults: Vec<_> = state.faults.iter().map(|fault| fault.as_str()).collect();
        let report = EcuReport {
            attacks_detected: attacks.join(","),
            counter: state.counter,
            ecu_serial: ecu.serial.clone(),
            faults_detected: faults.join(","),
            installed_image: state.report(),
            time,
        };
        let key = vehicle.keys_of(&ecu).signing()?;
        reports.insert(ecu.serial, report.sign(&key));
    }
    let primary = vehicle.config.primary();
    let key = vehicle.keys_of(primary).signing()?;
    let (vin, version) = (&vehicle.config.vin, vehicle.state.targets_version);
    Ok(VehicleManifest::sign(vin, &primary.serial, version, reports, &key))
}
