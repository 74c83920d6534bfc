//! Names of keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::base64url::{decode_array, encode};
use super::random::random;

/// The name of a key: 32 bytes in base64url.
///
/// For a recipient it is the RFC 7638 SHA-256 thumbprint of the public key, so that two parties who
/// have the key agree on its name. For the escrow key it is random: see
/// [`EscrowKey`](super::EscrowKey).
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

    /// Names a key in a token by a hash of what the token makes of a constant with it: it says no
    /// more of the key than any ciphertext does, and is the same wherever the key is moved to.
    pub fn of_token_key(answer: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"motorcade escrow key in a token");
        hash.update(answer);
        Self(encode(&hash.finalize()))
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
