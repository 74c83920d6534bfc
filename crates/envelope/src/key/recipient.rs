//! The public key of a recipient: RSA of 2048 to 4096 bits, or a point on P-256.

use std::fmt;

use motorcade_model::check_rsa;
use p256::NistP256;
use p256::elliptic_curve::sec1::{FromSec1Point, Sec1Point, ToSec1Point};
use p256::pkcs8::{EncodePublicKey, LineEnding};
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, RsaPublicKey};
use serde_json::{Value, json};

use super::{KeyAlgorithm, KeyError, Kid, encode};

/// A public key that envelopes are wrapped to.
///
/// It is parsed and checked once; wrapping does neither again.
#[derive(Clone, PartialEq, Eq)]
pub struct RecipientKey {
    kid: Kid,
    material: PublicMaterial,
}

/// The key inside.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicMaterial {
    Rsa(Box<RsaPublicKey>),
    P256(p256::PublicKey),
}

impl RecipientKey {
    /// Whether the key protects anything: see [`check_rsa`], which takes 6 ms for 2048 bits and 50
    /// ms for 4096. The type of a point on P-256 holds all that there is to say of it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Weak`].
    pub fn check_strength(&self) -> Result<(), KeyError> {
        match &self.material {
            PublicMaterial::Rsa(key) => Ok(check_rsa(&key.n_bytes(), &key.e_bytes())?),
            PublicMaterial::P256(_) => Ok(()),
        }
    }

    /// The RFC 7638 thumbprint.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// How keys are wrapped to this recipient.
    pub fn alg(&self) -> KeyAlgorithm {
        match self.material {
            PublicMaterial::Rsa(_) => KeyAlgorithm::RsaOaep256,
            PublicMaterial::P256(_) => KeyAlgorithm::EcdhEsA256kw,
        }
    }

    /// The JWK, with the required members only and in the order of RFC 7638.
    pub fn to_jwk(&self) -> Value {
        match &self.material {
            PublicMaterial::Rsa(key) => {
                json!({ "e": encode(&key.e_bytes()), "kty": "RSA", "n": encode(&key.n_bytes()) })
            }
            PublicMaterial::P256(point) => p256_jwk(point),
        }
    }

    /// The key as PEM (`PUBLIC KEY`, RFC 5280 SubjectPublicKeyInfo).
    pub fn to_public_pem(&self) -> String {
        match &self.material {
            PublicMaterial::Rsa(key) => key.to_public_key_pem(LineEnding::LF),
            PublicMaterial::P256(point) => point.to_public_key_pem(LineEnding::LF),
        }
        .expect("a checked key has a DER encoding")
    }

    /// Takes a point on P-256 in the encoding of SEC 1, 2.3.3, as a token gives it.
    ///
    /// # Errors
    ///
    /// [`KeyError::PointNotOnCurve`].
    pub fn from_p256_point(encoded: &[u8]) -> Result<Self, KeyError> {
        let point = p256::PublicKey::from_sec1_bytes(encoded);
        Ok(Self::from_p256(point.map_err(|_| KeyError::PointNotOnCurve)?))
    }

    /// Checks and takes an RSA key from its unsigned big-endian modulus and exponent.
    pub(super) fn from_rsa_parts(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus = without_leading_zeros(modulus);
        check_rsa_bits(bit_length(modulus))?;
        if modulus.last().is_none_or(|byte| byte % 2 == 0) {
            return Err(KeyError::RsaModulus);
        }
        let exponent = without_leading_zeros(exponent);
        if bit_length(exponent) > MAX_EXPONENT_BITS
            || exponent.last().is_none_or(|byte| byte % 2 == 0)
            || exponent == [1]
        {
            return Err(KeyError::RsaExponent);
        }
        let (n, e) =
            (BoxedUint::from_be_slice_vartime(modulus), BoxedUint::from_be_slice_vartime(exponent));
        Ok(Self::from_checked_rsa(RsaPublicKey::new(n, e).map_err(|_| KeyError::RsaModulus)?))
    }

    /// Takes an RSA key that [`Self::from_rsa_parts`] accepts.
    pub(super) fn from_checked_rsa(key: RsaPublicKey) -> Self {
        // RFC 7638 section 3.2: the required members in lexicographic order, without white space.
        let canonical = format!(
            r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
            encode(&key.e_bytes()),
            encode(&key.n_bytes())
        );
        Self {
            kid: Kid::of_canonical_jwk(&canonical),
            material: PublicMaterial::Rsa(Box::new(key)),
        }
    }

    /// Takes a point, whose type holds that it is on the curve and not at infinity.
    pub(super) fn from_p256(point: p256::PublicKey) -> Self {
        let (x, y) = coordinates(&point);
        let canonical =
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(&x), encode(&y));
        Self { kid: Kid::of_canonical_jwk(&canonical), material: PublicMaterial::P256(point) }
    }

    pub(crate) fn material(&self) -> &PublicMaterial {
        &self.material
    }
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientKey").field("alg", &self.alg()).field("kid", &self.kid).finish()
    }
}

/// Checks the size of an RSA modulus (docs/FORMAT.md, section 3).
pub(super) fn check_rsa_bits(bits: usize) -> Result<(), KeyError> {
    match bits {
        ..MIN_RSA_BITS => Err(KeyError::RsaTooSmall { bits }),
        MIN_RSA_BITS..=MAX_RSA_BITS => Ok(()),
        _ => Err(KeyError::RsaTooLarge { bits }),
    }
}

/// Takes a point from its coordinates, if it is on the curve.
pub(crate) fn p256_point(x: &[u8; 32], y: &[u8; 32]) -> Option<p256::PublicKey> {
    let point = Sec1Point::<NistP256>::from_affine_coordinates(x.into(), y.into(), false);
    p256::PublicKey::from_sec1_point(&point).into_option()
}

/// The JWK of a point, also used for `epk`.
pub(crate) fn p256_jwk(point: &p256::PublicKey) -> Value {
    let (x, y) = coordinates(point);
    json!({ "crv": "P-256", "kty": "EC", "x": encode(&x), "y": encode(&y) })
}

fn coordinates(point: &p256::PublicKey) -> ([u8; 32], [u8; 32]) {
    let sec1 = point.to_sec1_point(false);
    let (x, y) = (sec1.x(), sec1.y());
    let (x, y) = x.zip(y).expect("an uncompressed point has both coordinates");
    ((*x).into(), (*y).into())
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Bits of a number that has no leading zero byte.
fn bit_length(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |byte| bytes.len() * 8 - byte.leading_zeros() as usize)
}

const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 4096;
const MAX_EXPONENT_BITS: usize = 33; // Larger ones only slow the server down.
