//! The replacement of an ECU.
//!
//! An ECU that was replaced in a workshop looks like an attack (Deployment Best Practices 6.2): it
//! is taken over only if a person has approved it, and the approval is for one ECU, for a while, and
//! once.

use std::time::Duration;

use super::inventory::HOUR;
use super::register::{check_together, invalid};
use super::{Fleet, Vehicle, not_registered};
use crate::app::Error;
use crate::app::access::Principal;
use crate::catalog;
use crate::model::clock::later;
use crate::model::{Actor, EcuRecord, EcuSerial, EventKind, Timestamp, VehicleChange, VehicleId};

impl Fleet {
    pub(super) async fn replace(
        &self,
        vehicle: &Vehicle,
        old: &EcuRecord,
        new: &EcuRecord,
        ecus: &[EcuRecord],
        by: &Actor,
    ) -> Result<(), Error> {
        check_together(ecus)?;
        let (vin, now) = (&vehicle.record.vin, self.clock.now());
        let mut change = without_ecu(vehicle, old, new, now);
        let event = change.event(EventKind::EcuReplaced, by).of_ecu(&new.serial);
        change.record(event.saying(format!("{} took the place of {}", new.serial, old.serial)));
        let forget = self.vehicles.forget_after(vin);
        let replaced = self.catalog.replace_ecu(&old.serial, new, ecus, &change, now).await;
        drop(forget);
        match replaced {
            Ok(Some(approved_by)) => {
                tracing::info!(vehicle.id = vehicle.record.id, approved_by, "ECU replaced");
                Ok(())
            }
            Ok(None) => Err(self.refuse_replacement(vin, old, new).await), // another request has used the approval up
            Err(catalog::Error::AlreadyExists(serial)) => {
                let detail = format!("the ECU {serial} is, or was, in a vehicle");
                Err(Error::Conflict { code: "already_registered", detail })
            }
            Err(catalog::Error::Overtaken) => Err(Error::Busy),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn refuse_replacement(
        &self,
        vin: &VehicleId,
        old: &EcuRecord,
        new: &EcuRecord,
    ) -> Error {
        let detail = format!("{} ({}) came for {}", new.serial, new.hardware_id, old.serial);
        let event = self.event(vin, EventKind::ReplacementRefused, &Actor::vehicle());
        let event = event.of_ecu(&old.serial).saying(detail);
        if let Err(error) = self.catalog.insert_events(&[event.once_in(HOUR, "")]).await {
            return error.into();
        }
        let detail = format!(
            "the replacement of {} is not approved: an engineer approves it with `motorcade vehicle approve-replacement`",
            old.serial
        );
        Error::Conflict { code: "replacement_not_approved", detail }
    }

    /// Approves that an ECU is replaced within `valid_for`. What it was to run, and its counter,
    /// end with it.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the vehicle or the ECU is not there; [`Error::Invalid`] for a time of
    /// over 30 days.
    pub async fn approve_replacement(
        &self,
        vin: &VehicleId,
        serial: &EcuSerial,
        valid_for: Duration,
        by: &Principal,
    ) -> Result<Timestamp, Error> {
        check_validity(valid_for)?;
        let vehicle = self.vehicles.find(vin).await?.ok_or_else(|| not_registered(vin))?;
        if vehicle.record.ecu(serial).is_none() {
            let detail = format!("{vin} has no ECU {serial}");
            return Err(Error::NotFound { code: "ecu_not_found", detail });
        }
        let expires_at = later(self.clock.now(), valid_for);
        let event = self.event(vin, EventKind::ReplacementApproved, &by.into()).of_ecu(serial);
        let event = event.saying(format!("until {expires_at}"));
        self.catalog.approve_replacement(vehicle.record.id, serial, expires_at, &event).await?;
        Ok(expires_at)
    }
}

/// Images and assignment of an ECU end with it, and its counter unless its key signs on; the bundle
/// is signed again.
fn without_ecu(
    vehicle: &Vehicle,
    old: &EcuRecord,
    new: &EcuRecord,
    now: Timestamp,
) -> VehicleChange {
    let mut change = VehicleChange::of(&vehicle.record, now);
    change.remove_ecu(&old.serial);
    if new.serial != old.serial || new.signing_key != old.signing_key {
        change.forget_counter(&old.serial);
    }
    change
}

/// How long an approval may wait for what it approves of.
pub(super) fn check_validity(valid_for: Duration) -> Result<(), Error> {
    if valid_for.is_zero() || valid_for > LONGEST_APPROVAL {
        return Err(invalid("an approval is valid for 1 second to 30 days"));
    }
    Ok(())
}

const LONGEST_APPROVAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
