//! The ways back: a vehicle that is gone, and one that starts anew with other keys and counters
//! (DESIGN.md section 5).
//!
//! Either takes a person, and is recorded with who it was and when. Whatever is signed for a
//! vehicle later has a higher version than before, since versions come from one sequence.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Vehicle;
use super::inventory::{TRIES, check_reason};
use super::register::invalid;
use super::replace::{LONGEST_APPROVAL, not_registered};
use crate::app::access::Principal;
use crate::app::{App, Error};
use crate::catalog::{self, MoreChanges, ReEnrolment, Renewal, StatusChange};
use crate::model::clock::{earlier, later};
use crate::model::{
    AssignmentOutcome, CounterReset, EcuRole, EcuSerial, EcuStatus, EventKind, NewEvent,
    NewVehicle, Timestamp, VehicleId,
};
use crate::uptane::manifest::MAX_ECUS;

/// Who enrols a vehicle, for the record.
#[derive(Debug, Clone)]
pub(super) struct EnrolledBy {
    pub(super) actor: String,
    pub(super) request_id: Option<String>,
}

impl From<&Principal> for EnrolledBy {
    fn from(by: &Principal) -> Self {
        Self { actor: by.id.clone(), request_id: by.request_id.clone() }
    }
}

impl App {
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
        let detail = reason.unwrap_or_default().to_owned();
        let event = self.event_by(vin, EventKind::Removed, None, detail, by);
        let forget = self.fleet.forget_after(vin);
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
        if valid_for.is_zero() || valid_for > LONGEST_APPROVAL {
            return Err(invalid("an approval is valid for 1 second to 30 days"));
        }
        if take.len() > MAX_ECUS {
            return Err(invalid(format!("a vehicle has at most {MAX_ECUS} ECUs")));
        }
        if take.is_empty() && self.fleet.find(vin).await?.is_none() {
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
        let event = self.event_by(vin, EventKind::ReEnrolmentApproved, None, detail, by);
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
    pub(super) async fn try_re_enrol(
        &self,
        new: &NewVehicle,
        by: &EnrolledBy,
    ) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let Some(approval) = self.catalog.find_re_enrolment(&new.vin, self.clock.now()).await?
            else {
                return Ok(false);
            };
            let known = self.fleet.find(&new.vin).await?;
            let change = known.as_ref().map(|vehicle| self.anew(vehicle, new));
            let mut more = match &known {
                Some(vehicle) => MoreChanges::keeping(&vehicle.record.status, self.clock.now()),
                None => MoreChanges { at: self.clock.now(), ..MoreChanges::default() },
            };
            more.bundle = None;
            let assigned = known.iter().flat_map(|vehicle| vehicle.record.status.ecus.values());
            let assigned = assigned.filter_map(|ecu| ecu.assigned.as_ref());
            more.ended = assigned
                .map(|assigned| (assigned.id.clone(), AssignmentOutcome::Cancelled))
                .collect();
            let event = |vin: &VehicleId, kind, serial: Option<&EcuSerial>, detail| NewEvent {
                request_id: by.request_id.clone(),
                ..self.event(vin, kind, serial, detail, &by.actor)
            };
            let detail =
                format!("{} ECUs, as approved by {}", new.ecus.len(), approval.approved_by);
            more.events.push(event(&new.vin, EventKind::ReEnrolled, None, detail));
            let lost = |vin: &VehicleId, serial: &EcuSerial| {
                let detail =
                    format!("{} has it now, as approved by {}", new.vin, approval.approved_by);
                event(vin, EventKind::EcuTaken, Some(serial), detail)
            };
            let mut touched = vec![new.vin.clone()];
            for serial in &approval.ecu_serials {
                touched.extend(self.catalog.find_ecu_owner(serial).await?.map(|owner| owner.vin));
            }
            let forget: Vec<_> = touched.iter().map(|vin| self.fleet.forget_after(vin)).collect();
            let renewed = self.catalog.re_enrol(new, change.as_ref(), &more, &by.actor, lost).await;
            drop(forget);
            match renewed {
                Ok(Renewal::Done) => {
                    tracing::info!(
                        approved_by = approval.approved_by,
                        by = by.actor,
                        "vehicle enrolled anew"
                    );
                    return Ok(true);
                }
                Ok(Renewal::NotApproved) => return Ok(false), // somebody was first
                Ok(Renewal::EcuTaken(serial)) => {
                    return Err(self.refuse_taken(&new.vin, &serial).await);
                }
                Ok(Renewal::TokenTaken) => {
                    let detail =
                        format!("the token of {} is another vehicle's: make another one", new.vin);
                    return Err(Error::Conflict { code: "already_registered", detail });
                }
                Err(catalog::Error::Overtaken) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy)
    }

    /// What is left of a vehicle's status: which release counters its ECUs had, and, of an ECU that
    /// keeps its signing key, its report counter, or its old reports could be sent again.
    fn anew(&self, vehicle: &Vehicle, new: &NewVehicle) -> StatusChange {
        let status = &vehicle.record.status;
        let mut change = StatusChange::of(vehicle.record.id, status);
        change.ecus.clear();
        change.counters.clear();
        let skewed = earlier(self.clock.now(), CLOCK_SKEW);
        let since = status.seen_at.map_or(skewed, |seen_at| seen_at.max(skewed));
        for ecu in &new.ecus {
            let known = vehicle.record.ecu(&ecu.serial);
            let Some(known) = known else { continue };
            let before = status.ecu(&ecu.serial);
            let is_same_key = known.signing_key == ecu.signing_key;
            let counter = status.counters.get(&ecu.serial).copied();
            let counter = counter
                .max(before.reset.as_ref().map(|reset| reset.counter))
                .filter(|_| is_same_key);
            let after = EcuStatus {
                highest_counter: before.highest_counter,
                reset: counter.map(|counter| CounterReset { counter, since }),
                ..EcuStatus::default()
            };
            if after != EcuStatus::default() {
                change.ecus.insert(ecu.serial.clone(), after);
            }
        }
        change
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

fn is_primary(serial: &EcuSerial, owner: &VehicleId) -> Error {
    let detail = format!(
        "{serial} is the Primary of {owner}: remove that vehicle first, which frees its ECUs"
    );
    Error::Conflict { code: "ecu_is_primary", detail }
}

/// How far the clock of a vehicle may be behind when it starts its report counters again under a
/// signing key that it keeps.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
