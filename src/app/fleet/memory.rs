//! `Vehicles` is the one way to a vehicle's status. It keeps the vehicles that were served last in
//! memory, so that the requests of one poll read the catalog once, and writes the changes of many
//! polls in one transaction. A change is made only if the vehicle is still at the revision on which
//! it was decided; [`Vehicles::update`] decides it again otherwise.
//!
//! A server that is alone on its catalog knows all that changes. Among replicas, what is in memory
//! may be old: a change that was decided on it is refused by its revision, and nothing else comes of
//! it, no answer and no refusal, before the revision was compared.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lru::LruCache;
use tokio::runtime::Handle;

use super::writer::Writer;
use crate::app::Error;
use crate::app::watch::Watch;
use crate::catalog::Catalog;
use crate::envelope::key::RecipientKey;
use crate::model::{EcuRecord, EcuSerial, Sha256Digest, VehicleChange, VehicleId, VehicleRecord};
use crate::uptane::key::{PublicKey, VerifyingKey};

/// The vehicles, their status, and the one queue of its changes.
pub(in crate::app) struct Vehicles {
    catalog: Catalog,
    recent: Mutex<Recent>,
    writer: Writer,
    changed_by: ChangedBy,
}

/// Who changes vehicles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum ChangedBy {
    /// This server alone.
    This,
    /// Other replicas too.
    Others,
}

/// A vehicle with the keys of its ECUs read. A fleet of these is kept: the tests hold it to
/// [`MAX_KEPT_BYTES`].
#[derive(Debug, Clone)]
pub(in crate::app) struct Vehicle {
    pub(in crate::app) record: VehicleRecord,
    /// In the order of the record's ECUs.
    keys: Arc<[EcuKeys]>,
}

/// The public keys of an ECU.
#[derive(Debug)]
struct EcuKeys {
    signing: VerifyingKey,
    /// Read when it is first needed, which most polls don't.
    encryption: OnceLock<Option<Box<RecipientKey>>>,
}

struct Recent {
    /// Rises when something is forgotten: what was read before that must not be kept after it.
    generation: u64,
    vehicles: LruCache<VehicleId, Arc<Vehicle>>,
    by_token: LruCache<Sha256Digest, VehicleId>,
}

impl Vehicles {
    /// `kept` vehicles stay in memory.
    pub(in crate::app) fn new(
        catalog: Catalog,
        kept: NonZeroUsize,
        changed_by: ChangedBy,
        (watch, runtime): (&Watch, &Handle),
    ) -> Self {
        let recent =
            Recent { generation: 0, vehicles: LruCache::new(kept), by_token: LruCache::new(kept) };
        let writer = Writer::start(catalog.clone(), watch, runtime);
        Self { catalog, recent: Mutex::new(recent), writer, changed_by }
    }

    /// A vehicle, if it is registered.
    pub(in crate::app) async fn find(
        &self,
        vin: &VehicleId,
    ) -> Result<Option<Arc<Vehicle>>, Error> {
        match self.recall(vin).await? {
            Some(vehicle) if !self.is_current(&vehicle).await? => self.recall(vin).await,
            found => Ok(found),
        }
    }

    /// Whether a vehicle was registered when it was last looked at here.
    pub(in crate::app) async fn is_known(&self, vin: &VehicleId) -> Result<bool, Error> {
        Ok(self.recall(vin).await?.is_some())
    }

    /// A vehicle as it is in memory, or else as it is.
    async fn recall(&self, vin: &VehicleId) -> Result<Option<Arc<Vehicle>>, Error> {
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

    /// Whether a vehicle is what was read. If not, it is forgotten: who looks again sees what it is
    /// now. Whatever changes a vehicle changes its revision, and another vehicle of the same id has
    /// another number.
    async fn is_current(&self, vehicle: &Vehicle) -> Result<bool, Error> {
        if self.changed_by == ChangedBy::This {
            return Ok(true);
        }
        let record = &vehicle.record;
        if self.catalog.find_revision(record.id).await? == Some(record.status.revision) {
            return Ok(true);
        }
        let mut recent = self.recent();
        let is_newer = |known: &Arc<Vehicle>| {
            known.record.id == record.id && known.record.status.revision > record.status.revision
        };
        if !recent.vehicles.peek(&record.vin).is_some_and(is_newer) {
            recent.vehicles.pop(&record.vin);
        }
        Ok(false)
    }

    /// The vehicle to which a bearer token belongs.
    pub(in crate::app) async fn find_by_token(
        &self,
        token: &Sha256Digest,
    ) -> Result<Option<VehicleId>, Error> {
        let generation = {
            let mut recent = self.recent();
            // Another replica may have taken it back, which changes nothing else of the vehicle.
            if self.changed_by == ChangedBy::This
                && let Some(vin) = recent.by_token.get(token)
            {
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

    /// Decides on a change of a vehicle and makes it; decides again if somebody else's was made
    /// meanwhile. Returns the vehicle as it is then, also if nothing was to be changed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if it is not registered; [`Error::Busy`]; whatever `decide` returns.
    pub(in crate::app) async fn update<E: From<Error>>(
        &self,
        vin: &VehicleId,
        decide: impl AsyncFn(&Vehicle) -> Result<Option<VehicleChange>, E>,
    ) -> Result<Arc<Vehicle>, E> {
        retry(async || {
            let vehicle = self.recall(vin).await?.ok_or_else(|| not_registered(vin))?;
            match decide(&vehicle).await {
                Ok(Some(change)) => Ok(self.change(&vehicle, change).await?),
                _ if !self.is_current(&vehicle).await? => Ok(None),
                decided => decided.map(|_| Some(vehicle)),
            }
        })
        .await
    }

    /// Makes a change, unless the vehicle has changed since `vehicle` was read; returns the vehicle
    /// as it is then.
    async fn change(
        &self,
        vehicle: &Vehicle,
        change: VehicleChange,
    ) -> Result<Option<Arc<Vehicle>>, Error> {
        let generation = self.recent().generation;
        let change = Arc::new(change);
        let made = self.writer.change(Arc::clone(&change)).await;
        if !matches!(made, Ok(true)) {
            self.recent().vehicles.pop(&vehicle.record.vin); // it is not what it was, or nobody knows
            return made.map(|_| None);
        }
        let record = VehicleRecord { status: change.status().clone(), ..vehicle.record.clone() };
        let changed = Arc::new(Vehicle { record, keys: Arc::clone(&vehicle.keys) });
        self.recent().put_newer(&changed, generation);
        Ok(Some(changed))
    }

    /// A number of the Director's sequence that nothing else ever gets.
    pub(in crate::app) async fn reserve_version(&self) -> Result<u64, Error> {
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
    pub(in crate::app) fn forget_after<'a>(&'a self, vin: &'a VehicleId) -> impl Drop + use<'a> {
        Forget { vehicles: self, vin }
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
    vehicles: &'a Vehicles,
    vin: &'a VehicleId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.vehicles.forget(self.vin);
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
    fn new(mut record: VehicleRecord) -> Result<Self, Error> {
        let serials: Vec<&EcuSerial> = record.ecus.iter().map(|ecu| &ecu.serial).collect();
        record.status.counters.share(&serials);
        record.status.ecus.share(&serials);
        let keys_of = |ecu: &EcuRecord| {
            let signing = PublicKey::from_object(ecu.signing_key.to_value())
                .map_err(Error::internal("read a stored key"))?;
            let signing = signing.verifying().clone();
            Ok(EcuKeys { signing, encryption: OnceLock::new() })
        };
        let keys = record.ecus.iter().map(keys_of).collect::<Result<_, Error>>()?;
        Ok(Self { record, keys })
    }

    fn keys(&self, serial: &EcuSerial) -> Option<&EcuKeys> {
        let at = self.record.ecus.iter().position(|ecu| ecu.serial == *serial)?;
        self.keys.get(at)
    }

    /// The key under which an ECU signs.
    pub(in crate::app) fn signing_key(&self, serial: &EcuSerial) -> Option<&VerifyingKey> {
        self.keys(serial).map(|keys| &keys.signing)
    }

    /// The key for which data keys are wrapped, if the ECU has one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if what was registered can't be read any more.
    pub(in crate::app) fn encryption_key(
        &self,
        ecu: &EcuRecord,
    ) -> Result<Option<&RecipientKey>, Error> {
        let Some(jwk) = &ecu.encryption_key else { return Ok(None) };
        let read = || RecipientKey::from_jwk(&jwk.to_value()).ok().map(Box::new);
        let keys = self.keys(&ecu.serial);
        let key = keys.and_then(|keys| keys.encryption.get_or_init(read).as_deref());
        let damaged = || Error::Corrupt {
            detail: format!("the stored encryption key of {} is damaged", ecu.serial),
        };
        key.map(Some).ok_or_else(damaged)
    }
}

/// Tries until nobody else was first: an attempt returns nothing if somebody was.
pub(in crate::app) async fn retry<T, E: From<Error>>(
    attempt: impl AsyncFn() -> Result<Option<T>, E>,
) -> Result<T, E> {
    for _ in 0..TRIES {
        if let Some(done) = attempt().await? {
            return Ok(done);
        }
    }
    Err(Error::Busy.into())
}

pub(in crate::app) fn not_registered(vin: &VehicleId) -> Error {
    Error::NotFound { code: "vehicle_not_found", detail: format!("there is no vehicle {vin}") }
}

/// Each time somebody else's change has been made.
const TRIES: usize = 8;

/// Most memory that an idle vehicle with two ECUs takes here, in bytes, with all that finds it.
pub(in crate::app) const MAX_KEPT_BYTES: usize = 4096;
/// How many vehicles are kept if nobody says: what half a gigabyte holds.
pub(in crate::app) const KEPT_BY_DEFAULT: NonZeroUsize =
    NonZeroUsize::new(512 * 1024 * 1024 / MAX_KEPT_BYTES).expect("it is not 0");

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
