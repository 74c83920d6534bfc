//! Content encryption with `A256GCM` (RFC 7518 section 5.3), and the payload: the data key as a
//! JWK.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key};
use motorcade_model::SealAlgorithm;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::EnvelopeError;
use crate::key::{Cek, DataKey, decode_secret, push_encoded, random};

/// The encrypted payload.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) iv: [u8; 12],
    pub(super) ciphertext: Vec<u8>,
    pub(super) tag: [u8; 16],
}

impl Content {
    /// Encrypts `payload` under `cek`, which **must** be fresh: then a random iv cannot repeat.
    pub(super) fn seal(cek: &Cek, additional_data: &[u8], mut payload: Zeroizing<String>) -> Self {
        Self::seal_in_place(cek, additional_data, std::mem::take(&mut *payload).into_bytes())
    }

    /// Encrypts a payload again, under a `cek` that has encrypted a few others.
    pub(super) fn seal_again(cek: &Cek, additional_data: &[u8], payload: &[u8]) -> Self {
        Self::seal_in_place(cek, additional_data, payload.to_owned())
    }

    fn seal_in_place(cek: &Cek, additional_data: &[u8], mut ciphertext: Vec<u8>) -> Self {
        let iv = *random();
        let tag = cipher(cek)
            .encrypt_inout_detached(&iv.into(), additional_data, ciphertext.as_mut_slice().into())
            .expect("an envelope is below the limits of AES-GCM");
        Self { iv, ciphertext, tag: tag.into() }
    }

    /// Decrypts the payload, if `cek` and every byte are right.
    pub(super) fn open(&self, cek: &Cek, additional_data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut plaintext = Zeroizing::new(self.ciphertext.clone());
        cipher(cek)
            .decrypt_inout_detached(
                &self.iv.into(),
                additional_data,
                plaintext.as_mut_slice().into(),
                &self.tag.into(),
            )
            .ok()?;
        Some(plaintext)
    }
}

fn cipher(cek: &Cek) -> Aes256Gcm {
    Aes256Gcm::new(<&Key<Aes256Gcm>>::from(cek.as_bytes()))
}

/// Writes the data key as a JWK (docs/FORMAT.md, RFC 7517 section 7).
pub(super) fn payload_of(data_key: &DataKey, algorithm: SealAlgorithm) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(PAYLOAD_CAPACITY));
    text.push_str(r#"{"alg":""#);
    text.push_str(algorithm.as_str());
    text.push_str(r#"","k":""#);
    push_encoded(&mut text, data_key.as_bytes());
    text.push_str(r#"","kty":"oct"}"#);
    text
}

/// Reads the data key from a payload that is authentic; another maker's JWK may have more members.
pub(super) fn read_payload(plaintext: &[u8]) -> Result<(DataKey, SealAlgorithm), EnvelopeError> {
    let jwk: Payload<'_> =
        serde_json::from_slice(plaintext).map_err(|_| EnvelopeError::BadPayload)?;
    if jwk.kty != "oct" {
        return Err(EnvelopeError::BadPayload);
    }
    let algorithm = jwk.alg.parse().map_err(|_| EnvelopeError::BadPayload)?;
    let key = decode_secret(jwk.k).ok_or(EnvelopeError::BadPayload)?;
    Ok((DataKey::from_bytes(*key), algorithm))
}

/// The members that matter, borrowed so that the secret is not copied.
#[derive(Deserialize)]
struct Payload<'a> {
    kty: &'a str,
    alg: &'a str,
    k: &'a str,
}

const PAYLOAD_CAPACITY: usize = 128; // The text has 93 bytes; growing would leave a copy of the key behind.

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_fits_its_capacity_and_reads_back() {
        for algorithm in [SealAlgorithm::Aes256GcmHkdf1Mb, SealAlgorithm::Aes256GcmHkdf4Kb] {
            let key = DataKey::from_bytes([0xa5; 32]);
            let text = payload_of(&key, algorithm);
            assert!(text.capacity() == PAYLOAD_CAPACITY, "grew to {}", text.len());
            assert_eq!(read_payload(text.as_bytes()).unwrap(), (key, algorithm));
        }
    }

    #[test]
    fn payloads_that_hold_no_data_key_are_refused() {
        let text = payload_of(&DataKey::generate(), SealAlgorithm::Aes256GcmHkdf1Mb);
        for (from, to) in [
            ("oct", "EC"),
            ("AES256_GCM_HKDF_1MB", "A256GCM"),
            (r#""k":""#, r#""k":"A"#),
            (r#""k":""#, r#""k":"AA","k":""#),
            (r#""kty""#, r#""x""#),
            ("{", "["),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_eq!(
                read_payload(changed.as_bytes()).unwrap_err(),
                EnvelopeError::BadPayload,
                "{from}"
            );
        }
        assert!(read_payload(text.replacen('{', r#"{"use":"enc","#, 1).as_bytes()).is_ok());
    }

    #[test]
    fn only_the_right_key_and_header_open_the_content() {
        let cek = Cek::generate();
        let content = Content::seal(&cek, b"header", Zeroizing::new("payload".to_owned()));
        assert_eq!(content.open(&cek, b"header").unwrap().as_slice(), b"payload");
        assert!(content.open(&cek, b"headex").is_none());
        assert!(content.open(&Cek::generate(), b"header").is_none());
    }
}
