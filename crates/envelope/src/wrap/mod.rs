//! How the content encryption key is wrapped to a recipient or to the escrow key: one file an
//! algorithm (RFC 7518 section 4).

pub(crate) mod a256gcmkw;
pub(crate) mod ecdh_es;
pub(crate) mod rsa_oaep;

pub use a256gcmkw::{EscrowedKey, unwrap_key, wrap_key};

use ecdh_es::AgreedKey;

/// A wrapped content encryption key.
#[derive(Clone)]
pub(crate) enum WrappedKey {
    RsaOaep256(Vec<u8>),
    EcdhEsA256kw(Box<AgreedKey>),
    A256gcmkw(EscrowedKey),
}
