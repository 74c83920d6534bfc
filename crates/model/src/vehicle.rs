//! Vehicles and their ECUs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Sha256Digest;
use super::name::{ParseFieldError, name_type, parse_name};

name_type!(
    /// Unique id of a vehicle, such as its VIN (Uptane 2.1.0, 5.3.2.2): letters, digits and `-._`,
    /// 1 to 64 characters.
    ///
    /// It identifies a person's property: it **must not** get into logs or metrics.
    VehicleId,
    "vin",
    64
);
name_type!(
    /// ECU identifier (Uptane 2.1.0, 5.3.2.2), unique among all ECUs: letters, digits and `-._`, 1
    /// to 64 characters.
    EcuSerial,
    "ecu_serial",
    64
);

/// The role of an ECU in its vehicle (Uptane 2.1.0, 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EcuRole {
    /// Talks to the repositories for its whole vehicle.
    Primary,
    /// Gets metadata and images from the Primary.
    Secondary,
}

impl EcuRole {
    /// The role's name in the API, in files and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl FromStr for EcuRole {
    type Err = ParseFieldError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Primary, Self::Secondary]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(ParseFieldError::EcuRole)
    }
}

impl fmt::Display for EcuRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The image that an ECU says it runs: the target's path, length and digest, and so the sealed
/// image's (Uptane 2.1.0, 5.4.2.1.2: the non-custom information of its Targets metadata).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledImage {
    /// Target path. Not an [`super::ImagePath`]: what a factory installed was never uploaded here.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// SHA-256.
    pub sha256: Sha256Digest,
}

impl InstalledImage {
    /// Whether it stands for no image at all: what an ECU reports before its first, and after one
    /// that was cut off while it was written over the one before.
    pub fn is_nothing(&self) -> bool {
        self.length == 0 && self.sha256 == EMPTY
    }
}

/// SHA-256 of no bytes.
const EMPTY: Sha256Digest = Sha256Digest::from_bytes([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_what_an_empty_file_is() {
        use sha2::Digest;
        assert_eq!(sha2::Sha256::digest([])[..], EMPTY.as_bytes()[..]);
    }

    #[test]
    fn ids_are_safe_in_urls_and_file_names() {
        assert!("WVWZZZ1JZXW000001".parse::<VehicleId>().is_ok());
        assert!("gw-0001.a_b".parse::<EcuSerial>().is_ok());
        for (text, character) in
            [("a/b", '/'), ("a b", ' '), ("a,b", ','), ("a%2f", '%'), ("\u{e4}", '\u{e4}')]
        {
            let error = ParseFieldError::Character { field: "vin", character };
            assert_eq!(text.parse::<VehicleId>(), Err(error));
        }
        assert!("x".repeat(65).parse::<EcuSerial>().is_err());
    }
}
