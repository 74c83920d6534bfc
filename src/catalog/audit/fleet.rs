//! Entries about vehicles that no event says.

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Author, NewAuditEntry};
use crate::catalog::Registration;
use crate::model::{AuditKind, NewVehicle, VehicleChange, VehicleId};

/// The entry for the quarantine that begins with a change.
pub(in crate::catalog) fn quarantined(change: &VehicleChange) -> Option<NewAuditEntry> {
    let quarantine = change.begun_quarantine()?;
    let detail = json!({ "reason": quarantine.reason, "kinds": quarantine.kinds });
    let author = Author::server(change.at());
    Some(author.entry(AuditKind::VehicleQuarantined, change.vin().as_str(), detail))
}

/// One entry for one vehicle, and one for many: a row for each of a hundred thousand would take
/// longer than they do.
pub(in crate::catalog) fn registered(
    vehicles: &[NewVehicle],
    outcomes: &[Registration],
    author: &Author,
) -> Option<NewAuditEntry> {
    let is_new = |(_, outcome): &(_, &Registration)| **outcome == Registration::Registered;
    let new: Vec<&VehicleId> =
        vehicles.iter().zip(outcomes).filter(is_new).map(|(vehicle, _)| &vehicle.vin).collect();
    match new.as_slice() {
        [] => None,
        [vin] => Some(author.entry(AuditKind::VehicleRegistered, vin.as_str(), json!({}))),
        vins => Some(together(author, vins)),
    }
}

/// The entry for vehicles that are registered in one transaction: how many, and the SHA-256 of
/// their ids in that order, a line each.
fn together(author: &Author, vins: &[&VehicleId]) -> NewAuditEntry {
    let mut digest = Sha256::new();
    for vin in vins {
        digest.update(vin.as_str());
        digest.update("\n");
    }
    let detail = json!({ "vehicles": vins.len(), "sha256": hex::encode(digest.finalize()) });
    author.entry(AuditKind::VehiclesRegistered, "", detail)
}
