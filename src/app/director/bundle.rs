//! A vehicle's metadata: signed when the vehicle asks, kept until what it lists changes or it gets
//! old.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::Director;
use super::decide::{images_of, violations_of};
use crate::app::Error;
use crate::app::fleet::Vehicle;
use crate::app::keys::escrow_failed;
use crate::app::signing::{KEY_UNAVAILABLE, signing_failed};
use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::RecipientKey;
use crate::keys::escrow::{self, EscrowError};
use crate::model::{
    Actor, AssignmentOutcome, Bundle, EventKind, ImageRecord, Listing, VehicleChange, VehicleId,
    VerifiedUnder,
};
use crate::telemetry::Chain;
use crate::uptane::custom::{EcuCustom, ImageCustom};
use crate::uptane::director::{BundleAuthority, DirectedImage, SignedBundle};

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

/// What is to be done about the bundle that is kept for a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is served as it is.
    Current,
    /// It is what a new one would be, and past half of its life.
    Due,
    /// Only another one may be served.
    Unfit,
}

/// What is about to be signed for a vehicle.
#[derive(Default)]
struct Draft {
    lists: Vec<Listing>,
    images: BTreeMap<String, DirectedImage>,
}

impl Director {
    /// A version of the Director's root, or the newest. It is the same for all vehicles, and no
    /// secret.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn root(&self, version: Option<u64>) -> Result<Bytes, Error> {
        let found = self.roots.find(version).await?;
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
    pub async fn file(&self, vin: &VehicleId, file: DirectorFile) -> Result<Bytes, Error> {
        self.follow_root().await?;
        let vehicle = self.vehicles.update(vin, async |vehicle| {
            let standing = self.standing(vehicle, file.version).await?;
            if standing == Standing::Current {
                return Ok(None);
            }
            match self.sign_bundle(vehicle).await {
                // Until the key can be used, what it has signed is as good as it was.
                Err(Error::Unavailable { code: KEY_UNAVAILABLE, .. })
                    if standing == Standing::Due =>
                {
                    Ok(None)
                }
                signed => signed.map(Some),
            }
        });
        let vehicle = vehicle.await?;
        let unsigned = || Error::internal("serve a vehicle's metadata")(io::Error::other("none"));
        let bundle = vehicle.record.status.bundle.as_ref().ok_or_else(unsigned)?;
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
        Ok(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A vehicle's timestamp, to go with the answer to its manifest; none if it has to ask for a
    /// root first, because the newest is not of version `root`.
    ///
    /// What keeps it from being signed is logged, and no fault of the manifest: the vehicle is told
    /// when it asks.
    pub async fn timestamp_after(&self, vin: &VehicleId, root: u64) -> Option<Bytes> {
        let followed = self.follow_root().await;
        if let Err(error) = followed {
            tracing::warn!(error = %Chain(&error), "no timestamp for a manifest");
            return None;
        }
        if self.roots.newest().ok()?.set.root_version() != root {
            return None;
        }
        let file = DirectorFile { role: DirectorRole::Timestamp, version: None };
        let found = self.file(vin, file).await;
        found
            .inspect_err(
                |error| tracing::warn!(error = %Chain(error), "no timestamp for a manifest"),
            )
            .ok()
    }

    /// Goes by the Director's root that was published last, by whichever replica, and has its keys.
    async fn follow_root(&self) -> Result<(), Error> {
        let Some(replica) = &self.replica else { return Ok(()) };
        let compare = async || {
            let known = self.roots.newest().map_or(0, |root| root.set.root_version());
            if self.catalog.newest_director_root().await? > known {
                replica.keys.follow().await?;
                self.roots.load().await?;
            }
            Ok(())
        };
        replica.director_root.compare(compare).await
    }

    /// Whether the kept bundle is fresh, verifies, lists what it should, and lists nothing that was
    /// yanked since.
    ///
    /// Who asks for a version by its number has begun with it: it is served until its cycle is over,
    /// though a root that names other keys was published meanwhile.
    async fn standing(&self, vehicle: &Vehicle, asked: Option<u64>) -> Result<Standing, Error> {
        let policy = self.repository.policy().director.bundle;
        let Some(bundle) = &vehicle.record.status.bundle else { return Ok(Standing::Unfit) };
        // Nothing can be signed while the clock is behind, and what was signed is as good as it
        // was.
        let standing = match self.publisher.signing_time().ok() {
            Some(now) if bundle.expires_at <= now => return Ok(Standing::Unfit),
            Some(now) if policy.is_due(bundle.expires_at, now) => Standing::Due,
            _ => Standing::Current,
        };
        let is_good = self.is_verified(vehicle, bundle)?
            || (asked == Some(bundle.version) && self.was_verified(vehicle, bundle));
        if bundle.lists != wanted(vehicle)? || !is_good {
            return Ok(Standing::Unfit);
        }
        for listing in &bundle.lists {
            if self.listed.find(&listing.path).await?.is_none() {
                return Ok(Standing::Unfit);
            }
        }
        Ok(standing)
    }

    /// Signs a vehicle's metadata, verifies it and keeps it.
    async fn sign_bundle(&self, vehicle: &Vehicle) -> Result<VehicleChange, Error> {
        let now = self.publisher.signing_time()?;
        let (vin, root) = (&vehicle.record.vin, self.roots.newest()?);
        let BundleAuthority { targets, snapshot, timestamp } = &root.authority;
        let keyring = self.repository.keyring();
        self.signing.refuse_resting(&keyring, [targets, snapshot, timestamp])?;
        let mut change = VehicleChange::of(&vehicle.record, now);
        let Draft { lists, images } = self.draft(vehicle, &mut change).await?;
        let version = self.vehicles.reserve_version().await?;
        let signed = self.repository.sign(vin, version, &images, now, &root.authority).await;
        let signed = signed.map_err(signing_failed("sign a vehicle's metadata"))?;
        self.publisher.note_signed(now);
        self.metrics.add_director_bundle();
        // From now on the vehicle may have it, and may be running what it lists.
        for Listing { ecu_serial, path, .. } in &lists {
            let counter = images.get(path.as_str()).map(|image| image.custom.release_counter);
            change.offer(ecu_serial, path, counter, version);
        }
        let mut bundle = bundle_of(version, lists, &signed)?;
        self.verify_signed(vehicle, &mut bundle)?;
        change.keep(Arc::new(bundle));
        Ok(change)
    }

    /// What can be signed of what the vehicle is to run; the rest is withdrawn.
    async fn draft(&self, vehicle: &Vehicle, change: &mut VehicleChange) -> Result<Draft, Error> {
        let mut draft = Draft::default();
        for listing in wanted(vehicle)? {
            match self.direct(vehicle, &listing, &mut draft.images).await? {
                None => draft.lists.push(listing),
                Some(reason) => withdraw(&listing, reason, change),
            }
        }
        if !change.ended().is_empty() {
            self.withdraw_dependents(vehicle, &mut draft, change).await?;
        }
        Ok(draft)
    }

    /// What relied on an assignment that was withdrawn is withdrawn with it.
    async fn withdraw_dependents(
        &self,
        vehicle: &Vehicle,
        draft: &mut Draft,
        change: &mut VehicleChange,
    ) -> Result<(), Error> {
        let images = self.load_images(images_of(&vehicle.record)).await?;
        loop {
            let coming = draft.lists.iter().map(|listing| (&listing.ecu_serial, &listing.path));
            let violated = violations_of(&vehicle.record, coming, &images);
            let Some(violation) = violated.into_iter().next() else { return Ok(()) };
            let ecus = violation.ecus();
            let is_of_it = |listing: &Listing| ecus.contains(&&listing.ecu_serial);
            let Some(at) = draft.lists.iter().position(is_of_it) else { return Ok(()) };
            let listing = draft.lists.remove(at);
            if let Some(image) = draft.images.get_mut(listing.path.as_str()) {
                image.ecus.remove(&listing.ecu_serial);
            }
            draft.images.retain(|_, image| !image.ecus.is_empty());
            withdraw(&listing, violation.to_string(), change);
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
        let key = vehicle.encryption_key(ecu)?;
        if let Some(key) = key
            && self.catalog.is_revoked(key.kid().as_str()).await?
        {
            let (kid, serial) = (key.kid(), &ecu.serial);
            return Ok(Some(format!(
                "the encryption key of {serial}, {kid}, was revoked: the vehicle has to change it first"
            )));
        }
        let envelope = match key {
            Some(key) => Some(self.wrap_for(key, &record).await?),
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
        image: &ImageRecord,
    ) -> Result<serde_json::Value, Error> {
        let path = &image.path;
        // Before the envelope is read: a rotation keeps these until they are let go.
        let keys = self.escrow.keys();
        let stored = self.catalog.find_envelope(path).await?;
        let stored = stored.ok_or_else(|| crate::app::images::no_image(path))?;
        let envelope = Envelope::parse(stored.as_bytes())
            .map_err(Error::internal("read a stored envelope"))?;
        let sealed = &image.sealed.sha256;
        match escrow::wrap_for(&keys, envelope, sealed, key.clone()).await {
            Err(error @ EscrowError::Envelope(EnvelopeError::NoEscrowEntry { .. })) => {
                self.escrow.check_current().await?; // it may be for a key that is not here yet
                Err(escrow_failed(WRAP)(error))
            }
            wrapped => wrapped.map_err(escrow_failed(WRAP)),
        }
    }
}

/// Ends an assignment that can't be offered, and raises it (DIR-31).
fn withdraw(listing: &Listing, reason: String, change: &mut VehicleChange) {
    tracing::warn!(vehicle.id = change.vehicle_id(), image.path = %listing.path, reason, "an assignment is withdrawn");
    change.end(&listing.ecu_serial, AssignmentOutcome::Withdrawn);
    let event = change.event(EventKind::AssignmentBlocked, &Actor::server());
    change.record(event.of_ecu(&listing.ecu_serial).saying(reason));
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

const WRAP: &str = "wrap a data key";
