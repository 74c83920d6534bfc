//! `/api/v1/vehicles/{vin}`: what people do with one vehicle, and what happened to it

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::default_limit;
use crate::model::VehicleEvent;

/// Something that happened to a vehicle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventBody {
    /// Number, rising.
    pub id: i64,
    /// What happened.
    pub kind: String,
    /// To which ECU.
    pub ecu_serial: Option<String>,
    /// For people.
    pub detail: String,
    /// Id of a token, `vehicle` or `server`.
    pub actor: String,
    /// Id of the request by which a person did it.
    pub request_id: Option<String>,
    /// RFC 3339.
    pub at: String,
    /// How often the like of it happened within the hour.
    pub count: u64,
    /// RFC 3339; the last time.
    pub last_at: String,
}

/// What happened to a vehicle, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The events.
    pub events: Vec<EventBody>,
    /// Pass it as `before` for older ones; null if there are none.
    pub next_before: Option<i64>,
}

/// Which events to list.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// `next_before` of the page before.
    pub before: Option<i64>,
    /// Events a page, 1 to 1000.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

/// Why what an ECU runs is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptBody {
    /// For the record.
    pub reason: String,
    /// Digest of the image that is accepted, 64 hexadecimal digits: if the ECU runs another one by
    /// now, nothing is.
    pub sha256: Option<String>,
}

/// For how long a replacement is approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalBody {
    /// 1 second to 30 days.
    #[serde(deserialize_with = "whole_number")]
    pub expires_in_seconds: u64,
}

/// Which key is approved, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyApprovalBody {
    /// 1 second to 30 days.
    #[serde(deserialize_with = "whole_number")]
    pub expires_in_seconds: u64,
    /// Id of the new key, as the vehicle shows it: its RFC 7638 thumbprint.
    pub kid: String,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReEnrolmentBody {
    /// 1 second to 30 days.
    #[serde(deserialize_with = "whole_number")]
    pub expires_in_seconds: u64,
    /// Serials of ECUs that it may take from other vehicles; not of their Primaries. With any, the
    /// vehicle need not be registered yet.
    #[serde(default)]
    pub take_ecus: Vec<String>,
}

/// Why a vehicle is removed.
#[derive(Debug, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemovalQuery {
    /// For the record, 1 to 500 bytes.
    pub reason: Option<String>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approved {
    /// RFC 3339.
    pub expires_at: String,
}

/// A token of a vehicle's own.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// Shown once.
    pub token: String,
}

impl From<VehicleEvent> for EventBody {
    fn from(event: VehicleEvent) -> Self {
        let VehicleEvent { id, event, count, last_at } = event;
        Self {
            id,
            kind: event.kind.as_str().to_owned(),
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
