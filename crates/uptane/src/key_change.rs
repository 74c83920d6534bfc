//! The change of an ECU's encryption key, as its vehicle sends it: not in the Standard, which leaves
//! the exchange of keys to the implementer (Uptane 2.1.0, 5.4.1). docs/POUF.md writes it down.
//!
//! ```json
//! {"signatures": [{"keyid": "…", "sig": "…"}],
//!  "signed": {"_type": "ecu-encryption-key", "counter": 13, "ecu_serial": "…",
//!             "encryption_key": "-----BEGIN PUBLIC KEY-----\n…", "time": "2026-11-26T10:00:00Z", "vin": "…"}}
//! ```
//!
//! The ECU's own signing key signs it, so that a Primary can't have images sealed for itself that
//! are a Secondary's. The counter is that of the ECU's reports, so that it can't be sent again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::counter::MAX_COUNTER;
use super::key::SigningKey;
use super::manifest::{Signed, sign};
use motorcade_model::strict_json::check_json;
use motorcade_model::{EcuSerial, Timestamp, VehicleId};

/// Most bytes of a change: one with two RSA keys fits.
pub const MAX_KEY_CHANGE_SIZE: usize = 16 * 1024; // 16 KiB

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    #[serde(rename = "_type")]
    kind: Kind,
    /// Higher than that of the ECU's last report.
    pub counter: u64,
    /// Which ECU.
    pub ecu_serial: EcuSerial,
    /// Its new public key, as PEM.
    pub encryption_key: String,
    /// The latest time that the ECU can vouch for.
    pub time: Timestamp,
    /// Its vehicle.
    pub vin: VehicleId,
}

/// Keeps what an ECU signs for this from being taken for anything else that it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "ecu-encryption-key")]
    EcuEncryptionKey,
}

/// Something that is no change of a key, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no change of a key: {0}")]
pub struct MalformedKeyChange(String);

impl KeyChange {
    /// A change to a key.
    pub fn new(
        vin: VehicleId,
        ecu_serial: EcuSerial,
        counter: u64,
        time: Timestamp,
        encryption_key: String,
    ) -> Self {
        Self { kind: Kind::EcuEncryptionKey, counter, ecu_serial, encryption_key, time, vin }
    }

    /// Signs it with the ECU's own key.
    pub fn sign(&self, key: &SigningKey) -> Value {
        sign(serde_json::to_value(self).expect("it is always JSON"), key)
    }

    /// Reads one. No signature is checked: [`Signed::verify`] does.
    ///
    /// # Errors
    ///
    /// [`MalformedKeyChange`]. The input may be hostile; whoever reads it bounds its size by
    /// [`MAX_KEY_CHANGE_SIZE`].
    pub fn parse(bytes: &[u8]) -> Result<Signed<Self>, MalformedKeyChange> {
        let malformed = |fault: &dyn std::fmt::Display| MalformedKeyChange(fault.to_string());
        let text = std::str::from_utf8(bytes).map_err(|_| malformed(&"it is not UTF-8"))?;
        check_json(text).map_err(|fault| malformed(&fault))?;
        let value = serde_json::from_str(text).map_err(|_| malformed(&"it is not JSON"))?;
        let change: Signed<Self> =
            Signed::from_value(value, "it").map_err(|error| malformed(&error))?;
        if change.content.counter > MAX_COUNTER {
            return Err(malformed(&format!("its counter is over {MAX_COUNTER}")));
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::key::Scheme;

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap()
    }

    fn change() -> KeyChange {
        let pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned();
        let time = "2026-11-26T10:00:00Z".parse().unwrap();
        KeyChange::new("VIN1".parse().unwrap(), "gw-1".parse().unwrap(), 7, time, pem)
    }

    #[test]
    fn a_change_is_read_back_and_verifies_under_the_key_that_signed_it() {
        let (ours, other) = (key(), key());
        let sent = change().sign(&ours).to_string();
        let read = KeyChange::parse(sent.as_bytes()).unwrap();
        assert_eq!(read.content, change());
        assert!(read.verify(ours.public().verifying()));
        assert!(!read.verify(other.public().verifying()));
        let forged = KeyChange::parse(sent.replace("\"VIN1\"", "\"VIN2\"").as_bytes()).unwrap();
        assert!(!forged.verify(ours.public().verifying()));
    }

    #[test]
    fn what_an_ecu_signs_for_another_purpose_is_no_change() {
        let ours = key();
        for (member, value) in [
            ("_type", json!("report")),
            ("attacks_detected", json!("")),
            ("counter", json!(-1)),
            ("counter", json!(1_u64 << 53)),
        ] {
            let mut signed = serde_json::to_value(change()).unwrap();
            signed[member] = value;
            let sent = sign(signed, &ours).to_string();
            assert!(KeyChange::parse(sent.as_bytes()).is_err(), "{member}");
        }
        let mut signed = serde_json::to_value(change()).unwrap();
        signed.as_object_mut().unwrap().remove("_type");
        assert!(KeyChange::parse(sign(signed, &ours).to_string().as_bytes()).is_err());
    }
}
