//! ML-DSA-65 (FIPS 204) as TUF signs with it: TAP 21, of 2026-04-30, version 1.
//!
//! The metadata itself is never signed: a domain, a version and a digest are, so that a token gets
//! few bytes, and nothing that was signed for another purpose is metadata.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{KeyPair, ML_DSA_65_SIGNING, PqdsaKeyPair};
use motorcade_model::{WeakKey, check_ml_dsa_65};
use sha2::{Digest, Sha512};

/// What is signed of a message.
///
/// TAP 21, "Signature generation": `0x74 || 0x75 || 0x66 || version || H(MSG)`.
pub(crate) fn signed_bytes(message: &[u8]) -> Vec<u8> {
    [b"tuf".as_slice(), &[VERSION], &Sha512::digest(message)].concat()
}

/// Whether a `SubjectPublicKeyInfo` is in the one form that RFC 9881 has for a key: its head, and
/// the key's own bytes.
pub(crate) fn is_spki(der: &[u8]) -> bool {
    der.len() == SPKI_HEAD.len() + KEY_BYTES && der.starts_with(&SPKI_HEAD)
}

/// Whether the key of a `SubjectPublicKeyInfo` protects anything.
///
/// # Errors
///
/// [`WeakKey`].
pub(crate) fn check_spki(der: &[u8]) -> Result<(), WeakKey> {
    check_ml_dsa_65(der.get(SPKI_HEAD.len()..).unwrap_or_default())
}

/// The `SubjectPublicKeyInfo` of a key pair.
pub(crate) fn spki(pair: &PqdsaKeyPair) -> Option<Vec<u8>> {
    let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    Some(spki.as_ref().to_vec())
}

/// Signs a message, with randomness (FIPS 204, 3.4: "hedged").
pub(crate) fn sign(pair: &PqdsaKeyPair, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; ML_DSA_65_SIGNING.signature_len()];
    pair.sign(&signed_bytes(message), &mut signature)
        .expect("a running operating system has randomness, and the signature has its length");
    signature
}

/// TAP 21, "v1": the version that goes with SHA-512 and canonical JSON.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 1952;
/// `SEQUENCE { SEQUENCE { id-ml-dsa-65 }, BIT STRING }` (RFC 9881, 4: parameters are absent).
const SPKI_HEAD: [u8; 22] = [
    0x30, 0x82, 0x07, 0xb2, 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03,
    0x12, 0x03, 0x82, 0x07, 0xa1, 0x00,
];
