//! What is staged, whoever has to sign it: what was made of it, and who has signed.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Error;
use super::images::precondition::Precondition;
use crate::catalog::StagedSignature;
pub use crate::catalog::Staging;
use crate::uptane::key::KeyId;
use crate::uptane::metadata::Unsigned;

impl Staging {
    /// Its revision as a tag, for who says which one was meant.
    pub fn tag(&self) -> String {
        self.revision.to_string()
    }

    /// Who has signed it.
    pub fn signers(&self) -> BTreeSet<KeyId> {
        self.signatures.iter().map(|signature| signature.key_id).collect()
    }

    /// What is to be signed.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if it can't be read back.
    pub fn unsigned(&self) -> Result<Unsigned, Error> {
        Unsigned::read(self.staged.role.clone(), &self.staged.content)
            .map_err(Error::internal("read what is staged"))
    }

    /// The file with the signatures that there are, to be signed elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub fn draft(&self) -> Result<Bytes, Error> {
        let draft = self.unsigned()?.draft(self.key_signatures());
        draft.map_err(Error::internal("show what is staged"))
    }

    /// The signatures, each with the id of its key, as metadata files have them.
    pub(in crate::app) fn key_signatures(&self) -> impl Iterator<Item = (KeyId, Vec<u8>)> {
        let pair = |signature: &StagedSignature| (signature.key_id, signature.signature.clone());
        self.signatures.iter().map(pair)
    }
}

/// Refuses a caller who thinks that something else is staged. Who says nothing of it thinks nothing
/// wrong.
///
/// # Errors
///
/// [`Error::Unexpected`], with what is so.
pub(in crate::app) fn check(
    staged: Option<&Staging>,
    expected: &Precondition,
    described: impl FnOnce() -> String,
) -> Result<(), Error> {
    let holds = expected.holds_for(staged.map(Staging::tag).as_deref());
    if holds { Ok(()) } else { Err(unexpected(&described())) }
}

/// Somebody else has changed what is staged; `described` is what is so now.
pub(in crate::app) fn unexpected(described: &str) -> Error {
    let detail = format!("somebody else was first, and nothing was changed: {described}");
    Error::Unexpected { detail }
}
