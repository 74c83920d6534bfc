//! Descriptions of images.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Constraint;
use super::name::{HardwareId, ImageName, ImageVersion, ParseFieldError};
use super::release_counter::ReleaseCounter;

/// The uploader's part of an image's `custom` object (docs/FORMAT.md, section 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDescription {
    /// Name of the software, the same for all its versions.
    pub name: ImageName,
    /// Version of the software, for people.
    pub version: ImageVersion,
    /// Hardware that may run it; never empty.
    pub hardware_ids: Vec<HardwareId>,
    /// Raised with each release, compared by vehicles (Uptane 2.1.0, 5.2.3.1.1).
    pub release_counter: ReleaseCounter,
    /// How the ECU installs it.
    pub target_format: TargetFormat,
    /// Dependencies in the same vehicle.
    pub requires: Vec<Constraint>,
    /// Conflicts in the same vehicle.
    pub conflicts: Vec<Constraint>,
}

/// How an ECU installs an image (`custom.targetFormat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TargetFormat {
    /// Written as it is.
    #[default]
    Binary,
    /// An OSTree commit.
    Ostree,
}

impl TargetFormat {
    /// The format's name in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::Ostree => "OSTREE",
        }
    }
}

impl FromStr for TargetFormat {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Binary, Self::Ostree]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or(ParseFieldError::TargetFormat)
    }
}
