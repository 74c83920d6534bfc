//! The escrow key, with which the server itself can wrap a data key again for someone else:
//! `A256GCMKW` (RFC 7518 section 4.7).

use std::fmt;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::jwe::Cek;
use super::key::{
    JsonFault, KeyAlgorithm, KeyError, Kid, check_json, decode_secret, push_encoded, random,
};

/// The server's own key: it opens every envelope, so it **must never** leave the server.
///
/// Its kid is random and stored with it. The RFC 7638 thumbprint of a symmetric key is a hash of
/// the secret itself: written into every envelope, it would let anyone test guesses of the key (RFC
/// 7638 section 7).
pub struct EscrowKey {
    kid: Kid,
    key: Zeroizing<[u8; 32]>,
}

impl EscrowKey {
    /// Makes an escrow key from the operating system's randomness.
    pub fn generate() -> Self {
        Self { kid: Kid::random(), key: random() }
    }

    /// Its name.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The key as JWK text for its file, which **must** have mode 0600.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(JWK_CAPACITY));
        text.push_str(r#"{"alg":"A256GCMKW","k":""#);
        push_encoded(&mut text, &*self.key);
        text.push_str(r#"","kid":""#);
        text.push_str(self.kid.as_str());
        text.push_str("\",\"kty\":\"oct\"}\n");
        text
    }

    /// Reads what [`Self::to_jwk`] wrote.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names the member that is missing or wrong, and never its value.
    pub fn from_jwk(text: &str) -> Result<Self, KeyError> {
        check_json(text)?;
        let members: Members<'_> =
            serde_json::from_str(text).map_err(|error| KeyError::from(JsonFault::from(error)))?;
        if members.kty != "oct" {
            return Err(KeyError::BadMember { member: "kty" });
        }
        if members.alg != KeyAlgorithm::A256gcmkw.as_str() {
            return Err(KeyError::BadMember { member: "alg" });
        }
        let kid = members.kid.parse().map_err(|_| KeyError::BadMember { member: "kid" })?;
        let key = decode_secret(members.k).ok_or(KeyError::BadMember { member: "k" })?;
        Ok(Self { kid, key })
    }

    /// Wraps `cek`.
    pub(super) fn wrap_key(&self, cek: &Cek) -> EscrowedKey {
        // SP 800-38D section 8.3: random 96-bit nonces are safe for 2^32 wraps under one key, far
        // more than a fleet's images; rotation starts the count again.
        let iv = *random();
        let mut encrypted_key = *cek.as_bytes();
        let tag = self
            .cipher()
            .encrypt_inout_detached(&iv.into(), &[], encrypted_key.as_mut_slice().into())
            .expect("32 bytes are below the limits of AES-GCM");
        EscrowedKey { iv, tag: tag.into(), encrypted_key }
    }

    /// Unwraps a key, unless it was wrapped by another one.
    pub(super) fn unwrap_key(&self, escrowed: &EscrowedKey) -> Option<Cek> {
        let mut cek = Zeroizing::new(escrowed.encrypted_key);
        self.cipher()
            .decrypt_inout_detached(
                &escrowed.iv.into(),
                &[],
                cek.as_mut_slice().into(),
                &escrowed.tag.into(),
            )
            .ok()?;
        Cek::from_slice(&*cek)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(<&Key<Aes256Gcm>>::from(&*self.key))
    }
}

impl fmt::Debug for EscrowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EscrowKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A key wrapped by the escrow key; `iv` and `tag` are header parameters (RFC 7518 section 4.7.1).
#[derive(Debug, Clone)]
pub(super) struct EscrowedKey {
    pub(super) iv: [u8; 12],
    pub(super) tag: [u8; 16],
    pub(super) encrypted_key: [u8; 32],
}

/// The members of the key file, borrowed so that the secret is not copied.
#[derive(Deserialize)]
struct Members<'a> {
    kty: &'a str,
    alg: &'a str,
    kid: &'a str,
    k: &'a str,
}

const JWK_CAPACITY: usize = 192; // The text has 142 bytes; growing would leave a copy of the key behind.

#[cfg(test)]
mod tests {
    use super::super::key::encode;
    use super::*;

    #[test]
    fn round_trips_through_its_file() {
        let key = EscrowKey::generate();
        let text = key.to_jwk();
        assert!(text.len() <= JWK_CAPACITY, "grew to {}", text.len());
        let again = EscrowKey::from_jwk(&text).unwrap();
        assert_eq!((again.kid(), &*again.key), (key.kid(), &*key.key));
    }

    #[test]
    fn its_name_and_debug_text_say_nothing_about_the_key() {
        let key = EscrowKey { kid: Kid::random(), key: Zeroizing::new([7; 32]) };
        let canonical = format!(r#"{{"k":"{}","kty":"oct"}}"#, encode(&[7; 32]));
        assert_ne!(*key.kid(), Kid::of_canonical_jwk(&canonical));
        assert_eq!(format!("{key:?}"), format!("EscrowKey {{ kid: Kid(\"{}\"), .. }}", key.kid()));
    }

    #[test]
    fn other_files_are_refused() {
        let text = EscrowKey::generate().to_jwk();
        let check = |from: &str, to: &str, member| {
            assert!(text.contains(from));
            let error = EscrowKey::from_jwk(&text.replace(from, to)).unwrap_err();
            assert_eq!(error, KeyError::BadMember { member });
        };
        check("oct", "EC", "kty");
        check("A256GCMKW", "A256GCM", "alg");
        check(r#""kid":""#, r#""kid":"x"#, "kid");
        check(r#""k":""#, r#""k":"A"#, "k");
        let twice = text.replace("{", r#"{"k":"AA","#);
        assert_eq!(
            EscrowKey::from_jwk(&twice).unwrap_err(),
            KeyError::DuplicateMember { member: "k".to_owned() }
        );
        assert!(matches!(EscrowKey::from_jwk("{}"), Err(KeyError::BadJson { .. })));
    }

    #[test]
    fn wraps_and_unwraps_and_nothing_else_does() {
        let (key, cek) = (EscrowKey::generate(), Cek::generate());
        let wrapped = key.wrap_key(&cek);
        assert_eq!(key.unwrap_key(&wrapped).unwrap().as_bytes(), cek.as_bytes());
        assert_ne!(key.wrap_key(&cek).iv, wrapped.iv);
        assert!(EscrowKey::generate().unwrap_key(&wrapped).is_none());
        for change in [
            |wrapped: &mut EscrowedKey| wrapped.iv[0] ^= 1,
            |wrapped: &mut EscrowedKey| wrapped.tag[15] ^= 1,
            |wrapped: &mut EscrowedKey| wrapped.encrypted_key[31] ^= 1,
        ] {
            let mut wrapped = wrapped.clone();
            change(&mut wrapped);
            assert!(key.unwrap_key(&wrapped).is_none());
        }
    }
}
