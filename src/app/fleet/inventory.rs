//! What people see of the fleet, and what they change by hand.

use std::time::Duration;

use zeroize::Zeroizing;

use super::register::invalid;
use super::{Fleet, not_registered};
use crate::app::Error;
use crate::app::access::{Principal, digest, random_token};
use crate::catalog::{Page, VehicleCounts, VehicleFilter};
use crate::model::clock::earlier;
use crate::model::{AssignmentRecord, EventKind, VehicleEvent, VehicleId, VehicleRecord};

impl Fleet {
    /// Shows a vehicle.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn show_vehicle(&self, vin: &VehicleId) -> Result<VehicleRecord, Error> {
        let vehicle = self.vehicles.find(vin).await?.ok_or_else(|| not_registered(vin))?;
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
    ) -> Result<Page<VehicleRecord>, Error> {
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
        let vehicle = self.vehicles.find(vin).await?.ok_or_else(|| not_registered(vin))?;
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
        let sha256 = digest(&token);
        let event = self.event(vin, EventKind::TokenIssued, &by.into());
        let forget = self.vehicles.forget_after(vin);
        if !self.catalog.set_vehicle_token(vin, &sha256, &event).await? {
            return Err(not_registered(vin));
        }
        drop(forget);
        Ok(token)
    }

    /// Counts the fleet; `silent_after` is how long a vehicle that was heard of may say nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn count_fleet(&self, silent_after: Duration) -> Result<VehicleCounts, Error> {
        Ok(self.catalog.count_vehicles(earlier(self.clock.now(), silent_after)).await?)
    }
}

/// What a person gives as the reason, for the record.
pub(in crate::app) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.contains('\0') {
        return Err(invalid(format!("`reason` must have 1 to {MAX_REASON} bytes, and no NUL")));
    }
    Ok(())
}

const MAX_REASON: usize = 500;
/// Events that are alike are counted once in it.
pub(in crate::app) const HOUR: Duration = Duration::from_secs(60 * 60);
