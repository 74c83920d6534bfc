//! What an ECU says that it runs, held against what it had and what it was given.
//!
//! A report that its ECU has signed is a fact, also if it is of an image that nobody gave to that
//! ECU: after a restored backup, or when somebody has flashed it. It is recorded, raised, and the
//! vehicle is put into quarantine if the policy says so; to refuse it would leave the Director with
//! what is no longer true, and keep whoever reported it from being mended.

use crate::app::fleet::inventory::HOUR;
use crate::app::fleet::{Suspicion, Vehicle};
use crate::app::{App, Error};
use crate::catalog::MoreChanges;
use crate::model::{
    AssignmentOutcome, EcuSerial, EcuStatus, EventKind, FallenFrom, ImageRecord, InstalledImage,
    NewEvent,
};
use crate::uptane::manifest::EcuReport;

/// What is known here of an image that is reported by its path, length and digest.
pub(super) enum Known {
    /// It is this one.
    Same(Box<ImageRecord>),
    /// The image of that path has other bytes.
    Different,
    /// There is no image of that path: a factory may know more.
    Unknown,
}

impl App {
    /// Takes over what an ECU reports to run, and ends the assignment that it fulfils. Settles the
    /// offers that are settled by that (Deployment Best Practices 8.0.6.2): by a Primary that has
    /// verified the Targets of version `verified`, too.
    pub(super) async fn take_installed(
        &self,
        vehicle: &Vehicle,
        report: &EcuReport,
        verified: Option<u64>,
        ecu: &mut EcuStatus,
        more: &mut MoreChanges,
    ) -> Result<(), Error> {
        let image = &report.installed_image;
        let is_news = ecu.installed.as_ref() != Some(image);
        let is_assigned =
            ecu.assigned.as_ref().is_some_and(|assigned| assigned.path.as_str() == image.path);
        let is_offered = ecu.offered.iter().any(|offer| offer.path.as_str() == image.path);
        if is_news || is_assigned || is_offered {
            let known = self.look_up(image).await?;
            if is_news {
                self.take_image(vehicle, report, &known, ecu, more).await?;
            }
            // By its path alone an ECU that has other bytes under that name would never get the
            // image.
            if matches!(known, Known::Same(_)) {
                if let Some(done) = ecu.assigned.take_if(|_| is_assigned) {
                    more.ended.push((done.id, AssignmentOutcome::Installed));
                    (ecu.unexpected, ecu.fallen_from) = (false, None); // somebody wanted it
                }
                settle_offers_before(ecu, &image.path);
            }
        }
        // What is not listed by the Targets that its Primary has verified since can't be installed
        // any more.
        if let Some(version) = verified {
            ecu.offered.retain(|offer| offer.last_version >= version);
        }
        Ok(())
    }

    /// An image that the ECU did not report before.
    async fn take_image(
        &self,
        vehicle: &Vehicle,
        report: &EcuReport,
        known: &Known,
        ecu: &mut EcuStatus,
        more: &mut MoreChanges,
    ) -> Result<(), Error> {
        let (vin, serial, image) =
            (&vehicle.record.vin, &report.ecu_serial, &report.installed_image);
        let fault = self.find_fault(serial, image, known, ecu).await?;
        if let Some((from, event)) = self.find_fall(vehicle, report, known, ecu).await? {
            // Of an image that was given to it, so that it can't fill the catalog.
            let detail = if fault.is_some() { String::new() } else { event.detail.clone() };
            more.events.push(event.once_in(HOUR, &detail));
            self.metrics.add_fallback();
            tracing::warn!(vehicle.id = vehicle.record.id, "an ECU fell back to an older image");
            if ecu
                .fallen_from
                .as_ref()
                .is_none_or(|known| known.release_counter < from.release_counter)
            {
                ecu.fallen_from = Some(from);
            }
        }
        let before = ecu.installed.replace(image.clone());
        let was_unexpected = std::mem::replace(&mut ecu.unexpected, fault.is_some());
        if ecu.factory.is_none() && !was_unexpected {
            ecu.factory = before;
        }
        if let Known::Same(record) = known {
            ecu.highest_counter = ecu.highest_counter.max(Some(record.description.release_counter));
        }
        let Some(fault) = fault else {
            let event =
                self.event(vin, EventKind::Installed, Some(serial), image.path.clone(), "vehicle");
            more.events
                .push(event.once_in(HOUR, if image.is_nothing() { "" } else { &image.path }));
            return Ok(());
        };
        let detail = format!(
            "{fault}: it runs {}, {} bytes, SHA-256 {}",
            image.path, image.length, image.sha256
        );
        let event = self.event(vin, EventKind::UnexpectedImage, Some(serial), detail, "vehicle");
        more.events.push(event.once_in(HOUR, "")); // it chooses the path
        let reason = format!("{serial} runs what it was not given: {}", image.path);
        let policy = &self.limits.quarantine_on;
        let quarantined =
            policy.apply(&[Suspicion::UnexpectedImage].into(), &reason, self.clock.now(), more);
        self.metrics.add_unexpected_image();
        tracing::warn!(
            vehicle.id = vehicle.record.id,
            fault,
            quarantined,
            "an ECU runs what it was not given"
        );
        Ok(())
    }

    /// Why an ECU should not run an image: it neither had it, nor was given it, nor has a person
    /// accepted it. What it has when it is seen first is believed, and it may fall back to that, or
    /// to what it was ever assigned.
    async fn find_fault(
        &self,
        serial: &EcuSerial,
        image: &InstalledImage,
        known: &Known,
        ecu: &EcuStatus,
    ) -> Result<Option<&'static str>, Error> {
        if image.is_nothing() || ecu.factory.as_ref() == Some(image) || ecu.accepted.contains(image)
        {
            return Ok(None);
        }
        let is_first = ecu.installed.is_none();
        let was_offered = || ecu.offered.iter().any(|offer| offer.path.as_str() == image.path);
        Ok(match known {
            Known::Different => Some("image_differs"),
            Known::Same(_) if is_first || was_offered() => None,
            Known::Same(_) if self.catalog.was_assigned(serial, &image.path).await? => None,
            Known::Unknown if is_first => None, // only the factory knows what it is
            Known::Same(_) | Known::Unknown => Some("image_never_offered"),
        })
    }

    /// Finds from what an ECU went back to something older by itself, so that nobody takes it for
    /// updated. Forgets it once the ECU runs something as new again.
    async fn find_fall(
        &self,
        vehicle: &Vehicle,
        report: &EcuReport,
        known: &Known,
        ecu: &mut EcuStatus,
    ) -> Result<Option<(FallenFrom, NewEvent)>, Error> {
        let Some(before) = &ecu.installed else { return Ok(None) };
        let image = &report.installed_image;
        let counter = match known {
            Known::Same(record) => Some(record.description.release_counter),
            // What was there before all updates, or nothing at all, is older than any of them.
            _ if ecu.factory.as_ref() == Some(image) || image.is_nothing() => None,
            Known::Different | Known::Unknown => return Ok(None), // nobody knows how old it is
        };
        if ecu.fallen_from.as_ref().is_some_and(|from| counter >= Some(from.release_counter)) {
            ecu.fallen_from = None;
        }
        let Known::Same(older) = self.look_up(before).await? else { return Ok(None) };
        let from = FallenFrom {
            path: before.path.clone(),
            release_counter: older.description.release_counter,
        };
        if counter >= Some(from.release_counter) {
            return Ok(None);
        }
        let to = match counter {
            Some(counter) => format!("{} ({counter})", image.path),
            None if image.is_nothing() => "nothing".to_owned(),
            None => format!("{}, which it had at first", image.path),
        };
        let detail = format!("from {} ({}) to {to}", from.path, from.release_counter);
        let (vin, serial) = (&vehicle.record.vin, Some(&report.ecu_serial));
        Ok(Some((from, self.event(vin, EventKind::ReleaseCounterFell, serial, detail, "vehicle"))))
    }

    /// Finds what an image is that is reported by its path, length and digest.
    pub(super) async fn look_up(&self, image: &InstalledImage) -> Result<Known, Error> {
        let Ok(path) = image.path.parse() else { return Ok(Known::Unknown) };
        let found = self.catalog.find_image(&path).await?;
        Ok(found.map_or(Known::Unknown, |record| {
            let is_same =
                record.sealed.length == image.length && record.sealed.sha256 == image.sha256;
            if is_same { Known::Same(Box::new(record)) } else { Known::Different }
        }))
    }
}

/// Forgets what an ECU was offered before the image that it now runs.
fn settle_offers_before(ecu: &mut EcuStatus, runs: &str) {
    if let Some(newest) = ecu.offered.iter().rposition(|offer| offer.path.as_str() == runs) {
        ecu.offered.drain(..=newest);
    }
}
