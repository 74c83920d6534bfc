//! Targets files that their owners sign: suppliers who keep their keys themselves, and officers the
//! top-level targets, if the policy says so.
//!
//! What such a role is to list is decided as for any other, and waits. [`Owners::stage`] makes a
//! file of it, with a version of its own that no other file ever gets; its owner signs it, on a
//! machine without a network if need be, and [`Owners::sign`] checks each signature as it arrives;
//! [`Owners::publish`] hands it to the one writer of the Image repository. Targets delegate to new
//! keys in the very publication that shows the first file which these have signed, and never before:
//! where people sign the targets, both are staged, and published together.
//!
//! It is kept where root ceremonies keep theirs ([`super::ceremony`]).

mod owner;
mod publish;
mod ready;
mod stage;
mod state;
mod unfit;

use std::sync::Arc;

pub use owner::Owner;
pub use stage::StageTargets;
pub use state::{OwnedState, PublishedTargets, StagedTargets};
use tokio::sync::Mutex;

use super::Error;
use super::access::Principal;
use super::ceremony::offered::{Signable, note_refused, take};
use super::ceremony::{Ceremony, Offer};
use super::handover::Handovers;
use super::images::precondition::Precondition;
use super::publish::Publisher;
use crate::blob::BlobStore;
use crate::catalog::{self, Catalog};
use crate::model::{Clock, RepositorySide, RoleName};

/// The roles that their owners sign.
pub struct Owners {
    parts: Parts,
    /// Held by whoever changes what is staged, but for signatures: what is being published can't be
    /// dropped meanwhile.
    turn: Mutex<()>,
}

/// What [`Owners`] is made of.
pub(super) struct Parts {
    pub(super) catalog: Catalog,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) publisher: Publisher,
    pub(super) ceremony: Arc<Ceremony>,
    pub(super) handovers: Arc<Handovers>,
    pub(super) clock: Arc<dyn Clock>,
}

impl Owners {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, turn: Mutex::new(()) }
    }

    /// What is published of a role, what waits and what is staged.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such role that the caller may see; [`Error::Conflict`] if
    /// this server signs it; [`Error::Corrupt`], [`Error::Internal`].
    pub async fn state(&self, role: &RoleName, by: &Principal) -> Result<OwnedState, Error> {
        let mut state = self.state_of(self.owner(role, by).await?).await?;
        state.waiting = self.waiting(&state.owner, &state.role, state.published.as_ref()).await?;
        Ok(state)
    }

    /// Keeps the signatures that are good.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names each one that isn't, and says how many were kept;
    /// [`Error::Conflict`] if something else was signed, or what is staged is outdated;
    /// [`Error::NotFound`], [`Error::Forbidden`], [`Error::Unexpected`].
    pub async fn sign(
        &self,
        role: &RoleName,
        offer: &Offer,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<OwnedState, Error> {
        let (state, staged) = self.staged(role, expected, by).await?;
        let author = by.author(self.parts.clock.now());
        if let Err(error) = staged.refuse_outdated(&state) {
            let (catalog, code) = (&self.parts.catalog, "staging_outdated");
            note_refused(catalog, &staged.staging, offer, code, &author).await?;
            return Err(error);
        }
        let signable = Signable {
            staging: &staged.staging,
            keys: state.owner.keys.iter().collect(),
            foreign: format!("is none of those that sign for {role}"),
        };
        if take(&self.parts.catalog, &signable, offer, &author).await?.is_none() {
            return Err(self.unexpected(role, by).await);
        }
        self.state(role, by).await
    }

    /// Drops what is staged.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nothing is; [`Error::Forbidden`]; [`Error::Unexpected`] if it is
    /// something else than the caller thinks, or the caller doesn't say what it is;
    /// [`Error::Conflict`] for a supplier whose file waits for people to sign the targets.
    pub async fn cancel(
        &self,
        role: &RoleName,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let (state, staged) = self.staged(role, expected, by).await?;
        if expected.matches.is_none() {
            return Err(state.unexpected());
        }
        self.refuse_while_targets_wait(&state, by).await?;
        let (side, revision) = (RepositorySide::Image, staged.revision());
        let author = by.author(self.parts.clock.now());
        match self.parts.catalog.cancel_staging(side, role, revision, &author).await {
            Err(catalog::Error::Overtaken) => Err(self.unexpected(role, by).await),
            cancelled => {
                cancelled?;
                tracing::info!(%role, revision, "staging cancelled");
                Ok(())
            }
        }
    }

    /// What is staged, if it is what a caller thinks who may change it.
    async fn staged(
        &self,
        role: &RoleName,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<(OwnedState, StagedTargets), Error> {
        let owner = self.owner(role, by).await?;
        owner.check_may_change(by)?;
        let state = self.state_of(owner).await?;
        state.check(expected)?;
        match state.staged.clone() {
            Some(staged) => Ok((state, staged)),
            None => Err(Error::NotFound { code: "nothing_staged", detail: state.described() }),
        }
    }

    /// Somebody else was first: what is so now.
    async fn unexpected(&self, role: &RoleName, by: &Principal) -> Error {
        match self.state(role, by).await {
            Ok(state) => state.unexpected(),
            Err(error) => error,
        }
    }
}
