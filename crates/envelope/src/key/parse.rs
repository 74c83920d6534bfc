//! Keys as text: which notation one is in, and who reads that.

use serde_json::Value;

use super::{KeyError, RecipientKey, RecipientPrivateKey, jwk, pem};

impl RecipientKey {
    /// Reads one public key: PEM (`PUBLIC KEY`, or PKCS#1 `RSA PUBLIC KEY`) or a JWK.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names the rule that the key breaks. A private key, a signing key or a weak key
    /// is never accepted. For RSA this takes some milliseconds: see [`Self::check_strength`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let key = Self::read(text)?;
        key.check_strength()?;
        Ok(key)
    }

    /// The same without [`Self::check_strength`], which **must** follow before anything is sealed
    /// for the key.
    ///
    /// # Errors
    ///
    /// The same as [`Self::parse`], but for weak keys.
    pub fn read(text: &str) -> Result<Self, KeyError> {
        match Notation::of(text)? {
            Notation::Json(text) => jwk::parse_public(text),
            Notation::Pem(text) => pem::parse_public(text),
        }
    }

    /// Reads a JWK that is already parsed, such as the one [`Self::to_jwk`] made, without
    /// [`Self::check_strength`]: that was done when it came in.
    ///
    /// A [`Value`] has lost duplicate members, so text from outside **must** go through
    /// [`Self::parse`].
    ///
    /// # Errors
    ///
    /// The same as [`Self::parse`], but for weak keys.
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyError> {
        jwk::public_from_value(jwk)
    }
}

impl RecipientPrivateKey {
    /// Reads one private key: PEM (PKCS#8 `PRIVATE KEY`, PKCS#1 `RSA PRIVATE KEY`, SEC1 `EC PRIVATE
    /// KEY`) or a JWK.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names what is wrong, under the same rules as for public keys.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        match Notation::of(text)? {
            Notation::Json(text) => jwk::parse_private(text),
            Notation::Pem(text) => pem::parse_private(text),
        }
    }
}

/// Which of the two notations a text is in.
enum Notation<'a> {
    Json(&'a str),
    Pem(&'a str),
}

impl<'a> Notation<'a> {
    fn of(text: &'a str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEY_SIZE {
            return Err(KeyError::TooLarge { max_bytes: MAX_KEY_SIZE });
        }
        let text = text.trim_start_matches('\u{feff}').trim();
        match text.as_bytes().first() {
            Some(b'{') => Ok(Self::Json(text)),
            // A list is not a key, but worth a better answer.
            Some(b'[') => Err(KeyError::SeveralKeys),
            _ if text.contains("-----BEGIN ") => Ok(Self::Pem(text)),
            _ => Err(KeyError::NotAKey),
        }
    }
}

const MAX_KEY_SIZE: usize = 16 * 1024; // 16 KiB
