//! Entries about vehicles that no event says.

use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::{Any, Transaction};

use super::{Author, NewAuditEntry};
use crate::catalog::{During, Error, Registration, optional_time, text};
use crate::model::{AuditKind, NewVehicle, Quarantine, Timestamp, VehicleId};

/// The entry for a quarantine that is about to be written, if it begins with that.
pub(in crate::catalog) async fn quarantined(
    transaction: &mut Transaction<'_, Any>,
    vehicle_id: i64,
    quarantine: &Quarantine,
    at: Timestamp,
) -> Result<Option<NewAuditEntry>, Error> {
    const OP: &str = "look for a quarantine";
    let row = sqlx::query(
        "SELECT v.vin, s.quarantined_at FROM vehicles v JOIN vehicle_status s ON s.vehicle_id = v.id WHERE v.id = $1",
    );
    let row = row.bind(vehicle_id).fetch_optional(&mut **transaction).await;
    let Some(row) = row.during(OP)? else { return Ok(None) };
    if optional_time(&row, "quarantined_at", OP)?.is_some() {
        return Ok(None);
    }
    let detail = json!({ "reason": quarantine.reason, "kinds": quarantine.kinds });
    let (author, vin) = (Author::server(at), text(&row, "vin", OP)?);
    Ok(Some(author.entry(AuditKind::VehicleQuarantined, vin, detail)))
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
