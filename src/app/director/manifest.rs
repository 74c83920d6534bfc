//! Vehicle version manifests: the order and the checks of Uptane 2.1.0, 5.3.2.1.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Director, Refusal};
use crate::app::Error;
use crate::app::fleet::{HOUR, Suspicion, Vehicle};
use crate::model::{Actor, EcuRole, EcuSerial, EventKind, NewEvent, VehicleChange, VehicleId};
use crate::telemetry::Chain;
use crate::uptane::counter::check_step;
use crate::uptane::manifest::{EcuReport, ManifestError, Signed, VehicleManifest};
use crate::uptane::verify::Fault;

/// Refused, or failed.
enum Rejected {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ManifestError> for Rejected {
    fn from(error: ManifestError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Director {
    /// Takes a manifest from a vehicle that has identified itself. One that is refused changes
    /// nothing, and is recorded with the reason.
    ///
    /// # Errors
    ///
    /// As [`Refusal`] says, or [`Error::Full`] and [`Error::Internal`].
    pub async fn submit_manifest(&self, vin: &VehicleId, body: &[u8]) -> Result<(), Error> {
        match self.accept_manifest(vin, body).await {
            Ok(()) => {
                self.metrics.add_manifest("accepted");
                Ok(())
            }
            Err(Rejected::Failed(error)) => Err(error),
            Err(Rejected::Refused(refusal)) => {
                self.metrics.add_manifest(refusal.code());
                tracing::info!(reason = refusal.code(), "manifest refused");
                self.record_refusal(vin, &refusal).await;
                Err(refusal.into())
            }
        }
    }

    async fn accept_manifest(&self, vin: &VehicleId, body: &[u8]) -> Result<(), Rejected> {
        let manifest = VehicleManifest::parse(body)?;
        if manifest.content.vin != *vin {
            return Err(Refusal::WrongVehicle.into());
        }
        if !self.vehicles.is_known(vin).await? {
            return Err(Refusal::UnknownVehicle.into());
        }
        let accepted = self.vehicles.update(vin, async |vehicle| {
            check_ecus(vehicle, &manifest.content)?;
            check_signatures(vehicle, &manifest)?;
            check_counters(vehicle, &manifest.content)?;
            Ok::<_, Rejected>(Some(self.take_reports(vehicle, &manifest.content).await?))
        });
        accepted.await.map(drop)
    }

    /// What an accepted manifest changes.
    async fn take_reports(
        &self,
        vehicle: &Vehicle,
        manifest: &VehicleManifest,
    ) -> Result<VehicleChange, Error> {
        let mut change = VehicleChange::of(&vehicle.record, self.clock.now());
        // A Primary can't have verified what was not signed: it would settle its Secondaries'
        // offers with it.
        let signed = vehicle.record.status.bundle.as_ref().map_or(0, |bundle| bundle.version);
        let verified = manifest.targets_version.filter(|version| *version <= signed);
        if signed > 0 && manifest.targets_version.is_some_and(|version| version > signed) {
            // It has metadata that the catalog has lost, and would take what is kept for a rollback.
            change.forget_bundle();
        }
        for report in manifest.reports.values().map(|report| &report.content) {
            change.hear(&report.ecu_serial, report.counter);
            self.take_installed(report, verified, &mut change).await?;
            self.take_attacks(report, &mut change);
            self.take_faults(report, &mut change);
            check_clock(report, &mut change);
        }
        Ok(change)
    }

    /// Each attack that an ECU reports is an event; what the policy says puts the vehicle into
    /// quarantine.
    fn take_attacks(&self, report: &EcuReport, change: &mut VehicleChange) {
        let mut suspicions: BTreeMap<Suspicion, String> = BTreeMap::new();
        for word in words(&report.attacks_detected) {
            let said = suspicions.entry(Suspicion::of_report(word)).or_default();
            if said.is_empty() {
                said.extend(word.chars().take(MAX_SHOWN));
            }
        }
        if suspicions.is_empty() {
            return;
        }
        let serial = &report.ecu_serial;
        for (suspicion, said) in &suspicions {
            let event = change.event(EventKind::AttackReported, &Actor::vehicle()).of_ecu(serial);
            change.record(event.saying(said).once_in(HOUR, suspicion.as_str()));
            self.metrics.add_attack(suspicion.as_str());
        }
        let attacks: String = report.attacks_detected.chars().take(MAX_SHOWN).collect();
        let reason = format!("{serial} reported: {attacks}");
        let kinds: BTreeSet<Suspicion> = suspicions.into_keys().collect();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        let quarantined = self.quarantine_on.apply(&kinds, &reason, change);
        self.metrics.add_attack_report();
        let attacks = names.join(",");
        tracing::warn!(
            vehicle.id = change.vehicle_id(),
            attacks,
            quarantined,
            "a vehicle reports an attack"
        );
    }

    /// What went wrong in a vehicle and takes no attacker is an event, and never quarantines.
    fn take_faults(&self, report: &EcuReport, change: &mut VehicleChange) {
        let mut known = BTreeSet::new();
        for word in words(&report.faults_detected) {
            let fault = Fault::ALL
                .into_iter()
                .map(Fault::as_str)
                .find(|name| *name == word)
                .unwrap_or("other");
            if known.insert(fault) {
                let said: String = word.chars().take(MAX_SHOWN).collect();
                let event = change.event(EventKind::FaultReported, &Actor::vehicle());
                let event = event.of_ecu(&report.ecu_serial).saying(said);
                change.record(event.once_in(HOUR, fault));
                self.metrics.add_fault(fault);
            }
        }
    }

    /// A refused manifest is an event with the reason; those that are alike are counted once an
    /// hour.
    async fn record_refusal(&self, vin: &VehicleId, refusal: &Refusal) {
        let detail = format!("{}: {refusal}", refusal.code());
        let now = self.clock.now();
        let event = NewEvent::new(vin, EventKind::ManifestRefused, now, &Actor::vehicle());
        let event = event.saying(detail).once_in(HOUR, refusal.code());
        // The vehicle is told the reason of the refusal, whatever becomes of the record.
        if let Err(error) = self.catalog.insert_events(&[event]).await {
            tracing::error!(error = %Chain(&error), "failed to record a refused manifest");
        }
    }
}

/// Every ECU of the inventory is there, no other, and the sender is the Primary (DIR-16a).
fn check_ecus(vehicle: &Vehicle, manifest: &VehicleManifest) -> Result<(), Refusal> {
    let is_primary =
        vehicle.record.ecu(&manifest.primary).is_some_and(|ecu| ecu.role == EcuRole::Primary);
    if !is_primary {
        return Err(Refusal::WrongPrimary(manifest.primary.clone()));
    }
    if let Some(missing) =
        vehicle.record.ecus.iter().find(|ecu| !manifest.reports.contains_key(&ecu.serial))
    {
        return Err(Refusal::MissingEcu(missing.serial.clone()));
    }
    if let Some(unknown) =
        manifest.reports.keys().find(|serial| vehicle.record.ecu(serial).is_none())
    {
        return Err(Refusal::UnknownEcu(unknown.clone()));
    }
    let wrong = |(listed, report): (&EcuSerial, &Signed<EcuReport>)| {
        let reported = &report.content.ecu_serial;
        (listed != reported)
            .then(|| Refusal::WrongSerial { listed: listed.clone(), reported: reported.clone() })
    };
    manifest.reports.iter().find_map(wrong).map_or(Ok(()), Err)
}

/// The Primary's signature over the whole, and each ECU's own over its report (DIR-16b, DIR-16c).
fn check_signatures(vehicle: &Vehicle, manifest: &Signed<VehicleManifest>) -> Result<(), Refusal> {
    let is_signed =
        vehicle.signing_key(&manifest.content.primary).is_some_and(|key| manifest.verify(key));
    if !is_signed {
        return Err(Refusal::WrongSignature);
    }
    let is_forged = |(serial, report): &(&EcuSerial, &Signed<EcuReport>)| {
        !vehicle.signing_key(serial).is_some_and(|key| report.verify(key))
    };
    match manifest.content.reports.iter().find(is_forged) {
        Some((serial, _)) => Err(Refusal::WrongReportSignature(serial.clone())),
        None => Ok(()),
    }
}

/// Counters rise strictly (DIR-17). That of two manifests with one counter only the first is
/// accepted, whoever checks them at the same time, is up to the revision on which the change is
/// made.
fn check_counters(vehicle: &Vehicle, manifest: &VehicleManifest) -> Result<(), Refusal> {
    for (serial, report) in &manifest.reports {
        let counter = report.content.counter;
        let time = report.content.time;
        if let Some(last) = vehicle.record.status.replayed(serial, counter, time) {
            return Err(Refusal::Replayed { serial: serial.clone(), counter, last });
        }
        let last = vehicle.record.status.counters.get(serial).copied().unwrap_or(0);
        if let Err(fault) = check_step(last, counter) {
            let fault = format!("{serial} has counter {counter}: {fault}");
            return Err(ManifestError::Shape { what: "an ECU version report", fault }.into());
        }
    }
    Ok(())
}

/// DIR-16d. Not refused: a vehicle with a wrong clock has to be able to say so.
fn check_clock(report: &EcuReport, change: &mut VehicleChange) {
    if change.at().duration_since(report.time).unsigned_abs() > CLOCK_TOLERANCE {
        let event = change.event(EventKind::ClockOff, &Actor::vehicle());
        let event = event.of_ecu(&report.ecu_serial).saying(format!("it says {}", report.time));
        change.record(event.once_in(HOUR * 24, ""));
    }
}

/// The names in a list of a report.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_SHOWN: usize = 200;
