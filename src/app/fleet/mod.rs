//! The fleet: the inventory of vehicles, and the status that changes as they are served.
//!
//! `Fleet` is the one way to a vehicle's status. It keeps the vehicles that were served last in
//! memory, so that the requests of one poll read the catalog once, and writes the changes of many
//! polls in one transaction. A change is made only if the vehicle is still at the revision on which
//! it was decided; whoever decided it tries again otherwise.
//!
//! What is in memory is right because one server runs on a catalog. Replicas would have to compare
//! revisions before they serve metadata from here.

mod bounded;
mod bulk;
mod clear;
mod identity;
pub(super) mod inventory;
mod quarantine;
mod register;
mod renew;
mod replace;
mod writer;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lru::LruCache;
use tokio::runtime::Handle;

pub use bulk::{BulkFormat, BulkReport, LineFault, LineSink};
pub use clear::{ClearReport, ClearSelection, MAX_CLEARED};
pub use identity::IdentityClaims;
pub use inventory::FleetCounts;
pub use quarantine::{ParsePolicyError, QuarantinePolicy, Suspicion};
pub use register::{EcuInput, KeyInput, VehicleInput};
pub use replace::Enrolment;
pub(super) use replace::not_registered;
use writer::Writer;

use super::Error;
use super::watch::Watch;
use crate::catalog::{Catalog, StatusChange};
use crate::envelope::key::RecipientKey;
use crate::model::{EcuRecord, EcuSerial, Sha256Digest, VehicleId, VehicleRecord, VehicleStatus};
use crate::uptane::key::PublicKey;

/// The vehicles, their status, and the one queue of its changes.
pub(super) struct Fleet {
    catalog: Catalog,
    recent: Mutex<Recent>,
    writer: Writer,
}

/// A vehicle with the keys of its ECUs read.
#[derive(Debug, Clone)]
pub(super) struct Vehicle {
    pub(super) record: VehicleRecord,
    keys: Arc<HashMap<EcuSerial, EcuKeys>>,
}

/// The public keys of an ECU.
#[derive(Debug)]
struct EcuKeys {
    signing: PublicKey,
    /// Read when it is first needed, which most polls don't.
    encryption: OnceLock<Option<RecipientKey>>,
}

struct Recent {
    /// Rises when something is forgotten: what was read before that must not be kept after it.
    generation: u64,
    vehicles: LruCache<VehicleId, Arc<Vehicle>>,
    by_token: LruCache<Sha256Digest, VehicleId>,
}

impl Fleet {
    /// `kept` vehicles stay in memory.
    pub(super) fn new(
        catalog: Catalog,
        kept: NonZeroUsize,
        watch: &Watch,
        runtime: &Handle,
    ) -> Self {
        let recent =
            Recent { generation: 0, vehicles: LruCache::new(kept), by_token: LruCache::new(kept) };
        let writer = Writer::start(catalog.clone(), watch, runtime);
        Self { catalog, recent: Mutex::new(recent), writer }
    }

    /// A vehicle, if it is registered.
    pub(super) async fn find(&self, vin: &VehicleId) -> Result<Option<Arc<Vehicle>>, Error> {
        let generation = {
            let mut recent = self.recent();
            if let Some(vehicle) = recent.vehicles.get(vin) {
                return Ok(Some(Arc::clone(vehicle)));
            }
            recent.generation
        };
        let Some(record) = self.catalog.find_vehicle(vin).await? else { return Ok(None) };
        self.keep(record, generation, None).map(Some)
    }

    /// The vehicle to which a bearer token belongs.
    pub(super) async fn find_by_token(
        &self,
        token: &Sha256Digest,
    ) -> Result<Option<VehicleId>, Error> {
        let generation = {
            let mut recent = self.recent();
            if let Some(vin) = recent.by_token.get(token) {
                return Ok(Some(vin.clone()));
            }
            recent.generation
        };
        let Some(record) = self.catalog.find_vehicle_of_token(token).await? else {
            return Ok(None);
        };
        let vin = record.vin.clone();
        self.keep(record, generation, Some(*token))?;
        Ok(Some(vin))
    }

    /// Makes a change, unless the vehicle has changed since `vehicle` was read; returns the vehicle
    /// as it is then.
    pub(super) async fn change(
        &self,
        vehicle: &Vehicle,
        change: StatusChange,
    ) -> Result<Option<Arc<Vehicle>>, Error> {
        let generation = self.recent().generation;
        let change = Arc::new(change);
        let made = self.writer.change(Arc::clone(&change)).await;
        if !matches!(made, Ok(true)) {
            self.recent().vehicles.pop(&vehicle.record.vin); // it is not what it was, or nobody knows
            return made.map(|_| None);
        }
        let mut record = vehicle.record.clone();
        let before = record.status;
        let StatusChange { revision, counters, ecus, seen_at, more, .. } =
            Arc::unwrap_or_clone(change);
        let (quarantine, bundle) = match more {
            Some(more) => (more.quarantine, more.bundle),
            None => (before.quarantine, before.bundle),
        };
        record.status =
            VehicleStatus { revision: revision + 1, counters, ecus, seen_at, quarantine, bundle };
        let changed = Arc::new(Vehicle { record, keys: Arc::clone(&vehicle.keys) });
        self.recent().put_newer(&changed, generation);
        Ok(Some(changed))
    }

    /// A number of the Director's sequence that nothing else ever gets.
    pub(super) async fn reserve_version(&self) -> Result<u64, Error> {
        self.writer.reserve_version().await
    }

    /// Drops what is in memory of a vehicle, after a change of its inventory or its token.
    fn forget(&self, vin: &VehicleId) {
        let mut recent = self.recent();
        recent.generation += 1;
        recent.vehicles.pop(vin);
        let tokens: Vec<Sha256Digest> = recent
            .by_token
            .iter()
            .filter(|(_, owner)| *owner == vin)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            recent.by_token.pop(&token);
        }
    }

    /// Drops what is in memory of a vehicle when the guard is dropped, whatever becomes of the
    /// request that changes it.
    pub(super) fn forget_after<'a>(&'a self, vin: &'a VehicleId) -> impl Drop + use<'a> {
        Forget { fleet: self, vin }
    }

    /// Keeps what was read.
    fn keep(
        &self,
        record: VehicleRecord,
        generation: u64,
        token: Option<Sha256Digest>,
    ) -> Result<Arc<Vehicle>, Error> {
        let vehicle = Arc::new(Vehicle::new(record)?);
        let mut recent = self.recent();
        if let Some(token) = token.filter(|_| recent.generation == generation) {
            recent.by_token.put(token, vehicle.record.vin.clone());
        }
        Ok(recent.put_newer(&vehicle, generation))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    fleet: &'a Fleet,
    vin: &'a VehicleId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.fleet.forget(self.vin);
    }
}

impl Recent {
    /// Keeps a vehicle unless a newer revision of it is there, and returns the newer one. Keeps
    /// none if something has been forgotten since `generation`: it may be this one, with ECUs that
    /// are replaced.
    fn put_newer(&mut self, vehicle: &Arc<Vehicle>, generation: u64) -> Arc<Vehicle> {
        if self.generation != generation {
            self.vehicles.pop(&vehicle.record.vin);
            return Arc::clone(vehicle);
        }
        if let Some(known) = self.vehicles.get(&vehicle.record.vin)
            && known.record.status.revision > vehicle.record.status.revision
        {
            return Arc::clone(known);
        }
        self.vehicles.put(vehicle.record.vin.clone(), Arc::clone(vehicle));
        Arc::clone(vehicle)
    }
}

impl Vehicle {
    fn new(record: VehicleRecord) -> Result<Self, Error> {
        let keys_of = |ecu: &EcuRecord| {
            let signing = PublicKey::from_object(ecu.signing_key.clone())
                .map_err(Error::internal("read a stored key"))?;
            Ok((ecu.serial.clone(), EcuKeys { signing, encryption: OnceLock::new() }))
        };
        let keys = record.ecus.iter().map(keys_of).collect::<Result<_, Error>>()?;
        Ok(Self { record, keys: Arc::new(keys) })
    }

    /// The key under which an ECU signs.
    pub(super) fn signing_key(&self, serial: &EcuSerial) -> Option<&PublicKey> {
        self.keys.get(serial).map(|keys| &keys.signing)
    }

    /// The key for which data keys are wrapped, if the ECU has one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if what was registered can't be read any more.
    pub(super) fn encryption_key(&self, ecu: &EcuRecord) -> Result<Option<&RecipientKey>, Error> {
        let Some(jwk) = &ecu.encryption_key else { return Ok(None) };
        let read = || RecipientKey::from_jwk(jwk).ok();
        let key =
            self.keys.get(&ecu.serial).and_then(|keys| keys.encryption.get_or_init(read).as_ref());
        let damaged = || Error::Corrupt {
            detail: format!("the stored encryption key of {} is damaged", ecu.serial),
        };
        key.map(Some).ok_or_else(damaged)
    }
}
