//! The private key of a recipient, for whoever opens envelopes.

use std::fmt;

use p256::elliptic_curve::Generate;
use p256::pkcs8::{EncodePrivateKey, LineEnding};
use rand::rngs::SysRng;
use rsa::rand_core::UnwrapErr;
use zeroize::Zeroizing;

use super::recipient::check_rsa_bits;
use super::{KeyAlgorithm, KeyError, Kid, RecipientKey};

/// A private key that opens envelopes.
///
/// It is zeroized when dropped, cannot be cloned, and shows nothing but its name.
pub struct RecipientPrivateKey {
    material: PrivateMaterial,
    public: RecipientKey,
}

/// The key inside; both kinds zeroize themselves.
pub(crate) enum PrivateMaterial {
    Rsa(Box<rsa::RsaPrivateKey>),
    P256(p256::SecretKey),
}

impl RecipientPrivateKey {
    /// Makes a P-256 key.
    pub fn generate_p256() -> Self {
        Self::from_p256(p256::SecretKey::generate())
    }

    /// Makes an RSA key; this takes about a second.
    ///
    /// # Errors
    ///
    /// [`KeyError::RsaTooSmall`] or [`KeyError::RsaTooLarge`] outside 2048 to 4096 bits.
    pub fn generate_rsa(bits: usize) -> Result<Self, KeyError> {
        check_rsa_bits(bits)?;
        let key = rsa::RsaPrivateKey::new(&mut UnwrapErr(SysRng), bits)
            .map_err(|_| KeyError::Inconsistent)?;
        let public = RecipientKey::from_checked_rsa(key.to_public_key());
        Ok(Self::from_checked_rsa(key, public))
    }

    /// The public half.
    pub fn public(&self) -> &RecipientKey {
        &self.public
    }

    /// The RFC 7638 thumbprint of the public half.
    pub fn kid(&self) -> &Kid {
        self.public.kid()
    }

    /// How keys are wrapped to this recipient.
    pub fn alg(&self) -> KeyAlgorithm {
        self.public.alg()
    }

    /// The key as PEM (PKCS#8 `PRIVATE KEY`), which **must never** be logged and belongs in a file
    /// of mode 0600.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        match &self.material {
            PrivateMaterial::Rsa(key) => key.to_pkcs8_pem(LineEnding::LF),
            PrivateMaterial::P256(key) => key.to_pkcs8_pem(LineEnding::LF),
        }
        .expect("a checked key has a DER encoding")
    }

    /// Takes an RSA key whose public half was checked.
    pub(super) fn from_checked_rsa(key: rsa::RsaPrivateKey, public: RecipientKey) -> Self {
        Self { material: PrivateMaterial::Rsa(Box::new(key)), public }
    }

    pub(super) fn from_p256(key: p256::SecretKey) -> Self {
        let public = RecipientKey::from_p256(key.public_key());
        Self { material: PrivateMaterial::P256(key), public }
    }

    pub(crate) fn material(&self) -> &PrivateMaterial {
        &self.material
    }
}

impl fmt::Debug for RecipientPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientPrivateKey").field("kid", self.kid()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::snakeoil;
    use super::*;

    #[test]
    fn debug_shows_only_the_name() {
        let key = snakeoil::p256();
        assert_eq!(
            format!("{key:?}"),
            format!("RecipientPrivateKey {{ kid: Kid(\"{}\"), .. }}", key.kid())
        );
    }

    #[test]
    fn rsa_of_other_sizes_is_not_made() {
        assert_eq!(
            RecipientPrivateKey::generate_rsa(1024).unwrap_err(),
            KeyError::RsaTooSmall { bits: 1024 }
        );
        assert_eq!(
            RecipientPrivateKey::generate_rsa(8192).unwrap_err(),
            KeyError::RsaTooLarge { bits: 8192 }
        );
    }

    #[test]
    fn generated_keys_pass_their_own_checks() {
        for key in [snakeoil::rsa(), &snakeoil::p256()] {
            let again = RecipientPrivateKey::parse(&key.to_pkcs8_pem()).unwrap();
            assert_eq!(again.public(), key.public());
            assert_eq!(RecipientKey::from_jwk(&key.public().to_jwk()).unwrap(), *key.public());
        }
    }
}
