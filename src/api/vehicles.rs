//! `/api/v1/vehicles`: the inventory

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{default_limit, is_false};
use crate::model::{EcuRecord, EcuStatus, InstalledImage, KeyInput, KeyObject, VehicleRecord};

/// A vehicle in the inventory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VehicleBody {
    /// VIN, or whatever id the fleet uses.
    pub vin: String,
    /// Number of the vehicle, as the server's log shows it.
    pub id: i64,
    /// The Primary first.
    pub ecus: Vec<EcuBody>,
    /// RFC 3339; null if it was never heard of.
    pub seen_at: Option<String>,
    /// How many of its ECUs are to run something else than they run: with an assignment, or fallen
    /// back.
    pub to_update: usize,
    /// Why it gets no new assignments; null if it does.
    pub quarantine: Option<QuarantineBody>,
    /// Version of the metadata that was signed for it last.
    pub targets_version: Option<u64>,
    /// RFC 3339.
    pub created_at: String,
    /// Id of the token that registered it.
    pub created_by: String,
}

/// A quarantine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineBody {
    /// RFC 3339.
    pub since: String,
    /// What was reported first.
    pub reason: String,
    /// Everything that it is for: names of attacks, `other`, `unexpected-image`.
    pub kinds: Vec<String>,
}

/// An ECU and what it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EcuBody {
    /// Its identifier.
    pub ecu_serial: String,
    /// Its hardware identifier.
    pub hardware_id: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// TUF key object.
    pub signing_key: Value,
    /// JWK; null for an ECU that opens the envelopes of its hardware id.
    pub encryption_key: Option<Value>,
    /// What it last reported.
    pub installed: Option<InstalledBody>,
    /// Whether that is nothing that it had, was given, or that a person has accepted.
    pub unexpected: bool,
    /// What it ran before it fell back to something older; null if it did not.
    pub fallen_from: Option<FallenBody>,
    /// Target path of what it is to run.
    pub assigned: Option<String>,
    /// Target paths of what it was offered and may be running.
    pub offered: Vec<String>,
    /// Counter of its last report.
    pub counter: Option<u64>,
}

/// An installed image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstalledBody {
    /// Target path.
    pub path: String,
    /// Of the sealed image, in bytes.
    pub length: u64,
    /// Of the sealed image, 64 hexadecimal digits.
    pub sha256: String,
}

/// What an ECU ran before it fell back to something older.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FallenBody {
    /// Target path.
    pub path: String,
    /// Release counter of the image.
    pub release_counter: u64,
}

/// Some vehicles, and where the next ones are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VehicleList {
    /// In the order of their ids.
    pub vehicles: Vec<VehicleBody>,
    /// Pass it as `cursor` for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Which vehicles to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VehicleQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: String,
    /// Vehicles a page, 1 to 1000.
    #[serde(default = "default_limit")]
    pub limit: u32,
    /// Only those in quarantine.
    #[serde(default, skip_serializing_if = "is_false")]
    pub quarantined: bool,
    /// Only those that have sent no manifest since; RFC 3339.
    pub silent_since: Option<String>,
    /// Only those of which an ECU is to install this image.
    pub assigned: Option<String>,
    /// Only those with an ECU that runs what nobody gave it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unexpected: bool,
    /// Only those with an ECU that fell back to something older.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fallen_back: bool,
    /// Only those with an ECU of this hardware id, to which `below_release` applies then.
    pub hardware_id: Option<String>,
    /// Only those with an ECU that runs a release with a lower counter; what the Image repository
    /// does not have is not below any.
    pub below_release: Option<u64>,
}

/// A vehicle to register.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVehicleBody {
    /// VIN, or whatever id the fleet uses: letters, digits and `-._`.
    pub vin: String,
    /// Its ECUs, one of them the Primary.
    pub ecus: Vec<NewEcuBody>,
    /// SHA-256 of the bearer token with which it will identify itself.
    pub token_sha256: Option<String>,
}

/// An ECU to register.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEcuBody {
    /// Unique among all ECUs.
    pub ecu_serial: String,
    /// Its hardware identifier.
    pub hardware_id: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// Public key: PEM text or TUF key object; Ed25519, P-256 or RSA.
    #[schema(value_type = Value)]
    pub signing_key: KeyInput,
    /// Public key: PEM text or JWK; P-256 or RSA, another one than the signing key.
    #[schema(value_type = Option<Value>)]
    pub encryption_key: Option<KeyInput>,
}

/// What a registration is answered with, if it is not one that is new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Registered {
    /// The vehicle.
    One(VehicleBody),
    /// What came of many.
    Many(BulkBody),
}

/// What came of a bulk registration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkBody {
    /// Vehicles that are new.
    pub registered: u64,
    /// Vehicles that were registered before, the same.
    pub unchanged: u64,
    /// Vehicles that were refused.
    pub refused: u64,
    /// Why, for the first 1000.
    pub faults: Vec<FaultBody>,
}

/// Why a vehicle was not registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FaultBody {
    /// Line of the body, from 1.
    pub line: u64,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl From<VehicleRecord> for VehicleBody {
    fn from(vehicle: VehicleRecord) -> Self {
        let VehicleRecord { id, vin, ecus, created_at, created_by, status } = vehicle;
        let ecu = |ecu: &EcuRecord| {
            let EcuStatus { installed, unexpected, fallen_from, offered, assigned, .. } =
                status.ecu(&ecu.serial);
            EcuBody {
                ecu_serial: ecu.serial.to_string(),
                hardware_id: ecu.hardware_id.to_string(),
                role: ecu.role.as_str().to_owned(),
                signing_key: ecu.signing_key.to_value(),
                encryption_key: ecu.encryption_key.as_ref().map(KeyObject::to_value),
                installed: installed.map(InstalledBody::from),
                unexpected,
                fallen_from: fallen_from.map(|from| FallenBody {
                    path: from.path,
                    release_counter: from.release_counter.into(),
                }),
                assigned: assigned.map(|assigned| assigned.path.into()),
                offered: offered.into_iter().map(|offer| offer.path.into()).collect(),
                counter: status.counters.get(&ecu.serial).copied(),
            }
        };
        Self {
            vin: vin.into(),
            id,
            ecus: ecus.iter().map(ecu).collect(),
            seen_at: status.seen_at.map(|time| time.to_string()),
            to_update: status.ecus.values().filter(|ecu| ecu.is_to_update()).count(),
            quarantine: status.quarantine.as_ref().map(|quarantine| QuarantineBody {
                since: quarantine.since.to_string(),
                reason: quarantine.reason.clone(),
                kinds: quarantine.kinds.iter().cloned().collect(),
            }),
            targets_version: status.bundle.as_ref().map(|bundle| bundle.version),
            created_at: created_at.to_string(),
            created_by,
        }
    }
}

impl From<InstalledImage> for InstalledBody {
    fn from(image: InstalledImage) -> Self {
        Self { path: image.path, length: image.length, sha256: image.sha256.into() }
    }
}
