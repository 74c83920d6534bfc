//! Key wrapping with `A256GCMKW` (RFC 7518 section 4.7), for the escrow key.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key};
use zeroize::Zeroizing;

use crate::key::{Cek, EscrowKey, random};

/// A key wrapped by the escrow key; `iv` and `tag` are header parameters (RFC 7518 section 4.7.1).
#[derive(Debug, Clone)]
pub struct EscrowedKey {
    /// The initialization vector.
    pub iv: [u8; 12],
    /// The authentication tag.
    pub tag: [u8; 16],
    /// The wrapped key.
    pub encrypted_key: [u8; 32],
}

/// Wraps `cek` with the escrow key.
pub(crate) fn wrap_key(escrow: &EscrowKey, cek: &Cek) -> EscrowedKey {
    // SP 800-38D section 8.3: random 96-bit nonces are safe for 2^32 wraps under one key, far more
    // than a fleet's images; rotation starts the count again.
    let iv = *random();
    let mut encrypted_key = *cek.as_bytes();
    let tag = cipher(escrow)
        .encrypt_inout_detached(&iv.into(), &[], encrypted_key.as_mut_slice().into())
        .expect("32 bytes are below the limits of AES-GCM");
    EscrowedKey { iv, tag: tag.into(), encrypted_key }
}

/// Unwraps a key, unless it was wrapped by another escrow key.
pub(crate) fn unwrap_key(escrow: &EscrowKey, escrowed: &EscrowedKey) -> Option<Cek> {
    let mut cek = Zeroizing::new(escrowed.encrypted_key);
    cipher(escrow)
        .decrypt_inout_detached(
            &escrowed.iv.into(),
            &[],
            cek.as_mut_slice().into(),
            &escrowed.tag.into(),
        )
        .ok()?;
    Cek::from_slice(&*cek)
}

fn cipher(escrow: &EscrowKey) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(escrow.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_and_unwraps_and_nothing_else_does() {
        let (key, cek) = (EscrowKey::generate(), Cek::generate());
        let wrapped = wrap_key(&key, &cek);
        assert_eq!(unwrap_key(&key, &wrapped).unwrap().as_bytes(), cek.as_bytes());
        assert_ne!(wrap_key(&key, &cek).iv, wrapped.iv);
        assert!(unwrap_key(&EscrowKey::generate(), &wrapped).is_none());
        for change in [
            |wrapped: &mut EscrowedKey| wrapped.iv[0] ^= 1,
            |wrapped: &mut EscrowedKey| wrapped.tag[15] ^= 1,
            |wrapped: &mut EscrowedKey| wrapped.encrypted_key[31] ^= 1,
        ] {
            let mut wrapped = wrapped.clone();
            change(&mut wrapped);
            assert!(unwrap_key(&key, &wrapped).is_none());
        }
    }
}
