//! A role key in a token: Ed25519, or ECDSA on P-256.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{KeyType, ObjectClass};
use cryptoki::session::Session;
use motorcade_uptane::key::PublicKey;
use sha2::{Digest, Sha256};

use super::super::{BackendError, Signer};
use super::error::TokenError;
use super::key::{Found, TokenKey};
use super::token::WorkFault;
use super::uri::Pkcs11Uri;
use crate::envelope::key::RecipientKey;
use crate::keys::source::KeySource;

/// A private key in a token that signs metadata.
pub struct Pkcs11Signer {
    key: Arc<TokenKey>,
    public: PublicKey,
}

impl Pkcs11Signer {
    /// Finds a key in its token, and checks that it signs.
    ///
    /// # Errors
    ///
    /// [`TokenError`], also for a key that could be taken out of the token, and one whose halves
    /// don't belong together.
    pub async fn find(uri: Pkcs11Uri) -> Result<Self, TokenError> {
        let key = TokenKey::new(uri)?;
        let public = key.run(inspect).await?;
        Ok(Self { key, public })
    }
}

#[async_trait]
impl Signer for Pkcs11Signer {
    fn place(&self) -> String {
        self.key.uri().to_string()
    }

    fn source(&self) -> KeySource {
        KeySource::Pkcs11(self.key.uri().to_string())
    }

    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let (message, public) = (message.to_owned(), self.public.clone());
        let sign = move |session: &Session, found: Found, key: &TokenKey| {
            let signature = sign(session, found, &message, key)?;
            // Another key under the same label signs as willingly.
            if public.verifies(&message, &signature) {
                Ok(signature)
            } else {
                Err(key.unusable("what it signs does not verify with the public key"))
            }
        };
        Ok(self.key.run(sign).await?)
    }
}

impl fmt::Debug for Pkcs11Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pkcs11Signer({})", self.public.id())
    }
}

fn inspect(session: &Session, found: Found, key: &TokenKey) -> Result<PublicKey, WorkFault> {
    key.refuse_extractable(session, found.handle)?;
    let pem = match (found.class, found.key_type) {
        (ObjectClass::PRIVATE_KEY, KeyType::EC_EDWARDS) => {
            let point = key.public_point(session)?;
            let point = <&[u8; 32]>::try_from(point.as_slice())
                .map_err(|_| key.unusable("it is not on the curve of Ed25519"))?;
            format!(
                r#"{{"keytype":"ed25519","scheme":"ed25519","keyval":{{"public":"{}"}}}}"#,
                hex::encode(point)
            )
        }
        (ObjectClass::PRIVATE_KEY, KeyType::EC) => {
            let public = RecipientKey::from_p256_point(&key.public_point(session)?);
            let public = public.map_err(|_| key.unusable("it is not on the curve P-256"))?;
            public.to_public_pem()
        }
        _ => return Err(key.unusable("a role key is Ed25519, or ECDSA on P-256")),
    };
    let public = PublicKey::parse(&pem)
        .and_then(|key| key.as_named())
        .map_err(|_| key.unusable("it is no key that is accepted"))?;
    if public.verifies(PROOF, &sign(session, found, PROOF, key)?) {
        Ok(public)
    } else {
        Err(key.unusable("its public half is another key's"))
    }
}

fn sign(
    session: &Session,
    found: Found,
    message: &[u8],
    key: &TokenKey,
) -> Result<Vec<u8>, WorkFault> {
    match found.key_type {
        KeyType::EC_EDWARDS => {
            let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
            Ok(session.sign(&mechanism, found.handle, message)?)
        }
        KeyType::EC => {
            let digest = Sha256::digest(message);
            let signature = session.sign(&Mechanism::Ecdsa, found.handle, &digest)?;
            let (r, s) = signature.split_at(signature.len() / 2);
            Ok(der_of(r, s))
        }
        _ => Err(key.unusable("a role key is Ed25519, or ECDSA on P-256")),
    }
}

/// `ECDSA-Sig-Value` (RFC 3279, 2.2.3), which TUF has, of the two numbers that tokens give; each is
/// of 32 bytes, so that lengths are below 128.
fn der_of(r: &[u8], s: &[u8]) -> Vec<u8> {
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap_or(u8::MAX)], body].concat()
}

fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = &number[zeros.min(number.len().saturating_sub(1))..];
    let is_negative = digits.first().is_none_or(|byte| byte & 0x80 != 0);
    let sign: &[u8] = if is_negative { &[0] } else { &[] };
    let length = u8::try_from(sign.len() + digits.len()).unwrap_or(u8::MAX);
    [&[0x02, length], sign, digits].concat()
}

const PROOF: &[u8] = b"motorcade: a role key signs this when it is found";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_zeros_in_front_and_never_negative() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80, 1]), [2, 3, 0, 0x80, 1]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(der_of(&[1], &[0xff]), [0x30, 7, 2, 1, 1, 2, 2, 0, 0xff]);
    }
}
