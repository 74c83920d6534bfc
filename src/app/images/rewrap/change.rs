//! What is done to each envelope that is concerned.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::{Cek, Kid, RecipientKey};
use crate::envelope::wrap::WrappedKey;
use crate::keys::{BackendError, Escrow};

/// A change of every envelope in which a key has an entry. A second time it changes nothing, so
/// that what is left of it can be done at any time.
#[derive(Debug)]
pub(in crate::app) enum Change {
    /// Another recipient's key takes its place.
    Replace {
        /// The key that goes.
        old: Kid,
        /// The one that comes.
        new: Box<RecipientKey>,
    },
    /// Another escrow key takes the place of the one that wraps.
    Escrow {
        /// The key that goes.
        old: Kid,
        /// The one that comes.
        new: Arc<dyn Escrow>,
    },
    /// A recipient's entry is taken out.
    Remove {
        /// The key that goes.
        old: Kid,
    },
}

impl Change {
    /// The key whose entries change.
    pub(in crate::app) fn old(&self) -> &Kid {
        match self {
            Self::Replace { old, .. } | Self::Remove { old } | Self::Escrow { old, .. } => old,
        }
    }

    /// The escrow key that comes, if one does.
    pub(super) fn escrow(&self) -> Option<&Kid> {
        match self {
            Self::Escrow { new, .. } => Some(new.kid()),
            Self::Replace { .. } | Self::Remove { .. } => None,
        }
    }

    /// Whether it changes what is published of an envelope: the escrow entry is not.
    pub(super) fn is_public(&self) -> bool {
        match self {
            Self::Replace { .. } | Self::Remove { .. } => true,
            Self::Escrow { .. } => false,
        }
    }

    /// Wraps a content encryption key with the escrow key that comes, if one does: that takes a
    /// token, and is no work for the cores.
    pub(super) async fn wrap(&self, cek: &Cek) -> Result<Option<WrappedKey>, BackendError> {
        match self {
            Self::Escrow { new, .. } => new.wrap_key(cek).await.map(Some),
            Self::Replace { .. } | Self::Remove { .. } => Ok(None),
        }
    }

    /// Changes an envelope, once `cek` has proved to be its own. Returns whether it changed.
    pub(super) fn apply(
        &self,
        envelope: &mut Envelope,
        cek: &Cek,
        escrowed: Option<WrappedKey>,
    ) -> Result<bool, EnvelopeError> {
        match self {
            Self::Replace { old, new } => envelope.replace_recipient(cek, old, new),
            Self::Escrow { old, new } => match escrowed {
                Some(escrowed) if envelope.escrowed(old).is_ok() => {
                    envelope.replace_escrow(cek, new.kid(), escrowed)?;
                    Ok(true)
                }
                _ => Ok(false),
            },
            Self::Remove { old } => {
                envelope.open_with(cek)?;
                Ok(envelope.remove_recipient(old))
            }
        }
    }

    /// What the audit log has of it.
    pub(super) fn detail(&self) -> Value {
        match self {
            Self::Replace { old, new } => json!({ "removed": old, "added": new.kid() }),
            Self::Escrow { old, new } => json!({ "removed": old, "added": new.kid() }),
            Self::Remove { old } => json!({ "removed": old }),
        }
    }
}
