//! What a person accepts: an image that an ECU runs although nobody gave it to it.

use crate::app::access::Principal;
use crate::app::fleet::Suspicion;
use crate::app::fleet::inventory::check_reason;
use crate::app::{App, Error};
use crate::catalog::{MoreChanges, StatusChange};
use crate::model::{EcuSerial, EventKind, Sha256Digest, VehicleId};

impl App {
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
        self.change_vehicle(vin, |vehicle| {
            if vehicle.record.ecu(serial).is_none() {
                let detail = format!("{vin} has no ECU {serial}");
                return Err(Error::NotFound { code: "ecu_not_found", detail });
            }
            let status = &vehicle.record.status;
            let mut change = StatusChange::of(vehicle.record.id, status);
            let mut more = MoreChanges::keeping(status, self.clock.now());
            let ecu = change.ecus.entry(serial.clone()).or_default();
            let is_to_be_accepted = ecu.unexpected || ecu.fallen_from.is_some();
            let Some(image) = ecu.installed.clone().filter(|_| is_to_be_accepted) else {
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
            let detail = format!("{}, SHA-256 {}: {reason}", image.path, image.sha256);
            more.events.push(self.event_by(
                vin,
                EventKind::ImageAccepted,
                Some(serial),
                detail,
                by,
            ));
            ecu.accept(image);
            let is_last = !change.ecus.values().any(|ecu| ecu.unexpected);
            let is_for_nothing_else =
                |kind: &String| Suspicion::from_name(kind) == Some(Suspicion::UnexpectedImage);
            if let Some(ended) = more.quarantine.take_if(|quarantine| {
                is_last
                    && !quarantine.kinds.is_empty()
                    && quarantine.kinds.iter().all(is_for_nothing_else)
            }) {
                let detail = format!("what it runs was accepted (it was: {})", ended.reason);
                more.events.push(self.event_by(
                    vin,
                    EventKind::QuarantineCleared,
                    None,
                    detail,
                    by,
                ));
            }
            change.more = Some(Box::new(more));
            Ok(change)
        })
        .await
    }
}
