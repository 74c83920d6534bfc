//! A private or secret key in a token.

use std::sync::{Arc, Mutex, PoisonError};

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::error::TokenError;
use super::token::{Epoch, Token, WorkFault};
use super::uri::Pkcs11Uri;

/// A key of a token, found by its label and id.
#[derive(Debug)]
pub(super) struct TokenKey {
    token: Arc<Token>,
    uri: Pkcs11Uri,
    /// What was found, as long as the epoch is the same.
    found: Mutex<Option<Found>>,
}

/// A key as it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) epoch: Epoch,
    pub(super) handle: ObjectHandle,
    pub(super) class: ObjectClass,
    pub(super) key_type: KeyType,
}

impl TokenKey {
    /// Names a key; it is looked for when it is used.
    pub(super) fn new(uri: Pkcs11Uri) -> Result<Arc<Self>, TokenError> {
        let token = Token::of(&uri)?;
        Ok(Arc::new(Self { token, uri, found: Mutex::new(None) }))
    }

    pub(super) fn uri(&self) -> &Pkcs11Uri {
        &self.uri
    }

    /// Does something with the key, where it holds no executor up.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T, TokenError>
    where
        T: Send + 'static,
        W: Fn(&Session, Found, &TokenKey) -> Result<T, WorkFault> + Send + 'static,
    {
        let key = Arc::clone(self);
        let work = move |session: &Session, epoch| work(session, key.find(session, epoch)?, &key);
        self.token.run(work).await
    }

    fn find(&self, session: &Session, epoch: Epoch) -> Result<Found, WorkFault> {
        if let Some(found) = *self.found.lock().unwrap_or_else(PoisonError::into_inner)
            && found.epoch == epoch
        {
            return Ok(found);
        }
        let mut fitting = Vec::new();
        for class in [ObjectClass::SECRET_KEY, ObjectClass::PRIVATE_KEY] {
            let handles = session.find_objects(&self.template(class))?;
            fitting.extend(handles.into_iter().map(|handle| (handle, class)));
        }
        let key = || self.uri.to_string();
        let (handle, class) = match fitting[..] {
            [found] => found,
            [] => return Err(WorkFault::Key(TokenError::NoKey { key: key() })),
            _ => return Err(WorkFault::Key(TokenError::SeveralKeys { key: key() })),
        };
        let key_type = self.key_type(session, handle)?;
        let found = Found { epoch, handle, class, key_type };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(found)
    }

    fn key_type(&self, session: &Session, handle: ObjectHandle) -> Result<KeyType, WorkFault> {
        for attribute in session.get_attributes(handle, &[AttributeType::KeyType])? {
            if let Attribute::KeyType(key_type) = attribute {
                return Ok(key_type);
            }
        }
        Err(self.unusable("the token does not say of which type it is"))
    }

    /// The point of the public half of an elliptic curve's key, without the wrapping of an OCTET
    /// STRING that most tokens put around it (PKCS#11 v3.1, 6.3.3).
    pub(super) fn public_point(&self, session: &Session) -> Result<Vec<u8>, WorkFault> {
        let halves = session.find_objects(&self.template(ObjectClass::PUBLIC_KEY))?;
        let [half] = halves[..] else {
            return Err(
                self.unusable("there must be one public key of the same label and id beside it")
            );
        };
        for attribute in session.get_attributes(half, &[AttributeType::EcPoint])? {
            if let Attribute::EcPoint(point) = attribute {
                return Ok(match point[..] {
                    [4, length, ..] if usize::from(length) + 2 == point.len() => {
                        point[2..].to_vec()
                    }
                    _ => point,
                });
            }
        }
        Err(self.unusable("the token does not show the point of its public half"))
    }

    /// Checks that the key stays in its token.
    pub(super) fn refuse_extractable(
        &self,
        session: &Session,
        handle: ObjectHandle,
    ) -> Result<(), WorkFault> {
        let wanted = [AttributeType::Extractable, AttributeType::Sensitive];
        for attribute in session.get_attributes(handle, &wanted)? {
            if matches!(attribute, Attribute::Extractable(true) | Attribute::Sensitive(false)) {
                let fault = "it can be taken out of the token: make one that is sensitive and not extractable";
                return Err(self.unusable(fault));
            }
        }
        Ok(())
    }

    pub(super) fn unusable(&self, fault: &'static str) -> WorkFault {
        WorkFault::Key(TokenError::Unusable { key: self.uri.to_string(), fault })
    }

    fn template(&self, class: ObjectClass) -> Vec<Attribute> {
        let label = self.uri.object.as_ref();
        let label = label.map(|label| Attribute::Label(label.clone().into_bytes()));
        let id = self.uri.id.clone().map(Attribute::Id);
        [Some(Attribute::Class(class)), Some(Attribute::Token(true)), label, id]
            .into_iter()
            .flatten()
            .collect()
    }
}
