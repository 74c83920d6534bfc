//! How the content encryption key is wrapped to a recipient or to the escrow key: one file an
//! algorithm (RFC 7518 section 4).
//!
//! `A256KW` is what only a token does (PKCS#11), so there is no code for it but its size.

pub(crate) mod a256gcmkw;
pub(crate) mod ecdh_es;
pub(crate) mod rsa_oaep;

pub use a256gcmkw::EscrowedKey;
pub use ecdh_es::{AgreedKey, WRAPPED_SIZE};

use crate::key::{Cek, EscrowKey, KeyAlgorithm, PublicMaterial, RecipientKey};

/// A wrapped content encryption key.
#[derive(Debug, Clone)]
pub enum WrappedKey {
    /// To an RSA key.
    RsaOaep256(Vec<u8>),
    /// To a key on P-256.
    EcdhEsA256kw(Box<AgreedKey>),
    /// By an escrow key in a file.
    A256gcmkw(EscrowedKey),
    /// By an AES key in a token (RFC 7518 section 4.4, RFC 3394).
    A256kw([u8; WRAPPED_SIZE]),
}

impl WrappedKey {
    /// Wraps `cek` to a public key.
    pub fn to_public(key: &RecipientKey, cek: &Cek) -> Self {
        match key.material() {
            PublicMaterial::Rsa(key) => Self::RsaOaep256(rsa_oaep::wrap_key(key, cek)),
            PublicMaterial::P256(point) => {
                Self::EcdhEsA256kw(Box::new(ecdh_es::wrap_key(point, cek)))
            }
        }
    }

    /// How it is wrapped.
    pub fn alg(&self) -> KeyAlgorithm {
        match self {
            Self::RsaOaep256(_) => KeyAlgorithm::RsaOaep256,
            Self::EcdhEsA256kw(_) => KeyAlgorithm::EcdhEsA256kw,
            Self::A256gcmkw(_) => KeyAlgorithm::A256gcmkw,
            Self::A256kw(_) => KeyAlgorithm::A256kw,
        }
    }
}

/// Wraps `cek` with an escrow key that is here.
pub fn wrap_key(escrow: &EscrowKey, cek: &Cek) -> WrappedKey {
    WrappedKey::A256gcmkw(a256gcmkw::wrap_key(escrow, cek))
}

/// Unwraps a key, unless it was wrapped by another escrow key.
pub fn unwrap_key(escrow: &EscrowKey, wrapped: &WrappedKey) -> Option<Cek> {
    match wrapped {
        WrappedKey::A256gcmkw(escrowed) => a256gcmkw::unwrap_key(escrow, escrowed),
        WrappedKey::RsaOaep256(_) | WrappedKey::EcdhEsA256kw(_) | WrappedKey::A256kw(_) => None,
    }
}
