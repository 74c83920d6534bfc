//! Key wrapping with `RSA-OAEP-256` (RFC 7518 section 4.3): OAEP with SHA-256 and MGF1 with
//! SHA-256, empty label.

use rand::rngs::SysRng;
use rsa::rand_core::UnwrapErr;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::Cek;

/// Wraps `cek` to `recipient`.
pub(crate) fn wrap_key(recipient: &RsaPublicKey, cek: &Cek) -> Vec<u8> {
    recipient
        .encrypt(&mut UnwrapErr(SysRng), Oaep::<Sha256>::new(), cek.as_bytes())
        .expect("a modulus of 2048 bits or more takes 32 bytes")
}

/// Unwraps a key, or gives a random one in its place.
///
/// RFC 7516 section 11.5: whoever sends bad keys must not learn whether it was the padding or the
/// content that failed (Bleichenbacher, Manger). So a failure here goes on with a random key, and
/// content decryption fails a step later.
pub(crate) fn unwrap_key(key: &RsaPrivateKey, encrypted_key: &[u8]) -> Cek {
    let substitute = Cek::generate();
    // Blinded, so that timing of the exponentiation says nothing about the key.
    let unwrapped =
        key.decrypt_blinded(&mut UnwrapErr(SysRng), Oaep::<Sha256>::new(), encrypted_key);
    unwrapped
        .ok()
        .map(Zeroizing::new)
        .and_then(|bytes| Cek::from_slice(&bytes))
        .unwrap_or(substitute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{PrivateMaterial, PublicMaterial, snakeoil};

    fn keys() -> (&'static RsaPublicKey, &'static RsaPrivateKey) {
        let key = snakeoil::rsa();
        match (key.public().material(), key.material()) {
            (PublicMaterial::Rsa(public), PrivateMaterial::Rsa(private)) => (public, private),
            _ => panic!("an RSA key"),
        }
    }

    #[test]
    fn wraps_and_unwraps() {
        let (public, private) = keys();
        let cek = Cek::generate();
        let wrapped = wrap_key(public, &cek);
        assert_eq!(wrapped.len(), 256);
        assert_eq!(unwrap_key(private, &wrapped).as_bytes(), cek.as_bytes());
        assert_ne!(wrap_key(public, &cek), wrapped);
    }

    #[test]
    fn a_failure_gives_another_random_key_each_time() {
        let (public, private) = keys();
        let cek = Cek::generate();
        let mut wrapped = wrap_key(public, &cek);
        wrapped[100] ^= 1;
        let first = unwrap_key(private, &wrapped);
        assert_ne!(first.as_bytes(), cek.as_bytes());
        assert_ne!(first.as_bytes(), unwrap_key(private, &wrapped).as_bytes());
        for wrong in [&[][..], &[0; 255], &[0; 256], &[0xff; 256], &[0; 512]] {
            unwrap_key(private, wrong);
        }
    }

    #[test]
    fn other_paddings_and_lengths_do_not_unwrap() {
        let (public, private) = keys();
        let rng = &mut UnwrapErr(SysRng);
        let cek = [7; 32];
        for wrapped in [
            public.encrypt(rng, rsa::Pkcs1v15Encrypt, &cek).unwrap(),
            public.encrypt(rng, Oaep::<Sha256>::new_with_label("x".as_bytes()), &cek).unwrap(),
            public.encrypt(rng, Oaep::<sha2::Sha512, Sha256>::new_with_mgf_hash(), &cek).unwrap(),
            public.encrypt(rng, Oaep::<Sha256, sha2::Sha512>::new_with_mgf_hash(), &cek).unwrap(),
            public.encrypt(rng, Oaep::<Sha256>::new(), &cek[..16]).unwrap(),
            public.encrypt(rng, Oaep::<Sha256>::new(), &[7; 33]).unwrap(),
        ] {
            assert_ne!(unwrap_key(private, &wrapped).as_bytes(), &cek);
        }
    }
}
