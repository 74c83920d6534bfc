//! The algorithms that wrap keys, by name.

use std::fmt;

/// How a content encryption key is wrapped: the `alg` of a JWE recipient (RFC 7518 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// `RSA-OAEP-256` (RFC 7518 section 4.3), for RSA recipients.
    RsaOaep256,
    /// `ECDH-ES+A256KW` (RFC 7518 section 4.6), for P-256 recipients.
    EcdhEsA256kw,
    /// `A256GCMKW` (RFC 7518 section 4.7), for the escrow key.
    A256gcmkw,
    /// `A256KW` (RFC 7518 section 4.4), for an escrow key in a token. **Never** a recipient's.
    A256kw,
}

impl KeyAlgorithm {
    /// The name registered in RFC 7518.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::EcdhEsA256kw => "ECDH-ES+A256KW",
            Self::A256gcmkw => "A256GCMKW",
            Self::A256kw => "A256KW",
        }
    }

    /// Finds the algorithm of that name; every other name, `dir`, `RSA1_5` and `RSA-OAEP` included,
    /// is refused. So is `A256KW`, which only an entry of the escrow key has.
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

#[cfg(test)]
mod tests {
    use super::*;

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
