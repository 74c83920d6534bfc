//! What people see of the fleet, and what they change by hand.

use std::time::Duration;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Vehicle;
use super::register::invalid;
use super::replace::not_registered;
use crate::app::access::{Principal, random_token};
use crate::app::{App, Error};
use crate::catalog::{StatusChange, VehicleFilter, VehiclePage};
use crate::model::clock::earlier;
use crate::model::{
    AssignmentRecord, EcuSerial, EventKind, NewEvent, Sha256Digest, VehicleEvent, VehicleId,
    VehicleRecord,
};

/// How many vehicles there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetCounts {
    /// All.
    pub registered: u64,
    /// Those in quarantine.
    pub quarantined: u64,
    /// Those that were heard of, but not for a while (AT-4).
    pub silent: u64,
    /// Those with an ECU that runs what nobody gave it.
    pub unexpected: u64,
    /// Those with an ECU that fell back to something older.
    pub fallen_back: u64,
}

impl App {
    /// Shows a vehicle.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show_vehicle(&self, vin: &VehicleId) -> Result<VehicleRecord, Error> {
        let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
        Ok(vehicle.record.clone())
    }

    /// Lists vehicles in the order of their ids, from the one after `after`.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list_vehicles(
        &self,
        after: &str,
        limit: u32,
        filter: VehicleFilter,
    ) -> Result<VehiclePage, Error> {
        Ok(self.catalog.list_vehicles(after, limit, filter).await?)
    }

    /// Lists the newest assignments of a vehicle.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn list_assignments(
        &self,
        vin: &VehicleId,
        limit: u32,
    ) -> Result<Vec<AssignmentRecord>, Error> {
        let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
        Ok(self.catalog.list_assignments(vehicle.record.id, limit).await?)
    }

    /// Lists what happened to a vehicle, the newest first; also to one that is not registered and
    /// tried to report.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn list_history(
        &self,
        vin: &VehicleId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<VehicleEvent>, Error> {
        Ok(self.catalog.list_events(vin, before, limit).await?)
    }

    /// Makes a bearer token for a vehicle; the one before stops working. Only its digest is kept.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn issue_vehicle_token(
        &self,
        vin: &VehicleId,
        by: &Principal,
    ) -> Result<Zeroizing<String>, Error> {
        let token = random_token("motorcade_vehicle_")?;
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(token.as_bytes()).into());
        let forget = self.fleet.forget_after(vin);
        if !self.catalog.set_vehicle_token(vin, &sha256).await? {
            return Err(not_registered(vin));
        }
        drop(forget);
        let event = self.event_by(vin, EventKind::TokenIssued, None, String::new(), by);
        self.catalog.insert_events(&[event]).await?;
        Ok(token)
    }

    /// Counts the fleet; `silent_after` is how long a vehicle that was heard of may say nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn count_fleet(&self, silent_after: Duration) -> Result<FleetCounts, Error> {
        let counts = self.catalog.count_vehicles(earlier(self.clock.now(), silent_after)).await?;
        let [registered, quarantined, silent, unexpected, fallen_back] = counts;
        Ok(FleetCounts { registered, quarantined, silent, unexpected, fallen_back })
    }

    /// Decides on a change of a vehicle and makes it; decides again if the vehicle has changed
    /// meanwhile.
    pub(in crate::app) async fn change_vehicle(
        &self,
        vin: &VehicleId,
        decide: impl Fn(&Vehicle) -> Result<StatusChange, Error>,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
            if self.fleet.change(&vehicle, decide(&vehicle)?).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::Busy)
    }

    pub(in crate::app) fn event(
        &self,
        vin: &VehicleId,
        kind: EventKind,
        serial: Option<&EcuSerial>,
        detail: String,
        actor: &str,
    ) -> NewEvent {
        NewEvent {
            vin: vin.clone(),
            kind,
            ecu_serial: serial.cloned(),
            detail,
            actor: actor.to_owned(),
            at: self.clock.now(),
            request_id: None,
            alike: None,
        }
    }

    /// What a person did: recorded with the request by which it was done.
    pub(in crate::app) fn event_by(
        &self,
        vin: &VehicleId,
        kind: EventKind,
        serial: Option<&EcuSerial>,
        detail: String,
        by: &Principal,
    ) -> NewEvent {
        NewEvent {
            request_id: by.request_id.clone(),
            ..self.event(vin, kind, serial, detail, &by.id)
        }
    }
}

/// What a person gives as the reason, for the record.
pub(in crate::app) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        return Err(invalid(format!("`reason` must have 1 to {MAX_REASON} bytes")));
    }
    Ok(())
}

const MAX_REASON: usize = 500;
/// How often a change is decided again. Each time somebody else's has been made.
pub(in crate::app) const TRIES: usize = 8;
/// Events that are alike are counted once in it.
pub(in crate::app) const HOUR: Duration = Duration::from_secs(60 * 60);
