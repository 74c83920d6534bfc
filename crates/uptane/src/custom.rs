//! The signed `custom` object of an image (docs/FORMAT.md), the same in both repositories.
//!
//! All of it is what Uptane 2.1.0 (5.2.3.1.1) calls information that SHALL match between the
//! repositories.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use motorcade_model::{
    Constraint, EcuSerial, HardwareId, ImageDescription, ImageName, ImageVersion, ReleaseCounter,
    SealAlgorithm, SealedImage, Sha256Digest, TargetFormat,
};

/// The `custom` object of an image's target metadata (TUF 1.0.34, 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageCustom {
    /// Name of the software.
    pub name: ImageName,
    /// Version of the software.
    pub version: ImageVersion,
    /// Hardware that may run it.
    pub hardware_ids: Vec<HardwareId>,
    /// Raised with each release.
    pub release_counter: ReleaseCounter,
    /// How it is installed.
    pub target_format: TargetFormat,
    /// How it is sealed, and what comes out.
    pub sealed: SealedCustom,
    /// Each of these must match an image in the same vehicle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Constraint>,
    /// None of these may match an image in the same vehicle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Constraint>,
}

/// `custom.sealed`: says unmistakably that the target is sealed, and binds its plaintext.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedCustom {
    /// The sealing algorithm.
    pub alg: SealAlgorithm,
    /// Length and digest of the plaintext.
    pub plaintext: PlaintextCustom,
}

/// `custom.sealed.plaintext`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaintextCustom {
    /// Length in bytes.
    pub length: u64,
    /// Digests, by algorithm.
    pub hashes: PlaintextHashes,
}

/// `custom.sealed.plaintext.hashes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaintextHashes {
    /// SHA-256 of the plaintext.
    pub sha256: Sha256Digest,
}

/// What the Director's Targets add to an image's `custom`, for this vehicle alone (Uptane 2.1.0,
/// 5.2.3.1.1): the rest of `custom` SHALL match the Image repository's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectorCustom {
    /// The image's own fields.
    #[serde(flatten)]
    pub image: ImageCustom,
    /// Who is to install it, by ECU serial.
    pub ecu_identifiers: BTreeMap<EcuSerial, EcuCustom>,
}

/// `custom.ecuIdentifiers.<serial>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EcuCustom {
    /// The ECU's hardware id.
    pub hardware_id: HardwareId,
    /// The data key, wrapped to the ECU's own key: a flattened JWE. Absent for an ECU without an
    /// encryption key, which opens the envelope of its hardware id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<Value>,
}

impl ImageCustom {
    /// Puts together the `custom` object of an image.
    pub fn new(description: &ImageDescription, sealed: &SealedImage) -> Self {
        Self {
            name: description.name.clone(),
            version: description.version.clone(),
            hardware_ids: description.hardware_ids.clone(),
            release_counter: description.release_counter,
            target_format: description.target_format,
            sealed: SealedCustom {
                alg: sealed.algorithm,
                plaintext: PlaintextCustom {
                    length: sealed.plaintext_length,
                    hashes: PlaintextHashes { sha256: sealed.plaintext_sha256 },
                },
            },
            requires: description.requires.clone(),
            conflicts: description.conflicts.clone(),
        }
    }

    /// The object as canonical JSON text: members in order, no spaces.
    pub fn to_json(&self) -> String {
        let sorted = serde_json::to_value(self).expect("strings and numbers are always JSON");
        sorted.to_string()
    }
}
