//! A vehicle's metadata: signed when the vehicle asks, kept until what it lists changes or it gets
//! old.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::app::fleet::inventory::TRIES;
use crate::app::fleet::{Vehicle, not_registered};
use crate::app::{App, Error};
use crate::catalog::{MoreChanges, StatusChange};
use crate::envelope::jwe::Envelope;
use crate::envelope::key::RecipientKey;
use crate::model::{
    AssignmentOutcome, Bundle, CurrentAssignment, EcuStatus, EventKind, Listing, Offer, VehicleId,
    VerifiedUnder,
};
use crate::uptane::custom::{EcuCustom, ImageCustom};
use crate::uptane::director::{DirectedImage, SignedBundle};

/// A file of the Director repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectorFile {
    /// Which role's.
    pub role: DirectorRole,
    /// Which version, or the one that is there now.
    pub version: Option<u64>,
}

/// A role of the Director repository that is signed for each vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectorRole {
    /// `timestamp`
    Timestamp,
    /// `snapshot`
    Snapshot,
    /// `targets`
    Targets,
}

impl App {
    /// A version of the Director's root, or the newest. It is the same for all vehicles, and no
    /// secret.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn director_root(&self, version: Option<u64>) -> Result<Bytes, Error> {
        let found = self.director_roots.find(version).await?;
        let missing = || Error::NotFound {
            code: "file_not_found",
            detail: "there is no such root version".into(),
        };
        found.map(|root| root.body.into()).ok_or_else(missing)
    }

    /// A file that is signed for a vehicle, signed anew if it has to be.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a vehicle that isn't registered, and a version that isn't the
    /// current one.
    pub async fn director_file(&self, vin: &VehicleId, file: DirectorFile) -> Result<Bytes, Error> {
        for _ in 0..TRIES {
            let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
            let vehicle = if self.is_current(&vehicle).await? {
                Some(vehicle)
            } else {
                self.sign_bundle(&vehicle).await?
            };
            let Some(vehicle) = vehicle else { continue }; // it has changed meanwhile
            let Some(bundle) = &vehicle.record.status.bundle else { continue };
            if file.version.is_some_and(|version| version != bundle.version) {
                let detail =
                    "this version is not there any more: start again with timestamp.json".into();
                return Err(Error::NotFound { code: "file_not_found", detail });
            }
            let text = match file.role {
                DirectorRole::Timestamp => &bundle.timestamp,
                DirectorRole::Snapshot => &bundle.snapshot,
                DirectorRole::Targets => &bundle.targets,
            };
            return Ok(Bytes::copy_from_slice(text.as_bytes()));
        }
        Err(Error::Busy)
    }

    /// Whether the kept bundle is fresh, verifies, lists what it should, and lists nothing that was
    /// yanked since.
    async fn is_current(&self, vehicle: &Vehicle) -> Result<bool, Error> {
        let policy = self.director.policy().director.bundle;
        // Nothing can be signed while the clock is behind, and what was signed is as good as it
        // was.
        let now = self.publisher.signing_time().ok();
        let is_fresh =
            |bundle: &&Arc<Bundle>| now.is_none_or(|now| !policy.is_due(bundle.expires_at, now));
        let Some(bundle) = vehicle.record.status.bundle.as_ref().filter(is_fresh) else {
            return Ok(false);
        };
        if bundle.lists != wanted(vehicle)? || !self.is_verified(vehicle, bundle)? {
            return Ok(false);
        }
        for listing in &bundle.lists {
            if self.listed.find(&listing.path).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Signs a vehicle's metadata and keeps it; returns nothing if the vehicle has changed
    /// meanwhile.
    async fn sign_bundle(&self, vehicle: &Vehicle) -> Result<Option<Arc<Vehicle>>, Error> {
        let (status, now) = (&vehicle.record.status, self.publisher.signing_time()?);
        let mut change = StatusChange::of(vehicle.record.id, status);
        let mut more = MoreChanges::keeping(status, now);
        let mut images = BTreeMap::new();
        let mut lists = Vec::new();
        for listing in wanted(vehicle)? {
            match self.direct(vehicle, &listing, &mut images).await? {
                None => lists.push(listing),
                Some(reason) => self.withdraw(vehicle, &listing, reason, &mut change, &mut more),
            }
        }
        if !more.ended.is_empty() {
            self.withdraw_dependents(vehicle, &mut lists, &mut images, &mut change, &mut more)
                .await?;
        }
        let version = self.fleet.reserve_version().await?;
        let signed = self.director.sign(&vehicle.record.vin, version, &images, now).await;
        let signed = signed.map_err(Error::internal("sign a vehicle's metadata"))?;
        self.publisher.note_signed(now);
        self.metrics.add_director_bundle();
        // From now on the vehicle may have it, and may be running what it lists.
        for Listing { ecu_serial, path, .. } in &lists {
            let ecu = change.ecus.entry(ecu_serial.clone()).or_default();
            offer(ecu, path, version);
            let counter = images.get(path.as_str()).map(|image| image.custom.release_counter);
            ecu.highest_counter = ecu.highest_counter.max(counter);
        }
        let mut bundle = bundle_of(version, lists, &signed)?;
        self.verify_signed(vehicle, &mut bundle)?;
        more.bundle = Some(Arc::new(bundle));
        change.more = Some(Box::new(more));
        self.fleet.change(vehicle, change).await
    }

    /// What relied on an assignment that was withdrawn is withdrawn with it.
    async fn withdraw_dependents(
        &self,
        vehicle: &Vehicle,
        lists: &mut Vec<Listing>,
        images: &mut BTreeMap<String, DirectedImage>,
        change: &mut StatusChange,
        more: &mut MoreChanges,
    ) -> Result<(), Error> {
        loop {
            let violated = self.violations_of(
                vehicle,
                lists.iter().map(|listing| (&listing.ecu_serial, &listing.path)),
            );
            let Some(violation) = violated.await?.into_iter().next() else { return Ok(()) };
            let ecus = violation.ecus();
            let Some(at) = lists.iter().position(|listing| ecus.contains(&&listing.ecu_serial))
            else {
                return Ok(());
            };
            let listing = lists.remove(at);
            if let Some(image) = images.get_mut(listing.path.as_str()) {
                image.ecus.remove(&listing.ecu_serial);
            }
            images.retain(|_, image| !image.ecus.is_empty());
            self.withdraw(vehicle, &listing, violation.to_string(), change, more);
        }
    }

    /// Adds what an ECU is to install; or says why it can't be.
    async fn direct(
        &self,
        vehicle: &Vehicle,
        listing: &Listing,
        images: &mut BTreeMap<String, DirectedImage>,
    ) -> Result<Option<String>, Error> {
        let path = &listing.path;
        let Some(ecu) = vehicle.record.ecu(&listing.ecu_serial) else {
            return Ok(Some("the ECU is gone".into()));
        };
        let Some(listed) = self.listed.find(path).await? else {
            return Ok(Some(format!("the Image repository does not list {path}")));
        };
        let record = self.catalog.find_image(path).await?.filter(|image| image.yanked_at.is_none());
        let Some(record) = record else { return Ok(Some(format!("{path} was yanked"))) };
        // The vehicle compares the same (Uptane 2.1.0, 5.4.4.2 step 10), and would take a
        // difference for an attack.
        let is_same = listed.length == record.sealed.length
            && listed.sha256 == record.sealed.sha256
            && listed.custom == ImageCustom::new(&record.description, &record.sealed);
        if !is_same {
            return Ok(Some(format!(
                "the Image repository lists {path} otherwise than it was uploaded"
            )));
        }
        let envelope = match vehicle.encryption_key(ecu)? {
            Some(key) => Some(self.wrap_for(key, path).await?),
            None => None,
        };
        let image = images.entry(path.to_string()).or_insert_with(|| DirectedImage {
            length: record.sealed.length,
            sha256: listed.sha256,
            custom: listed.custom.clone(),
            ecus: BTreeMap::new(),
        });
        image.ecus.insert(
            ecu.serial.clone(),
            EcuCustom { hardware_id: ecu.hardware_id.clone(), envelope },
        );
        Ok(None)
    }

    /// Wraps an image's data key for one ECU, through the escrow key: so an image that was uploaded
    /// before the vehicle existed opens there too.
    async fn wrap_for(
        &self,
        key: &RecipientKey,
        path: &crate::model::ImagePath,
    ) -> Result<serde_json::Value, Error> {
        let stored =
            self.catalog.find_envelope(path).await?.ok_or_else(|| super::super::no_image(path))?;
        let envelope = Envelope::parse(stored.as_bytes())
            .map_err(Error::internal("read a stored envelope"))?;
        envelope
            .for_recipient_via_escrow(&self.escrow, key)
            .map_err(Error::internal("wrap a data key"))
    }

    /// Ends an assignment that can't be offered, and raises it (DIR-31).
    fn withdraw(
        &self,
        vehicle: &Vehicle,
        listing: &Listing,
        reason: String,
        change: &mut StatusChange,
        more: &mut MoreChanges,
    ) {
        tracing::warn!(vehicle.id = vehicle.record.id, image.path = %listing.path, reason, "an assignment is withdrawn");
        let assigned = change.ecus.get_mut(&listing.ecu_serial).and_then(|ecu| ecu.assigned.take());
        more.ended.extend(
            assigned.map(|assigned: CurrentAssignment| (assigned.id, AssignmentOutcome::Withdrawn)),
        );
        let serial = Some(&listing.ecu_serial);
        more.events.push(self.event(
            &vehicle.record.vin,
            EventKind::AssignmentBlocked,
            serial,
            reason,
            "server",
        ));
    }
}

/// What a vehicle's Targets should list: each ECU's assignment that it has not reported as
/// installed. An empty list is what an up-to-date vehicle gets (DIR-29).
fn wanted(vehicle: &Vehicle) -> Result<Vec<Listing>, Error> {
    let mut listings = Vec::new();
    for ecu in vehicle.record.ecus.iter() {
        let status = vehicle.record.status.ecus.get(&ecu.serial);
        let Some(assigned) = status.and_then(|status| status.assigned.as_ref()) else { continue };
        let kid = vehicle.encryption_key(ecu)?.map(|key| key.kid().to_string());
        listings.push(Listing { ecu_serial: ecu.serial.clone(), path: assigned.path.clone(), kid });
    }
    Ok(listings)
}

fn offer(ecu: &mut EcuStatus, path: &crate::model::ImagePath, version: u64) {
    ecu.offered.retain(|offer| offer.path != *path);
    ecu.offered.push(Offer { path: path.clone(), last_version: version });
}

fn bundle_of(version: u64, lists: Vec<Listing>, signed: &SignedBundle) -> Result<Bundle, Error> {
    let text = |bytes: &Bytes| {
        String::from_utf8(bytes.to_vec()).map_err(Error::internal("keep a vehicle's metadata"))
    };
    Ok(Bundle {
        version,
        expires_at: signed.timestamp.expires_at,
        lists,
        targets: text(&signed.targets.bytes)?,
        snapshot: text(&signed.snapshot.bytes)?,
        timestamp: text(&signed.timestamp.bytes)?,
        verified: None,
        verified_under: VerifiedUnder::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_that_is_made_again_is_the_newest() {
        let mut ecu = EcuStatus::default();
        let paths = ["a", "b"].map(|path| path.parse().unwrap());
        offer(&mut ecu, &paths[0], 1);
        offer(&mut ecu, &paths[1], 2);
        offer(&mut ecu, &paths[0], 3);
        let offered: Vec<_> =
            ecu.offered.iter().map(|offer| (offer.path.as_str(), offer.last_version)).collect();
        assert_eq!(offered, [("b", 2), ("a", 3)]);
    }
}
