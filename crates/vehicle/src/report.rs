//! Sends the vehicle version manifest to the Director (Uptane 2.1.0, 5.4.2.1).

use std::collections::BTreeMap;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::Error;
use super::http::Request;
use super::setup::Vehicle;
use motorcade_model::Timestamp;
use motorcade_uptane::manifest::{EcuReport, VehicleManifest};
use motorcade_uptane::verify::Limits;

/// Sends the vehicle version manifest. What it reported is forgotten once the Director has it, and
/// not before: 204 without anything is what a Director answers, or its timestamp if that was asked
/// for, and nothing else is taken for it.
///
/// With the version of the Director's root that is trusted, asks for that timestamp, which a
/// Director gives if it has no newer root; it is **not to be believed** before it is verified.
///
/// Counters are on disk before they are used: after a crash none is used twice, and a report is
/// never taken for a replay of an earlier one (DIR-17).
pub(super) fn send(
    vehicle: &mut Vehicle,
    now: Timestamp,
    root: Option<u64>,
) -> Result<Option<Vec<u8>>, Error> {
    let serials: Vec<_> = vehicle.config.ecus.iter().map(|ecu| ecu.serial.clone()).collect();
    for serial in &serials {
        vehicle.state.ecu(serial).counter += 1;
    }
    vehicle.state.save()?;
    let body = manifest(vehicle, now)?.to_string().into_bytes();
    let url = format!("{}/manifest", vehicle.config.director());
    let token = vehicle.token_for(&url);
    let (method, body) = (Method::PUT, Some(body));
    let prefer = root.map(|root| format!("{WITH_TIMESTAMP}; root={root}"));
    let request = Request { method, token, body, prefer: prefer.as_deref(), ..Request::default() };
    let mut response = vehicle.http.send(&url, request)?;
    let is_applied = response
        .headers()
        .get("preference-applied")
        .is_some_and(|applied| root.is_some() && applied.as_bytes() == WITH_TIMESTAMP.as_bytes());
    let mut timestamp = None;
    match response.status() {
        // What breaks off on the way is asked for as ever: the Director has the report.
        StatusCode::OK if is_applied => timestamp = response.body(Limits::TIMESTAMP).ok(),
        // Nobody but a Director has nothing to say: a login page is a page.
        StatusCode::NO_CONTENT if !response.headers().contains_key(CONTENT_TYPE) => {}
        status if status.is_success() => {
            return Err(response.unexpected(&format!("{status} to a report")).into());
        }
        _ => return Err(response.refusal().into()),
    }
    for serial in &serials {
        vehicle.state.ecu(serial).forget_reported();
    }
    vehicle.state.save()?;
    Ok(timestamp)
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

const WITH_TIMESTAMP: &str = "return=representation";
