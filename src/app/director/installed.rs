//! What an ECU says that it runs, held against what it had and what it was given.
//!
//! A report that its ECU has signed is a fact, also if it is of an image that nobody gave to that
//! ECU: after a restored backup, or when somebody has flashed it. It is recorded, raised, and the
//! vehicle is put into quarantine if the policy says so; to refuse it would leave the Director with
//! what is no longer true, and keep whoever reported it from being mended.

use super::Director;
use super::decide::{Images, Known};
use crate::app::Error;
use crate::app::fleet::{HOUR, Suspicion};
use crate::model::{
    Actor, AssignmentOutcome, EcuSerial, EcuStatus, EventKind, FallenFrom, ImagePath,
    InstalledImage, VehicleChange,
};
use crate::uptane::manifest::EcuReport;

impl Director {
    /// Takes over what an ECU reports to run, and ends the assignment that it fulfils. Settles the
    /// offers that are settled by that (Deployment Best Practices 8.0.6.2): by a Primary that has
    /// verified the Targets of version `verified`, too.
    pub(super) async fn take_installed(
        &self,
        report: &EcuReport,
        verified: Option<u64>,
        change: &mut VehicleChange,
    ) -> Result<(), Error> {
        let (serial, image) = (&report.ecu_serial, &report.installed_image);
        let mut ecu = change.ecu(serial);
        let is_news = ecu.installed.as_ref() != Some(image);
        let is_assigned =
            ecu.assigned.as_ref().is_some_and(|assigned| assigned.path.as_str() == image.path);
        let is_offered = ecu.offered.iter().any(|offer| offer.path.as_str() == image.path);
        let mut is_fulfilled = false;
        if is_news || is_assigned || is_offered {
            let images = self.load_images(paths([Some(image), ecu.installed.as_ref()])).await?;
            let known = images.look_up(image);
            if is_news {
                self.take_image(report, &images, &mut ecu, change).await?;
            }
            // By its path alone an ECU that has other bytes under that name would never get the
            // image.
            if matches!(known, Known::Same(_)) {
                is_fulfilled = is_assigned;
                if is_assigned {
                    (ecu.unexpected, ecu.fallen_from) = (false, None); // somebody wanted it
                }
                settle_offers_before(&mut ecu, &image.path);
            }
        }
        // What is not listed by the Targets that its Primary has verified since can't be installed
        // any more.
        if let Some(version) = verified {
            ecu.offered.retain(|offer| offer.last_version >= version);
        }
        change.put_ecu(serial, ecu);
        if is_fulfilled {
            change.end(serial, AssignmentOutcome::Installed);
        }
        Ok(())
    }

    /// An image that the ECU did not report before.
    async fn take_image(
        &self,
        report: &EcuReport,
        images: &Images,
        ecu: &mut EcuStatus,
        change: &mut VehicleChange,
    ) -> Result<(), Error> {
        let (serial, image) = (&report.ecu_serial, &report.installed_image);
        let known = images.look_up(image);
        let fault = self.find_fault(serial, image, known, ecu).await?;
        if let Some((from, detail)) = find_fall(image, images, ecu) {
            // Of an image that was given to it, so that it can't fill the catalog.
            let alike = if fault.is_some() { String::new() } else { detail.clone() };
            let event = change.event(EventKind::ReleaseCounterFell, &Actor::vehicle());
            change.record(event.of_ecu(serial).saying(detail).once_in(HOUR, &alike));
            self.metrics.add_fallback();
            tracing::warn!(vehicle.id = change.vehicle_id(), "an ECU fell back to an older image");
            if ecu
                .fallen_from
                .as_ref()
                .is_none_or(|known| known.release_counter < from.release_counter)
            {
                ecu.fallen_from = Some(Box::new(from));
            }
        }
        let before = ecu.installed.replace(image.clone());
        let was_unexpected = std::mem::replace(&mut ecu.unexpected, fault.is_some());
        if ecu.factory.is_none() && !was_unexpected {
            ecu.factory = before.map(Box::new);
        }
        let counter = match known {
            Known::Same(record) => Some(record.description.release_counter),
            Known::Different | Known::Unknown => None,
        };
        ecu.highest_counter = ecu.highest_counter.max(counter);
        change.install(serial, counter);
        match fault {
            Some(fault) => self.raise_fault(serial, image, fault, change),
            None => {
                let event = change.event(EventKind::Installed, &Actor::vehicle()).of_ecu(serial);
                let alike = if image.is_nothing() { "" } else { &image.path };
                change.record(event.saying(&image.path).once_in(HOUR, alike));
            }
        }
        Ok(())
    }

    fn raise_fault(
        &self,
        serial: &EcuSerial,
        image: &InstalledImage,
        fault: &str,
        change: &mut VehicleChange,
    ) {
        let detail = format!(
            "{fault}: it runs {}, {} bytes, SHA-256 {}",
            image.path, image.length, image.sha256
        );
        let event = change.event(EventKind::UnexpectedImage, &Actor::vehicle()).of_ecu(serial);
        change.record(event.saying(detail).once_in(HOUR, "")); // it chooses the path
        let reason = format!("{serial} runs what it was not given: {}", image.path);
        let suspicions = [Suspicion::UnexpectedImage].into();
        let quarantined = self.quarantine_on.apply(&suspicions, &reason, change);
        self.metrics.add_unexpected_image();
        tracing::warn!(
            vehicle.id = change.vehicle_id(),
            fault,
            quarantined,
            "an ECU runs what it was not given"
        );
    }

    /// Why an ECU should not run an image: it neither had it, nor was given it, nor has a person
    /// accepted it. What it has when it is seen first is believed, and it may fall back to that, or
    /// to what it was ever assigned.
    async fn find_fault(
        &self,
        serial: &EcuSerial,
        image: &InstalledImage,
        known: Known<'_>,
        ecu: &EcuStatus,
    ) -> Result<Option<&'static str>, Error> {
        if image.is_nothing()
            || ecu.factory.as_deref() == Some(image)
            || ecu.accepted.contains(image)
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
}

/// Finds from what an ECU went back to something older by itself, so that nobody takes it for
/// updated, and says so. Forgets it once the ECU runs something as new again.
fn find_fall(
    image: &InstalledImage,
    images: &Images,
    ecu: &mut EcuStatus,
) -> Option<(FallenFrom, String)> {
    let before = ecu.installed.as_ref()?;
    let counter = match images.look_up(image) {
        Known::Same(record) => Some(record.description.release_counter),
        // What was there before all updates, or nothing at all, is older than any of them.
        _ if ecu.factory.as_deref() == Some(image) || image.is_nothing() => None,
        Known::Different | Known::Unknown => return None, // nobody knows how old it is
    };
    if ecu.fallen_from.as_ref().is_some_and(|from| counter >= Some(from.release_counter)) {
        ecu.fallen_from = None;
    }
    let Known::Same(older) = images.look_up(before) else { return None };
    let release_counter = older.description.release_counter;
    if counter >= Some(release_counter) {
        return None;
    }
    let to = match counter {
        Some(counter) => format!("{} ({counter})", image.path),
        None if image.is_nothing() => "nothing".to_owned(),
        None => format!("{}, which it had at first", image.path),
    };
    let detail = format!("from {} ({release_counter}) to {to}", before.path);
    Some((FallenFrom { path: before.path.clone(), release_counter }, detail))
}

/// The paths of those images that can have been uploaded here.
fn paths<'a>(
    images: impl IntoIterator<Item = Option<&'a InstalledImage>>,
) -> impl Iterator<Item = ImagePath> {
    images.into_iter().flatten().filter_map(|image| image.path.parse().ok())
}

/// Forgets what an ECU was offered before the image that it now runs.
fn settle_offers_before(ecu: &mut EcuStatus, runs: &str) {
    if let Some(newest) = ecu.offered.iter().rposition(|offer| offer.path.as_str() == runs) {
        ecu.offered.drain(..=newest);
    }
}
