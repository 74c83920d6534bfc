//! A signed file as the verifier reads it: what all roles have in common (TUF 1.0.34, 4.2 and 4.3),
//! over canonical JSON.
//!
//! Reading is strict, for two clients that read one file differently can be played against each
//! other: UTF-8, no member twice, whole numbers, times of one form. Nothing here checks a
//! signature.

use std::collections::BTreeMap;

use motorcade_model::strict_json::check_json;
use motorcade_model::{RoleName, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::VerifyError;
use super::garbled::no_metadata;
use crate::canonical::canonical;

/// The rule for key ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyIds {
    /// The hash of the key object. Our own repositories, and nothing else in a vehicle.
    ///
    /// TUF 1.0.34, 4.3: "Clients MUST calculate each KEYID to verify this is correct for the
    /// associated key."
    Recomputed,
    /// Whatever it is listed under, since well-known public repositories have ids of their own
    /// making. One key still counts once, under however many ids.
    ///
    /// TAP 12: "allow metadata owners to use any method for calculating keyids, as long as each one
    /// generated is unique within the metadata file in which it is defined".
    AsListed,
}

/// One file that was read, with the signatures and the bytes that they are over.
#[derive(Debug, Clone)]
pub(super) struct Metadata<T> {
    pub(super) content: T,
    pub(super) version: u64,
    pub(super) expires: Timestamp,
    /// Top-level member `vin`, of the Director's files (FV-15).
    pub(super) vin: Option<String>,
    pub(super) message: Vec<u8>,
    signatures: BTreeMap<String, Vec<u8>>,
}

/// A kind of role: what its file contains, and its `_type`.
pub(super) trait Role: Sized {
    const TYPE: RoleName;
    type Raw: DeserializeOwned;

    fn from_raw(role: &RoleName, raw: Self::Raw, ids: KeyIds) -> Result<Self, VerifyError>;
}

impl<T: Role> Metadata<T> {
    /// Reads a file of the role `role`.
    pub(super) fn parse(role: &RoleName, bytes: &[u8], ids: KeyIds) -> Result<Self, VerifyError> {
        let malformed = |fault: String| VerifyError::Malformed { role: role.clone(), fault };
        let file = RawFile::read(role, bytes)?;
        // TUF 1.0.34, 4: "Implementers who encounter undefined attribute-value pairs in the format
        // must include the data when calculating hashes or verifying signatures". So the message is
        // made of all that came, and of its canonical form.
        // TUF 1.0.34, 4.2.1: "A hex-encoded signature of the canonical form of the metadata for
        // ROLE."
        let message = canonical(&file.signed).map_err(|fault| malformed(fault.to_string()))?;
        let common = RawCommon::read(role, &file.signed, &T::TYPE)?;
        // TUF 1.0.34, 4.2.3: "The expected format of the combined date and time string is
        // "YYYY-MM-DDTHH:MM:SSZ". Time is always in UTC".
        let expires = parse_time(&common.expires)
            .ok_or_else(|| malformed("`expires` is no time in UTC".into()))?;
        let signatures = signatures(role, file.signatures)?;
        let raw =
            T::Raw::deserialize(&file.signed).map_err(|fault| malformed(fault.to_string()))?;
        let content = T::from_raw(role, raw, ids)?;
        Ok(Self { content, version: common.version, expires, vin: common.vin, message, signatures })
    }
}

impl<T> Metadata<T> {
    /// Whether it is past its expiry at `now`.
    pub(super) fn check_expiry(&self, role: &RoleName, now: Timestamp) -> Result<(), VerifyError> {
        // TUF 1.0.34, 4.3: "Clients MUST NOT trust an expired file." 5.3.10, and so for each role:
        // "The expiration timestamp in the trusted root metadata file MUST be higher than the fixed
        // update start time."
        if self.expires <= now {
            return Err(VerifyError::Expired { role: role.clone(), expires: self.expires });
        }
        Ok(())
    }

    pub(super) fn signature(&self, key_id: &str) -> Option<&[u8]> {
        self.signatures.get(key_id).map(Vec::as_slice)
    }
}

#[derive(Deserialize)]
struct RawFile {
    signatures: Vec<RawSignature>,
    signed: Value,
}

impl RawFile {
    fn read(role: &RoleName, bytes: &[u8]) -> Result<Self, VerifyError> {
        let unreadable = |fault: String| match no_metadata(bytes) {
            Some(fault) => VerifyError::Garbled { role: role.clone(), fault },
            None => VerifyError::Malformed { role: role.clone(), fault },
        };
        // TUF 1.0.34, 4.1: "any data format for metadata files as long as … TUF clients are able to
        // interpret them without ambiguity". JSON with a member twice is read in two ways.
        let text = std::str::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".into()))?;
        check_json(text).map_err(|fault| unreadable(fault.to_string()))?;
        serde_json::from_str(text).map_err(|fault| unreadable(fault.to_string()))
    }
}

#[derive(Deserialize)]
pub(super) struct RawSignature {
    keyid: String,
    sig: String,
}

#[derive(Deserialize)]
struct RawCommon {
    #[serde(rename = "_type")]
    kind: String,
    spec_version: String,
    version: u64,
    expires: String,
    #[serde(default)]
    vin: Option<String>,
}

impl RawCommon {
    fn read(role: &RoleName, signed: &Value, kind: &RoleName) -> Result<Self, VerifyError> {
        let malformed = |fault: String| VerifyError::Malformed { role: role.clone(), fault };
        let common = Self::deserialize(signed).map_err(|fault| malformed(fault.to_string()))?;
        // TUF 1.0.34, 4.2.1: "A dictionary whose "_type" field describes the role type."
        if common.kind != kind.as_str() {
            return Err(VerifyError::WrongType { role: role.clone(), found: common.kind });
        }
        // TUF 1.0.34, 4.3: "clients MUST verify that "spec_version" matches the expected version
        // number. Adopters are free to determine what is considered a match (e.g., the version
        // number exactly, or perhaps only the major version number".
        if common.spec_version.split('.').next() != Some("1") {
            let found = common.spec_version;
            return Err(VerifyError::SpecVersion { role: role.clone(), found });
        }
        // TUF 1.0.34, 4.3: "An integer that is greater than 0."
        if common.version == 0 {
            return Err(malformed("its version is 0".into()));
        }
        Ok(common)
    }
}

/// A signature that is not even hexadecimal is one that does not verify, and no more (KEY-13).
pub(super) fn signatures(
    role: &RoleName,
    raw: Vec<RawSignature>,
) -> Result<BTreeMap<String, Vec<u8>>, VerifyError> {
    let mut signatures = BTreeMap::new();
    for RawSignature { keyid, sig } in raw {
        let bytes = hex::decode(sig).unwrap_or_default();
        // TUF 1.0.34, 4.2.1: "The keyid MUST be unique in the "signatures" array: multiple
        // signatures with the same keyid are not allowed."
        if signatures.insert(keyid, bytes).is_some() {
            return Err(VerifyError::DuplicateSignature { role: role.clone() });
        }
    }
    Ok(signatures)
}

/// `YYYY-MM-DDTHH:MM:SSZ`, and nothing else that ISO 8601 has.
fn parse_time(text: &str) -> Option<Timestamp> {
    let shape = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = |(byte, shape): (u8, &u8)| {
        if *shape == b'd' { byte.is_ascii_digit() } else { byte == *shape }
    };
    (text.len() == shape.len() && text.bytes().zip(shape).all(fits))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form() {
        assert!(parse_time("2030-01-01T00:00:00Z").is_some());
        for text in [
            "2030-01-01T00:00:00+00:00",
            "2030-01-01T00:00:00.0Z",
            "2030-13-01T00:00:00Z",
            "2030-01-01",
            "",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
