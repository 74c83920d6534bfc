//! One recipient of an envelope: the content encryption key, wrapped one way or another.

use std::fmt;

use crate::key::{Cek, KeyAlgorithm, Kid, PrivateMaterial, RecipientKey, RecipientPrivateKey};
use crate::wrap::{WrappedKey, ecdh_es, rsa_oaep};

/// A wrapped key and whom it is for.
#[derive(Clone)]
pub(super) struct Entry {
    /// As in the header; other makers may use any name, or none.
    pub(super) kid: Option<String>,
    pub(super) wrapped: WrappedKey,
    pub(super) holder: Holder,
}

/// Whose private key opens an entry. An escrow key in a token may be of a recipient's kind, so the
/// algorithm doesn't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Recipient,
    /// The server: its entry is in no envelope that leaves it.
    Escrow,
}

impl Entry {
    pub(super) fn wrap(recipient: &RecipientKey, cek: &Cek) -> Self {
        let wrapped = WrappedKey::to_public(recipient, cek);
        Self { kid: Some(recipient.kid().to_string()), wrapped, holder: Holder::Recipient }
    }

    /// The entry of the escrow key of that name.
    pub(super) fn of_escrow(kid: &Kid, wrapped: WrappedKey) -> Self {
        Self { kid: Some(kid.to_string()), wrapped, holder: Holder::Escrow }
    }

    /// Unwraps with a private key of the right kind; a result may still be wrong, and only the
    /// content tells.
    pub(super) fn unwrap_key(&self, key: &RecipientPrivateKey) -> Option<Cek> {
        match (&self.wrapped, key.material()) {
            (WrappedKey::RsaOaep256(wrapped), PrivateMaterial::Rsa(key)) => {
                Some(rsa_oaep::unwrap_key(key, wrapped))
            }
            (WrappedKey::EcdhEsA256kw(agreed), PrivateMaterial::P256(key)) => {
                ecdh_es::unwrap_key(key, agreed)
            }
            (
                WrappedKey::RsaOaep256(_)
                | WrappedKey::EcdhEsA256kw(_)
                | WrappedKey::A256gcmkw(_)
                | WrappedKey::A256kw(_),
                PrivateMaterial::Rsa(_) | PrivateMaterial::P256(_),
            ) => None,
        }
    }

    /// The wrapped key, if this entry is for the escrow key of that name.
    pub(super) fn escrowed(&self, kid: &Kid) -> Option<&WrappedKey> {
        (self.is_escrow() && self.has_kid(kid)).then_some(&self.wrapped)
    }

    pub(super) fn is_escrow(&self) -> bool {
        self.holder == Holder::Escrow
    }

    pub(super) fn has_kid(&self, kid: &Kid) -> bool {
        self.kid.as_deref() == Some(kid.as_str())
    }

    /// The kid, if it has the form of ours.
    pub(super) fn kid(&self) -> Option<Kid> {
        self.kid.as_deref()?.parse().ok()
    }

    pub(super) fn alg(&self) -> KeyAlgorithm {
        self.wrapped.alg()
    }

    pub(super) fn encrypted_key(&self) -> &[u8] {
        match &self.wrapped {
            WrappedKey::RsaOaep256(wrapped) => wrapped,
            WrappedKey::EcdhEsA256kw(agreed) => &agreed.encrypted_key,
            WrappedKey::A256gcmkw(escrowed) => &escrowed.encrypted_key,
            WrappedKey::A256kw(wrapped) => wrapped,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("alg", &self.alg())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}
