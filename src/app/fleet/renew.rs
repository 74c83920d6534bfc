//! The ways back: a vehicle that is gone, and one that starts anew with other keys and counters.
//!
//! Either takes a person, and is recorded with who it was and when. Whatever is signed for a
//! vehicle later has a higher version than before, since versions come from one sequence.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inventory::check_reason;
use super::memory::retry;
use super::register::invalid;
use super::replace::check_validity;
use super::{Fleet, Vehicle, not_registered};
use crate::app::Error;
use crate::app::access::Principal;
use crate::catalog::{self, ReEnrolment, Renewal};
use crate::model::clock::later;
use crate::model::{
    Actor, EcuMap, EcuRole, EcuSerial, EcuStatus, EventKind, NewEvent, NewVehicle, Timestamp,
    VehicleChange, VehicleId,
};
use crate::uptane::manifest::MAX_ECUS;

impl Fleet {
    /// Takes a vehicle out of the inventory: it was sold or scrapped. Its token and its certificate
    /// are no vehicle's any more, its history stays, and its id and the serials of its ECUs can be
    /// registered again.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Invalid`].
    pub async fn remove_vehicle(
        &self,
        vin: &VehicleId,
        reason: Option<&str>,
        by: &Principal,
    ) -> Result<(), Error> {
        reason.map_or(Ok(()), check_reason)?;
        let event = self.event(vin, EventKind::Removed, &by.into());
        let event = event.saying(reason.unwrap_or_default());
        let forget = self.vehicles.forget_after(vin);
        if !self.catalog.remove_vehicle(vin, &event).await? {
            return Err(not_registered(vin));
        }
        drop(forget);
        tracing::info!(by = by.id, "vehicle removed");
        Ok(())
    }

    /// Approves that a vehicle enrols anew within `valid_for`, once: with whatever keys and ECUs it
    /// has then, and with counters that start again. It may take the ECUs in `take` from other
    /// vehicles, of which they are not the Primary; with any, it need not be registered yet.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such vehicle, or an ECU in `take` is no other vehicle's;
    /// [`Error::Conflict`] if one is a Primary; [`Error::Invalid`].
    pub async fn approve_re_enrolment(
        &self,
        vin: &VehicleId,
        valid_for: Duration,
        take: BTreeSet<EcuSerial>,
        by: &Principal,
    ) -> Result<Timestamp, Error> {
        check_validity(valid_for)?;
        if take.len() > MAX_ECUS {
            return Err(invalid(format!("a vehicle has at most {MAX_ECUS} ECUs")));
        }
        if take.is_empty() && self.vehicles.find(vin).await?.is_none() {
            return Err(not_registered(vin));
        }
        for serial in &take {
            self.check_takable(vin, serial).await?;
        }
        let now = self.clock.now();
        let expires_at = later(now, valid_for);
        let mut detail = format!("until {expires_at}");
        if !take.is_empty() {
            let serials: Vec<&str> = take.iter().map(EcuSerial::as_str).collect();
            detail += &format!(", and may take {} from other vehicles", serials.join(", "));
        }
        let event = self.event(vin, EventKind::ReEnrolmentApproved, &by.into()).saying(detail);
        let approved_by = by.id.clone();
        let approval = ReEnrolment {
            vin: vin.clone(),
            ecu_serials: take,
            approved_at: now,
            approved_by,
            expires_at,
        };
        self.catalog.approve_re_enrolment(&approval, &event).await?;
        Ok(expires_at)
    }

    async fn check_takable(&self, vin: &VehicleId, serial: &EcuSerial) -> Result<(), Error> {
        let owner = self.catalog.find_ecu_owner(serial).await?.filter(|owner| owner.vin != *vin);
        match owner {
            None => {
                let detail = format!(
                    "no other vehicle has, or had, an ECU {serial}: {vin} can enrol with it as it is"
                );
                Err(Error::NotFound { code: "ecu_not_found", detail })
            }
            Some(owner) if owner.role == Some(EcuRole::Primary) => {
                Err(is_primary(serial, &owner.vin))
            }
            Some(_) => Ok(()),
        }
    }

    /// Enrols a vehicle anew if a person has approved that; returns whether.
    pub(super) async fn try_re_enrol(&self, new: &NewVehicle, by: &Actor) -> Result<bool, Error> {
        retry(async || {
            let approval = self.catalog.find_re_enrolment(&new.vin, self.clock.now()).await?;
            match approval {
                Some(approval) => self.re_enrol(new, &approval, by).await,
                None => Ok(Some(false)),
            }
        })
        .await
    }

    /// Returns nothing if the vehicle has changed meanwhile.
    async fn re_enrol(
        &self,
        new: &NewVehicle,
        approval: &ReEnrolment,
        by: &Actor,
    ) -> Result<Option<bool>, Error> {
        let approved_by = &approval.approved_by;
        let known = self.vehicles.find(&new.vin).await?;
        let mut change = anew(known.as_deref(), new, self.clock.now());
        let detail = format!("{} ECUs, as approved by {approved_by}", new.ecus.len());
        change.record(change.event(EventKind::ReEnrolled, by).saying(detail));
        let lost = |vin: &VehicleId, serial: &EcuSerial| -> NewEvent {
            let detail = format!("{} has it now, as approved by {approved_by}", new.vin);
            self.event(vin, EventKind::EcuTaken, by).of_ecu(serial).saying(detail)
        };
        let mut touched = vec![new.vin.clone()];
        for serial in &approval.ecu_serials {
            touched.extend(self.catalog.find_ecu_owner(serial).await?.map(|owner| owner.vin));
        }
        let forget: Vec<_> = touched.iter().map(|vin| self.vehicles.forget_after(vin)).collect();
        let renewed = self.catalog.re_enrol(new, change, &by.id, lost).await;
        drop(forget);
        match renewed {
            Ok(Renewal::Done) => {
                tracing::info!(approved_by, by = by.id, "vehicle enrolled anew");
                Ok(Some(true))
            }
            Ok(Renewal::NotApproved) => Ok(Some(false)), // somebody was first
            Ok(Renewal::EcuTaken(serial)) => Err(self.refuse_taken(&new.vin, &serial).await),
            Ok(Renewal::TokenTaken) => {
                let detail =
                    format!("the token of {} is another vehicle's: make another one", new.vin);
                Err(Error::Conflict { code: "already_registered", detail })
            }
            Err(catalog::Error::Overtaken) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn refuse_taken(&self, vin: &VehicleId, serial: &EcuSerial) -> Error {
        match self.catalog.find_ecu_owner(serial).await {
            Ok(Some(owner)) if owner.role == Some(EcuRole::Primary) => {
                is_primary(serial, &owner.vin)
            }
            Ok(_) => {
                let detail = format!(
                    "the ECU {serial} is, or was, in another vehicle: an engineer approves that it is taken from there with \
                     `motorcade vehicle re-enrol {vin} --take {serial}`"
                );
                Error::Conflict { code: "already_registered", detail }
            }
            Err(error) => error.into(),
        }
    }
}

/// What is left of a vehicle's status, if it is known: which release counters its ECUs had. Of an
/// ECU that keeps its signing key the catalog keeps the report counter, too.
fn anew(known: Option<&Vehicle>, new: &NewVehicle, now: Timestamp) -> VehicleChange {
    let Some(vehicle) = known else { return VehicleChange::first(new.vin.clone(), now) };
    let mut kept = EcuMap::default();
    for ecu in &new.ecus {
        let highest_counter = vehicle.record.status.ecu(&ecu.serial).highest_counter;
        if highest_counter.is_some() {
            let after = EcuStatus { highest_counter, ..EcuStatus::default() };
            kept.insert(&ecu.serial, after);
        }
    }
    let mut change = VehicleChange::of(&vehicle.record, now);
    change.renew(kept);
    change
}

fn is_primary(serial: &EcuSerial, owner: &VehicleId) -> Error {
    let detail = format!(
        "{serial} is the Primary of {owner}: remove that vehicle first, which frees its ECUs"
    );
    Error::Conflict { code: "ecu_is_primary", detail }
}
