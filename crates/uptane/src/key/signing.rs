//! Private signing keys.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ML_DSA_65_SIGNING,
    PqdsaKeyPair, RSA_PSS_SHA256,
};
use zeroize::Zeroizing;

use super::pem::{pem_body, to_pem};
use super::{KeyError, PublicKey, Scheme, ml_dsa};

/// A private signing key: an ECU's own, or a role's in a file.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Box<Ed25519KeyPair>),
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
    MlDsa65(Box<PqdsaKeyPair>),
}

impl SigningKey {
    /// Makes a key and returns it as PEM (PKCS#8 `PRIVATE KEY`), which belongs in a file of mode
    /// 0600. RSA keys have 3072 bits and take a second.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`].
    pub fn generate_pem(scheme: Scheme) -> Result<Zeroizing<String>, KeyError> {
        let failed = |_| KeyError::Generate;
        let random = SystemRandom::new();
        let der = match scheme {
            // PKCS#8 version 1: OpenSSL 3.0 reads no other.
            Scheme::Ed25519 => {
                Ed25519KeyPair::generate_pkcs8v1(&random).map_err(failed)?.as_ref().to_vec()
            }
            Scheme::EcdsaSha2Nistp256 => {
                let document =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
                document.map_err(failed)?.as_ref().to_vec()
            }
            Scheme::RsassaPssSha256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(failed)?;
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
            // The seed alone (RFC 9881, 6): the rest follows from it.
            Scheme::MlDsa65 => {
                let pair = PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
        };
        Ok(to_pem("PRIVATE KEY", &Zeroizing::new(der)))
    }

    /// The Ed25519 key of a seed (RFC 8032, 5.1.5), which **must** be as secret as the key.
    pub fn ed25519_from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed");
        let public = PublicKey::from_raw(Scheme::Ed25519, pair.public_key().as_ref())
            .expect("32 bytes are an object of an Ed25519 key");
        Self { pair: Pair::Ed25519(Box::new(pair)), public }
    }

    /// Reads a PEM `PRIVATE KEY` (PKCS#8): Ed25519, P-256, ML-DSA-65 or RSA of 2048 bits or more.
    ///
    /// # Errors
    ///
    /// [`KeyError`]; it never repeats the key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = Zeroizing::new(pem_body(text, "PRIVATE KEY").ok_or(KeyError::Malformed)?);
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
            let public = PublicKey::from_raw(Scheme::Ed25519, pair.public_key().as_ref())?;
            return Ok(Self { pair: Pair::Ed25519(Box::new(pair)), public });
        }
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der) {
            let spki: PublicKeyX509Der<'_> =
                pair.public_key().as_der().map_err(|_| KeyError::Malformed)?;
            let public = PublicKey::from_raw(Scheme::EcdsaSha2Nistp256, spki.as_ref())?;
            return Ok(Self { pair: Pair::P256(Box::new(pair)), public });
        }
        if let Ok(pair) = PqdsaKeyPair::from_pkcs8(&ML_DSA_65_SIGNING, &der) {
            let spki = ml_dsa::spki(&pair).ok_or(KeyError::Malformed)?;
            let public = PublicKey::from_raw(Scheme::MlDsa65, &spki)?;
            return Ok(Self { pair: Pair::MlDsa65(Box::new(pair)), public });
        }
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| KeyError::Malformed)?;
        let spki: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| KeyError::Malformed)?;
        let public = PublicKey::from_raw(Scheme::RsassaPssSha256, spki.as_ref())?;
        Ok(Self { pair: Pair::Rsa(Box::new(pair)), public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::P256(pair) => pair
                .sign(&random, message)
                .expect("a running operating system has randomness")
                .as_ref()
                .to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &random, message, &mut signature)
                    .expect("the signature has its length");
                signature
            }
            Pair::MlDsa65(pair) => ml_dsa::sign(pair, message),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.id())
    }
}
