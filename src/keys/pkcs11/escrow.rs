//! An escrow key that never leaves its token: an AES key that wraps (RFC 3394), or a key on P-256
//! that agrees on secrets (ECDH1-DERIVE).
//!
//! Content encryption keys come out of the token, as they must; the escrow key does not. With P-256
//! only unwrapping needs the token: uploads go on while it is away.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::super::{BackendError, Escrow};
use super::error::{TokenError, answer_of};
use super::key::{Found, TokenKey};
use super::token::{Epoch, WorkFault};
use super::uri::Pkcs11Uri;
use crate::envelope::key::{Cek, Kid, RecipientKey};
use crate::envelope::wrap::{AgreedKey, WRAPPED_SIZE, WrappedKey};

/// An escrow key in a token.
#[derive(Debug)]
pub struct Pkcs11Escrow {
    key: Arc<TokenKey>,
    kid: Kid,
    kind: Kind,
    /// In which epoch an AES key was seen to be this one: a wrong one must not wrap.
    checked: Arc<Mutex<Option<Epoch>>>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// AES of 256 bits.
    Aes,
    /// On P-256, with its public half.
    P256(RecipientKey),
}

impl Pkcs11Escrow {
    /// Finds a key in its token, and checks that it can be an escrow key and stays there.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub async fn find(uri: Pkcs11Uri) -> Result<Self, TokenError> {
        let key = TokenKey::new(uri)?;
        let (kid, kind) = key.run(inspect).await?;
        Ok(Self { key, kid, kind, checked: Arc::default() })
    }

    /// A key that was found before, so that a server starts while its token is away. `public` is
    /// what [`Self::public`] was then.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if nobody says which module and token that is.
    pub fn known(
        uri: Pkcs11Uri,
        kid: Kid,
        public: Option<RecipientKey>,
    ) -> Result<Self, TokenError> {
        let kind = public.map_or(Kind::Aes, Kind::P256);
        Ok(Self { key: TokenKey::new(uri)?, kid, kind, checked: Arc::default() })
    }

    /// The public half; an AES key has none.
    pub fn public(&self) -> Option<&RecipientKey> {
        match &self.kind {
            Kind::Aes => None,
            Kind::P256(public) => Some(public),
        }
    }
}

#[async_trait]
impl Escrow for Pkcs11Escrow {
    fn place(&self) -> String {
        self.key.uri().to_string()
    }

    fn kid(&self) -> &Kid {
        &self.kid
    }

    async fn wrap_key(&self, cek: &Cek) -> Result<WrappedKey, BackendError> {
        if let Kind::P256(public) = &self.kind {
            // Microseconds, but not so few that the executor should do them.
            let (public, cek) = (public.clone(), copy(cek));
            let wrap = move || WrappedKey::to_public(&public, &cek);
            return Ok(tokio::task::spawn_blocking(wrap).await?);
        }
        let (cek, kid, checked) = (copy(cek), self.kid.clone(), Arc::clone(&self.checked));
        let wrapped = self.key.run(move |session, found, key| {
            let is_checked = || checked.lock().unwrap_or_else(PoisonError::into_inner);
            if *is_checked() != Some(found.epoch) {
                if found.key_type != KeyType::AES || kid_of(session, found.handle, key)? != kid {
                    return Err(key.unusable(OTHER_KEY));
                }
                *is_checked() = Some(found.epoch);
            }
            wrap(session, found.handle, cek.as_bytes(), key)
        });
        Ok(WrappedKey::A256kw(wrapped.await?))
    }

    async fn unwrap_key(&self, escrowed: &WrappedKey) -> Result<Option<Cek>, BackendError> {
        Ok(match (&self.kind, escrowed) {
            (Kind::Aes, WrappedKey::A256kw(wrapped)) => {
                let wrapped = *wrapped;
                let unwrap = move |session: &Session, found: Found, key: &TokenKey| {
                    unwrap(session, found.handle, &wrapped, key)
                };
                self.key.run(unwrap).await?
            }
            (Kind::P256(_), WrappedKey::EcdhEsA256kw(agreed)) => {
                let agreed = agreed.clone();
                let agree = move |session: &Session, found: Found, key: &TokenKey| {
                    agree(session, found.handle, &agreed, key)
                };
                self.key.run(agree).await?
            }
            _ => None, // an entry of another kind of key under this one's name
        })
    }
}

/// What a key is, and by which name.
fn inspect(session: &Session, found: Found, key: &TokenKey) -> Result<(Kid, Kind), WorkFault> {
    key.refuse_extractable(session, found.handle)?;
    match (found.class, found.key_type) {
        (ObjectClass::SECRET_KEY, KeyType::AES) => {
            Ok((kid_of(session, found.handle, key)?, Kind::Aes))
        }
        (ObjectClass::PRIVATE_KEY, KeyType::EC) => {
            let public = RecipientKey::from_p256_point(&key.public_point(session)?);
            let public = public.map_err(|_| key.unusable("it is not on the curve P-256"))?;
            // It has to agree on a secret that only it can.
            let cek = Cek::generate();
            let WrappedKey::EcdhEsA256kw(agreed) = WrappedKey::to_public(&public, &cek) else {
                return Err(key.unusable("it is not on the curve P-256"));
            };
            match agree(session, found.handle, &agreed, key)? {
                Some(again) if again.as_bytes() == cek.as_bytes() => {}
                _ => return Err(key.unusable("its public half is another key's")),
            }
            Ok((public.kid().clone(), Kind::P256(public)))
        }
        _ => Err(key.unusable("an escrow key is an AES key of 256 bits, or an EC key on P-256")),
    }
}

/// The name of an AES key: a hash of what it makes of a constant, since its token says nothing of
/// it that is sure to stay.
fn kid_of(session: &Session, handle: ObjectHandle, key: &TokenKey) -> Result<Kid, WorkFault> {
    Ok(Kid::of_token_key(&wrap(session, handle, &[0; 32], key)?))
}

fn wrap(
    session: &Session,
    handle: ObjectHandle,
    secret: &[u8; 32],
    key: &TokenKey,
) -> Result<[u8; WRAPPED_SIZE], WorkFault> {
    let mut template = of_session(Attribute::Value(secret.to_vec()));
    let object = session.create_object(&template);
    for attribute in &mut template {
        if let Attribute::Value(copy) = attribute {
            zeroize::Zeroize::zeroize(copy);
        }
    }
    let object = object?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrap, handle, object);
    session.destroy_object(object)?;
    let wrapped = wrapped?;
    wrapped.as_slice().try_into().map_err(|_| key.unusable("it wraps to another length"))
}

fn unwrap(
    session: &Session,
    handle: ObjectHandle,
    wrapped: &[u8; WRAPPED_SIZE],
    key: &TokenKey,
) -> Result<Option<Cek>, WorkFault> {
    let unwrap = |wrapped: &[u8; WRAPPED_SIZE]| {
        session.unwrap_key(&Mechanism::AesKeyWrap, handle, wrapped, &of_session(None))
    };
    let error = match unwrap(wrapped) {
        Ok(object) => return take_value(session, object),
        Err(error) => error,
    };
    // It was wrapped by another key, or changed. SoftHSM says no more of it than that something
    // failed: then it is the wrapped key's fault if another one can be unwrapped.
    let is_refused = match answer_of(&error) {
        Some(RvError::GeneralError | RvError::FunctionFailed) => {
            let own = wrap(session, handle, &[0; 32], key)?;
            unwrap(&own).and_then(|object| session.destroy_object(object)).is_ok()
        }
        answer => answer.is_some_and(says_no),
    };
    if is_refused { Ok(None) } else { Err(error.into()) }
}

fn agree(
    session: &Session,
    handle: ObjectHandle,
    agreed: &AgreedKey,
    key: &TokenKey,
) -> Result<Option<Cek>, WorkFault> {
    let point = agreed.ephemeral_point();
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point));
    let template = of_session(Attribute::ValueLen(32.into()));
    let object = session.derive_key(&mechanism, handle, &template)?;
    let secret = take_secret(session, object)?;
    let secret = secret.ok_or_else(|| key.unusable("the token keeps the secret it agreed on"))?;
    Ok(agreed.unwrap_with(&secret))
}

fn take_value(session: &Session, object: ObjectHandle) -> Result<Option<Cek>, WorkFault> {
    Ok(take_secret(session, object)?.and_then(|secret| Cek::from_slice(&secret)))
}

/// Takes the value of an object of this session, and the object away.
fn take_secret(
    session: &Session,
    object: ObjectHandle,
) -> Result<Option<Zeroizing<Vec<u8>>>, WorkFault> {
    let attributes = session.get_attributes(object, &[AttributeType::Value]);
    session.destroy_object(object)?;
    Ok(attributes?.into_iter().find_map(|attribute| match attribute {
        Attribute::Value(value) => Some(Zeroizing::new(value)),
        _ => None,
    }))
}

/// A secret that lives for a moment: nobody else's session sees it, and it is no object of the
/// token.
fn of_session(more: impl Into<Option<Attribute>>) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    template.extend(more.into());
    template
}

fn says_no(answer: RvError) -> bool {
    matches!(
        answer,
        RvError::WrappedKeyInvalid
            | RvError::WrappedKeyLenRange
            | RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::DataInvalid
    )
}

fn copy(cek: &Cek) -> Cek {
    Cek::from_slice(cek.as_bytes()).expect("it has 32 bytes")
}

const OTHER_KEY: &str = "it is another key than the one that wrapped before";
