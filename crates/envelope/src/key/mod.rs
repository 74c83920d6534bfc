//! Keys of the envelope: the data key it carries, the content encryption key, the recipients and
//! the escrow key to which that is wrapped, and their names.
//!
//! Reading keys is the job of [`RecipientKey::parse`] and [`RecipientPrivateKey::parse`]: PEM or
//! JWK in, a checked key or a precise [`KeyError`] out. No error, `Debug` text or JSON of this
//! module ever shows secret key material. Clauses: RFC 7517 (JWK), RFC 7518 section 6 (its
//! members), RFC 7638 (thumbprint), RFC 7468 (PEM).

mod algorithm;
mod base64url;
mod cek;
mod data_key;
mod error;
mod escrow;
mod jwk;
mod kid;
mod parse;
mod pem;
mod private;
mod random;
mod recipient;
#[cfg(test)]
pub(crate) mod snakeoil;

pub use algorithm::KeyAlgorithm;
pub use cek::Cek;
pub use data_key::DataKey;
pub use error::KeyError;
pub use escrow::EscrowKey;
pub use kid::{Kid, ParseKidError};
pub use pem::rsa_numbers;
pub use private::RecipientPrivateKey;
pub use recipient::RecipientKey;

pub(crate) use base64url::{decode, decode_array, decode_secret, encode, push_encoded};
pub(crate) use private::PrivateMaterial;
pub(crate) use random::random;
pub(crate) use recipient::{PublicMaterial, p256_jwk, p256_point};
