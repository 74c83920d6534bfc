//! Another encryption key for an ECU, which the Director takes from the ECU alone: signed by the
//! ECU's own key, once (docs/POUF.md).
//!
//! The new key is on disk before the Director hears of it, and the old one stays until nothing
//! waits that was sealed for it: whenever this is cut off, what comes can be opened, and it can be
//! done again.

use reqwest::{Method, StatusCode};

use super::Error;
use super::http::Request;
use super::setup::Vehicle;
use motorcade_envelope::key::Kid;
use motorcade_model::EcuSerial;
use motorcade_uptane::key_change::KeyChange;

/// The next key of an ECU, which may be refused until a person approves it.
pub(super) fn next(vehicle: &Vehicle, serial: &EcuSerial) -> Result<Kid, Error> {
    let ecu = vehicle.config.ecus.iter().find(|ecu| ecu.serial == *serial);
    let unfit = |fault: String| Error::Setting { path: vehicle.folder.config(), fault };
    let ecu = ecu.ok_or_else(|| unfit(format!("it has no ECU {serial}")))?;
    if ecu.encryption_key.is_some() {
        let fault = format!("`encryption_key` of {serial} comes from elsewhere: change it there");
        return Err(unfit(fault));
    }
    Ok(vehicle.keys_of(ecu).next_encryption()?.kid().clone())
}

/// Sends an ECU's next key to the Director, and takes it once the Director has.
pub(super) fn send(vehicle: &mut Vehicle, serial: &EcuSerial) -> Result<(), Error> {
    let now = vehicle.now()?;
    vehicle.state.ecu(serial).counter += 1;
    vehicle.state.save()?; // before it is used: see the reports
    let Some(ecu) = vehicle.config.ecus.iter().find(|ecu| ecu.serial == *serial) else {
        return Ok(());
    };
    let keys = vehicle.keys_of(ecu);
    let key = keys.next_encryption()?.public().to_public_pem();
    let time = vehicle.state.latest_time.map_or(now, |latest| latest.max(now));
    let counter = vehicle.state.ecus.get(serial).map_or(0, |state| state.counter);
    let change = KeyChange::new(vehicle.config.vin.clone(), serial.clone(), counter, time, key);
    let body = Some(change.sign(&keys.signing()?).to_string().into_bytes());
    let url = format!("{}/ecus/{serial}/encryption-key", vehicle.config.director());
    let token = vehicle.token_for(&url);
    let request = Request { method: Method::PUT, token, body, ..Request::default() };
    let mut response = vehicle.http.send(&url, request)?;
    match response.status() {
        StatusCode::NO_CONTENT => keys.take_next(),
        status if status.is_success() => {
            Err(response.unexpected(&format!("{status} to a key")).into())
        }
        _ => Err(response.refusal().into()),
    }
}

#[cfg(test)]
#[path = "change_key_tests.rs"]
mod tests;
