//! Signing keys of ECUs and of metadata roles, as vehicles and the Director use them: TUF 1.0.34,
//! 4.2.2 and 4.3.
//!
//! [`PublicKey`] is the key object of metadata, manifests and the inventory, [`SigningKey`] an
//! ECU's own private key. The keys that sign the repositories' metadata are the keyring's.

mod ml_dsa;
mod pem;
mod signing;

use std::fmt;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ML_DSA_65, ParsedPublicKey, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::canonical::canonical;
use motorcade_envelope::key::rsa_numbers;
use motorcade_model::{Sha256Digest, WeakKey, check_ed25519, check_rsa};
use pem::{pem_body, to_pem};
pub use signing::SigningKey;

/// Id of a signing key: SHA-256 of the canonical form of its key object (TUF 1.0.34, 4.2.1).
pub type KeyId = Sha256Digest;

/// How a key signs (TUF 1.0.34, 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// `ed25519` (RFC 8032).
    Ed25519,
    /// `ecdsa-sha2-nistp256`, signatures in DER.
    EcdsaSha2Nistp256,
    /// `rsassa-pss-sha256`, 2048 bits or more.
    RsassaPssSha256,
    /// `ml-dsa-65/1` (FIPS 204, TAP 21): for roots and targets, beside a key of another scheme.
    #[serde(rename = "ml-dsa-65/1")]
    MlDsa65,
}

impl Scheme {
    /// Every scheme, in the order in which messages list them.
    pub const ALL: [Self; 4] =
        [Self::Ed25519, Self::EcdsaSha2Nistp256, Self::RsassaPssSha256, Self::MlDsa65];

    /// The scheme's name in key objects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaSha2Nistp256 => "ecdsa-sha2-nistp256",
            Self::RsassaPssSha256 => "rsassa-pss-sha256",
            Self::MlDsa65 => "ml-dsa-65/1",
        }
    }

    /// Whether it holds out against quantum computers.
    pub const fn is_post_quantum(self) -> bool {
        match self {
            Self::Ed25519 | Self::EcdsaSha2Nistp256 | Self::RsassaPssSha256 => false,
            Self::MlDsa65 => true,
        }
    }

    fn keytype(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaSha2Nistp256 => "ecdsa",
            Self::RsassaPssSha256 => "rsa",
            Self::MlDsa65 => "ml-dsa",
        }
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaSha2Nistp256 => &ECDSA_P256_SHA256_ASN1,
            Self::RsassaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            Self::MlDsa65 => &ML_DSA_65,
        }
    }
}

/// A public signing key that has been read and checked.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    verifying: VerifyingKey,
    /// The key object as it came: other members are part of its id.
    object: Value,
}

/// What of a [`PublicKey`] verifies, in a tenth of the memory: for whoever keeps many.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    scheme: Scheme,
    id: KeyId,
    bytes: KeyBytes,
}

#[derive(Clone, PartialEq, Eq)]
enum KeyBytes {
    /// Of Ed25519: without a block of memory for 32 bytes.
    Raw([u8; 32]),
    /// `SubjectPublicKeyInfo` of the others.
    Der(Box<[u8]>),
}

impl std::ops::Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Raw(bytes) => bytes,
            Self::Der(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for KeyBytes {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.as_slice().try_into().map_or_else(|_| Self::Der(bytes.into()), Self::Raw)
    }
}

impl VerifyingKey {
    /// Its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(self.scheme.algorithm(), &*self.bytes);
        match self.scheme {
            Scheme::Ed25519 | Scheme::EcdsaSha2Nistp256 | Scheme::RsassaPssSha256 => {
                key.verify(message, signature).is_ok()
            }
            Scheme::MlDsa65 => key.verify(&ml_dsa::signed_bytes(message), signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}, {})", self.scheme.as_str(), self.id)
    }
}

impl PublicKey {
    /// Reads a key object: `{"keytype": …, "scheme": …, "keyval": {"public": …}}`. Whether the key
    /// protects anything is left to [`Self::check_strength`], which takes longer.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the scheme is not one of [`Scheme::ALL`], or the key is malformed.
    pub fn from_object(object: Value) -> Result<Self, KeyError> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(KeyError::Malformed);
        let scheme = text(&object["scheme"])?;
        let scheme = Scheme::ALL
            .into_iter()
            .find(|known| known.as_str() == scheme)
            .ok_or(KeyError::Scheme)?;
        let keytype = text(&object["keytype"])?;
        // The second name is what TUF had before 1.0.22, and what some repositories still have.
        if keytype != scheme.keytype()
            && !(scheme == Scheme::EcdsaSha2Nistp256 && keytype == scheme.as_str())
        {
            return Err(KeyError::Malformed);
        }
        let public = text(&object["keyval"]["public"])?;
        let bytes = match scheme {
            Scheme::Ed25519 => hex::decode(&public).ok().filter(|bytes| bytes.len() == 32),
            Scheme::MlDsa65 => pem_body(&public, "PUBLIC KEY").filter(|der| ml_dsa::is_spki(der)),
            Scheme::EcdsaSha2Nistp256 | Scheme::RsassaPssSha256 => {
                pem_body(&public, "PUBLIC KEY").and_then(|der| normal_form(scheme, &der))
            }
        };
        let bytes = bytes.ok_or(KeyError::Malformed)?;
        let message = canonical(&object).map_err(|_| KeyError::Malformed)?;
        let id = Sha256Digest::from_bytes(Sha256::digest(message).into());
        let verifying = VerifyingKey { scheme, id, bytes: bytes.into() };
        Ok(Self { verifying, object })
    }

    /// Reads a PEM `PUBLIC KEY` (RFC 8410, RFC 5480, RFC 8017, RFC 9881) or a key object as JSON.
    ///
    /// # Errors
    ///
    /// [`KeyError`], as [`Self::from_object`], for a private key, and for a weak one.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = Self::read(text)?;
        key.check_strength()?;
        Ok(key)
    }

    /// The same without [`Self::check_strength`], which **must** follow before the key is trusted
    /// with anything.
    ///
    /// # Errors
    ///
    /// The same as [`Self::parse`], but for weak keys.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with('{') {
            motorcade_model::strict_json::check_json(text).map_err(|_| KeyError::Malformed)?;
            return Self::from_object(serde_json::from_str(text).map_err(|_| KeyError::Malformed)?);
        }
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let der = pem_body(text, "PUBLIC KEY").ok_or(KeyError::Malformed)?;
        let key = match der.as_slice() {
            der if der.len() == 44 && der.starts_with(&ED25519_SPKI) => {
                Self::from_raw(Scheme::Ed25519, &der[ED25519_SPKI.len()..])
            }
            der if ml_dsa::is_spki(der) => Self::from_raw(Scheme::MlDsa65, der),
            der if contains(der, &OID_P256) => Self::from_raw(Scheme::EcdsaSha2Nistp256, der),
            der if contains(der, &OID_RSA) => Self::from_raw(Scheme::RsassaPssSha256, der),
            _ => Err(KeyError::Scheme),
        }?;
        // Something must be able to use it; a signature that does not verify is a different error
        // than a broken key.
        if !key.is_usable() {
            return Err(KeyError::Malformed);
        }
        Ok(key)
    }

    /// The key as our metadata names it, in whatever form it came: without a line break after PEM's
    /// last line, which is part of what the id covers.
    ///
    /// # Errors
    ///
    /// As [`Self::from_object`].
    pub fn as_named(&self) -> Result<Self, KeyError> {
        let mut object = self.object.clone();
        let public = object["keyval"]["public"].as_str().map(|text| text.trim_end().to_owned());
        if let Some(public) = public {
            object["keyval"]["public"] = public.into();
        }
        Self::from_object(object)
    }

    /// Whether the key protects anything: an RSA modulus that nobody factors at once, a point of
    /// Ed25519 that is one and not of small order, a module of ML-DSA that hides a secret. Microseconds, but for RSA: see [`check_rsa`],
    /// which takes eight times as long for twice the bits.
    ///
    /// # Errors
    ///
    /// [`KeyError::Weak`], and [`KeyError::RsaTooLarge`] for a modulus of over 4096 bits.
    pub fn check_strength(&self) -> Result<(), KeyError> {
        match self.verifying.scheme {
            Scheme::Ed25519 => {
                let point = (&*self.verifying.bytes).try_into().map_err(|_| KeyError::Malformed)?;
                Ok(check_ed25519(point)?)
            }
            Scheme::EcdsaSha2Nistp256 => Ok(()), // it was read, so it is on the curve and not the neutral point
            Scheme::RsassaPssSha256 => {
                let (modulus, exponent) =
                    rsa_numbers(&self.verifying.bytes).ok_or(KeyError::Malformed)?;
                let bits = bit_length(&modulus);
                if bits > MAX_RSA_BITS {
                    return Err(KeyError::RsaTooLarge { bits });
                }
                Ok(check_rsa(&modulus, &exponent)?)
            }
            Scheme::MlDsa65 => Ok(ml_dsa::check_spki(&self.verifying.bytes)?),
        }
    }

    fn from_raw(scheme: Scheme, bytes: &[u8]) -> Result<Self, KeyError> {
        let public = match scheme {
            Scheme::Ed25519 => hex::encode(bytes),
            _ => to_pem("PUBLIC KEY", bytes).to_string(),
        };
        let object = json!({ "keytype": scheme.keytype(), "keyval": { "public": public }, "scheme": scheme.as_str() });
        Self::from_object(object)
    }

    /// Whether the bytes are a key at all: a point on its curve, a modulus of a size that is
    /// accepted.
    fn is_usable(&self) -> bool {
        ParsedPublicKey::new(self.scheme().algorithm(), &*self.verifying.bytes).is_ok()
    }

    /// Its id.
    pub fn id(&self) -> KeyId {
        self.verifying.id
    }

    /// How it signs.
    pub fn scheme(&self) -> Scheme {
        self.verifying.scheme
    }

    /// What of it verifies.
    pub fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// The key object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifying.verifies(message, signature)
    }

    /// Whether it is the same key, whatever else their key objects say: counted once for a
    /// threshold (TUF 1.0.34, 5.3.4).
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && self.verifying.bytes == other.verifying.bytes
    }

    /// Whether a PEM `PUBLIC KEY` is the same key: one that signs must not decrypt too (Uptane
    /// 2.1.0, 5.4.1: "there SHOULD be separate keys for encryption and signing").
    pub fn is_same_as_pem(&self, pem: &str) -> bool {
        self.scheme() != Scheme::Ed25519
            && pem_body(pem, "PUBLIC KEY").is_some_and(|der| *der == *self.verifying.bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.scheme().as_str(), self.id())
    }
}

/// Why something is not a signing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one of the schemes.
    #[error(
        "the key's scheme is not one of ed25519, ecdsa-sha2-nistp256, rsassa-pss-sha256 and ml-dsa-65/1"
    )]
    Scheme,
    /// Not a key.
    #[error(
        "this is no signing key: use a PEM `PUBLIC KEY` or a TUF key object (Ed25519, P-256, RSA of 2048 to 4096 bits, or ML-DSA-65)"
    )]
    Malformed,
    /// A private key where a public one belongs.
    #[error("this is a private key, which must never leave its ECU: register its public half")]
    Private,
    /// An RSA key that takes too long to check, and to use.
    #[error("an RSA key of {bits} bits is too large: use 2048 to 4096 bits")]
    RsaTooLarge {
        /// The size of the modulus.
        bits: usize,
    },
    /// A key under which anybody can sign.
    #[error(transparent)]
    Weak(#[from] WeakKey),
    /// The operating system gave no randomness.
    #[error("failed to make a key")]
    Generate,
}

/// The one `SubjectPublicKeyInfo` of a key, whichever way it was written. A point has several
/// forms, RSA keys have two, and what follows the end is passed over: one key that counts as two
/// would meet a threshold of two alone (AT-26).
fn normal_form(scheme: Scheme, der: &[u8]) -> Option<Vec<u8>> {
    let parsed = ParsedPublicKey::new(scheme.algorithm(), der).ok()?;
    let spki: PublicKeyX509Der<'_> = parsed.as_der().ok()?;
    Some(spki.as_ref().to_vec())
}

fn bit_length(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let digits = number.get(first..).unwrap_or_default();
    digits.first().map_or(0, |byte| digits.len() * 8 - byte.leading_zeros() as usize)
}

fn contains(der: &[u8], oid: &[u8]) -> bool {
    der.windows(oid.len()).take(MAX_OID_OFFSET).any(|window| window == oid)
}

const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]; // RFC 8410
const OID_P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]; // RFC 5480
const OID_RSA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]; // RFC 8017
const MAX_OID_OFFSET: usize = 32; // the algorithm comes first
/// Largest RSA key: checking one of 8192 bits takes half a second.
const MAX_RSA_BITS: usize = 4096;

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
