//! How far a file is that its owner signs.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use bytes::Bytes;

use super::{Owner, Owners};
use crate::app::Error;
use crate::app::images::precondition::Precondition;
use crate::app::publish::signed::OwnerSigned;
use crate::app::staging;
use crate::app::trust::read_published;
use crate::catalog::{Author, RoleState, Staging};
use crate::model::{RepositorySide, RoleName, Sha256Digest, Timestamp};
use crate::uptane::metadata::{SignedFile, Unsigned, version};
use crate::uptane::targets_diff::{self, Listing, TargetsDiff};

/// What is published of a role, and what is staged.
#[derive(Debug, Clone)]
pub struct OwnedState {
    /// Who signs its next file.
    pub owner: Owner,
    /// What clients have; nothing before the first file.
    pub published: Option<PublishedTargets>,
    /// What it is to list otherwise than it does, a line each.
    pub waiting: Vec<String>,
    /// What is staged to follow it.
    pub staged: Option<StagedTargets>,
    /// The role as the catalog has it.
    pub(super) role: RoleState,
}

/// A file that is published.
#[derive(Debug, Clone)]
pub struct PublishedTargets {
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The file.
    pub bytes: Bytes,
    /// What it says.
    pub listing: Listing,
}

/// A file that is staged.
#[derive(Debug, Clone)]
pub struct StagedTargets {
    /// As it is kept.
    pub staging: Staging,
    /// What it says.
    pub listing: Listing,
    /// Digest of what is signed.
    pub payload: Sha256Digest,
    /// How many signatures are missing.
    pub missing: u64,
    /// Whether another file was published since, or numbers were left out.
    pub is_outdated: bool,
}

impl Owners {
    /// All but what waits, which takes a walk through all that the role is to list.
    pub(super) async fn state_of(&self, owner: Owner) -> Result<OwnedState, Error> {
        let state = self.role_state(&owner.role).await?;
        let staged = self.staging_of(&owner, &state).await?;
        let published = self.published(&state).await?;
        Ok(OwnedState { waiting: Vec::new(), staged, owner, published, role: state })
    }

    pub(super) async fn role_state(&self, role: &RoleName) -> Result<RoleState, Error> {
        let state = self.parts.catalog.find_role(role).await?;
        state.ok_or_else(|| Error::Corrupt {
            detail: format!("the catalog does not know the role {role}"),
        })
    }

    /// What is staged for a role, whose state `role` was read before.
    pub(super) async fn staging_of(
        &self,
        owner: &Owner,
        role: &RoleState,
    ) -> Result<Option<StagedTargets>, Error> {
        let staging = self.parts.catalog.find_staging(RepositorySide::Image, &owner.role).await?;
        staging.map(|staging| StagedTargets::read(staging, role, owner)).transpose()
    }

    /// What the next file is to say otherwise than the published one.
    pub(super) async fn waiting(
        &self,
        owner: &Owner,
        state: &RoleState,
        published: Option<&PublishedTargets>,
    ) -> Result<Vec<String>, Error> {
        const OP: &str = "look for what waits";
        let published = published.map(|published| &published.listing);
        if owner.supplier.is_some() {
            let wanted = self.parts.catalog.list_targets(&owner.role).await?;
            return Ok(targets_diff::waiting(published, &wanted));
        }
        let number = version(&owner.role, state.version + 1).map_err(Error::internal(OP))?;
        let next = self.next_targets(number, state.expires_at).await?;
        let next = serde_json::from_slice(next.text()).map_err(Error::internal(OP))?;
        Ok(TargetsDiff::between(&owner.role, published, &next).changes())
    }

    /// What the next top-level targets are to say.
    pub(super) async fn next_targets(
        &self,
        version: NonZeroU64,
        expires: Timestamp,
    ) -> Result<Unsigned, Error> {
        let ready: Vec<_> = self.ready().await?.into_iter().map(|(owner, _)| owner.role).collect();
        self.parts.publisher.targets_to_sign(version, expires, &ready).await
    }

    async fn published(&self, state: &RoleState) -> Result<Option<PublishedTargets>, Error> {
        let &RoleState { version, expires_at, .. } = state;
        if version == 0 {
            return Ok(None);
        }
        let corrupt = |fault: String| Error::Corrupt {
            detail: format!(
                "{version}.{}.json in repo/ {fault}: restore it from a backup",
                state.name
            ),
        };
        let bytes = read_published(self.parts.blobs.as_ref(), state).await?.map_err(&corrupt)?;
        let listing = targets_diff::parse(&bytes).map_err(|fault| corrupt(fault.to_string()))?;
        Ok(Some(PublishedTargets { version, expires_at, bytes, listing }))
    }
}

impl OwnedState {
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
        let role = &self.owner.role;
        let published = match &self.published {
            Some(published) => format!("{role} {} is published", published.version),
            None => format!("nothing of {role} is published"),
        };
        let Some(staged) = &self.staged else {
            return format!("{published} and nothing is staged");
        };
        let Staging { revision, created_at, created_by, staged: new, .. } = &staged.staging;
        let state = if staged.is_outdated { " and outdated" } else { "" };
        format!(
            "{published}, and version {} is staged{state}: revision {revision}, by {created_by} at {created_at}, with {} \
             signatures",
            new.version,
            staged.staging.signatures.len()
        )
    }
}

impl StagedTargets {
    fn read(staging: Staging, role: &RoleState, owner: &Owner) -> Result<Self, Error> {
        const OP: &str = "read what is staged";
        let unsigned = staging.unsigned()?;
        let listing = serde_json::from_slice(unsigned.text()).map_err(Error::internal(OP))?;
        let found = owner.authority().key_ids.intersection(&staging.signers()).count() as u64;
        let new = &staging.staged;
        Ok(Self {
            listing,
            payload: unsigned.digest(),
            missing: owner.threshold.saturating_sub(found),
            // A number above it was handed out: it can't be published any more (`recover versions`).
            is_outdated: (new.base, new.version) != (role.version, role.reserved),
            staging,
        })
    }

    /// Which of all stagings it is.
    pub fn revision(&self) -> u64 {
        self.staging.revision
    }

    /// What it changes.
    pub fn diff(&self, published: Option<&PublishedTargets>) -> TargetsDiff {
        let published = published.map(|published| &published.listing);
        TargetsDiff::between(&self.staging.staged.role, published, &self.listing)
    }

    /// It is for another file than the one that is published now.
    pub(super) fn refuse_outdated(&self, state: &OwnedState) -> Result<(), Error> {
        if !self.is_outdated {
            return Ok(());
        }
        let detail = format!(
            "another file was published since this was staged, or numbers were left out: stage it again; {}",
            state.described()
        );
        Err(Error::Conflict { code: "staging_outdated", detail })
    }

    /// The file on its way into a publication.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if too few of its owner's keys have signed it.
    pub(super) fn signed(&self, owner: &Owner, author: Author) -> Result<OwnerSigned, Error> {
        let (revision, changes) = (self.revision(), self.staging.staged.changes);
        Ok(OwnerSigned { file: self.file(owner)?, revision, changes, author })
    }

    /// The file as it would be published.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if too few of its owner's keys have signed it.
    fn file(&self, owner: &Owner) -> Result<SignedFile, Error> {
        const OP: &str = "put a signed file together";
        let authority = owner.authority();
        let signatures: Vec<_> = self
            .staging
            .key_signatures()
            .filter(|(id, _)| authority.key_ids.contains(id))
            .collect();
        let signers = signatures.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>();
        let authorized = self.staging.unsigned()?.authorize(&authority, signers);
        let authorized = authorized.map_err(Error::internal(OP))?;
        authorized.into_file(signatures).map_err(Error::internal(OP))
    }
}
