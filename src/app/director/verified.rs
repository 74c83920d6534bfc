//! A vehicle's metadata is verified as the vehicle will verify it, before it is kept and before it
//! is served.
//!
//! What was verified is remembered with it as one digest of the files and of the root, so that a
//! vehicle that comes into memory costs a hash: metadata that rotted in the catalog, or that a
//! version which did not verify signed with a wrong key, is found and signed again.

use sha2::{Digest, Sha256};

use super::Director;
use super::roots::NewestRoot;
use crate::app::Error;
use crate::app::fleet::Vehicle;
use crate::model::{Bundle, Sha256Digest, VehicleRecord};
use crate::uptane::verify::{TrustedSet, VerifyError};

impl Director {
    /// Whether a kept bundle is one that the vehicle will take.
    pub(super) fn is_verified(&self, vehicle: &Vehicle, bundle: &Bundle) -> Result<bool, Error> {
        let root = self.roots.newest()?;
        let version = root.set.root_version();
        if bundle.verified_under.version() == version {
            return Ok(true);
        }
        let verified = match bundle.verified {
            Some(known) if known == digest(&root, bundle) => Ok(()),
            _ => verify_bundle(&root.set, &vehicle.record, bundle),
        };
        match verified {
            Ok(()) => {
                bundle.verified_under.note(version);
                Ok(true)
            }
            Err(_) if self.was_verified(vehicle, bundle) => Ok(false), // until a root named other keys
            Err(fault) => {
                let id = vehicle.record.id;
                tracing::error!(vehicle.id = id, %fault, "kept metadata would be refused by its vehicle; it is signed again");
                Ok(false)
            }
        }
    }

    /// Whether a kept bundle is one that the vehicle took under a root before the newest, and goes on
    /// taking until it fetches that.
    pub(super) fn was_verified(&self, vehicle: &Vehicle, bundle: &Bundle) -> bool {
        let former = self.roots.former();
        former.iter().any(|root| verify_bundle(&root.set, &vehicle.record, bundle).is_ok())
    }

    /// Verifies what was just signed, and notes that it was.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`]: it **must** then neither be kept nor served.
    pub(super) fn verify_signed(
        &self,
        vehicle: &Vehicle,
        bundle: &mut Bundle,
    ) -> Result<(), Error> {
        let root = self.roots.newest()?;
        let verified = verify_bundle(&root.set, &vehicle.record, bundle);
        verified.map_err(Error::internal("verify a vehicle's metadata, which is not served"))?;
        bundle.verified = Some(digest(&root, bundle));
        bundle.verified_under.note(root.set.root_version());
        Ok(())
    }
}

/// Takes the three files as a Primary does (Uptane 2.1.0, 5.4.4.2), whatever the time.
pub(in crate::app) fn verify_bundle(
    root: &TrustedSet,
    vehicle: &VehicleRecord,
    bundle: &Bundle,
) -> Result<(), VerifyError> {
    let ecus =
        vehicle.ecus.iter().map(|ecu| (ecu.serial.clone(), ecu.hardware_id.clone())).collect();
    let mut set = root.for_vehicle(vehicle.vin.clone(), ecus);
    set.update_timestamp(bundle.timestamp.as_bytes())?;
    set.update_snapshot(bundle.snapshot.as_bytes())?;
    set.update_targets(bundle.targets.as_bytes())
}

fn digest(root: &NewestRoot, bundle: &Bundle) -> Sha256Digest {
    let mut hasher = Sha256::new_with_prefix(root.sha256.as_bytes());
    for text in [&bundle.timestamp, &bundle.snapshot, &bundle.targets] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    Sha256Digest::from_bytes(hasher.finalize().into())
}
