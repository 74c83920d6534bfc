//! Key wrapping with `ECDH-ES+A256KW` (RFC 7518 section 4.6) on P-256: a fresh ephemeral key for
//! each wrap, Concat KDF (NIST SP 800-56A section 5.8.1) with SHA-256, AES key wrap (RFC 3394).

use aes_gcm::KeyInit;
use aes_kw::KwAes256;
use p256::ecdh::{EphemeralSecret, diffie_hellman};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::key::{Cek, KeyAlgorithm};

/// A key wrapped to a P-256 recipient.
#[derive(Debug, Clone)]
pub struct AgreedKey {
    /// The sender's ephemeral key, the `epk` of the header.
    pub(crate) epk: PublicKey,
    /// `apu` and `apv` of the header, decoded; we emit none.
    pub(crate) parties: Parties,
    pub(crate) encrypted_key: [u8; WRAPPED_SIZE],
}

/// Agreement PartyUInfo and PartyVInfo (RFC 7518 sections 4.6.1.2 and 4.6.1.3).
#[derive(Debug, Clone, Default)]
pub(crate) struct Parties {
    pub(crate) apu: Option<Vec<u8>>,
    pub(crate) apv: Option<Vec<u8>>,
}

/// Bytes of a wrapped content encryption key: RFC 3394 adds 8.
pub const WRAPPED_SIZE: usize = 40;

impl AgreedKey {
    /// The sender's ephemeral key as an uncompressed point (SEC 1, 2.3.3), for a token that agrees
    /// on the secret.
    pub fn ephemeral_point(&self) -> Vec<u8> {
        self.epk.to_sec1_point(false).as_bytes().to_vec()
    }

    /// Unwraps a key with the shared secret that a token has agreed on, the x coordinate; unless it
    /// was wrapped to another key.
    pub fn unwrap_with(&self, secret: &[u8]) -> Option<Cek> {
        unwrap_by(&wrapping_cipher(secret, &self.parties), self)
    }
}

/// Wraps `cek` to `recipient`.
pub(crate) fn wrap_key(recipient: &PublicKey, cek: &Cek) -> AgreedKey {
    let ephemeral = EphemeralSecret::generate();
    let parties = Parties::default();
    let secret = ephemeral.diffie_hellman(recipient);
    let cipher = wrapping_cipher(secret.raw_secret_bytes(), &parties);
    let mut encrypted_key = [0; WRAPPED_SIZE];
    cipher.wrap_key(cek.as_bytes(), &mut encrypted_key).expect("32 bytes and 8 more fit in 40");
    AgreedKey { epk: ephemeral.public_key(), parties, encrypted_key }
}

/// Unwraps a key, unless it was wrapped to another one.
pub(crate) fn unwrap_key(key: &SecretKey, agreed: &AgreedKey) -> Option<Cek> {
    let secret = diffie_hellman(key.to_nonzero_scalar(), agreed.epk.as_affine());
    unwrap_by(&wrapping_cipher(secret.raw_secret_bytes(), &agreed.parties), agreed)
}

fn unwrap_by(cipher: &KwAes256, agreed: &AgreedKey) -> Option<Cek> {
    let mut cek = Zeroizing::new([0; 32]);
    cipher.unwrap_key(&agreed.encrypted_key, &mut *cek).ok()?;
    Cek::from_slice(&*cek)
}

fn wrapping_cipher(secret: &[u8], parties: &Parties) -> KwAes256 {
    let algorithm = KeyAlgorithm::EcdhEsA256kw.as_str();
    let key = concat_kdf(secret, algorithm, parties, 256);
    KwAes256::new((&*key).into())
}

/// Concat KDF as RFC 7518 section 4.6.2 uses it, for one round of SHA-256, so up to 256 bits; a
/// shorter key is the beginning of what this returns.
fn concat_kdf(z: &[u8], algorithm: &str, parties: &Parties, key_bits: u32) -> Zeroizing<[u8; 32]> {
    let round = 1_u32;
    let mut hash = Sha256::new();
    hash.update(round.to_be_bytes());
    hash.update(z);
    for field in [Some(algorithm.as_bytes()), parties.apu.as_deref(), parties.apv.as_deref()] {
        let field = field.unwrap_or_default();
        let length = u32::try_from(field.len()).expect("header fields are far below 4 GiB");
        hash.update(length.to_be_bytes());
        hash.update(field);
    }
    hash.update(key_bits.to_be_bytes());
    Zeroizing::new(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{decode, decode_array, p256_point};

    #[test]
    fn concat_kdf_and_agreement_are_those_of_rfc_7518_appendix_c() {
        let secret = |d: &str| SecretKey::from_slice(&decode_array::<32>(d).unwrap()).unwrap();
        let alice = secret("0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo");
        let bob = secret("VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw");
        let x = decode_array("weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ").unwrap();
        let y = decode_array("e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck").unwrap();
        let bobs_point = p256_point(&x, &y).unwrap();
        assert_eq!(bobs_point, bob.public_key());

        let z = diffie_hellman(alice.to_nonzero_scalar(), bobs_point.as_affine());
        assert_eq!(
            hex::encode(z.raw_secret_bytes()),
            "9e56d91d817135d372834283bf84269cfb316ea3da806a48f6daa7798cfe90c4"
        );
        let parties = Parties { apu: decode("QWxpY2U"), apv: decode("Qm9i") };
        let key = concat_kdf(z.raw_secret_bytes(), "A128GCM", &parties, 128);
        assert_eq!(key[..16], decode("VqqN6vgjbSBcIijNcacQGg").unwrap());
    }

    #[test]
    fn key_wrap_is_that_of_rfc_3394_section_4_6() {
        let kek: [u8; 32] = std::array::from_fn(|i| i as u8);
        let data = hex::decode("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
            .unwrap();
        let mut wrapped = [0; WRAPPED_SIZE];
        KwAes256::new(&kek.into()).wrap_key(&data, &mut wrapped).unwrap();
        let expected =
            "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21";
        assert_eq!(hex::encode(wrapped), expected);
    }

    #[test]
    fn wraps_and_unwraps_under_a_fresh_ephemeral_key() {
        let (key, cek) = (SecretKey::generate(), Cek::generate());
        let (first, second) =
            (wrap_key(&key.public_key(), &cek), wrap_key(&key.public_key(), &cek));
        assert_ne!(first.epk, second.epk);
        for agreed in [first, second] {
            assert_eq!(unwrap_key(&key, &agreed).unwrap().as_bytes(), cek.as_bytes());
        }
    }

    #[test]
    fn nothing_else_unwraps() {
        let (key, cek) = (SecretKey::generate(), Cek::generate());
        let agreed = wrap_key(&key.public_key(), &cek);
        assert!(unwrap_key(&SecretKey::generate(), &agreed).is_none());
        for index in 0..WRAPPED_SIZE {
            let mut changed = agreed.clone();
            changed.encrypted_key[index] ^= 1;
            assert!(unwrap_key(&key, &changed).is_none());
        }
        let other_key = AgreedKey { epk: SecretKey::generate().public_key(), ..agreed.clone() };
        assert!(unwrap_key(&key, &other_key).is_none());
        let parties = Parties { apu: Some(b"x".to_vec()), apv: None };
        assert!(unwrap_key(&key, &AgreedKey { parties, ..agreed }).is_none());
    }
}
