//! Keys of the envelope: the data key it carries, the recipients it is wrapped to, and their names.
//!
//! Reading keys is the job of [`RecipientKey::parse`] and [`RecipientPrivateKey::parse`]: PEM or
//! JWK in, a checked key or a precise [`KeyError`] out. No error, `Debug` text or JSON of this
//! module ever shows secret key material. Clauses: RFC 7517 (JWK), RFC 7518 section 6 (its
//! members), RFC 7638 (thumbprint), RFC 7468 (PEM).

mod base64url;
mod error;
mod jwk;
mod pem;
mod private;
mod recipient;
#[cfg(test)]
pub(crate) mod snakeoil;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use error::KeyError;
pub use pem::rsa_numbers;
pub use private::RecipientPrivateKey;
pub use recipient::RecipientKey;

pub(crate) use base64url::{decode, decode_array, decode_secret, encode, push_encoded};
pub(crate) use motorcade_model::strict_json::{JsonFault, check_json, printable};
pub(crate) use private::PrivateMaterial;
pub(crate) use recipient::{PublicMaterial, p256_jwk, p256_point};

/// The 256-bit secret that seals one image, and one image only.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Makes a data key from the operating system's randomness.
    pub fn generate() -> Self {
        Self(random())
    }

    /// Takes the bytes of an existing data key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes of the data key, which **must never** be written anywhere but into an envelope.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for DataKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for DataKey {}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// The name of a key: 32 bytes in base64url.
///
/// For a recipient it is the RFC 7638 SHA-256 thumbprint of the public key, so that two parties who
/// have the key agree on its name. For the escrow key it is random: see
/// [`super::escrow::EscrowKey`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kid(String);

impl Kid {
    /// The kid as it is written in a JWE header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names a public key by the hash of its canonical JWK (RFC 7638 section 3).
    pub(crate) fn of_canonical_jwk(canonical_jwk: &str) -> Self {
        Self(encode(&Sha256::digest(canonical_jwk.as_bytes())))
    }

    /// Makes a name that says nothing about the key.
    pub(crate) fn random() -> Self {
        Self(encode(&*random::<32>()))
    }
}

impl FromStr for Kid {
    type Err = ParseKidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_array::<32>(text).map(|_| Self(text.to_owned())).ok_or(ParseKidError)
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Kid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Kid> for String {
    fn from(kid: Kid) -> Self {
        kid.0
    }
}

impl TryFrom<String> for Kid {
    type Error = ParseKidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Not the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a key id: expected the RFC 7638 SHA-256 thumbprint of a key, 43 characters of base64url"
)]
pub struct ParseKidError;

/// How a content encryption key is wrapped: the `alg` of a JWE recipient (RFC 7518 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// `RSA-OAEP-256` (RFC 7518 section 4.3), for RSA recipients.
    RsaOaep256,
    /// `ECDH-ES+A256KW` (RFC 7518 section 4.6), for P-256 recipients.
    EcdhEsA256kw,
    /// `A256GCMKW` (RFC 7518 section 4.7), for the escrow key.
    A256gcmkw,
}

impl KeyAlgorithm {
    /// The name registered in RFC 7518.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::EcdhEsA256kw => "ECDH-ES+A256KW",
            Self::A256gcmkw => "A256GCMKW",
        }
    }

    /// Finds the algorithm of that name; every other name, `dir`, `RSA1_5` and `RSA-OAEP` included,
    /// is refused.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::RsaOaep256, Self::EcdhEsA256kw, Self::A256gcmkw]
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Fills an array from the operating system's randomness.
pub(crate) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).expect("a running operating system has randomness");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_a_data_key_shows_only_its_type() {
        assert_eq!(format!("{:?}", DataKey::from_bytes([7; 32])), "DataKey");
    }

    #[test]
    fn generated_data_keys_differ() {
        assert_ne!(DataKey::generate(), DataKey::generate());
        assert_eq!(DataKey::from_bytes([7; 32]), DataKey::from_bytes([7; 32]));
    }

    #[test]
    fn a_kid_is_43_characters_of_strict_base64url() {
        let kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(kid.parse::<Kid>().unwrap().to_string(), kid);
        // The last character of the fourth carries bits beyond the 32 bytes, which would give one
        // key two names.
        for bad in [
            "",
            "abc",
            &kid[1..],
            &kid.replace('s', "t"),
            &kid.replace('-', "+"),
            &format!("{kid}="),
        ] {
            assert_eq!(bad.parse::<Kid>(), Err(ParseKidError), "{bad}");
        }
    }

    #[test]
    fn a_kid_is_checked_when_deserialized() {
        let kid = Kid::random();
        let json = serde_json::to_string(&kid).unwrap();
        assert_eq!(serde_json::from_str::<Kid>(&json).unwrap(), kid);
        assert!(serde_json::from_str::<Kid>("\"../../etc\"").is_err());
    }

    #[test]
    fn only_three_algorithms_have_a_name() {
        for name in [
            "dir",
            "none",
            "RSA1_5",
            "RSA-OAEP",
            "RSA-OAEP-512",
            "ECDH-ES",
            "A256KW",
            "rsa-oaep-256",
            "",
        ] {
            assert_eq!(KeyAlgorithm::from_name(name), None, "{name}");
        }
        assert_eq!(KeyAlgorithm::from_name("A256GCMKW"), Some(KeyAlgorithm::A256gcmkw));
    }
}
