//! Enrolment by the vehicle itself, and the replacement of ECUs.
//!
//! The first registration of a vehicle stands. An ECU that was replaced in a workshop looks like an
//! attack (Deployment Best Practices 6.2): it is taken over only if a person has approved it, and
//! the approval is for one ECU, for a while, and once.

use std::time::Duration;

use serde::Deserialize;

use super::Vehicle;
use super::inventory::HOUR;
use super::register::{EcuInput, KeyInput, VehicleInput, check_together, invalid};
use super::renew::EnrolledBy;
use crate::app::access::Principal;
use crate::app::{App, Error};
use crate::catalog::{self, MoreChanges, StatusChange};
use crate::model::clock::later;
use crate::model::{AssignmentOutcome, EcuRecord, EcuSerial, EventKind, Timestamp, VehicleId};

/// What a vehicle says when it enrols: all of its ECUs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its id.
    pub vin: String,
    /// Which ECU is the Primary.
    pub primary_ecu_serial: String,
    /// All ECUs.
    pub ecus: Vec<EnrolledEcu>,
    /// SHA-256, in hexadecimal digits, of the bearer token with which it will identify itself.
    #[serde(default)]
    pub token_sha256: Option<String>,
}

/// An ECU of an enrolment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolledEcu {
    /// Its identifier.
    pub ecu_serial: String,
    /// Its hardware identifier.
    pub hardware_id: String,
    /// Public key that signs.
    pub signing_key: KeyInput,
    /// Public key that data keys are wrapped for.
    #[serde(default)]
    pub encryption_key: Option<KeyInput>,
}

impl Enrolment {
    /// The same as a registration.
    pub fn into_input(self) -> VehicleInput {
        let Self { vin, primary_ecu_serial, ecus, token_sha256 } = self;
        let ecu = |ecu: EnrolledEcu| EcuInput {
            role: if ecu.ecu_serial == primary_ecu_serial { "primary" } else { "secondary" }
                .to_owned(),
            ecu_serial: ecu.ecu_serial,
            hardware_id: ecu.hardware_id,
            signing_key: ecu.signing_key,
            encryption_key: ecu.encryption_key,
        };
        VehicleInput { vin, ecus: ecus.into_iter().map(ecu).collect(), token_sha256 }
    }
}

impl App {
    /// Takes over the ECUs that a known vehicle says it has now: nothing if they are those of the
    /// inventory, or the one replacement that was approved; or all of them anew, if that was.
    /// Returns whether anything changed.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if more than one ECU differs, or its replacement is not approved;
    /// [`Error::Invalid`], [`Error::Unprocessable`].
    pub async fn update_ecus(
        &self,
        vin: &VehicleId,
        enrolment: Enrolment,
        request_id: Option<String>,
    ) -> Result<bool, Error> {
        if enrolment.vin != vin.as_str() {
            return Err(Error::Forbidden {
                detail: "this is another vehicle's registration".into(),
            });
        }
        let claimed = self.read_vehicle_aside(enrolment.into_input()).await?;
        let vehicle = self.fleet.find(vin).await?;
        let known: &[EcuRecord] = vehicle.as_ref().map_or(&[], |vehicle| &vehicle.record.ecus);
        let gone: Vec<&EcuRecord> =
            known.iter().filter(|ecu| !claimed.ecus.contains(ecu)).collect();
        let come: Vec<&EcuRecord> =
            claimed.ecus.iter().filter(|ecu| !known.contains(ecu)).collect();
        // Keys are checked only if a person waits for them: any vehicle can send as many as it
        // likes.
        if self.catalog.find_re_enrolment(vin, self.clock.now()).await?.is_some() {
            self.check_new_keys(&come).await?;
            if self
                .try_re_enrol(&claimed, &EnrolledBy { actor: "vehicle".into(), request_id })
                .await?
            {
                return Ok(true);
            }
        }
        let vehicle = vehicle.as_ref().ok_or_else(|| not_registered(vin))?;
        let (old, new) = match (gone.as_slice(), come.as_slice()) {
            ([], []) => return Ok(false),
            ([old], [new]) if old.role == new.role => (*old, *new),
            _ => {
                let detail = format!(
                    "one ECU can be replaced at a time, by one of the same role; if more of {vin} is new, an engineer approves \
                     that with `motorcade vehicle re-enrol {vin}`"
                );
                return Err(Error::Conflict { code: "not_a_replacement", detail });
            }
        };
        if !self
            .catalog
            .is_replacement_approved(vehicle.record.id, &old.serial, self.clock.now())
            .await?
        {
            return Err(self.refuse_replacement(vin, old, new).await);
        }
        self.check_new_keys(&[new]).await?;
        self.replace(vehicle, old, new, &claimed.ecus).await.map(|()| true)
    }

    async fn replace(
        &self,
        vehicle: &Vehicle,
        old: &EcuRecord,
        new: &EcuRecord,
        ecus: &[EcuRecord],
    ) -> Result<(), Error> {
        check_together(ecus)?;
        let (vin, now) = (&vehicle.record.vin, self.clock.now());
        let change = self.without_ecu(vehicle, old, new);
        let forget = self.fleet.forget_after(vin);
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

    async fn refuse_replacement(&self, vin: &VehicleId, old: &EcuRecord, new: &EcuRecord) -> Error {
        let detail = format!("{} ({}) came for {}", new.serial, new.hardware_id, old.serial);
        let event =
            self.event(vin, EventKind::ReplacementRefused, Some(&old.serial), detail, "vehicle");
        if let Err(error) = self.catalog.insert_events(&[event.once_in(HOUR, "")]).await {
            return error.into();
        }
        let detail = format!(
            "the replacement of {} is not approved: an engineer approves it with `motorcade vehicle approve-replacement`",
            old.serial
        );
        Error::Conflict { code: "replacement_not_approved", detail }
    }

    /// Counter, images and assignment of an ECU end with it; the bundle is signed again. A key that
    /// signs on keeps its counter, or its old reports could be sent again.
    fn without_ecu(&self, vehicle: &Vehicle, old: &EcuRecord, new: &EcuRecord) -> StatusChange {
        let status = &vehicle.record.status;
        let mut change = StatusChange::of(vehicle.record.id, status);
        let mut more = MoreChanges::keeping(status, self.clock.now());
        more.bundle = None;
        let detail = format!("{} took the place of {}", new.serial, old.serial);
        let (vin, serial) = (&vehicle.record.vin, Some(&new.serial));
        more.events.push(self.event(vin, EventKind::EcuReplaced, serial, detail, "vehicle"));
        let gone = change.ecus.remove(&old.serial).unwrap_or_default();
        if new.serial != old.serial || new.signing_key != old.signing_key {
            change.counters.remove(&old.serial);
        }
        more.ended
            .extend(gone.assigned.map(|assignment| (assignment.id, AssignmentOutcome::Cancelled)));
        change.more = Some(Box::new(more));
        change
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
        if valid_for.is_zero() || valid_for > LONGEST_APPROVAL {
            return Err(invalid("an approval is valid for 1 second to 30 days"));
        }
        let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
        if vehicle.record.ecu(serial).is_none() {
            let detail = format!("{vin} has no ECU {serial}");
            return Err(Error::NotFound { code: "ecu_not_found", detail });
        }
        let now = self.clock.now();
        let expires_at = later(now, valid_for);
        self.catalog
            .approve_replacement(vehicle.record.id, serial, &by.id, now, expires_at)
            .await?;
        let detail = format!("until {expires_at}");
        let event = self.event_by(vin, EventKind::ReplacementApproved, Some(serial), detail, by);
        self.catalog.insert_events(&[event]).await?;
        Ok(expires_at)
    }
}

pub(in crate::app) fn not_registered(vin: &VehicleId) -> Error {
    Error::NotFound { code: "vehicle_not_found", detail: format!("there is no vehicle {vin}") }
}

pub(super) const LONGEST_APPROVAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
