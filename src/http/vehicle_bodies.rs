//! What `/api/v1/vehicles` sends and takes, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::app::fleet::{BulkReport, LineFault};
use crate::model::{EcuRecord, EcuStatus, InstalledImage, VehicleEvent, VehicleRecord};

/// A vehicle in the inventory.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VehicleBody {
    /// VIN, or whatever id the fleet uses.
    pub(super) vin: String,
    /// Number of the vehicle, as the server's log shows it.
    pub(super) id: i64,
    /// The Primary first.
    pub(super) ecus: Vec<EcuBody>,
    /// RFC 3339; null if it was never heard of.
    pub(super) seen_at: Option<String>,
    /// How many of its ECUs are to run something else than they run: with an assignment, or fallen
    /// back.
    pub(super) to_update: usize,
    /// Why it gets no new assignments; null if it does.
    pub(super) quarantine: Option<QuarantineBody>,
    /// Version of the metadata that was signed for it last.
    pub(super) targets_version: Option<u64>,
    /// RFC 3339.
    pub(super) created_at: String,
    /// Id of the token that registered it.
    pub(super) created_by: String,
}

/// A quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QuarantineBody {
    /// RFC 3339.
    pub(super) since: String,
    /// What was reported first.
    pub(super) reason: String,
    /// Everything that it is for: names of attacks, `other`, `unexpected-image`.
    pub(super) kinds: Vec<String>,
}

/// An ECU and what it runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EcuBody {
    /// Its identifier.
    pub(super) ecu_serial: String,
    /// Its hardware identifier.
    pub(super) hardware_id: String,
    /// `primary` or `secondary`.
    pub(super) role: &'static str,
    /// TUF key object.
    pub(super) signing_key: Value,
    /// JWK; null for an ECU that opens the envelopes of its hardware id.
    pub(super) encryption_key: Option<Value>,
    /// What it last reported.
    pub(super) installed: Option<InstalledBody>,
    /// Whether that is nothing that it had, was given, or that a person has accepted.
    pub(super) unexpected: bool,
    /// What it ran before it fell back to something older; null if it did not.
    pub(super) fallen_from: Option<FallenBody>,
    /// Target path of what it is to run.
    pub(super) assigned: Option<String>,
    /// Target paths of what it was offered and may be running.
    pub(super) offered: Vec<String>,
    /// Counter of its last report.
    pub(super) counter: Option<u64>,
}

/// An installed image.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstalledBody {
    /// Target path.
    pub(super) path: String,
    /// Of the sealed image, in bytes.
    pub(super) length: u64,
    /// Of the sealed image, 64 hexadecimal digits.
    pub(super) sha256: String,
}

/// What an ECU ran before it fell back to something older.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FallenBody {
    /// Target path.
    pub(super) path: String,
    /// Release counter of the image.
    pub(super) release_counter: u64,
}

/// Some vehicles, and where the next ones are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VehicleList {
    /// In the order of their ids.
    pub(super) vehicles: Vec<VehicleBody>,
    /// Pass it as `cursor` for the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

/// Which vehicles to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub(super) cursor: String,
    /// Vehicles a page, 1 to 1000.
    #[serde(default = "super::paging::default_limit")]
    pub(super) limit: u32,
    /// Only those in quarantine.
    #[serde(default)]
    pub(super) quarantined: bool,
    /// Only those that have sent no manifest since; RFC 3339.
    pub(super) silent_since: Option<String>,
    /// Only those of which an ECU is to install this image.
    pub(super) assigned: Option<String>,
    /// Only those with an ECU that runs what nobody gave it.
    #[serde(default)]
    pub(super) unexpected: bool,
    /// Only those with an ECU that fell back to something older.
    #[serde(default)]
    pub(super) fallen_back: bool,
}

/// A vehicle to register.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `VehicleInput` in the OpenAPI document")]
pub(super) struct NewVehicleBody {
    /// VIN, or whatever id the fleet uses: letters, digits and `-._`.
    pub(super) vin: String,
    /// Its ECUs, one of them the Primary.
    pub(super) ecus: Vec<NewEcuBody>,
    /// SHA-256 of the bearer token with which it will identify itself.
    pub(super) token_sha256: Option<String>,
}

/// An ECU to register.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes `EcuInput` in the OpenAPI document")]
pub(super) struct NewEcuBody {
    /// Unique among all ECUs.
    pub(super) ecu_serial: String,
    /// Its hardware identifier.
    pub(super) hardware_id: String,
    /// `primary` or `secondary`.
    pub(super) role: String,
    /// Public key: PEM text or TUF key object; Ed25519, P-256 or RSA.
    pub(super) signing_key: Value,
    /// Public key: PEM text or JWK; P-256 or RSA, another one than the signing key.
    pub(super) encryption_key: Option<Value>,
}

/// What a registration is answered with, if it is not one that is new.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it describes two answers in the OpenAPI document")]
pub(super) enum Registered {
    /// The vehicle.
    One(VehicleBody),
    /// What came of many.
    Many(BulkBody),
}

/// What came of a bulk registration.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkBody {
    /// Vehicles that are new.
    pub(super) registered: u64,
    /// Vehicles that were registered before, the same.
    pub(super) unchanged: u64,
    /// Vehicles that were refused.
    pub(super) refused: u64,
    /// Why, for the first 1000.
    pub(super) faults: Vec<FaultBody>,
}

/// Why a vehicle was not registered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FaultBody {
    /// Line of the body, from 1.
    pub(super) line: u64,
    /// Stable, for programs.
    pub(super) code: &'static str,
    /// For people.
    pub(super) detail: String,
}

/// Something that happened to a vehicle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventBody {
    /// Number, rising.
    pub(super) id: i64,
    /// What happened.
    pub(super) kind: &'static str,
    /// To which ECU.
    pub(super) ecu_serial: Option<String>,
    /// For people.
    pub(super) detail: String,
    /// Id of a token, `vehicle` or `server`.
    pub(super) actor: String,
    /// Id of the request by which a person did it.
    pub(super) request_id: Option<String>,
    /// RFC 3339.
    pub(super) at: String,
    /// How often the like of it happened within the hour.
    pub(super) count: u64,
    /// RFC 3339; the last time.
    pub(super) last_at: String,
}

/// What happened to a vehicle, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    /// The events.
    pub(super) events: Vec<EventBody>,
    /// Pass it as `before` for older ones; null if there are none.
    pub(super) next_before: Option<i64>,
}

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// `next_before` of the page before.
    pub(super) before: Option<i64>,
    /// Events a page, 1 to 1000.
    #[serde(default = "super::paging::default_limit")]
    pub(super) limit: u32,
}

/// Why a quarantine is cleared.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClearBody {
    /// For the record.
    pub(super) reason: String,
}

/// Why what an ECU runs is accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcceptBody {
    /// For the record.
    pub(super) reason: String,
    /// Digest of the image that is accepted, 64 hexadecimal digits: if the ECU runs another one by
    /// now, nothing is.
    pub(super) sha256: Option<String>,
}

/// For how long a replacement is approved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalBody {
    /// 1 second to 30 days.
    #[serde(deserialize_with = "whole_number")]
    pub(super) expires_in_seconds: u64,
}

/// To JSON Schema, and to some programs that write JSON, 60.0 is a whole number, too.
fn whole_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let from_fraction =
        || number.as_f64().filter(|value| value.fract() == 0.0 && (0.0..1e15).contains(value));
    let whole = number.as_u64().or_else(|| from_fraction().map(|value| value as u64));
    whole.ok_or_else(|| serde::de::Error::custom("it has to be a whole number"))
}

/// For how long an enrolment anew is approved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReEnrolmentBody {
    /// 1 second to 30 days.
    #[serde(deserialize_with = "whole_number")]
    pub(super) expires_in_seconds: u64,
    /// Serials of ECUs that it may take from other vehicles; not of their Primaries. With any, the
    /// vehicle need not be registered yet.
    #[serde(default)]
    pub(super) take_ecus: Vec<String>,
}

/// Why a vehicle is removed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RemoveQuery {
    /// For the record, 1 to 500 bytes.
    pub(super) reason: Option<String>,
}

/// An approval.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Approved {
    /// RFC 3339.
    pub(super) expires_at: String,
}

/// A token of a vehicle's own.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedToken {
    /// Shown once.
    pub(super) token: String,
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
                role: ecu.role.as_str(),
                signing_key: ecu.signing_key.clone(),
                encryption_key: ecu.encryption_key.clone(),
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

impl From<VehicleEvent> for EventBody {
    fn from(event: VehicleEvent) -> Self {
        let VehicleEvent { id, event, count, last_at } = event;
        Self {
            id,
            kind: event.kind.as_str(),
            ecu_serial: event.ecu_serial.map(String::from),
            detail: event.detail,
            actor: event.actor,
            request_id: event.request_id,
            at: event.at.to_string(),
            count,
            last_at: last_at.to_string(),
        }
    }
}

impl From<BulkReport> for BulkBody {
    fn from(report: BulkReport) -> Self {
        let fault = |fault: LineFault| FaultBody {
            line: fault.line,
            code: fault.code,
            detail: fault.detail,
        };
        Self {
            registered: report.registered,
            unchanged: report.unchanged,
            refused: report.refused,
            faults: report.faults.into_iter().map(fault).collect(),
        }
    }
}
