//! What is done to each envelope that is concerned.

use serde_json::{Value, json};

use crate::envelope::jwe::{Envelope, EnvelopeError};
use crate::envelope::key::{Cek, Kid, RecipientKey};

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
            Self::Replace { old, .. } | Self::Remove { old } => old,
        }
    }

    /// Changes an envelope, once `cek` has proved to be its own. Returns whether it changed.
    pub(super) fn apply(&self, envelope: &mut Envelope, cek: &Cek) -> Result<bool, EnvelopeError> {
        match self {
            Self::Replace { old, new } => envelope.replace_recipient(cek, old, new),
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
            Self::Remove { old } => json!({ "removed": old }),
        }
    }
}
