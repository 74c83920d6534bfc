//! The Director repository: targets, snapshot and timestamp for one vehicle (Uptane 2.1.0, 5.3.2).
//!
//! All three have one version, from a sequence that all vehicles share, and name their vehicle
//! (DIR-26, DIR-39): one vehicle's metadata can neither be replayed to another nor lock it out.
//! Nothing here ever delegates (DIR-21).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use motorcade_model::{EcuSerial, RoleName, Sha256Digest, Timestamp, VehicleId};

use super::{Error, Hashes, MetaFile, Snapshot, Target, Targets, TimestampRole, Unsigned};
use crate::custom::{DirectorCustom, EcuCustom, ImageCustom};

/// An image that a vehicle is to install, as the Image repository lists it, and who is to install
/// it.
#[derive(Debug, Clone)]
pub struct DirectedImage {
    /// Length of the sealed image in bytes.
    pub length: u64,
    /// Digest of the sealed image.
    pub sha256: Sha256Digest,
    /// What SHALL match the Image repository.
    pub custom: ImageCustom,
    /// The ECUs, each once in all of a vehicle's images (DIR-27).
    pub ecus: BTreeMap<EcuSerial, EcuCustom>,
}

/// What the three files of a vehicle have in common.
#[derive(Debug, Clone, Copy)]
pub struct ForVehicle<'a> {
    /// The vehicle.
    pub vin: &'a VehicleId,
    /// Their version.
    pub version: NonZeroU64,
    /// When they expire.
    pub expires: Timestamp,
}

impl ForVehicle<'_> {
    /// What the vehicle is to run, and how often it reports at least, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] if an ECU is listed twice.
    pub fn targets(
        &self,
        images: &BTreeMap<String, DirectedImage>,
        report_every: Duration,
    ) -> Result<Unsigned, Error> {
        let mut ecus = BTreeSet::new();
        let serials = images.values().flat_map(|image| image.ecus.keys());
        for serial in serials {
            if !ecus.insert(serial) {
                let fault = format!("the ECU {serial} is listed twice");
                return Err(Error::build(&RoleName::Targets, fault));
            }
        }
        let target = |image: &DirectedImage| Target {
            custom: Some(DirectorCustom {
                image: image.custom.clone(),
                ecu_identifiers: image.ecus.clone(),
            }),
            hashes: Hashes { sha256: image.sha256 },
            length: image.length,
        };
        let targets = images.iter().map(|(path, image)| (path.clone(), target(image)));
        let mut targets = Targets::new(self.version, self.expires, targets.collect());
        targets.vin = Some(self.vin.clone());
        targets.report_every = Some(report_every.as_secs());
        Unsigned::new(RoleName::Targets, &targets)
    }

    /// The snapshot of these targets.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn snapshot(&self, targets: MetaFile) -> Result<Unsigned, Error> {
        let meta = [(RoleName::Targets, targets)];
        let mut snapshot = Snapshot::new(self.version, self.expires, meta);
        snapshot.vin = Some(self.vin.clone());
        Unsigned::new(RoleName::Snapshot, &snapshot)
    }

    /// The timestamp for this snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn timestamp(&self, snapshot: MetaFile) -> Result<Unsigned, Error> {
        let mut timestamp = TimestampRole::new(self.version, self.expires, snapshot);
        timestamp.vin = Some(self.vin.clone());
        Unsigned::new(RoleName::Timestamp, &timestamp)
    }
}
