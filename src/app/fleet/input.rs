//! Vehicles as they are described from outside, before anything of them is checked.

use serde::Deserialize;

use crate::model::KeyInput;

/// A vehicle as it is described from outside.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VehicleInput {
    /// Its id.
    pub vin: String,
    /// Its ECUs, one of them the Primary.
    pub ecus: Vec<EcuInput>,
    /// SHA-256, in hexadecimal digits, of the bearer token with which it will identify itself.
    #[serde(default)]
    pub token_sha256: Option<String>,
}

/// An ECU as it is described from outside.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcuInput {
    /// Its identifier.
    pub ecu_serial: String,
    /// Its hardware identifier.
    pub hardware_id: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// Public key that signs: PEM text, or a TUF key object.
    pub signing_key: KeyInput,
    /// Public key that data keys are wrapped for: PEM text, or a JWK object.
    #[serde(default)]
    pub encryption_key: Option<KeyInput>,
}
