//! Ceremonies: a new root, from what is to change to what clients fetch, as one transaction that
//! nobody can half-do.
//!
//! 1. [`Ceremony::stage`] makes the next root's content of a change and keeps it;
//! 2. people sign it on machines of their own, and [`Ceremony::sign`] checks each signature as it
//!    arrives; [`Ceremony::sign_here`] signs with the root keys that this server has;
//! 3. [`Ceremony::publish`] checks all of it as clients will, from every root that was ever
//!    published, and then gives it to the one writer of the repository's root chain.
//!
//! Nothing that is staged is shown to clients. Its version is always the published one and 1, so
//! that no number is left out, whatever is cancelled and whatever crashes. Each staging has a
//! revision of its own, and who changes it says which one was meant.

mod chain;
mod hybrid;
pub(in crate::app) mod offered;
mod publish;
mod sign;
mod stage;
mod state;
mod walk;

use std::sync::Arc;

pub use offered::{Offer, OfferedSignature};
pub use publish::Gap;
pub(in crate::app) use stage::read_keys;
pub use stage::{RoleRequest, StageRequest};
pub use state::{CeremonyState, PublishedRoot, StagedRoot};
use tokio::sync::Mutex;

use super::Error;
use super::access::Principal;
use super::director::Director;
use super::handover::Handovers;
use super::images::precondition::Precondition;
use super::publish::Publisher;
use crate::blob::BlobStore;
use crate::catalog::{self, Catalog};
use crate::keys::Keyring;
use crate::model::{Clock, RepositorySide, RoleName, Sha256Digest};

/// Changes of the roots of both repositories.
pub struct Ceremony {
    catalog: Catalog,
    blobs: Arc<dyn BlobStore>,
    publisher: Publisher,
    director: Arc<Director>,
    handovers: Arc<Handovers>,
    clock: Arc<dyn Clock>,
    /// Held by whoever changes what is staged, but for signatures: what is being published can't be
    /// dropped meanwhile.
    turn: Arc<Mutex<()>>,
}

impl Ceremony {
    pub(super) fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        publisher: Publisher,
        director: Arc<Director>,
        handovers: Arc<Handovers>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { catalog, blobs, publisher, director, handovers, clock, turn: Arc::default() }
    }

    /// What is published of a repository's root, and what is staged.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the published root can't be read; [`Error::Internal`].
    pub async fn state(&self, side: RepositorySide) -> Result<CeremonyState, Error> {
        let staging = self.catalog.find_staging(side, &RoleName::Root).await?;
        let published = self.published(side).await?;
        let staged = staging.map(|staging| StagedRoot::read(staging, &published)).transpose()?;
        Ok(CeremonyState { side, published, staged })
    }

    /// Whether this server can sign with a key of a repository's role.
    pub fn has_key(&self, side: RepositorySide, id: &Sha256Digest) -> bool {
        let keyring = self.keyring();
        side.kinds().iter().flat_map(|kind| keyring.keys(side, *kind)).any(|key| key.id() == *id)
    }

    /// Drops what is staged.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if nothing is; [`Error::Unexpected`] if it is something else than the
    /// caller thinks, or what somebody else has staged and the caller does not name.
    pub async fn cancel(
        &self,
        side: RepositorySide,
        expected: &Precondition,
        by: &Principal,
    ) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let (state, staged) = self.staged(side, expected).await?;
        staged.refuse_unseen(&state, expected, by)?;
        let author = by.author(self.clock.now());
        let revision = staged.revision();
        match self.catalog.cancel_staging(side, &RoleName::Root, revision, &author).await {
            Err(catalog::Error::Overtaken) => Err(self.unexpected(side).await),
            cancelled => {
                cancelled?;
                tracing::info!(%side, version = state.published.version + 1, "staging cancelled");
                Ok(())
            }
        }
    }

    /// What is staged, if it is what the caller thinks.
    async fn staged(
        &self,
        side: RepositorySide,
        expected: &Precondition,
    ) -> Result<(CeremonyState, StagedRoot), Error> {
        let state = self.state(side).await?;
        state.check(expected)?;
        match state.staged.clone() {
            Some(staged) => Ok((state, staged)),
            None => Err(Error::NotFound { code: "nothing_staged", detail: state.described() }),
        }
    }

    /// Somebody else was first: what is so now.
    async fn unexpected(&self, side: RepositorySide) -> Error {
        match self.state(side).await {
            Ok(state) => state.unexpected(),
            Err(error) => error,
        }
    }

    fn keyring(&self) -> Arc<Keyring> {
        self.director.repository.keyring()
    }
}
