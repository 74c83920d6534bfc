//! Why a manifest is refused.

use crate::app::Error;
use crate::model::EcuSerial;
use crate::uptane::manifest::ManifestError;

/// Why a manifest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no manifest.
    #[error(transparent)]
    Malformed(#[from] ManifestError),
    /// It is about another vehicle than the one that sent it (DIR-14).
    #[error("the manifest is about another vehicle than the one that sent it")]
    WrongVehicle,
    /// The vehicle is not in the inventory.
    #[error("this vehicle is not registered")]
    UnknownVehicle,
    /// The ECU that sent it is not the vehicle's Primary.
    #[error("{0} is not this vehicle's Primary")]
    WrongPrimary(EcuSerial),
    /// An ECU of the inventory says nothing (DIR-16a).
    #[error("the report of {0} is missing: every ECU of the vehicle has to report")]
    MissingEcu(EcuSerial),
    /// An ECU that is not in the inventory.
    #[error("{0} is not an ECU of this vehicle: if it was replaced, that takes an approval")]
    UnknownEcu(EcuSerial),
    /// A report is listed under another ECU's serial.
    #[error("the report of {listed} is about {reported}")]
    WrongSerial {
        /// Where it is.
        listed: EcuSerial,
        /// What it says.
        reported: EcuSerial,
    },
    /// The manifest is not signed by the Primary's key (DIR-16b).
    #[error("the manifest is not signed by the Primary's key of the inventory")]
    WrongSignature,
    /// A report is not signed by its ECU's own key (DIR-16c).
    #[error("the report of {0} is not signed by that ECU's key of the inventory")]
    WrongReportSignature(EcuSerial),
    /// A counter that does not rise (DIR-17).
    #[error(
        "the report of {serial} has counter {counter}, and {last} was accepted before: it is a replay"
    )]
    Replayed {
        /// The ECU.
        serial: EcuSerial,
        /// Its counter.
        counter: u64,
        /// The one before.
        last: u64,
    },
}

impl Refusal {
    /// Every code, for metrics.
    pub const CODES: [&'static str; 10] = [
        "manifest_malformed",
        "wrong_vehicle",
        "vehicle_not_found",
        "wrong_primary",
        "ecu_missing",
        "ecu_unknown",
        "wrong_serial",
        "wrong_signature",
        "wrong_report_signature",
        "counter_replayed",
    ];

    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "manifest_malformed",
            Self::WrongVehicle => "wrong_vehicle",
            Self::UnknownVehicle => "vehicle_not_found",
            Self::WrongPrimary(_) => "wrong_primary",
            Self::MissingEcu(_) => "ecu_missing",
            Self::UnknownEcu(_) => "ecu_unknown",
            Self::WrongSerial { .. } => "wrong_serial",
            Self::WrongSignature => "wrong_signature",
            Self::WrongReportSignature(_) => "wrong_report_signature",
            Self::Replayed { .. } => "counter_replayed",
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = (refusal.code(), refusal.to_string());
        match refusal {
            Refusal::Malformed(_) => Self::Invalid { code, detail },
            Refusal::WrongVehicle => Self::Forbidden { detail },
            Refusal::UnknownVehicle => Self::NotFound { code, detail },
            Refusal::Replayed { .. } => Self::Conflict { code, detail },
            Refusal::WrongPrimary(_)
            | Refusal::MissingEcu(_)
            | Refusal::UnknownEcu(_)
            | Refusal::WrongSerial { .. }
            | Refusal::WrongSignature
            | Refusal::WrongReportSignature(_) => Self::Unprocessable { code, detail },
        }
    }
}
