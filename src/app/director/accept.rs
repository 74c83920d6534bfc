//! What a person accepts: an image that an ECU runs although nobody gave it to it.

use super::Director;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::fleet::{Suspicion, Vehicle, check_reason};
use crate::model::{
    Actor, EcuSerial, EventKind, InstalledImage, Quarantine, Sha256Digest, VehicleChange, VehicleId,
};

impl Director {
    /// Accepts what an ECU runs: it counts as given to it from now on, and as no fall-back. If
    /// every unexpected image of the vehicle is accepted, and its quarantine was for nothing else,
    /// that ends.
    ///
    /// With `sha256`, that image alone is accepted, whatever the ECU has reported since a person
    /// has looked.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for the vehicle or the ECU; [`Error::Conflict`] if there is nothing to
    /// accept, or it runs another image; [`Error::Invalid`].
    pub async fn accept_installed(
        &self,
        vin: &VehicleId,
        serial: &EcuSerial,
        sha256: Option<&Sha256Digest>,
        reason: &str,
        by: &Principal,
    ) -> Result<(), Error> {
        check_reason(reason)?;
        let by = Actor::from(by);
        let accepted = self.vehicles.update(vin, async |vehicle| {
            let image = find_acceptable(vehicle, serial, sha256)?;
            let mut change = VehicleChange::of(&vehicle.record, self.clock.now());
            let detail = format!("{}, SHA-256 {}: {reason}", image.path, image.sha256);
            let event = change.event(EventKind::ImageAccepted, &by).of_ecu(serial);
            change.record(event.saying(detail));
            change.accept(serial, image);
            let is_last = !change.status().ecus.values().any(|ecu| ecu.unexpected);
            let quarantine = change.status().quarantine.as_ref();
            if is_last && quarantine.is_some_and(is_for_images_alone) {
                let was = change.release().map(|ended| ended.reason).unwrap_or_default();
                let detail = format!("what it runs was accepted (it was: {was})");
                change.record(change.event(EventKind::QuarantineCleared, &by).saying(detail));
            }
            Ok::<_, Error>(Some(change))
        });
        accepted.await.map(drop)
    }
}

/// What an ECU runs, if that has to be accepted and is what the person has seen.
fn find_acceptable(
    vehicle: &Vehicle,
    serial: &EcuSerial,
    sha256: Option<&Sha256Digest>,
) -> Result<InstalledImage, Error> {
    if vehicle.record.ecu(serial).is_none() {
        let detail = format!("{} has no ECU {serial}", vehicle.record.vin);
        return Err(Error::NotFound { code: "ecu_not_found", detail });
    }
    let ecu = vehicle.record.status.ecu(serial);
    let is_to_be_accepted = ecu.unexpected || ecu.fallen_from.is_some();
    let Some(image) = ecu.installed.filter(|_| is_to_be_accepted) else {
        let detail = format!("{serial} runs nothing that has to be accepted");
        return Err(Error::Conflict { code: "nothing_to_accept", detail });
    };
    if sha256.is_some_and(|sha256| *sha256 != image.sha256) {
        let detail = format!(
            "{serial} runs another image by now, {} with SHA-256 {}",
            image.path, image.sha256
        );
        return Err(Error::Conflict { code: "image_changed", detail });
    }
    Ok(image)
}

fn is_for_images_alone(quarantine: &Quarantine) -> bool {
    let is_image = |kind: &String| Suspicion::from_name(kind) == Some(Suspicion::UnexpectedImage);
    !quarantine.kinds.is_empty() && quarantine.kinds.iter().all(is_image)
}
