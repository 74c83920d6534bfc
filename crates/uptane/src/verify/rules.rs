//! Which rules the metadata of a repository is held to.

use std::collections::BTreeMap;

use motorcade_model::{EcuSerial, HardwareId, RoleName, VehicleId};

use super::VerifyError;
use super::signed::{KeyIds, Metadata};

/// Which rules a repository is held to.
#[derive(Debug, Clone)]
pub enum Rules {
    /// Any TUF repository.
    Tuf,
    /// The Image repository of a vehicle.
    Image,
    /// The Director of a vehicle.
    Director {
        /// The vehicle.
        vin: VehicleId,
        /// All its ECUs, for a Primary; a Secondary does not know them.
        ecus: Option<BTreeMap<EcuSerial, HardwareId>>,
    },
}

impl Rules {
    pub(super) fn key_ids(&self) -> KeyIds {
        match self {
            Self::Tuf => KeyIds::AsListed,
            Self::Image | Self::Director { .. } => KeyIds::Recomputed,
        }
    }

    /// FV-15. A file of another vehicle must not even get to be a reference for later checks
    /// (AT-10), so this comes before anything of it is kept.
    ///
    /// Uptane 2.1.0, 5.2.3.1: "If there are no images included in the Targets metadata from the
    /// Director repository, then the metadata SHALL include a vehicle identifier in order to avoid
    /// a replay attack." Off-spec: it is asked for in all of the Director's files but the root.
    pub(super) fn check_vehicle<T>(
        &self,
        role: &RoleName,
        metadata: &Metadata<T>,
    ) -> Result<(), VerifyError> {
        match self {
            Self::Director { vin, .. } if metadata.vin.as_deref() != Some(vin.as_str()) => {
                Err(VerifyError::WrongVehicle { role: role.clone() })
            }
            _ => Ok(()),
        }
    }
}
