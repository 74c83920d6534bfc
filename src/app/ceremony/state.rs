//! How far a ceremony is.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::precondition::Precondition;
use crate::app::staging;
use crate::catalog::Staging;
use crate::model::{RepositorySide, Sha256Digest};
use crate::uptane::key::{KeyId, PublicKey};
use crate::uptane::metadata::root::{Succession, succession};
use crate::uptane::metadata::{Root, SignedFile};
use crate::uptane::root_diff::RootDiff;

/// What is published of a repository's root, and what is staged.
#[derive(Debug, Clone)]
pub struct CeremonyState {
    /// The repository.
    pub side: RepositorySide,
    /// What clients have.
    pub published: PublishedRoot,
    /// What is to follow it.
    pub staged: Option<StagedRoot>,
}

/// A root that is published.
#[derive(Debug, Clone)]
pub struct PublishedRoot {
    /// Its version.
    pub version: u64,
    /// The file.
    pub bytes: Bytes,
    /// What it says.
    pub root: Root,
}

/// A root that is staged.
#[derive(Debug, Clone)]
pub struct StagedRoot {
    /// As it is kept.
    pub staging: Staging,
    /// What it says.
    pub root: Root,
    /// Who has to sign it.
    pub succession: Succession,
    /// Digest of what is signed.
    pub payload: Sha256Digest,
    /// Whether another root was published since: it can't be published any more.
    pub is_outdated: bool,
    /// The public keys that may sign it.
    keys: BTreeMap<KeyId, PublicKey>,
}

impl CeremonyState {
    /// As [`staging::check`].
    pub(super) fn check(&self, expected: &Precondition) -> Result<(), Error> {
        let staged = self.staged.as_ref().map(|staged| &staged.staging);
        staging::check(staged, expected, || self.described())
    }

    pub(super) fn unexpected(&self) -> Error {
        staging::unexpected(&self.described())
    }

    /// How far it is, for people.
    pub fn described(&self) -> String {
        let (side, version) = (self.side, self.published.version);
        let published = format!("root {version} of the {side} is published");
        let Some(staged) = &self.staged else {
            return format!("{published} and nothing is staged");
        };
        let Staging { revision, created_at, created_by, signatures, staged: new } = &staged.staging;
        let signers: Vec<String> =
            signatures.iter().map(|signature| signature.key_id.to_string()).collect();
        let signers = match signers.as_slice() {
            [] => "nobody".to_owned(),
            signers => signers.join(", "),
        };
        let state = if staged.is_outdated { " and outdated" } else { "" };
        format!(
            "{published}, and root {} is staged{state}: revision {revision}, by {created_by} at {created_at}, signed by \
             {signers}",
            new.version
        )
    }
}

impl StagedRoot {
    pub(super) fn read(staging: Staging, published: &PublishedRoot) -> Result<Self, Error> {
        const OP: &str = "read what is staged";
        let unsigned = staging.unsigned()?;
        let root: Root = serde_json::from_slice(unsigned.text()).map_err(Error::internal(OP))?;
        let succession = succession(&published.root, &root).map_err(Error::internal(OP))?;
        let objects = published.root.keys.iter().chain(&root.keys);
        let keys = objects.filter(|(id, _)| succession.either().key_ids.contains(id));
        let keys = keys
            .filter_map(|(id, object)| Some((*id, PublicKey::from_object(object.clone()).ok()?)));
        Ok(Self {
            keys: keys.collect(),
            root,
            succession,
            payload: unsigned.digest(),
            is_outdated: staging.staged.base != published.version,
            staging,
        })
    }

    /// Refuses who names no revision and has not staged this: it may have taken the place of what the
    /// caller has looked at.
    ///
    /// # Errors
    ///
    /// [`Error::Unexpected`], with what is so.
    pub(super) fn refuse_unseen(
        &self,
        state: &CeremonyState,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<(), Error> {
        if expected.matches.is_some() || self.staging.created_by == by.id {
            return Ok(());
        }
        let detail = format!(
            "this was staged by somebody else, and nothing was changed: if it is what you mean, name its revision \
             (`--revision {}`, or `If-Match`); {}",
            self.revision(),
            state.described()
        );
        Err(Error::Unexpected { detail })
    }

    /// Which of all stagings it is.
    pub fn revision(&self) -> u64 {
        self.staging.revision
    }

    /// The keys that may sign it.
    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values()
    }

    /// How many signatures are missing of the published root's keys, and of its own.
    pub fn missing(&self) -> (u64, u64) {
        self.succession.missing(&self.staging.signers())
    }

    /// What it changes.
    pub fn diff(&self, published: &PublishedRoot) -> RootDiff {
        RootDiff::between(&published.root, &self.root)
    }

    /// The file as it would be published.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if nobody has signed it.
    pub(super) fn file(&self) -> Result<SignedFile, Error> {
        const OP: &str = "put a root together";
        let unsigned = self.staging.unsigned()?;
        let authorized = unsigned.authorize(&self.succession.either(), self.staging.signers());
        let authorized = authorized.map_err(Error::internal(OP))?;
        authorized.into_file(self.staging.key_signatures()).map_err(Error::internal(OP))
    }
}
